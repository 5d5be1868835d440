//! `session export` and `session import`: what goes out and comes in, as it is typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::session::session_refs;
use super::{Command, Selection};
use crate::error::Result;
use crate::session::id::SessionRef;

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
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// In which form: jsonl (lossless), markdown, html (a page for each session), openai (chat JSONL)
    #[arg(
        long,
        value_name = "FORM",
        default_value = "jsonl",
        hide_possible_values = true
    )]
    to: ExportForm,
    /// Write to this file, or into this directory a file for each session; a path that ends in a
    /// slash is a directory [default: standard output]
    #[arg(long, value_name = "PATH")]
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
