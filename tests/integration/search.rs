//! `session search`: what was said is found as it was said, once, wherever its address leads, and
//! never what is hidden.

use std::fs;

use serde_json::{Value, json};

use crate::list::{Left, event_id, leave, log_of, session_id};
use crate::support::{Output, Reply, TestEnv, need};

fn search(env: &TestEnv, args: &[&str]) -> Output {
    let output = env.command().args(["session", "search"]).args(args).run();
    output.ok();
    output
}

fn found(env: &TestEnv, args: &[&str]) -> Vec<Value> {
    search(env, args).json_lines()
}

/// Returns role and snippet of each line.
fn said(lines: &[Value]) -> Vec<(&str, &str)> {
    let lines = lines.iter();
    let pairs = lines.map(|line| (line["role"].as_str(), line["snippet"].as_str()));
    pairs
        .map(|(role, said)| (role.expect("a role"), said.expect("a snippet")))
        .collect()
}

#[test]
fn what_was_said_is_found_as_it_was_said_and_not_as_json() {
    let env = TestEnv::new();
    env.chat("say \"hi\" in C:\\temp\nthen a tab\there")
        .args(["--system", "Be brief: caf\u{e9} 日本 🦀"])
        .replies("first line\nsecond line, \u{1b}[31mred\u{2028}end");
    let rows: [(&[&str], usize); 18] = [
        (&["say \"hi\""], 1),
        (&["\\\\\""], 0),
        (&[r"C:\\temp"], 1),
        (&["--fixed", r"C:\temp"], 1),
        (&["--fixed", r"\n"], 0),
        (&[r"temp\nthen"], 1),
        (&[r"\there"], 1),
        (&["^second line"], 1),
        (&["line$"], 1),
        (&["é 日. 🦀"], 1),
        (&["\u{1b}\\[31m"], 1),
        (&[r"red\x{2028}end"], 1),
        (&["SECOND"], 0),
        (&["-i", "SECOND"], 1),
        (&["--smart-case", "be brief"], 1),
        (&["--smart-case", "BE brief"], 0),
        (&["prompt|response|content"], 0),
        (&["no such thing"], 0),
    ];
    for (args, expected) in rows {
        assert_eq!(found(&env, args).len(), expected, "{args:?}");
    }
    assert_eq!(search(&env, &["no such thing"]).stdout(), "");
}

#[test]
fn a_line_says_where_and_its_address_is_taken_by_other_verbs() {
    let env = TestEnv::new();
    let id = env
        .chat("where is the needle")
        .replies("in the haystack")
        .session_id();
    let lines = found(&env, &["needle|hay"]);
    assert_eq!(
        said(&lines),
        [
            ("user", "where is the needle"),
            ("assistant", "in the haystack")
        ]
    );
    let turn = env.lines(&id)[1]["id"].clone();
    let first = &lines[0];
    assert_eq!((&first["session_id"], &first["turn"]), (&json!(id), &turn));
    assert_eq!(
        (&first["matches"], &first["count"]),
        (&json!([[13, 19]]), &json!(1))
    );
    assert_eq!(first["timestamp"], env.lines(&id)[1]["ts"]);
    let address = first["address"].as_str().expect("an address");
    for verb in [
        &["session", "show", address][..],
        &["session", "show", address, "--context"],
        &["session", "pin", address],
        &["session", "unpin", address],
        &["session", "verify", address],
        &["session", "prune", address],
        &["session", "compact", address],
        &["session", "search", "needle", address],
    ] {
        env.command().args(verb).run().ok();
    }
    env.command()
        .args(["session", "delete", address])
        .run()
        .fails(2, "usage");
    let text = search(&env, &["needle", "--output", "text"]);
    let shown = text.stdout();
    let short = shown.split_whitespace().next().expect("an address");
    let again = env.command().args(["session", "show", short]).run();
    assert_eq!(
        again.ok().json()["messages"][0]["content"],
        "where is the needle"
    );
    assert!(shown.ends_with("user: where is the needle\n"), "{shown}");
}

