//! Which session a turn belongs to, and what it was when the turn began.

use crate::cli::Memory;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::id::SessionId;
use crate::store::read::{Extent, Snapshot};
use crate::store::{Store, not_found};
use std::path::Path;

/// A session as it was found, or is to be made. Nothing is made by looking.
#[derive(Debug)]
pub(super) struct Place {
    /// The store, if there is one.
    pub(super) store: Option<Store>,
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
        let store = Store::open(root)?;
        let id = match (memory, &store) {
            (Memory::None | Memory::New, _) => {
                let id = SessionId::from_parts(clock::now().as_ms(), clock::random_bits());
                return Ok(Self {
                    store,
                    id,
                    snapshot: Snapshot::default(),
                    is_fresh: true,
                });
            }
            (Memory::ContinueOrCreate(id), _) => {
                let found = store
                    .as_ref()
                    .map(|store| store.read(*id, Extent::Context))
                    .transpose()?;
                let snapshot = found.flatten().unwrap_or_default();
                return Ok(Self {
                    store,
                    id: *id,
                    snapshot,
                    is_fresh: false,
                });
            }
            (Memory::Continue(reference), Some(store)) => store.find(reference)?,
            (Memory::Continue(reference), None) => return Err(not_found(reference)),
            (Memory::Latest, Some(store)) => latest(store)?.ok_or_else(nothing_to_continue)?,
            (Memory::Latest, None) => return Err(nothing_to_continue()),
        };
        let found = store
            .as_ref()
            .map(|store| store.read(id, Extent::Context))
            .transpose();
        let snapshot = found.map_err(|error| error.session(id))?.flatten();
        let snapshot = snapshot.ok_or_else(|| not_found(id).session(id))?;
        Ok(Self {
            store,
            id,
            snapshot,
            is_fresh: false,
        })
    }

    /// Reads the whole history, where only the context was read.
    ///
    /// # Errors
    /// `store_*` when it cannot be read.
    pub(super) fn read_history(&mut self) -> Result<()> {
        if let Some(store) = &self.store
            && let Some(snapshot) = store.read(self.id, Extent::History)?
        {
            self.snapshot = snapshot;
        }
        Ok(())
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
