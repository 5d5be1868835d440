//! Keeping a turn: which events a turn becomes, given what the session is by the time it is
//! stored.

use super::expected;
use crate::cli::Expected;
use crate::error::Result;
use crate::session::event::{APP, Body, Header, KeptTurn, Prune, Settings, Strategy, Turn};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::{EventId, SessionId};
use crate::store::append::{Appended, Found, Writer};
use crate::store::blobs::NewBlob;
use crate::store::fork::Fork;
use crate::store::guard::conflict;
use crate::store::snapshot::Snapshot;
use crate::store::{Durability, New, Writable};
use crate::warning::{Turns, Warning};

/// A turn that is to be stored, and what holds from it on.
#[derive(Debug)]
pub(super) struct Keep<'a> {
    pub(super) turn: Turn,
    /// The images it names.
    pub(super) blobs: &'a [NewBlob],
    /// What flags said.
    pub(super) given: Settings,
    /// What the session begins with, if this is its first turn.
    pub(super) settings: &'a Settings,
    /// The horizon, if it moved.
    pub(super) horizon: Option<Horizon>,
    /// What the newest turn must be.
    pub(super) expected: Option<Expected>,
}

/// Which turns are in the context from now on, and how that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// The turns, in the order of their ids.
    pub(super) kept: Vec<EventId>,
    /// Tokens of those there were to choose from and that are not in.
    pub(super) dropped_tokens: u64,
    pub(super) strategy: Strategy,
    pub(super) summary: Option<String>,
    /// The budget in tokens.
    pub(super) budget: u64,
    /// Whether it was made from all turns there are, and not from those in the context.
    pub(super) again: bool,
}

/// A horizon that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Horizon {
    /// The turn from which on all are in.
    pub(super) keep_from: EventId,
    /// Older turns that are in.
    pub(super) keep: Vec<KeptTurn>,
    /// Turns that left the context now.
    pub(super) newly_dropped: u64,
    dropped_tokens: u64,
    strategy: Strategy,
    summary: Option<String>,
    budget: u64,
    back: bool,
}

impl Horizon {
    /// Returns the horizon of a choice, if other turns are in than before, or if it was made from
    /// all turns anew.
    pub(super) fn of(session: &Session, choice: Choice) -> Option<Self> {
        let Choice {
            kept,
            dropped_tokens,
            strategy,
            summary,
            budget,
            again,
        } = choice;
        let before: Vec<EventId> = session.context().iter().map(|said| said.id).collect();
        if !again && kept == before {
            return None;
        }
        let newly_dropped = before
            .iter()
            .filter(|id| kept.binary_search(id).is_err())
            .count() as u64;
        let there = session.horizon.as_ref();
        let earlier = there
            .filter(|_| !again)
            .map_or(0, |horizon| horizon.dropped_tokens);
        let (keep_from, keep) = split(session, &kept)?;
        let dropped_tokens = earlier + dropped_tokens;
        let back = there.is_some_and(|there| keep_from < there.keep_from);
        Some(Self {
            keep_from,
            keep,
            newly_dropped,
            dropped_tokens,
            strategy,
            summary,
            budget,
            back,
        })
    }

    /// Returns the horizon of a session as it is, to state it anew.
    pub(super) fn in_force(session: &Session, budget: u64) -> Option<Self> {
        let kept: Vec<EventId> = session.context().iter().map(|said| said.id).collect();
        let (keep_from, keep) = split(session, &kept)?;
        let there = session.horizon.as_ref();
        Some(Self {
            keep_from,
            keep,
            newly_dropped: 0,
            dropped_tokens: there.map_or(0, |horizon| horizon.dropped_tokens),
            strategy: session.settings.prune.unwrap_or_default(),
            summary: session.summary().map(str::to_owned),
            budget: there.map_or(budget, |horizon| horizon.budget),
            back: there.is_some_and(|there| keep_from < there.keep_from),
        })
    }

    /// Returns the same with its summary, or without.
    pub(super) fn with_summary(self, is_wanted: bool) -> Self {
        let summary = self.summary.filter(|_| is_wanted);
        Self { summary, ..self }
    }

    /// Returns the event for a session as it is now.
    pub(super) fn event(self, session: &Session, settings: Settings) -> Prune {
        let from_on = session
            .turns
            .iter()
            .filter(|said| said.id >= self.keep_from)
            .count() as u64;
        Prune {
            kept_redacts: session.kept_redacts(|turn| {
                turn >= self.keep_from || self.keep.iter().any(|kept| kept.id == turn)
            }),
            keep_from: self.keep_from,
            dropped_turns: session.turn_count() - from_on - self.keep.len() as u64,
            keep: self.keep,
            strategy: self.strategy.name().to_owned(),
            summary: self.summary,
            budget: self.budget,
            back: self.back,
            kept_turns: from_on,
            dropped_tokens: self.dropped_tokens,
            settings,
        }
    }

    /// Tells whether this says more than the horizon another process may have set meanwhile.
    fn moves(&self, there: Option<&Prune>) -> bool {
        there.is_none_or(|there| {
            self.back
                || there.keep_from < self.keep_from
                || (there.keep_from == self.keep_from
                    && (there.keep != self.keep || there.budget < self.budget))
        })
    }
}

