//! The list of sessions, as the store has it.

use std::cmp::Reverse;

use crate::cli::{Invocation, ListWanted, SessionFilter, Sort};
use crate::clock;
use crate::error::Result;
use crate::output::{Outcome, Reindexed, SessionList, SessionSummary};
use crate::progress::Progress;
use crate::session::event::Timestamp;
use crate::store;
use crate::store::list::{Listed, Listing};
use crate::warning::Warning;

/// Lists the sessions that are meant, in the order that is. One that cannot be read is told and
/// left out.
pub(super) fn run(
    wanted: &ListWanted,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let listing = match store::open(&invocation.location()?)? {
        Some(mut store) => {
            store.telling(progress);
            store.list()?
        }
        None => Listing::default(),
    };
    let warnings = warnings(&listing);
    let mut listed = listing.sessions;
    select(&mut listed, &wanted.sessions, clock::now());
    sort(&mut listed, wanted.sort);
    let total = listed.len();
    listed.truncate(wanted.limit.unwrap_or(usize::MAX));
    let list = SessionList {
        sessions: listed.into_iter().map(shown).collect(),
        total,
        warnings: Vec::new(),
    };
    Ok(Outcome {
        warnings,
        ..Outcome::report(list)
    })
}

/// Leaves only the sessions that a filter lets through.
pub(super) fn select(listed: &mut Vec<Listed>, filter: &SessionFilter, now: Timestamp) {
    let is_in_span = filter.used.seen_from(now);
    listed.retain(|Listed { summary, .. }| {
        let model = filter.model.as_ref();
        model.is_none_or(|model| summary.model.as_ref() == Some(model))
            && filter.tags.iter().all(|tag| summary.tags.contains(tag))
            && is_in_span(summary.last_used)
    });
}

/// Puts sessions in an order; of two alike the one used last comes first, then the newer id.
fn sort(listed: &mut [Listed], by: Sort) {
    let newest = |listed: &Listed| Reverse((listed.summary.last_used, listed.id));
    match by {
        Sort::LastUsed => listed.sort_by_key(newest),
        Sort::Created => listed.sort_by_key(|one| (Reverse(one.summary.created), newest(one))),
        Sort::Messages => listed.sort_by_key(|one| (Reverse(one.summary.turns), newest(one))),
        Sort::Tokens => {
            listed.sort_by_key(|one| (Reverse(one.summary.context_tokens), newest(one)));
        }
        Sort::Size => listed.sort_by_key(|one| (Reverse(one.bytes), newest(one))),
        Sort::Title => listed.sort_by_cached_key(|one| {
            let title = one.summary.title.as_ref().map(|title| title.to_lowercase());
            (title.is_none(), title, newest(one))
        }),
    }
}

/// Makes the index anew.
pub(super) fn reindex(progress: &Progress, invocation: &Invocation) -> Result<Outcome> {
    let (listing, bytes) = match store::open(&invocation.location()?)? {
        Some(mut store) => {
            store.telling(progress);
            store.reindex()?
        }
        None => (Listing::default(), 0),
    };
    Ok(Outcome {
        warnings: warnings(&listing),
        ..Outcome::report(Reindexed {
            sessions: listing.sessions.len(),
            bytes,
            warnings: Vec::new(),
        })
    })
}

fn warnings(listing: &Listing) -> Vec<Warning> {
    let damaged = listing.sessions.iter().filter(|listed| listed.damaged > 0);
    let damaged = damaged.map(|listed| Warning::Damaged {
        session: listed.id,
        places: listed.damaged,
    });
    let unreadable = listing.unreadable.iter();
    let unreadable = unreadable.map(|(session, error)| Warning::Unreadable {
        session: *session,
        cause: error.to_string(),
    });
    damaged.chain(unreadable).collect()
}

fn shown(listed: Listed) -> SessionSummary {
    let Listed {
        id, summary, bytes, ..
    } = listed;
    SessionSummary {
        session_id: id,
        model_name: summary.model,
        created_at: Some(summary.created),
        last_used: Some(summary.last_used),
        message_count: summary.turns * 2,
        context_tokens: summary.context_tokens,
        max_context_tokens: summary.max_context_tokens,
        title: summary.title,
        tags: summary.tags,
        bytes,
    }
}
