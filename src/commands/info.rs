//! All that is known of one session, what left the context and what is hidden told apart.

use super::named;
use crate::cli::{Invocation, Part, ShowWanted};
use crate::error::{Code, Error, Result};
use crate::output::{Metadata, Outcome, SaidMessage, SessionInfo, Unfinished, Unreadable, percent};
use crate::session::attachment::Asking;
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::{EventId, SessionId};
use crate::store::draft::FoundDraft;
use crate::store::snapshot::{Extent, Snapshot};
use crate::store::{no_turn, not_found};

/// Shows a session, every message ever said in it, and the turns that never became part of it; or
/// the session as it was at a turn; or one turn.
///
/// # Errors
/// `session_not_found` for a session or turn that is not there; `store_*`.
pub(super) fn run(wanted: &ShowWanted, invocation: &Invocation) -> Result<Outcome> {
    let reference = &wanted.session;
    let store = named::store_of(reference, invocation)?;
    let id = store.find(reference)?;
    let (extent, turn) = match wanted.part {
        Part::All => (Extent::History, None),
        Part::At(turn) => (Extent::Until(turn), Some(turn)),
        Part::Turn(turn) => (Extent::History, Some(turn)),
    };
    let unfinished = match wanted.part {
        Part::All => unfinished(store.drafts()?, id),
        Part::At(_) | Part::Turn(_) => Vec::new(),
    };
    let snapshot = match store.read(id, extent)? {
        Some(snapshot) => snapshot,
        // A first turn that failed left only its draft: there is something to show.
        None if !unfinished.is_empty() => Snapshot::default(),
        None => match turn {
            Some(turn) if store.read(id, Extent::History)?.is_some() => {
                return Err(no_turn(turn, id));
            }
            _ => return Err(not_found(reference).session(id)),
        },
    };
    if let Some(turn) = turn {
        require(turn, &snapshot.session, id)?;
    }
    let mut info = info(id, snapshot, unfinished);
    if let Part::Turn(turn) = wanted.part {
        info.messages.retain(|message| message.turn == turn);
    }
    Ok(Outcome::report(info))
}

/// Refuses a turn that the session has not, or of which nothing may be shown.
fn require(turn: EventId, session: &Session, id: SessionId) -> Result<()> {
    if session.retracted.contains_key(&turn) {
        let sentence = format!("turn {turn} was retracted: nothing of it is shown");
        return Err(Error::new(Code::SessionNotFound, sentence).session(id));
    }
    let has = session.turns.iter().any(|said| said.id == turn);
    has.then_some(()).ok_or_else(|| no_turn(turn, id))
}

fn info(id: SessionId, snapshot: Snapshot, unfinished: Vec<Unfinished>) -> SessionInfo {
    let Snapshot {
        session, damage, ..
    } = snapshot;
    let (created_at, last_used) = (session.created, session.last_used());
    let in_context: Vec<EventId> = session.context().iter().map(|said| said.id).collect();
    let context_tokens = session.context_tokens();
    let max_context_tokens = session.settings.max_context_tokens;
    let metadata = Metadata {
        turns: session.turns.len() + session.retracted.len(),
        turns_in_context: in_context.len(),
        retracted: session.retracted.keys().copied().collect(),
        title: session.settings.title().map(str::to_owned),
        tags: session.settings.tag_names(),
        horizon: session.horizon.as_ref().map(|horizon| horizon.keep_from),
        unreadable: damage
            .into_iter()
            .map(|(file, damage)| Unreadable {
                file,
                offset: damage.offset,
                bytes: damage.bytes,
            })
            .collect(),
    };
    let Session {
        settings, turns, ..
    } = session;
    let messages: Vec<SaidMessage> = turns
        .into_iter()
        .flat_map(|said| {
            let is_in = in_context.binary_search(&said.id).is_ok();
            messages(said, is_in)
        })
        .collect();
    SessionInfo {
        session_id: id,
        model_name: settings.model,
        created_at,
        last_used,
        max_context_tokens,
        context_tokens,
        context_usage_percent: percent(context_tokens, max_context_tokens.unwrap_or_default()),
        message_count: messages.len(),
        messages,
        system_prompt: settings.system.filter(|text| !text.is_empty()),
        metadata,
        unfinished,
        warnings: Vec::new(),
    }
}

fn messages(said: SaidTurn, in_context: bool) -> [SaidMessage; 2] {
    let SaidTurn { id, ts, turn, .. } = said;
    let message = |role, content, tokens| SaidMessage {
        role,
        content,
        timestamp: ts,
        tokens,
        counted: turn.tokens.counted,
        turn: id,
        in_context,
        model: None,
        thinking: None,
        tool_calls: None,
        tool_results: Vec::new(),
        images: Vec::new(),
    };
    let (role, content) = if Asking::of(&turn).has_prompt() {
        ("user", turn.prompt)
    } else {
        let results = turn.tool_results.iter().map(|result| &*result.content);
        ("tool", results.collect::<Vec<_>>().join("\n"))
    };
    [
        SaidMessage {
            tool_results: turn.tool_results,
            images: turn.blobs,
            ..message(role, content, turn.tokens.prompt)
        },
        SaidMessage {
            model: Some(turn.model),
            thinking: turn.thinking,
            tool_calls: turn.tool_calls,
            ..message("assistant", turn.response, turn.tokens.response)
        },
    ]
}

fn unfinished(drafts: Vec<FoundDraft>, id: SessionId) -> Vec<Unfinished> {
    let of_session = drafts.into_iter().filter_map(|found| {
        let draft = found.draft.filter(|draft| draft.session == id)?;
        Some(Unfinished {
            draft: found.id,
            timestamp: draft.ts,
            under_way: found.under_way,
            prompt: draft.prompt,
            response: draft.response,
            error: draft.error,
        })
    });
    of_session.collect()
}
