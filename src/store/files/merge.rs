//! Merge: another copy of the store (a backup, another machine's) united with this one.
//!
//! The union of two sets of events is one history, so only what is missing here is added, line by
//! line as it stands there: where an id is here already, only the byte-wise greater line, which is
//! the one that counts on both sides then. Nothing here is changed or removed, the other copy is
//! only read, and merging twice adds nothing. A session that is not here appears at once, by a
//! rename; one that is gets its lines in one write under its lock. What was purged here stays out
//! unless it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Seek as _};
use std::path::Path;

use super::append::{append, write_whole};
use super::dir::{Access, Dir, Doing};
use super::layout::{BLOBS, LOG, SESSIONS};
use super::making::open_or_make_dir;
use super::purge::receipts;
use super::read::{decode_logs, open_session};
use super::whole::{put, put_dir};
use super::writable::FileWritable;
use super::{ids_in, import};
use crate::digest::sha256_of_all_in;
use crate::error::{Code, Error, Result};
use crate::session::id::{EventId, SessionId};
use crate::store::blobs::{self, is_blob_name};
use crate::store::import::{Incoming, Missing};
use crate::store::merge::Merged;
use crate::store::purge::Receipt;
use crate::store::{Durability, Writable as _};

/// Another copy of a store, open for reading.
#[derive(Debug)]
pub struct Copy {
    sessions: Dir,
    receipts: Vec<Receipt>,
}

/// The lines of a session, by id.
type Lines = BTreeMap<EventId, Vec<u8>>;

/// A session of the other copy.
pub(in crate::store) struct Theirs {
    pub(in crate::store) lines: Lines,
    /// Places of its logs that are damaged.
    pub(in crate::store) damaged: usize,
    /// The directory of its blobs, and their names; each was seen to be a regular file.
    blobs: Option<(Dir, Vec<String>)>,
}

impl Copy {
    /// Opens the store whose root, or whose directory of sessions, is at `path`.
    ///
    /// # Errors
    /// `usage` where there is neither; otherwise as the system says.
    pub fn open(path: &Path) -> Result<Self> {
        let no_store = |cause: &str| {
            Error::new(
                Code::Usage,
                format!("there is no store in `{}`", path.display()),
            )
            .because(cause)
            .hint("name a directory that holds `sessions`, or such a directory itself")
        };
        let root = match Dir::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(no_store("no such directory"));
            }
            opened => opened.doing("open", path)?,
        };
        match root.open_dir_or_own_link(SESSIONS) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if ids_in(&root)?.is_empty() {
                    return Err(no_store("it holds no session"));
                }
                Ok(Self {
                    sessions: root,
                    receipts: Vec::new(),
                })
            }
            opened => Ok(Self {
                sessions: opened.doing("open", root.path_of(SESSIONS))?,
                receipts: receipts(&root)?,
            }),
        }
    }

    /// Returns the ids of its sessions, oldest first.
    pub(in crate::store) fn ids(&self) -> Result<Vec<SessionId>> {
        ids_in(&self.sessions)
    }

    /// Returns the receipts of what was purged there.
    pub(in crate::store) fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    pub(in crate::store) fn read(&self, id: SessionId) -> Result<Theirs> {
        let name = id.to_string();
        let dir = self.sessions.open_dir(&name);
        let dir = dir.doing("open the session", self.sessions.path_of(&name))?;
        let (events, damaged) = decode_logs(&dir, |event, raw| (event.id, raw.to_vec()))?;
        let mut lines = Lines::new();
        for (id, raw) in events {
            let line = lines.entry(id).or_default();
            if *line < raw {
                *line = raw;
            }
        }
        Ok(Theirs {
            lines,
            damaged,
            blobs: find_blobs(&dir)?,
        })
    }
}

impl Theirs {
    /// Reads the blobs that are what their name says. The names of the others go into `damaged`.
    pub(in crate::store) fn read_blobs(
        &self,
        damaged: &mut Vec<String>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut sound = BTreeMap::new();
        let Some((dir, names)) = &self.blobs else {
            return Ok(sound);
        };
        for name in names {
            let mut bytes = Vec::new();
            let read = dir.open_file(name, Access::Read);
            read.and_then(|mut file| file.read_to_end(&mut bytes))
                .doing("read", dir.path_of(name))?;
            match blobs::sound(bytes, name) {
                Ok(bytes) => drop(sound.insert(name.clone(), bytes)),
                Err(_) => damaged.push(name.clone()),
            }
        }
        Ok(sound)
    }
}

