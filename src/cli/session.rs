//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use clap::{Args, Subcommand};

use super::Command;
use super::typed::session_ref;
use crate::error::Result;
use crate::session::id::SessionRef;

/// The verbs of `session`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all sessions, the last used first
    List,
    /// Show a session: its settings and every message ever said
    Show(Named),
    /// List turns that are under way, failed or were killed
    Drafts(Drafts),
    /// Print events as they are appended, by any process, one JSON object a line
    Watch(Watch),
    /// Read every log and report every problem; exit status 9 if there is one
    Verify(Verify),
}

/// What to do with drafts, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Drafts {
    /// Remove those of turns that failed or were killed
    #[arg(long)]
    clear: bool,
}

/// What is watched, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The session to watch; all, and those that are yet to come, if none is given
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Begin with the events there are
    #[arg(long)]
    from_start: bool,
}

/// What `verify` looks at, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Sessions to look at; all of the store if none is given
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Move damaged bytes to a file beside the log and set permissions right; nothing is discarded
    #[arg(long)]
    repair: bool,
}

/// One session, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The session: its id, or at least 8 characters from its beginning or end
    #[arg(value_name = "ID")]
    id: String,
}

fn session_refs(ids: &[String]) -> Result<Vec<SessionRef>> {
    ids.iter().map(|id| session_ref(id, "ID")).collect()
}

impl Verb {
    /// Returns what the verb asks for.
    pub(super) fn command(&self) -> Result<Command> {
        match self {
            Self::List => Ok(Command::ListSessions),
            Self::Show(named) => Ok(Command::SessionInfo(session_ref(&named.id, "ID")?)),
            Self::Drafts(drafts) if drafts.clear => Ok(Command::ClearDrafts),
            Self::Drafts(_) => Ok(Command::Drafts),
            Self::Watch(watch) => Ok(Command::Watch {
                named: watch
                    .id
                    .as_ref()
                    .map(|id| session_ref(id, "ID"))
                    .transpose()?,
                from_start: watch.from_start,
            }),
            Self::Verify(verify) => Ok(Command::Verify {
                named: session_refs(&verify.ids)?,
                repair: verify.repair,
            }),
        }
    }
}
