//! A MongoDB server as the place of the store: what is promised of files holds of it as well, on a
//! replica set and on a server by itself.

mod copy;
mod durable;
mod failures;
mod journal;
mod program;
mod proxy;

use std::thread;
use std::time::{Duration, Instant};

use ollama_prompt::store::Uri;
use ollama_prompt::store::mongo::database::Database;
use ollama_prompt::store::mongo::patience::Patience;

use crate::support::PATIENCE;
use crate::support::mongod::Mongod;

/// Connects as the program does.
pub(crate) fn connect(uri: &str) -> Database {
    Database::connect(&Uri::new(String::from(uri)).expect("an address")).expect("a database")
}

pub(crate) fn patience() -> Patience {
    Patience::of(Duration::from_secs(45))
}

/// Waits until a count has grown by so much, and tells whether it has.
fn grows(by: usize, count: impl Fn() -> usize) -> bool {
    let (before, ends) = (count(), Instant::now() + PATIENCE);
    while count() < before + by {
        if Instant::now() > ends {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Kills a server twice while others make a count grow, and lets it come back; tells whether the
/// count grew before each kill and after the last.
fn killed_twice(server: &mut Mongod, away: Duration, count: impl Fn() -> usize) -> bool {
    const LOAD: usize = 25;
    let was_under_load = (0..2).all(|_| {
        let grew = grows(LOAD, &count);
        server.kill();
        thread::sleep(away);
        server.restart();
        grew
    });
    was_under_load && grows(LOAD, &count)
}
