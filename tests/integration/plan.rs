//! What would be sent and what was sent, byte for byte as the server receives it, and for each
//! message why.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::{Gate, Output, Reply, Request, Run, TestEnv, counted, honest};
use crate::talk::is_summary;

#[test]
fn a_dry_run_prints_what_the_server_would_receive_byte_for_byte() {
    let odd =
        "line\u{85}next\u{2028}\u{2029}\u{7f}\u{1b}[31m \u{0}1 \"q\" \\ </x> 日本 🦀 e\u{301}\n\t";
    let odd = odd.replace('\u{0}', "\u{1}");
    let rows: [&[&str]; 7] = [
        &[],
        &["--system", &odd],
        &["--think=high", "--temperature", "0.7"],
        &[
            "--option",
            "seed=7",
            "--option",
            "stop=[\"END\",\"\\u2028\"]",
        ],
        &["--model", "glm-4.6:cloud"],
        &["--no-session"],
        &["--max_tokens", "9000", "--max-context-tokens", "20000"],
    ];
    for prompt in ["hello", &odd] {
        for arguments in rows {
            let env = TestEnv::new();
            let run = || env.chat(prompt).args(["--model", "m"]).args(arguments);
            let run = || match arguments.contains(&"--model") {
                true => env.chat(prompt).args(arguments),
                false => run(),
            };
            would_and_does(&env, run);
        }
    }
}

#[test]
fn a_dry_run_of_a_continued_session_is_what_the_next_turn_is() {
    let env = TestEnv::new();
    env.server().handle(honest);
    let id = talk(&env, 0, 20);
    let rows: [&[&str]; 6] = [
        &[],
        &["--max-context-tokens", "500", "--max_tokens", "50"],
        &["--max_tokens", "50"],
        &["--prune", "importance", "--max-context-tokens", "300"],
        &[
            "--max-context-tokens",
            "20000",
            "--system",
            "Be \u{2028}brief.",
        ],
        &["--model", "other", "--think=false"],
    ];
    for arguments in rows {
        would_and_does(&env, || {
            env.chat("and\u{85} now?").session(&id).args(arguments)
        });
    }
    let prunes = env.lines(&id);
    assert!(prunes.iter().filter(|l| l["type"] == "prune").count() >= 3);
}

#[test]
fn a_dry_run_says_of_each_message_whether_it_is_sent_what_it_costs_and_why() {
    let env = TestEnv::new();
    env.server().handle(honest);
    let id = talk(&env, 0, 12);
    let turns: Vec<Value> = env
        .lines(&id)
        .into_iter()
        .filter(|l| l["type"] == "turn")
        .collect();
    let pinned = format!("{id}:{}", turns[1]["id"].as_str().expect("an id"));
    env.command().args(["session", "pin", &pinned]).run().ok();
    let small = [
        "--max-context-tokens",
        "500",
        "--max_tokens",
        "50",
        "--system",
        "Be brief.",
    ];
    let report = env
        .chat("and now?")
        .session(&id)
        .args(small)
        .arg("--dry-run")
        .run()
        .ok()
        .json();
    let plan = &report["context_plan"];
    let messages = plan["messages"].as_array().expect("messages");
    assert_eq!(
        messages.len(),
        1 + 2 * 12 + 1,
        "system, every turn, the new message"
    );
    let mut sum = 16;
    for (at, message) in messages.iter().enumerate() {
        let (tokens, kept) = (
            message["tokens"].as_u64().expect("tokens"),
            &message["kept"],
        );
        assert!(tokens > 0, "{message}");
        sum += if *kept == true { tokens } else { 0 };
        let turn = at.checked_sub(1).map(|at| at / 2).filter(|turn| *turn < 12);
        let role = ["assistant", "user"][at % 2];
        let expected = match turn {
            None if at == 0 => ("system", true, "the system prompt always stays"),
            None => ("user", true, "the new message"),
            Some(11) => (role, true, "the newest turn always stays"),
            Some(1) => (role, true, "pinned"),
            Some(_) if *kept == true => (role, true, "fits the budget"),
            Some(_) => (role, false, "over the budget, and older than what stays"),
        };
        assert_eq!(message["role"], expected.0, "{at}");
        assert_eq!(*kept, expected.1, "{at}");
        assert_eq!(message["why"], expected.2, "{at}");
        let id = turn.map_or(&Value::Null, |turn| &turns[turn]["id"]);
        assert_eq!(&message["turn"], id, "{at}");
        let counted = message["counted"].as_str().expect("a kind of count");
        assert!(
            ["measured", "learned", "tiktoken", "bytes"].contains(&counted),
            "{counted}"
        );
        if let Some(turn) = turn {
            let key = ["response", "prompt"][at % 2];
            assert_eq!(message["tokens"], turns[turn]["tokens"][key], "stored once");
            assert_eq!(
                message["counted"], turns[turn]["tokens"]["counted"],
                "with its kind"
            );
        }
    }
    assert_eq!(
        plan["tokens"], sum,
        "what is kept adds up, with the template around it"
    );
    assert!(sum + 50 <= 500);
    assert_eq!(plan["budget"], 500);
    let kept = messages.iter().filter(|m| m["kept"] == true).count() as u64 / 2 - 1;
    assert_eq!(plan["kept_turns"], kept);
    assert_eq!(plan["dropped_turns"], 12 - kept);
}

