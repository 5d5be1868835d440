//! Export: every session leaves whole, in forms that other programs read, and what was redacted
//! stays behind.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::{Value, json};
use ulid::Ulid;

use crate::support::{Output, Reply, TestEnv, need};

/// Takes turns in a new session; returns its id.
fn conversation(env: &TestEnv, turns: usize) -> String {
    let first = env.chat("question 1").args(["--system", "be brief"]);
    let id = first.replies("answer 1").session_id();
    for n in 2..=turns {
        let turn = env.chat(&format!("question {n}")).session(&id);
        turn.replies(&format!("answer {n}"));
    }
    id
}

fn export(env: &TestEnv, arguments: &[&str]) -> Output {
    let run = env.command().args(["session", "export"]);
    run.args(arguments).run()
}

/// Appends an event as another machine would have written it.
fn append(env: &TestEnv, id: &str, event: &Value) {
    let last = env.lines(id).last().expect("a line")["id"].clone();
    let last = Ulid::from_string(last.as_str().expect("an id")).expect("an id");
    let next = Ulid::from_parts(last.timestamp_ms() + 1, last.random());
    let mut line = json!({"v": 1, "id": next.to_string()});
    let fields = event.as_object().expect("an object").clone();
    line.as_object_mut().expect("an object").extend(fields);
    env.write(env.log_path(id), format!("{}{line}\n", env.log(id)));
}

/// Hides a stretch of a turn's prompt, or all of it.
fn redact(env: &TestEnv, id: &str, turn: &Value, fields: &Value) {
    append(
        env,
        id,
        &json!({"type": "redact", "turn": turn, "fields": fields}),
    );
}

#[test]
fn jsonl_is_every_line_of_every_session_in_order() {
    let env = TestEnv::new();
    let ids = [conversation(&env, 2), conversation(&env, 1)];
    let all = export(&env, &["--all"]);
    let mut expected = String::new();
    for id in &ids {
        let events = env.lines(id).len();
        expected += &json!({"export": 1, "session": id, "events": events, "blobs": 0}).to_string();
        expected += "\n";
        expected += &env.log(id);
    }
    assert_eq!(all.ok().stdout(), expected);
    assert_eq!(export(&env, &[&ids[1], &ids[0]]).ok().stdout(), expected);
    let short = &ids[0][ids[0].len() - 12..];
    let one = export(&env, &[short, "--to", "jsonl"]);
    assert_eq!(
        one.ok().stdout(),
        expected.split_inclusive('\n').take(4).collect::<String>()
    );

    // Duplicates, disorder and damage: each event once, in order; what is none is told.
    let lines: Vec<String> = env.log(&ids[0]).lines().rev().map(str::to_owned).collect();
    let text = format!("debris\n{}\n{}\n{{\"v\":1,\"id", lines.join("\n"), lines[0]);
    env.write(env.log_path(&ids[0]), text);
    let again = export(&env, &["--all"]);
    assert_eq!(again.ok().stdout(), expected);
    assert!(again.stderr().contains("1 unreadable places"), "{again}");
}

#[test]
fn blobs_that_are_named_come_along_and_others_do_not() {
    let env = TestEnv::new();
    let id = conversation(&env, 1);
    let (named, other) = ("ab".repeat(32), "cd".repeat(32));
    append(
        &env,
        &id,
        &json!({"type": "later", "blobs": [{"sha256": named}]}),
    );
    let blobs = env.log_path(&id).with_file_name("blobs");
    env.write(blobs.join(&named), "x".repeat((768 << 10) + 1));
    env.write(blobs.join(&other), "other");
    let lines = export(&env, &[&id]).ok().json_lines();
    assert_eq!(lines[0]["blobs"], 1);
    let parts: Vec<&Value> = lines
        .iter()
        .filter(|line| !line["blob"].is_null())
        .collect();
    assert_eq!(parts.len(), 2, "a long one is cut");
    assert_eq!(parts[0]["of"], (768 << 10) + 1);
    assert_eq!(
        parts[1],
        &json!({"blob": named, "at": 768 << 10, "of": (768 << 10) + 1, "base64": "eA=="})
    );
}

