//! Forks: a session that begins with the history of another.
//!
//! A fork has the lines of the turns it begins with, ids and all, and of every other event up to
//! there, as the bytes they are; so whoever merges or compares finds the same events. What was
//! redacted later is redacted here as well. Before them stands a header of its own that names the
//! parent, with an id before all of theirs.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use super::blobs::is_blob_name;
use super::no_turn;
use crate::clock;
use crate::error::Result;
use crate::session::event::{Body, Event, ForkedFrom, Header, Settings, VERSION};
use crate::session::fold::{Entry, Session, fold, one_of_each};
use crate::session::id::{EventId, SessionId};

/// What a new session begins with.
#[derive(Debug)]
pub struct Fork {
    /// Where it comes from.
    pub from: ForkedFrom,
    /// What the session is when it begins.
    pub session: Session,
    /// Its events, a line each with its newline.
    pub log: Vec<u8>,
    /// The blobs those name, which are among the parent's.
    pub blobs: Vec<String>,
    /// What the store holds of the parent until the fork is made: only that looks into it.
    pub held: Option<Box<dyn Any>>,
}

impl Fork {
    /// Returns what a fork begins with, of all events of its parent and the names of its blobs: all
    /// that was there up to the turn `at`, or all of it. `app` is the program that makes it. `None`
    /// where there is no event.
    ///
    /// # Errors
    /// `session_not_found` when the parent has no such turn.
    pub fn of(
        parent: SessionId,
        at: Option<EventId>,
        app: &str,
        entries: Vec<Entry>,
        blobs: Vec<String>,
    ) -> Result<Option<Self>> {
        let mut events = one_of_each(entries);
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
        Ok(Some(Self {
            from,
            session,
            blobs: named(&log, blobs),
            log,
            held: None,
        }))
    }
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
        Some(at) => Err(no_turn(at, parent)),
    }
}

/// Returns the settings the session began with, without what is hidden of them: a redaction names
/// the parent's header, which the fork has not. Those that came later are events of their own.
fn settings(events: &BTreeMap<EventId, Entry>) -> Settings {
    let of_headers = |entry: &&Entry| {
        let body = &entry.event.body;
        matches!(body, Body::Session(_) | Body::Redact(_))
    };
    fold(events.values().filter(of_headers).cloned()).settings
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
