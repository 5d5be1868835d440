//! The shapes of what is printed: a promise to calling programs. Keys are added, never renamed;
//! order and nulls are part of it. They are not the shapes of what is stored.

use serde::Serialize;
use serde_json::Value;

use crate::ollama::{Chunk, Reply};
use crate::session::event::{Counted, Timestamp};
use crate::session::id::{EventId, SessionId};

/// A turn, in the shape of Ollama's own `/api/generate`, and then what this program adds.
/// Durations are nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TurnReport {
    /// The model that answered.
    pub model: String,
    /// When the server finished.
    pub created_at: Option<String>,
    /// Always true: a reply that was not finished is a failure.
    pub done: bool,
    /// Why the model stopped.
    pub done_reason: Option<String>,
    /// From request to reply.
    pub total_duration: Option<u64>,
    /// For loading the model.
    pub load_duration: Option<u64>,
    /// Tokens of the whole prompt.
    pub prompt_eval_count: Option<u64>,
    /// For reading the prompt.
    pub prompt_eval_duration: Option<u64>,
    /// Tokens of the reply.
    pub eval_count: Option<u64>,
    /// For making the reply.
    pub eval_duration: Option<u64>,
    /// The reply.
    pub response: String,
    /// What the model thought before it.
    pub thinking: Option<String>,
    /// Always null: `/api/generate` has token ids here, sessions take their place.
    pub context: Option<Value>,
    /// The tools the model wants called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// Where the turn is in its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnStatus>,
    /// How full the context is.
    pub context_usage: ContextUsage,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The session to continue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

impl TurnReport {
    /// Makes a report of a reply; `model` stands in where the server names none.
    #[must_use]
    pub fn new(model: &str, reply: Reply, context_usage: ContextUsage) -> Self {
        let usage = reply.usage;
        Self {
            model: if reply.model.is_empty() {
                model.to_owned()
            } else {
                reply.model
            },
            created_at: usage.created_at,
            done: reply.done,
            done_reason: reply.done_reason,
            total_duration: usage.total_duration,
            load_duration: usage.load_duration,
            prompt_eval_count: usage.prompt_eval_count,
            prompt_eval_duration: usage.prompt_eval_duration,
            eval_count: usage.eval_count,
            eval_duration: usage.eval_duration,
            response: reply.content,
            thinking: reply.thinking,
            context: None,
            tool_calls: reply.tool_calls,
            turn: None,
            context_usage,
            warnings: Vec::new(),
            session_id: None,
        }
    }

    /// Adds the session the turn belongs to.
    #[must_use]
    pub fn in_session(mut self, id: SessionId, turn: TurnStatus) -> Self {
        self.session_id = Some(id);
        self.turn = Some(turn);
        self
    }
}

/// Where a turn is in its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TurnStatus {
    /// Its id; null where it is not stored.
    pub id: Option<EventId>,
    /// The newest turn in the context that was sent.
    pub parent: Option<EventId>,
    /// Turns that were appended while this one was under way.
    pub concurrent_with: Vec<EventId>,
    /// Whether it is on disk.
    pub stored: bool,
}

/// How full the context is, in tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContextUsage {
    /// What the request had.
    pub sent_tokens: u64,
    /// Whether the server counted that; else it is an estimate that is never too low by what is
    /// known.
    pub measured: bool,
    /// The budget.
    pub max_context_tokens: u64,
    /// The one in percent of the other, to two decimals.
    pub percent: f64,
    /// Earlier turns that were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_turns: Option<u64>,
    /// Earlier turns that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_turns: Option<u64>,
    /// The window asked of the server; null where it was not asked for one.
    pub num_ctx: Option<u64>,
    /// Whether the server read less than it was sent.
    pub truncated_by_server: bool,
}

impl ContextUsage {
    /// Returns what can be said from the two figures alone.
    #[must_use]
    pub fn of(sent_tokens: u64, max_context_tokens: u64) -> Self {
        Self {
            sent_tokens,
            measured: false,
            max_context_tokens,
            percent: percent(sent_tokens, max_context_tokens),
            kept_turns: None,
            dropped_turns: None,
            num_ctx: None,
            truncated_by_server: false,
        }
    }
}

/// Returns `part` in percent of `whole`, to two decimals.
#[must_use]
pub fn percent(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64 * 10_000.0).round() / 100.0
}

/// A piece of a reply as it arrives: a line of `/api/generate`'s stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece<'a> {
    model: Option<&'a str>,
    created_at: Option<&'a str>,
    response: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    done: bool,
}

impl<'a> Piece<'a> {
    /// Makes the line of a chunk. `done` is false even in the last one: only the object at the
    /// end, which vouches for the disk, says true.
    #[must_use]
    pub fn of(chunk: &'a Chunk) -> Self {
        Self {
            model: chunk.model.as_deref(),
            created_at: chunk.created_at.as_deref(),
            response: chunk.content(),
            thinking: Some(chunk.thinking()).filter(|text| !text.is_empty()),
            done: false,
        }
    }
}

/// `--list-sessions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionList {
    /// The sessions, the last used first.
    pub sessions: Vec<SessionSummary>,
    /// How many.
    pub total: usize,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A session in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
}

/// `--session-info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// Every message ever said, oldest first.
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaidMessage {
    /// `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
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
}

/// What else is known of a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metadata {
    /// Turns ever taken.
    pub turns: usize,
    /// Of these, in the context.
    pub turns_in_context: usize,
    /// The oldest turn that is in the context, where older ones left it.
    pub horizon: Option<EventId>,
    /// Stretches of bytes in the logs that are no events.
    pub unreadable: Vec<Unreadable>,
}

/// A stretch of bytes of a log that is no event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file, within the session's directory.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// A turn that is not stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// `--purge`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Purged {
    /// How many sessions are gone.
    pub removed: usize,
    /// The same as a sentence.
    pub message: String,
    /// Their ids.
    pub sessions: Vec<SessionId>,
    /// Bytes of their files.
    pub bytes_freed: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `session reindex`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reindexed {
    /// How many sessions the index has.
    pub sessions: usize,
    /// Bytes of the index.
    pub bytes: u64,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `session merge`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MergeReport {
    /// How many sessions were not here.
    pub sessions_added: usize,
    /// How many sessions got events.
    pub sessions_changed: usize,
    /// How many events were added, those of new sessions included.
    pub events_added: u64,
    /// Sessions that were purged here and are left out.
    pub skipped_purged: Vec<SessionId>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
