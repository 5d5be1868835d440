//! From what was typed to what was asked for.
//!
//! [`Typed`] mirrors the flags and only checks spelling; [`Env`] is the environment, read there
//! and nowhere else; [`Config`] is what `config.toml` says. Together they become an
//! [`Invocation`], which cannot express a combination that means nothing. Nothing here touches the
//! disk, the network or the clock.

mod attachments;
pub(crate) mod config;
mod display;
mod env;
mod examples;
mod find;
mod guarantees;
mod help;
mod house;
mod later;
mod manual;
mod misspelt;
mod options;
mod purge;
mod references;
mod session;
mod templates;
#[cfg(test)]
mod tests;
mod transfer;
mod typed;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, ValueEnum};
use serde_json::{Map, Value};

pub use config::{Config, KEYS};
pub use display::{Color, Shape};
pub use env::{Env, VARIABLES};
pub use find::{
    ListWanted, Moment, Part, SearchWanted, SessionFilter, ShowWanted, Sort, Span, StatsWanted,
    Told,
};
pub use guarantees::{Expected, Guarantees};
pub use house::{Condition, Redact, Retract, Sought, Update};
pub use options::in_force;
pub use purge::{Cleanup, Purge};
pub use templates::{Begin, Save, Templates};
pub use transfer::{Copying, Export, ExportForm, Import};
pub use typed::Typed;

use self::misspelt::misspelt;
use crate::error::{Code, Error, Result};
use crate::prompt::attachments::Attached;
use crate::prompt::{Rules, Source};
use crate::session::event::{Settings, Strategy};
use crate::session::id::{Address, EventId, SessionId, SessionRef};
use crate::store::{Durability, Location, Uri};

/// The form in which a result is printed. Not every command has every form: [`Command::forms`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One indented object.
    Json,
    /// One object on one line.
    Compact,
    /// A line for each chunk as it arrives, the last one the whole object.
    Jsonl,
    /// The reply only, as it arrives; of a session, what was said, for people.
    Text,
    /// A table for people.
    Table,
    /// Markdown.
    Markdown,
    /// A page of its own.
    Html,
    /// A drawing.
    Svg,
}

impl Output {
    /// Returns the name, as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Compact => "compact",
            Self::Jsonl => "jsonl",
            Self::Text => "text",
            Self::Table => "table",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Svg => "svg",
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// One turn.
    Turn(Box<Turn>),
    /// The JSON Schema of something that is printed or stored.
    PrintSchema(Shape),
    /// Sessions.
    ListSessions(ListWanted),
    /// What was said, where something is found in it.
    Search(SearchWanted),
    /// How much was asked and answered.
    Stats(StatsWanted),
    /// The index of sessions, made anew.
    Reindex,
    /// The union with another copy of the store.
    Merge {
        /// Its root, or its directory of sessions.
        dir: PathBuf,
        /// Whether sessions that were purged here come back.
        include_purged: bool,
    },
    /// Sessions that are to be in another store as well.
    Copy(Copying),
    /// Sessions for other programs and for people.
    Export(Export),
    /// Conversations of other programs, and exports of this one.
    Import(Import),
    /// One session.
    SessionInfo(ShowWanted),
    /// The exact request that was sent for a turn.
    SentContext {
        /// The session.
        session: SessionRef,
        /// The turn; the newest where absent.
        turn: Option<EventId>,
    },
    /// A turn that is to stay in the context, or no longer.
    Pin {
        /// The turn.
        turn: Address,
        /// Whether it is to stay.
        is_pinned: bool,
    },
    /// Settings of sessions that are to change.
    Update(Box<Update>),
    /// Text that is to be hidden for ever.
    Redact(Box<Redact>),
    /// A turn that is to be hidden for ever.
    Retract(Retract),
    /// A horizon that is to move now.
    Prune {
        /// The session.
        session: SessionRef,
        /// How turns are chosen; the session's own way where absent.
        strategy: Option<Strategy>,
        /// Tokens that stay at the most.
        to: Option<u64>,
        /// Who is asked for a summary, if there is to be one.
        server: Server,
    },
    /// Logs rewritten without what nobody can miss.
    Compact {
        /// Of which sessions.
        sessions: Selection,
        /// Whether turns that are not sent any more go as well.
        drop_pruned: bool,
    },
    /// A session that begins with the history of another.
    Fork {
        /// The other.
        parent: SessionRef,
        /// The turn up to which; the newest where absent.
        turn: Option<EventId>,
    },
    /// A turn that failed or was killed, asked for again.
    Retry {
        /// Its session, which need not exist.
        session: SessionRef,
        /// Its draft, where there are several.
        draft: Option<EventId>,
        /// Who is asked.
        server: Server,
        /// What it promises about others of its session; its key is the draft's.
        guarantees: Guarantees,
    },
    /// All drafts.
    Drafts,
    /// The end of the drafts nobody holds.
    ClearDrafts,
    /// Events as they are appended.
    Watch {
        /// The session; none is all of them.
        named: Option<SessionRef>,
        /// Whether to begin with the events there are.
        from_start: bool,
    },
    /// What is wrong with the store.
    Verify {
        /// The sessions to look at; none is the whole store.
        named: Vec<SessionRef>,
        /// Whether to put it right.
        repair: bool,
    },
    /// The end of sessions that were not used for a while.
    Purge(Purge),
    /// The end of sessions that were not used for a while, again and again.
    Cleanup(Cleanup),
    /// The end of these sessions.
    Delete(Vec<SessionId>),
    /// Something about templates.
    Templates(Templates),
}

