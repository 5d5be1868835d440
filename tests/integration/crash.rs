//! Protects P1, P2 and P3 where a process dies: whatever it was doing, an acknowledged turn is
//! there, the store opens, and the next turn works and stands on a line of its own.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stored::{id, info, listed, make_session, prompts, text, traced, turns};
use crate::support::{Gate, Output, Reply, TestEnv, need};

#[test]
fn a_process_killed_while_the_server_thinks_leaves_the_prompt_in_a_draft() {
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    let before = env.log(&id);
    let gate = Gate::new();
    let held = Reply::text("2").held_by(&gate);
    let killed = env
        .chat("what was not answered")
        .session(&id)
        .answered(held)
        .spawn();
    gate.wait_until_reached();
    assert_eq!(info(&env, &id)["unfinished"][0]["under_way"], true);
    assert_eq!(killed.kill9().signal(), Some(9));
    gate.open();

    assert_eq!(env.log(&id), before);
    let draft = &env.drafts()[0];
    assert_eq!(draft["prompt"], "what was not answered");
    assert_eq!(draft["session"], *id);
    let unfinished = &info(&env, &id)["unfinished"][0];
    assert_eq!(unfinished["prompt"], "what was not answered");
    assert_eq!(unfinished["under_way"], false, "nobody holds it");

    env.chat("two").session(&id).replies("2");
    assert_eq!(env.server().last_request().contents(), ["one", "1", "two"]);
    assert_eq!(prompts(&env, &id), ["one", "two"]);
    assert_eq!(env.drafts().len(), 1, "a turn sweeps nothing");
}

#[test]
fn a_first_turn_that_was_killed_leaves_a_draft_and_no_session() {
    let env = TestEnv::new();
    let gate = Gate::new();
    let killed = env
        .chat("first")
        .answered(Reply::text("1").held_by(&gate))
        .spawn();
    gate.wait_until_reached();
    killed.kill9();
    gate.open();
    assert_eq!(listed(&env), []);
    let draft = &env.drafts()[0];
    let shown = info(&env, &text(&draft["session"]));
    assert_eq!(shown["unfinished"][0]["prompt"], "first");
    assert_eq!(shown["message_count"], 0);
}

/// What a series of killed turns must not lose.
struct Series {
    env: TestEnv,
    id: String,
    /// Prompts and sessions of the turns that were acknowledged.
    acknowledged: Vec<(String, String)>,
    begun: BTreeSet<String>,
}

impl Series {
    fn new() -> Self {
        let env = TestEnv::new();
        let id = id(0);
        make_session(&env, &id, &["before all"]);
        let acknowledged = vec![("before all".to_owned(), id.clone())];
        let begun = BTreeSet::from(["before all".to_owned()]);
        Self {
            env,
            id,
            acknowledged,
            begun,
        }
    }

    /// Returns the arguments of the next turn, every third of which makes a session.
    fn next(&mut self) -> (String, Vec<String>) {
        let n = self.begun.len();
        let prompt = format!("turn {n}");
        self.begun.insert(prompt.clone());
        let mut args: Vec<String> = ["-q", "--prompt", &prompt].map(str::to_owned).into();
        if !n.is_multiple_of(3) {
            args.extend(["--session-id".to_owned(), self.id.clone()]);
        }
        (prompt, args)
    }

    /// Notes whether the caller was told that the turn is stored: that counts, also where the
    /// process was killed after it.
    fn ended(&mut self, prompt: String, output: &Output) {
        let said: Value = serde_json::from_slice(output.stdout_bytes()).unwrap_or_default();
        if said["turn"]["stored"] == true {
            self.acknowledged.push((prompt, text(&said["session_id"])));
        }
    }

    /// Asserts that nothing acknowledged is lost, nothing is there twice, and all goes on.
    #[track_caller]
    fn assert_nothing_lost(&self) {
        let sessions: Vec<String> = listed(&self.env).into_iter().map(|(id, _)| id).collect();
        let mut found = Vec::new();
        for id in &sessions {
            assert_eq!(
                info(&self.env, id)["metadata"]["unreadable"],
                serde_json::json!([])
            );
            found.extend(
                prompts(&self.env, id)
                    .into_iter()
                    .map(|prompt| (prompt, id.clone())),
            );
        }
        for turn in &self.acknowledged {
            assert!(found.contains(turn), "{turn:?} was acknowledged");
        }
        let stored: BTreeSet<String> = found.iter().map(|(prompt, _)| prompt.clone()).collect();
        assert_eq!(stored.len(), found.len(), "no turn twice: {found:?}");
        assert!(stored.is_subset(&self.begun));
        self.assert_drafts_are_whole_or_empty();
        self.env
            .chat("after all")
            .session(&self.id)
            .args(["--offline"])
            .run()
            .ok();
        assert_eq!(
            prompts(&self.env, &self.id).last().expect("a turn"),
            "after all"
        );
        assert_eq!(
            turns(&self.env, &self.id).last().expect("a line")["prompt"],
            "after all"
        );
    }

    /// A draft is empty for the moment between its creation and its first byte, in which nobody
    /// was asked yet.
    #[track_caller]
    fn assert_drafts_are_whole_or_empty(&self) {
        let drafts = std::fs::read_dir(self.env.store().join("open")).expect("drafts");
        for draft in drafts {
            let bytes = std::fs::read(draft.expect("an entry").path()).expect("a draft");
            let draft: Option<Value> = serde_json::from_slice(&bytes).ok();
            let prompt = draft.map(|draft| text(&draft["prompt"]));
            assert!(bytes.is_empty() || prompt.is_some_and(|prompt| self.begun.contains(&prompt)));
        }
    }
}

