//! What a user does to the context: prunes it, pins turns, changes the budget. It holds from then
//! on, in every process that comes after, and what cannot be meant is refused.

use serde_json::Value;

use crate::support::count_of_request;
use crate::talk::{FACT, SMALLER, Talk, summarizing};

#[test]
fn a_session_is_pruned_by_hand() {
    let talk = Talk::held(12);
    for (strategy, to) in [("fifo", "300"), ("importance", "200"), ("summarize", "100")] {
        talk.env.server().handle(summarizing);
        let arguments = [
            "session",
            "prune",
            &talk.id,
            "--strategy",
            strategy,
            "--to",
            to,
        ];
        let pruned = talk.env.command().args(arguments).run().ok().json();
        let to: u64 = to.parse().expect("a number");
        assert_eq!(pruned["strategy"], strategy);
        assert!(pruned["tokens_after"].as_u64() <= Some(to), "{pruned}");
        assert!(pruned["newly_dropped_turns"].as_u64() > Some(0), "{pruned}");
        assert_eq!(pruned["summarized"], strategy == "summarize");
        let kept = pruned["kept_turns"].as_u64().expect("a number");
        assert_eq!(pruned["dropped_turns"], 12 - kept);
        assert_eq!(talk.last("prune").expect("pruned")["strategy"], strategy);
        let plan = talk.say("what?").arg("--dry-run").run().ok().json();
        assert_eq!(plan["context_plan"]["kept_turns"], kept, "{strategy}");
    }
    let plan = talk.say("what?").arg("--dry-run").run().ok().json();
    let first = &plan["request"]["messages"][0]["content"];
    assert_eq!(
        first,
        "Summary of the earlier conversation:\nthe gist of it"
    );
    let log = talk.env.log(&talk.id);
    let again = ["session", "prune", &talk.id, "--to", "100"];
    talk.env.command().args(again).run().ok();
    assert_eq!(talk.env.log(&talk.id), log, "pruning twice changes nothing");
}

#[test]
fn what_cannot_be_pruned_or_pinned_is_refused() {
    let talk = Talk::held(2);
    let nobody = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
    let unknown = format!("{}:01KAG4ZZZZZZZZZZZZZZZZZZZZ", talk.id);
    let elsewhere = format!("{nobody}:{}", talk.turns[0]);
    let rows: [(&[&str], i32, &str); 9] = [
        (&["prune", nobody], 3, "session_not_found"),
        (&["prune", &talk.id, "--strategy", "off"], 2, "usage"),
        (&["prune", &talk.id, "--to", "0"], 2, "usage"),
        (&["prune", &talk.id, "--to", "few"], 2, "usage"),
        (&["pin", &unknown], 3, "session_not_found"),
        (&["unpin", &elsewhere], 3, "session_not_found"),
        (&["pin", &talk.id], 2, "usage"),
        (&["pin", &format!("{}:1", talk.id)], 2, "usage"),
        (&["unpin", ":"], 2, "usage"),
    ];
    let before = talk.env.snapshot();
    for (arguments, exit, code) in rows {
        let run = talk.env.command().arg("session").args(arguments);
        run.run().fails(exit, code);
    }
    assert_eq!(talk.env.snapshot(), before);
}

#[test]
fn a_pinned_turn_survives_every_pruning_and_leaves_when_it_is_let_go() {
    let talk = Talk::held(3);
    let pinned = talk.turns[0].clone();
    assert_eq!(talk.pin("pin", &pinned).ok().json()["changed"], true);
    assert_eq!(talk.pin("pin", &pinned).ok().json()["changed"], false);
    let mut prunings = 0;
    for turn in 0..25 {
        let prompt = format!("more {turn} {}", "words to say ".repeat(turn % 5));
        let output = talk.say(&prompt).args(SMALLER).run();
        prunings += usize::from(output.ok().json()["warnings"].is_array());
        let sent = talk.env.server().last_request();
        assert_eq!(sent.contents()[0], FACT, "turn {turn}");
        assert!(count_of_request(&sent) + 50 <= 400, "turn {turn}");
    }
    assert!(prunings > 2, "{prunings}");
    assert_eq!(talk.pin("unpin", &pinned).ok().json()["changed"], true);
    talk.say("and now?").args(SMALLER).run().ok();
    let sent = talk.env.server().last_request().contents();
    assert!(!sent.contains(&FACT.into()), "{sent:?}");
}

#[test]
fn pinning_brings_back_a_turn_that_left() {
    let talk = Talk::held(12);
    talk.say("smaller").args(SMALLER).run().ok();
    let contents = || talk.env.server().last_request().contents();
    assert!(!contents().contains(&talk.prompts[1]));
    let out = "not in the context any more";
    let page = || {
        let export = ["session", "export", &talk.id, "--to", "html"];
        let page = talk.env.command().args(export).run();
        page.ok().stdout().matches(out).count()
    };
    let before = page();
    talk.pin("pin", &talk.turns[1]).ok();
    assert_eq!(page(), before - 1, "a page says the same");
    talk.damage_turn(4);
    let output = talk.say("and?").args(["--max_tokens", "50"]).run();
    let warnings = output.ok().json()["warnings"].to_string();
    assert!(
        !warnings.contains("unreadable"),
        "only the end is read: {warnings}"
    );
    assert_eq!(contents()[0], talk.prompts[1]);
    assert!(count_of_request(&talk.env.server().last_request()) + 50 <= 400);
}

