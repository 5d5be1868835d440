//! `session export`, `session import` and `session copy`: what goes out and comes in, as it is
//! typed.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::help::WHICH;
use super::values::{path, session_refs, usage};
use super::{Command, Env, Selection};
use crate::error::Result;
use crate::import::Kind;
use crate::session::id::SessionRef;
use crate::store::uri::is_meant;
use crate::store::{Location, Uri};

/// The form in which sessions leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// Every event as it is stored: nothing is lost, and `session import` reads it.
    Jsonl,
    /// A text for people.
    Markdown,
    /// A page for each session, with everything it needs in it.
    Html,
    /// A line of chat messages for each session, as OpenAI's tools read it.
    #[value(name = "openai")]
    OpenAi,
}

impl ExportForm {
    /// Returns what a file of this form is called after the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl | Self::OpenAi => "jsonl",
            Self::Markdown => "md",
            Self::Html => "html",
        }
    }
}

/// What is exported, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Which sessions.
    pub sessions: Selection,
    /// In which form.
    pub to: ExportForm,
    /// The file or directory; standard output where absent.
    pub out: Option<PathBuf>,
}

impl Export {
    /// Returns the page of a session, on standard output.
    #[must_use]
    pub fn page(session: &SessionRef) -> Self {
        Self {
            sessions: Selection::These(vec![session.clone()]),
            to: ExportForm::Html,
            out: None,
        }
    }
}

/// `session export`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct TypedExport {
    /// The sessions
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// Export every session
    #[arg(long, conflicts_with = "ids", help_heading = WHICH)]
    all: bool,
    /// In which form: jsonl, markdown, html or openai
    ///
    /// jsonl loses nothing, and session import reads it; markdown is a text for people, html a page
    /// for each session, with everything it needs in it; openai is chat JSONL. [default: jsonl]
    #[arg(
        long,
        value_name = "FORM",
        default_value = "jsonl",
        hide_default_value = true,
        hide_possible_values = true
    )]
    to: ExportForm,
    /// Write to this file, or into this directory
    ///
    /// A directory gets a file for each session; a path that ends in a slash is one. [default: standard output]
    #[arg(long, value_name = "PATH", value_parser = path())]
    out: Option<PathBuf>,
}

impl TypedExport {
    pub(super) fn command(&self) -> Result<Command> {
        Ok(Command::Export(Export {
            sessions: if self.all {
                Selection::All
            } else {
                Selection::These(session_refs(&self.ids)?)
            },
            to: self.to,
            out: self.out.clone(),
        }))
    }
}

/// What is imported, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The file or directory, or `-`; absent, the database of the Python tool where it lies.
    pub source: Option<PathBuf>,
    /// What it is; judged by its content where absent.
    pub from: Option<Kind>,
    /// The model of sessions whose source names none.
    pub model: Option<String>,
    /// Whether sessions that were purged here come back.
    pub include_purged: bool,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// The context budget of sessions whose source says none, in tokens.
    pub max_context_tokens: u64,
    /// Where the Python tool keeps its database.
    pub known_places: Vec<PathBuf>,
}

/// `session import`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct TypedImport {
    /// A file, a directory of files, or `-` for standard input
    ///
    /// With --from python it may be left out: the database is looked for where the tool kept it.
    #[arg(value_name = "SOURCE", value_parser = path(), required_unless_present = "from")]
    source: Option<PathBuf>,
    /// What it is [default: judged by its content]
    ///
    /// native (what session export wrote), python (the Python tool's sessions.db), llm (its
    /// logs.db), openai (chat JSONL), chatgpt (conversations.json), claude or codex (transcripts of
    /// Claude Code and codex).
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    from: Option<Kind>,
    /// The model of sessions whose source names none
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Bring back sessions that were purged here
    #[arg(long)]
    include_purged: bool,
    /// Only say what would be added
    #[arg(long)]
    dry_run: bool,
}

impl TypedImport {
    pub(super) fn command(&self, env: &Env) -> Result<Command> {
        if self.source.is_none() && self.from != Some(Kind::Python) {
            return Err(usage("there is no SOURCE to import")
                .hint("only the database of the Python tool is found by itself: --from python"));
        }
        let defaults = env.defaults()?;
        Ok(Command::Import(Import {
            source: self.source.clone(),
            from: self.from,
            model: self.model.clone(),
            include_purged: self.include_purged,
            dry_run: self.dry_run,
            max_context_tokens: defaults.budget(),
            known_places: env.old_databases(),
        }))
    }
}

/// Sessions that are to be in another store as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copying {
    /// The store they are in; the usual one where absent.
    pub from: Option<Location>,
    /// The store they are to be in; the usual one where absent.
    pub to: Option<Location>,
    /// Which sessions.
    pub sessions: Selection,
    /// Whether sessions that were purged there come back.
    pub include_purged: bool,
}

/// A store, as it is typed. An address may have a password in it.
#[derive(Clone)]
struct TypedPlace(String);

impl fmt::Debug for TypedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedPlace")
    }
}

impl From<String> for TypedPlace {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl TypedPlace {
    fn location(&self, flag: &str) -> Result<Location> {
        if !self.0.contains("://") && !is_meant(&self.0) {
            return Ok(Location::Files(PathBuf::from(&self.0)));
        }
        let uri = Uri::new(self.0.clone()).map_err(|why| {
            usage(format!("{flag} cannot be used: {why}"))
                .hint("a store is a directory, or mongodb://HOST/DATABASE")
        })?;
        Location::Database(uri).in_this_build(flag, "name a directory")
    }
}

/// `session copy`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct TypedCopy {
    /// The sessions; all of them if none is given
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The store they are in [default: the usual one]
    ///
    /// A directory, or the address of a database: mongodb://HOST/DATABASE. Others can see what is
    /// typed, so an address with a password is better in OLLAMA_PROMPT_DB_URI.
    #[arg(long, value_name = "URI|DIR", required_unless_present = "to")]
    from: Option<TypedPlace>,
    /// The store they go to [default: the usual one]
    ///
    /// As above.
    #[arg(long, value_name = "URI|DIR")]
    to: Option<TypedPlace>,
    /// Bring back sessions that were purged there
    #[arg(long)]
    include_purged: bool,
}

impl TypedCopy {
    pub(super) fn command(&self) -> Result<Command> {
        let place = |place: &Option<TypedPlace>, flag: &str| {
            place.as_ref().map(|place| place.location(flag)).transpose()
        };
        Ok(Command::Copy(Copying {
            from: place(&self.from, "--from")?,
            to: place(&self.to, "--to")?,
            sessions: if self.ids.is_empty() {
                Selection::All
            } else {
                Selection::These(session_refs(&self.ids)?)
            },
            include_purged: self.include_purged,
        }))
    }
}
