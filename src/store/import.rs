//! Bringing in what another program or another store had: events that are to be part of a session.
//!
//! As everywhere, the union of two sets of events: what is here stays, what is missing is added, so
//! that doing it twice, or again after a kill, adds nothing twice. A session that is not here appears
//! at once and whole, by a rename. Nothing is synced session by session: [`Writable::sync_added`] does
//! that once in the end, and before it nobody is told that anything was imported.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use super::append::{refuse_newer, write_whole};
use super::files::{Access, Dir, Doing};
use super::layout::{BLOBS, LOG};
use super::lock::LockFile;
use super::merge::{append, open_session, temporary_name};
use super::purge::receipts;
use super::read::decode_logs;
use super::{Store, Writable, open_or_make_dir};
use crate::error::Result;
use crate::session::event::{Body, Event, Timestamp};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};

/// Up to so many sessions are synced one by one; with more, the file system as a whole is faster.
const ONE_BY_ONE: usize = 16;

/// Ids with a time before this, in milliseconds since 1970, have none: their events are dated by
/// the file they are from, and a file that was touched has not grown.
const DATED: u64 = 24 * 60 * 60 * 1000;

/// What is to be part of a session.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// Events that were derived from something else. One is known by the random bits of its id; of
    /// a turn that is here and has grown since, the later state is taken. A horizon is taken only
    /// with a session that is new.
    Derived(&'a [Event]),
    /// Lines of a log and blobs, as they are.
    Lines {
        /// The lines, by id.
        lines: &'a BTreeMap<EventId, Vec<u8>>,
        /// The blobs, by their SHA-256.
        blobs: &'a BTreeMap<String, Vec<u8>>,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Whether there was no such session.
    pub is_new: bool,
    /// How many events were added.
    pub events: u64,
    /// How many of them are turns.
    pub turns: u64,
}

impl Store {
    /// Tells what [`Writable::add`] would do.
    ///
    /// # Errors
    /// When the session is there and cannot be read.
    pub fn would_add(&self, id: SessionId, incoming: Incoming<'_>) -> Result<Added> {
        let dir = open_session(&self.sessions, id)?;
        Ok(missing(dir.as_ref(), id, incoming)?.added)
    }

    /// Returns the sessions that were purged here and are not here again.
    ///
    /// # Errors
    /// When the receipts cannot be read.
    pub fn purged(&self) -> Result<BTreeSet<SessionId>> {
        let purged = receipts(&self.root)?
            .into_iter()
            .map(|receipt| receipt.session);
        Ok(purged.collect())
    }

    /// Tells whether there is no session.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.ids()?.is_empty())
    }
}

impl Writable<'_> {
    /// Adds to a session what it has not, without a sync.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait.
    pub fn add(&self, id: SessionId, incoming: Incoming<'_>) -> Result<Added> {
        let Self {
            store,
            locks,
            patience,
            ..
        } = self;
        let _held = LockFile::open(locks, id)?.lock(locks, *patience)?;
        let dir = open_session(&store.sessions, id)?;
        let missing = missing(dir.as_ref(), id, incoming)?;
        let blobs = match incoming {
            Incoming::Lines { blobs, .. } => Some(blobs),
            Incoming::Derived(_) => None,
        };
        match dir {
            None if missing.lines.is_empty() => {}
            None => create(&store.sessions, id, missing.lines, blobs)?,
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
    pub fn sync_added(&self, ids: &BTreeSet<SessionId>) -> Result<()> {
        let sessions = &self.store.sessions;
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
}

/// What a session lacks.
struct Missing<'a> {
    added: Added,
    lines: Lines<'a>,
}

/// Lines that are to be written.
enum Lines<'a> {
    Raw(Vec<&'a [u8]>),
    /// These get the offset they stand at.
    Events(Vec<Event>),
}

impl Lines<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Raw(lines) => lines.is_empty(),
            Self::Events(events) => events.is_empty(),
        }
    }

    /// Returns them as they stand from `offset` of a log on.
    fn bytes(self, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Raw(lines) => {
                for line in lines {
                    bytes.extend_from_slice(line);
                    bytes.push(b'\n');
                }
            }
            Self::Events(events) => {
                for mut event in events {
                    event.at = Some(offset + bytes.len() as u64);
                    bytes.extend_from_slice(event.to_line().as_bytes());
                    bytes.push(b'\n');
                }
            }
        }
        bytes
    }
}