#[test]
fn pins_that_do_not_fit_are_an_overflow_that_names_them() {
    let talk = Talk::held(12);
    for turn in &talk.turns {
        talk.pin("pin", turn).ok();
    }
    let failure = talk.say("too much").args(SMALLER).run();
    let hint = failure.fails(6, "context_overflow").hint;
    assert!(hint.is_some_and(|hint| hint.contains("unpin")));
}

#[test]
fn a_session_without_a_budget_is_pruned_only_to_what_is_said() {
    let talk = Talk::held(6);
    let log = talk.env.log(&talk.id);
    let (header, rest) = log.split_once('\n').expect("a header");
    let mut header: serde_json::Value = serde_json::from_str(header).expect("JSON");
    let budget = header.as_object_mut().expect("an object");
    assert!(budget.remove("max_context_tokens").is_some());
    let path = talk.env.log_path(&talk.id);
    talk.env.write(&path, format!("{header}\n{rest}"));
    let prune = |args: &[&str]| {
        let run = talk.env.command().args(["session", "prune", &talk.id]);
        run.args(args).run()
    };
    let refused = prune(&[]);
    let failure = refused.fails(2, "usage");
    assert!(failure.hint.is_some_and(|hint| hint.contains("--to")));
    let pruned = prune(&["--to", "200"]).ok().json();
    assert!(pruned["kept_turns"].as_u64() > Some(1), "{pruned}");
}

#[test]
fn a_budget_that_grows_brings_turns_back_once_and_for_all() {
    for (wider, comes_back) in [("2000", true), ("700", false)] {
        let talk = Talk::held(12);
        talk.say("smaller").args(SMALLER).run().ok();
        let small = talk.env.server().last_request().contents();
        let wide = ["--max-context-tokens", wider, "--max_tokens", "50"];
        let usage = talk.say("larger").args(wide).run().ok().json()["context_usage"].clone();
        let large = talk.env.server().last_request().contents();
        assert_eq!(usage["max_context_tokens"].to_string(), wider);
        assert_eq!(large.len() == 2 * 13 + 1, comes_back, "{usage}");
        assert!(large.len() >= small.len(), "more is not less");
        let prune = talk.last("prune").expect("a prune event");
        assert_eq!(
            prune["budget"].to_string(),
            wider,
            "it is remembered for what"
        );
        talk.damage_turn(if comes_back { 99 } else { 1 });
        let prunes = talk.count("prune");
        let output = talk.say("go on").args(["--max_tokens", "50"]).run();
        let warnings = output.ok().json()["warnings"].to_string();
        assert!(!warnings.contains("unreadable"), "only the end is read");
        if comes_back {
            assert_eq!(talk.count("prune"), prunes, "it is not chosen again");
            let next = talk.env.server().last_request().contents();
            assert_eq!(next[..large.len()], large, "{wider}");
        }
    }
}

#[test]
fn a_budget_that_grows_a_little_takes_nothing_away_and_is_remembered() {
    let talk = Talk::held(12);
    let small = ["--max-context-tokens", "1000", "--max_tokens", "50"];
    let wider = ["--max-context-tokens", "1001", "--max_tokens", "50"];
    talk.say("smaller").args(small).run().ok();
    let plan = |budget| {
        talk.say("go on")
            .args(budget)
            .arg("--dry-run")
            .run()
            .ok()
            .json()
    };
    let is_nearly_full = |plan: &Value| {
        let tokens = plan["context_plan"]["tokens"].as_u64().expect("a number");
        (830..880).contains(&tokens)
    };
    for _ in 0..40 {
        if talk.count("prune") > 0 && is_nearly_full(&plan(small)) {
            break;
        }
        talk.say("go on").args(small).run().ok();
    }
    let kept = plan(small);
    assert!(is_nearly_full(&kept), "{kept}");
    assert_eq!(kept["request"], plan(wider)["request"]);
    talk.say("go on").args(wider).run().ok();
    assert_eq!(talk.last("prune").expect("pruned")["budget"], 1001);
}

#[test]
fn a_budget_out_of_range_is_refused_by_its_name() {
    let talk = Talk::held(1);
    let before = talk.env.snapshot();
    for value in [
        "0",
        "-1",
        "many",
        "",
        "1.5",
        "99999999999999999999",
        "10000000000000",
    ] {
        let argument = format!("--max-context-tokens={value}");
        let failure = talk.say("hello").arg(argument).run().fails(2, "usage");
        assert!(
            failure.error.contains("max-context-tokens"),
            "{}",
            failure.error
        );
    }
    assert_eq!(talk.env.snapshot(), before);
}
