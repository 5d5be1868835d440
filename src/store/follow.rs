//! Following: events as they come into the store, whoever appends them.
//!
//! An event is told once, by its id, without what is hidden of it when it is told. No lock is
//! taken and nothing is written.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::Store;
use crate::error::Result;
use crate::session::event::{Body, Timestamp};
use crate::session::fold::Entry;
use crate::session::id::{EventId, SessionId};
use crate::session::redact::Hidden;

/// Is told an event of a session, as its line.
pub type Tell<'a> = dyn FnMut(SessionId, &[u8]) + 'a;

/// Who follows a store, and how far that is.
pub trait Follower: fmt::Debug {
    /// Returns how many sessions are followed.
    fn sessions(&self) -> usize;

    /// Tells every event that has come since the last look, in the order of each session.
    ///
    /// # Errors
    /// When the sessions cannot be listed, or the only one that is followed cannot be read.
    fn look(&mut self, now: Timestamp, tell: &mut Tell<'_>) -> Result<()>;
}

/// What is known of the events of one session.
#[derive(Debug, Default)]
pub struct Followed {
    /// Every event that was told, or was there at the beginning.
    known: HashSet<EventId>,
    /// What is hidden of them, or of what is yet to come: a merge may bring the text back.
    hidden: BTreeMap<EventId, Hidden>,
}

impl Followed {
    /// Takes note of events without telling them.
    pub fn learn(&mut self, entries: &[Entry]) {
        self.hide(entries);
        self.known
            .extend(entries.iter().map(|entry| entry.event.id));
    }

    /// Tells those of the events that are not known yet; whatever is hidden by any of them is
    /// hidden in all.
    pub fn tell(&mut self, id: SessionId, entries: &[Entry], tell: &mut Tell<'_>) {
        self.hide(entries);
        for Entry { event, raw } in entries {
            if self.known.insert(event.id) {
                let hidden = self.hidden.get(&event.id);
                let shown = hidden.map_or(Cow::Borrowed(&**raw), |hidden| hidden.show_line(raw));
                tell(id, &shown);
            }
        }
    }

    fn hide(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Body::Redact(redact) = &entry.event.body
                && !self.known.contains(&entry.event.id)
            {
                self.hidden.entry(redact.turn).or_default().add(redact);
            }
        }
    }
}

/// A follower of any store: at each look it reads all events of the sessions that are followed. A
/// store that can ask for the new ones has one of its own.
#[derive(Debug)]
pub struct Reading<S: ?Sized> {
    store: Box<S>,
    only: Option<SessionId>,
    followed: BTreeMap<SessionId, Followed>,
}

impl<S: Store + ?Sized> Reading<S> {
    /// Begins with what is in the store now, of which nothing is told, or with nothing.
    ///
    /// # Errors
    /// When the sessions cannot be listed. One that cannot be read has nothing known of it.
    pub fn new(store: Box<S>, only: Option<SessionId>, from_start: bool) -> Result<Self> {
        let mut reading = Self {
            store,
            only,
            followed: BTreeMap::new(),
        };
        if !from_start {
            for id in reading.chosen()? {
                let followed = reading.followed.entry(id).or_default();
                if let Ok(events) = reading.store.events(id) {
                    followed.learn(&events.entries);
                }
            }
        }
        Ok(reading)
    }

    fn chosen(&self) -> Result<Vec<SessionId>> {
        self.only
            .map_or_else(|| self.store.ids(), |id| Ok(vec![id]))
    }
}

impl<S: Store + ?Sized> Follower for Reading<S> {
    fn sessions(&self) -> usize {
        self.followed.len()
    }

    fn look(&mut self, _: Timestamp, tell: &mut Tell<'_>) -> Result<()> {
        for id in self.chosen()? {
            match self.store.events(id) {
                Ok(mut events) => {
                    events.entries.sort_by_key(|entry| entry.event.id);
                    let followed = self.followed.entry(id).or_default();
                    followed.tell(id, &events.entries, tell);
                }
                Err(error) if self.only.is_some() => return Err(error),
                // One session that cannot be read is not the end of the others.
                Err(_) => {}
            }
        }
        Ok(())
    }
}
