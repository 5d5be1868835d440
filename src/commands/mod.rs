//! One file for each thing the program does, each a sequence of what the other modules can do.
//!
//! A command returns what is to be printed and never prints it.

mod ask;
mod compact;
mod context;
mod exchange;
mod info;
mod keep;
mod list;
mod pin;
mod place;
mod prune;
mod purge;
mod request;
mod summary;
mod turn;
mod window;

use crate::cli::{Command, Invocation};
use crate::error::{Error, Result};
use crate::ollama::Chunk;
use crate::output::{
    Compactions, Pinned, PlanReport, Pruned, Purged, SentReport, SessionInfo, SessionList,
    TurnReport,
};
use crate::warning::Warning;

/// What a command has to say.
#[derive(Debug)]
pub enum Answer {
    /// Of a turn.
    Turn(Box<TurnReport>),
    /// Of a turn that was not taken.
    Plan(Box<PlanReport>),
    /// Of the list.
    Sessions(SessionList),
    /// Of one session.
    Session(Box<SessionInfo>),
    /// Of a request that was sent.
    Sent(Box<SentReport>),
    /// Of a pin.
    Pinned(Pinned),
    /// Of a horizon that moved.
    Pruned(Pruned),
    /// Of a purge.
    Purged(Purged),
    /// Of a compaction.
    Compacted(Compactions),
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// What is printed on standard output.
    pub answer: Answer,
    /// What is worth telling besides.
    pub warnings: Vec<Warning>,
    /// What is told when more is to be said.
    pub notes: Vec<String>,
    /// What failed in spite of the answer: a reply that arrived and could not be stored.
    pub failure: Option<Error>,
}

/// Does what was asked for. `on_piece` sees each piece of a reply as it arrives.
///
/// # Errors
/// Every code of the table in [`crate::error`].
pub fn run(invocation: &Invocation, on_piece: &mut dyn FnMut(&Chunk)) -> Result<Outcome> {
    match &invocation.command {
        Command::Turn(turn) => turn::run(turn, invocation, on_piece),
        Command::ListSessions => list::run(invocation),
        Command::SessionInfo(reference) => info::run(reference, invocation),
        Command::SentContext { session, turn } => context::run(session, *turn, invocation),
        Command::Pin { turn, is_pinned } => pin::run(turn, *is_pinned, invocation),
        Command::Prune {
            session,
            strategy,
            to,
            server,
        } => prune::run(
            &prune::Wanted {
                session,
                strategy: *strategy,
                to: *to,
                server,
            },
            invocation,
        ),
        Command::Compact {
            sessions,
            drop_pruned,
        } => compact::run(sessions, *drop_pruned, invocation),
        Command::Purge(which) => purge::run(which, invocation),
        Command::Delete(ids) => purge::delete(ids, invocation),
    }
}
