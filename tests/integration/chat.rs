//! One turn from outside: what is printed of a reply, in each of the four formats, to the byte.
//!
//! What is sent is in `chat_request.rs`.

use serde_json::{Value, json};

use crate::support::{Gate, NOBODY_LISTENS, Output, Reply, TestEnv};

/// What the model of the recording `chat-stream` said.
const RED: &str =
    " I think red is the most beautiful colour, but it's not as easy to see as blue or yellow.";

#[test]
fn json_is_this_document_to_the_byte() {
    let env = TestEnv::new();
    let output = env
        .chat("Your favourite colour?")
        .args(["--model", "gemma3:270m", "--max_tokens", "24"])
        .answered(Reply::recorded("chat-stream"))
        .run();
    let json = output.ok().json();
    let (turn, session) = (text(&json["turn"]["id"]), text(&json["session_id"]));
    let expected = format!(
        r#"{{
  "model": "gemma3:270m",
  "created_at": "2026-11-22T00:14:08.597473486Z",
  "done": true,
  "done_reason": "length",
  "total_duration": 3947299542,
  "load_duration": 740291,
  "prompt_eval_count": 20,
  "prompt_eval_duration": 216888000,
  "eval_count": 24,
  "eval_duration": 3722320000,
  "response": "{RED}",
  "thinking": null,
  "context": null,
  "turn": {{
    "id": "{turn}",
    "parent": null,
    "concurrent_with": [],
    "stored": true
  }},
  "context_usage": {{
    "sent_tokens": 20,
    "measured": true,
    "max_context_tokens": 64000,
    "percent": 0.03,
    "kept_turns": 0,
    "dropped_turns": 0,
    "num_ctx": 4096,
    "truncated_by_server": false
  }},
  "session_id": "{session}"
}}
"#
    );
    assert_eq!(output.stdout(), expected);
    assert_eq!(output.stderr(), "");
}

#[test]
fn figures_the_server_does_not_give_are_null_and_there() {
    let env = TestEnv::new();
    let output = env
        .chat("hi")
        .arg("--no-session")
        .answered(Reply::recorded("chat-load"))
        .run();
    let json = output.ok().json();
    for key in [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
        "thinking",
        "context",
    ] {
        assert_eq!(json.get(key), Some(&Value::Null), "{key}");
    }
    assert_eq!(json["context_usage"]["measured"], false);
}

#[test]
fn compact_is_the_same_object_on_one_line() {
    let env = TestEnv::new();
    let chat = |format| {
        env.chat("hi")
            .args(["--no-session", "--output", format])
            .replies("one two")
    };
    let (pretty, compact) = (chat("json"), chat("compact"));
    assert_eq!(compact.json(), pretty.json());
    assert_eq!(compact.stdout().matches('\n').count(), 1);
    assert!(compact.stdout().ends_with("}\n"));
    assert_eq!(
        keys_in_order(compact.stdout()),
        keys_in_order(pretty.stdout())
    );
}