#[test]
fn a_dry_run_of_a_summary_says_that_one_would_be_made_and_makes_none() {
    let env = TestEnv::new();
    env.server().handle(honest);
    let id = talk(&env, 0, 25);
    let asked = env.server().request_count();
    let small = [
        "--max-context-tokens",
        "900",
        "--max_tokens",
        "50",
        "--prune",
        "summarize",
    ];
    let report = env
        .chat("and?")
        .session(&id)
        .args(small)
        .arg("--dry-run")
        .run()
        .ok()
        .json();
    let plan = &report["context_plan"];
    assert_eq!(plan["would_summarize"], plan["dropped_turns"]);
    assert!(plan["dropped_turns"].as_u64() > Some(0), "{plan}");
    assert_eq!(env.server().request_count(), asked);
}

#[test]
fn what_was_sent_for_any_past_turn_can_be_shown_byte_for_byte() {
    let env = TestEnv::new();
    env.server()
        .handle(|request: &Request| match is_summary(request) {
            true => counted(request, "the gist"),
            false => honest(request),
        });
    let id = talk(&env, 0, 6);
    let gate = Gate::new();
    let held = Reply::text("slow").held_by(&gate);
    let mut late = env
        .chat("question late")
        .session(&id)
        .answered(held)
        .spawn();
    late.wait_for_request();
    env.chat("question meanwhile").session(&id).run().ok();
    gate.open();
    late.wait().ok();
    let changes: [&[&str]; 7] = [
        &["--system", "Be \u{2028}brief."],
        &["--think=high", "--option", "seed=7"],
        &["--model", "other"],
        &["--max-context-tokens", "400", "--max_tokens", "50"],
        &["--prune", "importance", "--max_tokens", "50"],
        &[
            "--prune",
            "summarize",
            "--max-context-tokens",
            "1500",
            "--max_tokens",
            "50",
        ],
        &["--system", "", "--max_tokens", "50"],
    ];
    for (at, change) in changes.iter().enumerate() {
        let prompt = format!("question changed {at} {}", "and more ".repeat(8));
        env.chat(&prompt).session(&id).args(*change).run().ok();
        for more in 0..3 {
            let prompt = format!("question then {at} {more} {}", "and more ".repeat(8));
            let run = env.chat(&prompt).session(&id).args(["--max_tokens", "50"]);
            run.run().ok();
        }
    }
    let refused = serde_json::json!({"error": {"type": "exceed_context_size_error",
        "code": 400, "message": "m", "n_prompt_tokens": 700, "n_ctx": 512}});
    let again = Reply::error(400, &refused.to_string());
    env.chat("question refused")
        .session(&id)
        .answered(again)
        .run()
        .ok();
    // What came after a turn was not in force for it.
    let lines = env.lines(&id);
    let strategies = lines
        .iter()
        .filter(|l| l["type"] == "prune")
        .map(|l| &l["strategy"]);
    let strategies: Vec<&str> = strategies.filter_map(Value::as_str).collect();
    for strategy in ["fifo", "importance", "summarize"] {
        assert!(strategies.contains(&strategy), "{strategies:?}");
    }
    let requests = env.server().requests();
    let mut shown_turns = 0;
    for turn in lines.iter().filter(|line| line["type"] == "turn") {
        let prompt = turn["prompt"].as_str().expect("a prompt");
        let sent = requests
            .iter()
            .rfind(|r| !is_summary(r) && r.last_user() == prompt);
        let sent = sent.expect("it was asked");
        let output = show(&env, &id, turn["id"].as_str().expect("an id"));
        let shown = raw(&output);
        let body = String::from_utf8_lossy(&sent.body);
        assert_eq!(shown["request"].get(), body, "{prompt}");
        let json = output.json();
        assert_eq!(json["exact"], true, "{prompt}");
        assert_eq!(json["turn"], turn["id"]);
        assert_eq!(
            json["messages"].as_array().map(Vec::len),
            Some(sent.roles().len())
        );
        shown_turns += 1;
    }
    assert_eq!(shown_turns, 6 + 2 + 7 * 4 + 1);
    let newest = env
        .command()
        .args(["session", "show", &id, "--context"])
        .run();
    let body = String::from_utf8_lossy(&requests[requests.len() - 1].body).into_owned();
    assert_eq!(raw(&newest)["request"].get(), body);
}

