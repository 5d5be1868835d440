//! What a compaction did.

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
