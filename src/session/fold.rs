//! The fold: what a set of events makes of a session.
//!
//! Events are taken by id, whatever order they were found in, an event found twice counting
//! once. Two lines with one id and different bytes (somebody edited a line in one copy) are
//! decided the same way on every machine: the byte-wise greater line wins. So the union of two
//! copies is one history, whichever was merged into which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{Body, Event, Prune, Redact, Settings, Timestamp, Turn, VERSION};
use super::id::EventId;
use super::redact::Hidden;

/// An event and the bytes it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The event.
    pub event: Event,
    /// Its line, without what surrounded it.
    pub raw: Vec<u8>,
}

/// A turn with its place in the session.
#[derive(Debug, Clone)]
pub struct SaidTurn {
    /// Its id.
    pub id: EventId,
    /// When it was written.
    pub ts: Timestamp,
    /// Where its line stands in the log it was read from.
    pub at: Option<u64>,
    /// What was said.
    pub turn: Turn,
}

/// The same turn is the same wherever its line stands.
impl PartialEq for SaidTurn {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.ts, &self.turn) == (other.id, other.ts, &other.turn)
    }
}

/// What one event set of the settings, without what is hidden of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    settings: Settings,
    /// Whether it is the copy in a horizon, from which a reader who started from the end begins.
    is_copy: bool,
}

/// What a session is, after all its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The settings in force.
    pub settings: Settings,
    /// What each event set of them: where one of these is hidden later, the others still hold.
    pub layers: BTreeMap<EventId, Layer>,
    /// When the first event that was read was written; `None` without events.
    pub created: Option<Timestamp>,
    /// Every turn that was read and not retracted, in the order of ids; what is hidden of them is
    /// not in them.
    pub turns: Vec<SaidTurn>,
    /// Turns before those, which a reader who started from the end has left alone. All of them
    /// lie before the horizon.
    pub earlier_turns: u64,
    /// Turns that were retracted, and when they were written.
    pub retracted: BTreeMap<EventId, Timestamp>,
    /// What is hidden, by event; also of events that were not read or may yet come.
    pub hidden: BTreeMap<EventId, Hidden>,
    /// The newest horizon that holds.
    pub horizon: Option<Prune>,
    /// The event that set it.
    pub horizon_by: Option<EventId>,
    /// The highest id of any event.
    pub highest: Option<EventId>,
    /// The highest format version of any event.
    pub version: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            layers: BTreeMap::new(),
            created: None,
            turns: Vec::new(),
            earlier_turns: 0,
            retracted: BTreeMap::new(),
            hidden: BTreeMap::new(),
            horizon: None,
            horizon_by: None,
            highest: None,
            version: VERSION,
        }
    }
}

/// Folds a set of events into the session they describe.
pub fn fold(entries: impl IntoIterator<Item = Entry>) -> Session {
    let mut session = Session::default();
    for entry in one_of_each(entries).into_values() {
        session.apply(entry.event);
    }
    session
}

/// Returns a set of events by id, of each id the one that counts.
pub fn one_of_each(entries: impl IntoIterator<Item = Entry>) -> BTreeMap<EventId, Entry> {
    let mut by_id: BTreeMap<EventId, Entry> = BTreeMap::new();
    for entry in entries {
        match by_id.get(&entry.event.id) {
            Some(known) if known.raw >= entry.raw => {}
            _ => drop(by_id.insert(entry.event.id, entry)),
        }
    }
    by_id
}

/// Folds the events from the end of a log back to its newest horizon, with all turns from there on
/// and those before it that are in the context, in the order of ids.
pub fn fold_tail(horizon: &Prune, events: impl IntoIterator<Item = Event>) -> Session {
    let mut session = Session {
        earlier_turns: horizon.dropped_turns,
        ..Session::default()
    };
    for event in events {
        let copy = match &event.body {
            Body::Turn(_) if !horizon.holds(event.id) => continue,
            Body::Prune(prune) if prune == horizon => Some((event.id, prune.settings.clone())),
            _ => None,
        };
        session.apply(event);
        if let Some((id, settings)) = copy {
            session.set(id, settings, true);
            // What was retracted before the horizon was written is among the turns it counts out.
            session.earlier_turns = horizon
                .dropped_turns
                .saturating_sub(session.retracted.len() as u64);
        }
    }
    session
}

