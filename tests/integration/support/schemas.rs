//! Everything the program prints and stores while a test runs, held to the schemas that the
//! program itself prints. Each is asked for and compiled once in a run of the suite.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use ollama_prompt::session::event::{Body, Event};
use serde_json::Value;

use super::output::{Output, files_below};
use super::run::PROGRAM;
use super::tools::profile;

/// How much of the logs of a store is looked at after a test: some tests store very much of the
/// same.
const LOOKED_AT: usize = 4 << 20;

/// Returns what of a value is not as the schema of its shape says.
#[track_caller]
pub(crate) fn problems(shape: &'static str, value: &Value) -> Vec<String> {
    validator(shape)
        .iter_errors(value)
        .map(|error| format!("{} at `{}`", error, error.instance_path()))
        .collect()
}

/// Returns the schema of a shape, as the program prints it.
#[track_caller]
pub(crate) fn schema(shape: &str) -> Value {
    let printed = Command::new(PROGRAM)
        .args(["--print-schema", shape])
        .env_clear()
        .envs(profile().map(|file| ("LLVM_PROFILE_FILE", file)))
        .output()
        .expect("the program runs");
    assert!(printed.status.success(), "--print-schema {shape}");
    serde_json::from_slice(&printed.stdout).expect("a schema is JSON")
}

#[track_caller]
fn validator(shape: &'static str) -> Arc<Validator> {
    static COMPILED: Mutex<Option<HashMap<&str, Arc<Validator>>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = compiled.get_or_insert_default().entry(shape);
    let new = || {
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema(shape));
        Arc::new(validator.expect("a schema is one of draft 2020-12"))
    };
    Arc::clone(known.or_insert_with(new))
}

/// Asserts that what a run printed is as the schemas say, as far as it is JSON.
#[track_caller]
pub(super) fn hold(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if let Some(shape) = shape_of(&output.args) {
        match form_of(&output.args) {
            // A document that was not printed to its end is none.
            "json" | "compact" => {
                if let Ok(document) = serde_json::from_str(&stdout) {
                    output.fits(shape, &document);
                }
            }
            "jsonl" => {
                for line in stdout.lines() {
                    if let Ok(line) = serde_json::from_str::<Value>(line) {
                        let is_chunk = shape == "turn" && line["done"] == false;
                        output.fits(if is_chunk { "chunk" } else { shape }, &line);
                    }
                }
            }
            _ => {}
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    for line in stderr.lines().filter(|l| l.starts_with(r#"{"error":"#)) {
        if let Ok(failure) = serde_json::from_str(line) {
            output.fits("error", &failure);
        }
    }
}

/// Asserts that every event in the logs of a store is as its schema says. What the program does
/// not take for an event is the test's own doing.
#[track_caller]
pub(super) fn hold_store(store: &Path) {
    let sessions = store.join("sessions");
    let mut looked_at = 0;
    for name in files_below(&sessions) {
        if name
            .extension()
            .is_none_or(|extension| extension != "jsonl")
        {
            continue;
        }
        // A test may have put a directory, a pipe or a link there.
        let path = sessions.join(&name);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            continue;
        }
        let log = fs::read(&path).unwrap_or_default();
        for line in log.split(|byte| *byte == b'\n') {
            looked_at += line.len();
            if looked_at > LOOKED_AT {
                return;
            }
            if let Some(event) = written(line) {
                let problems = problems("event", &event);
                assert!(
                    problems.is_empty(),
                    "{}: {problems:#?}\n{event}",
                    path.display()
                );
            }
        }
    }
}

/// Returns a line if it is an event that has everything this program writes around one.
fn written(line: &[u8]) -> Option<Value> {
    let event = Event::from_slice(line).ok()?;
    let value: Value = serde_json::from_slice(line).ok()?;
    let is_known = !matches!(event.body, Body::Unknown(_));
    let has = |key: &str| value.get(key).is_some();
    (is_known && has("v") && has("ts")).then_some(value)
}

/// Returns the name of the schema of what these arguments print; `None` where they print text.
fn shape_of(args: &[OsString]) -> Option<&'static str> {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let has = |flag: &str| args.contains(&flag);
    if args.first() == Some(&"session") {
        return match *args.get(1)? {
            "list" => Some("list"),
            "show" if args.iter().any(|arg| arg.starts_with("--context")) => Some("sent"),
            "show" if has("jsonl") => Some("message"),
            "show" => Some("info"),
            "search" if has("--count") => Some("found-in"),
            "search" if has("-l") || has("--files-with-matches") => Some("found-session"),
            "search" => Some("found"),
            "stats" => Some("stats"),
            "pin" | "unpin" => Some("pinned"),
            "prune" => Some("pruned"),
            "compact" => Some("compacted"),
            "delete" | "purge" => Some("purged"),
            "drafts" if has("--clear") => Some("cleared"),
            "drafts" => Some("drafts"),
            "watch" => Some("seen"),
            "verify" => Some("verified"),
            "reindex" => Some("reindexed"),
            "merge" => Some("merged"),
            "copy" => Some("copied"),
            "import" => Some("imported"),
            "export" if has("--out") => Some("exported"),
            "update" => Some("updated"),
            "retract" => Some("retracted"),
            "redact" => Some("redacted"),
            "fork" => Some("forked"),
            "retry" => Some("turn"),
            _ => None,
        };
    }
    if args.first() == Some(&"cleanup") {
        return Some("cleanup");
    }
    if args.first() == Some(&"template") {
        return match *args.get(1)? {
            "list" => Some("templates"),
            "show" => Some("template"),
            "save" => Some("template-saved"),
            "delete" => Some("templates-deleted"),
            _ => None,
        };
    }
    let rows = [
        ("--list-sessions", "list"),
        ("--session-info", "info"),
        ("--purge", "purged"),
        ("--purge-sessions", "purged"),
        ("--dry-run", "plan"),
        ("--prompt", "turn"),
        ("--prompt-file", "turn"),
        ("-p", "turn"),
    ];
    rows.iter()
        .find(|(flag, _)| has(flag))
        .map(|(_, shape)| *shape)
}

/// Returns the form these arguments print in.
fn form_of(args: &[OsString]) -> &str {
    let prints_lines = args.len() > 1 && (args[1] == "watch" || args[1] == "search");
    let is_text = args.iter().any(|arg| arg == "text");
    if args.first().is_some_and(|verb| verb == "cleanup")
        || prints_lines && args[0] == "session" && !is_text
    {
        return "jsonl";
    }
    let at = args.iter().position(|arg| arg == "--output");
    let next = at.and_then(|at| args.get(at + 1));
    let joined = args
        .iter()
        .find_map(|arg| arg.to_str()?.strip_prefix("--output="));
    joined
        .or(next.and_then(|arg| arg.to_str()))
        .unwrap_or("json")
}

impl Output {
    #[track_caller]
    fn fits(&self, shape: &'static str, value: &Value) {
        let problems = problems(shape, value);
        let expectation = format!("it should be as --print-schema {shape} says: {problems:#?}");
        self.must(problems.is_empty(), &expectation);
    }
}
