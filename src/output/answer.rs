//! What a command hands over to be printed.

use super::{Feed, Report, Stream, TurnReport};
use crate::error::Error;
use crate::warning::Warning;

/// What a command has to say.
#[derive(Debug)]
pub enum Answer {
    /// Of a turn.
    Turn(Box<TurnReport>),
    /// One document.
    Report(Box<dyn Report>),
    /// Pieces, printed as they are found.
    Stream(Box<dyn Stream>),
    /// Events, printed as they come.
    Feed(Box<dyn Feed>),
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// What is printed on standard output.
    pub answer: Answer,
    /// What is worth telling besides.
    pub warnings: Vec<Warning>,
    /// What is told when more is to be said.
    pub notes: Vec<String>,
    /// What failed in spite of the answer: a reply that arrived and could not be stored; that a
    /// verification found something.
    pub failure: Option<Error>,
}

impl Outcome {
    /// Returns an answer that there is nothing to tell besides.
    #[must_use]
    pub fn of(answer: Answer) -> Self {
        Self {
            answer,
            warnings: Vec::new(),
            notes: Vec::new(),
            failure: None,
        }
    }

    /// Returns the reply of a turn.
    #[must_use]
    pub fn turn(report: TurnReport) -> Self {
        Self::of(Answer::Turn(Box::new(report)))
    }

    /// Returns a document.
    #[must_use]
    pub fn report(report: impl Report + 'static) -> Self {
        Self::of(Answer::Report(Box::new(report)))
    }

    /// Returns what is printed piece by piece.
    #[must_use]
    pub fn stream(stream: impl Stream + 'static) -> Self {
        Self::of(Answer::Stream(Box::new(stream)))
    }

    /// Returns what is printed as it comes.
    #[must_use]
    pub fn feed(feed: impl Feed + 'static) -> Self {
        Self::of(Answer::Feed(Box::new(feed)))
    }
}
