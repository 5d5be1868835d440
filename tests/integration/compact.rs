//! Compaction: what it takes away, what it never does, and what is left when it is cut short.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ulid::Ulid;

use crate::support::{PATIENCE, TestEnv, need};

/// Takes turns in a new session; returns its id.
fn conversation(env: &TestEnv, turns: usize) -> String {
    let id = env.chat("question 1").replies("answer 1").session_id();
    for n in 2..=turns {
        env.chat(&format!("question {n}"))
            .session(&id)
            .replies(&format!("answer {n}"));
    }
    id
}

fn compact(env: &TestEnv, id: &str) -> Value {
    env.command()
        .args(["session", "compact", id])
        .run()
        .ok()
        .json()
}

/// Returns all that is said of a session but what could not be read.
fn info(env: &TestEnv, id: &str) -> Value {
    let mut info = env.command().args(["--session-info", id]).run().ok().json();
    info["metadata"]
        .as_object_mut()
        .expect("metadata")
        .remove("unreadable");
    info
}

/// Returns an id that sorts so many milliseconds after another.
fn later(id: &Value, ms: u64) -> String {
    let id = Ulid::from_string(id.as_str().expect("an id")).expect("an id");
    Ulid::from_parts(id.timestamp_ms() + ms, id.random()).to_string()
}

/// Appends bytes to a log as a program does that knows no lock.
fn append(env: &TestEnv, id: &str, bytes: &str) {
    let log = env.log(id) + bytes;
    env.write(env.log_path(id), log);
}

fn redact(env: &TestEnv, id: &str, turn: &Value, fields: Value) {
    let last = env.lines(id).last().expect("a line")["id"].clone();
    let line = json!({
        "v": 1, "id": later(&last, 1), "type": "redact", "ts": "2026-11-21T23:18:00.000Z", "turn": turn, "fields": fields,
    });
    append(env, id, &format!("{line}\n"));
}

fn session_dir(env: &TestEnv, id: &str) -> PathBuf {
    env.store().join("sessions").join(id)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|e| {
            e.expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort_unstable();
    names
}

/// Returns the files of a session with their bytes.
fn bytes_of(env: &TestEnv, id: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = session_dir(env, id);
    let read = |name: String| {
        (
            name.clone(),
            fs::read(directory.join(name)).expect("readable"),
        )
    };
    names(&directory).into_iter().map(read).collect()
}

fn turns_of(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["type"] == "turn").collect()
}

/// A session with everything compaction is for: lines twice, in two logs, in no order, damage of
/// several kinds, a torn tail, a redaction.
fn messy(env: &TestEnv) -> String {
    let id = conversation(env, 3);
    let before = env.log(&id);
    env.chat("question 4").session(&id).replies("answer 4");
    redact(
        env,
        &id,
        &env.lines(&id)[2]["id"],
        json!({"prompt": [[9, 10]]}),
    );
    let copy = session_dir(env, &id).join("events.sync-conflict.jsonl");
    let lines: Vec<&str> = before.lines().rev().collect();
    env.write(copy, format!("{}\n<<<<<<< ours\n", lines.join("\n")));
    append(env, &id, "garbage\n\0\0\n{\"v\":1,\"id\":\"torn");
    id
}