#[test]
fn killed_at_any_system_call_a_turn_is_lost_only_while_it_is_not_acknowledged() {
    if !need("strace") {
        return;
    }
    const CALLS: [&str; 12] = [
        "openat",
        "mkdirat",
        "read",
        "pread64",
        "write",
        "flock",
        "fdatasync",
        "fsync",
        "unlinkat",
        "close",
        "statx",
        "getrandom",
    ];
    let mut series = Series::new();
    let mut kills = 0;
    for (flags, call) in [["--new-session"].as_slice(), &["--session-id", &id(0)]]
        .into_iter()
        .flat_map(|flags| CALLS.map(|call| (flags, call)))
    {
        // Until one comes through unharmed: then each has been the last one once.
        for n in 1.. {
            let (prompt, _) = series.next();
            let trace = format!("trace={call}");
            let kill = format!("inject={call}:signal=KILL:when={n}");
            let run = series
                .env
                .chat(&prompt)
                .args(flags)
                .args(["--offline", "-q"]);
            let output = traced(run, &[], &[&trace, &kill]).run();
            series.ended(prompt, &output);
            if output.exit_code() == Some(0) {
                break;
            }
            assert_eq!(output.signal(), Some(9), "{output}");
            kills += 1;
        }
    }
    assert!(kills > 80, "{kills}");
    series.assert_nothing_lost();
}

/// Kills turns at moments spread over somewhat more than the time one takes.
fn kill_at_random_moments(kills: u32, flags: &[&str]) {
    let mut series = Series::new();
    let start = Instant::now();
    series
        .env
        .chat("to see how long it takes")
        .args(flags)
        .run()
        .ok();
    series.begun.insert("to see how long it takes".to_owned());
    let whole = start.elapsed().max(Duration::from_millis(5));
    let mut survivors = 0;
    for kill in 0..kills {
        let (prompt, args) = series.next();
        let running = series.env.command().args(args).args(flags).spawn();
        // There is no event to wait for: the moment is the point. 7919 is prime, so that the
        // moments are spread without an order.
        thread::sleep(whole * (kill * 7919 % kills) * 5 / (kills * 4));
        let output = running.kill9();
        survivors += u32::from(output.exit_code() == Some(0));
        series.ended(prompt, &output);
    }
    series.assert_nothing_lost();
    assert!(survivors < kills, "none was killed");
}

#[test]
fn a_hundred_kills_at_random_moments_lose_no_acknowledged_turn() {
    kill_at_random_moments(100, &["--offline"]);
}

#[test]
fn a_hundred_kills_while_a_server_is_asked_lose_no_acknowledged_turn() {
    kill_at_random_moments(100, &["--model", "m"]);
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_line_loses_that_line_and_the_next_turn_works() {
    let env = TestEnv::new();
    make_session(&env, &id(0), &["one", "two"]);
    let log = env.log(&id(0)).into_bytes();
    let last_line = log[..log.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .expect("two")
        + 1;
    // A session for each cut, so that one look sees them all.
    let cuts: Vec<(usize, String)> = (last_line..=log.len()).map(|cut| (cut, id(cut))).collect();
    for (cut, id) in &cuts {
        env.write(env.log_path(id), &log[..*cut]);
    }
    let before = listed(&env);
    assert_eq!(before.len(), cuts.len() + 1, "every one of them opens");
    for (cut, id) in &cuts {
        // Without its newline it is whole all the same.
        let whole = *cut >= log.len() - 1;
        let expected: &[&str] = if whole { &["one", "two"] } else { &["one"] };
        assert!(
            before.contains(&(id.clone(), 2 * expected.len() as u64)),
            "cut at {cut}"
        );

        let turn = env.chat("next").session(id).args(["--offline", "-q"]).run();
        assert_eq!(
            turn.ok().json()["context_usage"]["kept_turns"],
            expected.len(),
            "cut at {cut}"
        );
        let after = env.log(id).into_bytes();
        assert!(
            after.starts_with(&log[..*cut]),
            "nothing before it is changed, cut at {cut}"
        );
        let sealed = if log[*cut - 1] == b'\n' {
            *cut
        } else {
            cut + 1
        };
        let line: Value = serde_json::from_slice(&after[sealed..]).expect("a line of its own");
        assert_eq!(
            (&line["prompt"], &line["at"]),
            (&"next".into(), &sealed.into())
        );
    }
    let after = listed(&env);
    for (at, (id, messages)) in before.iter().enumerate().skip(1) {
        assert_eq!(after[at], (id.clone(), messages + 2));
    }
}

#[test]
fn a_new_session_cut_at_any_byte_is_none_or_whole() {
    let env = TestEnv::new();
    make_session(&env, &id(0), &["one"]);
    let log = env.log(&id(0)).into_bytes();
    let header = log.iter().position(|b| *b == b'\n').expect("a line");
    std::fs::create_dir(env.store().join("sessions").join(id(9999))).expect("a directory");
    for cut in 0..log.len() {
        env.write(env.log_path(&id(cut + 1)), &log[..cut]);
    }
    let listed = listed(&env);
    for (cut, id) in (0..log.len()).map(|cut| (cut, id(cut + 1))) {
        let messages = listed
            .iter()
            .find(|(listed, _)| *listed == id)
            .map(|(_, n)| *n);
        let expected = (cut >= header).then_some(if cut == log.len() - 1 { 2 } else { 0 });
        assert_eq!(messages, expected, "cut at {cut}");
    }
    // What is no session can become one.
    for id in [id(1), id(9), id(header + 1), id(9999)] {
        make_session(&env, &id, &["again"]);
        assert_eq!(prompts(&env, &id), ["again"]);
    }
}
