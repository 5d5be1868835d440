//! One file for each thing the program does, each a sequence of what the other modules can do.
//!
//! A command returns what is to be printed and never prints it.

mod ask;
mod cleanup;
mod compact;
mod context;
mod copy;
mod drafts;
mod exchange;
mod expected;
mod export;
mod fork;
mod guards;
mod import;
mod info;
mod keep;
mod key;
mod list;
mod merge;
mod messages;
mod named;
mod pin;
mod place;
mod prune;
mod purge;
mod recall;
mod redact;
mod replay;
mod request;
mod retract;
mod retry;
mod search;
mod stats;
mod summary;
mod template;
mod turn;
mod update;
mod verify;
mod watch;
mod window;
mod withhold;

use crate::cli::{Command, Export, Invocation, Output};
use crate::error::Result;
use crate::ollama::Chunk;
use crate::output::{Described, Outcome};
use crate::progress::Progress;

/// Does what was asked for. `on_piece` sees each piece of a reply as it arrives, `progress` how far
/// long work has come.
///
/// # Errors
/// Every code of the table in [`crate::error`].
pub fn run(
    invocation: &Invocation,
    progress: &Progress,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    match &invocation.command {
        Command::Turn(turn) => turn::run(turn, invocation, on_piece),
        Command::PrintSchema(shape) => Ok(Outcome::report(Described::of(*shape))),
        Command::ListSessions(wanted) => list::run(wanted, progress, invocation),
        Command::Search(wanted) => search::run(wanted, progress, invocation),
        Command::Stats(wanted) => stats::run(wanted, progress, invocation),
        Command::Merge {
            dir,
            include_purged,
        } => merge::run(dir, *include_purged, progress, invocation),
        Command::Copy(copying) => copy::run(copying, progress, invocation),
        Command::Export(export) => export::run(export, invocation),
        Command::Import(import) => import::run(import, progress, invocation),
        Command::Reindex => list::reindex(progress, invocation),
        Command::SessionInfo(wanted) if invocation.output == Output::Html => {
            export::run(&Export::page(&wanted.session), invocation)
        }
        Command::SessionInfo(wanted) => info::run(wanted, invocation),
        Command::SentContext { session, turn } => context::run(session, *turn, invocation),
        Command::Pin { turn, is_pinned } => pin::run(turn, *is_pinned, invocation),
        Command::Update(update) => update::run(update, invocation),
        Command::Redact(redact) => redact::run(redact, invocation),
        Command::Retract(retract) => retract::run(retract, invocation),
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
        } => compact::run(sessions, *drop_pruned, progress, invocation),
        Command::Purge(which) => purge::run(which, invocation),
        Command::Cleanup(cleanup) => cleanup::run(cleanup, invocation),
        Command::Delete(ids) => purge::delete(ids, invocation),
        Command::Templates(asked) => template::run(asked, invocation),
        Command::Fork { parent, turn } => fork::run(parent, *turn, invocation),
        Command::Retry {
            session,
            draft,
            server,
            guarantees,
        } => {
            let wanted = retry::Wanted {
                session,
                draft: *draft,
                server,
                guarantees,
            };
            retry::run(&wanted, invocation, on_piece)
        }
        Command::Drafts => drafts::list(invocation),
        Command::ClearDrafts => drafts::clear(invocation),
        Command::Watch { named, from_start } => watch::run(named.as_ref(), *from_start, invocation),
        Command::Verify { named, repair } => verify::run(named, *repair, progress, invocation),
    }
}
