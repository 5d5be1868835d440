//! What a verification finds, and what a repair does about it.
//!
//! A [`Kind`] is either a problem, or something that is good to know and right as it is: readers are
//! built for it.

use super::snapshot::Damage;
use crate::session::id::SessionId;

/// How far ahead of this clock an id may be before that is worth telling, in milliseconds.
pub const FAR_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $problem:literal;)*) => {
        /// What was found. The names are a contract with calling programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant),* }

        impl Kind {
            /// Returns the name programs see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Tells whether something is wrong; else it is good to know and right as it is.
            #[must_use]
            pub const fn is_problem(self) -> bool {
                match self { $(Self::$variant => $problem),* }
            }
        }
    };
}

kinds! {
    /// Bytes of a log that are no event.
    DamagedLine = "damaged_line", true;
    /// An event whose id another one has, with other bytes, which counts in its place.
    ConflictingEvent = "conflicting_event", true;
    /// A log that is a link, a pipe, a device or a directory.
    NotAFile = "not_a_file", true;
    /// Something else under the name of a session.
    NotADirectory = "not_a_directory", true;
    /// Permissions that let others in, or the user out.
    WrongMode = "wrong_mode", true;
    /// Something that belongs to another user.
    WrongOwner = "wrong_owner", true;
    /// A line of the receipts that is none.
    DamagedReceipt = "damaged_receipt", true;
    /// A blob that a turn names and that is not there.
    MissingBlob = "missing_blob", true;
    /// A blob whose bytes are not those that were stored.
    DamagedBlob = "damaged_blob", true;
    /// What cannot be read at all.
    Unreadable = "unreadable", true;
    /// An unfinished last line: a write under way, or one that was cut short.
    TornTail = "torn_tail", false;
    /// An id that is ahead of the clock: the order of events is kept all the same.
    FutureId = "future_id", false;
    /// Events that do not stand where they were written: merged, edited or compacted.
    OutOfPlace = "out_of_place", false;
    /// An event of a newer program.
    NewerVersion = "newer_version", false;
    /// A directory named as a session that holds no event: a first turn was cut short.
    NoEvent = "no_event", false;
    /// Something among the sessions that is none.
    ForeignName = "foreign_name", false;
    /// A file that was being written, removed or moved aside.
    Leftover = "leftover", false;
    /// A blob no turn names: a turn was cut short, or is on its way.
    UnreferencedBlob = "unreferenced_blob", false;
    /// A turn that failed or was killed.
    UnfinishedTurn = "unfinished_turn", false;
    /// A receipt of a session that is there: its purge was cut short, or it came back.
    VoidReceipt = "void_receipt", false;
}

/// One thing that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The session it belongs to.
    pub session: Option<SessionId>,
    /// What has it, by the name the store has for that.
    pub place: String,
    /// Offset of the first byte it is about.
    pub offset: Option<u64>,
    /// How many bytes.
    pub bytes: Option<u64>,
    /// The same as a sentence.
    pub message: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

/// What a verification found.
#[derive(Debug, Default)]
pub struct Report {
    /// How much was looked at.
    pub checked: Checked,
    /// What was found, in the order it was looked at.
    pub findings: Vec<Finding>,
}

/// Something that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// What was wrong.
    pub kind: Kind,
    /// The session it belongs to.
    pub session: Option<SessionId>,
    /// What had it, by the name the store has for that.
    pub place: String,
    /// Where it was.
    pub damage: Option<Damage>,
    /// Where it is now, by the name the store has for that; `None` where nothing was moved.
    pub moved_to: Option<String>,
}
