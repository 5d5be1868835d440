//! Replacing a log: the one way bytes that were written are changed.
//!
//! A temporary file in the same directory is filled, checked and synced, renamed over the log, and
//! the directory synced. Killed anywhere it leaves the old log or the new one. Readers keep the
//! file they have open; a writer opens by path once it has the lock, so the caller must hold it.

use std::fs::File;
use std::io;

use super::dir::{Dir, Doing};
use super::lock::WriteLock;
use super::whole::temporary_name;
use crate::error::{Code, Error, Result};

/// Replaces `name` by what `fill` writes, if `check` is content with it.
///
/// # Errors
/// `store_unsupported` where the mount has no locks; whatever `check` refuses; otherwise as the
/// system says. The log is the old one then, unless only the last sync failed.
pub(super) fn replace(
    dir: &Dir,
    name: &str,
    held: &WriteLock,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
    check: impl FnOnce(&File) -> Result<()>,
) -> Result<()> {
    insist_on(held, &format!("rewrite `{}`", dir.path_of(name).display()))?;
    let temporary = temporary_name();
    let path = dir.path_of(&temporary);
    let mut file = dir.create_file(&temporary).doing("make", &path)?;
    let replaced = fill(&mut file)
        .doing("write", &path)
        .and_then(|()| check(&file))
        .and_then(|()| file.sync_data().doing("sync", &path))
        .and_then(|()| dir.rename(&temporary, name).doing("rename", &path));
    if replaced.is_err() {
        // What stays in spite of this is a temporary file: not part of the data.
        let _ = dir.remove_file(&temporary);
        return replaced;
    }
    dir.sync().doing("sync", dir.path())
}

/// Refuses to destroy where a lock keeps nobody out.
///
/// # Errors
/// `store_unsupported`, always where the mount has no locks.
pub(super) fn insist_on(held: &WriteLock, what: &str) -> Result<()> {
    if held.excludes() {
        return Ok(());
    }
    Err(
        Error::new(Code::StoreUnsupported, format!("refusing to {what}"))
            .because("locks do not work on this file system, and a turn may be on its way")
            .hint("do it on the machine the files are on"),
    )
}
