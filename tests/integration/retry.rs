//! `session retry`: a turn that failed or was killed is asked for again, from its draft.

use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::stored::{id, info, listed, make_session, prompts, text, turns};
use crate::support::{Gate, Reply, Run, Running, TestEnv};
use crate::waiting::wait_until_queued;

fn retry<'env>(env: &'env TestEnv, draft: &str) -> Run<'env> {
    env.command().args(["session", "retry", draft])
}

/// Asks in vain in the first session, which leaves a draft.
#[track_caller]
fn leave_draft(env: &TestEnv, prompt: &str) {
    let turn = env.chat(prompt).session(&id(1));
    let failed = turn.answered(Reply::error(500, "no")).run();
    failed.fails(5, "server_error");
}

#[test]
fn a_turn_that_failed_is_asked_again_as_it_was() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let asked = [
        "--model",
        "m2",
        "--option",
        "seed=7",
        "--think=high",
        "--temperature",
        "0.5",
    ];
    let failed = env.chat("and more").session(&id(1)).args(asked);
    let failed = failed.args(["--idempotency-key", "k"]);
    failed
        .answered(Reply::text("half an ans").cut_after_chunks(1))
        .run()
        .fails(5, "stream_interrupted");
    let first = env.server().last_request();
    // Elsewhere, and after a setting has changed: the draft knows what was asked.
    env.chat("in between")
        .session(&id(1))
        .args(["--model", "m3"])
        .run()
        .ok();

    let output = retry(&env, &id(1)).replies("the whole answer");
    let again = env.server().last_request();
    assert_eq!(again.model(), "m2");
    for option in ["seed", "temperature", "num_predict"] {
        assert_eq!(again.option(option), first.option(option), "{option}");
    }
    assert_eq!(again.json["think"], "high");
    assert_eq!(again.last_user(), first.last_user());
    assert_eq!(output.json()["response"], "the whole answer");
    assert_eq!(prompts(&env, &id(1)).len(), 3);
    let stored = turns(&env, &id(1));
    assert_eq!(stored[2]["key"]["key"], "k");
    assert_eq!(env.drafts(), Vec::<Value>::new());
    assert_eq!(info(&env, &id(1)).get("unfinished"), None);
    retry(&env, &id(1)).run().fails(3, "session_not_found");
}

#[test]
fn a_first_turn_is_retried_into_the_session_it_was_to_make() {
    let env = TestEnv::new();
    let failed = env
        .chat("first")
        .args(["--model", "m", "--system", "Be brief."]);
    let failed = failed.answered(Reply::error(500, "no")).run();
    let id = failed.fails(5, "server_error").session_id.expect("an id");
    let output = retry(&env, &id[id.len() - 8..]).replies("1");
    assert_eq!(output.session_id(), id);
    assert_eq!(listed(&env), [(id.clone(), 2)]);
    env.chat("second").session(&id).run().ok();
    let request = env.server().last_request();
    assert_eq!(request.contents(), ["Be brief.", "first", "1", "second"]);
    assert_eq!(request.model(), "m");
}

#[test]
fn a_fork_whose_first_turn_failed_is_forked_again() {
    let env = TestEnv::new();
    let parent = env.chat("one").replies("1").session_id();
    let failed = env.chat("else").args(["--fork-from", &parent]);
    let failed = failed.answered(Reply::error(500, "no")).run();
    let id = failed.fails(5, "server_error").session_id.expect("an id");
    env.chat("two").session(&parent).run().ok();
    assert_eq!(retry(&env, &id).run().session_id(), id);
    let asked = env.server().last_request().contents();
    assert_eq!(asked, ["one", "1", "else"]);
    assert_eq!(env.lines(&id)[0]["forked_from"]["session"], *parent);
}

