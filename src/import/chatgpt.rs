//! The `conversations.json` of an export of ChatGPT: an array of conversations, each a tree of
//! messages, since every edit and every second try is a branch. The branch that was shown last
//! becomes the session, each other a session of its own that names it; what they have in common has
//! the same ids.
//!
//! The file may have hundreds of megabytes, so one conversation is held at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::io::BufRead;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use super::lines::moment;
use super::messages::{Message, Speaker, pair};
use super::{Item, LeftOut, Session, Take};
use crate::error::Result;

/// Reads conversations one after the other; a file that holds a single one has it without the
/// array.
///
/// # Errors
/// What `take` says; when the source cannot be read.
pub fn read(source: &mut dyn BufRead, name: &str, take: &mut Take<'_>) -> Result<()> {
    let mut failed = None;
    let mut number = 0;
    let mut each = |value: Value| {
        number += 1;
        let told = conversation(number, &value, name, take);
        failed = told.err();
        failed.is_none()
    };
    let read =
        Conversations(&mut each).deserialize(&mut serde_json::Deserializer::from_reader(source));
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => take(Item::Skipped {
            what: format!("{name} behind its conversation {number}"),
            why: format!("it is no JSON: {error}"),
        }),
    }
}

/// Hands over the elements of an array one after the other, or a single object, until it is told
/// to stop.
struct Conversations<'a>(&'a mut dyn FnMut(Value) -> bool);

impl<'de> DeserializeSeed<'de> for Conversations<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Conversations<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while let Some(value) = array.next_element()? {
            if !(self.0)(value) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<(), A::Error> {
        use serde::Deserialize;
        let value = Value::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        (self.0)(value);
        Ok(())
    }
}

fn conversation(number: u64, value: &Value, name: &str, take: &mut Take<'_>) -> Result<()> {
    let skip = |why: &str| Item::Skipped {
        what: format!("conversation {number} of {name}"),
        why: why.to_owned(),
    };
    let id = ["conversation_id", "id"]
        .iter()
        .find_map(|key| value[*key].as_str());
    let (Some(id), Some(mapping)) = (id, value["mapping"].as_object()) else {
        return take(skip("it has no id or no messages"));
    };
    let tree = Tree { mapping };
    let current = value["current_node"]
        .as_str()
        .filter(|node| mapping.contains_key(*node));
    let mut leaves = tree.leaves();
    // The branch that was shown last comes first, and is the session of the conversation's own id.
    let current = current.or_else(|| leaves.last().copied());
    leaves.retain(|leaf| Some(*leaf) != current);
    let mut left_out = LeftOut::default();
    let mut seen = BTreeSet::new();
    let mut is_empty = true;
    for (n, leaf) in current.into_iter().chain(leaves).enumerate() {
        let paired = pair(tree.branch(leaf, &mut seen, &mut left_out));
        // A branch in which nothing was answered is no other conversation.
        let is_new = paired
            .turns
            .last()
            .is_some_and(|turn| seen.insert(turn.key.clone()));
        if !is_new {
            continue;
        }
        // Those of the other branches are about what they have in common.
        let turns = if is_empty {
            paired.turns(&mut left_out)
        } else {
            paired.turns
        };
        is_empty = false;
        take(Item::Session(Session {
            key: if n == 0 {
                id.to_owned()
            } else {
                format!("{id}:{leaf}")
            },
            title: value["title"].as_str().map(str::to_owned),
            model: value["default_model_slug"].as_str().map(str::to_owned),
            created: moment(&value["create_time"]),
            forked_from: (n > 0).then(|| id.to_owned()),
            turns,
            ..Session::default()
        }))?;
    }
    left_out.tell(take)?;
    if is_empty {
        return take(skip("nothing in it was answered"));
    }
    Ok(())
}

/// The messages of a conversation, by the names of their nodes.
struct Tree<'a> {
    mapping: &'a serde_json::Map<String, Value>,
}

impl<'a> Tree<'a> {
    /// Returns the nodes that no other follows, in the order of the file.
    fn leaves(&self) -> Vec<&'a str> {
        let parents: BTreeSet<&str> = self
            .mapping
            .values()
            .filter_map(|node| node["parent"].as_str())
            .collect();
        let nodes = self.mapping.keys().map(String::as_str);
        nodes.filter(|node| !parents.contains(node)).collect()
    }

    /// Returns what was said on the way to a node. `seen` are the nodes of which it was counted
    /// what is left out of them.
    fn branch(
        &self,
        leaf: &'a str,
        seen: &mut BTreeSet<String>,
        left_out: &mut LeftOut,
    ) -> Vec<Message> {
        let mut nodes = Vec::new();
        let mut next = Some(leaf);
        while let Some(node) = next.and_then(|node| self.mapping.get_key_value(node)) {
            nodes.push(node);
            // A tree that leads back to itself is none.
            next = node.1["parent"]
                .as_str()
                .filter(|_| nodes.len() <= self.mapping.len());
        }
        nodes.reverse();
        let messages = nodes.into_iter().filter_map(|(name, node)| {
            let is_new = seen.insert(name.clone());
            said(name, &node["message"]).unwrap_or_else(|what| {
                if let Some(what) = what.filter(|_| is_new) {
                    left_out.count(what);
                }
                None
            })
        });
        messages.collect()
    }
}

/// Returns what a node says.
///
/// # Errors
/// What it is where it says nothing that has a place in a session; `None` where there is nothing.
fn said(name: &str, message: &Value) -> std::result::Result<Option<Message>, Option<&'static str>> {
    let by = match message["author"]["role"].as_str() {
        Some("user") => Speaker::User,
        Some("assistant") => Speaker::Assistant,
        Some("tool") => return Err(Some("tool_results")),
        _ => return Err(None),
    };
    let content = &message["content"];
    match content["content_type"].as_str() {
        Some("text" | "multimodal_text") => {}
        Some("code") => return Err(Some("tool_calls")),
        Some("thoughts" | "reasoning_recap") => return Err(Some("reasoning")),
        Some("user_editable_context" | "model_editable_context") => {
            return Err(Some("instructions"));
        }
        _ => return Err(Some("other_content")),
    }
    if message["metadata"]["is_visually_hidden_from_conversation"] == true {
        return Err(Some("instructions"));
    }
    // What an assistant says to a tool is no answer.
    if by == Speaker::Assistant && message["recipient"].as_str().is_some_and(|to| to != "all") {
        return Err(Some("tool_calls"));
    }
    let parts = content["parts"].as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    if texts.is_empty() {
        let has_others = parts.iter().any(Value::is_object);
        return Err(has_others.then_some("attachments"));
    }
    Ok(Some(Message {
        by,
        key: name.to_owned(),
        text: texts.join("\n\n"),
        at: moment(&message["create_time"]),
        model: message["metadata"]["model_slug"]
            .as_str()
            .map(str::to_owned),
        ..Message::default()
    }))
}
