//! What protects the promises that a search costs at most twice what ripgrep does on the same
//! files, and that statistics cost little more than reading the logs.
//!
//!     cargo bench --bench find -- 10000 4 2000     (sessions, turns of each, bytes of a turn)
//!     cargo bench --bench find -- 10000 4 2000 DIR (makes the store there, and keeps it)
//!
//! Beside the program it reads every log by hand and looks for the word in its bytes, on one
//! thread; and runs ripgrep, where that is installed. The numbers worth keeping are the ratios.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod world;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use world::{RARE, Size, make};

const ROUNDS: usize = 7;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize, other| {
        words
            .get(n)
            .and_then(|word| word.parse().ok())
            .unwrap_or(other)
    };
    let size = Size {
        sessions: number(0, 1000),
        turns: number(1, 4),
        said: usize::try_from(number(2, 2000)).expect("a size"),
    };
    let kept = words
        .get(3)
        .filter(|word| !word.starts_with('-'))
        .map(PathBuf::from);
    let home = tempfile::TempDir::new().expect("a temporary directory");
    let root = kept.unwrap_or_else(|| home.path().to_owned());
    let bytes = make(&root, size);
    println!("{} sessions, {:.1} MB", size.sessions, bytes as f64 / 1e6);

    let (start, _) = median(|| program(&home.path().join("none"), &["search", "x"]));
    println!("  the program alone      {start:>9.1?}");
    let (by_hand, hits) = median(|| by_hand(&root, RARE));
    println!("  read by hand           {by_hand:>9.1?}  {hits} lines");
    let mut ripgrep = None;
    for (name, args) in [
        ("search, a rare word", &["search", RARE][..]),
        ("search, ignoring case", &["search", "-i", RARE]),
        (
            "search, an expression",
            &["search", r"let \w+ = \w+\(\x22quila"],
        ),
        ("search, counting \"the\"", &["search", "--count", "the"]),
        ("stats", &["stats", "--output", "compact"]),
    ] {
        let (took, lines) = median(|| program(&root, args));
        let ratio = took.saturating_sub(start).as_secs_f64() / by_hand.as_secs_f64();
        println!("  {name:<22} {took:>9.1?}  {lines} lines, {ratio:.2} x by hand");
        ripgrep = ripgrep.or_else(|| (name == "search, a rare word").then_some(took));
    }
    if let Some(own) = ripgrep.filter(|_| is_installed("rg")) {
        let (took, lines) = median(|| rg(&root));
        let ratio = own.as_secs_f64() / took.as_secs_f64();
        println!(
            "  ripgrep, a rare word   {took:>9.1?}  {lines} lines, search is {ratio:.2} x that"
        );
    }
}

fn program(root: &Path, args: &[&str]) -> usize {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ollama-prompt"));
    lines(
        program
            .arg("session")
            .args(args)
            .env("OLLAMA_PROMPT_HOME", root),
    )
}

fn rg(root: &Path) -> usize {
    let mut rg = Command::new("rg");
    lines(
        rg.args(["-I", "--no-heading", "--no-config", RARE])
            .arg(root.join("sessions")),
    )
}

fn lines(command: &mut Command) -> usize {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

fn is_installed(tool: &str) -> bool {
    Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok()
}

/// Reads every log and counts the lines that have a word.
fn by_hand(root: &Path, word: &str) -> usize {
    let finder = memchr::memmem::Finder::new(word);
    let sessions = std::fs::read_dir(root.join("sessions")).expect("a directory");
    let logs = sessions.map(|entry| entry.expect("an entry").path().join("events.jsonl"));
    let found = logs.map(|log| {
        let bytes = std::fs::read(log).expect("a log");
        finder.find_iter(black_box(&bytes)).count()
    });
    found.sum()
}

fn median(mut run: impl FnMut() -> usize) -> (Duration, usize) {
    let mut lines = 0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            lines = run();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[ROUNDS / 2], lines)
}
