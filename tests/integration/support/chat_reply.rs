//! A chat reply as an Ollama server streams it: one JSON object a line, the metrics in the last.

use serde_json::{Value, json};

use super::request::Request;

/// What a model says, and how its stream ends.
#[derive(Debug, Clone, Default)]
pub(super) struct ChatReply {
    /// What is said; without it, what the user said is said back.
    pub(super) text: Option<String>,
    pub(super) thinking: String,
    pub(super) tool_calls: Option<Value>,
    /// Text that only the last line carries.
    pub(super) last_text: String,
    pub(super) pieces: Pieces,
    /// Tokens of prompt and reply; without them, words are counted.
    pub(super) counts: Option<(u64, u64)>,
    pub(super) done_reason: Option<String>,
    pub(super) ending: Ending,
}

/// How the text is cut into lines.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Pieces {
    #[default]
    Words,
    /// Of so many bytes; only for text of one byte a character.
    Bytes(usize),
    Whole,
}

/// What the last line is.
#[derive(Debug, Clone, Default)]
pub(super) enum Ending {
    #[default]
    Done,
    Error(String),
    /// None: the stream just stops, in good order.
    Nothing,
}

impl ChatReply {
    /// Returns the lines that answer `request`, each with its newline.
    pub(super) fn lines(&self, request: &Request) -> Vec<String> {
        let text = match &self.text {
            Some(text) => text.clone(),
            None => format!("reply to: {}", request.last_user()),
        };
        let thinking = self
            .pieces
            .of(&self.thinking)
            .map(|piece| json!({"role": "assistant", "content": "", "thinking": piece}));
        let said = self
            .pieces
            .of(&text)
            .map(|piece| json!({"role": "assistant", "content": piece}));
        let calls = self
            .tool_calls
            .iter()
            .map(|calls| json!({"role": "assistant", "content": "", "tool_calls": calls}));
        let mut lines: Vec<Value> = thinking
            .chain(said)
            .chain(calls)
            .map(|message| line(request, message, false))
            .collect();
        match &self.ending {
            Ending::Done => lines.push(self.done(request, &text)),
            Ending::Error(message) => lines.push(json!({"error": message})),
            Ending::Nothing => {}
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn done(&self, request: &Request, text: &str) -> Value {
        let message = json!({"role": "assistant", "content": self.last_text});
        let mut done = line(request, message, true);
        let (prompt, eval) = self.counts.unwrap_or_else(|| {
            let asked = request.contents().iter().map(|c| words(c)).sum();
            let said = words(&self.thinking) + words(text) + words(&self.last_text);
            (asked, said)
        });
        done["done_reason"] = self.done_reason.as_deref().unwrap_or("stop").into();
        done["total_duration"] = 3_947_299_542_u64.into();
        done["load_duration"] = 740_291.into();
        done["prompt_eval_count"] = prompt.into();
        done["prompt_eval_duration"] = 216_888_000.into();
        done["eval_count"] = eval.into();
        done["eval_duration"] = 3_722_320_000_u64.into();
        done
    }
}

impl Pieces {
    fn of(self, text: &str) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Words => Box::new(text.split_inclusive(' ')),
            Self::Whole => Box::new(Some(text).filter(|t| !t.is_empty()).into_iter()),
            Self::Bytes(n) => {
                let starts = (0..text.len()).step_by(n);
                Box::new(starts.map(move |at| &text[at..text.len().min(at + n)]))
            }
        }
    }
}

fn line(request: &Request, message: Value, done: bool) -> Value {
    json!({
        "model": request.model(),
        "created_at": "2026-11-22T00:14:08.597473486Z",
        "message": message,
        "done": done,
    })
}

fn words(text: &str) -> u64 {
    text.split_whitespace().map(|_| 1).sum()
}
