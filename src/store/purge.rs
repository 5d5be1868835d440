//! Purge: the deliberate end of whole sessions, which leaves a receipt. It keeps a session from
//! coming back by a merge or an import, unless that is asked for, and by a writer that read the
//! session before.

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::session::event::{Timestamp, VERSION};
use crate::session::fold::Session;
use crate::session::id::SessionId;

/// What is left of a purged session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The format version.
    pub v: u32,
    /// The session.
    pub session: SessionId,
    /// How many turns it had.
    pub turns: u64,
    /// How many bytes it had.
    pub bytes: u64,
    /// When it was last used.
    pub last_used: Option<Timestamp>,
    /// When it was purged.
    pub purged_at: Timestamp,
    /// What was asked for.
    pub why: String,
}

impl Receipt {
    /// Returns the receipt of a session that is purged now.
    #[must_use]
    pub fn of(id: SessionId, session: &Session, bytes: u64, why: &str) -> Self {
        Self {
            v: VERSION,
            session: id,
            turns: session.turn_count(),
            bytes,
            last_used: session.last_used(),
            purged_at: clock::now(),
            why: why.to_owned(),
        }
    }
}