#[test]
fn what_was_redacted_or_retracted_never_leaves() {
    let env = TestEnv::new();
    let id = conversation(&env, 3);
    let turns: Vec<Value> = env.lines(&id)[1..]
        .iter()
        .map(|line| line["id"].clone())
        .collect();
    let keep_from = turns[1].clone();
    let summary = json!({
        "type": "prune", "keep_from": keep_from, "strategy": "summarize", "kept_turns": 2, "dropped_turns": 1,
        "dropped_tokens": 9, "summary": "they spoke of question 1", "settings": {},
    });
    append(&env, &id, &summary);
    assert!(export(&env, &[&id]).ok().stdout().contains("they spoke"));
    redact(&env, &id, &turns[0], &json!({"prompt": [[0, 8]]}));
    redact(&env, &id, &turns[2], &json!({}));
    for form in ["jsonl", "markdown", "openai"] {
        let text = export(&env, &[&id, "--to", form]).ok().stdout().to_owned();
        for hidden in ["question 1", "question 3", "answer 3", "they spoke"] {
            assert!(!text.contains(hidden), "{form}: {text}");
        }
        assert!(
            text.contains("question 2") && text.contains("answer 1"),
            "{form}"
        );
    }
    let jsonl = export(&env, &[&id]).ok().json_lines();
    assert_eq!(
        jsonl[2]["prompt"], "******** 1",
        "every byte keeps its place"
    );
    assert_eq!(jsonl.len(), 8, "and every event is there");
    let markdown = export(&env, &[&id, "--to", "markdown"]);
    assert!(markdown.stdout().contains("[redacted] 1"), "{markdown}");
    // What compaction makes of it is what left: nothing more is in one than in the other.
    env.command().args(["session", "compact", &id]).run().ok();
    let turns = |lines: &[Value]| -> Vec<Value> {
        lines
            .iter()
            .filter(|line| line["type"] == "turn")
            .cloned()
            .collect()
    };
    assert_eq!(turns(&env.lines(&id)), turns(&jsonl));
}

#[test]
fn openai_is_a_line_of_messages_for_each_session() {
    let env = TestEnv::new();
    let id = conversation(&env, 2);
    let bare = env
        .chat("no \"system\"\u{2028}")
        .replies("none\n")
        .session_id();
    let silent = conversation(&env, 1);
    redact(
        &env,
        &silent,
        &env.lines(&silent)[1]["id"].clone(),
        &json!({}),
    );
    let lines = export(&env, &["--all", "--to", "openai"]).ok().json_lines();
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    assert_eq!(
        lines,
        [
            json!({"messages": [
                said("system", "be brief"),
                said("user", "question 1"), said("assistant", "answer 1"),
                said("user", "question 2"), said("assistant", "answer 2"),
            ]}),
            json!({"messages": [said("user", "no \"system\"\u{2028}"), said("assistant", "none\n")]}),
        ],
        "{id} {bare}: and none of a session in which nothing is left"
    );
}

#[test]
fn markdown_is_a_page_to_read() {
    let env = TestEnv::new();
    let reply = Reply::text("Look:\n```rust\nfn main() {}").thinking("first\nthen");
    let turn = env.chat("# Not a heading of ours\u{1b}[2J").answered(reply);
    let id = turn.run().session_id();
    let text = export(&env, &[&id, "--to", "markdown"])
        .ok()
        .stdout()
        .to_owned();
    let lines = env.lines(&id);
    let (created, at) = (lines[0]["ts"].as_str(), lines[1]["ts"].as_str());
    let model = lines[1]["model"].as_str().expect("a model");
    let expected = format!(
        "# Session {id}\n\n- created: {}\n- model: {model}\n- turns: 1\n\n\
         ## 1. User\n\n# Not a heading of ours\\u{{1b}}[2J\n\n\
         ## 1. Assistant: {model} at {}\n\n> first\n> then\n\n\
         Look:\n```rust\nfn main() {{}}\n```\n",
        created.expect("a time"),
        at.expect("a time"),
    );
    assert_eq!(text, expected);
}

