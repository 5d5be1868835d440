//! The server's prompt cache is reused: what is sent begins byte for byte with what was sent
//! before, for as long as no horizon moves and no other process gets in between.

use std::sync::Arc;

use serde_json::Value;

use crate::support::{Gate, Reply, Request, TestEnv, counted, honest, messages_of};
use crate::talk::is_summary;

/// Turns of a conversation that is pruned many times.
const TURNS: usize = 300;

#[test]
fn over_300_turns_the_beginning_changes_once_a_pruning_and_never_else() {
    let (breaks, prunes) = breaks_and_prunes("fifo", TURNS);
    assert_eq!(breaks, prunes);
    assert!((5..TURNS / 3).contains(&prunes), "{prunes} prunings");
}

#[test]
fn it_is_the_same_where_older_turns_are_kept() {
    let (breaks, prunes) = breaks_and_prunes("importance", 80);
    assert_eq!(breaks, prunes);
    assert!((2..40).contains(&prunes), "{prunes} prunings");
}

#[test]
fn it_is_the_same_where_a_summary_is_carried_on() {
    let (breaks, prunes) = breaks_and_prunes("summarize", 60);
    assert_eq!(breaks, prunes);
    assert!((2..40).contains(&prunes), "{prunes} prunings");
}

#[test]
fn a_turn_of_another_process_is_the_only_other_break() {
    let env = TestEnv::new();
    let first = env.chat("one").args(["--model", "m"]).run();
    let id = first.session_id();
    let gate = Gate::new();
    let late = env.chat("late").session(&id);
    let mut late = late.answered(Reply::text("slow").held_by(&gate)).spawn();
    late.wait_for_request();
    env.chat("meanwhile").session(&id).run().ok();
    gate.open();
    late.wait().ok();
    env.chat("three").session(&id).run().ok();
    env.chat("four").session(&id).run().ok();
    let requests = env.server().requests();
    let goes_on = |from: usize, to: usize| {
        messages_of(&requests[to]).starts_with(&messages_of(&requests[from]))
    };
    assert!(goes_on(0, 1) && goes_on(0, 2));
    // The other turn was stored first, so it is before the late one from now on.
    let contents = requests[3].contents();
    let users: Vec<&String> = contents.iter().step_by(2).collect();
    assert_eq!(users, ["one", "meanwhile", "late", "three"]);
    assert!(!goes_on(1, 3), "the landing of a turn is a break");
    assert!(goes_on(2, 3), "whoever came first goes on as before");
    assert!(goes_on(3, 4), "and no other");
}

/// Holds a conversation and returns how often its beginning changed, and how often it was pruned.
fn breaks_and_prunes(strategy: &str, turns: usize) -> (usize, usize) {
    let env = TestEnv::new();
    env.server()
        .handle(|request: &Request| match is_summary(request) {
            true => counted(request, format!("the gist of {} bytes", request.body.len())),
            false => honest(request),
        });
    let mut id = String::new();
    for turn in 0..turns {
        let words = ["alpha", "beta();", "γάμμα", "delta"];
        let more: Vec<&str> = (0..turn % 11).map(|at| words[(at + turn) % 4]).collect();
        let run = env.chat(&format!("question {turn}: {}", more.join(" ")));
        let run = run.args(["--durability", "relaxed", "--max_tokens", "150"]);
        let run = if turn == 0 {
            run.args(["--system", "Answer.", "--model", "m", "--prune", strategy])
                .args(["--max-context-tokens", "2000"])
        } else {
            run.session(&id)
        };
        id = run.run().session_id();
    }
    let requests = env.server().requests();
    let chats: Vec<&Arc<Request>> = requests.iter().filter(|r| !is_summary(r)).collect();
    assert_eq!(chats.len(), turns);
    let breaks = chats
        .windows(2)
        .filter(|pair| !messages_of(pair[1]).starts_with(&messages_of(pair[0])));
    let is_prune = |line: &&Value| line["type"] == "prune";
    (
        breaks.count(),
        env.lines(&id).iter().filter(is_prune).count(),
    )
}
