//! Events: the lines of a session's log, as values.
//!
//! A line is one JSON object whose first keys are always `v`, `id`, `type`, `ts`, in this order.
//! Then `sort -u a b` is a correct merge, `grep '"type":"turn"'` works, and the bytes `{"v":`
//! begin an event even inside debris: within a string a quote is escaped, and nothing nested
//! starts with that key. docs/format.md is the description for people.
//!
//! Fields this program does not know are ignored here and survive on disk: lines are never
//! rewritten from these values, only copied.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::attachment::{Blob, ToolResult};
use super::id::{EventId, SessionId};
use crate::json;

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
    /// Something of a turn is hidden.
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

/// What a session remembers between turns. In an event only what it sets is there; for each key
/// the event with the greatest id wins.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Settings {
    /// The model that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What people call the session; empty means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The system prompt; empty means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The context budget in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_tokens: Option<u64>,
    /// How turns are chosen to leave the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Strategy>,
    /// The template it began with; what that said is in the other settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Options of the request that hold for every turn where a flag says nothing else. Each is a
    /// setting of its own; null is one that holds no longer.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Turns that stay in the context whatever leaves it (`true`), or no longer (`false`). Each
    /// turn is a key of its own, so that two copies in which different turns were pinned merge
    /// into one with both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, bool>")]
    pub pins: BTreeMap<EventId, bool>,
    /// Tags by name: whether the session has it. Each is a setting of its own, so that what two
    /// clones changed merges tag by tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, bool>,
}

/// How turns are chosen to leave the context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The oldest first.
    #[default]
    Fifo,
    /// The least important first.
    Importance,
    /// The oldest first, and a summary of them stays.
    Summarize,
    /// None: what does not fit is an error.
    Off,
}

impl Strategy {
    /// Returns the name, as it is typed and stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Importance => "importance",
            Self::Summarize => "summarize",
            Self::Off => "off",
        }
    }
}

impl Settings {
    /// Overlays `later`: what it sets wins.
    pub fn overlay(&mut self, later: Self) {
        let Self {
            model,
            title,
            system,
            max_context_tokens,
            prune,
            template,
            options,
            pins,
            tags,
        } = later;
        self.model = model.or(self.model.take());
        self.title = title.or(self.title.take());
        self.system = system.or(self.system.take());
        self.max_context_tokens = max_context_tokens.or(self.max_context_tokens);
        self.prune = prune.or(self.prune);
        self.template = template.or(self.template.take());
        self.options.extend(options);
        self.pins.extend(pins);
        self.tags.extend(tags);
    }

    /// Returns only what differs from `before`: what a `set` event must say.
    #[must_use]
    pub fn changes_from(&self, before: &Self) -> Self {
        fn changed<T: Clone + PartialEq>(new: &Option<T>, old: &Option<T>) -> Option<T> {
            new.clone().filter(|_| new != old)
        }
        let tags = self.tags.iter();
        let tags = tags.filter(|(name, on)| before.tags.get(*name) != Some(*on));
        Self {
            model: changed(&self.model, &before.model),
            title: changed(&self.title, &before.title),
            system: changed(&self.system, &before.system),
            max_context_tokens: changed(&self.max_context_tokens, &before.max_context_tokens),
            prune: changed(&self.prune, &before.prune),
            template: changed(&self.template, &before.template),
            options: self
                .options
                .iter()
                .filter(|(key, value)| before.options.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            pins: self
                .pins
                .iter()
                .filter(|(id, pin)| before.pins.get(id) != Some(pin))
                .map(|(id, pin)| (*id, *pin))
                .collect(),
            tags: tags.map(|(name, on)| (name.clone(), *on)).collect(),
        }
    }

    /// Returns the model, of settings that were completed with the defaults.
    #[must_use]
    pub fn model(&self) -> &str {
        self.model.as_deref().expect("the defaults name a model")
    }

    /// Returns the context budget in tokens, of settings that were completed with the defaults.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.max_context_tokens.expect("the defaults have a budget")
    }

    /// Tells whether a turn is pinned.
    #[must_use]
    pub fn is_pinned(&self, turn: EventId) -> bool {
        self.pins.get(&turn) == Some(&true)
    }

