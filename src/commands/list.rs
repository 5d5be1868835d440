//! The list of sessions, from the directories themselves.

use std::cmp::Reverse;

use super::{Answer, Outcome};
use crate::cli::Invocation;
use crate::error::Result;
use crate::output::{SessionList, SessionSummary};
use crate::session::fold::Session;
use crate::session::id::SessionId;
use crate::store::Store;
use crate::store::read::Extent;
use crate::warning::Warning;

/// Lists all sessions, the last used first. One that cannot be read is told and left out.
pub(super) fn run(invocation: &Invocation) -> Result<Outcome> {
    let mut sessions = Vec::new();
    let mut warnings = Vec::new();
    if let Some(store) = Store::open(invocation.store.path()?)? {
        for id in store.ids()? {
            match store.read(id, Extent::History) {
                Ok(Some(snapshot)) => {
                    let places = snapshot.damage.len();
                    if places > 0 {
                        warnings.push(Warning::Damaged {
                            session: id,
                            places,
                        });
                    }
                    sessions.push(summary(id, &snapshot.session));
                }
                Ok(None) => {}
                Err(error) => warnings.push(Warning::Unreadable {
                    session: id,
                    cause: error.to_string(),
                }),
            }
        }
    }
    sessions.sort_by_key(|session| Reverse((session.last_used, session.session_id)));
    let total = sessions.len();
    let list = SessionList {
        sessions,
        total,
        warnings: Vec::new(),
    };
    Ok(Outcome {
        answer: Answer::Sessions(list),
        warnings,
        notes: Vec::new(),
        failure: None,
    })
}

fn summary(id: SessionId, session: &Session) -> SessionSummary {
    SessionSummary {
        session_id: id,
        model_name: session.settings.model.clone(),
        created_at: session.created,
        last_used: session.last_used(),
        message_count: session.turns.len() * 2,
        context_tokens: session.context_tokens(),
        max_context_tokens: session.settings.max_context_tokens,
    }
}
