//! Events: the lines of a session's log, as values.
//!
//! A line is one JSON object whose first keys are always `v`, `id`, `type`, `ts`, in this order.
//! Then `sort -u a b` is a correct merge, `grep '"type":"turn"'` works, and the bytes `{"v":`
//! begin an event even inside debris: within a string a quote is escaped, and nothing nested
//! starts with that key. docs/format.md is the description for people.
//!
//! Fields this program does not know are ignored here and survive on disk: lines are never
//! rewritten from these values, only copied.

mod line;
mod settings;
mod turn;

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use settings::{Settings, Strategy};
pub use turn::{Counted, Key, Reference, ReferenceStatus, Sent, Tokens, Turn, Usage};

use super::id::{EventId, SessionId};

/// The format version this program writes. A higher one is shown as far as it is understood and
/// never appended to.
pub const VERSION: u32 = 1;

/// A moment, RFC 3339 UTC with milliseconds and `Z` wherever it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(extend("format" = "date-time"))]
pub struct Timestamp(#[schemars(with = "String")] pub DateTime<Utc>);

impl Timestamp {
    /// Returns the moment `ms` milliseconds after 1970; one that cannot be represented is 1970.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        let ms = i64::try_from(ms).unwrap_or(0);
        Self(DateTime::from_timestamp_millis(ms).unwrap_or_default())
    }

    /// Returns the moment without what is finer than a millisecond, as it is printed.
    #[must_use]
    pub fn to_the_millisecond(self) -> Self {
        Self(DateTime::from_timestamp_millis(self.0.timestamp_millis()).unwrap_or(self.0))
    }

    /// Returns milliseconds since 1970; a moment before it is 0.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.timestamp_millis()).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DateTime::<Utc>::deserialize(deserializer).map(Self)
    }
}

/// One event of a session.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct Event {
    /// The format version of the line.
    pub v: u32,
    /// Its place in the order of the session.
    pub id: EventId,
    /// The wall clock when it was written; for people and for purge, never for order.
    pub ts: Timestamp,
    /// The byte offset at which the line was written. If the last line of a log stands where it
    /// says, nothing was inserted before it since.
    #[schemars(default)]
    pub at: Option<u64>,
    /// What happened.
    #[schemars(flatten)]
    pub body: Body,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(tag = "type", rename_all = "lowercase")]
pub enum Body {
    /// The first line of a log.
    Session(Header),
    /// One exchange.
    Turn(Box<Turn>),
    /// Settings that hold from here on.
    Set(Settings),
    /// The horizon moved.
    Prune(Prune),
    /// Something of another event is hidden.
    Redact(Redact),
    /// A type of a newer version; kept on disk and ignored.
    #[schemars(skip)]
    Unknown(String),
}

impl Body {
    /// Returns the name of the type, as it is in the line.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Session(_) => "session",
            Self::Turn(_) => "turn",
            Self::Set(_) => "set",
            Self::Prune(_) => "prune",
            Self::Redact(_) => "redact",
            Self::Unknown(name) => name,
        }
    }
}

/// What this program writes into the header of the sessions it makes.
pub const APP: &str = concat!("ollama-prompt ", env!("CARGO_PKG_VERSION"));

/// The first line of a log: who began it and with what settings.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Header {
    /// The program and version that made the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Where it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// The session it is a fork of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    /// The settings it began with.
    #[serde(flatten)]
    pub settings: Settings,
}

/// The conversation of another program that a session was.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Imported {
    /// The program: `python`, `llm`, …
    pub from: String,
    /// What it calls the conversation.
    #[serde(default)]
    pub id: String,
    /// The session that it is a branch of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<SessionId>,
}

/// Where a session that is a fork began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ForkedFrom {
    /// The session whose history it has.
    pub session: SessionId,
    /// The last turn of that which it has; absent where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<EventId>,
}

/// The horizon: turns before it leave the context, never the history.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Prune {
    /// The turn from which on all are in.
    pub keep_from: EventId,
    /// Older turns that are in as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<KeptTurn>,
    /// How the choice was made.
    pub strategy: String,
    /// What the turns that left are summed up as; sent in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The budget the choice was made for, in tokens: the session's, or the model's window if
    /// that was smaller. A larger one brings turns back.
    #[serde(default)]
    pub budget: u64,
    /// Whether this may lie before the horizon in force.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// Turns from the horizon on when this was written: a reader who starts from the end has them
    /// all when it has as many.
    pub kept_turns: u64,
    /// Turns that are not in, retracted ones among them.
    pub dropped_turns: u64,
    /// Their tokens, as far as known.
    pub dropped_tokens: u64,
    /// Redactions of what is from the horizon on, or in `keep`, when this was written: such a reader
    /// has to find them all as well.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_redacts: u64,
    /// The settings in force, so that such a reader need not go further back for them.
    pub settings: Settings,
}

/// A turn before the horizon that is still in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct KeptTurn {
    /// The turn.
    pub id: EventId,
    /// Where its line is said to stand, for a reader who starts from the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What is hidden of an event, everywhere and for ever, also where a merge brings the text back.
/// What was looked for is never in it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Redact {
    /// The event: a turn, or another that says something.
    pub turn: EventId,
    /// For each field the byte ranges of its text that are hidden, `[start, end)`, in the text as
    /// it was first stored. Without any field the whole turn is retracted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Vec<[u64; 2]>>,
    /// How many bytes each of these fields had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub original: BTreeMap<String, u64>,
    /// What was hashed before the hidden text, so that it cannot be guessed from the hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// SHA-256 of salt and hidden text: who has the text can prove that this is it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl Redact {
    /// Returns the event that retracts a whole turn.
    #[must_use]
    pub fn whole(turn: EventId) -> Self {
        Self {
            turn,
            fields: BTreeMap::new(),
            original: BTreeMap::new(),
            salt: None,
            hash: None,
        }
    }

    /// Tells whether the whole turn is retracted.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.fields.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn id(ms: u64) -> EventId {
        EventId::next(ms, None, u128::from(ms))
    }

    pub(crate) fn event(ms: u64, body: Body) -> Event {
        Event {
            v: VERSION,
            id: id(ms),
            ts: Timestamp::from_ms(ms),
            at: None,
            body,
        }
    }

    pub(crate) fn turn(ms: u64, prompt: &str, response: &str) -> Event {
        let (prompt, response) = (prompt.to_owned(), response.to_owned());
        event(
            ms,
            Body::Turn(Box::new(Turn {
                prompt,
                response,
                ..Turn::default()
            })),
        )
    }
}
