//! Two copies of a store become one: `session merge`, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::concurrency::hold_lock;
use crate::support::{Output, TestEnv};

/// Copies a directory as a backup does.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-r")
        .args([from, to])
        .status();
    assert!(status.expect("cp runs").success());
}

/// Prepares a run on another copy of the store.
fn at<'env>(env: &'env TestEnv, store: &Path) -> crate::support::Run<'env> {
    env.command().env("OLLAMA_PROMPT_HOME", store)
}

fn merge(env: &TestEnv, into: &Path, from: &Path) -> Value {
    let output = at(env, into).args(["session", "merge"]).arg(from).run();
    output.ok();
    output.json()
}

/// Returns what a copy says of a session, and of all of them.
fn history(env: &TestEnv, store: &Path, id: &str) -> (Value, Value) {
    let info = at(env, store).args(["--session-info", id]).run();
    let list = at(env, store).arg("--list-sessions").run();
    let mut list = list.ok().json();
    // Two spellings of a line may stand in one of them.
    for session in list["sessions"].as_array_mut().expect("a list") {
        session.as_object_mut().expect("an object").remove("bytes");
    }
    (info.ok().json(), list)
}

/// A store with a session, and a copy of it in which that session went on another way.
fn parted(env: &TestEnv) -> (PathBuf, PathBuf, String) {
    let here = env.store();
    let id = env.chat("one").replies("1").session_id().to_owned();
    let there = env.home().join("there");
    copy_tree(&here, &there);
    env.chat("two here").session(&id).replies("2h");
    let on = |prompt: &str| at(env, &there).args(["--prompt", prompt]);
    on("two there").session(&id).replies("2t");
    on("three there").session(&id).replies("3t");
    on("only there").replies("o");
    (here, there, id)
}

fn contents(info: &Value) -> Vec<&str> {
    let messages = info["messages"].as_array().expect("messages");
    messages
        .iter()
        .filter_map(|m| m["content"].as_str())
        .collect()
}

#[test]
fn two_copies_merged_either_way_are_one_history_and_again_changes_nothing() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    let one = merge(&env, &here, &there);
    assert_eq!(
        one,
        json!({"sessions_added": 1, "sessions_changed": 1, "events_added": 4, "skipped_purged": []})
    );
    let other = merge(&env, &there, &here);
    assert_eq!(
        (&other["sessions_added"], &other["events_added"]),
        (&json!(0), &json!(1))
    );
    let both = history(&env, &here, &id);
    assert_eq!(both, history(&env, &there, &id));
    assert_eq!(
        contents(&both.0),
        [
            "one",
            "1",
            "two here",
            "2h",
            "two there",
            "2t",
            "three there",
            "3t"
        ]
    );

    let before = env.snapshot();
    let nothing = json!({"sessions_added": 0, "sessions_changed": 0, "events_added": 0, "skipped_purged": []});
    assert_eq!(merge(&env, &here, &there), nothing);
    assert_eq!(merge(&env, &there, &here.join("sessions")), nothing);
    assert_eq!(merge(&env, &here, &here), nothing);
    assert_eq!(env.snapshot(), before);

    env.chat("four").session(&id).replies("4");
    let request = env.server().last_request();
    assert_eq!(
        request.contents(),
        [&contents(&both.0)[..], &["four"]].concat()
    );
}

#[test]
fn lines_are_copied_byte_for_byte_and_the_greater_of_two_counts() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    let log = |store: &Path| store.join("sessions").join(&id).join("events.jsonl");
    let edited = fs::read_to_string(log(&there)).expect("a log");
    let edited = edited.replace(
        "\"prompt\":\"one\"",
        "\"prompt\":\"zzz\", \"unknown\" : [1]",
    );
    env.write(log(&there), &edited);
    merge(&env, &here, &there);
    let merged = fs::read_to_string(log(&here)).expect("a log");
    assert!(merged.contains("\"unknown\" : [1]"), "{merged}");
    merge(&env, &there, &here);
    let both = history(&env, &here, &id);
    assert_eq!(both, history(&env, &there, &id));
    assert_eq!(contents(&both.0)[0], "zzz");
}

