//! Sessions from outside: made, continued, found again, listed and shown; what a session
//! remembers, and what leaves no trace.
//!
//! The quickstart of the tool this one replaces is here block by block. Purge is in `purge.rs`.

use serde_json::{Value, json};

use crate::support::{Output, Reply, TestEnv};

#[test]
fn the_first_call_makes_a_session_and_the_second_continues_it_with_all_that_was_said() {
    let env = TestEnv::new();
    let first = env
        .chat("Help me plan a web application")
        .replies("Let us begin.");
    let id = first.session_id();
    assert_eq!(env.server().last_request().roles(), ["user"]);

    let second = env
        .chat("Now the schema")
        .session(&id)
        .replies("Two tables.");
    assert_eq!(second.session_id(), id);
    assert_eq!(second.json()["turn"]["parent"], first.json()["turn"]["id"]);
    assert_eq!(second.json()["context_usage"]["kept_turns"], 1);
    let request = env.server().last_request();
    assert_eq!(request.roles(), ["user", "assistant", "user"]);
    assert_eq!(
        request.contents(),
        [
            "Help me plan a web application",
            "Let us begin.",
            "Now the schema"
        ]
    );
    assert_eq!(types(&env, &id), ["session", "turn", "turn"]);
    assert_eq!(env.drafts(), Vec::<Value>::new());
}

#[test]
fn the_list_has_its_shape_and_shows_the_last_used_first() {
    let env = TestEnv::new();
    let older = env.chat("one").args(["--model", "m1"]).run().session_id();
    let newer = env.chat("two").args(["--model", "m2"]).run().session_id();
    assert_eq!(listed(&env), [newer.clone(), older.clone()]);
    env.chat("again").session(&older).run().ok();
    assert_eq!(listed(&env), [older.clone(), newer]);

    let list = env.command().arg("--list-sessions").run();
    let json = list.ok().json();
    assert_eq!(keys(&json), ["sessions", "total"]);
    assert_eq!(json["total"], 2);
    let first = &json["sessions"][0];
    assert_eq!(
        keys(first)[..6],
        [
            "session_id",
            "model_name",
            "created_at",
            "last_used",
            "message_count",
            "context_tokens"
        ]
    );
    assert_eq!(first["model_name"], "m1");
    assert_eq!(first["message_count"], 4);
    assert!(first["context_tokens"].as_u64() > Some(0));
    for key in ["created_at", "last_used"] {
        assert!(text(&first[key]).ends_with('Z'), "{first}");
    }
    assert!(list.stdout().starts_with("{\n  \"sessions\": [\n    {\n"));
}

#[test]
fn the_list_of_no_sessions_is_empty_and_makes_no_store() {
    let env = TestEnv::new();
    let list = env.command().arg("--list-sessions").run();
    assert_eq!(list.ok().json(), json!({"sessions": [], "total": 0}));
    assert!(!env.store().exists());
}

#[test]
fn the_info_of_a_session_has_every_message_and_these_keys() {
    let env = TestEnv::new();
    let model = ["--model", "m", "--system", "Be brief."];
    let id = env.chat("q1").args(model).replies("a1").session_id();
    let thought = Reply::text("a2").thinking("hm");
    env.chat("q2").session(&id).answered(thought).run().ok();

    let info = info(&env, &id);
    assert_eq!(
        keys(&info)[..11],
        [
            "session_id",
            "model_name",
            "created_at",
            "last_used",
            "max_context_tokens",
            "context_tokens",
            "context_usage_percent",
            "message_count",
            "messages",
            "system_prompt",
            "metadata"
        ]
    );
    assert_eq!(info["session_id"], id);
    assert_eq!(info["model_name"], "m");
    assert_eq!(info["max_context_tokens"], 64_000);
    assert_eq!(info["message_count"], 4);
    assert_eq!(info["system_prompt"], "Be brief.");
    let messages = info["messages"].as_array().expect("messages");
    let said: Vec<_> = messages
        .iter()
        .map(|m| (text(&m["role"]), text(&m["content"])))
        .collect();
    assert_eq!(
        said,
        [
            ("user", "q1"),
            ("assistant", "a1"),
            ("user", "q2"),
            ("assistant", "a2")
        ]
    );
    for message in messages {
        assert_eq!(
            keys(message)[..4],
            ["role", "content", "timestamp", "tokens"]
        );
        assert_eq!(message["in_context"], true);
        assert!(text(&message["timestamp"]).ends_with('Z'));
    }
    assert_eq!(messages[3]["thinking"], "hm");
}

