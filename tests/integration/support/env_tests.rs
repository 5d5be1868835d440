//! Runs and their ends held to what they promise, with a shell in the program's place.

use super::{PATIENCE, Run, TestEnv};

#[test]
fn a_run_sees_its_own_world_and_no_other() {
    let env = TestEnv::new();
    let output = shell(&env, "env | cut -d= -f1; pwd")
        .env("ADDED", "x")
        .run();
    let mut seen: Vec<&str> = output.ok().stdout().lines().collect();
    seen.retain(|name| !["PWD", "SHLVL", "OLDPWD", "_"].contains(name));
    seen.sort_unstable();
    let work = env.work();
    let work = work.to_str().expect("a plain path");
    assert_eq!(
        seen,
        [work, "ADDED", "HOME", "OLLAMA_HOST", "PATH", "TMPDIR"]
    );
    let removed = shell(&env, "echo ${OLLAMA_HOST:-none}").env_remove("OLLAMA_HOST");
    assert_eq!(removed.run().stdout(), "none\n");
}

#[test]
fn standard_input_is_what_it_was_told_to_be() {
    let env = TestEnv::new();
    assert_eq!(shell(&env, "cat").run().ok().stdout(), "");
    let large = "x".repeat(1 << 20);
    assert_eq!(
        shell(&env, "cat").stdin(large.as_str()).run().ok().stdout(),
        large
    );
    let script = "timeout 0.1 cat; echo $?; cat; echo over";
    let mut waiting = shell(&env, script).stdin_open().spawn();
    waiting.wait_for_stdout("124\n");
    assert!(waiting.is_running(), "nothing was said, and it did not end");
    waiting.close_stdin();
    assert_eq!(waiting.wait().ok().stdout(), "124\nover\n");
}

#[test]
fn a_failure_is_its_status_and_one_json_line() {
    let env = TestEnv::new();
    let line = r#"{"error":"no such","code":"usage","hint":"try","retryable":false}"#;
    let script = format!("echo warning >&2; echo '{line}' >&2; exit 2");
    let failure = shell(&env, &script).run().fails(2, "usage");
    assert_eq!(failure.error, "no such");
    assert_eq!(failure.hint.as_deref(), Some("try"));
    assert!(!failure.retryable);
    assert_eq!(failure.session_id, None);

    for (wrong, script) in [
        ("status", format!("echo '{line}' >&2; exit 3")),
        ("stdout", format!("echo '{line}' >&2; echo half; exit 2")),
        (
            "two objects",
            format!("echo '{line}' >&2; echo '{line}' >&2; exit 2"),
        ),
        (
            "not last",
            format!("echo '{line}' >&2; echo then >&2; exit 2"),
        ),
        ("nothing said", "exit 2".to_owned()),
    ] {
        let output = shell(&env, &script).run();
        assert!(fails_the_test(|| output.fails(2, "usage")), "{wrong}");
    }
    let output = shell(&env, &script).run();
    assert!(fails_the_test(|| output.fails(2, "config")), "another code");
}

#[test]
fn a_failed_assertion_tells_everything() {
    let env = TestEnv::new();
    env.write(env.store().join("cache/models.json"), "12345");
    let output = shell(&env, "echo out; echo err >&2; exit 7")
        .arg("it's")
        .run();
    let told = output.to_string();
    for part in [
        "'echo out; echo err >&2; exit 7' ollama-prompt 'it'\\''s'\n",
        "exit status: 7\n",
        "--- stdout, 4 bytes\nout\n",
        "--- stderr, 4 bytes\nerr\n",
        "       5 .ollama-prompt/cache/models.json\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert!(fails_the_test(|| output.ok()));
}

#[test]
fn a_process_is_signalled_and_killed() {
    let env = TestEnv::new();
    let trap = "trap 'echo caught; exit 143' TERM; echo ready; while :; do sleep 0.01; done";
    let mut polite = shell(&env, trap).spawn();
    polite.wait_for_stdout("ready");
    polite.signal(15);
    let output = polite.wait();
    assert_eq!(
        (output.exit_code(), output.stdout()),
        (Some(143), "ready\ncaught\n")
    );

    let mut killed = shell(&env, "echo ready; exec sleep 60").spawn();
    killed.wait_for_stdout("ready");
    assert_eq!(killed.kill9().signal(), Some(9));
}

#[test]
fn a_process_that_ends_without_asking_is_not_waited_for() {
    let env = TestEnv::new();
    let mut quiet = shell(&env, "exit 0").spawn();
    let started = std::time::Instant::now();
    assert!(fails_the_test(|| quiet.wait_for_request()));
    assert!(started.elapsed() < PATIENCE, "it was");
}

#[test]
fn what_is_on_disk_is_found() {
    let env = TestEnv::new();
    let before = env.snapshot();
    env.write(env.log_path("abc"), "{\"v\":1}\n{\"v\":2}\n");
    env.write(env.store().join("open/01.json"), r#"{"prompt":"p"}"#);
    assert_eq!(env.lines("abc").len(), 2);
    assert_eq!(env.drafts()[0]["prompt"], "p");
    let files: Vec<String> = env
        .files()
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    assert_eq!(
        files,
        [
            ".ollama-prompt/open/01.json",
            ".ollama-prompt/sessions/abc/events.jsonl"
        ]
    );
    assert_ne!(env.snapshot(), before);
    env.write(env.log_path("cut"), "{\"v\":1}\n{\"v\"");
    assert!(fails_the_test(|| env.lines("cut")));
}

#[test]
fn a_closed_pipe_is_one_nobody_reads() {
    let env = TestEnv::new();
    let output = shell(&env, "trap '' PIPE; echo x || exit 3")
        .stdout_closed()
        .run();
    assert_eq!(output.exit_code(), Some(3));
}

/// Prepares a run of a shell script, which the program's path and arguments are handed to.
fn shell<'env>(env: &'env TestEnv, script: &str) -> Run<'env> {
    env.command().through(["sh", "-c", script])
}

fn fails_the_test<R>(assertion: impl FnOnce() -> R) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(assertion)).is_err()
}
