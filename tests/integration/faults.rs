//! Protects P1 and P4 where the system fails a call: the right code and exit status, the reply
//! printed though it is not stored, the log as it was, and a next turn that works.
//!
//! The failures are injected with strace into the calls on one file, because the suite may run
//! as root, for whom no mode is in the way, and because a disk that fails is hard to come by.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::stored::{
    assert_not_stored, id, ids, listed, make_session, prompts, text, times_called, traced, turns,
};
use crate::support::{Output, Reply, Run, TestEnv, need};

/// A session of one turn, and what a turn that fails must leave as it is.
struct Stage {
    env: TestEnv,
    id: String,
    before: String,
}

impl Stage {
    fn new() -> Self {
        let env = TestEnv::new();
        let id = env.chat("one").replies("1").session_id();
        let before = env.log(&id);
        Self { env, id, before }
    }

    fn log_path(&self) -> PathBuf {
        self.env.log_path(&self.id)
    }

    /// Prepares a second turn, whose reply is there when the server is asked.
    fn turn(&self) -> Run<'_> {
        let turn = self.env.chat("two").session(&self.id);
        turn.answered(Reply::text("2"))
    }

    /// Runs a second turn in which calls on this file fail by these rules.
    fn turn_with(&self, path: &Path, rules: &[&str]) -> Output {
        // A name alone is what `openat` is given; a path is what a descriptor leads to.
        let name = Path::new(path.file_name().expect("a file"));
        traced(self.turn(), &[path, name], rules).run()
    }

    /// Asserts that the reply was printed and the save failed with this code, and nothing worse.
    #[track_caller]
    fn assert_only_the_save_failed(&self, output: &Output, code: &str) {
        let failure = output.prints_and_fails(7, code);
        assert!(
            failure.error.contains(".ollama-prompt"),
            "the path is named\n{output}"
        );
        assert_eq!(failure.session_id.as_ref(), Some(&self.id));
        assert_not_stored(output, "2");
        assert_eq!(self.env.log(&self.id), self.before, "{output}");
        let draft = &self.env.drafts()[0];
        assert_eq!(text(&draft["prompt"]), "two");
        assert_eq!(text(&draft["response"]), "2", "what was paid for is kept");
        assert_eq!(draft["error"]["code"], code);
        self.assert_next_turn_works(&["one", "three"]);
    }

    /// Asserts that the cause being gone all is well, these prompts being the session.
    #[track_caller]
    fn assert_next_turn_works(&self, expected: &[&str]) {
        self.env.chat("three").session(&self.id).replies("3");
        assert_eq!(prompts(&self.env, &self.id), expected);
        let log = self.env.log(&self.id);
        assert!(
            log.starts_with(&self.before),
            "nothing before it is changed: {log}"
        );
        let last = log.lines().last().expect("a line");
        let last: Value = serde_json::from_str(last).expect("a line of its own");
        assert_eq!(last["prompt"], "three");
    }
}

/// Runs a shell that sets limits, then becomes the program.
fn limited<'env>(run: Run<'env>, limits: &str) -> Run<'env> {
    run.through(["sh", "-c", &format!("{limits}; exec \"$@\""), "sh"])
}

const WRITE_ERRORS: [(&str, &str); 5] = [
    ("ENOSPC", "store_full"),
    ("EDQUOT", "store_full"),
    ("EFBIG", "store_full"),
    ("EIO", "store_io"),
    ("EROFS", "store_readonly"),
];

#[test]
fn a_failed_write_costs_the_turn_its_place_in_the_log_and_nothing_else() {
    if !need("strace") {
        return;
    }
    for (error, code) in WRITE_ERRORS {
        let stage = Stage::new();
        let rule = format!("inject=write:error={error}");
        let output = stage.turn_with(&stage.log_path(), &["trace=write", &rule]);
        assert_eq!(times_called(&stage.env, "write"), 1, "{error} is final");
        stage.assert_only_the_save_failed(&output, code);
    }
}

#[test]
fn a_write_that_takes_nothing_is_a_failed_write() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    let rules = ["trace=write", "inject=write:retval=0"];
    let output = stage.turn_with(&stage.log_path(), &rules);
    stage.assert_only_the_save_failed(&output, "store_io");
}

