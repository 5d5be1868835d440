//! A session as it was read: what its events make of it, and what of it could not be read.

use std::any::Any;

use crate::session::event::Body;
use crate::session::fold::{Entry, Session, fold};
use crate::session::id::EventId;

/// How much of a session is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Every turn ever taken.
    History,
    /// At least what is in the context.
    Context,
    /// What was there when this event was written, without what was hidden since.
    Until(EventId),
}

/// Bytes that are no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first of them in the place that has them.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// How far a session was read, in the words of the store that read it: only that looks into it.
#[derive(Debug)]
pub struct Mark(Box<dyn Any>);

impl Mark {
    /// Keeps what a store wants to know again.
    pub fn new<T: Any>(known: T) -> Self {
        Self(Box::new(known))
    }

    /// Returns what the store kept, if it is of this kind.
    #[must_use]
    pub fn known<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// A session as it was when it was read.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What its events make of it.
    pub session: Session,
    /// What could not be read, with the name the store has for its place.
    pub damage: Vec<(String, Damage)>,
    /// Whether events are not where they were written: the session was merged, edited or
    /// compacted. The next append states the horizon anew, so that the one after it can read
    /// from the end. A store that has an index of its own never says so.
    pub is_shuffled: bool,
    /// How far it was read: what an append goes on from.
    pub mark: Option<Mark>,
}

/// Every event of a session, in no order; of one id there may be several.
#[derive(Debug, Default)]
pub struct Events {
    /// The events, each with its line.
    pub entries: Vec<Entry>,
    /// What could not be read, with the name the store has for its place.
    pub damage: Vec<(String, Damage)>,
}

impl Events {
    /// Returns what they make of the session; `None` where there is none.
    #[must_use]
    pub fn fold(self, extent: Extent) -> Option<Snapshot> {
        let Self {
            mut entries,
            damage,
        } = self;
        only(&mut entries, extent);
        let snapshot = Snapshot {
            session: fold(entries),
            damage,
            is_shuffled: false,
            mark: None,
        };
        snapshot.session.created.is_some().then_some(snapshot)
    }
}

/// Leaves of the events of a session only those that were there when one was written. What is
/// hidden is hidden in every view of the past too.
pub fn only(entries: &mut Vec<Entry>, extent: Extent) {
    if let Extent::Until(last) = extent {
        entries
            .retain(|entry| entry.event.id <= last || matches!(entry.event.body, Body::Redact(_)));
    }
}
