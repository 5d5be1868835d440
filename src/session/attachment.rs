//! What a turn carries besides its text: images and the results of tool calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Turn;
use super::id::EventId;

/// Bytes that are no text, kept beside the log under their hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blob {
    /// SHA-256 of the bytes, in lower-case hexadecimal: the name of the file.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
    /// What they are, e.g. `image/png`.
    pub media_type: String,
    /// The last part of the path they came from; never more of it.
    pub name: String,
}

/// What a tool that the model called has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolResult {
    /// The tool.
    pub name: String,
    /// The id of the call, where the server gave it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The result.
    pub content: String,
}

/// An image, read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What is remembered of it.
    #[serde(flatten)]
    pub blob: Blob,
    /// Its bytes in base64, as they are sent.
    pub data: String,
}

/// What a turn carries, read in. A draft keeps it whole, for the turn to be asked again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attachments {
    /// The images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// `"json"` or a JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
    /// How long the model stays loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Value>,
    /// The tools that are offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// The results of calls, in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_results: Vec<ToolResult>,
}

impl Attachments {
    /// Tells whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what is remembered of the images.
    #[must_use]
    pub fn blobs(&self) -> Vec<Blob> {
        self.images.iter().map(|image| image.blob.clone()).collect()
    }
}

/// The user's side of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The text; empty where there are results and nothing else.
    pub prompt: &'a str,
    /// The results of the calls of the turn before.
    pub results: &'a [ToolResult],
    /// The images.
    pub blobs: &'a [Blob],
    /// The turn it follows: the one that made the calls.
    pub parent: Option<EventId>,
}

impl<'a> Asking<'a> {
    /// Returns a message of text alone.
    #[must_use]
    pub fn text(prompt: &'a str) -> Self {
        Self {
            prompt,
            results: &[],
            blobs: &[],
            parent: None,
        }
    }

    /// Returns what a turn asked.
    #[must_use]
    pub fn of(turn: &'a Turn) -> Self {
        Self {
            prompt: &turn.prompt,
            results: &turn.tool_results,
            blobs: &turn.blobs,
            parent: turn.parent,
        }
    }

    /// Tells whether there is a message of the user's own.
    #[must_use]
    pub fn has_prompt(&self) -> bool {
        !self.prompt.is_empty() || self.results.is_empty()
    }

    /// Returns the bytes of its text.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let results = self.results.iter().map(|result| result.content.len());
        (self.prompt.len() + results.sum::<usize>()) as u64
    }

    /// Returns how many messages it takes.
    #[must_use]
    pub fn messages(&self) -> u64 {
        (self.results.len() + usize::from(self.has_prompt())) as u64
    }
}

/// Returns the name of the tool that a call names, and the id of the call.
#[must_use]
pub fn called(call: &Value) -> (Option<&str>, Option<&str>) {
    let name = call.pointer("/function/name").and_then(Value::as_str);
    (name, call.get("id").and_then(Value::as_str))
}

/// Returns the calls of a turn.
#[must_use]
pub fn calls(turn: &Turn) -> &[Value] {
    let calls = turn.tool_calls.as_ref().and_then(Value::as_array);
    calls.map_or(&[], Vec::as_slice)
}

/// Gives each result the id of the call it answers: the first of that name for the first result
/// of that name, and so on.
///
/// # Errors
/// The name of the result that answers no call.
pub fn matched(results: &[ToolResult], caller: Option<&Turn>) -> Result<Vec<ToolResult>, String> {
    let mut open: Vec<(Option<&str>, Option<&str>)> =
        caller.map_or(&[][..], calls).iter().map(called).collect();
    let answer = |result: &ToolResult| {
        let at = open
            .iter()
            .position(|(name, _)| *name == Some(&*result.name))
            .ok_or_else(|| result.name.clone())?;
        let (_, id) = open.remove(at);
        Ok(ToolResult {
            id: id.map(str::to_owned),
            ..result.clone()
        })
    };
    results.iter().map(answer).collect()
}

/// Tells of each turn whether it stays and leaves with the one before it: a call belongs to its
/// results, and so does what lies between the two.
#[must_use]
pub fn belong_together<'a>(turns: impl Iterator<Item = (EventId, &'a Turn)>) -> Vec<bool> {
    let turns: Vec<(EventId, &Turn)> = turns.collect();
    let mut with_previous = vec![false; turns.len()];
    for (at, (_, turn)) in turns.iter().enumerate() {
        let parent = turn.parent.filter(|_| !turn.tool_results.is_empty());
        let caller =
            parent.and_then(|parent| turns[..at].iter().rposition(|(id, _)| *id == parent));
        if let Some(caller) = caller {
            with_previous[caller + 1..=at].fill(true);
        }
    }
    with_previous
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::id;
    use super::*;
    use serde_json::json;

    fn result(name: &str, id: Option<&str>) -> ToolResult {
        ToolResult {
            name: name.to_owned(),
            id: id.map(str::to_owned),
            content: String::new(),
        }
    }

    #[test]
    fn results_answer_the_calls_of_their_name_in_order() {
        let caller = Turn {
            tool_calls: Some(json!([
                {"id": "1", "function": {"name": "a"}},
                {"id": "2", "function": {"name": "b"}},
                {"id": "3", "function": {"name": "a"}},
                {"function": {"name": "c"}},
                {"odd": true},
            ])),
            ..Turn::default()
        };
        type Expected = Result<&'static [Option<&'static str>], &'static str>;
        let rows: [(&str, &[&str], Expected); 6] = [
            ("none", &[], Ok(&[])),
            ("one", &["b"], Ok(&[Some("2")])),
            ("two of a name", &["a", "a"], Ok(&[Some("1"), Some("3")])),
            ("without an id", &["c"], Ok(&[None])),
            ("one too many", &["a", "a", "a"], Err("a")),
            ("never called", &["d"], Err("d")),
        ];
        for (name, given, expected) in rows {
            let given: Vec<ToolResult> = given.iter().map(|name| result(name, None)).collect();
            let got = matched(&given, Some(&caller));
            let got = got.map(|results| results.into_iter().map(|r| r.id).collect::<Vec<_>>());
            let expected = expected.map(|ids| {
                let ids = ids.iter().map(|id| id.map(str::to_owned));
                ids.collect::<Vec<_>>()
            });
            assert_eq!(got, expected.map_err(str::to_owned), "{name}");
        }
        assert!(matched(&[result("a", None)], None).is_err());
    }

    #[test]
    fn a_turn_with_results_belongs_to_the_one_that_called() {
        let turn = |parent: u64, has_results: bool| Turn {
            parent: Some(id(parent)),
            tool_results: if has_results {
                vec![result("a", None)]
            } else {
                Vec::new()
            },
            ..Turn::default()
        };
        let rows = [
            ("no results", vec![turn(9, false), turn(1, false)], "--"),
            ("a pair", vec![turn(9, false), turn(1, true)], "-+"),
            (
                "a chain",
                vec![turn(9, false), turn(1, true), turn(2, true), turn(3, false)],
                "-++-",
            ),
            (
                "with another in between",
                vec![turn(9, false), turn(1, false), turn(1, true)],
                "-++",
            ),
            (
                "its caller has left",
                vec![turn(9, true), turn(1, false)],
                "--",
            ),
        ];
        for (name, turns, expected) in rows {
            let got = belong_together((1..).map(id).zip(&turns));
            let got: String = got
                .iter()
                .map(|with| if *with { '+' } else { '-' })
                .collect();
            assert_eq!(got, expected, "{name}");
        }
    }
}
