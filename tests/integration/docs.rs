//! The documents: every command they show is run as it is written, and what they show of its
//! output is what comes. [`support::document`](crate::support) has the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;

use ollama_prompt::error::Code;
use ollama_prompt::warning::Warning;
use regex::Regex;

use crate::support::{Document, ROOT, Reply, Request, TestEnv, need};

/// What the model says in the documents, to a prompt that has these words in it.
const ANSWERS: &[(&str, &str)] = &[
    ("x = 1", "a.py:1: division by zero if n is 0"),
    ("What comes first?", "The data model."),
    ("We use PostgreSQL", "Noted: PostgreSQL."),
    ("the first", "One commit: the first."),
    ("Name a river in Peru", "The Ucayali."),
    ("How long is it", "About 1,600 kilometres."),
    (
        "rivers.txt START",
        "Four rivers, all of them tributaries of the Amazon.",
    ),
    (
        "Help me plan a web application",
        "Begin with who will use it, and for what.",
    ),
    (
        "Now the database schema",
        "Three tables: users, projects, tasks.",
    ),
    (
        "What should I test first?",
        "The part that loses data when it fails.",
    ),
    ("And after that?", "The part that everybody uses."),
    ("schema.sql START", "A primary key."),
    ("Is this a date?", "No: February has 29 days at the most."),
    ("And an index?", "On tasks.project, at least."),
];

fn answer(request: &Request) -> Reply {
    if request.model() == "gpt-9" {
        return Reply::error(404, "model 'gpt-9' not found");
    }
    if request.last_user().contains("as JSON") {
        return Reply::text(r#"{"colour": "blue"}"#);
    }
    if request.last_user().starts_with("Review this change:") {
        return Reply::text(
            r#"{"merge": false, "findings": [{"file": "src/a.py", "line": 1, "what": "division by zero if n is 0"}]}"#,
        );
    }
    let asked = request.last_user();
    let known = ANSWERS.iter().find(|(words, _)| asked.contains(words));
    known.map_or_else(Reply::echo, |(_, reply)| Reply::text(*reply))
}

/// Returns the world a document is read in: what its reader has already.
fn world_of(document: &Document) -> TestEnv {
    let env = TestEnv::new();
    env.server().handle(answer);
    let say = |prompt: &str| {
        env.chat(prompt).args(["--model", "llama3.2"]).run().ok();
    };
    match document.path.as_str() {
        "README.md" => {
            let rivers = "Marañón\nUcayali\nHuallaga\nNapo\n";
            env.write("rivers.txt", rivers);
        }
        "docs/search.md" => {
            say("How do I build the indexes of a table again?");
            say("question 2");
        }
        "docs/use-cases.md" => {
            let git = "[user]\n name = A\n email = a@example.com\n[init]\n defaultBranch = main\n";
            env.write(env.home().join(".gitconfig"), git);
            let repository = "mkdir src && git init -q && echo 'x = 1 / 2' >src/a.py && echo 'y = 1' >src/b.py
                git add src && git commit -qm 'the first' && git switch -qc change && echo 'x = 1 / n' >src/a.py
                git commit -qam 'divide by n' && git switch -q main";
            let made = env.command().through(["bash", "-ec", repository]).run();
            made.ok();
        }
        "docs/migration.md" | "docs/troubleshooting.md" => {
            let database = Path::new(ROOT).join("tests/fixtures/import/python-1.2.0.db");
            let database = std::fs::read(database).expect("a database");
            let usual = env.home().join(".config/ollama-prompt/sessions.db");
            env.write(usual, &database);
            env.write("path/to/sessions.db", &database);
        }
        _ => {}
    }
    env
}

#[test]
fn every_command_in_the_documents_prints_what_they_show() {
    if !["bash", "jq", "rg", "git", "python3"].into_iter().all(need) {
        return;
    }
    let documents = Document::all();
    let problems: Vec<String> = thread::scope(|scope| {
        let runs: Vec<_> = documents
            .iter()
            .map(|document| scope.spawn(|| document.run(&world_of(document))))
            .collect();
        let problems = runs.into_iter().map(|run| run.join().expect("no panic"));
        problems.flatten().collect()
    });
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// What is shown and cannot be run here: how often, and why.
const NOT_RUN: &[(&str, &str, usize)] = &[
    ("CONTRIBUTING.md", "the tests are what it would run", 3),
    ("docs/troubleshooting.md", "it asks a server elsewhere", 1),
    (
        "docs/housekeeping.md",
        "a file for launchd; its command line is checked",
        1,
    ),
    (
        "docs/housekeeping.md",
        "a file for systemd; its command line is checked",
        3,
    ),
    (
        "docs/housekeeping.md",
        "a line for cron; its command line is checked",
        1,
    ),
    ("docs/housekeeping.md", "it shows what can be given", 1),
    (
        "docs/mongodb.md",
        "it builds the program with other features",
        1,
    ),
    ("docs/mongodb.md", "it speaks to a server elsewhere", 2),
    (
        "docs/mongodb.md",
        "there is no mongosh where the tests run",
        2,
    ),
    (
        "docs/quickstart.md",
        "it installs the program, which the tests build themselves",
        1,
    ),
    (
        "docs/quickstart.md",
        "there is no Ollama where the tests run",
        1,
    ),
    (
        "docs/quickstart.md",
        "there is no PowerShell where the tests run; the flags are checked",
        2,
    ),
];

/// Returns the headings of the third level below one of the second.
fn entries<'d>(document: &'d Document, part: &str) -> Vec<&'d str> {
    let lines = document.prose().skip_while(|line| *line != part).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    lines.filter_map(|line| line.strip_prefix("### ")).collect()
}

