//! The four forms of `--output`: what each prints while the server speaks, of a call that fails,
//! of a turn that is stored and cannot be printed, and of one that is printed and not stored.

use std::fs::OpenOptions;

use serde_json::{Value, json};

use crate::stored::{id, make_session, prompts};
use crate::support::{Gate, Reply, Run, TestEnv};

const FORMS: [&str; 4] = ["json", "compact", "jsonl", "text"];

/// A model that says these pieces, each in a line of its own.
fn says(pieces: &[&str]) -> Reply {
    let line = |content: &str, done: bool| {
        let message = json!({"role": "assistant", "content": content});
        let line = json!({"model": "m", "message": message, "done": done, "done_reason": "stop"});
        format!("{line}\n")
    };
    let said: String = pieces.iter().map(|piece| line(piece, false)).collect();
    let headers = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
                   Connection: close\r\n\r\n";
    Reply::raw(format!("{headers}{said}{}", line("", true)))
}

#[test]
fn each_line_of_jsonl_is_there_before_the_next_is_sent() {
    let env = TestEnv::new();
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let mut reply = Reply::text("one two three four");
    for (n, gate) in gates.iter().enumerate() {
        reply = reply.pause_after_chunks(n + 1, gate);
    }
    let turn = env.chat("count").args(["--output", "jsonl"]);
    let mut run = turn.answered(reply).spawn();
    for (gate, word) in gates.iter().zip(["one ", "two ", "three "]) {
        gate.wait_until_reached();
        run.wait_for_stdout(&format!("\"response\":\"{word}\",\"done\":false}}\n"));
        gate.open();
    }
    let output = run.wait();
    let lines = output.ok().json_lines();
    assert_eq!(
        lines.len(),
        6,
        "four pieces, the end of the stream, the whole"
    );
    assert_eq!(lines[5]["response"], "one two three four");
    assert!(output.stdout().ends_with("}\n"));
}

#[test]
fn a_control_sequence_cut_across_pieces_reaches_no_terminal() {
    let env = TestEnv::new();
    let pieces = [
        "a\u{1b}",
        "[31mred\u{1b}]0;ti",
        "tle\u{7}",
        "\u{9b}",
        "2Jb\u{202e}",
        "c\r",
        "\nd",
    ];
    let run = |form: &str| {
        let turn = env.chat("hi").args(["--output", form]);
        turn.answered(says(&pieces)).run()
    };
    let text = run("text");
    assert_eq!(
        text.ok().stdout(),
        "a\\u{1b}[31mred\\u{1b}]0;title\\u{7}\\u{9b}2Jb\\u{202e}c\\u{d}\nd\n"
    );
    for form in ["json", "compact", "jsonl"] {
        let output = run(form);
        let raw = |c: char| c.is_control() && c != '\n';
        assert!(!output.ok().stdout().contains(raw), "{form}: {output}");
        let document = match form {
            "jsonl" => output.json_lines().pop().expect("the whole"),
            _ => output.json(),
        };
        assert_eq!(document["response"], pieces.concat(), "{form}");
    }
}

#[test]
fn characters_cut_across_packets_are_whole_in_every_form() {
    let env = TestEnv::new();
    let said = "naïve 日本 🦀 עברית e\u{301} \u{1f468}\u{200d}\u{1f469}";
    for form in FORMS {
        let turn = env.chat("hi").args(["--output", form]);
        let output = turn.answered(Reply::text(said).byte_by_byte()).run();
        assert!(output.ok().stdout().contains(said), "{form}: {output}");
    }
}

#[test]
fn a_call_that_fails_prints_the_pieces_it_had_or_nothing() {
    let env = TestEnv::new();
    for form in FORMS {
        let run = |reply: Reply| {
            let turn = env.chat("hi").args(["--output", form]);
            turn.answered(reply).run()
        };
        run(Reply::error(500, "boom")).fails(5, "server_error");
        let cut = run(Reply::text("one two three").cut_after_chunks(2));
        let failure = cut.prints_and_fails(5, "stream_interrupted");
        assert!(failure.retryable, "{form}");
        match form {
            "text" => assert_eq!(cut.stdout(), "one two "),
            "jsonl" => {
                let lines = cut.json_lines();
                let said: Vec<_> = lines.iter().map(|line| &line["response"]).collect();
                assert_eq!(said, ["one ", "two "]);
                assert!(lines.iter().all(|line| line["done"] == false));
            }
            _ => assert_eq!(cut.stdout(), "", "{form}"),
        }
    }
    let list = env.command().arg("--list-sessions").run();
    assert_eq!(list.ok().json()["total"], 0);
}

#[test]
fn a_turn_that_is_stored_and_cannot_be_printed_is_told_and_stays_stored() {
    let env = TestEnv::new();
    for form in FORMS {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let turn = env
            .chat("hi")
            .args(["--session-key", form, "--output", form]);
        let output = turn.stdout_to(full.expect("/dev/full")).run();
        let failure = output.fails(7, "store_io");
        assert!(
            failure.error.contains("standard output"),
            "{form}: {output}"
        );
        assert!(!failure.retryable, "again would be another turn: {form}");
        assert!(
            failure.session_id.is_some(),
            "where it is: {form}: {output}"
        );
        assert_eq!(env.drafts().len(), 0, "{form}");
    }
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 4);
    for session in list["sessions"].as_array().expect("sessions") {
        assert_eq!(session["message_count"], 2);
    }
}

/// Runs a shell that bounds what a file may have (in blocks of 512 bytes), then the program: as a
/// disk that is full after that.
fn on_a_small_disk(run: Run<'_>) -> Run<'_> {
    run.through(["sh", "-c", "ulimit -f 8; exec \"$@\"", "sh"])
}

#[test]
fn a_reply_that_is_printed_and_cannot_be_stored_says_so_in_every_form() {
    let long = "a long answer ".repeat(1000);
    for form in FORMS {
        for is_closed in [false, true] {
            let env = TestEnv::new();
            make_session(&env, &id(1), &["one"]);
            let before = env.log(&id(1));
            let turn = env.chat("two").session(&id(1)).args(["--output", form]);
            let turn = on_a_small_disk(turn).answered(Reply::text(&long));
            let turn = if is_closed {
                turn.stdout_closed()
            } else {
                turn
            };
            let output = turn.run();
            let failure = output.prints_and_fails(7, "store_full");
            assert_eq!(failure.session_id, Some(id(1)), "{form}");
            assert_eq!(env.log(&id(1)), before, "{form}");
            if !is_closed {
                let whole = match form {
                    "text" => {
                        assert_eq!(output.stdout(), format!("{long}\n"));
                        continue;
                    }
                    "jsonl" => output.json_lines().pop().expect("the whole"),
                    _ => output.json(),
                };
                assert_eq!(whole["response"], long, "{form}");
                assert_eq!(whole["turn"]["stored"], false, "{form}");
                assert_eq!(whole["turn"]["id"], Value::Null, "{form}");
            }
            env.chat("three").session(&id(1)).run().ok();
            assert_eq!(prompts(&env, &id(1)), ["one", "three"], "{form}");
        }
    }
}
