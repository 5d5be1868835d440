//! Summing up what leaves the context, with the session's own model.

use serde_json::Map;

use super::messages::{Images, messages};
use super::request::SUMMARY_TOKENS;
use crate::error::{Code, Error, Result};
use crate::ollama::{Backend, ChatRequest};
use crate::session::attachment::{Asking, calls};
use crate::session::event::Turn;
use crate::session::fold::SaidTurn;

const INSTRUCTION: &str = "\
You keep the memory of a conversation. Sum up the transcript you are given so that the conversation \
can go on without it. Keep names, figures, decisions, constraints, file names and open questions, in \
the words they were said in; leave out courtesies. Write plain sentences, no heading, at most 300 words.";

/// Asks for a summary of turns that leave and of the summary of those that left before.
///
/// # Errors
/// The client's; `bad_response` for an empty summary.
pub(super) fn of(
    backend: &Backend,
    model: &str,
    num_ctx: Option<u64>,
    earlier: Option<&str>,
    turns: &[&SaidTurn],
) -> Result<String> {
    let transcript = transcript(earlier, turns);
    let messages = messages(
        Some(INSTRUCTION),
        None,
        &[],
        Asking::text(&transcript),
        Images::default(),
    );
    let mut options = Map::new();
    options.insert("temperature".to_owned(), 0.into());
    options.insert("num_predict".to_owned(), SUMMARY_TOKENS.into());
    if let Some(num_ctx) = num_ctx {
        options.insert("num_ctx".to_owned(), num_ctx.into());
    }
    let request = ChatRequest {
        model,
        messages: &messages,
        options: &options,
        think: None,
        format: None,
        keep_alive: None,
        tools: None,
    };
    let reply = backend
        .chat(&request, &mut |_| {})
        .map_err(|failure| failure.error)?;
    let summary = reply.content.trim();
    if summary.is_empty() {
        return Err(Error::new(Code::BadResponse, "the model summed up nothing"));
    }
    Ok(summary.to_owned())
}

fn transcript(earlier: Option<&str>, turns: &[&SaidTurn]) -> String {
    let earlier = earlier.map(|text| format!("Summary of what was said before:\n{text}\n\n"));
    let said = turns.iter().map(|said| exchange(&said.turn));
    earlier.into_iter().chain(said).collect()
}

/// Returns a turn as words. Of an image only its name can be told.
fn exchange(turn: &Turn) -> String {
    let results = turn.tool_results.iter();
    let results = results.map(|result| format!("Tool {}: {}\n\n", result.name, result.content));
    let images = turn
        .blobs
        .iter()
        .map(|blob| format!(" [image {}]", blob.name));
    let prompt = Asking::of(turn).has_prompt();
    let prompt = prompt.then(|| format!("User: {}{}\n\n", turn.prompt, images.collect::<String>()));
    let calls = calls(turn).iter().filter_map(|call| call.get("function"));
    let calls = calls.map(|function| format!(" [calls {function}]"));
    let answer = format!(
        "Assistant: {}{}\n\n",
        turn.response,
        calls.collect::<String>()
    );
    results.chain(prompt).chain([answer]).collect()
}

/// Tells whether a failed summary ends the turn: the user did, or there is no server to ask.
pub(super) fn ends_the_turn(error: &Error) -> bool {
    matches!(
        error.code,
        Code::Hangup | Code::Interrupted | Code::Terminated | Code::ServerUnreachable
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::{Timestamp, Turn};
    use crate::session::id::EventId;

    #[test]
    fn a_transcript_has_the_earlier_summary_and_every_turn_in_order() {
        let turn = |prompt: &str, response: &str| SaidTurn {
            id: EventId::next(1, None, 1),
            ts: Timestamp::from_ms(1),
            at: None,
            turn: Turn {
                prompt: prompt.into(),
                response: response.into(),
                ..Turn::default()
            },
        };
        let (mut a, b) = (turn("q1", "a1"), turn("q2", "a2"));
        assert_eq!(
            transcript(Some("old"), &[&a, &b]),
            "Summary of what was said before:\nold\n\nUser: q1\n\nAssistant: a1\n\nUser: q2\n\nAssistant: a2\n\n"
        );

        a.turn.tool_calls = Some(serde_json::json!([{"function": {"name": "f"}}]));
        let mut c = turn("", "a3");
        c.turn.tool_results = vec![crate::session::attachment::ToolResult {
            name: "f".into(),
            id: None,
            content: "3".into(),
        }];
        assert_eq!(
            transcript(None, &[&a, &c]),
            "User: q1\n\nAssistant: a1 [calls {\"name\":\"f\"}]\n\nTool f: 3\n\nAssistant: a3\n\n"
        );
    }
}
