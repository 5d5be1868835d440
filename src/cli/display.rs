//! What is printed beside results: schemas of them.

use clap::{Args, ValueEnum};

use super::typed::UTILITIES;

/// The flags.
#[derive(Debug, Args)]
pub(super) struct Display {
    /// Print the JSON Schema of what is printed or stored: turn, list, info, error, event, chunk (a line of --output jsonl but the last), seen (a line of session watch), plan (--dry-run), sent (the context of a past turn), purged, compacted, verified, merged, exported (session export --out), drafts, cleared, pinned, pruned or reindexed
    #[arg(long, value_name = "SHAPE", hide_possible_values = true, help_heading = UTILITIES)]
    pub(super) print_schema: Option<Shape>,
}

/// Something that is printed or stored, and has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A turn; also the last line of `--output jsonl`.
    Turn,
    /// A line of `--output jsonl` before the last.
    Chunk,
    /// `--list-sessions`.
    List,
    /// `--session-info`.
    Info,
    /// A failure on standard error.
    Error,
    /// A line of a session's log.
    Event,
    /// A line of `session watch`.
    Seen,
    /// `--dry-run`.
    Plan,
    /// `session show --context`.
    Sent,
    /// `--purge`, `session purge` and `session delete`.
    Purged,
    /// `session compact`.
    Compacted,
    /// `session verify`.
    Verified,
    /// `session merge`.
    Merged,
    /// `session export --out`.
    Exported,
    /// `session drafts`.
    Drafts,
    /// `session drafts --clear`.
    Cleared,
    /// `session pin` and `unpin`.
    Pinned,
    /// `session prune`.
    Pruned,
    /// `session reindex`.
    Reindexed,
}

impl Shape {
    /// Returns the name, as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Chunk => "chunk",
            Self::List => "list",
            Self::Info => "info",
            Self::Error => "error",
            Self::Event => "event",
            Self::Seen => "seen",
            Self::Plan => "plan",
            Self::Sent => "sent",
            Self::Purged => "purged",
            Self::Compacted => "compacted",
            Self::Verified => "verified",
            Self::Merged => "merged",
            Self::Exported => "exported",
            Self::Drafts => "drafts",
            Self::Cleared => "cleared",
            Self::Pinned => "pinned",
            Self::Pruned => "pruned",
            Self::Reindexed => "reindexed",
        }
    }
}