/// The tables of the program are the contents of the document, in the same order.
#[test]
fn there_is_help_for_every_failure_and_every_warning_and_for_no_other() {
    let document = Document::read("docs/troubleshooting.md");
    let codes: Vec<String> = Code::ALL
        .iter()
        .map(|code| format!("`{}`", code.name()))
        .collect();
    assert_eq!(entries(&document, "## Failures"), codes);
    let shown_quoted = Regex::new(r"\{\w+:\?\}").expect("an expression");
    let varies = Regex::new(r"\{\w+\}").expect("an expression");
    let heading = |sentence: &&str| {
        let sentence = shown_quoted.replace_all(sentence, "\"…\"");
        varies.replace_all(&sentence, "…").into_owned()
    };
    let warnings: Vec<String> = Warning::SENTENCES.iter().map(heading).collect();
    assert_eq!(entries(&document, "## Warnings"), warnings);
}

#[test]
fn an_entry_of_the_troubleshooting_says_the_exit_status_and_what_to_type() {
    let document = Document::read("docs/troubleshooting.md");
    let parts: Vec<&str> = document.text.split("\n### ").skip(1).collect();
    assert_eq!(parts.len(), Code::ALL.len() + Warning::SENTENCES.len());
    for part in parts {
        let entry = part.split("\n## ").next().unwrap_or_default();
        let name = entry.lines().next().unwrap_or_default();
        let commands = ["\n```sh\n", "\n```console\n"];
        assert!(commands.iter().any(|fence| entry.contains(fence)), "{name}");
        let code = Code::ALL
            .iter()
            .find(|code| name == format!("`{}`", code.name()));
        if let Some(code) = code {
            let status = format!("Exit status {}", code.exit_status());
            let after = entry.split(&status).nth(1).unwrap_or("0");
            let is_whole = !after.starts_with(|c: char| c.is_ascii_digit());
            assert!(is_whole, "{name} should say: {status}");
            let says = entry.contains("worth trying again");
            assert_eq!(says, code.retryable(), "{name}: worth trying again?");
        }
    }
}

#[test]
fn what_is_shown_and_not_run_is_known() {
    let mut there: BTreeMap<(String, String), usize> = BTreeMap::new();
    for document in Document::all() {
        let slipped = document.slipped_by();
        assert!(
            slipped.is_empty(),
            "{}: neither run (console, sh), nor data (text, json, toml), nor marked (<!-- not run: why -->): {slipped:#?}",
            document.path
        );
        for block in &document.blocks {
            if let Some(why) = &block.not_run {
                *there
                    .entry((document.path.clone(), why.clone()))
                    .or_default() += 1;
            }
        }
    }
    let known = NOT_RUN
        .iter()
        .map(|(path, why, times)| (((*path).to_owned(), (*why).to_owned()), *times));
    assert_eq!(there, known.collect());
}

/// `.ci/run` runs the lines of these blocks one by one, each in a shell of its own.
#[test]
fn the_set_up_of_the_readme_is_one_command_a_line() {
    let readme = Document::read("README.md");
    let bash = readme
        .blocks
        .iter()
        .filter(|block| block.language == "bash");
    let lines: Vec<&str> = bash.flat_map(|block| block.text.lines()).collect();
    assert_eq!(
        lines.len(),
        2,
        "to build and run it, and to test it: {lines:?}"
    );
    assert!(lines[0].starts_with("cargo build && target/debug/ollama-prompt --offline"));
    assert_eq!(lines[1], "cargo test");
    let ci = std::fs::read_to_string(Path::new(ROOT).join(".ci/run")).expect("there is one");
    assert!(ci.contains("sed -n '/^```bash$/,/^```$/p' README.md"));
}