#[test]
fn a_mess_becomes_one_log_in_order_that_says_the_same() {
    let env = TestEnv::new();
    let id = messy(&env);
    let before = info(&env, &id);

    let done = compact(&env, &id);
    let session = &done["compacted"][0];
    assert_eq!(session["session_id"], id.as_str());
    assert_eq!(session["dropped_duplicates"], 4);
    assert_eq!(session["dropped_turns"], 0);
    let aside = session["damaged_bytes_moved_to"]
        .as_str()
        .expect("damage was moved");
    assert_eq!(names(&session_dir(&env, &id)), [aside, "events.jsonl"]);
    let size: u64 = bytes_of(&env, &id)
        .values()
        .map(|bytes| bytes.len() as u64)
        .sum();
    assert_eq!(session["bytes_after"], size);
    let freed = session["bytes_before"].as_u64().expect("bytes") - size;
    assert_eq!(done["bytes_freed"], freed);

    let moved = fs::read_to_string(session_dir(&env, &id).join(aside)).expect("readable");
    assert_eq!(moved, "<<<<<<< ours\n\ngarbage\n\n{\"v\":1,\"id\":\"torn\n");
    for name in [aside, "events.jsonl"] {
        let mode = fs::metadata(session_dir(&env, &id).join(name))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(info(&env, &id), before);
    let ids: Vec<String> = env
        .lines(&id)
        .iter()
        .map(|line| line["id"].to_string())
        .collect();
    assert!(ids.is_sorted(), "{ids:?}");

    env.chat("and now?").session(&id).replies("now");
    let sent = env.server().last_request();
    assert_eq!(sent.roles().len(), 9, "the next turn has all of them");
    let stated = env.lines(&id);
    assert_eq!(
        stated[stated.len() - 2]["type"],
        "prune",
        "the horizon is stated anew"
    );
}

#[test]
fn what_needs_no_compaction_is_not_touched() {
    let env = TestEnv::new();
    let id = conversation(&env, 3);
    let messy = messy(&env);
    compact(&env, &messy);
    for id in [&id, &messy] {
        let stat = |env: &TestEnv| {
            fs::metadata(env.log_path(id)).map(|m| (m.ino(), m.mtime_nsec(), m.ctime_nsec()))
        };
        let (bytes, before) = (bytes_of(&env, id), stat(&env).expect("there"));
        let done = compact(&env, id);
        assert_eq!(
            (&done["compacted"], &done["unchanged"]),
            (&json!([]), &json!(1))
        );
        assert_eq!(
            (bytes_of(&env, id), stat(&env).expect("there")),
            (bytes, before)
        );
    }
    let all = env
        .command()
        .args(["session", "compact", "--all"])
        .run()
        .ok()
        .json();
    assert_eq!(all["unchanged"], 2);
}

#[test]
fn redacted_text_is_seen_nowhere_and_compaction_takes_it_off_the_disk() {
    let env = TestEnv::new();
    let id = env
        .chat("my password is hunter2, ok?")
        .replies("noted: hunter2")
        .session_id();
    env.chat("a second secret")
        .session(&id)
        .replies("also secret");
    env.chat("a third").session(&id).replies("fine");
    let lines = env.lines(&id);
    let turns = turns_of(&lines);
    let with_news = env
        .log(&id)
        .replacen("\"model\":", "\"news\":{\"n\": 1.10},\"model\":", 2);
    env.write(env.log_path(&id), with_news);
    redact(
        &env,
        &id,
        &turns[0]["id"],
        json!({"prompt": [[15, 22]], "response": [[7, 999]]}),
    );
    redact(&env, &id, &turns[1]["id"], json!({}));

    let check = |when: &str| {
        let info = info(&env, &id);
        let text = info.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("secret"),
            "{when}: {text}"
        );
        assert_eq!(
            info["messages"][0]["content"], "my password is [redacted], ok?",
            "{when}"
        );
        assert_eq!(
            info["messages"][1]["content"], "noted: [redacted]",
            "{when}"
        );
        assert_eq!(info["message_count"], 4, "{when}");
        assert_eq!(
            info["metadata"]["retracted"],
            json!([turns[1]["id"]]),
            "{when}"
        );
        info
    };
    let before = check("before");
    let done = compact(&env, &id);
    assert_eq!(done["compacted"][0]["dropped_turns"], 0);
    assert_eq!(check("after"), before);
    let log = env.log(&id);
    assert!(!log.contains("hunter2") && !log.contains("secret"), "{log}");
    assert!(log.contains("my password is *******, ok?"), "{log}");
    assert_eq!(
        log.matches("\"news\":{\"n\": 1.10}").count(),
        2,
        "what nobody knows is kept: {log}"
    );
    let now = env.lines(&id);
    assert!(
        lines
            .iter()
            .zip(&now)
            .all(|(then, now)| then["id"] == now["id"])
    );
    assert_eq!(compact(&env, &id)["unchanged"], 1, "once is enough");

    let list = env
        .command()
        .arg("--list-sessions")
        .run()
        .ok()
        .stdout()
        .to_owned();
    assert!(
        !list.contains("hunter2") && !list.contains("secret"),
        "{list}"
    );
    for _ in 0..2 {
        env.chat("what do you know?").session(&id).replies("little");
        let sent = env.server().last_request().contents().join("\n");
        assert!(
            !sent.contains("hunter2") && !sent.contains("secret"),
            "{sent}"
        );
        assert!(sent.contains("my password is [redacted], ok?"), "{sent}");
    }
}

