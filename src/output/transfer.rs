//! The shapes of what is printed about what went out and came in.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::session::id::SessionId;

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

/// `session import`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ImportReport {
    /// What was read.
    pub sources: Vec<ImportedSource>,
    /// How many sessions were not here.
    pub sessions_added: usize,
    /// How many sessions got something.
    pub sessions_changed: usize,
    /// How many sessions had all of it.
    pub sessions_unchanged: usize,
    /// How many turns were added.
    pub turns_added: u64,
    /// How many events were added, turns among them.
    pub events_added: u64,
    /// The sessions that were added or got something.
    pub sessions: BTreeSet<SessionId>,
    /// Sessions that were purged here and are left out.
    pub skipped_purged: BTreeSet<SessionId>,
    /// What was left out as a whole because it could not be understood, the first hundred.
    pub skipped: Vec<SkippedItem>,
    /// How many that were.
    pub skipped_total: u64,
    /// Parts of conversations that have no place in a session, by what they are.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Whether it was only said what would be done.
    pub dry_run: bool,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `session copy`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct CopyReport {
    /// Where from; of an address hosts and database.
    pub from: String,
    /// Where to.
    pub to: String,
    /// How many sessions were not there.
    pub sessions_added: usize,
    /// How many sessions got events.
    pub sessions_changed: usize,
    /// How many sessions had all of it.
    pub sessions_unchanged: usize,
    /// How many events were added.
    pub events_added: u64,
    /// How many blobs the sessions have that were gone through.
    pub blobs: u64,
    /// Sessions that were purged there and are left out.
    pub skipped_purged: Vec<SessionId>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ImportedSource {
    /// Its path.
    pub source: String,
    /// What it is; null where there is nothing in it.
    pub kind: Option<&'static str>,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SkippedItem {
    /// The file it is in.
    pub source: String,
    /// What it is.
    pub what: String,
    /// Why.
    pub why: String,
}

/// `session merge`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct MergeReport {
    /// How many sessions were not here.
    pub sessions_added: usize,
    /// How many sessions got events.
    pub sessions_changed: usize,
    /// How many events were added, those of new sessions included.
    pub events_added: u64,
    /// Sessions that were purged here and are left out.
    pub skipped_purged: Vec<SessionId>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
