//! What a compaction keeps, and what it did.
//!
//! Kept are the lines as they are, each id once, and no blob that nobody names. What was redacted
//! leaves its line ([`super::history::History::lines`] has lines as they are then), the events that
//! say so stay. Turns that nobody is sent go only if that is asked for, and never the newest one,
//! which says when the session was last used.

use crate::session::fold::Session;
use crate::session::id::EventId;

/// Tells whether a turn is still sent: it is in the context, and not retracted. The session may be
/// one of which the turns were left aside.
#[must_use]
pub fn is_sent(session: &Session, turn: EventId) -> bool {
    let is_retracted = || session.hidden.get(&turn).is_some_and(|h| h.is_whole());
    session.is_in_context(turn) && !is_retracted()
}

/// What a compaction did to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compaction {
    /// There is no such session.
    NotThere,
    /// There was nothing to do; no byte was changed.
    Untouched,
    /// The session is smaller now, or in order.
    Done(Compacted),
}

/// What was gained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the session before.
    pub bytes_before: u64,
    /// And after; damage that was moved aside is among them.
    pub bytes_after: u64,
    /// Lines whose id another line has.
    pub dropped_duplicates: u64,
    /// Turns that are not in the history any more.
    pub dropped_turns: u64,
    /// Where what was no event is now, if it was moved.
    pub damaged_bytes_moved_to: Option<String>,
}
