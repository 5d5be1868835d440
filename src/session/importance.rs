//! How important a turn is for what comes after it: a score, for the strategy that drops the
//! least important turns first.
//!
//! ```text
//! score = 2 referred + 1 recency + 0.5 substance - 0.25 length      each between 0 and 1
//! ```
//!
//! * `referred`: what later turns, and the new message before all, still speak of. A turn is
//!   credited with each term it was the first to say, as much as the term is rare: a name or a
//!   figure said once and asked for later is what a conversation most needs to keep, and words
//!   that are everywhere say nothing. The new message counts three times: it is what is about to
//!   be answered.
//! * `recency`: the place in the order, because what was said last is most often meant. It weighs
//!   half, or else no older turn could ever win, which is what `fifo` is for.
//! * `substance`: code, files or addresses named, figures. They are costly to say again, and the
//!   model cannot guess them.
//! * `length`: a long turn takes the place of several short ones; it must be worth it.

use std::collections::HashMap;

const REFERRED: f64 = 2.0;
const RECENCY: f64 = 1.0;
const SUBSTANCE: f64 = 0.5;
const LENGTH: f64 = 0.25;

/// How often the new message is counted beside a later turn.
const NEW_MESSAGE: f64 = 3.0;

/// Rare terms referred to beyond about this weight add little: 1 - 1/e of the way there.
const ENOUGH_REFERENCES: f64 = 4.0;

/// What is looked at of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The user's message.
    pub prompt: &'a str,
    /// The model's.
    pub response: &'a str,
    /// What the turn costs.
    pub tokens: u64,
}

/// Scores turns, oldest first, before `next` is asked. One score a turn, comparable only with
/// each other.
#[must_use]
pub fn scores(turns: &[Said<'_>], next: &str) -> Vec<f64> {
    let references = references(turns, next);
    let longest = turns
        .iter()
        .map(|turn| turn.tokens)
        .max()
        .unwrap_or(1)
        .max(1);
    let last = turns.len().saturating_sub(1).max(1);
    let score = |(at, turn): (usize, &Said<'_>)| {
        let referred = 1.0 - (-references[at] / ENOUGH_REFERENCES).exp();
        let recency = at as f64 / last as f64;
        let length = turn.tokens as f64 / longest as f64;
        let substance = f64::from(u8::from(
            has_substance(turn.prompt) || has_substance(turn.response),
        ));
        REFERRED * referred + RECENCY * recency + SUBSTANCE * substance - LENGTH * length
    };
    turns.iter().enumerate().map(score).collect()
}

/// Returns for each turn the weight of the terms it said first and later turns say again.
fn references(turns: &[Said<'_>], next: &str) -> Vec<f64> {
    struct Term {
        first: usize,
        turns: f64,
        last_seen: usize,
        asked_for: bool,
    }
    let mut terms: HashMap<String, Term> = HashMap::new();
    for (at, turn) in turns.iter().enumerate() {
        for word in words(turn.prompt).chain(words(turn.response)) {
            let term = terms.entry(word).or_insert(Term {
                first: at,
                turns: 1.0,
                last_seen: at,
                asked_for: false,
            });
            if term.last_seen != at {
                term.last_seen = at;
                term.turns += 1.0;
            }
        }
    }
    for word in words(next) {
        if let Some(term) = terms.get_mut(&word) {
            term.asked_for = true;
        }
    }
    let mut references = vec![0.0; turns.len()];
    let all = turns.len() as f64 + 1.0;
    for term in terms.values() {
        let later =
            f64::from(u8::from(term.turns > 1.0)) + if term.asked_for { NEW_MESSAGE } else { 0.0 };
        let in_turns = term.turns + f64::from(u8::from(term.asked_for));
        references[term.first] += later * (all / in_turns).ln();
    }
    references
}

/// Returns the terms of a text: words of four letters or more, and whatever has a digit, in
/// lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words = text.split(move |c| !is_part(c));
    let tells = |word: &&str| word.chars().count() >= 4 || word.bytes().any(|b| b.is_ascii_digit());
    words.filter(tells).map(str::to_lowercase)
}

/// Tells whether a text has code or figures in it, or names a file or an address.
fn has_substance(text: &str) -> bool {
    let has_figure = text
        .as_bytes()
        .windows(2)
        .any(|pair| pair.iter().all(u8::is_ascii_digit));
    has_figure
        || ["```", "://", "--- FILE: "]
            .iter()
            .any(|mark| text.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<'a>(prompt: &'a str, response: &'a str) -> Said<'a> {
        Said {
            prompt,
            response,
            tokens: 20,
        }
    }

    #[test]
    fn what_is_referred_to_later_outranks_what_is_not() {
        let turns = [
            said("The staging password is kept in vault-7731.", "Noted."),
            said(
                "Tell me a joke about cheese.",
                "What is a mouse's favourite game? Hide and squeak.",
            ),
            said("And one about bread.", "It is the yeast I could do."),
            said("Good. Who maintains the parser?", "Nobody said so far."),
        ];
        let scores = scores(&turns, "Which vault was it, vault-7731?");
        let best = (0..3).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        assert_eq!(best, Some(0), "{scores:?}");
    }

    #[test]
    fn code_counts_and_length_costs() {
        let plain = said("Write a loop.", "for each of them do it");
        let code = said("Write a loop.", "```rust\nfor x in xs {}\n```");
        let long = Said {
            tokens: 2000,
            ..plain
        };
        let of = |first| {
            scores(
                &[
                    first,
                    Said {
                        tokens: 2000,
                        ..said("xx", "yy")
                    },
                ],
                "zz",
            )[0]
        };
        assert!(of(code) > of(plain));
        assert!(of(plain) > of(long));
    }

    #[test]
    fn scores_are_finite_and_one_a_turn() {
        for n in 0..4 {
            let turns = vec![said("", ""); n];
            let scores = scores(&turns, "");
            assert_eq!(scores.len(), n);
            assert!(scores.iter().all(|score| score.is_finite()), "{scores:?}");
        }
    }
}
