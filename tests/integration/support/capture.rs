//! What a process writes into one of its streams, readable while it is still writing.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The bytes that have come out of a pipe so far.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    /// Starts reading, in a thread, so that the writer never waits for a reader.
    pub(super) fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let capture = Self::default();
        let shared = capture.clone();
        thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = shared.state();
                state.bytes.extend_from_slice(&buffer[..read]);
                state.ended = read == 0;
                shared.0.1.notify_all();
                if state.ended {
                    return;
                }
            }
        });
        capture
    }

    /// Returns a stream nothing comes out of.
    pub(super) fn nothing() -> Self {
        let capture = Self::default();
        capture.state().ended = true;
        capture
    }

    /// Returns what has come so far.
    pub(super) fn so_far(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// Waits until `text` has come; false when the stream ended without it or it took too long.
    pub(super) fn wait_for_text(&self, text: &str, time: Duration) -> bool {
        let came = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        let waited = self
            .0
            .1
            .wait_timeout_while(self.state(), time, |s| !s.ended && !came(&s.bytes));
        came(&waited.unwrap_or_else(PoisonError::into_inner).0.bytes)
    }

    /// Waits until the stream has ended; false when it has not by then.
    pub(super) fn wait_for_end(&self, deadline: Instant) -> bool {
        let time = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .0
            .1
            .wait_timeout_while(self.state(), time, |s| !s.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
