//! A reply that arrived and could not be stored: it was paid for, so it is printed, and it is
//! said that it is not on disk. And what can be refused is refused before anybody is asked.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Failure, Gate, Output, Reply, TestEnv};

#[test]
fn a_session_removed_while_the_server_thinks_is_not_brought_back() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let directory = session_directory(&env, &id);
    let (output, failure) = turn_while(&env, &id, "store_io", || {
        fs::remove_dir_all(&directory).expect("the session is removed");
    });
    assert_eq!(failure.session_id.as_deref(), Some(&*id));
    assert!(failure.hint.is_some(), "{output}");
    assert!(!directory.exists(), "it was resurrected");
    draft_keeps_the_reply(&env, &failure);
}

#[test]
fn a_log_replaced_by_a_directory_is_not_written() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let log = env.log_path(&id);
    let (_, failure) = turn_while(&env, &id, "store_unsupported", || {
        fs::remove_file(&log).expect("the log is removed");
        fs::create_dir(&log).expect("a directory in its place");
    });
    assert!(failure.error.contains("events.jsonl"), "{}", failure.error);
    draft_keeps_the_reply(&env, &failure);
}

#[test]
fn a_log_replaced_by_a_link_is_not_followed() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let log = env.log_path(&id);
    let target = env.write("target", env.log(&id));
    let before = fs::read(&target).expect("the target");
    let (_, failure) = turn_while(&env, &id, "store_unsupported", || {
        fs::remove_file(&log).expect("the log is removed");
        std::os::unix::fs::symlink(&target, &log).expect("a link in its place");
    });
    assert_eq!(fs::read(&target).expect("the target"), before);
    draft_keeps_the_reply(&env, &failure);
}

#[test]
fn a_new_session_whose_place_is_gone_is_printed_all_the_same() {
    let env = TestEnv::new();
    let gate = Gate::new();
    let held = Reply::text("paid for").held_by(&gate);
    let mut run = env.chat("hi").answered(held).spawn();
    run.wait_for_request();
    let sessions = env.store().join("sessions");
    fs::remove_dir_all(&sessions).expect("the sessions are removed");
    gate.open();
    let output = run.wait();
    let failure = printed_but_not_stored(&output, "store_io");
    assert!(failure.session_id.is_some());
    draft_keeps_the_reply(&env, &failure);
}

#[test]
fn a_lock_that_others_hold_too_long_is_named_and_worth_another_try() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let before = env.log(&id);
    // Sessions share lock files by the last two digits of their ids.
    let lock = env.store().join("locks").join(&id[id.len() - 2..]);
    let held = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .expect("a lock file");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
    let run = env
        .chat("two")
        .session(&id)
        .answered(Reply::text("paid for"));
    let output = run.env("OLLAMA_PROMPT_LOCK_TIMEOUT", "0.2").run();
    let failure = printed_but_not_stored(&output, "store_locked");
    assert!(failure.retryable);
    assert_eq!(env.log(&id), before);
    draft_keeps_the_reply(&env, &failure);

    drop(held);
    env.chat("three").session(&id).run().ok();
    assert_eq!(env.lines(&id).len(), 3);
}

#[test]
fn streamed_replies_are_printed_too() {
    let env = TestEnv::new();
    for format in ["jsonl", "text", "compact"] {
        let id = env.chat("one").run().session_id();
        let gate = Gate::new();
        let mut run = env
            .chat("two")
            .session(&id)
            .args(["--output", format])
            .answered(Reply::text("paid for").held_by(&gate))
            .spawn();
        run.wait_for_request();
        fs::remove_dir_all(session_directory(&env, &id)).expect("it is removed");
        gate.open();
        let output = run.wait();
        output.prints_and_fails(7, "store_io");
        match format {
            "text" => assert_eq!(output.stdout(), "paid for\n"),
            _ => {
                let lines = output.json_lines();
                let last = lines.last().expect("the whole object");
                assert_eq!(last["turn"]["stored"], false, "{format}");
                assert_eq!(last["response"], "paid for", "{format}");
            }
        }
    }
}

