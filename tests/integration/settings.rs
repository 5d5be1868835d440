//! What a session keeps between turns, what changes it, and where the sessions are kept.

use serde_json::{Value, json};

use crate::support::{Reply, TestEnv};

#[test]
fn a_session_keeps_model_system_prompt_and_budget() {
    let env = TestEnv::new();
    let id = env
        .chat("one")
        .args(["--model", "m1", "--system", "Be brief."])
        .args(["--max-context-tokens", "9000"])
        .run()
        .session_id();
    let output = env
        .chat("two")
        .session(&id)
        .env("OLLAMA_PROMPT_MODEL", "other")
        .env("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "123")
        .run();
    let request = env.server().last_request();
    assert_eq!(request.model(), "m1");
    assert_eq!(
        request.contents(),
        ["Be brief.", "one", "reply to: one", "two"]
    );
    assert_eq!(
        output.ok().json()["context_usage"]["max_context_tokens"],
        9000
    );
    assert_eq!(sets(&env, &id), [] as [Value; 0]);
}

#[test]
fn a_flag_changes_a_session_from_then_on() {
    let env = TestEnv::new();
    let id = env
        .chat("one")
        .args(["--model", "m1", "--system", "Be brief."])
        .run()
        .session_id();
    env.chat("two")
        .session(&id)
        .args(["--model", "m2", "--system", "Be long."])
        .args(["--max-context-tokens", "8000"])
        .run()
        .ok();
    assert_eq!(env.server().last_request().model(), "m2");
    assert_eq!(env.server().last_request().contents()[0], "Be long.");
    let output = env.chat("three").session(&id).run();
    assert_eq!(
        output.ok().json()["context_usage"]["max_context_tokens"],
        8000
    );
    let request = env.server().last_request();
    assert_eq!(request.model(), "m2");
    assert_eq!(request.contents()[0], "Be long.");
    assert_eq!(
        sets(&env, &id),
        [json!({"model": "m2", "system": "Be long.", "max_context_tokens": 8000})]
    );
}

#[test]
fn a_flag_that_changes_nothing_is_not_written_down() {
    let env = TestEnv::new();
    let same = ["--model", "m", "--max-context-tokens", "8000"];
    let id = env.chat("one").args(same).run().session_id();
    env.chat("two").session(&id).args(same).run().ok();
    assert_eq!(sets(&env, &id), [] as [Value; 0]);
    env.chat("three")
        .session(&id)
        .args(["--model", "n"])
        .args(["--max-context-tokens", "8000"])
        .run()
        .ok();
    assert_eq!(sets(&env, &id), [json!({"model": "n"})]);
}

#[test]
fn a_turn_that_failed_changes_nothing() {
    let env = TestEnv::new();
    let id = env.chat("one").args(["--model", "m1"]).run().session_id();
    let before = env.log(&id);
    env.chat("two")
        .session(&id)
        .args(["--model", "m2"])
        .answered(Reply::error(500, "boom"))
        .run()
        .fails(5, "server_error");
    assert_eq!(env.log(&id), before);
    env.chat("three").session(&id).run().ok();
    assert_eq!(env.server().last_request().model(), "m1");
}

#[test]
fn an_empty_system_prompt_removes_it() {
    let env = TestEnv::new();
    let system = ["--system", "Be brief."];
    let id = env.chat("one").args(system).run().session_id();
    env.chat("two")
        .session(&id)
        .args(["--system", ""])
        .run()
        .ok();
    assert_eq!(env.server().last_request().roles()[0], "user");
    env.chat("three").session(&id).run().ok();
    assert_eq!(env.server().last_request().roles()[0], "user");
    let info = env.command().args(["--session-info", &id]).run();
    assert_eq!(
        info.ok().json().get("system_prompt"),
        Some(&Value::Null),
        "{info}"
    );
}

#[test]
fn a_new_session_takes_its_settings_from_the_environment() {
    let env = TestEnv::new();
    let output = env
        .chat("one")
        .env("OLLAMA_PROMPT_MODEL", "env")
        .env("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "7000")
        .run();
    let id = output.session_id();
    assert_eq!(output.json()["context_usage"]["max_context_tokens"], 7000);
    env.chat("two").session(&id).run().ok();
    assert_eq!(env.server().last_request().model(), "env");
}

#[test]
fn the_store_is_where_the_environment_says() {
    let env = TestEnv::new();
    let elsewhere = env.work().join("deep/er/store");
    let at = elsewhere.to_str().expect("a plain path");
    for name in ["OLLAMA_PROMPT_HOME", "OLLAMA_PROMPT_DB_PATH"] {
        let id = env.chat("one").env(name, at).run().session_id();
        let log = elsewhere.join("sessions").join(&id).join("events.jsonl");
        assert!(log.is_file(), "{name}: {}", log.display());
        let again = env.chat("two").session(&id).env(name, at).run();
        assert_eq!(again.session_id(), id, "{name}");
    }
    let both = env.command().arg("--list-sessions");
    let both = both
        .env("OLLAMA_PROMPT_HOME", at)
        .env("OLLAMA_PROMPT_DB_PATH", at);
    assert_eq!(both.run().ok().json()["total"], 2);
    assert!(env.files().is_empty(), "{:?}", env.files());
}

#[test]
fn two_stores_that_disagree_are_no_store() {
    let env = TestEnv::new();
    let run = env.chat("one").env("OLLAMA_PROMPT_HOME", "a");
    let failure = run
        .env("OLLAMA_PROMPT_DB_PATH", "b")
        .run()
        .fails(2, "config");
    assert!(failure.error.contains("OLLAMA_PROMPT_DB_PATH"));
    assert!(failure.hint.is_some());
    assert_eq!(env.server().request_count(), 0);
}

/// Runs what needs a store with the address of a database this build cannot use.
#[cfg(not(feature = "mongodb-srv"))]
#[track_caller]
fn assert_database_refused(uri: &str, feature: &str) {
    let env = TestEnv::new();
    for args in [&["--prompt", "hi"][..], &["--list-sessions"]] {
        let run = env.command().args(args).env("OLLAMA_PROMPT_DB_URI", uri);
        let output = run.run();
        let failure = output.fails(2, "config");
        let hint = failure.hint.as_deref().unwrap_or_default();
        assert!(hint.contains(feature), "{output}");
        assert!(!output.stderr().contains("s3cret"), "{output}");
    }
    assert_eq!(env.server().request_count(), 0);
    let stateless = env.chat("hi").arg("--no-session");
    stateless.env("OLLAMA_PROMPT_DB_URI", uri).run().ok();
    assert!(env.files().is_empty());
}

#[cfg(not(feature = "mongodb"))]
#[test]
fn a_database_this_build_cannot_use_is_named_and_never_ignored() {
    for uri in ["mongodb://me:s3cret@h/db", "mongodb+srv://me:s3cret@h/db"] {
        assert_database_refused(uri, "--features mongodb");
    }
}

#[cfg(all(feature = "mongodb", not(feature = "mongodb-srv")))]
#[test]
fn a_name_this_build_does_not_look_up_is_refused_and_never_ignored() {
    assert_database_refused("mongodb+srv://me:s3cret@h/db", "--features mongodb-srv");
}

#[test]
fn what_is_no_address_of_a_database_is_refused_without_being_told() {
    let env = TestEnv::new();
    for uri in ["postgres://me:s3cret@h/db", "mongodb://me:s3cret/@h/db"] {
        let run = env.command().arg("--list-sessions");
        let output = run.env("OLLAMA_PROMPT_DB_URI", uri).run();
        let failure = output.fails(2, "config");
        assert!(failure.error.contains("OLLAMA_PROMPT_DB_URI"), "{output}");
        assert!(failure.hint.is_some(), "{output}");
        assert!(!output.stderr().contains("s3cret"), "{output}");
    }
}

#[test]
fn without_any_place_for_sessions_a_stateless_turn_still_works() {
    let env = TestEnv::new();
    let failure = env.chat("hi").env_remove("HOME").run().fails(2, "config");
    assert!(
        failure
            .hint
            .is_some_and(|hint| hint.contains("--no-session"))
    );
    let stateless = env.chat("hi").arg("--no-session").env_remove("HOME");
    stateless.run().ok();
}

#[test]
fn the_database_of_the_python_tool_is_left_alone_and_the_hint_says_how_to_import_it() {
    let env = TestEnv::new();
    let bytes = b"SQLite format 3\0and then pages".to_vec();
    let database = env.write("sessions.db", &bytes);
    for args in [
        &["--prompt", "hi"][..],
        &["--list-sessions"],
        &["--purge", "0"],
    ] {
        let run = env.command().args(args);
        let output = run.env("OLLAMA_PROMPT_DB_PATH", &database).run();
        let failure = output.fails(2, "config");
        assert!(failure.error.contains("sessions.db"), "{}", failure.error);
        let hint = failure.hint.expect("a hint");
        assert!(hint.contains("import"), "{hint}");
    }
    assert_eq!(
        std::fs::read(&database).expect("the database"),
        bytes,
        "it was changed"
    );
    assert!(env.files().is_empty(), "{:?}", env.files());
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn the_store_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnv::new();
    let id = env
        .chat("one")
        .through(["sh", "-c", "umask 0; exec \"$0\" \"$@\""])
        .run()
        .session_id();
    let mode = |path: &std::path::Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&env.store()), 0o700);
    for directory in ["sessions", "locks", "open", &format!("sessions/{id}")] {
        assert_eq!(mode(&env.store().join(directory)), 0o700, "{directory}");
    }
    for file in env.files() {
        assert_eq!(mode(&env.home().join(&file)), 0o600, "{}", file.display());
    }
}

/// Returns what each `set` event of a session says, without its envelope.
fn sets(env: &TestEnv, id: &str) -> Vec<Value> {
    let mut lines = env.lines(id);
    lines.retain(|line| line["type"] == "set");
    for line in &mut lines {
        let object = line.as_object_mut().expect("a line is an object");
        for key in ["v", "id", "type", "ts", "at"] {
            assert!(object.remove(key).is_some(), "{key}");
        }
    }
    lines
}
