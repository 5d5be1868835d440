//! A turn that is stored under the idempotency key of this call: printed again, nobody is asked.

use super::ask::Call;
use super::place::Place;
use crate::ollama::chunk::Piece;
use crate::ollama::{Chunk, Reply};
use crate::output::{ContextUsage, Outcome, TurnReport, TurnStatus};
use crate::session::fold::SaidTurn;
use crate::tokens;

/// Returns the turn as its own call printed it, as far as the log knows.
pub(super) fn outcome(
    call: &Call<'_>,
    place: &Place,
    said: SaidTurn,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Outcome {
    let SaidTurn { id, turn, .. } = said;
    let settings = call.settings(&place.snapshot.session);
    let sent = &turn.sent;
    let measured = turn.usage.prompt_eval_count;
    let at_most = sent.bytes + sent.messages * tokens::PER_MESSAGE;
    let usage = ContextUsage {
        measured: measured.is_some(),
        kept_turns: Some(sent.turns),
        num_ctx: sent.num_ctx,
        ..ContextUsage::of(measured.unwrap_or(at_most), settings.budget())
    };
    let status = TurnStatus {
        id: Some(id),
        parent: turn.parent,
        concurrent_with: turn.concurrent_with,
        stored: true,
        replayed: true,
    };
    // Where pieces are printed, this is the only one.
    on_piece(&Chunk {
        model: Some(turn.model.clone()),
        created_at: turn.usage.created_at.clone(),
        message: Some(Piece {
            content: Some(turn.response.clone()),
            thinking: turn.thinking.clone(),
            tool_calls: None,
        }),
        ..Chunk::default()
    });
    let reply = Reply {
        content: turn.response,
        thinking: turn.thinking,
        tool_calls: turn.tool_calls,
        done: true,
        done_reason: turn.done_reason,
        usage: turn.usage,
        ..Reply::default()
    };
    let report = TurnReport::new(&turn.model, reply, usage)
        .referring_to(&turn.references)
        .in_session(place.id, status);
    Outcome {
        notes: vec!["printed what is stored under the idempotency key".to_owned()],
        ..Outcome::turn(report)
    }
}
