//! From a conversation and a new message to the request: what goes out, what it costs, and for
//! each message why it goes or stays behind.

use serde_json::{Map, Value};

use super::messages::{Images, messages, parts};
use crate::error::{Code, Error, Result};
use crate::json;
use crate::ollama::Message;
use crate::output::PlannedMessage;
use crate::session::attachment::{Asking, belong_together};
use crate::session::context::{Budget, Candidate, Order, Overflow, Plan, num_ctx, plan};
use crate::session::event::{Counted, Sent, Settings, Strategy};
use crate::session::fold::{SaidTurn, Session};
use crate::session::importance::{Said, scores};
use crate::tokens::{Count, PER_MESSAGE, Ruler, at_most, of_answer, of_question};

/// Tokens a summary may take.
pub(super) const SUMMARY_TOKENS: u64 = 512;

/// What is to be sent, before it is decided which turns go with it.
#[derive(Debug, Clone)]
pub(super) struct Draft<'a> {
    pub(super) settings: &'a Settings,
    /// The summary of turns that left before.
    pub(super) summary: Option<&'a str>,
    /// The turns to choose from, oldest first.
    pub(super) turns: Vec<&'a SaidTurn>,
    /// The session, if the turns are chosen from all it has: those in its context stay as long as
    /// they fit, for a budget that grew takes nothing away.
    pub(super) before: Option<&'a Session>,
    /// The new message.
    pub(super) asking: Asking<'a>,
    /// The tools the model is offered.
    pub(super) tools: Option<&'a Value>,
    /// What can be sent of the images of all messages.
    pub(super) images: Images<'a>,
    pub(super) options: Map<String, Value>,
    /// The window the model really has, in tokens, where that is known.
    pub(super) window: Option<u64>,
    /// By how much counts are raised, once the server has said that they are too low.
    pub(super) scale: f64,
}

/// A message and what it costs.
#[derive(Debug, Clone, Copy)]
struct Cost {
    tokens: u64,
    counted: Counted,
}

/// What is to be sent, and the choice.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    draft: Draft<'a>,
    plan: Plan,
    costs: Costs,
    budget: u64,
    num_predict: i64,
    ruler: Ruler,
    /// Whether turns leave without a summary, because the budget has no room for one.
    pub(super) is_room_missing: bool,
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) messages: Vec<Message<'a>>,
    pub(super) options: Map<String, Value>,
    /// The turns that are in it.
    pub(super) kept: Vec<&'a SaidTurn>,
    /// Tokens of the turns that were to choose from and are not.
    pub(super) dropped_tokens: u64,
    /// The summary of those that left, now and before.
    pub(super) summary: Option<String>,
    /// Tokens of everything in it, never too few by what is known.
    pub(super) tokens: u64,
    /// The budget it was chosen for.
    pub(super) budget: u64,
    /// What the new turn remembers of it.
    pub(super) sent: Sent,
    pub(super) ruler: Ruler,
}

