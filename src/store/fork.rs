//! Forks: a session that begins with the history of another.
//!
//! A fork has the lines of the turns it begins with, ids and all, and of every other event up to
//! there, as the bytes they are; so whoever merges or compares finds the same events. What was
//! redacted later is redacted here as well. Before them stands a header of its own that names the
//! parent, with an id before all of theirs: then the log is in order, and may be read from its
//! end as soon as something was appended. The directory gets its name when it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Durability;
use super::append::{Appended, encode, write_whole};
use super::blobs::{self, NewBlob};
use super::files::{Dir, Doing};
use super::layout::{BLOBS, LOG, is_blob_name};
use super::merge::{copy_blob, find_blobs, temporary_name};
use super::read::decode_logs;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::event::{Body, Event, ForkedFrom, Header, Settings, VERSION};
use crate::session::fold::{Entry, Session, fold};
use crate::session::id::{EventId, SessionId};

/// What a new session begins with.
#[derive(Debug)]
pub struct Fork {
    /// Where it comes from.
    pub from: ForkedFrom,
    /// What the session is when it begins.
    pub session: Session,
    /// Its log.
    log: Vec<u8>,
    /// The blobs the log names, and where they are.
    blobs: Option<(Dir, Vec<String>)>,
}

/// Reads what a fork of a session begins with: all that was there up to the turn `at`, or all of
/// it. `app` is the program that makes it. `None` where there is no such session.
///
/// # Errors
/// `session_not_found` when it has no such turn; `store_*` when it cannot be read.
pub(super) fn read(
    sessions: &Dir,
    parent: SessionId,
    at: Option<EventId>,
    app: &str,
) -> Result<Option<Fork>> {
    let name = parent.to_string();
    let dir = match sessions.open_dir(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.doing("open the session", sessions.path_of(&name))?,
    };
    let keep = |event, raw: &[u8]| Entry {
        event,
        raw: raw.to_vec(),
    };
    let (entries, _) = decode_logs(&dir, keep)?;
    let mut events = by_id(entries);
    let Some(first) = events.first_key_value().map(|(id, _)| *id) else {
        return Ok(None);
    };
    let turn = last_turn(&events, at, parent)?;
    let settings = settings(&events);
    events.retain(|id, entry| match &entry.event.body {
        Body::Session(_) => false,
        // Later ones of these turns hold as well, and those of other turns say nothing here.
        Body::Redact(redact) => at.is_none_or(|at| redact.turn <= at),
        _ => at.is_none_or(|at| *id <= at),
    });
    let from = ForkedFrom {
        session: parent,
        turn,
    };
    let header = Header {
        app: Some(app.to_owned()),
        imported: None,
        forked_from: Some(from),
        settings,
    };
    let (session, log) = begin(header, first, events);
    let blobs = find_blobs(&dir)?.map(|(dir, names)| (dir, named(&log, names)));
    Ok(Some(Fork {
        from,
        session,
        log,
        blobs: blobs.filter(|(_, names)| !names.is_empty()),
    }))
}

/// Returns the entries by id, of each id the one the fold takes.
fn by_id(entries: Vec<Entry>) -> BTreeMap<EventId, Entry> {
    let mut events: BTreeMap<EventId, Entry> = BTreeMap::new();
    for entry in entries {
        match events.get(&entry.event.id) {
            Some(known) if known.raw >= entry.raw => {}
            _ => drop(events.insert(entry.event.id, entry)),
        }
    }
    events
}

/// Returns the last turn of the fork: the one that was named, or the newest.
fn last_turn(
    events: &BTreeMap<EventId, Entry>,
    at: Option<EventId>,
    parent: SessionId,
) -> Result<Option<EventId>> {
    let bodies = || events.values().map(|entry| &entry.event.body);
    let retracted: BTreeSet<EventId> = bodies()
        .filter_map(|body| match body {
            Body::Redact(redact) if redact.is_whole() => Some(redact.turn),
            _ => None,
        })
        .collect();
    let mut turns = events
        .iter()
        .rev()
        .filter(|(id, entry)| matches!(entry.event.body, Body::Turn(_)) && !retracted.contains(*id))
        .map(|(id, _)| *id);
    match at {
        None => Ok(turns.next()),
        Some(at) if turns.any(|turn| turn == at) => Ok(Some(at)),
        Some(at) => Err(Error::new(
            Code::SessionNotFound,
            format!("the session has no turn {at}"),
        )
        .hint("session show lists the turns there are")
        .session(parent)),
    }
}

