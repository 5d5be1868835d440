//! Very long sessions, very large contexts, text that is hard to count: a turn costs its context
//! and not its history, and no request is larger than it may be.

use ollama_prompt::session::event::{
    Body, Event, Header, Settings, Timestamp, Tokens, Turn, VERSION,
};
use ollama_prompt::session::event::{Counted, Sent, Usage};
use ollama_prompt::session::id::EventId;

use crate::support::{Output, Reply, Request, Run, TestEnv, counted, honest};

const ID: &str = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";

#[test]
fn a_session_of_10_000_turns_goes_on_and_only_its_end_is_read() {
    let env = TestEnv::new();
    env.server().handle(honest);
    write_session(&env, 10_000);
    let output = env.chat("and now?").session(ID).arg("-v").run();
    let json = output.ok().json();
    let usage = &json["context_usage"];
    let kept = usage["kept_turns"].as_u64().expect("a number");
    assert!((100..10_000).contains(&kept), "{usage}");
    assert_eq!(usage["dropped_turns"], 10_000 - kept);
    assert_eq!(loaded(&output), "0");
    damage_turn(&env, 5000);
    for turn in 1..=3 {
        let output = env.chat("go on").session(ID).arg("-v").run();
        let json = output.ok().json();
        assert_eq!(json.get("warnings"), None, "the middle is not read");
        assert_eq!(json["context_usage"]["kept_turns"], kept + turn);
        assert_eq!(json["context_usage"]["dropped_turns"], 10_000 - kept);
        assert_eq!(loaded(&output), "0");
    }
    let info = env.command().args(["--session-info", ID]).run();
    assert_eq!(info.ok().json()["message_count"], 2 * (10_000 + 4 - 1));
}

#[test]
fn an_ordinary_turn_loads_no_vocabulary_not_even_late_in_a_session() {
    let env = TestEnv::new();
    env.server().handle(honest);
    write_session(&env, 1000);
    let late = env.chat("and now?").session(ID).arg("-v").run();
    let new = ask(&env, "hello").arg("-v").run();
    let stateless = ask(&env, "hello").args(["-v", "--no-session"]).run();
    for output in [late, new, stateless] {
        output.ok();
        assert_eq!(loaded(&output), "0", "{output}");
    }
}

#[test]
fn a_vocabulary_is_loaded_once_where_the_answer_hangs_on_it() {
    let env = TestEnv::new();
    env.server().set_context_length(131_072);
    let prompt = "The quick brown fox jumps over it. ".repeat(50_000 / 35);
    let run = ask(&env, "-").stdin(prompt.clone());
    let output = run.args(["-v", "--max-context-tokens", "20000"]).run();
    output.ok();
    assert_eq!(loaded(&output), "1");
    let fits = ask(&env, "-").stdin(prompt).arg("-v").run();
    assert_eq!(loaded(&fits), "0", "it fits the 64 000 whatever it has");
}

#[test]
fn text_that_is_hard_to_count_is_counted_in_the_end_and_never_too_low() {
    // What a server could count at the least, and whether it may be sent.
    let base64: String = dense(200_000);
    let rows = [
        ("one word", "a".repeat(200_000), 12_500, Some(true)),
        ("base64", base64, 100_000, Some(false)),
        ("chinese", "漢字仮名交文".repeat(8000), 30_000, Some(true)),
        ("emoji", "🦀🎉👩\u{200d}🚀".repeat(12_000), 80_000, None),
        (
            "spaces",
            format!("x{}", " ".repeat(200_000)),
            1500,
            Some(true),
        ),
        (
            "line ends",
            format!("x{}", "\r\n".repeat(100_000)),
            1500,
            None,
        ),
    ];
    for (name, text, at_least, may_be_sent) in rows {
        let env = TestEnv::new();
        env.server().set_context_length(131_072);
        let run = || {
            let run = ask(&env, "-").stdin(text.clone());
            run.args(["--max-context-tokens", "100000"])
        };
        let plan = run().arg("--dry-run").run();
        if let Some(expected) = may_be_sent {
            assert_eq!(plan.exit_code() == Some(0), expected, "{name}: {plan}");
        }
        if plan.exit_code() == Some(0) {
            let tokens = plan.json()["context_plan"]["tokens"].as_u64();
            let tokens = tokens.expect("a number");
            assert!(
                (at_least..=100_000 - 2048).contains(&tokens),
                "{name}: {tokens}"
            );
            let id = run().run().session_id();
            env.chat("and?").session(&id).run().ok();
            assert!(!env.server().last_request().contents().is_empty());
        } else {
            run().run().fails(6, "context_overflow");
            assert_eq!(env.server().request_count(), 0, "{name}");
        }
    }
}