/// Returns the blobs of a session and where they are, each seen to be a regular file.
///
/// # Errors
/// As the system says.
pub(super) fn find_blobs(session: &Dir) -> Result<Option<(Dir, Vec<String>)>> {
    let dir = match session.open_dir(BLOBS) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.doing("open", session.path_of(BLOBS))?,
    };
    let mut names = Vec::new();
    let listed = dir.for_each_name(|name| {
        if is_blob_name(name) {
            names.push(name.to_owned());
        }
    });
    listed.doing("list", dir.path())?;
    for name in &names {
        let blob = dir.open_file(name, Access::Read);
        blob.doing("open", dir.path_of(name))?;
    }
    Ok(Some((dir, names)).filter(|(_, names)| !names.is_empty()))
}

/// Adds to the store what `copy` has more.
///
/// # Errors
/// When this store cannot be written; what was added before stays, and doing it again adds the
/// rest.
pub(super) fn merge(
    writable: &FileWritable<'_>,
    copy: &Copy,
    include_purged: bool,
    durability: Durability,
) -> Result<Merged> {
    let store = writable.store;
    let known = receipts(&store.root)?;
    let purged: BTreeSet<SessionId> = known.iter().map(|receipt| receipt.session).collect();
    let mut merged = Merged::default();
    let ids = copy.ids()?;
    let steps = store.progress.begin("merging", ids.len());
    for id in ids {
        steps.step();
        let read = copy.read(id).and_then(|theirs| {
            let dir = open_session(&store.sessions, id)?;
            let lacks = missing(dir.as_ref(), id, &theirs.lines)?.added;
            Ok((theirs, lacks))
        });
        let (theirs, lacks) = match read {
            Ok(read) => read,
            Err(error) => {
                merged.refused.push((id, error));
                continue;
            }
        };
        if theirs.damaged > 0 {
            merged.damaged.push((id, theirs.damaged));
        }
        if theirs.lines.is_empty() || lacks.events == 0 && theirs.blobs.is_none() {
            continue;
        }
        if lacks.is_new && purged.contains(&id) && !include_purged {
            merged.purged.push(id);
            continue;
        }
        let session = Session {
            writable,
            id,
            durability,
        };
        let Some((added, damaged)) = session.add(&theirs, include_purged)? else {
            merged.purged.push(id);
            continue;
        };
        merged.events += added;
        let damaged = damaged.into_iter().map(|name| (id, name));
        merged.damaged_blobs.extend(damaged);
        if lacks.is_new {
            merged.added.push(id);
        } else if added > 0 {
            merged.changed.push(id);
        }
    }
    if durability == Durability::Full && !merged.added.is_empty() {
        store.sessions.sync().doing("sync", store.sessions.path())?;
    }
    note_receipts(writable, &known, &copy.receipts)?;
    Ok(merged)
}

/// Remembers what was purged there and is not here, so that a third copy does not bring it back.
/// What is here stays.
fn note_receipts(writable: &FileWritable<'_>, known: &[Receipt], theirs: &[Receipt]) -> Result<()> {
    let sessions = &writable.store.sessions;
    let mut new = Vec::new();
    for receipt in theirs {
        let is_known = known.contains(receipt) || new.contains(receipt);
        if !is_known && open_session(sessions, receipt.session).is_ok_and(|dir| dir.is_none()) {
            new.push(receipt.clone());
        }
    }
    writable.note_receipts(&new)
}

/// Returns what the session in `dir` has not of these lines, or only a lesser one of the same id.
fn missing<'a>(dir: Option<&Dir>, id: SessionId, lines: &'a Lines) -> Result<Missing<'a>> {
    /// Those come as files.
    static NO_BLOBS: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let blobs = &NO_BLOBS;
    import::missing(dir, id, Incoming::Lines { lines, blobs })
}

