//! Keeping house, as it is typed: what changes sessions, hides what was said in them, and ends
//! those that nobody uses.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use regex::Regex;

use super::help::{CHANGES, WHICH};
use super::values::{TypedStrategy, age, context_tokens, path, session_ref, turn_address, usage};
use super::{Command, Selection};
use crate::error::{Error, Result};
use crate::prompt::Source;
use crate::session::event::Strategy;
use crate::session::id::Address;
use crate::session::pattern::why_none;

/// What is to hold of sessions from now on, and of which.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The sessions to choose from.
    pub sessions: Selection,
    /// What all of them must be.
    pub conditions: Vec<Condition>,
    /// The title; empty removes the one there is.
    pub title: Option<String>,
    /// Tags, and whether a session is to have each.
    pub tags: Vec<(String, bool)>,
    /// The model.
    pub model: Option<String>,
    /// Where the system prompt comes from.
    pub system: Option<Source>,
    /// The context budget in tokens.
    pub max_context_tokens: Option<u64>,
    /// How turns leave the context.
    pub prune: Option<Strategy>,
    /// Whether only to say what would change.
    pub dry_run: bool,
}

/// What a session must be to be meant.
#[derive(Debug, Clone)]
pub enum Condition {
    /// It asks this model.
    Model(String),
    /// It has this tag.
    Tag(String),
    /// It was not used for so long.
    OlderThan(Duration),
    /// Its title fits.
    Title(Regex),
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Model(a), Self::Model(b)) | (Self::Tag(a), Self::Tag(b)) => a == b,
            (Self::OlderThan(a), Self::OlderThan(b)) => a == b,
            (Self::Title(a), Self::Title(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Some(pattern) = text.strip_prefix("title~") {
            return Regex::new(pattern)
                .map(Self::Title)
                .map_err(|error| format!("no regular expression: {}", why_none(&error)));
        }
        match text.split_once('=') {
            Some((_, "")) => Err("there is nothing after the =".to_owned()),
            Some(("model", name)) => Ok(Self::Model(name.to_owned())),
            Some(("tag", name)) => Ok(Self::Tag(name.to_owned())),
            Some(("older-than", text)) => age(text).map(Self::OlderThan),
            _ => Err("give model=NAME, tag=NAME, older-than=AGE or title~REGEX".to_owned()),
        }
    }
}

/// The sessions a verb is for, as they are typed.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The sessions
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// Every session
    #[arg(long, conflicts_with = "ids", help_heading = WHICH)]
    all: bool,
}

impl Which {
    fn selection(&self) -> Result<Selection> {
        if self.all {
            return Ok(Selection::All);
        }
        let ids = self.ids.iter().map(|id| session_ref(id, "ID"));
        Ok(Selection::These(ids.collect::<Result<_>>()?))
    }
}

/// `session update`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    which: Which,
    /// Only those of which this holds
    ///
    /// model=NAME, tag=NAME, older-than=AGE or title~REGEX. May be given several times; then all of
    /// it holds.
    #[arg(long = "where", value_name = "CONDITION", help_heading = WHICH)]
    conditions: Vec<Condition>,
    /// What people call the session; "" removes it
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = CHANGES
    )]
    title: Option<String>,
    /// Add a tag; may be given several times
    #[arg(long, value_name = "NAME", help_heading = CHANGES)]
    tag: Vec<String>,
    /// Remove a tag; may be given several times
    #[arg(long, value_name = "NAME", help_heading = CHANGES)]
    untag: Vec<String>,
    /// The model the next turn asks
    #[arg(long, value_name = "NAME", help_heading = CHANGES)]
    model: Option<String>,
    /// The system prompt; "" removes it
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = CHANGES
    )]
    system: Option<String>,
    /// Read the system prompt from a file
    #[arg(
        long,
        value_name = "PATH",
        value_parser = path(),
        conflicts_with = "system",
        help_heading = CHANGES
    )]
    system_file: Option<PathBuf>,
    /// The context budget in tokens
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = CHANGES
    )]
    max_context_tokens: Option<i64>,
    /// How turns leave a full context
    ///
    /// fifo, importance, summarize or off.
    #[arg(
        long,
        value_name = "STRATEGY",
        hide_possible_values = true,
        help_heading = CHANGES
    )]
    prune: Option<TypedStrategy>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

impl UpdateArgs {
    pub(super) fn command(&self) -> Result<Command> {
        let system = self.system.clone().map(Source::Text);
        let system = system.or_else(|| self.system_file.clone().map(Source::File));
        let max_context_tokens = self.max_context_tokens.map(context_tokens).transpose();
        let update = Update {
            sessions: self.which.selection()?,
            conditions: self.conditions.clone(),
            title: self.title.clone(),
            tags: self.tags()?,
            model: self.model.clone(),
            system,
            max_context_tokens: max_context_tokens
                .map_err(|why| usage(format!("--max-context-tokens {why}")))?,
            prune: self.prune.map(Strategy::from),
            dry_run: self.dry_run,
        };
        if update.changes_nothing() {
            return Err(usage("session update is told nothing to change").hint(
                "give --title, --tag, --untag, --model, --system, --max-context-tokens or --prune",
            ));
        }
        let is_blank = |text: &Option<String>| text.as_deref().is_some_and(|t| t.trim().is_empty());
        if is_blank(&update.model) {
            return Err(usage("--model is empty").hint("ollama list shows the models there are"));
        }
        Ok(Command::Update(Box::new(update)))
    }