#[test]
fn a_message_larger_than_the_budget_is_refused_saying_by_how_much() {
    let env = TestEnv::new();
    let text = dense(5000);
    let small = ["--max-context-tokens", "1000", "--max_tokens", "100"];
    for more in [&[][..], &["--no-session"], &["--dry-run"]] {
        let output = ask(&env, &text).args(small).args(more).run();
        let failure = output.fails(6, "context_overflow");
        let numbers: Vec<u64> = failure
            .error
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let [tokens, budget, limit, too_many] = numbers[..] else {
            panic!("{}", failure.error)
        };
        assert_eq!((budget, limit), (1000, 900));
        assert_eq!(too_many, tokens - limit);
        assert!(tokens > 2000, "{tokens}");
        assert!(!failure.retryable);
    }
    assert_eq!(env.server().request_count(), 0);
    assert_eq!(env.server().count_of("/api/show"), 0);
}

#[test]
fn a_context_of_300_000_tokens_is_used() {
    let env = TestEnv::new();
    env.server().set_context_length(1_000_000);
    env.server()
        .handle(|request: &Request| counted(request, "I have read it."));
    let text = "some words to read ".repeat(13_000);
    let wide = ["-v", "--max-context-tokens", "300000"];
    let first = ask(&env, "-").stdin(text.clone()).args(wide).run();
    let id = first.session_id();
    assert_eq!(loaded(&first), "0");
    assert_eq!(env.server().last_request().option("num_ctx"), 262_144);
    let second = env
        .chat("-")
        .stdin(text.clone())
        .session(&id)
        .arg("-v")
        .run();
    let usage = &second.ok().json()["context_usage"];
    assert_eq!(usage["kept_turns"], 1, "{usage}");
    assert!(usage["sent_tokens"].as_u64() > Some(180_000), "{usage}");
    let sent = env.server().last_request();
    assert_eq!(sent.contents()[0], text);
    assert_eq!(sent.option("num_ctx"), 262_144, "{usage}");
}

/// Prose teaches few tokens a byte; text that has three times as many must not be taken for it.
#[test]
fn what_prose_teaches_is_not_believed_of_dense_text() {
    let env = TestEnv::new();
    env.server().handle(|request: &Request| {
        let text = "I see, and there is more to say about that. ".repeat(3);
        let tokens = byte_tokens(request);
        Reply::text(&*text)
            .in_one_chunk()
            .counts(tokens, quarter(&text))
    });
    let small = ["--max-context-tokens", "2000", "--max_tokens", "100"];
    let mut id = String::new();
    for turn in 0..9 {
        let prompt = "Tell me something about the history of bread in the north. ".repeat(4);
        let run = ask(&env, &prompt).args(small);
        let run = if turn == 0 { run } else { run.session(&id) };
        id = run.run().session_id();
    }
    let text = dense(1500);
    let output = env.chat(&text).session(&id).args(small).run();
    output.ok();
    env.chat("And now in plain words?")
        .session(&id)
        .args(small)
        .run()
        .ok();
    for (at, request) in env.server().requests().iter().enumerate() {
        let tokens = byte_tokens(request);
        assert!(tokens + 100 <= 2000, "request {at}: {tokens}");
    }
    assert_eq!(env.server().request_count(), 11, "none was asked twice");
    let last = &env.server().requests()[9];
    assert!(byte_tokens(last) > 1100, "the dense one was sent");
}

