//! Copies: a store in git, copied while it is written to, and with conflict copies in it. In each
//! nothing that was acknowledged is missing, and the next turn knows all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{Reply, Run, TestEnv, need};

/// Prepares a run on another copy of the store.
fn at<'env>(env: &'env TestEnv, store: &Path) -> Run<'env> {
    env.command().env("OLLAMA_PROMPT_HOME", store)
}

fn turn(env: &TestEnv, store: &Path, id: &str, prompt: &str) {
    let run = at(env, store).args(["--prompt", prompt]).session(id);
    run.replies(&format!("re: {prompt}"));
}

fn info(env: &TestEnv, store: &Path, id: &str) -> Value {
    let run = at(env, store).args(["--session-info", id]).run();
    run.ok().json()
}

fn contents(info: &Value) -> Vec<String> {
    let messages = info["messages"].as_array().expect("messages");
    let texts = messages.iter().filter_map(|m| m["content"].as_str());
    texts.map(str::to_owned).collect()
}

/// Runs git with no configuration but a name.
fn git(directory: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output();
    let output = output.expect("git runs");
    assert!(output.status.success(), "git {args:?}: {output:?}");
}

fn commit(store: &Path) {
    git(store, &["add", "--all"]);
    git(store, &["commit", "--quiet", "--message", "turns"]);
}

/// A repository at `root` (of the store, or of its sessions) with one session, and two clones.
struct Clones<'env> {
    env: &'env TestEnv,
    id: String,
    one: PathBuf,
    other: PathBuf,
}

impl<'env> Clones<'env> {
    fn of(env: &'env TestEnv) -> Self {
        let id = env.chat("first").replies("re: first").session_id();
        env.chat("second").session(&id).replies("re: second");
        Self::of_session(env, id)
    }

    fn of_session(env: &'env TestEnv, id: String) -> Self {
        git(&env.store(), &["init", "--quiet", "--initial-branch=main"]);
        commit(&env.store());
        let clones = Self {
            env,
            id,
            one: env.home().join("one"),
            other: env.home().join("other"),
        };
        for clone in [&clones.one, &clones.other] {
            let clone = clone.to_str().expect("a plain path");
            git(&env.store(), &["clone", "--quiet", ".", clone]);
        }
        clones
    }

    fn log(&self, store: &Path) -> PathBuf {
        store.join("sessions").join(&self.id).join("events.jsonl")
    }

    /// Merges each into the other as it was; returns the one history both have then.
    fn merge_both_ways(&self) -> Value {
        for clone in [&self.one, &self.other] {
            commit(clone);
            git(clone, &["branch", "before"]);
        }
        for (into, from) in [(&self.one, &self.other), (&self.other, &self.one)] {
            let from = from.to_str().expect("a plain path");
            git(
                into,
                &[
                    "pull",
                    "--quiet",
                    "--no-rebase",
                    "--no-edit",
                    from,
                    "before",
                ],
            );
        }
        let one = info(self.env, &self.one, &self.id);
        assert_eq!(one, info(self.env, &self.other, &self.id));
        one
    }

    /// Asks both for one more turn, which must know all there is.
    fn go_on(&self, expected: &[String]) {
        for store in [&self.one, &self.other] {
            turn(self.env, store, &self.id, "and now");
            let request = self.env.server().last_request();
            let (mut before, last) = (request.contents(), "and now".to_owned());
            assert_eq!(before.pop(), Some(last));
            assert_eq!(before, expected);
            let roles = ["user", "assistant"]
                .iter()
                .cycle()
                .take(expected.len() + 1);
            assert!(request.roles().iter().eq(roles), "{:?}", request.roles());
        }
    }
}

#[test]
fn clones_that_each_went_on_merge_with_plain_git_either_way() {
    if !need("git") {
        return;
    }
    let env = TestEnv::new();
    let clones = Clones::of(&env);
    turn(&env, &clones.one, &clones.id, "a");
    turn(&env, &clones.other, &clones.id, "x");
    turn(&env, &clones.one, &clones.id, "b");
    turn(&env, &clones.other, &clones.id, "y");
    let history = contents(&clones.merge_both_ways());
    let prompts: Vec<&String> = history.iter().step_by(2).collect();
    assert_eq!(prompts, ["first", "second", "a", "x", "b", "y"]);
    clones.go_on(&history);
}

