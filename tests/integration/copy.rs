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
