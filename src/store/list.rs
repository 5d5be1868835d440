//! The list of sessions: what it shows of each, so that a store may remember just that.

use crate::error::Error;
use crate::session::id::SessionId;
use crate::session::summary::Summary;

/// What the list knows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: SessionId,
    /// What it shows.
    pub summary: Summary,
    /// Places of it that are no events.
    pub damaged: usize,
    /// Bytes of its events.
    pub bytes: u64,
}

/// All sessions, oldest first.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that could be read.
    pub sessions: Vec<Listed>,
    /// Those that could not, and why.
    pub unreadable: Vec<(SessionId, Error)>,
}
