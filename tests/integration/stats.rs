//! `session stats`: what was used, counted once, as JSON, as a table with bars, and as a chart.

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use crate::list::{event_id, session_id};
use crate::support::{Reply, TestEnv, need, terminal};

/// Midnight before the first day.
const BEGIN: i64 = 1_762_300_800; // 2025-11-05T00:00:00Z

/// Returns the line of a turn of `day` with the server's figures.
fn turn(n: u64, day: i64, model: &str, usage: &Value) -> String {
    let ts = chrono::DateTime::from_timestamp(BEGIN + day * 86_400 + 3600, 0).expect("a time");
    let ms = u64::try_from(ts.timestamp_millis()).expect("after 1970") + n;
    let line = json!({
        "v": 1, "id": event_id(ms, n), "type": "turn", "ts": ts.to_rfc3339(), "model": model,
        "prompt": "p", "response": "r", "usage": usage,
    });
    format!("{line}\n")
}

fn usage(tokens_in: u64, tokens_out: u64, seconds: f64) -> Value {
    let nanoseconds = seconds * 1e9;
    json!({
        "prompt_eval_count": tokens_in, "eval_count": tokens_out, "eval_duration": nanoseconds as u64, "total_duration": 5,
    })
}

/// Ten sessions of a model each day, one of them a fork of another, one with a copy of its log.
fn ten(env: &TestEnv) {
    let mut logs: Vec<String> = (0..9u64)
        .map(|n| {
            let model = if n % 3 == 0 { "small:1b" } else { "large:70b" };
            let day = n as i64 / 2 * 2;
            turn(n * 10, day, model, &usage(100, 20, 2.0))
                + &turn(n * 10 + 1, day, model, &usage(200, 30, 3.0))
        })
        .collect();
    let fork = logs[1].clone() + &turn(999, 20, "large:70b", &json!({}));
    logs.push(fork);
    for (n, log) in logs.iter().enumerate() {
        env.write(env.log_path(&session_id(n as u64)), log);
    }
    let copy = env
        .log_path(&session_id(2))
        .with_file_name("events.copy.jsonl");
    env.write(copy, &logs[2]);
}

fn stats(env: &TestEnv, args: &[&str]) -> Value {
    env.command()
        .args(["session", "stats"])
        .args(args)
        .run()
        .ok()
        .json()
}

#[test]
fn every_turn_counts_once_in_all_by_model_and_by_day() {
    let env = TestEnv::new();
    ten(&env);
    let all = stats(&env, &[]);
    let figures = |value: &Value| {
        ["turns", "tokens_in", "tokens_out", "uncounted_turns"]
            .map(|key| value[key].as_u64().expect("a number"))
    };
    assert_eq!(figures(&all), [19, 2700, 450, 1]);
    assert_eq!(
        (&all["sessions"], &all["tokens_per_second"]),
        (&json!(10), &json!(10.0))
    );
    assert_eq!(all["total_duration"], 90);
    let models: Vec<&str> = all["models"]
        .as_array()
        .expect("models")
        .iter()
        .map(|of| of["model"].as_str().expect("a name"))
        .collect();
    assert_eq!(models, ["large:70b", "small:1b"]);
    assert_eq!(figures(&all["models"][1]), [6, 900, 150, 0]);
    let days: Vec<(&str, u64)> = all["days"]
        .as_array()
        .expect("days")
        .iter()
        .map(|of| {
            (
                of["day"].as_str().expect("a day"),
                of["turns"].as_u64().expect("a number"),
            )
        })
        .collect();
    assert_eq!(
        days,
        [
            ("2025-11-05", 4),
            ("2025-11-07", 4),
            ("2025-11-09", 4),
            ("2025-11-11", 4),
            ("2025-11-13", 2),
            ("2025-11-25", 1)
        ]
    );
    let size = |n: u64, name: &str| {
        let path = env.log_path(&session_id(n)).with_file_name(name);
        path.metadata().map_or(0, |file| file.len())
    };
    let bytes: u64 = (0..10)
        .map(|n| size(n, "events.jsonl") + size(n, "events.copy.jsonl"))
        .sum();
    assert_eq!(all["bytes"], bytes);

    let small = stats(&env, &["--model", "small:1b"]);
    assert_eq!(
        (figures(&small), &small["sessions"]),
        ([6, 900, 150, 0], &json!(3))
    );
    let some = stats(&env, &["--since", "2025-11-07", "--until", "2025-11-09"]);
    assert_eq!(
        (figures(&some), &some["sessions"]),
        ([8, 1200, 200, 0], &json!(4))
    );
    assert_eq!(figures(&stats(&env, &["--since", "2030-01-01"])), [0; 4]);
}

