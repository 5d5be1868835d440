//! The context window from outside: what is sent never exceeds the budget, by the server's own
//! count; what no longer fits leaves in whole turns, oldest first; and nothing leaves the history.
//!
//! The server of these tests counts honestly.

use std::sync::Arc;

use serde_json::Value;

use crate::support::{Reply, Request, TestEnv, count_of_request, honest, messages_of};

/// Tokens of the budget, and of the reply that room is left for.
const BUDGET: u64 = 1200;
const MAX_TOKENS: u64 = 150;

/// Turns of a conversation that is several times as long as the budget.
const TURNS: usize = 45;

#[test]
fn no_request_and_its_reply_exceed_the_budget_by_the_servers_own_count() {
    let talk = Conversation::held();
    for (turn, request) in talk.requests.iter().enumerate() {
        let tokens = count_of_request(request);
        assert!(
            tokens + MAX_TOKENS <= BUDGET,
            "turn {turn}: {tokens} tokens were sent"
        );
    }
    for (turn, printed) in talk.printed.iter().enumerate() {
        let usage = &printed["context_usage"];
        let tokens = count_of_request(&talk.requests[turn]);
        assert_eq!(usage["sent_tokens"], tokens, "turn {turn}");
        assert_eq!(usage["measured"], true, "turn {turn}");
        assert_eq!(usage["max_context_tokens"], BUDGET, "turn {turn}");
        assert_eq!(usage["truncated_by_server"], false, "turn {turn}");
    }
}

#[test]
fn the_budget_is_used_and_not_left_empty() {
    let talk = Conversation::held();
    let fullest = talk.requests.iter().map(|r| count_of_request(r)).max();
    assert!(fullest > Some(BUDGET / 2), "{fullest:?} of {BUDGET}");
    let last = talk.requests.last().expect("requests");
    assert!(last.roles().len() > 3, "{:?}", last.roles());
}

#[test]
fn whole_turns_leave_oldest_first() {
    let talk = Conversation::held();
    for (turn, request) in talk.requests.iter().enumerate() {
        let contents = request.contents();
        let (system, messages) = contents.split_first().expect("a system prompt");
        assert_eq!(system, SYSTEM, "turn {turn}");
        assert_eq!(messages.len() % 2, 1, "turn {turn}: half a turn was sent");
        let first = turn - messages.len() / 2;
        let mut said: Vec<String> = (first..turn)
            .flat_map(|at| [prompt(at), talk.response(at)])
            .collect();
        said.push(prompt(turn));
        assert_eq!(messages, said, "turn {turn}: not the newest turns");
        assert!(
            turn == 0 || messages.len() > 1,
            "turn {turn}: the newest turn was dropped"
        );
    }
}

#[test]
fn what_is_sent_begins_as_before_byte_for_byte_except_right_after_a_pruning() {
    let talk = Conversation::held();
    let mut prunings = 0;
    for (turn, pair) in talk.requests.windows(2).enumerate() {
        let (before, after) = (messages_of(&pair[0]), messages_of(&pair[1]));
        let goes_on = after.starts_with(&before);
        let pruned = is_pruned(&talk.printed[turn + 1]);
        assert_eq!(goes_on, !pruned, "turn {}", turn + 1);
        prunings += u32::from(pruned);
    }
    assert!(prunings >= 2, "{prunings} prunings");
    // It goes from 90 % down to 80 %, so that it is rare.
    let turns = u32::try_from(TURNS).expect("few turns");
    assert!(prunings < turns / 2, "{prunings} prunings in {turns} turns");
}

#[test]
fn a_pruning_is_in_the_log_in_the_warnings_and_in_the_usage() {
    let talk = Conversation::held();
    let lines = talk.env.lines(&talk.id);
    let turn_ids: Vec<&Value> = of_type(&lines, "turn").map(|line| &line["id"]).collect();
    let mut prunes = of_type(&lines, "prune");
    let mut dropped_before = 0;
    for (turn, printed) in talk.printed.iter().enumerate() {
        let usage = &printed["context_usage"];
        let kept = talk.requests[turn].roles().len() / 2 - 1;
        let dropped = turn - kept;
        assert_eq!(usage["kept_turns"], kept, "turn {turn}");
        assert_eq!(usage["dropped_turns"], dropped, "turn {turn}");
        assert_eq!(is_pruned(printed), dropped > dropped_before, "turn {turn}");
        if dropped > dropped_before {
            let prune = prunes.next().expect("a prune event");
            assert_eq!(prune["strategy"], "fifo");
            assert_eq!(prune["dropped_turns"], dropped, "turn {turn}");
            assert_eq!(&prune["keep_from"], turn_ids[dropped], "turn {turn}");
            let left = format!("{} older turns left", dropped - dropped_before);
            let warning = printed["warnings"][0].as_str().unwrap_or_default();
            assert!(warning.starts_with(&left), "turn {turn}: {warning}");
            assert!(warning.contains(&BUDGET.to_string()), "{warning}");
        } else {
            assert_eq!(printed.get("warnings"), None, "turn {turn}");
        }
        dropped_before = dropped;
    }
    assert_eq!(prunes.next(), None);
}