#[test]
fn roles_models_and_times_narrow_it_down() {
    let env = TestEnv::new();
    env.server()
        .enqueue(Reply::text("needle said").thinking("needle thought"));
    let asked = env
        .chat("needle asked")
        .args(["--system", "needle set", "--model", "one:1b"])
        .run();
    let id = asked.ok().session_id();
    env.chat("needle again")
        .session(&id)
        .args(["--model", "two:1b"])
        .replies("nothing");
    let roles = |args: &[&str]| -> Vec<String> {
        let args: Vec<&str> = ["needle"].iter().chain(args).copied().collect();
        let lines = found(&env, &args);
        lines
            .iter()
            .map(|line| line["role"].as_str().expect("a role").to_owned())
            .collect()
    };
    assert_eq!(roles(&[]), ["system", "user", "assistant", "user"]);
    assert_eq!(roles(&["--role", "thinking"]), ["thinking"]);
    assert_eq!(
        roles(&["--role", "assistant", "--role", "system"]),
        ["system", "assistant"]
    );
    assert_eq!(roles(&["--model", "two:1b"]), ["user"]);
    assert_eq!(roles(&["--since", "1h"]).len(), 4);
    assert!(roles(&["--until", "2025-01-01"]).is_empty());
    assert_eq!(roles(&["--limit", "2"]), ["system", "user"]);
    let counts = found(&env, &["needle|again", "--count"]);
    assert_eq!(
        counts,
        [json!({"session_id": id, "messages": 4, "matches": 5})]
    );
    assert_eq!(found(&env, &["needle", "-l"]), [json!({"session_id": id})]);
}

#[test]
fn what_is_retracted_or_redacted_is_not_found_whatever_the_order() {
    let env = TestEnv::new();
    let id = env
        .chat("the secret word and the rest")
        .replies("secret too")
        .session_id();
    env.chat("retract this secret")
        .session(&id)
        .replies("gone secret");
    env.chat("a secret that stays").session(&id).replies("fine");
    let lines = env.lines(&id);
    let ms = |line: &Value| {
        let id = ulid::Ulid::from_string(line["id"].as_str().expect("an id"));
        id.expect("an id").timestamp_ms()
    };
    let last = ms(lines.last().expect("a line"));
    let redact = |n: u64, fields: Value, turn: &Value| {
        let event = json!({
            "v": 1, "id": event_id(last + n, 1), "type": "redact", "ts": "2026-11-21T23:18:00.000Z",
            "turn": turn, "fields": fields,
        });
        format!("{event}\n")
    };
    let hides = redact(
        1,
        json!({"prompt": [[4, 10]], "response": [[0, 6]]}),
        &lines[1]["id"],
    );
    let retracts = redact(2, json!({}), &lines[2]["id"]);
    let log = env.log(&id);
    for shuffled in [
        format!("{log}{hides}{retracts}"),
        format!("{retracts}{hides}{log}"),
    ] {
        env.write(env.log_path(&id), shuffled);
        let all = found(&env, &["secret"]);
        assert_eq!(said(&all), [("user", "a secret that stays")]);
        let rest = found(&env, &["the rest|too"]);
        assert_eq!(
            said(&rest),
            [
                ("user", "the [redacted] word and the rest"),
                ("assistant", "[redacted] too")
            ]
        );
    }
    let shown = env
        .command()
        .args(["session", "show", &id, "--output", "text"])
        .run();
    assert!(
        !shown.ok().stdout().contains("retract this"),
        "{}",
        shown.stdout()
    );
}

#[test]
fn an_event_is_told_once_and_as_the_fold_has_it() {
    let env = TestEnv::new();
    let left = |n| Left {
        n,
        model: "m:1b",
        day: 0,
        turns: 2,
        set: json!({}),
    };
    leave(&env.store(), &left(1));
    let log = log_of(&left(1));
    let directory = env.store().join("sessions").join(session_id(1));
    // A conflict copy, and in it a line that was edited on one side: the greater one counts.
    let edited = log.replace("answer 1", "answer 9");
    env.write(directory.join("events.conflict.jsonl"), &edited);
    assert_eq!(found(&env, &["question 0"]).len(), 1);
    assert!(found(&env, &["answer 1"]).is_empty());
    assert_eq!(found(&env, &["answer 9"]).len(), 1);
    // Another session that began with these turns, ids and all.
    env.write(env.log_path(&session_id(2)), &edited);
    assert_eq!(found(&env, &["question"]).len(), 2);
    assert_eq!(
        found(&env, &["question", "--files-with-matches"]).len(),
        2,
        "both have it"
    );
    let named = found(&env, &["question", &session_id(1)]);
    assert_eq!(named[0]["session_id"], session_id(1));
}

