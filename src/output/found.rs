//! What a search found: lines for programs, and for people.

use schemars::JsonSchema;
use serde::Serialize;

use super::table::{minute, one_line, short_id};
use crate::json;
use crate::session::event::Timestamp;
use crate::session::id::{EventId, SessionId};
use crate::store::search::Hit;

/// `session search`: a message with matches.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Found<'a> {
    /// The session.
    pub session_id: SessionId,
    /// The turn; null for a system prompt.
    pub turn: Option<EventId>,
    /// What names both wherever a turn or a session is asked for.
    pub address: String,
    /// `user`, `assistant`, `thinking` or `system`.
    pub role: &'static str,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// The model of the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    /// How many matches the message has.
    pub count: usize,
    /// What stands around the first of them.
    pub snippet: &'a str,
    /// Where that begins in the message, in bytes of UTF-8.
    pub offset: usize,
    /// The matches in it, `[start, end)` in bytes of the snippet's UTF-8.
    pub matches: Vec<[usize; 2]>,
}

impl<'a> Found<'a> {
    /// Makes the line of a message.
    #[must_use]
    pub fn new(session_id: SessionId, hit: &'a Hit) -> Self {
        let turn = hit.is_turn.then_some(hit.event);
        let matches = hit.snippet.matches.iter();
        Self {
            session_id,
            turn,
            address: match turn {
                Some(turn) => format!("{session_id}:{turn}"),
                None => session_id.to_string(),
            },
            role: hit.role.name(),
            timestamp: hit.ts,
            model: hit.model.as_deref(),
            count: hit.count,
            snippet: &hit.snippet.text,
            offset: hit.snippet.offset,
            matches: matches.map(|found| [found.start, found.end]).collect(),
        }
    }

    /// Returns it for programs, newline included.
    #[must_use]
    pub fn line(&self) -> String {
        json::line(self) + "\n"
    }

    /// Returns it for people, newline included.
    #[must_use]
    pub fn text(&self) -> String {
        let session = short_id(self.session_id);
        let turn = self.turn.map(|turn| format!(":{turn}")).unwrap_or_default();
        let time = minute(self.timestamp);
        let (role, said) = (self.role, one_line(self.snippet));
        format!("{session}{turn}  {time}  {role}: {said}\n")
    }
}

/// `session search --count`: a session and how much of it matches.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct FoundIn {
    /// The session.
    pub session_id: SessionId,
    /// How many messages match.
    pub messages: usize,
    /// How many matches they have.
    pub matches: usize,
}

impl FoundIn {
    /// Returns it for programs, newline included.
    #[must_use]
    pub fn line(&self) -> String {
        json::line(self) + "\n"
    }

    /// Returns it for people, newline included.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            session_id,
            messages,
            matches,
        } = self;
        format!("{session_id}  {messages} messages, {matches} matches\n")
    }
}

/// `session search --files-with-matches`: a session.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct FoundSession {
    /// The session.
    pub session_id: SessionId,
}

impl FoundSession {
    /// Returns it for programs, newline included.
    #[must_use]
    pub fn line(&self) -> String {
        json::line(self) + "\n"
    }

    /// Returns it for people, newline included.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n", self.session_id)
    }
}