#[test]
fn a_clone_that_was_sorted_merges_with_one_that_went_on() {
    if !need("git") {
        return;
    }
    let env = TestEnv::new();
    let id = env.chat("first").replies("re: first").session_id();
    for prompt in ["second", "third"] {
        env.chat(prompt)
            .session(&id)
            .replies(&format!("re: {prompt}"));
    }
    let mut lines: Vec<String> = env.log(&id).lines().map(str::to_owned).collect();
    lines.reverse();
    lines.extend_from_within(..2);
    env.write(env.log_path(&id), lines.join("\n") + "\n");
    let clones = Clones::of_session(&env, id);

    lines.sort();
    lines.dedup();
    env.write(clones.log(&clones.one), lines.join("\n") + "\n");
    turn(&env, &clones.other, &clones.id, "x");
    let history = contents(&clones.merge_both_ways());
    let prompts: Vec<&String> = history.iter().step_by(2).collect();
    assert_eq!(prompts, ["first", "second", "third", "x"]);
    clones.go_on(&history);
}

#[test]
fn a_copy_taken_while_eight_write_has_every_turn_acknowledged_before() {
    const WRITERS: usize = 8;
    const COPIES: usize = 3;
    let env = TestEnv::new();
    let ids: Vec<String> = (0..2)
        .map(|_| env.chat("first").replies("1").session_id())
        .collect();
    env.server().handle(|_| Reply::text("y".repeat(3000)));
    let tools: [(&str, &[&str]); 2] = [("cp", &["-r"]), ("rsync", &["-a"])];
    let tools: Vec<_> = tools.into_iter().filter(|(tool, _)| need(tool)).collect();
    let acknowledged = Mutex::new(Vec::new());
    let over = AtomicBool::new(false);
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (env, acknowledged, over) = (&env, &acknowledged, &over);
            let id = &ids[writer % ids.len()];
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let prompt = format!("writer {writer} {}", "x".repeat(3000));
                    let turn = env.chat(&prompt).session(id).run();
                    let turn = turn.ok().json()["turn"]["id"].clone();
                    let mut known = acknowledged.lock().expect("no writer failed");
                    known.push((id.clone(), turn));
                }
            });
        }
        let _stop = StopAtEnd(&over);
        let known = || acknowledged.lock().expect("no writer failed").clone();
        for n in 0..COPIES {
            for (tool, flags) in &tools {
                let enough = known().len() + WRITERS;
                while known().len() < enough {
                    std::thread::yield_now();
                }
                let before = known();
                let copy = env.home().join(format!("{tool}-{n}"));
                // Drafts come and go; both tools say so with their exit status.
                let copied = Command::new(tool)
                    .args(*flags)
                    .arg(format!("{}/", env.store().display()))
                    .arg(&copy)
                    .output();
                copied.expect("the tool runs");
                copies.push((copy, before));
            }
        }
    });
    for (copy, before) in copies {
        check(&env, &copy, &ids, &before);
    }
}

/// Ends the writers however the test ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asserts that a copy opens, without a word about damage, and holds these turns, each once.
fn check(env: &TestEnv, copy: &Path, ids: &[String], expected: &[(String, Value)]) {
    let list = at(env, copy).arg("--list-sessions").run();
    assert_eq!(list.ok().stderr(), "");
    assert_eq!(list.json()["total"], ids.len());
    for id in ids {
        let info = info(env, copy, id);
        let messages = info["messages"].as_array().expect("messages");
        for (_, turn) in expected.iter().filter(|(session, _)| session == id) {
            let found = messages.iter().filter(|message| message["turn"] == *turn);
            assert_eq!(found.count(), 2, "{turn} in {}", copy.display());
        }
        turn(env, copy, id, "goes on");
    }
}

#[test]
fn a_conflict_copy_beside_the_log_is_part_of_the_session() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    let base = env.log(&id);
    env.chat("here").session(&id).replies("h");
    let here = env.log(&id);
    // The synchroniser kept the other machine's log under another name.
    env.write(env.log_path(&id), &base);
    env.chat("there").session(&id).replies("t");
    let there = env.log(&id);
    env.write(env.log_path(&id), &here);
    let conflict = env
        .log_path(&id)
        .with_file_name("events.sync-conflict-20261122-A1B2C3.jsonl");
    env.write(&conflict, &there);

    env.chat("both").session(&id).replies("b");
    let known = ["one", "1", "here", "h", "there", "t", "both"];
    assert_eq!(env.server().last_request().contents(), known);
    assert_eq!(fs::read_to_string(conflict).expect("left alone"), there);
    assert_eq!(contents(&info(&env, &env.store(), &id))[..7], known);
    let list = env.command().arg("--list-sessions").run();
    assert_eq!(list.ok().json()["sessions"][0]["message_count"], 8);
}

