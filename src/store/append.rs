//! Appending: the one way anything gets into a session.
//!
//! What can be refused is refused before the model is asked, by opening what will be needed
//! (`Writer::prepare`). After the answer, under the lock: fold in what others appended, let the
//! caller decide what to write knowing that, write it in one call, unlock, and only then sync.
//! The sync outside the lock is what makes many writers fast (theirs coalesce), and it is safe: a
//! turn is acknowledged only after its own.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use super::Durability;
use super::blobs::{self, NewBlob};
use super::files::{Access, Dir, Doing};
use super::layout::LOG;
use super::lock::LockFile;
use super::log::LONGEST_LINE;
use super::read::Snapshot;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::event::{Body, Event, VERSION};
use crate::session::fold::{Entry, Session};
use crate::session::id::{EventId, SessionId};

/// A session that is ready to be appended to.
#[derive(Debug)]
pub struct Writer<'a> {
    sessions: &'a Dir,
    locks: &'a Dir,
    patience: Duration,
    id: SessionId,
    lock_file: LockFile,
    blobs: &'a [NewBlob],
}

/// What an append did.
#[derive(Debug)]
pub struct Appended {
    /// The ids of the events, in the order they were given.
    pub ids: Vec<EventId>,
    /// Whether the lock kept others out; it cannot where the mount has no locks.
    pub locked: bool,
}

/// What is found under the lock.
#[derive(Debug)]
pub struct Found<'a> {
    /// The session, everything that is in the log by now included.
    pub session: &'a Session,
    /// Turns that were appended since the snapshot was taken.
    pub concurrent: Vec<EventId>,
    /// Whether events are not where they were written: the horizon is to be stated anew.
    pub is_shuffled: bool,
    dir: &'a Dir,
}

impl Found<'_> {
    /// Returns every event of the session with its line, as [`super::Store::events`].
    ///
    /// # Errors
    /// As that.
    pub fn events(&self) -> Result<Vec<Entry>> {
        super::read::events(self.dir)
    }
}

impl<'a> Writer<'a> {
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
        let name = id.to_string();
        match sessions.open_dir(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            opened => {
                let dir = opened.doing("open the session", sessions.path_of(&name))?;
                match dir.open_file(LOG, Access::Append) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    opened => drop(opened.doing("open for appending", dir.path_of(LOG))?),
                }
            }
        }
        Ok(Self {
            sessions,
            locks,
            patience,
            id,
            lock_file,
            blobs: &[],
        })
    }

    /// Adds blobs that the events will name: they are on disk before those are written.
    #[must_use]
    pub fn with_blobs(mut self, blobs: &'a [NewBlob]) -> Self {
        self.blobs = blobs;
        self
    }

    /// Appends the events `decide` returns; where that is none, nothing is written. A session the
    /// snapshot found empty is made if it is still not there; one that is gone since was purged,
    /// and stays so.
    ///
    /// # Errors
    /// Whatever `decide` refuses; the lock's; `store_*` when the write fails, and then the log is
    /// as it was; `store_io` when only the sync failed: the turn is in the log and may not be on
    /// disk.
    pub fn append(
        self,
        snapshot: Snapshot,
        durability: Durability,
        decide: impl FnOnce(Found<'_>) -> Result<Vec<Body>>,
    ) -> Result<Appended> {
        let Self {
            sessions,
            locks,
            patience,
            id,
            lock_file,
            blobs,
        } = self;
        let known = snapshot.session.created.is_some();
        if !blobs.is_empty() {
            // Before the lock is taken, for they are synced.
            let (dir, made) = open_or_make(sessions, id, known)?;
            blobs::write(&dir, blobs, durability)?;
            if made && durability == Durability::Full {
                sync_dir(sessions)?;
            }
        }
        let lock = lock_file
            .lock(locks, patience)
            .map_err(|error| error.session(id))?;
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
        let seen: Vec<EventId> = snapshot.session.turns.iter().map(|turn| turn.id).collect();
        let now = snapshot.catch_up(&dir, &log, len)?;
        refuse_newer(&now.session, id)?;
        let concurrent = now.session.turns.iter().map(|turn| turn.id).filter(|id| {
            // A snapshot of the context does not know what lies before it.
            seen.first().is_none_or(|first| id > first) && seen.binary_search(id).is_err()
        });
        let concurrent = concurrent.collect();
        let is_shuffled = now.is_shuffled;
        let bodies = decide(Found {
            session: &now.session,
            concurrent,
            is_shuffled,
            dir: &dir,
        })?;
        if bodies.is_empty() {
            let locked = lock.excludes();
            return Ok(Appended {
                ids: Vec::new(),
                locked,
            });
        }
        let (ids, bytes) = encode(bodies, now.session.highest, len, !now.ends_with_newline)?;
        write_whole(&log, &bytes, len).doing("append to", &path)?;
        let locked = lock.excludes();
        drop(lock);
        if durability == Durability::Full {
            sync_log(&log, &dir, made_log)?;
            if made_dir {
                sync_dir(sessions)?;
            }
        }
        Ok(Appended { ids, locked })
    }
}

