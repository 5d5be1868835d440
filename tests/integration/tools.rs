//! Tools: definitions go out as they are, calls are kept and sent back, and their results are the
//! next turn's messages, with the call they answer or in words.

use serde_json::{Value, json};

use crate::support::{Reply, TestEnv};

fn definitions() -> Value {
    json!([{"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    }}])
}

fn calls() -> Value {
    json!([
        {"id": "call_1", "function": {"index": 0, "name": "get_weather", "arguments": {"city": "Bonn"}}},
        {"id": "call_2", "function": {"index": 1, "name": "get_weather", "arguments": {"city": "Kiel"}}},
    ])
}

/// Makes a session whose newest turn called a tool twice.
fn called(env: &TestEnv) -> String {
    let file = env.write("tools.json", definitions().to_string());
    let output = env
        .chat("Is it warm in Bonn and Kiel?")
        .arg("--tools")
        .arg(format!("@{}", file.display()))
        .answered(Reply::text("").tool_calls(calls()))
        .run();
    assert_eq!(output.ok().json()["tool_calls"], calls());
    output.session_id()
}

#[test]
fn tools_are_offered_called_answered_and_remembered() {
    let env = TestEnv::new();
    let id = called(&env);
    assert_eq!(env.server().last_request().json["tools"], definitions());
    let turn = &env.lines(&id)[1];
    assert_eq!(turn["tool_calls"], calls());
    assert_eq!(turn["tools"], definitions());

    env.write("kiel.txt", "7 degrees\n");
    let answered = env.command().session(&id).args([
        "--tool-result",
        "get_weather=12 degrees",
        "--tool-result",
        "get_weather=@kiel.txt",
    ]);
    answered.replies("Warmer in Bonn.").ok();
    let request = env.server().last_request();
    let asked = json!({"role": "user", "content": "Is it warm in Bonn and Kiel?"});
    let call = json!({"role": "assistant", "content": "", "tool_calls": calls()});
    let tool = |content: &str, id: &str| json!({"role": "tool", "content": content, "tool_name": "get_weather", "tool_call_id": id});
    let mut messages = vec![
        asked,
        call,
        tool("12 degrees", "call_1"),
        tool("7 degrees\n", "call_2"),
    ];
    assert_eq!(request.json["messages"], json!(messages));
    assert_eq!(request.json.get("tools"), None, "they are of one turn");

    env.chat("Thanks.").session(&id).run().ok();
    messages.push(json!({"role": "assistant", "content": "Warmer in Bonn."}));
    messages.push(json!({"role": "user", "content": "Thanks."}));
    assert_eq!(
        env.server().last_request().json["messages"],
        json!(messages)
    );
}

#[test]
fn a_turn_of_results_alone_is_shown_counted_and_repeated_exactly() {
    let env = TestEnv::new();
    let id = called(&env);
    let results = ["--tool-result", "get_weather=12 degrees"];
    let planned = env.command().session(&id).args(results).arg("--dry-run");
    let planned = planned.run().ok().json();
    env.command().session(&id).args(results).run().ok();
    let sent = env.server().last_request();
    assert_eq!(planned["request"], sent.json);
    let roles = |messages: &Value| -> Vec<String> {
        let messages = messages.as_array().expect("messages").iter();
        messages
            .map(|message| message["role"].as_str().expect("a role").to_owned())
            .collect()
    };
    assert_eq!(
        roles(&planned["context_plan"]["messages"]),
        ["user", "assistant", "tool"]
    );

    let info = env
        .command()
        .args(["--session-info", &id])
        .run()
        .ok()
        .json();
    let message = &info["messages"][2];
    assert_eq!(info["message_count"], 4);
    assert_eq!(
        (&message["role"], &message["content"]),
        (&json!("tool"), &json!("12 degrees"))
    );
    assert_eq!(
        message["tool_results"],
        json!([{"name": "get_weather", "id": "call_1", "content": "12 degrees"}])
    );
    assert_eq!(info["messages"][1]["tool_calls"], calls());

    let shown = env.command().args(["session", "show", &id, "--context"]);
    let shown = shown.run().ok().json();
    assert_eq!(shown["exact"], true);
    assert_eq!(shown["request"], sent.json);
    assert_eq!(roles(&shown["messages"]), ["user", "assistant", "tool"]);
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["sessions"][0]["message_count"], 4);
}

#[test]
fn a_result_without_its_call_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    let id = called(&env);
    let asked = env.server().request_count();
    let with = |results: &[&str]| {
        let results = results.iter().flat_map(|result| ["--tool-result", result]);
        env.command().session(&id).args(results).run()
    };
    let failure = with(&["get_time=12"]).fails(2, "usage");
    let hint = failure.hint.expect("a hint");
    assert!(hint.contains("get_weather, get_weather"), "{hint}");
    with(&["get_weather=1", "get_weather=2", "get_weather=3"]).fails(2, "usage");
    with(&["get_weather"]).fails(2, "usage");
    with(&["get_weather=@gone.txt"]).fails(2, "usage");
    for elsewhere in [&["--no-session"][..], &["--new-session"], &[]] {
        let run = env.command().args(["--tool-result", "get_weather=1"]);
        run.args(elsewhere).run().fails(2, "usage");
    }
    // A turn later nobody waits for it any more.
    env.chat("Never mind.").session(&id).run().ok();
    let failure = with(&["get_weather=1"]).fails(2, "usage");
    let hint = failure.hint.expect("a hint");
    assert!(hint.contains("called no tool"), "{hint}");
    assert_eq!(env.server().request_count(), asked + 1);
}

#[test]
fn tools_that_are_none_are_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    for (name, text) in [
        ("not JSON", "[{"),
        ("no array", r#"{"function": {"name": "f"}}"#),
        ("empty", "[]"),
        (
            "without a name",
            r#"[{"type": "function", "function": {}}]"#,
        ),
    ] {
        env.write("tools.json", text);
        let run = env.chat("hi").args(["--tools", "@tools.json"]).run();
        let failure = run.fails(2, "usage");
        assert!(
            failure.error.contains("tools.json"),
            "{name}: {}",
            failure.error
        );
    }
    env.chat("hi")
        .args(["--tools", "tools.json"])
        .run()
        .fails(2, "usage");
    env.chat("hi")
        .args(["--tools", "@gone.json"])
        .run()
        .fails(2, "usage");
    assert_eq!(env.server().request_count(), 0);

    env.write("tools.json", definitions().to_string());
    let refusal = Reply::error(
        400,
        r#"registry.ollama.ai/library/m does not support tools"#,
    );
    let run = env
        .chat("hi")
        .args(["--tools", "@tools.json"])
        .answered(refusal);
    run.run().fails(5, "model_unsupported");
}

#[test]
fn a_call_and_its_results_leave_together() {
    let env = TestEnv::new();
    env.server().set_context_length(1 << 20);
    let words = |n: usize| "some words of it ".repeat(n);
    let budget = ["--max-context-tokens", "4000", "--max_tokens", "100"];
    let id = env
        .chat("first")
        .args(budget)
        .answered(Reply::text(words(20)).tool_calls(calls()).counts(100, 1200))
        .run()
        .session_id();
    let result = format!("get_weather={}", words(10));
    let answer = |prompt: Option<&str>, reply: Reply| {
        let mut run = env.command().session(&id).args(budget);
        run = run.args(["--tool-result", &result]);
        run.args(prompt.iter().flat_map(|prompt| ["--prompt", prompt]))
            .answered(reply)
            .run()
            .ok()
            .json()
    };
    answer(None, Reply::text("noted").counts(1400, 900));
    // 100 + 1200 + 100 + 900, and now 1600 more: too much by far for what was called and answered.
    let long = env.chat("unrelated").session(&id).args(budget);
    long.answered(Reply::text("x").counts(2310, 1300))
        .run()
        .ok();
    env.chat("newest").session(&id).args(budget).run().ok();
    let request = env.server().last_request();
    assert_eq!(request.contents(), ["unrelated", "x", "newest"]);
    assert_eq!(
        env.lines(&id)
            .iter()
            .filter(|line| line["type"] == "turn")
            .count(),
        4
    );
}

#[test]
fn a_result_whose_call_is_retracted_goes_out_in_words() {
    let env = TestEnv::new();
    let id = called(&env);
    let run = env.chat("And?").session(&id);
    run.args(["--tool-result", "get_weather=12 degrees"])
        .replies("Warm.")
        .ok();
    let caller = env.lines(&id)[1]["id"].as_str().expect("an id").to_owned();
    let newest = env.lines(&id)[2]["id"].as_str().expect("an id").to_owned();
    let redact = json!({"v": 1, "id": format!("{}Z", &newest[..25]), "type": "redact",
        "ts": "2026-11-22T00:00:00Z", "turn": caller});
    env.write(env.log_path(&id), format!("{}{redact}\n", env.log(&id)));
    env.chat("Sure?").session(&id).run().ok();
    assert_eq!(
        env.server().last_request().contents(),
        [
            "Result of the tool get_weather:\n12 degrees\n\nAnd?",
            "Warm.",
            "Sure?"
        ]
    );
}

#[test]
fn a_failed_turn_keeps_tools_and_results_in_its_draft() {
    let env = TestEnv::new();
    let id = called(&env);
    let run = env.command().session(&id).args([
        "--tool-result",
        "get_weather=12 degrees",
        "--tools",
        "@tools.json",
        "--keep-alive",
        "-1",
    ]);
    run.answered(Reply::error(500, "boom"))
        .run()
        .fails(5, "server_error");
    let draft = &env.drafts()[0];
    assert_eq!(draft["prompt"], "");
    assert_eq!(draft["attachments"]["tools"], definitions());
    assert_eq!(draft["attachments"]["keep_alive"], -1);
    assert_eq!(
        draft["attachments"]["tool_results"],
        json!([{"name": "get_weather", "content": "12 degrees"}])
    );
}
