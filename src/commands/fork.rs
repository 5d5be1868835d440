//! Forking: a new session that begins with the history of another, so that another way can be
//! tried and the first one stays.

use super::keep::Horizon;
use super::named;
use super::place::{fork, new_id};
use crate::cli::Invocation;
use crate::error::Result;
use crate::output::{Forked, ForkedSource, Outcome};
use crate::session::event::Body;
use crate::session::id::{EventId, SessionRef};
use crate::store::New;
use crate::store::append::refuse_newer;

/// Makes a session that has the history of `parent`, up to `turn` or all of it.
///
/// # Errors
/// `session_not_found` for a session or turn that is not there; `store_*`.
pub(super) fn run(
    parent: &SessionRef,
    turn: Option<EventId>,
    invocation: &Invocation,
) -> Result<Outcome> {
    let store = named::store_of(parent, invocation)?;
    let fork = fork(&*store, parent, turn)?;
    refuse_newer(&fork.session, fork.from.session)?;
    let session = &fork.session;
    // Stated anew, the horizon says where its turns are: the next turn can read from the end.
    let budget = session.settings.max_context_tokens.unwrap_or_default();
    let horizon = Horizon::in_force(session, budget).filter(|_| session.horizon.is_some());
    let prune =
        horizon.map(|horizon| Body::Prune(horizon.event(session, session.settings.clone())));
    let id = new_id();
    let writable = store.for_writing(invocation.lock_timeout)?;
    let bodies = prune.into_iter().collect();
    writable.create(New {
        id,
        begins_with: Some(&fork),
        bodies,
        blobs: &[],
        durability: invocation.durability,
    })?;
    let forked = Forked {
        session_id: id,
        forked_from: ForkedSource {
            session_id: fork.from.session,
            turn: fork.from.turn,
        },
        turns: session.turn_count(),
        warnings: Vec::new(),
    };
    Ok(Outcome::report(forked))
}
