//! `session update`: what it changes, of which sessions, and that it writes what differs and
//! nothing else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Output, TestEnv};

fn update<'a>(env: &TestEnv, args: impl IntoIterator<Item = &'a str>) -> Output {
    env.command().args(["session", "update"]).args(args).run()
}

fn info(env: &TestEnv, id: &str) -> Value {
    env.command().args(["--session-info", id]).run().ok().json()
}

/// Returns what a session's `set` events say.
fn sets(env: &TestEnv, id: &str) -> Vec<Value> {
    let lines = env.lines(id).into_iter();
    lines
        .filter(|line| line["type"] == "set")
        .map(|mut line| {
            let event = line.as_object_mut().expect("an object");
            event.retain(|key, _| !["v", "id", "type", "ts", "at"].contains(&key.as_str()));
            line
        })
        .collect()
}

fn ids(report: &Value) -> Vec<&str> {
    let updated = report["updated"].as_array().expect("a list").iter();
    updated.filter_map(|s| s["session_id"].as_str()).collect()
}

#[test]
fn everything_that_can_be_changed_is_changed_and_the_next_turn_has_it() {
    let env = TestEnv::new();
    let id = env.chat("one").args(["--model", "m1"]).run().session_id();
    let system = env.write("system.txt", "Be brief.");
    let all = [
        &id,
        "--title",
        "Häuser 🏠",
        "--tag",
        "a",
        "--tag",
        "b",
        "--model",
        "m2",
        "--system-file",
        system.to_str().expect("UTF-8"),
        "--max-context-tokens",
        "9000",
        "--prune",
        "importance",
    ];
    let report = update(&env, all).ok().json();
    let changes = json!({
        "title": "Häuser 🏠", "tags": {"a": true, "b": true}, "model": "m2", "system": "Be brief.",
        "max_context_tokens": 9000, "prune": "importance",
    });
    assert_eq!(
        report,
        json!({"updated": [{"session_id": id, "changes": changes}], "unchanged": 0, "failed": []})
    );
    assert_eq!(sets(&env, &id), [changes]);
    let shown = info(&env, &id);
    assert_eq!(shown["metadata"]["title"], "Häuser 🏠");
    assert_eq!(shown["metadata"]["tags"], json!(["a", "b"]));
    assert_eq!(shown["system_prompt"], "Be brief.");

    let before = env.log(&id);
    let again = update(&env, all).ok().json();
    assert_eq!(
        again,
        json!({"updated": [], "unchanged": 1, "failed": []}),
        "a second time"
    );
    assert_eq!(env.log(&id), before, "nothing is written");

    let turn = env.chat("two").session(&id).run().ok().json();
    assert_eq!(turn["context_usage"]["max_context_tokens"], 9000);
    let request = env.server().last_request();
    assert_eq!(request.model(), "m2");
    assert_eq!(request.contents()[0], "Be brief.");
    assert_eq!(sets(&env, &id).len(), 1, "the turn has nothing to add");
}

