//! `session verify`: everything that may be wrong is told, and repaired without losing a byte.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::stores::{TABLE, owned, put, three_turns};
use crate::support::{Output, TestEnv, need};

fn verify(env: &TestEnv, args: &[&str]) -> Output {
    env.command().args(["session", "verify"]).args(args).run()
}

/// Returns the kinds a report tells, sorted; those that are no problem in brackets.
fn kinds(report: &Value) -> String {
    let of = |key: &str, shown: fn(&str) -> String| -> Vec<String> {
        let found = report[key].as_array().expect("a list").iter();
        found
            .map(|f| shown(f["kind"].as_str().expect("a kind")))
            .collect()
    };
    let mut kinds = of("problems", str::to_owned);
    kinds.extend(of("notes", |kind| format!("({kind})")));
    kinds.sort();
    kinds.join(" ")
}

fn prompts(env: &TestEnv, id: &str) -> Vec<String> {
    let info = env.command().args(["--session-info", id]).run().json();
    let messages = info["messages"].as_array().expect("messages").iter();
    messages
        .filter(|m| m["role"] == "user")
        .map(|m| m["content"].as_str().expect("text").to_owned())
        .collect()
}

/// All bytes of a session's logs and of what a repair moved aside, but for newlines, which a
/// repair may add; sorted, since it moves them.
fn all_bytes(dir: &Path) -> Vec<u8> {
    let files = fs::read_dir(dir).expect("a directory");
    let paths = files.map(|entry| entry.expect("an entry").path());
    let mut bytes: Vec<u8> = paths
        .filter(|path| path.symlink_metadata().is_ok_and(|m| m.is_file()))
        .flat_map(|path| fs::read(path).expect("readable"))
        .filter(|b| *b != b'\n')
        .collect();
    bytes.sort_unstable();
    bytes
}

#[test]
fn what_is_wrong_is_told_and_repaired_and_no_byte_is_lost() {
    for row in TABLE {
        let env = TestEnv::new();
        let (id, lines) = three_turns(&env);
        let dir = env.store().join("sessions").join(&id);
        (row.change)(&lines, &dir);
        let before = all_bytes(&dir);
        let said = if row.turns == 0 {
            let info = env.command().args(["--session-info", &id]).run();
            info.fails(7, "store_unsupported");
            Vec::new()
        } else {
            prompts(&env, &id)
        };
        assert_eq!(said.len(), row.turns, "{}", row.name);

        let told = verify(&env, &[]);
        let report = told.json();
        assert_eq!(kinds(&report), row.found, "{}\n{told}", row.name);
        assert_eq!(report["repaired"], Value::Null, "{}", row.name);
        let problems = report["problems"].as_array().map_or(0, Vec::len);
        if problems == 0 {
            told.ok();
        } else {
            told.prints_and_fails(9, "damaged");
        }
        for place in report["problems"].as_array().expect("a list") {
            assert_eq!(place["session_id"], *id, "{}", row.name);
            let path = env.store().join(place["path"].as_str().expect("a path"));
            assert!(path.symlink_metadata().is_ok(), "{}: {place}", row.name);
        }

        let repaired = verify(&env, &["--repair"]);
        repaired.ok();
        assert_eq!(repaired.json()["problems"], serde_json::json!([]));
        verify(&env, &[]).ok();
        assert_eq!(all_bytes(&dir), before, "{}: a byte is lost", row.name);
        let after = prompts(&env, &id);
        assert!(after.starts_with(&said), "{}: {after:?}", row.name);
        assert!(after.len() >= 2, "{}: {after:?}", row.name);

        let next = env.chat("next").session(&id).arg("--offline").run();
        if row.found.contains("newer_version") {
            next.fails(7, "store_unsupported");
            continue;
        }
        next.ok();
        let last = prompts(&env, &id).pop();
        // Ids order a session: what is dated 9000 stays before what was said after it.
        assert_eq!(last.as_deref(), Some("next"), "{}", row.name);
        verify(&env, &[]).ok();
    }
}

