//! What a turn promises about others of its session: that one request is asked once, that turns
//! follow each other, that nobody was faster.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::ask::Call;
use super::place::Place;
use crate::cli::Expected;
use crate::digest::sha256;
use crate::error::{Code, Error, Result};
use crate::json;
use crate::session::attachment::ToolResult;
use crate::session::event::{Key, Settings};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::SessionId;
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

/// Returns the key of a call, with the hash of what is asked under it: what the caller said, and
/// neither the history nor what the session knows.
pub(super) fn key(call: &Call<'_>) -> Option<Key> {
    /// Absent keys are left out, so that the hash of a request stays what it is when a version
    /// to come knows more to ask for.
    #[derive(Serialize)]
    struct Asked<'a> {
        key: &'a str,
        prompt: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        system: Option<&'a str>,
        #[serde(skip_serializing_if = "Settings::is_empty")]
        template: &'a Settings,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<&'a String, &'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        think: Option<&'a Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        images: Vec<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tools: Option<&'a Value>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        tool_results: &'a [ToolResult],
    }
    let key = call.turn.guarantees.key.as_deref()?;
    let images = call.attachments.images.iter();
    let asked = json::line(&Asked {
        key,
        prompt: &call.prompt,
        model: call.given.model.as_deref(),
        system: call.given.system.as_deref(),
        template: &call.begins,
        options: call.turn.options.iter().collect(),
        think: call.turn.think.as_ref(),
        images: images.map(|image| image.blob.sha256.as_str()).collect(),
        format: call.attachments.format.as_ref(),
        tools: call.attachments.tools.as_ref(),
        tool_results: &call.attachments.tool_results,
    });
    Some(Key {
        key: key.to_owned(),
        request: sha256(asked),
    })
}

/// Refuses a turn that is not the one after the turn that was expected to be the newest.
///
/// # Errors
/// `turn_conflict`.
pub(super) fn check_expected(
    expected: Option<Expected>,
    session: &Session,
    id: SessionId,
) -> Result<()> {
    match expected {
        Some(expected) if !is_newest(expected, session) => {
            Err(turn_conflict(expected, session, id))
        }
        _ => Ok(()),
    }
}

/// Does the same before the call, where the context may not have the turn that is expected.
///
/// # Errors
/// As [`check_expected`]; `store_*`.
pub(super) fn expect(expected: Option<Expected>, place: &mut Place) -> Result<()> {
    if let Some(expected) = expected
        && !is_newest(expected, &place.snapshot.session)
        && place.snapshot.session.earlier_turns > 0
    {
        place.read_history()?;
    }
    check_expected(expected, &place.snapshot.session, place.id)
}

/// Tells whether no turn follows the one that is expected. A turn that was retracted follows
/// nobody, and may itself be the last one the caller knows.
fn is_newest(expected: Expected, session: &Session) -> bool {
    let newest = session.turns.last().map(|said| said.id);
    match expected {
        Expected::NoTurn => newest.is_none() && session.earlier_turns == 0,
        Expected::Turn(id) => {
            newest == Some(id) || (newest < Some(id) && session.retracted.contains_key(&id))
        }
    }
}

fn turn_conflict(expected: Expected, session: &Session, id: SessionId) -> Error {
    let expected = match expected {
        Expected::NoTurn => "none".to_owned(),
        Expected::Turn(turn) => turn.to_string(),
    };
    let (is, accept) = match session.turns.last() {
        Some(newest) => (newest.id.to_string(), newest.id.to_string()),
        None => ("none".to_owned(), "none".to_owned()),
    };
    Error::new(
        Code::TurnConflict,
        format!("the newest turn of the session is {is}, not {expected}"),
    )
    .hint(format!(
        "session show {id} has what was said since; --expect-turn {accept} goes on from there"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::tests::{id, turn};
    use crate::session::event::{Body, Redact};

    fn session(turns: u64, retracted: &[u64]) -> Session {
        let mut session = Session::default();
        for n in 1..=turns {
            session.apply(turn(n, "q", "a"));
        }
        for (n, of) in retracted.iter().enumerate() {
            let redact = Redact {
                turn: id(*of),
                fields: BTreeMap::new(),
                original: BTreeMap::new(),
                salt: None,
                hash: None,
            };
            session.apply(crate::session::event::tests::event(
                turns + 1 + n as u64,
                Body::Redact(redact),
            ));
        }
        session
    }

    #[test]
    fn what_is_the_newest_turn() {
        let turn = |n| Expected::Turn(id(n));
        let rows = [
            ("none yet", 0, &[][..], Expected::NoTurn, true),
            ("one is expected", 0, &[], turn(1), false),
            ("the newest", 3, &[], turn(3), true),
            ("one before it", 3, &[], turn(2), false),
            ("none is expected", 3, &[], Expected::NoTurn, false),
            ("one that is not there", 3, &[], turn(9), false),
            ("before a retracted one", 3, &[3], turn(2), true),
            ("the retracted one", 3, &[3], turn(3), true),
            ("a retracted one before it", 3, &[2], turn(2), false),
            ("all retracted", 1, &[1], Expected::NoTurn, true),
        ];
        for (name, turns, retracted, expected, is) in rows {
            assert_eq!(
                is_newest(expected, &session(turns, retracted)),
                is,
                "{name}"
            );
        }
    }
}
