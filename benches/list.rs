//! What protects the promise that a list costs little more than looking at every session once.
//!
//!     cargo bench --bench list -- 10000
//!
//! Beside the program it does by hand what cannot be saved: read the directory, look at each
//! session once, read the index. The number worth keeping is the ratio.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod world;

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use world::{Size, make};

const ROUNDS: usize = 15;

fn main() {
    let sessions = std::env::args().find_map(|word| word.parse().ok());
    let sessions: u64 = sessions.unwrap_or(1000);
    let home = tempfile::TempDir::new().expect("a temporary directory");
    let root = home.path().join("store");
    make(&root, size(sessions));

    let cold = time(|| list(&root));
    age(&root);
    let warm = median(|| list(&root));
    let floor = median(|| by_hand(&root));
    let empty = home.path().join("empty");
    make(&empty, size(0));
    let start = median(|| list(&empty));
    println!("{sessions} sessions");
    println!("  without an index      {cold:>9.1?}");
    println!("  with an index         {warm:>9.1?}");
    println!("  of it, the program    {start:>9.1?}");
    println!("  by hand               {floor:>9.1?}");
    let ratio = warm.saturating_sub(start).as_secs_f64() / floor.as_secs_f64();
    println!("  ratio                 {ratio:>9.2}");
}

/// Sessions of two turns of usual length.
fn size(sessions: u64) -> Size {
    Size {
        sessions,
        turns: 2,
        said: 2000,
    }
}

/// Makes the index so much later than the sessions that it is believed.
fn age(root: &Path) {
    let index = File::options()
        .write(true)
        .open(root.join("cache/index.jsonl"));
    let index = index.expect("the list made an index");
    let written = index.metadata().and_then(|index| index.modified());
    let later = written.expect("a time") + Duration::from_secs(3600);
    index.set_modified(later).expect("the time can be set");
}

fn list(root: &Path) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ollama-prompt"));
    let program = program
        .arg("--list-sessions")
        .env("OLLAMA_PROMPT_HOME", root);
    let status = program.stdout(Stdio::null()).status();
    assert!(status.expect("the program runs").success());
}

fn by_hand(root: &Path) {
    let sessions = root.join("sessions");
    let dir = File::open(&sessions).expect("a directory");
    let names = std::fs::read_dir(&sessions).expect("a directory");
    for entry in names.map(|entry| entry.expect("an entry")) {
        let log = entry.file_name().into_string().expect("UTF-8") + "/events.jsonl";
        // `.gitattributes` is no session.
        let _ = black_box(rustix::fs::statat(
            &dir,
            log,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        ));
    }
    black_box(std::fs::read(root.join("cache/index.jsonl")).expect("an index"));
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| time(&mut run)).collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
