//! Transcripts of Claude Code: `~/.claude/projects/PROJECT/SESSION.jsonl`, an event a line. What the
//! user typed and what the model said becomes a session; tools, their results, attached files and
//! the conversations of subagents are counted and left out.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::Value;

use super::lines::{each_object, moment, text_of};
use super::messages::{Message, Speaker, pair};
use super::{Item, Session, Take, leave_out};
use crate::error::Result;

/// Reads the sessions of a transcript. There is one most often, and then it is that of the file's
/// name.
///
/// # Errors
/// What `take` says; when the source cannot be read.
pub fn read(source: &mut dyn BufRead, name: &str, take: &mut Take<'_>) -> Result<()> {
    let mut sessions: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    let mut title = None;
    let mut left_out: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut count = |what| *left_out.entry(what).or_default() += 1;
    each_object(source, name, take, |number, value, _| {
        let by = match value["type"].as_str() {
            Some("user") => Speaker::User,
            Some("assistant") => Speaker::Assistant,
            Some("summary") => {
                title = value["summary"]
                    .as_str()
                    .map(str::to_owned)
                    .or(title.take());
                return Ok(());
            }
            _ => {
                count("other_events");
                return Ok(());
            }
        };
        if value["isSidechain"] == true {
            count("subagent_messages");
            return Ok(());
        }
        if value["isMeta"] == true || value["isCompactSummary"] == true {
            count("other_events");
            return Ok(());
        }
        let message = &value["message"];
        let text = text_of(&message["content"], |kind| match kind {
            "tool_use" => count("tool_calls"),
            "tool_result" => count("tool_results"),
            "image" | "document" => count("attachments"),
            // It is kept with the turn.
            "thinking" => {}
            _ => count("other_content"),
        });
        let thinking = thinking(&message["content"]);
        if text.is_empty() && thinking.is_none() {
            return Ok(());
        }
        let session = value["sessionId"].as_str().unwrap_or(name).to_owned();
        let key = value["uuid"]
            .as_str()
            .map_or_else(|| format!("{session}:{number}"), str::to_owned);
        sessions.entry(session).or_default().push(Message {
            by,
            key,
            text,
            thinking,
            at: moment(&value["timestamp"]),
            // What the program says in the model's place is no model's.
            model: message["model"]
                .as_str()
                .filter(|name| *name != "<synthetic>")
                .map(str::to_owned),
            ..Message::default()
        });
        Ok(())
    })?;
    for (key, messages) in sessions {
        let created = messages.iter().find_map(|message| message.at);
        let paired = pair(messages);
        leave_out("unanswered_prompts", paired.unanswered, take)?;
        leave_out("answers_without_prompt", paired.unasked, take)?;
        if !paired.turns.is_empty() {
            take(Item::Session(Session {
                key,
                title: title.clone(),
                created,
                turns: paired.turns,
                ..Session::default()
            }))?;
        }
    }
    for (what, count) in left_out {
        leave_out(what, count, take)?;
    }
    Ok(())
}

/// Returns what was thought, of a message whose content has it among its parts.
fn thinking(content: &Value) -> Option<String> {
    let parts = content.as_array()?.iter();
    let thoughts = parts.filter(|part| part["type"] == "thinking");
    let thoughts: Vec<&str> = thoughts
        .filter_map(|part| part["thinking"].as_str())
        .collect();
    Some(thoughts.join("\n\n")).filter(|text| !text.is_empty())
}
