//! Purge: the deliberate end of whole sessions, which leaves a receipt.
//!
//! Under the session's lock: fold again (a turn may just have landed), write the receipt and sync
//! it, rename the directory out of the way. The rename is the purge; a crash after it leaves only
//! space to reclaim, a crash before it a receipt that is void while the directory exists.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom, Write};

use walkdir::WalkDir;

use super::dir::{Access, Dir, Doing};
use super::layout::{PURGED, TRASH};
use super::lock::WriteLock;
use super::read::read;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::json;
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};
use crate::store::purge::Receipt;
use crate::store::snapshot::Extent;

/// Purges one session if `goes` still says so of it, seen under its lock. Returns its receipt, or
/// `None` where it is gone or was used meanwhile.
///
/// # Errors
/// `store_unsupported` where the mount has no locks; otherwise as the system says. The session is
/// whole then, or gone with its receipt.
pub(super) fn purge(
    root: &Dir,
    sessions: &Dir,
    id: SessionId,
    why: &str,
    lock: WriteLock,
    goes: &dyn Fn(&Session) -> bool,
) -> Result<Option<Receipt>> {
    if !lock.excludes() {
        return Err(Error::new(
            Code::StoreUnsupported,
            format!("refusing to purge the session {id}"),
        )
        .because("locks do not work on this file system, and a turn may be on its way")
        .hint("purge on the machine the files are on"));
    }
    let Some(snapshot) = read(sessions, id, Extent::History)? else {
        return Ok(None);
    };
    if !goes(&snapshot.session) {
        return Ok(None);
    }
    let name = id.to_string();
    let bytes = bytes_below(&sessions.path_of(&name));
    let receipt = Receipt::of(id, &snapshot.session, bytes, why);
    append_receipts(root, std::slice::from_ref(&receipt))
        .doing("write the receipt to", root.path_of(PURGED))?;
    let trash = format!(
        "{TRASH}{}-{name}",
        EventId::next(receipt.purged_at.as_ms(), None, clock::random_bits())
    );
    sessions
        .rename(&name, &trash)
        .doing("purge", sessions.path_of(&name))?;
    drop(lock);
    sessions.sync().doing("sync", sessions.path())?;
    // The session is gone already; bytes that stay are swept by the next purge.
    let _ = std::fs::remove_dir_all(sessions.path_of(&trash));
    Ok(Some(receipt))
}

/// Returns the receipts there are; a line that is none is passed over.
pub(super) fn receipts(root: &Dir) -> Result<Vec<Receipt>> {
    let mut text = Vec::new();
    match root.open_file(PURGED, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        opened => {
            let read = opened.and_then(|mut file| file.read_to_end(&mut text));
            read.doing("read", root.path_of(PURGED))?;
        }
    }
    let lines = text.split(|b| *b == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// The sessions that have a receipt, as far as the file of receipts was read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    bytes: u64,
    sessions: BTreeSet<SessionId>,
}

impl Seen {
    /// Tells whether a session has a receipt now. Receipts are appended, so the file is read again
    /// when it is longer. Under the lock of the session nobody appends one of it.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn has(&mut self, root: &Dir, id: SessionId) -> Result<bool> {
        let bytes = match root.stat(PURGED) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            stat => stat.doing("look at", root.path_of(PURGED))?.size,
        };
        if bytes != self.bytes {
            let receipts = receipts(root)?.into_iter();
            self.sessions = receipts.map(|receipt| receipt.session).collect();
            self.bytes = bytes;
        }
        Ok(self.sessions.contains(&id))
    }
}

/// Writes a line for each receipt, after a newline if the last one lacks its own, and syncs them.
pub(super) fn append_receipts(root: &Dir, receipts: &[Receipt]) -> io::Result<()> {
    let (mut file, made) = match root.open_file(PURGED, Access::Append) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => (root.create_file(PURGED)?, true),
        opened => (opened?, false),
    };
    let mut line = Vec::new();
    if !ends_with_newline(&mut file)? {
        line.push(b'\n');
    }
    for receipt in receipts {
        line.extend_from_slice(json::line(receipt).as_bytes());
        line.push(b'\n');
    }
    file.write_all(&line)?;
    file.sync_data()?;
    if made { root.sync() } else { Ok(()) }
}

fn ends_with_newline(file: &mut std::fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Returns the bytes of all regular files below a directory; what cannot be read counts nothing.
pub(super) fn bytes_below(path: &std::path::Path) -> u64 {
    let files = WalkDir::new(path)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok());
    files
        .filter(std::fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}
