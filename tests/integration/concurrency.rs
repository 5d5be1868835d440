//! Protects P1 and P5 where many processes write at the same moment: every acknowledged turn is
//! there once and whole, in an order all agree on; who waits for a lock waits only so long, and
//! who reads does not wait.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::thread;

use rustix::fs::{FlockOperation, flock};

use crate::stored::{
    assert_not_stored, assert_rising, id, ids, info, listed, make_session, prompts, text, turns,
};
use crate::support::{Output, Reply, TestEnv};

const RACERS: usize = 16;

/// Runs a turn of each of [`RACERS`] processes, all of them asking before one is answered.
fn race(env: &TestEnv, session_flags: impl Fn(usize) -> [String; 2]) -> Vec<Output> {
    let asked_before = env.server().request_count();
    let everybody = asked_before + RACERS;
    env.server()
        .handle(move |_| Reply::echo().after_arrivals(everybody));
    let racers: Vec<_> = (0..RACERS)
        .map(|n| {
            env.chat(&format!("racer {n:02}"))
                .args(session_flags(n))
                .spawn()
        })
        .collect();
    racers.into_iter().map(|racer| racer.wait()).collect()
}

#[track_caller]
fn assert_all_racers(mut found: Vec<String>) {
    found.sort();
    let all: Vec<String> = (0..RACERS).map(|n| format!("racer {n:02}")).collect();
    assert_eq!(found, all);
}

#[test]
fn sixteen_turns_of_one_session_at_the_same_moment_are_all_kept() {
    let env = TestEnv::new();
    let id = env.chat("the first").replies("ready").session_id();
    let outputs = race(&env, |_| ["--session-id".into(), id.clone()]);

    let turns = turns(&env, &id);
    assert_eq!(turns[0]["prompt"], "the first");
    assert_all_racers(
        turns[1..]
            .iter()
            .map(|turn| text(&turn["prompt"]))
            .collect(),
    );
    let order = ids(&turns);
    assert_rising(&ids(&env.lines(&id)));

    for output in &outputs {
        let said = output.ok().json()["turn"].clone();
        let place = order
            .iter()
            .position(|id| said["id"] == **id)
            .expect("it is in the log");
        assert_eq!(said["parent"], *order[0], "what the model saw\n{output}");
        // All read the session before one was stored, so each met all that were before it.
        assert_eq!(
            said["concurrent_with"],
            serde_json::json!(order[1..place]),
            "{output}"
        );
        assert_eq!(turns[place]["concurrent_with"].is_null(), place == 1);
        let warned = output
            .stderr()
            .contains("stored while this one was under way");
        assert_eq!(warned, place > 1, "{output}");
    }
    env.chat("after them").session(&id).replies("all of you");
    assert_eq!(
        env.server().last_request().roles().len(),
        2 * (RACERS + 1) + 1
    );
}

#[test]
fn sixteen_sessions_at_the_same_moment_do_not_mix() {
    let env = TestEnv::new();
    for n in 0..RACERS {
        make_session(&env, &id(n), &["the first"]);
    }
    for output in race(&env, |n| ["--session-id".into(), id(n)]) {
        let json = output.ok().json();
        assert_eq!(
            json["turn"]["concurrent_with"],
            serde_json::json!([]),
            "{output}"
        );
    }
    for n in 0..RACERS {
        assert_eq!(
            prompts(&env, &id(n)),
            ["the first".into(), format!("racer {n:02}")]
        );
    }
}

#[test]
fn processes_racing_for_a_new_key_end_in_one_session_with_all_turns() {
    let env = TestEnv::new();
    let outputs = race(&env, |_| ["--session-key".into(), "build 7".into()]);
    let id = outputs[0].session_id();
    assert!(outputs.iter().all(|output| output.session_id() == id));
    assert_eq!(listed(&env), [(id.clone(), 2 * RACERS as u64)]);
    assert_all_racers(prompts(&env, &id));
    let headers = env
        .lines(&id)
        .iter()
        .filter(|line| line["type"] == "session")
        .count();
    assert_eq!(headers, 1);
    assert_rising(&ids(&env.lines(&id)));
}

#[test]
fn processes_racing_to_make_the_store_keep_a_session_each() {
    let env = TestEnv::new();
    let outputs = race(&env, |_| ["--new-session".into(), "-q".into()]);
    let mut expected: Vec<_> = outputs
        .iter()
        .map(|output| (output.session_id(), 2))
        .collect();
    expected.sort();
    assert_eq!(listed(&env), expected);
}

