//! The forms in which a session leaves, a module each. A form goes through the history once, in
//! order, and hands over its text in pieces: none of them holds more than a turn.
//!
//! To add a form: a variant of [`ExportForm`], a module with a `write` like the others, an arm in
//! `write`.

mod events;
mod html;
mod markdown;
mod openai;

pub use html::about;

use crate::cli::ExportForm;
use crate::error::Error;
use crate::store::history::History;

/// Why an export ends before its end.
#[derive(Debug)]
pub enum Stop {
    /// Nobody reads any more.
    Closed,
    /// It failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Takes a piece of text.
pub type Put<'a> = dyn FnMut(&str) -> Result<(), Stop> + 'a;

/// Hands the text of a session to `put`, piece by piece.
///
/// # Errors
/// What `put` says; when the session cannot be read to its end.
pub fn write(form: ExportForm, history: &History<'_>, put: &mut Put<'_>) -> Result<(), Stop> {
    match form {
        ExportForm::Jsonl => events::write(history, put),
        ExportForm::Markdown => markdown::write(history, put),
        ExportForm::Html => html::write(history, put),
        ExportForm::OpenAi => openai::write(history, put),
    }
}

/// Returns what stands between two sessions of one file.
#[must_use]
pub fn separator(form: ExportForm) -> &'static str {
    match form {
        ExportForm::Markdown => "\n",
        ExportForm::Jsonl | ExportForm::OpenAi | ExportForm::Html => "",
    }
}
