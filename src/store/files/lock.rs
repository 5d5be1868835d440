//! Locks: the one file that locks; others are handed the guard.
//!
//! A session is locked through one of 256 empty files outside its directory, for the time of an
//! append and never across a model's answer. Lock files are never renamed or removed and hold
//! nothing. They give order, not integrity: an append without any lock is still one whole write,
//! so where a mount has no locks appending goes on, and only what destroys refuses.
//!
//! What runs for long and once in a store holds a lock of its own ([`TenureLock`]), whose file says who
//! that is.
//!
//! fs2 is called by its full name: since Rust 1.89 `File` has methods of its own with some of
//! these names, and a method call would pick those without a word.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that locks"
)]

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::dir::{Access, Dir, Doing, identity};
use crate::error::{Code, Error, Result};
use crate::platform::{Refused, why};
use crate::session::id::SessionId;
use crate::signals;

/// The most that is read of what a holder says of itself, in bytes.
const LONGEST_HOLDER: u64 = 200;

/// Proof that this process may write to a session. Dropping it unlocks.
#[derive(Debug)]
pub(super) struct WriteLock {
    file: File,
    excludes: bool,
}

impl WriteLock {
    /// Tells whether the lock keeps others out. It does not where the mount has no locks.
    #[must_use]
    pub(super) fn excludes(&self) -> bool {
        self.excludes
    }
}

/// The lock file of a session, open but not locked: opening it is what can be refused before the
/// model is asked.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    name: String,
}

impl LockFile {
    /// Opens the lock file of a session, making it when missing.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub(super) fn open(locks: &Dir, session: SessionId) -> Result<Self> {
        Self::of_stripe(locks, session.stripe())
    }

    /// Opens a lock file by its number. Who holds all of them, taken in this order, is the only
    /// writer of the store; nobody else waits for one while holding another.
    ///
    /// # Errors
    /// As [`LockFile::open`].
    pub(super) fn of_stripe(locks: &Dir, stripe: u8) -> Result<Self> {
        let name = format!("{stripe:02x}");
        let file = locks
            .open_file(&name, Access::Lock)
            .doing("open the lock", locks.path_of(&name))?;
        Ok(Self { file, name })
    }

    /// Waits, for `patience` at the longest, until the session is this process's to write.
    ///
    /// # Errors
    /// `store_locked` after that; otherwise as the system says.
    pub(super) fn lock(self, locks: &Dir, patience: Duration) -> Result<WriteLock> {
        let Self { mut file, name } = self;
        let path = locks.path_of(&name);
        let deadline = deadline(patience);
        loop {
            let (locked, excludes) = match wait(file, deadline) {
                Ok(Waited::Signalled(error)) => return Err(error),
                Ok(Waited::TooLong) => {
                    let sentence = format!("gave up waiting for the lock `{}`", path.display());
                    let cause = format!(
                        "another process held it for {} seconds",
                        patience.as_secs_f64()
                    );
                    return Err(Error::new(Code::StoreLocked, sentence).because(cause).hint(
                        "try again, or wait longer with OLLAMA_PROMPT_LOCK_TIMEOUT=SECONDS",
                    ));
                }
                Ok(Waited::Locked { file, excludes }) => (file, excludes),
                Err(cause) => return Err(cause).doing("lock", &path),
            };
            // Somebody may have removed `locks/` meanwhile: then others lock another file.
            let current = locks
                .open_file(&name, Access::Lock)
                .doing("open the lock", &path)?;
            if identity(&locked).doing("look at", &path)?
                == identity(&current).doing("look at", &path)?
            {
                return Ok(WriteLock {
                    file: locked,
                    excludes,
                });
            }
            file = current;
        }
    }
}

impl Drop for WriteLock {
    fn drop(&mut self) {
        // Closing the descriptor unlocks as well; this one cannot be inherited by a fork.
        let _ = fs2::FileExt::unlock(&self.file);
    }
}

/// How a wait for a lock ended.
enum Waited {
    Locked {
        file: File,
        /// Whether the lock keeps others out.
        excludes: bool,
    },
    TooLong,
    Signalled(Error),
}

/// Locks `file`: at once if it is free, else in the kernel's queue.
fn wait(file: File, deadline: Instant) -> io::Result<Waited> {
    match attempt(&file)? {
        Some(excludes) => Ok(Waited::Locked { file, excludes }),
        None => queue(file, deadline),
    }
}

/// Locks `file` if it is free, and returns whether that keeps others out. `None` where it is
/// taken, or where an interruption came before that was known.
fn attempt(file: &File) -> io::Result<Option<bool>> {
    match fs2::FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(Some(true)),
        Err(e) if has_no_locks(&e) => Ok(Some(false)),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Waits in the kernel's queue (who polls starves under contention) on a thread of its own, which
/// is left behind there when the wait ends early. A signal that is held back ends it.
fn queue(file: File, deadline: Instant) -> io::Result<Waited> {
    /// How long a signal may go unheard.
    const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let done = loop {
            match fs2::FileExt::lock_exclusive(&file) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        // Nobody listens any more after a wait that ended early.
        let _ = sender.send(done.map(|()| file));
    })?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(BETWEEN_LOOKS)) {
            Ok(done) => {
                let excludes = true;
                return done.map(|file| Waited::Locked { file, excludes });
            }
            Err(_) if left.is_zero() => return Ok(Waited::TooLong),
            Err(_) => {}
        }
        if let Some(error) = signals::held_back() {
            return Ok(Waited::Signalled(error));
        }
    }
}

