//! From what was typed to what was asked for.
//!
//! [`Typed`] mirrors the flags and only checks spelling; [`Env`] is the environment, read there
//! and nowhere else. Together they become an [`Invocation`], which cannot express a combination
//! that means nothing. Nothing here touches the disk, the network or the clock.

mod env;
mod session;
#[cfg(test)]
mod tests;
mod typed;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::{Map, Value};

pub use env::Env;
pub use typed::Typed;

use crate::error::{Code, Error, Result};
use crate::prompt::Source;
use crate::session::event::Settings;
use crate::session::id::{SessionId, SessionRef};
use crate::store::Durability;

/// What is printed of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One indented object.
    Json,
    /// One object on one line.
    Compact,
    /// A line for each chunk as it arrives, the last one the whole object.
    Jsonl,
    /// The reply only, as it arrives.
    Text,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// One turn.
    Turn(Box<Turn>),
    /// All sessions.
    ListSessions,
    /// The index of sessions, made anew.
    Reindex,
    /// The union with another copy of the store.
    Merge {
        /// Its root, or its directory of sessions.
        dir: PathBuf,
        /// Whether sessions that were purged here come back.
        include_purged: bool,
    },
    /// One session.
    SessionInfo(SessionRef),
    /// The end of sessions not used for this many days.
    Purge {
        /// Days; 0 means whatever their last use.
        days: u32,
    },
}

/// What a turn needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Where the user's message comes from.
    pub prompt: Source,
    /// Where the system prompt comes from, if one was given.
    pub system: Option<Source>,
    /// The session it belongs to.
    pub memory: Memory,
    /// The model, if one was given by a flag.
    pub model: Option<String>,
    /// The context budget in tokens, if one was given by a flag.
    pub max_context_tokens: Option<u64>,
    /// What a new session begins with where no flag says otherwise.
    pub defaults: Settings,
    /// The options of the request, `temperature` and `num_predict` among them.
    pub options: Map<String, Value>,
    /// Whether to think, and how much.
    pub think: Option<Value>,
    /// Who is asked.
    pub server: Server,
    /// What is printed.
    pub output: Output,
}

/// The session a turn belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// None: nothing is read or written.
    None,
    /// A new one.
    New,
    /// One that must be there.
    Continue(SessionRef),
    /// The one used last.
    Latest,
    /// One that is made if it is not there.
    ContinueOrCreate(SessionId),
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The built-in echo model.
    Echo,
    /// A server.
    Ollama {
        /// What `OLLAMA_HOST` says.
        host: String,
        /// What `OLLAMA_API_KEY` says.
        api_key: Option<String>,
        /// The longest silence that is waited out.
        silence: Duration,
    },
}

/// A command and what holds for every command.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What was asked for.
    pub command: Command,
    /// The root of the store.
    pub store: StoreRoot,
    /// Whether a turn is synced before it is acknowledged.
    pub durability: Durability,
    /// The longest wait for a lock.
    pub lock_timeout: Duration,
    /// How much is said on standard error: 0 is nothing but failures, 1 the usual, 2 more.
    pub verbosity: u8,
}

/// The root of the store, or why there is none: `--no-session` does not need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRoot {
    /// A directory, which may have to be made.
    At(PathBuf),
    /// The sentence and the hint of the `config` error.
    Unknown(&'static str, &'static str),
}

impl StoreRoot {
    /// Returns the directory.
    ///
    /// # Errors
    /// `config` when the environment names none, or one this build cannot use.
    pub fn path(&self) -> Result<&Path> {
        match self {
            Self::At(path) => Ok(path),
            Self::Unknown(sentence, hint) => Err(Error::new(Code::Config, *sentence).hint(*hint)),
        }
    }
}

/// What parsing the command line gives.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Invocation(Box<Invocation>),
    /// A text that was asked for: help or version.
    Text(String),
}

/// Turns arguments (the program's name first) and environment into what was asked for.
///
/// # Errors
/// `usage` for the arguments, `config` for the environment; the message names the source.
pub fn parse(arguments: impl IntoIterator<Item = OsString>, env: &Env) -> Result<Parsed> {
    match Typed::try_parse_from(arguments) {
        Ok(typed) => Ok(Parsed::Invocation(Box::new(typed.asks_for(env)?))),
        Err(error) if !error.use_stderr() => Ok(Parsed::Text(error.render().to_string())),
        Err(error) => Err(misspelt(&error.render().to_string())),
    }
}

/// Takes clap's message apart: the sentence, and below it what to do.
fn misspelt(message: &str) -> Error {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let (sentence, rest) = message.split_once("\n\n").unwrap_or((message, ""));
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    let tip = rest
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "));
    usage(sentence).hint(tip.unwrap_or("ollama-prompt --help shows every option"))
}

fn usage(sentence: impl Into<String>) -> Error {
    Error::new(Code::Usage, sentence)
}

fn bad_variable(name: &str, value: &str, why: &str) -> Error {
    Error::new(
        Code::Config,
        format!("{name}={value} cannot be used: {why}"),
    )
    .hint(format!("correct or unset {name}"))
}

/// Reads a length of time: `90s`, `10m`, `1h 30m`; a bare number is seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()));
    seconds.unwrap_or_else(|| humantime::parse_duration(text).map_err(|e| e.to_string()))
}
