//! Protects P2, P5 and P9 against what others may put into a store or do to it: links, pipes,
//! devices and directories in a log's place, ids that are paths, loose modes, a mount that is
//! read-only.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::stored::{id, listed, make_session, prompts, text, traced};
use crate::support::{Reply, TestEnv, need};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A world with a session that is well and the name of one that will not be.
fn env_with_a_good_session() -> (TestEnv, String, PathBuf) {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["well"]);
    let bad = env.store().join("sessions").join(id(2));
    (env, id(2), bad)
}

/// Asserts that this session is refused by name, that the others do not suffer, and that nothing
/// anywhere is changed.
#[track_caller]
fn assert_refused(env: &TestEnv, bad: &str, what: &str) {
    let asked = env.server().request_count();
    let mode_of = |path: &Path| {
        fs::symlink_metadata(path)
            .map(|m| m.permissions().mode())
            .ok()
    };
    let log = env.log_path(bad);
    let before = mode_of(&log);
    for flags in [&["--session-info"][..], &["--prompt", "x", "--session-id"]] {
        let output = env.command().args(flags).arg(bad).run();
        let failure = output.fails(7, "store_unsupported");
        assert!(failure.error.contains(bad), "{what}: {output}");
        assert!(failure.hint.is_some(), "{what}: {output}");
    }
    let list = env.command().arg("--list-sessions").run();
    let shown = list.ok().json();
    assert_eq!(shown["total"], 1, "{what}: {list}");
    assert!(text(&shown["warnings"][0]).contains(bad), "{what}: {list}");
    assert_eq!(
        env.server().request_count(),
        asked,
        "{what}: nobody was asked"
    );
    assert_eq!(mode_of(&log), before, "{what}");
    make_session(env, &id(1), &["still well"]);
    assert_eq!(prompts(env, &id(1)).last().expect("a turn"), "still well");
}

#[test]
fn a_session_directory_that_is_a_link_is_not_followed() {
    let (env, bad, path) = env_with_a_good_session();
    let elsewhere = env.work().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    fs::copy(env.log_path(&id(1)), elsewhere.join("events.jsonl")).expect("a log");
    let before = fs::read(elsewhere.join("events.jsonl")).expect("a log");
    symlink(&elsewhere, path).expect("a link");
    assert_refused(&env, &bad, "a link for a session");
    assert_eq!(
        fs::read(elsewhere.join("events.jsonl")).expect("a log"),
        before
    );
}

#[test]
fn a_log_that_is_no_file_is_refused_and_cannot_make_anybody_wait() {
    type Plant = fn(&Path, &Path);
    let plant: [(&str, Plant); 5] = [
        ("a link to a log", |log, other| {
            symlink(other, log).expect("a link")
        }),
        ("a link to nothing", |log, _| {
            symlink("/nowhere/at/all", log).expect("a link")
        }),
        ("a FIFO", |log, _| {
            mknodat(CWD, log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        }),
        ("a link to a device", |log, _| {
            symlink("/dev/zero", log).expect("a link")
        }),
        ("a directory", |log, _| {
            fs::create_dir(log).expect("a directory")
        }),
    ];
    for (what, plant) in plant {
        let (env, bad, path) = env_with_a_good_session();
        fs::create_dir(path).expect("a directory");
        plant(&env.log_path(&bad), &env.log_path(&id(1)));
        assert_refused(&env, &bad, what);
    }
}

#[test]
fn a_second_log_that_is_no_file_is_refused_as_well() {
    let (env, bad, path) = env_with_a_good_session();
    make_session(&env, &bad, &["one"]);
    let before = env.log(&bad);
    let second = path.join("events.sync-conflict-1.jsonl");
    mknodat(CWD, second, FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
    assert_refused(&env, &bad, "a FIFO beside the log");
    assert_eq!(env.log(&bad), before);
}

#[test]
fn a_link_in_the_place_of_what_only_writers_need_is_not_followed() {
    for name in ["locks", "open"] {
        let (env, ..) = env_with_a_good_session();
        let elsewhere = env.work().join("elsewhere");
        fs::create_dir(&elsewhere).expect("a directory");
        fs::remove_dir_all(env.store().join(name)).expect("it was there");
        symlink(&elsewhere, env.store().join(name)).expect("a link");
        let output = env.chat("x").session(&id(1)).run();
        let failure = output.fails(7, "store_unsupported");
        assert!(failure.error.contains(name), "{output}");
        assert_eq!(fs::read_dir(&elsewhere).expect("a directory").count(), 0);
        assert_eq!(env.server().request_count(), 0);
        assert_eq!(listed(&env), [(id(1), 2)], "reading works");
    }
}

#[test]
fn sessions_may_lie_on_another_disk_behind_a_link_of_the_same_user() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let elsewhere = env.home().join("disk");
    fs::rename(env.store().join("sessions"), &elsewhere).expect("it moves");
    symlink(&elsewhere, env.store().join("sessions")).expect("a link");
    make_session(&env, &id(1), &["two"]);
    make_session(&env, &id(2), &["new"]);
    assert_eq!(prompts(&env, &id(1)), ["one", "two"]);
    assert_eq!(listed(&env), [(id(1), 4), (id(2), 2)]);
    assert!(elsewhere.join(id(2)).join("events.jsonl").is_file());
}

#[test]
fn an_id_that_is_a_path_reaches_nothing() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let planted = env.write(env.home().join("outside/events.jsonl"), env.log(&id(1)));
    let absolute = planted.parent().expect("a directory").display().to_string();
    let inside = format!("{}/", id(1));
    let before = env.snapshot();
    for id in [
        "../../outside",
        "../sessions",
        &absolute,
        &inside,
        "..",
        ".",
    ] {
        for flags in [
            &["--session-info"][..],
            &["-p", "x", "--create", "--session-id"],
        ] {
            env.command().args(flags).arg(id).run().fails(2, "usage");
        }
    }
    // A key is a name and may be anything.
    let key = env
        .chat("x")
        .args(["--session-key", "../../outside", "--offline"])
        .run();
    assert!(env.log_path(&key.session_id()).is_file());
    let mut after = env.snapshot();
    after.retain(|file, _| before.contains_key(file));
    assert_eq!(after, before);
}

