//! Sessions in a MongoDB server.
//!
//! * [`database`]: connecting, the collections, and the one place that waits for the driver
//! * [`failure`]: what went wrong there, in the words and codes of this program
//! * [`patience`]: trying again, for how long and how far apart
//! * [`document`], [`journal`]: the log of a session as documents that are only ever inserted
//! * [`bytes`]: what does not fit a document, in parts
//! * [`lease`]: what a process holds for as long as it lives
//! * `drafts`, `guards`, `remembered`: turns under way, what keeps others waiting, caches
//! * `latest`: the context of a session, read from its end
//! * `writing`, `appending`, `compact`, `follower`: the store made of these
//!
//! The driver is asynchronous and stays in here: a runtime with one thread belongs to the
//! connection, so that what is held is renewed while a model is waited for. docs/mongodb.md
//! describes the documents.

mod appending;
pub mod bytes;
mod compact;
pub mod database;
pub mod document;
mod drafts;
pub mod failure;
mod follower;
mod guards;
pub mod journal;
mod latest;
pub mod lease;
pub mod patience;
mod remembered;
mod writing;

use std::time::Duration;

use bytes::Bytes;
use database::Database;
use document::{Position, Written};
use drafts::Drafts;
use follower::MongoFollower;
use journal::Journal;
use lease::Leases;
use patience::Patience;
use remembered::Remembered;
use writing::MongoWritable;

use super::draft::{FoundDraft, Rewritten};
use super::follow::Follower;
use super::from_events::listed;
use super::guard::{Guard, Taken};
use super::list::Listing;
use super::models::Model;
use super::purge::Receipt;
use super::snapshot::{Damage, Events, Extent, Mark, Snapshot};
use super::uri::Uri;
use super::verify::{Finding, Kind, Report};
use super::{Store, Writable};
use crate::error::Result;
use crate::progress::Progress;
use crate::session::attachment::Blob;
use crate::session::event::{Event, Key, Timestamp};
use crate::session::fold::Entry;
use crate::session::id::{EventId, SessionId};

/// A store in a database.
#[derive(Debug)]
pub struct MongoStore {
    database: Database,
    journal: Journal,
    bytes: Bytes,
    leases: Leases,
    drafts: Drafts,
    remembered: Remembered,
    progress: Progress,
}

impl MongoStore {
    /// Gets ready to speak to the server at `uri`. Whether it is there is seen when it is asked
    /// for the first time.
    ///
    /// # Errors
    /// As [`Database::connect`].
    pub fn open(uri: &Uri) -> Result<Self> {
        let database = Database::connect(uri)?;
        Ok(Self {
            journal: Journal::of(&database),
            bytes: Bytes::of(&database),
            leases: Leases::of(&database),
            drafts: Drafts::of(&database),
            remembered: Remembered::of(&database),
            progress: Progress::default(),
            database,
        })
    }

    /// Returns every event a session has, and how far it was read.
    fn entries(&self, id: SessionId, patience: &mut Patience) -> Result<(Events, Position)> {
        let written = self.journal.read_after(id, Position::default(), patience)?;
        let at = written.last().map(|last| last.at).unwrap_or_default();
        Ok((events_of(&written), at))
    }
}

/// Returns the patience of whoever only looks: the driver looks for a server for as long as the
/// address says, and tries once more by itself.
fn at_once() -> Patience {
    Patience::of(Duration::ZERO)
}

/// Returns the lines of documents, each with the event it is, if it is one.
fn lines_of(written: &[Written]) -> impl Iterator<Item = (&[u8], Option<Event>)> {
    let lines = written
        .iter()
        .flat_map(|document| document.lines.split(|b| *b == b'\n'));
    let lines = lines.filter(|raw| !raw.is_empty());
    lines.map(|raw| (raw, Event::from_slice(raw).ok()))
}

/// Returns the events of documents.
fn events_of(written: &[Written]) -> Events {
    let mut events = Events::default();
    for document in written {
        let mut offset = 0;
        if document.lost.is_some() {
            let place = format!("document {}", document.at.n);
            let nothing = Damage {
                offset: 0,
                bytes: 0,
            };
            events.damage.push((place, nothing));
        }
        for line in document.lines.split_inclusive(|b| *b == b'\n') {
            let raw = line.strip_suffix(b"\n").unwrap_or(line);
            match Event::from_slice(raw) {
                Ok(event) => events.entries.push(Entry {
                    event,
                    raw: raw.to_vec(),
                }),
                Err(_) if raw.is_empty() => {}
                Err(_) => {
                    let place = format!("document {}", document.at.n);
                    let bytes = line.len() as u64;
                    events.damage.push((place, Damage { offset, bytes }));
                }
            }
            offset += line.len() as u64;
        }
    }
    events
}