#[test]
fn failures_and_damage_are_told_and_retracted_turns_had_their_costs() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    env.server().enqueue(Reply::error(500, "out of memory"));
    env.chat("two").session(&id).run().fails(5, "server_error");
    let counted = stats(&env, &[]);
    assert_eq!(
        counted["failures"],
        json!({"total": 1, "by_code": {"server_error": 1}})
    );
    assert_eq!(stats(&env, &["--model", "none"])["failures"]["total"], 0);
    let turn = env.lines(&id)[1]["id"].clone();
    let ms = ulid::Ulid::from_string(turn.as_str().expect("an id"))
        .expect("an id")
        .timestamp_ms();
    let redact = json!({"v": 1, "id": event_id(ms + 1000, 1), "type": "redact", "turn": turn});
    env.write(
        env.log_path(&id),
        format!("{}debris\n{redact}\n", env.log(&id)),
    );
    let after = env.command().args(["session", "stats"]).run();
    assert!(
        after.ok().stderr().contains("1 unreadable places"),
        "{}",
        after.stderr()
    );
    assert_eq!(
        (&after.json()["turns"], &after.json()["tokens_out"]),
        (&json!(1), &counted["tokens_out"])
    );
}

#[test]
fn a_table_has_bars_in_proportion_and_fits_the_terminal() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    ten(&env);
    let table = || {
        env.command()
            .args(["session", "stats", "--output", "table"])
    };
    let whole = table().run();
    let line = |name: &str| {
        let line = whole.ok().stdout().lines().find(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("{name} in {}", whole.stdout()))
            .to_owned()
    };
    let bar = |line: &str| line.matches('█').count();
    assert_eq!(
        (
            bar(&line("2025-11-05")),
            bar(&line("2025-11-13")),
            bar(&line("2025-11-25"))
        ),
        (40, 20, 10)
    );
    assert!(
        line("10 sessions").contains("19 turns"),
        "{}",
        whole.stdout()
    );
    for columns in [50, 80] {
        let shown = table().through(terminal("o", columns)).run();
        for line in shown.ok().stdout().lines() {
            let line = line.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
            assert!(line.width() <= usize::from(columns), "{columns}: {line:?}");
        }
    }
}

#[test]
fn a_chart_is_one_drawing_the_same_each_time_and_its_text_is_escaped() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    let evil = "<script>alert(\"1\")</script>&";
    env.write(
        env.log_path(&session_id(1)),
        turn(1, 0, evil, &usage(1, 5, 1.0)) + &turn(2, 3, evil, &usage(1, 9, 1.0)),
    );
    for args in [&[][..], &["--model", evil], &["--since", "2030-01-01"]] {
        let draw = || {
            env.command()
                .args(["session", "stats", "--output", "svg"])
                .args(args)
                .run()
        };
        let svg = draw();
        assert_eq!(svg.ok().stdout(), draw().ok().stdout());
        assert!(!svg.stdout().contains("<script"), "{}", svg.stdout());
        let file = env.write("chart.svg", svg.stdout());
        let read = std::process::Command::new("python3")
            .args(["-c", READ])
            .arg(file)
            .output()
            .expect("python3 runs");
        let seen = String::from_utf8(read.stdout).expect("UTF-8");
        assert!(
            read.status.success(),
            "{}",
            String::from_utf8_lossy(&read.stderr)
        );
        let bars = if args.first() == Some(&"--since") {
            0
        } else {
            2
        };
        assert!(seen.starts_with(&format!("svg {bars} ")), "{seen}");
        assert_eq!(
            seen.contains(evil),
            args.first() == Some(&"--model"),
            "{seen}"
        );
    }
}

/// Reads a drawing as XML; says how many bars of the colour of turns are wider than a legend's,
/// and its text.
const READ: &str = "
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
bars = [r for r in root.iter() if r.tag.endswith('rect') and r.get('fill') == '#3465A4' and float(r.get('width')) > 12]
print(root.tag.split('}')[1], len(bars), ' '.join(t for t in root.itertext()))
";

#[test]
fn a_store_that_is_not_there_has_no_figures() {
    let env = TestEnv::new();
    let nothing = stats(&env, &[]);
    assert_eq!(
        (&nothing["turns"], &nothing["sessions"], &nothing["days"]),
        (&json!(0), &json!(0), &json!([]))
    );
    assert_eq!(nothing["tokens_per_second"], Value::Null);
    assert!(env.files().is_empty(), "and makes no store");
    env.command()
        .args(["session", "stats", "--output", "text"])
        .run()
        .fails(2, "usage");
}