    /// Returns the title, where there is one.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref().filter(|title| !title.is_empty())
    }

    /// Returns the tags the session has, sorted.
    #[must_use]
    pub fn tag_names(&self) -> Vec<String> {
        let on = self.tags.iter().filter(|(_, on)| **on);
        on.map(|(name, _)| name.clone()).collect()
    }

    /// Tells whether the session has a tag.
    #[must_use]
    pub fn has_tag(&self, name: &str) -> bool {
        self.tags.get(name) == Some(&true)
    }

    /// Tells whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One exchange: the prompt and the complete answer to it.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Turn {
    /// The newest turn in the context that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<EventId>,
    /// Turns that were appended between the reading of the context and the append of this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub concurrent_with: Vec<EventId>,
    /// The model that answered, as the request spelled it.
    #[serde(default)]
    pub model: String,
    /// What the user said, with everything that was expanded into it.
    pub prompt: String,
    /// What was read for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// What the model said.
    pub response: String,
    /// What the model thought before it said that; never sent back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// The tools the model wants called, as the server gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// Why the model stopped: `stop`, `length`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<String>,
    /// The server's own figures.
    #[serde(default)]
    pub usage: Usage,
    /// Whether thinking was asked for, and how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Value>,
    /// The options sent with the request.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// `"json"` or the JSON Schema the reply had to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
    /// How long the model was to stay loaded, as Ollama reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
    /// The tools the model was offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// The results of the calls of `parent`, sent before the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_results: Vec<ToolResult>,
    /// The images of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<Blob>,
    /// What this turn costs when it is sent again.
    #[serde(default)]
    pub tokens: Tokens,
    /// What was sent with it.
    #[serde(default)]
    pub sent: Sent,
    /// The idempotency key it was asked under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

/// An idempotency key and what was asked under it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Key {
    /// The key, as the caller chose it.
    pub key: String,
    /// SHA-256, in hexadecimal, of key and request: not of the history.
    pub request: String,
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

/// Something a prompt refers to, and what was read of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Reference {
    /// What was typed behind the `@`.
    pub path: String,
    /// Bytes of it that are in the prompt: of a file the first so many.
    pub bytes: u64,
    /// SHA-256 of these bytes, in hexadecimal; absent where nothing was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What became of it.
    pub status: ReferenceStatus,
    /// Why nothing was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceStatus {
    /// All of it is in the prompt.
    Ok,
    /// The beginning of it is.
    Truncated,
    /// It is no text.
    Binary,
    /// It could not be read.
    Error,
    /// A status of a newer version.
    #[serde(other)]
    Unknown,
}

/// The server's figures for one reply; absent where it gave none.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Usage {
    /// When the server finished, as it said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Nanoseconds from request to reply, waiting included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_duration: Option<u64>,
    /// Nanoseconds for loading the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_duration: Option<u64>,
    /// Tokens of the whole prompt, those from the server's cache included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_eval_count: Option<u64>,
    /// Nanoseconds for reading the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_eval_duration: Option<u64>,
    /// Tokens of the reply, thinking included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_count: Option<u64>,
    /// Nanoseconds for making the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_duration: Option<u64>,
}

/// What the two messages of a turn cost, in tokens, the template around them included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Tokens {
    /// The user's message.
    pub prompt: u64,
    /// The model's.
    pub response: u64,
    /// How the two were counted.
    pub counted: Counted,
}

/// How a count of tokens came about, from the best to the safest.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// By the server.
    Measured,
    /// From the bytes per token of measured turns.
    Learned,
    /// By tiktoken's `cl100k_base`, with a margin: nothing was measured yet.
    Tiktoken,
    /// One token a byte: more it cannot be.
    #[default]
    #[serde(other)]
    Bytes,
}

/// What went out in one request, so that the next can be judged by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Sent {
    /// The oldest turn that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EventId>,
    /// How many earlier turns were sent.
    pub turns: u64,
    /// How many messages, system and new prompt included.
    pub messages: u64,
    /// Bytes of their text, and of the tools that were offered.
    pub bytes: u64,
    /// How many images they had.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: u64,
    /// The context window asked of the server, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u64>,
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
    /// Redactions of turns from the horizon on when this was written: such a reader has to find
    /// them all as well.
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

/// What is hidden of a turn, everywhere and for ever, also where a merge brings the text back.
/// What was looked for is never in it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Redact {
    /// The turn.
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

