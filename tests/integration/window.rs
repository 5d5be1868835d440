//! The window a model really has: asked for once a day and no more, made use of, corrected by a
//! server that refuses, and never a reason for a turn to fail by itself.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Output, Reply, Run, TestEnv, count_of_request, honest};

#[test]
fn a_model_is_asked_about_once_and_remembered_across_runs_and_sessions() {
    let env = TestEnv::new();
    let id = ask(&env, "one").run().session_id();
    assert_eq!(asked(&env), 1);
    ask(&env, "two").session(&id).run().ok();
    env.chat("three").session(&id).run().ok();
    ask(&env, "four").run().ok();
    assert_eq!(asked(&env), 1, "the same model");
    env.chat("five").args(["--model", "other"]).run().ok();
    assert_eq!(asked(&env), 2, "another model");
    let known = remembered(&env);
    let lengths: Vec<&Value> = known.as_object().map_or(Vec::new(), |models| {
        models
            .values()
            .map(|model| &model["context_length"])
            .collect()
    });
    assert_eq!(lengths, [32_768, 32_768], "{known}");
}

/// A model changed under its name has to be loaded, and the reply says how long that took.
#[test]
fn a_model_that_was_loaded_anew_is_asked_about_again() {
    let env = TestEnv::new();
    let line = |text: &str, load: u64| {
        let done = format!(
            r#"{{"model":"m","message":{{"role":"assistant","content":"{text}"}},"done":true,"done_reason":"stop","load_duration":{load},"prompt_eval_count":20,"eval_count":5}}"#
        );
        Reply::json(&serde_json::from_str(&done).expect("JSON"))
    };
    let asked = |reply: Reply, session: Option<&str>| {
        let run = env.chat("hello").args(["--model", "m"]).answered(reply);
        let run = session.into_iter().fold(run, |run, id| run.session(id));
        let id = run.run().session_id();
        (id, env.server().count_of("/api/show"))
    };
    let (id, first) = asked(line("loaded just now", 2_500_000_000), None);
    assert_eq!(first, 1);
    assert_eq!(
        asked(line("it was there", 40_000_000), Some(&id)).1,
        2,
        "asked again after a load"
    );
    assert_eq!(
        asked(line("it was there", 40_000_000), Some(&id)).1,
        2,
        "and then no more"
    );
}

#[test]
fn a_model_is_asked_about_again_after_a_day_and_the_new_window_counts() {
    let env = TestEnv::new();
    let id = ask(&env, "one").run().session_id();
    assert_eq!(env.server().last_request().option("num_ctx"), 4096);
    env.server().set_context_length(2048);
    ask(&env, "two").session(&id).run().ok();
    assert_eq!(env.server().last_request().option("num_ctx"), 4096);
    a_day_passes(&env);
    let output = env.chat("three").session(&id).arg("-v").run();
    output.ok();
    assert_eq!(asked(&env), 2);
    assert_eq!(env.server().last_request().option("num_ctx"), 2048);
    assert!(output.stderr().contains("of 2048"), "{output}");
    env.chat("four").session(&id).run().ok();
    assert_eq!(asked(&env), 2, "remembered again");
}

#[test]
fn a_call_that_writes_nothing_does_not_ask() {
    for flag in ["--no-session", "--dry-run", "--offline"] {
        let env = TestEnv::new();
        ask(&env, "hello").arg(flag).run().ok();
        assert_eq!(asked(&env), 0, "{flag}");
    }
}

#[test]
fn a_call_that_writes_nothing_makes_use_of_what_is_remembered_however_old() {
    let env = TestEnv::new();
    env.server().set_context_length(2048);
    ask(&env, "hello").run().ok();
    for days in ["today", "later"] {
        ask(&env, "again").arg("--no-session").run().ok();
        assert_eq!(
            env.server().last_request().option("num_ctx"),
            2048,
            "{days}"
        );
        let plan = ask(&env, "again").arg("--dry-run").run().ok().json();
        assert_eq!(plan["context_plan"]["num_ctx"], 2048, "{days}");
        a_day_passes(&env);
    }
    assert_eq!(asked(&env), 1);
}

#[test]
fn a_server_that_does_not_say_ends_no_turn() {
    let rows = [
        ("an error", Reply::error(500, "no")),
        ("a page", Reply::html(502)),
        ("a page that went well", Reply::html(200)),
        ("an unknown path", Reply::recorded("unknown-path")),
        ("no window", Reply::json(&json!({"model_info": {}}))),
        ("something else", Reply::json(&json!([1, 2]))),
    ];
    for (name, reply) in rows {
        let env = TestEnv::new();
        env.server().answer_path("/api/show", reply);
        let output = ask(&env, "hello").run();
        assert_eq!(output.ok().json()["response"], "reply to: hello", "{name}");
        let sent = env.server().last_request();
        assert_eq!(sent.option("num_ctx"), 4096, "{name}");
    }
}

