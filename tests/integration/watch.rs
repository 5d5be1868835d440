//! `session watch`: events from any process, each once, whole and at once.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use crate::stores::{owned, put, three_turns};
use crate::support::{NOBODY_LISTENS, Output, Running, TestEnv};

fn watch<'e>(env: &'e TestEnv, args: &[&str]) -> Running<'e> {
    let run = env.command().args(["session", "watch"]).args(args);
    let mut watch = run.spawn();
    watch.wait_for_stderr("watching");
    watch
}

fn say(env: &TestEnv, id: &str, prompt: &str) {
    let chat = env.chat(prompt).args(["--offline", "--create"]);
    chat.session(id).run().ok();
}

/// Returns the prompts of the turns that were printed, in their order.
fn prompts(output: &Output) -> Vec<String> {
    let lines = output.json_lines().into_iter();
    let turns = lines.filter(|line| line["event"]["type"] == "turn");
    turns
        .map(|line| line["event"]["prompt"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn turns_of_any_process_are_seen_once_from_now_on() {
    let env = TestEnv::new();
    let (id, lines) = three_turns(&env);
    let new = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
    let mut watch = watch(&env, &[]);
    say(&env, &id, "fourth");
    watch.wait_for_stdout("fourth");
    say(&env, new, "first of another");
    watch.wait_for_stdout("first of another");

    // Compacted: another file under the name, its lines elsewhere.
    let log = env.log_path(&id);
    let mut compacted: Vec<String> = env.log(&id).lines().map(str::to_owned).collect();
    compacted.reverse();
    let temporary = log.with_file_name(".tmp-x");
    put(&temporary, compacted.join("\n") + "\n");
    owned(&temporary);
    fs::rename(&temporary, &log).expect("a rename");
    say(&env, &id, "after compaction");
    watch.wait_for_stdout("after compaction");

    // A conflict copy: what both have, and one event of its own.
    let theirs = lines.0[2].replace("question 2", "from elsewhere");
    let its_id = &lines.0[2][13..39];
    let theirs = theirs.replacen(its_id, "01KAV8Z0M4ABCDEFGHJKMNPQRS", 1);
    put(
        log.with_file_name("copy.jsonl"),
        lines.0.join("\n") + "\n" + &theirs + "\n",
    );
    watch.wait_for_stdout("from elsewhere");

    watch.signal(2);
    let output = watch.wait();
    assert_eq!(
        prompts(&output),
        [
            "fourth",
            "first of another",
            "after compaction",
            "from elsewhere"
        ]
    );
    assert_eq!(output.json_lines()[1]["session_id"], new);
    assert_eq!(output.json_lines()[1]["event"]["type"], "session");
    output.prints_and_fails(130, "interrupted");
}

#[test]
fn half_an_event_is_not_seen_and_a_whole_one_at_once() {
    let env = TestEnv::new();
    let (id, lines) = three_turns(&env);
    let log = env.log_path(&id);
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).open(&log).expect("a log");
        file.write_all(text.as_bytes()).expect("writable");
    };
    let watch_one = |args: &[&str]| watch(&env, args);
    let mut watch = watch_one(&[&id]);
    let line = lines.0[1].replacen(&lines.0[1][13..39], "01KAV8Z0M4ABCDEFGHJKMNPQRS", 1);
    let line = line.replace("question 1", "in \u{2028} pieces");
    append(&line[..40]);
    // Another session goes unseen here; seen by a second watch, it shows that looks were taken.
    let mut all = watch_one(&[]);
    append(&line[40..line.len() - 1]);
    let (other, _) = three_turns(&env);
    all.wait_for_stdout("question 3");
    append("}");
    all.wait_for_stdout("pieces");
    watch.wait_for_stdout("in \\u2028 pieces");
    append("\n");
    say(&env, &id, "the next");
    watch.wait_for_stdout("the next");
    watch.signal(15);
    let output = watch.wait();
    assert_eq!(prompts(&output), ["in \u{2028} pieces", "the next"]);
    output.prints_and_fails(143, "terminated");
    assert_ne!(other, id);
}

#[test]
fn a_watch_may_begin_at_the_start_and_before_there_is_a_store() {
    let env = TestEnv::new();
    let mut early = watch(&env, &[]);
    let (id, _) = three_turns(&env);
    early.wait_for_stdout("question 3");
    let mut late = watch(&env, &["--from-start", &id[..12]]);
    late.wait_for_stdout("question 3");
    for mut watch in [early, late] {
        watch.signal(2);
        assert_eq!(prompts(&watch.wait()).len(), 3);
    }
    let nobody = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
    let named = env.command().args(["session", "watch", nobody]).run();
    named.fails(3, "session_not_found");
}

#[test]
fn it_ends_when_nobody_reads_and_changes_nothing() {
    let env = TestEnv::new();
    three_turns(&env);
    let before = env.snapshot();
    let run = env.command().args(["session", "watch"]).stdout_closed();
    run.run().ok();
    assert_eq!(env.snapshot(), before);
}

#[test]
fn drafts_are_listed_and_those_nobody_holds_cleared() {
    let env = TestEnv::new();
    let drafts = |args: &[&str]| {
        let run = env.command().args(["session", "drafts"]).args(args);
        run.run().ok().json()
    };
    assert_eq!(drafts(&[]), serde_json::json!({"drafts": [], "total": 0}));
    let refused = env.chat("in vain").env("OLLAMA_HOST", NOBODY_LISTENS);
    refused.run().fails(4, "server_unreachable");
    let gate = crate::support::Gate::new();
    let reply = crate::support::Reply::text("at last").held_by(&gate);
    let mut waiting = env.chat("under way").answered(reply).spawn();
    waiting.wait_for_request();

    let listed = drafts(&[]);
    assert_eq!(listed["total"], 2);
    let [failed, held] = [&listed["drafts"][0], &listed["drafts"][1]];
    assert_eq!(
        (&failed["prompt"], &failed["under_way"]),
        (&"in vain".into(), &false.into())
    );
    assert_eq!(failed["error"]["code"], "server_unreachable");
    assert_eq!(
        (&held["prompt"], &held["under_way"]),
        (&"under way".into(), &true.into())
    );

    let cleared = drafts(&["--clear"]);
    assert_eq!(
        cleared,
        serde_json::json!({"removed": 1, "drafts": [failed["id"]], "kept": [held["id"]]})
    );
    assert_eq!(drafts(&[])["total"], 1);
    gate.open();
    waiting.wait().ok();
    assert_eq!(drafts(&[])["total"], 0);
}