#[test]
fn an_interrupted_write_or_lock_is_made_again() {
    if !need("strace") {
        return;
    }
    for call in ["write", "flock"] {
        let stage = Stage::new();
        let lock = stage.env.store().join("locks").join(&stage.id[34..]);
        stage
            .env
            .chat("so that there is a lock")
            .session(&stage.id)
            .replies("yes");
        let path = if call == "flock" {
            lock
        } else {
            stage.log_path()
        };
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:error=EINTR:when=1");
        let output = stage.turn_with(&path, &[&trace, &inject]);
        assert_eq!(output.ok().json()["turn"]["stored"], true, "{output}");
        assert!(
            times_called(&stage.env, call) >= 2,
            "it was interrupted: {call}"
        );
        assert_eq!(
            prompts(&stage.env, &stage.id).last().expect("a prompt"),
            "two"
        );
    }
}

#[test]
fn a_write_cut_short_by_a_limit_is_rolled_back() {
    let stage = Stage::new();
    // 512 bytes a block: the log is longer than one, and the turn does not fit into two.
    assert!(
        (513..1000).contains(&stage.before.len()),
        "{}",
        stage.before
    );
    let output = limited(stage.turn(), "ulimit -f 2").run();
    stage.assert_only_the_save_failed(&output, "store_full");
}

#[test]
fn a_write_cut_short_that_cannot_be_rolled_back_is_sealed_by_the_next() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    let (log, before) = (stage.log_path(), &stage.before);
    let strace = format!(
        "ulimit -f 2; exec strace -f -q -o /dev/null -P '{}' -e trace=ftruncate -e inject=ftruncate:error=EIO \"$@\"",
        log.display()
    );
    let output = stage.turn().through(["sh", "-c", &strace, "sh"]).run();
    output.prints_and_fails(7, "store_full");
    assert_not_stored(&output, "2");
    let debris = stage.env.log(&stage.id);
    assert_eq!(debris.len(), 1024, "it was cut short: {debris}");
    assert!(debris.starts_with(before.as_str()));
    assert_eq!(prompts(&stage.env, &stage.id), ["one"]);

    stage.assert_next_turn_works(&["one", "three"]);
    let after = stage.env.log(&stage.id);
    assert!(
        after.starts_with(&format!("{debris}\n{{\"v\":1,")),
        "{after}"
    );
}

#[test]
fn a_sync_that_failed_is_told_and_not_tried_again() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    let rules = ["trace=fdatasync", "inject=fdatasync:error=EIO"];
    let output = stage.turn_with(&stage.log_path(), &rules);
    let failure = output.prints_and_fails(7, "store_io");
    assert!(failure.error.contains("may not be on disk"), "{output}");
    assert_not_stored(&output, "2");
    assert_eq!(times_called(&stage.env, "fdatasync"), 1);
    // Only the loss of power can undo it, so it is not taken back.
    stage.assert_next_turn_works(&["one", "two", "three"]);
}

#[test]
fn a_turn_is_synced_once_and_with_relaxed_durability_not_at_all() {
    if !need("strace") {
        return;
    }
    for (durability, syncs) in [("full", 1), ("relaxed", 0)] {
        let stage = Stage::new();
        let turn = stage.turn().args(["--durability", durability]);
        traced(turn, &[], &["trace=fdatasync,fsync"]).run().ok();
        assert_eq!(times_called(&stage.env, "fdatasync"), syncs, "{durability}");
        assert_eq!(times_called(&stage.env, "fsync"), 0, "{durability}");
    }
}

