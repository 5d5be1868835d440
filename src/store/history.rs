//! A session's history for whoever takes it elsewhere: every event or every turn in order, one at a
//! time, so that a session of any size costs the places of its lines and one line.
//!
//! Nothing that was redacted or retracted is in it: lines are as a compaction would write them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use super::Store;
use super::blobs;
use super::files::{Access, Dir, Doing};
use super::layout::{BLOBS, is_blob_name};
use super::lines::{Line, Logs};
use crate::error::Result;
use crate::session::attachment::Blob;
use crate::session::event::{Body, Event, Timestamp};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::SessionId;
use crate::session::redact::without_field;

/// A session that is gone through.
#[derive(Debug)]
pub struct History {
    /// The session.
    pub id: SessionId,
    /// What its events make of it, the turns left aside.
    pub session: Session,
    /// When its first event was written.
    pub created: Timestamp,
    /// How many turns it has that are not retracted.
    pub turns: u64,
    /// How many places of its logs are damaged.
    pub damaged: usize,
    dir: Dir,
    logs: Logs,
    lines: Vec<Line>,
}

impl Store {
    /// Opens the history of a session as it is now; what is appended later is not in it. `None`
    /// where there is no such session.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn history(&self, id: SessionId) -> Result<Option<History>> {
        let name = id.to_string();
        let dir = match self.sessions.open_dir(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.doing("open the session", self.sessions.path_of(&name))?,
        };
        let logs = Logs::open(&dir)?;
        let mut found = logs.read()?;
        // What is being written is no damage.
        let damaged = found.damage.len() - usize::from(found.torn.is_some());
        logs.keep_one_of_each(&mut found.lines)?;
        let Some(first) = found.lines.first() else {
            return Ok(None);
        };
        let created = logs.event(first)?.ts;
        let mut session = Session {
            version: found.version,
            ..Session::default()
        };
        for line in found.lines.iter().filter(|line| !line.is_turn) {
            session.apply(logs.event(line)?);
        }
        session.created = Some(created);
        let is_shown = |line: &&Line| {
            line.is_turn && !session.hidden.get(&line.id).is_some_and(|h| h.is_whole())
        };
        let turns = found.lines.iter().filter(is_shown).count() as u64;
        Ok(Some(History {
            id,
            session,
            created,
            turns,
            damaged,
            dir,
            logs,
            lines: found.lines,
        }))
    }
}

impl History {
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
        self.lines.iter().map(|line| {
            let raw = self.logs.raw(line)?;
            let shown = self.without_hidden(line, &raw).unwrap_or(raw);
            Ok(match String::from_utf8(shown) {
                Ok(text) => text,
                Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
            })
        })
    }

    /// Returns a line without what is hidden in it; `None` where that is nothing.
    fn without_hidden(&self, line: &Line, raw: &[u8]) -> Option<Vec<u8>> {
        if self.session.hidden.is_empty() {
            return None;
        }
        let hidden = self.session.hidden.get(&line.id);
        let masked = hidden.and_then(|hidden| hidden.mask_line(raw));
        if line.is_turn {
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
        let turns = self.lines.iter().filter(|line| line.is_turn);
        turns.filter_map(|line| self.turn(line).transpose())
    }

    fn turn(&self, line: &Line) -> Result<Option<SaidTurn>> {
        let Event {
            id, ts, at, body, ..
        } = self.logs.event(line)?;
        let Body::Turn(turn) = body else {
            return Err(self.logs.changed("a turn is none any more"));
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
        let blobs = match self.dir.open_dir(BLOBS) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.doing("open", self.dir.path_of(BLOBS))?,
        };
        let mut there = blobs.names().doing("list", blobs.path())?;
        there.retain(|name| is_blob_name(name));
        if there.is_empty() {
            return Ok(there);
        }
        let mut named = BTreeSet::new();
        for line in self.lines() {
            let line = line?;
            let words = line.split(|c: char| !c.is_ascii_hexdigit());
            named.extend(words.filter(|word| is_blob_name(word)).map(str::to_owned));
        }
        there.retain(|name| named.contains(name));
        Ok(there)
    }

    /// Reads a blob that a turn names.
    ///
    /// # Errors
    /// Why it cannot be used, in words, as [`Store::read_blob`].
    pub fn read_blob(&self, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        blobs::read(&self.dir, blob)
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// As the system says.
    pub fn blob(&self, name: &str) -> Result<File> {
        let open = || self.dir.open_dir(BLOBS)?.open_file(name, Access::Read);
        open().doing("open", self.dir.path().join(BLOBS).join(name))
    }
}
