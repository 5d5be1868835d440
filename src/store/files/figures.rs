//! The figures of all turns, read without holding a text.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use super::dir::Dir;
use super::read::{decode_logs, open_session};
use super::{FileStore, threads};
use crate::error::Result;
use crate::session::id::{EventId, SessionId};
use crate::session::usage::TurnFigures;
use crate::store::figures::Figures;

/// How many sessions may be read and not yet taken.
const AHEAD: usize = 64;

/// Reads the figures of sessions and hands them over, in any order, until `take` says to stop.
pub(super) fn read(
    store: &FileStore,
    ids: &[SessionId],
    take: &mut dyn FnMut(SessionId, Result<Figures>) -> ControlFlow<()>,
) {
    let threads = threads().min(ids.len());
    let next = AtomicUsize::new(0);
    let (sender, receiver) = sync_channel(AHEAD);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender
                        .send((*id, of_session(&store.sessions, *id)))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let steps = store.progress.begin("reading sessions", ids.len());
        for (id, figures) in receiver {
            steps.step();
            if take(id, figures).is_break() {
                return;
            }
        }
    });
}

fn of_session(sessions: &Dir, id: SessionId) -> Result<Figures> {
    let Some(dir) = open_session(sessions, id)? else {
        return Ok(None);
    };
    let (events, damaged) = decode_logs(&dir, |event, _| TurnFigures::of(event))?;
    if events.is_empty() {
        return Ok(None);
    }
    let mut turns: Vec<TurnFigures> = events.into_iter().flatten().collect();
    turns.sort_by_key(|turn| turn.id);
    turns.dedup();
    let differ = turns.windows(2).filter(|pair| pair[0].id == pair[1].id);
    let differ: BTreeSet<EventId> = differ.map(|pair| pair[0].id).collect();
    if !differ.is_empty() {
        let counting = greatest(&dir, &differ)?;
        turns.retain(|turn| !differ.contains(&turn.id));
        turns.extend(counting);
        turns.sort_by_key(|turn| turn.id);
    }
    Ok(Some((turns, damaged)))
}

/// Returns the figures of some turns that several lines tell of: those of the byte-wise greater.
fn greatest(dir: &Dir, ids: &BTreeSet<EventId>) -> Result<Vec<TurnFigures>> {
    let (lines, _) = decode_logs(dir, |event, raw| {
        let id = event.id;
        ids.contains(&id)
            .then(|| (id, (raw.to_vec(), TurnFigures::of(event))))
    })?;
    let mut greatest = BTreeMap::new();
    for (id, line) in lines.into_iter().flatten() {
        match greatest.get(&id) {
            Some((known, _)) if *known >= line.0 => {}
            _ => drop(greatest.insert(id, line)),
        }
    }
    Ok(greatest
        .into_values()
        .filter_map(|(_, turn)| turn)
        .collect())
}
