//! The built-in model: answers without a server, the same words for the same conversation.
//!
//! For trying pipelines and for tests. It says what it was told and how much it remembers, so
//! that whether a session reached it can be seen.

use super::chunk::{Chunk, Piece};
use super::reply::Reply;
use super::wire::{Message, Role};

/// The name of the model, in a registry nobody can pull from.
pub const MODEL: &str = "builtin/echo";

/// Characters of the prompt that are repeated.
const QUOTED: usize = 200;

/// Words in one piece of the stream.
const WORDS_A_PIECE: usize = 4;

/// Returns the reply to the last of `messages`.
///
/// Its counts are honest, if of words: `prompt_eval_count` the words of all messages,
/// `eval_count` those of the reply, as white space parts them. There are no durations.
#[must_use]
pub fn reply(messages: &[Message<'_>]) -> Reply {
    chunks(messages).into_iter().collect()
}

/// Returns the reply as the lines of a stream: a few words each, the figures on the last.
#[must_use]
pub fn chunks(messages: &[Message<'_>]) -> Vec<Chunk> {
    let text = answer(messages);
    let mut chunks: Vec<Chunk> = pieces(&text).map(|piece| chunk(piece, false)).collect();
    let words = |text: &str| text.split_whitespace().count() as u64;
    chunks.push(Chunk {
        done_reason: Some("stop".to_owned()),
        prompt_eval_count: Some(messages.iter().map(|m| words(&m.content)).sum()),
        eval_count: Some(words(&text)),
        ..chunk("", true)
    });
    chunks
}

fn answer(messages: &[Message<'_>]) -> String {
    let last = messages
        .iter()
        .rposition(|m| matches!(m.role, Role::User | Role::Tool));
    let said = last.map_or("", |at| messages[at].content.trim());
    let turns = messages[..last.unwrap_or(0)]
        .iter()
        .filter(|m| m.role == Role::Assistant)
        .count();
    let quoted: String = said.chars().take(QUOTED).collect();
    let more = if quoted.len() < said.len() { "…" } else { "" };
    let s = if turns == 1 { "" } else { "s" };
    format!(
        "You said: \"{quoted}{more}\". I have seen {turns} earlier turn{s} in this conversation."
    )
}

fn chunk(content: &str, done: bool) -> Chunk {
    Chunk {
        model: Some(MODEL.to_owned()),
        message: Some(Piece {
            content: Some(content.to_owned()),
            ..Piece::default()
        }),
        done: Some(done),
        ..Chunk::default()
    }
}

/// Cuts a text after every few words; nothing is lost.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let cut = rest
            .match_indices(' ')
            .nth(WORDS_A_PIECE - 1)
            .map_or(rest.len(), |(at, _)| at + 1);
        let (piece, after) = rest.split_at(cut);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages<'a>(said: &[(Role, &'a str)]) -> Vec<Message<'a>> {
        said.iter()
            .map(|&(role, content)| Message::text(role, content))
            .collect()
    }

    #[test]
    fn it_says_what_it_heard_and_what_it_remembers() {
        use Role::{Assistant, System, User};
        type Row<'a> = (&'a str, &'a [(Role, &'a str)], &'a str);
        let long = "é".repeat(QUOTED + 1);
        let cut = format!(
            "You said: \"{}…\". I have seen 0 earlier turns in this conversation.",
            "é".repeat(QUOTED)
        );
        let rows: [Row<'_>; 5] = [
            (
                "one prompt",
                &[(User, "hi")],
                "You said: \"hi\". I have seen 0 earlier turns in this conversation.",
            ),
            (
                "a second one",
                &[(System, "x"), (User, "a"), (Assistant, "b"), (User, "c d")],
                "You said: \"c d\". I have seen 1 earlier turn in this conversation.",
            ),
            (
                "a third one",
                &[
                    (User, "a"),
                    (Assistant, "b"),
                    (User, "a"),
                    (Assistant, "b"),
                    (User, "c"),
                ],
                "You said: \"c\". I have seen 2 earlier turns in this conversation.",
            ),
            (
                "nothing",
                &[],
                "You said: \"\". I have seen 0 earlier turns in this conversation.",
            ),
            ("a long prompt", &[(User, &long)], &cut),
        ];
        for (name, said, expected) in rows {
            assert_eq!(reply(&messages(said)).content, expected, "{name}");
        }
    }

    #[test]
    fn it_counts_words_and_is_done() {
        let got = reply(&messages(&[
            (Role::System, "be kind"),
            (Role::User, "one two\nthree"),
        ]));
        assert_eq!(
            (got.usage.prompt_eval_count, got.usage.eval_count),
            (Some(5), Some(14))
        );
        assert_eq!(
            (got.model.as_str(), got.done, got.done_reason.as_deref()),
            (MODEL, true, Some("stop"))
        );
    }

    proptest! {
        #[test]
        fn its_stream_is_its_reply(prompt: String) {
            let messages = messages(&[(Role::User, &prompt)]);
            let chunks = chunks(&messages);
            prop_assert!(chunks.len() > 1);
            let text: String = chunks.iter().map(Chunk::content).collect();
            prop_assert_eq!(text, reply(&messages).content);
        }
    }
}
