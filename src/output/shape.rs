//! The shapes of what is printed: a promise to calling programs. Keys are added, never renamed;
//! order and nulls are part of it. They are not the shapes of what is stored.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::references::ReferenceReport;
use crate::ollama::{Chunk, Reply};
use crate::session::event::Counted;
use crate::session::id::{EventId, SessionId};

/// A turn, in the shape of Ollama's own `/api/generate`, and then what this program adds.
/// Durations are nanoseconds.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct TurnReport {
    /// The model that answered.
    pub model: String,
    /// When the server finished.
    pub created_at: Option<String>,
    /// Always true: a reply that was not finished is a failure.
    #[schemars(extend("const" = true))]
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
    #[schemars(with = "()")]
    pub context: Option<Value>,
    /// The tools the model wants called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// Where the turn is in its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnStatus>,
    /// How full the context is.
    pub context_usage: ContextUsage,
    /// What the prompt refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceReport>,
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
            references: Vec::new(),
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
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct TurnStatus {
    /// Its id; null where it is not stored.
    pub id: Option<EventId>,
    /// The newest turn in the context that was sent.
    pub parent: Option<EventId>,
    /// Turns that were appended while this one was under way.
    pub concurrent_with: Vec<EventId>,
    /// Whether it is on disk.
    pub stored: bool,
    /// Whether it was stored by an earlier call with the same idempotency key: nobody was asked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// How full the context is, in tokens.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
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

/// `--dry-run`: what would be sent.
#[derive(Debug, JsonSchema, Serialize)]
pub struct PlanReport {
    /// Always true.
    #[schemars(extend("const" = true))]
    pub dry_run: bool,
    /// Where it would go; null for the built-in model.
    pub url: Option<String>,
    /// The body of the request, byte for byte.
    #[schemars(with = "Map<String, Value>")]
    pub request: Box<RawValue>,
    /// The choice behind it.
    pub context_plan: ContextPlan,
    /// What the prompt refers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<ReferenceReport>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The session; one that is not there yet is not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
}

impl PlanReport {
    /// Makes a report of a request that is not sent.
    ///
    /// # Panics
    /// When `body` is no JSON.
    #[must_use]
    pub fn new(
        url: Option<String>,
        body: Vec<u8>,
        context_plan: ContextPlan,
        session_id: Option<SessionId>,
    ) -> Self {
        let request = SentReport::raw(body);
        Self {
            dry_run: true,
            url,
            request,
            context_plan,
            references: Vec::new(),
            warnings: Vec::new(),
            session_id,
        }
    }
}

/// `session show --context`: what was sent for a turn.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SentReport {
    /// The session.
    pub session_id: SessionId,
    /// The turn.
    pub turn: EventId,
    /// Whether this is what was sent to the byte: the log has not been compacted or redacted
    /// since, and nobody changed a setting while the turn was under way.
    pub exact: bool,
    /// The body of the request.
    #[schemars(with = "Map<String, Value>")]
    pub request: Box<RawValue>,
    /// Its messages.
    pub messages: Vec<SentMessage>,
    /// How turns were chosen to leave.
    pub strategy: &'static str,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl SentReport {
    /// Returns the body of a request as it goes into a report.
    ///
    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn raw(body: Vec<u8>) -> Box<RawValue> {
        let text = String::from_utf8(body).expect("a request is UTF-8");
        RawValue::from_string(text).expect("a request is JSON")
    }
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SentMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// The turn it belongs to; null for the system prompt.
    pub turn: Option<EventId>,
    /// What it costs, where that is known.
    pub tokens: Option<u64>,
    /// How that was counted.
    pub counted: Option<Counted>,
}

/// `session pin` and `unpin`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Pinned {
    /// The session.
    pub session_id: SessionId,
    /// The turn.
    pub turn: EventId,
    /// Whether it stays in the context whatever leaves it.
    pub pinned: bool,
    /// Whether that was different before.
    pub changed: bool,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `session prune`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Pruned {
    /// The session.
    pub session_id: SessionId,
    /// How turns were chosen.
    pub strategy: &'static str,
    /// Tokens of the turns that were in the context.
    pub tokens_before: u64,
    /// Tokens of those that are.
    pub tokens_after: u64,
    /// Turns that are in the context.
    pub kept_turns: u64,
    /// Turns that left it now.
    pub newly_dropped_turns: u64,
    /// Turns that are not in it.
    pub dropped_turns: u64,
    /// Whether those that left now were summed up.
    pub summarized: bool,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What is sent of a conversation, and why.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ContextPlan {
    /// How turns are chosen to leave.
    pub strategy: &'static str,
    /// The session's budget in tokens.
    pub max_context_tokens: u64,
    /// The same, or the model's window where that is smaller.
    pub budget: u64,
    /// What the request has, never too few by what is known.
    pub tokens: u64,
    /// The window asked for; null where none is.
    pub num_ctx: Option<u64>,
    /// Earlier turns that are sent.
    pub kept_turns: u64,
    /// Earlier turns that are not.
    pub dropped_turns: u64,
    /// Turns that leave now and would be summed up first.
    pub would_summarize: u64,
    /// Each message there was to choose from.
    pub messages: Vec<PlannedMessage>,
}

/// A message and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct PlannedMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: &'static str,
    /// The turn it belongs to; null for the system prompt and the new message.
    pub turn: Option<EventId>,
    /// What it costs.
    pub tokens: u64,
    /// How that was counted.
    pub counted: Counted,
    /// Whether it is sent.
    pub kept: bool,
    /// Why.
    pub why: &'static str,
}

/// A piece of a reply as it arrives: a line of `/api/generate`'s stream.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Piece<'a> {
    /// The model that answers, as the server names it.
    model: Option<&'a str>,
    /// When the server sent it.
    created_at: Option<&'a str>,
    /// A piece of the reply.
    response: &'a str,
    /// A piece of what the model thinks before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    /// Always false: only the whole object, which is the last line, says true.
    #[schemars(extend("const" = false))]
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
