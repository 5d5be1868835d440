//! The wall clock and fresh randomness: the one place where either comes into the program.

use chrono::Utc;
use ulid::Ulid;

use crate::session::event::Timestamp;

/// Returns the current time, to the millisecond.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
pub fn now() -> Timestamp {
    Timestamp::from_ms(Timestamp(Utc::now()).as_ms())
}

/// Returns 80 random bits, from the operating system's seed.
#[must_use]
pub fn random_bits() -> u128 {
    Ulid::generate().random()
}
