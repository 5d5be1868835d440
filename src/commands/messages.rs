//! From what was said to the messages of a request.
//!
//! The results of tool calls are messages of the role `tool`, and mean something only after the
//! call. Where that is not sent (it left the context, or was retracted) they go out as words of
//! the user's, so that no server gets an answer to a call it does not see.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::ollama::{Message, Role};
use crate::session::attachment::{Asking, Blob, Image, ToolResult, calls};
use crate::session::fold::SaidTurn;
use crate::session::id::EventId;

const SUMMARY_HEADING: &str = "Summary of the earlier conversation:";

/// The images that can be sent, in base64.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Images<'a> {
    /// Those of the new message.
    pub(super) own: &'a [Image],
    /// Those of earlier turns, by hash.
    pub(super) recalled: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Images<'a> {
    /// Returns those of a message that there are.
    fn of(self, blobs: &[Blob]) -> Vec<&'a str> {
        let data = |blob: &Blob| {
            let own = self.own.iter().find(|own| own.blob.sha256 == blob.sha256);
            let recalled = || self.recalled.and_then(|images| images.get(&blob.sha256));
            own.map(|own| &own.data).or_else(recalled)
        };
        blobs.iter().filter_map(data).map(String::as_str).collect()
    }
}

/// Returns the messages of a request. A summary goes with the system prompt: templates differ in
/// what they make of a second one, or of two messages of one role in a row.
pub(super) fn messages<'a>(
    system: Option<&'a str>,
    summary: Option<&str>,
    kept: &[&'a SaidTurn],
    new: Asking<'a>,
    images: Images<'a>,
) -> Vec<Message<'a>> {
    let system = match (system, summary) {
        (system, None) => system.map(|text| Message::text(Role::System, text)),
        (system, Some(summary)) => {
            let before = system.map_or(String::new(), |text| format!("{text}\n\n"));
            let content = format!("{before}{SUMMARY_HEADING}\n{summary}");
            Some(Message::text(Role::System, content))
        }
    };
    let mut messages: Vec<Message<'a>> = system.into_iter().collect();
    for said in kept {
        ask(Asking::of(&said.turn), kept, images, &mut messages);
        messages.push(Message {
            tool_calls: said.turn.tool_calls.as_ref(),
            ..Message::text(Role::Assistant, &said.turn.response)
        });
    }
    ask(new, kept, images, &mut messages);
    messages
}

/// Adds the user's side of a turn.
fn ask<'a>(
    asking: Asking<'a>,
    kept: &[&SaidTurn],
    images: Images<'a>,
    messages: &mut Vec<Message<'a>>,
) {
    let follows_its_calls = is_after_its_calls(asking.parent, kept);
    if follows_its_calls {
        messages.extend(asking.results.iter().map(tool_message));
    }
    let content = if follows_its_calls || asking.results.is_empty() {
        Cow::Borrowed(asking.prompt)
    } else {
        Cow::Owned(in_words(asking))
    };
    if !content.is_empty() || asking.has_prompt() {
        messages.push(Message {
            images: images.of(asking.blobs),
            ..Message::text(Role::User, content)
        });
    }
}

fn tool_message(result: &ToolResult) -> Message<'_> {
    Message {
        tool_name: Some(&result.name),
        tool_call_id: result.id.as_deref(),
        ..Message::text(Role::Tool, &result.content)
    }
}

/// Tells whether the turn that made the calls is sent.
fn is_after_its_calls(caller: Option<EventId>, kept: &[&SaidTurn]) -> bool {
    let at = caller.and_then(|caller| kept.binary_search_by_key(&caller, |said| said.id).ok());
    at.is_some_and(|at| !calls(&kept[at].turn).is_empty())
}

/// Says the results of calls nobody sees, and then the prompt.
fn in_words(asking: Asking<'_>) -> String {
    let results = asking
        .results
        .iter()
        .map(|result| format!("Result of the tool {}:\n{}", result.name, result.content));
    let prompt = Some(asking.prompt.to_owned()).filter(|prompt| !prompt.is_empty());
    let parts: Vec<String> = results.chain(prompt).collect();
    parts.join("\n\n")
}

