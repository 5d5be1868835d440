//! Compaction: what is kept of a session is written once more at its end, and what stands before
//! that counts no longer and is removed.
//!
//! The lines that are kept come first, in documents of a size that a turn reads one by one; others
//! may write in between. The last document says from which number on the session is. Until that
//! is there each line is there twice, which is the same session. What is no event is kept as it
//! is.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::Use;
use super::document::{Lines, Position, Written};
use super::journal::Content;
use super::patience::Patience;
use super::{MongoStore, lines_of};
use crate::error::{Code, Error, Result};
use crate::session::event::{Body, Event};
use crate::session::fold::{Entry, Session, fold, one_of_each};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::without_field;
use crate::store::append::refuse_newer;
use crate::store::blobs::names_in;
use crate::store::compact::{Compacted, Compaction, is_sent};

/// How many bytes a document of lines that were kept has at least, if there are as many: what a
/// turn reads of a log in one piece.
const PIECE: usize = 64 << 10;

/// Compacts a session, as [`crate::store::Writable::compact`] says.
pub(super) fn compact(
    store: &MongoStore,
    id: SessionId,
    drop_pruned: bool,
    patience: &mut Patience,
) -> Result<Compaction> {
    let begun = store.database.time(patience)?;
    loop {
        let journal = &store.journal;
        let written = journal.read_after(id, Position::default(), patience)?;
        let Some(last) = written.last().filter(|last| last.closed.is_none()) else {
            return Ok(Compaction::NotThere);
        };
        if let Some(lost) = written.iter().find_map(|document| document.lost.as_ref()) {
            let sentence = format!("cannot compact the session {id}");
            return Err(Error::new(Code::Damaged, sentence)
                .because(format!("the bytes {lost} of it are not there"))
                .hint("`session verify` says more; another copy of the store may have them")
                .session(id));
        }
        let plan = Plan::of(&written, id, drop_pruned)?;
        let mut is_smaller = remove_blobs(store, id, &plan, patience)?;
        journal.sweep_texts(id, patience)?;
        if !plan.changes {
            if journal.is_to_be_swept(id, patience)? {
                // What one that was cut short has left.
                journal.sweep(id, Some(begun), patience)?;
                is_smaller = true;
            }
            return Ok(if is_smaller {
                Compaction::Done(plan.compacted(plan.bytes_before))
            } else {
                Compaction::Untouched
            });
        }
        journal.will_sweep(id, patience)?;
        if rewrite(store, id, &plan, last.at, patience)? {
            journal.sweep(id, Some(begun), patience)?;
            store.remembered.forget_summary(id);
            let bytes_after = plan.pieces.iter().map(Lines::bytes).sum::<usize>() as u64;
            return Ok(Compaction::Done(plan.compacted(bytes_after)));
        }
    }
}

/// Writes what is kept at the end of a session, and that it begins there. `false` where somebody
/// else wrote before the first of it: then it may not be all of it.
fn rewrite(
    store: &MongoStore,
    id: SessionId,
    plan: &Plan,
    end: Position,
    patience: &mut Patience,
) -> Result<bool> {
    let journal = &store.journal;
    let mut seen = end;
    let from = end.n + 1;
    let pieces = plan.pieces.iter().map(Content::Lines);
    for (number, content) in pieces.chain([Content::Rest(from)]).enumerate() {
        loop {
            if let Some(at) = journal.write(id, seen, &content, patience)? {
                seen = at;
                break;
            }
            if number == 0 {
                return Ok(false);
            }
            let news = journal.read_after(id, seen, patience)?;
            if news.iter().any(|document| document.from.is_some()) {
                return Err(Error::new(
                    Code::StoreLocked,
                    format!("gave up compacting the session {id}"),
                )
                .because("another process compacted or purged it")
                .hint("nothing is lost; try again where it is still there")
                .session(id));
            }
            seen = news.last().map_or(seen, |last| last.at);
        }
    }
    Ok(true)
}

