//! Which session a turn belongs to, and what it was when the turn began.

use crate::cli::Memory;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::id::SessionId;
use crate::store::read::{Extent, Snapshot};
use crate::store::{Store, not_found};
use std::path::Path;

/// A session as it was found, or is to be made.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) store: Store,
    pub(super) id: SessionId,
    pub(super) snapshot: Snapshot,
    /// Whether the id was made for this call, so that nobody else can know it.
    pub(super) is_fresh: bool,
}

impl Place {
    /// Finds the session `memory` names in the store at `root`.
    ///
    /// # Errors
    /// `session_not_found`, `session_ambiguous`; `store_*` when it is there and cannot be read.
    pub(super) fn find(memory: &Memory, root: &Path) -> Result<Self> {
        match memory {
            Memory::None | Memory::New => {
                let id = SessionId::from_parts(clock::now().as_ms(), clock::random_bits());
                let store = Store::open_or_make(root)?;
                Ok(Self {
                    store,
                    id,
                    snapshot: Snapshot::default(),
                    is_fresh: true,
                })
            }
            Memory::ContinueOrCreate(id) => {
                let store = Store::open_or_make(root)?;
                let snapshot = store.read(*id, Extent::Context)?.unwrap_or_default();
                Ok(Self {
                    store,
                    id: *id,
                    snapshot,
                    is_fresh: false,
                })
            }
            Memory::Continue(reference) => {
                let store = Store::open(root)?.ok_or_else(|| not_found(reference))?;
                let id = store.find(reference)?;
                Self::existing(store, id)
            }
            Memory::Latest => {
                let store = Store::open(root)?.ok_or_else(nothing_to_continue)?;
                let id = latest(&store)?.ok_or_else(nothing_to_continue)?;
                Self::existing(store, id)
            }
        }
    }

    fn existing(store: Store, id: SessionId) -> Result<Self> {
        let snapshot = store
            .read(id, Extent::Context)
            .map_err(|error| error.session(id))?;
        let snapshot = snapshot.ok_or_else(|| not_found(id).session(id))?;
        Ok(Self {
            store,
            id,
            snapshot,
            is_fresh: false,
        })
    }
}

fn nothing_to_continue() -> Error {
    Error::new(Code::SessionNotFound, "there is no session to continue")
        .hint("leave out --continue: the first prompt makes a session")
}

/// Returns the session used last. One that cannot be read is passed over: the list says why.
fn latest(store: &Store) -> Result<Option<SessionId>> {
    let read = store.ids()?.into_iter().filter_map(|id| {
        let snapshot = store.read(id, Extent::Context).ok()??;
        Some((snapshot.session.last_used(), id))
    });
    Ok(read.max().map(|(_, id)| id))
}
