//! Turns that are under way, failed or were killed; and the end of those nobody waits for. What was
//! asked and not stored is nowhere else.

use crate::cli::Invocation;
use crate::error::Result;
use crate::output::{Cleared, DraftList, DraftSummary, Outcome};
use crate::store;
use crate::store::draft::FoundDraft;

/// Lists all drafts, oldest first.
pub(super) fn list(invocation: &Invocation) -> Result<Outcome> {
    let found = match store::open(&invocation.location()?)? {
        Some(store) => store.drafts()?,
        None => Vec::new(),
    };
    let drafts: Vec<DraftSummary> = found.into_iter().map(summary).collect();
    let total = drafts.len();
    Ok(Outcome::report(DraftList {
        drafts,
        total,
        warnings: Vec::new(),
    }))
}

/// Removes the drafts nobody holds. A turn under way keeps its own.
pub(super) fn clear(invocation: &Invocation) -> Result<Outcome> {
    let (mut drafts, mut kept) = (Vec::new(), Vec::new());
    if let Some(store) = store::open(&invocation.location()?)? {
        let found = store.drafts()?;
        if !found.is_empty() {
            let writable = store.for_writing(invocation.lock_timeout)?;
            for FoundDraft { id, under_way, .. } in found {
                if under_way {
                    kept.push(id);
                } else {
                    writable.remove_draft(id)?;
                    drafts.push(id);
                }
            }
        }
    }
    Ok(Outcome::report(Cleared {
        removed: drafts.len(),
        drafts,
        kept,
        warnings: Vec::new(),
    }))
}

fn summary(found: FoundDraft) -> DraftSummary {
    let FoundDraft {
        id,
        under_way,
        draft,
    } = found;
    let mut summary = DraftSummary {
        id,
        session_id: None,
        under_way,
        timestamp: None,
        prompt: None,
        response: None,
        error: None,
    };
    if let Some(draft) = draft {
        summary.session_id = Some(draft.session);
        summary.timestamp = Some(draft.ts);
        summary.prompt = Some(draft.prompt);
        summary.response = draft.response;
        summary.error = draft.error;
    }
    summary
}