#[test]
fn a_log_that_is_no_file_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    let healthy = env.chat("one").run().session_id();
    let id = env.chat("two").run().session_id();
    let log = env.log_path(&id);
    let asked = env.server().request_count();
    let target = env.write("target", env.log(&id));
    type Plant<'a> = &'a dyn Fn(&Path);
    let plants: [(&str, Plant<'_>); 3] = [
        ("directory", &|log| fs::create_dir(log).expect("planted")),
        ("link", &|log| {
            std::os::unix::fs::symlink(&target, log).expect("planted");
        }),
        ("dangling link", &|log| {
            std::os::unix::fs::symlink("/nowhere/at/all", log).expect("planted");
        }),
    ];
    for (name, plant) in plants {
        if log.is_dir() {
            fs::remove_dir(&log).expect("the last plant is removed");
        } else {
            fs::remove_file(&log).expect("the last plant is removed");
        }
        plant(&log);
        for run in [
            env.chat("x").session(&id),
            env.command().args(["--session-info", &id]),
        ] {
            let failure = run.run().fails(7, "store_unsupported");
            assert!(failure.error.contains("events.jsonl"), "{name}");
        }
        let list = env.command().arg("--list-sessions").run();
        assert_eq!(list.ok().json()["total"], 1, "{name}: {list}");
        assert!(list.stderr().contains(&id), "{name}: {list}");
    }
    assert_eq!(env.server().request_count(), asked);
    assert_eq!(env.chat("x").session(&healthy).run().session_id(), healthy);
}

#[test]
fn a_store_that_is_no_directory_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    let file = env.write("store", "I am a file");
    let run = env.chat("hi").env("OLLAMA_PROMPT_HOME", &file).run();
    let failure = run.fails(7, "store_unsupported");
    assert!(failure.error.contains("store"), "{}", failure.error);
    assert_eq!(env.server().request_count(), 0);
    assert_eq!(fs::read(file).expect("the file"), b"I am a file");
}

#[test]
fn a_store_that_is_a_pipe_is_refused_and_not_waited_for() {
    let env = TestEnv::new();
    let pipe = env.work().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    for args in [&["--prompt", "hi"][..], &["--list-sessions"]] {
        let run = env.command().args(args).env("OLLAMA_PROMPT_HOME", &pipe);
        run.run().fails(7, "store_unsupported");
    }
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn a_store_others_may_write_to_is_refused_before_anybody_is_asked() {
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnv::new();
    env.chat("one").run().ok();
    let asked = env.server().request_count();
    let open_to_all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(env.store().join("sessions"), open_to_all).expect("a mode");
    let failure = env.chat("two").run().fails(7, "store_unsupported");
    assert!(failure.hint.is_some());
    assert_eq!(env.server().request_count(), asked);
}

#[test]
fn a_session_of_a_newer_version_is_shown_and_not_appended_to() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let newer = env.log(&id).replace("{\"v\":1,", "{\"v\":2,");
    env.write(env.log_path(&id), &newer);
    let asked = env.server().request_count();
    let failure = env
        .chat("two")
        .session(&id)
        .run()
        .fails(7, "store_unsupported");
    assert!(failure.hint.is_some());
    assert_eq!(env.server().request_count(), asked);
    assert_eq!(env.log(&id), newer);
    let info = env.command().args(["--session-info", &id]).run();
    assert_eq!(info.ok().json()["message_count"], 2);
}

fn session_directory(env: &TestEnv, id: &str) -> std::path::PathBuf {
    let log = env.log_path(id);
    log.parent().expect("a log is in a directory").to_owned()
}

/// Takes a second turn, does something while the server thinks, and asserts that the reply is
/// printed and not stored.
#[track_caller]
fn turn_while(env: &TestEnv, id: &str, code: &str, meanwhile: impl FnOnce()) -> (Output, Failure) {
    let gate = Gate::new();
    let reply = Reply::text("paid for").held_by(&gate);
    let mut run = env.chat("two").session(id).answered(reply).spawn();
    run.wait_for_request();
    meanwhile();
    gate.open();
    let output = run.wait();
    let failure = printed_but_not_stored(&output, code);
    (output, failure)
}

#[track_caller]
fn printed_but_not_stored(output: &Output, code: &str) -> Failure {
    let failure = output.prints_and_fails(7, code);
    let json = output.json();
    assert_eq!(json["response"], "paid for");
    assert_eq!(json["done"], true);
    assert_eq!(json["turn"]["stored"], false);
    assert_eq!(json["turn"]["id"], Value::Null);
    failure
}

#[track_caller]
fn draft_keeps_the_reply(env: &TestEnv, failure: &Failure) {
    let drafts = env.drafts();
    assert_eq!(drafts.len(), 1, "{drafts:?}");
    assert_eq!(drafts[0]["response"], "paid for");
    assert_eq!(drafts[0]["error"], failure.json);
}
