//! The shape of what a prompt refers to, and where it is printed.

use schemars::JsonSchema;
use serde::Serialize;

use super::{PlanReport, TurnReport};
use crate::session::event::{Reference, ReferenceStatus};

/// Something a prompt refers to, and what was read of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ReferenceReport {
    /// What was typed behind the `@`.
    pub path: String,
    /// Bytes of it that are in the prompt: of a file the first so many.
    pub bytes: u64,
    /// SHA-256 of these bytes, in hexadecimal; null where nothing was read.
    pub sha256: Option<String>,
    /// `ok`, `truncated`, `binary` or `error`.
    pub status: ReferenceStatus,
    /// Why nothing was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<&Reference> for ReferenceReport {
    fn from(reference: &Reference) -> Self {
        Self {
            path: reference.path.clone(),
            bytes: reference.bytes,
            sha256: reference.sha256.clone(),
            status: reference.status,
            error: reference.error.clone(),
        }
    }
}

impl TurnReport {
    /// Adds what the prompt refers to.
    #[must_use]
    pub fn referring_to(mut self, references: &[Reference]) -> Self {
        self.references = references.iter().map(ReferenceReport::from).collect();
        self
    }
}

impl PlanReport {
    /// Adds what the prompt refers to.
    #[must_use]
    pub fn referring_to(mut self, references: &[Reference]) -> Self {
        self.references = references.iter().map(ReferenceReport::from).collect();
        self
    }
}