fn missing<'a>(dir: Option<&Dir>, id: SessionId, incoming: Incoming<'a>) -> Result<Missing<'a>> {
    let mut is_new = true;
    let mut added = Added::default();
    let lines = match incoming {
        Incoming::Lines { lines, .. } => {
            let mut missing = lines.clone();
            let mut known = Session::default();
            if let Some(dir) = dir {
                let (here, _) = decode_logs(dir, |event, raw| {
                    let is_here = lines
                        .get(&event.id)
                        .is_some_and(|line| raw >= line.as_slice());
                    (event.id, event.v, is_here)
                })?;
                is_new = here.is_empty();
                for (id, v, is_here) in here {
                    known.version = known.version.max(v);
                    if is_here {
                        missing.remove(&id);
                    }
                }
            }
            refuse_newer(&known, id)?;
            let is_turn = |line: &[u8]| {
                Event::from_slice(line).is_ok_and(|event| matches!(event.body, Body::Turn(_)))
            };
            added.turns = missing.values().filter(|line| is_turn(line)).count() as u64;
            added.events = missing.len() as u64;
            Lines::Raw(missing.keys().map(|id| lines[id].as_slice()).collect())
        }
        Incoming::Derived(events) => {
            let known = dir
                .map(|dir| known(dir, id))
                .transpose()?
                .unwrap_or_default();
            is_new = known.is_empty();
            let new: Vec<Event> = events
                .iter()
                .filter_map(|event| unknown(event, &known))
                .collect();
            added.turns = new
                .iter()
                .filter(|event| matches!(event.body, Body::Turn(_)))
                .count() as u64;
            added.events = new.len() as u64;
            Lines::Events(new)
        }
    };
    added.is_new = is_new && added.events > 0;
    Ok(Missing { added, lines })
}

/// Events by the random bits of their ids, with when they are dated.
type Known = HashMap<u128, (EventId, Timestamp)>;

fn known(dir: &Dir, id: SessionId) -> Result<Known> {
    let (here, _) = decode_logs(dir, |event, _| (event.id, event.ts, event.v))?;
    let mut session = Session::default();
    let mut known = Known::with_capacity(here.len());
    for (id, ts, v) in here {
        session.version = session.version.max(v);
        let later = known.entry(id.random()).or_insert((id, ts));
        later.1 = later.1.max(ts);
    }
    refuse_newer(&session, id)?;
    Ok(known)
}

/// Returns an event as it is to be added; `None` where it is there.
fn unknown(event: &Event, known: &Known) -> Option<Event> {
    match (known.get(&event.id.random()), &event.body) {
        (None, Body::Prune(_)) if !known.is_empty() => None,
        (None, _) => Some(event.clone()),
        (Some((id, ts)), Body::Turn(_)) if *ts < event.ts && event.id.timestamp_ms() >= DATED => {
            Some(Event {
                id: *id,
                ..event.clone()
            })
        }
        (Some(_), _) => None,
    }
}

/// Makes a session beside the others and gives it its name when it is whole.
fn create(
    sessions: &Dir,
    id: SessionId,
    lines: Lines<'_>,
    blobs: Option<&BTreeMap<String, Vec<u8>>>,
) -> Result<()> {
    let name = temporary_name();
    let path = sessions.path_of(&name);
    sessions.make_dir(&name).doing("make", &path)?;
    let fill = || -> Result<()> {
        let dir = sessions.open_dir(&name).doing("open", &path)?;
        let log = dir.create_file(LOG).doing("make", dir.path_of(LOG))?;
        write_whole(&log, &lines.bytes(0), 0).doing("write", dir.path_of(LOG))?;
        write_blobs(&dir, blobs)?;
        let id = id.to_string();
        sessions
            .rename(&name, &id)
            .doing("make the session", sessions.path_of(&id))
    };
    fill().inspect_err(|_| {
        // It has no name that anybody reads.
        let _ = std::fs::remove_dir_all(&path);
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
    append(&log, |len| lines.bytes(len)).doing("append to", &path)
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
        let temporary = temporary_name();
        let write = || -> io::Result<()> {
            let mut file = to.create_file(&temporary)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            to.rename(&temporary, name)
        };
        let written = write().inspect_err(|_| {
            let _ = to.remove_file(&temporary);
        });
        written.doing("write", to.path_of(name))?;
    }
    Ok(())
}
