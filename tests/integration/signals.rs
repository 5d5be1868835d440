//! Signals at every stage of a call: before anybody is asked, while storing, while printing, in
//! verbs that wait. What happens while the model is asked is in `interrupted.rs`.

use std::path::Path;

use crate::exit_codes::hold_lock;
use crate::stored::{assert_not_stored, id, make_session, prompts, times_called, traced};
use crate::support::{Reply, TestEnv, need};

const SIGNALS: [(i32, i32, &str); 3] = [
    (1, 129, "hangup"),
    (2, 130, "interrupted"),
    (15, 143, "terminated"),
];

#[test]
fn a_signal_while_standard_input_is_silent_ends_the_call() {
    let env = TestEnv::new();
    for (signal, exit, code) in SIGNALS {
        let mut run = env.chat("-").stdin_open().spawn();
        run.wait_for_threads(2);
        run.signal(signal);
        let failure = run.wait().fails(exit, code);
        assert!(!failure.retryable, "{code}");
    }
    assert_eq!(env.server().request_count(), 0);
    assert!(env.files().is_empty());
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_is_ignored_while_input_is_read() {
    let env = TestEnv::new();
    let mut run = env
        .chat("-")
        .stdin_open()
        .through(["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""])
        .spawn();
    run.wait_for_threads(2);
    run.signal(1);
    run.signal(15);
    run.wait().fails(143, "terminated");
}

#[test]
fn a_signal_while_the_turn_is_stored_loses_nothing() {
    if !need("strace") {
        return;
    }
    for (signal, ..) in SIGNALS {
        for call in ["write", "fdatasync"] {
            let env = TestEnv::new();
            make_session(&env, &id(1), &["one"]);
            let (log, name) = (env.log_path(&id(1)), Path::new("events.jsonl"));
            let turn = env.chat("two").session(&id(1)).answered(Reply::text("2"));
            let rules = [
                format!("trace={call}"),
                format!("inject={call}:signal={signal}:when=1"),
            ];
            let rules = [rules[0].as_str(), rules[1].as_str()];
            let output = traced(turn, &[&log, name], &rules).run();
            assert_eq!(times_called(&env, call), 1, "{call}");
            assert_eq!(
                output.ok().json()["turn"]["stored"],
                true,
                "{signal} {call}"
            );
            assert_eq!(prompts(&env, &id(1)), ["one", "two"], "{signal} {call}");
            assert_eq!(env.drafts().len(), 0, "{signal} {call}");
        }
    }
}

#[test]
fn a_signal_while_a_turn_waits_for_its_lock_prints_the_reply_and_keeps_it() {
    for (signal, exit, code) in SIGNALS {
        let env = TestEnv::new();
        make_session(&env, &id(1), &["one"]);
        let before = env.log(&id(1));
        let held = hold_lock(&env, &id(1));
        let turn = env.chat("two").session(&id(1));
        let mut run = turn.answered(Reply::text("paid for")).spawn();
        // The second is the one that waits in the queue of the lock.
        run.wait_for_threads(2);
        run.signal(signal);
        let output = run.wait();
        let failure = output.prints_and_fails(exit, code);
        assert_eq!(failure.session_id, Some(id(1)), "{code}");
        assert_not_stored(&output, "paid for");
        assert_eq!(env.log(&id(1)), before, "{code}");
        let draft = &env.drafts()[0];
        assert_eq!(draft["response"], "paid for", "{code}");
        assert_eq!(draft["error"]["code"], code);
        drop(held);
        env.chat("three").session(&id(1)).run().ok();
        assert_eq!(prompts(&env, &id(1)), ["one", "three"], "{code}");
    }
}

#[test]
fn a_signal_while_nobody_reads_the_answer_leaves_a_stored_turn() {
    for (signal, exit, _) in SIGNALS {
        let env = TestEnv::new();
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let turn = env.chat("hi").args(["--session-key", "k"]);
        let mut run = turn
            .answered(Reply::huge(1 << 20))
            .stdout_to(writer)
            .spawn();
        // The draft goes when the turn is stored; what is left to do is printing.
        run.wait_until(|| {
            let files = env.files();
            let is_stored = files.iter().any(|file| file.ends_with("events.jsonl"));
            is_stored
                && !files
                    .iter()
                    .any(|file| file.starts_with(".ollama-prompt/open"))
        });
        // The first may come a moment before the turn is let go of.
        run.signal(signal);
        run.signal(signal);
        assert_eq!(run.wait().exit_code(), Some(exit));
        drop(reader);
        let list = env.command().arg("--list-sessions").run();
        assert_eq!(list.ok().json()["sessions"][0]["message_count"], 2);
    }
}

#[test]
fn a_second_signal_ends_a_call_that_cannot_hear_the_first() {
    let env = TestEnv::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut run = env
        .chat("hi")
        .args(["--output", "text"])
        .answered(Reply::huge(1 << 20))
        .stdout_to(writer)
        .spawn();
    run.wait_for_request();
    run.signal(15);
    run.signal(2);
    let code = run.wait().exit_code();
    assert!(matches!(code, Some(143 | 130)), "{code:?}");
    drop(reader);
    assert_eq!(env.drafts().len(), 1, "what was asked is kept");
}

#[test]
fn a_signal_ends_verbs_that_wait() {
    for (signal, exit, code) in SIGNALS {
        let env = TestEnv::new();
        make_session(&env, &id(1), &["one", "two"]);
        let turn = env.lines(&id(1))[1]["id"].clone();
        let address = format!("{}:{}", id(1), turn.as_str().expect("an id"));
        let before = env.records();
        let _held = hold_lock(&env, &id(1));
        for verb in [
            &["session", "pin", &address][..],
            &["session", "delete", &id(1)],
            &["session", "compact", "--all"],
        ] {
            let mut run = env.command().args(verb).spawn();
            // One that hears signals, one that waits in the queue of the lock.
            run.wait_for_threads(3);
            run.signal(signal);
            run.wait().fails(exit, code);
        }
        let mut after = env.records();
        after.retain(|path, _| before.contains_key(path));
        assert_eq!(after, before, "{code}");
    }
}
