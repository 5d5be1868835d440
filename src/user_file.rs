//! What goes wrong with a file of the user's own: a source that is imported, a target an export goes
//! to. The store has nothing to do with it, so neither code nor hint speaks of the store.

use std::io;
use std::path::Path;

use crate::error::{Code, Error, Result};
use crate::platform::{Refused, why};

/// Turns the system's error into one that says what was being done, and to what.
pub trait Doing<T> {
    /// Adds the action ("read") and the path, as it was named.
    ///
    /// # Errors
    /// Whenever `self` is an error: `store_full` where no room is left, else `usage`.
    fn doing(self, action: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|cause| {
            let sentence = format!("cannot {action} `{}`", path.as_ref().display());
            match why(&cause) {
                Refused::Full => Error::new(Code::StoreFull, sentence)
                    .because(cause)
                    .hint("free some space (or raise the quota), then try again"),
                _ => Error::new(Code::Usage, sentence).because(cause),
            }
        })
    }
}
