//! The table of codes from outside: for each a call that ends in it, with its exit status, whether
//! to try again, one line of JSON, what to do next, and the session where one was meant. A code
//! without such a call fails the test.

use std::path::Path;

use ollama_prompt::error::Code;

use crate::stored::{id, make_session, traced};
use crate::support::{Failure, NOBODY_LISTENS, Output, Reply, TestEnv, need};

/// A call that ends in a code.
struct Row {
    code: Code,
    has_hint: bool,
    names_session: bool,
    /// Whether there is a result on standard output all the same.
    prints: bool,
    provoke: fn(&TestEnv) -> Output,
}

const fn row(code: Code, provoke: fn(&TestEnv) -> Output) -> Row {
    Row {
        code,
        has_hint: false,
        names_session: false,
        prints: false,
        provoke,
    }
}

impl Row {
    const fn hint(mut self) -> Self {
        self.has_hint = true;
        self
    }

    const fn session(mut self) -> Self {
        self.names_session = true;
        self
    }

    const fn prints(mut self) -> Self {
        self.prints = true;
        self
    }
}

const ROWS: &[Row] = &[
    row(Code::Internal, |env| {
        let list = env.command().arg("--list-sessions");
        traced(list, &[], &["trace=clone3", "inject=clone3:error=EAGAIN"]).run()
    }),
    row(Code::Usage, |env| env.command().arg("--quiet").run()).hint(),
    row(Code::Config, |env| {
        env.chat("hi").env("OLLAMA_HOST", "ftp://x").run()
    })
    .hint(),
    row(Code::SessionNotFound, |env| {
        env.chat("hi").session(&id(1)).run()
    })
    .hint()
    .session(),
    row(Code::SessionAmbiguous, |env| {
        make_session(env, &id(1), &["one"]);
        make_session(env, &id(2), &["one"]);
        env.chat("hi").session(&id(1)[..23]).run()
    })
    .hint(),
    // Ids are random: that one is there already takes a system that says so.
    row(Code::SessionExists, |env| {
        make_session(env, &id(1), &["one"]);
        let rules = ["trace=mkdirat", "inject=mkdirat:error=EEXIST"];
        traced(env.chat("hi"), &[], &rules).run()
    })
    .hint()
    .session()
    .prints(),
    row(Code::TurnConflict, |env| {
        make_session(env, &id(1), &["one"]);
        let turn = env.chat("hi").session(&id(1));
        turn.args(["--expect-turn", "01KAG4ZZZZZZZZZZZZZZZZZZZZ"])
            .run()
    })
    .hint()
    .session(),
    row(Code::IdempotencyConflict, |env| {
        make_session(env, &id(1), &["one"]);
        let key = ["--idempotency-key", "k"];
        let turn = env.chat("hi").session(&id(1)).args(key);
        turn.replies("hello");
        env.chat("bye").session(&id(1)).args(key).run()
    })
    .hint()
    .session(),
    row(Code::ServerUnreachable, |env| {
        env.chat("hi").env("OLLAMA_HOST", NOBODY_LISTENS).run()
    })
    .hint()
    .session(),
    row(Code::Timeout, |env| {
        let turn = env.chat("hi").args(["--timeout", "0.2"]);
        turn.answered(Reply::silence()).run()
    })
    .hint()
    .session(),
    row(Code::ModelNotFound, |env| {
        answered(env, Reply::recorded("chat-unknown-model"))
    })
    .hint()
    .session(),
    row(Code::AuthRequired, |env| {
        answered(env, Reply::error(401, "unauthorized"))
    })
    .hint()
    .session(),
    row(Code::RateLimited, |env| {
        answered(env, Reply::recorded("server-busy"))
    })
    .hint()
    .session(),
    row(Code::ServerError, |env| {
        answered(env, Reply::error(500, "boom"))
    })
    .session(),
    row(Code::BadResponse, |env| answered(env, Reply::html(200)))
        .hint()
        .session(),
    row(Code::StreamInterrupted, |env| {
        answered(env, Reply::text("one two").cut_after_chunks(1))
    })
    .session(),
    row(Code::ModelUnsupported, |env| {
        answered(env, Reply::recorded("chat-think-unsupported"))
    })
    .session(),
    row(Code::ContextOverflow, |env| {
        let long = "word ".repeat(2000);
        env.chat(&long).args(["--max-context-tokens", "1000"]).run()
    })
    .hint()
    .session(),
    row(Code::StoreIo, |env| log_fails_to_open(env, "EIO")).session(),
    row(Code::StoreFull, |env| {
        make_session(env, &id(1), &["one"]);
        let open = env.store().join("open");
        let rules = ["trace=openat", "inject=openat:error=ENOSPC:when=2"];
        let turn = env.chat("hi").session(&id(1));
        traced(turn, &[&open, Path::new("open")], &rules).run()
    })
    .hint()
    .session(),
    row(Code::StoreReadonly, |env| log_fails_to_open(env, "EROFS"))
        .hint()
        .session(),
    row(Code::StoreLocked, |env| {
        make_session(env, &id(1), &["one"]);
        let turn = env.lines(&id(1))[1]["id"].clone();
        let address = format!("{}:{}", id(1), turn.as_str().expect("an id"));
        let _held = hold_lock(env, &id(1));
        let pin = env.command().args(["session", "pin", &address]);
        pin.env("OLLAMA_PROMPT_LOCK_TIMEOUT", "0.1").run()
    })
    .hint()
    .session(),
    row(Code::StoreUnsupported, |env| {
        let file = env.write("store", "I am a file");
        env.chat("hi").env("OLLAMA_PROMPT_HOME", file).run()
    })
    .hint(),
    row(Code::Reference, |env| {
        env.chat("read @./nothing").arg("--strict-refs").run()
    })
    .hint(),
    row(Code::Damaged, |env| {
        make_session(env, &id(1), &["one"]);
        env.write(env.log_path(&id(1)), env.log(&id(1)) + "garbage\n{}\n");
        env.command().args(["session", "verify"]).run()
    })
    .hint()
    .prints(),
    row(Code::Hangup, |env| signalled(env, 1)).session(),
    row(Code::Interrupted, |env| signalled(env, 2)).session(),
    row(Code::Terminated, |env| signalled(env, 15)).session(),
];

