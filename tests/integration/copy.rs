//! `session copy` between two directories, and what it refuses.

use std::collections::BTreeMap;

use ollama_prompt::session::event::Event;
use ollama_prompt::store::import::Incoming;
use ollama_prompt::store::{self, Location};

use crate::stored::{id, listed, make_session, traced};
use crate::support::{PATIENCE, TestEnv, need};

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
    &["--prompt-file", "ADDRESS"],
    &["--prompt", "hi", "--system-file", "ADDRESS"],
    &["--prompt", "hi", "--image", "ADDRESS"],
    &["--prompt", "hi", "--file-reference", "ADDRESS"],
    &["--prompt", "hi", "--format", "ADDRESS"],
    &["--prompt", "hi", "--tools", "ADDRESS"],
    &["--prompt", "hi", "--tools", "@ADDRESS"],
    &["--session-key", "k", "--tool-result", "ADDRESS"],
    &["--session-key", "k", "--tool-result", "t=@ADDRESS"],
    &["--prompt", "hi", "--template", "ADDRESS"],
    &["session", "redact", "--all", "--pattern-file", "ADDRESS"],
    &["session", "update", "--all", "--system-file", "ADDRESS"],
    &["template", "show", "ADDRESS"],
    &["template", "save", "ADDRESS", "--system", "s"],
    &["template", "save", "mine", "--system-file", "ADDRESS"],
];

#[test]
fn an_address_where_none_belongs_is_refused_and_not_told() {
    let env = TestEnv::new();
    for address in ["mongodb://u:s3cret@h/db", "MONGODB+srv:/u:s3cret@h/db"] {
        for args in MISPLACED {
            let args = args.iter().map(|arg| arg.replace("ADDRESS", address));
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

/// Makes a session with an image; returns the file with the blob.
fn session_with_image(env: &TestEnv) -> std::path::PathBuf {
    let picture = env.write("p.png", b"\x89PNG\r\n\x1a\nnot much of a picture");
    let turn = env.chat("see").arg("--image").arg(picture);
    let session = turn.args(["--create", "--session-id", &id(1)]);
    session.replies("seen");
    let blobs = env.store().join("sessions").join(id(1)).join("blobs");
    let mut blobs = std::fs::read_dir(blobs).expect("a directory");
    blobs.next().expect("a blob").expect("a blob").path()
}

#[test]
fn a_damaged_blob_is_told_and_costs_no_more_than_itself() {
    let env = TestEnv::new();
    let blob = session_with_image(&env);
    env.write(&blob, b"something else");
    let run = env.command().args(["session", "copy", "--to", "other"]);
    let copied = run.run().ok().json();
    assert_eq!(copied["sessions_added"], 1, "{copied}");
    assert_eq!(copied["blobs"], 0, "{copied}");
    assert!(copied["warnings"][0].to_string().contains("is damaged"));
}

#[test]
fn a_session_with_a_blob_that_cannot_be_read_now_is_copied_whole_or_not() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let blob = session_with_image(&env);
    let name = blob.file_name().expect("a name");
    let copy = || env.command().args(["session", "copy", "--to", "other"]);
    let rules = ["trace=openat", "inject=openat:error=EIO"];
    let refused = traced(copy(), &[std::path::Path::new(name)], &rules).run();
    let refused = refused.ok().json();
    assert_eq!(refused["sessions_added"], 0, "{refused}");
    let warning = refused["warnings"][0].to_string();
    assert!(
        warning.contains("is not copied") && !warning.contains("damaged"),
        "{refused}"
    );
    let copied = copy().run().ok().json();
    assert_eq!(
        (&copied["sessions_added"], &copied["blobs"]),
        (&1.into(), &1.into()),
        "{copied}"
    );
}

/// Asserts that a session somebody purges while others are added to a store does not come back.
pub(crate) fn assert_a_purge_meanwhile_counts(at: &Location) {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let log = std::fs::read(env.log_path(&id(1))).expect("a log");
    let lines = log.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let lines: BTreeMap<_, _> = lines
        .map(|line| (Event::from_slice(line).expect("an event").id, line.to_vec()))
        .collect();
    let incoming = Incoming::Lines {
        lines: &lines,
        blobs: &BTreeMap::new(),
    };
    let session = id(1).parse().expect("an id");
    let here = store::open_or_make(at).expect("a store");
    let writable = here.for_writing(PATIENCE).expect("writable");
    let add = |include_purged| {
        let added = writable.add(session, incoming, include_purged);
        added.expect("added, or not")
    };
    assert!(add(false).is_new);

    // As another process.
    let other = store::open(at).expect("a store").expect("it is there");
    let purged = other.for_writing(PATIENCE).expect("writable");
    let purged = purged.purge(session, "test", &|_| true).expect("purged");
    assert!(purged.is_some());

    assert!(add(false).is_purged);
    assert!(!here.has_name(session).expect("looked at"));
    let brought = add(true);
    assert!(brought.is_new && !brought.is_purged);
    assert_eq!(add(false).events, 0);
}

#[test]
fn a_session_that_is_purged_while_others_are_copied_stays_out() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_a_purge_meanwhile_counts(&Location::Files(directory.path().join("store")));
}
