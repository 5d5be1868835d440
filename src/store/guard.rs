//! Guards: what a turn holds so that others wait, if they asked to.
//!
//! An ordinary turn waits for nobody's model. Turns of a session with `--serialize` wait for each
//! other, and so do those with one idempotency key. A guard ends with its process, so a call that is
//! killed frees those who wait.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Code, Error};
use crate::session::id::SessionId;

/// Keeps others waiting for as long as it lives.
#[derive(Debug)]
pub struct Guard {
    _held: Box<dyn fmt::Debug>,
}

impl Guard {
    /// Wraps what a store holds: when it is dropped, who waits goes on.
    pub fn new(held: impl fmt::Debug + 'static) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

/// An idempotency key a store holds for this process until the value is dropped.
pub trait HeldKey: fmt::Debug {
    /// Lets those who wait for it know why there is no turn, and lets it go. What cannot be said
    /// is not known to them: one of them asks again.
    fn leave(self: Box<Self>, error: Value);
}

/// Keeps others with the same idempotency key waiting for as long as it lives.
#[derive(Debug)]
pub struct KeyGuard {
    held: Box<dyn HeldKey>,
}

impl KeyGuard {
    /// Wraps what a store holds.
    #[must_use]
    pub fn new(held: Box<dyn HeldKey>) -> Self {
        Self { held }
    }

    /// Lets those who wait end as this turn ends. A signal is no end of a turn: one of them goes
    /// on with it, as after a kill.
    pub fn fail(self, error: &Error) {
        if error.code.is_signal() {
            return;
        }
        if let Ok(error) = serde_json::to_value(error.report()) {
            self.held.leave(error);
        }
    }
}

/// What comes of taking a key.
#[derive(Debug)]
pub enum Taken {
    /// It is this process's: the turn may be stored by now, else this process is to ask.
    Held(KeyGuard),
    /// The same request was under way and failed.
    Failed(Error),
}

/// The error of another request under a key.
#[must_use]
pub fn conflict(key: &str) -> Error {
    Error::new(
        Code::IdempotencyConflict,
        format!("the idempotency key {key:?} belongs to another request of this session"),
    )
    .hint("give each request a key of its own, and repeat a request as it was")
}

/// The error of a turn that waited so long for others of its session.
#[must_use]
pub fn turn_took_too_long(session: SessionId, patience: Duration) -> Error {
    Error::new(
        Code::StoreLocked,
        format!("gave up waiting for a turn of session {session} to end"),
    )
    .because(format!(
        "others with --serialize took longer than {} seconds",
        patience.as_secs_f64()
    ))
    .hint("try again, or wait longer with --timeout")
}

/// The error of a turn that waited so long for another under the same key.
#[must_use]
pub fn key_took_too_long(key: &str, patience: Duration) -> Error {
    Error::new(
        Code::Timeout,
        format!("gave up waiting for the turn with the idempotency key {key:?}"),
    )
    .because(format!(
        "it was under way for more than {} seconds",
        patience.as_secs_f64()
    ))
    .hint("try again with the same key, or wait longer with --timeout")
}
