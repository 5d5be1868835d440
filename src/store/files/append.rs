//! Appending to a log, and making one.
//!
//! What can be refused is refused before the model is asked, by opening what will be needed
//! (`FileAppending::prepare`). After the answer, under the lock: what others appended is read, the
//! events are written in one call, the lock is freed, and only then the log is synced.
//! The sync outside the lock is what makes many writers fast (theirs coalesce), and it is safe: a
//! turn is acknowledged only after its own.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use super::blobs;
use super::dir::{Access, Dir, Doing};
use super::layout::LOG;
use super::lock::{LockFile, WriteLock};
use super::read;
use crate::error::{Code, Error, Result};
use crate::platform::ReadAt as _;
use crate::session::event::Body;
use crate::session::fold::Entry;
use crate::session::id::{EventId, SessionId};
use crate::store::append::{
    Appended, Appending, LONGEST_LINE, Written, number, purged_meanwhile, session_exists, too_long,
};
use crate::store::blobs::NewBlob;
use crate::store::snapshot::Snapshot;
use crate::store::{Durability, New};

/// A session whose log is to be appended to.
#[derive(Debug)]
pub(super) struct FileAppending<'a> {
    sessions: &'a Dir,
    locks: &'a Dir,
    patience: Duration,
    id: SessionId,
    lock_file: Option<LockFile>,
    held: Option<Held>,
}

/// A log that nobody else appends to, and how it is.
#[derive(Debug)]
struct Held {
    lock: WriteLock,
    dir: Dir,
    log: File,
    made_dir: bool,
    made_log: bool,
    len: u64,
    ends_with_newline: bool,
    highest: Option<EventId>,
}

impl<'a> FileAppending<'a> {
    /// Opens what the append will need, so that a store that cannot be written says so now and
    /// not after minutes of generation.
    ///
    /// # Errors
    /// When the lock or the log cannot be opened for writing.
    pub(super) fn prepare(
        sessions: &'a Dir,
        locks: &'a Dir,
        patience: Duration,
        id: SessionId,
    ) -> Result<Self> {
        let lock_file = LockFile::open(locks, id)?;
        if let Some(dir) = read::open_session(sessions, id)? {
            match dir.open_file(LOG, Access::Append) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                opened => drop(opened.doing("open for appending", dir.path_of(LOG))?),
            }
        }
        Ok(Self {
            sessions,
            locks,
            patience,
            id,
            lock_file: Some(lock_file),
            held: None,
        })
    }

    fn lock(&mut self) -> Result<WriteLock> {
        let lock_file = match self.lock_file.take() {
            Some(prepared) => prepared,
            None => LockFile::open(self.locks, self.id)?,
        };
        lock_file
            .lock(self.locks, self.patience)
            .map_err(|error| error.session(self.id))
    }
}

impl Appending for FileAppending<'_> {
    fn catch_up(
        &mut self,
        snapshot: Snapshot,
        blobs: &[NewBlob],
        durability: Durability,
    ) -> Result<Snapshot> {
        let (sessions, id) = (self.sessions, self.id);
        let known = snapshot.session.created.is_some();
        if !blobs.is_empty() {
            // Before the lock is taken, for they are synced.
            let (dir, made) = open_or_make(sessions, id, known)?;
            blobs::write(&dir, blobs, durability)?;
            if made && durability == Durability::Full {
                sync_dir(sessions)?;
            }
        }
        let lock = self.lock()?;
        let (dir, made_dir) = open_or_make(sessions, id, known)?;
        if !blobs::are_there(&dir, blobs) {
            blobs::write(&dir, blobs, durability)?;
        }
        let path = dir.path_of(LOG);
        let (log, made_log) = match dir.open_file(LOG, Access::Append) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (dir.create_file(LOG).doing("make", &path)?, true)
            }
            opened => (opened.doing("open for appending", &path)?, false),
        };
        let len = log.metadata().doing("look at", &path)?.len();
        let now = read::catch_up(snapshot, &dir, &log, len)?;
        self.held = Some(Held {
            lock,
            dir,
            log,
            made_dir,
            made_log,
            len,
            ends_with_newline: now.ends_with_newline,
            highest: now.session.highest,
        });
        Ok(Snapshot {
            session: now.session,
            is_shuffled: now.is_shuffled,
            ..Snapshot::default()
        })
    }

    fn events(&self) -> Result<Vec<Entry>> {
        match &self.held {
            Some(held) => Ok(read::events(&held.dir)?.entries),
            None => Ok(Vec::new()),
        }
    }

    fn write(&mut self, bodies: Vec<Body>, durability: Durability) -> Result<Written> {
        let Held {
            lock,
            dir,
            log,
            made_dir,
            made_log,
            len,
            ends_with_newline,
            highest,
        } = self
            .held
            .take()
            .expect("a session is brought up to date before it is written to");
        let (ids, bytes) = encode(bodies, highest, len, !ends_with_newline)?;
        write_whole(&log, &bytes, len).doing("append to", dir.path_of(LOG))?;
        let locked = lock.excludes();
        drop(lock);
        if durability == Durability::Full {
            sync_log(&log, &dir, made_log)?;
            if made_dir {
                sync_dir(self.sessions)?;
            }
        }
        Ok(Written::Done(Appended { ids, locked }))
    }
}

