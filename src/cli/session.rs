//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use clap::{Args, Subcommand};

use super::typed::{DEFAULT_TIMEOUT, TypedStrategy, context_tokens, session_ref};
use super::{Command, Env, usage};
use crate::error::{Error, Result};
use crate::session::event::Strategy;
use crate::session::id::{Address, SessionRef};

/// The verbs of `session`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all sessions, the last used first
    List,
    /// Show a session: its settings and every message ever said
    Show(Show),
    /// Keep a turn in the context, whatever leaves it
    Pin(Turn),
    /// Let a pinned turn leave the context like any other
    Unpin(Turn),
    /// Move the horizon now: let turns leave the context, not the history
    Prune(Prune),
}

/// `session show`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    named: Named,
    /// Print the exact request that was sent for a turn (the newest, if none is named)
    #[arg(long, value_name = "TURN", num_args = 0..=1, require_equals = true, default_missing_value = "newest")]
    context: Option<String>,
}

/// A turn, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Turn {
    /// The session and the turn
    #[arg(value_name = "ID:TURN")]
    address: String,
}

/// `session prune`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Prune {
    #[command(flatten)]
    named: Named,
    /// How turns are chosen: fifo, importance or summarize [default: the session's]
    #[arg(long, value_name = "STRATEGY", hide_possible_values = true)]
    strategy: Option<TypedStrategy>,
    /// Tokens that stay at the most [default: what a full context is pruned to]
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    to: Option<i64>,
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
    pub(super) fn command(&self, env: &Env) -> Result<Command> {
        match self {
            Self::List => Ok(Command::ListSessions),
            Self::Show(show) => show.command(),
            Self::Pin(turn) => Ok(Command::Pin {
                turn: turn.address()?,
                is_pinned: true,
            }),
            Self::Unpin(turn) => Ok(Command::Pin {
                turn: turn.address()?,
                is_pinned: false,
            }),
            Self::Prune(prune) => prune.command(env),
        }
    }
}

impl Named {
    fn session(&self) -> Result<SessionRef> {
        session_ref(&self.id, "ID")
    }
}

impl Show {
    fn command(&self) -> Result<Command> {
        let session = self.named.session()?;
        let turn = match self.context.as_deref() {
            None => return Ok(Command::SessionInfo(session)),
            Some("newest") => None,
            Some(text) => Some(text.parse().map_err(|_| no_turn(text))?),
        };
        Ok(Command::SentContext { session, turn })
    }
}

impl Turn {
    fn address(&self) -> Result<Address> {
        self.address.parse().map_err(|_| no_turn(&self.address))
    }
}

fn no_turn(text: &str) -> Error {
    let shown: String = text.chars().take(120).collect();
    usage(format!("{shown:?} names no turn"))
        .hint("a turn is written ID:TURN, as in session show; its own id has 26 characters")
}

impl Prune {
    fn command(&self, env: &Env) -> Result<Command> {
        if self.strategy == Some(TypedStrategy::Off) {
            return Err(usage("--strategy off lets nothing leave").hint(
                "fifo, importance or summarize; --prune off with a turn changes the session",
            ));
        }
        let to = self
            .to
            .map(context_tokens)
            .transpose()
            .map_err(|why| usage(format!("--to {why}")))?;
        Ok(Command::Prune {
            session: self.named.session()?,
            strategy: self.strategy.map(Strategy::from),
            to,
            server: env.server(DEFAULT_TIMEOUT),
        })
    }
}
