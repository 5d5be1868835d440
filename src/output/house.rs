//! The shapes of what is printed about keeping house: what changed, what is hidden.

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::Error;
use crate::output::Purged;
use crate::session::event::{Settings, Timestamp};
use crate::session::id::{EventId, SessionId};

/// `session update`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize)]
pub struct Updates {
    /// Whether this is what would have changed: nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// The sessions that changed.
    pub updated: Vec<UpdatedSession>,
    /// How many were meant and are like that already.
    pub unchanged: usize,
    /// Those that could not be changed.
    pub failed: Vec<FailedSession>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A session that changed.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct UpdatedSession {
    /// Its id.
    pub session_id: SessionId,
    /// What holds from now on and did not before.
    pub changes: Settings,
}

/// A session of several for which something failed; the others went on.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct FailedSession {
    /// Its id.
    pub session_id: SessionId,
    /// The code, as of any failure.
    pub code: &'static str,
    /// The same as a sentence.
    pub error: String,
}

impl FailedSession {
    /// Makes the entry of an error.
    #[must_use]
    pub fn new(session_id: SessionId, error: &Error) -> Self {
        Self {
            session_id,
            code: error.code.name(),
            error: error.to_string(),
        }
    }
}

/// `session retract`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Retracted {
    /// The session.
    pub session_id: SessionId,
    /// The turn.
    pub turn: EventId,
    /// Whether it was shown before.
    pub changed: bool,
    /// Whether its bytes are still on the disk.
    pub bytes_on_disk: bool,
    /// The same as a sentence, and what takes them away.
    pub message: String,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `session redact`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize)]
pub struct Redactions {
    /// Whether this is what would have been hidden: nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Stretches of text that are hidden now and were not before.
    pub matches: usize,
    /// Where.
    pub sessions: Vec<RedactedSession>,
    /// Drafts that say `[redacted]` now.
    pub drafts: Vec<EventId>,
    /// Drafts of turns that are under way: they were not looked into.
    pub under_way: Vec<EventId>,
    /// Sessions of which hidden bytes are on the disk until they are compacted.
    pub to_compact: Vec<SessionId>,
    /// The same as a sentence, and what takes the bytes away.
    pub message: String,
    /// Sessions in which nothing could be hidden.
    pub failed: Vec<FailedSession>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A session in which something is hidden now.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct RedactedSession {
    /// Its id.
    pub session_id: SessionId,
    /// Events something of which is hidden: turns, settings, horizons.
    pub events: usize,
    /// Stretches of text.
    pub matches: usize,
}

/// A line of `cleanup`.
#[derive(Debug, JsonSchema, Serialize)]
pub struct CleanupLine<'a> {
    /// When.
    pub ts: Timestamp,
    /// What happened: `started`, `round`, `store_missing`, `store_back`, `failed`, `asked` or `stopped`.
    pub event: &'static str,
    /// More of it.
    #[serde(flatten)]
    pub more: CleanupEvent<'a>,
}

impl<'a> CleanupLine<'a> {
    /// Makes the line of an event.
    #[must_use]
    pub fn new(ts: Timestamp, event: CleanupEvent<'a>) -> Self {
        Self {
            ts,
            event: event.name(),
            more: event,
        }
    }
}

/// What happens in the life of a `cleanup`.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
pub enum CleanupEvent<'a> {
    /// It has begun, to go on until a signal.
    Started {
        /// The process.
        pid: u32,
        /// The root of the store.
        store: String,
        /// What is purged: the words of the call.
        asked: &'a str,
        /// Seconds from the beginning of a round to that of the next.
        every_seconds: f64,
    },
    /// It has looked at every session.
    Round {
        /// What is gone.
        #[serde(flatten)]
        purged: Purged,
        /// Why a session that was to go is still there.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// There is no store where there was to be one; it will be looked for again.
    StoreMissing {
        /// Its root.
        store: String,
    },
    /// There is one again.
    StoreBack {
        /// Its root.
        store: String,
    },
    /// A round came to nothing; there will be another.
    Failed {
        /// The code, as of any failure.
        code: &'static str,
        /// The sentence.
        error: String,
    },
    /// A round begins before its time.
    Asked {
        /// By which signal.
        signal: &'static str,
    },
    /// It ends.
    Stopped {
        /// By which signal.
        signal: &'static str,
    },
}

impl CleanupEvent<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Round { .. } => "round",
            Self::StoreMissing { .. } => "store_missing",
            Self::StoreBack { .. } => "store_back",
            Self::Failed { .. } => "failed",
            Self::Asked { .. } => "asked",
            Self::Stopped { .. } => "stopped",
        }
    }
}
