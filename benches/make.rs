//! Makes a store of any size, for measurements: the same for the same size.
//!
//!     cargo bench --bench make -- SESSIONS TURNS BYTES DIRECTORY
//!
//! TURNS of each session and BYTES of what is said in a turn, about. Prints the bytes of the logs.
#![expect(clippy::print_stdout, reason = "what it is asked for")]

mod world;

use std::path::Path;

use world::{Size, make};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` adds a flag of its own behind them; `cargo bench` alone gives no more than that.
    let [sessions, turns, said, directory, ..] = &words[..] else {
        return;
    };
    let number = |word: &String| word.parse().expect("a number");
    let size = Size {
        sessions: number(sessions),
        turns: number(turns),
        said: usize::try_from(number(said)).expect("a size"),
    };
    println!("{}", make(Path::new(directory), size));
}
