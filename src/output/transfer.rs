//! The shapes of what is printed about what went out and came in.

use schemars::JsonSchema;
use serde::Serialize;

/// `session export --out`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ExportReport {
    /// Where to.
    pub out: String,
    /// How many sessions.
    pub sessions: usize,
    /// How many turns they have.
    pub turns: u64,
    /// How many files were written.
    pub files: usize,
    /// How many bytes they have.
    pub bytes: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
