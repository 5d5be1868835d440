//! What can be told of sessions by all their events, wherever they are kept: what a store answers
//! that has no shorter way. Each of these holds the events of one session at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;

use super::Store;
use super::figures::Figures;
use super::history::Lines;
use super::list::{Listed, Listing};
use super::search::{Piece, Wanted, shown};
use super::snapshot::Events;
use super::verify::{Finding, Kind, Report};
use crate::error::{Code, Error, Result};
use crate::session::attachment::Blob;
use crate::session::event::{Body, Timestamp, VERSION};
use crate::session::fold::{Entry, fold, one_of_each};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::Hidden;
use crate::session::summary::Summary;
use crate::session::usage::TurnFigures;

/// How far ahead of this clock an id may be before that is worth telling.
const FAR_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

/// The most that is read of a blob of which only the name is known, in bytes.
const LARGEST_BLOB: u64 = 1 << 30;

/// Lists the sessions of a store.
pub(super) fn list(store: &(impl Store + ?Sized)) -> Result<Listing> {
    let ids = store.ids()?;
    let steps = store.progress().begin("reading sessions", ids.len());
    let mut listing = Listing::default();
    for id in ids {
        steps.step();
        match store.events(id) {
            Ok(events) => listing.sessions.extend(listed(id, events)),
            Err(error) => listing.unreadable.push((id, error)),
        }
    }
    Ok(listing)
}

fn listed(id: SessionId, events: Events) -> Option<Listed> {
    let Events { entries, damage } = events;
    let bytes = bytes(&entries);
    let summary = Summary::of(&fold(entries))?;
    Some(Listed {
        id,
        summary,
        damaged: damage.len(),
        bytes,
    })
}

/// Returns how many bytes events have, as lines.
pub(super) fn bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.raw.len() as u64 + 1).sum()
}

/// Returns the figures of the turns of a session.
pub(super) fn figures(events: Events) -> Figures {
    let Events { entries, damage } = events;
    if entries.is_empty() {
        return None;
    }
    let turns = one_of_each(entries).into_values();
    let turns = turns.filter_map(|entry| TurnFigures::of(entry.event));
    Some((turns.collect(), damage.len()))
}

/// Searches a session and hands over what is found, until `take` says to stop.
pub(super) fn search(
    id: SessionId,
    events: Result<Events>,
    wanted: &Wanted<'_>,
    take: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Events { entries, damage } = match events {
        Ok(events) => events,
        Err(error) => return take(Piece::Done(id, Err(error))),
    };
    let mut hidden: BTreeMap<EventId, Hidden> = BTreeMap::new();
    let entries = one_of_each(entries);
    for entry in entries.values() {
        if let Body::Redact(redact) = &entry.event.body {
            hidden.entry(redact.turn).or_default().add(redact);
        }
    }
    for Entry { event, raw } in entries.into_values() {
        if !wanted.may_be(&event) || !wanted.is_in(&event) {
            continue;
        }
        let hidden = hidden.get(&event.id);
        let Some(event) = shown(event, &raw, hidden) else {
            continue;
        };
        for hit in wanted.hits(&event) {
            take(Piece::Hit(id, Box::new(hit)))?;
            if wanted.first_only {
                return take(Piece::Done(id, Ok(damage.len())));
            }
        }
    }
    take(Piece::Done(id, Ok(damage.len())))
}

/// The lines of a session, all of them held.
pub(super) struct Held<'a, S: ?Sized> {
    store: &'a S,
    id: SessionId,
    entries: Vec<Entry>,
}

impl<'a, S: ?Sized> Held<'a, S> {
    pub(super) fn of(store: &'a S, id: SessionId, entries: Vec<Entry>) -> Self {
        Self {
            store,
            id,
            entries: one_of_each(entries).into_values().collect(),
        }
    }
}

