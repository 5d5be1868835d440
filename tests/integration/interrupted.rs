//! Calls that are ended from outside: by a signal, by a reader that leaves, by a full disk where
//! standard output goes.

use std::fs::OpenOptions;

use crate::support::{Gate, Reply, TestEnv};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

#[test]
fn a_signal_ends_a_turn_cleanly_and_the_draft_keeps_what_had_arrived() {
    for (signal, exit, code) in [
        (SIGHUP, 129, "hangup"),
        (SIGINT, 130, "interrupted"),
        (SIGTERM, 143, "terminated"),
    ] {
        let env = TestEnv::new();
        let gate = Gate::new();
        let reply = Reply::text("one two three").pause_after_chunks(2, &gate);
        // Streamed, to see that the program has taken what the server has sent.
        let mut run = env
            .chat("count")
            .args(["--output", "text"])
            .answered(reply)
            .spawn();
        gate.wait_until_reached();
        run.wait_for_stdout("one two ");
        run.signal(signal);
        let output = run.wait();
        let failure = output.prints_and_fails(exit, code);
        assert_eq!(output.stdout(), "one two ");
        assert!(!failure.retryable, "{code}");
        assert!(failure.session_id.is_some(), "{code}");
        gate.open();

        let draft = &env.drafts()[0];
        assert_eq!(draft["prompt"], "count", "{code}");
        assert_eq!(draft["response"], "one two ", "{code}");
        assert_eq!(draft["error"]["code"], code);
        let list = env.command().arg("--list-sessions").run();
        assert_eq!(list.ok().json()["total"], 0, "{code}");
    }
}

#[test]
fn a_signal_before_the_first_word_ends_the_turn_as_well() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let mut run = env
        .chat("two")
        .session(&id)
        .answered(Reply::silence())
        .spawn();
    run.wait_for_request();
    run.signal(SIGTERM);
    let failure = run.wait().fails(143, "terminated");
    assert_eq!(failure.session_id.as_deref(), Some(&*id));
    env.chat("three").session(&id).run().ok();
    let sent = env.server().last_request().contents();
    assert_eq!(sent, ["one", "reply to: one", "three"]);
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let env = TestEnv::new();
    let gate = Gate::new();
    let mut run = env
        .chat("hi")
        .answered(Reply::text("still here").held_by(&gate))
        .through(["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .spawn();
    run.wait_for_request();
    run.signal(SIGHUP);
    gate.open();
    assert_eq!(run.wait().ok().json()["response"], "still here");
}

#[test]
fn a_reader_that_left_is_no_error_and_the_turn_is_stored() {
    let env = TestEnv::new();
    for format in ["json", "compact", "jsonl", "text"] {
        let output = env
            .chat("hi")
            .args(["--session-key", format, "--output", format])
            .answered(Reply::text("one two three"))
            .stdout_closed()
            .run();
        output.ok();
        assert_eq!(output.stderr(), "", "{format}");
    }
    let list = env.command().arg("--list-sessions").run();
    assert_eq!(list.ok().json()["total"], 4);
    for args in [&["--list-sessions"][..], &["--help"], &["--purge", "9"]] {
        env.command().args(args).stdout_closed().run().ok();
    }
}

#[test]
fn a_standard_output_that_cannot_be_written_is_an_error_and_the_turn_is_stored() {
    let env = TestEnv::new();
    for format in ["json", "jsonl", "text"] {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let output = env
            .chat("hi")
            .args(["--session-key", format, "--output", format])
            .stdout_to(full.expect("/dev/full"))
            .run();
        let code = output.exit_code();
        assert!(code.is_some_and(|code| code != 0), "{format}: {output}");
        assert!(output.stderr().contains("standard output"), "{output}");
    }
    let list = env.command().arg("--list-sessions").run();
    assert_eq!(list.ok().json()["total"], 3);
}

#[test]
fn a_call_killed_while_the_server_thinks_leaves_its_question_and_a_session_that_goes_on() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let mut run = env
        .chat("two")
        .session(&id)
        .answered(Reply::silence())
        .spawn();
    run.wait_for_request();
    let info = env.command().args(["--session-info", &id]).run();
    let unfinished = info.ok().json()["unfinished"][0].clone();
    assert_eq!(unfinished["under_way"], true);
    assert_eq!(run.kill9().signal(), Some(9));

    let info = env.command().args(["--session-info", &id]).run();
    let unfinished = info.ok().json()["unfinished"][0].clone();
    assert_eq!(unfinished["under_way"], false);
    assert_eq!(unfinished["prompt"], "two");
    env.chat("three").session(&id).run().ok();
    let sent = env.server().last_request().contents();
    assert_eq!(sent, ["one", "reply to: one", "three"]);
    assert_eq!(env.lines(&id).len(), 3);
}
