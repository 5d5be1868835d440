//! Transcripts of codex: `~/.codex/sessions/YYYY/MM/DD/rollout-….jsonl`. Each line has what happened
//! under `payload`, in older versions at its top. What the user typed and what the model said becomes
//! a session; tools, reasoning and what codex itself told the model are counted and left out.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::Value;

use super::lines::{each_object, moment, text_of};
use super::messages::{Message, Speaker, pair};
use super::{Item, Session, Take, leave_out};
use crate::error::Result;

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
    let mut session = Session::default();
    let mut model = None;
    let mut said: Vec<Message> = Vec::new();
    let mut left_out: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut count = |what| *left_out.entry(what).or_default() += 1;
    each_object(source, name, take, |number, line, _| {
        let is_wrapped = line["payload"].is_object();
        let value = if is_wrapped { &line["payload"] } else { &line };
        let at = moment(&line["timestamp"]);
        let kind = match line["type"].as_str() {
            Some("response_item") if is_wrapped => value["type"].as_str(),
            kind => kind,
        };
        match kind {
            // Older versions begin with a line that says no type.
            Some("session_meta") | None => {
                if session.key.is_empty() {
                    session.key = value["id"].as_str().unwrap_or_default().to_owned();
                    session.created = moment(&value["timestamp"]).or(at);
                }
            }
            Some("turn_context") => model = value["model"].as_str().map(str::to_owned),
            // They repeat what other lines say.
            Some("event_msg" | "compacted") => {}
            Some("message") => {
                let text = text_of(&value["content"], |_| count("attachments"));
                let by = match value["role"].as_str() {
                    Some("user") if !CONTEXT.iter().any(|start| text.starts_with(start)) => {
                        Speaker::User
                    }
                    Some("assistant") => Speaker::Assistant,
                    _ => {
                        count("instructions");
                        return Ok(());
                    }
                };
                if !text.is_empty() {
                    said.push(Message {
                        by,
                        // A transcript only grows, so a line keeps its number.
                        key: number.to_string(),
                        text,
                        at,
                        model: model.clone().filter(|_| by == Speaker::Assistant),
                        ..Message::default()
                    });
                }
            }
            Some("reasoning") => count("reasoning"),
            Some(kind) if kind.ends_with("_output") => count("tool_results"),
            Some(kind) if kind.ends_with("_call") => count("tool_calls"),
            Some(_) => count("other_events"),
        }
        Ok(())
    })?;
    if session.key.is_empty() {
        name.clone_into(&mut session.key);
    }
    let paired = pair(said);
    leave_out("unanswered_prompts", paired.unanswered, take)?;
    leave_out("answers_without_prompt", paired.unasked, take)?;
    for (what, count) in left_out {
        leave_out(what, count, take)?;
    }
    if paired.turns.is_empty() {
        return Ok(());
    }
    session.turns = paired.turns;
    for turn in &mut session.turns {
        turn.key = format!("{}:{}", session.key, turn.key);
    }
    take(Item::Session(session))
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
