//! From messages, as other programs keep them, to turns: a turn is a question with its answer, and
//! others keep what was never answered, or answered twice.

use super::{LeftOut, Turn};
use crate::session::event::{Timestamp, Usage};

/// Who said something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speaker {
    /// The user.
    #[default]
    User,
    /// The model.
    Assistant,
}

/// Something that was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// By whom.
    pub by: Speaker,
    /// What tells it from all others of its kind of source.
    pub key: String,
    /// What.
    pub text: String,
    /// What was thought before it.
    pub thinking: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Which model said it.
    pub model: Option<String>,
    /// What it cost.
    pub usage: Usage,
}

/// Messages as turns, and what has no counterpart.
#[derive(Debug, Default, PartialEq)]
pub struct Paired {
    /// The turns.
    pub turns: Vec<Turn>,
    /// Questions at the end that have no answer.
    pub unanswered: u64,
    /// Answers at the beginning that have no question.
    pub unasked: u64,
}

impl Paired {
    /// Returns the turns, and counts what has no counterpart.
    #[must_use]
    pub fn turns(self, left_out: &mut LeftOut) -> Vec<Turn> {
        left_out.add("unanswered_prompts", self.unanswered);
        left_out.add("answers_without_prompt", self.unasked);
        self.turns
    }
}

/// Makes turns of messages in the order they were said. What one says in several messages is one
/// text, an empty line between. A question without an answer and an answer without a question are
/// no turn.
#[must_use]
pub fn pair(messages: impl IntoIterator<Item = Message>) -> Paired {
    let mut paired = Paired::default();
    let mut open: Option<Turn> = None;
    let mut is_answered = false;
    // How many messages the open question has.
    let mut asked = 0;
    for message in messages {
        match (message.by, &mut open) {
            (Speaker::User, turn) if turn.is_none() || is_answered => {
                paired.turns.extend(turn.take());
                open = Some(Turn {
                    key: message.key,
                    asked: message.at,
                    prompt: message.text,
                    ..Turn::default()
                });
                (is_answered, asked) = (false, 1);
            }
            (Speaker::User, Some(turn)) => {
                join(&mut turn.prompt, &message.text);
                asked += 1;
            }
            (Speaker::Assistant, Some(turn)) => {
                if !is_answered {
                    // What was asked may have been answered more than once, in branches.
                    turn.key = format!("{}:{}", turn.key, message.key);
                    turn.asked = turn.asked.or(message.at);
                }
                is_answered = true;
                join(&mut turn.response, &message.text);
                if let Some(thinking) = &message.thinking {
                    join(turn.thinking.get_or_insert_default(), thinking);
                }
                turn.answered = message.at.max(turn.answered);
                turn.model = message.model.or(turn.model.take());
                turn.usage = message.usage;
            }
            (Speaker::Assistant, None) => paired.unasked += 1,
            (Speaker::User, None) => unreachable!("the first arm takes it"),
        }
    }
    if is_answered {
        paired.turns.extend(open);
    } else if open.is_some() {
        paired.unanswered += asked;
    }
    paired
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads messages from words: `u:text` and `a:text`.
    fn messages(text: &str) -> Vec<Message> {
        let message = |(n, word): (usize, &str)| {
            let (by, text) = word.split_once(':').expect("who:what");
            Message {
                by: if by == "u" {
                    Speaker::User
                } else {
                    Speaker::Assistant
                },
                key: n.to_string(),
                text: text.to_owned(),
                at: Some(Timestamp::from_ms(n as u64)),
                ..Message::default()
            }
        };
        text.split_whitespace().enumerate().map(message).collect()
    }

    #[test]
    fn questions_and_answers_become_turns() {
        let rows = [
            ("", "", 0, 0),
            ("u:a a:b", "a>b", 0, 0),
            ("u:a a:b u:c a:d", "a>b c>d", 0, 0),
            ("u:a u:b a:c a:d", "a+b>c+d", 0, 0),
            ("u:a", "", 1, 0),
            ("u:a a:b u:c u:d", "a>b", 2, 0),
            ("a:x a:y u:a a:b", "a>b", 0, 2),
            ("a:x", "", 0, 1),
        ];
        for (given, expected, unanswered, unasked) in rows {
            let paired = pair(messages(given));
            let shown =
                |turn: &Turn| format!("{}>{}", turn.prompt, turn.response).replace("\n\n", "+");
            let turns: Vec<String> = paired.turns.iter().map(shown).collect();
            assert_eq!(turns.join(" "), expected, "{given}");
            assert_eq!(
                (paired.unanswered, paired.unasked),
                (unanswered, unasked),
                "{given}"
            );
        }
    }

    #[test]
    fn a_turn_keeps_its_key_while_its_answer_grows() {
        let (before, after) = (pair(messages("u:a a:b")), pair(messages("u:a a:b a:c")));
        assert_eq!(before.turns[0].key, after.turns[0].key);
        assert!(before.turns[0].answered < after.turns[0].answered);
        let branch = pair(messages("u:a a:b").into_iter().map(|m| Message {
            key: m.key + "x",
            ..m
        }));
        assert_ne!(branch.turns[0].key, before.turns[0].key);
    }

    proptest! {
        #[test]
        fn nothing_that_was_said_is_lost_unless_it_is_counted(who in prop::collection::vec(any::<bool>(), 0..12)) {
            let text: Vec<String> = who.iter().enumerate().map(|(n, user)| format!("{}:<{n}>", if *user { 'u' } else { 'a' })).collect();
            let paired = pair(messages(&text.join(" ")));
            let said: String = paired.turns.iter().map(|turn| turn.prompt.clone() + &turn.response).collect();
            let kept = (0..who.len()).filter(|n| said.contains(&format!("<{n}>"))).count() as u64;
            prop_assert_eq!(kept + paired.unanswered + paired.unasked, who.len() as u64);
        }
    }
}
