//! Which turns leave a full context, by each strategy: what was asked for is what
//! the server receives, from that turn on, in every process that comes after.

use serde_json::{Value, json};

use crate::support::{Reply, count_of_request};
use crate::talk::{FACT, SMALLER, Talk, is_summary, summarizing};

const QUESTION: &str = "What was the vault code, and where does Anselm keep the key?";
/// Leaves room for a summary.
const SUMMED_UP: [&str; 4] = ["--max-context-tokens", "1000", "--max_tokens", "50"];

#[test]
fn fifo_forgets_the_fact_and_importance_keeps_what_is_asked_for() {
    for (strategy, is_kept) in [("fifo", false), ("importance", true)] {
        let talk = Talk::held(14);
        let asked = talk.say(QUESTION).args(SMALLER).args(["--prune", strategy]);
        let usage = asked.run().ok().json()["context_usage"].clone();
        let sent = talk.env.server().last_request();
        assert_eq!(
            sent.contents().contains(&FACT.into()),
            is_kept,
            "{strategy}"
        );
        assert_eq!(sent.contents().len() % 2, 1, "whole turns");
        assert!(count_of_request(&sent) + 50 <= 400, "{strategy}");
        assert!(usage["dropped_turns"].as_u64() > Some(5), "{usage}");
        let prune = talk.last("prune").expect("a prune event");
        assert_eq!(prune["strategy"], strategy);
        assert_eq!(prune["keep"].is_array(), is_kept, "{prune}");
    }
}

#[test]
fn an_older_turn_that_was_kept_stays_in_for_processes_that_read_only_the_end() {
    let talk = Talk::held(14);
    let asked = talk.say(QUESTION).args(SMALLER);
    asked.args(["--prune", "importance"]).run().ok();
    let before = talk.env.server().last_request().contents();
    talk.damage_turn(2);
    let output = talk.say("and?").args(["--max_tokens", "50"]).run();
    assert_eq!(
        output.ok().json().get("warnings"),
        None,
        "only the end is read"
    );
    let after = talk.env.server().last_request().contents();
    assert_eq!(after[..before.len()], before, "as before");
    assert_eq!(after[0], FACT);
}

#[test]
fn an_event_says_what_a_pruning_kept_and_dropped() {
    let talk = Talk::held(14);
    let asked = talk.say(QUESTION).args(SMALLER);
    asked.args(["--prune", "importance"]).run().ok();
    let prune = talk.last("prune").expect("a prune event");
    let sent = talk.env.server().last_request().contents();
    let users: Vec<&String> = sent.iter().step_by(2).collect();
    let in_sent = |line: &&Value| users.iter().any(|user| **user == line["prompt"]);
    let lines = talk.env.lines(&talk.id);
    let turns: Vec<&Value> = lines.iter().filter(|l| l["type"] == "turn").collect();
    let earlier = &turns[..turns.len() - 1];
    let kept: Vec<&Value> = earlier.iter().copied().filter(in_sent).collect();
    let run = earlier
        .iter()
        .rev()
        .take_while(|line| in_sent(line))
        .count();
    assert_eq!(prune["keep_from"], earlier[earlier.len() - run]["id"]);
    assert_eq!(prune["kept_turns"], run);
    assert_eq!(prune["dropped_turns"], earlier.len() - kept.len());
    assert_eq!(prune["budget"], 400);
    let older = kept[..kept.len() - run].iter();
    let older: Vec<Value> = older
        .map(|l| json!({"id": l["id"], "at": l["at"]}))
        .collect();
    assert_eq!(prune["keep"], Value::from(older));
    assert_eq!(prune["settings"]["prune"], "importance");
    let dropped = earlier.iter().filter(|line| !in_sent(line));
    let tokens = dropped.map(|line| {
        let of = |key: &str| line["tokens"][key].as_u64().unwrap_or_default();
        of("prompt") + of("response")
    });
    assert_eq!(prune["dropped_tokens"], tokens.sum::<u64>());
}

#[test]
fn a_summary_is_asked_for_once_stored_and_carried_on() {
    let talk = Talk::held(12);
    let pinned = talk.turns[3].clone();
    talk.pin("pin", &pinned).ok();
    talk.env.server().handle(summarizing);
    let before = talk.env.server().request_count();
    let asked = talk.say("what next?").args(SUMMED_UP);
    let output = asked
        .args(["--prune", "summarize", "--system", "Be brief."])
        .run();
    output.ok();
    let requests = talk.env.server().requests();
    let [summary, sent] = &requests[before..] else {
        panic!("{} chats", requests.len() - before)
    };
    assert_eq!(summary.model(), sent.model());
    assert!(is_summary(summary));
    let transcript = summary.last_user();
    let contents = sent.contents();
    for (at, prompt) in talk.prompts.iter().enumerate() {
        let is_sent = contents.contains(prompt);
        assert_eq!(
            transcript.contains(&format!("User: {prompt}\n")),
            !is_sent,
            "{at}"
        );
        assert!(at != 3 || is_sent, "the pinned turn is sent, not summed up");
    }
    let system = "Be brief.\n\nSummary of the earlier conversation:\nthe gist of it";
    assert_eq!(contents[0], system);
    assert!(count_of_request(sent) + 50 <= 1000);
    let prune = talk.last("prune").expect("a prune event");
    assert_eq!(prune["summary"], "the gist of it");
    assert_eq!(prune["strategy"], "summarize");

    talk.say("go on").args(["--max_tokens", "50"]).run().ok();
    assert_eq!(
        talk.env.server().request_count(),
        before + 3,
        "no second summary"
    );
    assert_eq!(talk.env.server().last_request().contents()[0], system);
}

