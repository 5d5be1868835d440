//! What is remembered of models: the window each one has, so that a turn need not ask. A cache:
//! wrong, torn, missing or unwritable, the server is asked again.

use serde::{Deserialize, Serialize};

use crate::session::event::Timestamp;

/// How long a window is taken as known, in milliseconds: a day.
const FRESH_MS: u64 = 24 * 60 * 60 * 1000;

/// What a server said of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The window in tokens; absent where the server does not say.
    pub context_length: Option<u64>,
    /// When the model was changed last, as the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<String>,
    /// When it was asked.
    pub asked_at: Timestamp,
}

impl Model {
    /// Tells whether it was asked within the last day.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.as_ms().checked_sub(self.asked_at.as_ms());
        age.is_some_and(|age| age < FRESH_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_known_for_a_day() {
        let known = Model {
            context_length: Some(8192),
            modified_at: None,
            asked_at: Timestamp::from_ms(1_000),
        };
        let rows = [
            (1_000, true),
            (1_000 + FRESH_MS - 1, true),
            (1_000 + FRESH_MS, false),
            (999, false),
        ];
        for (now, expected) in rows {
            assert_eq!(known.is_fresh(Timestamp::from_ms(now)), expected, "{now}");
        }
    }
}
