//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use clap::{Args, Subcommand};

use super::typed::session_ref;
use super::{Command, Selection};
use crate::error::Result;

/// The verbs of `session`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all sessions, the last used first
    List,
    /// Show a session: its settings and every message ever said
    Show(Named),
    /// Rewrite the logs of sessions without duplicates, damage and redacted text
    Compact(Compact),
}

/// One session, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The session: its id, or at least 8 characters from its beginning or end
    #[arg(value_name = "ID")]
    id: String,
}

/// What is to be compacted, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Compact {
    /// The sessions
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// Compact every session
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Also drop turns that left the context and turns that were retracted
    #[arg(long)]
    drop_pruned: bool,
}

impl Compact {
    fn command(&self) -> Result<Command> {
        let ids = self.ids.iter().map(|id| session_ref(id, "ID"));
        Ok(Command::Compact {
            sessions: if self.all {
                Selection::All
            } else {
                Selection::These(ids.collect::<Result<_>>()?)
            },
            drop_pruned: self.drop_pruned,
        })
    }
}

impl Verb {
    /// Returns what the verb asks for.
    pub(super) fn command(&self) -> Result<Command> {
        match self {
            Self::List => Ok(Command::ListSessions),
            Self::Compact(compact) => compact.command(),
            Self::Show(named) => Ok(Command::SessionInfo(session_ref(&named.id, "ID")?)),
        }
    }
}
