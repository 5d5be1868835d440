//! What is worth telling about a call that succeeded, in one table: each is a line in `warnings`
//! and on stderr.

use std::fmt;
use std::path::PathBuf;

use crate::session::id::{EventId, SessionId};

/// Something the caller should know that is no failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The reply is not a model's.
    Offline,
    /// Something the prompt refers to is not in it.
    ReferenceUnread {
        /// What was typed behind the `@`.
        path: String,
        /// Why.
        cause: String,
    },
    /// Something the prompt refers to is not whole in it.
    ReferenceCut {
        /// What was typed behind the `@`.
        path: String,
        /// What is in it.
        shown: String,
    },
    /// Other turns were appended while this one was under way.
    Concurrent(Vec<EventId>),
    /// Parts of the session's logs are no events.
    Damaged {
        /// The session.
        session: SessionId,
        /// How many stretches of bytes could not be read.
        places: usize,
    },
    /// Parts of the session's logs that may have a match are no events.
    NotSearched {
        /// The session.
        session: SessionId,
        /// How many stretches of bytes could not be read.
        places: usize,
    },
    /// A session of the list could not be read.
    Unreadable {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    },
    /// A session could not be exported.
    NotExported {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    },
    /// Parts of another copy of a session are no events.
    DamagedCopy {
        /// The session.
        session: SessionId,
        /// How many stretches of bytes could not be read.
        places: usize,
    },
    /// A blob of another copy was left there.
    DamagedBlob {
        /// The session.
        session: SessionId,
        /// Its name.
        name: String,
    },
    /// A session of another copy was left out.
    NotMerged {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    },
    /// Locks do not work where the store is.
    NoLocks,
    /// Older turns left the context with this one.
    Pruned {
        /// How many.
        turns: u64,
        /// The budget that made it necessary.
        max_context_tokens: u64,
    },
    /// The server refused the first request for its length, and a shorter one was sent.
    AskedAgain {
        /// Tokens the server counted in the first.
        tokens: u64,
        /// The window it had for them.
        num_ctx: u64,
    },
    /// What left the context could not be summed up.
    NotSummarized {
        /// Why.
        cause: String,
    },
    /// The server read fewer tokens than it was sent.
    TruncatedByServer {
        /// Tokens it says it read.
        read: u64,
        /// Tokens that were sent, at the least.
        sent: u64,
    },
    /// The reply ended because the window was full.
    WindowFull {
        /// Tokens of the reply.
        tokens: u64,
    },
    /// The reply was to be JSON and is not.
    NotJson,
    /// An image of an earlier turn is not sent again.
    ImageMissing {
        /// Its name.
        image: String,
        /// Why.
        cause: String,
    },
    /// The Python tool of the same name left sessions, and there are none here yet.
    OldDatabase(PathBuf),
    /// The reply had halves of surrogate pairs in it.
    SurrogatesReplaced,
    /// Text that is never to be stored was taken out.
    Withheld {
        /// How many stretches.
        stretches: usize,
    },
    /// A turn is under way that may say what is redacted.
    UnsearchedTurn(EventId),
    /// A draft that may say what is redacted cannot be read.
    UnsearchedDraft(EventId),
    /// What was moved aside as damage may say what is redacted.
    UnsearchedDamage {
        /// The session.
        session: SessionId,
        /// How many files.
        files: usize,
    },
    /// A template cannot be read.
    UnreadableTemplate {
        /// Its name.
        template: String,
        /// Why.
        cause: String,
    },
    /// A template was named for a session that is there already and was begun without it.
    TemplateUnused {
        /// Its name.
        template: String,
    },
    /// A session was not purged because a turn of it is under way.
    UnderWay(SessionId),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => write!(
                f,
                "answered by the built-in echo model: no server was asked (--offline)"
            ),
            Self::ReferenceUnread { path, cause } => {
                write!(f, "`@{path}` is not in the prompt: {cause}")
            }
            Self::ReferenceCut { path, shown } => {
                write!(f, "`@{path}` is not whole in the prompt: {shown}")
            }
            Self::Concurrent(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "turns of other processes were stored while this one was under way, and the model has not seen them: {}",
                    ids.join(", ")
                )
            }
            Self::Damaged { session, places } => {
                write!(
                    f,
                    "{places} unreadable places in the log of session {session} were passed over"
                )
            }
            Self::NotSearched { session, places } => write!(
                f,
                "{places} unreadable places in the log of session {session} may have a match"
            ),
            Self::Unreadable { session, cause } => {
                write!(f, "session {session} is not shown: {cause}")
            }
            Self::NotExported { session, cause } => {
                write!(f, "session {session} is not exported: {cause}")
            }
            Self::DamagedCopy { session, places } => write!(
                f,
                "{places} unreadable places in the other copy of session {session} were left there"
            ),
            Self::DamagedBlob { session, name } => write!(
                f,
                "the blob {name} of the other copy of session {session} is damaged and was left there"
            ),
            Self::NotMerged { session, cause } => {
                write!(f, "session {session} is not merged: {cause}")
            }
            Self::NoLocks => write!(
                f,
                "locks do not work on the file system of the store: turns are kept, their order may not be"
            ),
            Self::Pruned {
                turns,
                max_context_tokens,
            } => {
                write!(
                    f,
                    "{turns} older turns left the context to fit {max_context_tokens} tokens; they stay in the history"
                )
            }
            Self::AskedAgain { tokens, num_ctx } => write!(
                f,
                "the server counted {tokens} tokens for a window of {num_ctx} and refused them; a shorter request was sent"
            ),
            Self::NotSummarized { cause } => {
                write!(
                    f,
                    "the turns that left the context were not summed up: {cause}"
                )
            }
            Self::TruncatedByServer { read, sent } => {
                write!(
                    f,
                    "the server read {read} tokens of at least {sent} that were sent: the model has not seen the rest"
                )
            }
            Self::WindowFull { tokens } => {
                write!(
                    f,
                    "the reply stopped after {tokens} tokens because the context window was full, not at its end"
                )
            }
            Self::NotJson => write!(
                f,
                "the reply is not JSON, though --format asked for it: it is passed on as it came"
            ),
            Self::ImageMissing { image, cause } => write!(
                f,
                "the image {image:?} of an earlier turn is not sent again: {cause}"
            ),
            Self::OldDatabase(path) => write!(
                f,
                "there are sessions of the Python tool in `{}`: ollama-prompt session import --from python brings them in and changes nothing there",
                path.display()
            ),
            Self::SurrogatesReplaced => write!(
                f,
                "the reply had invalid characters in it, replaced by U+FFFD"
            ),
            Self::Withheld { stretches } => write!(
                f,
                "{stretches} stretches of text that fit [redact] in config.toml are stored as [redacted]; what was asked was sent so as well"
            ),
            Self::UnsearchedTurn(draft) => write!(
                f,
                "a turn is under way (draft {draft}): redact again when it has ended, or it will say what is hidden now"
            ),
            Self::UnsearchedDraft(draft) => write!(
                f,
                "the draft {draft} cannot be read and may say what is hidden: session drafts --clear removes it"
            ),
            Self::UnsearchedDamage { session, files } => write!(
                f,
                "{files} files of damage (.damaged-…) in session {session} may say what is hidden: --drop-damaged removes them"
            ),
            Self::UnreadableTemplate { template, cause } => {
                write!(f, "template `{template}` is not shown: {cause}")
            }
            Self::TemplateUnused { template } => write!(
                f,
                "template `{template}` has no effect: the session is there already and was not begun with it"
            ),
            Self::UnderWay(session) => write!(
                f,
                "session {session} is not purged: a turn of it is under way"
            ),
        }
    }
}
