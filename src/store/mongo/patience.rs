//! Trying again: for how long, and how far apart.
//!
//! A server that went away may be back in a moment, and a turn that was paid for is worth waiting
//! for it. Waits grow and are drawn by lot, so that many who failed together do not come back
//! together.

use std::time::{Duration, Instant};

use crate::clock;

/// The first wait, before it is drawn by lot.
const FIRST: Duration = Duration::from_millis(2);

/// The longest wait.
const LONGEST: Duration = Duration::from_millis(250);

/// How long something is tried.
#[derive(Debug)]
pub struct Patience {
    ends: Instant,
    wait: Duration,
}

impl Patience {
    /// Begins to be patient for this long.
    #[must_use]
    pub fn of(duration: Duration) -> Self {
        let now = Instant::now();
        Self {
            // A duration beyond what the clock can tell is for ever: a year will do.
            ends: now
                .checked_add(duration)
                .unwrap_or(now + Duration::from_secs(31_536_000)),
            wait: FIRST,
        }
    }

    /// Returns how long to wait before the next try; `None` when it has gone on long enough.
    #[must_use]
    pub fn next_wait(&mut self) -> Option<Duration> {
        let left = self.ends.checked_duration_since(Instant::now())?;
        let share = (clock::random_bits() % 1000) as u32;
        let drawn = self.wait * (500 + share) / 1000;
        self.wait = (self.wait * 2).min(LONGEST);
        Some(drawn.min(left))
    }

    /// Begins with short waits again, after what was waited for is done.
    pub fn is_renewed(&mut self) {
        self.wait = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let mut patience = Patience::of(Duration::from_secs(60));
        let waits: Vec<Duration> = (0..40).filter_map(|_| patience.next_wait()).collect();
        assert_eq!(waits.len(), 40);
        assert!(waits[0] >= FIRST / 2 && waits[0] < FIRST * 2, "{waits:?}");
        assert!(
            waits[39] >= LONGEST / 2 && waits[39] < LONGEST * 2,
            "{waits:?}"
        );
        assert!(
            Patience::of(Duration::ZERO)
                .next_wait()
                .is_none_or(|wait| wait.is_zero())
        );
        assert!(Patience::of(Duration::MAX).next_wait().is_some());
    }
}