/// A session of this store that gets something.
struct Session<'a> {
    writable: &'a FileWritable<'a>,
    id: SessionId,
    durability: Durability,
}

impl Session<'_> {
    /// Adds what is missing, seen again under the session's lock. Returns how many events that is,
    /// and the blobs that are damaged over there; `None` where it was purged meanwhile.
    fn add(&self, theirs: &Theirs, include_purged: bool) -> Result<Option<(u64, Vec<String>)>> {
        let lock = self.writable.lock(self.id)?;
        let dir = open_session(&self.writable.store.sessions, self.id)?;
        let Missing { added, lines } = missing(dir.as_ref(), self.id, &theirs.lines)?;
        let Some(dir) = dir else {
            if !include_purged && self.writable.is_purged(self.id)? {
                return Ok(None);
            }
            let damaged = self.create(theirs, &import::bytes(lines, 0))?;
            return Ok(Some((added.events, damaged)));
        };
        // What a line names is there before the line is.
        let damaged = self.copy_blobs(theirs, &dir)?;
        if !lines.is_empty() {
            let path = dir.path_of(LOG);
            let log = match dir.open_file(LOG, Access::Append) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => dir.create_file(LOG),
                opened => opened,
            };
            let log = log.doing("open for appending", &path)?;
            append(&log, |at| import::bytes(lines, at)).doing("append to", &path)?;
            drop(lock);
            if self.durability == Durability::Full {
                log.sync_data().doing("sync", &path)?;
                dir.sync().doing("sync", dir.path())?;
            }
        }
        Ok(Some((added.events, damaged)))
    }

    /// Makes the session beside the others and gives it its name when it is whole.
    fn create(&self, theirs: &Theirs, bytes: &[u8]) -> Result<Vec<String>> {
        let sessions = &self.writable.store.sessions;
        put_dir(sessions, &self.id.to_string(), |dir| {
            let log = dir.create_file(LOG).doing("make", dir.path_of(LOG))?;
            write_whole(&log, bytes, 0).doing("write", dir.path_of(LOG))?;
            let damaged = self.copy_blobs(theirs, dir)?;
            if self.durability == Durability::Full {
                log.sync_data().doing("sync", dir.path_of(LOG))?;
                dir.sync().doing("sync", dir.path())?;
            }
            Ok(damaged)
        })
    }

    /// Copies the blobs that are not in `here` yet, or not in their full length. Returns those
    /// that are damaged over there.
    fn copy_blobs(&self, theirs: &Theirs, here: &Dir) -> Result<Vec<String>> {
        let Some((from, names)) = &theirs.blobs else {
            return Ok(Vec::new());
        };
        let to = open_or_make_dir(here, BLOBS)?;
        let (mut copied, mut damaged) = (false, Vec::new());
        for name in names {
            let length = |dir: &Dir| dir.stat(name).map(|stat| stat.size);
            let is_here = match length(&to) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => false,
                here => {
                    let here = here.doing("look at", to.path_of(name))?;
                    length(from).is_ok_and(|there| there == here)
                }
            };
            if !is_here {
                let is_sound = copy_blob(from, &to, name, self.durability)?;
                copied |= is_sound;
                damaged.extend((!is_sound).then(|| name.clone()));
            }
        }
        if copied && self.durability == Durability::Full {
            to.sync().doing("sync", to.path())?;
        }
        Ok(damaged)
    }
}

/// Copies a blob if its bytes are what its name says, and gives it its name when it is whole.
/// Tells whether they are.
///
/// # Errors
/// As the system says.
pub(super) fn copy_blob(from: &Dir, to: &Dir, name: &str, durability: Durability) -> Result<bool> {
    let source = from.open_file(name, Access::Read);
    let mut source = source.doing("open", from.path_of(name))?;
    let hash = sha256_of_all_in(&mut source).doing("read", from.path_of(name))?;
    if hash != name {
        return Ok(false);
    }
    let copied = put(to, name, |mut target| {
        source.rewind()?;
        io::copy(&mut source, &mut target)?;
        match durability {
            Durability::Full => target.sync_data(),
            Durability::Relaxed => Ok(()),
        }
    });
    copied.map(|()| true).doing("write", to.path_of(name))
}
