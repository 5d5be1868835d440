//! `--idempotency-key`: one request is asked once, whoever asks it and whatever happens to them.

use serde_json::{Value, json};

use crate::stored::{id, listed, make_session, prompts, text, traced, turns};
use crate::support::{Gate, Output, Reply, Run, Running, TestEnv, need};
use crate::waiting::{lock_files, wait_until_queued};

const CALLERS: usize = 32;

/// Starts a call that asks, and is answered when the gate opens; then so many others with the
/// same arguments, which are in the queue for its key when this returns.
fn queue<'env>(
    env: &'env TestEnv,
    others: usize,
    reply: Reply,
    call: impl Fn() -> Run<'env>,
) -> (Running<'env>, Vec<Running<'env>>) {
    let mut first = call().answered(reply).spawn();
    first.wait_for_request();
    let waiting = (0..others).map(|_| call().spawn()).collect();
    wait_until_queued(env, "key-", others);
    (first, waiting)
}

/// Asserts that all of them printed one turn, which is the only one under the key.
#[track_caller]
fn assert_one_turn(env: &TestEnv, outputs: &[Output], key: &str, answer: &str) {
    let first = outputs[0].ok().json();
    for output in outputs {
        let json = output.ok().json();
        assert_eq!(json["response"], answer, "{output}");
        assert_eq!(json["turn"]["id"], first["turn"]["id"], "{output}");
        assert_eq!(json["turn"]["stored"], true, "{output}");
        assert_eq!(json["session_id"], first["session_id"], "{output}");
    }
    let asked = |output: &&Output| output.json()["turn"]["replayed"].is_null();
    assert_eq!(outputs.iter().filter(asked).count(), 1, "one asked");
    let mut stored = turns(env, &text(&first["session_id"]));
    stored.retain(|turn| turn["key"]["key"] == key);
    assert_eq!(stored.len(), 1);
    assert_eq!(lock_files(env, "key-"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn of_thirty_two_calls_with_one_key_one_asks_and_all_print_its_answer() {
    for session in [["--session-id", &id(1)], ["--session-key", "new here"]] {
        let env = TestEnv::new();
        make_session(&env, &id(1), &["before"]);
        let gate = Gate::new();
        let reply = Reply::text("the only answer").held_by(&gate);
        let call = || {
            let run = env.chat("what is it?").args(session);
            run.args(["--idempotency-key", "k 1"])
        };
        let (first, others) = queue(&env, CALLERS - 1, reply, call);
        gate.open();
        let mut outputs = vec![first.wait()];
        outputs.extend(others.into_iter().map(Running::wait));
        assert_one_turn(&env, &outputs, "k 1", "the only answer");
        assert_eq!(env.server().request_count(), 1);

        let again = call().run();
        assert_eq!(again.json()["turn"]["replayed"], true, "{again}");
        assert_eq!(env.server().request_count(), 1, "asked already");
        assert_eq!(env.drafts(), Vec::<Value>::new());
    }
}

#[test]
fn a_call_that_is_killed_is_taken_over_by_one_of_those_who_wait() {
    for session in [["--session-id", &id(1)], ["--session-key", "new here"]] {
        let env = TestEnv::new();
        make_session(&env, &id(1), &["before"]);
        let gate = Gate::new();
        let call = || {
            let run = env.chat("what is it?").args(session);
            run.args(["--idempotency-key", "k"])
        };
        let (first, others) = queue(&env, CALLERS - 1, Reply::text("no").held_by(&gate), call);
        assert_eq!(first.kill9().signal(), Some(9));
        gate.open();
        let outputs: Vec<Output> = others.into_iter().map(Running::wait).collect();
        assert_one_turn(&env, &outputs, "k", "reply to: what is it?");
        assert_eq!(env.server().request_count(), 2);
        assert_eq!(env.drafts().len(), 1, "that of the one that was killed");
    }
}

#[test]
fn a_signal_is_no_end_for_those_who_wait() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let gate = Gate::new();
    let call = || {
        let run = env.chat("what is it?").session(&id(1));
        run.args(["--idempotency-key", "k"])
    };
    let (mut first, others) = queue(&env, 3, Reply::text("no").held_by(&gate), call);
    first.signal(2);
    first.wait().fails(130, "interrupted");
    gate.open();
    let outputs: Vec<Output> = others.into_iter().map(Running::wait).collect();
    assert_one_turn(&env, &outputs, "k", "reply to: what is it?");
}

#[test]
fn all_who_wait_end_as_the_turn_ends_and_the_next_call_asks_again() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let before = env.log(&id(1));
    let gate = Gate::new();
    let call = || {
        let run = env.chat("what is it?").session(&id(1));
        run.args(["--idempotency-key", "k"])
    };
    let reply = Reply::error(500, "out of memory").held_by(&gate);
    let (first, others) = queue(&env, 7, reply, call);
    gate.open();
    let failure = first.wait().fails(5, "server_error");
    for other in others {
        let other = other.wait().fails(5, "server_error");
        assert_eq!(other.json, failure.json);
    }
    assert_eq!(env.server().request_count(), 1);
    assert_eq!(env.log(&id(1)), before);
    assert_eq!(env.drafts().len(), 1);

    let output = call().run();
    assert_eq!(output.ok().json()["response"], "reply to: what is it?");
    assert_eq!(env.server().request_count(), 2);
}

#[test]
fn another_request_with_the_key_is_a_conflict() {
    let env = TestEnv::new();
    let id = env
        .chat("q")
        .args(["--session-key", "s", "--idempotency-key", "k"])
        .run()
        .session_id();
    env.write("a.jpg", b"\xff\xd8\xff\xe0a");
    let tools = r#"[{"type": "function", "function": {"name": "f"}}]"#;
    env.write("tools.json", tools);
    let others: [(&str, &[&str]); 8] = [
        ("other", &[]),
        ("q", &["--model", "m"]),
        ("q", &["--system", "Be brief."]),
        ("q", &["--option", "seed=1"]),
        ("q", &["--think"]),
        ("q", &["--format", "json"]),
        ("q", &["--image", "a.jpg"]),
        ("q", &["--tools", "@tools.json"]),
    ];
    for (prompt, flags) in others {
        let run = env.chat(prompt).session(&id).args(flags);
        let output = run.args(["--idempotency-key", "k"]).run();
        let failure = output.fails(3, "idempotency_conflict");
        assert!(!failure.retryable && failure.hint.is_some(), "{output}");
        assert_eq!(failure.session_id.as_ref(), Some(&id));
    }
    // What is no part of the request, another key, and another session.
    let same = env.chat("q").session(&id).args(["--idempotency-key", "k"]);
    let same = same.args(["--output", "compact", "--timeout", "5m"]).run();
    assert_eq!(same.ok().json()["turn"]["replayed"], true);
    for flags in [["--session-key", "s"], ["--session-key", "t"]] {
        let key = if flags[1] == "s" { "l" } else { "k" };
        let run = env.chat("q").args(flags).args(["--idempotency-key", key]);
        assert_eq!(run.run().ok().json()["turn"].get("replayed"), None);
    }
    assert_eq!(env.server().request_count(), 3);
}

#[test]
fn another_request_while_the_first_is_under_way_does_not_wait() {
    let env = TestEnv::new();
    let gate = Gate::new();
    let call = |prompt: &str, key: &str| {
        let run = env.chat(prompt).args(["--session-key", "s"]);
        run.args(["--idempotency-key", key])
    };
    let (first, _) = queue(&env, 0, Reply::text("1").held_by(&gate), || call("q", "k"));
    call("other", "k").run().fails(3, "idempotency_conflict");
    // Another key, and none, wait for nobody's model.
    call("other", "l").run().ok();
    env.chat("more").args(["--session-key", "s"]).run().ok();
    let late = call("q", "k").args(["--timeout", "0.2"]).run();
    assert!(late.fails(4, "timeout").retryable);
    gate.open();
    first.wait().ok();
}

#[test]
fn an_answer_is_found_behind_the_horizon_and_in_every_form() {
    let env = TestEnv::new();
    let turn = |n: usize, key: &str| {
        let run = env.chat(&format!("number {n}, said in some more words"));
        let run = run.args(["--offline", "-q", "--session-key", "s"]);
        run.args(["--max-context-tokens", "200", "--max_tokens", "40"])
            .args(["--idempotency-key", key])
    };
    let first = turn(0, "k0").run().ok().json();
    for n in 1..9 {
        turn(n, &format!("k{n}")).run().ok();
    }
    let id = text(&first["session_id"]);
    let lines = env.lines(&id);
    assert!(lines.iter().any(|line| line["type"] == "prune"));
    let log = env.log(&id);
    for n in [0, 8] {
        let again = turn(n, &format!("k{n}")).run().ok().json();
        assert_eq!(again["turn"]["replayed"], true);
        assert_eq!(again["turn"]["id"], turns(&env, &id)[n]["id"]);
    }
    let response = text(&first["response"]);
    let as_text = turn(0, "k0").args(["--output", "text"]).run();
    assert_eq!(as_text.ok().stdout(), format!("{response}\n"));
    let lines = turn(0, "k0").args(["--output", "jsonl"]).run().json_lines();
    assert_eq!(lines[0]["response"], json!(response));
    assert_eq!(
        lines.last().expect("a line")["turn"]["id"],
        first["turn"]["id"]
    );
    assert_eq!(env.log(&id), log);
}

#[test]
fn a_key_that_is_none_or_has_no_session_is_a_mistake() {
    let env = TestEnv::new();
    let long = "x".repeat(257);
    for key in ["", " ", "a\nb", &long] {
        let run = env.chat("q").args(["--idempotency-key", key]);
        let failure = run.run().fails(2, "usage");
        assert!(failure.error.contains("--idempotency-key"), "{key:?}");
    }
    let run = env
        .chat("q")
        .args(["--idempotency-key", "k", "--no-session"]);
    assert!(run.run().fails(2, "usage").error.contains("session"));
    assert_eq!(env.server().request_count(), 0);
    assert!(env.files().is_empty());
}

#[test]
fn killed_at_any_moment_a_call_with_a_key_leaves_one_turn_or_none() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let mut kills = 0;
    for call in [
        "openat",
        "write",
        "pwrite64",
        "flock",
        "fdatasync",
        "unlinkat",
    ] {
        for n in 1.. {
            let key = format!("{call} {n}");
            let run = || {
                let run = env.chat(&key).session(&id(1));
                run.args(["--offline", "-q", "--idempotency-key", &key])
            };
            let trace = format!("trace={call}");
            let kill = format!("inject={call}:signal=KILL:when={n}");
            let killed = traced(run(), &[], &[&trace, &kill]).run();
            run().run().ok();
            let said = prompts(&env, &id(1));
            let times = said.iter().filter(|said| **said == key).count();
            assert_eq!(times, 1, "{key}");
            if killed.exit_code() == Some(0) {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 30, "{kills}");
    assert_eq!(listed(&env).len(), 1);
    // Those that were killed in between have left a file each, unless the next one took it.
    env.command().args(["--purge", "1"]).run().ok();
    assert_eq!(lock_files(&env, "key-"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn where_locks_do_not_work_a_promise_is_refused_before_anybody_is_asked() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    for flags in [&["--serialize"][..], &["--idempotency-key", "k"]] {
        let run = env.chat("q").session(&id(1)).args(flags);
        let rules = ["trace=flock", "inject=flock:error=ENOLCK"];
        let output = traced(run, &[], &rules).run();
        let failure = output.fails(7, "store_unsupported");
        assert!(failure.error.contains("locks"), "{output}");
    }
    assert_eq!(env.server().request_count(), 0);
}
