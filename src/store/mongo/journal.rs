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

use std::cell::Cell;
use std::collections::BTreeSet;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::{Hint, IndexOptions};
use mongodb::{Collection, Cursor, IndexModel};
use serde::Deserialize;

use super::bytes::{Bytes, Use, an_hour_before};
use super::database::Database;
use super::document::{Head, Lines, Position, Stored, StoredHead, Text, Written, between, of_head};
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
struct StoredLong {
    long: String,
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

    /// Reads what a session has after a position and still counts.
    ///
    /// # Errors
    /// `store_*`.
    pub fn read_after(
        &self,
        session: SessionId,
        after: Position,
        patience: &mut Patience,
    ) -> Result<Vec<Written>> {
        let wanted = between(session, after.n + 1, None);
        let read = self.database.read_all(patience, || async {
            let in_order = self
                .documents
                .find(wanted.clone())
                .sort(doc! {"_id": 1})
                .hint(by_id());
            let mut cursor = in_order.await?;
            let mut found: Vec<Stored> = Vec::new();
            while cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                if let Some(from) = document.from {
                    found.retain(|earlier| earlier.n >= from);
                }
                found.push(document);
            }
            Ok(found)
        });
        let read = read.map_err(|error| self.database.failed("read a session", &error))?;
        read.into_iter()
            .map(|document| self.written(document, patience))
            .collect()
    }

    /// Reads the documents of a session one by one, the last one first, also what counts no longer.
    ///
    /// # Errors
    /// `store_*`.
    pub fn backwards(&self, session: SessionId, patience: &mut Patience) -> Result<Backwards<'_>> {
        let all = between(session, 0, None);
        let cursor = self.database.insist(patience, || async {
            let backwards = self.documents.find(all.clone()).sort(doc! {"_id": -1});
            backwards.batch_size(BACKWARDS_AT_ONCE).hint(by_id()).await
        });
        let cursor = cursor.map_err(|error| self.database.failed("read a session", &error))?;
        Ok(Backwards {
            journal: self,
            cursor,
        })
    }

    /// Returns the first document of a session that ends behind a place of the log.
    ///
    /// # Errors
    /// `store_*`.
    pub fn document_at(
        &self,
        session: SessionId,
        offset: u64,
        patience: &mut Patience,
    ) -> Result<Option<Written>> {
        let mut wanted = between(session, 0, None);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        wanted.insert("end", doc! {"$gt": offset});
        let found = self.database.insist(patience, || async {
            let first = self.documents.find_one(wanted.clone());
            first.sort(doc! {"_id": 1}).hint(by_id()).await
        });
        let found = found.map_err(|error| self.database.failed("read a session", &error))?;
        found
            .map(|document| self.written(document, patience))
            .transpose()
    }

    /// Returns the last document of a session; `None` where it never had one.
    ///
    /// # Errors
    /// `store_*`.
    pub fn head(&self, session: SessionId, patience: &mut Patience) -> Result<Option<Head>> {
        let all = between(session, 0, None);
        let heads = self.documents.clone_with_type::<StoredHead>();
        let found = self.database.insist(patience, || async {
            let last = heads.find_one(all.clone()).sort(doc! {"_id": -1});
            last.hint(by_id()).projection(of_head()).await
        });
        let found = found.map_err(|error| self.database.failed("read a session", &error))?;
        Ok(found.and_then(StoredHead::head))
    }

    /// Returns the last document of every session, by id. What is none that a program of this kind
    /// wrote is passed over; [`Journal::strangers`] finds it.
    ///
    /// # Errors
    /// `store_*`.
    pub fn heads(&self, patience: &mut Patience) -> Result<Vec<Head>> {
        let found = self.database.read_all(patience, || async {
            let heads = self
                .documents
                .aggregate(last_of_each())
                .allow_disk_use(true);
            read_heads(heads.with_type::<StoredHead>().await?).await
        });
        let mut heads = found.map_err(|error| self.database.failed("list the sessions", &error))?;
        heads.sort_unstable_by_key(|head| head.session);
        Ok(heads)
    }

    /// Returns the names of documents that no program of this kind can have written.
    ///
    /// # Errors
    /// `store_*`.
    pub fn strangers(&self, patience: &mut Patience) -> Result<Vec<String>> {
        let is_not = |field: &str, kind: &str| doc! {field: {"$not": {"$type": kind}}};
        let strange = doc! {"$or": [
            is_not("s", "string"), is_not("n", "long"), is_not("end", "long"),
        ]};
        let documents = self.documents.clone_with_type::<Document>();
        let found = self.database.read_all(patience, || async {
            let only = doc! {"_id": 1};
            let mut cursor = documents.find(strange.clone()).projection(only).await?;
            let mut names = Vec::new();
            while cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                names.extend(document.get("_id").map(ToString::to_string));
            }
            Ok(names)
        });
        found.map_err(|error| self.database.failed("verify the documents", &error))
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

    /// Takes note that a session will have something to be swept, before it has.
    ///
    /// # Errors
    /// `store_*`.
    pub fn will_sweep(&self, session: SessionId, patience: &mut Patience) -> Result<()> {
        let note = doc! {"_id": session.to_string()};
        let noted = self.database.insist(patience, || async {
            let put = self.sweeps.replace_one(note.clone(), doc! {});
            put.upsert(true).await
        });
        noted
            .map(drop)
            .map_err(|error| self.database.failed("store what is to be removed", &error))
    }

    /// Removes what a session has that counts no longer; of one that was closed also all its bytes
    /// that nobody stored since `before`, which is an hour ago if it is not known better.
    ///
    /// # Errors
    /// `store_*`; doing it again goes on.
    pub fn sweep(
        &self,
        session: SessionId,
        before: Option<DateTime>,
        patience: &mut Patience,
    ) -> Result<()> {
        let owner = session.to_string();
        if let Some(base) = self.base(session, patience)? {
            let below = between(session, 0, Some(base.from));
            let texts = self.texts(&below, patience)?;
            let removed = self.database.insist(patience, || async {
                let removal = self.documents.delete_many(below.clone());
                removal.hint(by_id()).await
            });
            removed.map_err(|error| self.database.failed("remove documents", &error))?;
            let before = match before {
                Some(before) => before,
                None => an_hour_before(self.database.time(patience)?),
            };
            let in_use = self.texts(&between(session, 0, None), patience)?;
            for text in texts.difference(&in_use) {
                self.bytes.remove(&owner, text, before, patience)?;
            }
            let head = self.head(session, patience)?;
            if base.closed.is_some() && head.is_some_and(|head| head.closed.is_some()) {
                self.bytes.remove_all(&owner, before, patience)?;
                if self.bytes.has_any(&owner, patience)? {
                    // Of a writer that has not seen yet that the session ended.
                    return Ok(());
                }
            }
        }
        let done = doc! {"_id": owner};
        let swept = self.database.insist(patience, || async {
            self.sweeps.delete_one(done.clone()).await
        });
        swept
            .map(drop)
            .map_err(|error| self.database.failed("remove a note", &error))
    }

    /// Tells whether [`Journal::will_sweep`] was said of a session, and it was not swept.
    ///
    /// # Errors
    /// `store_*`.
    pub fn is_to_be_swept(&self, session: SessionId, patience: &mut Patience) -> Result<bool> {
        let note = doc! {"_id": session.to_string()};
        let found = self.database.insist(patience, || async {
            self.sweeps.find_one(note.clone()).await
        });
        found
            .map(|found| found.is_some())
            .map_err(|error| self.database.failed("read what is to be removed", &error))
    }

    /// Returns the sessions that [`Journal::will_sweep`] was said of, and not swept.
    ///
    /// # Errors
    /// `store_*`.
    pub fn to_be_swept(&self, patience: &mut Patience) -> Result<Vec<SessionId>> {
        let found = self.database.read_all(patience, || async {
            let mut cursor = self.sweeps.find(doc! {}).await?;
            let mut sessions = Vec::new();
            while cursor.advance().await? {
                let note = cursor.deserialize_current()?;
                let id = note.get_str("_id").ok();
                sessions.extend(id.and_then(|id| id.parse::<SessionId>().ok()));
            }
            Ok(sessions)
        });
        found.map_err(|error| self.database.failed("read what is to be removed", &error))
    }

    /// Removes texts in parts that are old and that no document of a session names: of writers who
    /// were not the first at their number.
    ///
    /// # Errors
    /// `store_*`.
    pub fn sweep_texts(&self, session: SessionId, patience: &mut Patience) -> Result<()> {
        let owner = session.to_string();
        let (old, before) = self.bytes.old(&owner, Use::Text, patience)?;
        if old.is_empty() {
            return Ok(());
        }
        let in_use = self.texts(&between(session, 0, None), patience)?;
        for text in old.iter().filter(|text| !in_use.contains(*text)) {
            self.bytes.remove(&owner, text, before, patience)?;
        }
        Ok(())
    }

    /// Returns the hashes of the texts in parts that some documents name.
    fn texts(&self, which: &Document, patience: &mut Patience) -> Result<BTreeSet<String>> {
        let mut which = which.clone();
        which.insert("long", doc! {"$exists": true});
        let named = self.documents.clone_with_type::<StoredLong>();
        let found = self.database.read_all(patience, || async {
            let only = doc! {"_id": 0, "long": 1};
            let found = named.find(which.clone()).projection(only).hint(by_id());
            let mut cursor = found.await?;
            let mut found = BTreeSet::new();
            while cursor.advance().await? {
                found.insert(cursor.deserialize_current()?.long);
            }
            Ok(found)
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Returns the last document that says from which number on a session counts.
    fn base(&self, session: SessionId, patience: &mut Patience) -> Result<Option<StoredFrom>> {
        let mut bases = between(session, 0, None);
        bases.insert("from", doc! {"$exists": true});
        let documents = self.documents.clone_with_type::<StoredFrom>();
        let found = self.database.insist(patience, || async {
            let last = documents.find_one(bases.clone()).sort(doc! {"_id": -1});
            last.hint(by_id()).await
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Returns the numbers of the documents of a session that count, after 0 where it was neither
    /// closed nor compacted, and the first of those that count no longer.
    ///
    /// # Errors
    /// `store_*`.
    pub fn numbers(
        &self,
        session: SessionId,
        patience: &mut Patience,
    ) -> Result<(Vec<i64>, Option<i64>)> {
        #[derive(Deserialize)]
        struct Number {
            n: i64,
            #[serde(default)]
            from: Option<i64>,
        }
        let all = between(session, 0, None);
        let documents = self.documents.clone_with_type::<Number>();
        let found = self.database.read_all(patience, || async {
            let in_order = documents.find(all.clone()).sort(doc! {"_id": 1});
            let only = doc! {"n": 1, "from": 1};
            let mut cursor = in_order.projection(only).hint(by_id()).await?;
            let (mut numbers, mut rest) = (vec![0], None);
            while cursor.advance().await? {
                let Number { n, from } = cursor.deserialize_current()?;
                if let Some(from) = from {
                    rest = rest.or(numbers.iter().copied().find(|n| (1..from).contains(n)));
                    numbers.retain(|n| *n >= from);
                }
                numbers.push(n);
            }
            Ok((numbers, rest))
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Returns what is left of the sessions that were closed, those among them that were begun
    /// again.
    ///
    /// # Errors
    /// `store_*`.
    pub fn receipts(&self, patience: &mut Patience) -> Result<Vec<Head>> {
        let heads = self.documents.clone_with_type::<StoredHead>();
        let found = self.database.read_all(patience, || async {
            let closed = heads.find(doc! {"closed": {"$exists": true}});
            read_heads(closed.sort(doc! {"_id": 1}).projection(of_head()).await?).await
        });
        found.map_err(|error| self.database.failed("read the receipts", &error))
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

    fn written(&self, document: Stored, patience: &mut Patience) -> Result<Written> {
        let (mut lines, mut lost) = (Vec::new(), None);
        match (document.lines, document.long) {
            (Some(text), _) => lines = text.into_bytes(),
            (None, Some(hash)) => match self.bytes.get(&document.s, &hash, patience) {
                Ok(Some(text)) => lines = text,
                Ok(None) => lost = Some(hash),
                Err(error) if error.code == Code::Damaged => lost = Some(hash),
                Err(error) => return Err(error),
            },
            (None, None) => {}
        }
        Ok(Written {
            at: Position {
                n: document.n,
                end: document.end,
            },
            lines,
            lost,
            closed: document.closed,
            from: document.from,
        })
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

/// How many documents are fetched at once by who reads backwards.
const BACKWARDS_AT_ONCE: u32 = 32;

/// The documents of a session, the last one first.
#[derive(Debug)]
pub struct Backwards<'a> {
    journal: &'a Journal,
    cursor: Cursor<Stored>,
}

impl Backwards<'_> {
    /// Returns the next one.
    ///
    /// # Errors
    /// `store_*`.
    pub fn next(&mut self, patience: &mut Patience) -> Result<Option<Written>> {
        let database = &self.journal.database;
        let failed = |error: DriverError| database.failed("read a session", &error);
        if !database.wait(self.cursor.advance()).map_err(failed)? {
            return Ok(None);
        }
        let document = self.cursor.deserialize_current().map_err(failed)?;
        self.journal.written(document, patience).map(Some)
    }
}

/// Returns what finds the last document of each session. With the index it reads one key of each.
pub fn last_of_each() -> [Document; 2] {
    [
        doc! {"$sort": {"s": -1, "n": -1}},
        doc! {"$group": {
            "_id": "$s",
            "s": {"$first": "$s"},
            "n": {"$first": "$n"},
            "end": {"$first": "$end"},
            "closed": {"$first": "$closed"},
        }},
    ]
}

async fn read_heads(mut cursor: Cursor<StoredHead>) -> std::result::Result<Vec<Head>, DriverError> {
    let mut heads = Vec::new();
    while cursor.advance().await? {
        let head = cursor.deserialize_current().ok();
        heads.extend(head.and_then(StoredHead::head));
    }
    Ok(heads)
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
