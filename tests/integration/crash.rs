//! Protects P1, P2 and P3 where a process dies: whatever it was doing, an acknowledged turn is
//! there, the store opens, and the next turn works and stands on a line of its own.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stored::{id, info, listed, make_session, prompts, text, traced, turns};
use crate::support::{Gate, Output, Reply, Run, Running, TestEnv, need};

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
    /// process was killed after it. The store can be read.
    fn ended(&mut self, prompt: String, output: &Output) {
        let said: Value = serde_json::from_slice(output.stdout_bytes()).unwrap_or_default();
        if said["turn"]["stored"] == true {
            self.acknowledged.push((prompt, text(&said["session_id"])));
        }
        let listed = listed(&self.env);
        let known = info(&self.env, &self.id)["message_count"].as_u64();
        assert!(listed.contains(&(self.id.clone(), known.expect("a count"))));
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

/// How often each kind of work is killed at a random moment: 555 times together.
const KILLS: u32 = 111;

/// Moments spread over somewhat more than the time a process takes, until enough have been killed
/// by one. There is no event to wait for: the moment is the point.
struct Moments {
    whole: Duration,
    tried: u32,
    killed: u32,
}

impl Moments {
    /// Takes the time of one that is not killed.
    fn of(run: Run<'_>) -> Self {
        let start = Instant::now();
        run.run().ok();
        Self {
            whole: start.elapsed().max(Duration::from_millis(5)),
            tried: 0,
            killed: 0,
        }
    }

    fn are_left(&self) -> bool {
        assert!(self.tried < 10 * KILLS, "most were not killed");
        self.killed < KILLS
    }

    /// Kills it at the next moment, if it has not ended by then.
    fn kill(&mut self, running: Running<'_>) -> Output {
        // They have no factor in common, so that the moments are spread without an order.
        let part = self.tried * 7919 % KILLS;
        thread::sleep(self.whole * part * 5 / (KILLS * 4));
        let output = running.kill9();
        self.tried += 1;
        self.killed += u32::from(output.signal() == Some(9));
        output
    }
}

/// Kills turns; returns what they were to leave behind.
fn kill_turns(flags: &[&str]) -> Series {
    let mut series = Series::new();
    let first = "to see how long it takes";
    let mut moments = Moments::of(series.env.chat(first).args(flags));
    series.begun.insert(first.to_owned());
    while moments.are_left() {
        let (prompt, args) = series.next();
        let running = series.env.command().args(args).args(flags).spawn();
        let output = moments.kill(running);
        series.ended(prompt, &output);
    }
    series.assert_nothing_lost();
    series
}

#[test]
fn turns_killed_at_random_moments_lose_nothing_acknowledged() {
    kill_turns(&["--offline"]);
}

#[test]
fn turns_killed_while_a_server_is_asked_lose_nothing_acknowledged() {
    kill_turns(&["--model", "m"]);
}

#[test]
fn turns_that_prune_killed_at_random_moments_lose_nothing_acknowledged() {
    let limits = ["--max-context-tokens", "200", "--max_tokens", "50"];
    let series = kill_turns(&[&["--offline"], limits.as_slice()].concat());
    let lines = series.env.lines(&series.id);
    let pruned = lines.iter().filter(|line| line["type"] == "prune").count();
    assert!(pruned > 3, "{pruned} of {} lines", lines.len());
}

#[test]
fn compactions_killed_at_random_moments_beside_turns_lose_nothing_acknowledged() {
    let mut series = Series::new();
    let id = series.id.clone();
    let log = series.env.log_path(&id);
    let dirty = || {
        // Appended as a turn is, it gives every compaction something to do.
        let file = std::fs::OpenOptions::new().append(true).open(&log);
        let written = std::io::Write::write_all(&mut file.expect("the log"), b"garbage\n");
        written.expect("writable");
    };
    dirty();
    let compact = ["session", "compact", &id];
    let mut moments = Moments::of(series.env.command().args(compact));
    while moments.are_left() {
        dirty();
        let (prompt, args) = series.next();
        let turn = series.env.command().args(args).arg("--offline").spawn();
        let compaction = series.env.command().args(compact).spawn();
        moments.kill(compaction);
        let output = turn.wait();
        output.ok();
        series.ended(prompt, &output);
    }
    series.env.command().args(compact).run().ok();
    series.assert_nothing_lost();
}

#[test]
fn sessions_whose_purge_was_killed_are_whole_or_gone_with_a_receipt() {
    let mut series = Series::new();
    let victim = id(1);
    let said = ["one", "two"];
    make_session(&series.env, &victim, &said);
    let log = series.env.log(&victim);
    // The first one goes by its tag, as all that follow.
    let header = &series.env.lines(&victim)[0];
    let tags = json!({"v": 1, "id": text(&header["id"]).replacen("01", "02", 1), "type": "set",
        "ts": header["ts"], "tags": {"tmp": true}});
    let log = format!("{log}{tags}\n");
    series.env.write(series.env.log_path(&victim), &log);
    let purge = ["session", "purge", "--older-than", "0", "--tag", "tmp"];
    let mut moments = Moments::of(series.env.command().args(purge));
    assert_eq!(listed(&series.env).len(), 1, "the tag is seen");
    let (mut gone, mut whole) = (0, 0);
    while moments.are_left() {
        let victim = id(2 + moments.tried as usize);
        series.env.write(series.env.log_path(&victim), &log);
        let delete = ["session", "delete", &victim];
        let is_delete = moments.tried.is_multiple_of(2);
        let args = if is_delete { delete.as_slice() } else { &purge };
        let (prompt, turn) = series.next();
        let turn = series.env.command().args(turn).arg("--offline").spawn();
        let running = series.env.command().args(args).spawn();
        moments.kill(running);
        let output = turn.wait();
        output.ok();
        series.ended(prompt, &output);

        let info = series.env.command().args(["--session-info", &victim]).run();
        if info.exit_code() == Some(0) {
            whole += 1;
            assert_eq!(prompts(&series.env, &victim), said);
            let delete = series.env.command().args(delete);
            delete.run().ok();
        } else {
            gone += 1;
            info.fails(3, "session_not_found");
        }
        let receipts = std::fs::read_to_string(series.env.store().join("purged.jsonl"));
        assert!(receipts.expect("receipts").contains(&victim), "no receipt");
    }
    assert!(gone > 0 && whole > 0, "{gone} gone, {whole} whole");
    series.assert_nothing_lost();
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