#[test]
fn a_later_summary_takes_in_the_earlier_one() {
    let talk = Talk::held(12);
    talk.env.server().handle(summarizing);
    let asked = talk.say("what next?").args(SUMMED_UP);
    asked.args(["--prune", "summarize"]).run().ok();
    let mut summaries = 1;
    for turn in 0..20 {
        let prompt = format!("more of it {turn} {}", "words to say ".repeat(4));
        talk.say(&prompt).args(["--max_tokens", "50"]).run().ok();
        assert!(count_of_request(&talk.env.server().last_request()) + 50 <= 1000);
    }
    for request in talk
        .env
        .server()
        .requests()
        .iter()
        .filter(|r| is_summary(r))
        .skip(1)
    {
        summaries += 1;
        let transcript = request.last_user();
        assert!(transcript.starts_with("Summary of what was said before:\nthe gist of it\n"));
        assert!(!transcript.contains(FACT), "it was summed up before");
    }
    assert!(summaries > 1, "{summaries} summaries");
}

#[test]
fn a_summary_that_fails_leaves_fifo_and_a_warning() {
    let rows = [
        ("an error", Reply::error(500, "no memory left")),
        ("nothing", Reply::text(" \n ")),
        ("broken off", Reply::text("half a summary").no_done()),
    ];
    for (name, reply) in rows {
        let talk = Talk::held(12);
        let asked = talk.say("what next?").args(SUMMED_UP);
        let output = asked.args(["--prune", "summarize"]).answered(reply).run();
        let warnings = output.ok().json()["warnings"].to_string();
        assert!(
            warnings.contains("were not summed up"),
            "{name}: {warnings}"
        );
        assert!(warnings.contains("older turns left the context"), "{name}");
        let sent = talk.env.server().last_request();
        assert_eq!(sent.roles()[0], "user", "{name}: no summary");
        let kept = sent.roles().len() / 2;
        assert_eq!(
            sent.contents()[0],
            talk.prompts[12 - kept],
            "{name}: the newest"
        );
        assert_eq!(
            talk.last("prune").expect("pruned").get("summary"),
            None,
            "{name}"
        );
    }
}

#[test]
fn a_budget_without_room_for_a_summary_leaves_fifo_and_a_warning() {
    let talk = Talk::held(12);
    let before = talk.env.server().request_count();
    let asked = talk.say("what next?").args(SMALLER);
    let output = asked.args(["--prune", "summarize"]).run();
    let warnings = output.ok().json()["warnings"].to_string();
    assert!(warnings.contains("no room for a summary"), "{warnings}");
    assert_eq!(talk.env.server().request_count(), before + 1);
    let sent = talk.env.server().last_request();
    assert!(sent.roles().len() > 1 && count_of_request(&sent) + 50 <= 400);
}

#[test]
fn off_lets_nothing_leave_and_says_so_when_it_is_full() {
    let talk = Talk::held(3);
    talk.say("keep all").args(["--prune", "off"]).run().ok();
    let mut sent = 4;
    let failed = loop {
        let prompt = format!("more {sent} {}", "words to say ".repeat(9));
        let before = talk.env.server().request_count();
        let output = talk.say(&prompt).args(SMALLER).run();
        if output.exit_code() != Some(0) {
            assert_eq!(talk.env.server().request_count(), before, "nobody is asked");
            break output;
        }
        assert_eq!(talk.env.server().last_request().roles().len(), 2 * sent + 1);
        sent += 1;
        assert!(sent < 50, "it never is full");
    };
    let failure = failed.fails(6, "context_overflow");
    assert!(
        failure
            .hint
            .is_some_and(|hint| hint.contains("--prune fifo"))
    );
    assert_eq!(talk.last("prune"), None);
    talk.say("go on")
        .args(["--prune", "fifo"])
        .args(SMALLER)
        .run()
        .ok();
}

#[test]
fn a_strategy_holds_from_the_turn_it_was_given_on() {
    let talk = Talk::held(2);
    talk.say("from now on")
        .args(["--prune", "importance"])
        .run()
        .ok();
    assert_eq!(
        talk.last("set").expect("a set event")["prune"],
        "importance"
    );
    let count = talk.env.lines(&talk.id).len();
    talk.say("again").args(["--prune", "importance"]).run().ok();
    assert_eq!(
        talk.env.lines(&talk.id).len(),
        count + 1,
        "nothing new is set"
    );
    let plan = talk.say("what?").arg("--dry-run").run().ok().json();
    assert_eq!(plan["context_plan"]["strategy"], "importance");
}
