//! One file for each thing the program does, each a sequence of what the other modules can do.
//!
//! A command returns what is to be printed and never prints it.

mod exchange;
mod info;
mod keep;
mod list;
mod merge;
mod place;
mod purge;
mod request;
mod turn;

use crate::cli::{Command, Invocation};
use crate::error::{Error, Result};
use crate::ollama::Chunk;
use crate::output::{MergeReport, Purged, Reindexed, SessionInfo, SessionList, TurnReport};
use crate::warning::Warning;

/// What a command has to say.
#[derive(Debug)]
pub enum Answer {
    /// Of a turn.
    Turn(Box<TurnReport>),
    /// Of the list.
    Sessions(SessionList),
    /// Of one session.
    Session(Box<SessionInfo>),
    /// Of a purge.
    Purged(Purged),
    /// Of a merge.
    Merged(MergeReport),
    /// Of an index made anew.
    Reindexed(Reindexed),
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// What is printed on standard output.
    pub answer: Answer,
    /// What is worth telling besides.
    pub warnings: Vec<Warning>,
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
        Command::Merge {
            dir,
            include_purged,
        } => merge::run(dir, *include_purged, invocation),
        Command::Reindex => list::reindex(invocation),
        Command::SessionInfo(reference) => info::run(reference, invocation),
        Command::Purge { days } => purge::run(*days, invocation),
    }
}
