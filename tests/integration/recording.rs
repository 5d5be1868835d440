//! The recording in the README: what it shows is what the commands print today.
//!
//! `UPDATE_DOCS=1 cargo test --test integration -- recording::` records it anew.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support::{ROOT, Reply, Request, TestEnv, is_asked_for, need};

const RECORDING: &str = "docs/recording/first-turns.svg";

fn answer(request: &Request) -> Reply {
    let asked = request.last_user();
    Reply::text(match asked.lines().next().unwrap_or_default().trim() {
        "Name a river in Peru" => "The Ucayali.",
        "Which of" => "The Marañón, with about 1,700 kilometres.",
        "By how much?" => "By some 100 kilometres.",
        other => panic!("nobody has scripted an answer to {other:?}"),
    })
}

/// Records the commands as they are.
fn recorded() -> String {
    let env = TestEnv::new();
    env.server().handle(answer);
    env.write("rivers.txt", "Huallaga\nMarañón\nNapo\nUcayali\n");
    let script = r#"
        mkdir -p "$HOME/bin" && ln -s "$0" "$HOME/bin/ollama-prompt"
        PATH=$HOME/bin:$PATH exec python3 "$1/record.py" "$1/commands.sh"
    "#;
    let recording = env
        .command()
        .through(["bash", "-c", script])
        .arg(Path::new(ROOT).join("docs/recording"))
        .env("OLLAMA_PROMPT_MODEL", "llama3.2")
        .run();
    recording.ok().stdout().to_owned()
}

/// Replaces what is another thing in every run.
fn masked(recording: &str) -> String {
    let varies = [
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<id>",
        ),
        (r"(?m)> [0-9a-f]{8}  ", "> <end id>  "),
        (r"20\d\d-\d\d-\d\d \d\d:\d\dZ", "<time>"),
    ];
    varies
        .iter()
        .fold(recording.to_owned(), |text, (pattern, name)| {
            let pattern = Regex::new(pattern).expect("an expression");
            assert!(
                pattern.is_match(&text),
                "the recording has no {name}: {text}"
            );
            pattern.replace_all(&text, *name).into_owned()
        })
}

#[test]
fn the_recording_shows_what_the_commands_print() {
    if !["bash", "jq", "python3"].into_iter().all(need) {
        return;
    }
    let recorded = recorded();
    let path = Path::new(ROOT).join(RECORDING);
    if is_asked_for("UPDATE_DOCS") {
        TestEnv::new().write(&path, &recorded);
        return;
    }
    let there = fs::read_to_string(&path).expect("there is a recording");
    let (shown, now) = (masked(&there), masked(&recorded));
    let first = shown
        .lines()
        .zip(now.lines())
        .find(|(shown, now)| shown != now);
    assert!(
        shown == now,
        "{RECORDING} is out of date; UPDATE_DOCS=1 cargo test --test integration -- recording:: records it anew.\n\
         The first difference: {first:#?}"
    );
}