#[test]
fn what_cannot_be_opened_for_writing_is_told_before_the_model_is_asked() {
    if !need("strace") {
        return;
    }
    let rows = [
        ("EROFS", "store_readonly"),
        ("EACCES", "store_readonly"),
        ("EMFILE", "store_io"),
        ("ENFILE", "store_io"),
        ("EIO", "store_io"),
    ];
    for (error, code) in rows {
        let stage = Stage::new();
        // The first opening reads the session, the second is to see whether it can be written.
        let rule = format!("inject=openat:error={error}:when=2");
        let turn = stage.env.chat("two").session(&stage.id);
        let (log, name) = (stage.log_path(), Path::new("events.jsonl"));
        let output = traced(turn, &[&log, name], &["trace=openat", &rule]).run();
        let failure = output.fails(7, code);
        assert!(failure.error.contains("events.jsonl"), "{output}");
        assert_eq!(failure.session_id.as_ref(), Some(&stage.id));
        assert_eq!(stage.env.server().request_count(), 1, "nobody was asked");
        assert_eq!(stage.env.drafts().len(), 0, "there is nothing to keep");
        stage.assert_next_turn_works(&["one", "three"]);
    }
}

#[test]
fn what_can_no_longer_be_opened_after_the_reply_fails_only_the_save() {
    if !need("strace") {
        return;
    }
    for (error, code) in [
        ("EMFILE", "store_io"),
        ("EROFS", "store_readonly"),
        ("EIO", "store_io"),
    ] {
        let stage = Stage::new();
        let rule = format!("inject=openat:error={error}:when=3");
        let output = stage.turn_with(&stage.log_path(), &["trace=openat", &rule]);
        assert_eq!(times_called(&stage.env, "openat"), 3);
        stage.assert_only_the_save_failed(&output, code);
    }
}

#[test]
fn a_draft_that_cannot_be_written_is_told_before_the_model_is_asked() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    let open = stage.env.store().join("open");
    // The draft has no name yet; it is the only thing that is made in its directory.
    for (call, error, code) in [
        ("openat", "ENOSPC", "store_full"),
        ("openat", "EROFS", "store_readonly"),
    ] {
        let rule = format!("inject={call}:error={error}:when=2");
        let turn = stage.env.chat("two").session(&stage.id);
        let output = traced(turn, &[&open, Path::new("open")], &["trace=openat", &rule]).run();
        output.fails(7, code);
        assert_eq!(stage.env.server().request_count(), 1, "nobody was asked");
    }
    stage.assert_next_turn_works(&["one", "three"]);
}

#[test]
fn a_mount_without_locks_keeps_the_turn_and_says_so() {
    if !need("strace") {
        return;
    }
    for error in ["ENOLCK", "ENOSYS", "EOPNOTSUPP"] {
        let stage = Stage::new();
        let rule = format!("inject=flock:error={error}");
        let output = traced(stage.turn(), &[], &["trace=flock", &rule]).run();
        assert_eq!(output.ok().json()["turn"]["stored"], true, "{output}");
        assert!(output.stderr().contains("locks do not work"), "{output}");
        stage.assert_next_turn_works(&["one", "two", "three"]);
    }
}

#[test]
fn a_lock_that_fails_otherwise_fails_only_the_save() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    stage.env.chat("zero").session(&stage.id).replies("0");
    let stage = Stage {
        before: stage.env.log(&stage.id),
        ..stage
    };
    let lock = stage.env.store().join("locks").join(&stage.id[34..]);
    let output = stage.turn_with(&lock, &["trace=flock", "inject=flock:error=EIO"]);
    output.prints_and_fails(7, "store_io");
    assert_not_stored(&output, "2");
    assert_eq!(stage.env.log(&stage.id), stage.before);
    stage.assert_next_turn_works(&["one", "zero", "three"]);
}

#[test]
fn a_new_session_that_cannot_be_made_leaves_none() {
    if !need("strace") {
        return;
    }
    let rows = [
        ("mkdirat", "ENOSPC", "store_full"),
        ("mkdirat", "EDQUOT", "store_full"),
        ("mkdirat", "EROFS", "store_readonly"),
        ("write:when=2", "ENOSPC", "store_full"),
        ("write:when=2", "EIO", "store_io"),
    ];
    for (call, error, code) in rows {
        let stage = Stage::new();
        let name = call.split(':').next().expect("a name");
        let when = call.strip_prefix(name).expect("the rest");
        let trace = format!("trace={name}");
        let inject = format!("inject={name}:error={error}{when}");
        let sessions = stage.env.store().join("sessions");
        let run = stage.env.chat("first").args(["--offline", "-q"]);
        // Without a path to go by, `write` counts the draft as the first.
        let paths: &[&Path] = if name == "write" { &[] } else { &[&sessions] };
        let output = traced(run, paths, &[&trace, &inject]).run();
        let failure = output.prints_and_fails(7, code);
        assert_eq!(output.json()["turn"]["stored"], false, "{output}");
        assert!(failure.session_id.is_some(), "{output}");
        assert_eq!(listed(&stage.env), [(stage.id.clone(), 2)]);
        let left = std::fs::read_dir(&sessions).expect("a directory");
        let left = left.filter(|entry| entry.as_ref().expect("an entry").path().is_dir());
        assert_eq!(
            left.count(),
            1,
            "no empty directory is left: {call} {error}"
        );
    }
}

