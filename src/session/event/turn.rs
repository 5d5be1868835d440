//! One exchange with a model, and what is known of it: what was sent and what it cost, so that the
//! next request can be judged by it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::is_zero;
use crate::session::attachment::{Blob, ToolResult};
use crate::session::id::EventId;

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