/// Splits the turns that are in (ids in order) into those from which on all are in, and older
/// ones. `None` where none is.
fn split(session: &Session, kept: &[EventId]) -> Option<(EventId, Vec<KeptTurn>)> {
    let is_kept = |said: &&SaidTurn| kept.binary_search(&said.id).is_ok();
    let keep_from = session.turns.iter().rev().take_while(is_kept).last()?.id;
    let older = session
        .turns
        .iter()
        .filter(is_kept)
        .take_while(|said| said.id < keep_from);
    let keep = older
        .map(|said| KeptTurn {
            id: said.id,
            at: said.at,
        })
        .collect();
    Some((keep_from, keep))
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
        mut self,
        writable: &dyn Writable,
        id: SessionId,
        durability: Durability,
    ) -> Result<Kept> {
        let blobs = self.blobs;
        let horizon = self.horizon.take();
        let bodies = self.events(horizon, &Session::default(), false, &[]);
        let appended = writable.create(New {
            id,
            begins_with: None,
            bodies,
            blobs,
            durability,
        })?;
        Ok(Kept::new(&appended, Vec::new()))
    }

    /// Makes a session with the history of another and this turn.
    ///
    /// # Errors
    /// `store_*`.
    pub(super) fn in_fork(
        mut self,
        writable: &dyn Writable,
        id: SessionId,
        fork: &Fork,
        durability: Durability,
    ) -> Result<Kept> {
        // Lines that were copied do not stand where they were written.
        let is_shuffled = fork.session.horizon.is_some();
        let blobs = self.blobs;
        let horizon = self.horizon.take();
        let bodies = self.events(horizon, &fork.session, is_shuffled, &[]);
        let appended = writable.create(New {
            id,
            begins_with: Some(fork),
            bodies,
            blobs,
            durability,
        })?;
        Ok(Kept::new(&appended, Vec::new()))
    }

    /// Appends this turn to the session `writer` is ready for.
    ///
    /// # Errors
    /// `turn_conflict` and `idempotency_conflict`, if somebody was faster; `store_*`.
    pub(super) fn in_existing(
        mut self,
        writer: Writer<'_>,
        id: SessionId,
        snapshot: Snapshot,
        durability: Durability,
    ) -> Result<Kept> {
        let mut concurrent = Vec::new();
        let writer = writer.with_blobs(self.blobs);
        let known = snapshot.session.redactions();
        let appended = writer.append(snapshot, durability, |mut found: Found<'_>| {
            if let Some(Body::Turn(turn)) = found.overtaken.pop() {
                self.turn = *turn;
            }
            expected::check(self.expected, found.session, id)?;
            self.check_key(found.session)?;
            concurrent = found.concurrent;
            // A summary made before something was hidden may say it.
            let is_clean = found.session.redactions() == known;
            let horizon = self.horizon.clone();
            let horizon = horizon.map(|horizon| horizon.with_summary(is_clean));
            Ok(self.events(horizon, found.session, found.is_shuffled, &concurrent))
        })?;
        Ok(Kept::new(&appended, concurrent))
    }

    /// Nobody takes a key that is held; a merge may bring a turn under it all the same.
    fn check_key(&self, now: &Session) -> Result<()> {
        let key = self.turn.key.as_ref();
        match key.filter(|key| now.under_key(&key.key).next().is_some()) {
            Some(key) => Err(conflict(&key.key).because("a turn under it was stored meanwhile")),
            None => Ok(()),
        }
    }

    /// Returns the events to append to a session as it is now: the turn, and before it what must
    /// hold from it on. A log that was shuffled has its horizon stated anew: then the next turn
    /// can read it from the end again.
    ///
    /// The turn is in the last of them, and in this no longer.
    fn events(
        &mut self,
        horizon: Option<Horizon>,
        now: &Session,
        is_shuffled: bool,
        concurrent: &[EventId],
    ) -> Vec<Body> {
        let mut turn = std::mem::take(&mut self.turn);
        let Self {
            given, settings, ..
        } = self;
        turn.concurrent_with = concurrent.to_vec();
        let mut in_force = now.settings.clone();
        in_force.overlay(given.clone());
        let begin = now.created.is_none().then(|| {
            Body::Session(Header {
                app: Some(APP.to_owned()),
                imported: None,
                forked_from: None,
                settings: (*settings).clone(),
            })
        });
        let changes = given.changes_from(&now.settings);
        let set = (begin.is_none() && !changes.is_empty()).then_some(Body::Set(changes));
        let moved = horizon.filter(|horizon| horizon.moves(now.horizon.as_ref()));
        let budget = settings.max_context_tokens.unwrap_or_default();
        let stated = moved.or_else(|| Horizon::in_force(now, budget).filter(|_| is_shuffled));
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
    /// Returns what is worth telling.
    pub(super) fn warnings(&self) -> impl Iterator<Item = Warning> {
        let concurrent = &self.concurrent_with;
        let concurrent =
            (!concurrent.is_empty()).then(|| Warning::Concurrent(Turns(concurrent.clone())));
        let no_locks = (!self.locked).then_some(Warning::NoLocks);
        no_locks.into_iter().chain(concurrent)
    }

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

    fn keep<'a>(settings: &'a Settings, given: &Settings) -> Keep<'a> {
        Keep {
            turn: Turn::default(),
            blobs: &[],
            given: given.clone(),
            settings,
            horizon: None,
            expected: None,
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
            at: None,
            turn: Turn::default(),
        };
        let mut session = Session {
            created: Some(Timestamp::from_ms(1)),
            ..Session::default()
        };
        session.turns = (1..=5).map(turn).collect();
        let events = keep(&model("a"), &Settings::default()).events(None, &session, true, &[]);
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
            let events = keep(&model("a"), &given).events(None, &session, false, &[]);
            let types: Vec<&str> = events.iter().map(Body::type_name).collect();
            assert_eq!(types.join(" "), expected, "{name}");
        }
    }
}