#[test]
fn a_repair_says_what_it_moved_where() {
    let env = TestEnv::new();
    let (id, lines) = three_turns(&env);
    let log = env.log_path(&id);
    put(&log, lines.0.join("\nhello\n") + "\n");

    let report = verify(&env, &[&id, "--repair"]).json();
    let moved = report["repaired"].as_array().expect("a list");
    assert_eq!(moved.len(), 3);
    assert_eq!(moved[0]["offset"], lines.0[0].len() + 1);
    assert_eq!(moved[0]["bytes"], 6);
    let aside = env
        .store()
        .join(moved[0]["moved_to"].as_str().expect("a path"));
    assert_eq!(
        fs::read_to_string(aside).expect("readable"),
        "hello\n".repeat(3)
    );
    assert_eq!(env.log(&id), lines.0.join("\n") + "\n");
    assert_eq!(kinds(&report), "(leftover)");
}

#[test]
fn what_is_no_log_and_no_session_is_told_and_never_followed() {
    let env = TestEnv::new();
    let (id, _) = three_turns(&env);
    let sessions = env.store().join("sessions");
    let outside = env.write("outside/events.jsonl", "mine\n");
    let link = sessions.join("019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33");
    std::os::unix::fs::symlink(outside.parent().expect("a directory"), &link).expect("a link");
    let other = sessions.join("019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a34");
    fs::create_dir(&other).expect("a directory");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).expect("permissions");
    std::os::unix::fs::symlink(&outside, other.join("events.jsonl")).expect("a link");
    fs::create_dir(sessions.join("notes")).expect("a directory");
    put(sessions.join(".tmp-x"), "");
    let told = verify(&env, &[]);
    told.prints_and_fails(9, "damaged");
    assert_eq!(
        kinds(&told.json()),
        "(foreign_name) (leftover) not_a_directory not_a_file"
    );
    verify(&env, &["--repair"]).ok();
    assert_eq!(fs::read_to_string(&outside).expect("readable"), "mine\n");
    assert_eq!(prompts(&env, &id).len(), 3);
    for dir in [&link, &other] {
        let name = dir.file_name().and_then(|n| n.to_str()).expect("an id");
        let next = env
            .chat("next")
            .session(name)
            .args(["--create", "--offline"]);
        next.run().ok();
    }
    verify(&env, &[]).ok();
}

#[test]
fn permissions_are_told_and_set_right() {
    let env = TestEnv::new();
    let (id, _) = three_turns(&env);
    let root = env.store();
    let log = env.log_path(&id);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    let session = log.parent().expect("a directory").to_owned();
    for (path, mode) in [(&log, 0o644), (&session, 0o755), (&root, 0o777)] {
        set(path, mode);
    }
    let told = verify(&env, &[]);
    told.prints_and_fails(9, "damaged");
    assert_eq!(kinds(&told.json()), "wrong_mode wrong_mode wrong_mode");
    assert_eq!(
        told.json()["problems"][2]["message"],
        "its mode is 0644 and should be 0600"
    );
    let repaired = verify(&env, &["--repair"]);
    assert_eq!(
        repaired.ok().json()["repaired"].as_array().map(Vec::len),
        Some(3)
    );
    assert_eq!(
        (mode(&log), mode(&session), mode(&root)),
        (0o600, 0o700, 0o700)
    );
}

#[test]
fn permissions_of_a_blob_and_of_its_directory_are_set_right() {
    let env = TestEnv::new();
    let (id, _) = three_turns(&env);
    let blobs = env.store().join("sessions").join(&id).join("blobs");
    // SHA-256 of "bytes".
    let name = "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9";
    let blob = env.write(blobs.join(name), "bytes");
    for (blob_mode, blobs_mode, wrong) in [(0o644, 0o700, 1), (0o640, 0o755, 2)] {
        for (path, mode) in [(&blob, blob_mode), (&blobs, blobs_mode)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
        }
        verify(&env, &[]).prints_and_fails(9, "damaged");
        let repaired = verify(&env, &["--repair"]).ok().json();
        assert_eq!(
            repaired["repaired"].as_array().map(Vec::len),
            Some(wrong),
            "{repaired}"
        );
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&blob), mode(&blobs)), (0o600, 0o700));
    }
}