#[test]
fn a_retry_that_fails_leaves_one_draft_with_what_arrived_now() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    leave_draft(&env, "q");
    let before = env.drafts()[0].clone();
    let cut = Reply::text("one two three").cut_after_chunks(2);
    retry(&env, &id(1))
        .answered(cut)
        .run()
        .fails(5, "stream_interrupted");
    let drafts = env.drafts();
    assert_eq!(drafts.len(), 1);
    assert_eq!(drafts[0]["id"], before["id"]);
    assert_eq!(drafts[0]["error"]["code"], "stream_interrupted");
    assert_eq!(drafts[0]["response"], "one two ");

    let gate = Gate::new();
    let mut killed = retry(&env, &id(1))
        .answered(Reply::echo().held_by(&gate))
        .spawn();
    killed.wait_for_request();
    killed.kill9();
    gate.open();
    assert_eq!(env.drafts(), drafts, "a kill takes nothing");
    retry(&env, &id(1)).run().ok();
    assert_eq!(prompts(&env, &id(1)), ["before", "q"]);
    assert_eq!(env.drafts(), Vec::<Value>::new());
}

#[test]
fn of_several_drafts_one_is_to_be_named() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    for prompt in ["q1", "q2"] {
        leave_draft(&env, prompt);
    }
    let drafts: Vec<String> = env.drafts().iter().map(|d| text(&d["id"])).collect();
    let failure = retry(&env, &id(1)).run().fails(3, "session_ambiguous");
    let hint = failure.hint.expect("the drafts");
    for (draft, prompt) in drafts.iter().zip(["q1", "q2"]) {
        assert!(hint.contains(&format!("{}:{draft}", id(1))), "{hint}");
        assert!(hint.contains(prompt), "{hint}");
    }
    let second = format!("{}:{}", id(1), drafts[1]);
    retry(&env, &second).run().ok();
    assert_eq!(prompts(&env, &id(1)), ["before", "q2"]);
    retry(&env, &second).run().fails(3, "session_not_found");
    retry(&env, &id(1)).run().ok();
    assert_eq!(prompts(&env, &id(1)), ["before", "q2", "q1"]);
    for wrong in ["", "null", &format!("{}:x", id(1))] {
        retry(&env, wrong).run().fails(2, "usage");
    }
    retry(&env, &id(9)).run().fails(3, "session_not_found");
}

