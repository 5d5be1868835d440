//! Chat JSONL: for each session a line `{"messages": [{"role": …, "content": …}, …]}`, as OpenAI's
//! fine-tuning and evaluation tools read it, and nothing in it that they do not know.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Put, Stop};
use crate::json;
use crate::session::attachment::Asking;
use crate::session::event::Turn;
use crate::session::id::EventId;
use crate::store::history::History;

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

impl<'a> Message<'a> {
    fn of(role: &'static str, content: &'a str) -> Self {
        Self {
            role,
            content,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

pub(super) fn write(history: &History<'_>, put: &mut Put<'_>) -> Result<(), Stop> {
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
    // The turn before, if it called tools: only after its calls may their results stand.
    let mut calling: Option<(EventId, Vec<Value>)> = None;
    for said in history.turns() {
        let said = said?;
        let calls = tool_calls(said.id, &said.turn);
        let caller = calling.filter(|(id, _)| Some(*id) == said.turn.parent);
        for message in question(&said.turn, caller.map_or(Vec::new(), |(_, calls)| calls)) {
            put(before)?;
            put(&json::line(&message))?;
            before = ",";
        }
        let answer = Message {
            tool_calls: calls.clone(),
            ..Message::of("assistant", &said.turn.response)
        };
        put(before)?;
        put(&json::line(&answer))?;
        before = ",";
        calling = Some((said.id, calls));
    }
    put("]}\n")
}

/// Returns the user's side of a turn: the results of `calls`, as OpenAI spells those, and the
/// prompt. A result that answers none of them is said in words.
fn question(turn: &Turn, mut calls: Vec<Value>) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    for result in &turn.tool_results {
        let is_answered = |call: &Value| call["function"]["name"] == *result.name;
        let message = match calls.iter().position(is_answered) {
            Some(at) => Message {
                tool_call_id: calls.remove(at)["id"].as_str().map(str::to_owned),
                ..Message::of("tool", &result.content)
            },
            None => Message::of("user", &result.content),
        };
        messages.push(message);
    }
    if Asking::of(turn).has_prompt() {
        messages.push(Message::of("user", &turn.prompt));
    }
    messages
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

    #[test]
    fn results_are_messages_with_the_id_of_their_call() {
        let result = |name: &str, content: &str| crate::session::attachment::ToolResult {
            name: name.to_owned(),
            id: None,
            content: content.to_owned(),
        };
        let turn = Turn {
            prompt: "and now?".to_owned(),
            tool_results: vec![result("f", "1"), result("f", "2"), result("g", "3")],
            ..Turn::default()
        };
        let call = |id: &str, name: &str| json!({"id": id, "function": {"name": name}});
        let got = question(&turn, vec![call("a", "f"), call("b", "f")]);
        assert_eq!(
            serde_json::to_value(got).expect("JSON"),
            json!([
                {"role": "tool", "content": "1", "tool_call_id": "a"},
                {"role": "tool", "content": "2", "tool_call_id": "b"},
                {"role": "user", "content": "3"},
                {"role": "user", "content": "and now?"},
            ])
        );
    }
}
