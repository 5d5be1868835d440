//! A document of the project as the tests see it: its blocks, its headings, its links, and what
//! comes of it when it is done as it says.
//!
//! | block | what is done with it |
//! | --- | --- |
//! | `console` | each line behind `$ ` (and those behind `> ` after it) is run; what stands between is what it prints, on both streams |
//! | `sh` | is run; a `text` or `json` block right after it is what it prints on standard output |
//! | `bash` | set-up commands of README.md, which `.ci/run` runs one by one in an empty home |
//! | behind `<!-- not run: why -->` | nothing; the suite keeps a list of these |
//! | any other | nothing: it is no command |
//!
//! All commands of a document are run in one shell, so a variable set by one is there for the
//! next. In what is shown `…` is anything on a line, and a line with nothing else any lines.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::env::TestEnv;

/// The directory of the package.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A text in Markdown.
pub(crate) struct Document {
    /// Its path within the package.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) blocks: Vec<Block>,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) language: String,
    /// Its lines without the indentation of the fence.
    pub(crate) text: String,
    /// The line of the fence, the first being 1.
    pub(crate) line: usize,
    /// Why it is not run, if it says so.
    pub(crate) not_run: Option<String>,
    /// Whether nothing but blank lines stands between it and the block before.
    pub(crate) follows: bool,
}

/// A command and what it should print.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    shown: Option<String>,
    /// Both streams, and an exit status that need not be 0.
    is_console: bool,
}

impl Document {
    /// Reads a document, by its path within the package.
    #[track_caller]
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(Path::new(ROOT).join(path));
        let text = text.unwrap_or_else(|e| panic!("{path}: {e}"));
        Self::of(path, text)
    }

    /// Returns all documents.
    pub(crate) fn all() -> Vec<Self> {
        let root = Path::new(ROOT);
        let beside = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from);
        let docs = super::output::files_below(&root.join("docs"));
        let docs = docs.into_iter().map(|path| Path::new("docs").join(path));
        let documents = beside.into_iter().chain(docs);
        documents
            .filter(|path| path.extension().is_some_and(|e| e == "md") && root.join(path).exists())
            .map(|path| Self::read(path.to_str().expect("a plain path")))
            .collect()
    }

    /// Takes a text apart.
    #[track_caller]
    pub(crate) fn of(path: &str, text: String) -> Self {
        let blocks = blocks(&text).unwrap_or_else(|problem| panic!("{path}: {problem}"));
        Self {
            path: path.to_owned(),
            text,
            blocks,
        }
    }

    /// Returns the anchors of its headings, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for line in self.prose().filter(|line| line.starts_with('#')) {
            let heading = line.trim_start_matches('#').trim();
            let anchor = anchor(heading);
            let times = anchors.iter().filter(|there| **there == anchor).count();
            anchors.push(if times == 0 {
                anchor
            } else {
                format!("{anchor}-{times}")
            });
        }
        anchors
    }

    /// Returns the targets of its links and images.
    pub(crate) fn links(&self) -> Vec<String> {
        let link = Regex::new(r"\]\(([^)\s]+)\)").expect("an expression");
        let code = Regex::new("`[^`]*`").expect("an expression");
        let prose: String = self
            .prose()
            .map(|line| code.replace_all(line, "``").into_owned() + "\n")
            .collect();
        link.captures_iter(&prose)
            .map(|found| found[1].to_owned())
            .collect()
    }

    /// Returns the lines outside of its blocks.
    pub(crate) fn prose(&self) -> impl Iterator<Item = &str> {
        let mut within = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            within ^= is_fence;
            !within && !is_fence
        })
    }

    /// Returns the blocks that are commands by their looks and are neither run nor marked.
    pub(crate) fn slipped_by(&self) -> Vec<&Block> {
        let is_run = |block: &Block| match block.language.as_str() {
            "console" | "sh" => true,
            "bash" => self.path == "README.md",
            _ => false,
        };
        let is_data = |language: &str| ["text", "json", "toml", "rust"].contains(&language);
        let is_command = |line: &str| ["ollama-prompt ", "$ "].iter().any(|w| line.starts_with(w));
        let blocks = self.blocks.iter();
        blocks
            .filter(|block| block.not_run.is_none() && !is_run(block))
            .filter(|block| !is_data(&block.language) || block.text.lines().any(is_command))
            .collect()
    }

    /// Runs its commands with the program as `ollama-prompt` on the search path; returns what is
    /// not as it says, each with its line.
    pub(crate) fn run(&self, env: &TestEnv) -> Vec<String> {
        let steps = self.steps();
        if steps.is_empty() {
            return Vec::new();
        }
        let seen = env.home().join("seen");
        fs::create_dir_all(&seen).expect("a directory for what is printed");
        let output = env.command().through(["bash", "-c", &script(&steps)]).run();
        let mut problems = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let read = |what: &str| fs::read_to_string(seen.join(format!("{number}.{what}"))).ok();
            let (printed, status) = (read("out").unwrap_or_default(), read("status"));
            if let Some(problem) = step.problem(&printed, status.as_deref()) {
                problems.push(format!("{}:{}: {problem}", self.path, step.line));
            }
            if status.is_none() {
                // The shell ended here: what it said last is why.
                problems.extend(output.stderr().lines().last().map(str::to_owned));
                break;
            }
        }
        problems
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for block in self.blocks.iter().filter(|block| block.not_run.is_none()) {
            match block.language.as_str() {
                "console" => steps.extend(console(block)),
                "sh" => steps.push(Step {
                    line: block.line,
                    command: block.text.clone(),
                    shown: None,
                    is_console: false,
                }),
                "text" | "json" if block.follows => {
                    let before = steps.last_mut().filter(|step| !step.is_console);
                    if let Some(step) = before {
                        step.shown = Some(block.text.clone());
                    }
                }
                _ => {}
            }
        }
        steps
    }
}

