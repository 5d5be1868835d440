//! The index as a user meets it: the list is the same with it, without it, and where it cannot be.

use std::fs::{self, File};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Output, TestEnv, need};

fn list(env: &TestEnv) -> (Value, String) {
    let output = env.command().arg("--list-sessions").run();
    output.ok();
    (output.json(), output.stderr().to_owned())
}

fn two_sessions(env: &TestEnv) -> [String; 2] {
    let first = env.chat("one").replies("1").session_id().to_owned();
    let second = env.chat("two").replies("2").session_id().to_owned();
    [first, second]
}

/// Makes the index so much later than the sessions that it is believed.
fn age(env: &TestEnv) {
    let index = env.store().join("cache/index.jsonl");
    let index = File::options().append(true).open(index);
    let index = index.expect("there is an index");
    let written = index.metadata().and_then(|index| index.modified());
    let later = written.expect("a time") + Duration::from_secs(60);
    index.set_modified(later).expect("the time can be set");
}

#[test]
fn a_list_with_an_index_reads_no_log_and_writes_nothing() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let [first, _] = two_sessions(&env);
    let without = list(&env);
    age(&env);
    let before = env.snapshot();
    let trace = env.work().join("trace");
    let strace = |output: &std::path::Path| {
        let output = output.to_str().expect("a plain path").to_owned();
        ["strace", "-f", "-e", "trace=openat", "-o"]
            .map(str::to_owned)
            .into_iter()
            .chain([output])
            .collect::<Vec<_>>()
    };
    let logs_opened = || -> usize {
        let traced = env
            .command()
            .arg("--list-sessions")
            .through(strace(&trace))
            .run();
        traced.ok();
        assert_eq!(traced.json()["total"], 2);
        let opened = fs::read_to_string(&trace).expect("a trace");
        opened
            .lines()
            .filter(|line| line.contains("events.jsonl"))
            .count()
    };
    assert_eq!(logs_opened(), 0);
    assert_eq!(list(&env), without);
    assert_eq!(env.snapshot(), before);
    env.chat("more").session(&first).replies("3");
    assert_eq!(logs_opened(), 1, "the one that changed");
}

#[test]
fn damage_is_told_with_the_index_as_without_it() {
    let env = TestEnv::new();
    let [first, _] = two_sessions(&env);
    let log = env.log(&first);
    env.write(env.log_path(&first), format!("debris\n{log}"));
    let without = list(&env);
    age(&env);
    assert_eq!(list(&env), without);
    let warning = &without.0["warnings"][0];
    assert!(
        warning.as_str().is_some_and(|w| w.contains(&first)),
        "{warning}"
    );
}

#[test]
fn the_index_has_no_word_of_what_was_said_and_is_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let env = TestEnv::new();
    env.chat("SECRET-PROMPT")
        .args(["--system", "SECRET-SYSTEM"])
        .replies("SECRET-REPLY");
    list(&env);
    let path = env.store().join("cache/index.jsonl");
    let index = fs::read_to_string(&path).expect("there is an index");
    assert!(!index.contains("SECRET"), "{index}");
    let mode = |path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode(path), mode(env.store().join("cache"))),
        (0o600, 0o700)
    );
}

#[test]
fn a_turn_never_writes_the_index() {
    let env = TestEnv::new();
    let [first, _] = two_sessions(&env);
    assert!(!env.store().join("cache/index.jsonl").exists());
    list(&env);
    let index = || fs::read(env.store().join("cache/index.jsonl")).expect("an index");
    let before = index();
    env.chat("more").session(&first).replies("3");
    assert_eq!(index(), before);
}

#[test]
fn a_store_whose_index_cannot_be_written_lists_the_same() {
    let env = TestEnv::new();
    two_sessions(&env);
    let expected = list(&env);
    let cache = env.store().join("cache");
    fs::remove_dir_all(&cache).expect("there was a cache");
    env.write(&cache, "in the way");
    let before = env.snapshot();
    assert_eq!(list(&env), expected);
    assert_eq!(env.snapshot(), before);
    reindex(&env).fails(7, "store_unsupported");
}

#[test]
fn reindex_says_how_much_there_is() {
    let env = TestEnv::new();
    let nothing = reindex(&env);
    assert_eq!(nothing.ok().json(), json!({"sessions": 0, "bytes": 0}));
    assert!(env.files().is_empty(), "and makes no store");
    two_sessions(&env);
    let done = reindex(&env);
    let size = fs::metadata(env.store().join("cache/index.jsonl"))
        .expect("an index")
        .len();
    assert_eq!(done.ok().json(), json!({"sessions": 2, "bytes": size}));
}

fn reindex(env: &TestEnv) -> Output {
    env.command().args(["session", "reindex"]).run()
}