#[test]
fn an_id_that_names_nothing_is_not_found() {
    let env = TestEnv::new();
    // The quickstart's own sample: no UUID, but spelled like one.
    let sample = "f8e3c2a1-4b5d-6e7f-8g9h-0i1j2k3l4m5n";
    let valid = "0199aabb-ccdd-7fff-bfff-ffffffffffff";
    for prepared in [false, true] {
        for id in [sample, valid, "f8e3c2a1"] {
            for run in [
                env.chat("hi").session(id),
                env.command().args(["--session-info", id]),
            ] {
                let failure = run.run().fails(3, "session_not_found");
                assert!(failure.error.contains(id), "{}", failure.error);
                assert!(failure.hint.is_some_and(|h| h.contains("--list-sessions")));
            }
        }
        if !prepared {
            env.chat("so that there is one").run().ok();
        }
    }
    assert_eq!(env.server().request_count(), 1);
}

#[test]
fn an_id_that_is_none_is_a_mistake() {
    let env = TestEnv::new();
    for id in ["", "null", "short", "../../../etc", "a b c d e f g h"] {
        for run in [
            env.chat("hi").session(id),
            env.command().args(["--session-info", id]),
        ] {
            let failure = run.run().fails(2, "usage");
            assert!(failure.hint.is_some(), "{id:?}");
        }
    }
    assert_eq!(env.server().request_count(), 0);
    assert!(env.files().is_empty());
}

#[test]
fn without_a_session_nothing_is_left_behind_and_nothing_is_said_of_one() {
    let env = TestEnv::new();
    let flag = env.chat("just this").arg("--no-session").run();
    let variable = env
        .chat("just this")
        .env("OLLAMA_PROMPT_NO_SESSION", "1")
        .run();
    for output in [&flag, &variable] {
        let json = output.ok().json();
        for key in ["session_id", "turn"] {
            assert_eq!(json.get(key), None, "{key}");
        }
        for key in ["kept_turns", "dropped_turns"] {
            assert_eq!(json["context_usage"].get(key), None, "{key}");
        }
        assert_eq!(json["context_usage"]["max_context_tokens"], 64_000);
    }
    let failed = env
        .chat("just this")
        .arg("--no-session")
        .answered(Reply::error(500, "boom"))
        .run();
    let failure = failed.fails(5, "server_error");
    assert_eq!(failure.session_id, None);
    assert!(env.files().is_empty(), "{:?}", env.files());
    assert!(!env.store().exists());
}

#[test]
fn without_a_session_a_store_that_is_there_stays_as_it_is() {
    let env = TestEnv::new();
    let id = env.chat("hi").run().session_id();
    let before = env.snapshot();
    env.chat("just this").arg("--no-session").run().ok();
    assert_eq!(env.snapshot(), before);
    assert_eq!(env.server().last_request().contents(), ["just this"]);
    // Not even where the store cannot be one.
    let odd = env.write("a-file", "no directory");
    let stateless = env.chat("x").arg("--no-session");
    stateless.env("OLLAMA_PROMPT_HOME", odd).run().ok();
    assert_eq!(env.lines(&id).len(), 2);
}

#[test]
fn a_flag_that_names_a_session_beats_the_variable() {
    let env = TestEnv::new();
    let stateless = |prompt| env.chat(prompt).env("OLLAMA_PROMPT_NO_SESSION", "1");
    let id = stateless("one").arg("--new-session").run().session_id();
    assert_eq!(stateless("two").session(&id).run().session_id(), id);
    assert_eq!(stateless("three").arg("-c").run().session_id(), id);
    stateless("x")
        .args(["--session-key", "k"])
        .run()
        .session_id();
    let odd = env.chat("x").env("OLLAMA_PROMPT_NO_SESSION", "maybe");
    let failure = odd.run().fails(2, "config");
    assert!(failure.error.contains("OLLAMA_PROMPT_NO_SESSION"));
}

#[test]
fn a_part_of_an_id_from_its_beginning_or_its_end_names_it() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    for part in [
        &id[..8],
        &id[..20],
        &id[id.len() - 8..],
        &id[1..],
        &id.to_uppercase(),
    ] {
        let output = env.chat("more").session(part).run();
        assert_eq!(output.session_id(), id, "{part}");
        assert_eq!(info(&env, part)["session_id"], id, "{part}");
    }
    let middle = env.chat("more").session(&id[9..18]).run();
    middle.fails(3, "session_not_found");
    let short = env.chat("more").session(&id[..7]).run();
    short.fails(2, "usage");
}

