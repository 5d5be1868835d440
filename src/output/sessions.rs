//! The shapes of what is printed about sessions: the list, one of them, what is unfinished.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::session::attachment::{Blob, ToolResult};
use crate::session::event::{Counted, Timestamp};
use crate::session::id::{EventId, SessionId};

/// `--list-sessions`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct SessionList {
    /// The sessions that were asked for, the last used first if no other order was.
    pub sessions: Vec<SessionSummary>,
    /// How many there are of them, shown or not.
    pub total: usize,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A session in the list.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct SessionSummary {
    /// Its id.
    pub session_id: SessionId,
    /// The model the next turn asks.
    pub model_name: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When its last turn was stored.
    pub last_used: Option<Timestamp>,
    /// Messages ever said, two a turn.
    pub message_count: u64,
    /// Tokens of the turns that are in the context.
    pub context_tokens: u64,
    /// The context budget.
    pub max_context_tokens: Option<u64>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its tags, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Bytes of its logs.
    pub bytes: u64,
}

/// `--session-info`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct SessionInfo {
    /// Its id.
    pub session_id: SessionId,
    /// The model the next turn asks.
    pub model_name: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When its last turn was stored.
    pub last_used: Option<Timestamp>,
    /// The context budget.
    pub max_context_tokens: Option<u64>,
    /// Tokens of the turns that are in the context.
    pub context_tokens: u64,
    /// The one in percent of the other.
    pub context_usage_percent: f64,
    /// Messages ever said, two a turn.
    pub message_count: usize,
    /// Every message ever said, oldest first; those of one turn, where one is asked for.
    pub messages: Vec<SaidMessage>,
    /// The system prompt in force.
    pub system_prompt: Option<String>,
    /// What else is known.
    pub metadata: Metadata,
    /// Turns that are under way, failed or were killed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct SaidMessage {
    /// `user`, `assistant`, or `tool` where the results of calls are all there is in place of a
    /// user's message.
    pub role: &'static str,
    /// What was said; of a tool, its results, a line between them.
    pub content: String,
    /// When the turn was stored.
    pub timestamp: Timestamp,
    /// What it costs in the context.
    pub tokens: u64,
    /// How that was counted.
    pub counted: Counted,
    /// The turn it belongs to.
    pub turn: EventId,
    /// Whether the next request carries it.
    pub in_context: bool,
    /// The model that said it; not for the user's messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the model thought before it said that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// The tools the model wants called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// The results of calls that go before what the user says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_results: Vec<ToolResult>,
    /// The images with it, without their bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Blob>,
}

/// What else is known of a session.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Metadata {
    /// Turns ever taken.
    pub turns: usize,
    /// Of these, in the context.
    pub turns_in_context: usize,
    /// The turn from which on all are in the context, where older ones left it.
    pub horizon: Option<EventId>,
    /// Turns that were retracted: nothing of them is among the messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retracted: Vec<EventId>,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its tags, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Stretches of bytes in the logs that are no events.
    pub unreadable: Vec<Unreadable>,
}

/// A stretch of bytes of a log that is no event.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Unreadable {
    /// The file, within the session's directory.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// A turn that is not stored.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct Unfinished {
    /// The draft.
    pub draft: EventId,
    /// When it was begun.
    pub timestamp: Timestamp,
    /// Whether a process is waiting for its reply now; else it failed or was killed.
    pub under_way: bool,
    /// What was asked.
    pub prompt: String,
    /// What had arrived of the reply.
    pub response: Option<String>,
    /// Why there is no more.
    pub error: Option<Value>,
}