#[test]
fn what_needs_no_count_loads_no_vocabulary() {
    let env = TestEnv::new();
    let id = env
        .chat(&"some words to count ".repeat(2000))
        .replies("ok")
        .session_id();
    let calls: [&[&str]; 4] = [
        &["--list-sessions"],
        &["--session-info", &id],
        &["session", "show", &id, "--context"],
        &["--purge", "0"],
    ];
    for call in calls {
        let output = env.command().args(call).arg("-v").run();
        assert_eq!(loaded(output.ok()), "0", "{call:?}");
    }
}

fn ask<'a>(env: &'a TestEnv, prompt: &str) -> Run<'a> {
    env.chat(prompt).args(["--model", "m"])
}

/// Returns how many vocabularies a run says it loaded.
#[track_caller]
fn loaded(output: &Output) -> String {
    let after = output.stderr().split("vocabularies loaded: ").nth(1);
    let said = after.and_then(|text| text.lines().next());
    said.unwrap_or_else(|| panic!("it does not say\n{output}"))
        .to_owned()
}

/// Returns text without a pattern, the same every time.
fn dense(length: usize) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 88_172_645_463_325_252_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(letters[usize::try_from(state >> 58).unwrap_or(0)])
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn quarter(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

/// A token for four bytes of prose, three for four of text without spaces.
fn byte_tokens(request: &Request) -> u64 {
    let cost = |text: &String| match text.contains(' ') {
        true => quarter(text),
        false => (text.len() as u64 * 3).div_ceil(4),
    };
    request
        .contents()
        .iter()
        .map(|text| cost(text) + 5)
        .sum::<u64>()
        + 3
}

/// Writes a log of so many measured turns, without a horizon, as another program would.
fn write_session(env: &TestEnv, turns: u64) {
    let settings = Settings {
        model: Some("m".into()),
        max_context_tokens: Some(64_000),
        ..Settings::default()
    };
    let header = Body::Session(Header {
        app: None,
        imported: None,
        forked_from: None,
        settings,
    });
    let mut log = String::new();
    let mut highest = None;
    for at in 0..=turns {
        let body = match at {
            0 => header.clone(),
            _ => Body::Turn(Box::new(turn(at, highest.filter(|_| at > 1)))),
        };
        let ms = 1_700_000_000_000 + at;
        let id = EventId::next(ms, highest, 7);
        let event = Event {
            v: VERSION,
            id,
            ts: Timestamp::from_ms(ms),
            at: Some(log.len() as u64),
            body,
        };
        log.push_str(&event.to_line());
        log.push('\n');
        highest = Some(id);
    }
    env.write(env.log_path(ID), log);
}

fn turn(at: u64, parent: Option<EventId>) -> Turn {
    Turn {
        parent,
        model: "m".into(),
        prompt: format!("question {at} about this and that"),
        response: "an answer in some words".into(),
        done_reason: Some("stop".into()),
        usage: Usage {
            prompt_eval_count: Some(5000),
            eval_count: Some(12),
            ..Usage::default()
        },
        tokens: Tokens {
            prompt: 20,
            response: 12,
            counted: Counted::Measured,
        },
        sent: Sent {
            from: parent,
            turns: 100,
            messages: 201,
            bytes: 20_000,
            images: 0,
            num_ctx: Some(65_536),
        },
        ..Turn::default()
    }
}

/// Makes the line of a turn unreadable, so that whoever reads it says so.
fn damage_turn(env: &TestEnv, at: usize) {
    let log = env.log(ID);
    let line = log.lines().nth(at).expect("a line");
    env.write(env.log_path(ID), log.replace(line, &"#".repeat(line.len())));
}
