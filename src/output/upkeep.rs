//! The shapes of what is printed about the state of the store: what verify found, drafts.

use serde::Serialize;

use crate::session::id::SessionId;

/// `session verify`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// How much was looked at.
    pub checked: Checked,
    /// What is wrong; after a repair, what still is.
    pub problems: Vec<Found>,
    /// What is good to know and right as it is.
    pub notes: Vec<Found>,
    /// What was put right; null where that was not asked for.
    pub repaired: Option<Vec<Mended>>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How much was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Directories named as sessions.
    pub sessions: u64,
    /// Logs, and the receipts.
    pub files: u64,
    /// Their lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What: `damaged_line`, …
    pub kind: &'static str,
    /// The session it belongs to.
    pub session_id: Option<SessionId>,
    /// The file or directory, beneath the root of the store.
    pub path: String,
    /// Where in it.
    pub offset: Option<u64>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// The same as a sentence.
    pub message: String,
}

/// Something that was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mended {
    /// What was wrong: `damaged_line`, …
    pub kind: &'static str,
    /// The session it belongs to.
    pub session_id: Option<SessionId>,
    /// The file or directory, beneath the root of the store.
    pub path: String,
    /// Where in it that was.
    pub offset: Option<u64>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// What it was moved to; null where nothing was moved.
    pub moved_to: Option<String>,
}
