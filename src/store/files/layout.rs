//! Names and paths, spelled once.
//!
//! ```text
//! ~/.ollama-prompt/                     0700  the root
//! ├── .gitignore
//! ├── .gitattributes
//! ├── sessions/                         0700  all that matters: copy, commit, grep this
//! │   ├── .gitattributes
//! │   └── 019aa0c4-7d10-7c3e-…/         0700  a session: the directory is the whole of it
//! │       ├── events.jsonl              0600  its log
//! │       ├── .damaged-01KAV8Z0…        0600  what was found in it and is no event
//! │       └── blobs/<sha256>            0600  bytes that are no text
//! ├── open/01KAV8Z0….json               0600  drafts: turns under way, failed or killed
//! ├── locks/00 … ff                     0600  empty targets for flock
//! ├── locks/turn-…, key-…               0600  the same for turns that keep others waiting
//! ├── cache/models.json                 0600  the windows models have; may be deleted at any time
//! ├── cache/index.jsonl                 0600  what the list shows; derived, may be deleted
//! ├── purged.jsonl                      0600  receipts of what was purged
//! ├── templates/NAME.toml               0600  what sessions are begun with; optional
//! └── config.toml                             settings, written by the user; optional
//! ```

/// The directory of sessions, beneath the root.
pub const SESSIONS: &str = "sessions";
/// The directory of drafts, beneath the root.
pub const OPEN: &str = "open";
/// The directory of lock files, beneath the root.
pub const LOCKS: &str = "locks";
/// The beginning of the name, beneath [`LOCKS`], of what a turn holds that keeps others of its
/// session waiting; the session's id follows.
pub const TURN_LOCK: &str = "turn-";
/// The beginning of the name, beneath [`LOCKS`], of what a turn holds that has an idempotency key;
/// a hash of session and key follows.
pub const KEY_LOCK: &str = "key-";
/// The directory of what can be made again, beneath the root.
pub const CACHE: &str = "cache";
/// What is remembered of models, beneath [`CACHE`].
pub const MODELS: &str = "models.json";
/// The index of sessions, beneath [`CACHE`].
pub const INDEX: &str = "index.jsonl";
/// The receipts of purged sessions, beneath the root.
pub const PURGED: &str = "purged.jsonl";
/// The directory of templates, beneath the root.
pub const TEMPLATES: &str = "templates";
/// The suffix of a template.
pub const TEMPLATE_SUFFIX: &str = ".toml";
/// The user's settings, beneath the root.
pub const CONFIG: &str = "config.toml";
/// The log writers append to, beneath a session's directory. Readers fold every file there that
/// ends in [`LOG_SUFFIX`] and does not begin with a dot.
pub const LOG: &str = "events.jsonl";
/// What makes a file of a session's directory part of the session.
pub const LOG_SUFFIX: &str = ".jsonl";
/// The directory of bytes that are no text, beneath a session's directory; each file is named by
/// its SHA-256.
pub const BLOBS: &str = "blobs";
/// The suffix of a draft.
pub const DRAFT_SUFFIX: &str = ".json";
/// The beginning of a temporary file's name.
pub const TEMPORARY: &str = ".tmp-";
/// The beginning of the name a session has between its purge and the removal of its bytes.
pub const TRASH: &str = ".trash-";
/// The beginning of the name of what a repair moved aside: bytes that are no event, and what
/// stood where a log or a session should be.
pub const DAMAGED: &str = ".damaged-";

/// Permissions of every directory: the user's alone.
pub use crate::platform::DIRECTORY_MODE;
/// Permissions of every file.
pub use crate::platform::FILE_MODE;

/// `.gitignore` of the root: what is derived, local or temporary stays out of git.
pub const GITIGNORE: &str = "cache/\nlocks/\nopen/\n.tmp-*\n.trash-*\n";
/// `.gitattributes` of the root and of `sessions`: two clones that each went on with a session
/// merge by lines, and nobody converts line ends.
pub const GITATTRIBUTES: &str = "*.jsonl -text merge=union\n";

/// Tells whether a file of this name in a session's directory is one of its logs.
#[must_use]
pub fn is_log_name(name: &str) -> bool {
    name.ends_with(LOG_SUFFIX) && !name.starts_with('.')
}
