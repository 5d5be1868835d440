//! A session's history for whoever takes it elsewhere: every event or every turn in order, one at a
//! time, so that a session of any size costs the places of its lines and one line.
//!
//! Nothing that was redacted or retracted is in it: lines are as a compaction would write them.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

use super::blobs::names_in;
use crate::error::{Code, Error, Result};
use crate::session::attachment::Blob;
use crate::session::event::{Body, Event, Timestamp};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::without_field;

/// The lines of a session as it was at one moment, each id once, in the order of ids: of several
/// that one id has, the line the fold takes.
pub trait Lines: fmt::Debug {
    /// Returns how many there are.
    fn len(&self) -> usize;

    /// Tells whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the id of one of them.
    fn id(&self, n: usize) -> EventId;

    /// Tells whether it is a turn.
    fn is_turn(&self, n: usize) -> bool;

    /// Returns the line, without a newline.
    ///
    /// # Errors
    /// `store_*`.
    fn raw(&self, n: usize) -> Result<Vec<u8>>;

    /// Returns the names of the blobs there are, sorted.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn blobs(&self) -> Result<Vec<String>>;

    /// Reads a blob that a turn names.
    ///
    /// # Errors
    /// Why it cannot be used, in words, as [`super::Store::read_blob`].
    fn read_blob(&self, blob: &Blob) -> std::result::Result<Vec<u8>, String>;

    /// Opens a blob. Returns how many bytes it has, and them.
    ///
    /// # Errors
    /// `store_*`.
    fn blob(&self, name: &str) -> Result<(u64, Box<dyn Read + '_>)>;
}

/// A session that is gone through.
#[derive(Debug)]
pub struct History<'a> {
    /// The session.
    pub id: SessionId,
    /// What its events make of it, the turns left aside.
    pub session: Session,
    /// When its first event was written.
    pub created: Timestamp,
    /// How many turns it has that are not retracted.
    pub turns: u64,
    /// How many places of it are damaged.
    pub damaged: usize,
    lines: Box<dyn Lines + 'a>,
}

impl<'a> History<'a> {
    /// Returns the history that lines make; `None` where there is none. `damaged` is how many
    /// places beside them are no events.
    ///
    /// # Errors
    /// When a line cannot be read.
    pub fn of(id: SessionId, lines: Box<dyn Lines + 'a>, damaged: usize) -> Result<Option<Self>> {
        if lines.is_empty() {
            return Ok(None);
        }
        let created = event(&*lines, 0, id)?.ts;
        let mut session = Session::default();
        for n in (0..lines.len()).filter(|n| !lines.is_turn(*n)) {
            session.apply(event(&*lines, n, id)?);
        }
        session.created = Some(created);
        let is_shown = |n: &usize| {
            let hidden = session.hidden.get(&lines.id(*n));
            lines.is_turn(*n) && !hidden.is_some_and(|hidden| hidden.is_whole())
        };
        let turns = (0..lines.len()).filter(is_shown).count() as u64;
        Ok(Some(Self {
            id,
            session,
            created,
            turns,
            damaged,
            lines,
        }))
    }

    /// Returns how many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Tells whether there is no event; there always is one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns every line, each id once, in the order of ids, without newlines.
    pub fn lines(&self) -> impl Iterator<Item = Result<String>> {
        (0..self.lines.len()).map(|n| {
            let raw = self.lines.raw(n)?;
            let shown = self.without_hidden(n, &raw).unwrap_or(raw);
            Ok(match String::from_utf8(shown) {
                Ok(text) => text,
                Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
            })
        })
    }

    /// Returns a line without what is hidden in it; `None` where that is nothing.
    fn without_hidden(&self, n: usize, raw: &[u8]) -> Option<Vec<u8>> {
        if self.session.hidden.is_empty() {
            return None;
        }
        let hidden = self.session.hidden.get(&self.lines.id(n));
        let masked = hidden.and_then(|hidden| hidden.mask_line(raw));
        if self.lines.is_turn(n) {
            return masked;
        }
        // A summary of a turn that was redacted later may say what is hidden.
        let event = Event::from_slice(raw).ok();
        if event.is_some_and(|event| self.session.hides_summary_of(&event)) {
            return without_field(masked.as_deref().unwrap_or(raw), "summary");
        }
        masked
    }

    /// Returns every turn that is not retracted, in the order they were said, without what is
    /// hidden of it.
    pub fn turns(&self) -> impl Iterator<Item = Result<SaidTurn>> {
        let turns = (0..self.lines.len()).filter(|n| self.lines.is_turn(*n));
        turns.filter_map(|n| self.turn(n).transpose())
    }

    fn turn(&self, n: usize) -> Result<Option<SaidTurn>> {
        let Event {
            id, ts, at, body, ..
        } = event(&*self.lines, n, self.id)?;
        let Body::Turn(turn) = body else {
            return Err(changed(self.id, "a turn is none any more"));
        };
        let shown = match self.session.hidden.get(&id) {
            Some(hidden) => hidden.clone().hide_turn(*turn),
            None => Some(*turn),
        };
        Ok(shown.map(|turn| SaidTurn { id, ts, at, turn }))
    }

    /// Returns the names of the blobs that a line names, sorted. A blob of what was retracted is
    /// named by none.
    ///
    /// # Errors
    /// When they cannot be listed, or a line cannot be read.
    pub fn blobs(&self) -> Result<Vec<String>> {
        let mut there = self.lines.blobs()?;
        if there.is_empty() {
            return Ok(there);
        }
        let mut named = BTreeSet::new();
        for line in self.lines() {
            named.extend(names_in(line?.as_bytes()).map(str::to_owned));
        }
        there.retain(|name| named.contains(name));
        Ok(there)
    }

    /// Reads a blob that a turn names.
    ///
    /// # Errors
    /// Why it cannot be used, in words, as [`super::Store::read_blob`].
    pub fn read_blob(&self, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        self.lines.read_blob(blob)
    }

    /// Opens a blob. Returns how many bytes it has, and them.
    ///
    /// # Errors
    /// `store_*`.
    pub fn blob(&self, name: &str) -> Result<(u64, Box<dyn Read + '_>)> {
        self.lines.blob(name)
    }
}

fn event(lines: &dyn Lines, n: usize, id: SessionId) -> Result<Event> {
    Event::from_slice(&lines.raw(n)?).map_err(|cause| changed(id, cause))
}

/// The error of lines that are not what they were when they were found.
fn changed(id: SessionId, cause: impl fmt::Display) -> Error {
    Error::new(Code::StoreIo, format!("cannot go on with the session {id}"))
        .because(format!(
            "it was changed by something that keeps to no rule: {cause}"
        ))
        .hint("nothing was changed; try again")
        .session(id)
}
