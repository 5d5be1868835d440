//! The log of a session as documents that are only ever inserted, and removed when they count no
//! longer.
//!
//! A document is one append: the lines of the events that were written together, as the bytes the
//! log of a file store would have, and its number `n` in the session, from 1 and without gaps. All
//! documents in the order of `n`, one after the other, are the log.
//!
//! Its `_id` is session and number, so that of all who append to one head the server lets one in,
//! by the one index that every collection has; the others read what came in and decide anew.
//! The event's own id cannot be that name: a fork has the events of its parent. A try whose
//! outcome is unknown is made again under the same `_id`, and finds the document there that it
//! wrote itself, or another.
//!
//! A purge is one more document, which closes the session, and a compaction some more, of which
//! the last says from which number on the session is: whatever has a lower number counts no longer
//! and is removed. Numbers that were removed are free again, so a writer looks whether anything
//! above its own document says that it does not count, before it believes it.

mod reading;
mod sweep;

pub use reading::Backwards;

use std::cell::Cell;

use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::{Hint, IndexOptions};
use mongodb::{Collection, IndexModel};
use serde::Deserialize;

use super::bytes::{Bytes, Use};
use super::database::Database;
use super::document::{Lines, Position, Stored, Text, Written};
use super::failure::{is_duplicate, is_unknown, was_never_sent};
use super::patience::Patience;
use crate::error::{Code, Error, Result};
use crate::session::fold::Entry;
use crate::session::id::SessionId;

/// The longest text that is stored in the document itself.
const INLINE: usize = 8 << 20;

/// What is to be written, knowing what is there.
#[derive(Debug)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// These events, together.
    Append(Vec<Entry>),
    /// The end of the session, with what is left of it.
    Close(String),
}

