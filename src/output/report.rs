//! What a command has to print: one document, pieces as they are found, or events as they come.

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::time::Duration;

use super::{
    Cleared, Compactions, CopyReport, DraftList, ExportReport, Forked, ImportReport, MergeReport,
    Page, Pinned, PlanReport, Pruned, Purged, Redactions, Reindexed, Retracted, SentReport,
    TemplateInfo, TemplateSaved, TemplatesDeleted, Updates, Verified,
};
use crate::cli::Output;
use crate::error::Result;
use crate::session::id::SessionId;
use crate::warning::Warning;

/// One document: what a command found or did, printed when it is done.
pub trait Report: Debug {
    /// Takes what is worth telling besides.
    fn warn(&mut self, warnings: Vec<String>);

    /// Returns it indented, without the final newline.
    fn document(&self) -> String;

    /// Returns it on one line, without the newline.
    fn line(&self) -> String;

    /// Returns it in another form than JSON, without the final newline; `None` where it has no
    /// such form. `page` is what it is shown on. What a terminal may be shown goes through [`super::text::harmless`].
    fn for_people(&self, _form: Output, _page: Page) -> Option<String> {
        None
    }
}

/// What is printed piece by piece, because there is too much of it or because it never ends.
pub trait Stream: Debug {
    /// Hands each piece, newlines included, to `print`, until that says to stop.
    ///
    /// # Errors
    /// What ends the command; the pieces before it are printed by then.
    fn run(&mut self, print: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Vec<Warning>>;
}

/// Events as they come, for whoever prints them to look again and again.
pub trait Feed: Debug {
    /// Tells every event that has come since the last look.
    ///
    /// # Errors
    /// The signal's that ends the watch; `store_*`.
    fn look(&mut self, tell: &mut dyn FnMut(SessionId, &[u8])) -> Result<()>;

    /// Returns how long to wait before the next look.
    fn pause(&self) -> Duration;

    /// Returns how many sessions there were at the beginning.
    fn sessions(&self) -> usize;
}

/// The part of a [`Report`] that is the same for every shape with `warnings`.
macro_rules! as_json {
    () => {
        fn warn(&mut self, warnings: Vec<String>) {
            self.warnings = warnings;
        }

        fn document(&self) -> String {
            crate::json::document(self)
        }

        fn line(&self) -> String {
            crate::json::line(self)
        }
    };
}

pub(super) use as_json;

/// Implements [`Report`] for shapes that are JSON and nothing else.
macro_rules! reports {
    ($($shape:ty),* $(,)?) => {
        $(impl Report for $shape {
            as_json!();
        })*
    };
}

reports!(
    Cleared,
    Compactions,
    CopyReport,
    DraftList,
    ExportReport,
    ImportReport,
    Forked,
    MergeReport,
    Pinned,
    PlanReport,
    Pruned,
    Purged,
    Redactions,
    Reindexed,
    Retracted,
    SentReport,
    Updates,
    TemplateInfo,
    TemplateSaved,
    TemplatesDeleted,
    Verified,
);
