//! What every store promises, whatever keeps the sessions: written once, seen through the commands
//! of the program and through nothing else, and held for each kind of store.
//!
//! To hold it for another kind: a type that implements [`Backend`] in `support/backend.rs` (a world
//! is a `TestEnv` whose runs get the variables that lead to an empty store of their own, as
//! [`TestEnv::keeping_sessions_in`] makes it), and a line `contract!(name: Type);` at the end of the
//! list below. Nothing here may look at files of a store: it would say something of one kind only.
//! The one directory that is named is another copy to merge from, which always is one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stored::{id, info, listed, make_session, prompts, text};
use crate::support::{Backend, Files, Gate, Output, Reply, Run, Running, TestEnv};

macro_rules! contract {
    ($module:ident: $backend:ty) => {
        mod $module {
            contract! { @tests $backend:
                a_turn_is_there_for_the_next_process
                a_session_is_found_by_what_names_it
                turns_at_the_same_moment_are_all_kept_and_told
                processes_racing_for_a_key_make_one_session
                sessions_at_the_same_moment_do_not_mix
                the_turn_that_is_expected_is_the_newest_or_nothing_is_stored
                one_request_under_a_key_is_asked_once
                serialized_turns_follow_each_other
                who_waits_for_a_turn_that_is_killed_goes_on
                a_turn_that_is_killed_is_a_draft_that_can_be_asked_again
                a_turn_that_failed_is_a_draft_until_it_is_cleared
                the_session_used_last_is_continued_unless_it_is_in_use
                a_fork_has_the_history_and_goes_its_own_way
                turns_leave_the_context_and_stay_in_the_history
                a_horizon_moves_and_what_is_pinned_stays
                compaction_drops_what_is_not_sent_and_the_next_turn_works
                settings_change_once_and_for_all_that_fit
                a_retracted_turn_is_hidden_everywhere
                text_that_is_redacted_is_hidden_everywhere
                a_purged_session_is_gone_and_a_stale_writer_cannot_bring_it_back
                what_is_used_or_under_way_is_not_purged
                the_list_has_every_session_in_the_order_of_its_use
                a_search_finds_what_was_said_and_where
                what_is_exported_comes_back_as_it_was
                conversations_of_others_are_brought_in_once
                another_copy_is_merged_and_again_changes_nothing
                figures_are_those_of_the_turns
                a_sound_store_has_no_problem
                events_of_any_process_are_watched_once
                images_are_kept_and_sent_again
                what_is_asked_to_leave_no_trace_leaves_none
                one_cleanup_runs_in_a_store
                a_session_is_shown_as_it_was
            }
        }
    };
    (@tests $backend:ty: $($name:ident)*) => {
        use super::*;

        $(
            #[test]
            fn $name() {
                if <$backend as Backend>::is_there() {
                    super::$name(&<$backend as Backend>::world);
                }
            }
        )*
    };
}

contract!(files: Files);
#[cfg(feature = "mongodb")]
contract!(mongo_replica_set: crate::support::mongod::InReplicaSet);
#[cfg(feature = "mongodb")]
contract!(mongo_standalone: crate::support::mongod::InStandalone);

/// Makes a world with an empty store.
type World<'a> = &'a dyn Fn() -> TestEnv;

/// How many processes take turns at once.
const RACERS: usize = 16;