/// What `docs/` shows of `config.toml` and of templates is what the program takes.
#[test]
fn every_toml_file_that_is_shown_is_one_the_program_takes() {
    let mut shown = 0;
    for document in Document::all() {
        let blocks = document.blocks.iter();
        for block in blocks.filter(|block| block.language == "toml") {
            shown += 1;
            let env = TestEnv::new();
            let is_template = block.text.contains("[variables]");
            let name = if is_template {
                "templates/shown.toml"
            } else {
                "config.toml"
            };
            env.write(env.store().join(name), &block.text);
            let run = if is_template {
                env.command().args(["template", "show", "shown"])
            } else {
                env.chat("hello").args(["--dry-run"])
            };
            run.run().ok();
        }
    }
    assert!(shown >= 3, "{shown}");
}

/// Every crate has a reason, and what was looked at instead; what is not there any more has none.
#[test]
fn every_dependency_has_its_reason() {
    let manifest = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml"));
    let manifest: toml::Table = toml::from_str(&manifest.expect("a manifest")).expect("TOML");
    let names = |table: &str| -> BTreeSet<String> {
        let table = manifest[table].as_table().expect("a table");
        table.keys().cloned().collect()
    };
    let document = Document::read("docs/dependencies.md");
    let mut reasons = BTreeSet::new();
    for row in document
        .text
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [crates, why, instead] = cells[..] else {
            panic!("three cells: {row}");
        };
        assert!(!why.is_empty() && !instead.is_empty(), "{row}");
        let crates = crates.split('(').next().unwrap_or_default();
        for name in crates.split(',').map(|name| name.trim().to_owned()) {
            assert!(reasons.insert(name.clone()), "{name} twice");
        }
    }
    assert_eq!(reasons, names("dependencies"));
    let (_, for_tests) = document
        .text
        .split_once("## For tests only")
        .expect("a section for tests");
    for name in names("dev-dependencies") {
        assert!(for_tests.contains(&name), "{name} is for tests");
    }
}

/// Returns the flags a text names.
fn flags(text: &str) -> Vec<String> {
    let mut flags: Vec<String> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned)
        .collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

/// Flags of other programs, that documents speak of as well.
const OF_OTHERS: &[&str] = &[
    "--all-features",
    "--lib",
    "--all-targets",
    "--bench",
    "--check",
    "--features",
    "--no-default-features",
    "--now",
    "--oplog",
    "--path",
    "--release",
    "--test",
    "--user",
];

/// Commands that are run show by themselves that there are these flags.
#[test]
fn every_flag_the_documents_name_is_one_there_is() {
    let reference = Document::read("docs/reference.md");
    let there = flags(&reference.text);
    let mut invented = Vec::new();
    for document in Document::all() {
        let not_run = document
            .blocks
            .iter()
            .filter(|block| block.not_run.is_some());
        let read: Vec<&str> = document
            .prose()
            .chain(not_run.map(|block| &*block.text))
            .collect();
        for flag in flags(&read.join("\n")) {
            if !there.contains(&flag) && !OF_OTHERS.contains(&flag.as_str()) {
                invented.push(format!("{}: {flag}", document.path));
            }
        }
    }
    assert!(invented.is_empty(), "{invented:#?}");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let documents = Document::all();
    let anchors: BTreeMap<String, Vec<String>> = documents
        .iter()
        .map(|document| (document.path.clone(), document.anchors()))
        .collect();
    let mut problems = Vec::new();
    for document in &documents {
        for link in document.links() {
            if !leads_somewhere(&document.path, &link, &anchors) {
                problems.push(format!("{}: {link}", document.path));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Tells whether a link leads to a file of the project and, if it names one, to a heading there.
/// Of what is elsewhere only the form is looked at.
fn leads_somewhere(from: &str, link: &str, anchors: &BTreeMap<String, Vec<String>>) -> bool {
    if link.contains(':') {
        let host = link.strip_prefix("https://").unwrap_or_default();
        return host.contains('.') && host.is_ascii();
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let directory = Path::new(from).parent().expect("a file is somewhere");
    let target = match path {
        "" => from.to_owned(),
        path => plain(&directory.join(path)),
    };
    let is_there = Path::new(ROOT).join(&target).exists();
    let has_anchor = || {
        anchors
            .get(&target)
            .is_some_and(|there| there.iter().any(|a| a == anchor))
    };
    is_there && (anchor.is_empty() || has_anchor())
}

/// Takes `.` and `..` out of a path.
fn plain(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().expect("a plain path").split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn a_link_to_nothing_is_noticed() {
    let anchors = BTreeMap::from([("docs/security.md".to_owned(), vec!["a".to_owned()])]);
    for (link, expected) in [
        ("security.md", true),
        ("../README.md", true),
        ("#a", false),
        ("security.md#a", true),
        ("security.md#b", false),
        ("no.md", false),
        ("https://ollama.com/x#y", true),
        ("http://ollama.com", false),
        ("mailto:x", false),
    ] {
        let found = leads_somewhere("docs/format.md", link, &anchors);
        assert_eq!(found, expected, "{link}");
    }
}