/// Also where the log is read from its end, and the retraction lies behind or before the horizon.
#[test]
fn what_is_retracted_stays_so_for_the_turns_that_follow() {
    let env = TestEnv::new();
    let id = conversation(&env, 4);
    redact(&env, &id, &turns_of(&env.lines(&id))[1]["id"], json!({}));
    for n in 5..9 {
        env.chat(&format!("question {n}"))
            .session(&id)
            .replies("yes");
        let request = env.server().last_request();
        assert!(!request.contents().join("\n").contains("question 2"));
        assert_eq!(request.roles().len(), 2 * (n - 2) + 1, "turn {n}");
    }
}

#[test]
fn turns_that_nobody_is_sent_any_more_go_when_that_is_asked_for() {
    let env = TestEnv::new();
    let say = |n: usize, id: Option<&str>| {
        let text = format!("question {n} {}", "word ".repeat(150));
        let run = env
            .chat(&text)
            .args(["--max-context-tokens", "1000", "--max_tokens", "50"]);
        let run = id.into_iter().fold(run, |run, id| run.session(id));
        run.replies("yes").json()
    };
    let id = say(1, None)["session_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let mut last = Value::Null;
    for n in 2..12 {
        last = say(n, Some(&id));
    }
    assert!(
        last["context_usage"]["dropped_turns"].as_u64() > Some(3),
        "{last}"
    );
    redact(&env, &id, &turns_of(&env.lines(&id))[10]["id"], json!({}));
    let before = info(&env, &id);
    assert_eq!(compact(&env, &id)["compacted"][0]["dropped_turns"], 0);
    assert_eq!(info(&env, &id), before);

    let run = || {
        env.command()
            .args(["session", "compact", "--drop-pruned", &id])
            .run()
            .ok()
            .json()
    };
    let done = run();
    let behind = 11
        - before["metadata"]["turns_in_context"]
            .as_u64()
            .expect("a count")
        - 1;
    assert_eq!(done["compacted"][0]["dropped_turns"], behind, "{done}");
    assert!(done["bytes_freed"].as_u64() > Some(350 * behind), "{done}");
    let after = info(&env, &id);
    let in_context = |info: &Value| -> Vec<Value> {
        let messages = info["messages"].as_array().expect("messages");
        messages
            .iter()
            .filter(|message| message["in_context"] == true)
            .cloned()
            .collect()
    };
    assert_eq!(in_context(&after), in_context(&before));
    assert_eq!(
        after["message_count"].as_u64(),
        Some(in_context(&before).len() as u64)
    );
    for key in ["created_at", "last_used", "context_tokens", "model_name"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert_eq!(env.lines(&id)[0]["type"], "session", "the header stays");
    assert_eq!(run()["unchanged"], 1);

    // The first turn after it reads the whole, the others from the end: their counts agree.
    let known = after["metadata"]["turns"].as_u64().expect("a count");
    for n in 12..18 {
        let usage = say(n, Some(&id))["context_usage"].clone();
        let kept = usage["kept_turns"].as_u64().expect("a count");
        assert_eq!(
            usage["dropped_turns"].as_u64(),
            Some(known + n as u64 - 12 - kept),
            "turn {n}: {usage}"
        );
    }
}

#[test]
fn writers_and_compactions_at_once_lose_nothing() {
    let env = TestEnv::new();
    let id = env.chat("first").arg("--offline").run().session_id();
    let running = AtomicUsize::new(8);
    let mut acknowledged: Vec<String> = thread::scope(|scope| {
        let writer = |writer: usize| {
            let (env, id, running) = (&env, &id, &running);
            move || -> Vec<String> {
                let turn = |n| {
                    let run = env
                        .chat(&format!("{writer}-{n}"))
                        .args(["--offline", "-q"])
                        .session(id)
                        .run();
                    run.ok().json()["turn"]["id"]
                        .as_str()
                        .expect("an id")
                        .to_owned()
                };
                let ids = (0..8).map(turn).collect();
                running.fetch_sub(1, Ordering::SeqCst);
                ids
            }
        };
        let writers: Vec<_> = (0..8).map(|n| scope.spawn(writer(n))).collect();
        let mut rewritten = 0;
        while running.load(Ordering::SeqCst) > 0 {
            // A line of garbage, appended as a turn is, gives every compaction something to do.
            let mut log = fs::OpenOptions::new()
                .append(true)
                .open(env.log_path(&id))
                .expect("there");
            std::io::Write::write_all(&mut log, b"garbage\n").expect("writable");
            rewritten += compact(&env, &id)["compacted"]
                .as_array()
                .expect("a list")
                .len();
        }
        assert!(
            rewritten > 3,
            "only {rewritten} compactions had something to do"
        );
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer ends well"))
            .collect()
    });
    acknowledged.sort_unstable();
    let lines = env.lines(&id);
    let mut kept: Vec<&str> = turns_of(&lines)[1..]
        .iter()
        .map(|t| t["id"].as_str().expect("an id"))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept.len(), 64);
    assert_eq!(kept, acknowledged);
}

/// Copies a session's files over those that are there.
fn restore(env: &TestEnv, id: &str, files: &BTreeMap<String, Vec<u8>>) {
    let directory = session_dir(env, id);
    fs::remove_dir_all(&directory).expect("removable");
    for (name, bytes) in files {
        env.write(directory.join(name), bytes);
    }
}

#[test]
fn killed_at_any_system_call_it_leaves_the_old_log_or_the_new() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = messy(&env);
    let (old, said) = (bytes_of(&env, &id), info(&env, &id));
    compact(&env, &id);
    let new = env.log(&id);
    let mut cuts = 0;
    for call in [
        "openat",
        "write",
        "copy_file_range",
        "fdatasync",
        "fsync",
        "renameat",
        "unlinkat",
        "pread64",
        "flock",
    ] {
        for nth in 1.. {
            restore(&env, &id, &old);
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let run = env.command().args(["session", "compact", &id]);
            let run = run
                .through(["strace", "-qq", "-o", "/dev/null", "-e", &inject])
                .run();
            if run.signal() != Some(9) {
                run.ok();
                assert!(
                    nth > 1 || call == "copy_file_range",
                    "{call} is never called: the list is out of date"
                );
                break;
            }
            cuts += 1;
            let when = format!("cut before {call} {nth}");
            let log = fs::read(env.log_path(&id)).expect("the log is there");
            assert!(
                log == old["events.jsonl"] || log == new.as_bytes(),
                "{when}"
            );
            assert_eq!(info(&env, &id), said, "{when}");
            compact(&env, &id);
            assert_eq!(
                (env.log(&id), info(&env, &id)),
                (new.clone(), said.clone()),
                "{when}, then again"
            );
        }
    }
    assert!(cuts > 30, "{cuts} cuts");
    env.chat("still there?").session(&id).replies("yes");
    assert_eq!(env.server().last_request().roles().len(), 9);
}

