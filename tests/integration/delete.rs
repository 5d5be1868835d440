//! Purge and delete: what goes, what stays, and what is left when either is cut short.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{Gate, Output, Reply, TestEnv, need};

const NOBODY: &str = "0199aabb-ccdd-7fff-bfff-ffffffffffff";

fn session(env: &TestEnv, model: &str) -> String {
    env.chat("hello")
        .args(["--model", model])
        .replies("hi")
        .session_id()
}

/// A session that was last used long ago.
fn old_session(env: &TestEnv, model: &str) -> String {
    let id = session(env, model);
    let long_ago = env.lines(&id).into_iter().map(|mut line| {
        line["ts"] = "2020-01-01T00:00:00.000Z".into();
        format!("{line}\n")
    });
    let log: String = long_ago.collect();
    env.write(env.log_path(&id), log);
    id
}

fn tag(env: &TestEnv, id: &str, tags: &Value) {
    let mut set = env.lines(id)[0].clone();
    set = json!({"v": 1, "id": set["id"].as_str().expect("an id").replace("01", "02"), "type": "set",
        "ts": "2020-01-01T00:00:00.000Z", "tags": tags});
    env.write(env.log_path(id), format!("{}{set}\n", env.log(id)));
}

fn run(env: &TestEnv, line: &str) -> Output {
    env.command().args(line.split(' ')).run()
}

fn listed(env: &TestEnv) -> BTreeSet<String> {
    let list = run(env, "--list-sessions").ok().json();
    let sessions = list["sessions"].as_array().expect("a list").iter();
    sessions
        .map(|s| s["session_id"].as_str().expect("an id").to_owned())
        .collect()
}

fn receipts(env: &TestEnv) -> Vec<Value> {
    let text = fs::read_to_string(env.store().join("purged.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a receipt"))
        .collect()
}

fn set<const N: usize>(ids: [&String; N]) -> BTreeSet<String> {
    ids.into_iter().cloned().collect()
}

#[test]
fn old_sessions_go_and_receipts_say_why() {
    let env = TestEnv::new();
    let (old, other, young) = (
        old_session(&env, "m"),
        old_session(&env, "n"),
        session(&env, "m"),
    );
    let gone = run(&env, "session purge --older-than 30d --model m")
        .ok()
        .json();
    assert_eq!(gone["removed"], 1);
    assert_eq!(gone["sessions"], json!([old]));
    assert_eq!(
        gone["message"],
        "Removed 1 session of the model m not used for 30 days"
    );
    assert_eq!(listed(&env), set([&other, &young]));
    let receipt = &receipts(&env)[0];
    assert_eq!(receipt["session"], old.as_str());
    assert_eq!(receipt["turns"], 1);
    assert_eq!(receipt["why"], "session purge --older-than 30d --model m");
    assert_eq!(receipt["bytes"], gone["bytes_freed"]);

    let gone = run(&env, "--purge 30").ok().json();
    assert_eq!(gone["message"], "Removed 1 session not used for 30 days");
    assert_eq!(receipts(&env)[1]["why"], "--purge 30");
    assert_eq!(listed(&env), set([&young]));
    run(&env, "session purge --older-than 0").ok();
    assert!(listed(&env).is_empty());
}

#[test]
fn a_tag_that_was_taken_off_again_does_not_count() {
    let env = TestEnv::new();
    let (tagged, untagged, plain) = (session(&env, "m"), session(&env, "m"), session(&env, "m"));
    tag(&env, &tagged, &json!({"tmp": true}));
    tag(&env, &untagged, &json!({"tmp": false}));
    let info = env
        .command()
        .args(["--session-info", &tagged])
        .run()
        .ok()
        .json();
    assert_eq!(info["metadata"]["tags"], json!(["tmp"]));
    let gone = run(&env, "session purge --older-than 0 --tag tmp")
        .ok()
        .json();
    assert_eq!(gone["sessions"], json!([tagged]));
    assert_eq!(listed(&env), set([&untagged, &plain]));
}

#[test]
fn a_dry_run_names_what_would_go_and_writes_nothing() {
    let env = TestEnv::new();
    let (old, _young) = (old_session(&env, "m"), session(&env, "m"));
    env.write(
        env.store()
            .join("sessions/.trash-01ARZ3NDEKTSV4RRFFQ69G5FAV-x/events.jsonl"),
        "x",
    );
    let before = env.snapshot();
    let would = run(&env, "session purge --older-than 1d --dry-run")
        .ok()
        .json();
    assert_eq!(would["dry_run"], true);
    assert_eq!(would["sessions"], json!([old]));
    assert_eq!(
        would["message"],
        "Would remove 1 session not used for 1 day"
    );
    assert_eq!(env.snapshot(), before);
    let gone = run(&env, "session purge --older-than 1d").ok().json();
    assert_eq!(
        (&gone["sessions"], &gone["bytes_freed"]),
        (&would["sessions"], &would["bytes_freed"])
    );
    assert_eq!(gone["dry_run"], Value::Null);
}

