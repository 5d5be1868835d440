//! What is worth telling about a call that succeeded, in one table: each is a line in `warnings`
//! and on stderr, and an entry in docs/troubleshooting.md.

use std::fmt;

use crate::session::id::{EventId, SessionId};

macro_rules! warnings {
    ($(
        $(#[doc = $doc:literal])*
        $variant:ident
        $(($value:ident: $type:ty))?
        $({$($(#[doc = $of_field:literal])* $field:ident: $of:ty,)*})?
        = $sentence:literal;
    )*) => {
        /// Something the caller should know that is no failure.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Warning {$(
            $(#[doc = $doc])*
            $variant $(($type))? $({$($(#[doc = $of_field])* $field: $of,)*})?,
        )*}

        impl Warning {
            /// Every sentence, in the order of the table; what varies is a name in braces.
            pub const SENTENCES: &'static [&'static str] = &[$($sentence),*];
        }

        impl fmt::Display for Warning {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {$(
                    Self::$variant $(($value))? $({$($field),*})? => write!(f, $sentence),
                )*}
            }
        }
    };
}

warnings! {
    /// The reply is not a model's.
    Offline = "answered by the built-in echo model: no server was asked (--offline)";
    /// Something the prompt refers to is not in it.
    ReferenceUnread {
        /// What was typed behind the `@`.
        path: String,
        /// Why.
        cause: String,
    } = "`@{path}` is not in the prompt: {cause}";
    /// Something the prompt refers to is not whole in it.
    ReferenceCut {
        /// What was typed behind the `@`.
        path: String,
        /// What is in it.
        shown: String,
    } = "`@{path}` is not whole in the prompt: {shown}";
    /// Other turns were appended while this one was under way.
    Concurrent(turns: Turns) = "turns of other processes were stored while this one was under way, and the model has not seen them: {turns}";
    /// Parts of the session's logs are no events.
    Damaged {
        /// The session.
        session: SessionId,
        /// How many stretches of bytes could not be read.
        places: usize,
    } = "{places} unreadable places in the log of session {session} were passed over";
    /// Parts of the session's logs that may have a match are no events.
    NotSearched {
        /// The session.
        session: SessionId,
        /// How many stretches of bytes could not be read.
        places: usize,
    } = "{places} unreadable places in the log of session {session} may have a match";
    /// A session of the list could not be read.
    Unreadable {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    } = "session {session} is not shown: {cause}";
    /// A session could not be exported.
    NotExported {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    } = "session {session} is not exported: {cause}";
    /// Parts of another copy of a session are no events.
    DamagedCopy {
        /// The session.
        session: SessionId,
        /// How many stretches of bytes could not be read.
        places: usize,
    } = "{places} unreadable places in the other copy of session {session} were left there";
    /// A blob of another copy was left there.
    DamagedBlob {
        /// The session.
        session: SessionId,
        /// Its name.
        name: String,
    } = "the blob {name} of the other copy of session {session} is damaged and was left there";
    /// A session of another copy was left out.
    NotMerged {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    } = "session {session} is not merged: {cause}";
    /// A session was not copied.
    NotCopied {
        /// The session.
        session: SessionId,
        /// Why.
        cause: String,
    } = "session {session} is not copied: {cause}";
    /// Locks do not work where the store is.
    NoLocks = "locks do not work on the file system of the store: turns are kept, their order may not be";
    /// Older turns left the context with this one.
    Pruned {
        /// How many.
        turns: u64,
        /// The budget that made it necessary.
        max_context_tokens: u64,
    } = "{turns} older turns left the context to fit {max_context_tokens} tokens; they stay in the history";
    /// The server refused the first request for its length, and a shorter one was sent.
    AskedAgain {
        /// Tokens the server counted in the first.
        tokens: u64,
        /// The window it had for them.
        num_ctx: u64,
    } = "the server counted {tokens} tokens for a window of {num_ctx} and refused them; a shorter request was sent";
    /// What left the context could not be summed up.
    NotSummarized {
        /// Why.
        cause: String,
    } = "the turns that left the context were not summed up: {cause}";
    /// The server read fewer tokens than it was sent.
    TruncatedByServer {
        /// Tokens it says it read.
        read: u64,
        /// Tokens that were sent, at the least.
        sent: u64,
    } = "the server read {read} tokens of at least {sent} that were sent: the model has not seen the rest";
    /// The reply ended because the window was full.
    WindowFull {
        /// Tokens of the reply.
        tokens: u64,
    } = "the reply stopped after {tokens} tokens because the context window was full, not at its end";
    /// The reply was to be JSON and is not.
    NotJson = "the reply is not JSON, though --format asked for it: it is passed on as it came";
    /// An image of an earlier turn is not sent again.
    ImageMissing {
        /// Its name.
        image: String,
        /// Why.
        cause: String,
    } = "the image {image:?} of an earlier turn is not sent again: {cause}";
    /// The Python tool of the same name left sessions, and there are none here yet.
    OldDatabase(path: String) = "there are sessions of the Python tool in `{path}`: ollama-prompt session import --from python brings them in and changes nothing there";
    /// The reply had halves of surrogate pairs in it.
    SurrogatesReplaced = "the reply had invalid characters in it, replaced by U+FFFD";
    /// Text that is never to be stored was taken out.
    Withheld {
        /// How many stretches.
        stretches: usize,
    } = "{stretches} stretches of text that fit [redact] in config.toml are stored as [redacted]; what was asked was sent so as well";
    /// A turn is under way that may say what is redacted.
    UnsearchedTurn(draft: EventId) = "a turn is under way (draft {draft}): redact again when it has ended, or it will say what is hidden now";
    /// A draft that may say what is redacted cannot be read.
    UnsearchedDraft(draft: EventId) = "the draft {draft} cannot be read and may say what is hidden: session drafts --clear removes it";
    /// What was moved aside as damage may say what is redacted.
    UnsearchedDamage {
        /// The session.
        session: SessionId,
        /// How many files.
        files: usize,
    } = "{files} files of damage (.damaged-…) in session {session} may say what is hidden: --drop-damaged removes them";
    /// A template cannot be read.
    UnreadableTemplate {
        /// Its name.
        template: String,
        /// Why.
        cause: String,
    } = "template `{template}` is not shown: {cause}";
    /// A default was written where none is looked for.
    NoVariable {
        /// What was written, with its braces.
        text: String,
        /// The name and the default, as `--var` takes them.
        variable: String,
    } = "`{text}` in the system prompt is no variable: write its name alone, and give the default with --var {variable}";
    /// A template was named for a session that is there already and was begun without it.
    TemplateUnused {
        /// Its name.
        template: String,
    } = "template `{template}` has no effect: the session is there already and was not begun with it";
    /// A session was not purged because a turn of it is under way.
    UnderWay(session: SessionId) = "session {session} is not purged: a turn of it is under way";
}

/// Turns, to be named one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns(pub Vec<EventId>);

impl fmt::Display for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, id) in self.0.iter().enumerate() {
            let before = if at == 0 { "" } else { ", " };
            write!(f, "{before}{id}")?;
        }
        Ok(())
    }
}
