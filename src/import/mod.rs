//! Conversations of other programs, read as sessions of turns: a module for each kind of source,
//! each from its text or its database to [`Item`]s and nothing else. What becomes of them is
//! decided in [`events`] and done by `commands/import.rs`.
//!
//! A source is judged by its content ([`detect`]), never by its name. Whatever in it cannot be
//! understood costs itself: it is told as skipped, or counted as left out, and the rest goes on.

pub mod chatgpt;
pub mod claude;
pub mod codex;
pub mod detect;
pub mod events;
pub mod lines;
#[cfg(feature = "sqlite")]
pub mod llm;
pub mod messages;
pub mod native;
pub mod openai;
#[cfg(feature = "sqlite")]
pub mod python;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::session::event::{Timestamp, Usage};
use crate::session::id::{EventId, SessionId};

/// The program a source comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// What `session export --to jsonl` wrote.
    Native,
    /// The `sessions.db` of the Python tool of the same name.
    Python,
    /// The `logs.db` of `llm`.
    Llm,
    /// Chat JSONL, as OpenAI's tools read it.
    #[value(name = "openai")]
    OpenAi,
    /// The `conversations.json` of an export of ChatGPT.
    #[value(name = "chatgpt")]
    ChatGpt,
    /// A transcript of Claude Code.
    Claude,
    /// A transcript of codex.
    Codex,
}

impl Kind {
    /// Returns the name, as it is typed and as it goes into derived ids: it never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Python => "python",
            Self::Llm => "llm",
            Self::OpenAi => "openai",
            Self::ChatGpt => "chatgpt",
            Self::Claude => "claude",
            Self::Codex => "codex",
        }
    }
}

/// What a source holds, piece by piece.
#[derive(Debug)]
pub enum Item {
    /// A conversation of another program.
    Session(Session),
    /// A session as it was exported, or a part of one.
    Lines(Lines),
    /// Something that is left out as a whole, and why.
    Skipped {
        /// What, so that its owner finds it.
        what: String,
        /// Why.
        why: String,
    },
    /// Parts of conversations that have no place in a session.
    LeftOut {
        /// What they are: `tool_calls`, `attachments`, …
        what: &'static str,
        /// How many.
        count: u64,
    },
}

/// Takes what a source holds, as it is read.
pub type Take<'a> = dyn FnMut(Item) -> Result<()> + 'a;

/// A session as it was exported.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The session.
    pub id: Option<SessionId>,
    /// Its lines.
    pub lines: BTreeMap<EventId, Vec<u8>>,
    /// How many of them are turns.
    pub turns: u64,
    /// Its blobs, by their SHA-256.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// A conversation of another program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// What the source calls it; ids are derived from this where it is no UUID.
    pub key: String,
    /// What it is about, in the words of the source.
    pub title: Option<String>,
    /// The model it asks.
    pub model: Option<String>,
    /// Its system prompt.
    pub system: Option<String>,
    /// Its context budget in tokens.
    pub max_context_tokens: Option<u64>,
    /// When it was begun.
    pub created: Option<Timestamp>,
    /// What the source calls the conversation that this one is a branch of.
    pub forked_from: Option<String>,
    /// What was said, oldest first.
    pub turns: Vec<Turn>,
}

/// One exchange of such a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    /// What tells it from all others of its kind of source, and stays the same when the source
    /// grows.
    pub key: String,
    /// When it was asked.
    pub asked: Option<Timestamp>,
    /// When it was answered.
    pub answered: Option<Timestamp>,
    /// The model that answered.
    pub model: Option<String>,
    /// What the user said.
    pub prompt: String,
    /// What the model said.
    pub response: String,
    /// What it thought before.
    pub thinking: Option<String>,
    /// What it cost, as far as the source says.
    pub usage: Usage,
}

/// Returns where the Python tool keeps its sessions, beneath a home or what `%APPDATA%` names.
#[must_use]
pub fn places_of_the_python_tool(home: Option<&Path>, app_data: Option<&Path>) -> Vec<PathBuf> {
    const DIRECTORIES: [&str; 2] = [".ollama-prompt", ".config/ollama-prompt"];
    let in_home = home.map(|home| DIRECTORIES.map(|dir| home.join(dir).join("sessions.db")));
    let in_app_data = app_data.map(|dir| dir.join("ollama-prompt").join("sessions.db"));
    in_home.into_iter().flatten().chain(in_app_data).collect()
}

/// Parts of conversations that have no place in a session, counted by what they are.
#[derive(Debug, Default)]
pub struct LeftOut(BTreeMap<&'static str, u64>);

impl LeftOut {
    /// Counts one.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// Counts several.
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    /// Says what there is.
    ///
    /// # Errors
    /// What `take` says.
    pub fn tell(self, take: &mut Take<'_>) -> Result<()> {
        let there = self.0.into_iter().filter(|(_, count)| *count > 0);
        for (what, count) in there {
            take(Item::LeftOut { what, count })?;
        }
        Ok(())
    }
}