/// 64 scripts, each of which calls the program 20 times in a row.
#[test]
fn sixty_four_processes_times_twenty_turns_are_1280_of_1280() {
    const SCRIPTS: usize = 64;
    const TURNS: usize = 20;
    let env = TestEnv::new();
    let id = id(0);
    make_session(&env, &id, &["the first"]);
    let turn = |script, n| {
        let turn = env
            .chat(&format!("{script}:{n}"))
            .session(&id)
            .args(["--offline", "-q"]);
        // What the model is sent is not what this is about.
        let output = turn.args(["--max-context-tokens", "400"]).run();
        text(&output.ok().json()["turn"]["id"])
    };
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let script = |script| move || (0..TURNS).map(|n| turn(script, n)).collect::<Vec<_>>();
        let scripts: Vec<_> = (0..SCRIPTS).map(|n| scope.spawn(script(n))).collect();
        let ended = scripts
            .into_iter()
            .map(|script| script.join().expect("every turn works"));
        ended.flatten().collect()
    });

    let turns = turns(&env, &id);
    assert_eq!(turns.len(), 1 + SCRIPTS * TURNS);
    assert_rising(&ids(&env.lines(&id)));
    let mut stored = ids(&turns[1..]);
    let mut acknowledged = acknowledged;
    stored.sort();
    acknowledged.sort();
    assert_eq!(stored, acknowledged);
    // A script's turns follow each other: each was acknowledged before the next was begun.
    for script in 0..SCRIPTS {
        let prompts = turns.iter().map(|turn| text(&turn["prompt"]));
        let own: Vec<String> = prompts
            .filter(|p| p.starts_with(&format!("{script}:")))
            .collect();
        let expected: Vec<String> = (0..TURNS).map(|n| format!("{script}:{n}")).collect();
        assert_eq!(own, expected);
    }
    assert_eq!(info(&env, &id)["message_count"], 2 * (1 + SCRIPTS * TURNS));
}

/// The lock of a session, held by this process until it is dropped.
pub(crate) fn hold_lock(env: &TestEnv, id: &str) -> File {
    let path: PathBuf = env.store().join("locks").join(&id[id.len() - 2..]);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("a lock file");
    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("it is free");
    file
}

#[test]
fn a_lock_that_is_not_given_back_in_time_fails_the_store_and_not_the_reply() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    env.chat("two").session(&id).replies("2");
    let before = env.log(&id);
    let held = hold_lock(&env, &id);
    let impatient = env
        .chat("three")
        .session(&id)
        .env("OLLAMA_PROMPT_LOCK_TIMEOUT", "0.3");
    let output = impatient.answered(Reply::text("3")).run();
    let failure = output.prints_and_fails(7, "store_locked");
    assert!(failure.retryable);
    assert!(failure.error.contains("locks/"), "{output}");
    assert!(
        failure
            .hint
            .is_some_and(|hint| hint.contains("OLLAMA_PROMPT_LOCK_TIMEOUT"))
    );
    assert_not_stored(&output, "3");
    assert_eq!(env.log(&id), before);
    let draft = &env.drafts()[0];
    assert_eq!(
        (&draft["prompt"], &draft["response"]),
        (&"three".into(), &"3".into())
    );

    drop(held);
    env.chat("four").session(&id).replies("4");
    assert_eq!(prompts(&env, &id), ["one", "two", "four"]);
}

/// It is longer than any clock counts.
#[test]
fn whoever_waits_for_ever_is_let_wait() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    let patient = env.chat("two").session(&id);
    let patient = patient.env("OLLAMA_PROMPT_LOCK_TIMEOUT", "1e19");
    patient.replies("2");
    env.write(env.store().join("config.toml"), "lock_timeout = 1e19\n");
    env.chat("three").session(&id).replies("3");
    assert_eq!(prompts(&env, &id), ["one", "two", "three"]);
}

#[test]
fn an_append_waits_for_the_lock_and_a_reader_does_not() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    env.chat("two").session(&id).replies("2");
    let held = hold_lock(&env, &id);
    let answered = env.chat("three").session(&id).answered(Reply::text("3"));
    let mut waiting = answered.args(["--output", "text"]).spawn();
    // The reply is out, and what is left of the turn is the append.
    waiting.wait_for_stdout("3");

    assert_eq!(listed(&env), [(id.clone(), 4)]);
    let shown = info(&env, &id);
    assert_eq!(shown["message_count"], 4);
    assert_eq!(shown["unfinished"][0]["prompt"], "three");
    assert_eq!(shown["unfinished"][0]["under_way"], true);
    assert!(waiting.is_running(), "nobody else holds it up");

    drop(held);
    waiting.wait().ok();
    assert_eq!(prompts(&env, &id), ["one", "two", "three"]);
}

#[test]
fn locks_that_are_removed_meanwhile_are_made_again() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    std::fs::remove_dir_all(env.store().join("locks")).expect("a directory to remove");
    let outputs = race(&env, |_| ["--session-id".into(), id.clone()]);
    assert!(outputs.iter().all(|output| output.exit_code() == Some(0)));
    assert_all_racers(prompts(&env, &id).split_off(1));
    assert_rising(&ids(&env.lines(&id)));
}