impl Prune {
    /// Tells whether a turn is in the context, pins aside.
    #[must_use]
    pub fn holds(&self, turn: EventId) -> bool {
        turn >= self.keep_from || self.keep.iter().any(|kept| kept.id == turn)
    }
}

impl Session {
    /// Applies an event whose id is higher than that of every event before it. What a redaction
    /// hides is hidden whether its turn came before it or comes after it.
    pub fn apply(&mut self, event: Event) {
        debug_assert!(
            self.highest.is_none_or(|highest| event.id > highest),
            "{event:?}"
        );
        self.highest = Some(event.id);
        self.version = self.version.max(event.v);
        self.created.get_or_insert(event.ts);
        match event.body {
            Body::Session(header) => self.set(event.id, header.settings, false),
            Body::Set(settings) => self.set(event.id, settings, false),
            Body::Turn(turn) => self.take(SaidTurn {
                id: event.id,
                ts: event.ts,
                at: event.at,
                turn: *turn,
            }),
            Body::Redact(redact) => self.redact(&redact),
            Body::Prune(prune) => {
                // Two writers may move the horizon at once; it never moves back by accident.
                let now = self.horizon.as_ref().map(|now| now.keep_from);
                if prune.back || Some(prune.keep_from) >= now {
                    let hidden = self.hidden.get_mut(&event.id);
                    self.horizon = Some(match hidden {
                        Some(hidden) => hide_horizon(hidden, prune),
                        None => prune,
                    });
                    self.horizon_by = Some(event.id);
                }
            }
            Body::Unknown(_) => {}
        }
    }

    /// Takes a turn, without what is hidden of it.
    fn take(&mut self, said: SaidTurn) {
        let SaidTurn {
            id,
            ts,
            at: offset,
            turn,
        } = said;
        let shown = match self.hidden.get_mut(&id) {
            Some(hidden) => hidden.hide_turn(turn),
            None => Some(turn),
        };
        let at = self.turns.partition_point(|other| other.id < id);
        match shown {
            Some(turn) => self.turns.insert(
                at,
                SaidTurn {
                    id,
                    ts,
                    at: offset,
                    turn,
                },
            ),
            None => drop(self.retracted.insert(id, ts)),
        }
    }

    /// Takes what an event sets, without what is hidden of it.
    fn set(&mut self, id: EventId, settings: Settings, is_copy: bool) {
        let settings = match self.hidden.get_mut(&id) {
            Some(hidden) => hide_settings(hidden, settings, is_copy),
            None => settings,
        };
        self.settings.overlay(settings.clone());
        self.layers.insert(id, Layer { settings, is_copy });
    }

    fn redact(&mut self, redact: &Redact) {
        let id = redact.turn;
        let hidden = self.hidden.entry(id).or_default();
        hidden.add(redact);
        if let Ok(at) = self.turns.binary_search_by_key(&id, |said| said.id) {
            let said = self.turns.remove(at);
            self.take(said);
            return;
        }
        if self.horizon_by == Some(id)
            && let Some(horizon) = self.horizon.take()
        {
            self.horizon = Some(hide_horizon(hidden, horizon));
        }
        if let Some(layer) = self.layers.get_mut(&id) {
            layer.settings = hide_settings(hidden, layer.settings.clone(), layer.is_copy);
            self.settings = Settings::default();
            for layer in self.layers.values() {
                self.settings.overlay(layer.settings.clone());
            }
        }
    }

    /// Returns how many redactions were read.
    #[must_use]
    pub fn redactions(&self) -> u64 {
        self.hidden.values().map(Hidden::redactions).sum()
    }

    /// Returns the turns that were asked under an idempotency key, oldest first: one, unless a
    /// merge brought more.
    pub fn under_key(&self, key: &str) -> impl Iterator<Item = &SaidTurn> {
        self.turns
            .iter()
            .filter(move |said| said.turn.key.as_ref().is_some_and(|k| k.key == key))
    }

    /// Returns how many redactions there are of turns that a horizon holds.
    #[must_use]
    pub fn kept_redacts(&self, holds: impl Fn(EventId) -> bool) -> u64 {
        let held = self.hidden.iter().filter(|(turn, _)| holds(**turn));
        held.map(|(_, hidden)| hidden.redactions()).sum()
    }

    /// Returns how many turns the session has, read or not, retracted or not.
    #[must_use]
    pub fn turn_count(&self) -> u64 {
        self.earlier_turns + (self.turns.len() + self.retracted.len()) as u64
    }

