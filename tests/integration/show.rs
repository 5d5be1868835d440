//! `session show`: a session whole, as it was, and one turn of it, in its forms.

use serde_json::{Value, json};

use crate::support::{Output, Reply, TestEnv};

fn show(env: &TestEnv, args: &[&str]) -> Output {
    env.command().args(["session", "show"]).args(args).run()
}

/// A session of three turns, and the ids of these.
fn conversation(env: &TestEnv) -> (String, Vec<String>) {
    let id = env
        .chat("first")
        .args(["--system", "old rules"])
        .replies("one")
        .session_id();
    env.chat("second")
        .session(&id)
        .args(["--system", "new rules"])
        .replies("two");
    env.chat("third")
        .session(&id)
        .args(["--model", "other:1b"])
        .replies("three");
    let lines = env.lines(&id);
    let turns = lines.iter().filter(|line| line["type"] == "turn");
    let ids = turns.map(|line| line["id"].as_str().expect("an id").to_owned());
    let ids = ids.collect();
    (id, ids)
}

fn contents(info: &Value) -> Vec<&str> {
    let messages = info["messages"].as_array().expect("messages").iter();
    messages
        .map(|message| message["content"].as_str().expect("text"))
        .collect()
}

#[test]
fn a_session_is_shown_as_it_was_at_a_turn() {
    let env = TestEnv::new();
    let (id, turns) = conversation(&env);
    let rows = [
        (&turns[0], vec!["first", "one"], "old rules"),
        (
            &turns[1],
            vec!["first", "one", "second", "two"],
            "new rules",
        ),
    ];
    let now = show(&env, &[&id]).ok().json();
    for (turn, said, system) in rows {
        let then = show(&env, &[&id, "--at", turn]).ok().json();
        assert_eq!(contents(&then), said);
        assert_eq!(
            (&then["system_prompt"], &then["message_count"]),
            (&json!(system), &json!(said.len()))
        );
        assert_eq!(
            then["last_used"],
            then["messages"][said.len() - 1]["timestamp"]
        );
        assert_ne!(then["model_name"], now["model_name"]);
    }
    assert_eq!(show(&env, &[&id, "--at", &turns[2]]).ok().json(), now);
}

#[test]
fn what_was_hidden_later_is_hidden_in_the_past_too() {
    let env = TestEnv::new();
    let (id, turns) = conversation(&env);
    let hide = |turn: &str, fields: Value| {
        let ms = ulid::Ulid::from_string(turn).expect("an id").timestamp_ms() + 100_000;
        let line = json!({
            "v": 1, "id": ulid::Ulid::from_parts(ms, 7).to_string(), "type": "redact", "turn": turn, "fields": fields,
        });
        env.write(env.log_path(&id), format!("{}{line}\n", env.log(&id)));
    };
    hide(&turns[0], json!({"prompt": [[0, 5]]}));
    hide(&turns[1], json!({}));
    let then = show(&env, &[&id, "--at", &turns[0]]).ok().json();
    assert_eq!(contents(&then), ["[redacted]", "one"]);
    let sent = show(&env, &[&id, &format!("--context={}", turns[2])]);
    assert!(
        !sent.ok().stdout().contains("first") && !sent.stdout().contains("second"),
        "{}",
        sent.stdout()
    );
    for form in ["json", "jsonl", "text", "markdown"] {
        let shown = show(&env, &[&id, "--output", form]);
        assert!(shown.ok().stdout().contains("[redacted]"), "{form}");
        assert!(
            !shown.stdout().contains("first") && !shown.stdout().contains("second"),
            "{form}"
        );
    }
    let failure = show(&env, &[&format!("{id}:{}", turns[1])]).fails(3, "session_not_found");
    assert!(failure.error.contains("retracted"), "{}", failure.error);
    show(&env, &[&id, "--at", &turns[1]]).fails(3, "session_not_found");
}

#[test]
fn one_turn_is_shown_by_its_address() {
    let env = TestEnv::new();
    let (id, turns) = conversation(&env);
    for session in [&id[..], &id[id.len() - 8..], &id[..30]] {
        let one = show(&env, &[&format!("{session}:{}", turns[1])])
            .ok()
            .json();
        assert_eq!(contents(&one), ["second", "two"]);
        assert_eq!(
            (&one["session_id"], &one["message_count"]),
            (&json!(id), &json!(6))
        );
    }
    let other = ulid::Ulid::from_parts(1, 1).to_string();
    show(&env, &[&format!("{id}:{other}")]).fails(3, "session_not_found");
    show(&env, &[&id, "--at", &other]).fails(3, "session_not_found");
    show(&env, &[&format!("{id}:x")]).fails(2, "usage");
    show(&env, &[&id, "--at", "x"]).fails(2, "usage");
    show(&env, &[&format!("{id}:{}", turns[1]), "--at", &turns[1]]).fails(2, "usage");
    let sent = show(&env, &[&format!("{id}:{}", turns[1]), "--context"]);
    assert_eq!(sent.ok().json()["turn"], turns[1]);
}

#[test]
fn people_read_text_and_markdown_that_do_nothing_to_their_terminal() {
    let env = TestEnv::new();
    let evil = "```sh\nrm \u{1b}]0;owned\u{7}\r\nno end";
    env.server()
        .enqueue(Reply::text(evil).thinking("let me\nthink"));
    let id = env
        .chat("# not a heading é 日")
        .args(["--system", "rules"])
        .run()
        .ok()
        .session_id();
    env.chat("more").session(&id).replies("the end");
    let text = show(&env, &[&id, "--output", "text"]);
    let shown = text.ok().stdout();
    for part in [
        "\nsystem\nrules\n",
        "\nthinking\nlet me\nthink\n",
        "# not a heading é 日\n",
        "rm \\u{1b}]0;owned\\u{7}",
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\r']), "{shown:?}");
    let markdown = show(&env, &[&id, "--output", "markdown"]);
    let shown = markdown.ok().stdout();
    assert!(shown.starts_with(&format!("# Session {id}\n")), "{shown}");
    assert!(
        shown.contains("\n> let me\n> think\n") && shown.contains("no end\n```\n"),
        "{shown}"
    );
    assert!(!shown.contains(['\u{1b}', '\u{7}', '\r']), "{shown:?}");
    assert_eq!(shown.matches("\n## ").count(), 6, "{shown}");
}

#[test]
fn jsonl_is_a_line_a_message() {
    let env = TestEnv::new();
    let (id, _) = conversation(&env);
    let lines = show(&env, &[&id, "--output", "jsonl"]).ok().json_lines();
    let whole = show(&env, &[&id]).ok().json();
    assert_eq!(Value::from(lines), whole["messages"]);
    let compact = show(&env, &[&id, "--output", "compact"]);
    assert_eq!(
        (compact.ok().json(), compact.stdout().lines().count()),
        (whole, 1)
    );
    show(&env, &[&id, "--output", "table"]).fails(2, "usage");
}