#[test]
fn damage_over_there_is_told_and_stays_there() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    let log = there.join("sessions").join(&id).join("events.jsonl");
    let text = fs::read_to_string(&log).expect("a log");
    env.write(&log, format!("debris\n{text}{{\"v\":1,\"id\":\"torn"));
    let told = merge(&env, &here, &there);
    let warning = told["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains(&id) && warning.starts_with("1 unreadable"),
        "{warning}"
    );
    assert!(!env.log(&id).contains("debris") && env.log(&id).ends_with("}\n"));
    assert_eq!(told["sessions_changed"], 1);
}

#[test]
fn a_last_line_without_its_newline_is_sealed() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    env.write(env.log_path(&id), env.log(&id).trim_end());
    merge(&env, &here, &there);
    assert_eq!(env.lines(&id).len(), 5);
}

#[test]
fn what_was_purged_stays_away_unless_it_is_asked_for() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    env.command().args(["--purge", "0"]).run().ok();
    let left_out = merge(&env, &here, &there);
    assert_eq!(left_out["skipped_purged"], json!([id]));
    assert_eq!(left_out["sessions_added"], 1, "the one that was never here");

    // A copy that never had it learns of the purge, and so does not take it from a third.
    let third = env.home().join("third");
    at(&env, &third).args(["--prompt", "third"]).replies("3");
    merge(&env, &third, &here);
    assert_eq!(merge(&env, &third, &there)["skipped_purged"], json!([id]));
    // One that has it keeps it.
    merge(&env, &there, &here);
    assert_eq!(contents(&history(&env, &there, &id).0).len(), 6);

    let back = at(&env, &here)
        .args(["session", "merge", "--include-purged"])
        .arg(&there)
        .run();
    assert_eq!(back.ok().json()["sessions_added"], 1);
    assert_eq!(history(&env, &here, &id).0, history(&env, &there, &id).0);
}

#[test]
fn blobs_come_along_and_nothing_else_does() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    // SHA-256 of "bytes".
    let blob = "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9";
    let rotten = "ab".repeat(32);
    let session = |store: &Path| store.join("sessions").join(&id);
    env.write(session(&there).join("blobs").join(blob), "bytes");
    env.write(session(&there).join("blobs").join(&rotten), "bytes");
    env.write(session(&there).join("blobs/README"), "no blob");
    env.write(session(&there).join(".damaged-x"), "no log");
    let told = merge(&env, &here, &there);
    let warning = told["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains(&rotten), "{warning}");
    let copied = fs::read_to_string(session(&here).join("blobs").join(blob));
    assert_eq!(copied.expect("a blob"), "bytes");
    let names = |dir: PathBuf| fs::read_dir(dir).expect("a directory").count();
    assert_eq!(
        (names(session(&here).join("blobs")), names(session(&here))),
        (1, 2)
    );
}