mod bytes_read {
    //! What a turn reads of its log, counted by strace.

    use super::*;
    use std::fmt::Write as _;

    /// Fewer than this many bytes of a long log are read by a turn.
    const BOUND: u64 = 1 << 20;

    /// Writes the log of a session of so many turns of 2 KB, the last 20 of them in the context.
    fn long_session(env: &TestEnv, turns: u64) -> String {
        let id = format!("019aa0c4-7d10-7c3e-9a52-{turns:012}");
        let mut log = String::new();
        let text = "x".repeat(1000);
        let event_id = |n: u64| format!("01KA{n:022}");
        let mut line = |kind: &str, n: u64, rest: &str| {
            let at = log.len();
            let id = event_id(n);
            writeln!(
                log,
                r#"{{"v":1,"id":"{id}","type":"{kind}","ts":"2026-11-22T00:00:00.000Z","at":{at},{rest}}}"#
            )
            .expect("a String takes all text");
        };
        line("session", 1, r#""model":"m","max_context_tokens":64000"#);
        for n in 1..=turns {
            if n == turns - 5 {
                let from = event_id(2 * (turns - 20));
                let prune = format!(
                    r#""keep_from":"{from}","strategy":"fifo","kept_turns":15,"dropped_turns":{},"dropped_tokens":0,"settings":{{"model":"m","max_context_tokens":64000}}"#,
                    turns - 20
                );
                line("prune", 2 * n - 1, &prune);
            }
            let said = format!(
                r#""model":"m","prompt":"{text}","response":"{text}","tokens":{{"prompt":300,"response":300,"counted":"measured"}}"#
            );
            line("turn", 2 * n, &said);
        }
        env.write(env.log_path(&id), log);
        id
    }

    /// Takes a turn; returns how many bytes of logs it read.
    fn of_turn(env: &TestEnv, id: &str) -> u64 {
        let trace = env.work().join("trace");
        let path = trace.to_str().expect("a plain path");
        let calls = "trace=read,pread64,readv,preadv,mmap";
        let strace = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", path];
        env.chat("more")
            .session(id)
            .through(strace)
            .replies("re: more");
        let trace = fs::read_to_string(trace).expect("a trace");
        let reads = trace.lines().filter(|line| line.contains(".jsonl>"));
        let bytes = reads.map(|line| {
            assert!(!line.contains("mmap"), "{line}");
            let returned = line.rsplit(" = ").next().expect("a result");
            returned
                .parse::<u64>()
                .unwrap_or_else(|e| panic!("{e}: {line}"))
        });
        bytes.sum()
    }

    fn length(env: &TestEnv, id: &str) -> u64 {
        fs::metadata(env.log_path(id)).expect("a log").len()
    }

    #[test]
    fn of_a_long_history_are_those_of_the_context() {
        if !need("strace") {
            return;
        }
        let env = TestEnv::new();
        let (long, longer) = (long_session(&env, 2_400), long_session(&env, 24_000));
        assert!(length(&env, &long) > 5_000_000 && length(&env, &longer) > 50_000_000);
        let read = of_turn(&env, &long);
        assert!((1..BOUND).contains(&read), "{read}");
        assert_eq!(env.server().last_request().roles().len(), 2 * 21 + 1);
        assert_eq!(of_turn(&env, &longer), read);
        assert_eq!(env.server().last_request().roles().len(), 2 * 21 + 1);
    }

    #[test]
    fn after_a_merge_are_all_once_and_then_those_of_the_context_again() {
        if !need("strace") {
            return;
        }
        let env = TestEnv::new();
        let id = long_session(&env, 2_400);
        let there = env.home().join("there");
        let copied = Command::new("cp")
            .arg("-r")
            .args([&env.store(), &there])
            .status();
        assert!(copied.expect("cp runs").success());
        turn(&env, &there, &id, "there");
        env.chat("here").session(&id).replies("h");
        env.command()
            .args(["session", "merge"])
            .arg(&there)
            .run()
            .ok();

        let whole = length(&env, &id);
        assert!(of_turn(&env, &id) >= whole);
        let said = env.server().last_request().contents();
        assert!(said.contains(&"here".to_owned()) && said.contains(&"there".to_owned()));
        let read = of_turn(&env, &id);
        assert!((1..BOUND).contains(&read), "{read}");
        let again = env.server().last_request().contents();
        assert_eq!(
            again[..said.len()],
            said[..],
            "the same context from the end"
        );
    }
}
