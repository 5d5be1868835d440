//! `--expect-turn`: a turn is taken only if nobody was faster.

use serde_json::Value;

use crate::stored::{assert_not_stored, id, make_session, prompts, text, turns};
use crate::support::{Gate, Reply, Running, TestEnv};

#[test]
fn of_thirty_two_with_one_expected_turn_one_is_stored() {
    const CALLERS: usize = 32;
    for expected_is_there in [true, false] {
        let env = TestEnv::new();
        let mut expected = "none".to_owned();
        if expected_is_there {
            make_session(&env, &id(1), &["before"]);
            expected = text(&turns(&env, &id(1))[0]["id"]);
        }
        env.server()
            .handle(move |_| Reply::echo().after_arrivals(CALLERS));
        let racers: Vec<Running<'_>> = (0..CALLERS)
            .map(|n| {
                let run = env.chat(&format!("racer {n}")).session(&id(1));
                run.args(["--create", "--expect-turn", &expected]).spawn()
            })
            .collect();
        let mut winners = Vec::new();
        for (n, racer) in racers.into_iter().enumerate() {
            let output = racer.wait();
            if output.exit_code() == Some(0) {
                winners.push(format!("racer {n}"));
                assert_eq!(output.json()["turn"]["stored"], true, "{output}");
                continue;
            }
            let failure = output.prints_and_fails(3, "turn_conflict");
            assert!(!failure.retryable);
            assert_eq!(failure.session_id.as_deref(), Some(&*id(1)));
            assert_not_stored(&output, &format!("reply to: racer {n}"));
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(prompts(&env, &id(1)).last(), winners.first());
        assert_eq!(
            turns(&env, &id(1)).len(),
            1 + usize::from(expected_is_there)
        );
        assert_eq!(env.drafts().len(), CALLERS - 1, "each keeps its reply");
    }
}

#[test]
fn a_turn_that_is_not_the_newest_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one", "two"]);
    let ids: Vec<String> = turns(&env, &id(1)).iter().map(|t| text(&t["id"])).collect();
    let records = env.records();
    let take = |expected: &str| {
        let run = env.chat("three").session(&id(1));
        run.args(["--expect-turn", expected])
    };
    for expected in [&ids[0], "none", "01KAV8Z0M4ABCDEFGHJKMNPQRS"] {
        for dry_run in [&[][..], &["--dry-run"]] {
            let output = take(expected).args(dry_run).run();
            let failure = output.fails(3, "turn_conflict");
            assert!(failure.error.contains(&ids[1]), "{output}");
            assert!(failure.hint.is_some_and(|hint| hint.contains(&ids[1])));
        }
    }
    assert_eq!(env.server().request_count(), 0);
    assert_eq!(env.records(), records);
    let output = take(&ids[1]).run();
    assert_eq!(output.ok().json()["turn"]["parent"], *ids[1]);
}

#[test]
fn the_newest_turn_is_the_newest_of_the_log_and_not_only_of_the_context() {
    let env = TestEnv::new();
    let mut newest = "none".to_owned();
    for n in 0..9 {
        let run = env.chat(&format!("number {n}, said in some more words"));
        let run = run.args(["--offline", "-q", "--session-key", "s"]);
        let limits = ["--max-context-tokens", "200", "--max_tokens", "40"];
        let output = run.args(limits).args(["--expect-turn", &newest]).run();
        newest = text(&output.ok().json()["turn"]["id"]);
    }
    let first = env.chat("x").args(["--session-key", "s", "--offline"]);
    first
        .args(["--expect-turn", "none"])
        .run()
        .fails(3, "turn_conflict");
}

#[test]
fn a_turn_that_was_stored_while_the_model_answered_is_a_conflict_too() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["one"]);
    let one = text(&turns(&env, &id(1))[0]["id"]);
    let gate = Gate::new();
    let mut slow = env
        .chat("slow")
        .session(&id(1))
        .args(["--expect-turn", &one, "--output", "text"])
        .answered(Reply::text("late").held_by(&gate))
        .spawn();
    slow.wait_for_request();
    env.chat("fast").session(&id(1)).replies("first");
    gate.open();
    let output = slow.wait();
    output.prints_and_fails(3, "turn_conflict");
    assert_eq!(output.stdout(), "late\n");
    assert_eq!(prompts(&env, &id(1)), ["one", "fast"]);
    let draft: &Value = &env.drafts()[0];
    assert_eq!(
        (&draft["response"], &draft["prompt"]),
        (&"late".into(), &"slow".into())
    );
}

#[test]
fn a_turn_is_expected_of_a_session_that_others_know() {
    let env = TestEnv::new();
    for flags in [&[][..], &["--new-session"], &["--no-session"]] {
        let run = env.chat("q").args(["--expect-turn", "none"]).args(flags);
        assert!(run.run().fails(2, "usage").hint.is_some());
    }
    let run = env
        .chat("q")
        .args(["--session-key", "s", "--expect-turn", "x"]);
    assert!(run.run().fails(2, "usage").error.contains("--expect-turn"));
    assert_eq!(env.server().request_count(), 0);
}