impl Step {
    fn problem(&self, printed: &str, status: Option<&str>) -> Option<String> {
        let command = self.command.trim();
        let Some(status) = status else {
            return Some(format!("`{command}` was not reached, or did not end well"));
        };
        let shown = self.shown.as_deref();
        if let Some(shown) = shown.filter(|shown| !fits(shown, printed)) {
            return Some(format!(
                "`{command}` should print\n{shown}--- and printed\n{printed}---"
            ));
        }
        // A command that fails shows why, or how: only then the reader is not left alone with it.
        let is_told = shown.is_some_and(|shown| shown.contains("\"code\":"));
        (status.trim() != "0" && !is_told)
            .then(|| format!("`{command}` fails with {status} and printed\n{printed}---"))
    }
}

/// Returns a script that runs the steps, each in the same shell, and keeps what it printed.
fn script(steps: &[Step]) -> String {
    let mut script = format!(
        "set -uo pipefail\nmkdir -p \"$HOME/bin\" && ln -sf \"$0\" \"$HOME/bin/ollama-prompt\"\n\
         PATH=$HOME/bin:$PATH seen=$HOME/seen\nln -s '{ROOT}/docs' docs\n"
    );
    for (number, step) in steps.iter().enumerate() {
        let command = step.command.trim_end();
        let both = if step.is_console { "2>&1" } else { "" };
        let (strict, lax) = if step.is_console {
            ("", "")
        } else {
            ("set -e", "set +e")
        };
        let _ = writeln!(
            script,
            "{strict}\n{{\n{command}\n}} >\"$seen/{number}.out\" {both}\necho $? >\"$seen/{number}.status\"\n{lax}"
        );
    }
    script
}

/// Returns the commands of a `console` block with what they print.
fn console(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for (at, line) in block.text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                line: block.line + at + 1,
                command: command.to_owned() + "\n",
                shown: Some(String::new()),
                is_console: true,
            });
            goes_on = true;
            continue;
        }
        let step = steps.last_mut().expect("a command before its output");
        match line.strip_prefix("> ").filter(|_| goes_on) {
            Some(more) => {
                step.command += more;
                step.command.push('\n');
            }
            None => {
                goes_on = false;
                let shown = step.shown.get_or_insert_default();
                shown.push_str(line);
                shown.push('\n');
            }
        }
    }
    steps
}

/// Tells whether what was printed is what is shown.
pub(crate) fn fits(shown: &str, printed: &str) -> bool {
    let mut pattern = String::from("(?s-u)^");
    for line in shown.lines() {
        if line.trim() == "…" {
            pattern.push_str(r"(?:[^\n]*\n)*?");
            continue;
        }
        let parts: Vec<String> = line.split('…').map(regex::escape).collect();
        pattern += &parts.join(r"[^\n]*?");
        pattern.push_str(r"\n");
    }
    pattern.push('$');
    let mut printed = printed.to_owned();
    if !printed.is_empty() && !printed.ends_with('\n') {
        printed.push('\n');
    }
    let pattern = regex::bytes::Regex::new(&pattern).expect("an expression");
    pattern.is_match(printed.as_bytes())
}

fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(Block, usize)> = None;
    let mut note: Option<String> = None;
    let mut follows = false;
    for (at, line) in text.lines().enumerate() {
        let (words, indent) = (line.trim(), line.len() - line.trim_start().len());
        match (&mut open, words.strip_prefix("```")) {
            (None, Some(language)) => {
                let block = Block {
                    language: language.to_owned(),
                    text: String::new(),
                    line: at + 1,
                    not_run: note.take(),
                    follows: std::mem::take(&mut follows),
                };
                open = Some((block, indent));
            }
            (Some(_), Some(_)) => {
                blocks.extend(open.take().map(|(block, _)| block));
                follows = true;
            }
            (Some((block, indent)), None) => {
                block.text += line.get(*indent..).unwrap_or(words);
                block.text.push('\n');
            }
            (None, None) if words.is_empty() => {}
            (None, None) => {
                follows = false;
                note = words
                    .strip_prefix("<!-- not run: ")
                    .and_then(|rest| rest.strip_suffix(" -->"))
                    .map(str::to_owned);
            }
        }
    }
    match open {
        Some((block, _)) => Err(format!("the block of line {} is not closed", block.line)),
        None => Ok(blocks),
    }
}

/// Returns the anchor GitHub gives a heading: lower case, words joined by hyphens, everything
/// else left out.
fn anchor(heading: &str) -> String {
    let words = heading.to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn what_varies_is_anything_and_all_else_is_what_it_is() {
    let rows = [
        ("a line that is there", "one\n", "one\n", true),
        ("another line", "one\n", "two\n", false),
        ("no newline at its end", "one\n", "one", true),
        ("something within", "a … b\n", "a 1 b\n", true),
        ("nothing but what is around it", "a … b\n", "a 1 c\n", false),
        ("it stays on its line", "a…b\n", "a\nb\n", false),
        ("no lines", "a\n…\nb\n", "a\nb\n", true),
        ("many lines", "a\n  …\nb\n", "a\n1\n2\nb\n", true),
        ("a line too many", "a\n", "a\nb\n", false),
        ("a line too few", "a\nb\n", "a\n", false),
        ("nothing", "", "", true),
        ("something in place of nothing", "", "a\n", false),
        ("signs are signs", "a.c\n", "abc\n", false),
    ];
    for (name, shown, printed, expected) in rows {
        assert_eq!(fits(shown, printed), expected, "{name}");
    }
}

#[test]
fn a_document_is_taken_apart() {
    let text = "# A `b`, C!\n\n```console\n$ echo 1 \\\n> 2\n1 2\n```\n\n<!-- not run: so -->\n```text\nx\n```\n\n\
                - y\n  ```sh\n  z [a](b)\n  ```\n\n  ```text\n  w\n  ```\n## C\n## C\n[d](e.md#f) `[g](h)`\n";
    let document = Document::of("x.md", text.to_owned());
    assert_eq!(document.anchors(), ["a-b-c", "c", "c-1"]);
    assert_eq!(document.links(), ["e.md#f"]);
    let steps = document.steps();
    let commands: Vec<_> = steps
        .iter()
        .map(|step| (step.line, &*step.command))
        .collect();
    assert_eq!(commands, [(4, "echo 1 \\\n2\n"), (15, "z [a](b)\n")]);
    assert_eq!(steps[1].shown.as_deref(), Some("w\n"));
    assert_eq!(document.blocks[1].not_run.as_deref(), Some("so"));
    assert!(document.slipped_by().is_empty());
    let slips = [
        "```powershell\nx\n```\n",
        "```text\n$ x\n```\n",
        "```\nx\n```\n",
        "```bash\nx\n```\n",
    ];
    for text in slips {
        let document = Document::of("x.md", text.to_owned());
        assert_eq!(document.slipped_by().len(), 1, "{text}");
    }
}

#[test]
fn a_command_that_fails_or_prints_something_else_is_told_with_its_line() {
    let rows = [
        ("```console\n$ echo 1\n1\n```\n", None),
        ("```sh\necho 1\n```\n", None),
        ("```sh\na=1\n```\n```console\n$ echo $a\n1\n```\n", None),
        (
            "```sh\necho 1\n```\n```text\n2\n```\n",
            Some("x.md:1: `echo 1` should print"),
        ),
        (
            "```console\n$ echo 1\n```\n",
            Some("x.md:2: `echo 1` should print"),
        ),
        (
            "```console\n$ false\n```\n",
            Some("x.md:2: `false` fails with 1"),
        ),
        (
            "\n```sh\nfalse\necho 1\n```\n",
            Some("x.md:2: `false\necho 1` was not reached"),
        ),
        (
            "```console\n$ ollama-prompt --nothing\n{…\"code\":\"usage\"…\n```\n",
            None,
        ),
    ];
    for (text, expected) in rows {
        let env = TestEnv::new();
        let problems = Document::of("x.md", text.to_owned()).run(&env);
        match expected {
            None => assert_eq!(problems, [""; 0], "{text}"),
            Some(expected) => assert!(problems[0].starts_with(expected), "{text}: {problems:?}"),
        }
    }
}
