//! The error table from outside: for every code a call that ends in it, with its exit status,
//! whether to try again, what to do next, and nothing on stdout.
//!
//! Failures of the store are in `not_stored.rs`, signals in `interrupted.rs`.

use serde_json::{Value, json};

use crate::support::{Failure, Gate, NOBODY_LISTENS, Reply, TestEnv};

/// What a failure must say besides its code.
struct Expected {
    exit: i32,
    code: &'static str,
    retryable: bool,
    has_hint: bool,
}

const fn expect(exit: i32, code: &'static str, retryable: bool, has_hint: bool) -> Expected {
    Expected {
        exit,
        code,
        retryable,
        has_hint,
    }
}

#[test]
fn who_types_something_else_is_told_what_to_type() {
    let env = TestEnv::new();
    let prompt = "a prompt is given with --prompt, as in ollama-prompt --prompt \"…\"";
    let rows: [(&[&str], &str, &str); 9] = [
        (&["Hello"], "there is no verb `Hello`", prompt),
        (&["Who are you?"], "there is no verb `Who are you?`", prompt),
        (
            &["--offline", "Hi there"],
            "there is no verb `Hi there`",
            prompt,
        ),
        (
            &["sessions", "list"],
            "there is no verb `sessions`",
            "did you mean `session`?",
        ),
        (
            &["session"],
            "session needs a verb",
            "ollama-prompt session --help shows the ones there are",
        ),
        (
            &["template"],
            "template needs a verb",
            "ollama-prompt template --help shows the ones there are",
        ),
        (
            &["session", "xyzzy"],
            "there is no verb `xyzzy`",
            "ollama-prompt session --help shows the ones there are",
        ),
        (
            &["session", "show"],
            "the following required arguments were not provided: <ID>",
            "ollama-prompt session show --help shows every option",
        ),
        (
            &["--offline", "session", "list"],
            "the subcommand 'session' cannot be used with '--offline'",
            "ollama-prompt --help shows every option",
        ),
    ];
    for (line, error, hint) in rows {
        let failure = env.command().args(line).run().fails(2, "usage");
        assert_eq!(failure.error, error, "{line:?}");
        assert_eq!(failure.hint.as_deref(), Some(hint), "{line:?}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_usage() {
    let env = TestEnv::new();
    for line in [
        "",
        "--no-such-flag",
        "--prompt hi --temperature warm",
        "--prompt hi --temperature -1",
        "--prompt hi --max_tokens 0",
        "--prompt hi --max-context-tokens 0",
        "--prompt hi --option seed",
        "--prompt hi --option seed=1 --option seed=2",
        "--prompt hi --think=deeply",
        "--prompt hi --output yaml",
        "--prompt hi --timeout soon",
        "--prompt hi --prompt-file p.txt",
        "--prompt hi --session-id null",
        "--prompt hi -q -v",
        "hi",
    ] {
        let run = env.command().args(line.split_whitespace()).run();
        let failure = run.fails(2, "usage");
        assert!(!failure.retryable, "{line}");
        assert_eq!(run.stderr().lines().count(), 1, "{line}: {run}");
        assert!(!failure.error.contains("error:"), "{line}: {run}");
    }
    let misspelt = env.chat("hi").arg("--modle=x").run().fails(2, "usage");
    assert!(misspelt.hint.is_some_and(|hint| hint.contains("--model")));
    assert_eq!(env.server().request_count(), 0);
    assert!(env.files().is_empty());
}

#[test]
fn an_environment_that_does_not_parse_is_config_and_names_the_variable() {
    let env = TestEnv::new();
    for (name, value) in [
        ("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "many"),
        ("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "-1"),
        ("OLLAMA_PROMPT_NO_SESSION", "perhaps"),
        ("OLLAMA_PROMPT_LOCK_TIMEOUT", "soon"),
        ("OLLAMA_PROMPT_DURABILITY", "some"),
        ("OLLAMA_HOST", "ftp://example"),
        ("OLLAMA_API_KEY", "two\nlines"),
    ] {
        let failure = env.chat("hi").env(name, value).run().fails(2, "config");
        assert!(failure.error.contains(name), "{}", failure.error);
        assert!(!failure.retryable, "{name}");
    }
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn every_answer_that_is_no_reply_has_its_code() {
    let redirect = "HTTP/1.1 301 Moved\r\nLocation: https://example.org/\r\n\
                    Content-Length: 0\r\n\r\n";
    let rows = [
        (
            "no such model",
            Reply::recorded("chat-unknown-model"),
            expect(5, "model_not_found", false, true),
        ),
        (
            "nobody is signed in",
            Reply::error(401, "unauthorized"),
            expect(5, "auth_required", false, true),
        ),
        (
            "a subscription is missing",
            Reply::error(403, "this model requires a subscription"),
            expect(5, "auth_required", false, true),
        ),
        (
            "too many requests",
            Reply::error(429, "too many requests"),
            expect(5, "rate_limited", true, true),
        ),
        (
            "a full queue",
            Reply::recorded("server-busy"),
            expect(5, "rate_limited", true, true),
        ),
        (
            "a model that does not load",
            Reply::recorded("chat-load-fails"),
            expect(5, "server_error", true, false),
        ),
        (
            "an error inside the stream",
            Reply::recorded("runner-dies-mid-stream"),
            expect(5, "server_error", true, false),
        ),
        (
            "a gateway's page",
            Reply::html(502),
            expect(5, "server_error", true, false),
        ),
        (
            "a page instead of a reply",
            Reply::html(200),
            expect(5, "bad_response", false, true),
        ),
        (
            "other JSON",
            Reply::json(&json!({"hello": "world"})),
            expect(5, "bad_response", false, true),
        ),
        (
            "not HTTP",
            Reply::raw("SSH-2.0-OpenSSH_9.6\r\n"),
            expect(5, "bad_response", false, true),
        ),
        (
            "a redirect",
            Reply::raw(redirect),
            expect(5, "bad_response", false, true),
        ),
        (
            "an unknown path",
            Reply::recorded("unknown-path"),
            expect(5, "bad_response", false, true),
        ),
        (
            "a bad option",
            Reply::recorded("chat-options-bad-type-temperature"),
            expect(5, "bad_response", false, false),
        ),
        (
            "a model that cannot think",
            Reply::recorded("chat-think-unsupported"),
            expect(5, "model_unsupported", false, false),
        ),
        (
            "no cloud models",
            Reply::recorded("chat-cloud-model-disabled"),
            expect(5, "model_unsupported", false, true),
        ),
        (
            "a token repeated until the server stops",
            Reply::recorded("chat-token-repeat-stream"),
            expect(5, "stream_interrupted", true, true),
        ),
        (
            "a server that was stopped",
            Reply::recorded("server-stops-mid-stream"),
            expect(5, "stream_interrupted", true, false),
        ),
        (
            "a server that was killed",
            Reply::recorded("server-killed-mid-stream"),
            expect(5, "stream_interrupted", true, false),
        ),
        (
            "an end before the first byte",
            Reply::raw(""),
            expect(5, "stream_interrupted", true, false),
        ),
    ];
    for (name, reply, expected) in rows {
        let env = TestEnv::new();
        let failure = fails_as(&env, name, reply, &expected);
        assert_eq!(env.drafts().len(), 1, "{name}");
        assert_eq!(env.drafts()[0]["error"], failure.json, "{name}");
    }
}

#[test]
fn the_servers_own_words_are_passed_on_verbatim() {
    let env = TestEnv::new();
    let words = "something \"odd\" happened: <b>\u{e9}</b>";
    let failure = env
        .chat("hi")
        .answered(Reply::error(500, words))
        .run()
        .fails(5, "server_error");
    assert_eq!(failure.server_message.as_deref(), Some(words));
    assert!(failure.error.contains(words), "{}", failure.error);
}

#[test]
fn what_had_arrived_of_a_reply_stays_in_the_draft() {
    let said = "one two three";
    for (name, reply, exit, code) in [
        (
            "error",
            Reply::text(said).error_mid_stream("runner died"),
            5,
            "server_error",
        ),
        (
            "no end",
            Reply::text(said).no_done(),
            5,
            "stream_interrupted",
        ),
        (
            "cut",
            Reply::text(said).cut_after_chunks(3),
            5,
            "stream_interrupted",
        ),
    ] {
        let env = TestEnv::new();
        let id = env.chat("first").run().session_id();
        let before = env.log(&id);
        let output = env
            .chat("count")
            .session(&id)
            .answered(reply.thinking(""))
            .run();
        let failure = output.fails(exit, code);
        assert_eq!(failure.session_id.as_deref(), Some(&*id), "{name}");
        let draft = &env.drafts()[0];
        assert_eq!(draft["prompt"], "count", "{name}");
        assert_eq!(draft["session"], id, "{name}");
        assert_eq!(draft["response"], said, "{name}");
        assert_eq!(env.log(&id), before, "{name}");
        // The session goes on as if it had not been asked.
        env.chat("next").session(&id).run().ok();
        let sent = env.server().last_request().contents();
        assert_eq!(sent, ["first", "reply to: first", "next"], "{name}");
    }
}

#[test]
fn a_reset_connection_is_an_interrupted_stream() {
    let env = TestEnv::new();
    let reply = Reply::text("one two three").reset_after_chunks(2);
    fails_as(
        &env,
        "reset",
        reply,
        &expect(5, "stream_interrupted", true, false),
    );
    assert_eq!(env.drafts().len(), 1);
}

#[test]
fn nobody_listening_names_the_host_and_how_to_start_it() {
    let env = TestEnv::new();
    let run = env.chat("hi").env("OLLAMA_HOST", NOBODY_LISTENS).run();
    let failure = run.fails(4, "server_unreachable");
    assert!(failure.retryable);
    assert!(failure.error.contains("127.0.0.1:1"), "{}", failure.error);
    assert!(failure.hint.is_some_and(|h| h.contains("ollama serve")));
    let id = failure.session_id.expect("the session it would have been");
    assert_eq!(env.drafts()[0]["session"], id);
    assert_eq!(env.drafts()[0]["prompt"], "hi");
}

#[test]
fn silence_is_waited_out_only_so_long_before_a_reply_and_within_it() {
    let env = TestEnv::new();
    let patience = ["--timeout", "0.3"];
    let before = env.chat("hi").args(patience).answered(Reply::silence());
    let failure = before.run().fails(4, "timeout");
    assert!(failure.retryable);
    assert!(failure.hint.is_some_and(|h| h.contains("--timeout")));

    let gate = Gate::new();
    let stalls = Reply::text("one two three").pause_after_chunks(2, &gate);
    let within = env.chat("hi").args(patience).answered(stalls).run();
    within.fails(4, "timeout");
    gate.open();
    assert_eq!(env.drafts()[1]["response"], "one two ");
}

#[test]
fn a_message_that_cannot_fit_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    let long = "word ".repeat(2000);
    let budget = ["--max-context-tokens", "1000"];
    for stateless in [None, Some("--no-session")] {
        let output = env.chat(&long).args(budget).args(stateless).run();
        let failure = output.fails(6, "context_overflow");
        assert!(!failure.retryable);
        assert!(
            failure
                .hint
                .is_some_and(|h| h.contains("--max-context-tokens"))
        );
        assert_eq!(failure.session_id.is_some(), stateless.is_none());
    }
    assert_eq!(env.server().request_count(), 0);
    assert_eq!(env.server().count_of("/api/show"), 0);
}

#[test]
fn a_window_the_server_says_is_too_small_is_the_same_failure() {
    let env = TestEnv::new();
    for case in [
        "ctx-truncate-false",
        "ctx-shift-false",
        "ctx-truncate-false-shift-false",
    ] {
        env.server().handle(move |_| Reply::recorded(case));
        let failure = env.chat("hi").run().fails(6, "context_overflow");
        assert!(failure.server_message.is_some(), "{case}");
        assert!(!failure.retryable, "{case}");
    }
}

#[test]
fn a_first_turn_that_failed_leaves_no_session_and_names_the_one_it_would_have_been() {
    let env = TestEnv::new();
    let output = env.chat("hi").answered(Reply::error(500, "boom")).run();
    let id = output.fails(5, "server_error").session_id.expect("an id");
    let list = env.command().arg("--list-sessions").run();
    assert_eq!(list.ok().json(), json!({"sessions": [], "total": 0}));
    // What was asked can be seen, and asked again under the same id.
    let info = env.command().args(["--session-info", &id]).run();
    let info = info.ok().json();
    assert_eq!(info["messages"], json!([]));
    assert_eq!(info["unfinished"][0]["prompt"], "hi");
    assert_eq!(info["unfinished"][0]["error"]["code"], "server_error");
    assert_eq!(info["unfinished"][0]["under_way"], false);
    let again = env.chat("hi").session(&id).arg("--create").run();
    assert_eq!(again.session_id(), id);
}

#[test]
fn text_from_a_server_does_not_leave_its_line() {
    let env = TestEnv::new();
    let words = "a\n{\"code\":\"usage\"}\r\u{1b}[2J\u{2028}b";
    let output = env.chat("hi").answered(Reply::error(500, words)).run();
    let failure = output.fails(5, "server_error");
    assert_eq!(failure.server_message.as_deref(), Some(words));
    assert_eq!(output.stderr().lines().count(), 1, "{output}");
    let raw = |c: char| c.is_control() && c != '\n' || c == '\u{2028}';
    assert!(!output.stderr().contains(raw), "{output}");
}

/// Takes a turn that must fail as expected.
#[track_caller]
fn fails_as(env: &TestEnv, name: &str, reply: Reply, expected: &Expected) -> Failure {
    let output = env.chat("hi").answered(reply).run();
    let failure = output.fails(expected.exit, expected.code);
    assert_eq!(failure.retryable, expected.retryable, "{name}: {output}");
    assert_eq!(
        failure.hint.is_some(),
        expected.has_hint,
        "{name}: {output}"
    );
    assert_eq!(output.stderr().lines().count(), 1, "{name}: {output}");
    assert!(failure.session_id.is_some(), "{name}: {output}");
    assert!(matches!(failure.json, Value::Object(_)), "{name}");
    failure
}