#[test]
fn a_store_others_may_write_to_is_read_and_not_written() {
    for (directory, mode) in [(".", 0o770), (".", 0o777), ("sessions", 0o770)] {
        let env = TestEnv::new();
        make_session(&env, &id(1), &["one"]);
        let path = env.store().join(directory);
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        let before = env.records();
        for flags in [&["--session-id", &id(1)][..], &[]] {
            let output = env.chat("x").args(flags).run();
            let failure = output.fails(7, "store_unsupported");
            assert!(
                failure.hint.is_some_and(|hint| hint.contains("chmod go-w")),
                "{output}"
            );
        }
        assert_eq!(env.server().request_count(), 0, "nobody was asked");
        assert_eq!(prompts(&env, &id(1)), ["one"]);
        assert_eq!(listed(&env), [(id(1), 2)]);
        assert_eq!(env.records(), before);
    }
}

#[test]
fn everything_is_the_users_alone_whatever_the_umask() {
    let shell = |umask: &str| {
        [
            "sh".to_owned(),
            "-c".to_owned(),
            format!("umask {umask}; exec \"$@\""),
            "sh".to_owned(),
        ]
    };
    let env = TestEnv::new();
    for umask in ["000", "077", "022"] {
        let first = env
            .chat("one")
            .through(shell(umask))
            .replies("1")
            .session_id();
        env.chat("two")
            .session(&first)
            .through(shell(umask))
            .replies("2");
        // One that fails leaves a draft.
        let failing = env.chat("three").session(&first).through(shell(umask));
        failing.answered(Reply::text("3").cut_after_chunks(0)).run();
    }
    assert_eq!(env.drafts().len(), 3);
    let mut directories = vec![env.store()];
    while let Some(directory) = directories.pop() {
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(mode(&directory) & 0o7777, 0o700, "{}", directory.display());
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                assert_eq!(mode(&path) & 0o7777, 0o600, "{}", path.display());
            }
        }
    }
}

#[test]
fn no_file_of_the_store_says_where_the_store_is() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    env.chat("two")
        .session(&id)
        .answered(Reply::error(500, "no"))
        .run();
    let home = env.home().display().to_string();
    let files = env.snapshot();
    assert!(files.len() > 4, "{files:?}");
    for (file, bytes) in files {
        assert!(
            !String::from_utf8_lossy(&bytes).contains(&home),
            "{}",
            file.display()
        );
    }
    // So a store can be moved.
    let elsewhere = env.work().join("moved");
    fs::rename(env.store(), &elsewhere).expect("it moves");
    let output = env
        .chat("three")
        .session(&id)
        .env("OLLAMA_PROMPT_HOME", &elsewhere)
        .replies("3");
    assert_eq!(output.json()["context_usage"]["kept_turns"], 1);
}

#[test]
fn a_read_only_store_lists_and_shows_and_refuses_a_turn_at_once() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    fs::remove_dir_all(env.store().join("locks")).expect("it was there");
    let before = env.snapshot();
    // What a read-only file system says to each of the calls that change something.
    let rules = [
        "trace=mkdirat,mkdir,unlinkat,renameat,renameat2,ftruncate,fdatasync,fsync",
        "inject=mkdirat,mkdir,unlinkat,renameat,renameat2,ftruncate:error=EROFS",
    ];
    for flags in [&["--list-sessions"][..], &["--session-info", &id(1)]] {
        let output = traced(env.command().args(flags), &[], &rules).run();
        assert!(output.ok().stdout().contains(&id(1)), "{output}");
        let trace = fs::read_to_string(env.work().join("trace")).expect("a trace");
        // A list tries to write its index, and says nothing where it cannot.
        let is_a_change = |line: &&str| line.contains('(') && !line.contains("\"cache\"");
        assert_eq!(trace.lines().filter(is_a_change).count(), 0, "{trace}");
    }
    for flags in [&["--session-id", &id(1)][..], &[]] {
        let output = traced(env.chat("x").args(flags), &[], &rules).run();
        let failure = output.fails(7, "store_readonly");
        assert!(
            failure
                .hint
                .is_some_and(|hint| hint.contains("--no-session")),
            "{output}"
        );
    }
    assert_eq!(env.server().request_count(), 0, "nobody was asked");
    assert_eq!(env.snapshot(), before);
}
