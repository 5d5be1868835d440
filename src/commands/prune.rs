//! Moving the horizon now, without a turn.

use super::ask::backend;
use super::keep::{Choice, Horizon};
use super::named;
use super::summary;
use super::withhold::Withhold;
use crate::cli::{Invocation, Server};
use crate::error::{Code, Error, Result};
use crate::output::{Outcome, Pruned};
use crate::session::attachment::belong_together;
use crate::session::context::{Budget, Candidate, Order, Plan, USUAL_REPLY, drop_until};
use crate::session::event::{Body, Settings, Strategy};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::{SessionId, SessionRef};
use crate::session::importance::{Said, scores};
use crate::store::Store;
use crate::store::append::refuse_newer;
use crate::store::snapshot::{Extent, Snapshot};
use crate::warning::Warning;

/// What is asked for.
pub(super) struct Wanted<'a> {
    pub(super) session: &'a SessionRef,
    pub(super) strategy: Option<Strategy>,
    pub(super) to: Option<u64>,
    pub(super) server: &'a Server,
}

/// Lets turns leave the context until no more than a number of tokens stay.
///
/// # Errors
/// `session_*`, `store_*`; with a summary those of a server that cannot be asked.
pub(super) fn run(wanted: &Wanted<'_>, invocation: &Invocation) -> Result<Outcome> {
    let reference = wanted.session;
    let store = named::store_of(reference, invocation)?;
    let (id, snapshot) = named::read(&*store, reference, Extent::Context)?;
    refuse_newer(&snapshot.session, id)?;
    let session = snapshot.session.clone();
    let strategy = wanted
        .strategy
        .or(session.settings.prune)
        .unwrap_or_default();
    let budget = session.settings.max_context_tokens;
    let to = wanted.to.or(budget.map(usual_rest));
    let to = to.ok_or_else(|| no_budget(id))?;
    let context = session.context();
    let plan = choose(&session, &context, strategy, to);
    let (kept, dropped): (Vec<_>, Vec<_>) =
        context.iter().zip(&plan.keep).partition(|(_, keep)| **keep);
    let dropped: Vec<&SaidTurn> = dropped.into_iter().map(|(said, _)| *said).collect();

    let mut warnings = Vec::new();
    let withhold = Withhold::new(&invocation.redact)?;
    let earlier = session.summary().map(str::to_owned);
    let summary = if strategy == Strategy::Summarize && !dropped.is_empty() {
        sum_up(
            wanted.server,
            &session.settings,
            earlier.as_deref(),
            &dropped,
            &mut warnings,
        )?
    } else {
        None
    };
    let summary = summary.map(|summary| withhold.text(summary));
    warnings.extend(withhold.warning());
    let has_summary = summary.is_some();
    let choice = Choice {
        kept: kept.iter().map(|(said, _)| said.id).collect(),
        dropped_tokens: dropped.iter().map(|said| cost(said)).sum(),
        strategy,
        summary: summary.or(earlier),
        budget: budget.unwrap_or(to),
        again: false,
    };
    let before = session.context_tokens();
    if let Some(horizon) = Horizon::of(&session, choice) {
        move_to(&horizon, id, snapshot, &*store, invocation)?;
    }
    let pruned = Pruned {
        session_id: id,
        strategy: strategy.name(),
        tokens_before: before,
        tokens_after: plan.tokens,
        kept_turns: kept.len() as u64,
        newly_dropped_turns: dropped.len() as u64,
        dropped_turns: session.turn_count() - kept.len() as u64,
        summarized: has_summary,
        warnings: Vec::new(),
    };
    Ok(Outcome {
        warnings,
        ..Outcome::report(pruned)
    })
}

/// Returns the tokens that stay when a turn makes room in a budget.
fn usual_rest(budget: u64) -> u64 {
    Budget::new(budget, USUAL_REPLY).low_water()
}

fn no_budget(id: SessionId) -> Error {
    Error::new(Code::Usage, format!("the session {id} has no budget"))
        .hint("say with --to how many tokens may stay in the context")
        .session(id)
}

fn cost(said: &SaidTurn) -> u64 {
    said.turn.tokens.prompt + said.turn.tokens.response
}

/// Appends a horizon, without its summary where something was redacted meanwhile.
fn move_to(
    horizon: &Horizon,
    id: SessionId,
    snapshot: Snapshot,
    store: &dyn Store,
    invocation: &Invocation,
) -> Result<()> {
    let writable = store.for_writing(invocation.lock_timeout)?;
    let writer = writable.writer(id)?;
    let known = snapshot.session.redactions();
    let appended = writer.append(snapshot, invocation.durability, |found| {
        let horizon = horizon.clone();
        let horizon = horizon.with_summary(found.session.redactions() == known);
        let settings = found.session.settings.clone();
        Ok(vec![Body::Prune(horizon.event(found.session, settings))])
    });
    appended.map(drop)
}

fn choose(session: &Session, context: &[&SaidTurn], strategy: Strategy, to: u64) -> Plan {
    let candidate = |(said, with_previous): (&&SaidTurn, bool)| Candidate {
        tokens: cost(said),
        is_pinned: session.settings.is_pinned(said.id),
        with_previous,
    };
    let together = belong_together(context.iter().map(|said| (said.id, &said.turn)));
    let candidates: Vec<Candidate> = context.iter().zip(together).map(candidate).collect();
    if strategy != Strategy::Importance {
        return drop_until(&candidates, 0, to, Order::Oldest);
    }
    let said = context.iter().map(|said| Said {
        prompt: &said.turn.prompt,
        response: &said.turn.response,
        tokens: cost(said),
    });
    let said: Vec<Said<'_>> = said.collect();
    drop_until(
        &candidates,
        0,
        to,
        Order::LeastImportant(&scores(&said, "")),
    )
}

fn sum_up(
    server: &Server,
    settings: &Settings,
    earlier: Option<&str>,
    turns: &[&SaidTurn],
    warnings: &mut Vec<Warning>,
) -> Result<Option<String>> {
    let num_ctx = turns.last().and_then(|said| said.turn.sent.num_ctx);
    match summary::of(
        &backend(server)?,
        settings.model.as_deref().unwrap_or_default(),
        num_ctx,
        earlier,
        turns,
    ) {
        Ok(summary) => Ok(Some(summary)),
        Err(error) if summary::ends_the_turn(&error) => Err(error),
        Err(error) => {
            warnings.push(Warning::NotSummarized {
                cause: error.to_string(),
            });
            Ok(None)
        }
    }
}