#[test]
fn damage_that_may_have_a_match_is_told_and_costs_nothing_else() {
    let env = TestEnv::new();
    let id = env.chat("needle one").replies("fine").session_id();
    env.chat("needle two").session(&id).replies("fine");
    let log = env.log(&id);
    let torn = log.replacen("\"prompt\":\"needle one\"", "\"prompt\":\"needle one", 1);
    let long = "x".repeat((64 << 20) + 100);
    for (damaged, places) in [(torn, 1), (format!("{log}{long}\n{}", glued(&log)), 2)] {
        env.write(env.log_path(&id), damaged);
        let output = search(&env, &["needle two"]);
        assert_eq!(output.json_lines().len(), 1);
        let output = search(&env, &["needle"]);
        let warned =
            format!("{places} unreadable places in the log of session {id} may have a match");
        assert!(output.stderr().contains(&warned), "{}", output.stderr());
        let quiet = env
            .command()
            .args(["session", "search", "needle", "-q"])
            .run();
        assert_eq!(quiet.ok().stderr(), "");
    }
    // A line that is still being written is no damage.
    env.write(env.log_path(&id), format!("{log}{{\"v\":1,\"id\":\"needle"));
    assert_eq!(search(&env, &["needle"]).stderr(), "");
}

/// Returns the last line behind the beginning of another.
fn glued(log: &str) -> String {
    let last = log.lines().last().expect("a line");
    format!("{}{last}\n", &last[..40])
}

#[test]
fn what_cannot_be_searched_is_said() {
    let env = TestEnv::new();
    assert_eq!(search(&env, &["anything"]).stdout(), "");
    assert!(env.files().is_empty(), "and makes no store");
    let run = |args: &[&str]| env.command().args(["session", "search"]).args(args).run();
    let failure = run(&["a(b"]).fails(2, "usage");
    assert!(
        failure.error.contains("unclosed group"),
        "{}",
        failure.error
    );
    run(&["x", "--role", "model"]).fails(2, "usage");
    run(&["x", "--count", "-l"]).fails(2, "usage");
    run(&["x", "-i", "-S"]).fails(2, "usage");
    run(&["x", "--output", "table"]).fails(2, "usage");
    run(&["x", &session_id(3)]).fails(3, "session_not_found");
    leave(
        &env.store(),
        &Left {
            n: 1,
            model: "m:1b",
            day: 0,
            turns: 1,
            set: json!({}),
        },
    );
    run(&["x", &session_id(3)]).fails(3, "session_not_found");
    // A reader that goes away is no error, and a store that cannot be written is read.
    let closed = env
        .command()
        .args(["session", "search", "question"])
        .stdout_closed();
    assert_eq!(closed.run().exit_code(), Some(0));
    let before = env.snapshot();
    search(&env, &["question"]);
    assert_eq!(env.snapshot(), before, "searching writes nothing");
}

/// The equivalents that docs/search.md shows, run over the same store.
#[test]
fn grep_and_jq_find_the_same_in_the_same_files() {
    if !need("jq") {
        return;
    }
    let env = TestEnv::new();
    for n in 0..10 {
        let left = Left {
            n,
            model: "m:1b",
            day: n,
            turns: n % 4,
            set: json!({}),
        };
        leave(&env.store(), &left);
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/search.md");
    let page = fs::read_to_string(page).expect("the document");
    let commands: Vec<&str> = page
        .lines()
        .filter(|line| line.contains("~/.ollama-prompt"))
        .collect();
    assert!(commands.len() >= 3, "{commands:?}");
    let own = found(&env, &["question 2"]).len().to_string();
    for command in commands {
        if command.starts_with("rg ") && !need("rg") {
            continue;
        }
        let shell = std::process::Command::new("bash")
            .arg("-c")
            .arg(command)
            .env("HOME", env.home())
            .output();
        let shell = shell.expect("bash runs");
        let out = String::from_utf8(shell.stdout).expect("UTF-8");
        assert_eq!(out.lines().count().to_string(), own, "{command}: {out}");
    }
}

#[test]
fn ten_thousand_sessions_are_all_searched_in_order() {
    let env = TestEnv::new();
    for n in 0..10_000 {
        let left = Left {
            n,
            model: "m:1b",
            day: n % 10,
            turns: 1,
            set: json!({}),
        };
        leave(&env.store(), &left);
    }
    let counts = found(&env, &["question", "--count"]);
    assert_eq!(counts.len(), 10_000);
    let ids: Vec<&str> = counts
        .iter()
        .map(|line| line["session_id"].as_str().expect("an id"))
        .collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "the newest first");
    assert_eq!(found(&env, &["question 0 of 77$"]).len(), 1);
    assert_eq!(found(&env, &["question", "--limit", "5"]).len(), 5);
}
