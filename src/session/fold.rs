//! The fold: what a set of events makes of a session.
//!
//! Events are taken by id, whatever order they were found in, an event found twice counting
//! once. Two lines with one id and different bytes (somebody edited a line in one copy) are
//! decided the same way on every machine: the byte-wise greater line wins. So the union of two
//! copies is one history, whichever was merged into which.

use std::collections::BTreeMap;

use super::event::{Body, Event, Prune, Settings, Timestamp, Turn, VERSION};
use super::id::EventId;

/// An event and the bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// Its line, without what surrounded it.
    pub raw: Vec<u8>,
}

/// A turn with its place in the session.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidTurn {
    /// Its id.
    pub id: EventId,
    /// When it was written.
    pub ts: Timestamp,
    /// What was said.
    pub turn: Turn,
}

/// What a session is, after all its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The settings in force.
    pub settings: Settings,
    /// When the first event that was read was written; `None` without events.
    pub created: Option<Timestamp>,
    /// Every turn that was read, in the order of ids.
    pub turns: Vec<SaidTurn>,
    /// Turns before those, which a reader who started from the end has left alone. All of them
    /// lie before the horizon.
    pub earlier_turns: u64,
    /// The newest horizon that holds.
    pub horizon: Option<Prune>,
    /// The highest id of any event.
    pub highest: Option<EventId>,
    /// The highest format version of any event.
    pub version: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            created: None,
            turns: Vec::new(),
            earlier_turns: 0,
            horizon: None,
            highest: None,
            version: VERSION,
        }
    }
}

/// Folds a set of events into the session they describe.
pub fn fold(entries: impl IntoIterator<Item = Entry>) -> Session {
    let mut by_id: BTreeMap<EventId, Entry> = BTreeMap::new();
    for entry in entries {
        match by_id.get(&entry.event.id) {
            Some(known) if known.raw >= entry.raw => {}
            _ => drop(by_id.insert(entry.event.id, entry)),
        }
    }
    let mut session = Session::default();
    for entry in by_id.into_values() {
        session.apply(entry.event);
    }
    session
}

/// Folds the events from the end of a log back to its newest horizon and to all turns from there
/// on, in the order of ids. Everything before them is out of the context.
pub fn fold_tail(horizon: &Prune, events: impl IntoIterator<Item = Event>) -> Session {
    let mut session = Session {
        earlier_turns: horizon.dropped_turns,
        ..Session::default()
    };
    for event in events {
        let snapshot = match &event.body {
            Body::Turn(_) if event.id < horizon.keep_from => continue,
            Body::Prune(prune) if prune == horizon => Some(prune.settings.clone()),
            _ => None,
        };
        session.apply(event);
        session.settings.overlay(snapshot.unwrap_or_default());
    }
    session
}

impl Session {
    /// Applies an event whose id is higher than that of every event before it.
    pub fn apply(&mut self, event: Event) {
        debug_assert!(
            self.highest.is_none_or(|highest| event.id > highest),
            "{event:?}"
        );
        self.highest = Some(event.id);
        self.version = self.version.max(event.v);
        self.created.get_or_insert(event.ts);
        match event.body {
            Body::Session(header) => self.settings.overlay(header.settings),
            Body::Set(settings) => self.settings.overlay(settings),
            Body::Turn(turn) => self.turns.push(SaidTurn {
                id: event.id,
                ts: event.ts,
                turn: *turn,
            }),
            Body::Prune(prune) => {
                // Two writers may move the horizon at once; it never moves back by accident.
                if self
                    .horizon
                    .as_ref()
                    .is_none_or(|now| prune.keep_from >= now.keep_from)
                {
                    self.horizon = Some(prune);
                }
            }
            Body::Unknown(_) => {}
        }
    }

    /// Returns the position in `turns` of the oldest turn that is still in the context.
    #[must_use]
    pub fn context_start(&self) -> usize {
        let Some(horizon) = &self.horizon else {
            return 0;
        };
        self.turns
            .partition_point(|turn| turn.id < horizon.keep_from)
    }

    /// Returns how many turns the session has, read or not.
    #[must_use]
    pub fn turn_count(&self) -> u64 {
        self.earlier_turns + self.turns.len() as u64
    }

