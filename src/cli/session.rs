//! `ollama-prompt session VERB`: managing what is stored. The verbs as they are typed, and what
//! they ask for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::examples;
use super::find::{List, Search, Show, Stats};
use super::guarantees::expected;
use super::help::WHICH;
use super::house::{RedactArgs, RetractArgs, UpdateArgs};
use super::purge::Unused;
use super::transfer::{TypedCopy, TypedExport, TypedImport};
use super::values::{
    TypedStrategy, context_tokens, duration, path, session_of, session_ref, session_refs, source,
    turn_address, usage,
};
use super::{Command, Env, Guarantees, Selection, Server};
use crate::error::Result;
use crate::session::event::Strategy;
use crate::session::id::{Address, SessionRef};

/// The verbs of `session`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List sessions, the last used first
    #[command(after_long_help = examples::LIST)]
    List(List),
    /// Show a session: its settings and every message ever said
    #[command(after_long_help = examples::SHOW)]
    Show(Show),
    /// Search what was said in all sessions; one JSON object a line
    #[command(after_long_help = examples::SEARCH)]
    Search(Search),
    /// Add up turns, tokens and failures: in all, by model and by day
    #[command(after_long_help = examples::STATS)]
    Stats(Stats),
    /// Change title, tags, model, system prompt, budget or pruning
    #[command(after_long_help = examples::UPDATE)]
    Update(UpdateArgs),
    /// Hide a turn at once and for ever
    ///
    /// It leaves every output and every request to the model.
    #[command(after_long_help = examples::RETRACT)]
    Retract(RetractArgs),
    /// Hide text that fits a pattern at once and for ever
    ///
    /// It leaves every output and every request to the model, also after a merge.
    #[command(after_long_help = examples::REDACT)]
    Redact(RedactArgs),
    /// Keep a turn in the context, whatever leaves it
    #[command(after_long_help = examples::PIN)]
    Pin(Turn),
    /// Let a pinned turn leave the context like any other
    #[command(after_long_help = examples::UNPIN)]
    Unpin(Turn),
    /// Let turns leave the context now; the history keeps them
    ///
    /// The horizon moves; --dry-run with a turn shows what is sent.
    #[command(after_long_help = examples::PRUNE)]
    Prune(Prune),
    /// Rewrite logs without duplicates, damage and redacted text
    #[command(after_long_help = examples::COMPACT)]
    Compact(Compact),
    /// Remove sessions for good; each leaves a receipt
    #[command(after_long_help = examples::DELETE)]
    Delete(Delete),
    /// Remove sessions that were not used for a while
    ///
    /// Each leaves a receipt. Sessions with a turn under way are left and named.
    #[command(after_long_help = examples::PURGE)]
    Purge(Unused),
    /// Make a session that begins with the history of another
    ///
    /// The id of the new session is in the answer.
    #[command(after_long_help = examples::FORK)]
    Fork(Fork),
    /// Ask again for a turn that failed or was killed
    #[command(after_long_help = examples::RETRY)]
    Retry(Retry),
    /// List turns that are under way, failed or were killed
    #[command(after_long_help = examples::DRAFTS)]
    Drafts(Drafts),
    /// Print events as they are appended, one JSON object a line
    ///
    /// By any process, each once, through compaction and in sessions that are yet to come.
    #[command(after_long_help = examples::WATCH)]
    Watch(Watch),
    /// Read every log and report every problem
    ///
    /// The exit status is 9 if there is one.
    #[command(after_long_help = examples::VERIFY)]
    Verify(Verify),
    /// Rebuild the index that makes listing fast
    ///
    /// It may be deleted at any time.
    #[command(after_long_help = examples::REINDEX)]
    Reindex,
    /// Add what another copy of the store has more
    ///
    /// Merging twice adds nothing.
    #[command(after_long_help = examples::MERGE)]
    Merge(Merge),
    /// Put sessions into another store as well
    ///
    /// Either is a directory or a database. Copying again copies the rest.
    #[command(after_long_help = examples::COPY)]
    Copy(TypedCopy),
    /// Bring in conversations of other programs, and exports
    ///
    /// Importing twice adds nothing.
    #[command(after_long_help = examples::IMPORT)]
    Import(TypedImport),
    /// Write sessions out, for other programs or for people
    #[command(after_long_help = examples::EXPORT)]
    Export(TypedExport),
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
    /// How turns are chosen: fifo, importance or summarize
    ///
    /// [default: the session's way]
    #[arg(long, value_name = "STRATEGY", hide_possible_values = true)]
    strategy: Option<TypedStrategy>,
    /// Tokens that stay at the most
    ///
    /// [default: what a full context is pruned to]
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    to: Option<i64>,
}

/// `session fork`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Fork {
    /// The session, and after a colon the turn up to which
    #[arg(value_name = "ID[:TURN]")]
    parent: String,
    /// The turn up to which [default: the newest]
    #[arg(long, value_name = "TURN")]
    at: Option<String>,
}

