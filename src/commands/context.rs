//! The exact request that was sent for a past turn, put together again from the log.

use super::messages::{Images, messages, parts};
use super::named;
use super::recall::recall;
use super::request::bytes_sent;
use crate::cli::Invocation;
use crate::error::{Code, Error, Result};
use crate::ollama::{ChatRequest, Role, echo, wire};
use crate::output::{Outcome, SentMessage, SentReport};
use crate::session::attachment::Asking;
use crate::session::event::{Settings, Strategy, Turn};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::{EventId, SessionId, SessionRef};
use crate::store::snapshot::Extent;
use crate::store::{no_turn, not_found};

/// Shows what was sent for a turn; the newest one where none is named.
///
/// # Errors
/// `session_not_found` for a session or turn that is not there; `store_*`.
pub(super) fn run(
    reference: &SessionRef,
    turn: Option<EventId>,
    invocation: &Invocation,
) -> Result<Outcome> {
    let store = named::store_of(reference, invocation)?;
    let extent = turn.map_or(Extent::History, Extent::Until);
    let (id, snapshot) = named::read(&*store, reference, extent)?;
    let newest = snapshot.session.turns.last().map(|said| said.id);
    let Some(turn) = newest.filter(|newest| turn.is_none_or(|turn| turn == *newest)) else {
        return Err(match turn {
            Some(turn) => no_turn(turn, id),
            None => Error::new(Code::SessionNotFound, "the session has no turn yet")
                .hint("session show shows what there is of it")
                .session(id),
        });
    };
    // What came after the newest turn, a horizon or a setting, was not in force yet.
    let session = store
        .read(id, Extent::Until(turn))?
        .ok_or_else(|| not_found(reference))?
        .session;
    let recalled = recall(&[], &session, Some((&*store, id)))?;
    let images = Images {
        own: &[],
        recalled: Some(&recalled.images),
    };
    let report = report(&session, id, images);
    Ok(Outcome {
        warnings: recalled.warnings,
        ..Outcome::report(report)
    })
}

/// Makes the report for the newest turn of a session as it was when that was written.
fn report(session: &Session, id: SessionId, images: Images<'_>) -> SentReport {
    let said = session.turns.last().expect("the turn was found");
    let turn = &said.turn;
    let context = seen(session, said);
    let settings = &session.settings;
    let summary = session.summary();
    let system = settings.system.as_deref().filter(|text| !text.is_empty());
    let messages = messages(system, summary, &context, Asking::of(turn), images);
    let bytes = bytes_sent(&messages, turn.tools.as_ref());
    let images_sent: u64 = messages
        .iter()
        .map(|message| message.images.len() as u64)
        .sum();
    let is_exact = bytes == turn.sent.bytes
        && messages.len() as u64 == turn.sent.messages
        && images_sent == turn.sent.images;
    let body = wire::body(&ChatRequest {
        model: asked_model(turn, settings),
        messages: &messages,
        options: &turn.options,
        think: turn.think.as_ref(),
        format: turn.format.as_ref(),
        keep_alive: turn.keep_alive.as_ref(),
        tools: turn.tools.as_ref(),
    });
    let of = |role, turn, tokens, counted| SentMessage {
        role,
        turn,
        tokens,
        counted,
    };
    let asked = |said: &SaidTurn| {
        let (id, tokens) = (said.id, said.turn.tokens);
        let parts = parts(Asking::of(&said.turn), &context, tokens.prompt).into_iter();
        parts
            .map(|(role, share)| of(role, Some(id), Some(share), Some(tokens.counted)))
            .collect::<Vec<_>>()
    };
    let earlier = context.iter().flat_map(|said| {
        let tokens = said.turn.tokens;
        let answer = of(
            "assistant",
            Some(said.id),
            Some(tokens.response),
            Some(tokens.counted),
        );
        asked(said).into_iter().chain([answer])
    });
    let begins_with_system = messages.first().is_some_and(|m| m.role == Role::System);
    let system = begins_with_system.then(|| of("system", None, None, None));
    SentReport {
        session_id: id,
        turn: said.id,
        exact: is_exact,
        request: SentReport::raw(body),
        messages: system
            .into_iter()
            .chain(earlier)
            .chain(asked(said))
            .collect(),
        strategy: settings.prune.unwrap_or(Strategy::Fifo).name(),
        warnings: Vec::new(),
    }
}

/// Returns the model that was asked. The setting may have been changed while the turn was under
/// way; the built-in model answers in the place of the one that is set.
fn asked_model<'a>(turn: &'a Turn, settings: &'a Settings) -> &'a str {
    let set = settings.model.as_deref();
    set.filter(|_| turn.model == echo::MODEL)
        .unwrap_or(&turn.model)
}

/// Returns the turns that were in the context of `said`: those in the context when it was
/// written, without those that were appended while it was under way. Where a merge brought others
/// in since, only those its writer can have known are left: its parent, what that one knew, and
/// so on.
fn seen<'a>(session: &'a Session, said: &SaidTurn) -> Vec<&'a SaidTurn> {
    let mut context = session.context();
    context.retain(|other| other.id != said.id && !said.turn.concurrent_with.contains(&other.id));
    context.retain(|other| said.turn.parent.is_some_and(|parent| other.id <= parent));
    if context.len() as u64 > said.turn.sent.turns {
        let known = known_to(session, said);
        context.retain(|other| known.contains(&other.id));
    }
    context
}

/// Follows parents and concurrent turns back from a turn.
fn known_to(session: &Session, said: &SaidTurn) -> std::collections::BTreeSet<EventId> {
    let mut known = std::collections::BTreeSet::new();
    let mut open: Vec<EventId> = said.turn.parent.into_iter().collect();
    while let Some(id) = open.pop() {
        if known.insert(id)
            && let Ok(at) = session.turns.binary_search_by_key(&id, |said| said.id)
        {
            let turn = &session.turns[at].turn;
            open.extend(turn.parent.iter().chain(&turn.concurrent_with));
        }
    }
    known
}