#[test]
fn without_room_for_the_new_log_the_old_one_stays() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = messy(&env);
    let before = bytes_of(&env, &id);
    for inject in [
        "write:error=ENOSPC:when=1",
        "write:error=ENOSPC:when=3",
        "fdatasync:error=EDQUOT:when=2",
    ] {
        let inject = format!("inject={inject}");
        let run = env.command().args(["session", "compact", &id]);
        let run = run
            .through(["strace", "-qq", "-o", "/dev/null", "-e", &inject])
            .run();
        run.fails(7, "store_full");
        assert_eq!(bytes_of(&env, &id), before, "{inject}");
    }
    compact(&env, &id);
}

#[test]
fn where_locks_do_not_work_nothing_is_rewritten() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = messy(&env);
    let before = bytes_of(&env, &id);
    let run = env.command().args(["session", "compact", &id]);
    let run = run
        .through([
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=flock:error=ENOLCK",
        ])
        .run();
    let failure = run.fails(7, "store_unsupported");
    assert!(
        failure.error.contains("locks do not work"),
        "{}",
        failure.error
    );
    assert_eq!(failure.session_id.as_deref(), Some(id.as_str()));
    assert_eq!(bytes_of(&env, &id), before);
}

/// A mount where a lock excludes nobody: the turn lands between the reading and the rename.
#[test]
fn a_turn_that_came_in_without_a_lock_is_taken_over() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = conversation(&env, 2);
    let last = env.lines(&id).pop().expect("a line");
    append(&env, &id, "garbage\n");
    let mut late = last.clone();
    late["id"] = later(&last["id"], 5).into();
    late["prompt"] = "late".into();
    let old = fs::OpenOptions::new()
        .append(true)
        .open(env.log_path(&id))
        .expect("there");
    let run = env.command().args(["session", "compact", &id]);
    let running = run
        .through([
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=renameat:delay_enter=2s",
        ])
        .spawn();
    let deadline = Instant::now() + PATIENCE;
    while !names(&session_dir(&env, &id))
        .iter()
        .any(|name| name.starts_with(".tmp-"))
    {
        assert!(Instant::now() < deadline, "no temporary file");
        thread::sleep(Duration::from_millis(1));
    }
    std::io::Write::write_all(&mut &old, format!("{late}\n").as_bytes()).expect("writable");
    running.wait().ok();
    assert_eq!(env.lines(&id).last(), Some(&late));
}

