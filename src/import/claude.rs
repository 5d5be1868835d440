//! Transcripts of Claude Code: `~/.claude/projects/PROJECT/SESSION.jsonl`, an event a line. What the
//! user typed and what the model said becomes a session; tools, their results, attached files and
//! the conversations of subagents are counted and left out.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::Value;

use super::lines::{each_object, moment, text_of};
use super::messages::{Message, Speaker, pair};
use super::{Item, LeftOut, Session, Take};
use crate::error::Result;

/// Reads the sessions of a transcript. There is one most often, and then it is that of the file's
/// name.
///
/// # Errors
/// What `take` says; when the source cannot be read.
pub fn read(source: &mut dyn BufRead, name: &str, take: &mut Take<'_>) -> Result<()> {
    let mut transcript = Transcript::default();
    each_object(source, name, take, |number, event, _| {
        transcript.event(&event, name, number);
        Ok(())
    })?;
    transcript.tell(take)
}

/// What was read of a transcript.
#[derive(Default)]
struct Transcript {
    sessions: BTreeMap<String, Vec<Message>>,
    title: Option<String>,
    left_out: LeftOut,
}

impl Transcript {
    fn event(&mut self, event: &Value, name: &str, number: u64) {
        match event["type"].as_str() {
            Some("user") => self.message(Speaker::User, event, name, number),
            Some("assistant") => self.message(Speaker::Assistant, event, name, number),
            Some("summary") => {
                let title = event["summary"].as_str().map(str::to_owned);
                self.title = title.or(self.title.take());
            }
            _ => self.left_out.count("other_events"),
        }
    }

    fn message(&mut self, by: Speaker, event: &Value, name: &str, number: u64) {
        if event["isSidechain"] == true {
            return self.left_out.count("subagent_messages");
        }
        if event["isMeta"] == true || event["isCompactSummary"] == true {
            return self.left_out.count("other_events");
        }
        let message = &event["message"];
        let text = text_of(&message["content"], |kind| match kind {
            "tool_use" => self.left_out.count("tool_calls"),
            "tool_result" => self.left_out.count("tool_results"),
            "image" | "document" => self.left_out.count("attachments"),
            // It is kept with the turn.
            "thinking" => {}
            _ => self.left_out.count("other_content"),
        });
        let thinking = thinking(&message["content"]);
        if text.is_empty() && thinking.is_none() {
            return;
        }
        let session = event["sessionId"].as_str().unwrap_or(name).to_owned();
        let key = event["uuid"].as_str().map(str::to_owned);
        let key = key.unwrap_or_else(|| format!("{session}:{number}"));
        // What the program says in the model's place is no model's.
        let model = message["model"].as_str();
        let model = model.filter(|name| *name != "<synthetic>");
        self.sessions.entry(session).or_default().push(Message {
            by,
            key,
            text,
            thinking,
            at: moment(&event["timestamp"]),
            model: model.map(str::to_owned),
            ..Message::default()
        });
    }

    fn tell(mut self, take: &mut Take<'_>) -> Result<()> {
        for (key, messages) in self.sessions {
            let created = messages.iter().find_map(|message| message.at);
            let turns = pair(messages).turns(&mut self.left_out);
            if !turns.is_empty() {
                take(Item::Session(Session {
                    key,
                    title: self.title.clone(),
                    created,
                    turns,
                    ..Session::default()
                }))?;
            }
        }
        self.left_out.tell(take)
    }
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