#[test]
fn a_turn_under_way_is_not_asked_a_second_time_and_of_racing_retries_one_asks() {
    const RACERS: usize = 8;
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let gate = Gate::new();
    let mut busy = env
        .chat("q")
        .session(&id(1))
        .answered(Reply::echo().held_by(&gate))
        .spawn();
    busy.wait_for_request();
    assert!(retry(&env, &id(1)).run().fails(7, "store_locked").retryable);
    busy.kill9();
    gate.open();

    let gate = Gate::new();
    let held = gate.clone();
    env.server().handle(move |_| Reply::echo().held_by(&held));
    let mut racers: Vec<Running<'_>> = (0..RACERS).map(|_| retry(&env, &id(1)).spawn()).collect();
    env.server().wait_for_requests(2);
    // The others end while the one who asks waits: it is the last.
    let mut lost = 0;
    while lost < RACERS - 1 {
        let ended = racers.iter_mut().position(|racer| !racer.is_running());
        match ended {
            Some(ended) => {
                racers.swap_remove(ended).wait().fails(7, "store_locked");
                lost += 1;
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
    gate.open();
    racers.remove(0).wait().ok();
    assert_eq!(env.server().request_count(), 2);
    assert_eq!(prompts(&env, &id(1)), ["before", "q"]);
    assert_eq!(env.drafts(), Vec::<Value>::new());
}

/// Between the look at a draft and the hold on it another retry may begin: here a shared lock
/// stands for that, which looks free.
#[test]
fn a_draft_that_somebody_else_takes_first_is_left_to_them() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    leave_draft(&env, "q");
    let draft = text(&env.drafts()[0]["id"]);
    let path = env.store().join("open").join(format!("{draft}.json"));
    let file = std::fs::File::open(path).expect("a draft");
    flock(&file, FlockOperation::NonBlockingLockShared).expect("it is free");
    retry(&env, &id(1)).run().fails(7, "store_locked");
    assert_eq!(env.server().request_count(), 1);
    drop(file);
    retry(&env, &id(1)).run().ok();
}

#[test]
fn a_turn_that_was_answered_under_its_key_meanwhile_is_not_asked_again() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let call = || {
        env.chat("q")
            .session(&id(1))
            .args(["--idempotency-key", "k"])
    };
    let failed = call().answered(Reply::error(500, "no")).run();
    failed.fails(5, "server_error");
    call().run().ok();
    assert_eq!(env.drafts().len(), 1);
    let output = retry(&env, &id(1)).run();
    assert_eq!(output.ok().json()["turn"]["replayed"], json!(true));
    assert_eq!(env.server().request_count(), 2);
    assert_eq!(env.drafts(), Vec::<Value>::new());
}

#[test]
fn what_was_attached_is_asked_again_though_its_files_are_gone() {
    let env = TestEnv::new();
    let image = env.write("a.jpg", b"\xff\xd8\xff\xe0a");
    let note = env.write("note.txt", "what the file said");
    let tools = env.write(
        "tools.json",
        r#"[{"type":"function","function":{"name":"f"}}]"#,
    );
    let run = env
        .chat("look at @./note.txt")
        .args(["--format", "json", "--image"]);
    let run = run
        .arg(&image)
        .args(["--tools", "@tools.json", "--session-key", "s"]);
    run.answered(Reply::error(500, "no"))
        .run()
        .fails(5, "server_error");
    let first = env.server().last_request().json.clone();
    for file in [image, note, tools] {
        std::fs::remove_file(file).expect("a file to remove");
    }
    let id = text(&env.drafts()[0]["session"]);
    let output = retry(&env, &id).replies("{}");
    assert_eq!(env.server().last_request().json, first);
    assert_eq!(output.json()["references"][0]["status"], "ok");
    let stored = &turns(&env, &id)[0];
    assert_eq!(stored["format"], "json");
    assert_eq!(stored["blobs"][0]["name"], "a.jpg");
    assert_eq!(stored["references"][0]["path"], "./note.txt");
    env.chat("more").session(&id).run().ok();
    let again = env.server().last_request().json["messages"][0].clone();
    assert_eq!(again, first["messages"][0]);
}

#[test]
fn a_retry_streams_and_may_be_answered_by_the_built_in_model() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    leave_draft(&env, "q");
    let run = retry(&env, &id(1)).args(["--offline", "--output", "text", "-q"]);
    assert!(run.run().ok().stdout().starts_with("You said: \"q\""));
}

#[test]
fn a_retry_can_expect_a_turn_and_leaves_the_draft_when_another_is_the_newest() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    let newest = text(&turns(&env, &id(1))[0]["id"]);
    leave_draft(&env, "q");
    let draft = env.drafts();
    let asked = env.server().request_count();
    for wrong in ["none", &text(&draft[0]["id"])] {
        let refused = retry(&env, &id(1)).args(["--expect-turn", wrong]).run();
        refused.fails(3, "turn_conflict");
    }
    retry(&env, &id(1))
        .args(["--expect-turn", "null"])
        .run()
        .fails(2, "usage");
    assert_eq!(env.server().request_count(), asked, "nobody was asked");
    assert_eq!(env.drafts(), draft);
    let right = retry(&env, &id(1)).args(["--expect-turn", &newest]);
    right.replies("the answer");
    assert_eq!(env.drafts(), Vec::<Value>::new());
    assert_eq!(turns(&env, &id(1))[1]["parent"], *newest);
}

#[test]
fn a_retry_takes_its_turn_after_others_that_do() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["before"]);
    leave_draft(&env, "q");
    let gate = Gate::new();
    let first = env.chat("first").session(&id(1)).arg("--serialize");
    let mut first = first.answered(Reply::echo().held_by(&gate)).spawn();
    first.wait_for_request();
    let asked = env.server().request_count();
    let second = retry(&env, &id(1)).arg("--serialize").spawn();
    wait_until_queued(&env, "turn-", 1);
    assert_eq!(env.server().request_count(), asked, "it waits");
    gate.open();
    first.wait().ok();
    let second = second.wait();
    assert_eq!(second.ok().json()["turn"]["concurrent_with"], json!([]));
    assert_eq!(prompts(&env, &id(1)), ["before", "first", "q"]);
    let stored = turns(&env, &id(1));
    assert_eq!(stored[2]["parent"], stored[1]["id"]);
}