#[test]
fn a_file_is_there_when_it_is_whole_and_a_directory_gets_one_a_session() {
    let env = TestEnv::new();
    let ids = [conversation(&env, 2), conversation(&env, 1)];
    let whole = export(&env, &["--all"]).ok().stdout().to_owned();
    let old = env.write("all.jsonl", "old");
    let told = export(&env, &["--all", "--out", "all.jsonl"]).ok().json();
    assert_eq!(
        told,
        json!({"out": "all.jsonl", "sessions": 2, "turns": 3, "files": 1, "bytes": whole.len()})
    );
    assert_eq!(fs::read_to_string(&old).expect("a file"), whole);
    let mode = fs::metadata(&old).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for the user alone");

    for out in ["pages/", "pages"] {
        let told = export(&env, &["--all", "--to", "markdown", "--out", out]);
        assert_eq!(told.ok().json()["files"], 2);
        for id in &ids {
            let page = env.work().join("pages").join(format!("{id}.md"));
            let alone = export(&env, &[id, "--to", "markdown"]);
            assert_eq!(
                fs::read_to_string(page).expect("a page"),
                alone.ok().stdout()
            );
        }
    }
    assert_eq!(names(env.work().join("pages")).len(), 2, "and nothing else");

    // A link leads to the file that is meant; what is no file is written to as it is.
    std::os::unix::fs::symlink(&old, env.work().join("link")).expect("a link");
    let inode = |path: &str| {
        fs::symlink_metadata(env.work().join(path))
            .expect("there")
            .ino()
    };
    let link = inode("link");
    export(&env, &[&ids[0], "--out", "link"]).ok();
    assert_eq!(inode("link"), link);
    assert!(fs::read_to_string(&old).expect("a file").len() < whole.len());
    let to_stdout = export(&env, &[&ids[0], "--to", "openai", "--out", "/dev/stdout"]);
    assert!(
        to_stdout.ok().stdout().starts_with("{\"messages\":"),
        "{to_stdout}"
    );
}

fn names(directory: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("readable").file_name();
    entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .collect()
}

#[test]
fn what_cannot_be_exported_is_said_and_nothing_is_left_behind() {
    let env = TestEnv::new();
    let nobody = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
    export(&env, &[nobody]).fails(3, "session_not_found");
    assert_eq!(
        export(&env, &["--all"]).ok().stdout(),
        "",
        "nothing is all there is"
    );
    assert!(env.files().is_empty(), "and no store is made");

    let id = conversation(&env, 1);
    let rows: [(&[&str], i32, &str); 8] = [
        (&[], 2, "usage"),
        (&["--all", &id], 2, "usage"),
        (&[&id, nobody], 3, "session_not_found"),
        (&[&id, "--to", "pdf"], 2, "usage"),
        (&[&id, "--out", "no/such/file"], 2, "usage"),
        (&[&id, "--out", ""], 2, "usage"),
        (&[&id, "--out", "/dev/full"], 7, "store_full"),
        (&[&id, "--output", "text"], 2, "usage"),
    ];
    for (arguments, exit, code) in rows {
        export(&env, arguments).fails(exit, code);
    }
    assert!(names(env.work()).is_empty());
    // No user may make a file there, and none but the store's is found in another store.
    let elsewhere = export(&env, &[&id, "--out", "/proc/export.jsonl"]).fails(2, "usage");
    assert!(
        elsewhere.error.contains("cannot make `/proc/export.jsonl`"),
        "{}",
        elsewhere.error
    );
    assert_eq!(elsewhere.hint, None);

    // One that cannot be read keeps the others from nothing.
    let bad = env
        .store()
        .join("sessions")
        .join(nobody)
        .join("events.jsonl");
    fs::create_dir_all(bad).expect("a directory");
    let others = export(&env, &["--all", "--to", "openai"]);
    assert_eq!(others.ok().json_lines().len(), 1);
    assert!(others.stderr().contains("is not exported"), "{others}");
    let file = env.write("kept.jsonl", "old");
    export(&env, &[&id, nobody, "--out", "kept.jsonl"]).fails(7, "store_unsupported");
    assert_eq!(fs::read_to_string(file).expect("a file"), "old");
    assert_eq!(names(env.work()), ["kept.jsonl"]);
}

/// As in whatever else reads a session (docs/format.md, "Reading", 3).
#[test]
fn a_last_line_that_is_unfinished_is_no_damage_in_whichever_log() {
    let env = TestEnv::new();
    let id = conversation(&env, 2);
    let whole = export(&env, &[&id]).ok().stdout().to_owned();
    let torn = env.log(&id) + "{\"v\":1,\"id\":\"01";
    let log = env.log_path(&id);
    for logs in [
        &["other.jsonl"][..],
        &["events.jsonl", "other.jsonl", "third.jsonl"],
    ] {
        for name in logs {
            env.write(log.with_file_name(name), &torn);
        }
        let again = export(&env, &[&id]);
        assert_eq!(
            (again.ok().stdout(), again.stderr()),
            (&*whole, ""),
            "{logs:?}"
        );
    }
    env.write(log.with_file_name("other.jsonl"), format!("x\n{torn}"));
    let told = export(&env, &[&id]);
    assert!(told.ok().stderr().contains("1 unreadable"), "{told}");
}

