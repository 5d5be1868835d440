//! What is printed, and the only module that prints.
//!
//! Standard output is one result and nothing else; standard error is everything else. A closed
//! standard output (`| head -1`) is no error; one that cannot be written is.

pub mod shape;
pub mod text;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

pub use shape::*;

use crate::cli::{Command, Invocation, Output};
use crate::commands::{Answer, Outcome};
use crate::error::{Error, Result};
use crate::json;
use crate::ollama::Chunk;
use crate::store::files::Doing;
use crate::warning::Warning;

/// Prints the answer of one invocation, pieces of it as they arrive.
#[derive(Debug)]
pub struct Printer {
    output: Output,
    verbosity: u8,
    /// The first write that failed; nothing more is written then.
    failed: Option<io::Error>,
    ends_with_newline: bool,
}

impl Printer {
    /// Makes a printer for an invocation.
    #[must_use]
    pub fn new(invocation: &Invocation) -> Self {
        let output = match &invocation.command {
            Command::Turn(turn) => turn.output,
            _ => Output::Json,
        };
        Self {
            output,
            verbosity: invocation.verbosity,
            failed: None,
            ends_with_newline: true,
        }
    }

    /// Prints a piece of a reply, where pieces are asked for.
    pub fn piece(&mut self, chunk: &Chunk) {
        match self.output {
            Output::Jsonl => {
                let piece = Piece::of(chunk);
                self.write(&(json::line(&piece) + "\n"));
            }
            Output::Text => self.write(&text::harmless(chunk.content())),
            Output::Json | Output::Compact => {}
        }
    }

    /// Prints the answer and what is worth telling besides.
    ///
    /// # Errors
    /// What failed in spite of the answer, or that standard output cannot be written.
    pub fn finish(mut self, outcome: Outcome) -> Result<()> {
        let Outcome {
            answer,
            warnings,
            failure,
        } = outcome;
        if self.verbosity > 0 {
            self.warn(&warnings);
        }
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        match answer {
            Answer::Turn(mut report) => {
                report.warnings = warnings;
                if self.output == Output::Text {
                    let newline = if self.ends_with_newline { "" } else { "\n" };
                    self.write(newline);
                } else {
                    self.document(&report);
                }
            }
            Answer::Sessions(mut list) => {
                list.warnings = warnings;
                self.document(&list);
            }
            Answer::Session(mut info) => {
                info.warnings = warnings;
                self.document(&info);
            }
            Answer::Purged(mut purged) => {
                purged.warnings = warnings;
                self.document(&purged);
            }
            Answer::Merged(mut merged) => {
                merged.warnings = warnings;
                self.document(&merged);
            }
            Answer::Reindexed(mut reindexed) => {
                reindexed.warnings = warnings;
                self.document(&reindexed);
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        match self.failed {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(e).doing("write to", "standard output")
            }
            _ => Ok(()),
        }
    }

    fn document(&mut self, value: &impl Serialize) {
        let text = match self.output {
            Output::Json | Output::Text => json::document(value),
            Output::Compact | Output::Jsonl => json::line(value),
        };
        self.write(&(text + "\n"));
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() || self.failed.is_some() {
            return;
        }
        self.ends_with_newline = text.ends_with('\n');
        let mut out = io::stdout().lock();
        self.failed = out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .err();
    }

    fn warn(&self, warnings: &[Warning]) {
        for warning in warnings {
            say(&format!("warning: {warning}"));
        }
    }
}

/// Prints a text that was asked for in place of a result: help, version.
///
/// # Errors
/// When standard output cannot be written; not when it is closed.
pub fn print_text(text: &str) -> Result<()> {
    let text = format!("{}\n", text.trim_end());
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.doing("write to", "standard output"),
    }
}

/// Prints a failure: one JSON object for programs, sentence and hint for people.
pub fn print_failure(error: &Error) {
    let report = error.report();
    if io::stderr().is_terminal() {
        say(&format!("error: {}", report.error));
        if let Some(message) = report
            .server_message
            .filter(|message| !report.error.contains(*message))
        {
            say(&format!("  server: {message}"));
        }
        if let Some(hint) = report.hint {
            say(&format!("  hint: {hint}"));
        }
    } else {
        let line = json::line(&report);
        let _ = io::stderr().write_all((line + "\n").as_bytes());
    }
}

/// Writes a line for people; where standard error is closed there is nobody to tell.
fn say(line: &str) {
    let line = text::harmless(line).replace('\n', " ");
    let _ = io::stderr().write_all((line + "\n").as_bytes());
}