/// How long it may take until others see that a process is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// An image: a PNG of one red pixel, and as it is sent.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\
\x00\x00\x00\x0cIDAT\x08\xd7c\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\x18\xdd\x8d\xb0\x00\x00\x00\x00IEND\xaeB`\x82";
const PNG_BASE64: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVQI12P4z8AAAAMBAQAY3Y2wAAAAAElFTkSuQmCC";

fn session<'e>(env: &'e TestEnv, args: &[&str]) -> Run<'e> {
    env.command().arg("session").args(args)
}

/// Runs a verb of `session` that must work, and returns what it prints.
#[track_caller]
fn done(env: &TestEnv, args: &[&str]) -> Value {
    session(env, args).run().ok().json()
}

/// Returns the turns of a session, oldest first.
#[track_caller]
fn turn_ids(env: &TestEnv, id: &str) -> Vec<String> {
    let info = info(env, id);
    let messages = info["messages"].as_array().expect("messages");
    let said = messages.iter().filter(|message| message["role"] == "user");
    said.map(|message| text(&message["turn"])).collect()
}

/// Returns every line of an export.
#[track_caller]
fn exported(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let output = session(env, &["export"]).args(args).run();
    output.ok().stdout().lines().map(str::to_owned).collect()
}

/// Returns what a search prints, a line each.
#[track_caller]
fn found(env: &TestEnv, args: &[&str]) -> Vec<Value> {
    let output = session(env, &["search"]).args(args).run();
    output.ok().json_lines()
}

/// Waits until something that another process brings about is seen.
#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a turn of each of [`RACERS`] processes, all of them asking before one is answered.
fn race(env: &TestEnv, flags: impl Fn(usize) -> [String; 2]) -> Vec<Output> {
    let everybody = env.server().request_count() + RACERS;
    env.server()
        .handle(move |_| Reply::echo().after_arrivals(everybody));
    let racers: Vec<Running<'_>> = (0..RACERS)
        .map(|n| env.chat(&format!("racer {n:02}")).args(flags(n)).spawn())
        .collect();
    racers.into_iter().map(Running::wait).collect()
}

fn racers() -> Vec<String> {
    (0..RACERS).map(|n| format!("racer {n:02}")).collect()
}

fn a_turn_is_there_for_the_next_process(world: World<'_>) {
    let env = world();
    let first = env.chat("Who wrote Hamlet?").replies("Shakespeare.");
    let id = first.session_id();
    assert_eq!(first.json()["turn"]["stored"], true);
    let second = env.chat("When was he born?").session(&id).replies("1564.");
    let sent = env.server().last_request();
    assert_eq!(
        sent.contents(),
        ["Who wrote Hamlet?", "Shakespeare.", "When was he born?"]
    );
    let turn = second.json()["turn"].clone();
    assert_eq!(turn["parent"], first.json()["turn"]["id"]);
    assert_eq!(turn["concurrent_with"], json!([]));
    let info = info(&env, &id);
    let said: Vec<&Value> = info["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| &message["content"])
        .collect();
    assert_eq!(
        said,
        [
            "Who wrote Hamlet?",
            "Shakespeare.",
            "When was he born?",
            "1564."
        ]
    );
    assert_eq!(listed(&env), [(id, 4)]);
}

fn a_session_is_found_by_what_names_it(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["chosen"]);
    let named = |args: &[&str]| env.chat("again").args(args).run();
    named(&["--session-id", &id(2)]).fails(3, "session_not_found");
    named(&["--session-id", &id(1)[..9]]).ok();
    let key = ["--session-key", "branch/main"];
    let by_key = named(&key).session_id();
    assert_eq!(named(&key).session_id(), by_key, "the same every time");
    make_session(&env, &id(3), &["another"]);
    let vague = &id(1)[..20];
    named(&["--session-id", vague]).fails(3, "session_ambiguous");
    assert_eq!(prompts(&env, &id(1)), ["chosen", "again"]);
    assert_eq!(
        listed(&env).into_iter().collect::<BTreeSet<_>>(),
        [(id(1), 4), (id(3), 2), (by_key, 4)].into()
    );
}

fn turns_at_the_same_moment_are_all_kept_and_told(world: World<'_>) {
    let env = world();
    let id = env.chat("the first").replies("ready").session_id();
    let outputs = race(&env, |_| ["--session-id".into(), id.clone()]);
    let mut said = prompts(&env, &id);
    assert_eq!(said.remove(0), "the first");
    said.sort();
    assert_eq!(said, racers());
    let order = turn_ids(&env, &id);
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    for output in &outputs {
        let turn = output.ok().json()["turn"].clone();
        let place = order.iter().position(|id| turn["id"] == **id);
        let place = place.unwrap_or_else(|| panic!("it is not in the session\n{output}"));
        assert_eq!(turn["parent"], *order[0], "what the model saw\n{output}");
        // All read the session before one was stored, so each met all that were before it.
        assert_eq!(turn["concurrent_with"], json!(order[1..place]), "{output}");
        let warned = "stored while this one was under way";
        assert_eq!(output.stderr().contains(warned), place > 1, "{output}");
    }
    env.chat("after them").session(&id).replies("all of you");
    let sent = env.server().last_request().roles().len();
    assert_eq!(sent, 2 * (RACERS + 1) + 1);
}

fn processes_racing_for_a_key_make_one_session(world: World<'_>) {
    let env = world();
    let outputs = race(&env, |_| ["--session-key".into(), "build 7".into()]);
    let id = outputs[0].ok().session_id();
    assert!(outputs.iter().all(|output| output.session_id() == id));
    let mut said = prompts(&env, &id);
    said.sort();
    assert_eq!(said, racers());
    let events = exported(&env, &[&id]);
    let begins = events
        .iter()
        .filter(|line| line.contains("\"type\":\"session\""));
    assert_eq!(begins.count(), 1, "one of them began it");
}

fn sessions_at_the_same_moment_do_not_mix(world: World<'_>) {
    let env = world();
    for output in race(&env, |n| ["--session-key".into(), format!("key {n}")]) {
        let turn = output.ok().json()["turn"].clone();
        assert_eq!(turn["concurrent_with"], json!([]), "{output}");
        let said = prompts(&env, &output.session_id());
        assert_eq!(said.len(), 1);
        assert!(
            output.json()["response"]
                .as_str()
                .expect("text")
                .contains(&said[0])
        );
    }
    assert_eq!(listed(&env).len(), RACERS);
}

fn the_turn_that_is_expected_is_the_newest_or_nothing_is_stored(world: World<'_>) {
    let env = world();
    let first = env.chat("one").replies("1");
    let id = first.session_id();
    let newest = text(&first.json()["turn"]["id"]);
    let call = |prompt: &str, expected: &str| {
        let run = env.chat(prompt).session(&id);
        run.args(["--expect-turn", expected])
    };
    let asked = env.server().request_count();
    call("no", "none").run().fails(3, "turn_conflict");
    assert_eq!(
        env.server().request_count(),
        asked,
        "refused before it is asked"
    );

    let gate = Gate::new();
    let late = call("too late", &newest).answered(Reply::text("late").held_by(&gate));
    let late = late.spawn();
    gate.wait_until_reached();
    call("in time", &newest).replies("2");
    gate.open();
    let late = late.wait();
    late.prints_and_fails(3, "turn_conflict");
    assert_eq!(late.json()["response"], "late", "it was paid for");
    assert_eq!(late.json()["turn"]["stored"], false);
    assert_eq!(prompts(&env, &id), ["one", "in time"]);
}

fn one_request_under_a_key_is_asked_once(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["before"]);
    let call = |prompt: &str, key: &str| {
        let run = env.chat(prompt).session(&id(1));
        run.args(["--idempotency-key", key])
    };
    let gate = Gate::new();
    let reply = Reply::text("the only answer").held_by(&gate);
    let mut callers = vec![call("what is it?", "k 1").answered(reply).spawn()];
    callers[0].wait_for_request();
    callers.extend((1..8).map(|_| call("what is it?", "k 1").spawn()));
    let other = call("something else", "k 1").run();
    other.fails(3, "idempotency_conflict");
    gate.open();
    let outputs: Vec<Output> = callers.into_iter().map(Running::wait).collect();
    let first = outputs[0].ok().json()["turn"]["id"].clone();
    for output in &outputs {
        assert_eq!(
            output.ok().json()["response"],
            "the only answer",
            "{output}"
        );
        assert_eq!(output.json()["turn"]["id"], first, "{output}");
    }
    assert_eq!(
        call("what is it?", "k 1").run().json()["turn"]["replayed"],
        true
    );
    call("something else", "k 1")
        .run()
        .fails(3, "idempotency_conflict");
    assert_eq!(env.server().request_count(), 1);
    call("something else", "k 2").replies("another");
    assert_eq!(
        prompts(&env, &id(1)),
        ["before", "what is it?", "something else"]
    );
    let call_late = call("a last one", "k 3").answered(Reply::echo().held_by(&Gate::new()));
    let mut held = call_late.spawn();
    held.wait_for_request();
    let late = call("a last one", "k 3").args(["--timeout", "0.3"]).run();
    assert!(late.fails(4, "timeout").retryable);
    held.kill9();
}

fn serialized_turns_follow_each_other(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["before"]);
    let call = |prompt: &str| env.chat(prompt).session(&id(1)).arg("--serialize");
    let gate = Gate::new();
    let mut first = call("caller 0")
        .answered(Reply::echo().held_by(&gate))
        .spawn();
    first.wait_for_request();
    let late = call("late").args(["--timeout", "0.3"]).run();
    assert!(late.fails(7, "store_locked").retryable);
    let others: Vec<Running<'_>> = (1..8)
        .map(|n| call(&format!("caller {n}")).spawn())
        .collect();
    // Others wait for nobody's model.
    env.chat("beside them").session(&id(1)).replies("at once");
    assert_eq!(env.server().request_count(), 2, "they wait");
    gate.open();
    let mut outputs = vec![first.wait()];
    outputs.extend(others.into_iter().map(Running::wait));
    let order = turn_ids(&env, &id(1));
    assert_eq!(order.len(), 10);
    for output in &outputs[1..] {
        let turn = output.ok().json()["turn"].clone();
        assert_eq!(turn["concurrent_with"], json!([]), "{output}");
        let place = order.iter().position(|id| turn["id"] == **id);
        let place = place.expect("it is in the session");
        assert_eq!(turn["parent"], *order[place - 1], "{output}");
    }
}

fn who_waits_for_a_turn_that_is_killed_goes_on(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["before"]);
    for flags in [&["--serialize"][..], &["--idempotency-key", "k"]] {
        let call = || env.chat("again").session(&id(1)).args(flags);
        let gate = Gate::new();
        let mut first = call().answered(Reply::echo().held_by(&gate)).spawn();
        first.wait_for_request();
        let second = call().spawn();
        first.kill9();
        let json = second.wait().ok().json();
        assert_eq!(json["turn"]["stored"], true);
        assert_eq!(json["turn"].get("replayed"), None, "nobody had answered");
        gate.open();
    }
    assert_eq!(prompts(&env, &id(1)), ["before", "again", "again"]);
}

fn a_turn_that_is_killed_is_a_draft_that_can_be_asked_again(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["one"]);
    let gate = Gate::new();
    let turn = env.chat("what was not answered").session(&id(1));
    let killed = turn.answered(Reply::text("no").held_by(&gate)).spawn();
    gate.wait_until_reached();
    let unfinished = || info(&env, &id(1))["unfinished"][0].clone();
    assert_eq!(unfinished()["prompt"], "what was not answered");
    assert_eq!(unfinished()["under_way"], true);
    let retry = || session(&env, &["retry", &id(1)]);
    assert!(retry().run().fails(7, "store_locked").retryable);
    done(&env, &["drafts", "--clear"]);
    assert_eq!(
        done(&env, &["drafts"])["total"],
        1,
        "under way, it is not cleared"
    );

    killed.kill9();
    gate.open();
    wait_until("nobody holds it", || unfinished()["under_way"] == false);
    env.chat("two").session(&id(1)).replies("2");
    assert!(
        !env.server()
            .last_request()
            .contents()
            .contains(&"what was not answered".into())
    );
    let output = retry().replies("at last");
    assert_eq!(output.json()["turn"]["stored"], true);
    assert_eq!(
        prompts(&env, &id(1)),
        ["one", "two", "what was not answered"]
    );
    assert_eq!(done(&env, &["drafts"])["total"], 0);
    retry().run().fails(3, "session_not_found");
}

fn a_turn_that_failed_is_a_draft_until_it_is_cleared(world: World<'_>) {
    let env = world();
    let cut = Reply::text("half an answer").cut_after_chunks(1);
    let failed = env
        .chat("and?")
        .session(&id(1))
        .arg("--create")
        .answered(cut)
        .run();
    failed.fails(5, "stream_interrupted");
    assert_eq!(listed(&env), [], "no session was made");
    let draft = done(&env, &["drafts"])["drafts"][0].clone();
    assert_eq!(draft["session_id"], id(1));
    assert_eq!(draft["under_way"], false);
    assert_eq!(draft["error"]["code"], "stream_interrupted");
    assert_eq!(done(&env, &["stats"])["failures"]["total"], 1);
    assert_eq!(done(&env, &["drafts", "--clear"])["removed"], 1);
    assert_eq!(done(&env, &["drafts"])["total"], 0);
}

fn the_session_used_last_is_continued_unless_it_is_in_use(world: World<'_>) {
    let env = world();
    let next = || env.chat("on").arg("--continue");
    next().run().fails(3, "session_not_found");
    for n in [1, 2] {
        make_session(&env, &id(n), &["begin"]);
    }
    env.chat("again").session(&id(1)).replies("used last");
    assert_eq!(next().replies("yes").session_id(), id(1));
    let gate = Gate::new();
    let held = env
        .chat("slow")
        .session(&id(1))
        .answered(Reply::echo().held_by(&gate));
    let held = held.spawn();
    gate.wait_until_reached();
    next().run().fails(3, "session_ambiguous");
    gate.open();
    held.wait().ok();
    assert_eq!(next().replies("yes").session_id(), id(1));
}

fn a_fork_has_the_history_and_goes_its_own_way(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["one", "two", "three"]);
    let turns = turn_ids(&env, &id(1));
    let from = format!("{}:{}", id(1), turns[1]);
    let fork = env
        .chat("another way")
        .args(["--fork-from", &from])
        .replies("4");
    let forked = fork.session_id();
    let sent = env.server().last_request().contents();
    assert_eq!(
        sent.iter().step_by(2).collect::<Vec<_>>(),
        ["one", "two", "another way"]
    );
    assert_eq!(prompts(&env, &forked), ["one", "two", "another way"]);
    assert_eq!(turn_ids(&env, &forked)[..2], turns[..2], "the same turns");
    assert_eq!(prompts(&env, &id(1)), ["one", "two", "three"]);
    let all = done(&env, &["fork", &id(1)]);
    assert_eq!(all["turns"], 3);
    let all = text(&all["session_id"]);
    env.chat("and on").session(&all).replies("5");
    assert_eq!(prompts(&env, &all), ["one", "two", "three", "and on"]);
    // A turn that several sessions have is one turn.
    assert_eq!(done(&env, &["stats"])["turns"], 5);
    let missing = format!("{}:01KAV8Z0M4ABCDEFGHJKMNPQRS", id(1));
    env.chat("no")
        .args(["--fork-from", &missing])
        .run()
        .fails(3, "session_not_found");
}

/// Makes a session of so many long turns.
fn long_session(env: &TestEnv, id: &str, turns: usize) {
    for n in 0..turns {
        let prompt = format!("turn {n}: {}", "word ".repeat(40));
        let turn = env.chat(&prompt).session(id).args(["--create", "-q"]);
        turn.replies(&"reply ".repeat(40));
    }
}

fn turns_leave_the_context_and_stay_in_the_history(world: World<'_>) {
    let env = world();
    long_session(&env, &id(1), 8);
    let small = ["--max-context-tokens", "500", "--max_tokens", "20"];
    let output = env
        .chat("the last")
        .session(&id(1))
        .args(small)
        .replies("ok");
    let dropped = output.json()["context_usage"]["dropped_turns"].as_u64();
    assert!(dropped > Some(2), "{output}");
    let sent = env.server().last_request().contents();
    let next = env
        .chat("one more")
        .session(&id(1))
        .args(["--max_tokens", "20"]);
    next.replies("ok");
    let after = env.server().last_request().contents();
    assert_eq!(after[..sent.len()], sent, "what was sent is sent again");
    assert_eq!(prompts(&env, &id(1)).len(), 10);
    let info = info(&env, &id(1));
    let is_in = |n: usize| info["messages"][n]["in_context"] == true;
    assert!(!is_in(0) && is_in(18), "{info}");
    // More room brings them back.
    let more = env
        .chat("with room")
        .session(&id(1))
        .args(["--max-context-tokens", "64000"]);
    more.replies("ok");
    assert_eq!(env.server().last_request().contents().len(), 2 * 10 + 1);
}

fn a_horizon_moves_and_what_is_pinned_stays(world: World<'_>) {
    let env = world();
    long_session(&env, &id(1), 6);
    let turns = turn_ids(&env, &id(1));
    let pinned = format!("{}:{}", id(1), turns[1]);
    assert_eq!(done(&env, &["pin", &pinned])["changed"], true);
    assert_eq!(done(&env, &["pin", &pinned])["changed"], false);
    let pruned = done(&env, &["prune", &id(1), "--to", "200"]);
    assert!(pruned["newly_dropped_turns"].as_u64() > Some(1), "{pruned}");
    env.chat("what now?").session(&id(1)).replies("on");
    let sent = env.server().last_request().contents();
    assert!(sent[0].starts_with("turn 1:"), "{sent:?}");
    assert!(!sent.iter().any(|said| said.starts_with("turn 2:")));
    assert_eq!(done(&env, &["unpin", &pinned])["changed"], true);
    done(&env, &["prune", &id(1), "--to", "100"]);
    env.chat("and now?").session(&id(1)).replies("on");
    let sent = env.server().last_request().contents();
    assert!(
        !sent.iter().any(|said| said.starts_with("turn 1:")),
        "{sent:?}"
    );
    assert_eq!(prompts(&env, &id(1)).len(), 8);
}

fn compaction_drops_what_is_not_sent_and_the_next_turn_works(world: World<'_>) {
    let env = world();
    long_session(&env, &id(1), 6);
    assert_eq!(done(&env, &["compact", &id(1)])["unchanged"], 1);
    done(&env, &["prune", &id(1), "--to", "200"]);
    let kept = prompts(&env, &id(1));
    let compacted = done(&env, &["compact", &id(1), "--drop-pruned"])["compacted"][0].clone();
    let dropped = compacted["dropped_turns"].as_u64().expect("a number");
    assert!(dropped > 1, "{compacted}");
    assert_eq!(
        prompts(&env, &id(1)),
        kept[usize::try_from(dropped).expect("a few")..]
    );
    assert!(found(&env, &["turn 0:"]).is_empty());
    env.chat("after it").session(&id(1)).replies("works");
    let sent = env.server().last_request().contents();
    assert_eq!(sent.last().map(String::as_str), Some("after it"));
    assert!(sent[0].starts_with(&kept[usize::try_from(dropped).expect("a few")][..7]));
    assert_eq!(done(&env, &["verify"])["problems"], json!([]));
    assert_eq!(
        done(&env, &["compact", "--all"])["unchanged"].as_u64(),
        Some(1)
    );
    let missing = session(&env, &["compact", &id(9)]).run();
    missing.fails(3, "session_not_found");
}

fn settings_change_once_and_for_all_that_fit(world: World<'_>) {
    let env = world();
    for n in [1, 2, 3] {
        make_session(&env, &id(n), &["hello"]);
    }
    let tagged = done(
        &env,
        &[
            "update",
            &id(1),
            &id(2),
            "--tag",
            "work",
            "--title",
            "A title",
        ],
    );
    assert_eq!(tagged["updated"].as_array().map(Vec::len), Some(2));
    let again = done(
        &env,
        &[
            "update",
            &id(1),
            &id(2),
            "--tag",
            "work",
            "--title",
            "A title",
        ],
    );
    assert_eq!(
        (&again["updated"], &again["unchanged"]),
        (&json!([]), &json!(2))
    );
    let model = ["update", "--all", "--where", "tag=work", "--model", "other"];
    let would: Vec<&str> = model.into_iter().chain(["--dry-run"]).collect();
    assert_eq!(
        done(&env, &would)["updated"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        done(&env, &model)["updated"].as_array().map(Vec::len),
        Some(2)
    );
    let list = done(&env, &["list", "--tag", "work", "--model", "other"]);
    assert_eq!(list["total"], 2);
    assert_eq!(list["sessions"][0]["title"], "A title");
    env.chat("on").session(&id(1)).replies("as the other");
    assert_eq!(env.server().last_request().model(), "other");
    let template = env
        .command()
        .args(["template", "save", "mine", "--from-session", &id(2)]);
    assert_eq!(template.run().ok().json()["template"]["model"], "other");
}

fn a_retracted_turn_is_hidden_everywhere(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["keep one", "the secret word", "keep two"]);
    let turn = format!("{}:{}", id(1), turn_ids(&env, &id(1))[1]);
    let retracted = done(&env, &["retract", &turn]);
    assert_eq!(retracted["changed"], true);
    assert_eq!(done(&env, &["retract", &turn])["changed"], false);
    assert_eq!(prompts(&env, &id(1)), ["keep one", "keep two"]);
    assert!(found(&env, &["secret"]).is_empty());
    assert!(
        exported(&env, &[&id(1)])
            .iter()
            .all(|line| !line.contains("secret"))
    );
    env.chat("on").session(&id(1)).replies("ok");
    let sent = env.server().last_request().contents();
    assert!(sent.iter().all(|said| !said.contains("secret")), "{sent:?}");
    let fork = text(&done(&env, &["fork", &id(1)])["session_id"]);
    assert_eq!(prompts(&env, &fork), ["keep one", "keep two", "on"]);
    let compacted = done(&env, &["retract", &turn, "--compact"]);
    assert_eq!(compacted["bytes_on_disk"], false);
    assert_eq!(prompts(&env, &id(1)), ["keep one", "keep two", "on"]);
}

fn text_that_is_redacted_is_hidden_everywhere(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["my number is 4711, is it?", "fine"]);
    let cut = Reply::text("no").cut_after_chunks(0);
    env.chat("still 4711?").session(&id(1)).answered(cut).run();
    let would = done(&env, &["redact", "4711", "--all", "--dry-run"]);
    assert_eq!(would["sessions"][0]["session_id"], id(1));
    assert_eq!(prompts(&env, &id(1))[0], "my number is 4711, is it?");
    let redacted = done(&env, &["redact", "4711", "--all"]);
    assert_eq!(redacted["drafts"].as_array().map(Vec::len), Some(1));
    assert_eq!(redacted["to_compact"], json!([id(1)]));
    assert!(found(&env, &["4711"]).is_empty());
    assert_eq!(prompts(&env, &id(1))[0], "my number is [redacted], is it?");
    assert!(
        exported(&env, &["--all"])
            .iter()
            .all(|line| !line.contains("4711"))
    );
    assert!(!done(&env, &["drafts"]).to_string().contains("4711"));
    env.chat("on").session(&id(1)).replies("ok");
    assert!(!env.server().last_request().contents()[0].contains("4711"));
    let compacted = done(&env, &["compact", &id(1)]);
    assert_eq!(compacted["compacted"].as_array().map(Vec::len), Some(1));
    let again = done(&env, &["redact", "4711", "--all"]);
    assert_eq!(
        (&again["matches"], &again["to_compact"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(prompts(&env, &id(1)).len(), 3);
}

fn a_purged_session_is_gone_and_a_stale_writer_cannot_bring_it_back(world: World<'_>) {
    let env = world();
    long_session(&env, &id(1), 4);
    make_session(&env, &id(2), &["stays"]);
    let export = exported(&env, &[&id(1)]).join("\n") + "\n";
    // It reads the session, asks for a summary, and then writes what it made of both.
    let gate = Gate::new();
    let stale = session(
        &env,
        &["prune", &id(1), "--to", "100", "--strategy", "summarize"],
    );
    let stale = stale
        .answered(Reply::text("a summary").held_by(&gate))
        .spawn();
    gate.wait_until_reached();
    let deleted = done(&env, &["delete", &id(1)]);
    assert_eq!(deleted["sessions"], json!([id(1)]));
    assert!(deleted["bytes_freed"].as_u64() > Some(0));
    gate.open();
    stale.wait().fails(7, "store_io");
    assert_eq!(listed(&env), [(id(2), 2)]);
    env.command()
        .args(["--session-info", &id(1)])
        .run()
        .fails(3, "session_not_found");
    env.chat("on")
        .session(&id(1))
        .run()
        .fails(3, "session_not_found");
    assert!(found(&env, &["turn 0:"]).is_empty());
    assert_eq!(done(&env, &["verify"])["problems"], json!([]));

    let file = env.write("export.jsonl", export);
    let file = file.to_str().expect("UTF-8");
    let left_out = done(&env, &["import", file]);
    assert_eq!(left_out["skipped_purged"], json!([id(1)]));
    assert_eq!(listed(&env), [(id(2), 2)]);
    done(&env, &["import", file, "--include-purged"]);
    assert_eq!(listed(&env), [(id(1), 8), (id(2), 2)]);
    env.chat("and on").session(&id(1)).replies("again");
    assert_eq!(prompts(&env, &id(1)).len(), 5);
}

fn what_is_used_or_under_way_is_not_purged(world: World<'_>) {
    let env = world();
    for n in [1, 2] {
        make_session(&env, &id(n), &["hello"]);
    }
    done(&env, &["update", &id(2), "--tag", "old"]);
    let purge = |args: &[&str]| done(&env, &[&["purge", "--older-than"], args].concat());
    assert_eq!(purge(&["30d"])["removed"], 0, "used just now");
    assert_eq!(purge(&["0", "--dry-run"])["removed"], 2);
    let gate = Gate::new();
    let held = env
        .chat("slow")
        .session(&id(1))
        .answered(Reply::echo().held_by(&gate));
    let held = held.spawn();
    gate.wait_until_reached();
    assert_eq!(purge(&["0", "--tag", "old"])["sessions"], json!([id(2)]));
    let left = session(&env, &["purge", "--older-than", "0"]).run();
    assert_eq!(left.ok().json()["removed"], 0, "{left}");
    assert!(left.stderr().contains(&id(1)), "{left}");
    gate.open();
    held.wait().ok();
    assert_eq!(purge(&["0"])["sessions"], json!([id(1)]));
    assert_eq!(listed(&env), []);
    // A new session under an id that was purged is a session.
    make_session(&env, &id(1), &["anew"]);
    assert_eq!(prompts(&env, &id(1)), ["anew"]);
}

fn the_list_has_every_session_in_the_order_of_its_use(world: World<'_>) {
    let env = world();
    assert_eq!(done(&env, &["list"])["total"], 0);
    for n in [1, 2, 3] {
        make_session(&env, &id(n), &["begin"]);
    }
    env.chat("again").session(&id(1)).replies("used last");
    let ids = |args: &[&str]| {
        let list = done(&env, &[&["list"], args].concat());
        let sessions = list["sessions"].as_array().expect("sessions").clone();
        sessions
            .iter()
            .map(|one| text(&one["session_id"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [id(1), id(3), id(2)]);
    assert_eq!(ids(&["--sort", "created"]), [id(3), id(2), id(1)]);
    assert_eq!(ids(&["--limit", "1"]), [id(1)]);
    assert_eq!(ids(&["--since", "1h"]).len(), 3);
    assert_eq!(ids(&["--until", "1h"]).len(), 0);
    let first = done(&env, &["list"])["sessions"][0].clone();
    assert_eq!(first["message_count"], 4);
    assert!(first["bytes"].as_u64() > Some(0) && first["context_tokens"].as_u64() > Some(0));
    let before = done(&env, &["list"]);
    assert_eq!(done(&env, &["reindex"])["sessions"], 3);
    assert_eq!(done(&env, &["list"]), before);
}

fn a_search_finds_what_was_said_and_where(world: World<'_>) {
    let env = world();
    let system = ["--system", "You know the zebra."];
    let chat = env
        .chat("a \"zebra\" and\na zebra")
        .session(&id(1))
        .arg("--create");
    chat.args(system).replies("Zebras have stripes");
    env.chat("nothing of it")
        .session(&id(2))
        .arg("--create")
        .replies("indeed");
    let fork = text(&done(&env, &["fork", &id(1)])["session_id"]);
    let hits = found(&env, &["zebra", "--role", "user"]);
    assert_eq!(
        hits.len(),
        1,
        "a turn that two sessions have is told once: {hits:?}"
    );
    assert_eq!(
        (&hits[0]["role"], &hits[0]["count"]),
        (&json!("user"), &json!(2))
    );
    assert_eq!(hits[0]["session_id"], fork, "the newest session first");
    assert_eq!(found(&env, &["zebra", &id(1)])[0]["session_id"], id(1));
    assert_eq!(found(&env, &["(?i)zebra", "--role", "assistant"]).len(), 1);
    assert_eq!(found(&env, &["zebra", "--role", "system", &id(1)]).len(), 1);
    assert_eq!(found(&env, &["\"zebra\" and\na", "--fixed"]).len(), 1);
    let ids = found(&env, &["zebra", "--files-with-matches"]);
    assert_eq!(ids.len(), 2, "{ids:?}");
    let counted = found(&env, &["(?i)zebra", "--count", &id(1)]);
    assert_eq!(
        (&counted[0]["messages"], &counted[0]["matches"]),
        (&json!(3), &json!(4))
    );
    assert!(found(&env, &["zebra", &id(2)]).is_empty());
    assert!(found(&env, &["zebra", "--model", "no such"]).is_empty());
}

fn what_is_exported_comes_back_as_it_was(world: World<'_>) {
    let (env, other) = (world(), world());
    long_session(&env, &id(1), 3);
    let image = env.write("red.png", PNG);
    let shown = env.chat("What is this?").session(&id(2)).arg("--create");
    shown.arg("--image").arg(&image).replies("A red dot.");
    done(
        &env,
        &["update", &id(1), "--title", "With a title", "--tag", "t"],
    );
    done(&env, &["prune", &id(1), "--to", "150"]);
    let lines = exported(&env, &["--all"]);
    let file = other.write("all.jsonl", lines.join("\n") + "\n");
    let file = file.to_str().expect("UTF-8");
    let would = done(&other, &["import", file, "--dry-run"]);
    assert_eq!(
        (&would["sessions_added"], listed(&other).len()),
        (&json!(2), 0)
    );
    let added = done(&other, &["import", file]);
    assert_eq!(
        (&added["sessions_added"], &added["turns_added"]),
        (&json!(2), &json!(4))
    );
    assert_eq!(exported(&other, &["--all"]), lines);
    let again = done(&other, &["import", file]);
    assert_eq!(
        (&again["events_added"], &again["sessions_unchanged"]),
        (&json!(0), &json!(2))
    );
    for id in [id(1), id(2)] {
        assert_eq!(info(&other, &id)["messages"], info(&env, &id)["messages"]);
    }
    other.chat("And now?").session(&id(2)).replies("Still red.");
    let sent = other.server().last_request().json["messages"][0].clone();
    assert_eq!(sent["images"], json!([PNG_BASE64]));
    // What one of them has more goes back.
    let back = exported(&other, &[&id(2)]).join("\n") + "\n";
    let back = env.write("back.jsonl", back);
    let changed = done(&env, &["import", back.to_str().expect("UTF-8")]);
    assert_eq!(
        (&changed["sessions_changed"], &changed["turns_added"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(prompts(&env, &id(2)), ["What is this?", "And now?"]);
    for form in ["markdown", "html", "openai"] {
        let out = exported(&env, &["--to", form, &id(2)]).join("\n");
        assert!(out.contains("A red dot."), "{form}: {out}");
    }
}

fn conversations_of_others_are_brought_in_once(world: World<'_>) {
    let env = world();
    let line = |said: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{said}"}},{{"role":"assistant","content":"yes"}}]}}"#
        )
    };
    let file = env.write("chats.jsonl", line("one") + "\n" + &line("two") + "\n");
    let file = file.to_str().expect("UTF-8").to_owned();
    assert_eq!(done(&env, &["import", &file])["sessions_added"], 2);
    assert_eq!(done(&env, &["import", &file])["sessions_unchanged"], 2);
    assert_eq!(found(&env, &["one", "--fixed"]).len(), 1);
    let (id, _) = listed(&env)[0].clone();
    env.chat("and on")
        .session(&id)
        .replies("as if it were ours");
    assert_eq!(prompts(&env, &id).len(), 2);
    assert_eq!(done(&env, &["import", &file])["sessions_unchanged"], 2);
    assert_eq!(prompts(&env, &id).len(), 2);
}

fn another_copy_is_merged_and_again_changes_nothing(world: World<'_>) {
    let (env, copy) = (world(), TestEnv::new());
    make_session(&copy, &id(1), &["common"]);
    let image = copy.write("red.png", PNG);
    let shown = copy.chat("only there").session(&id(2)).arg("--create");
    shown.arg("--image").arg(&image).replies("A red dot.");
    let there = copy.store();
    let there = there.to_str().expect("UTF-8");
    let merge = |args: &[&str]| done(&env, &[&["merge", there], args].concat());
    assert_eq!(merge(&[])["sessions_added"], 2);
    env.chat("here").session(&id(1)).replies("h");
    copy.chat("there").session(&id(1)).replies("t");
    let merged = merge(&[]);
    assert_eq!(
        (&merged["sessions_changed"], &merged["events_added"]),
        (&json!(1), &json!(1))
    );
    let again = merge(&[]);
    assert_eq!(
        (&again["sessions_changed"], &again["events_added"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(prompts(&env, &id(1)), ["common", "here", "there"]);
    env.chat("on").session(&id(1)).replies("all of it");
    assert_eq!(env.server().last_request().contents().len(), 7);
    env.chat("and the image?")
        .session(&id(2))
        .replies("is here");
    let sent = env.server().last_request().json["messages"][0].clone();
    assert_eq!(sent["images"], json!([PNG_BASE64]));
    done(&env, &["delete", &id(2)]);
    assert_eq!(merge(&[])["skipped_purged"], json!([id(2)]));
    assert_eq!(listed(&env).len(), 1);
    assert_eq!(merge(&["--include-purged"])["sessions_added"], 1);
    assert_eq!(prompts(&env, &id(2)), ["only there"]);
    assert_eq!(done(&env, &["verify"])["problems"], json!([]));
    // What was purged over there does not come from a third copy.
    done(&copy, &["delete", &id(1)]);
    done(&env, &["delete", &id(1), &id(2)]);
    let third = exported(&copy, &["--all"]);
    assert!(third.iter().all(|line| !line.contains(&id(1))));
}

fn figures_are_those_of_the_turns(world: World<'_>) {
    let env = world();
    for n in [1, 2] {
        make_session(&env, &id(n), &["one", "two"]);
    }
    env.chat("of a model")
        .session(&id(1))
        .args(["--model", "m2"])
        .replies("ok");
    let stats = done(&env, &["stats"]);
    assert_eq!(
        (&stats["sessions"], &stats["turns"]),
        (&json!(2), &json!(5))
    );
    let of = |stats: &Value, key: &str| stats[key].as_u64().expect("a number");
    assert!(
        of(&stats, "tokens_in") > 0 && of(&stats, "bytes") > 0,
        "{stats}"
    );
    let models = stats["models"].as_array().expect("models");
    let turns: u64 = models.iter().map(|model| of(model, "turns")).sum();
    assert_eq!((models.len(), turns), (2, 5));
    assert_eq!(done(&env, &["stats", "--model", "m2"])["turns"], 1);
}

fn a_sound_store_has_no_problem(world: World<'_>) {
    let env = world();
    assert_eq!(done(&env, &["verify"])["checked"]["sessions"], 0);
    for n in [1, 2, 3] {
        make_session(&env, &id(n), &["one", "two"]);
    }
    let image = env.write("red.png", PNG);
    env.chat("this")
        .session(&id(3))
        .arg("--image")
        .arg(image)
        .replies("A red dot.");
    let report = done(&env, &["verify"]);
    assert_eq!(report["problems"], json!([]));
    assert_eq!(report["checked"]["sessions"], 3);
    assert_eq!(report["checked"]["lines"], 10, "{report}");
    assert_eq!(done(&env, &["verify", &id(2)])["checked"]["lines"], 3);
    let repaired = done(&env, &["verify", "--repair"]);
    assert_eq!(
        (&repaired["problems"], &repaired["repaired"]),
        (&json!([]), &json!([]))
    );
    session(&env, &["verify", &id(9)])
        .run()
        .fails(3, "session_not_found");
    let cut = Reply::text("no").cut_after_chunks(0);
    env.chat("fails").session(&id(1)).answered(cut).run();
    let notes = done(&env, &["verify"])["notes"].clone();
    assert_eq!(notes[0]["kind"], "unfinished_turn", "{notes}");
}

fn events_of_any_process_are_watched_once(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["before"]);
    let watch = |args: &[&str]| {
        let mut watch = session(&env, &["watch"]).args(args).spawn();
        watch.wait_for_stderr("watching");
        watch
    };
    let (mut all, mut one) = (watch(&[]), watch(&[&id(1)]));
    make_session(&env, &id(2), &["of another"]);
    env.chat("second").session(&id(1)).replies("yes");
    let turn = turn_ids(&env, &id(1))[1].clone();
    for watch in [&mut all, &mut one] {
        watch.wait_for_stdout(&turn);
    }
    all.wait_for_stdout("of another");
    done(&env, &["update", &id(1), "--title", "a new title"]);
    all.wait_for_stdout("a new title");
    let said = |mut watch: Running<'_>, until: &str| {
        watch.wait_for_stdout(until);
        watch.signal(2);
        let lines = watch.wait().json_lines().into_iter();
        let turns = lines.filter(|line| line["event"]["type"] == "turn");
        turns
            .map(|line| text(&line["event"]["prompt"]))
            .collect::<Vec<_>>()
    };
    let mut both = said(all, "a new title");
    both.sort();
    assert_eq!(both, ["of another", "second"]);
    assert_eq!(said(one, "a new title"), ["second"]);
    let from_start = watch(&["--from-start", &id(1)]);
    assert_eq!(said(from_start, "a new title"), ["before", "second"]);
    session(&env, &["watch", &id(9)])
        .run()
        .fails(3, "session_not_found");
}

fn images_are_kept_and_sent_again(world: World<'_>) {
    let env = world();
    let image = env.write("pictures/red.png", PNG);
    let first = env.chat("What is this?").arg("--image").arg(&image);
    let id = first.replies("A red dot.").session_id();
    std::fs::remove_file(image).expect("the file is not needed any more");
    let images = || {
        let messages = env.server().last_request().json["messages"].clone();
        let images = messages.as_array().expect("messages").iter();
        images
            .filter_map(|message| message.get("images").cloned())
            .collect::<Vec<_>>()
    };
    env.chat("And now?").session(&id).replies("Still red.");
    assert_eq!(images(), [json!([PNG_BASE64])]);
    let fork = text(&done(&env, &["fork", &id])["session_id"]);
    done(&env, &["delete", &id]);
    env.chat("In the fork?").session(&fork).replies("Red.");
    assert_eq!(images(), [json!([PNG_BASE64])]);
    let shown = info(&env, &fork)["messages"][0].clone();
    assert_eq!(shown["images"][0]["name"], "red.png");
    done(&env, &["compact", &fork]);
    env.chat("After it?").session(&fork).replies("Red.");
    assert_eq!(images(), [json!([PNG_BASE64])]);
}

fn what_is_asked_to_leave_no_trace_leaves_none(world: World<'_>) {
    let env = world();
    env.chat("stateless").arg("--no-session").replies("ok");
    env.chat("dry").arg("--dry-run").run().ok();
    assert_eq!(listed(&env), []);
    assert_eq!(done(&env, &["drafts"])["total"], 0);
    make_session(&env, &id(1), &["one"]);
    let before = exported(&env, &["--all"]);
    env.chat("dry").session(&id(1)).arg("--dry-run").run().ok();
    done(&env, &["purge", "--older-than", "0", "--dry-run"]);
    assert_eq!(exported(&env, &["--all"]), before);
}

fn one_cleanup_runs_in_a_store(world: World<'_>) {
    let env = world();
    make_session(&env, &id(1), &["one"]);
    let cleanup = || {
        let run = env.command().args(["cleanup", "--older-than", "30d"]);
        run.args(["--every", "10h"])
    };
    let mut first = cleanup().spawn();
    first.wait_for_stdout("\"event\":\"round\"");
    let second = cleanup().run();
    assert!(second.fails(7, "store_locked").retryable);
    first.signal(15);
    first.wait().ok();
    let mut next = cleanup().spawn();
    next.wait_for_stdout("\"event\":\"round\"");
    next.signal(15);
    next.wait().ok();
    assert_eq!(prompts(&env, &id(1)), ["one"]);
}

fn a_session_is_shown_as_it_was(world: World<'_>) {
    let env = world();
    env.chat("one").session(&id(1)).arg("--create").replies("1");
    env.chat("two")
        .session(&id(1))
        .args(["--model", "m2"])
        .replies("2");
    let sent = env.server().last_request();
    env.chat("three").session(&id(1)).replies("3");
    let turns = turn_ids(&env, &id(1));
    let at = done(&env, &["show", &id(1), "--at", &turns[1]]);
    assert_eq!(
        (&at["message_count"], &at["model_name"]),
        (&json!(4), &json!("m2"))
    );
    let at = done(&env, &["show", &id(1), "--at", &turns[0]]);
    assert_eq!(at["message_count"], 2);
    assert_ne!(at["model_name"], "m2");
    let context = done(&env, &["show", &id(1), &format!("--context={}", turns[1])]);
    assert_eq!(context["exact"], true);
    assert_eq!(context["request"]["messages"], sent.json["messages"]);
    let one = done(&env, &["show", &format!("{}:{}", id(1), turns[2])]);
    assert_eq!(one["messages"][0]["content"], "three");
}

/// What would look past the program.
#[test]
fn nothing_here_looks_at_files_of_a_store() {
    let text = include_str!("contract.rs");
    for looks in [
        "log", "log_path", "lines", "drafts", "files", "home", "snapshot", "records",
    ] {
        for whose in ["env", "other", "world()"] {
            let word = format!("{whose}.{looks}(");
            assert!(!text.contains(&word), "{word}");
        }
    }
}
