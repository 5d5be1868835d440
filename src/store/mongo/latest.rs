//! The context of a session, read from its end, so that a turn costs its context and not its
//! history.
//!
//! The newest horizon says how many turns from it on stand before it; whoever has these and what
//! follows has the context. Anything out of the usual (a merge brought older events, a turn that is
//! pinned since) is for the whole reading.

use super::document::Position;
use super::{MongoStore, at_once, events_of};
use crate::error::Result;
use crate::session::event::{Event, KeptTurn};
use crate::session::id::SessionId;
use crate::session::seen::Seen;
use crate::store::snapshot::{Mark, Snapshot};

/// Reads the end of a session. `None` where it takes the whole, or there is none.
///
/// # Errors
/// `store_*`.
pub(super) fn read(store: &MongoStore, id: SessionId) -> Result<Option<Snapshot>> {
    let mut patience = at_once();
    let mut documents = store.journal.backwards(id, &mut patience)?;
    let mut seen = Seen::default();
    let mut end: Option<Position> = None;
    let mut from = 0;
    while let Some(document) = documents.next(&mut patience)? {
        if document.closed.is_some() || document.at.n < from {
            break;
        }
        end.get_or_insert(document.at);
        from = from.max(document.from.unwrap_or(0));
        let events = events_of(std::slice::from_ref(&document));
        if !events.damage.is_empty() {
            return Ok(None);
        }
        for entry in events.entries.into_iter().rev() {
            if !seen.take(entry.event) {
                return Ok(None);
            }
            if seen.is_complete() {
                if !seen.is_in_order() {
                    return Ok(None);
                }
                let session = seen.into_session(|kept| find(store, id, kept))?;
                return Ok(session.map(|session| Snapshot {
                    session,
                    mark: end.map(Mark::new),
                    ..Snapshot::default()
                }));
            }
        }
    }
    Ok(whole(seen, end))
}

/// Returns the session that was seen to its beginning.
fn whole(seen: Seen, end: Option<Position>) -> Option<Snapshot> {
    let session = seen.into_whole_session()?;
    session.created.is_some().then(|| Snapshot {
        session,
        mark: end.map(Mark::new),
        ..Snapshot::default()
    })
}

/// Finds a turn that a horizon kept where it stands.
fn find(store: &MongoStore, id: SessionId, kept: &KeptTurn) -> Result<Option<Event>> {
    let Some(at) = kept.at else {
        return Ok(None);
    };
    let document = store.journal.document_at(id, at, &mut at_once())?;
    let entries = document.map(|document| events_of(&[document]).entries);
    let events = entries.into_iter().flatten().map(|entry| entry.event);
    Ok(events.into_iter().find(|event| event.id == kept.id))
}
