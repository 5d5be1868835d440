//! Blobs: bytes that are no text, beside the log of the session that names them.
//!
//! A blob is a file named by the SHA-256 of its bytes, so the same image is there once however
//! often it is sent. It is whole and synced under its name before the event that names it is
//! written; a crash in between leaves a blob nobody names, which compaction removes when it is an
//! hour old. Whoever reads one checks the hash: bytes that rotted are not sent.

use std::io::{self, Read, Write};

use super::dir::{Access, Dir, Doing};
use super::layout::BLOBS;
use super::whole::put;
use crate::error::Result;
use crate::platform::touch;
use crate::session::attachment::Blob;
use crate::store::Durability;
use crate::store::blobs::{NewBlob, is_blob_name, sound};

/// Writes the blobs that are not there yet into a session's directory, and puts right one that
/// is damaged.
///
/// # Errors
/// `store_*` as the system says; no event may name them then.
pub(super) fn write(session: &Dir, blobs: &[NewBlob], durability: Durability) -> Result<()> {
    if blobs.is_empty() {
        return Ok(());
    }
    let made = match session.make_dir(BLOBS) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
        made => made.map(|()| true).doing("make", session.path_of(BLOBS))?,
    };
    let dir = session
        .open_dir(BLOBS)
        .doing("open", session.path_of(BLOBS))?;
    for blob in blobs {
        write_one(&dir, blob, durability).doing("write", dir.path_of(&blob.sha256))?;
    }
    if durability == Durability::Full {
        dir.sync().doing("sync", dir.path())?;
        if made {
            session.sync().doing("sync", session.path())?;
        }
    }
    Ok(())
}

/// Writes a blob. One that is there is touched, so that a compaction leaves it to the event that
/// is on its way, and synced, for who wrote it may not have come to that yet.
fn write_one(dir: &Dir, blob: &NewBlob, durability: Durability) -> io::Result<()> {
    let sync = |file: &std::fs::File| match durability {
        Durability::Full => file.sync_data(),
        Durability::Relaxed => Ok(()),
    };
    if let Ok(mut there) = dir.open_file(&blob.sha256, Access::Append) {
        let mut bytes = Vec::new();
        (&mut there)
            .take(blob.bytes.len() as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes == blob.bytes {
            touch(&there)?;
            return sync(&there);
        }
    }
    put(dir, &blob.sha256, |mut file| {
        file.write_all(&blob.bytes)?;
        sync(&file)
    })
}

/// Removes blobs of a session that came to nothing. What stays in spite of this does no harm.
pub(super) fn remove(session: &Dir, blobs: &[NewBlob]) {
    if let Ok(dir) = session.open_dir(BLOBS) {
        blobs
            .iter()
            .for_each(|blob| drop(dir.remove_file(&blob.sha256)));
        let _ = session.remove_dir(BLOBS);
    }
}

/// Tells whether every blob is still there: a compaction may have come in between.
pub(super) fn are_there(session: &Dir, blobs: &[NewBlob]) -> bool {
    blobs.is_empty()
        || session
            .open_dir(BLOBS)
            .is_ok_and(|dir| blobs.iter().all(|blob| dir.stat(&blob.sha256).is_ok()))
}

/// Returns the names of a session's blobs, sorted.
///
/// # Errors
/// When they cannot be listed.
pub(super) fn names(session: &Dir) -> Result<Vec<String>> {
    let blobs = match session.open_dir(BLOBS) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.doing("open", session.path_of(BLOBS))?,
    };
    let mut there = blobs.names().doing("list", blobs.path())?;
    there.retain(|name| is_blob_name(name));
    Ok(there)
}

/// Reads a blob.
///
/// # Errors
/// Why it cannot be used: it is not there, or its bytes are not those that were stored.
pub(super) fn read(session: &Dir, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
    if !is_blob_name(&blob.sha256) {
        return Err("its name is no SHA-256".to_owned());
    }
    let file = session
        .open_dir(BLOBS)
        .and_then(|dir| dir.open_file(&blob.sha256, Access::Read));
    let file = file.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => "it is not there any more".to_owned(),
        _ => e.to_string(),
    })?;
    let mut bytes = Vec::new();
    let read = file.take(blob.bytes + 1).read_to_end(&mut bytes);
    read.map_err(|e| e.to_string())?;
    sound(bytes, &blob.sha256)
}
