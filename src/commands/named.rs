//! Sessions as they are named on the command line, found in the store.

use crate::cli::Invocation;
use crate::error::Result;
use crate::session::id::{SessionId, SessionRef};
use crate::store::snapshot::{Extent, Snapshot};
use crate::store::{self, Store, not_found};

/// Opens the store a session is in.
///
/// # Errors
/// `session_not_found` where there is no store; `store_*`.
pub(super) fn store_of(named: &SessionRef, invocation: &Invocation) -> Result<Box<dyn Store>> {
    store::open(&invocation.location()?)?.ok_or_else(|| not_found(named))
}

/// Finds a session that need not be one: whatever has its name can be looked at.
///
/// # Errors
/// `session_not_found`, `session_ambiguous`; `store_*`.
pub(super) fn find(store: &dyn Store, named: &SessionRef) -> Result<SessionId> {
    let id = store.find(named)?;
    if store.has_name(id)? {
        Ok(id)
    } else {
        Err(not_found(named).session(id))
    }
}

/// Finds a session and reads it.
///
/// # Errors
/// `session_not_found`, `session_ambiguous`; `store_*` when it is there and cannot be read.
pub(super) fn read(
    store: &dyn Store,
    named: &SessionRef,
    extent: Extent,
) -> Result<(SessionId, Snapshot)> {
    let id = store.find(named)?;
    let snapshot = store.read(id, extent)?.ok_or_else(|| not_found(named))?;
    Ok((id, snapshot))
}