impl Event {
    /// Returns the event as its line, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        let body = match &self.body {
            Body::Session(b) => json::line(b),
            Body::Turn(b) => json::line(b),
            Body::Set(b) => json::line(b),
            Body::Prune(b) => json::line(b),
            Body::Redact(b) => json::line(b),
            Body::Unknown(_) => unreachable!("only known events are written"),
        };
        #[derive(Serialize)]
        struct Envelope<'a> {
            v: u32,
            id: EventId,
            r#type: &'a str,
            ts: Timestamp,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<u64>,
        }
        let mut line = json::line(&Envelope {
            v: self.v,
            id: self.id,
            r#type: self.body.type_name(),
            ts: self.ts,
            at: self.at,
        });
        line.pop();
        if body != "{}" {
            line.push(',');
        }
        line.push_str(&body[1..]);
        line
    }

    /// Makes the event that would follow all those of a session, to see what would come of it.
    #[must_use]
    pub fn next_to(session: &super::fold::Session, body: Body) -> Self {
        let id = EventId::next(0, session.highest, 0);
        Self {
            v: VERSION,
            id,
            ts: Timestamp::from_ms(id.timestamp_ms()),
            at: None,
            body,
        }
    }

    /// Reads an event from the bytes of one JSON object.
    ///
    /// # Errors
    /// When the bytes are no JSON object with a valid id and a type, or say of a type this
    /// program knows, in a version it knows, what it does not understand.
    pub fn from_slice(bytes: &[u8]) -> serde_json::Result<Self> {
        Self::in_order(bytes).or_else(|_| Self::in_any_order(bytes))
    }

    /// Reads what this program writes, keys in order, in one pass.
    fn in_order(bytes: &[u8]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let event = deserializer.deserialize_map(InOrder)?;
        deserializer.end()?;
        Ok(event)
    }

    /// Reads what people and other programs make of a line: first the envelope, then the rest.
    fn in_any_order(bytes: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default = "version_one")]
            v: u32,
            id: EventId,
            r#type: String,
            ts: Option<Timestamp>,
            at: Option<u64>,
        }
        fn version_one() -> u32 {
            VERSION
        }
        let Envelope {
            v,
            id,
            r#type,
            ts,
            at,
        } = serde_json::from_slice(bytes)?;
        let body = match Body::read(&r#type, &mut serde_json::Deserializer::from_slice(bytes)) {
            Ok(body) => body,
            Err(_) if v > VERSION => Body::Unknown(r#type),
            Err(error) => return Err(error),
        };
        let ts = ts.unwrap_or_else(|| Timestamp::from_ms(id.timestamp_ms()));
        Ok(Self {
            v,
            id,
            ts,
            at,
            body,
        })
    }
}

impl Body {
    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error> {
        Ok(match kind {
            "session" => Self::Session(Header::deserialize(rest)?),
            "turn" => Self::Turn(Box::new(Turn::deserialize(rest)?)),
            "set" => Self::Set(Settings::deserialize(rest)?),
            "prune" => Self::Prune(Prune::deserialize(rest)?),
            "redact" => Self::Redact(Redact::deserialize(rest)?),
            other => {
                IgnoredAny::deserialize(rest)?;
                Self::Unknown(other.to_owned())
            }
        })
    }
}

/// Reads the envelope and hands the rest of the same pass to the type's own struct, so that a
/// long prompt is read once.
struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let v: u32 = value_of("v", &mut map)?;
        let id: EventId = value_of("id", &mut map)?;
        let kind: &str = value_of("type", &mut map)?;
        let ts: Timestamp = value_of("ts", &mut map)?;
        if v > VERSION {
            return Err(A::Error::custom("a newer version"));
        }
        let mut key = map.next_key::<&'de str>()?;
        let mut at = None;
        if key == Some("at") {
            at = map.next_value()?;
            key = map.next_key()?;
        }
        let body = Body::read(kind, MapAccessDeserializer::new(Rest { key, map }))?;
        Ok(Event {
            v,
            id,
            ts,
            at,
            body,
        })
    }
}

fn value_of<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    key: &'static str,
    map: &mut A,
) -> Result<T, A::Error> {
    if map.next_key::<&'de str>()? != Some(key) {
        return Err(A::Error::custom("keys in another order"));
    }
    map.next_value()
}