/// Removes blobs that are old and that nothing names. Tells whether there were any.
fn remove_blobs(
    store: &MongoStore,
    id: SessionId,
    plan: &Plan,
    patience: &mut Patience,
) -> Result<bool> {
    let owner = id.to_string();
    let (old, before) = store.bytes.old(&owner, Use::Blob, patience)?;
    let mut unnamed = BTreeSet::from_iter(old);
    for line in plan.kept() {
        for name in names_in(line) {
            unnamed.remove(name);
        }
    }
    for name in &unnamed {
        store.bytes.remove(&owner, name, before, patience)?;
    }
    Ok(!unnamed.is_empty())
}

/// What is kept.
struct Plan {
    /// The lines, as they are to be.
    pieces: Vec<Lines>,
    /// Whether that is anything else than what is there.
    changes: bool,
    bytes_before: u64,
    dropped_duplicates: u64,
    dropped_turns: u64,
}

impl Plan {
    fn of(written: &[Written], id: SessionId, drop_pruned: bool) -> Result<Self> {
        let lines: Vec<(&[u8], Option<Event>)> = lines_of(written).collect();
        let entries = lines.iter().filter_map(|(raw, event)| {
            let (event, raw) = (event.clone()?, raw.to_vec());
            Some(Entry { event, raw })
        });
        let entries: Vec<Entry> = entries.collect();
        let all = entries.len();
        let mut kept = one_of_each(entries);
        let dropped_duplicates = (all - kept.len()) as u64;
        let session = fold(kept.values().cloned());
        refuse_newer(&session, id)?;
        let before = kept.len();
        if drop_pruned {
            keep_what_is_sent(&mut kept, &session);
        }
        let dropped_turns = (before - kept.len()) as u64;

        let mut plan = Self {
            pieces: vec![Lines::default()],
            changes: false,
            bytes_before: lines.iter().map(|(raw, _)| raw.len() as u64 + 1).sum(),
            dropped_duplicates,
            dropped_turns,
        };
        for (raw, event) in lines {
            let Some(event) = event else {
                plan.push(None, raw);
                continue;
            };
            // Of several equal lines the first stays.
            let is_kept = kept.get(&event.id).is_some_and(|entry| entry.raw == raw);
            match is_kept.then(|| kept.remove(&event.id)).flatten() {
                Some(entry) => {
                    let line = shown(&entry, &session);
                    plan.changes |= line != raw;
                    plan.push(Some(&event), &line);
                }
                None => plan.changes = true,
            }
        }
        Ok(plan)
    }

    fn push(&mut self, event: Option<&Event>, raw: &[u8]) {
        if self.pieces.last().is_none_or(|last| last.bytes() >= PIECE) {
            self.pieces.push(Lines::default());
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(event, raw);
        }
    }

    fn kept(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.pieces.iter();
        pieces.flat_map(|piece| piece.text.split(|b| *b == b'\n'))
    }

    fn compacted(&self, bytes_after: u64) -> Compacted {
        Compacted {
            bytes_before: self.bytes_before,
            bytes_after,
            dropped_duplicates: self.dropped_duplicates,
            dropped_turns: self.dropped_turns,
            damaged_bytes_moved_to: None,
        }
    }
}

/// Leaves the turns that are still sent, and the newest: it says when the session was last used.
fn keep_what_is_sent(kept: &mut BTreeMap<EventId, Entry>, session: &Session) {
    let is_turn = |entry: &Entry| matches!(entry.event.body, Body::Turn(_));
    let newest = kept.iter().rfind(|(_, entry)| is_turn(entry));
    let newest = newest.map(|(id, _)| *id);
    kept.retain(|id, entry| !is_turn(entry) || Some(*id) == newest || is_sent(session, *id));
}

/// Returns a line without what is hidden of it.
fn shown(entry: &Entry, session: &Session) -> Vec<u8> {
    let mut raw = entry.raw.clone();
    if says_what_is_hidden(&entry.event, session) {
        raw = without_field(&raw, "summary").unwrap_or(raw);
    }
    let hidden = session.hidden.get(&entry.event.id);
    hidden
        .and_then(|hidden| hidden.mask_line(&raw))
        .unwrap_or(raw)
}

/// Tells whether an event is a horizon whose summary may say what is hidden.
fn says_what_is_hidden(event: &Event, session: &Session) -> bool {
    let has_summary = matches!(&event.body, Body::Prune(prune) if prune.summary.is_some());
    has_summary && session.hides_summary_of(event)
}
