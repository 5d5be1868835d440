//! Logs rewritten without what nobody can miss: after this, and not before it, hidden text is off
//! the disk.

use crate::cli::{Invocation, Selection};
use crate::error::{Error, Result};
use crate::output::{CompactedSession, Compactions, Outcome};
use crate::progress::Progress;
use crate::session::id::SessionId;
use crate::store::compact::Compaction;
use crate::store::{self, Store, not_found};

/// Compacts sessions one after the other. One that cannot be does not keep the others from it;
/// the first such failure is told in the end.
pub(super) fn run(
    sessions: &Selection,
    drop_pruned: bool,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let mut done = Compactions::default();
    let mut failure = None;
    if let Some(store) = store::open(&invocation.location()?)? {
        let ids = chosen(&*store, sessions)?;
        let writable = store.for_writing(invocation.lock_timeout)?;
        let steps = progress.begin("compacting", ids.len());
        for id in ids {
            steps.step();
            match writable.compact(id, drop_pruned) {
                Ok(Compaction::Done(compacted)) => done.add(CompactedSession::new(id, compacted)),
                Ok(Compaction::Untouched) => done.unchanged += 1,
                Ok(Compaction::NotThere) if *sessions == Selection::All => {}
                Ok(Compaction::NotThere) => note(&mut failure, not_found(id), id),
                Err(error) => note(&mut failure, error, id),
            }
        }
    } else if let Selection::These(references) = sessions {
        return Err(not_found(&references[0]));
    }
    match failure {
        Some(error) if done.compacted.is_empty() => Err(error),
        failure => Ok(Outcome {
            failure,
            ..Outcome::report(done)
        }),
    }
}

/// Returns the sessions that were meant, each once.
pub(super) fn chosen(store: &dyn Store, sessions: &Selection) -> Result<Vec<SessionId>> {
    let mut ids = match sessions {
        Selection::All => store.ids()?,
        Selection::These(references) => {
            let found = references.iter().map(|reference| store.find(reference));
            found.collect::<Result<_>>()?
        }
    };
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn note(failure: &mut Option<Error>, error: Error, id: SessionId) {
    failure.get_or_insert_with(|| error.session(id));
}
