//! A gate in the middle of a reply: the test decides when the server goes on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{HOLD, PATIENCE};

/// A gate that is closed until [`open`](Self::open) is called. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    reached: usize,
}

impl Gate {
    /// Returns a closed gate.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets through whoever waits and whoever comes later.
    pub(crate) fn open(&self) {
        self.state().open = true;
        self.0.1.notify_all();
    }

    /// Waits until a reply has come to this gate: everything before it has been sent.
    #[track_caller]
    pub(crate) fn wait_until_reached(&self) {
        assert!(
            self.wait(PATIENCE, |state| state.reached > 0),
            "no reply came to the gate within {PATIENCE:?}"
        );
    }

    /// Waits until the gate is open.
    pub(super) fn pass(&self) {
        self.state().reached += 1;
        self.0.1.notify_all();
        assert!(
            self.wait(HOLD, |state| state.open),
            "nobody opened the gate within {HOLD:?}"
        );
    }

    /// Waits until the state is as wanted; false when it took too long.
    fn wait(&self, patience: Duration, wanted: impl Fn(&State) -> bool) -> bool {
        let waited = self
            .0
            .1
            .wait_timeout_while(self.state(), patience, |state| !wanted(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