impl Command {
    /// Tells whether it may last before a model is asked, or without one being asked: it reads
    /// what others write, or looks at all of the store.
    #[must_use]
    pub fn may_last(&self) -> bool {
        // A text may refer to standard input, or to a tree that is searched.
        let may_last = |source: &Source| match source {
            Source::Text(text) => text.contains('@'),
            Source::Stdin | Source::File(_) => true,
            Source::Absent => false,
        };
        match self {
            Self::Turn(turn) => {
                may_last(&turn.prompt)
                    || turn.system.as_ref().is_some_and(may_last)
                    || turn.attached.may_last()
            }
            // These look for signals themselves.
            Self::Watch { .. } => false,
            Self::Cleanup(cleanup) => cleanup.every.is_none(),
            Self::PrintSchema(_) => false,
            _ => true,
        }
    }

    /// Returns the forms in which its result can be printed.
    #[must_use]
    pub fn forms(&self) -> &'static [Output] {
        use Output::{Compact, Html, Json, Jsonl, Markdown, Svg, Table, Text};
        match self {
            Self::Turn(turn) if turn.dry_run => &[Json, Compact],
            Self::Turn(_) | Self::Retry { .. } => &[Json, Compact, Jsonl, Text],
            Self::Watch { .. } | Self::Cleanup(_) => &[Json, Compact, Jsonl],
            Self::Templates(Templates::List) => &[Json, Compact, Table],
            Self::Search(_) => &[Json, Compact, Jsonl, Text],
            Self::SessionInfo(wanted) if wanted.part == Part::All => {
                &[Json, Compact, Jsonl, Text, Markdown, Html]
            }
            Self::SessionInfo(_) => &[Json, Compact, Jsonl, Text, Markdown],
            Self::Stats(_) => &[Json, Compact, Table, Svg],
            Self::ListSessions(_) => &[Json, Compact, Table],
            _ => &[Json, Compact],
        }
    }
}

/// Some sessions, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every session of the store.
    All,
    /// These.
    These(Vec<SessionRef>),
}

/// What a turn needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Where the user's message comes from.
    pub prompt: Source,
    /// How what it refers to is put in.
    pub references: Rules,
    /// Where the system prompt comes from, if one was given.
    pub system: Option<Source>,
    /// The session it belongs to.
    pub memory: Memory,
    /// The model, if one was given by a flag.
    pub model: Option<String>,
    /// The context budget in tokens, if one was given by a flag.
    pub max_context_tokens: Option<u64>,
    /// The template it begins with.
    pub begin: Option<Begin>,
    /// What a new session begins with where neither flag nor template says otherwise.
    pub defaults: Settings,
    /// How turns leave the context, if that was given by a flag.
    pub prune: Option<Strategy>,
    /// Whether only to say what would be sent.
    pub dry_run: bool,
    /// The options of the request that were given by flags.
    pub options: Map<String, Value>,
    /// Whether to think, and how much.
    pub think: Option<Value>,
    /// What it carries besides its text.
    pub attached: Attached,
    /// Who is asked.
    pub server: Server,
    /// What it promises about others of its session.
    pub guarantees: Guarantees,
}