/// Makes a session whose id nobody knows yet, with its first events. Nothing of it is left behind
/// when that fails, and no crash leaves a session in between.
///
/// # Errors
/// `store_*`, as [`Writer::append`].
pub(super) fn create(
    sessions: &Dir,
    id: SessionId,
    durability: Durability,
    bodies: Vec<Body>,
    blobs: &[NewBlob],
) -> Result<Appended> {
    let (ids, bytes) = encode(bodies, None, 0, false)?;
    let name = id.to_string();
    match sessions.make_dir(&name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let sentence = format!("cannot make the session {id}: it exists");
            return Err(Error::new(Code::SessionExists, sentence)
                .hint(format!("continue it with --session-id {id}"))
                .session(id));
        }
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
        Err(e) if e.kind() == io::ErrorKind::NotFound && known => Err(Error::new(
            Code::StoreIo,
            format!("cannot append to the session {id}"),
        )
        .because("it was purged meanwhile")
        .hint("the reply is printed, and kept in the draft")),
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

/// Refuses to write where a newer program wrote.
///
/// # Errors
/// `store_unsupported`, always when the session has an event of a higher version.
pub fn refuse_newer(session: &Session, id: SessionId) -> Result<()> {
    if session.is_newer_than_this_program() {
        let sentence = format!("cannot append to the session {id}");
        let cause = format!(
            "a newer program wrote format {} to it, and this one knows {VERSION}",
            session.version
        );
        return Err(Error::new(Code::StoreUnsupported, sentence)
            .because(cause)
            .hint("upgrade ollama-prompt; reading works with this one"));
    }
    Ok(())
}

/// Gives the events their ids and offsets and returns them as one buffer.
pub(super) fn encode(
    bodies: Vec<Body>,
    mut highest: Option<EventId>,
    len: u64,
    seal: bool,
) -> Result<(Vec<EventId>, Vec<u8>)> {
    let ts = clock::now();
    // Whatever a killed process left without its newline becomes a line of its own.
    let mut bytes = if seal { vec![b'\n'] } else { Vec::new() };
    let mut ids = Vec::with_capacity(bodies.len());
    for body in bodies {
        let id = EventId::next(ts.as_ms(), highest, clock::random_bits());
        let at = Some(len + bytes.len() as u64);
        let line = Event {
            v: VERSION,
            id,
            ts,
            at,
            body,
        }
        .to_line();
        if line.len() as u64 > LONGEST_LINE {
            return Err(too_long(line.len() as u64));
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        highest = Some(id);
        ids.push(id);
    }
    Ok((ids, bytes))
}

/// The error of an event that is too long to be stored, `bytes` as its line.
#[must_use]
pub fn too_long(bytes: u64) -> Error {
    Error::new(Code::StoreUnsupported, "cannot store the turn")
        .because(format!(
            "it has {bytes} bytes, and a line of the log at most {LONGEST_LINE}"
        ))
        .hint("send less at once, or use --no-session")
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
            let bodies = vec![Body::Set(Settings::default())];
            create(&sessions, id, Durability::Relaxed, bodies, &[])
        };
        assert_eq!(make().expect("it is new").ids.len(), 1);
        let error = make().expect_err("it is there");
        assert_eq!(error.code, Code::SessionExists);
    }
}
