//! What a turn promises about others of its session: that one request is asked once, that turns
//! follow each other. That nobody was faster is in [`super::expected`].

use super::ask::Call;
use super::place::Place;
use crate::error::{Error, Result};
use crate::session::event::Key;
use crate::session::fold::{SaidTurn, Session};
use crate::store::Location;
use crate::store::guard::{Guard, KeyGuard, Taken, conflict};

/// What a turn holds while it is under way.
#[derive(Debug, Default)]
pub(super) struct Guards {
    key: Option<KeyGuard>,
    _turn: Option<Guard>,
}

impl Guards {
    /// Takes what the turn needs to keep its promises, and reads the session when it has it.
    /// Returns the turn there is already under its key, if there is one.
    ///
    /// # Errors
    /// `idempotency_conflict`; what the turn ended with that was waited for; `timeout` and
    /// `store_locked` after the longest wait; `session_not_found`, `store_*`.
    pub(super) fn take(
        call: &Call<'_>,
        place: &mut Place,
        location: &Location,
    ) -> Result<(Self, Option<SaidTurn>)> {
        if call.turn.dry_run || place.is_new() {
            place.read()?;
            refuse_inherited(call, &place.snapshot.session)?;
            return Ok((Self::default(), None));
        }
        let key = call
            .key
            .as_ref()
            .map(|key| take_key(key, call, place, location));
        let key = key.transpose()?;
        match read_in_turn(call, place, location) {
            Ok((turn, said)) => Ok((Self { key, _turn: turn }, said)),
            Err(error) => Err(Self { key, _turn: None }.end(error)),
        }
    }

    /// Lets those who wait for the key end as this turn ends, if that is with a failure.
    pub(super) fn end(self, error: Error) -> Error {
        if let Some(key) = self.key {
            key.fail(&error);
        }
        error
    }
}

fn take_key(
    key: &Key,
    call: &Call<'_>,
    place: &mut Place,
    location: &Location,
) -> Result<KeyGuard> {
    let id = place.id;
    let patience = call.turn.guarantees.patience;
    match place.open_or_make(location)?.take_key(id, key, patience)? {
        Taken::Held(held) => Ok(held),
        Taken::Failed(error) => Err(error),
    }
}

/// Reads the session when it is this turn's turn, if it takes turns; unless there is one under its
/// key already.
fn read_in_turn(
    call: &Call<'_>,
    place: &mut Place,
    location: &Location,
) -> Result<(Option<Guard>, Option<SaidTurn>)> {
    let wanted = &call.turn.guarantees;
    if let Some(key) = &call.key {
        place.read()?;
        let said = answered(place, key)?;
        if said.is_some() || !wanted.serialize {
            return Ok((None, said));
        }
    }
    let id = place.id;
    let turn = if wanted.serialize {
        Some(
            place
                .open_or_make(location)?
                .take_turn(id, wanted.patience)?,
        )
    } else {
        None
    };
    // What was read before a wait is not what there is after it.
    place.read()?;
    Ok((turn, None))
}

/// Returns the turn that was stored under a key. The context is looked at first; the history only
/// where there is more of it.
fn answered(place: &Place, key: &Key) -> Result<Option<SaidTurn>> {
    let session = &place.snapshot.session;
    let mut under: Vec<SaidTurn> = session.under_key(&key.key).cloned().collect();
    if under.is_empty()
        && session.earlier_turns > 0
        && let Some(store) = &place.store
    {
        under = store.turns_under_key(place.id, &key.key)?;
    }
    let is_same = |said: &SaidTurn| said.turn.key.as_ref() == Some(key);
    match under.iter().position(is_same) {
        Some(at) => Ok(Some(under.swap_remove(at))),
        None if under.is_empty() => Ok(None),
        None => Err(conflict(&key.key)),
    }
}

/// A fork has the keys of the turns it begins with: a request under one of them is not new.
fn refuse_inherited(call: &Call<'_>, session: &Session) -> Result<()> {
    let Some(key) = &call.key else {
        return Ok(());
    };
    if call.turn.dry_run || session.under_key(&key.key).next().is_none() {
        return Ok(());
    }
    Err(conflict(&key.key).because("the history it begins with has a turn under this key"))
}
