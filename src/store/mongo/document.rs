//! A document of the log of a session: how it is stored, and how it is read.
//!
//! docs/mongodb.md describes it for people. What no program of this kind wrote is told as damage by
//! whoever reads it, and costs nothing else.

use mongodb::bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::session::event::{Body, Event};
use crate::session::fold::Entry;
use crate::session::id::{EventId, SessionId};

/// Of so many events of a document, the first, id and type stand beside the lines, for people who
/// look.
const NAMED: usize = 100;

/// How far a session was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the last document; 0 before the first.
    pub n: i64,
    /// How many bytes were appended to the session up to there, since it was begun.
    pub end: i64,
}

/// A document as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it ends.
    pub at: Position,
    /// Its lines, each with its newline; none where the session was closed or compacted.
    pub lines: Vec<u8>,
    /// The hash of its lines, where these are stored in parts and are not all there.
    pub lost: Option<String>,
    /// What is left of the session that ended here.
    pub closed: Option<String>,
    /// What has a lower number counts no longer.
    pub from: Option<i64>,
}

/// Lines that are written together, and what they are said to be.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    pub(super) text: Vec<u8>,
    ids: Vec<String>,
    types: Vec<String>,
    keys: Vec<String>,
}

impl Lines {
    /// Adds a line, without its newline; `None` is one that is no event.
    pub fn push(&mut self, event: Option<&Event>, raw: &[u8]) {
        self.text.extend_from_slice(raw);
        self.text.push(b'\n');
        let Some(event) = event.filter(|_| self.ids.len() < NAMED) else {
            return;
        };
        self.ids.push(event.id.to_string());
        self.types.push(event.body.type_name().to_owned());
        if let Body::Turn(turn) = &event.body {
            self.keys
                .extend(turn.key.as_ref().map(|key| key.key.clone()));
        }
    }

    /// Returns how many bytes they have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl<'a> FromIterator<&'a Entry> for Lines {
    fn from_iter<I: IntoIterator<Item = &'a Entry>>(entries: I) -> Self {
        let mut lines = Self::default();
        for Entry { event, raw } in entries {
            lines.push(Some(event), raw);
        }
        lines
    }
}

/// The last document of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The session.
    pub session: SessionId,
    /// Where it ends.
    pub at: Position,
    /// What is left of it, where it was closed.
    pub closed: Option<String>,
}

/// A document as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) _id: String,
    /// The session, for the index of all heads and for sharding.
    pub(super) s: String,
    pub(super) n: i64,
    /// As [`Position::end`].
    pub(super) end: i64,
    /// When it was written, by the clock of who wrote it.
    at: DateTime,
    /// Who wrote it: drawn by lot for each write, to know it again.
    pub(super) by: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lines: Option<String>,
    /// The hash of the lines, where they are too long and stored in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) long: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed: Option<String>,
    /// What has a lower number counts no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<i64>,
}

impl Stored {
    /// Makes the document that comes next, without anything in it.
    fn after(session: SessionId, seen: Position) -> Self {
        let s = session.to_string();
        let n = seen.n + 1;
        Self {
            _id: name(&s, n),
            s,
            n,
            end: seen.end,
            at: DateTime::from_millis(clock::now().as_ms() as i64),
            by: lot(),
            ids: Vec::new(),
            types: Vec::new(),
            keys: Vec::new(),
            lines: None,
            long: None,
            closed: None,
            from: None,
        }
    }

    /// Makes the document of lines, which are in it or, with this hash, in parts.
    pub(super) fn of_lines(session: SessionId, seen: Position, lines: &Lines, text: Text) -> Self {
        let (inline, long) = match text {
            Text::Inline(text) => (Some(text), None),
            Text::Long(hash) => (None, Some(hash)),
        };
        Self {
            end: seen.end + lines.bytes() as i64,
            ids: lines.ids.clone(),
            types: lines.types.clone(),
            keys: lines.keys.clone(),
            lines: inline,
            long,
            ..Self::after(session, seen)
        }
    }

    /// Makes the document by which the session is what stands from a number on.
    pub(super) fn rest(session: SessionId, seen: Position, from: i64) -> Self {
        Self {
            from: Some(from),
            ..Self::after(session, seen)
        }
    }

    /// Makes the document that ends the session; a new one begins after it.
    pub(super) fn closing(session: SessionId, seen: Position, receipt: &str) -> Self {
        let end = Self::after(session, seen);
        Self {
            end: 0,
            from: Some(end.n),
            closed: Some(receipt.to_owned()),
            ..end
        }
    }
}

impl Stored {
    /// Returns what finds the documents of its session that have higher numbers.
    pub(super) fn above(&self) -> Document {
        let (next, end) = (name(&self.s, self.n + 1), format!("{}0", self.s));
        doc! {"_id": {"$gte": next, "$lt": end}, "s": &self.s}
    }
}

/// Where the lines of a document are.
pub(super) enum Text {
    Inline(String),
    Long(String),
}

/// What is read of a document where its lines are not needed.
#[derive(Debug, Deserialize)]
pub(super) struct StoredHead {
    s: String,
    n: i64,
    end: i64,
    #[serde(default)]
    closed: Option<String>,
}

impl StoredHead {
    /// Returns what it says; `None` where `s` is no id.
    pub(super) fn head(self) -> Option<Head> {
        Some(Head {
            session: self.s.parse().ok()?,
            at: Position {
                n: self.n,
                end: self.end,
            },
            closed: self.closed,
        })
    }
}

/// What [`StoredHead`] reads.
pub(super) fn of_head() -> Document {
    doc! {"s": 1, "n": 1, "end": 1, "closed": 1}
}

/// Returns what finds the documents of a session from a number on, and below another.
pub(super) fn between(session: SessionId, from: i64, below: Option<i64>) -> Document {
    let s = session.to_string();
    let end = below.map_or_else(|| format!("{s}0"), |below| name(&s, below));
    doc! {"_id": {"$gte": name(&s, from), "$lt": end}, "s": s}
}

/// Returns the name of a document; names sort as the numbers do.
fn name(session: &str, n: i64) -> String {
    format!("{session}/{n:010}")
}

fn lot() -> String {
    EventId::next(clock::now().as_ms(), None, clock::random_bits()).to_string()
}
