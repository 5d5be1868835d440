//! Transcripts of codex: `~/.codex/sessions/YYYY/MM/DD/rollout-….jsonl`. Each line has what happened
//! under `payload`, in older versions at its top. What the user typed and what the model said becomes
//! a session; tools, reasoning and what codex itself told the model are counted and left out.

use std::io::BufRead;

use serde_json::Value;

use super::lines::{each_object, moment, text_of};
use super::messages::{Message, Speaker, pair};
use super::{Item, LeftOut, Session, Take};
use crate::error::Result;
use crate::session::event::Timestamp;

/// What codex puts before the user's own words, in the user's name.
const CONTEXT: [&str; 4] = [
    "<environment_context>",
    "<user_instructions>",
    "# AGENTS.md instructions",
    "<permissions instructions>",
];

/// Reads the session of a transcript.
///
/// # Errors
/// What `take` says; when the source cannot be read.
pub fn read(source: &mut dyn BufRead, name: &str, take: &mut Take<'_>) -> Result<()> {
    let mut transcript = Transcript::default();
    each_object(source, name, take, |number, line, _| {
        transcript.line(&line, number);
        Ok(())
    })?;
    transcript.tell(name, take)
}

/// What was read of a transcript.
#[derive(Default)]
struct Transcript {
    session: Session,
    /// The model that answers from here on.
    model: Option<String>,
    said: Vec<Message>,
    left_out: LeftOut,
}

impl Transcript {
    fn line(&mut self, line: &Value, number: u64) {
        let is_wrapped = line["payload"].is_object();
        let value = if is_wrapped { &line["payload"] } else { line };
        let at = moment(&line["timestamp"]);
        let kind = match line["type"].as_str() {
            Some("response_item") if is_wrapped => value["type"].as_str(),
            kind => kind,
        };
        match kind {
            // Older versions begin with a line that says no type.
            Some("session_meta") | None => {
                if self.session.key.is_empty() {
                    self.session.key = value["id"].as_str().unwrap_or_default().to_owned();
                    self.session.created = moment(&value["timestamp"]).or(at);
                }
            }
            Some("turn_context") => self.model = value["model"].as_str().map(str::to_owned),
            // They repeat what other lines say.
            Some("event_msg" | "compacted") => {}
            Some("message") => self.message(value, at, number),
            Some("reasoning") => self.left_out.count("reasoning"),
            Some(kind) if kind.ends_with("_output") => self.left_out.count("tool_results"),
            Some(kind) if kind.ends_with("_call") => self.left_out.count("tool_calls"),
            Some(_) => self.left_out.count("other_events"),
        }
    }

    fn message(&mut self, message: &Value, at: Option<Timestamp>, number: u64) {
        let text = text_of(&message["content"], |_| self.left_out.count("attachments"));
        let is_context = CONTEXT.iter().any(|start| text.starts_with(start));
        let by = match message["role"].as_str() {
            Some("user") if !is_context => Speaker::User,
            Some("assistant") => Speaker::Assistant,
            _ => return self.left_out.count("instructions"),
        };
        if text.is_empty() {
            return;
        }
        self.said.push(Message {
            by,
            // A transcript only grows, so a line keeps its number.
            key: number.to_string(),
            text,
            at,
            model: self.model.clone().filter(|_| by == Speaker::Assistant),
            ..Message::default()
        });
    }

    fn tell(mut self, name: &str, take: &mut Take<'_>) -> Result<()> {
        if self.session.key.is_empty() {
            name.clone_into(&mut self.session.key);
        }
        let mut turns = pair(self.said).turns(&mut self.left_out);
        self.left_out.tell(take)?;
        if turns.is_empty() {
            return Ok(());
        }
        for turn in &mut turns {
            turn.key = format!("{}:{}", self.session.key, turn.key);
        }
        take(Item::Session(Session {
            turns,
            ..self.session
        }))
    }
}

/// Tells whether a line is one of codex.
#[must_use]
pub fn is_line(value: &Value) -> bool {
    let is_new = value["payload"].is_object() && value["type"].is_string();
    let is_old = value["id"].is_string()
        && value["timestamp"].is_string()
        && value.get("instructions").is_some();
    is_new || is_old
}
