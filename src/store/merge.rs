//! Merge: another copy of the store (a backup, another machine's) united with this one.
//!
//! The other copy is always a directory, as a store of files has it: that is what one keeps, sends
//! and commits, whatever keeps the sessions here. It is only read.

pub use super::files::merge::Copy;
use super::import::{Added, Incoming};
use super::purge::Receipt;
use super::{Durability, Writable};
use crate::error::{Error, Result};
use crate::session::id::SessionId;

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// Sessions that were not here.
    pub added: Vec<SessionId>,
    /// Sessions that got events.
    pub changed: Vec<SessionId>,
    /// How many events were added, those of new sessions included.
    pub events: u64,
    /// Sessions that are left out because they were purged here.
    pub purged: Vec<SessionId>,
    /// Sessions of which the other copy has damaged places, and how many; those are not copied.
    pub damaged: Vec<(SessionId, usize)>,
    /// Blobs of the other copy whose bytes are not what their name says; those are not copied.
    pub damaged_blobs: Vec<(SessionId, String)>,
    /// Sessions that could not be read on one of the sides.
    pub refused: Vec<(SessionId, Error)>,
}

impl Merged {
    /// Counts what came of adding to a session.
    pub fn note(&mut self, id: SessionId, added: Added) {
        if added.is_purged {
            self.purged.push(id);
            return;
        }
        self.events += added.events;
        if added.is_new {
            self.added.push(id);
        } else if added.events > 0 {
            self.changed.push(id);
        }
    }
}

/// Remembers what was purged elsewhere and is not here, so that a third copy does not bring it back.
///
/// # Errors
/// `store_*`.
pub fn note_receipts<W: Writable + ?Sized>(
    writable: &W,
    theirs: impl IntoIterator<Item = Receipt>,
) -> Result<()> {
    let store = writable.store();
    let known = store.receipts()?;
    let mut new: Vec<Receipt> = Vec::new();
    for receipt in theirs {
        let is_known = known.contains(&receipt) || new.contains(&receipt);
        if !is_known && !store.has_name(receipt.session)? {
            new.push(receipt);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    writable.note_receipts(&new)
}

/// Adds to a store what `copy` has more, session by session as an import does.
///
/// # Errors
/// As [`Writable::merge`].
pub(super) fn by_adding<W: Writable + ?Sized>(
    writable: &W,
    copy: &Copy,
    include_purged: bool,
    durability: Durability,
) -> Result<Merged> {
    let store = writable.store();
    let mut merged = Merged::default();
    let ids = copy.ids()?;
    let steps = store.progress().begin("merging", ids.len());
    for id in ids {
        steps.step();
        let read = copy.read(id).and_then(|theirs| {
            let mut damaged = Vec::new();
            let blobs = theirs.read_blobs(&mut damaged)?;
            let incoming = Incoming::Lines {
                lines: &theirs.lines,
                blobs: &blobs,
            };
            let lacks = store.would_add(id, incoming)?;
            Ok((theirs, blobs, damaged, lacks))
        });
        let (theirs, blobs, damaged_blobs, lacks) = match read {
            Ok(read) => read,
            Err(error) => {
                merged.refused.push((id, error));
                continue;
            }
        };
        if theirs.damaged > 0 {
            merged.damaged.push((id, theirs.damaged));
        }
        if theirs.lines.is_empty() || lacks.events == 0 && blobs.is_empty() {
            continue;
        }
        let incoming = Incoming::Lines {
            lines: &theirs.lines,
            blobs: &blobs,
        };
        let added = writable.add(id, incoming, include_purged)?;
        merged.note(id, added);
        if !added.is_purged {
            let damaged_blobs = damaged_blobs.into_iter().map(|name| (id, name));
            merged.damaged_blobs.extend(damaged_blobs);
        }
    }
    if durability == Durability::Full {
        let added = merged.added.iter().chain(&merged.changed);
        writable.sync_added(&added.copied().collect())?;
    }
    note_receipts(writable, copy.receipts().iter().cloned())?;
    Ok(merged)
}
