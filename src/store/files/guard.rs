//! Guards: what a turn holds so that others wait, if they asked to.
//!
//! Turns of a session with `--serialize`, and those with one idempotency key, each hold a file of
//! `locks/` from before they read the context until their turn is stored. The lock dies with its process, so a call that is
//! killed frees those who wait, and they wait in the kernel's queue. Different sessions and
//! different keys have files of their own.
//!
//! Who holds such a file removes it before unlocking. Whoever waited for it then finds that its
//! name leads elsewhere and starts again with what is there: so there are never two holders. And
//! who waited for a key still has the removed file open, in which a turn that failed has left
//! why: they end as it ended, and a call that comes later asks again.

use std::fs::File;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dir::{Access, Dir, Doing, identity};
use super::layout::{KEY_LOCK, TURN_LOCK};
use super::lock::{Held, deadline};
use crate::digest::sha256;
use crate::error::{Code, Error, Result};
use crate::json;
use crate::platform::ReadAt as _;
use crate::session::event::Key;
use crate::session::id::SessionId;
use crate::store::guard::{
    Guard, HeldKey, KeyGuard, Taken, conflict, key_took_too_long, turn_took_too_long,
};

/// The longest note that is read, in bytes: a failure has at most some kilobytes.
const LONGEST_NOTE: usize = 1 << 20;

/// Keeps others waiting for as long as it lives.
#[derive(Debug)]
struct GuardFile {
    locks: Dir,
    name: String,
    held: Held,
}

impl Drop for GuardFile {
    fn drop(&mut self) {
        // First the name, then (as the field is dropped) the lock: see above.
        let _ = self.locks.remove_file(&self.name);
    }
}

/// Keeps others with the same idempotency key waiting for as long as it lives.
#[derive(Debug)]
struct KeyFile {
    guard: GuardFile,
    request: String,
}

/// What is in the file of a key.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The hash of the request that is, or was, under way.
    request: String,
    /// Why there is no turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl HeldKey for KeyFile {
    fn leave(self: Box<Self>, error: Value) {
        let Self { guard, request } = *self;
        let error = Some(error);
        // What cannot be written is not known to them: one of them asks again.
        let _ = Note { request, error }.write(guard.held.file());
    }
}

impl Note {
    fn read(file: &File) -> Option<Self> {
        let mut bytes = vec![0; LONGEST_NOTE];
        let read = file.read_at(&mut bytes, 0).ok()?;
        serde_json::from_slice(&bytes[..read]).ok()
    }

    fn write(&self, file: &File) -> io::Result<()> {
        file.set_len(0)?;
        file.write_all_at(json::line(self).as_bytes(), 0)
    }
}

/// Waits, for `patience` at the longest, until no other turn of the session is under way that
/// keeps others waiting.
///
/// # Errors
/// `store_locked` after that; `store_unsupported` where locks do not work.
pub(super) fn take_turn(locks: Dir, session: SessionId, patience: Duration) -> Result<Guard> {
    let name = format!("{TURN_LOCK}{session}");
    let late = || turn_took_too_long(session, patience);
    let wanted = Wanted {
        locks: &locks,
        name: &name,
        patience,
        late: &late,
    };
    let taken = wanted.take(|_| Ok(()), |_| None::<std::convert::Infallible>)?;
    let Ok(held) = taken;
    Ok(Guard::new(GuardFile { locks, name, held }))
}

/// Takes an idempotency key of a session: waits, for `patience` at the longest, while the same
/// request is under way.
///
/// # Errors
/// `idempotency_conflict` when another request is under way with the key; `timeout` after the
/// longest wait; `store_unsupported` where locks do not work.
pub(super) fn take_key(
    locks: Dir,
    session: SessionId,
    key: &Key,
    patience: Duration,
) -> Result<Taken> {
    let name = key_lock(session, &key.key);
    let late = || key_took_too_long(&key.key, patience);
    let wanted = Wanted {
        locks: &locks,
        name: &name,
        patience,
        late: &late,
    };
    let taken = wanted.take(
        |file| match Note::read(file) {
            Some(note) if note.request != key.request => Err(conflict(&key.key)),
            _ => Ok(()),
        },
        |file| {
            let note = Note::read(file).filter(|note| note.request == key.request)?;
            Error::of_report(&note.error?)
        },
    )?;
    let held = match taken {
        Ok(held) => held,
        Err(error) => return Ok(Taken::Failed(error)),
    };
    let note = Note {
        request: key.request.clone(),
        error: None,
    };
    let guard = GuardFile { locks, name, held };
    note.write(guard.held.file())
        .doing("write", guard.locks.path_of(&guard.name))?;
    Ok(Taken::Held(KeyGuard::new(Box::new(KeyFile {
        guard,
        request: note.request,
    }))))
}