impl Fork {
    fn command(&self) -> Result<Command> {
        let (parent, turn) = source(&self.parent, "ID")?;
        let at = self.at.as_deref().map(|text| text.parse());
        let at = at.transpose().map_err(|_| {
            usage("--at names no turn").hint("a turn's id has 26 characters, as in session show")
        })?;
        if turn.is_some() && at.is_some() {
            return Err(usage("ID:TURN and --at say the same thing twice"));
        }
        Ok(Command::Fork {
            parent,
            turn: turn.or(at),
        })
    }
}

/// `session retry`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Retry {
    /// The session, and after a colon the draft, if there are several
    #[arg(value_name = "ID[:DRAFT]")]
    draft: String,
    /// Longest silence of the server that is waited out
    ///
    /// As in 90s or 10m; the time it takes to load a model counts. [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Answer from the built-in echo model
    #[arg(long)]
    offline: bool,
    /// Ask only if TURN is the session's newest turn
    ///
    /// `none` stands for no turn yet. Otherwise the call ends with exit status 3, `turn_conflict`,
    /// and the draft stays.
    #[arg(long, value_name = "TURN")]
    expect_turn: Option<String>,
    /// Wait until no other --serialize turn is under way
    ///
    /// Others that say so are kept waiting in turn.
    #[arg(long)]
    serialize: bool,
}

impl Retry {
    fn command(&self, env: &Env) -> Result<Command> {
        let (session, draft) = source(&self.draft, "ID")?;
        let expected = self.expect_turn.as_deref().map(expected).transpose()?;
        let server = if self.offline {
            Server::Echo
        } else {
            env.server(self.timeout)?
        };
        Ok(Command::Retry {
            session,
            draft,
            server,
            guarantees: Guarantees {
                expected,
                serialize: self.serialize,
                key: None,
                patience: env.patience(self.timeout),
            },
        })
    }
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
    /// The session to watch [default: all]
    ///
    /// All are also those that are yet to come.
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
    /// Move damage aside and set permissions right
    ///
    /// Damaged bytes go to a file beside the log; nothing is discarded.
    #[arg(long)]
    repair: bool,
}

/// Another copy of the store, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Merge {
    /// The other copy: its root, or its directory `sessions`
    #[arg(value_name = "DIR", value_parser = path())]
    dir: PathBuf,
    /// Bring back sessions that were purged here
    #[arg(long)]
    include_purged: bool,
}

impl Merge {
    fn command(&self) -> Result<Command> {
        Ok(Command::Merge {
            dir: self.dir.clone(),
            include_purged: self.include_purged,
        })
    }
}

/// One session, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The session, by its id or a part of it
    ///
    /// A part has at least 8 characters, from the beginning of the id or from its end.
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
    #[arg(long, conflicts_with = "ids", help_heading = WHICH)]
    all: bool,
    /// Also drop turns that left the context or were retracted
    #[arg(long)]
    drop_pruned: bool,
}

impl Compact {
    fn command(&self) -> Result<Command> {
        Ok(Command::Compact {
            sessions: if self.all {
                Selection::All
            } else {
                Selection::These(session_refs(&self.ids)?)
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

impl Verb {
    /// Returns what the verb asks for.
    pub(super) fn command(&self, env: &Env) -> Result<Command> {
        match self {
            Self::List(list) => Ok(list.command()),
            Self::Search(search) => search.command(),
            Self::Stats(stats) => Ok(stats.command()),
            Self::Reindex => Ok(Command::Reindex),
            Self::Merge(merge) => merge.command(),
            Self::Copy(copy) => copy.command(),
            Self::Export(export) => export.command(),
            Self::Import(import) => import.command(env),
            Self::Show(show) => show.command(),
            Self::Update(update) => update.command(),
            Self::Retract(retract) => retract.command(),
            Self::Redact(redact) => redact.command(),
            Self::Pin(turn) => Ok(Command::Pin {
                turn: turn.address()?,
                is_pinned: true,
            }),
            Self::Unpin(turn) => Ok(Command::Pin {
                turn: turn.address()?,
                is_pinned: false,
            }),
            Self::Prune(prune) => prune.command(env),
            Self::Compact(compact) => compact.command(),
            Self::Delete(delete) => delete.command(),
            Self::Purge(unused) => Ok(unused.command()),
            Self::Fork(fork) => fork.command(),
            Self::Retry(retry) => retry.command(env),
            Self::Drafts(drafts) if drafts.clear => Ok(Command::ClearDrafts),
            Self::Drafts(_) => Ok(Command::Drafts),
            Self::Watch(watch) => Ok(Command::Watch {
                named: watch.id.as_deref().map(session_of).transpose()?,
                from_start: watch.from_start,
            }),
            Self::Verify(verify) => Ok(Command::Verify {
                named: session_refs(&verify.ids)?,
                repair: verify.repair,
            }),
        }
    }
}

impl Named {
    fn session(&self) -> Result<SessionRef> {
        session_of(&self.id)
    }
}

impl Turn {
    fn address(&self) -> Result<Address> {
        turn_address(&self.address)
    }
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
            server: env.server(None)?,
        })
    }
}