#[test]
fn what_was_remembered_holds_while_the_server_does_not_say() {
    let env = TestEnv::new();
    env.server().set_context_length(2048);
    let id = ask(&env, "one").run().session_id();
    a_day_passes(&env);
    env.server()
        .answer_path("/api/show", Reply::error(500, "no"));
    env.chat("two").session(&id).run().ok();
    assert_eq!(asked(&env), 2);
    assert_eq!(env.server().last_request().option("num_ctx"), 2048);
}

#[test]
fn a_model_that_is_not_there_ends_the_turn_before_the_chat_and_keeps_the_draft() {
    let env = TestEnv::new();
    let missing = Reply::error(404, "model 'm:latest' not found");
    env.server().answer_path("/api/show", missing);
    ask(&env, "hello").run().fails(5, "model_not_found");
    assert_eq!(env.server().request_count(), 0);
    let drafts = env.drafts();
    assert_eq!(drafts.len(), 1);
    assert_eq!(drafts[0]["prompt"], "hello");
    assert!(drafts[0]["error"].is_object(), "{}", drafts[0]);
}

#[test]
fn a_window_smaller_than_the_budget_is_the_budget() {
    let env = TestEnv::new();
    env.server().handle(honest);
    env.server().set_context_length(1000);
    let mut id = ask(&env, "question").run().session_id();
    for turn in 0..25 {
        let prompt = format!("question {turn}: {}", "alpha beta ".repeat(turn % 7));
        let run = env.chat(&prompt).session(&id);
        id = run.args(["--max_tokens", "150"]).run().session_id();
        let sent = env.server().last_request();
        assert_eq!(sent.option("num_ctx"), 1000, "turn {turn}");
        let tokens = count_of_request(&sent);
        assert!(tokens + 150 <= 1000, "turn {turn}: {tokens}");
    }
    let prunes = env.lines(&id);
    let prune = prunes.iter().rfind(|line| line["type"] == "prune");
    assert_eq!(prune.expect("it was pruned")["budget"], 1000);
}

#[test]
fn a_damaged_memory_of_models_costs_a_question_and_nothing_else() {
    let long = format!("{{\"x\": \"{}\"}}", "y".repeat(2 << 20));
    let rows = ["", "garbage", "[]", "{\"http", "{\"a\": 3}", "\u{0}", &long];
    for damage in rows {
        let env = TestEnv::new();
        ask(&env, "one").run().ok();
        env.write(models_path(&env), damage);
        let output = ask(&env, "two").run();
        let name: String = damage.chars().take(20).collect();
        assert_eq!(output.ok().json().get("warnings"), None, "{name}");
        assert_eq!(asked(&env), 2, "{name}");
        ask(&env, "three").run().ok();
        assert_eq!(asked(&env), 2, "{name}: it is put right");
    }
}

#[test]
fn a_memory_that_cannot_be_written_costs_a_question_and_nothing_else() {
    for in_the_way in ["cache", "cache/models.json/x"] {
        let env = TestEnv::new();
        env.write(env.store().join(in_the_way), "in the way");
        for turn in 1..=2 {
            let output = ask(&env, "hello").run();
            assert_eq!(output.ok().json().get("warnings"), None, "{in_the_way}");
            assert_eq!(asked(&env), turn, "{in_the_way}");
        }
        let left = env.files();
        let temporary = left
            .iter()
            .find(|f| f.display().to_string().contains("tmp"));
        assert_eq!(temporary, None, "{in_the_way}");
    }
}

#[test]
fn a_request_refused_for_its_length_is_made_shorter_once_and_the_window_is_remembered() {
    let env = TestEnv::new();
    let id = talk(&env, 12);
    env.server().enqueue(Reply::recorded("ctx-truncate-false"));
    let before = env.server().request_count();
    let output = env.chat("and now?").session(&id).run();
    let warnings = output.ok().json()["warnings"].to_string();
    assert!(
        warnings.contains("406 tokens for a window of 256"),
        "{warnings}"
    );
    let requests = env.server().requests();
    let [refused, taken] = &requests[before..] else {
        panic!("{} chats", requests.len() - before);
    };
    assert_eq!(refused.option("num_ctx"), 4096);
    assert_eq!(taken.option("num_ctx"), 256);
    assert_eq!(taken.last_user(), "and now?");
    assert!(taken.roles().len() < refused.roles().len());
    assert!(taken.roles().len() >= 3, "the newest turn stays");
    let models = remembered(&env);
    let known = models.as_object().and_then(|models| models.values().next());
    assert_eq!(
        known.map(|model| &model["context_length"]),
        Some(&json!(256))
    );

    let output = env.chat("so?").session(&id).run();
    let warnings = output.ok().json()["warnings"].to_string();
    assert!(!warnings.contains("refused"), "{warnings}");
    assert_eq!(env.server().request_count(), before + 3);
    assert_eq!(env.server().last_request().option("num_ctx"), 256);
    assert_eq!(asked(&env), 1, "the window was learned without a question");
}