#[test]
fn what_is_no_session_over_there_is_refused_by_name() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    let secret = env.write("secret.jsonl", env.log(&id));
    let hostile = |n: u32| there.join(format!("sessions/00000000-0000-7000-8000-00000000000{n}"));
    fs::create_dir(hostile(1)).expect("a directory");
    std::os::unix::fs::symlink(&secret, hostile(1).join("events.jsonl")).expect("a link");
    std::os::unix::fs::symlink(there.join("sessions").join(&id), hostile(2)).expect("a link");
    fs::create_dir_all(hostile(3).join("events.jsonl")).expect("a directory");
    env.write(hostile(4), "a file");
    fs::create_dir(hostile(5)).expect("a directory");
    let fifo = std::process::Command::new("mkfifo")
        .arg(hostile(5).join("events.jsonl"))
        .status();
    assert!(fifo.expect("mkfifo runs").success());
    let blob = hostile(6).join("blobs").join("cd".repeat(32));
    env.write(hostile(6).join("events.jsonl"), env.log(&id));
    fs::create_dir(blob.parent().expect("a directory")).expect("a directory");
    std::os::unix::fs::symlink(&secret, blob).expect("a link");
    let told = merge(&env, &here, &there);
    let warnings: Vec<&str> = told["warnings"]
        .as_array()
        .expect("warnings")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for n in 1..=6 {
        let named = warnings
            .iter()
            .filter(|w| w.contains(&format!("00000000000{n} is not merged")));
        assert_eq!(named.count(), 1, "{n}: {warnings:#?}");
    }
    assert_eq!(
        (&told["sessions_added"], &told["sessions_changed"]),
        (&json!(1), &json!(1))
    );
    let left = fs::read_dir(here.join("sessions"))
        .expect("sessions")
        .count();
    assert_eq!(left, 3, "two sessions and .gitattributes");
}

#[test]
fn a_session_that_a_newer_program_wrote_here_is_not_appended_to() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    let newer = env.log(&id).replacen("{\"v\":1,", "{\"v\":2,", 1);
    env.write(env.log_path(&id), &newer);
    let told = merge(&env, &here, &there);
    let warning = told["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains(&format!("{id} is not merged")) && warning.contains("newer program"),
        "{warning}"
    );
    assert_eq!(
        (&told["sessions_added"], &told["sessions_changed"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(env.log(&id), newer);
}

/// Whoever repairs the receipts, and replaces their file, holds every lock meanwhile.
#[test]
fn receipts_are_noted_under_a_lock() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    at(&env, &there).args(["--purge", "0"]).run().ok();
    fs::remove_dir_all(here.join("sessions").join(&id)).expect("a session");
    let held: Vec<_> = (0..=u8::MAX)
        .map(|stripe| {
            env.write(here.join(format!("locks/{stripe:02x}")), "");
            hold_lock(&env, &format!("{stripe:02x}"))
        })
        .collect();
    let impatient = |command: &str| {
        let run = at(&env, &here).env("OLLAMA_PROMPT_LOCK_TIMEOUT", "0.1");
        run.args(["session", command])
    };
    let merge_it = || impatient("merge").arg(&there).run();
    let copy_it = || impatient("copy").arg("--from").arg(&there).run();
    merge_it().fails(7, "store_locked");
    copy_it().fails(7, "store_locked");
    assert!(!here.join("purged.jsonl").exists());
    drop(held);
    merge_it().ok();
    let noted = fs::read_to_string(here.join("purged.jsonl")).expect("receipts");
    assert!(noted.contains(&id), "{noted}");
}

#[test]
fn where_there_is_no_store_that_is_said() {
    let env = TestEnv::new();
    let run = |dir: &str| -> Output { env.command().args(["session", "merge", dir]).run() };
    assert!(run("nowhere").fails(2, "usage").error.contains("nowhere"));
    fs::create_dir(env.work().join("empty")).expect("a directory");
    run("empty").fails(2, "usage");
    assert!(env.files().is_empty(), "and no store is made");
    env.write("file", "x");
    run("file").fails(7, "store_unsupported");
}

#[test]
fn a_turn_under_way_is_kept_through_a_merge() {
    let env = TestEnv::new();
    let (here, there, id) = parted(&env);
    let gate = crate::support::Gate::new();
    env.server()
        .enqueue(crate::support::Reply::text("late").held_by(&gate));
    let turn = env.chat("slow").session(&id).spawn();
    gate.wait_until_reached();
    merge(&env, &here, &there);
    gate.open();
    let turn = turn.wait();
    turn.ok();
    assert_eq!(
        turn.json()["turn"]["concurrent_with"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let info = history(&env, &here, &id).0;
    assert_eq!(contents(&info)[8..], ["slow", "late"]);
}