#[test]
fn jsonl_shows_a_chunk_while_the_server_is_still_speaking() {
    let env = TestEnv::new();
    let gate = Gate::new();
    let reply = Reply::text("one two three").thinking("hm");
    let mut run = env
        .chat("count")
        .args(["--output", "jsonl"])
        .answered(reply.pause_after_chunks(2, &gate))
        .spawn();
    gate.wait_until_reached();
    run.wait_for_stdout("\"response\":\"one \"");
    assert!(run.is_running(), "the server holds the rest back");
    gate.open();

    let output = run.wait();
    let lines = output.ok().json_lines();
    let (whole, pieces) = lines.split_last().expect("lines");
    assert!(pieces.iter().all(|piece| piece["done"] == false));
    assert!(pieces.iter().all(|piece| piece.get("turn").is_none()));
    assert_eq!(joined(pieces, "response"), "one two three");
    assert_eq!(joined(pieces, "thinking"), "hm");
    assert_eq!(
        (&whole["done"], &whole["turn"]["stored"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(whole["response"], "one two three");
    assert_eq!(whole["thinking"], "hm");
    assert!(whole["session_id"].is_string());
}

#[test]
fn a_line_of_jsonl_has_these_keys() {
    let env = TestEnv::new();
    let output = env
        .chat("hi")
        .args(["--output", "jsonl", "--model", "m"])
        .replies("yes");
    let first = output.stdout().lines().next().unwrap_or_default();
    assert_eq!(
        first,
        r#"{"model":"m","created_at":"2026-11-22T00:14:08.597473486Z","response":"yes","done":false}"#
    );
}

#[test]
fn only_a_whole_reply_says_done_in_jsonl() {
    let env = TestEnv::new();
    let output = env
        .chat("hi")
        .args(["--output", "jsonl"])
        .answered(Reply::text("one two").no_done())
        .run();
    output.prints_and_fails(5, "stream_interrupted");
    let pieces = output.json_lines();
    assert_eq!(joined(&pieces, "response"), "one two");
    assert!(pieces.iter().all(|piece| piece["done"] == false));
}

#[test]
fn text_is_the_reply_as_it_arrives_and_one_newline() {
    let env = TestEnv::new();
    let gate = Gate::new();
    let mut run = env
        .chat("hi")
        .args(["--output", "text"])
        .answered(Reply::text("one two three").pause_after_chunks(1, &gate))
        .spawn();
    gate.wait_until_reached();
    run.wait_for_stdout("one ");
    assert!(run.is_running(), "the server holds the rest back");
    gate.open();
    assert_eq!(run.wait().ok().stdout(), "one two three\n");

    let ends_itself = env.chat("hi").args(["--output", "text"]).replies("line\n");
    assert_eq!(ends_itself.stdout(), "line\n");
}

#[test]
fn text_sends_a_terminal_nothing_but_text() {
    let env = TestEnv::new();
    let output = env
        .chat("hi")
        .args(["--output", "text"])
        .replies("\u{1b}[31mred\u{7}\r\ttab\nnext \u{9b}2J \u{202e}drow é 🦀");
    assert_eq!(
        output.stdout(),
        "\\u{1b}[31mred\\u{7}\\u{d}\ttab\nnext \\u{9b}2J \\u{202e}drow é 🦀\n"
    );
}

#[test]
fn text_does_not_show_what_was_thought() {
    let env = TestEnv::new();
    let output = env
        .chat("hi")
        .args(["--output", "text"])
        .answered(Reply::text("Four.").thinking("two and two"))
        .run();
    assert_eq!(output.ok().stdout(), "Four.\n");
}

#[test]
fn json_escapes_what_would_end_a_line_or_move_a_cursor() {
    let env = TestEnv::new();
    let reply = "esc \u{1b} del \u{7f} nel \u{85} ls \u{2028} ps \u{2029} nul \0 é 🦀";
    let output = env.chat("hi").args(["--output", "compact"]).replies(reply);
    assert_eq!(output.json()["response"], reply);
    assert!(
        output
            .stdout()
            .contains(r"esc \u001b del \u007f nel \u0085 ls \u2028 ps \u2029 nul \u0000 é 🦀"),
        "{output}"
    );
}

#[test]
fn a_reply_that_arrives_byte_by_byte_is_the_same_reply() {
    let env = TestEnv::new();
    let reply = Reply::text("grüße 🦀 und\nmehr").last_text("!");
    let output = env.chat("hi").answered(reply.byte_by_byte()).run();
    assert_eq!(output.ok().json()["response"], "grüße 🦀 und\nmehr!");
}

#[test]
fn a_reply_of_five_megabytes_is_printed_and_stored_whole() {
    const SIZE: usize = 5_000_000;
    let env = TestEnv::new();
    let output = env.chat("hi").answered(Reply::huge(SIZE)).run();
    let id = output.session_id();
    let whole = |reply: &Value| reply.as_str().is_some_and(|text| text.len() == SIZE);
    assert!(whole(&output.json()["response"]));
    assert!(whole(&env.lines(&id)[1]["response"]));
}

#[test]
fn a_reply_in_one_piece_is_a_reply_too() {
    let env = TestEnv::new();
    let output = env
        .chat("hi")
        .args(["--max_tokens", "24"])
        .answered(Reply::recorded("chat-nostream"))
        .run();
    assert_eq!(output.ok().json()["response"], RED);
}

#[test]
fn a_reply_that_was_cut_at_the_window_is_said_to_be() {
    let env = TestEnv::new();
    let length = |counted| {
        Reply::text("and so")
            .counts(10, counted)
            .done_reason("length")
    };
    let asked_for = env
        .chat("hi")
        .args(["--max_tokens", "8"])
        .answered(length(8))
        .run();
    assert_eq!(asked_for.ok().json().get("warnings"), None);
    let earlier = env
        .chat("hi")
        .args(["--max_tokens", "8"])
        .answered(length(5))
        .run();
    let warnings = earlier.ok().json()["warnings"].to_string();
    assert!(
        warnings.contains("the context window was full"),
        "{warnings}"
    );
}

#[test]
fn offline_asks_nobody_says_so_and_says_it_again() {
    let env = TestEnv::new();
    let ask = || {
        env.chat("What is 2+2?")
            .args(["--offline", "--no-session"])
            .env("OLLAMA_HOST", NOBODY_LISTENS)
            .run()
    };
    let first = ask();
    let json = first.ok().json();
    assert_eq!(json["model"], "builtin/echo");
    assert_eq!(
        json["response"],
        "You said: \"What is 2+2?\". I have seen 0 earlier turns in this conversation."
    );
    let warnings = &json["warnings"];
    assert!(
        warnings[0]
            .as_str()
            .is_some_and(|w| w.contains("--offline"))
    );
    assert!(first.stderr().starts_with("warning: "), "{first}");
    assert_eq!(timeless(&ask()), timeless(&first));
}

#[test]
fn offline_has_a_memory() {
    let env = TestEnv::new();
    let id = env.chat("one").arg("--offline").run().session_id();
    let output = env.chat("two").arg("--offline").session(&id).run();
    let json = output.ok().json();
    assert_eq!(
        json["response"],
        "You said: \"two\". I have seen 1 earlier turn in this conversation."
    );
    assert_eq!(json["context_usage"]["measured"], true);
    assert_eq!(env.lines(&id)[2]["model"], "builtin/echo");
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn quiet_leaves_out_warnings_on_stderr_and_nothing_else() {
    let env = TestEnv::new();
    let chat = || env.chat("hi").args(["--offline", "--no-session"]);
    let (usual, quiet, verbose) = (chat().run(), chat().arg("-q").run(), chat().arg("-v").run());
    assert_eq!(usual.ok().stderr().lines().count(), 1);
    assert_eq!(quiet.ok().stderr(), "");
    assert_eq!(timeless(&quiet), timeless(&usual));
    assert!(verbose.ok().stderr().contains(usual.stderr().trim_end()));
    assert_eq!(timeless(&verbose), timeless(&usual));
    let failed = env.command().args(["-q", "--session-info", "null"]).run();
    failed.fails(2, "usage");
}

#[test]
fn a_standard_input_left_open_is_not_waited_for() {
    let env = TestEnv::new();
    let file = env.write("prompt.txt", "from a file");
    let file = file.to_str().expect("a plain path");
    let id = env.chat("hi").stdin_open().run().session_id();
    for args in [
        &["--prompt-file", file][..],
        &["--no-session", "--prompt", "x"],
        &["--session-id", &id, "--prompt", "x"],
        &["--list-sessions"],
        &["--session-info", &id],
        &["--purge", "30"],
        &["--help"],
    ] {
        // The input stays open until the end has been seen.
        env.command().args(args).stdin_open().run().ok();
    }
}

#[test]
fn help_and_version_are_texts_on_stdout() {
    let env = TestEnv::new();
    let help = env.command().arg("--help").run();
    for word in ["--prompt", "Session management", "Session utilities"] {
        assert!(help.ok().stdout().contains(word), "{word}");
    }
    let version = env.command().arg("--version").run();
    assert!(version.ok().stdout().starts_with("ollama-prompt "));
    assert!(env.files().is_empty());
}

/// Returns what was printed, the moment of it left out.
fn timeless(output: &Output) -> Vec<&str> {
    let lines = output.stdout().lines();
    lines.filter(|line| !line.contains("created_at")).collect()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text, not {value}"))
}

/// Joins what each piece says under `key`.
fn joined(pieces: &[Value], key: &str) -> String {
    pieces
        .iter()
        .filter_map(|piece| piece[key].as_str())
        .collect()
}

/// Returns the keys of a JSON text as they come, those of objects in it included.
fn keys_in_order(json: &str) -> Vec<&str> {
    let parts: Vec<&str> = json.split('"').collect();
    let followed_by_colon = |pair: &&[&str]| pair[1].trim_start().starts_with(':');
    parts[1..]
        .windows(2)
        .filter(followed_by_colon)
        .map(|pair| pair[0])
        .collect()
}