/// Returns the role of each message of the user's side of a turn, and its share of the `tokens`
/// of all of them, by bytes.
pub(super) fn parts(
    asking: Asking<'_>,
    kept: &[&SaidTurn],
    tokens: u64,
) -> Vec<(&'static str, u64)> {
    let mut sizes: Vec<(Role, u64)> = Vec::new();
    if is_after_its_calls(asking.parent, kept) {
        let results = asking.results.iter();
        sizes.extend(results.map(|result| (Role::Tool, result.content.len() as u64)));
        if asking.has_prompt() {
            sizes.push((Role::User, asking.prompt.len() as u64));
        }
    } else {
        sizes.push((Role::User, asking.bytes()));
    }
    let all: u64 = sizes.iter().map(|(_, bytes)| bytes + 1).sum();
    let mut left = tokens;
    let last = sizes.len() - 1;
    let part = |(at, (role, bytes)): (usize, &(Role, u64))| {
        let share = if at == last {
            left
        } else {
            tokens * (bytes + 1) / all
        };
        left -= share;
        (role.name(), share)
    };
    sizes.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::{Timestamp, Turn};
    use serde_json::{Value, json};

    fn said(n: u64, turn: Turn) -> SaidTurn {
        SaidTurn {
            id: id(n),
            ts: Timestamp::from_ms(n),
            at: None,
            turn,
        }
    }

    fn id(n: u64) -> EventId {
        EventId::next(n, None, 1)
    }

    fn result(name: &str, content: &str) -> ToolResult {
        ToolResult {
            name: name.to_owned(),
            id: Some(format!("id of {name}")),
            content: content.to_owned(),
        }
    }

    fn calling() -> Turn {
        Turn {
            prompt: "what is it?".to_owned(),
            tool_calls: Some(json!([{"function": {"name": "f"}}])),
            ..Turn::default()
        }
    }

    fn answered(results: &[ToolResult], prompt: &str) -> Turn {
        Turn {
            parent: Some(id(1)),
            prompt: prompt.to_owned(),
            response: "so it is".to_owned(),
            tool_results: results.to_vec(),
            ..Turn::default()
        }
    }

    fn shown(messages: &[Message<'_>]) -> Vec<String> {
        let show = |m: &Message<'_>| format!("{}: {}", m.role.name(), m.content);
        messages.iter().map(show).collect()
    }

    #[test]
    fn a_summary_goes_with_the_system_prompt() {
        let rows = [
            (None, None, vec!["hi"]),
            (Some("be brief"), None, vec!["be brief", "hi"]),
            (
                None,
                Some("s"),
                vec!["Summary of the earlier conversation:\ns", "hi"],
            ),
            (
                Some("be brief"),
                Some("s"),
                vec!["be brief\n\nSummary of the earlier conversation:\ns", "hi"],
            ),
        ];
        for (system, summary, expected) in rows {
            let new = Asking::text("hi");
            let messages = messages(system, summary, &[], new, Images::default());
            let contents: Vec<&str> = messages
                .iter()
                .map(|message| message.content.as_ref())
                .collect();
            assert_eq!(contents, expected);
        }
    }

    #[test]
    fn results_follow_their_call_or_become_words() {
        let results = [result("f", "3"), result("g", "4")];
        let (caller, alone) = (said(1, calling()), said(2, answered(&results, "")));
        let with_prompt = said(2, answered(&results, "And now?"));
        let hidden = said(
            1,
            Turn {
                tool_calls: None,
                ..calling()
            },
        );
        let rows = [
            (
                "after the call",
                vec![&caller, &alone],
                vec!["user: what is it?", "assistant: ", "tool: 3", "tool: 4"],
            ),
            (
                "with a prompt",
                vec![&caller, &with_prompt],
                vec![
                    "user: what is it?",
                    "assistant: ",
                    "tool: 3",
                    "tool: 4",
                    "user: And now?",
                ],
            ),
            (
                "the call has left",
                vec![&alone],
                vec!["user: Result of the tool f:\n3\n\nResult of the tool g:\n4"],
            ),
            (
                "and there is a prompt",
                vec![&with_prompt],
                vec!["user: Result of the tool f:\n3\n\nResult of the tool g:\n4\n\nAnd now?"],
            ),
            (
                "the call is hidden",
                vec![&hidden, &alone],
                vec![
                    "user: what is it?",
                    "assistant: ",
                    "user: Result of the tool f:\n3\n\nResult of the tool g:\n4",
                ],
            ),
        ];
        for (name, kept, mut expected) in rows {
            expected.extend(["assistant: so it is", "user: hi"]);
            let got = messages(None, None, &kept, Asking::text("hi"), Images::default());
            assert_eq!(shown(&got), expected, "{name}");
        }
        let kept = [&caller, &alone];
        let got = messages(None, None, &kept, Asking::text("hi"), Images::default());
        let sent = serde_json::to_value(&got).expect("JSON");
        assert_eq!(sent[1]["tool_calls"], json!([{"function": {"name": "f"}}]));
        assert_eq!(
            sent[2],
            json!({"role": "tool", "content": "3", "tool_name": "f", "tool_call_id": "id of f"})
        );
        assert_eq!(sent[0].get("images"), None::<&Value>);
    }

    #[test]
    fn an_image_that_is_not_there_is_left_out() {
        let blob = |sha: &str| Blob {
            sha256: sha.to_owned(),
            bytes: 1,
            media_type: "image/png".to_owned(),
            name: "a.png".to_owned(),
        };
        let own = [Image {
            blob: blob("own"),
            data: "OWN=".to_owned(),
        }];
        let recalled = [("old".to_owned(), "OLD=".to_owned())].into();
        let images = Images {
            own: &own,
            recalled: Some(&recalled),
        };
        let blobs = ["old", "gone", "own"].map(blob);
        assert_eq!(images.of(&blobs), ["OLD=", "OWN="]);
    }

    #[test]
    fn the_tokens_of_a_question_are_shared_out_and_none_is_lost() {
        let results = [result("f", "12345678"), result("g", "")];
        let caller = said(1, calling());
        let turn = answered(&results, "x");
        let asking = Asking::of(&turn);
        assert_eq!(
            parts(asking, &[&caller], 100),
            [("tool", 75), ("tool", 8), ("user", 17)]
        );
        assert_eq!(parts(asking, &[], 100), [("user", 100)]);
    }
}