#[test]
fn a_reader_that_goes_away_ends_it_in_peace() {
    let env = TestEnv::new();
    conversation(&env, 1);
    let run = env.command().args(["session", "export", "--all"]);
    assert_eq!(run.stdout_closed().run().exit_code(), Some(0));
}

/// Runs the words after it and writes the most memory they had, in KiB, to standard error.
const MEASURE: &str = "\
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(status)";

#[test]
fn a_large_session_leaves_in_little_memory() {
    const BOUND: u64 = 64 << 10;
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    let id = conversation(&env, 1);
    let line = env.log(&id).lines().nth(1).expect("a turn").to_owned();
    let turn: Value = serde_json::from_str(&line).expect("JSON");
    let first = Ulid::from_string(turn["id"].as_str().expect("an id")).expect("an id");
    let long = line.replace("answer 1", &"words and words ".repeat(4 << 10));
    let log = fs::OpenOptions::new().append(true).open(env.log_path(&id));
    let mut log = std::io::BufWriter::new(log.expect("a log"));
    for n in 1..=3200 {
        let next = Ulid::from_parts(first.timestamp_ms() + n, first.random());
        let line = long.replace(&first.to_string(), &next.to_string());
        writeln!(log, "{line}").expect("room for a large log");
    }
    drop(log);
    let bytes = fs::metadata(env.log_path(&id)).expect("a log").len();
    assert!(bytes > 200 << 20, "{bytes}");
    for form in ["jsonl", "markdown", "openai"] {
        let run = env.command().args(["session", "export", &id, "--to", form]);
        let run = run
            .through(["python3", "-c", MEASURE])
            .args(["--out", "/dev/null"]);
        let output = run.run();
        assert!(output.ok().json()["bytes"].as_u64() > Some(200 << 20));
        let peak: u64 = output.stderr().trim().parse().expect("a number of KiB");
        assert!(peak < BOUND, "{form}: {peak} KiB");
    }
}

#[test]
fn a_signal_ends_an_export_and_leaves_nothing_half_done() {
    if !need("strace") {
        return;
    }
    for (signal, exit, code) in [(2, 130, "interrupted"), (15, 143, "terminated")] {
        for out in ["sessions.jsonl", "pages/"] {
            let env = TestEnv::new();
            conversation(&env, 2);
            env.write("sessions.jsonl", "old");
            let dir = match out {
                "pages/" => env.write("pages/kept", "").with_file_name(""),
                _ => env.work(),
            };
            // The file is whole and not yet under its name: its sync takes as long as on a disk
            // that is very busy.
            let slow = "inject=fdatasync:delay_enter=5000000";
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", slow];
            let run = env
                .command()
                .args(["session", "export", "--all", "--out", out]);
            let mut run = run.through(strace).spawn();
            let is_begun = || {
                names(dir.clone())
                    .iter()
                    .any(|name| name.starts_with(".tmp-"))
            };
            run.wait_until(is_begun);
            run.signal_child(signal);
            run.wait().fails(exit, code);
            let left = names(dir.clone());
            assert!(
                left.iter().all(|name| !name.starts_with(".tmp-")),
                "{out}: {left:?}"
            );
            let old = fs::read_to_string(env.work().join("sessions.jsonl"));
            assert_eq!(old.expect("the old one"), "old", "{out}");
            assert!(!left.iter().any(|name| name.ends_with("index.html")));
        }
    }
}

#[test]
fn what_a_session_is_called_is_no_markup_in_markdown() {
    let env = TestEnv::new();
    let turn = env.chat("hi").args(["--model", "a_b[c]"]);
    let id = turn.replies("```\na\n    ```\nstill code").session_id();
    let title = "<script>alert(1)</script> *x* # y";
    let update = ["session", "update", &id, "--title", title, "--tag", "`t`"];
    env.command().args(update).run().ok();
    let exported = export(&env, &[&id, "--to", "markdown"]);
    let shown = env
        .command()
        .args(["session", "show", &id, "--output", "markdown"])
        .run();
    let heading = "# \\<script\\>alert(1)\\</script\\> \\*x\\* \\# y\n\n";
    for text in [exported.ok().stdout(), shown.ok().stdout()] {
        assert!(text.starts_with(heading), "{text}");
        assert!(text.contains(&id), "{text}");
        for part in ["odel: a\\_b\\[c\\]\n", "ags: \\`t\\`\n"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        // What is indented by four spaces closes no fence.
        assert!(text.ends_with("still code\n```\n"), "{text}");
    }
}
