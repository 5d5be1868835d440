//! The turn a caller expects to be the newest: where another was faster, nothing is asked, or the
//! reply is not stored.

use super::place::Place;
use crate::cli::Expected;
use crate::error::{Code, Error, Result};
use crate::session::fold::Session;
use crate::session::id::SessionId;

/// Refuses a turn that is not the one after the turn that was expected to be the newest.
///
/// # Errors
/// `turn_conflict`.
pub(super) fn check(expected: Option<Expected>, session: &Session, id: SessionId) -> Result<()> {
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
/// As [`check`]; `store_*`.
pub(super) fn expect(expected: Option<Expected>, place: &mut Place) -> Result<()> {
    if let Some(expected) = expected
        && !is_newest(expected, &place.snapshot.session)
        && place.snapshot.session.earlier_turns > 0
    {
        place.read_history()?;
    }
    check(expected, &place.snapshot.session, place.id)
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
    use std::collections::BTreeMap;

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
