//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::typed::session_ref;
use super::{Command, DAY, Purge, Selection, age, usage};
use crate::error::Result;
use crate::session::id::SessionRef;

/// The verbs of `session`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all sessions, the last used first
    List,
    /// Show a session: its settings and every message ever said
    Show(Named),
    /// Rewrite the logs of sessions without duplicates, damage and redacted text
    Compact(Compact),
    /// Remove sessions for good; each leaves a receipt
    Delete(Delete),
    /// Remove sessions that were not used for a while; each leaves a receipt
    Purge(Unused),
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

/// What is to be removed, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The sessions, by their full ids
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl Delete {
    fn command(&self) -> Result<Command> {
        let full = |text: &String| match session_ref(text, "ID")? {
            SessionRef::Full(id) => Ok(id),
            SessionRef::Fragment(part) => Err(usage(format!(
                "delete needs full session ids, and `{part}` is none"
            ))
            .hint("ollama-prompt --list-sessions shows them")),
        };
        Ok(Command::Delete(
            self.ids.iter().map(full).collect::<Result<_>>()?,
        ))
    }
}

/// Which sessions are to be removed, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Unused {
    /// For how long they were not used, as in 30d or 12h; 0 removes all
    #[arg(long, value_name = "AGE", value_parser = age, allow_hyphen_values = true)]
    older_than: Duration,
    /// Only those that ask this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only those that have this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Only say which would go
    #[arg(long)]
    dry_run: bool,
}

/// Returns a length of time as it may be typed: whole days as days.
fn short(age: Duration) -> String {
    match age.as_secs() {
        0 => "0".to_owned(),
        seconds if seconds % DAY == 0 && age.subsec_nanos() == 0 => format!("{}d", seconds / DAY),
        _ => humantime::format_duration(age).to_string(),
    }
}

impl Unused {
    fn command(&self) -> Command {
        let Self {
            older_than,
            model,
            tag,
            dry_run,
        } = self;
        let mut asked = format!("session purge --older-than {}", short(*older_than));
        for (flag, value) in [("--model", model), ("--tag", tag)] {
            asked.extend(value.iter().map(|value| format!(" {flag} {value}")));
        }
        Command::Purge(Purge {
            unused_for: *older_than,
            model: model.clone(),
            tag: tag.clone(),
            dry_run: *dry_run,
            asked,
        })
    }
}

impl Verb {
    /// Returns what the verb asks for.
    pub(super) fn command(&self) -> Result<Command> {
        match self {
            Self::List => Ok(Command::ListSessions),
            Self::Compact(compact) => compact.command(),
            Self::Delete(delete) => delete.command(),
            Self::Purge(unused) => Ok(unused.command()),
            Self::Show(named) => Ok(Command::SessionInfo(session_ref(&named.id, "ID")?)),
        }
    }
}