#[test]
fn what_is_named_in_full_is_deleted_and_nothing_else() {
    let env = TestEnv::new();
    let (a, b, c) = (session(&env, "m"), session(&env, "m"), session(&env, "m"));
    env.chat("secret question")
        .session(&a)
        .answered(Reply::error(500, "no"))
        .run()
        .fails(5, "server_error");
    assert_eq!(env.drafts().len(), 1);
    let before = env.snapshot();
    run(&env, &format!("session delete {}", &a[..20])).fails(2, "usage");
    run(&env, &format!("session delete {a} {NOBODY}")).fails(3, "session_not_found");
    assert_eq!(env.snapshot(), before, "all of them or none");
    let gone = run(&env, &format!("session delete {a} {b} {a}"))
        .ok()
        .json();
    assert_eq!(
        (&gone["removed"], &gone["sessions"]),
        (&json!(2), &json!([a, b]))
    );
    assert_eq!(gone["message"], "Removed 2 sessions");
    assert_eq!(listed(&env), set([&c]));
    assert_eq!(
        env.drafts(),
        Vec::<Value>::new(),
        "its unfinished turns go with a session"
    );
    let why: Vec<Value> = receipts(&env)
        .iter()
        .map(|receipt| receipt["why"].clone())
        .collect();
    assert_eq!(why, ["session delete", "session delete"]);
}

#[test]
fn a_session_with_a_turn_under_way_is_left_and_named() {
    let env = TestEnv::new();
    let (busy, idle) = (session(&env, "m"), session(&env, "m"));
    let gate = Gate::new();
    let mut turn = env
        .chat("wait")
        .session(&busy)
        .answered(Reply::echo().held_by(&gate))
        .spawn();
    turn.wait_for_request();
    for line in [
        format!("session delete {busy}"),
        "session purge --older-than 0 --dry-run".to_owned(),
        "--purge 0".to_owned(),
    ] {
        let gone = run(&env, &line).ok().json();
        let warning = gone["warnings"][0].as_str().expect("a warning").to_owned();
        assert!(warning.contains(&busy), "{warning}");
        assert!(
            !gone["sessions"]
                .as_array()
                .expect("a list")
                .contains(&json!(busy)),
            "{line}"
        );
    }
    gate.open();
    turn.wait().ok();
    assert_eq!(listed(&env), set([&busy]));
    assert_eq!(
        env.lines(&busy)
            .iter()
            .filter(|line| line["type"] == "turn")
            .count(),
        2
    );
    let _ = idle;
}

#[test]
fn killed_at_any_system_call_a_session_is_there_or_gone() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let kept = session(&env, "kept");
    let mut cuts = 0;
    for call in [
        "openat",
        "write",
        "fdatasync",
        "fsync",
        "renameat",
        "unlinkat",
        "unlink",
        "rmdir",
        "flock",
    ] {
        for nth in 1.. {
            let id = session(&env, "m");
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let purge = env.command().args(["session", "delete", &id]);
            let run_cut = purge
                .through(["strace", "-qq", "-o", "/dev/null", "-e", &inject])
                .run();
            if run_cut.signal() != Some(9) {
                run_cut.ok();
                break;
            }
            cuts += 1;
            let when = format!("cut before {call} {nth}");
            let said = receipts(&env)
                .iter()
                .any(|receipt| receipt["session"] == id.as_str());
            if listed(&env).contains(&id) {
                env.chat("still there?").session(&id).replies("yes");
                assert_eq!(env.server().last_request().roles().len(), 3, "{when}");
                run(&env, &format!("session delete {id}")).ok();
            } else {
                assert!(said, "{when}: gone without a receipt");
            }
            run(&env, "session purge --older-than 1000d").ok();
            let left = env.files();
            assert!(
                !left.iter().any(|file| file.to_string_lossy().contains(&id)),
                "{when}: {left:?}"
            );
            assert_eq!(listed(&env), set([&kept]), "{when}");
        }
    }
    assert!(cuts > 15, "{cuts} cuts");
    assert_eq!(
        receipts(&env)
            .iter()
            .filter(|receipt| receipt["session"] == kept.as_str())
            .count(),
        0
    );
}

#[test]
fn without_a_lock_or_without_room_for_the_receipt_nothing_goes() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = session(&env, "m");
    let said = env.log(&id);
    for (inject, code) in [
        ("flock:error=EOPNOTSUPP", "store_unsupported"),
        ("write:error=ENOSPC:when=1", "store_full"),
        ("fdatasync:error=EIO:when=1", "store_io"),
        ("renameat:error=EACCES", "store_readonly"),
    ] {
        let purge = env
            .command()
            .args(["session", "purge", "--older-than", "0"]);
        let inject = format!("inject={inject}");
        purge
            .through(["strace", "-qq", "-o", "/dev/null", "-e", &inject])
            .run()
            .fails(7, code);
        assert_eq!(env.log(&id), said, "{inject}");
    }
    assert_eq!(run(&env, "--purge 0").ok().json()["removed"], 1);
}

#[test]
fn a_purge_sweeps_what_killed_processes_left() {
    let env = TestEnv::new();
    let id = session(&env, "m");
    let store = env.store();
    let trash = store.join("sessions/.trash-01ARZ3NDEKTSV4RRFFQ69G5FAV-x");
    env.write(trash.join("events.jsonl"), "x");
    env.write(trash.join("blobs/y"), "x");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for directory in [store.clone(), store.join("sessions"), store.join("open")] {
        env.write(directory.join(".tmp-young"), "x");
        let old = env.write(directory.join(".tmp-old"), "x");
        fs::File::options()
            .write(true)
            .open(old)
            .and_then(|f| f.set_modified(long_ago))
            .expect("a new time");
    }
    run(&env, "--purge 30").ok();
    let left = env.files();
    let named = |part: &str| {
        left.iter()
            .filter(|file| file.to_string_lossy().contains(part))
            .count()
    };
    assert_eq!(
        (named(".tmp-young"), named(".tmp-old"), named(".trash-")),
        (3, 0, 0),
        "{left:?}"
    );
    assert_eq!(listed(&env), set([&id]));
}