impl<'a> Draft<'a> {
    /// Chooses what fits.
    ///
    /// # Errors
    /// `context_overflow` when what must be sent does not fit.
    pub(super) fn plan(self) -> Result<Planned<'a>> {
        let num_predict = self
            .options
            .get("num_predict")
            .and_then(Value::as_i64)
            .unwrap_or(-1);
        let tokens = self.budget();
        let budget = Budget::new(tokens, num_predict);
        let ruler = Ruler::from_turns(&self.turns);
        // First by what needs no vocabulary and is never too low: if everything fits even so,
        // nothing hangs on it.
        let mut costs = self.costs(ruler, at_most);
        if costs.total() > budget.high_water() {
            costs = self.costs(ruler, |text| ruler.count_well(text));
        }
        let mut chosen = self.choose(&costs, budget);
        let drops = |chosen: &std::result::Result<Plan, Overflow>| {
            chosen
                .as_ref()
                .map_or(true, |plan| plan.keep.contains(&false))
        };
        let mut is_room_missing = false;
        if self.strategy() == Strategy::Summarize && drops(&chosen) {
            // What leaves now leaves room for its summary behind, if there is any.
            let before = costs.summary;
            costs.summary = before.max(SUMMARY_TOKENS + PER_MESSAGE);
            let with_room = self.choose(&costs, budget);
            is_room_missing = with_room.is_err() && chosen.is_ok();
            if is_room_missing {
                costs.summary = before;
            } else {
                chosen = with_room;
            }
        }
        let plan = chosen.map_err(|overflow| self.too_much(overflow, tokens))?;
        Ok(Planned {
            draft: self,
            plan,
            costs,
            budget: tokens,
            num_predict,
            ruler,
            is_room_missing,
        })
    }

    /// Returns the budget of request and reply: the session's, or the window where that is
    /// smaller.
    fn budget(&self) -> u64 {
        let asked = self.options.get("num_ctx").and_then(Value::as_u64);
        let windows = self.window.into_iter().chain(asked);
        windows
            .fold(
                self.settings.max_context_tokens.unwrap_or(u64::MAX),
                u64::min,
            )
            .max(1)
    }

    fn strategy(&self) -> Strategy {
        self.settings.prune.unwrap_or_default()
    }

    fn costs(&self, ruler: Ruler, count: impl Fn(&str) -> Count) -> Costs {
        let cost = |Count { tokens, counted }| Cost {
            tokens: self.scaled(tokens),
            counted,
        };
        let question = |asking| cost(of_question(asking, ruler.per_image(), &count));
        let turns = self.turns.iter().map(|said| {
            let (turn, stored) = (&said.turn, said.turn.tokens);
            if stored.counted == Counted::Bytes {
                let answer = of_answer(&turn.response, turn.tool_calls.as_ref(), &count);
                [question(Asking::of(turn)), cost(answer)]
            } else {
                [stored.prompt, stored.response].map(|tokens| Cost {
                    tokens: self.scaled(tokens),
                    counted: stored.counted,
                })
            }
        });
        Costs {
            turns: turns.collect(),
            system: self.system().map(|text| cost(count(text))),
            summary: self.summary.map_or(0, |text| cost(count(text)).tokens),
            tools: self
                .tools
                .map_or(0, |tools| cost(count(&json::line(tools))).tokens),
            prompt: question(self.asking),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of tokens, far below 2^52"
    )]
    fn scaled(&self, tokens: u64) -> u64 {
        (tokens as f64 * self.scale).ceil() as u64
    }

    fn system(&self) -> Option<&'a str> {
        self.settings
            .system
            .as_deref()
            .filter(|text| !text.is_empty())
    }

    fn choose(&self, costs: &Costs, budget: Budget) -> std::result::Result<Plan, Overflow> {
        let fixed = costs.fixed();
        let together = belong_together(self.turns.iter().map(|said| (said.id, &said.turn)));
        let mut candidates: Vec<Candidate> = self
            .turns
            .iter()
            .zip(&costs.turns)
            .zip(together)
            .map(|((said, [prompt, response]), with_previous)| Candidate {
                tokens: prompt.tokens + response.tokens,
                is_pinned: self.settings.is_pinned(said.id),
                with_previous,
            })
            .collect();
        if let Some(session) = self.before {
            let is_in = self.turns.iter().map(|said| session.is_in_context(said.id));
            let is_in: Vec<bool> = is_in.collect();
            let there = candidates.iter().zip(&is_in).filter(|(_, is_in)| **is_in);
            let fits =
                fixed + there.map(|(turn, _)| turn.tokens).sum::<u64>() <= budget.high_water();
            for (candidate, is_in) in candidates.iter_mut().zip(is_in) {
                candidate.is_pinned |= fits && is_in;
            }
        }
        match self.strategy() {
            Strategy::Fifo | Strategy::Summarize => plan(&candidates, fixed, budget, Order::Oldest),
            Strategy::Off => plan(&candidates, fixed, budget, Order::Never),
            Strategy::Importance => {
                let said = |(said, candidate): (&&'a SaidTurn, &Candidate)| Said {
                    prompt: &said.turn.prompt,
                    response: &said.turn.response,
                    tokens: candidate.tokens,
                };
                let said: Vec<Said<'_>> = self.turns.iter().zip(&candidates).map(said).collect();
                let scores = scores(&said, self.asking.prompt);
                plan(&candidates, fixed, budget, Order::LeastImportant(&scores))
            }
        }
    }

    fn too_much(&self, overflow: Overflow, budget: u64) -> Error {
        let Overflow { tokens, limit } = overflow;
        let cause = format!(
            "about {tokens} tokens must be sent, and of {budget} only {limit} are left beside the reply: {} too many",
            tokens - limit
        );
        let hint = match self.strategy() {
            Strategy::Off => {
                "let older turns leave with --prune fifo, or raise --max-context-tokens"
            }
            _ => "send less, raise --max-context-tokens, lower --max_tokens, or unpin turns",
        };
        Error::new(
            Code::ContextOverflow,
            "the message does not fit the context",
        )
        .because(cause)
        .hint(hint)
    }
}