#[test]
fn what_killed_processes_left_is_swept_when_it_is_an_hour_old() {
    let env = TestEnv::new();
    let id = conversation(&env, 1);
    let (old, young) = (
        session_dir(&env, &id).join(".tmp-old"),
        session_dir(&env, &id).join(".tmp-young"),
    );
    env.write(&old, "x");
    env.write(&young, "x");
    let two_hours_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    fs::File::options()
        .write(true)
        .open(&old)
        .and_then(|f| f.set_modified(two_hours_ago))
        .expect("a new time");
    compact(&env, &id);
    assert_eq!(
        names(&session_dir(&env, &id)),
        [".tmp-young", "events.jsonl"]
    );
}

#[test]
fn blobs_nobody_names_go_when_they_are_an_hour_old() {
    let env = TestEnv::new();
    let id = conversation(&env, 1);
    let [named, unnamed, young] = ["a", "b", "c"].map(|digit| digit.repeat(64));
    let log = env
        .log(&id)
        .replace("\"model\":", &format!("\"new\":[\"{named}\"],\"model\":"));
    env.write(env.log_path(&id), log);
    for name in [&named, &unnamed, &young] {
        let path = env.write(session_dir(&env, &id).join("blobs").join(name), "bytes");
        if *name != young {
            let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            fs::File::options()
                .write(true)
                .open(path)
                .and_then(|f| f.set_modified(long_ago))
                .expect("a new time");
        }
    }
    assert_eq!(compact(&env, &id)["bytes_freed"], 5);
    assert_eq!(names(&session_dir(&env, &id).join("blobs")), [named, young]);
}

#[test]
fn what_cannot_be_compacted_is_told_and_left() {
    let env = TestEnv::new();
    let nobody = "0199aabb-ccdd-7fff-bfff-ffffffffffff";
    env.command()
        .args(["session", "compact", nobody])
        .run()
        .fails(3, "session_not_found");
    env.command()
        .args(["session", "compact"])
        .run()
        .fails(2, "usage");
    env.command()
        .args(["session", "compact", "--all", nobody])
        .run()
        .fails(2, "usage");
    let (good, bad) = (messy(&env), messy(&env));
    env.command()
        .args(["session", "compact", nobody])
        .run()
        .fails(3, "session_not_found");
    fs::create_dir(session_dir(&env, &bad).join("no-log.jsonl")).expect("a directory");
    let before = fs::read(env.log_path(&bad)).expect("there");
    let both = env.command().args(["session", "compact", "--all"]).run();
    let failure = both.prints_and_fails(7, "store_unsupported");
    assert_eq!(failure.session_id.as_deref(), Some(bad.as_str()));
    assert_eq!(both.json()["compacted"][0]["session_id"], good.as_str());
    assert_eq!(fs::read(env.log_path(&bad)).expect("there"), before);

    let newer = conversation(&env, 1);
    let last = env.lines(&newer).pop().expect("a line")["id"].clone();
    let line = format!(
        "{{\"v\":2,\"id\":\"{}\",\"type\":\"turn\",\"ts\":\"2026-01-01T00:00:00Z\"}}\ngarbage\n",
        later(&last, 1)
    );
    append(&env, &newer, &line);
    env.command()
        .args(["session", "compact", &newer])
        .run()
        .fails(7, "store_unsupported");
}
