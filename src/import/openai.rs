//! Chat JSONL: `{"messages": [{"role": …, "content": …}, …]}`, a conversation a line. Nothing in it
//! has a date, and few have an id: a conversation is known by what is said in it.

use std::io::BufRead;

use serde_json::Value;

use super::lines::{each_object, skipped, text_of};
use super::messages::{Message, Speaker, pair};
use super::{Item, LeftOut, Session, Take};
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
        let mut left_out = LeftOut::default();
        let mut said = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
            left_out.add("tool_messages", calls as u64);
            let text = text_of(&message["content"], |_| left_out.count("other_content"));
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
                    left_out.count("tool_messages");
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
        let turns = pair(said).turns(&mut left_out);
        left_out.tell(take)?;
        if turns.is_empty() {
            return take(skipped(name, number, "nothing in it was answered"));
        }
        take(Item::Session(Session {
            key,
            system,
            model: value["model"].as_str().map(str::to_owned),
            turns,
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
