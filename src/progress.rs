//! How far long work has come, for whoever waits for it.
//!
//! What works says that it begins, how many steps it has, and each of them; it prints nothing and
//! knows nobody who does. [`crate::output`] may show it as a bar.

use std::fmt;
use std::sync::Arc;

/// Who shows how far work has come. Steps come from any thread.
pub trait Shows: Send + Sync {
    /// Work of so many steps begins.
    fn begin(&self, what: &'static str, steps: u64);

    /// One of them is done.
    fn step(&self);

    /// The work is over, done or not.
    fn end(&self);
}

/// Where to tell how far work has come; by itself nobody listens.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Shows>>);

impl Progress {
    /// Returns one that is shown.
    #[must_use]
    pub fn shown_by(shows: Arc<dyn Shows>) -> Self {
        Self(Some(shows))
    }

    /// Begins work of so many steps; it is over when the value that is returned goes.
    #[must_use = "the work is over when this goes"]
    pub fn begin(&self, what: &'static str, steps: usize) -> Steps<'_> {
        let shows = self.0.as_deref();
        if let Some(shows) = shows {
            shows.begin(what, steps as u64);
        }
        Steps(shows)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.is_some()).finish()
    }
}

/// Work that is under way.
pub struct Steps<'a>(Option<&'a dyn Shows>);

impl Steps<'_> {
    /// Tells that a step is done.
    pub fn step(&self) {
        if let Some(shows) = self.0 {
            shows.step();
        }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        if let Some(shows) = self.0 {
            shows.end();
        }
    }
}