/// The session a turn belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// None: nothing is read or written.
    None,
    /// A new one.
    New,
    /// One that must be there.
    Continue(SessionRef),
    /// The one used last.
    Latest,
    /// One that is made if it is not there.
    ContinueOrCreate(SessionId),
    /// A new one that begins with the history of another.
    Fork {
        /// The other.
        parent: SessionRef,
        /// The turn up to which; the newest where absent.
        turn: Option<EventId>,
    },
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The built-in echo model.
    Echo,
    /// A server.
    Ollama {
        /// What `OLLAMA_HOST` says.
        host: String,
        /// What `OLLAMA_API_KEY` says.
        api_key: Option<String>,
        /// The longest silence that is waited out.
        silence: Duration,
    },
}

/// A command and what holds for every command.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What was asked for.
    pub command: Command,
    /// How it is printed.
    pub output: Output,
    /// The directory of `config.toml` and templates, and of sessions where no database has them.
    pub store: StoreRoot,
    /// The database that has the sessions, or why what was given cannot be one.
    pub database: Option<std::result::Result<Uri, &'static str>>,
    /// Where the Python tool of the same name kept its sessions, if it did.
    pub old_databases: Vec<PathBuf>,
    /// Whether a turn is synced before it is acknowledged.
    pub durability: Durability,
    /// The longest wait for a lock.
    pub lock_timeout: Duration,
    /// Whether what people read has colour.
    pub color: Color,
    /// Regular expressions of what is never to be stored.
    pub redact: Vec<String>,
    /// How much is said on standard error: 0 is nothing but failures, 1 the usual, 2 more.
    pub verbosity: u8,
}

impl Invocation {
    /// Returns where the sessions are.
    ///
    /// # Errors
    /// `config` when the environment names no place, or one that is none.
    pub fn location(&self) -> Result<Location> {
        match &self.database {
            None => Ok(Location::Files(self.store.path()?.to_owned())),
            Some(Ok(uri)) => Location::Database(uri.clone()).in_this_build(
                "OLLAMA_PROMPT_DB_URI",
                "unset it to keep sessions in the files under ~/.ollama-prompt",
            ),
            // Its value may have a password in it.
            Some(Err(why)) => Err(Error::new(
                Code::Config,
                format!("OLLAMA_PROMPT_DB_URI cannot be used: {why}"),
            )
            .hint("correct or unset OLLAMA_PROMPT_DB_URI")),
        }
    }
}

/// The root of the store, or why there is none: `--no-session` does not need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRoot {
    /// A directory, which may have to be made.
    At(PathBuf),
    /// The sentence and the hint of the `config` error.
    Unknown(&'static str, &'static str),
}

impl StoreRoot {
    /// Returns the directory.
    ///
    /// # Errors
    /// `config` when the environment names none.
    pub fn path(&self) -> Result<&Path> {
        match self {
            Self::At(path) => Ok(path),
            Self::Unknown(sentence, hint) => Err(Error::new(Code::Config, *sentence).hint(*hint)),
        }
    }
}

/// What parsing the command line gives.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do; [`Typed::asks_for`] says what.
    Typed(Box<Typed>),
    /// A text that was asked for: help, version, completions, the manual page.
    Text(String),
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// `usage`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed> {
    let matches = Typed::command().try_get_matches_from(arguments);
    match matches.and_then(|matches| Typed::from_arg_matches(&matches)) {
        Ok(typed) => Ok(match typed.text() {
            Some(text) => Parsed::Text(text),
            None => Parsed::Typed(Box::new(typed)),
        }),
        Err(error) if !error.use_stderr() => Ok(Parsed::Text(error.render().to_string())),
        Err(error) => Err(misspelt(&error)),
    }
}

/// Returns every verb that does something, with the words it is called by, in the order of the
/// help.
#[must_use]
pub fn verbs() -> Vec<(String, clap::Command)> {
    manual::verbs(Typed::command())
}

/// Returns whether what people read has colour, as far as that can be told before arguments and
/// environment are understood: it is how they are told that they were not.
#[must_use]
pub fn color_in(arguments: &[OsString]) -> Color {
    Color::of(Color::spelled_out(arguments), env::forbids_color())
}

fn bad_variable(name: &str, value: &str, why: &str) -> Error {
    Error::new(
        Code::Config,
        format!("{name}={value} cannot be used: {why}"),
    )
    .hint(format!("correct or unset {name}"))
}