/// Returns the settings the session began with; those that came later are events of their own.
fn settings(events: &BTreeMap<EventId, Entry>) -> Settings {
    let mut settings = Settings::default();
    for entry in events.values() {
        if let Body::Session(header) = &entry.event.body {
            settings.overlay(header.settings.clone());
        }
    }
    settings
}

/// Returns the session that begins with a header and these events, and its log.
fn begin(header: Header, first: EventId, events: BTreeMap<EventId, Entry>) -> (Session, Vec<u8>) {
    let before_all = first.timestamp_ms().saturating_sub(1);
    let header = Event {
        v: VERSION,
        id: EventId::next(before_all, None, clock::random_bits()),
        ts: clock::now(),
        at: Some(0),
        body: Body::Session(header),
    };
    let mut entries = vec![Entry {
        raw: header.to_line().into_bytes(),
        event: header,
    }];
    entries.extend(events.into_values());
    let mut log = Vec::new();
    for entry in &mut entries {
        // Where the line stands here, for who keeps it in the context.
        entry.event.at = Some(log.len() as u64);
        log.extend_from_slice(&entry.raw);
        log.push(b'\n');
    }
    (fold(entries), log)
}

/// Returns those blobs that a log names.
fn named(log: &[u8], blobs: Vec<String>) -> Vec<String> {
    let words: BTreeSet<&[u8]> = log.split(|b| !b.is_ascii_hexdigit()).collect();
    let is_named = |name: &String| is_blob_name(name) && words.contains(name.as_bytes());
    blobs.into_iter().filter(is_named).collect()
}

/// Makes a session that begins with `fork` and goes on with these events. Nothing of it is left
/// behind when that fails, and no crash leaves a session in between.
///
/// # Errors
/// `session_exists`; `store_*`.
pub(super) fn create(
    sessions: &Dir,
    id: SessionId,
    fork: &Fork,
    durability: Durability,
    bodies: Vec<Body>,
    blobs: &[NewBlob],
) -> Result<Appended> {
    let begun = fork.log.len() as u64;
    let (ids, more) = encode(bodies, fork.session.highest, begun, false)?;
    let temporary = temporary_name();
    let path = sessions.path_of(&temporary);
    sessions.make_dir(&temporary).doing("make", &path)?;
    let fill = || -> Result<()> {
        let dir = sessions.open_dir(&temporary).doing("open", &path)?;
        let log = dir.create_file(LOG).doing("make", dir.path_of(LOG))?;
        write_whole(&log, &fork.log, 0)
            .and_then(|()| write_whole(&log, &more, begun))
            .doing("write", dir.path_of(LOG))?;
        // What a line names is there before the session is.
        copy_blobs(fork, &dir, durability)?;
        blobs::write(&dir, blobs, durability)?;
        if durability == Durability::Full {
            log.sync_data().doing("sync", dir.path_of(LOG))?;
            dir.sync().doing("sync", &path)?;
        }
        let name = id.to_string();
        sessions
            .rename(&temporary, &name)
            .doing("make the session", sessions.path_of(&name))
    };
    fill().inspect_err(|_| {
        // It has no name that anybody reads.
        let _ = std::fs::remove_dir_all(&path);
    })?;
    if durability == Durability::Full {
        sessions.sync().doing("sync", sessions.path())?;
    }
    Ok(Appended { ids, locked: true })
}

fn copy_blobs(fork: &Fork, dir: &Dir, durability: Durability) -> Result<()> {
    let Some((from, names)) = &fork.blobs else {
        return Ok(());
    };
    dir.make_dir(BLOBS).doing("make", dir.path_of(BLOBS))?;
    let to = dir.open_dir(BLOBS).doing("open", dir.path_of(BLOBS))?;
    for name in names {
        // One whose bytes rotted is not sent, here and there.
        copy_blob(from, &to, name, durability)?;
    }
    if durability == Durability::Full {
        to.sync().doing("sync", to.path())?;
    }
    Ok(())
}