/// Returns the name of a key's file. The key itself may be as long as a name, and its owner's
/// secret.
fn key_lock(session: SessionId, key: &str) -> String {
    let hash = sha256(format!("{session}\n{key}"));
    format!("{KEY_LOCK}{}", &hash[..32])
}

/// A file that is to be this process's alone.
struct Wanted<'a> {
    locks: &'a Dir,
    name: &'a str,
    patience: Duration,
    late: &'a dyn Fn() -> Error,
}

impl Wanted<'_> {
    /// Takes the file. While another has it, `busy` may refuse to wait; when it was waited for,
    /// `left` may find what its holder left in it.
    fn take<T>(
        &self,
        busy: impl Fn(&File) -> Result<()>,
        left: impl Fn(&File) -> Option<T>,
    ) -> Result<std::result::Result<Held, T>> {
        let path = self.locks.path_of(self.name);
        let deadline = deadline(self.patience);
        let mut file = self.open()?;
        loop {
            let (held, waited) = match Held::attempt(file).doing("lock", &path)? {
                Ok(held) => (held, false),
                Err(file) => {
                    busy(&file)?;
                    let waited = Held::wait(file, deadline, &path)?;
                    (waited.ok_or_else(self.late)?, true)
                }
            };
            if !held.excludes() {
                return Err(no_locks());
            }
            if waited && let Some(left) = left(held.file()) {
                return Ok(Err(left));
            }
            let current = self.open()?;
            let is_same = identity(held.file()).doing("look at", &path)?
                == identity(&current).doing("look at", &path)?;
            if is_same {
                return Ok(Ok(held));
            }
            file = current;
        }
    }

    fn open(&self) -> Result<File> {
        let path = self.locks.path_of(self.name);
        let opened = self.locks.open_file(self.name, Access::Lock);
        opened.doing("open the lock", path)
    }
}

/// A turn is stored without locks as well, but this would be a promise nobody keeps.
fn no_locks() -> Error {
    Error::new(Code::StoreUnsupported, "cannot keep other calls waiting")
        .because("locks do not work on the file system of the store")
        .hint("leave out --serialize and --idempotency-key, or name another store with OLLAMA_PROMPT_HOME")
}

