//! The log of a session as documents that are only ever inserted.
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
//! A purge is one more document, which closes the session: whatever has a lower number counts
//! no longer and is removed. A number that was taken is never free again but by that, so a writer
//! looks whether the session was closed above its own document before it believes it.

use std::collections::BTreeSet;

use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{IndexOptions, ReturnDocument};
use mongodb::{Collection, IndexModel};
use serde::{Deserialize, Serialize};

use super::bytes::{Bytes, Use};
use super::database::Database;
use super::failure::is_duplicate;
use super::patience::Patience;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::event::Body;
use crate::session::fold::Entry;
use crate::session::id::{EventId, SessionId};

/// The longest text that is stored in the document itself.
const INLINE: usize = 8 << 20;

/// Of so many events of a document, the first, id and type stand beside the lines, for people who
/// look.
const NAMED: usize = 100;

/// How far a session was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the last document; 0 before the first.
    pub n: i64,
    /// How many bytes the log has up to there.
    pub end: i64,
}

/// A document as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it ends.
    pub at: Position,
    /// Its lines, each with its newline; none where the session was closed.
    pub lines: Vec<u8>,
    /// What is left of the session that ended here.
    pub closed: Option<String>,
    rev: i64,
}

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
    /// The lines of these events.
    Lines(&'a [Entry]),
    /// The end of the session, with what is left of it.
    Close(&'a str),
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
    /// How often a compaction rewrote the session since this was its last document.
    pub rewrites: i64,
}

/// The logs of a database.
#[derive(Debug, Clone)]
pub struct Journal {
    database: Database,
    documents: Collection<Stored>,
    bytes: Bytes,
}

/// A document as it is stored; docs/mongodb.md describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    _id: String,
    /// The session, for the index of all heads and for sharding.
    s: String,
    n: i64,
    /// Bytes of the log up to and with this document.
    end: i64,
    /// When it was written, by the clock of who wrote it.
    at: DateTime,
    /// Who wrote it: drawn by lot for each write, to know it again.
    by: String,
    /// How often a compaction rewrote it.
    #[serde(default)]
    rev: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ids: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<String>,
    /// The hash of the lines, where they are too long and stored in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StoredHead {
    s: String,
    n: i64,
    end: i64,
    #[serde(default)]
    closed: Option<String>,
    #[serde(default)]
    rewrites: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct StoredLong {
    long: String,
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
            bytes: Bytes::of(database),
        }
    }

    /// Reads what a session has after a position: from its last end on, if it was closed.
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
        let read = self.database.insist(patience, || async {
            let in_order = self
                .documents
                .find(wanted.clone())
                .sort(doc! {"_id": 1})
                .hint(by_id());
            let mut cursor = in_order.await?;
            let mut found: Vec<Stored> = Vec::new();
            while cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                if document.closed.is_some() {
                    found.clear();
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

    /// Reads some documents of a session that have a lower number than `below`, the last one first.
    ///
    /// # Errors
    /// `store_*`.
    pub fn read_below(
        &self,
        session: SessionId,
        below: i64,
        limit: i64,
        patience: &mut Patience,
    ) -> Result<Vec<Written>> {
        let wanted = between(session, 0, Some(below));
        let read = self.database.insist(patience, || async {
            let backwards = self.documents.find(wanted.clone()).sort(doc! {"_id": -1});
            let mut cursor = backwards.limit(limit).hint(by_id()).await?;
            let mut found: Vec<Stored> = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        });
        let read = read.map_err(|error| self.database.failed("read a session", &error))?;
        let read = read.into_iter();
        read.map(|document| self.written(document, patience))
            .collect()
    }

    /// Returns the document that has a place of the log, as it was before any compaction.
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
        let heads = self.database.collection::<StoredHead>("events");
        let found = self.database.insist(patience, || async {
            heads
                .find_one(all.clone())
                .sort(doc! {"_id": -1})
                .hint(by_id())
                .projection(doc! {"s": 1, "n": 1, "end": 1, "closed": 1, "rewrites": 1})
                .await
        });
        let found = found.map_err(|error| self.database.failed("read a session", &error))?;
        Ok(found.and_then(|head| head_of(&head)))
    }

    /// Returns the last document of every session, by id.
    ///
    /// # Errors
    /// `store_*`.
    pub fn heads(&self, patience: &mut Patience) -> Result<Vec<Head>> {
        // With the index this reads one key of each session.
        let last_of_each = [
            doc! {"$sort": {"s": -1, "n": -1}},
            doc! {"$group": {
                "_id": "$s",
                "s": {"$first": "$s"},
                "n": {"$first": "$n"},
                "end": {"$first": "$end"},
                "closed": {"$first": "$closed"},
                "rewrites": {"$first": "$rewrites"},
            }},
        ];
        let found = self.database.insist(patience, || async {
            let aggregate = self
                .documents
                .aggregate(last_of_each.clone())
                .allow_disk_use(true);
            let mut cursor = aggregate.with_type::<StoredHead>().await?;
            let mut heads = Vec::new();
            while cursor.advance().await? {
                heads.extend(head_of(&cursor.deserialize_current()?));
            }
            Ok(heads)
        });
        let mut heads = found.map_err(|error| self.database.failed("list the sessions", &error))?;
        heads.sort_unstable_by_key(|head| head.session);
        Ok(heads)
    }

    /// Writes at the end of what was seen of a session, and returns where that ends; `None` where
    /// somebody else wrote there first, after a wait that keeps those who met from meeting again.
    ///
    /// # Errors
    /// `store_*`: when the server did not answer within `patience` it is not known whether it was
    /// written; `store_locked` where others were faster for as long.
    pub fn write(
        &self,
        session: SessionId,
        seen: Position,
        content: &Content<'_>,
        patience: &mut Patience,
    ) -> Result<Option<Position>> {
        let document = match content {
            Content::Lines(entries) => self.document(session, seen, entries, patience)?,
            Content::Close(receipt) => closing(session, seen, (*receipt).to_owned()),
        };
        if seen.n == 0 {
            self.make_indexes();
        }
        if let Outcome::Stored = self.insert(&document, patience)? {
            if let (Some(_), Content::Lines(entries)) = (&document.long, content) {
                // A compaction that found them before anybody named them has removed them.
                self.bytes
                    .put(&document.s, Use::Text, &lines_of(entries), patience)?;
            }
            return Ok(Some(Position {
                n: document.n,
                end: document.end,
            }));
        }
        // What was stored in parts for it may be what somebody else names: compaction looks.
        match patience.next_wait() {
            Some(wait) => {
                self.database.wait(async { tokio::time::sleep(wait).await });
                Ok(None)
            }
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
            let decision = decide(&news, seen)?;
            let content = match &decision {
                Decision::Nothing => return Ok(seen),
                Decision::Append(entries) if entries.is_empty() => return Ok(seen),
                Decision::Append(entries) => Content::Lines(entries),
                Decision::Close(receipt) => Content::Close(receipt),
            };
            if let Some(end) = self.write(session, seen, &content, patience)? {
                return Ok(end);
            }
        }
    }

    /// Puts other events in the place of those of one document, if nobody did meanwhile. This is
    /// for compaction: the number stays taken also when no event is left of it.
    ///
    /// # Errors
    /// `store_*`.
    pub fn rewrite(
        &self,
        session: SessionId,
        old: &Written,
        entries: &[Entry],
        patience: &mut Patience,
    ) -> Result<bool> {
        let before = Position {
            n: old.at.n - 1,
            end: old.at.end,
        };
        let new = self.document(session, before, entries, patience)?;
        let mut set = doc! {"ids": new.ids, "types": new.types, "keys": new.keys};
        let mut unset = Document::new();
        for (key, value) in [("lines", new.lines), ("long", new.long.clone())] {
            match value {
                Some(value) => drop(set.insert(key, value)),
                None => drop(unset.insert(key, "")),
            }
        }
        let mut change = doc! {"$set": set, "$inc": {"rev": 1}};
        if !unset.is_empty() {
            change.insert("$unset", unset);
        }
        let which = doc! {"_id": &new._id, "s": &new.s, "rev": old.rev};
        // The document before the change names the parts nobody needs any more.
        let changed = self.database.insist(patience, || async {
            let change = self
                .documents
                .find_one_and_update(which.clone(), change.clone());
            change.return_document(ReturnDocument::Before).await
        });
        let changed = changed.map_err(|error| self.database.failed("compact a session", &error))?;
        let Some(changed) = changed else {
            return Ok(false);
        };
        if let Some(long) = changed.long
            && !self.texts_in_use(session, patience)?.contains(&long)
        {
            self.bytes.remove(&new.s, &long, patience)?;
        }
        Ok(true)
    }

    /// Removes texts in parts that no document of a session names: of writers who were not the
    /// first at their number.
    ///
    /// # Errors
    /// `store_*`.
    pub fn sweep_texts(&self, session: SessionId, patience: &mut Patience) -> Result<()> {
        let owner = session.to_string();
        let old = self.bytes.old(&owner, Use::Text, patience)?;
        if old.is_empty() {
            return Ok(());
        }
        let in_use = self.texts_in_use(session, patience)?;
        for text in old.iter().filter(|text| !in_use.contains(*text)) {
            self.bytes.remove(&owner, text, patience)?;
        }
        Ok(())
    }

    /// Returns the hashes of the texts in parts that documents of a session name.
    fn texts_in_use(
        &self,
        session: SessionId,
        patience: &mut Patience,
    ) -> Result<BTreeSet<String>> {
        let mut which = between(session, 0, None);
        which.insert("long", doc! {"$exists": true});
        let named = self.database.collection::<StoredLong>("events");
        let found = self.database.insist(patience, || async {
            let only = doc! {"_id": 0, "long": 1};
            let mut cursor = named
                .find(which.clone())
                .projection(only)
                .hint(by_id())
                .await?;
            let mut found = BTreeSet::new();
            while cursor.advance().await? {
                found.insert(cursor.deserialize_current()?.long);
            }
            Ok(found)
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Returns the numbers of the documents of a session, after 0 or the one that closed it last,
    /// and whether there are some from before that.
    ///
    /// # Errors
    /// `store_*`.
    pub fn numbers(&self, session: SessionId, patience: &mut Patience) -> Result<(Vec<i64>, bool)> {
        let all = between(session, 0, None);
        let heads = self.database.collection::<StoredHead>("events");
        let found = self.database.insist(patience, || async {
            let only = doc! {"s": 1, "n": 1, "end": 1, "closed": 1};
            let in_order = heads
                .find(all.clone())
                .sort(doc! {"_id": 1})
                .projection(only);
            let mut cursor = in_order.hint(by_id()).await?;
            let (mut numbers, mut has_rest) = (vec![0], false);
            while cursor.advance().await? {
                let head = cursor.deserialize_current()?;
                if head.closed.is_some() {
                    has_rest |= numbers.len() > 1;
                    numbers.clear();
                }
                numbers.push(head.n);
            }
            Ok((numbers, has_rest))
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Takes note at the last document of a session that documents of it were rewritten: what was
    /// remembered of it is not of its present state.
    ///
    /// # Errors
    /// `store_*`.
    pub fn note_rewrite(
        &self,
        session: SessionId,
        last: Position,
        patience: &mut Patience,
    ) -> Result<()> {
        let s = session.to_string();
        let which = doc! {"_id": id(&s, last.n), "s": s};
        let noted = self.database.insist(patience, || async {
            self.documents
                .update_one(which.clone(), doc! {"$inc": {"rewrites": 1}})
                .await
        });
        noted
            .map(drop)
            .map_err(|error| self.database.failed("compact a session", &error))
    }

    /// Removes what a closed session has left below its end. Returns how many documents that were.
    ///
    /// # Errors
    /// `store_*`; doing it again goes on.
    pub fn sweep(
        &self,
        session: SessionId,
        closed: Position,
        patience: &mut Patience,
    ) -> Result<u64> {
        let below = between(session, 0, Some(closed.n));
        let removed = self.database.insist(patience, || async {
            self.documents
                .delete_many(below.clone())
                .hint(by_id())
                .await
        });
        let removed = removed.map_err(|error| self.database.failed("purge a session", &error))?;
        Ok(removed.deleted_count)
    }

    /// Returns what is left of the sessions that were closed, those among them that were begun
    /// again.
    ///
    /// # Errors
    /// `store_*`.
    pub fn receipts(&self, patience: &mut Patience) -> Result<Vec<Head>> {
        let heads = self.database.collection::<StoredHead>("events");
        let found = self.database.insist(patience, || async {
            let closed = heads.find(doc! {"closed": {"$exists": true}});
            let mut cursor = closed.sort(doc! {"_id": 1}).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.extend(head_of(&cursor.deserialize_current()?));
            }
            Ok(found)
        });
        found.map_err(|error| self.database.failed("read the receipts", &error))
    }

    /// Inserts a document until it is known whether it is there.
    fn insert(&self, document: &Stored, patience: &mut Patience) -> Result<Outcome> {
        let inserted = self.database.insist(patience, || async {
            self.documents.insert_one(document).await
        });
        match inserted {
            Ok(_) => {}
            Err(error) if is_duplicate(&error) => {
                let there = self.database.insist(patience, || async {
                    self.documents
                        .find_one(doc! {"_id": &document._id, "s": &document.s})
                        .await
                });
                let there =
                    there.map_err(|error| self.database.failed("store the turn", &error))?;
                if there.is_none_or(|there| there.by != document.by) {
                    return Ok(Outcome::Taken);
                }
            }
            Err(error) => return Err(self.database.failed("store the turn", &error)),
        }
        if self.is_closed_above(document) {
            let own = doc! {"_id": &document._id, "s": &document.s, "by": &document.by};
            // Below the end of the session nobody sees it; what stays is swept with the next one.
            let _ = self
                .database
                .wait(async { self.documents.delete_one(own).await });
            return Ok(Outcome::Taken);
        }
        Ok(Outcome::Stored)
    }

    /// Tells whether the session was closed above a document, so that this one never counted.
    fn is_closed_above(&self, document: &Stored) -> bool {
        let mut above = doc! {"closed": {"$exists": true}};
        let from = id(&document.s, document.n + 1);
        above.extend(
            doc! {"_id": {"$gte": from, "$lt": format!("{}0", document.s)}, "s": &document.s},
        );
        // The document is acknowledged; where this cannot be said any more, it is as if the
        // purge came a moment later.
        let found = self
            .database
            .wait(async { self.documents.find_one(above).hint(by_id()).await });
        found.is_ok_and(|found| found.is_some())
    }

    fn document(
        &self,
        session: SessionId,
        before: Position,
        entries: &[Entry],
        patience: &mut Patience,
    ) -> Result<Stored> {
        let lines = lines_of(entries);
        let (mut ids, mut types, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for Entry { event, .. } in entries {
            if ids.len() < NAMED {
                ids.push(event.id.to_string());
                types.push(event.body.type_name().to_owned());
            }
            if let Body::Turn(turn) = &event.body
                && keys.len() < NAMED
            {
                keys.extend(turn.key.as_ref().map(|key| key.key.clone()));
            }
        }
        let bytes = lines.len() as i64;
        let s = session.to_string();
        let (mut inline, mut long) = (None, None);
        if lines.len() > INLINE {
            long = Some(self.bytes.put(&s, Use::Text, &lines, patience)?);
        } else {
            let text = String::from_utf8(lines);
            inline = Some(text.map_err(|cause| {
                Error::new(Code::Internal, "a line is not UTF-8").because(cause)
            })?);
        }
        Ok(Stored {
            _id: id(&s, before.n + 1),
            s,
            n: before.n + 1,
            end: before.end + bytes,
            at: DateTime::from_millis(clock::now().as_ms() as i64),
            by: lot(),
            rev: 0,
            ids,
            types,
            keys,
            lines: inline,
            long,
            closed: None,
        })
    }

    fn written(&self, document: Stored, patience: &mut Patience) -> Result<Written> {
        let lines = match (document.lines, document.long) {
            (Some(lines), _) => lines.into_bytes(),
            (None, Some(long)) => {
                self.bytes
                    .get(&document.s, &long, patience)?
                    .ok_or_else(|| {
                        Error::new(
                            Code::StoreIo,
                            format!("cannot read the session {}", document.s),
                        )
                        .because(format!(
                            "the bytes {long} of its document {} are not there",
                            document.n
                        ))
                    })?
            }
            (None, None) => Vec::new(),
        };
        Ok(Written {
            at: Position {
                n: document.n,
                end: document.end,
            },
            lines,
            closed: document.closed,
            rev: document.rev,
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
        let _ = self
            .database
            .wait(async { self.documents.create_indexes([heads, closed]).await });
    }
}

fn lines_of(entries: &[Entry]) -> Vec<u8> {
    let mut lines = Vec::new();
    for entry in entries {
        lines.extend_from_slice(&entry.raw);
        lines.push(b'\n');
    }
    lines
}

fn closing(session: SessionId, before: Position, receipt: String) -> Stored {
    let s = session.to_string();
    Stored {
        _id: id(&s, before.n + 1),
        s,
        n: before.n + 1,
        // A new log begins here.
        end: 0,
        at: DateTime::from_millis(clock::now().as_ms() as i64),
        by: lot(),
        rev: 0,
        ids: Vec::new(),
        types: Vec::new(),
        keys: Vec::new(),
        lines: None,
        long: None,
        closed: Some(receipt),
    }
}

fn head_of(head: &StoredHead) -> Option<Head> {
    Some(Head {
        session: head.s.parse().ok()?,
        at: Position {
            n: head.n,
            end: head.end,
        },
        closed: head.closed.clone(),
        rewrites: head.rewrites.unwrap_or(0),
    })
}

/// Returns what finds the documents of a session from a number on, and below another.
fn between(session: SessionId, from: i64, below: Option<i64>) -> Document {
    let s = session.to_string();
    let end = below.map_or_else(|| format!("{s}0"), |below| id(&s, below));
    doc! {"_id": {"$gte": id(&s, from), "$lt": end}, "s": s}
}

/// Returns the name of a document; names sort as the numbers do.
fn id(session: &str, n: i64) -> String {
    format!("{session}/{n:010}")
}

fn by_id() -> mongodb::options::Hint {
    mongodb::options::Hint::Keys(doc! {"_id": 1})
}

fn lot() -> String {
    EventId::next(clock::now().as_ms(), None, clock::random_bits()).to_string()
}