#[test]
fn receipts_are_read_and_repaired() {
    let env = TestEnv::new();
    let (id, _) = three_turns(&env);
    let receipt = format!(
        r#"{{"v":1,"session":"{id}","turns":1,"bytes":1,"last_used":null,"purged_at":"2026-11-21T00:00:00Z","why":"test"}}"#
    );
    let path = env.store().join("purged.jsonl");
    put(&path, format!("{receipt}\ngarbage\n{receipt}\ntorn"));
    owned(&path);
    let told = verify(&env, &[]);
    told.prints_and_fails(9, "damaged");
    assert_eq!(
        kinds(&told.json()),
        "(torn_tail) (void_receipt) (void_receipt) damaged_receipt"
    );
    verify(&env, &["--repair"]).ok();
    assert_eq!(
        fs::read_to_string(&path).expect("readable"),
        format!("{receipt}\n{receipt}\n")
    );
}

#[test]
fn a_first_turn_cut_short_and_a_failed_one_are_no_problem() {
    let env = TestEnv::new();
    let (_, _) = three_turns(&env);
    let dir = env
        .store()
        .join("sessions/019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33");
    fs::create_dir(&dir).expect("a directory");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("permissions");
    let refused = env
        .chat("x")
        .env("OLLAMA_HOST", crate::support::NOBODY_LISTENS);
    refused.run().fails(4, "server_unreachable");
    let told = verify(&env, &[]);
    told.ok();
    assert_eq!(kinds(&told.json()), "(no_event) (unfinished_turn)");
}

#[test]
fn a_line_of_100_megabytes_takes_little_memory() {
    if !need("bash") {
        return;
    }
    let env = TestEnv::new();
    let (id, lines) = three_turns(&env);
    let long = "x".repeat(100 << 20);
    put(env.log_path(&id), lines.0.join("\n") + "\n" + &long + "\n");
    // 192 MiB of address space, of which the program itself takes about 20. To a second thread, be it
    // one that waits for signals, the C library sets 64 MiB more aside, which nobody uses.
    let bounded = |args: &[&str]| {
        let run = env.command().args(["session", "verify"]).args(args);
        let run = run.env("MALLOC_ARENA_MAX", "1");
        let limit = "ulimit -v 196608; exec \"$0\" \"$@\"";
        run.through(["bash", "-c", limit]).run()
    };
    let told = bounded(&[]);
    told.prints_and_fails(9, "damaged");
    assert_eq!(told.json()["problems"][0]["bytes"], long.len() + 1);
    bounded(&["--repair"]).ok();
    assert_eq!(env.log(&id), lines.0.join("\n") + "\n");
}

#[test]
fn named_sessions_only_and_no_store_at_all() {
    let env = TestEnv::new();
    assert_eq!(verify(&env, &[]).ok().json()["checked"]["sessions"], 0);
    let nobody = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
    verify(&env, &[nobody]).fails(3, "session_not_found");
    let (first, _) = three_turns(&env);
    let (second, _) = three_turns(&env);
    put(env.log_path(&first), "garbage\n");
    verify(&env, &[nobody]).fails(3, "session_not_found");
    verify(&env, &[&second]).ok();
    verify(&env, &[&second, &first[..23]]).prints_and_fails(9, "damaged");
    let report = verify(&env, &[&second]).json();
    assert_eq!(report["checked"]["sessions"], 1);
    assert_eq!(report["checked"]["lines"], 4);
    assert_eq!(report["checked"]["bytes"], env.log(&second).len());
}