/// Makes a session whose id nobody knows yet, with its first events. Nothing of it is left behind
/// when that fails, and no crash leaves a session in between.
///
/// # Errors
/// `session_exists`; `store_*`.
pub(super) fn create(sessions: &Dir, new: New<'_>) -> Result<Appended> {
    let New {
        id,
        bodies,
        blobs,
        durability,
        ..
    } = new;
    let (ids, bytes) = encode(bodies, None, 0, false)?;
    let name = id.to_string();
    match sessions.make_dir(&name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(session_exists(id)),
        made => made.doing("make the session", sessions.path_of(&name))?,
    }
    let dir = sessions
        .open_dir(&name)
        .doing("open the session", sessions.path_of(&name))?;
    let path = dir.path_of(LOG);
    let written = blobs::write(&dir, blobs, durability).and_then(|()| {
        let log = dir.create_file(LOG);
        log.and_then(|log| write_whole(&log, &bytes, 0).map(|()| log))
            .doing("write", &path)
    });
    let log = written.inspect_err(|_| {
        // What stays in spite of this is a directory without an event: not a session.
        let _ = dir.remove_file(LOG);
        blobs::remove(&dir, blobs);
        let _ = sessions.remove_dir(&name);
    })?;
    if durability == Durability::Full {
        sync_log(&log, &dir, true)?;
        sync_dir(sessions)?;
    }
    Ok(Appended { ids, locked: true })
}

fn open_or_make(sessions: &Dir, id: SessionId, known: bool) -> Result<(Dir, bool)> {
    let name = id.to_string();
    let path = sessions.path_of(&name);
    match sessions.open_dir(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && known => Err(purged_meanwhile(id)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            sessions.make_dir(&name).doing("make the session", &path)?;
            Ok((
                sessions.open_dir(&name).doing("open the session", &path)?,
                true,
            ))
        }
        opened => Ok((opened.doing("open the session", &path)?, false)),
    }
}

/// Gives the events their ids and offsets and returns them as one buffer.
pub(super) fn encode(
    bodies: Vec<Body>,
    highest: Option<EventId>,
    len: u64,
    seal: bool,
) -> Result<(Vec<EventId>, Vec<u8>)> {
    // Whatever a killed process left without its newline becomes a line of its own.
    let mut bytes = if seal { vec![b'\n'] } else { Vec::new() };
    let mut ids = Vec::with_capacity(bodies.len());
    for mut event in number(bodies, highest) {
        event.at = Some(len + bytes.len() as u64);
        let line = event.to_line();
        if line.len() as u64 > LONGEST_LINE {
            return Err(too_long(line.len() as u64));
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        ids.push(event.id);
    }
    Ok((ids, bytes))
}

/// Writes in one call what `lines` makes of the offset it will stand at, after a newline if the last
/// line lacks its own.
pub(super) fn append(log: &File, lines: impl FnOnce(u64) -> Vec<u8>) -> io::Result<()> {
    let len = log.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        log.read_exact_at(&mut last, len - 1)?;
    }
    if last == *b"\n" {
        return write_whole(log, &lines(len), len);
    }
    let mut bytes = vec![b'\n'];
    bytes.extend(lines(len + 1));
    write_whole(log, &bytes, len)
}

/// Writes all of `bytes` or, as far as that can still be done, nothing: a short or failed write
/// is rolled back by cutting off our own bytes, if they are still the last ones.
pub(super) fn write_whole(mut log: &File, bytes: &[u8], len: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match log.write(&bytes[written..]) {
            Ok(0) => return roll_back(log, len, written, io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return roll_back(log, len, written, e),
        }
    }
    Ok(())
}

/// Cuts `written` bytes off again. What cannot be cut is debris that readers pass over and the
/// next append seals, so the first error is the one to tell.
fn roll_back(log: &File, len: u64, written: usize, cause: io::Error) -> io::Result<()> {
    if written > 0 && log.metadata()?.len() == len + written as u64 {
        let _ = log.set_len(len);
    }
    Err(cause)
}

fn sync_log(log: &File, dir: &Dir, made: bool) -> Result<()> {
    log.sync_data().map_err(|cause| not_synced(&cause, dir))?;
    if made { sync_dir(dir) } else { Ok(()) }
}

fn sync_dir(dir: &Dir) -> Result<()> {
    dir.sync().map_err(|cause| not_synced(&cause, dir))
}

/// After a failed sync the pages count as clean: another try would succeed and mean nothing.
fn not_synced(cause: &io::Error, dir: &Dir) -> Error {
    Error::new(
        Code::StoreIo,
        format!(
            "the turn is written but may not be on disk: cannot sync `{}`",
            dir.path().display()
        ),
    )
    .because(cause)
    .hint("check the disk; the turn is in the log unless the machine loses power")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Settings;

    #[test]
    fn a_session_that_is_there_is_not_made_again() {
        let home = tempfile::tempdir().expect("a directory");
        let sessions = Dir::open(home.path()).expect("it opens");
        let id = SessionId::from_parts(1, 1);
        let make = || {
            let new = New {
                id,
                begins_with: None,
                bodies: vec![Body::Set(Settings::default())],
                blobs: &[],
                durability: Durability::Relaxed,
            };
            create(&sessions, new)
        };
        assert_eq!(make().expect("it is new").ids.len(), 1);
        let error = make().expect_err("it is there");
        assert_eq!(error.code, Code::SessionExists);
    }
}
