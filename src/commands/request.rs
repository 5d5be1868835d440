//! From a conversation and a new message to the request: what goes out, and what it costs.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::ollama::{Message, Role};
use crate::session::context::{Budget, Overflow, num_ctx, plan};
use crate::session::event::{Counted, Sent};
use crate::session::fold::SaidTurn;
use crate::tokens::{Count, PER_MESSAGE, Ruler};

/// What is to be sent, before it is decided which turns go with it.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) model: &'a str,
    pub(super) system: Option<&'a str>,
    /// The turns in the context so far, oldest first.
    pub(super) turns: &'a [SaidTurn],
    pub(super) prompt: &'a str,
    pub(super) options: &'a Map<String, Value>,
    pub(super) max_context_tokens: u64,
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) messages: Vec<Message<'a>>,
    pub(super) options: Map<String, Value>,
    /// The turns that are in it.
    pub(super) kept: &'a [SaidTurn],
    /// Tokens of the turns that are not.
    pub(super) dropped_tokens: u64,
    /// Tokens of everything in it, never too few by what is known.
    pub(super) tokens: u64,
    /// What the new turn remembers of it.
    pub(super) sent: Sent,
    pub(super) ruler: Ruler,
}

impl<'a> Draft<'a> {
    /// Chooses what fits and puts it together.
    ///
    /// # Errors
    /// `context_overflow` when what must be sent does not fit.
    pub(super) fn assemble(self) -> Result<Request<'a>> {
        let num_predict = self
            .options
            .get("num_predict")
            .and_then(Value::as_i64)
            .unwrap_or(-1);
        let budget = Budget::new(self.max_context_tokens, num_predict);
        let ruler = Ruler::from_turns(self.turns);
        // First without a vocabulary: if everything fits even so, nothing hangs on it.
        let mut costs = self.costs(|text| ruler.count(text));
        if costs.total() > budget.high_water() {
            costs = self.costs(|text| ruler.count_well(text));
        }
        let plan = plan(&costs.turns, costs.fixed, budget)
            .map_err(|overflow| too_much(overflow, self.max_context_tokens))?;
        let (dropped, kept) = self.turns.split_at(plan.keep_from);
        debug_assert!(plan.keep_from == dropped.len());
        let messages = self.messages(kept);
        let mut options = self.options.clone();
        let asked = self.num_ctx(&mut options, plan.tokens, num_predict);
        let sent = Sent {
            from: kept.first().map(|turn| turn.id),
            turns: kept.len() as u64,
            messages: messages.len() as u64,
            bytes: messages
                .iter()
                .map(|message| message.content.len() as u64)
                .sum(),
            num_ctx: asked,
        };
        let dropped_tokens = costs.turns[..plan.keep_from].iter().sum();
        Ok(Request {
            messages,
            options,
            kept,
            dropped_tokens,
            tokens: plan.tokens,
            sent,
            ruler,
        })
    }

    fn costs(&self, count: impl Fn(&str) -> Count) -> Costs {
        let turns = self.turns.iter().map(|said| {
            let (turn, tokens) = (&said.turn, said.turn.tokens);
            if tokens.counted == Counted::Bytes {
                count(&turn.prompt).tokens + count(&turn.response).tokens
            } else {
                tokens.prompt + tokens.response
            }
        });
        let system = self.system.map_or(0, |text| count(text).tokens);
        Costs {
            turns: turns.collect(),
            fixed: system + count(self.prompt).tokens + PER_MESSAGE,
        }
    }

    fn messages(&self, kept: &'a [SaidTurn]) -> Vec<Message<'a>> {
        let message = |role, text: &'a str| Message {
            role,
            content: Cow::Borrowed(text),
        };
        let system = self.system.map(|text| message(Role::System, text));
        let said = kept.iter().flat_map(|said| {
            [
                message(Role::User, &said.turn.prompt),
                message(Role::Assistant, &said.turn.response),
            ]
        });
        system
            .into_iter()
            .chain(said)
            .chain([message(Role::User, self.prompt)])
            .collect()
    }

    /// Asks a local server for a window that holds it all, unless the user did; Ollama's default
    /// would cut the beginning off without a word. Models in the cloud have the one they have.
    fn num_ctx(
        &self,
        options: &mut Map<String, Value>,
        tokens: u64,
        num_predict: i64,
    ) -> Option<u64> {
        if let Some(given) = options.get("num_ctx") {
            return given.as_u64();
        }
        if is_cloud(self.model) {
            return None;
        }
        let before = self.turns.last().and_then(|said| said.turn.sent.num_ctx);
        let reply = u64::try_from(num_predict).unwrap_or(0);
        let window = num_ctx(tokens, reply, before);
        options.insert("num_ctx".to_owned(), window.into());
        Some(window)
    }
}

struct Costs {
    turns: Vec<u64>,
    fixed: u64,
}

impl Costs {
    fn total(&self) -> u64 {
        self.turns.iter().sum::<u64>() + self.fixed
    }
}

/// Tells whether a model runs in Ollama's cloud: its tag says so.
fn is_cloud(model: &str) -> bool {
    model
        .rsplit_once(':')
        .is_some_and(|(_, tag)| tag == "cloud" || tag.ends_with("-cloud"))
}

fn too_much(overflow: Overflow, max_context_tokens: u64) -> Error {
    let Overflow { tokens, limit } = overflow;
    let cause = format!(
        "about {tokens} tokens must be sent, and of {max_context_tokens} only {limit} are left beside the reply: {} too many",
        tokens - limit
    );
    Error::new(
        Code::ContextOverflow,
        "the message does not fit the context",
    )
    .because(cause)
    .hint("send less, raise --max-context-tokens, or lower --max_tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_the_cloud_is_known_by_its_tag() {
        let rows = [
            ("deepseek-v3.1:671b-cloud", true),
            ("glm-4.6:cloud", true),
            ("registry.example:5000/team/m:70b-cloud", true),
            ("llama3.2", false),
            ("cloud", false),
            ("my-cloud", false),
            ("clouds:7b", false),
        ];
        for (model, expected) in rows {
            assert_eq!(is_cloud(model), expected, "{model}");
        }
    }
}
