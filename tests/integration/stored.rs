//! What a store holds, asked from outside: the questions the tests of the store have in common.

use std::path::Path;

use serde_json::Value;

use crate::support::{Output, Run, TestEnv};

/// An id that names nothing until a test makes it, told from others by `n`.
pub(crate) fn id(n: usize) -> String {
    format!("019aa0c4-7d10-7c3e-8a52-{n:012x}")
}

/// Makes a session of this id in which these prompts were answered.
#[track_caller]
pub(crate) fn make_session(env: &TestEnv, id: &str, prompts: &[&str]) {
    for prompt in prompts {
        let turn = env.chat(prompt).session(id);
        turn.args(["--create", "--offline"]).run().ok();
    }
}

/// Returns what `--session-info` says.
#[track_caller]
pub(crate) fn info(env: &TestEnv, id: &str) -> Value {
    let output = env.command().args(["--session-info", id]).run();
    output.ok().json()
}

/// Returns every prompt of a session, as `--session-info` shows them.
#[track_caller]
pub(crate) fn prompts(env: &TestEnv, id: &str) -> Vec<String> {
    let info = info(env, id);
    let messages = info["messages"].as_array().expect("messages");
    let said = messages.iter().filter(|message| message["role"] == "user");
    said.map(|message| text(&message["content"])).collect()
}

/// Returns the sessions `--list-sessions` shows, id and number of messages, sorted.
#[track_caller]
pub(crate) fn listed(env: &TestEnv) -> Vec<(String, u64)> {
    let list = env.command().arg("--list-sessions").run().ok().json();
    let sessions = list["sessions"].as_array().expect("sessions");
    let count = |session: &Value| session["message_count"].as_u64().expect("a count");
    let mut listed: Vec<_> = sessions
        .iter()
        .map(|session| (text(&session["session_id"]), count(session)))
        .collect();
    listed.sort();
    listed
}

/// Returns the turns of a log, its other events left out; asserts that each line is whole.
#[track_caller]
pub(crate) fn turns(env: &TestEnv, id: &str) -> Vec<Value> {
    let mut lines = env.lines(id);
    lines.retain(|line| line["type"] == "turn");
    lines
}

/// Returns the ids of events in the order they are in.
pub(crate) fn ids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| text(&event["id"])).collect()
}

/// Asserts that the ids are in order and none is there twice.
#[track_caller]
pub(crate) fn assert_rising(ids: &[String]) {
    let rising = ids.is_sorted_by(|a, b| a < b);
    assert!(rising, "file order is id order, no id twice: {ids:?}");
}

/// Asserts that the reply was printed and says that it is not stored; returns the JSON.
#[track_caller]
pub(crate) fn assert_not_stored(output: &Output, reply: &str) -> Value {
    let json = output.json();
    assert_eq!(json["response"], reply, "{output}");
    assert_eq!(json["turn"]["stored"], false, "{output}");
    json
}

/// Runs through strace, which sees only these system calls on only these paths, and writes what
/// it saw into `trace` of the working directory.
pub(crate) fn traced<'env>(run: Run<'env>, paths: &[&Path], rules: &[&str]) -> Run<'env> {
    let mut command: Vec<String> = ["strace", "-f", "-q", "-o", "trace"]
        .map(str::to_owned)
        .into();
    for path in paths {
        command.extend(["-P".to_owned(), path.display().to_string()]);
    }
    for rule in rules {
        command.extend(["-e".to_owned(), (*rule).to_owned()]);
    }
    run.through(command)
}

/// Returns how often a system call is in the trace of the last traced run.
#[track_caller]
pub(crate) fn times_called(env: &TestEnv, call: &str) -> usize {
    let trace = std::fs::read_to_string(env.work().join("trace")).expect("a trace");
    let start = format!("{call}(");
    trace.lines().filter(|line| line.contains(&start)).count()
}

/// Returns a JSON string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
