//! What is printed, and the only module that prints.
//!
//! Standard output is one result and nothing else; standard error is everything else. A closed
//! standard output (`| head -1`) is no error; one that cannot be written is.

mod answer;
mod color;
pub mod export;
mod fork;
pub mod found;
pub mod house;
mod list;
mod markdown;
pub mod page;
mod progress;
mod references;
mod report;
mod schema;
pub mod sessions;
pub mod shape;
pub mod stats;
pub mod table;
pub mod templates;
pub mod text;
mod transcript;
pub mod transfer;
pub mod upkeep;

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use serde::Serialize;

pub use answer::{Answer, Outcome};
pub use color::Palette;
pub use fork::{Forked, ForkedSource};
pub use house::*;
pub use progress::progress_of;
pub use references::ReferenceReport;
pub use report::{Feed, Report, Stream};
pub use schema::Described;
pub use sessions::*;
pub use shape::*;
pub use stats::{Failures, Stats};
pub use table::Page;
pub use templates::*;
pub use transfer::*;
pub use upkeep::*;

use crate::cli::{Color, Invocation, Output};
use crate::error::{Code, Error, Result};
use crate::json;
use crate::ollama::Chunk;
use crate::platform::is_stdout_closed_after;
use crate::tokens;
use crate::warning::Warning;

/// Prints the answer of one invocation, pieces of it as they arrive.
#[derive(Debug)]
pub struct Printer {
    output: Output,
    verbosity: u8,
    /// The first write that failed; nothing more is written then.
    failed: Option<io::Error>,
    ends_with_newline: bool,
    /// Whether what people read has colour.
    color: Color,
    /// The colours of standard error.
    palette: Palette,
}

impl Printer {
    /// Makes a printer for an invocation.
    #[must_use]
    pub fn new(invocation: &Invocation) -> Self {
        Self {
            output: invocation.output,
            verbosity: invocation.verbosity,
            failed: None,
            ends_with_newline: true,
            color: invocation.color,
            palette: Palette::of_stderr(invocation.color),
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
            _ => {}
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
            notes,
            failure,
        } = outcome;
        self.warn(&warnings);
        if self.verbosity > 1 {
            notes.iter().for_each(|note| say("", note));
            let loaded = tokens::vocabularies_loaded();
            say("", &format!("vocabularies loaded: {loaded}"));
        }
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let mut stored_in = None;
        match answer {
            Answer::Turn(mut report) => {
                report.warnings = warnings;
                stored_in = report.session_id;
                if self.output == Output::Text {
                    let newline = if self.ends_with_newline { "" } else { "\n" };
                    self.write(newline);
                } else {
                    self.document(&report);
                }
            }
            Answer::Report(mut report) => {
                report.warn(warnings);
                self.report(&*report);
            }
            Answer::Stream(mut stream) => self.stream(&mut *stream)?,
            Answer::Feed(mut feed) => self.follow(&mut *feed)?,
        }
        if let Some(error) = failure {
            return Err(error);
        }
        match self.failed {
            Some(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                let error = unprinted(&e);
                Err(match stored_in {
                    Some(id) => error.session(id),
                    None => error,
                })
            }
            _ => Ok(()),
        }
    }

    /// Prints events as they come, each at once, until nobody reads any more.
    fn follow(&mut self, feed: &mut dyn Feed) -> Result<()> {
        if self.verbosity > 0 {
            say("", &format!("watching {} sessions", feed.sessions()));
        }
        while self.failed.is_none() {
            feed.look(&mut |session, event| {
                self.write(&(json::line(&Seen::new(session, event)) + "\n"));
            })?;
            if self.failed.is_none() && is_stdout_closed_after(feed.pause()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Prints what a command finds piece by piece, until nobody reads any more.
    fn stream(&mut self, stream: &mut dyn Stream) -> Result<()> {
        let warnings = stream.run(&mut |piece| {
            self.write(piece);
            if self.failed.is_none() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        self.warn(&warnings);
        Ok(())
    }

    fn warn(&self, warnings: &[Warning]) {
        if self.verbosity > 0 {
            let label = self.palette.warning("warning:") + " ";
            warnings
                .iter()
                .for_each(|warning| say(&label, &warning.to_string()));
        }
    }

    fn report(&mut self, report: &dyn Report) {
        let text = match self.output {
            Output::Json => report.document(),
            Output::Compact => report.line(),
            form => report
                .for_people(form, Page::of_stdout(self.color))
                .expect("forms a command does not have are refused before"),
        };
        self.write(&(text + "\n"));
    }

    fn document(&mut self, value: &impl Serialize) {
        let text = if self.output == Output::Json {
            json::document(value)
        } else {
            json::line(value)
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
}

/// The result is not where it was to go. What was to be stored is stored by now.
fn unprinted(cause: &io::Error) -> Error {
    Error::new(Code::StoreIo, "cannot write to standard output")
        .because(cause)
        .hint("a turn that was taken is stored: session show has it")
}

/// Prints a text that was asked for in place of a result: help, version.
///
/// # Errors
/// When standard output cannot be written; not when it is closed.
pub fn print_text(text: &str) -> Result<()> {
    let text = format!("{}\n", text.trim_end());
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|e| unprinted(&e)),
    }
}

/// Prints a failure: one JSON object for programs, sentence and hint for people.
pub fn print_failure(error: &Error, color: Color) {
    let report = error.report();
    if io::stderr().is_terminal() {
        let palette = Palette::of_stderr(color);
        say(&(palette.error("error:") + " "), &report.error);
        if let Some(message) = report
            .server_message
            .filter(|message| !report.error.contains(*message))
        {
            say(&format!("  {} ", palette.dim("server:")), message);
        }
        if let Some(hint) = report.hint {
            say(&format!("  {} ", palette.hint("hint:")), hint);
        }
    } else {
        let line = json::line(&report);
        let _ = io::stderr().write_all((line + "\n").as_bytes());
    }
}

/// Prints a failure and ends the process with its exit status.
#[expect(
    clippy::disallowed_methods,
    reason = "a signal or a bug ends the process wherever it is"
)]
pub fn end_with(error: &Error, color: Color) -> ! {
    print_failure(error, color);
    std::process::exit(error.code.exit_status().into())
}

/// Has a broken promise of this program told as any failure is, with the exit status of a bug.
pub fn tell_bugs(color: Color) {
    std::panic::set_hook(Box::new(move |panic| {
        let broken = panic.to_string().replace('\n', " ");
        let error = Error::new(Code::Internal, "this is a bug of ollama-prompt")
            .because(broken)
            .hint("please report it, with the command that led to it");
        end_with(&error, color)
    }));
}

/// Writes a line for people, `label` as it is; where standard error is closed there is nobody to
/// tell.
fn say(label: &str, line: &str) {
    let line = text::harmless(line).replace('\n', " ");
    let _ = io::stderr().write_all(format!("{label}{line}\n").as_bytes());
}
