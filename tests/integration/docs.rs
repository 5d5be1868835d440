//! The documents: every command they show is run as it is written, in one shell a document, and
//! what they show of its output is what comes.
//!
//! A block fenced as `sh` is run; one fenced as `json` right after it shows the keys, in their
//! order, of the file the block has written last. Set-up commands are fenced as `bash` and run
//! by `.ci/run`, since they build what is tested here.

use std::fs;
use std::path::Path;

use crate::support::{TestEnv, need};

/// A fenced block: its language and its text.
struct Block {
    language: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text += line;
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Returns the keys a block of JSON shows, in order.
fn keys(json: &str) -> Vec<&str> {
    json.split('"')
        .collect::<Vec<_>>()
        .windows(2)
        .filter(|w| w[1].trim_start().starts_with(':'))
        .map(|w| w[0])
        .collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs all commands of a document; returns what they printed.
fn run_commands(env: &TestEnv, blocks: &[Block]) -> String {
    let commands: String = blocks
        .iter()
        .filter(|b| b.language == "sh")
        .map(|b| b.text.as_str())
        .collect();
    assert!(!commands.is_empty(), "the document shows no command");
    let script = format!(
        "set -euo pipefail\nprogram=$0\nollama-prompt() {{ \"$program\" \"$@\"; }}\n{commands}"
    );
    let output = env.command().through(["bash", "-c", &script]).run();
    output.ok();
    output.stdout().to_owned()
}

#[test]
fn the_readme_does_what_it_says() {
    if !need("bash") || !need("jq") {
        return;
    }
    let env = TestEnv::new();
    let blocks = blocks(&read("README.md"));
    let printed = run_commands(&env, &blocks);

    let shown = blocks
        .iter()
        .find(|b| b.language == "json")
        .expect("the README shows an answer");
    let answer =
        fs::read_to_string(env.work().join("conversation.json")).expect("the answer was kept");
    let mut rest = answer.as_str();
    for key in keys(&shown.text) {
        let found = rest
            .find(&format!("\"{key}\":"))
            .unwrap_or_else(|| panic!("{key} is not there, or not in this order:\n{answer}"));
        rest = &rest[found..];
    }

    let requests = env.server().requests();
    let chats: Vec<_> = requests
        .iter()
        .filter(|request| request.is_chat())
        .collect();
    assert_eq!(chats.len(), 6);
    assert!(chats.iter().all(|chat| chat.model() == "llama3.2"));
    assert_eq!(
        chats[1].roles(),
        ["user", "assistant", "user"],
        "the second goes on with the first"
    );
    assert_eq!(
        chats[3].roles(),
        ["user", "assistant", "user"],
        "--continue takes the one used last"
    );
    assert_eq!(chats[4].roles(), ["user"], "--no-session knows nothing");
    assert_eq!(
        chats[5].contents(),
        ["You review Rust code. Be brief.", "fn main() {}\n"],
        "a template is filled in"
    );
    assert!(
        printed.contains("reply to: 2024-02-30 is no date"),
        "{printed}"
    );
    assert!(printed.contains("\"total\": 2"), "{printed}");
    assert!(printed.contains("\"message_count\": 4"), "{printed}");
    assert!(
        printed.contains("\"message\": \"Removed 0 sessions not used for 30 days\""),
        "{printed}"
    );
    assert!(
        printed.ends_with("What should I test first?\nAnd after that?\n"),
        "jq shows the prompts: {printed}"
    );
}

#[test]
fn the_worked_example_of_the_context_window_gives_its_figures() {
    if !need("bash") || !need("jq") {
        return;
    }
    let env = TestEnv::new();
    let document = read("docs/session-management.md");
    let example = &document[document.find("## An example").expect("there is one")..];
    let blocks = blocks(example);
    let printed = run_commands(&env, &blocks);
    let shown: String = blocks
        .iter()
        .filter(|b| b.language == "text")
        .map(|b| b.text.as_str())
        .collect();
    assert_eq!(printed, shown);
    assert_eq!(env.server().requests().len(), 0);
}

#[test]
fn the_example_of_references_prints_what_it_shows() {
    if !need("bash") || !need("jq") {
        return;
    }
    let env = TestEnv::new();
    let blocks = blocks(&read("docs/references.md"));
    let shown = blocks.iter().find(|b| b.language == "text");
    let shown = shown.expect("the document shows what is printed");
    assert_eq!(run_commands(&env, &blocks), shown.text);
}

#[test]
fn what_the_migration_guide_shows_is_what_comes() {
    if !need("bash") || !need("jq") {
        return;
    }
    let env = TestEnv::new();
    let blocks = blocks(&read("docs/migration.md"));
    let printed = run_commands(&env, &blocks);
    let shown: String = blocks
        .iter()
        .filter(|b| b.language == "text")
        .map(|b| b.text.as_str())
        .collect();
    assert_eq!(printed, shown);
    assert_eq!(env.server().requests().len(), 0);
}

#[test]
fn every_flag_of_the_help_is_in_the_readme_and_the_other_way_round() {
    let env = TestEnv::new();
    let help = env.command().arg("--help").run().ok().stdout().to_owned();
    let readme = read("README.md");
    let flags = |text: &str| -> Vec<String> {
        let mut flags: Vec<String> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(str::to_owned)
            .collect();
        flags.sort_unstable();
        flags.dedup();
        flags
    };
    let table: String = readme
        .lines()
        .filter(|line| line.starts_with("| `-"))
        .collect::<Vec<_>>()
        .join("\n");
    let (shown, there) = (flags(&table), flags(&help));
    let unsaid = [
        "--help",
        "--version",
        "--quiet",
        "--verbose",
        "--purge-sessions",
    ];
    let missing: Vec<_> = there
        .iter()
        .filter(|f| !shown.contains(f) && !unsaid.contains(&f.as_str()))
        .collect();
    let invented: Vec<_> = shown.iter().filter(|f| !there.contains(f)).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    assert!(invented.is_empty(), "not in the program: {invented:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("there are docs");
    let documents = docs
        .map(|entry| entry.expect("readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "md"));
    for document in documents.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&document).expect("readable");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.starts_with("http") {
                continue;
            }
            let found = document.parent().expect("a directory").join(path);
            assert!(found.exists(), "{} links to {target}", document.display());
        }
    }
}
