//! A MongoDB server as the place of the store: what is promised of files holds of it as well, on a
//! replica set and on a server by itself.

mod copy;
mod durable;
mod failures;
mod journal;
mod program;
mod proxy;

use std::time::Duration;

use ollama_prompt::store::Uri;
use ollama_prompt::store::mongo::database::Database;
use ollama_prompt::store::mongo::patience::Patience;

/// Connects as the program does.
pub(crate) fn connect(uri: &str) -> Database {
    Database::connect(&Uri::new(String::from(uri)).expect("an address")).expect("a database")
}

pub(crate) fn patience() -> Patience {
    Patience::of(Duration::from_secs(45))
}
