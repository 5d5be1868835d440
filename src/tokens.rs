//! Counting tokens, where only the server knows the truth.
//!
//! Ollama has no endpoint that counts, and no other tokenizer fits its models exactly. From the
//! best to the safest: what the server measured (`prompt_eval_count`, `eval_count`); for prose the
//! bytes per token this session's measured turns had; tiktoken's `cl100k_base` with a margin, where
//! nothing was measured; and one token a byte, which no text exceeds. The last needs no
//! vocabulary, and is enough whenever even so counted everything fits.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::json;
use crate::session::attachment::Asking;
use crate::session::event::{Counted, Sent, Tokens, Turn};
use crate::session::fold::SaidTurn;

/// Tokens the template puts around a message, at most. Gemma's and Llama's take 4 to 8.
pub const PER_MESSAGE: u64 = 16;

/// Tokens the templates of models put around a message at the least: what is learned of bytes is not
/// to have them in it.
const LEAST_A_MESSAGE: u64 = 4;

/// Tokens of an image, while nothing was learned of this session's: models cut and scale images
/// to 256 (Gemma 3) to 4 000 of them, and most to no more than this.
const PER_IMAGE: u64 = 1024;

/// Where an image is what a question costs most, its text has at least a token for so many bytes.
const MOST_BYTES_A_TOKEN: u64 = 8;

/// Learned and tiktoken counts are raised by a quarter: texts differ, tokenizers too.
const MARGIN: f64 = 1.25;

/// Fewer bytes than this teach nothing: the template outweighs the text.
const ENOUGH_TO_LEARN: u64 = 256;

/// How many of the newest turns are learned from.
const LEARN_FROM: usize = 8;

/// Text is counted by tiktoken in pieces of this many bytes: its merges take more than linear
/// time on one long word, and counting pieces apart only ever adds tokens.
const PIECE: usize = 4096;

/// A count and how it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Tokens, the template around the message included.
    pub tokens: u64,
    /// How they were counted.
    pub counted: Counted,
}

/// What is known of how many tokens a text has for this session's model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ruler {
    tokens_per_byte: Option<f64>,
    tokens_per_image: Option<u64>,
}

impl Ruler {
    /// Learns from measured turns: the most tokens per byte any of the newest had.
    #[must_use]
    pub fn from_turns(turns: &[&SaidTurn]) -> Self {
        let newest = turns.iter().rev().take(LEARN_FROM);
        let images = newest.clone().filter_map(|said| image_cost(&said.turn));
        let ratios = newest.filter_map(|said| {
            let sent = &said.turn.sent;
            let measured = said
                .turn
                .usage
                .prompt_eval_count?
                .saturating_sub(sent.messages * LEAST_A_MESSAGE);
            (sent.bytes >= ENOUGH_TO_LEARN && sent.images == 0)
                .then(|| measured as f64 / sent.bytes as f64)
        });
        let most = ratios.reduce(f64::max);
        Self {
            tokens_per_byte: most.map(|ratio| (ratio * MARGIN).min(1.0)),
            tokens_per_image: images.max(),
        }
    }

    /// Returns the tokens of an image: the most one of the newest turns had, as far as that was
    /// measured.
    #[must_use]
    pub fn per_image(self) -> u64 {
        self.tokens_per_image.unwrap_or(PER_IMAGE)
    }

    /// Counts a message as far as that needs no vocabulary: learned, if the text is of the kind
    /// that can be judged by others, or else its bytes.
    #[must_use]
    pub fn count(self, text: &str) -> Count {
        self.learned(text).unwrap_or_else(|| at_most(text))
    }

    /// Counts a message as well as can be, for a decision that hangs on it: where nothing that
    /// was learned applies, the vocabulary is loaded.
    #[must_use]
    pub fn count_well(self, text: &str) -> Count {
        self.learned(text).unwrap_or_else(|| {
            let tokens = scaled(tiktoken(text), MARGIN) + PER_MESSAGE;
            Count {
                tokens: tokens.min(at_most(text).tokens),
                counted: Counted::Tiktoken,
            }
        })
    }

    fn learned(self, text: &str) -> Option<Count> {
        let ratio = self.tokens_per_byte.filter(|_| is_prose(text))?;
        let tokens = scaled(text.len() as u64, ratio) + PER_MESSAGE;
        Some(Count {
            tokens,
            counted: Counted::Learned,
        })
    }
}

