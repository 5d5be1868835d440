//! Keeping a turn: which events a turn becomes, given what the session is by the time it is
//! stored.

use crate::error::Result;
use crate::session::event::{Body, Header, Prune, Settings, Turn};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};
use crate::store::append::{Appended, Found, Writer};
use crate::store::read::Snapshot;
use crate::store::{Durability, Writable};

use super::request::Request;

const APP: &str = concat!("ollama-prompt ", env!("CARGO_PKG_VERSION"));

/// A turn that is to be stored, and what holds from it on.
#[derive(Debug)]
pub(super) struct Keep<'a> {
    pub(super) turn: Turn,
    /// What flags said.
    pub(super) given: Settings,
    /// What the session begins with, if this is its first turn.
    pub(super) settings: &'a Settings,
    /// The horizon, if it moved.
    pub(super) horizon: Option<Horizon>,
}

/// A horizon that moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Horizon {
    keep_from: EventId,
    /// Turns that left the context now.
    pub(super) newly_dropped: u64,
    dropped_tokens: u64,
}

impl Horizon {
    /// Returns the horizon `request` moves, if it leaves out turns that were in the context.
    pub(super) fn of(session: &Session, request: &Request<'_>) -> Option<Self> {
        let newly_dropped = (session.context().len() - request.kept.len()) as u64;
        let keep_from = request.kept.first().filter(|_| newly_dropped > 0)?.id;
        let earlier = session
            .horizon
            .as_ref()
            .map_or(0, |horizon| horizon.dropped_tokens);
        let dropped_tokens = earlier + request.dropped_tokens;
        Some(Self {
            keep_from,
            newly_dropped,
            dropped_tokens,
        })
    }

    /// Returns the horizon of a session as it is, to state it anew.
    fn in_force(session: &Session) -> Option<Self> {
        let keep_from = session.context().first()?.id;
        let dropped_tokens = session
            .horizon
            .as_ref()
            .map_or(0, |horizon| horizon.dropped_tokens);
        Some(Self {
            keep_from,
            newly_dropped: 0,
            dropped_tokens,
        })
    }

    /// Returns the event for a session as it is now.
    fn event(self, session: &Session, settings: Settings) -> Prune {
        let Self {
            keep_from,
            dropped_tokens,
            ..
        } = self;
        let kept = session
            .turns
            .iter()
            .filter(|said| said.id >= keep_from)
            .count() as u64;
        Prune {
            keep_from,
            strategy: "fifo".to_owned(),
            kept_turns: kept,
            dropped_turns: session.turn_count() - kept,
            dropped_tokens,
            kept_redacts: session.kept_redacts(|turn| turn >= keep_from),
            settings,
        }
    }
}

/// Where a turn was stored.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: EventId,
    pub(super) concurrent_with: Vec<EventId>,
    /// Whether the lock kept others out.
    pub(super) locked: bool,
}

impl Keep<'_> {
    /// Makes a session with this turn.
    ///
    /// # Errors
    /// `store_*`.
    pub(super) fn in_new(
        self,
        writable: &Writable<'_>,
        id: SessionId,
        durability: Durability,
    ) -> Result<Kept> {
        let appended =
            writable.create(id, durability, self.events(&Session::default(), false, &[]))?;
        Ok(Kept::new(&appended, Vec::new()))
    }

    /// Appends this turn to the session `writer` is ready for.
    ///
    /// # Errors
    /// `store_*`.
    pub(super) fn in_existing(
        self,
        writer: Writer<'_>,
        snapshot: Snapshot,
        durability: Durability,
    ) -> Result<Kept> {
        let mut concurrent = Vec::new();
        let appended = writer.append(snapshot, durability, |found: Found<'_>| {
            concurrent = found.concurrent;
            Ok(self.events(found.session, found.is_shuffled, &concurrent))
        })?;
        Ok(Kept::new(&appended, concurrent))
    }

    /// Returns the events to append to a session as it is now: the turn, and before it what must
    /// hold from it on. A log that was shuffled has its horizon stated anew: then the next turn
    /// can read it from the end again.
    fn events(self, now: &Session, is_shuffled: bool, concurrent: &[EventId]) -> Vec<Body> {
        let Self {
            mut turn,
            given,
            settings,
            horizon,
        } = self;
        turn.concurrent_with = concurrent.to_vec();
        let mut in_force = now.settings.clone();
        in_force.overlay(given.clone());
        let begin = now.created.is_none().then(|| {
            Body::Session(Header {
                app: Some(APP.to_owned()),
                settings: settings.clone(),
            })
        });
        let changes = given.changes_from(&now.settings);
        let set = (begin.is_none() && !changes.is_empty()).then_some(Body::Set(changes));
        // Another process may have moved the horizon as far meanwhile.
        let there = now.horizon.as_ref().map(|horizon| horizon.keep_from);
        let moved = horizon.filter(|horizon| there < Some(horizon.keep_from));
        let stated = moved.or_else(|| Horizon::in_force(now).filter(|_| is_shuffled));
        let prune = stated.map(|horizon| Body::Prune(horizon.event(now, in_force)));
        let turn = Body::Turn(Box::new(turn));
        begin
            .into_iter()
            .chain(set)
            .chain(prune)
            .chain([turn])
            .collect()
    }
}

impl Kept {
    fn new(appended: &Appended, concurrent_with: Vec<EventId>) -> Self {
        let id = *appended
            .ids
            .last()
            .expect("the turn is the last event of its append");
        Self {
            id,
            concurrent_with,
            locked: appended.locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Timestamp;
    use crate::session::fold::SaidTurn;

    fn keep<'a>(settings: &'a Settings, given: &Settings) -> Keep<'a> {
        Keep {
            turn: Turn::default(),
            given: given.clone(),
            settings,
            horizon: None,
        }
    }

    fn model(name: &str) -> Settings {
        Settings {
            model: Some(name.to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn a_shuffled_log_has_its_horizon_stated_anew() {
        let turn = |n: u64| SaidTurn {
            id: EventId::next(n, None, 0),
            ts: Timestamp::from_ms(n),
            turn: Turn::default(),
        };
        let mut session = Session {
            created: Some(Timestamp::from_ms(1)),
            ..Session::default()
        };
        session.turns = (1..=5).map(turn).collect();
        let events = keep(&model("a"), &Settings::default()).events(&session, true, &[]);
        let Body::Prune(prune) = &events[0] else {
            panic!("{events:?}")
        };
        assert_eq!(
            (prune.keep_from, prune.kept_turns, prune.dropped_turns),
            (session.turns[0].id, 5, 0)
        );
    }

    #[test]
    fn a_first_turn_begins_the_session_and_a_later_one_says_what_changed() {
        let begun = Session {
            created: Some(crate::clock::now()),
            settings: model("a"),
            ..Session::default()
        };
        let rows = [
            ("first", Session::default(), model("a"), "session turn"),
            ("as before", begun.clone(), model("a"), "turn"),
            ("nothing given", begun.clone(), Settings::default(), "turn"),
            ("another model", begun, model("b"), "set turn"),
        ];
        for (name, session, given, expected) in rows {
            let events = keep(&model("a"), &given).events(&session, false, &[]);
            let types: Vec<&str> = events.iter().map(Body::type_name).collect();
            assert_eq!(types.join(" "), expected, "{name}");
        }
    }
}
