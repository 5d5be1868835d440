//! Compaction: documents rewritten one by one, without what nobody can miss.
//!
//! Each document is changed at once and only if nobody changed it meanwhile, so a kill leaves some
//! done and others not, and each of these states is the same session. A document keeps its number
//! also when nothing is left in it: a number that was taken once is never free for somebody who
//! read the session before. What is no event is left where it is.

use std::collections::{BTreeMap, BTreeSet};

use super::bytes::Use;
use super::journal::{Position, Written};
use super::patience::Patience;
use super::{MongoStore, events_of};
use crate::error::{Code, Error, Result};
use crate::session::event::{Body, Event};
use crate::session::fold::{Entry, fold, one_of_each};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::without_field;
use crate::store::append::refuse_newer;
use crate::store::blobs::names_in;
use crate::store::compact::{Compacted, Compaction};

/// Compacts a session, as [`crate::store::Writable::compact`] says.
pub(super) fn compact(
    store: &MongoStore,
    id: SessionId,
    drop_pruned: bool,
    patience: &mut Patience,
) -> Result<Compaction> {
    let written = store
        .journal
        .read_after(id, Position::default(), patience)?;
    let events = events_of(&written);
    let Some(last) = written.last().filter(|_| !events.entries.is_empty()) else {
        return Ok(Compaction::NotThere);
    };
    let plan = Plan::of(events.entries, id, drop_pruned)?;
    let bytes = |written: &[Written]| -> u64 {
        written
            .iter()
            .map(|document| document.lines.len() as u64)
            .sum()
    };
    let mut after = plan.kept.clone();
    let mut is_changed = false;
    for document in &written {
        let of_it = events_of(std::slice::from_ref(document));
        if !of_it.damage.is_empty() {
            continue;
        }
        let mut left = Vec::new();
        for entry in &of_it.entries {
            // Of several equal lines the first stays.
            let is_kept = plan.counts.get(&entry.event.id) == Some(&entry.raw);
            if is_kept && let Some(raw) = after.remove(&entry.event.id) {
                left.push(Entry {
                    event: entry.event.clone(),
                    raw,
                });
            }
        }
        let is_same = left.len() == of_it.entries.len()
            && left
                .iter()
                .zip(&of_it.entries)
                .all(|(new, old)| new.raw == old.raw);
        if is_same {
            continue;
        }
        if !is_changed {
            store.journal.note_rewrite(id, last.at, patience)?;
            is_changed = true;
        }
        if !store.journal.rewrite(id, document, &left, patience)? {
            return Err(Error::new(
                Code::StoreLocked,
                format!("gave up compacting the session {id}"),
            )
            .because("another process compacts it")
            .hint("nothing is lost; try again when that one is done")
            .session(id));
        }
    }
    let mut unnamed = BTreeSet::from_iter(store.bytes.old(&id.to_string(), Use::Blob, patience)?);
    for line in plan.kept.values() {
        for name in names_in(line) {
            unnamed.remove(name);
        }
    }
    for name in &unnamed {
        store.bytes.remove(&id.to_string(), name, patience)?;
    }
    store.journal.sweep_texts(id, patience)?;
    if !is_changed && unnamed.is_empty() {
        return Ok(Compaction::Untouched);
    }
    if is_changed {
        store.journal.note_rewrite(id, last.at, patience)?;
    }
    store.remembered.forget_summary(id);
    let left = store
        .journal
        .read_after(id, Position::default(), patience)?;
    Ok(Compaction::Done(Compacted {
        bytes_before: bytes(&written),
        bytes_after: bytes(&left),
        dropped_duplicates: plan.dropped_duplicates,
        dropped_turns: plan.dropped_turns,
        damaged_bytes_moved_to: None,
    }))
}

/// What is kept.
struct Plan {
    /// Of each event that is kept the line that counts, as it is.
    counts: BTreeMap<EventId, Vec<u8>>,
    /// The same as it is to be.
    kept: BTreeMap<EventId, Vec<u8>>,
    dropped_duplicates: u64,
    dropped_turns: u64,
}

impl Plan {
    fn of(entries: Vec<Entry>, id: SessionId, drop_pruned: bool) -> Result<Self> {
        let all = entries.len();
        let mut kept = one_of_each(entries);
        let dropped_duplicates = (all - kept.len()) as u64;
        let session = fold(kept.values().cloned());
        refuse_newer(&session, id)?;
        let is_turn = |entry: &Entry| matches!(entry.event.body, Body::Turn(_));
        let newest = kept.iter().rfind(|(_, entry)| is_turn(entry));
        let newest = newest.map(|(id, _)| *id);
        let before = kept.len();
        if drop_pruned {
            kept.retain(|id, entry| {
                let is_retracted = || session.hidden.get(id).is_some_and(|h| h.is_whole());
                let is_out = || !session.is_in_context(*id) || is_retracted();
                // The newest says when the session was last used.
                !is_turn(entry) || Some(*id) == newest || !is_out()
            });
        }
        let dropped_turns = (before - kept.len()) as u64;
        let shown = |entry: &Entry| -> Vec<u8> {
            let mut raw = entry.raw.clone();
            if says_what_is_hidden(&entry.event, &session) {
                raw = without_field(&raw, "summary").unwrap_or(raw);
            }
            let hidden = session.hidden.get(&entry.event.id);
            hidden
                .and_then(|hidden| hidden.mask_line(&raw))
                .unwrap_or(raw)
        };
        Ok(Self {
            kept: kept.iter().map(|(id, entry)| (*id, shown(entry))).collect(),
            counts: kept
                .into_iter()
                .map(|(id, entry)| (id, entry.raw))
                .collect(),
            dropped_duplicates,
            dropped_turns,
        })
    }
}

/// Tells whether an event is a horizon whose summary may say what is hidden.
fn says_what_is_hidden(event: &Event, session: &crate::session::fold::Session) -> bool {
    let has_summary = matches!(&event.body, Body::Prune(prune) if prune.summary.is_some());
    has_summary && session.hides_summary_of(event)
}