#[test]
fn the_history_keeps_every_message_and_says_which_are_sent() {
    let talk = Conversation::held();
    let info = talk.env.command().args(["--session-info", &talk.id]).run();
    let info = info.ok().json();
    assert_eq!(info["message_count"], 2 * TURNS);
    let messages = info["messages"].as_array().expect("messages");
    let said = messages.iter().filter_map(|m| m["content"].as_str());
    let said: Vec<&str> = said.collect();
    let expected = (0..TURNS).flat_map(|at| [prompt(at), talk.response(at)]);
    assert_eq!(said, expected.collect::<Vec<String>>());

    let last = talk.printed.last().expect("turns");
    let dropped = last["context_usage"]["dropped_turns"].as_u64();
    let dropped = usize::try_from(dropped.expect("a number")).expect("a small one");
    assert!(dropped > 0);
    for (at, message) in messages.iter().enumerate() {
        assert_eq!(message["in_context"], at >= 2 * dropped, "message {at}");
    }
    assert_eq!(info["metadata"]["turns_in_context"], TURNS - dropped);
    assert_eq!(info["metadata"]["turns"], TURNS);
}

#[test]
fn a_smaller_budget_given_later_prunes_at_once() {
    let env = TestEnv::new();
    env.server().handle(honest);
    let id = env.chat(&prompt(0)).run().session_id();
    for turn in 1..10 {
        env.chat(&prompt(turn)).session(&id).run().ok();
    }
    let before = count_of_request(&env.server().last_request());
    let output = env
        .chat(&prompt(10))
        .session(&id)
        .args(["--max-context-tokens", "400", "--max_tokens", "50"])
        .run();
    let usage = &output.ok().json()["context_usage"];
    let after = count_of_request(&env.server().last_request());
    assert!(before > 400 && after + 50 <= 400, "{before}, then {after}");
    assert!(usage["dropped_turns"].as_u64() > Some(0), "{usage}");
    // A larger budget brings back what left for the smaller one.
    let wide = env
        .chat("more")
        .session(&id)
        .args(["--max-context-tokens", "64000"]);
    wide.run().ok();
    let sent = env.server().last_request().contents();
    assert_eq!(sent[0], prompt(0));
    assert_eq!(sent.len(), 2 * 11 + 1);
}

#[test]
fn a_prompt_that_grew_too_large_is_refused_and_the_session_goes_on() {
    let env = TestEnv::new();
    env.server().handle(honest);
    let budget = ["--max-context-tokens", "600"];
    let id = env.chat(&prompt(0)).args(budget).run().session_id();
    let before = env.snapshot();
    let large = "word ".repeat(1000);
    let output = env.chat(&large).session(&id).run();
    let failure = output.fails(6, "context_overflow");
    assert_eq!(failure.session_id.as_deref(), Some(&*id));
    assert!(failure.error.contains("600"), "{}", failure.error);
    assert!(failure.hint.is_some());
    assert_eq!(env.server().request_count(), 1);
    assert_eq!(env.snapshot(), before, "nothing is written");
    env.chat("next").session(&id).run().ok();
    assert_eq!(env.server().last_request().roles().len(), 3);
}

#[test]
fn a_server_that_read_less_than_it_was_sent_is_found_out() {
    let env = TestEnv::new();
    let cut = Reply::text("yes").counts(131, 1);
    let output = env.chat(&"word ".repeat(2000)).answered(cut).run();
    let json = output.ok().json();
    assert_eq!(json["context_usage"]["truncated_by_server"], true);
    let warning = json["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("131"), "{warning}");
}

const SYSTEM: &str = "You are asked about many things. Answer each of them.";

/// A conversation that outgrew its budget, and all that was seen of it.
struct Conversation {
    env: TestEnv,
    id: String,
    requests: Vec<Arc<Request>>,
    printed: Vec<Value>,
}

impl Conversation {
    fn held() -> Self {
        let env = TestEnv::new();
        env.server().handle(honest);
        let mut id = String::new();
        let mut printed = Vec::new();
        for turn in 0..TURNS {
            let run = env
                .chat(&prompt(turn))
                .args(["--max_tokens", &MAX_TOKENS.to_string()]);
            let output = if turn == 0 {
                run.args(["--system", SYSTEM, "--model", "m"])
                    .args(["--max-context-tokens", &BUDGET.to_string()])
                    .run()
            } else {
                run.session(&id).run()
            };
            id = output.session_id();
            printed.push(output.json());
        }
        let requests = env.server().requests();
        Self {
            env,
            id,
            requests,
            printed,
        }
    }

    fn response(&self, turn: usize) -> String {
        let response = self.printed[turn]["response"].as_str();
        response.expect("a response").to_owned()
    }
}

/// Returns a prompt of this turn and no other, of a length that varies.
fn prompt(turn: usize) -> String {
    let words = ["alpha", "beta", "γάμμα", "delta();", "epsilon"];
    let more = (0..turn * 7 % 23).map(|at| words[(at + turn) % words.len()]);
    let more: Vec<&str> = more.collect();
    format!("question {turn}: {}", more.join(" "))
}

fn is_pruned(printed: &Value) -> bool {
    let warnings = printed["warnings"].to_string();
    warnings.contains("older turns left the context")
}

fn of_type<'a>(lines: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["type"] == name)
}