/// What only a store on a server ends in; its tests have the calls.
const OF_A_SERVER: [Code; 3] = [Code::StoreUnreachable, Code::StoreAuth, Code::StoreTls];

#[test]
fn every_code_has_a_call_that_ends_in_it() {
    for code in Code::ALL.iter().filter(|code| !OF_A_SERVER.contains(code)) {
        let rows = ROWS.iter().filter(|row| row.code == *code).count();
        assert_eq!(rows, 1, "{}", code.name());
    }
}

#[test]
fn every_code_comes_with_its_status_its_hint_and_nothing_else() {
    if !need("strace") {
        return;
    }
    for row in ROWS {
        let name = row.code.name();
        let env = TestEnv::new();
        let output = (row.provoke)(&env);
        let exit = row.code.exit_status().into();
        let failure: Failure = if row.prints {
            assert!(!output.stdout().is_empty(), "{name}: {output}");
            output.prints_and_fails(exit, name)
        } else {
            output.fails(exit, name)
        };
        assert_eq!(failure.retryable, row.code.retryable(), "{name}: {output}");
        assert_eq!(failure.hint.is_some(), row.has_hint, "{name}: {output}");
        let session = failure.session_id.is_some();
        assert_eq!(session, row.names_session, "{name}: {output}");
        assert_eq!(output.stderr().lines().count(), 1, "{name}: {output}");
        let list = env.command().arg("--list-sessions").run().ok().json();
        for session in list["sessions"].as_array().expect("sessions") {
            assert_ne!(session["message_count"], 0, "{name}: an empty session");
        }
    }
}

fn answered(env: &TestEnv, reply: Reply) -> Output {
    env.chat("hi").answered(reply).run()
}

fn signalled(env: &TestEnv, signal: i32) -> Output {
    let mut run = env.chat("hi").answered(Reply::silence()).spawn();
    run.wait_for_request();
    run.signal(signal);
    run.wait()
}

/// Takes a turn whose session's log cannot be opened for appending.
fn log_fails_to_open(env: &TestEnv, error: &str) -> Output {
    make_session(env, &id(1), &["one"]);
    let (log, name) = (env.log_path(&id(1)), Path::new("events.jsonl"));
    // The first opening reads the session, the second is to see whether it can be written.
    let rule = format!("inject=openat:error={error}:when=2");
    let turn = env.chat("hi").session(&id(1));
    traced(turn, &[&log, name], &["trace=openat", &rule]).run()
}

/// Takes the lock of a session, as another process may.
pub(crate) fn hold_lock(env: &TestEnv, session: &str) -> std::fs::File {
    // Sessions share lock files by the last two digits of their ids.
    let lock = env
        .store()
        .join("locks")
        .join(&session[session.len() - 2..]);
    let held = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .expect("a lock file");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("the lock");
    held
}

#[test]
#[ignore = "is run by the next, in a process of its own"]
fn a_broken_promise() {
    ollama_prompt::output::tell_bugs(ollama_prompt::cli::Color::Auto);
    panic!("what was promised\nis not so");
}

#[test]
fn a_bug_is_told_as_a_failure_and_has_its_own_status() {
    let this = std::env::current_exe().expect("the tests' own path");
    let output = std::process::Command::new(this)
        .args([
            "--exact",
            "exit_codes::a_broken_promise",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .expect("the tests run themselves");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().last().unwrap_or_default();
    let failure: serde_json::Value = serde_json::from_str(line).expect("one line of JSON");
    assert_eq!(failure["code"], "internal", "{stderr}");
    let error = failure["error"].as_str().expect("a sentence");
    assert!(error.contains("what was promised is not so"), "{error}");
    assert!(failure["hint"].is_string(), "{stderr}");
}
