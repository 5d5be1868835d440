//! What the lines of an answer add up to, finished or not.

use serde_json::Value;

use super::chunk::Chunk;
use crate::session::event::Usage;

/// A model's reply, or as much of it as arrived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The model that answered, as the server names it.
    pub model: String,
    /// The answer.
    pub content: String,
    /// What the model thought before it; absent where it did not.
    pub thinking: Option<String>,
    /// The tools it wants called, as an array; absent where it wants none.
    pub tool_calls: Option<Value>,
    /// Whether the server said that this is all.
    pub done: bool,
    /// Why the model stopped: `stop`, `length`, `load`, `unload`.
    pub done_reason: Option<String>,
    /// The server's figures; `created_at` is the last line's.
    pub usage: Usage,
    /// Whether half characters were replaced by U+FFFD on the way.
    pub surrogates_replaced: bool,
}

impl Reply {
    /// Adds one line. The last one may carry text, thinking and tool calls like any other.
    pub fn absorb(&mut self, chunk: Chunk) {
        if let Some(message) = chunk.message {
            self.content += message.content.as_deref().unwrap_or_default();
            if let Some(thinking) = message.thinking.filter(|t| !t.is_empty()) {
                self.thinking.get_or_insert_default().push_str(&thinking);
            }
            if let Some(calls) = message.tool_calls.filter(|calls| !calls.is_empty()) {
                match &mut self.tool_calls {
                    Some(Value::Array(earlier)) => earlier.extend(calls),
                    other => *other = Some(Value::Array(calls)),
                }
            }
        }
        if let Some(model) = chunk.model.filter(|m| !m.is_empty()) {
            self.model = model;
        }
        self.done |= chunk.done == Some(true);
        self.surrogates_replaced |= chunk.surrogates_replaced;
        take(&mut self.done_reason, chunk.done_reason);
        let usage = &mut self.usage;
        take(&mut usage.created_at, chunk.created_at);
        take(&mut usage.total_duration, chunk.total_duration);
        take(&mut usage.load_duration, chunk.load_duration);
        take(&mut usage.prompt_eval_count, chunk.prompt_eval_count);
        take(&mut usage.prompt_eval_duration, chunk.prompt_eval_duration);
        take(&mut usage.eval_count, chunk.eval_count);
        take(&mut usage.eval_duration, chunk.eval_duration);
    }

    /// Tells whether anything of an answer arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.thinking.is_none() && self.tool_calls.is_none()
    }
}

impl FromIterator<Chunk> for Reply {
    fn from_iter<I: IntoIterator<Item = Chunk>>(chunks: I) -> Self {
        let mut reply = Self::default();
        chunks.into_iter().for_each(|chunk| reply.absorb(chunk));
        reply
    }
}

/// The newest value there is.
fn take<T>(slot: &mut Option<T>, newer: Option<T>) {
    if newer.is_some() {
        *slot = newer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(lines: &[&str]) -> Reply {
        lines
            .iter()
            .map(|line| Chunk::read(line.as_bytes()).expect("a chunk"))
            .collect()
    }

    #[test]
    fn the_last_line_may_carry_text_thinking_and_calls() {
        let got = reply(&[
            r#"{"model":"m","created_at":"1","message":{"thinking":"hm","content":""},"done":false}"#,
            r#"{"message":{"content":"a","tool_calls":[{"id":"1"}]}}"#,
            r#"{"created_at":"2","message":{"content":"b","thinking":"!","tool_calls":[{"id":"2"}]},"done":true,"done_reason":"stop","eval_count":3}"#,
        ]);
        assert_eq!(
            got,
            Reply {
                model: "m".to_owned(),
                content: "ab".to_owned(),
                thinking: Some("hm!".to_owned()),
                tool_calls: Some(json!([{"id": "1"}, {"id": "2"}])),
                done: true,
                done_reason: Some("stop".to_owned()),
                usage: Usage {
                    created_at: Some("2".to_owned()),
                    eval_count: Some(3),
                    ..Usage::default()
                },
                surrogates_replaced: false,
            }
        );
    }

    #[test]
    fn empty_thinking_and_no_calls_are_none() {
        let got = reply(&[r#"{"message":{"content":"","thinking":"","tool_calls":[]}}"#]);
        assert_eq!(got, Reply::default());
        assert!(got.is_empty());
    }
}