/// Proof that this process is the only one in the store that does something of which there is to
/// be one. Dropping it ends that.
#[derive(Debug)]
pub(super) struct TenureLock {
    file: File,
    name: &'static str,
}

impl TenureLock {
    /// Begins at once or not at all. `who` goes into the file, for those who come second.
    ///
    /// # Errors
    /// `store_locked`, with what the holder wrote, where there is one; `store_unsupported` where
    /// the mount has no locks; otherwise as the system says.
    pub(super) fn begin(locks: &Dir, name: &'static str, who: &str) -> Result<Self> {
        let path = locks.path_of(name);
        let mut file = locks
            .open_file(name, Access::Lock)
            .doing("open the lock", &path)?;
        loop {
            match fs2::FileExt::try_lock_exclusive(&file) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                    let mut holder = String::new();
                    // Who has just begun may not have said yet who it is.
                    let _ = (&file).take(LONGEST_HOLDER).read_to_string(&mut holder);
                    let holder = Some(holder.trim()).filter(|holder| !holder.is_empty());
                    let sentence = format!("another {name} of this store is running");
                    return Err(Error::new(Code::StoreLocked, sentence)
                        .because(holder.unwrap_or("it has just begun"))
                        .hint("one is enough; end it with SIGTERM to begin another"));
                }
                Err(e) if has_no_locks(&e) => {
                    return Err(Error::new(
                        Code::StoreUnsupported,
                        format!("refusing to begin a {name}"),
                    )
                    .because("locks do not work on this file system, and another may be running")
                    .hint("run it on the machine the files are on"));
                }
                Err(e) => return Err(e).doing("lock", &path),
            }
        }
        let said = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("{who}\n").as_bytes()));
        said.doing("write", &path)?;
        Ok(Self { file, name })
    }

    /// Tells whether the store at `locks` is still the one this is about: it may have been removed
    /// and brought back meanwhile.
    pub(super) fn is_of(&self, locks: &Dir) -> bool {
        let there = locks.open_file(self.name, Access::Read);
        let there = there.and_then(|file| identity(&file));
        matches!((there, identity(&self.file)), (Ok(there), Ok(own)) if there == own)
    }
}

impl Drop for TenureLock {
    fn drop(&mut self) {
        // A name that nobody has any more would mislead; the lock itself ends with the file.
        let _ = self.file.set_len(0);
        let _ = fs2::FileExt::unlock(&self.file);
    }
}

/// A file that is locked for this process alone, whatever its name leads to by now. Dropping it
/// unlocks.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    excludes: bool,
}

impl Held {
    /// Locks `file` if it is free, and gives it back where it is taken.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn attempt(file: File) -> io::Result<std::result::Result<Self, File>> {
        Ok(match attempt(&file)? {
            Some(excludes) => Ok(Self { file, excludes }),
            None => Err(file),
        })
    }

    /// Waits until `file` is free; `None` where that took too long.
    ///
    /// # Errors
    /// That of a signal; otherwise as the system says.
    pub(super) fn wait(file: File, deadline: Instant, path: &Path) -> Result<Option<Self>> {
        match wait(file, deadline).doing("lock", path)? {
            Waited::Locked { file, excludes } => Ok(Some(Self { file, excludes })),
            Waited::TooLong => Ok(None),
            Waited::Signalled(error) => Err(error),
        }
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Tells whether the lock keeps others out. It does not where the mount has no locks.
    pub(super) fn excludes(&self) -> bool {
        self.excludes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs2::FileExt::unlock(&self.file);
    }
}

/// Returns the end of a wait that begins now. A wait nobody lives to see the end of is a year.
pub(super) fn deadline(patience: Duration) -> Instant {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    Instant::now() + patience.min(LONGEST)
}

/// Some network and container mounts answer every lock with one of these.
fn has_no_locks(error: &io::Error) -> bool {
    why(error) == Refused::NoLocks
}

/// Locks a draft for the life of this process: it is a turn under way. Where the mount has no
/// locks it cannot be told from one that was killed.
pub(super) fn hold(draft: &File) {
    // Waiting is for a moment only: somebody may be asking right now whether it is held.
    let _ = fs2::FileExt::lock_exclusive(draft);
}

/// How long somebody who asks whether a draft is held may hold it for that.
const GLANCE: Duration = Duration::from_millis(200);

/// Locks a draft that nobody holds. Returns whether it is this process's now; where the mount has
/// no locks it is nobody's.
pub(super) fn try_hold(draft: &File) -> bool {
    // The lock belongs to what both descriptors are open on, and stays when one of them is closed.
    let locked = draft
        .try_clone()
        .and_then(|file| wait(file, deadline(GLANCE)));
    matches!(locked, Ok(Waited::Locked { excludes: true, .. }))
}

/// Tells whether some process holds a draft.
pub(super) fn is_held(draft: &File) -> bool {
    match fs2::FileExt::try_lock_shared(draft) {
        Ok(()) => {
            let _ = fs2::FileExt::unlock(draft);
            false
        }
        Err(error) => !has_no_locks(&error),
    }
}
