//! Progress: a bar on a terminal for work that takes long, and nothing anywhere else.

use std::path::Path;

use crate::list::{Left, leave};
use crate::support::{TestEnv, need, terminal};

const SESSIONS: u64 = 8;

fn store(env: &TestEnv) {
    for n in 0..SESSIONS {
        let left = Left {
            n,
            model: "m:1b",
            day: 0,
            turns: 1,
            set: serde_json::json!({}),
        };
        leave(&env.store(), &left);
    }
}

/// Returns what to run a program through so that each log it opens takes as long as one on a slow
/// disk: a third of a second.
fn slow(env: &TestEnv) -> Vec<String> {
    let logs = ["-P", "events.jsonl"];
    slow_at(env, "openat,openat2", &logs)
}

/// Returns what to run a program through so that some of its system calls take a third of a second.
fn slow_at(env: &TestEnv, calls: &str, only: &[&str]) -> Vec<String> {
    let trace = env.work().join("trace");
    let trace = trace.to_str().expect("a plain path");
    let inject = format!("inject={calls}:delay_enter=330000");
    let strace = ["strace", "-f", "-qq", "-o", trace, "-e", &inject];
    strace
        .iter()
        .chain(only)
        .map(|word| (*word).to_owned())
        .collect()
}

/// A terminal that can move its cursor; without a name a terminal is not taken for one.
const TERM: (&str, &str) = ("TERM", "xterm");

/// Runs a slow command with standard error on a terminal and returns what is seen there.
fn seen(env: &TestEnv, args: &[&str]) -> String {
    seen_through(env, args, slow(env))
}

fn seen_through(env: &TestEnv, args: &[&str], slow: Vec<String>) -> String {
    let through = terminal("e", 80).into_iter().chain(slow);
    let run = env.command().args(args).env(TERM.0, TERM.1);
    let run = run.through(through).run();
    run.ok().stdout().to_owned()
}

#[test]
fn long_work_shows_a_bar_on_a_terminal_and_takes_it_away() {
    if !need("python3") || !need("strace") {
        return;
    }
    let rows = [
        (&["session", "list"][..], "reading sessions"),
        (&["session", "reindex"], "reading sessions"),
        (&["session", "stats"], "reading sessions"),
        (&["session", "search", "question"], "searching"),
        (&["session", "verify"], "verifying"),
        (&["session", "compact", "--all"], "compacting"),
    ];
    for (args, what) in rows {
        let env = TestEnv::new();
        store(&env);
        let seen = seen(&env, args);
        let total = format!("/{SESSIONS}");
        assert!(
            seen.contains(what) && seen.contains(&total),
            "{args:?}: {seen:?}"
        );
        let after = seen.rsplit("\u{1b}[2K").next().unwrap_or_default();
        assert!(!after.contains(what), "{args:?} leaves a bar: {seen:?}");
    }
}

#[test]
fn what_comes_from_elsewhere_shows_a_bar_as_well() {
    if !need("python3") || !need("strace") {
        return;
    }
    let other = TestEnv::new();
    store(&other);
    let copy = other.store();
    let copy = copy.to_str().expect("a plain path");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    let database = std::fs::read(fixtures.join("python-1.2.0.db")).expect("a fixture");
    let rows = [
        (&["session", "merge", copy][..], "merging", SESSIONS),
        (&["session", "copy", "--from", copy], "copying", SESSIONS),
        (&["session", "import", "old.db"], "importing", 7),
    ];
    for (args, what, sessions) in rows {
        let env = TestEnv::new();
        env.write("old.db", &database);
        // Of each session that is new a directory is made.
        let seen = seen_through(&env, args, slow_at(&env, "mkdirat", &[]));
        assert!(seen.contains(what), "{args:?}: {seen:?}");
        let after = seen.rsplit("\u{1b}[2K").next().unwrap_or_default();
        assert!(!after.contains(what), "{args:?} leaves a bar: {seen:?}");
        let list = env.command().arg("--list-sessions").run();
        assert_eq!(list.ok().json()["total"], sessions, "{args:?}");
    }
}

#[test]
fn nothing_is_shown_where_nobody_looks_or_nobody_wants_to() {
    if !need("python3") || !need("strace") {
        return;
    }
    let env = TestEnv::new();
    store(&env);
    assert_eq!(seen(&env, &["session", "verify", "-q"]), "");
    let piped = env
        .command()
        .args(["session", "verify"])
        .through(slow(&env))
        .run();
    assert_eq!(piped.ok().stderr(), "");
    // Lines and a bar on one terminal would be in each other's way.
    let through = terminal("oe", 80).into_iter().chain(slow(&env));
    let both = env
        .command()
        .args(["session", "search", "question"])
        .env(TERM.0, TERM.1)
        .through(through)
        .run();
    assert!(
        !both.ok().stdout().contains("searching"),
        "{:?}",
        both.stdout()
    );
}
