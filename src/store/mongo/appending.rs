//! Appending: whoever writes at the end that was seen is the one who decided knowing all that is
//! there; everybody else decides anew.

use std::time::Duration;

use super::document::{Lines, Position};
use super::journal::Content;
use super::patience::Patience;
use super::{MongoStore, events_of};
use crate::error::Result;
use crate::session::event::{Body, Event};
use crate::session::fold::{Entry, fold};
use crate::session::id::{EventId, SessionId};
use crate::store::Durability;
use crate::store::append::{
    Appended, Appending, LONGEST_LINE, Written, number, purged_meanwhile, too_long,
};
use crate::store::blobs::NewBlob;
use crate::store::snapshot::{Mark, Snapshot};

/// A session that is to be appended to.
#[derive(Debug)]
pub(super) struct MongoAppending<'a> {
    store: &'a MongoStore,
    id: SessionId,
    longest_wait: Duration,
    /// From the first attempt on.
    patience: Option<Patience>,
    seen: Position,
    highest: Option<EventId>,
    blobs: Vec<NewBlob>,
}

impl<'a> MongoAppending<'a> {
    pub(super) fn new(store: &'a MongoStore, id: SessionId, longest_wait: Duration) -> Self {
        Self {
            store,
            id,
            longest_wait,
            patience: None,
            seen: Position::default(),
            highest: None,
            blobs: Vec::new(),
        }
    }

    fn put_blobs(&mut self) -> Result<()> {
        let patience = patience(&mut self.patience, self.longest_wait);
        put_blobs(self.store, self.id, &self.blobs, patience)
    }
}

fn patience(patience: &mut Option<Patience>, longest_wait: Duration) -> &mut Patience {
    patience.get_or_insert_with(|| Patience::of(longest_wait))
}

/// Stores blobs of a session that are not there.
pub(super) fn put_blobs(
    store: &MongoStore,
    id: SessionId,
    blobs: &[NewBlob],
    patience: &mut Patience,
) -> Result<()> {
    for blob in blobs {
        let used = super::bytes::Use::Blob;
        store
            .bytes
            .put(&id.to_string(), used, &blob.bytes, patience)?;
    }
    Ok(())
}

/// Makes entries of what is to be written where a session ends.
pub(super) fn entries(events: impl Iterator<Item = Event>, seen: Position) -> Result<Vec<Entry>> {
    let mut at = u64::try_from(seen.end).unwrap_or(0);
    let mut entries = Vec::new();
    for mut event in events {
        event.at = Some(at);
        let raw = event.to_line().into_bytes();
        if raw.len() as u64 > LONGEST_LINE {
            return Err(too_long(raw.len() as u64));
        }
        at += raw.len() as u64 + 1;
        entries.push(Entry { event, raw });
    }
    Ok(entries)
}

impl Appending for MongoAppending<'_> {
    fn catch_up(
        &mut self,
        snapshot: Snapshot,
        blobs: &[NewBlob],
        _: Durability,
    ) -> Result<Snapshot> {
        if self.blobs.is_empty() && !blobs.is_empty() {
            self.blobs = blobs.to_vec();
            self.put_blobs()?;
        }
        let patience = patience(&mut self.patience, self.longest_wait);
        let is_known = snapshot.session.created.is_some();
        let mark = snapshot.mark.as_ref().and_then(Mark::known::<Position>);
        // What was read without a mark was not there.
        let after = mark.copied().unwrap_or_default();
        let news = self.store.journal.read_after(self.id, after, patience)?;
        let is_closed = news.iter().any(|document| document.closed.is_some());
        if is_known && (is_closed || mark.is_none()) {
            return Err(purged_meanwhile(self.id).session(self.id));
        }
        let mut seen = news.last().map_or(after, |last| last.at);
        let came = events_of(&news);
        let first = came.entries.first().map(|entry| entry.event.id);
        let follows = came
            .entries
            .is_sorted_by(|one, next| one.event.id < next.event.id)
            && first.is_none_or(|first| snapshot.session.highest < Some(first));
        let mut session = snapshot.session;
        let mut damage = snapshot.damage;
        if follows {
            damage.extend(came.damage);
            for entry in came.entries {
                session.apply(entry.event);
            }
        } else {
            let (all, at) = self.store.entries(self.id, patience)?;
            session = fold(all.entries);
            if is_known && session.created.is_none() {
                return Err(purged_meanwhile(self.id).session(self.id));
            }
            damage = all.damage;
            seen = at;
        }
        self.seen = seen;
        self.highest = session.highest;
        Ok(Snapshot {
            session,
            damage,
            is_shuffled: false,
            mark: Some(Mark::new(seen)),
        })
    }

    fn events(&self) -> Result<Vec<Entry>> {
        let mut patience = super::at_once();
        let all = Position::default();
        let mut written = self.store.journal.read_after(self.id, all, &mut patience)?;
        written.retain(|document| document.at.n <= self.seen.n);
        Ok(events_of(&written).entries)
    }

    fn write(&mut self, bodies: Vec<Body>, _: Durability) -> Result<Written> {
        let entries = entries(number(bodies, self.highest), self.seen)?;
        let ids = entries.iter().map(|entry| entry.event.id).collect();
        let patience = patience(&mut self.patience, self.longest_wait);
        let lines: Lines = entries.iter().collect();
        let journal = &self.store.journal;
        let written = journal
            .write(self.id, self.seen, &Content::Lines(&lines), patience)
            .map_err(|error| error.session(self.id))?;
        if written.is_none() {
            let bodies = entries.into_iter().map(|entry| entry.event.body);
            return Ok(Written::Overtaken(bodies.collect()));
        }
        // A purge that saw no session there may have taken them along.
        let _ = self.put_blobs();
        Ok(Written::Done(Appended { ids, locked: true }))
    }
}