/// The rest of an object whose next key was read already.
struct Rest<'de, A> {
    key: Option<&'de str>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        match self.key.take() {
            Some(key) => seed
                .deserialize(BorrowedStrDeserializer::new(key))
                .map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn a_line_begins_with_the_four_keys_and_its_offset() {
        let mut e = turn(1_700_000_000_000, "hi", "ho");
        e.at = Some(17);
        let line = e.to_line();
        assert!(
            line.starts_with(&format!(
                r#"{{"v":1,"id":"{}","type":"turn","ts":"2023-11-14T22:13:20.000Z","at":17,"model":"#,
                e.id
            )),
            "{line}"
        );
        let empty = event(5, Body::Set(Settings::default()));
        assert!(
            empty
                .to_line()
                .ends_with(r#""ts":"1970-01-01T00:00:00.005Z"}"#)
        );
    }

    #[test]
    fn a_line_another_hand_wrote_is_read_the_same() {
        let e = turn(7, "a", "b");
        let shuffled = format!(
            r#" {{ "response":"b", "type":"turn","new":[1,{{"v":1}}],"prompt":"a","id":"{}" }}"#,
            e.id
        );
        let got = Event::from_slice(shuffled.as_bytes()).expect("an event");
        assert_eq!(got, e);
    }

    #[test]
    fn what_a_newer_program_wrote_is_kept_and_what_is_broken_is_not() {
        let id = id(9);
        let rows: [(String, Option<&str>); 8] = [
            (
                format!(
                    r#"{{"v":1,"id":"{id}","type":"dance","ts":"2026-01-01T00:00:00Z","x":1}}"#
                ),
                Some("dance"),
            ),
            (
                format!(
                    r#"{{"v":2,"id":"{id}","type":"turn","ts":"2026-01-01T00:00:00Z","prompt":{{}}}}"#
                ),
                Some("turn"),
            ),
            (
                format!(
                    r#"{{"v":2,"id":"{id}","type":"set","ts":"2026-01-01T00:00:00Z","model":"m"}}"#
                ),
                Some("set"),
            ),
            (
                format!(
                    r#"{{"v":1,"id":"{id}","type":"turn","ts":"2026-01-01T00:00:00Z","prompt":7}}"#
                ),
                None,
            ),
            (
                format!(r#"{{"v":1,"id":"{id}","ts":"2026-01-01T00:00:00Z"}}"#),
                None,
            ),
            (
                r#"{"v":1,"id":"zzz","type":"turn","ts":"2026-01-01T00:00:00Z"}"#.to_owned(),
                None,
            ),
            (format!(r#"[{{"v":1,"id":"{id}"}}]"#), None),
            (
                format!(r#"{{"v":1,"id":"{id}","type":"set","ts":"2026-01-01T00:00:00Z"}} x"#),
                None,
            ),
        ];
        for (line, expected) in rows {
            let got = Event::from_slice(line.as_bytes()).ok();
            assert_eq!(got.as_ref().map(|e| e.body.type_name()), expected, "{line}");
        }
    }

    #[test]
    fn settings_overlay_key_by_key_and_say_what_changed() {
        let before = Settings {
            model: Some("a".into()),
            system: Some("s".into()),
            tags: [("x".into(), true), ("y".into(), true)].into(),
            ..Settings::default()
        };
        let change = Settings {
            model: Some("b".into()),
            tags: [("x".into(), false), ("z".into(), true)].into(),
            ..Settings::default()
        };
        let mut after = before.clone();
        after.overlay(change.clone());
        assert_eq!(
            after,
            Settings {
                model: Some("b".into()),
                tags: [("x".into(), false), ("y".into(), true), ("z".into(), true)].into(),
                ..before.clone()
            }
        );
        assert!(after.has_tag("y") && !after.has_tag("x") && !after.has_tag("w"));
        assert_eq!(after.changes_from(&before), change);
        assert!(after.changes_from(&after).is_empty());
    }

    proptest! {
        #[test]
        fn any_turn_comes_back_from_its_line(prompt: String, response: String, thinking: Option<String>, at: Option<u64>) {
            let mut e = turn(3, &prompt, &response);
            e.at = at;
            if let Body::Turn(t) = &mut e.body { t.thinking = thinking; }
            let line = e.to_line();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(line.matches("{\"v\":").count(), 1);
            prop_assert_eq!(Event::in_order(line.as_bytes()).expect("as written"), e);
        }

        #[test]
        fn a_line_cut_anywhere_is_no_event(cut in 0usize..200) {
            let line = turn(3, "hello {\"v\":1", "x").to_line();
            let cut = cut.min(line.len() - 1);
            prop_assert!(Event::from_slice(&line.as_bytes()[..cut]).is_err());
        }
    }
}
