//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use std::path::PathBuf;

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
    /// Add what another copy of the store has more; merging twice adds nothing
    Merge(Merge),
}

/// Another copy of the store, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// The other copy: its root, or its directory `sessions`
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Bring back sessions that were purged here
    #[arg(long)]
    include_purged: bool,
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
            Self::Merge(merge) => Ok(Command::Merge {
                dir: merge.dir.clone(),
                include_purged: merge.include_purged,
            }),
            Self::Show(named) => Ok(Command::SessionInfo(session_ref(&named.id, "ID")?)),
        }
    }
}