/// What a document is made of.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// Lines.
    Lines(&'a Lines),
    /// That the session is what stands from this number on.
    Rest(i64),
    /// The end of the session, with what is left of it.
    Close(&'a str),
}

/// The logs of a database.
#[derive(Debug, Clone)]
pub struct Journal {
    database: Database,
    documents: Collection<Stored>,
    /// Sessions of which something may be left that counts no longer.
    sweeps: Collection<Document>,
    bytes: Bytes,
}

#[derive(Debug, Deserialize)]
struct StoredFrom {
    from: i64,
    #[serde(default)]
    closed: Option<String>,
}

/// What became of an insert.
enum Outcome {
    Stored,
    Taken,
}

impl Journal {
    /// Returns the logs of `database`.
    #[must_use]
    pub fn of(database: &Database) -> Self {
        Self {
            database: database.clone(),
            documents: database.collection("events"),
            sweeps: database.collection("sweeps"),
            bytes: Bytes::of(database),
        }
    }

    /// Writes at the end of what was seen of a session, and returns where that ends; `None` where
    /// somebody else wrote there first, after a wait that keeps those who met from meeting again.
    ///
    /// # Errors
    /// `store_*`: `store_io` when it is not known whether it was written; `store_locked` where others
    /// were faster for as long as `patience` lasts.
    pub fn write(
        &self,
        session: SessionId,
        seen: Position,
        content: &Content<'_>,
        patience: &mut Patience,
    ) -> Result<Option<Position>> {
        let document = match content {
            Content::Lines(lines) => {
                let text = self.text(session, lines, patience)?;
                Stored::of_lines(session, seen, lines, text)
            }
            Content::Rest(from) => Stored::rest(session, seen, *from),
            Content::Close(receipt) => Stored::closing(session, seen, receipt),
        };
        if seen.n == 0 {
            self.make_indexes();
        }
        if let Outcome::Stored = self.insert(&document, patience)? {
            patience.is_renewed();
            if document.long.is_some()
                && let Content::Lines(lines) = content
            {
                // A purge that saw no session there may have taken its text along.
                let _ = self.text(session, lines, patience);
            }
            return Ok(Some(Position {
                n: document.n,
                end: document.end,
            }));
        }
        // What was stored in parts for it may be what somebody else names: compaction looks.
        match patience.next_wait() {
            Some(wait) => self.database.pause(wait).map(|()| None),
            None => {
                let sentence = format!("cannot append to the session {session}");
                Err(Error::new(Code::StoreLocked, sentence)
                    .because("others were faster for as long as this one waited")
                    .hint("try again, or wait longer with OLLAMA_PROMPT_LOCK_TIMEOUT")
                    .session(session))
            }
        }
    }

    /// Writes what `decide` makes of what is there. It is shown what came in since `seen`, and
    /// where that ends; where somebody else writes first it is asked again with what that was, and
    /// what it said before is forgotten.
    ///
    /// # Errors
    /// Whatever `decide` refuses; as [`Journal::write`].
    pub fn append(
        &self,
        session: SessionId,
        seen: Position,
        patience: &mut Patience,
        decide: &mut dyn FnMut(&[Written], Position) -> Result<Decision>,
    ) -> Result<Position> {
        let mut seen = seen;
        loop {
            let news = self.read_after(session, seen, patience)?;
            if let Some(last) = news.last() {
                seen = last.at;
            }
            let written = match decide(&news, seen)? {
                Decision::Nothing => return Ok(seen),
                Decision::Append(entries) if entries.is_empty() => return Ok(seen),
                Decision::Append(entries) => {
                    let lines = entries.iter().collect();
                    self.write(session, seen, &Content::Lines(&lines), patience)?
                }
                Decision::Close(receipt) => {
                    self.write(session, seen, &Content::Close(&receipt), patience)?
                }
            };
            if let Some(end) = written {
                return Ok(end);
            }
        }
    }

    /// Inserts a document until it is known whether it is there and counts.
    fn insert(&self, document: &Stored, patience: &mut Patience) -> Result<Outcome> {
        // Whether an attempt may have got through of which that is not known.
        let may_be_there = Cell::new(false);
        let failed = |error: &DriverError| {
            let told = self.database.failed("store the turn", error);
            let is_uncertain = may_be_there.get() && is_unknown(error);
            if is_uncertain && told.code == Code::StoreUnreachable {
                uncertain(&told)
            } else {
                told
            }
        };
        let inserted = self.database.insist(patience, || async {
            let before = may_be_there.replace(true);
            let inserted = self.documents.insert_one(document).await;
            let is_out = |error: &DriverError| was_never_sent(error) || !is_unknown(error);
            if inserted.as_ref().err().is_some_and(is_out) {
                may_be_there.set(before);
            }
            inserted
        });
        match inserted {
            Ok(_) => may_be_there.set(true),
            Err(error) if is_duplicate(&error) => {
                let is_own = self.is_own(document, patience);
                if !is_own.map_err(|error| failed(&error))? {
                    return Ok(Outcome::Taken);
                }
                may_be_there.set(true);
            }
            Err(error) => return Err(failed(&error)),
        }
        let superseded = self.is_superseded(document, patience);
        if !superseded.map_err(|error| failed(&error))? {
            return Ok(Outcome::Stored);
        }
        let own = doc! {"_id": &document._id, "s": &document.s, "by": &document.by};
        // It does not count, and what counts no longer is removed by the next sweep at the latest.
        let _ = self
            .database
            .wait(async { self.documents.delete_one(own).await });
        Ok(Outcome::Taken)
    }

    /// Tells whether the document that has the name of this one is this one, from an attempt of
    /// which nothing was heard; and if so, waits until a majority has it.
    fn is_own(
        &self,
        document: &Stored,
        patience: &mut Patience,
    ) -> std::result::Result<bool, DriverError> {
        let own = doc! {"_id": &document._id, "s": &document.s, "by": &document.by};
        // A change to what it is already: nothing is written, and that is acknowledged when all
        // that was written before it is as durable as was asked for.
        let same = doc! {"$set": {"by": &document.by}};
        let found = self.database.insist(patience, || async {
            self.documents.update_one(own.clone(), same.clone()).await
        });
        found.map(|found| found.matched_count == 1)
    }

    /// Tells whether something above a document says that it does not count: the session was closed
    /// or compacted, and its number free again.
    fn is_superseded(
        &self,
        document: &Stored,
        patience: &mut Patience,
    ) -> std::result::Result<bool, DriverError> {
        let mut above = document.above();
        above.insert("from", doc! {"$gt": document.n});
        let documents = self.documents.clone_with_type::<StoredFrom>();
        let found = self.database.insist(patience, || async {
            documents.find_one(above.clone()).hint(by_id()).await
        });
        found.map(|found| found.is_some())
    }

    /// Stores a text in parts, if it does not fit a document.
    fn text(&self, session: SessionId, lines: &Lines, patience: &mut Patience) -> Result<Text> {
        if lines.bytes() > INLINE {
            let owner = session.to_string();
            let put = self.bytes.put(&owner, Use::Text, &lines.text, patience);
            return put.map(Text::Long);
        }
        let text = String::from_utf8(lines.text.clone());
        text.map(Text::Inline)
            .map_err(|cause| Error::new(Code::Internal, "a line is not UTF-8").because(cause))
    }

    /// Makes the indexes a list wants. Nothing depends on them but how fast it is, so a user who
    /// may not make any goes without.
    fn make_indexes(&self) {
        let heads = IndexModel::builder().keys(doc! {"s": 1, "n": 1}).build();
        let closed = IndexOptions::builder()
            .partial_filter_expression(doc! {"closed": {"$exists": true}})
            .build();
        let closed = IndexModel::builder()
            .keys(doc! {"closed": 1})
            .options(closed)
            .build();
        let make = async { self.documents.create_indexes([heads, closed]).await };
        self.database.try_briefly(make);
    }
}

/// Returns the error of a write of which nothing was heard, for whoever might try it again.
fn uncertain(cause: &Error) -> Error {
    Error::new(Code::StoreIo, "cannot tell whether the turn is stored")
        .because(cause)
        .hint("look with `session show` when the server is back, before you ask again")
}

fn by_id() -> Hint {
    Hint::Keys(doc! {"_id": 1})
}
