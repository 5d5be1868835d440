//! Blobs: bytes that are no text, beside the log of the session that names them.
//!
//! A blob is a file named by the SHA-256 of its bytes, so the same image is there once however
//! often it is sent. It is whole and synced under its name before the event that names it is
//! written; a crash in between leaves a blob nobody names, which compaction removes when it is an
//! hour old. Whoever reads one checks the hash: bytes that rotted are not sent.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::Durability;
use super::files::{Access, Dir, Doing};
use super::layout::{BLOBS, TEMPORARY, is_blob_name};
use super::replace::fresh_id;
use crate::error::Result;
use crate::session::attachment::Blob;

/// Bytes that are to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    /// The hash of the bytes.
    pub sha256: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

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
            rustix::fs::futimens(&there, &NOW)?;
            return sync(&there);
        }
    }
    let temporary = format!("{TEMPORARY}{}", fresh_id());
    let fill = || {
        let mut file = dir.create_file(&temporary)?;
        file.write_all(&blob.bytes)?;
        sync(&file)?;
        dir.rename(&temporary, &blob.sha256)
    };
    fill().inspect_err(|_| drop(dir.remove_file(&temporary)))
}

const NOW: rustix::fs::Timestamps = {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW as _,
    };
    rustix::fs::Timestamps {
        last_access: now,
        last_modification: now,
    }
};

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
    if hash_of(&mut &*bytes).is_ok_and(|hash| hash == blob.sha256) {
        Ok(bytes)
    } else {
        Err("its bytes are damaged".to_owned())
    }
}

/// Returns the SHA-256 of what is read, in lower-case hexadecimal.
///
/// # Errors
/// As the system says.
pub(super) fn hash_of(source: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut piece = [0; 16 << 10];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => hasher.update(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns the blobs that the line of an event names.
///
/// Any word of it that could be a blob's name counts, whatever the event is: one of a newer
/// program may name them in another way.
pub(super) fn names_in(line: &[u8]) -> impl Iterator<Item = &str> {
    line.split(|byte| !byte.is_ascii_hexdigit())
        .filter_map(|word| str::from_utf8(word).ok())
        .filter(|word| is_blob_name(word))
}
