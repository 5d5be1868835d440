//! `session copy` between two directories, and what it refuses.

use crate::stored::{id, listed, make_session};
use crate::support::TestEnv;

#[test]
fn a_copy_of_a_directory_has_what_the_other_has_and_doing_it_again_adds_nothing() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one", "two"]);
    make_session(&env, &id(2), &["three"]);
    let other = env.work().join("other");
    let copy = |args: &[&str]| {
        let run = env.command().args(["session", "copy", "--to"]).arg(&other);
        run.args(args).run().ok().json()
    };
    let some = copy(&[&id(2)]);
    assert_eq!(
        (&some["sessions_added"], &some["events_added"]),
        (&1.into(), &2.into())
    );
    let all = copy(&[]);
    assert_eq!(
        (&all["sessions_added"], &all["sessions_unchanged"]),
        (&1.into(), &1.into())
    );
    assert_eq!(copy(&[])["events_added"], 0);
    let log = |root: &std::path::Path, n| {
        let path = root.join("sessions").join(id(n)).join("events.jsonl");
        std::fs::read(path).expect("a log")
    };
    for n in [1, 2] {
        assert_eq!(log(&other, n), log(&env.store(), n));
    }
    assert_eq!(listed(&env).len(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_and_no_password_is_told() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let copy = |args: &[&str]| env.command().args(["session", "copy"]).args(args).run();
    copy(&[]).fails(2, "usage");
    let store = env.store();
    let same = copy(&["--to", store.to_str().expect("a name")]);
    assert!(same.fails(2, "usage").error.contains("the same store"));
    copy(&["--from", "no-such-directory"]).fails(2, "usage");
    let broken = copy(&["--to", "mongodb://u:s3cret/x@h/db"]);
    assert!(broken.fails(2, "usage").hint.is_some());
    assert!(!broken.stderr().contains("s3cret"), "{broken}");
    let unknown = copy(&["--to", "postgres://u:s3cret@h/db"]);
    unknown.fails(2, "usage");
    assert!(!unknown.stderr().contains("s3cret"), "{unknown}");
}

/// What has the address of a database in a place where none belongs.
const MISPLACED: &[&[&str]] = &[
    &["session", "copy", "--from", "d", "ADDRESS"],
    &["session", "copy", "ADDRESS", "--to", "d"],
    &["session", "merge", "ADDRESS"],
    &["session", "import", "ADDRESS"],
    &["session", "export", "--all", "--out", "ADDRESS"],
    &["session", "export", "ADDRESS"],
    &["session", "show", "ADDRESS"],
    &["session", "show", "--at", "ADDRESS", "00000000"],
    &["session", "search", "hello", "ADDRESS"],
    &["session", "pin", "ADDRESS"],
    &["session", "delete", "ADDRESS"],
    &["session", "verify", "ADDRESS"],
    &["session", "watch", "ADDRESS"],
    &["session", "fork", "ADDRESS"],
    &["session", "retry", "ADDRESS"],
    &["session", "update", "ADDRESS", "--title", "x"],
    &["session", "ADDRESS"],
    &["ADDRESS"],
    &["--session-info", "ADDRESS"],
    &["--prompt", "hi", "ADDRESS"],
    &["--prompt", "hi", "--session-id", "ADDRESS"],
    &["--prompt", "hi", "--fork-from", "ADDRESS"],
    &["--prompt", "hi", "--repo-root", "ADDRESS"],
    &["--prompt", "hi", "--expect-turn", "ADDRESS"],
    &["--prompt", "hi", "--max-context-tokens", "ADDRESS"],
    &["--list-sessions", "--purge", "ADDRESS"],
];

#[test]
fn an_address_where_none_belongs_is_refused_and_not_told() {
    let env = TestEnv::new();
    for address in ["mongodb://u:s3cret@h/db", "MONGODB+srv:/u:s3cret@h/db"] {
        for args in MISPLACED {
            let args = args.iter().map(|arg| match *arg {
                "ADDRESS" => address,
                other => other,
            });
            let output = env.command().args(args).run();
            let failure = output.fails(2, "usage");
            assert!(failure.hint.is_some(), "{output}");
            assert!(!output.stderr().contains("s3cret"), "{output}");
        }
        for name in ["OLLAMA_PROMPT_HOME", "OLLAMA_PROMPT_DB_PATH"] {
            let output = env.command().arg("--list-sessions").env(name, address);
            let output = output.run();
            let failure = output.fails(2, "config");
            assert!(failure.error.contains(name), "{output}");
            let hint = failure.hint.unwrap_or_default();
            assert!(hint.contains("OLLAMA_PROMPT_DB_URI"), "{output}");
            assert!(!output.stderr().contains("s3cret"), "{output}");
        }
    }
    assert!(env.files().is_empty(), "{:?}", env.files());
}

#[test]
fn an_address_with_a_mistake_is_no_directory_and_is_not_told() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    for address in [
        "mongodb:/u:s3cret@h/db",
        "MONGODB://u:s3cret@h/db",
        "mongodb:u:s3cret@h",
        "mongodb://u:s3?cret@h/db",
    ] {
        for flag in ["--from", "--to"] {
            let run = env.command().args(["session", "copy", flag, address]);
            let output = run.run();
            let failure = output.fails(2, "usage");
            assert!(failure.error.contains(flag), "{output}");
            for secret in ["s3", "cret"] {
                assert!(!output.stderr().contains(secret), "{output}");
            }
        }
    }
    let entries = std::fs::read_dir(env.work()).expect("a directory");
    assert_eq!(entries.count(), 0, "a directory was made");
}

#[cfg(not(feature = "mongodb-srv"))]
#[test]
fn a_database_this_build_cannot_use_is_told_with_the_flag_that_named_it() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    for flag in ["--from", "--to"] {
        let run = env.command();
        let args = ["session", "copy", flag, "mongodb+srv://u:s3cret@h/db"];
        let output = run.args(args).run();
        let failure = output.fails(2, "config");
        assert!(failure.error.contains(flag), "{output}");
        assert!(
            !output.stderr().contains("OLLAMA_PROMPT_DB_URI"),
            "{output}"
        );
        let hint = failure.hint.unwrap_or_default();
        assert!(hint.contains("--features mongodb"), "{output}");
        assert!(!output.stderr().contains("s3cret"), "{output}");
    }
}