/// Removes the files of guards that killed processes left. One that is held is left alone.
pub(super) fn sweep(locks: &Dir) {
    let mut names = Vec::new();
    let is_guard = |name: &str| name.starts_with(TURN_LOCK) || name.starts_with(KEY_LOCK);
    let listed = locks.for_each_name(|name| names.extend(is_guard(name).then(|| name.to_owned())));
    if listed.is_err() {
        return;
    }
    for name in names {
        let Ok(file) = locks.open_file(&name, Access::Append) else {
            continue;
        };
        if let Ok(Ok(held)) = Held::attempt(file)
            && held.excludes()
            && let Ok(current) = locks.open_file(&name, Access::Append)
            && matches!((identity(held.file()), identity(&current)), (Ok(a), Ok(b)) if a == b)
        {
            let _ = locks.remove_file(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const NEVER: Duration = Duration::from_secs(60);

    fn key(key: &str, request: &str) -> Key {
        Key {
            key: key.to_owned(),
            request: request.to_owned(),
        }
    }

    fn locks(home: &tempfile::TempDir) -> Dir {
        Dir::open(home.path()).expect("a directory")
    }

    fn held(taken: Result<Taken>) -> KeyGuard {
        match taken {
            Ok(Taken::Held(guard)) => guard,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_held_by_one_and_leaves_nothing_behind() {
        let home = tempfile::tempdir().expect("a directory");
        let session = SessionId::from_parts(1, 1);
        let take = |key: &Key, patience| take_key(locks(&home), session, key, patience);
        let first = held(take(&key("k", "r"), NEVER));
        let late = take(&key("k", "r"), Duration::ZERO).expect_err("it is taken");
        assert_eq!(late.code, Code::Timeout);
        let other = take(&key("k", "s"), NEVER).expect_err("another request");
        assert_eq!(other.code, Code::IdempotencyConflict);
        drop(held(take(&key("l", "s"), NEVER)));
        drop(first);
        drop(held(take(&key("k", "s"), NEVER)));
        assert_eq!(
            std::fs::read_dir(home.path()).expect("it is there").count(),
            0
        );
    }

    #[test]
    fn who_waits_ends_as_the_turn_ends_and_who_comes_later_asks_again() {
        let home = tempfile::tempdir().expect("a directory");
        let session = SessionId::from_parts(1, 1);
        let wanted = key("k", "r");
        let first = held(take_key(locks(&home), session, &wanted, NEVER));
        let (dir, name) = (locks(&home), key_lock(session, "k"));
        let (sender, receiver) = mpsc::channel();
        let waiting = thread::spawn(move || {
            let wanted = Wanted {
                locks: &dir,
                name: &name,
                patience: NEVER,
                late: &no_locks,
            };
            let busy = |_: &File| {
                sender.send(()).expect("the test listens");
                Ok(())
            };
            let left = |file: &File| Error::of_report(&Note::read(file)?.error?);
            let taken = wanted.take(busy, left).expect("locks work");
            taken.err().map(|error| error.code)
        });
        receiver.recv().expect("it finds the key taken");
        // It has the file open: whether it is in the queue by now makes no difference, but for
        // one that is so late that it finds the file free.
        first.fail(&Error::new(Code::ServerError, "boom"));
        let ended = waiting.join().expect("it ends");
        assert!(matches!(ended, Some(Code::ServerError)), "{ended:?}");
        drop(held(take_key(locks(&home), session, &wanted, NEVER)));
    }

    /// The file that was waited for has lost its name meanwhile, and another has the new one.
    #[test]
    fn who_waited_for_a_file_without_a_name_waits_for_the_one_that_has_it() {
        let home = tempfile::tempdir().expect("a directory");
        let (dir, name) = (locks(&home), "turn-x".to_owned());
        let open = || dir.open_file(&name, Access::Lock).expect("it opens");
        let hold = || {
            let held = Held::attempt(open()).expect("locks work");
            held.expect("it is free")
        };
        let first = hold();
        let (sender, receiver) = mpsc::channel();
        let (waits_in, wanted_name) = (locks(&home), name.clone());
        let waiting = thread::spawn(move || {
            let wanted = Wanted {
                locks: &waits_in,
                name: &wanted_name,
                patience: NEVER,
                late: &no_locks,
            };
            let busy = |_: &File| {
                sender.send(()).expect("the test listens");
                Ok(())
            };
            let taken = wanted.take(busy, |_| None::<()>);
            taken.is_ok_and(|taken| taken.is_ok())
        });
        receiver.recv().expect("it finds the first file taken");
        dir.remove_file(&name).expect("it is there");
        let second = hold();
        drop(first);
        receiver.recv().expect("it finds the second file taken");
        drop(second);
        assert!(waiting.join().expect("it ends"));
    }

    #[test]
    fn what_killed_processes_left_is_swept_and_what_is_held_is_not() {
        let home = tempfile::tempdir().expect("a directory");
        let session = SessionId::from_parts(1, 1);
        let guard = take_turn(locks(&home), session, NEVER).expect("it is free");
        let left = locks(&home).create_file("key-0123");
        drop(left.expect("a new file"));
        sweep(&locks(&home));
        let names = || std::fs::read_dir(home.path()).expect("it is there").count();
        assert_eq!(names(), 1);
        drop(guard);
        assert_eq!(names(), 0);
    }
}