    /// Tells whether a turn is in the context: it is not before the horizon, or was kept when
    /// that moved, or is pinned.
    #[must_use]
    pub fn is_in_context(&self, turn: EventId) -> bool {
        self.horizon
            .as_ref()
            .is_none_or(|horizon| horizon.holds(turn))
            || self.settings.is_pinned(turn)
    }

    /// Returns the turns that are in the context, in the order they were said.
    #[must_use]
    pub fn context(&self) -> Vec<&SaidTurn> {
        self.turns
            .iter()
            .filter(|said| self.is_in_context(said.id))
            .collect()
    }

    /// Returns the summary of the turns that left the context. One of a turn that was redacted may
    /// say what is hidden, so it goes.
    #[must_use]
    pub fn summary(&self) -> Option<&str> {
        let horizon = self.horizon.as_ref()?;
        let tells = self.is_told_by_summary(horizon);
        horizon.summary.as_deref().filter(|_| !tells)
    }

    /// Tells whether the event is a horizon whose summary may say what is hidden.
    #[must_use]
    pub fn hides_summary_of(&self, event: &Event) -> bool {
        match &event.body {
            Body::Prune(prune) => prune.summary.is_some() && self.is_told_by_summary(prune),
            _ => false,
        }
    }

    fn is_told_by_summary(&self, horizon: &Prune) -> bool {
        let mut hidden = self.hidden.iter();
        hidden.any(|(turn, hidden)| hidden.is_of_a_turn() && !horizon.holds(*turn))
    }

    /// Returns the tokens of the turns that are in the context.
    #[must_use]
    pub fn context_tokens(&self) -> u64 {
        let tokens = self.context().into_iter().map(|said| said.turn.tokens);
        tokens.map(|tokens| tokens.prompt + tokens.response).sum()
    }

    /// Makes the event that would follow all of these, to see what would come of it.
    #[must_use]
    pub fn next(&self, body: Body) -> Event {
        let id = EventId::next(0, self.highest, 0);
        Event {
            v: VERSION,
            id,
            ts: Timestamp::from_ms(id.timestamp_ms()),
            at: None,
            body,
        }
    }

    /// Returns when the session was last used: its newest turn, by the wall clock of its writer,
    /// or its creation where there is none.
    #[must_use]
    pub fn last_used(&self) -> Option<Timestamp> {
        let turns = self.turns.iter().map(|turn| turn.ts);
        let turns = turns.chain(self.retracted.values().copied());
        turns.max().or(self.created)
    }

    /// Tells whether a program newer than this one wrote to the session: it may be read, as far
    /// as it is understood, but not appended to.
    #[must_use]
    pub fn is_newer_than_this_program(&self) -> bool {
        self.version > VERSION
    }
}

/// Returns a horizon without what is hidden of it. Where it stands is never hidden.
fn hide_horizon(hidden: &mut Hidden, horizon: Prune) -> Prune {
    let bare = Prune {
        summary: None,
        settings: Settings::default(),
        ..horizon.clone()
    };
    hidden.hide(horizon).unwrap_or(bare)
}