/// Counts a message as more than it can have: a token is at least one byte.
#[must_use]
pub fn at_most(text: &str) -> Count {
    Count {
        tokens: text.len() as u64 + PER_MESSAGE,
        counted: Counted::Bytes,
    }
}

/// Returns what each image of a measured question cost, not too low by what is known.
fn image_cost(turn: &Turn) -> Option<u64> {
    let asking = Asking::of(turn);
    let is_known = !asking.blobs.is_empty() && turn.tokens.counted == Counted::Measured;
    let text = asking.bytes() / MOST_BYTES_A_TOKEN;
    let images = turn.tokens.prompt.saturating_sub(text);
    is_known.then(|| images.div_ceil(asking.blobs.len() as u64).max(1))
}

/// Counts the user's side of a turn: its results, its text and its images.
pub fn of_question(asking: Asking<'_>, per_image: u64, count: impl Fn(&str) -> Count) -> Count {
    let texts = asking.results.iter().map(|result| &*result.content);
    let texts = texts.chain(asking.has_prompt().then_some(asking.prompt));
    let all = texts.map(count).reduce(|a, b| Count {
        tokens: a.tokens + b.tokens,
        counted: a.counted.max(b.counted),
    });
    let mut all = all.unwrap_or_else(|| at_most(""));
    all.tokens += per_image * asking.blobs.len() as u64;
    all
}

/// Counts the model's side of a turn: its text and its calls.
pub fn of_answer(response: &str, calls: Option<&Value>, count: impl Fn(&str) -> Count) -> Count {
    let mut all = count(response);
    all.tokens += calls.map_or(0, |calls| at_most(&json::line(calls)).tokens);
    all
}

/// Estimates a message of which nothing will ever be measured: one that another program kept. Three
/// bytes a token for prose, two for other text in words, code for instance, one for whatever has
/// none: fewer bytes a token than cl100k's four, three and one and a half on texts of these kinds.
#[must_use]
pub fn estimate(text: &str) -> u64 {
    let gaps = text.bytes().filter(u8::is_ascii_whitespace).count();
    let bytes_per_token = match text {
        text if is_prose(text) => 3,
        text if text.is_ascii() && text.len() <= (gaps + 1) * 20 => 2,
        _ => 1,
    };
    (text.len() as u64).div_ceil(bytes_per_token) + PER_MESSAGE
}

/// Tells whether a text is prose in letters: mostly that and white space, in words of a usual
/// length. Figures, base64, code in symbols or a script of other letters has up to four times the
/// tokens a byte, and what was learned from prose says nothing of it.
fn is_prose(text: &str) -> bool {
    let (mut letters, mut gaps) = (0usize, 1usize);
    for byte in text.bytes() {
        letters += usize::from(byte.is_ascii_alphabetic());
        gaps += usize::from(byte.is_ascii_whitespace());
    }
    (letters + gaps) * 5 >= text.len() * 4 && letters <= gaps * 12
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of tokens, far below 2^52"
)]
fn scaled(amount: u64, factor: f64) -> u64 {
    (amount as f64 * factor).ceil() as u64
}

static VOCABULARIES_LOADED: AtomicU32 = AtomicU32::new(0);

/// Returns how often this process loaded a vocabulary: 0 on an ordinary turn.
#[must_use]
pub fn vocabularies_loaded() -> u32 {
    VOCABULARIES_LOADED.load(Ordering::Relaxed)
}

/// Counts by `cl100k_base`, whose vocabulary takes about 100 ms to load.
fn tiktoken(text: &str) -> u64 {
    static LOAD: std::sync::Once = std::sync::Once::new();
    LOAD.call_once(|| {
        VOCABULARIES_LOADED.fetch_add(1, Ordering::Relaxed);
    });
    let vocabulary = tiktoken_rs::cl100k_base_singleton();
    pieces(text)
        .map(|piece| vocabulary.encode_ordinary(piece).len() as u64)
        .sum()
}