#[test]
fn counts_that_were_too_low_lead_to_a_larger_window() {
    let env = TestEnv::new();
    let id = talk(&env, 3);
    env.server().enqueue(refused(5000, 4096));
    let before = env.server().request_count();
    env.chat("and now?").session(&id).run().ok();
    let requests = env.server().requests();
    assert_eq!(requests.len(), before + 2);
    let (first, second) = (&requests[before], &requests[before + 1]);
    assert_eq!(first.contents(), second.contents(), "all of it fits");
    assert_eq!(second.option("num_ctx"), 8192);
    let models = remembered(&env).to_string();
    assert!(
        models.contains("32768"),
        "the model's own is known: {models}"
    );
}

#[test]
fn a_request_refused_twice_is_an_overflow_and_no_third_is_made() {
    let env = TestEnv::new();
    let id = talk(&env, 12);
    let log = env.log(&id);
    env.server().enqueue(refused(406, 256));
    env.server().enqueue(refused(300, 256));
    let before = env.server().request_count();
    let output = env.chat("and now?").session(&id).run();
    output.fails(6, "context_overflow");
    assert_eq!(env.server().request_count(), before + 2);
    assert_eq!(env.log(&id), log, "nothing is stored");
    assert_eq!(env.drafts()[0]["prompt"], "and now?");
}

#[test]
fn a_request_of_one_message_that_is_refused_cannot_be_made_shorter() {
    let env = TestEnv::new();
    env.server().enqueue(Reply::recorded("ctx-truncate-false"));
    let output = ask(&env, "one message").arg("--no-session").run();
    let failure = output.fails(6, "context_overflow");
    assert!(failure.json.to_string().contains("406"), "{output}");
    assert_eq!(env.server().request_count(), 1);
}

#[test]
fn a_model_in_the_cloud_has_its_own_window_and_nothing_is_cut_anywhere() {
    let rows = [("glm-4.6:cloud", Value::Null), ("m", json!(4096))];
    for (model, num_ctx) in rows {
        let env = TestEnv::new();
        env.chat("hello").args(["--model", model]).run().ok();
        let sent = env.server().last_request();
        assert_eq!(sent.option("num_ctx"), &num_ctx, "{model}");
        assert_eq!(sent.json["truncate"], false, "{model}");
        assert_eq!(sent.json["shift"], false, "{model}");
    }
}

#[test]
fn a_continued_conversation_that_the_server_cut_is_found_out() {
    let env = TestEnv::new();
    let first = Reply::text("yes").counts(1000, 200);
    let id = ask(&env, "hello").answered(first).run().session_id();
    let rows = [(1215, false), (1300, false), (700, true)];
    for (read, is_cut) in rows {
        let reply = Reply::text("yes").counts(read, 1);
        let output = env.chat("more").session(&id).answered(reply).run();
        let usage = &output.ok().json()["context_usage"];
        assert_eq!(usage["truncated_by_server"], is_cut, "{read}");
    }
}

#[test]
fn the_window_asked_for_does_not_shrink_within_a_session() {
    let env = TestEnv::new();
    let long = ["--max_tokens", "6000"];
    let id = ask(&env, "one").args(long).run().session_id();
    assert_eq!(env.server().last_request().option("num_ctx"), 8192);
    env.chat("two").session(&id).run().ok();
    assert_eq!(env.server().last_request().option("num_ctx"), 8192);
    let own = ["--option", "num_ctx=16384"];
    env.chat("three").session(&id).args(own).run().ok();
    assert_eq!(env.server().last_request().option("num_ctx"), 16_384);
}

fn ask<'a>(env: &'a TestEnv, prompt: &str) -> Run<'a> {
    env.chat(prompt).args(["--model", "m"])
}

/// Takes so many turns, of a few tokens each.
fn talk(env: &TestEnv, turns: usize) -> String {
    env.server().handle(honest);
    let id = ask(env, "hello").run().session_id();
    (1..turns).fold(id, |id, turn| {
        let output: Output = env.chat(&format!("and {turn}?")).session(&id).run();
        output.session_id()
    })
}

fn refused(tokens: u64, window: u64) -> Reply {
    let cause = json!({"error": {
        "code": 400, "message": "too long", "type": "exceed_context_size_error",
        "n_prompt_tokens": tokens, "n_ctx": window,
    }});
    Reply::error(400, &cause.to_string())
}

fn asked(env: &TestEnv) -> usize {
    env.server().count_of("/api/show")
}

fn models_path(env: &TestEnv) -> PathBuf {
    env.store().join("cache/models.json")
}

fn remembered(env: &TestEnv) -> Value {
    let bytes = std::fs::read(models_path(env)).expect("models are remembered");
    serde_json::from_slice(&bytes).expect("as JSON")
}

/// Lets what is remembered of models be of long ago.
fn a_day_passes(env: &TestEnv) {
    let mut models = remembered(env);
    for model in models.as_object_mut().expect("models").values_mut() {
        model["asked_at"] = "2020-02-02T02:02:02.000Z".into();
    }
    env.write(models_path(env), models.to_string());
}
