//! What `session fork` prints: a shape of its own, because there is no turn to report.

use schemars::JsonSchema;
use serde::Serialize;

use crate::session::id::{EventId, SessionId};

/// `session fork`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Forked {
    /// The new session.
    pub session_id: SessionId,
    /// Where it comes from.
    pub forked_from: ForkedSource,
    /// How many turns it begins with.
    pub turns: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Where a fork comes from.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ForkedSource {
    /// The session.
    pub session_id: SessionId,
    /// Its last turn the fork has; null where it has none.
    pub turn: Option<EventId>,
}
