//! The list of sessions, from the directories themselves.

use std::cmp::Reverse;

use super::{Answer, Outcome};
use crate::cli::Invocation;
use crate::error::Result;
use crate::output::{Reindexed, SessionList, SessionSummary};
use crate::store::Store;
use crate::store::index::{Listed, Listing};
use crate::warning::Warning;

/// Lists all sessions, the last used first. One that cannot be read is told and left out.
pub(super) fn run(invocation: &Invocation) -> Result<Outcome> {
    let listing = match Store::open(invocation.store.path()?)? {
        Some(store) => store.list()?,
        None => Listing::default(),
    };
    let warnings = warnings(&listing);
    let listed = listing.sessions.into_iter().map(shown);
    let mut sessions: Vec<SessionSummary> = listed.collect();
    sessions.sort_by_key(|session| Reverse((session.last_used, session.session_id)));
    let total = sessions.len();
    let list = SessionList {
        sessions,
        total,
        warnings: Vec::new(),
    };
    Ok(Outcome {
        answer: Answer::Report(Box::new(list)),
        warnings,
        notes: Vec::new(),
        failure: None,
    })
}

/// Makes the index anew.
pub(super) fn reindex(invocation: &Invocation) -> Result<Outcome> {
    let (listing, bytes) = match Store::open(invocation.store.path()?)? {
        Some(store) => store.reindex()?,
        None => (Listing::default(), 0),
    };
    Ok(Outcome {
        notes: Vec::new(),
        warnings: warnings(&listing),
        answer: Answer::Report(Box::new(Reindexed {
            sessions: listing.sessions.len(),
            bytes,
            warnings: Vec::new(),
        })),
        failure: None,
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
    let Listed { id, summary, .. } = listed;
    SessionSummary {
        session_id: id,
        model_name: summary.model,
        created_at: Some(summary.created),
        last_used: Some(summary.last_used),
        message_count: summary.turns * 2,
        context_tokens: summary.context_tokens,
        max_context_tokens: summary.max_context_tokens,
    }
}