/// Cuts a text at character boundaries into pieces of at most [`PIECE`] bytes.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(PIECE));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Settles what a turn costs when it is sent again, now that the server has spoken. `before` is
/// the turn before it in the context that was sent, if what was measured for it can be compared.
#[must_use]
pub fn settle(ruler: Ruler, turn: &Turn, before: Option<&Turn>) -> Tokens {
    let answer = match turn.usage.eval_count {
        // The server counts thinking and answer together.
        Some(tokens) if turn.thinking.is_none() => Count {
            tokens,
            counted: Counted::Measured,
        },
        _ => of_answer(&turn.response, turn.tool_calls.as_ref(), |text| {
            ruler.count(text)
        }),
    };
    let question = question(turn, before).unwrap_or_else(|| {
        of_question(Asking::of(turn), ruler.per_image(), |text| {
            ruler.count(text)
        })
    });
    let counted = answer.counted.max(question.counted);
    Tokens {
        prompt: question.tokens,
        response: answer.tokens,
        counted,
    }
}

/// Returns what the prompt cost: all of it in a first turn, what was added since the turn before
/// in one that sent the same messages and more, else its share by bytes, where no image has a
/// share of its own.
fn question(turn: &Turn, before: Option<&Turn>) -> Option<Count> {
    let read = turn.usage.prompt_eval_count?;
    let asking = Asking::of(turn);
    let bytes = asking.bytes();
    // No text has more; of an image nobody knows.
    let most = bytes + PER_MESSAGE * asking.messages();
    let most = if asking.blobs.is_empty() {
        most
    } else {
        u64::MAX
    };
    let measured = |tokens| Count {
        tokens,
        counted: Counted::Measured,
    };
    if turn.sent.messages == 1 && turn.tools.is_none() {
        return Some(measured(read));
    }
    let added = before.and_then(|before| {
        let known = goes_on(before, &turn.sent).filter(|_| before.tools == turn.tools)?;
        let added = read.checked_sub(known)?;
        (1..=most).contains(&added).then_some(added)
    });
    let by_share = || Count {
        tokens: scaled(read, bytes as f64 / turn.sent.bytes.max(1) as f64),
        counted: Counted::Learned,
    };
    let can_share = turn.sent.images == 0;
    added.map(measured).or_else(|| can_share.then(by_share))
}

/// Returns what `before` and the reply to it cost, if `sent` had the same messages and more.
fn goes_on(before: &Turn, sent: &Sent) -> Option<u64> {
    let same_start = before.sent.from == sent.from || before.sent.turns == 0;
    let goes_on = same_start && before.sent.turns + 1 == sent.turns && before.thinking.is_none();
    let known = before.usage.prompt_eval_count? + before.usage.eval_count?;
    goes_on.then_some(known)
}

