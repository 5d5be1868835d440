//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use clap::{Args, Subcommand};

use super::Command;
use super::typed::session_ref;
use crate::error::Result;

/// The verbs of `session`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all sessions, the last used first
    List,
    /// Show a session: its settings and every message ever said
    Show(Named),
    /// Rebuild the index that makes listing fast; it may be deleted at any time
    Reindex,
}

/// One session, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The session: its id, or at least 8 characters from its beginning or end
    #[arg(value_name = "ID")]
    id: String,
}

impl Verb {
    /// Returns what the verb asks for.
    pub(super) fn command(&self) -> Result<Command> {
        match self {
            Self::List => Ok(Command::ListSessions),
            Self::Reindex => Ok(Command::Reindex),
            Self::Show(named) => Ok(Command::SessionInfo(session_ref(&named.id, "ID")?)),
        }
    }
}
