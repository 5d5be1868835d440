//! Writing: a session is made, added to, compacted and closed by documents at its end.

use std::time::Duration;

use super::appending::{MongoAppending, entries, put_blobs};
use super::compact::compact;
use super::document::{Lines as Text, Position, Written};
use super::journal::{Content, Decision};
use super::lease::{Lease, Try};
use super::patience::Patience;
use super::{MongoStore, at_once, events_of};
use crate::error::{Code, Error, Result};
use crate::json;
use crate::session::event::Event;
use crate::session::fold::{Entry, Session, fold};
use crate::session::id::{EventId, SessionId};
use crate::store::append::{Appended, Writer, number, session_exists};
use crate::store::blobs::NewBlob;
use crate::store::compact::Compaction;
use crate::store::draft::{Draft, OpenDraft};
use crate::store::fork::Fork;
use crate::store::import::{Added, Incoming, Lines, missing};
use crate::store::purge::Receipt;
use crate::store::{New, Store, Tenure, Writable};

/// A store in a database, open for writing.
#[derive(Debug)]
pub(super) struct MongoWritable<'a> {
    pub(super) store: &'a MongoStore,
    pub(super) patience: Duration,
}

impl MongoWritable<'_> {
    fn patience(&self) -> Patience {
        Patience::of(self.patience)
    }

    /// Stores the blobs that a fork has of its parent.
    fn copy_blobs(&self, fork: &Fork, to: SessionId, patience: &mut Patience) -> Result<()> {
        let (from, to) = (fork.from.session.to_string(), to.to_string());
        let bytes = &self.store.bytes;
        for name in &fork.blobs {
            match bytes.get(&from, name, patience) {
                Ok(Some(blob)) => {
                    bytes.put(&to, super::bytes::Use::Blob, &blob, patience)?;
                }
                Ok(None) => {}
                // One whose bytes rotted is not sent, here and there.
                Err(error) if error.code == Code::Damaged => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Returns the documents since the session was last closed, and where the last one ends.
fn open(written: &[Written]) -> &[Written] {
    let closed = written
        .iter()
        .rposition(|document| document.closed.is_some());
    &written[closed.map_or(0, |at| at + 1)..]
}

fn fork_entries(fork: &Fork) -> Result<Vec<Entry>> {
    let lines = fork.log.split(|b| *b == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let entries = lines.map(|raw| {
        let event = Event::from_slice(raw)?;
        let raw = raw.to_vec();
        Ok(Entry { event, raw })
    });
    let entries: std::result::Result<_, serde_json::Error> = entries.collect();
    entries.map_err(|cause| Error::new(Code::Internal, "a fork has a broken line").because(cause))
}

impl Writable for MongoWritable<'_> {
    fn store(&self) -> &dyn Store {
        self.store
    }

    fn writer(&self, id: SessionId) -> Result<Writer<'_>> {
        let appending = MongoAppending::new(self.store, id, self.patience);
        Ok(Writer::new(id, Box::new(appending)))
    }

    fn create(&self, new: New<'_>) -> Result<Appended> {
        let New {
            id,
            begins_with,
            bodies,
            blobs,
            ..
        } = new;
        let mut patience = self.patience();
        let (mut first, mut highest) = (Vec::new(), None);
        if let Some(fork) = begins_with {
            first = fork_entries(fork)?;
            highest = fork.session.highest;
            self.copy_blobs(fork, id, &mut patience)?;
        }
        put_blobs(self.store, id, blobs, &mut patience)?;
        // Made once: an attempt whose outcome is unknown is known again by them.
        let events: Vec<Event> = number(bodies, highest).collect();
        let ids = events.iter().map(|event| event.id).collect();
        let journal = &self.store.journal;
        let append = &mut |news: &[Written], seen: Position| {
            if !open(news).is_empty() {
                return Err(session_exists(id));
            }
            let mut all = first.clone();
            let bytes: usize = all.iter().map(|entry| entry.raw.len() + 1).sum();
            let end = seen.end + i64::try_from(bytes).unwrap_or(0);
            let position = Position { end, ..seen };
            all.extend(entries(events.iter().cloned(), position)?);
            Ok(Decision::Append(all))
        };
        journal
            .append(id, Position::default(), &mut patience, append)
            .map_err(|error| error.session(id))?;
        // A purge that saw no session there may have taken them along.
        let _ = put_blobs(self.store, id, blobs, &mut patience);
        Ok(Appended { ids, locked: true })
    }

    fn draft(&self, draft: Draft) -> Result<OpenDraft<'_>> {
        // Before the model is asked: a server that is not there is told at once.
        self.store.drafts.create(draft, &mut at_once())
    }

    fn take_over_draft(&self, id: EventId) -> Result<Option<OpenDraft<'_>>> {
        self.store.drafts.take_over(id, &mut at_once())
    }

    fn remove_draft(&self, id: EventId) -> Result<()> {
        self.store.drafts.remove(id, &mut self.patience())
    }

    fn add(&self, id: SessionId, incoming: Incoming<'_>, include_purged: bool) -> Result<Added> {
        let mut patience = self.patience();
        let mut blobs = Vec::new();
        if let Incoming::Lines { blobs: theirs, .. } = incoming {
            blobs.extend(theirs.iter().map(|(sha256, bytes)| NewBlob {
                sha256: sha256.clone(),
                bytes: bytes.clone(),
            }));
        }
        let journal = &self.store.journal;
        loop {
            let written = journal.read_after(id, Position::default(), &mut patience)?;
            let seen = written.last().map(|last| last.at).unwrap_or_default();
            let here = events_of(&written).entries;
            let missing = missing(id, incoming, |visit| {
                here.iter()
                    .for_each(|entry| visit(&entry.event, &entry.raw));
                Ok(())
            })?;
            if missing.lines.is_empty() && here.is_empty() {
                return Ok(missing.added);
            }
            // Who purges it from here on is in the way of what is written below.
            let was_purged = written.iter().any(|document| document.closed.is_some());
            if here.is_empty() && was_purged && !include_purged {
                return Ok(Added::PURGED);
            }
            // What a line names is there before the line is.
            put_blobs(self.store, id, &blobs, &mut patience)?;
            if missing.lines.is_empty() {
                return Ok(missing.added);
            }
            let lines = match missing.lines {
                Lines::Raw(lines) => raw_entries(&lines)?,
                Lines::Events(events) => entries(events.into_iter(), seen)?,
            };
            let lines: Text = lines.iter().collect();
            let content = Content::Lines(&lines);
            if journal.write(id, seen, &content, &mut patience)?.is_some() {
                let _ = put_blobs(self.store, id, &blobs, &mut patience);
                return Ok(missing.added);
            }
        }
    }

    fn note_receipts(&self, receipts: &[Receipt]) -> Result<()> {
        for receipt in receipts {
            let text = json::line(receipt);
            let close = &mut |news: &[Written], _: Position| {
                let is_there = !open(news).is_empty();
                // A session has one receipt here, the newest: an older one says nothing more.
                let is_known = news.iter().any(|document| {
                    let left = document.closed.as_deref();
                    let left = left.and_then(|left| serde_json::from_str::<Receipt>(left).ok());
                    left.is_some_and(|left| left.purged_at >= receipt.purged_at)
                });
                Ok(if is_there || is_known {
                    Decision::Nothing
                } else {
                    Decision::Close(text.clone())
                })
            };
            let (journal, mut patience) = (&self.store.journal, self.patience());
            journal.append(receipt.session, Position::default(), &mut patience, close)?;
        }
        Ok(())
    }

    fn compact(&self, id: SessionId, drop_pruned: bool) -> Result<Compaction> {
        compact(self.store, id, drop_pruned, &mut self.patience())
    }

    fn purge(
        &self,
        id: SessionId,
        why: &str,
        goes: &dyn Fn(&Session) -> bool,
    ) -> Result<Option<Receipt>> {
        let mut patience = self.patience();
        let (mut receipt, mut written) = (None, Vec::new());
        let close = &mut |news: &[Written], _: Position| {
            written.extend_from_slice(news);
            let entries = events_of(open(&written)).entries;
            let bytes = entries.iter().map(|entry| entry.raw.len() as u64 + 1).sum();
            let session = fold(entries);
            if session.created.is_none() || !goes(&session) {
                receipt = None;
                return Ok(Decision::Nothing);
            }
            let left = Receipt::of(id, &session, bytes, why);
            let text = json::line(&left);
            receipt = Some(left);
            Ok(Decision::Close(text))
        };
        let (journal, begin) = (&self.store.journal, Position::default());
        let begun = self.store.database.time(&mut patience)?;
        journal.will_sweep(id, &mut patience)?;
        journal.append(id, begin, &mut patience, close)?;
        // What stays is swept by the next purge, or was none.
        let _ = journal.sweep(id, Some(begun), &mut patience);
        if receipt.is_some() {
            self.store.remembered.forget_summary(id);
        }
        Ok(receipt)
    }

    fn tenure(&self, name: &'static str, who: &str, held: Option<Tenure>) -> Result<Tenure> {
        let name_of = format!("tenure/{name}");
        let is_this = |held: &Tenure| {
            let lease = held.held::<Lease>();
            lease.is_some_and(|lease| {
                let is_held = || lease.holds(&mut self.patience()).unwrap_or(true);
                lease.is_of(&name_of, &self.store.database) && is_held()
            })
        };
        if let Some(held) = held.filter(is_this) {
            return Ok(held);
        }
        match self
            .store
            .leases
            .take(&name_of, Some(who), &mut at_once())?
        {
            Try::Held(lease, _) => Ok(Tenure::new(lease)),
            Try::Busy(holder) => Err(Error::new(
                Code::StoreLocked,
                format!("another {name} of this store is running"),
            )
            .because(holder.unwrap_or_else(|| "it has just begun".to_owned()))
            .hint("one is enough; end it with SIGTERM to begin another")),
        }
    }

    fn sweep(&self) {
        let mut patience = at_once();
        let _ = self.store.leases.sweep(&mut patience);
        let journal = &self.store.journal;
        for session in journal.to_be_swept(&mut patience).unwrap_or_default() {
            let _ = journal.sweep(session, None, &mut patience);
        }
    }

    fn forget_index(&self) -> Result<()> {
        self.store.remembered.forget_summaries(&mut self.patience())
    }
}

fn raw_entries(lines: &[&[u8]]) -> Result<Vec<Entry>> {
    let entries = lines.iter().map(|raw| {
        let event = Event::from_slice(raw)?;
        let raw = raw.to_vec();
        Ok(Entry { event, raw })
    });
    let entries: std::result::Result<_, serde_json::Error> = entries.collect();
    entries.map_err(|cause| Error::new(Code::Internal, "a line is no event").because(cause))
}
