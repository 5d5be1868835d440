//! Chat JSONL: for each session a line `{"messages": [{"role": …, "content": …}, …]}`, as OpenAI's
//! fine-tuning and evaluation tools read it, and nothing in it that they do not know.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Put, Stop};
use crate::json;
use crate::session::event::Turn;
use crate::session::id::EventId;
use crate::store::history::History;

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

impl<'a> Message<'a> {
    fn of(role: &'static str, content: &'a str) -> Self {
        Self {
            role,
            content,
            tool_calls: Vec::new(),
        }
    }
}

pub(super) fn write(history: &History, put: &mut Put<'_>) -> Result<(), Stop> {
    if history.turns == 0 {
        // A conversation in which nothing was said is none to those who read this.
        return Ok(());
    }
    let system = history.session.settings.system.as_deref();
    let mut before = "{\"messages\":[";
    if let Some(system) = system.filter(|text| !text.is_empty()) {
        put(before)?;
        put(&json::line(&Message::of("system", system)))?;
        before = ",";
    }
    for said in history.turns() {
        let said = said?;
        let answer = Message {
            tool_calls: tool_calls(said.id, &said.turn),
            ..Message::of("assistant", &said.turn.response)
        };
        let question = Message::of("user", &said.turn.prompt);
        put(before)?;
        put(&format!(
            "{},{}",
            json::line(&question),
            json::line(&answer)
        ))?;
        before = ",";
    }
    put("]}\n")
}

/// Returns the calls a turn asked for as OpenAI spells them: Ollama's have their arguments as an
/// object, OpenAI's as its text, and each has an id.
fn tool_calls(id: EventId, turn: &Turn) -> Vec<Value> {
    let calls = turn.tool_calls.as_ref().and_then(Value::as_array);
    let calls = calls.into_iter().flatten().enumerate();
    let spelt = calls.map(|(n, call)| {
        let function = &call["function"];
        let arguments = match &function["arguments"] {
            Value::String(text) => text.clone(),
            Value::Null => "{}".to_owned(),
            other => other.to_string(),
        };
        let given = call["id"].as_str().map(str::to_owned);
        json!({
            "id": given.unwrap_or_else(|| format!("call_{id}_{n}")),
            "type": "function",
            "function": {"name": function["name"], "arguments": arguments},
        })
    });
    spelt.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_tools_are_spelt_as_openai_does() {
        let id: EventId = "01KAV8Z0M4ABCDEFGHJKMNPQRS".parse().expect("an id");
        let turn = |calls: Value| Turn {
            tool_calls: Some(calls),
            ..Turn::default()
        };
        let rows = [
            (
                json!([{"function": {"name": "f", "arguments": {"a": 1}}}]),
                json!([{"id": "call_01KAV8Z0M4ABCDEFGHJKMNPQRS_0", "type": "function",
                        "function": {"name": "f", "arguments": "{\"a\":1}"}}]),
            ),
            (
                json!([{"id": "x", "function": {"name": "g", "arguments": "{}"}}]),
                json!([{"id": "x", "type": "function", "function": {"name": "g", "arguments": "{}"}}]),
            ),
            (json!({"no": "list"}), json!([])),
        ];
        for (ours, theirs) in rows {
            assert_eq!(json!(tool_calls(id, &turn(ours))), theirs);
        }
    }
}
