//! What a call costs, as counts that are the same on every machine: a change that makes calls
//! dearer fails here, without a clock.
//!
//! The limits are what was counted when they were set, and a tenth on top: how a reply falls into
//! reads differs from run to run by a call or two. Whoever has to raise one says why in the
//! commit. docs/performance.md lists what the calls are for. What a turn reads of a long log is
//! counted beside copies and merges, in `copies.rs`.

use std::fs::{self, File};
use std::time::Duration;

use crate::support::{Output, Reply, Run, TestEnv, need};

/// What strace saw of a run, from the first thing on that the language's runtime does: what comes
/// before is the C library's.
#[derive(Debug)]
struct Counts {
    calls: usize,
    opened: usize,
    syncs: usize,
    processes: usize,
    read: u64,
    written: u64,
    lines: Vec<String>,
}

impl Counts {
    /// Runs through strace; the run must succeed.
    fn of(env: &TestEnv, run: Run<'_>) -> (Self, Output) {
        let trace = env.work().join("trace");
        let path = trace.to_str().expect("a plain path");
        let output = run.through(["strace", "-f", "-y", "-o", path]).run();
        output.ok();
        let trace = fs::read_to_string(&trace).expect("a trace");
        // "PID call(arguments) = result"; of a call that was interrupted in print, the first half.
        let calls = trace.lines().filter_map(|line| line.split_once(' '));
        let calls = calls.map(|(_, call)| call.trim_start());
        let calls = calls.filter(|call| call.starts_with(|c: char| c.is_ascii_lowercase()));
        // Asked of every file that is closed, by a library that was built to check itself.
        let calls = calls.filter(|call| !call.contains("F_GETFD"));
        let lines: Vec<String> = calls
            .skip_while(|call| !call.starts_with("poll("))
            .map(str::to_owned)
            .collect();
        assert!(lines.len() > 5, "{trace}");
        let count = |names: &[&str]| {
            lines
                .iter()
                .filter(|line| names.contains(&name(line)))
                .count()
        };
        let moved = |names: &[&str]| -> u64 {
            let lines = lines.iter().filter(|line| names.contains(&name(line)));
            lines.filter_map(|line| result(line)).sum()
        };
        let counts = Self {
            calls: lines.len(),
            opened: count(&["open", "openat"]),
            syncs: count(&["fsync", "fdatasync", "syncfs", "sync"]),
            processes: count(&["clone", "clone3", "fork", "vfork"]),
            read: moved(&["read", "pread64", "readv", "recvfrom"]),
            written: moved(&["write", "pwrite64", "writev", "sendto"]),
            lines: Vec::new(),
        };
        (Self { lines, ..counts }, output)
    }

    #[track_caller]
    fn within(&self, limit: &Limit) {
        let Limit {
            calls,
            opened,
            syncs,
            read,
            written,
        } = *limit;
        let all = self.lines.join("\n");
        assert!(self.calls <= calls, "{} calls:\n{all}", self.calls);
        assert!(self.opened <= opened, "{} opened:\n{all}", self.opened);
        assert_eq!(self.syncs, syncs, "syncs:\n{all}");
        assert!(self.read <= read, "{} bytes read:\n{all}", self.read);
        let bytes = self.written;
        assert!(bytes <= written, "{bytes} bytes written:\n{all}");
        assert_eq!(self.processes, 0, "threads or processes:\n{all}");
    }
}

/// The most a call may need.
struct Limit {
    calls: usize,
    opened: usize,
    /// Exactly so many.
    syncs: usize,
    read: u64,
    written: u64,
}

fn name(line: &str) -> &str {
    line.split('(').next().unwrap_or_default()
}

/// What a call returned; `None` for a failure.
fn result(line: &str) -> Option<u64> {
    line.rsplit(" = ").next()?.split(' ').next()?.parse().ok()
}

/// Without a session: nothing of the store.
const STATELESS: Limit = Limit {
    calls: 103,
    opened: 8,
    syncs: 0,
    read: 8_000,
    written: 1_200,
};

