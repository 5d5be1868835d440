//! What `[redact]` in `config.toml` says is never to be stored: taken out of a prompt before it is
//! sent, so that what is stored is what was sent, and out of a reply before it is stored. A reply
//! is printed as it came.

use std::borrow::Cow;
use std::cell::Cell;

use crate::error::{Code, Error, Result};
use crate::ollama::Reply;
use crate::session::seek::Patterns;
use crate::warning::Warning;

/// The patterns there are, and how often they fitted.
#[derive(Debug, Default)]
pub(super) struct Withhold {
    /// None where nothing is configured: then nothing is built, and nothing looked for.
    patterns: Option<Patterns>,
    stretches: Cell<usize>,
}

impl Withhold {
    /// Reads the patterns.
    ///
    /// # Errors
    /// `config` for one that is none.
    pub(super) fn new(patterns: &[String]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let patterns = Patterns::parse(patterns, false).map_err(|(number, why)| {
            let sentence = format!("pattern {number} of [redact] in config.toml cannot be used");
            Error::new(Code::Config, sentence).because(why)
        })?;
        Ok(Self {
            patterns: Some(patterns),
            stretches: Cell::new(0),
        })
    }

    /// Returns a text without what fits.
    pub(super) fn text(&self, text: String) -> String {
        let covered = self
            .patterns
            .as_ref()
            .and_then(|patterns| patterns.cover(&text));
        covered.map_or(text, |(covered, stretches)| {
            self.count(stretches);
            covered
        })
    }

    /// Returns a reply as it is to be stored.
    pub(super) fn reply<'a>(&self, reply: &'a Reply) -> Cow<'a, Reply> {
        let Some(patterns) = &self.patterns else {
            return Cow::Borrowed(reply);
        };
        let mut stored = reply.clone();
        stored.content = self.text(stored.content);
        stored.thinking = stored.thinking.map(|text| self.text(text));
        if let Some(calls) = &mut stored.tool_calls {
            self.count(patterns.cover_value(calls));
        }
        Cow::Owned(stored)
    }

    /// Returns what is worth telling of it.
    pub(super) fn warning(&self) -> Option<Warning> {
        let stretches = self.stretches.get();
        (stretches > 0).then_some(Warning::Withheld { stretches })
    }

    fn count(&self, stretches: usize) {
        self.stretches.set(self.stretches.get() + stretches);
    }
}