impl<S: ?Sized> fmt::Debug for Held<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<S: Store + ?Sized> Lines for Held<'_, S> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn id(&self, n: usize) -> EventId {
        self.entries[n].event.id
    }

    fn is_turn(&self, n: usize) -> bool {
        matches!(self.entries[n].event.body, Body::Turn(_))
    }

    fn raw(&self, n: usize) -> Result<Vec<u8>> {
        Ok(self.entries[n].raw.clone())
    }

    fn blobs(&self) -> Result<Vec<String>> {
        self.store.blobs(self.id)
    }

    fn read_blob(&self, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        self.store.read_blob(self.id, blob)
    }

    fn blob(&self, name: &str) -> Result<(u64, Box<dyn Read + '_>)> {
        let blob = Blob {
            sha256: name.to_owned(),
            bytes: LARGEST_BLOB,
            media_type: String::new(),
            name: String::new(),
        };
        let bytes = self.store.read_blob(self.id, &blob).map_err(|cause| {
            Error::new(Code::StoreIo, format!("cannot read the blob {name}"))
                .because(cause)
                .session(self.id)
        })?;
        Ok((bytes.len() as u64, Box::new(Cursor::new(bytes))))
    }
}

/// Verifies the sessions that are named, or with `None` the whole store, as far as events and
/// drafts tell.
pub(super) fn verify(
    store: &(impl Store + ?Sized),
    named: Option<&[SessionId]>,
    now: Timestamp,
) -> Result<Report> {
    let mut report = Report::default();
    let all;
    let ids = match named {
        Some(ids) => ids,
        None => {
            unfinished_turns(store, &mut report)?;
            all = store.ids()?;
            &all
        }
    };
    let steps = store.progress().begin("verifying", ids.len());
    for id in ids {
        steps.step();
        session(store, *id, now, &mut report);
    }
    Ok(report)
}

fn finding(kind: Kind, session: Option<SessionId>, place: String, message: String) -> Finding {
    Finding {
        kind,
        session,
        place,
        offset: None,
        bytes: None,
        message,
    }
}

fn unfinished_turns(store: &(impl Store + ?Sized), report: &mut Report) -> Result<()> {
    for found in store.drafts()?.into_iter().filter(|found| !found.under_way) {
        let session = found.draft.map(|draft| draft.session);
        let message = "a turn failed or was killed: session retry asks again".to_owned();
        report.findings.push(finding(
            Kind::UnfinishedTurn,
            session,
            format!("draft {}", found.id),
            message,
        ));
    }
    Ok(())
}

fn session(store: &(impl Store + ?Sized), id: SessionId, now: Timestamp, report: &mut Report) {
    report.checked.sessions += 1;
    let mut tell = |kind, place: String, message: String| {
        report
            .findings
            .push(finding(kind, Some(id), place, message));
    };
    let Events { entries, damage } = match store.events(id) {
        Ok(events) => events,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            return tell(Kind::Unreadable, format!("session {id}"), message);
        }
    };
    for (place, damage) in &damage {
        let message = format!("{} bytes that are no event", damage.bytes);
        tell(Kind::DamagedLine, place.clone(), message);
    }
    if let Some(event) = entries.iter().find(|entry| entry.event.v > VERSION) {
        let message = format!("a newer program wrote it, in format {}", event.event.v);
        tell(
            Kind::NewerVersion,
            format!("event {}", event.event.id),
            message,
        );
    }
    let ahead = entries.iter().map(|entry| entry.event.id);
    let ahead = ahead.filter(|id| id.timestamp_ms() > now.as_ms().saturating_add(FAR_AHEAD_MS));
    if let Some(event) = ahead.max() {
        let message = "its id is ahead of the clock: the order of events is kept".to_owned();
        tell(Kind::FutureId, format!("event {event}"), message);
    }
    let (lines, bytes) = (entries.len() as u64, bytes(&entries));
    let mut names = BTreeMap::new();
    for said in fold(entries).turns {
        let blobs = said.turn.blobs.into_iter();
        names.extend(blobs.map(|blob| (blob.sha256.clone(), (said.id, blob))));
    }
    let there = store.blobs(id).unwrap_or_default();
    for (name, (turn, blob)) in names {
        let place = format!("blob {name}");
        if there.binary_search(&name).is_err() {
            tell(Kind::MissingBlob, place, format!("turn {turn} names it"));
        } else if let Err(cause) = store.read_blob(id, &blob) {
            tell(Kind::DamagedBlob, place, cause);
        }
    }
    report.checked.lines += lines;
    report.checked.bytes += bytes;
}
