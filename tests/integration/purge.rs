//! Purge from outside: what goes, what stays, what is left of it, and that a turn under way is
//! never robbed of its session.

use serde_json::{Value, json};

use crate::support::{Gate, Reply, TestEnv};

#[test]
fn sessions_not_used_for_so_many_days_go_and_the_others_stay() {
    let env = TestEnv::new();
    let old = env.chat("long ago").run().session_id();
    let recent = env.chat("just now").run().session_id();
    date_back(&env, &old);
    let output = env.command().args(["--purge", "30"]).run();
    let json = output.ok().json();
    assert_eq!(
        json.as_object()
            .expect("an object")
            .keys()
            .collect::<Vec<_>>(),
        ["removed", "message", "sessions", "bytes_freed"]
    );
    assert_eq!(json["removed"], 1);
    assert_eq!(json["message"], "Removed 1 session not used for 30 days");
    assert_eq!(json["sessions"], json!([old]));
    assert!(json["bytes_freed"].as_u64() > Some(0));

    assert_eq!(ids(&env), [recent]);
    env.chat("x")
        .session(&old)
        .run()
        .fails(3, "session_not_found");
    let log = env.log_path(&old);
    assert!(!log.parent().expect("its directory").exists());
}

#[test]
fn a_session_used_since_stays_however_old_it_is() {
    let env = TestEnv::new();
    let id = env.chat("long ago").run().session_id();
    date_back(&env, &id);
    env.chat("and today").session(&id).run().ok();
    let purged = env.command().args(["--purge", "30"]).run();
    assert_eq!(purged.ok().json()["removed"], 0);
    assert_eq!(ids(&env), [id]);
}

#[test]
fn both_spellings_with_nothing_to_do_do_nothing() {
    let env = TestEnv::new();
    for flag in ["--purge", "--purge-sessions"] {
        let output = env.command().args([flag, "30"]).run();
        assert_eq!(
            output.ok().json(),
            json!({
                "removed": 0,
                "message": "Removed 0 sessions not used for 30 days",
                "sessions": [],
                "bytes_freed": 0,
            })
        );
    }
    assert!(!env.store().exists(), "nothing was there to be purged");
    env.command()
        .args(["--purge", "-1"])
        .run()
        .fails(2, "usage");
    env.command()
        .args(["--purge", "soon"])
        .run()
        .fails(2, "usage");
}

#[test]
fn a_receipt_stays_that_says_what_was_purged_and_nothing_that_was_said() {
    let env = TestEnv::new();
    let id = env.chat("tell nobody").replies("never").session_id();
    env.chat("again").session(&id).run().ok();
    let bytes = env.log(&id).len();
    env.command().args(["--purge", "0"]).run().ok();

    let path = env.store().join("purged.jsonl");
    let receipts = std::fs::read_to_string(path).expect("receipts");
    let receipt: Value = serde_json::from_str(receipts.trim_end()).expect("one line of JSON");
    assert_eq!(receipt["session"], id);
    assert_eq!(receipt["turns"], 2);
    assert_eq!(receipt["bytes"], bytes);
    assert_eq!(receipt["why"], "--purge 0");
    for (file, bytes) in env.snapshot() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("tell nobody"), "{}", file.display());
    }
    let second = env.chat("one more").run().session_id();
    env.command().args(["--purge", "0"]).run().ok();
    let path = env.store().join("purged.jsonl");
    let receipts = std::fs::read_to_string(path).expect("receipts");
    assert_eq!(receipts.lines().count(), 2);
    assert!(receipts.starts_with(&receipt_line(&receipts, 0)));
    assert!(receipt_line(&receipts, 1).contains(&second));
}

#[test]
fn drafts_as_old_go_too() {
    let env = TestEnv::new();
    let failed = env.chat("a secret").answered(Reply::error(500, "boom"));
    failed.run().fails(5, "server_error");
    assert_eq!(env.drafts().len(), 1);
    env.command().args(["--purge", "1"]).run().ok();
    assert_eq!(env.drafts().len(), 1, "it is not a day old");
    env.command().args(["--purge", "0"]).run().ok();
    assert_eq!(env.drafts(), Vec::<Value>::new());
}

#[test]
fn a_session_with_a_turn_under_way_is_left_and_named() {
    let env = TestEnv::new();
    let busy = env.chat("one").run().session_id();
    let idle = env.chat("two").run().session_id();
    let gate = Gate::new();
    let reply = Reply::text("at last").held_by(&gate);
    let mut turn = env.chat("three").session(&busy).answered(reply).spawn();
    turn.wait_for_request();

    let purge = env.command().args(["--purge", "0"]).run();
    let json = purge.ok().json();
    assert_eq!(json["sessions"], json!([idle]));
    let warning = json["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains(&busy), "{warning}");
    assert!(purge.stderr().contains(&busy), "{purge}");
    assert_eq!(env.drafts().len(), 1);

    gate.open();
    let output = turn.wait();
    assert_eq!(output.ok().json()["turn"]["stored"], true);
    assert_eq!(env.lines(&busy).len(), 3);
    let purge = env.command().args(["--purge", "0"]).run();
    assert_eq!(purge.ok().json()["sessions"], json!([busy]));
    assert_eq!(ids(&env), Vec::<String>::new());
}

#[test]
fn utilities_stand_alone() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    for args in [
        &["--purge", "0", "--list-sessions"][..],
        &["--purge", "0", "--session-info", &id],
        &["--list-sessions", "--session-info", &id],
        &["--purge", "0", "--prompt", "hi"],
    ] {
        let failure = env.command().args(args).run().fails(2, "usage");
        assert!(failure.error.contains("mutually exclusive"), "{args:?}");
    }
    assert_eq!(ids(&env), [id]);
}

fn ids(env: &TestEnv) -> Vec<String> {
    let list = env.command().arg("--list-sessions").run().ok().json();
    let sessions = list["sessions"].as_array().cloned().unwrap_or_default();
    let id = |session: &Value| session["session_id"].as_str().map(str::to_owned);
    sessions.iter().filter_map(id).collect()
}

/// Rewrites a session's log as if all of it had been said in the year 2001.
fn date_back(env: &TestEnv, id: &str) {
    let log = env.log(id);
    let year = log
        .find("\"ts\":\"")
        .map(|at| &log[at..at + 10])
        .expect("a time");
    env.write(env.log_path(id), log.replace(year, "\"ts\":\"2001"));
}

fn receipt_line(receipts: &str, at: usize) -> String {
    receipts.lines().nth(at).unwrap_or_default().to_owned()
}