#[derive(Debug)]
struct Costs {
    turns: Vec<[Cost; 2]>,
    system: Option<Cost>,
    summary: u64,
    tools: u64,
    prompt: Cost,
}

impl Costs {
    /// Returns the tokens of what goes out whatever is chosen; the template's own beginning and
    /// end among them.
    fn fixed(&self) -> u64 {
        let system = self.system.map_or(0, |cost| cost.tokens);
        system + self.summary + self.tools + self.prompt.tokens + PER_MESSAGE
    }

    fn total(&self) -> u64 {
        let turns = self.turns.iter().flatten().map(|cost| cost.tokens);
        turns.fold(self.fixed(), u64::saturating_add)
    }
}

impl<'a> Planned<'a> {
    /// Returns the turns that leave now, if they are to be summed up.
    pub(super) fn to_summarize(&self) -> Vec<&'a SaidTurn> {
        if self.draft.strategy() != Strategy::Summarize || self.is_room_missing {
            return Vec::new();
        }
        self.sorted_out().1
    }

    /// Returns the summary of what left before.
    pub(super) fn earlier_summary(&self) -> Option<&'a str> {
        self.draft.summary
    }

    /// Returns the turns that are sent and those that are not.
    fn sorted_out(&self) -> (Vec<&'a SaidTurn>, Vec<&'a SaidTurn>) {
        let (kept, dropped): (Vec<_>, Vec<_>) = self
            .draft
            .turns
            .iter()
            .zip(&self.plan.keep)
            .partition(|(_, keep)| **keep);
        let turns =
            |pairs: Vec<(&&'a SaidTurn, &bool)>| pairs.into_iter().map(|(said, _)| *said).collect();
        (turns(kept), turns(dropped))
    }

    /// Returns for each message whether it is sent, what it costs and why.
    pub(super) fn messages(&self) -> Vec<PlannedMessage> {
        let message = |role, turn, cost: Cost, kept, why| PlannedMessage {
            role,
            turn,
            tokens: cost.tokens,
            counted: cost.counted,
            kept,
            why,
        };
        let last = self.draft.turns.len().saturating_sub(1);
        let why = |at: usize, keep: bool| match (keep, self.draft.strategy()) {
            (true, _) if at == last => "the newest turn always stays",
            (true, _) if self.draft.settings.is_pinned(self.draft.turns[at].id) => "pinned",
            (true, _) => "fits the budget",
            (false, Strategy::Importance) => "over the budget, and less important than what stays",
            (false, Strategy::Summarize) if !self.is_room_missing => {
                "over the budget, and summed up"
            }
            (false, _) => "over the budget, and older than what stays",
        };
        let system = self
            .costs
            .system
            .map(|cost| message("system", None, cost, true, "the system prompt always stays"));
        let turns = self
            .draft
            .turns
            .iter()
            .zip(&self.plan.keep)
            .zip(&self.costs.turns)
            .enumerate();
        let kept = self.sorted_out().0;
        let turns = turns.flat_map(|(at, ((said, keep), [prompt, response]))| {
            let why = why(at, *keep);
            let seen = if *keep { &kept } else { &self.draft.turns };
            let parts = parts(Asking::of(&said.turn), seen, prompt.tokens).into_iter();
            let counted = prompt.counted;
            let asked = parts.map(move |(role, tokens)| {
                message(role, Some(said.id), Cost { tokens, counted }, *keep, why)
            });
            asked.chain([message("assistant", Some(said.id), *response, *keep, why)])
        });
        let prompt = self.costs.prompt;
        let new = parts(self.draft.asking, &kept, prompt.tokens).into_iter();
        let new = new.map(|(role, tokens)| {
            message(
                role,
                None,
                Cost { tokens, ..prompt },
                true,
                "the new message",
            )
        });
        system.into_iter().chain(turns).chain(new).collect()
    }

    /// Puts the request together. `summary` takes the place of the earlier one.
    pub(super) fn request(&self, summary: Option<String>) -> Request<'a> {
        let (kept, dropped) = self.sorted_out();
        let summary = summary.or_else(|| self.draft.summary.map(str::to_owned));
        let messages = messages(
            self.draft.system(),
            summary.as_deref(),
            &kept,
            self.draft.asking,
            self.draft.images,
        );
        let mut options = self.draft.options.clone();
        let asked = self.num_ctx(&mut options);
        let sent = Sent {
            from: kept.first().map(|turn| turn.id),
            turns: kept.len() as u64,
            messages: messages.len() as u64,
            bytes: bytes_sent(&messages, self.draft.tools),
            images: messages
                .iter()
                .map(|message| message.images.len() as u64)
                .sum(),
            num_ctx: asked,
        };
        let dropped_tokens = dropped
            .iter()
            .map(|said| said.turn.tokens.prompt + said.turn.tokens.response)
            .sum();
        Request {
            messages,
            options,
            kept,
            dropped_tokens,
            summary,
            tokens: self.plan.tokens,
            budget: self.budget,
            sent,
            ruler: self.ruler,
        }
    }

    /// Returns the window to ask for where the turns that leave are summed up: they were in the
    /// context and need as much room as the request, so the model is not loaded anew.
    pub(super) fn num_ctx_for_summary(&self) -> Option<u64> {
        let mut options = self.draft.options.clone();
        let leaving: u64 = self
            .costs
            .turns
            .iter()
            .flatten()
            .map(|cost| cost.tokens)
            .sum();
        self.window_for(leaving + 2 * SUMMARY_TOKENS, SUMMARY_TOKENS, &mut options)
    }

    /// Asks a local server for a window that holds it all, unless the user did; Ollama's default
    /// would cut the beginning off without a word. Models in the cloud have the one they have.
    fn num_ctx(&self, options: &mut Map<String, Value>) -> Option<u64> {
        let reply = u64::try_from(self.num_predict).unwrap_or(0);
        self.window_for(self.plan.tokens, reply, options)
    }

    fn window_for(&self, tokens: u64, reply: u64, options: &mut Map<String, Value>) -> Option<u64> {
        if let Some(given) = options.get("num_ctx") {
            return given.as_u64();
        }
        if is_cloud(self.draft.settings.model.as_deref().unwrap_or_default()) {
            return None;
        }
        let before = self
            .draft
            .turns
            .last()
            .and_then(|said| said.turn.sent.num_ctx);
        let window = num_ctx(tokens, reply, before, self.draft.window);
        options.insert("num_ctx".to_owned(), window.into());
        Some(window)
    }
}

/// Returns the bytes of the text of a request, and of the tools that are offered with it.
pub(super) fn bytes_sent(messages: &[Message<'_>], tools: Option<&Value>) -> u64 {
    let text = messages
        .iter()
        .map(|message| message.content.len())
        .sum::<usize>();
    let tools = tools.map_or(0, |tools| json::line(tools).len());
    (text + tools) as u64
}

/// Tells whether a model runs in Ollama's cloud: its tag says so.
pub(super) fn is_cloud(model: &str) -> bool {
    model
        .rsplit_once(':')
        .is_some_and(|(_, tag)| tag == "cloud" || tag.ends_with("-cloud"))
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
