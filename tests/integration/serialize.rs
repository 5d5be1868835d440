//! `--serialize`: turns that follow each other, and `--continue` where it is not clear whose turn
//! it is.

use serde_json::Value;

use crate::stored::{id, ids, info, make_session, prompts, turns};
use crate::support::{Gate, Reply, Running, TestEnv};
use crate::waiting::{lock_files, wait_until_queued};

#[test]
fn eight_serialized_turns_see_each_other_in_order() {
    const CALLERS: usize = 8;
    for session in [["--session-id", &id(1)], ["--session-key", "new here"]] {
        let env = TestEnv::new();
        make_session(&env, &id(1), &["before"]);
        let gate = Gate::new();
        let call = |n: usize| {
            let run = env.chat(&format!("caller {n}")).args(session);
            run.arg("--serialize")
        };
        let mut first = call(0).answered(Reply::echo().held_by(&gate)).spawn();
        first.wait_for_request();
        let others: Vec<Running<'_>> = (1..CALLERS).map(|n| call(n).spawn()).collect();
        wait_until_queued(&env, "turn-", CALLERS - 1);
        assert_eq!(env.server().request_count(), 1, "the others wait");
        gate.open();
        let first = first.wait();
        let id = first.session_id();
        for output in others.into_iter().map(Running::wait) {
            let turn = output.ok().json()["turn"].clone();
            assert_eq!(turn["concurrent_with"], serde_json::json!([]), "{output}");
        }
        let stored = turns(&env, &id);
        let order = ids(&stored);
        for (at, turn) in stored.iter().enumerate().skip(1) {
            assert_eq!(turn["parent"], *order[at - 1]);
            assert_eq!(turn["concurrent_with"], Value::Null);
        }
        let said = prompts(&env, &id);
        let earlier = said.len() - CALLERS;
        for (n, request) in env.server().requests().iter().enumerate() {
            let asked: Vec<String> = request.contents().into_iter().step_by(2).collect();
            assert_eq!(asked, said[..=earlier + n], "each sees all before it");
        }
        assert_eq!(lock_files(&env, "turn-"), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn a_serialized_turn_that_is_killed_lets_the_next_one_go_on() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let gate = Gate::new();
    let call = |prompt: &str| env.chat(prompt).session(&id(1)).arg("--serialize");
    let mut first = call("first").answered(Reply::echo().held_by(&gate)).spawn();
    first.wait_for_request();
    let second = call("second").spawn();
    wait_until_queued(&env, "turn-", 1);

    // Others wait for nobody's model.
    env.chat("beside them").session(&id(1)).run().ok();
    let late = call("late").args(["--timeout", "0.2"]).run();
    assert!(late.fails(7, "store_locked").retryable);

    first.kill9();
    gate.open();
    second.wait().ok();
    assert_eq!(prompts(&env, &id(1)), ["before", "beside them", "second"]);
    let seen = env.server().last_request().contents();
    assert!(seen.contains(&"beside them".to_owned()), "{seen:?}");
}

#[test]
fn a_new_session_has_nobody_to_wait_for_and_none_cannot_be_waited_for() {
    let env = TestEnv::new();
    env.chat("q").arg("--serialize").run().ok();
    let run = env.chat("q").args(["--serialize", "--no-session"]);
    run.run().fails(2, "usage");
}

#[test]
fn continue_asks_which_session_is_meant_where_the_last_one_is_in_use() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["older"]);
    make_session(&env, &id(2), &["newer"]);
    let gate = Gate::new();
    let mut busy = env
        .chat("still thinking")
        .session(&id(2))
        .answered(Reply::echo().held_by(&gate))
        .spawn();
    busy.wait_for_request();
    let output = env.chat("and?").arg("--continue").run();
    let failure = output.fails(3, "session_ambiguous");
    let hint = failure.hint.expect("candidates");
    let (newer, older) = (hint.find(&id(2)), hint.find(&id(1)));
    assert!(newer.is_some() && newer < older, "{hint}");
    assert!(failure.error.contains("under way"), "{output}");
    assert_eq!(env.server().request_count(), 1);

    gate.open();
    busy.wait().ok();
    let output = env.chat("and?").arg("--continue").run();
    assert_eq!(output.session_id(), id(2));
    // One that failed is in nobody's hands.
    let failed = env.chat("no").session(&id(2));
    failed
        .answered(Reply::error(500, "no"))
        .run()
        .fails(5, "server_error");
    env.chat("and?").arg("--continue").run().ok();
    assert_eq!(info(&env, &id(2))["unfinished"][0]["under_way"], false);
}
