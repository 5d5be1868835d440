//! `cleanup`: a purge once or again and again, one per store, that outlives its store and ends when
//! it is told to; and that what docs/housekeeping.md gives to the system is what the system takes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Run, TestEnv, need};

fn cleanup<'e>(env: &'e TestEnv, args: &[&str]) -> Run<'e> {
    env.command().args(["cleanup"]).args(args)
}

/// Makes a session that looks as if it was last used in the year 2001.
fn old(env: &TestEnv) -> String {
    let id = env.chat("long ago").run().session_id();
    let log = env.log(&id);
    let at = log.find("\"ts\":\"").expect("a time");
    let year = log[at..at + 10].to_owned();
    env.write(env.log_path(&id), log.replace(&year, "\"ts\":\"2001"));
    id
}

fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(parse).collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line["event"].as_str())
        .collect()
}

#[test]
fn once_is_a_round_and_its_line() {
    let env = TestEnv::new();
    let gone = old(&env);
    let stays = env.chat("just now").run().session_id();
    let would = cleanup(&env, &["--older-than", "30d", "--dry-run"]).run();
    let would = lines(would.ok().stdout());
    assert_eq!(would[0]["dry_run"], true);
    assert!(env.log_path(&gone).exists());

    let done = cleanup(&env, &["--older-than", "30d"]).run();
    let done = lines(done.ok().stdout());
    assert_eq!(events(&done), ["round"]);
    assert_eq!(done[0]["removed"], 1);
    assert_eq!(done[0]["sessions"], json!([gone]));
    assert_eq!(done[0]["message"], "Removed 1 session not used for 30 days");
    assert!(env.log_path(&stays).exists() && !env.log_path(&gone).exists());
    let receipts = fs::read_to_string(env.store().join("purged.jsonl")).expect("receipts");
    let receipt: Value = serde_json::from_str(receipts.trim()).expect("a receipt");
    assert_eq!(receipt["why"], "cleanup --older-than 30d");
    let again = cleanup(&env, &["--older-than", "30d"]).run();
    assert_eq!(lines(again.ok().stdout())[0]["removed"], 0);
}

#[test]
fn it_goes_on_until_sigterm_and_sighup_is_a_round_at_once() {
    let env = TestEnv::new();
    let first = old(&env);
    for (number, name) in [(15, "SIGTERM"), (2, "SIGINT")] {
        let mut running = cleanup(&env, &["--older-than", "30d", "--every", "10h"]).spawn();
        running.wait_for_stdout("\"event\":\"round\"");
        let second = old(&env);
        for hurry in 1..=2 {
            running.signal(1);
            running.wait_for_stdout(&second);
            assert!(running.is_running(), "after {hurry} of SIGHUP");
        }
        running.signal(number);
        let output = running.wait();
        let told = lines(output.ok().stdout());
        let what = events(&told);
        assert_eq!(what[..2], ["started", "round"], "{name}");
        assert!(what.contains(&"asked"), "{what:?}");
        let last = told.last().expect("a line");
        assert_eq!(
            (&last["event"], &last["signal"]),
            (&json!("stopped"), &json!(name))
        );
        assert!(!env.log_path(&second).exists());
    }
    assert!(!env.log_path(&first).exists());
}

#[test]
fn a_second_one_says_who_runs_and_a_third_may_follow_the_first() {
    let env = TestEnv::new();
    env.chat("hello").run().ok();
    let mut running = cleanup(&env, &["--older-than", "30d", "--every", "10h"]).spawn();
    running.wait_for_stdout("\"event\":\"round\"");
    for args in [
        &["--older-than", "1d"][..],
        &["--older-than", "1d", "--every", "1h"],
    ] {
        let failure = cleanup(&env, args).run().fails(7, "store_locked");
        let who = format!("process {} since 2", running.id());
        assert!(failure.error.contains(&who), "{}", failure.error);
        assert!(failure.retryable);
    }
    cleanup(&env, &["--older-than", "1d", "--dry-run"])
        .run()
        .ok();
    running.kill9();
    cleanup(&env, &["--older-than", "1d"]).run().ok();
    env.command().args(["session", "verify"]).run().ok();
}

