//! What a request and its reply mean together: the event they become, what is worth telling of
//! them, how full the context was.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::request::Request;
use crate::ollama::Reply;
use crate::output::ContextUsage;
use crate::session::attachment::{Attachments, ToolResult};
use crate::session::event::{Reference, Tokens, Turn};
use crate::session::id::EventId;
use crate::tokens;
use crate::warning::Warning;

/// What a turn carries besides its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried<'a> {
    pub(super) attachments: &'a Attachments,
    /// The results of calls, each with the id of its call.
    pub(super) results: &'a [ToolResult],
}

/// A request and the reply to it.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) reply: &'a Reply,
    /// The name under which the reply goes into the history.
    pub(super) model: &'a str,
    /// Whether thinking was asked for, and how much.
    pub(super) think: Option<&'a Value>,
    /// What went with the prompt.
    pub(super) carried: Carried<'a>,
    /// Whether the request had the same system prompt as the turn before.
    pub(super) same_system: bool,
}

impl Exchange<'_> {
    /// Returns the newest turn in the context that was sent.
    pub(super) fn parent(&self) -> Option<EventId> {
        self.request.kept.last().map(|said| said.id)
    }

    /// Returns the turn before this one, if what was measured for it can be compared.
    fn before(&self) -> Option<&Turn> {
        let before = self.request.kept.last().map(|said| &said.turn);
        let tools = &self.carried.attachments.tools;
        before.filter(|before| {
            self.same_system && before.model == self.model && before.tools == *tools
        })
    }

    /// Returns the turn as it is stored.
    pub(super) fn event(&self, prompt: &str, references: &[Reference]) -> Turn {
        let Self {
            request,
            reply,
            carried,
            ..
        } = self;
        let Attachments {
            format,
            keep_alive,
            tools,
            ..
        } = carried.attachments;
        let turn = Turn {
            parent: self.parent(),
            concurrent_with: Vec::new(),
            model: self.model.to_owned(),
            prompt: prompt.to_owned(),
            references: references.to_vec(),
            response: reply.content.clone(),
            thinking: reply.thinking.clone(),
            tool_calls: reply.tool_calls.clone(),
            done_reason: reply.done_reason.clone(),
            usage: reply.usage.clone(),
            think: self.think.cloned(),
            options: request.options.clone(),
            format: format.clone(),
            keep_alive: keep_alive.clone(),
            tools: tools.clone(),
            tool_results: carried.results.to_vec(),
            blobs: carried.attachments.blobs(),
            tokens: Tokens::default(),
            sent: request.sent.clone(),
            key: None,
        };
        Turn {
            tokens: tokens::settle(request.ruler, &turn, self.before()),
            ..turn
        }
    }

    /// Returns what is worth telling.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let surrogates = self
            .reply
            .surrogates_replaced
            .then_some(Warning::SurrogatesReplaced);
        surrogates
            .into_iter()
            .chain(self.window_full())
            .chain(self.truncation())
            .chain(self.not_json())
            .collect()
    }

    /// A reply that was to be JSON may be cut short, or the model may not care. One that calls
    /// tools says nothing yet.
    fn not_json(&self) -> Option<Warning> {
        self.carried.attachments.format.as_ref()?;
        let is_json = serde_json::from_str::<IgnoredAny>(&self.reply.content).is_ok();
        (!is_json && self.reply.tool_calls.is_none()).then_some(Warning::NotJson)
    }

    /// A reply that stopped for its length before it had the length that was asked for filled
    /// the window.
    fn window_full(&self) -> Option<Warning> {
        let tokens = self.reply.usage.eval_count?;
        let asked = self
            .request
            .options
            .get("num_predict")
            .and_then(Value::as_u64);
        let stopped = self.reply.done_reason.as_deref() == Some("length");
        (stopped && asked.is_none_or(|asked| tokens < asked))
            .then_some(Warning::WindowFull { tokens })
    }

    /// A server that read fewer tokens than the request can have had has cut it.
    fn truncation(&self) -> Option<Warning> {
        let sent = tokens::at_least(&self.request.sent, self.before());
        let read = self
            .reply
            .usage
            .prompt_eval_count
            .filter(|read| *read < sent)?;
        Some(Warning::TruncatedByServer { read, sent })
    }

    /// Returns how full the context was. `dropped_turns` are those of the history that were not
    /// sent; absent without a session.
    pub(super) fn context_usage(
        &self,
        max_context_tokens: u64,
        dropped_turns: Option<u64>,
    ) -> ContextUsage {
        let Self { request, reply, .. } = self;
        let measured = reply.usage.prompt_eval_count;
        ContextUsage {
            measured: measured.is_some(),
            kept_turns: dropped_turns.map(|_| request.sent.turns),
            dropped_turns,
            num_ctx: request.sent.num_ctx,
            truncated_by_server: self.truncation().is_some(),
            ..ContextUsage::of(measured.unwrap_or(request.tokens), max_context_tokens)
        }
    }
}
