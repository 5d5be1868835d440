//! Retraction: one turn hidden at once and for ever.

use super::named;
use crate::cli::{Invocation, Retract};
use crate::error::Result;
use crate::output::{Outcome, Retracted};
use crate::session::event::{Body, Redact};
use crate::session::fold::fold;
use crate::session::id::Address;
use crate::session::seek::is_on_disk;
use crate::store::append::refuse_newer;
use crate::store::no_turn;
use crate::store::snapshot::Extent;

/// Hides a turn, and takes its bytes off the disk if that is asked for. A second time nothing is
/// written.
///
/// # Errors
/// `session_not_found` for a session or turn that is not there; `store_*`.
pub(super) fn run(retract: &Retract, invocation: &Invocation) -> Result<Outcome> {
    let Address {
        session: reference,
        turn,
    } = &retract.turn;
    let store = named::store_of(reference, invocation)?;
    let (id, snapshot) = named::read(&*store, reference, Extent::History)?;
    let session = &snapshot.session;
    refuse_newer(session, id)?;
    let is_shown = session.turns.iter().any(|said| said.id == *turn);
    if !is_shown && !session.retracted.contains_key(turn) {
        return Err(no_turn(*turn, id));
    }
    let mut changed = false;
    if is_shown {
        let writable = store.for_writing(invocation.lock_timeout)?;
        let writer = writable.writer(id)?;
        writer.append(snapshot, invocation.durability, |found| {
            changed = !found.session.retracted.contains_key(turn);
            Ok(Vec::from_iter(
                changed.then(|| Body::Redact(Redact::whole(*turn))),
            ))
        })?;
    }
    let failure = if retract.compact {
        let writable = store.for_writing(invocation.lock_timeout)?;
        writable.compact(id, false).err()
    } else {
        None
    };
    let entries = store.events(id)?.entries;
    let bytes_on_disk = is_on_disk(&entries, &fold(entries.clone()));
    let message = if bytes_on_disk {
        format!(
            "the turn is hidden; its bytes are in the log until `ollama-prompt session compact {id}`"
        )
    } else {
        "the turn is hidden, and its bytes are gone".to_owned()
    };
    let retracted = Retracted {
        session_id: id,
        turn: *turn,
        changed,
        bytes_on_disk,
        message,
        warnings: Vec::new(),
    };
    Ok(Outcome {
        failure: failure.map(|error| error.session(id)),
        ..Outcome::report(retracted)
    })
}
