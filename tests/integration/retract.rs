//! `session retract`: a turn is hidden at once and for ever, and its bytes leave with the
//! compaction.

use serde_json::{Value, json};

use crate::support::{Output, TestEnv};

/// A session of three turns, the second of which is to go. Returns it and the turn.
fn session(env: &TestEnv) -> (String, String) {
    let id = env.chat("the first").replies("one").session_id();
    let second = env.chat("the SECRET second").session(&id);
    let turn = second.replies("a SECRET as well").json()["turn"]["id"].clone();
    env.chat("the third").session(&id).replies("three");
    (id, turn.as_str().expect("an id").to_owned())
}

fn retract(env: &TestEnv, id: &str, turn: &str) -> Output {
    let address = format!("{id}:{turn}");
    env.command().args(["session", "retract", &address]).run()
}

fn info(env: &TestEnv, id: &str) -> Value {
    env.command().args(["--session-info", id]).run().ok().json()
}

#[test]
fn a_retracted_turn_is_in_no_output_and_in_no_request_and_then_not_on_the_disk() {
    let env = TestEnv::new();
    let (id, turn) = session(&env);
    let report = retract(&env, &id, &turn).ok().json();
    assert_eq!(report["session_id"], id.as_str());
    assert_eq!(report["turn"], turn.as_str());
    assert_eq!(
        (&report["changed"], &report["bytes_on_disk"]),
        (&json!(true), &json!(true))
    );
    let message = report["message"].as_str().expect("a sentence");
    assert!(
        message.contains(&format!("session compact {id}")),
        "{message}"
    );

    let shown = info(&env, &id);
    assert!(!shown.to_string().contains("SECRET"), "{shown}");
    assert_eq!(shown["message_count"], 4);
    assert_eq!(shown["metadata"]["retracted"], json!([turn]));
    env.chat("the fourth").session(&id).run().ok();
    let sent = env.server().last_request().contents().join("\n");
    assert!(
        !sent.contains("SECRET") && sent.contains("the third"),
        "{sent}"
    );

    let before = env.log(&id);
    let again = retract(&env, &id, &turn).ok().json();
    assert_eq!(
        (&again["changed"], &again["bytes_on_disk"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(env.log(&id), before, "a second time writes nothing");

    env.command().args(["session", "compact", &id]).run().ok();
    assert!(!env.log(&id).contains("SECRET"), "{}", env.log(&id));
    assert_eq!(
        retract(&env, &id, &turn).ok().json()["bytes_on_disk"],
        false
    );
}

#[test]
fn compaction_may_come_at_once() {
    let env = TestEnv::new();
    let (id, turn) = session(&env);
    let address = format!("{id}:{turn}");
    let args = ["session", "retract", &address, "--compact"];
    let report = env.command().args(args).run().ok().json();
    assert_eq!(report["bytes_on_disk"], false);
    for (file, bytes) in env.snapshot() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("SECRET"), "{}: {text}", file.display());
    }
    assert_eq!(info(&env, &id)["message_count"], 4);
}

#[test]
fn the_newest_turn_may_go_and_the_only_one() {
    let env = TestEnv::new();
    let first = env.chat("SECRET").run();
    let (id, turn) = (first.session_id(), first.json()["turn"]["id"].clone());
    retract(&env, &id, turn.as_str().expect("an id")).ok();
    let next = env.chat("hello").session(&id).run().ok().json();
    assert_eq!(env.server().last_request().contents(), ["hello"]);
    assert_eq!(next["turn"]["parent"], Value::Null);
}

#[test]
fn a_turn_nobody_has_is_not_found() {
    let env = TestEnv::new();
    let (id, _) = session(&env);
    let before = env.snapshot();
    retract(&env, &id, "01KAV8Z0M4ABCDEFGHJKMNPQRS").fails(3, "session_not_found");
    retract(
        &env,
        "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33",
        "01KAV8Z0M4ABCDEFGHJKMNPQRS",
    )
    .fails(3, "session_not_found");
    retract(&env, &id, "x").fails(2, "usage");
    assert_eq!(env.snapshot(), before);
}