#[test]
fn what_cannot_be_known_any_more_is_not_called_exact() {
    let env = TestEnv::new();
    env.server().handle(honest);
    let id = talk(&env, 0, 3);
    let log = env.log(&id);
    let gone = log.lines().find(|line| line.contains("question 1 "));
    let without = log.replace(&format!("{}\n", gone.expect("a turn")), "");
    env.write(env.log_path(&id), without);
    let newest = env
        .command()
        .args(["session", "show", &id, "--context"])
        .run();
    assert_eq!(newest.ok().json()["exact"], false);
}

#[test]
fn a_model_set_while_a_turn_was_under_way_is_not_the_one_that_was_asked() {
    let env = TestEnv::new();
    let id = talk(&env, 0, 1);
    let gate = Gate::new();
    let held = Reply::text("slow").held_by(&gate);
    let mut late = env
        .chat("question late")
        .session(&id)
        .answered(held)
        .spawn();
    late.wait_for_request();
    let sent = env.server().last_request();
    env.chat("other")
        .session(&id)
        .args(["--model", "x"])
        .run()
        .ok();
    gate.open();
    late.wait().ok();
    let newest = env
        .command()
        .args(["session", "show", &id, "--context"])
        .run();
    let body = String::from_utf8_lossy(&sent.body).into_owned();
    assert_eq!(raw(&newest)["request"].get(), body);
    assert_eq!(newest.json()["exact"], true);
}

#[test]
fn a_turn_that_is_not_there_cannot_be_shown() {
    let env = TestEnv::new();
    let id = talk(&env, 0, 1);
    show(&env, &id, "01KAG4ZZZZZZZZZZZZZZZZZZZZ").fails(3, "session_not_found");
    show(&env, &id, "1").fails(2, "usage");
}

/// Takes turns from `first` on, the model `m` being asked.
fn talk(env: &TestEnv, first: usize, turns: usize) -> String {
    let mut id = String::new();
    for turn in first..first + turns {
        let prompt = format!("question {turn} {}", "alpha beta ".repeat(turn % 5));
        let run = env.chat(&prompt).args(["--durability", "relaxed"]);
        let run = match turn {
            0 => run.args(["--model", "m"]),
            _ => run.session(&id),
        };
        id = run.run().session_id();
    }
    id
}

/// Compares a dry run with the run itself.
#[track_caller]
fn would_and_does<'a>(env: &'a TestEnv, run: impl Fn() -> Run<'a>) {
    let (before, asked) = (env.snapshot(), env.server().request_count());
    let shows = env.server().count_of("/api/show");
    let would = run().arg("--dry-run").run();
    would.ok();
    assert_eq!(env.snapshot(), before, "nothing is written\n{would}");
    assert_eq!(env.server().request_count(), asked, "nobody is asked");
    assert_eq!(env.server().count_of("/api/show"), shows, "nobody is asked");
    run().run().ok();
    let sent = env.server().last_request();
    let body = String::from_utf8_lossy(&sent.body);
    assert_eq!(raw(&would)["request"].get(), body, "{would}");
    let json = would.json();
    assert_eq!(json["dry_run"], true);
    assert_eq!(json["url"], format!("{}/api/chat", env.server().url()));
    assert_eq!(&json["context_plan"]["num_ctx"], sent.option("num_ctx"));
}

fn show(env: &TestEnv, id: &str, turn: &str) -> Output {
    let context = format!("--context={turn}");
    env.command().args(["session", "show", id, &context]).run()
}

/// Returns the values of what was printed, each as its bytes.
#[track_caller]
fn raw(output: &Output) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(output.ok().stdout()).expect("an object")
}
