//! Adding to the logs of sessions what they lack.
//!
//! A session that is not here appears at once and whole, by a rename. Nothing is synced session by
//! session: [`sync_added`] does that once in the end, and before it nobody is told that anything was
//! imported.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::append::{append, write_whole};
use super::dir::{Access, Dir, Doing};
use super::layout::{BLOBS, LOG};
use super::making::open_or_make_dir;
use super::read::{open_session, scan_logs};
use super::whole::{put, put_dir};
use crate::error::Result;
use crate::session::id::SessionId;
use crate::store::import::{Added, Incoming, Lines, Missing};

/// Up to so many sessions are synced one by one; with more, the file system as a whole is faster.
const ONE_BY_ONE: usize = 16;

/// Tells what [`add`] would do.
///
/// # Errors
/// When the session is there and cannot be read.
pub(super) fn would_add(sessions: &Dir, id: SessionId, incoming: Incoming<'_>) -> Result<Added> {
    let dir = open_session(sessions, id)?;
    Ok(missing(dir.as_ref(), id, incoming)?.added)
}

/// Adds to a session, which is locked, what it has not, without a sync. One that is not there is
/// asked about before it is made: it may have to stay out.
///
/// # Errors
/// `store_*`.
pub(super) fn add(
    sessions: &Dir,
    id: SessionId,
    incoming: Incoming<'_>,
    stays_out: impl FnOnce() -> Result<bool>,
) -> Result<Added> {
    let dir = open_session(sessions, id)?;
    let missing = missing(dir.as_ref(), id, incoming)?;
    let blobs = match incoming {
        Incoming::Lines { blobs, .. } => Some(blobs),
        Incoming::Derived(_) => None,
    };
    match dir {
        None if missing.lines.is_empty() => {}
        None if stays_out()? => return Ok(Added::PURGED),
        None => create(sessions, id, missing.lines, blobs)?,
        Some(dir) => {
            // What a line names is there before the line is.
            write_blobs(&dir, blobs)?;
            if !missing.lines.is_empty() {
                extend(&dir, missing.lines)?;
            }
        }
    }
    Ok(missing.added)
}

/// Makes sure that what was added to these sessions outlives a loss of power.
///
/// # Errors
/// As the system says: then it may not be on disk.
pub(super) fn sync_added(sessions: &Dir, ids: &BTreeSet<SessionId>) -> Result<()> {
    if ids.len() > ONE_BY_ONE && sessions.sync_file_system().doing("sync", sessions.path())? {
        return Ok(());
    }
    for id in ids {
        let Some(dir) = open_session(sessions, *id)? else {
            continue;
        };
        let log = dir
            .open_file(LOG, Access::Read)
            .doing("open", dir.path_of(LOG))?;
        log.sync_data().doing("sync", dir.path_of(LOG))?;
        if let Ok(blobs) = dir.open_dir(BLOBS) {
            blobs.sync().doing("sync", blobs.path())?;
        }
        dir.sync().doing("sync", dir.path())?;
    }
    sessions.sync().doing("sync", sessions.path())
}

/// Finds what of `incoming` the session in `dir` has not.
///
/// # Errors
/// When it is there and cannot be read, or a newer program wrote to it.
pub(super) fn missing<'a>(
    dir: Option<&Dir>,
    id: SessionId,
    incoming: Incoming<'a>,
) -> Result<Missing<'a>> {
    crate::store::import::missing(id, incoming, |visit| match dir {
        Some(dir) => scan_logs(dir, visit),
        None => Ok(()),
    })
}

/// Returns lines as they stand from `offset` of a log on.
pub(super) fn bytes(lines: Lines<'_>, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    match lines {
        Lines::Raw(lines) => {
            for line in lines {
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
            }
        }
        Lines::Events(events) => {
            for mut event in events {
                event.at = Some(offset + bytes.len() as u64);
                bytes.extend_from_slice(event.to_line().as_bytes());
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

/// Makes a session beside the others and gives it its name when it is whole.
fn create(
    sessions: &Dir,
    id: SessionId,
    lines: Lines<'_>,
    blobs: Option<&BTreeMap<String, Vec<u8>>>,
) -> Result<()> {
    put_dir(sessions, &id.to_string(), |dir| {
        let log = dir.create_file(LOG).doing("make", dir.path_of(LOG))?;
        write_whole(&log, &bytes(lines, 0), 0).doing("write", dir.path_of(LOG))?;
        write_blobs(dir, blobs)
    })
}

/// Appends to the log of a session that is there.
fn extend(dir: &Dir, lines: Lines<'_>) -> Result<()> {
    let path = dir.path_of(LOG);
    let log = match dir.open_file(LOG, Access::Append) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => dir.create_file(LOG),
        opened => opened,
    };
    let log = log.doing("open for appending", &path)?;
    append(&log, |len| bytes(lines, len)).doing("append to", &path)
}

/// Writes the blobs that are not there yet; each gets its name when it is whole.
fn write_blobs(dir: &Dir, blobs: Option<&BTreeMap<String, Vec<u8>>>) -> Result<()> {
    let Some(blobs) = blobs.filter(|blobs| !blobs.is_empty()) else {
        return Ok(());
    };
    let to = open_or_make_dir(dir, BLOBS)?;
    for (name, bytes) in blobs {
        match to.stat(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            there => {
                there.doing("look at", to.path_of(name))?;
                continue;
            }
        }
        let written = put(&to, name, |mut file| {
            file.write_all(bytes)?;
            file.sync_data()
        });
        written.doing("write", to.path_of(name))?;
    }
    Ok(())
}