#[test]
fn what_is_taken_away_is_gone_and_what_was_never_there_is_no_change() {
    let env = TestEnv::new();
    let with = ["--system", "Be brief."];
    let id = env.chat("one").args(with).run().session_id();
    let nothing = [&id, "--title", "", "--untag", "x"];
    assert_eq!(update(&env, nothing).ok().json()["unchanged"], 1);
    update(&env, [&id, "--title", "t", "--tag", "x"]).ok();
    let report = update(&env, [&id, "--title", "", "--untag", "x", "--system", ""]);
    assert_eq!(
        report.ok().json()["updated"][0]["changes"],
        json!({"title": "", "system": "", "tags": {"x": false}})
    );
    let shown = info(&env, &id);
    assert_eq!(
        (&shown["metadata"]["title"], &shown["system_prompt"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(shown["metadata"].get("tags"), None);
    env.chat("two").session(&id).run().ok();
    assert_eq!(env.server().last_request().roles()[0], "user");
}

#[test]
fn conditions_are_anded_and_a_dry_run_writes_nothing() {
    let env = TestEnv::new();
    let make = |prompt: &str, model: &str| {
        let turn = env.chat(prompt).args(["--model", model]);
        turn.run().session_id()
    };
    let (a, b, c) = (make("1", "m1"), make("2", "m1"), make("3", "m2"));
    update(&env, [&a, &b, "--tag", "work"]).ok();
    update(&env, [&a, "--title", "the roof"]).ok();
    update(&env, [&c, "--title", "a roof as well"]).ok();
    let rows: [(&[&str], &[&str]); 9] = [
        (&[], &[&a, &b, &c]),
        (&["model=m1"], &[&a, &b]),
        (&["tag=work"], &[&a, &b]),
        (&["tag=none"], &[]),
        (&["title~roof"], &[&a, &c]),
        (&["title~^$"], &[&b]),
        (&["title~roof", "model=m2"], &[&c]),
        (&["older-than=0"], &[&a, &b, &c]),
        (&["older-than=1d"], &[]),
    ];
    let before = env.records();
    for (conditions, expected) in rows {
        let conditions = conditions.iter().flat_map(|c| ["--where", c]);
        let args = ["--all", "--title", "new", "--dry-run"]
            .into_iter()
            .chain(conditions);
        let args: Vec<&str> = args.collect();
        let report = update(&env, args.iter().copied()).ok().json();
        assert_eq!(report["dry_run"], true);
        assert_eq!(ids(&report), expected, "{args:?}");
    }
    assert_eq!(env.records(), before, "a dry run writes nothing");
    let report = update(&env, ["--all", "--where", "title~roof", "--untag", "work"]);
    assert_eq!(ids(&report.ok().json()), [&a], "the other has no such tag");
    assert_eq!(info(&env, &b)["metadata"]["tags"], json!(["work"]));
}

#[test]
fn sessions_that_are_named_must_fit_as_well() {
    let env = TestEnv::new();
    let a = env.chat("1").args(["--model", "m1"]).run().session_id();
    let b = env.chat("2").args(["--model", "m2"]).run().session_id();
    let report = update(&env, [&a, &b[28..], "--where", "model=m2", "--tag", "x"]);
    let report = report.ok().json();
    assert_eq!(ids(&report), [&b]);
    assert_eq!(report["unchanged"], 0, "what is not meant is not counted");
}

#[test]
fn one_that_cannot_be_changed_is_told_and_the_others_go_on() {
    let env = TestEnv::new();
    let (a, b) = (
        env.chat("1").run().session_id(),
        env.chat("2").run().session_id(),
    );
    let newer = env.log(&a).replace("{\"v\":1,", "{\"v\":2,");
    env.write(env.log_path(&a), &newer);
    let output = update(&env, ["--all", "--tag", "x"]);
    output.prints_and_fails(7, "store_unsupported");
    let report = output.json();
    assert_eq!(ids(&report), [&b]);
    assert_eq!(report["failed"][0]["session_id"], a.as_str());
    assert_eq!(report["failed"][0]["code"], "store_unsupported");
    assert_eq!(env.log(&a), newer);
    update(&env, [&a, "--tag", "x"]).fails(7, "store_unsupported");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    let env = TestEnv::new();
    let id = env.chat("1").run().session_id();
    let rows: [&[&str]; 11] = [
        &[&id],
        &["--tag", "x"],
        &[&id, "--all", "--tag", "x"],
        &[&id, "--tag", ""],
        &[&id, "--tag", "x", "--untag", "x"],
        &[&id, "--model", " "],
        &[&id, "--max-context-tokens", "0"],
        &["--all", "--title", "x", "--where", "title~("],
        &["--all", "--title", "x", "--where", "colour=red"],
        &["--all", "--title", "x", "--where", "older-than=3"],
        &["null", "--title", "x"],
    ];
    let before = env.snapshot();
    for args in rows {
        update(&env, args.iter().copied()).fails(2, "usage");
    }
    let absent = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
    update(&env, [&id, absent, "--tag", "x"]).fails(3, "session_not_found");
    assert_eq!(env.snapshot(), before);
}

#[test]
fn a_store_that_cannot_be_written_says_so_unless_there_is_nothing_to_write() {
    let env = TestEnv::new();
    let id = env.chat("1").run().session_id();
    update(&env, [&id, "--tag", "x"]).ok();
    let directory = env.store().join("sessions").join(&id);
    let log = directory.join("events.jsonl");
    fs::set_permissions(&log, Permissions::from_mode(0o400)).expect("a mode");
    let refused = update(&env, [&id, "--tag", "y"]);
    if rustix::process::geteuid().is_root() {
        refused.ok();
    } else {
        refused.fails(7, "store_readonly");
    }
    assert_eq!(
        update(&env, [&id, "--tag", "x"]).ok().json()["unchanged"],
        1
    );
}

#[test]
fn many_updates_at_once_are_all_there() {
    let env = TestEnv::new();
    let id = env.chat("1").run().session_id();
    let tags: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let running: Vec<_> = tags
        .iter()
        .map(|tag| {
            env.command()
                .args(["session", "update", &id, "--tag", tag])
                .spawn()
        })
        .collect();
    for run in running {
        run.wait().ok();
    }
    assert_eq!(info(&env, &id)["metadata"]["tags"], json!(tags));
    assert_eq!(sets(&env, &id).len(), tags.len());
}
