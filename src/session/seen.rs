//! The context of a session from its end, without what left it.
//!
//! Whoever has the newest `prune` event, as many turns and redactions as it says are kept, and all
//! that stands behind them has the context. Where it was found is not known here: a log
//! of files and a collection of documents are read backwards alike.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Body, Event, KeptTurn, Prune};
use super::fold::{Session, fold_tail};
use super::id::EventId;

/// What was seen so far, from the end.
#[derive(Debug, Default)]
pub struct Seen {
    events: BTreeMap<EventId, Event>,
    horizon: Option<Prune>,
    /// Turns from the horizon on that stand before it in the log.
    kept_turns: u64,
    /// Redactions, of turns from the horizon on, that stand before it in the log.
    kept_redacts: u64,
    /// Turns that were retracted before the horizon was written: it does not count them as kept.
    retracted: BTreeSet<EventId>,
    is_out_of_order: bool,
}

impl Seen {
    /// Takes an event that stands before all that were seen. Returns whether none of these has
    /// its id.
    #[must_use]
    pub fn take(&mut self, event: Event) -> bool {
        match (&event.body, &self.horizon) {
            (Body::Prune(prune), None) => self.horizon = Some(prune.clone()),
            (Body::Turn(_), Some(horizon)) if event.id >= horizon.keep_from => {
                self.kept_turns += u64::from(!self.retracted.contains(&event.id));
            }
            (Body::Redact(redact), Some(horizon)) if horizon.holds(redact.turn) => {
                self.kept_redacts += 1;
                let is_new = redact.is_whole() && self.retracted.insert(redact.turn);
                let is_counted = redact.turn >= horizon.keep_from;
                // A log in another order may have the turn behind its retraction.
                if is_new && is_counted && self.events.contains_key(&redact.turn) {
                    self.kept_turns = self.kept_turns.saturating_sub(1);
                }
            }
            _ => {}
        }
        let before_all = self
            .events
            .first_key_value()
            .is_none_or(|(first, _)| event.id < *first);
        self.is_out_of_order |= !before_all;
        self.events.insert(event.id, event).is_none()
    }

    /// Tells whether all is seen that a reader of the context needs.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.horizon.as_ref().is_some_and(|horizon| {
            self.kept_turns >= horizon.kept_turns && self.kept_redacts >= horizon.kept_redacts
        })
    }

    /// Tells whether every event that was seen has a lower id than those behind it.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        !self.is_out_of_order
    }

    /// Returns the session from the horizon on, with the older turns that were kept, which `find`
    /// has. `None` where one is not there, or one that is pinned since.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn into_session<E>(
        mut self,
        mut find: impl FnMut(&KeptTurn) -> Result<Option<Event>, E>,
    ) -> Result<Option<Session>, E> {
        let Some(horizon) = self.horizon else {
            return Ok(None);
        };
        for kept in &horizon.keep {
            if self.events.contains_key(&kept.id) {
                continue;
            }
            match find(kept)? {
                Some(event) if event.id == kept.id => drop(self.events.insert(event.id, event)),
                _ => return Ok(None),
            }
        }
        let session = fold_tail(&horizon, self.events.into_values());
        let mut pinned = session.settings.pins.iter().filter(|(_, pinned)| **pinned);
        let has_all = pinned.all(|(id, _)| {
            let is_said = session.turns.iter().any(|said| said.id == *id);
            is_said || session.retracted.contains_key(id)
        });
        Ok(has_all.then_some(session))
    }

    /// Returns the session of a log that was seen to its beginning, if it was in order.
    #[must_use]
    pub fn into_whole_session(self) -> Option<Session> {
        if self.is_out_of_order {
            return None;
        }
        let mut session = Session::default();
        self.events
            .into_values()
            .for_each(|event| session.apply(event));
        Some(session)
    }
}