#[test]
fn a_part_that_fits_two_sessions_is_refused_and_names_both() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    // A copied directory is a session.
    let last = if id.ends_with('0') { "1" } else { "0" };
    let twin = format!("{}{last}", &id[..35]);
    env.write(env.log_path(&twin), env.log(&id));
    let before = env.snapshot();

    let failure = env
        .chat("x")
        .session(&id[..8])
        .run()
        .fails(3, "session_ambiguous");
    let hint = failure.hint.expect("a hint");
    assert!(hint.contains(&id) && hint.contains(&twin), "{hint}");
    assert_eq!(env.server().request_count(), 1);
    assert_eq!(env.snapshot(), before);
    for full in [&id, &twin] {
        assert_eq!(env.chat("x").session(full).run().session_id(), *full);
    }
}

#[test]
fn a_key_always_names_the_same_session() {
    let env = TestEnv::new();
    let keyed = |prompt, key| env.chat(prompt).args(["--session-key", key]).run();
    let id = keyed("one", "main").session_id();
    // python3 -c "import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, 'ollama-prompt:session:main'))"
    assert_eq!(id, "8029a7ef-a5c3-5f6d-9fba-0a44b16eb20a");
    assert_eq!(keyed("two", "main").session_id(), id);
    assert_eq!(env.server().last_request().roles().len(), 3);
    assert_ne!(keyed("other", "issue 17").session_id(), id);
    keyed("x", "").fails(2, "usage");
}

#[test]
fn create_makes_the_session_of_a_full_id_once_and_continues_it_then() {
    let env = TestEnv::new();
    let id = "6b1f2a33-9a52-4c3e-8d10-019aa0c47d10";
    let without = env.chat("one").session(id).run();
    without.fails(3, "session_not_found");
    for (prompt, messages) in [("one", 1), ("two", 3)] {
        let output = env.chat(prompt).session(id).arg("--create").run();
        assert_eq!(output.session_id(), id);
        assert_eq!(env.server().last_request().roles().len(), messages);
    }
    let part = env.chat("x").session("6b1f2a33").arg("--create").run();
    part.fails(2, "usage");
    env.chat("x").arg("--create").run().fails(2, "usage");
}

#[test]
fn continue_takes_the_session_used_last() {
    let env = TestEnv::new();
    let failure = env.chat("x").arg("--continue").run();
    failure.fails(3, "session_not_found");
    let first = env.chat("one").run().session_id();
    let second = env.chat("two").run().session_id();
    let latest = || env.chat("more").arg("--continue").run().session_id();
    assert_eq!(latest(), second);
    env.chat("again").session(&first).run().ok();
    assert_eq!(latest(), first);
    let fresh = env.chat("new").arg("--new-session").run().session_id();
    assert!(fresh != first && fresh != second);
    assert_eq!(env.server().last_request().roles(), ["user"]);
}

#[test]
fn ways_to_name_a_session_exclude_each_other() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let flags: [&[&str]; 5] = [
        &["--session-id", &id],
        &["--session-key", "k"],
        &["--continue"],
        &["--new-session"],
        &["--no-session"],
    ];
    for (at, one) in flags.iter().enumerate() {
        for other in &flags[at + 1..] {
            let output = env.chat("x").args(*one).args(*other).run();
            let failure = output.fails(2, "usage");
            assert!(
                failure.error.contains("mutually exclusive"),
                "{}",
                failure.error
            );
        }
    }
    assert_eq!(env.server().request_count(), 1);
}

/// Returns the ids of `--list-sessions` in its order.
fn listed(env: &TestEnv) -> Vec<String> {
    let list = env.command().arg("--list-sessions").run().ok().json();
    let sessions = list["sessions"].as_array().cloned().unwrap_or_default();
    sessions
        .iter()
        .map(|session| text(&session["session_id"]).to_owned())
        .collect()
}

fn info(env: &TestEnv, id: &str) -> Value {
    let output: Output = env.command().args(["--session-info", id]).run();
    output.ok().json()
}

fn types(env: &TestEnv, id: &str) -> Vec<String> {
    let lines = env.lines(id);
    lines.iter().map(|l| text(&l["type"]).to_owned()).collect()
}

fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text, not {value}"))
}
