//! Help: short first, on one screen; complete second, with examples, each of which is run here as
//! it stands.

use std::path::Path;

use ollama_prompt::cli::verbs;

use crate::attachments::PNG;
use crate::stored::text;
use crate::support::{Reply, TestEnv, need};

/// Returns the words of every call that has help of its own.
fn pages() -> Vec<Vec<String>> {
    let groups = ["ollama-prompt session", "ollama-prompt template"].map(str::to_owned);
    let verbs = verbs().into_iter().map(|(words, _)| words);
    let all = ["ollama-prompt".to_owned()].into_iter().chain(groups);
    all.chain(verbs)
        .map(|words| words.split(' ').skip(1).map(str::to_owned).collect())
        .collect()
}

fn help(env: &TestEnv, words: &[String], flag: &str) -> String {
    let run = env.command().args(words).arg(flag).env("COLUMNS", "80");
    run.run().ok().stdout().to_owned()
}

/// Returns the flags a help has a line for, by their long names.
fn flags(help: &str) -> Vec<&str> {
    let specs = help.lines().filter_map(|line| {
        let line = line.trim_start();
        line.starts_with('-').then_some(line)
    });
    let long = specs.filter_map(|line| line.split([' ', ',', '[', '=', '.']).find(|w| w.len() > 2));
    long.filter(|word| word.starts_with("--")).collect()
}

#[test]
fn the_short_help_is_one_screen_with_a_line_for_each_flag() {
    let env = TestEnv::new();
    for words in pages() {
        let help = help(&env, &words, "-h");
        assert!(help.lines().count() <= 40, "{words:?}\n{help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{words:?}: {line:?}");
            let indented = line.len() - line.trim_start().len();
            let is_usage = line.trim_start().starts_with("ollama-prompt ");
            assert!(
                indented <= 6 || is_usage,
                "{words:?} goes on in a second line: {line:?}"
            );
        }
        assert!(!help.contains("Examples:"), "{words:?}");
        assert!(help.contains("\nUsage: ollama-prompt"), "{words:?}");
    }
    let all = help(&env, &[], "-h");
    let shown = flags(&all);
    assert!((12..=18).contains(&shown.len()), "{shown:?}");
}

#[test]
fn the_long_help_has_all_of_the_short_one_under_the_same_headings_and_ends_with_examples() {
    let env = TestEnv::new();
    for words in pages() {
        let (short, long) = (help(&env, &words, "-h"), help(&env, &words, "--help"));
        let there = flags(&long);
        for flag in flags(&short) {
            assert!(there.contains(&flag), "{words:?}: {flag}");
        }
        for flag in ["--output", "--color", "--quiet", "--verbose", "--help"] {
            assert!(there.contains(&flag), "{words:?}: {flag}\n{long}");
        }
        let headings = short
            .lines()
            .filter(|l| l.ends_with(':') && !l.starts_with(' '));
        for heading in headings {
            assert!(long.lines().any(|l| l == heading), "{words:?}: {heading}");
        }
        assert!(!examples(&long).is_empty(), "{words:?}\n{long}");
    }
    let all = help(&env, &[], "--help");
    for heading in ["Prompt", "Session management", "Session utilities"] {
        assert_eq!(all.matches(&format!("\n{heading}:\n")).count(), 1);
    }
    assert_eq!(all.matches("\nOptions:\n").count(), 0, "all have a group");
}

#[test]
fn every_verb_of_a_session_is_in_one_group() {
    let env = TestEnv::new();
    let help = help(&env, &["session".to_owned()], "-h");
    for (words, _) in verbs() {
        let Some(verb) = words.strip_prefix("ollama-prompt session ") else {
            continue;
        };
        let named = help
            .lines()
            .filter(|line| line.trim_start().split(' ').next() == Some(verb));
        assert_eq!(named.count(), 1, "{verb}\n{help}");
    }
    assert!(!help.contains("\nMore:"), "{help}");
}

/// Returns the calls at the end of a help.
fn examples(help: &str) -> Vec<&str> {
    let Some((_, examples)) = help.split_once("\nExamples:\n") else {
        return Vec::new();
    };
    let lines = examples.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Returns a world in which there is what examples name, and the ids of a session and its newest
/// turn. A turn after that has failed.
fn world() -> (TestEnv, String, String) {
    let env = TestEnv::new();
    env.write("src/main.rs", "fn main() {}\n");
    env.write("docs/plan.md", "The plan.\n");
    env.write("photo.png", PNG);
    env.write("schema.json", r#"{"type": "object"}"#);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import");
    for (from, to) in [
        ("conversations.json", env.work().join("conversations.json")),
        (
            "python-1.2.0.db",
            env.home().join(".config/ollama-prompt/sessions.db"),
        ),
    ] {
        env.write(to, std::fs::read(fixtures.join(from)).expect("a fixture"));
    }
    let first = env.chat("Help me plan a web application: rosebud, C++, TODO");
    let id = first.run().session_id();
    let second = env.chat("Now the database schema").session(&id).run();
    let turn = text(&second.ok().json()["turn"]["id"]);
    let review = [
        "template",
        "save",
        "review",
        "--system",
        "You review {{language}} code.",
    ];
    env.command().args(review).run().ok();
    let lost = env.chat("And then?").session(&id);
    lost.answered(Reply::error(500, "out of memory"))
        .run()
        .fails(5, "server_error");
    (env, id, turn)
}

/// A directory under version control, and places where shells look.
const SET_UP: &str = r#"
set -euo pipefail
mkdir -p ~/.config/fish/completions
git -c init.defaultBranch=main init -q
git add src
git -c user.name=u -c user.email=u@example.com commit -qm first
echo "// more" >> src/main.rs
"#;

#[test]
fn every_example_does_what_it_says() {
    for tool in ["bash", "git", "jq", "timeout"] {
        if !need(tool) {
            return;
        }
    }
    let mut count = 0;
    let some = TestEnv::new();
    for words in pages() {
        for example in examples(&help(&some, &words, "--help")) {
            count += 1;
            let (env, id, turn) = world();
            // These go on until they are told to end.
            let lasts = example.contains("session watch") || example.contains("--every");
            let call = if lasts {
                "ollama-prompt() { timeout -s INT 1 \"$program\" \"$@\" || [ $? = 124 ]; }"
            } else {
                "ollama-prompt() { \"$program\" \"$@\"; }"
            };
            let script = format!("program=$0\n{SET_UP}\n{call}\n{example}\n");
            let run = env.command().through(["bash", "-c", &script]);
            let run = run
                .env("ID", &id)
                .env("TURN", &turn)
                .env("SECRET", "rosebud");
            let output = run.run();
            assert_eq!(output.exit_code(), Some(0), "{example}\n{output}");
            let is_said = output.stderr().contains("\"error\"");
            assert!(lasts || !is_said, "{example}\n{output}");
        }
    }
    assert!(count >= pages().len(), "{count}");
}
