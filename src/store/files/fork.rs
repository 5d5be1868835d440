//! Making a fork: its log is in order, and may be read from its end as soon as something was
//! appended. The directory gets its name when it is whole.

use super::append::{encode, write_whole};
use super::blobs;
use super::dir::{Dir, Doing};
use super::layout::{BLOBS, LOG};
use super::merge::{copy_blob, find_blobs};
use super::read;
use super::whole::put_dir;
use crate::error::Result;
use crate::session::id::{EventId, SessionId};
use crate::store::append::Appended;
use crate::store::fork::Fork;
use crate::store::{Durability, New};

/// Reads what a fork of a session begins with. `None` where there is no such session.
///
/// # Errors
/// `session_not_found` when it has no such turn; `store_*` when it cannot be read.
pub(super) fn read(
    sessions: &Dir,
    parent: SessionId,
    at: Option<EventId>,
    app: &str,
) -> Result<Option<Fork>> {
    let Some(dir) = read::open_session(sessions, parent)? else {
        return Ok(None);
    };
    let entries = read::events(&dir)?.entries;
    let (blobs, names) = match find_blobs(&dir)? {
        Some((blobs, names)) => (Some(blobs), names),
        None => (None, Vec::new()),
    };
    let fork = Fork::of(parent, at, app, entries, names)?;
    // Held open, so that they are there when the fork is made, whatever becomes of the parent.
    Ok(fork.map(|fork| Fork {
        held: blobs.map(|blobs| Box::new(blobs) as _),
        ..fork
    }))
}

/// Makes a session that begins with `fork` and goes on with these events. Nothing of it is left
/// behind when that fails, and no crash leaves a session in between.
///
/// # Errors
/// `session_exists`; `store_*`.
pub(super) fn create(sessions: &Dir, fork: &Fork, new: New<'_>) -> Result<Appended> {
    let New {
        id,
        bodies,
        blobs,
        durability,
        ..
    } = new;
    let begun = fork.log.len() as u64;
    let (ids, more) = encode(bodies, fork.session.highest, begun, false)?;
    put_dir(sessions, &id.to_string(), |dir| {
        let log = dir.create_file(LOG).doing("make", dir.path_of(LOG))?;
        write_whole(&log, &fork.log, 0)
            .and_then(|()| write_whole(&log, &more, begun))
            .doing("write", dir.path_of(LOG))?;
        // What a line names is there before the session is.
        copy_blobs(fork, dir, durability)?;
        blobs::write(dir, blobs, durability)?;
        if durability == Durability::Full {
            log.sync_data().doing("sync", dir.path_of(LOG))?;
            dir.sync().doing("sync", dir.path())?;
        }
        Ok(())
    })?;
    if durability == Durability::Full {
        sessions.sync().doing("sync", sessions.path())?;
    }
    Ok(Appended { ids, locked: true })
}

fn copy_blobs(fork: &Fork, dir: &Dir, durability: Durability) -> Result<()> {
    let from = fork
        .held
        .as_ref()
        .and_then(|held| held.downcast_ref::<Dir>());
    let Some(from) = from.filter(|_| !fork.blobs.is_empty()) else {
        return Ok(());
    };
    dir.make_dir(BLOBS).doing("make", dir.path_of(BLOBS))?;
    let to = dir.open_dir(BLOBS).doing("open", dir.path_of(BLOBS))?;
    for name in &fork.blobs {
        // One whose bytes rotted is not sent, here and there.
        copy_blob(from, &to, name, durability)?;
    }
    if durability == Durability::Full {
        to.sync().doing("sync", to.path())?;
    }
    Ok(())
}
