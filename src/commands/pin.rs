//! Pinning: a turn stays in the context whatever leaves it, or no longer.

use super::keep::Horizon;
use super::named;
use crate::cli::Invocation;
use crate::error::Result;
use crate::output::{Outcome, Pinned};
use crate::session::event::{Body, Settings};
use crate::session::id::Address;
use crate::store::append::{Found, refuse_newer};
use crate::store::no_turn;
use crate::store::snapshot::Extent;

/// Pins a turn, or lets it go.
///
/// # Errors
/// `session_not_found` for a session or turn that is not there; `store_*`.
pub(super) fn run(address: &Address, is_pinned: bool, invocation: &Invocation) -> Result<Outcome> {
    let Address {
        session: reference,
        turn,
    } = address;
    let store = named::store_of(reference, invocation)?;
    let (id, snapshot) = named::read(&*store, reference, Extent::History)?;
    refuse_newer(&snapshot.session, id)?;
    if !snapshot.session.turns.iter().any(|said| said.id == *turn) {
        return Err(no_turn(*turn, id));
    }
    let was_pinned = snapshot.session.settings.is_pinned(*turn);
    if was_pinned != is_pinned {
        let writable = store.for_writing(invocation.lock_timeout)?;
        let writer = writable.writer(id)?;
        let change = Settings {
            pins: [(*turn, is_pinned)].into(),
            ..Settings::default()
        };
        writer.append(snapshot, invocation.durability, |found| {
            Ok(events(&found, change.clone()))
        })?;
    }
    let pinned = Pinned {
        session_id: id,
        turn: *turn,
        pinned: is_pinned,
        changed: was_pinned != is_pinned,
        warnings: Vec::new(),
    };
    Ok(Outcome::report(pinned))
}

/// Returns the change and, where turns have left, the horizon stated anew with it: so the next
/// turn finds the pinned one without reading the whole log.
fn events(found: &Found<'_>, change: Settings) -> Vec<Body> {
    let mut session = found.session.clone();
    session.settings.overlay(change.clone());
    let has_horizon = session.horizon.is_some();
    let budget = session.settings.max_context_tokens.unwrap_or_default();
    let stated = Horizon::in_force(&session, budget).filter(|_| has_horizon);
    let prune =
        stated.map(|horizon| Body::Prune(horizon.event(&session, session.settings.clone())));
    [Body::Set(change)].into_iter().chain(prune).collect()
}
