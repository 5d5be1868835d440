//! Protects P7 and P8 where a session holds what this program did not write: events of a newer
//! format or of an unknown type, other programs' files, a second log from another machine.

use std::fs;

use serde_json::json;

use crate::stored::{id, info, listed, make_session, prompts, text, turns};
use crate::support::{Gate, Reply, TestEnv};

#[test]
fn a_session_of_a_newer_format_is_shown_and_never_appended_to() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let newer = env.log(&id(1)).replacen("{\"v\":1,", "{\"v\":2,", 1);
    env.write(env.log_path(&id(1)), &newer);
    let output = env.chat("two").session(&id(1)).run();
    let failure = output.fails(7, "store_unsupported");
    assert!(
        failure.hint.is_some_and(|hint| hint.contains("upgrade")),
        "{output}"
    );
    assert_eq!(env.server().request_count(), 0, "nobody was asked");
    assert_eq!(env.log(&id(1)), newer);
    assert_eq!(prompts(&env, &id(1)), ["one"]);
    assert_eq!(listed(&env), [(id(1), 2)]);
}

#[test]
fn a_session_that_becomes_newer_during_the_turn_is_not_appended_to_either() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let held = Gate::new();
    let answered = Reply::text("2").held_by(&held);
    let running = env.chat("two").session(&id(1)).answered(answered).spawn();
    held.wait_until_reached();
    let event = format!(
        "{{\"v\":2,\"id\":\"{FAR_AHEAD}\",\"type\":\"new\",\"ts\":\"2026-11-21T23:17:00.123Z\"}}\n"
    );
    let newer = env.log(&id(1)) + &event;
    env.write(env.log_path(&id(1)), &newer);
    held.open();
    let output = running.wait();
    output.prints_and_fails(7, "store_unsupported");
    assert_eq!(output.json()["turn"]["stored"], false, "{output}");
    assert_eq!(env.log(&id(1)), newer);
}

/// An event's id above all that are made now.
const FAR_AHEAD: &str = "2ZZZZZZZZZZZZZZZZZZZZZZZZZ";

#[test]
fn event_types_and_fields_of_another_program_stay_where_they_are() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let before = env
        .log(&id(1))
        .replacen("\"type\":\"turn\"", "\"type\":\"turn\",\"mood\":[7]", 1);
    let unknown = r#"{"v":1,"id":"01ZZZZZZZZZZZZZZZZZZZZZZZZ","type":"mood","ts":"2026-11-21T23:17:00.123Z","x":{"y":1}}"#;
    let before = format!("{before}{unknown}\n");
    env.write(env.log_path(&id(1)), &before);
    let output = env
        .chat("two")
        .session(&id(1))
        .args(["--offline", "-q"])
        .run();
    assert_eq!(output.ok().json()["context_usage"]["kept_turns"], 1);
    let after = env.log(&id(1));
    assert!(after.starts_with(&before), "{after}");
    assert_eq!(info(&env, &id(1))["metadata"]["unreadable"], json!([]));
    let last = turns(&env, &id(1)).pop().expect("a turn");
    assert!(
        text(&last["id"]).as_str() > "01ZZZZZZZZZZZZZZZZZZZZZZZZ",
        "after what it saw: {last}"
    );
}

#[test]
fn files_of_others_are_neither_read_nor_touched() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let sessions = env.store().join("sessions");
    let session = sessions.join(id(1));
    let foreign = env.log(&id(1)).replace("01", "00");
    for name in [
        ".events.jsonl.swp",
        ".hidden.jsonl",
        "events.jsonl~",
        "events.json",
        "notes.txt",
    ] {
        env.write(session.join(name), &foreign);
    }
    env.write(session.join("blobs/x.jsonl"), &foreign);
    for name in ["README.md", ".DS_Store", &id(7), &id(8).to_uppercase()] {
        env.write(sessions.join(name), &foreign);
    }
    env.write(sessions.join("not-an-id/events.jsonl"), &foreign);
    env.write(env.store().join("open/notes.txt"), &foreign);
    env.write(env.store().join("locks/notes.txt"), &foreign);
    let before = env.snapshot();
    make_session(&env, &id(1), &["two"]);
    assert_eq!(prompts(&env, &id(1)), ["one", "two"]);
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 1, "{list}");
    let mut after = env.snapshot();
    after.retain(|file, _| before.contains_key(file));
    let log = env.log_path(&id(1));
    let log = log.strip_prefix(env.home()).expect("below home");
    after.insert(log.to_owned(), before[log].clone());
    assert_eq!(after, before);
}

#[test]
fn a_conflict_copy_beside_the_log_is_part_of_the_session() {
    let env = TestEnv::new();
    let id = env.chat("both").replies("said to both").session_id();
    let common = env.log(&id);
    env.chat("there").session(&id).replies("said there");
    let theirs = env.log(&id);
    env.write(env.log_path(&id), &common);
    env.chat("here").session(&id).replies("said here");
    let ours = env.log(&id);
    let copy = env
        .log_path(&id)
        .with_file_name("events.sync-conflict-1.jsonl");
    env.write(&copy, &theirs);

    assert_eq!(prompts(&env, &id), ["both", "there", "here"]);
    env.chat("next").session(&id).replies("ok");
    let expected = [
        "both",
        "said to both",
        "there",
        "said there",
        "here",
        "said here",
        "next",
    ];
    assert_eq!(env.server().last_request().contents(), expected);
    assert!(
        env.log(&id).starts_with(&ours),
        "writers append to the log only"
    );
    assert_eq!(fs::read_to_string(&copy).expect("the copy"), theirs);

    // The other way round it is the same history.
    let (log, ours) = (env.log_path(&id), env.log(&id));
    env.write(&log, &theirs);
    env.write(&copy, &ours);
    assert_eq!(prompts(&env, &id), ["both", "there", "here", "next"]);
}
