//! Chat JSONL: `{"messages": [{"role": …, "content": …}, …]}`, a conversation a line. Nothing in it
//! has a date, and few have an id: a conversation is known by what is said in it.

use std::io::BufRead;

use serde_json::Value;

use super::lines::{each_object, skipped, text_of};
use super::messages::{Message, Speaker, pair};
use super::{Item, Session, Take, leave_out};
use crate::digest::sha256;
use crate::error::Result;

/// Reads conversations one after the other.
///
/// # Errors
/// What `take` says; when the source cannot be read.
pub fn read(source: &mut dyn BufRead, name: &str, take: &mut Take<'_>) -> Result<()> {
    each_object(source, name, take, |number, value, take| {
        let Some(messages) = value["messages"].as_array() else {
            return take(skipped(name, number, "it has no messages"));
        };
        let key = key_of(&value);
        let mut system = None;
        let (mut parts, mut tools) = (0, 0);
        let mut said = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            tools += message["tool_calls"].as_array().map_or(0, Vec::len) as u64;
            let text = text_of(&message["content"], |_| parts += 1);
            let by = match message["role"].as_str() {
                Some("user") => Speaker::User,
                // A message that only calls a tool says nothing.
                Some("assistant") if text.is_empty() && !message["tool_calls"].is_null() => {
                    continue;
                }
                Some("assistant") => Speaker::Assistant,
                Some("system" | "developer") => {
                    system.get_or_insert(text);
                    continue;
                }
                _ => {
                    tools += 1;
                    continue;
                }
            };
            said.push(Message {
                by,
                key: format!("{key}:{n}"),
                text,
                ..Message::default()
            });
        }
        let paired = pair(said);
        leave_out("unanswered_prompts", paired.unanswered, take)?;
        leave_out("answers_without_prompt", paired.unasked, take)?;
        leave_out("tool_messages", tools, take)?;
        leave_out("other_content", parts, take)?;
        if paired.turns.is_empty() {
            return take(skipped(name, number, "nothing in it was answered"));
        }
        take(Item::Session(Session {
            key,
            system,
            model: value["model"].as_str().map(str::to_owned),
            turns: paired.turns,
            ..Session::default()
        }))
    })
}

/// Returns the id a conversation has, or what is said in it as a hash.
fn key_of(value: &Value) -> String {
    let given = ["id", "conversation_id", "session_id"];
    let given = given.iter().find_map(|key| value[*key].as_str());
    given.map_or_else(
        || sha256(value["messages"].to_string())[..32].to_owned(),
        str::to_owned,
    )
}
