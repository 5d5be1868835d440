//! What a caller hands over: descriptors that are closed, an input that is silent, prompts of any
//! size and of any characters, which come back as they went in.

use crate::stored::info;
use crate::support::{Reply, TestEnv};

/// Everything that is hard to print: NUL, escapes, line ends of every kind, right to left,
/// combining and joined characters, noncharacters, what looks like an event.
const ODD: &str = "nul \0 esc \u{1b}[31m bel \u{7} del \u{7f} c1 \u{9b}2J nel \u{85} ls \u{2028} \
                   ps \u{2029} crlf \r\n cr \r tab \t rtl \u{202e}עברית العربية\u{202c} e\u{301} \
                   \u{1f468}\u{200d}\u{1f469} bom \u{feff} non \u{ffff} \u{10ffff} {\"v\":1} \\u0000 \u{fffd}";

#[test]
fn any_characters_come_back_as_they_went_in() {
    let env = TestEnv::new();
    let file = env.write("odd.txt", ODD);
    let by_file = env
        .command()
        .arg("--prompt-file")
        .arg(&file)
        .args(["--session-key", "f"]);
    let by_pipe = env.chat("-").stdin(ODD).args(["--session-key", "p"]);
    for turn in [by_file, by_pipe] {
        let output = turn.answered(Reply::text(ODD)).run();
        let id = output.session_id();
        assert_eq!(output.json()["response"], ODD);
        assert_eq!(env.server().last_request().contents(), [ODD]);
        let stored = &env.lines(&id)[1];
        assert_eq!(
            (&stored["prompt"], &stored["response"]),
            (&ODD.into(), &ODD.into())
        );
        let shown = info(&env, &id);
        assert_eq!(shown["messages"][0]["content"], ODD);
        assert_eq!(shown["messages"][1]["content"], ODD);
        let raw = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}');
        assert!(!env.log(&id).contains(raw));
        assert!(!output.stdout().contains(raw));
        // And what the model is told of them later is the same.
        env.chat("next").session(&id).run().ok();
        assert_eq!(env.server().last_request().contents(), [ODD, ODD, "next"]);
    }
}

#[test]
fn a_prompt_of_ten_megabytes_comes_from_a_file_and_from_a_pipe() {
    let env = TestEnv::new();
    env.server().set_context_length(1 << 25);
    let large = "some words of it\n".repeat((10 << 20) / 17);
    let file = env.write("large.txt", &large);
    let budget = ["--max-context-tokens", "30000000"];
    let by_file = env.command().arg("--prompt-file").arg(&file).args(budget);
    let id = by_file.replies("read").session_id();
    assert!(env.server().last_request().contents() == [large.as_str()]);
    assert!(env.lines(&id)[1]["prompt"] == large.as_str());
    let by_pipe = env.chat("-").stdin(large.as_str()).args(budget);
    by_pipe.replies("read").ok();
    assert!(env.server().last_request().contents() == [large.as_str()]);
}

#[test]
fn halves_of_surrogate_pairs_in_a_reply_are_replaced_and_told() {
    let env = TestEnv::new();
    let headers =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n";
    let line = |content: &str, done: bool| {
        format!(
            "{{\"model\":\"m\",\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\"}},\"done\":{done}}}\n"
        )
    };
    let reply = [
        headers.to_owned(),
        line(r"a\ud83eb", false),
        line(r"\udd80c", false),
        line("", true),
    ];
    let output = env.chat("hi").answered(Reply::raw(reply.concat())).run();
    let json = output.ok().json();
    assert_eq!(json["response"], "a\u{fffd}b\u{fffd}c");
    assert!(
        json["warnings"][0]
            .as_str()
            .is_some_and(|w| w.contains("U+FFFD"))
    );
    let id = output.session_id();
    assert_eq!(env.lines(&id)[1]["response"], "a\u{fffd}b\u{fffd}c");
}

#[test]
fn closed_descriptors_take_no_file_and_no_file_takes_what_is_printed() {
    let env = TestEnv::new();
    let mut ids = Vec::new();
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let script = format!("exec \"$0\" \"$@\" {closed}");
        let turn = env
            .chat("hi")
            .args(["--session-key", closed, "-v", "--offline"]);
        let output = turn.through(["sh", "-c", &script]).run();
        assert_eq!(output.exit_code(), Some(0), "{closed}: {output}");
        if !closed.contains(" >&-") && !closed.starts_with('>') {
            ids.push(output.session_id());
        }
    }
    assert_eq!(ids.len(), 2);
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 4, "each is stored");
    for session in list["sessions"].as_array().expect("sessions") {
        let id = session["session_id"].as_str().expect("an id");
        assert_eq!(
            env.lines(id).len(),
            2,
            "its log has its two events and no more"
        );
    }
    let verify = env.command().args(["session", "verify"]).run();
    assert_eq!(verify.ok().json()["problems"], serde_json::json!([]));
    // A failure has nowhere to go; its status is all there is.
    let script = "exec \"$0\" \"$@\" <&- >&- 2>&-";
    let failing = env
        .chat("hi")
        .session("0123456789")
        .through(["sh", "-c", script]);
    assert_eq!(failing.run().exit_code(), Some(3));
}

#[test]
fn an_input_that_is_closed_or_ends_at_once_is_an_empty_prompt() {
    let env = TestEnv::new();
    let script = "exec \"$0\" \"$@\" <&-";
    let closed = env.chat("-").through(["sh", "-c", script]).run();
    let null = env.chat("-").stdin_null().run();
    for output in [closed, null] {
        assert!(output.fails(2, "usage").error.contains("empty"), "{output}");
    }
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn an_input_that_is_open_and_silent_is_not_waited_for() {
    let env = TestEnv::new();
    env.chat("hi").stdin_open().run().ok();
    let file = env.write("p.txt", "hi");
    env.command()
        .arg("--prompt-file")
        .arg(file)
        .stdin_open()
        .run()
        .ok();
    for args in [
        &["--list-sessions"][..],
        &["session", "verify"],
        &["--help"],
    ] {
        env.command().args(args).stdin_open().run().ok();
    }
}