#[test]
fn a_session_that_cannot_be_given_its_name_leaves_nothing() {
    if !need("strace") {
        return;
    }
    let theirs = TestEnv::new();
    make_session(&theirs, &id(2), &["two"]);
    let exported = theirs.command().args(["session", "export", "--all"]).run();
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let exported = env.write("exported.jsonl", exported.ok().stdout());
    let (there, one) = (theirs.store().display().to_string(), id(1));
    let exported = exported.display().to_string();
    let before = env.records();
    for args in [["fork", &one], ["import", &exported], ["merge", &there]] {
        let run = env.command().arg("session").args(args);
        let rename = "renameat,renameat2";
        let rules = [
            format!("trace={rename}"),
            format!("inject={rename}:error=EIO"),
        ];
        let output = traced(run, &[], &[&rules[0], &rules[1]]).run();
        output.fails(7, "store_io");
        let sessions = std::fs::read_dir(env.store().join("sessions")).expect("sessions");
        let names = sessions.map(|entry| entry.expect("an entry").file_name());
        let is_no_session = |name: &OsString| *name != *one && *name != ".gitattributes";
        let left: Vec<OsString> = names.filter(is_no_session).collect();
        assert!(left.is_empty(), "{args:?}: {left:?}");
    }
    let mut after = env.records();
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
}

#[test]
fn a_new_session_whose_names_are_not_synced_is_told_and_there() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    let run = stage.env.chat("first").args(["--offline", "-q"]);
    let output = traced(run, &[], &["trace=fsync", "inject=fsync:error=EIO"]).run();
    let failure = output.prints_and_fails(7, "store_io");
    assert!(failure.error.contains("may not be on disk"), "{output}");
    assert_eq!(
        times_called(&stage.env, "fsync"),
        1,
        "it is not tried again"
    );
    let id = failure.session_id.expect("an id");
    assert_eq!(prompts(&stage.env, &id), ["first"]);
}

#[test]
fn a_session_that_cannot_be_read_is_told_and_the_others_are_listed() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    make_session(&stage.env, &id(1), &["other"]);
    let rules = ["trace=read", "inject=read:error=EIO"];
    let log = stage.log_path();
    let list = stage.env.command().arg("--list-sessions");
    let output = traced(list, &[&log], &rules).run();
    let shown = output.ok().json();
    assert_eq!(shown["total"], 1, "{output}");
    assert_eq!(shown["sessions"][0]["session_id"], id(1));
    assert!(text(&shown["warnings"][0]).contains(&stage.id), "{output}");

    let shown = stage.env.command().args(["--session-info", &stage.id]);
    let output = traced(shown, &[&log], &rules).run();
    assert!(
        output.fails(7, "store_io").error.contains("events.jsonl"),
        "{output}"
    );
    stage.assert_next_turn_works(&["one", "three"]);
}

#[test]
fn a_stored_turn_whose_draft_stays_is_a_stored_turn() {
    if !need("strace") {
        return;
    }
    let stage = Stage::new();
    let rules = ["trace=unlinkat", "inject=unlinkat:error=EIO"];
    let output = traced(stage.turn(), &[], &rules).run();
    assert_eq!(output.ok().json()["turn"]["stored"], true, "{output}");
    assert_eq!(ids(&turns(&stage.env, &stage.id)).len(), 2);
    stage.assert_next_turn_works(&["one", "two", "three"]);
}
