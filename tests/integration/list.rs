//! `session list`: the sessions that are meant, in the order that is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{TestEnv, need};

/// A session as it was left behind: a header, turns, a title and tags.
pub(crate) struct Left<'a> {
    pub(crate) n: u64,
    pub(crate) model: &'a str,
    pub(crate) day: u64,
    pub(crate) turns: u64,
    pub(crate) set: Value,
}

pub(crate) fn session_id(n: u64) -> String {
    format!("0199aaaa-0000-7000-8000-{n:012x}")
}

pub(crate) fn event_id(ms: u64, n: u64) -> String {
    ulid::Ulid::from_parts(ms, u128::from(n)).to_string()
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const FIRST_DAY: u64 = 1_762_300_800_000; // 2025-11-05T00:00:00Z

/// Returns the log of a session, every line of it an event.
pub(crate) fn log_of(left: &Left<'_>) -> String {
    let Left {
        n,
        model,
        day,
        turns,
        set,
    } = left;
    let mut ms = FIRST_DAY + day * DAY_MS + n * 100;
    let mut log = String::new();
    let mut event = |kind: &str, rest: Value| {
        ms += 1;
        let ts = chrono::DateTime::from_timestamp_millis(i64::try_from(ms).expect("a time"));
        let ts = ts
            .expect("a time")
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let mut line =
            json!({"v": 1, "id": event_id(ms, *n), "type": kind, "ts": ts, "at": log.len()});
        let (Value::Object(line), Value::Object(rest)) = (&mut line, rest) else {
            panic!("events are objects");
        };
        line.extend(rest);
        writeln!(log, "{}", Value::from(line.clone())).expect("memory");
    };
    event(
        "session",
        json!({"model": model, "max_context_tokens": 64000}),
    );
    for turn in 0..*turns {
        event(
            "turn",
            json!({
                "model": model, "prompt": format!("question {turn} of {n}"), "response": format!("answer {turn}"),
                "tokens": {"prompt": 3, "response": 2, "counted": "measured"},
            }),
        );
    }
    if set.as_object().is_some_and(|set| !set.is_empty()) {
        event("set", set.clone());
    }
    log
}

/// Puts a session into a store, as a copy of it would.
pub(crate) fn leave(store: &Path, left: &Left<'_>) {
    let directory = store.join("sessions").join(session_id(left.n));
    let mut private = fs::DirBuilder::new();
    let made = private.recursive(true).mode(0o700).create(&directory);
    made.expect("a directory");
    let mut log = fs::OpenOptions::new();
    let log = log
        .create(true)
        .write(true)
        .mode(0o600)
        .open(directory.join("events.jsonl"));
    let mut log = log.expect("a log");
    log.write_all(log_of(left).as_bytes()).expect("writable");
}

/// Ten sessions: the number is the order of their ids, and each is used a day after the one before.
fn ten(env: &TestEnv) {
    for n in 0..10u64 {
        let set = match n {
            2 => json!({"title": "zebra", "tags": {"work": true, "old": true}}),
            5 => json!({"title": "Alpha", "tags": {"work": true, "old": false}}),
            7 => json!({"title": "beta \u{1b}[31m 日本", "tags": {"old": true}}),
            _ => json!({}),
        };
        leave(
            &env.store(),
            &Left {
                n,
                model: if n % 2 == 0 { "even:1b" } else { "odd:1b" },
                day: n,
                turns: (n * 7) % 10 + 1,
                set,
            },
        );
    }
}

fn list(env: &TestEnv, args: &str) -> Value {
    let args = args.split_whitespace();
    let output = env.command().args(["session", "list"]).args(args).run();
    output.ok().json()
}

/// Returns the numbers of the sessions that are shown, in their order.
fn shown(list: &Value) -> Vec<u64> {
    let sessions = list["sessions"].as_array().expect("sessions").iter();
    let number = |session: &Value| {
        let id = session["session_id"].as_str().expect("an id");
        u64::from_str_radix(&id[24..], 16).expect("a number")
    };
    sessions.map(number).collect()
}

#[test]
fn filters_choose_and_orders_sort_with_the_index_and_without() {
    let env = TestEnv::new();
    ten(&env);
    let rows: [(&str, &[u64], u64); 17] = [
        ("", &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0], 10),
        ("--limit 3", &[9, 8, 7], 10),
        ("--limit 0", &[], 10),
        ("--model even:1b", &[8, 6, 4, 2, 0], 5),
        ("--model even", &[], 0),
        ("--tag work", &[5, 2], 2),
        ("--tag old", &[7, 2], 2),
        ("--tag work --tag old", &[2], 1),
        ("--since 2025-11-12", &[9, 8, 7], 3),
        ("--until 2025-11-07", &[2, 1, 0], 3),
        ("--since 2025-11-08 --until 2025-11-09", &[4, 3], 2),
        ("--since 100d --until 2025-11-05T12:00:00Z", &[], 0),
        ("--sort created --limit 2", &[9, 8], 10),
        ("--sort messages --limit 3", &[7, 4, 1], 10),
        ("--sort tokens --limit 3 --model odd:1b", &[7, 1, 5], 5),
        ("--sort size --limit 2", &[7, 4], 10),
        ("--sort title --limit 4", &[5, 7, 2, 9], 10),
    ];
    for round in ["without an index", "with one"] {
        for (args, expected, total) in rows {
            let list = list(&env, args);
            assert_eq!(shown(&list), expected, "{round}: {args}");
            assert_eq!(list["total"], total, "{round}: {args}");
        }
    }
    let first = &list(&env, "--tag work --sort title")["sessions"][0];
    assert_eq!(first["title"], "Alpha");
    assert_eq!(first["tags"], json!(["work"]));
    let log = fs::metadata(env.log_path(&session_id(5))).expect("a log");
    assert_eq!(first["bytes"], log.len());
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let env = TestEnv::new();
    let rows = [
        "session list --since yesterday",
        "session list --sort colour",
        "session list --limit -1",
        "session list --output svg",
        "session list --output text",
        "--list-sessions --tag x",
    ];
    for line in rows {
        let failed = env.command().args(line.split_whitespace()).run();
        failed.fails(2, "usage");
    }
}

#[test]
fn a_list_of_ten_thousand_counts_them_all_in_little_memory() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    for n in 0..10_000 {
        let model = if n % 10 == 0 { "rare:1b" } else { "usual:1b" };
        leave(
            &env.store(),
            &Left {
                n,
                model,
                day: n % 10,
                turns: 1,
                set: json!({"title": format!("session {n}")}),
            },
        );
    }
    let all = list(&env, "");
    let numbers: BTreeSet<u64> = shown(&all).into_iter().collect();
    assert_eq!(
        (all["total"].as_u64(), numbers.len()),
        (Some(10_000), 10_000)
    );
    let some = list(
        &env,
        "--model rare:1b --since 2025-11-05 --until 2025-11-05 --limit 7",
    );
    assert_eq!((shown(&some).len(), &some["total"]), (7, &json!(1000)));
    // The index is there by now; what a warm list takes is what people meet.
    let warm = env.command().arg("--list-sessions");
    let measured = warm.through(["python3", "-c", PEAK]).run();
    let peak: u64 = measured.ok().stderr().trim().parse().expect("kilobytes");
    assert!(peak < 30_000, "{peak} KB");
    assert_eq!(measured.json()["total"], 10_000);
}

/// Runs its arguments and says on standard error how many kilobytes they had at the most.
const PEAK: &str = "
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)
";