/// A new session: its log, its directory, the directory of sessions.
const NEW: Limit = Limit {
    calls: 135,
    opened: 13,
    syncs: 3,
    read: 8_000,
    written: 2_600,
};

/// The eleventh turn of a session: one sync.
const CONTINUED: Limit = Limit {
    calls: 165,
    opened: 21,
    syncs: 1,
    read: 16_000,
    written: 3_500,
};

fn at_once() -> Reply {
    Reply::text("y").in_one_chunk()
}

#[test]
fn help_and_version_touch_no_file_of_the_user() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    for flag in ["--version", "--help", "-h"] {
        let (counts, _) = Counts::of(&env, env.command().arg(flag));
        let user = env.home();
        let touched = counts
            .lines
            .iter()
            .find(|line| line.contains(user.to_str().expect("plain")));
        assert_eq!(touched, None);
        counts.within(&Limit {
            calls: 38,
            opened: 1,
            syncs: 0,
            read: 6_000,
            written: 10_000,
        });
    }
}

#[test]
fn a_turn_costs_what_it_did() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    // The first turn with a model asks for its window and remembers it.
    let first = env.chat("one").replies("1").session_id();
    for n in 0..9 {
        env.chat(&n.to_string()).session(&first).replies("2");
    }

    let stateless = env.chat("x").arg("--no-session").answered(at_once());
    let (counts, _) = Counts::of(&env, stateless);
    counts.within(&STATELESS);

    let (counts, _) = Counts::of(&env, env.chat("x").answered(at_once()));
    counts.within(&NEW);

    let continued = env.chat("x").session(&first).answered(at_once());
    let (counts, output) = Counts::of(&env, continued);
    assert_eq!(output.json()["context_usage"]["kept_turns"], 10);
    counts.within(&CONTINUED);
}

#[test]
fn a_session_that_did_not_change_costs_a_list_two_looks() {
    if !need("strace") {
        return;
    }
    let few = warm_list(20);
    let many = warm_list(220);
    assert_eq!(few.opened, many.opened, "{}", many.lines.join("\n"));
    let looks = many.lines.iter().filter(|line| name(line).contains("stat"));
    let more = looks.count()
        - few
            .lines
            .iter()
            .filter(|line| name(line).contains("stat"))
            .count();
    assert_eq!(more, 2 * 200, "its directory and its log");
    // Memory, pieces of the directory and the index, and how far the thread that waits for signals
    // has come when the process ends. One more call a session would be 200.
    let rest = many.calls.saturating_sub(few.calls + more);
    assert!(rest <= 60, "{rest} more:\n{}", many.lines.join("\n"));
}

/// The counts of a list of so many sessions that are all in the index.
fn warm_list(sessions: u64) -> Counts {
    let env = TestEnv::new();
    for n in 0..sessions {
        let header = r#"{"v":1,"id":"01KA0000000000000000000001","type":"session","ts":"2026-11-22T00:00:00.000Z","model":"m"}"#;
        let id = format!("019aa0c4-7d10-7c3e-9a52-{n:012}");
        env.write(env.log_path(&id), format!("{header}\n"));
    }
    env.command().arg("--list-sessions").run().ok();
    let path = env.store().join("cache/index.jsonl");
    let index = File::options()
        .write(true)
        .open(path)
        .expect("the list made it");
    let written = index
        .metadata()
        .and_then(|index| index.modified())
        .expect("a time");
    // So much later than the sessions that it is believed.
    let later = written + Duration::from_secs(3600);
    index.set_modified(later).expect("it can be set");
    // The least of three: on a busy machine a run may meet an index that is looked at anew.
    let counts = (0..3).map(|_| {
        let (counts, output) = Counts::of(&env, env.command().arg("--list-sessions"));
        assert_eq!(output.json()["total"], sessions);
        counts
    });
    counts.min_by_key(|counts| counts.calls).expect("three")
}