impl Store for MongoStore {
    fn telling(&mut self, progress: &Progress) {
        self.progress = progress.clone();
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn ids(&self) -> Result<Vec<SessionId>> {
        let heads = self.journal.heads(&mut at_once())?.into_iter();
        let open = heads.filter(|head| head.closed.is_none());
        Ok(open.map(|head| head.session).collect())
    }

    fn events(&self, id: SessionId) -> Result<Events> {
        Ok(self.entries(id, &mut at_once())?.0)
    }

    fn blobs(&self, id: SessionId) -> Result<Vec<String>> {
        self.bytes.blobs(&id.to_string(), &mut at_once())
    }

    fn read_blob(&self, id: SessionId, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        let read = self
            .bytes
            .get(&id.to_string(), &blob.sha256, &mut at_once());
        match read {
            Ok(Some(bytes)) => super::blobs::sound(bytes, &blob.sha256),
            Ok(None) => Err("it is not there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn drafts(&self) -> Result<Vec<FoundDraft>> {
        self.drafts.list(&mut at_once())
    }

    fn rewrite_draft(
        &self,
        id: EventId,
        dry_run: bool,
        cover: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Rewritten> {
        self.drafts.rewrite(id, dry_run, cover, &mut at_once())
    }

    fn receipts(&self) -> Result<Vec<Receipt>> {
        let closed = self.journal.receipts(&mut at_once())?.into_iter();
        let receipts = closed.filter_map(|head| serde_json::from_str(&head.closed?).ok());
        Ok(receipts.collect())
    }

    fn model(&self, host: &str, model: &str) -> Option<Model> {
        self.remembered.model(host, model)
    }

    fn remember_model(&self, host: &str, model: &str, known: Model) {
        self.remembered.remember_model(host, model, &known);
    }

    fn take_turn(&self, id: SessionId, patience: Duration) -> Result<Guard> {
        guards::take_turn(&self.leases, &self.database, id, patience)
    }

    fn take_key(&self, id: SessionId, key: &Key, patience: Duration) -> Result<Taken> {
        guards::take_key(&self.leases, &self.database, id, key, patience)
    }

    fn for_writing(&self, patience: Duration) -> Result<Box<dyn Writable + '_>> {
        Ok(Box::new(MongoWritable {
            store: self,
            patience,
        }))
    }

    fn has_name(&self, id: SessionId) -> Result<bool> {
        let head = self.journal.head(id, &mut at_once())?;
        Ok(head.is_some_and(|head| head.closed.is_none()))
    }

    fn read(&self, id: SessionId, extent: Extent) -> Result<Option<Snapshot>> {
        if extent == Extent::Context
            && let Some(snapshot) = latest::read(self, id)?
        {
            return Ok(Some(snapshot));
        }
        let (events, at) = self.entries(id, &mut at_once())?;
        let snapshot = events.fold(extent);
        Ok(snapshot.map(|snapshot| Snapshot {
            mark: Some(Mark::new(at)),
            ..snapshot
        }))
    }

    fn list(&self) -> Result<Listing> {
        let heads = self.journal.heads(&mut at_once())?;
        let mut known = self.remembered.summaries();
        let steps = self.progress.begin("reading sessions", heads.len());
        let mut listing = Listing::default();
        let mut new = Vec::new();
        for head in heads.into_iter().filter(|head| head.closed.is_none()) {
            steps.step();
            let id = head.session;
            if let Some(listed) = known.take(id, head.at) {
                listing.sessions.push(listed);
                continue;
            }
            match self.entries(id, &mut at_once()) {
                Ok((events, at)) => {
                    if let Some(listed) = listed(id, events) {
                        if at == head.at {
                            new.push((at, listed.clone()));
                        }
                        listing.sessions.push(listed);
                    }
                }
                Err(error) => listing.unreadable.push((id, error)),
            }
        }
        self.remembered.remember_summaries(&new);
        Ok(listing)
    }

    fn reindex(&self) -> Result<(Listing, u64)> {
        self.remembered.forget_summaries(&mut at_once())?;
        let listing = self.list()?;
        Ok((listing, self.remembered.summary_bytes()))
    }

    /// What events and drafts tell, and whether there are all documents.
    fn verify(&self, named: Option<&[SessionId]>, now: Timestamp) -> Result<Report> {
        let mut report = super::from_events::verify(self, named, now)?;
        let ids = match named {
            Some(ids) => ids.to_vec(),
            None => {
                let heads = self.journal.heads(&mut at_once())?.into_iter();
                heads.map(|head| head.session).collect()
            }
        };
        for id in ids {
            let (numbers, rest) = self.journal.numbers(id, &mut at_once())?;
            let mut tell = |kind, document: i64, message: &str| {
                let place = format!("document {document}");
                report
                    .findings
                    .push(finding(kind, Some(id), place, message));
            };
            if let Some(rest) = rest {
                let message =
                    "left by a purge or a compaction that was cut short; the next removes it";
                tell(Kind::Leftover, rest, message);
            }
            for pair in numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]) {
                tell(Kind::DamagedLine, pair[0] + 1, "it is not there");
            }
        }
        if named.is_none() {
            for name in self.journal.strangers(&mut at_once())? {
                let message = "no program of this kind wrote it: passed over";
                let place = format!("document {name}");
                report
                    .findings
                    .push(finding(Kind::DamagedLine, None, place, message));
            }
        }
        Ok(report)
    }

    fn follow(
        self: Box<Self>,
        only: Option<SessionId>,
        from_start: bool,
    ) -> Result<Box<dyn Follower>> {
        Ok(Box::new(MongoFollower::new(*self, only, from_start)?))
    }
}

fn finding(kind: Kind, session: Option<SessionId>, place: String, message: &str) -> Finding {
    Finding {
        kind,
        session,
        place,
        offset: None,
        bytes: None,
        message: message.to_owned(),
    }
}
