//! The shapes of what is printed about the state of the store: what verify found, drafts,
//! what was removed and rewritten.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json;
use crate::session::event::Timestamp;
use crate::session::id::{EventId, SessionId};
use crate::store::compact::Compacted;

/// `session verify`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
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

/// `session drafts`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct DraftList {
    /// The drafts, oldest first.
    pub drafts: Vec<DraftSummary>,
    /// How many.
    pub total: usize,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A turn that is not stored. All but `id` and `under_way` is null where the draft says nothing
/// that can be read.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct DraftSummary {
    /// The draft.
    pub id: EventId,
    /// The session the turn belongs to, which need not exist.
    pub session_id: Option<SessionId>,
    /// Whether a process is waiting for its reply now; else it failed or was killed.
    pub under_way: bool,
    /// When it was begun.
    pub timestamp: Option<Timestamp>,
    /// What was asked.
    pub prompt: Option<String>,
    /// What had arrived of the reply.
    pub response: Option<String>,
    /// Why there is no more.
    pub error: Option<Value>,
}

/// `session drafts --clear`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Cleared {
    /// How many drafts are gone.
    pub removed: usize,
    /// Which.
    pub drafts: Vec<EventId>,
    /// Those of turns that are under way.
    pub kept: Vec<EventId>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A line of `session watch`.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Seen {
    /// The session the event came into.
    pub session_id: SessionId,
    /// The event as it is stored.
    #[schemars(with = "Map<String, Value>")]
    pub event: Box<RawValue>,
}

impl Seen {
    /// Makes the line of an event from its bytes in the log.
    #[must_use]
    pub fn new(session_id: SessionId, event: &[u8]) -> Self {
        let text = String::from_utf8_lossy(event);
        let text = json::made_safe(&text).into_owned();
        let event = RawValue::from_string(text).expect("an event that was read is JSON");
        Self { session_id, event }
    }
}

/// `--purge`, `session purge` and `session delete`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Purged {
    /// Whether this is what would have happened: nothing was removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// How many sessions are gone.
    pub removed: usize,
    /// The same as a sentence.
    pub message: String,
    /// Their ids.
    pub sessions: Vec<SessionId>,
    /// Bytes of their files.
    pub bytes_freed: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `session compact`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize)]
pub struct Compactions {
    /// The sessions that were rewritten.
    pub compacted: Vec<CompactedSession>,
    /// How many had nothing to be rewritten for.
    pub unchanged: usize,
    /// Bytes all of them are smaller by.
    pub bytes_freed: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Compactions {
    /// Adds a session.
    pub fn add(&mut self, session: CompactedSession) {
        self.bytes_freed += session.bytes_before.saturating_sub(session.bytes_after);
        self.compacted.push(session);
    }
}

/// A session that was rewritten.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct CompactedSession {
    /// Its id.
    pub session_id: SessionId,
    /// Bytes of its files before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Lines whose id another line had.
    pub dropped_duplicates: u64,
    /// Turns that are not in the history any more.
    pub dropped_turns: u64,
    /// The file in its directory that has what was no event.
    pub damaged_bytes_moved_to: Option<String>,
}

impl CompactedSession {
    /// Makes the report of a session.
    #[must_use]
    pub fn new(session_id: SessionId, compacted: Compacted) -> Self {
        let Compacted {
            bytes_before,
            bytes_after,
            dropped_duplicates,
            dropped_turns,
            damaged_bytes_moved_to,
        } = compacted;
        Self {
            session_id,
            bytes_before,
            bytes_after,
            dropped_duplicates,
            dropped_turns,
            damaged_bytes_moved_to,
        }
    }
}

/// `session reindex`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Reindexed {
    /// How many sessions the index has.
    pub sessions: usize,
    /// Bytes of the index.
    pub bytes: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
