//! Bringing in what another program or another store had: events that are to be part of a session.
//!
//! As everywhere, the union of two sets of events: what is here stays, what is missing is added, so
//! that doing it twice, or again after a kill, adds nothing twice. What is missing is the same in
//! every store ([`missing`]).

use std::collections::{BTreeMap, HashMap};

use super::append::refuse_newer;
use crate::error::Result;
use crate::session::event::{Body, Event, Timestamp};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};

/// Ids with a time before this, in milliseconds since 1970, have none: their events are dated by
/// the file they are from, and a file that was touched has not grown.
const DATED: u64 = 24 * 60 * 60 * 1000;

/// What is to be part of a session.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// Events that were derived from something else. One is known by the random bits of its id; of
    /// a turn that is here and has grown since, the later state is taken. A horizon is taken only
    /// with a session that is new.
    Derived(&'a [Event]),
    /// Lines of a log and blobs, as they are.
    Lines {
        /// The lines, by id.
        lines: &'a BTreeMap<EventId, Vec<u8>>,
        /// The blobs, by their SHA-256.
        blobs: &'a BTreeMap<String, Vec<u8>>,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Whether there was no such session.
    pub is_new: bool,
    /// How many events were added.
    pub events: u64,
    /// How many of them are turns.
    pub turns: u64,
    /// Whether there is no such session because it was purged, and nothing was added for that.
    pub is_purged: bool,
}

impl Added {
    /// What came of adding to a session that was purged and stays out.
    pub const PURGED: Self = Self {
        is_new: false,
        events: 0,
        turns: 0,
        is_purged: true,
    };
}

/// What a session lacks.
#[derive(Debug)]
pub struct Missing<'a> {
    /// What adding it comes to.
    pub added: Added,
    /// The events.
    pub lines: Lines<'a>,
}

/// Events that are to be added.
#[derive(Debug)]
pub enum Lines<'a> {
    /// As the bytes they are.
    Raw(Vec<&'a [u8]>),
    /// Where they stand is the store's to say.
    Events(Vec<Event>),
}

impl Lines<'_> {
    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Raw(lines) => lines.is_empty(),
            Self::Events(events) => events.is_empty(),
        }
    }
}

/// Is shown each event of a session that is here, with its line.
pub type Visit<'a> = dyn FnMut(&Event, &[u8]) + 'a;

/// Finds what of `incoming` a session has not. `here` shows all that it has, which is nothing
/// where it is not there.
///
/// # Errors
/// `store_unsupported` where a newer program wrote to the session; what `here` says.
pub fn missing<'a>(
    id: SessionId,
    incoming: Incoming<'a>,
    here: impl FnOnce(&mut Visit<'_>) -> Result<()>,
) -> Result<Missing<'a>> {
    let mut session = Session::default();
    let mut is_new = true;
    let mut added = Added::default();
    let lines = match incoming {
        Incoming::Lines { lines, .. } => {
            let mut missing: BTreeMap<EventId, &[u8]> = lines
                .iter()
                .map(|(id, line)| (*id, line.as_slice()))
                .collect();
            here(&mut |event, raw| {
                is_new = false;
                session.version = session.version.max(event.v);
                if missing.get(&event.id).is_some_and(|line| raw >= *line) {
                    missing.remove(&event.id);
                }
            })?;
            refuse_newer(&session, id)?;
            let is_turn = |line: &&&[u8]| {
                Event::from_slice(line).is_ok_and(|event| matches!(event.body, Body::Turn(_)))
            };
            added.turns = missing.values().filter(is_turn).count() as u64;
            added.events = missing.len() as u64;
            Lines::Raw(missing.into_values().collect())
        }
        Incoming::Derived(events) => {
            let mut known = Known::new();
            here(&mut |event, _| {
                is_new = false;
                session.version = session.version.max(event.v);
                let known = known.entry(event.id.random());
                let later = known.or_insert((event.id, event.ts));
                later.1 = later.1.max(event.ts);
            })?;
            refuse_newer(&session, id)?;
            let new: Vec<Event> = events
                .iter()
                .filter_map(|event| unknown(event, &known))
                .collect();
            let is_turn = |event: &&Event| matches!(event.body, Body::Turn(_));
            added.turns = new.iter().filter(is_turn).count() as u64;
            added.events = new.len() as u64;
            Lines::Events(new)
        }
    };
    added.is_new = is_new && added.events > 0;
    Ok(Missing { added, lines })
}

/// Events by the random bits of their ids, with when they are dated.
type Known = HashMap<u128, (EventId, Timestamp)>;

/// Returns an event as it is to be added; `None` where it is there.
fn unknown(event: &Event, known: &Known) -> Option<Event> {
    match (known.get(&event.id.random()), &event.body) {
        (None, Body::Prune(_)) if !known.is_empty() => None,
        (None, _) => Some(event.clone()),
        (Some((id, ts)), Body::Turn(_)) if *ts < event.ts && event.id.timestamp_ms() >= DATED => {
            Some(Event {
                id: *id,
                ..event.clone()
            })
        }
        (Some(_), _) => None,
    }
}