    /// Returns the turns that are in the context.
    #[must_use]
    pub fn context(&self) -> &[SaidTurn] {
        &self.turns[self.context_start()..]
    }

    /// Returns the tokens of the turns that are in the context.
    #[must_use]
    pub fn context_tokens(&self) -> u64 {
        let tokens = self.turns[self.context_start()..]
            .iter()
            .map(|said| said.turn.tokens);
        tokens.map(|tokens| tokens.prompt + tokens.response).sum()
    }

    /// Returns when the session was last used: its newest turn, by the wall clock of its writer,
    /// or its creation where there is none.
    #[must_use]
    pub fn last_used(&self) -> Option<Timestamp> {
        self.turns.iter().map(|turn| turn.ts).max().or(self.created)
    }

    /// Tells whether a program newer than this one wrote to the session: it may be read, as far
    /// as it is understood, but not appended to.
    #[must_use]
    pub fn is_newer_than_this_program(&self) -> bool {
        self.version > VERSION
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::event::tests::{event, id, turn};
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn entry(event: Event) -> Entry {
        Entry {
            raw: event.to_line().into_bytes(),
            event,
        }
    }

    fn prune(at: u64, keep_from: u64) -> Event {
        let prune = Prune {
            keep_from: id(keep_from),
            strategy: "fifo".into(),
            kept_turns: 0,
            dropped_turns: 0,
            dropped_tokens: 0,
            settings: Settings::default(),
        };
        event(at, Body::Prune(prune))
    }

    fn set(at: u64, model: &str) -> Event {
        event(
            at,
            Body::Set(Settings {
                model: Some(model.into()),
                ..Settings::default()
            }),
        )
    }

    /// Any event of a small world, so that ids collide and horizons cross.
    pub(crate) fn any_event() -> impl Strategy<Value = Event> {
        (1u64..30, 0..4, 1u64..30).prop_map(|(at, kind, other)| match kind {
            0 => set(at, &format!("m{other}")),
            1 => prune(at, other),
            _ => turn(at, &format!("p{other}"), "r"),
        })
    }

    #[test]
    fn the_greater_line_wins_whichever_came_first() {
        let (a, b) = (entry(turn(1, "aaa", "r")), entry(turn(1, "bbb", "r")));
        for order in [[a.clone(), b.clone()], [b, a]] {
            assert_eq!(fold(order).turns[0].turn.prompt, "bbb");
        }
    }

    #[test]
    fn settings_are_the_last_said_key_by_key() {
        let system = Settings {
            system: Some("s".into()),
            ..Settings::default()
        };
        let got = fold([set(3, "late"), event(2, Body::Set(system)), set(1, "early")].map(entry));
        assert_eq!(got.settings.model.as_deref(), Some("late"));
        assert_eq!(got.settings.system.as_deref(), Some("s"));
        assert_eq!(got.created, Some(Timestamp::from_ms(1)));
    }

    #[test]
    fn a_horizon_hides_and_never_moves_back() {
        let turns = (1..=5).map(|n| entry(turn(n, "p", "r")));
        let got = fold(turns.chain([prune(6, 4), prune(7, 2)].map(entry)));
        assert_eq!(got.turns.len(), 5);
        assert_eq!(got.context_start(), 3);
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            (events, shuffled) in prop::collection::vec(any_event(), 0..20).prop_flat_map(|events| {
                let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
                (Just(events), Just(twice).prop_shuffle())
            })
        ) {
            prop_assert_eq!(fold(events.into_iter().map(entry)), fold(shuffled.into_iter().map(entry)));
        }

        #[test]
        fn more_events_never_hide_a_turn(
            events in prop::collection::vec(any_event(), 0..20), more in any_event(),
        ) {
            let count = |events: &[Event]| {
                fold(events.iter().cloned().map(entry)).turns.iter().map(|t| t.id).collect::<Vec<_>>()
            };
            let before = count(&events);
            let fresh = events.iter().all(|e| e.id != more.id);
            let after = count(&[events, vec![more]].concat());
            prop_assert!(!fresh || before.iter().all(|id| after.contains(id)));
        }
    }
}