    fn tags(&self) -> Result<Vec<(String, bool)>> {
        let added = self.tag.iter().map(|name| (name, true));
        let all = added.chain(self.untag.iter().map(|name| (name, false)));
        let tags: Vec<(String, bool)> = all.map(|(name, on)| (name.clone(), on)).collect();
        if tags.iter().any(|(name, _)| name.trim().is_empty()) {
            return Err(usage("a tag is empty"));
        }
        if let Some(name) = self.tag.iter().find(|name| self.untag.contains(name)) {
            return Err(usage(format!("--tag and --untag both name {name:?}")));
        }
        Ok(tags)
    }
}

impl Update {
    fn changes_nothing(&self) -> bool {
        self.title.is_none()
            && self.tags.is_empty()
            && self.model.is_none()
            && self.system.is_none()
            && self.max_context_tokens.is_none()
            && self.prune.is_none()
    }
}

/// What is looked for to be hidden. It is never printed, not even by a debugging print.
#[derive(Clone, PartialEq, Eq)]
pub enum Sought {
    /// The pattern as it was typed.
    Typed(String),
    /// The patterns of a file, one a line.
    Listed(Source),
}

impl std::fmt::Debug for Sought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sought")
    }
}

/// Text that is to be hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redact {
    /// What is looked for.
    pub sought: Sought,
    /// Whether that is the text itself and no regular expression.
    pub is_fixed: bool,
    /// In which sessions.
    pub sessions: Selection,
    /// Whether the hidden text is hashed, so that who has it can prove that it is this.
    pub is_hashed: bool,
    /// Whether its bytes are to leave the disk at once.
    pub compact: bool,
    /// Whether what was moved aside as damage is to be removed: nobody can look into it.
    pub drop_damaged: bool,
    /// Whether only to say how much would be hidden.
    pub dry_run: bool,
}

/// `session redact`, as it is typed.
#[derive(Debug, Args)]
#[command(override_usage = "\
ollama-prompt session redact [OPTIONS] PATTERN ID…|--all
       ollama-prompt session redact [OPTIONS] --pattern-file PATH ID…|--all")]
pub(super) struct RedactArgs {
    /// What to hide: a regular expression
    ///
    /// It is looked for in every text as it was said.
    #[arg(
        value_name = "PATTERN",
        required_unless_present = "pattern_file",
        allow_hyphen_values = true
    )]
    pattern: Option<String>,
    /// The sessions
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Every session
    #[arg(long, help_heading = WHICH)]
    all: bool,
    /// Read patterns from a file, one a line
    ///
    /// `-` is standard input. What is typed is seen by `ps`, and may be kept in the history of a shell.
    #[arg(long, value_name = "PATH", value_parser = path())]
    pattern_file: Option<PathBuf>,
    /// The pattern is the text itself
    #[arg(long, short = 'F')]
    fixed: bool,
    /// Leave no hash of what is hidden
    ///
    /// Of a short text a hash tells who tries all there are.
    #[arg(long)]
    no_hash: bool,
    /// Compact them at once: the bytes leave the disk
    #[arg(long)]
    compact: bool,
    /// Remove what was moved aside as damage
    ///
    /// Compaction and repair do that in these sessions; nobody can look into it.
    #[arg(long)]
    drop_damaged: bool,
    /// Only say how much would be hidden
    #[arg(long)]
    dry_run: bool,
}

impl RedactArgs {
    pub(super) fn command(&self) -> Result<Command> {
        let (sought, first) = match (&self.pattern_file, &self.pattern) {
            (Some(path), first) if path.as_os_str() == "-" => {
                (Sought::Listed(Source::Stdin), first.as_ref())
            }
            (Some(path), first) => (Sought::Listed(Source::File(path.clone())), first.as_ref()),
            (None, pattern) => (Sought::Typed(pattern.clone().unwrap_or_default()), None),
        };
        let ids: Vec<&String> = first.into_iter().chain(&self.ids).collect();
        let sessions = match (self.all, ids.is_empty()) {
            (true, true) => Selection::All,
            (false, false) => {
                let ids = ids.into_iter().map(|id| session_ref(id, "ID"));
                Selection::These(ids.collect::<Result<_>>()?)
            }
            (true, false) => {
                return Err(usage("session redact takes ids or --all, not both"));
            }
            (false, true) => {
                return Err(usage("session redact needs the sessions to look in")
                    .hint("give their ids after the pattern, or --all"));
            }
        };
        Ok(Command::Redact(Box::new(Redact {
            sought,
            is_fixed: self.fixed,
            sessions,
            is_hashed: !self.no_hash,
            compact: self.compact,
            drop_damaged: self.drop_damaged,
            dry_run: self.dry_run,
        })))
    }
}

/// A turn that is to be hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retract {
    /// The turn.
    pub turn: Address,
    /// Whether its bytes are to leave the disk at once.
    pub compact: bool,
}

/// `session retract`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct RetractArgs {
    /// The session and the turn
    #[arg(value_name = "ID:TURN")]
    address: String,
    /// Compact the session at once: the bytes leave the disk
    #[arg(long)]
    compact: bool,
}

impl RetractArgs {
    pub(super) fn command(&self) -> std::result::Result<Command, Error> {
        Ok(Command::Retract(Retract {
            turn: turn_address(&self.address)?,
            compact: self.compact,
        }))
    }
}