/// Returns settings without what is hidden of them.
fn hide_settings(hidden: &mut Hidden, settings: Settings, is_copy: bool) -> Settings {
    /// What a horizon has, as far as it matters here.
    #[derive(Serialize, Deserialize)]
    struct Copy {
        settings: Settings,
    }
    if is_copy {
        let shown = hidden.hide(Copy { settings });
        return shown.map(|copy| copy.settings).unwrap_or_default();
    }
    hidden.hide(settings).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::event::KeptTurn;
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
            keep: Vec::new(),
            strategy: "fifo".into(),
            summary: None,
            budget: 0,
            back: false,
            kept_turns: 0,
            dropped_turns: 0,
            dropped_tokens: 0,
            kept_redacts: 0,
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

    fn redact(at: u64, of: u64, prompt: Option<[u64; 2]>) -> Event {
        let redact = Redact {
            turn: id(of),
            fields: prompt
                .map(|range| ("prompt".to_owned(), vec![range]))
                .into_iter()
                .collect(),
            original: BTreeMap::new(),
            salt: None,
            hash: None,
        };
        event(at, Body::Redact(redact))
    }

    /// Any event of that world, or a redaction of a turn, be it there or not, before it or after.
    fn any_event_or_redact() -> impl Strategy<Value = Event> {
        let redacts = (
            1u64..30,
            1u64..30,
            prop::option::of(prop::array::uniform2(0u64..4)),
        );
        prop_oneof![3 => any_event(), 1 => redacts.prop_map(|(at, of, range)| redact(at, of, range))]
    }

    #[test]
    fn what_is_redacted_is_hidden_wherever_its_turn_stands() {
        for (name, at) in [("after its turn", 9), ("before it", 1)] {
            let events = [
                turn(5, "a secret", "r"),
                turn(6, "b", "r"),
                redact(at, 5, Some([2, 8])),
            ];
            let got = fold(events.map(entry));
            assert_eq!(got.context()[0].turn.prompt, "a [redacted]", "{name}");
            assert_eq!((got.turns.len(), got.turn_count()), (2, 2), "{name}");

            let events = [
                turn(5, "a secret", "r"),
                turn(6, "b", "r"),
                redact(at, 5, None),
            ];
            let got = fold(events.map(entry));
            assert_eq!(got.context()[0].turn.prompt, "b", "{name}");
            assert_eq!((got.turns.len(), got.turn_count()), (1, 2), "{name}");
            assert!(!format!("{got:?}").contains("secret"), "{name}");
        }
    }

    #[test]
    fn a_redaction_of_nothing_is_no_turn() {
        let got = fold(
            [
                turn(5, "p", "r"),
                redact(6, 2, None),
                redact(7, 9, Some([0, 1])),
            ]
            .map(entry),
        );
        assert_eq!((got.turns.len(), got.turn_count()), (1, 1));
        assert_eq!(got.kept_redacts(|_| true), 2);
        assert_eq!(got.kept_redacts(|turn| turn > id(3)), 1);
    }

    #[test]
    fn tags_merge_one_by_one() {
        let tags = |at, name: &str, on| {
            let tags = [(name.to_owned(), on)].into();
            event(
                at,
                Body::Set(Settings {
                    tags,
                    ..Settings::default()
                }),
            )
        };
        let got = fold([tags(1, "x", true), tags(2, "y", true), tags(3, "x", false)].map(entry));
        assert_eq!(
            (got.settings.has_tag("x"), got.settings.has_tag("y")),
            (false, true)
        );
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
        assert_eq!(got.context().len(), 2);
    }

    #[test]
    fn kept_and_pinned_turns_stay_in_and_a_horizon_moves_back_only_on_purpose() {
        let turns = (1..=5).map(|n| turn(n, "p", "r"));
        let mut far = prune(6, 5);
        if let Body::Prune(prune) = &mut far.body {
            prune.keep = vec![KeptTurn {
                id: id(2),
                at: None,
            }];
        }
        let pin = |at, turn, pin| {
            event(
                at,
                Body::Set(Settings {
                    pins: [(id(turn), pin)].into(),
                    ..Settings::default()
                }),
            )
        };
        let mut back = prune(9, 3);
        if let Body::Prune(prune) = &mut back.body {
            prune.back = true;
        }
        let in_context = |more: &[Event]| -> Vec<u64> {
            let events = turns
                .clone()
                .chain([far.clone()])
                .chain(more.iter().cloned());
            fold(events.map(entry))
                .context()
                .iter()
                .map(|said| said.id.timestamp_ms())
                .collect()
        };
        assert_eq!(in_context(&[]), [2, 5]);
        assert_eq!(in_context(&[pin(7, 1, true)]), [1, 2, 5]);
        assert_eq!(in_context(&[pin(7, 1, true), pin(8, 1, false)]), [2, 5]);
        assert_eq!(in_context(&[back]), [3, 4, 5]);
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(
            (events, shuffled) in prop::collection::vec(any_event_or_redact(), 0..20).prop_flat_map(|events| {
                let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
                (Just(events), Just(twice).prop_shuffle())
            })
        ) {
            prop_assert_eq!(fold(events.into_iter().map(entry)), fold(shuffled.into_iter().map(entry)));
        }

        #[test]
        fn what_is_folded_in_later_is_folded_as_at_once(
            events in prop::collection::btree_map(1u64..30, any_event_or_redact(), 0..20), split in 0usize..20,
        ) {
            let events: Vec<Event> = events.into_iter().map(|(at, event)| Event { id: id(at), ..event }).collect();
            let split = split.min(events.len());
            let mut session = fold(events[..split].iter().cloned().map(entry));
            events[split..].iter().cloned().for_each(|event| session.apply(event));
            prop_assert_eq!(session, fold(events.into_iter().map(entry)));
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