/// Returns how many tokens the server must have been sent at the least: 90 % of what the turn
/// before and the reply to it cost (templates drop white space at the ends of a message), or,
/// where that is not known, a token for every 32 bytes (runs of white space in code come to
/// about 16).
#[must_use]
pub fn at_least(sent: &Sent, before: Option<&Turn>) -> u64 {
    let known = before.and_then(|before| goes_on(before, sent));
    known.map_or(sent.bytes / 32, |known| known / 10 * 9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::tests::id;
    use crate::session::event::{Timestamp, Usage};
    use proptest::prelude::*;

    fn said(read: Option<u64>, messages: u64, bytes: u64) -> SaidTurn {
        let turn = Turn {
            usage: Usage {
                prompt_eval_count: read,
                ..Usage::default()
            },
            sent: Sent {
                messages,
                bytes,
                ..Sent::default()
            },
            ..Turn::default()
        };
        SaidTurn {
            id: id(1),
            ts: Timestamp::from_ms(1),
            at: None,
            turn,
        }
    }

    #[test]
    fn a_ruler_learns_the_most_a_byte_cost_from_long_enough_turns() {
        let rows = [
            ("nothing", vec![], None),
            ("unmeasured", vec![said(None, 1, 1000)], None),
            ("too short", vec![said(Some(50), 1, 100)], None),
            ("one", vec![said(Some(204), 1, 1000)], Some(0.25)),
            (
                "the most",
                vec![said(Some(404), 1, 1000), said(Some(204), 1, 1000)],
                Some(0.5),
            ),
            (
                "never more than a byte",
                vec![said(Some(4000), 1, 1000)],
                Some(1.0),
            ),
        ];
        for (name, turns, expected) in rows {
            let turns: Vec<&SaidTurn> = turns.iter().collect();
            assert_eq!(
                Ruler::from_turns(&turns).tokens_per_byte,
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_turn_is_settled_from_what_the_server_measured() {
        let usage = |p, e| Usage {
            prompt_eval_count: p,
            eval_count: e,
            ..Usage::default()
        };
        let sent = |turns, messages, bytes| Sent {
            turns,
            messages,
            bytes,
            ..Sent::default()
        };
        let before = Turn {
            usage: usage(Some(100), Some(20)),
            sent: sent(0, 1, 400),
            ..Turn::default()
        };
        let thought = Turn {
            thinking: Some("hm".into()),
            ..before.clone()
        };
        let prompt = "x".repeat(40);
        let ruler = Ruler::default();
        let rows = [
            (
                "first",
                usage(Some(12), Some(7)),
                sent(0, 1, 40),
                None,
                false,
                (12, 7, Counted::Measured),
            ),
            (
                "second",
                usage(Some(133), Some(7)),
                sent(1, 3, 500),
                Some(&before),
                false,
                (13, 7, Counted::Measured),
            ),
            (
                "by share",
                usage(Some(50), Some(7)),
                sent(0, 2, 400),
                None,
                false,
                (5, 7, Counted::Learned),
            ),
            (
                "after thought",
                usage(Some(100), Some(7)),
                sent(1, 3, 400),
                Some(&thought),
                false,
                (10, 7, Counted::Learned),
            ),
            (
                "with thought",
                usage(Some(12), Some(99)),
                sent(0, 1, 40),
                None,
                true,
                (12, 18, Counted::Bytes),
            ),
            (
                "silent server",
                usage(None, None),
                sent(0, 1, 40),
                None,
                false,
                (56, 18, Counted::Bytes),
            ),
        ];
        for (name, usage, sent, before, thought, (p, r, counted)) in rows {
            let turn = Turn {
                prompt: prompt.clone(),
                response: "ok".into(),
                thinking: thought.then(|| "hm".into()),
                usage,
                sent,
                ..Turn::default()
            };
            let expected = Tokens {
                prompt: p,
                response: r,
                counted,
            };
            assert_eq!(settle(ruler, &turn, before), expected, "{name}");
        }
    }

    #[test]
    fn tiktoken_is_asked_only_for_a_decision_and_never_exceeds_the_bytes() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(50);
        let ruler = Ruler::default();
        assert_eq!(ruler.count(&text).counted, Counted::Bytes);
        let well = ruler.count_well(&text);
        assert_eq!(well.counted, Counted::Tiktoken);
        assert!(well.tokens < text.len() as u64 / 3, "{well:?}");
        assert_eq!(vocabularies_loaded(), 1);
        for dense in [
            "a".repeat(200_000),
            "QUJD".repeat(5000),
            "日本語".repeat(5000),
            "🦀".repeat(5000),
        ] {
            let count = ruler.count_well(&dense);
            assert!(
                count.tokens <= dense.len() as u64 + PER_MESSAGE,
                "{count:?}"
            );
        }
    }

    #[test]
    fn what_was_learned_from_prose_is_not_taken_for_anything_else() {
        let ruler = Ruler {
            tokens_per_image: None,
            tokens_per_byte: Some(0.25),
        };
        let rows = [
            (
                "prose",
                "The quick brown fox jumps over the lazy dog, and then again.",
                Counted::Learned,
            ),
            (
                "base64",
                "TG9yZW0gaXBzdW0gZG9sb3Igc2l0IGFtZXQsIGNvbnNlY3RldHVy",
                Counted::Bytes,
            ),
            (
                "figures",
                "1 22 333 4444 55555 1 22 333 4444 55555 3.14159",
                Counted::Bytes,
            ),
            (
                "another script",
                "速い茶色の狐がのろまな犬を飛び越える",
                Counted::Bytes,
            ),
            (
                "one long word",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                Counted::Bytes,
            ),
            (
                "symbols",
                "{{[()]}}<<>>;;::==!=&&||++--**//%%^^~~@@##$$",
                Counted::Bytes,
            ),
        ];
        for (name, text, expected) in rows {
            assert_eq!(ruler.count(text).counted, expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn pieces_join_to_the_text(text in "[a-zé日🦀]{0,9000}") {
            prop_assert_eq!(pieces(&text).collect::<String>(), text.clone());
            prop_assert!(pieces(&text).all(|piece| piece.len() <= PIECE));
        }
    }
}