#[test]
fn a_store_that_goes_away_and_comes_back_is_looked_after_again() {
    let env = TestEnv::new();
    env.chat("hello").run().ok();
    let away = env.home().join("away");
    let mut running = cleanup(&env, &["--older-than", "30d", "--every", "10h"]).spawn();
    running.wait_for_stdout("\"event\":\"round\"");
    fs::rename(env.store(), &away).expect("gone");
    running.signal(1);
    running.wait_for_stdout("\"event\":\"store_missing\"");
    assert!(!env.store().exists(), "it is not made");
    fs::rename(&away, env.store()).expect("back");
    let gone = old(&env);
    running.signal(1);
    running.wait_for_stdout(&gone);
    running.signal(15);
    let output = running.wait();
    let told = lines(output.ok().stdout());
    let what = events(&told);
    let expected = [
        "started",
        "round",
        "asked",
        "store_missing",
        "asked",
        "store_back",
        "round",
        "stopped",
    ];
    assert_eq!(what, expected);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let env = TestEnv::new();
    for args in [
        &[][..],
        &["--older-than", "30"],
        &["--older-than", "30d", "--every", "0"],
        &["--older-than", "30d", "--every", "1"],
        &["--older-than", "30d", "--every", "10ms"],
    ] {
        cleanup(&env, args).run().fails(2, "usage");
    }
    assert!(!env.store().exists());
}

/// Returns the blocks of a language in docs/housekeeping.md, in order.
fn blocks(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/housekeeping.md");
    let text = fs::read_to_string(path).expect("the document");
    let fence = format!("```{language}\n");
    let after = text.split(&fence).skip(1);
    let blocks = after.filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

/// Returns the arguments of each call of the program in a text.
fn calls(text: &str) -> Vec<Vec<String>> {
    let calls = text.split("ollama-prompt cleanup").skip(1);
    let line = |rest: &str| rest.lines().next().unwrap_or_default().to_owned();
    let args = calls.map(|rest| line(rest).split_whitespace().map(str::to_owned).collect());
    args.collect()
}

#[test]
fn the_units_and_the_cron_line_call_what_there_is() {
    let env = TestEnv::new();
    env.chat("hello").run().ok();
    let plist = blocks("xml").concat();
    let arguments = plist.split("<string>").skip(1);
    let arguments: Vec<&str> = arguments
        .filter_map(|rest| rest.split("</string>").next())
        .collect();
    let from = arguments
        .iter()
        .position(|a| *a == "cleanup")
        .expect("it calls cleanup");
    let of_plist = arguments[from + 1..from + 5]
        .iter()
        .map(|a| (*a).to_owned());
    let all = [blocks("ini"), blocks("cron")].concat().concat();
    let calls: Vec<Vec<String>> = calls(&all)
        .into_iter()
        .chain([of_plist.collect()])
        .collect();
    assert!(calls.len() >= 4, "{calls:?}");
    for mut args in calls {
        args.retain(|arg| arg != ">>" && !arg.contains(".log"));
        let mut run = env.command().arg("cleanup").args(&args).spawn();
        run.wait_for_stdout("\"event\":\"round\"");
        if args.contains(&"--every".to_owned()) {
            run.signal(15);
        }
        run.wait().ok();
    }
}

#[test]
fn systemd_and_launchd_take_what_the_document_gives_them() {
    let directory = tempfile::TempDir::new().expect("a directory");
    if need("python3") {
        let path = directory.path().join("a.plist");
        put(&path, &blocks("xml").concat());
        let read = "import plistlib, sys; print(plistlib.load(open(sys.argv[1], 'rb'))['ProgramArguments'][1])";
        let python = Command::new("python3")
            .args(["-c", read])
            .arg(&path)
            .output();
        let python = python.expect("python3 runs");
        assert_eq!(
            String::from_utf8_lossy(&python.stdout).trim(),
            "cleanup",
            "{python:?}"
        );
    }
    // Not on every machine that runs tests, and nothing of this program needs it.
    let analyze = Command::new("systemd-analyze").arg("--version").output();
    if analyze.is_ok_and(|output| output.status.success()) {
        let binary = env!("CARGO_BIN_EXE_ollama-prompt");
        for (at, unit) in blocks("ini").iter().enumerate() {
            let name = unit.lines().next().and_then(|l| l.split('/').next_back());
            let name = name.unwrap_or_else(|| panic!("unit {at} has no name"));
            let text = unit.replace("%h/.cargo/bin/ollama-prompt", binary);
            put(&directory.path().join(name), &text);
        }
        let mut verify = Command::new("systemd-analyze");
        verify
            .args(["verify", "--user"])
            .env("XDG_RUNTIME_DIR", directory.path());
        for entry in fs::read_dir(directory.path()).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path
                .extension()
                .is_some_and(|e| e == "service" || e == "timer")
            {
                verify.arg(path);
            }
        }
        let output = verify.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
fn put(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
}
