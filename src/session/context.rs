//! The context plan: which turns go out with the next message. A pure choice over token counts
//! and, where importance decides, scores.
//!
//! Pruning starts above 90 % of the budget and goes down to 80 %, so that it is rare and that
//! between two prunings the messages sent begin byte for byte with those of the turn before:
//! the server's prompt cache is reused.

use std::ops::Range;

/// Tokens a reply may have where nobody says how many.
pub const USUAL_REPLY: i64 = 2048;

/// What may be sent, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    max_context_tokens: u64,
    reply_room: u64,
}

impl Budget {
    /// Makes a budget of `max_context_tokens` for request and reply together. Room for a reply
    /// of `num_predict` tokens is left free, but never more than half of the budget: a small
    /// budget with a generous reply must still be able to ask. A reply without a limit
    /// (`num_predict` below 1) counts as that half.
    #[must_use]
    pub fn new(max_context_tokens: u64, num_predict: i64) -> Self {
        let half = max_context_tokens / 2;
        let reply_room = u64::try_from(num_predict)
            .ok()
            .filter(|n| *n > 0)
            .map_or(half, |n| n.min(half));
        Self {
            max_context_tokens,
            reply_room,
        }
    }

    /// Returns what a request may never exceed.
    #[must_use]
    pub fn limit(self) -> u64 {
        self.max_context_tokens - self.reply_room
    }

    /// Returns the size above which turns are dropped: 90 % of the budget, or the limit where
    /// the room for the reply takes more than the other 10 %.
    #[must_use]
    pub fn high_water(self) -> u64 {
        (self.max_context_tokens / 10 * 9 + self.max_context_tokens % 10 * 9 / 10).min(self.limit())
    }

    /// Returns the size to which dropping goes down: in the same relation as 80 to 90 %.
    #[must_use]
    pub fn low_water(self) -> u64 {
        let high = self.high_water();
        high - high / 9
    }

    /// Returns the budget as it was given.
    #[must_use]
    pub fn max_context_tokens(self) -> u64 {
        self.max_context_tokens
    }
}

/// A turn that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What it costs.
    pub tokens: u64,
    /// Whether it stays whatever leaves.
    pub is_pinned: bool,
    /// Whether it stays and leaves with the turn before it: the results of tool calls go with
    /// the calls.
    pub with_previous: bool,
}

/// In which order turns leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order<'a> {
    /// The oldest first.
    Oldest,
    /// Those of the lowest score first; of two alike the older one. One score a turn.
    LeastImportant(&'a [f64]),
    /// None may leave.
    Never,
}

/// The choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// For each turn whether it is sent.
    pub keep: Vec<bool>,
    /// Tokens of everything that is sent.
    pub tokens: u64,
}

/// What must be sent does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// Tokens of what must be sent.
    pub tokens: u64,
    /// Tokens that may be sent.
    pub limit: u64,
}

/// Chooses the turns that are sent, whole ones only. `turns` are those in the context so far,
/// oldest first; `fixed` is what goes out whatever is chosen: the system prompt and the new
/// message. Above the high water mark turns leave in their order until the low one is reached.
/// The newest turn and pinned ones always stay, and with them those they belong together with;
/// only where a chain of calls and results alone is too much, it is taken apart.
///
/// The order does not depend on the budget, so a larger one keeps all that a smaller one does.
///
/// # Errors
/// When what must stay exceeds the limit.
pub fn plan(
    turns: &[Candidate],
    fixed: u64,
    budget: Budget,
    order: Order<'_>,
) -> Result<Plan, Overflow> {
    let all = turns
        .iter()
        .fold(fixed, |sum, turn| sum.saturating_add(turn.tokens));
    let target = if all > budget.high_water() {
        budget.low_water()
    } else {
        all
    };
    let mut plan = drop_until(turns, fixed, target, order);
    if plan.tokens > budget.limit() && turns.iter().any(|turn| turn.with_previous) {
        let apart = |turn: &Candidate| Candidate {
            with_previous: false,
            ..*turn
        };
        let apart: Vec<Candidate> = turns.iter().map(apart).collect();
        plan = drop_until(&apart, fixed, target, order);
    }
    let (tokens, limit) = (plan.tokens, budget.limit());
    if tokens > limit {
        Err(Overflow { tokens, limit })
    } else {
        Ok(plan)
    }
}

/// Lets turns leave in their order until no more than `target` tokens are left, `fixed` among
/// them, or none that may.
#[must_use]
pub fn drop_until(turns: &[Candidate], fixed: u64, target: u64, order: Order<'_>) -> Plan {
    let mut tokens = turns
        .iter()
        .fold(fixed, |sum, turn| sum.saturating_add(turn.tokens));
    let mut keep = vec![true; turns.len()];
    for group in leaving(turns, order) {
        if tokens <= target {
            break;
        }
        tokens -= turns[group.clone()]
            .iter()
            .map(|turn| turn.tokens)
            .sum::<u64>();
        keep[group].fill(false);
    }
    Plan { keep, tokens }
}

/// Returns the positions of the turns that may leave, those together that belong together, in the
/// order in which they do. Of several scores the highest counts.
fn leaving(turns: &[Candidate], order: Order<'_>) -> Vec<Range<usize>> {
    let begins = |at: &usize| !turns[*at].with_previous;
    let starts: Vec<usize> = (0..turns.len())
        .filter(|at| *at == 0 || begins(at))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([turns.len()]);
    let groups = starts.iter().zip(ends).map(|(start, end)| *start..end);
    let may_leave = |group: &Range<usize>| {
        let is_pinned = turns[group.clone()].iter().any(|turn| turn.is_pinned);
        group.end < turns.len() && !is_pinned
    };
    let mut may_leave: Vec<Range<usize>> = groups.filter(may_leave).collect();
    match order {
        Order::Oldest => {}
        Order::LeastImportant(scores) => {
            let score = |group: &Range<usize>| {
                let scores = scores[group.clone()].iter().copied();
                scores.fold(f64::NEG_INFINITY, f64::max)
            };
            may_leave.sort_by(|a, b| score(a).total_cmp(&score(b)));
        }
        Order::Never => may_leave.clear(),
    }
    may_leave
}

/// Chooses the window to ask of a local server: the smallest power of two from 4096 on (Ollama's
/// own default) that holds the request and its reply, never smaller than in the turn before,
/// since a changed window reloads the model, and never larger than the model's own.
#[must_use]
pub fn num_ctx(request: u64, reply: u64, before: Option<u64>, window: Option<u64>) -> u64 {
    const SMALLEST: u64 = 4096;
    const LARGEST: u64 = 1 << 31;
    let needed = request
        .saturating_add(reply)
        .clamp(SMALLEST, LARGEST)
        .next_power_of_two();
    needed
        .max(before.unwrap_or(0))
        .min(window.unwrap_or(LARGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn water_marks_are_90_and_80_percent_or_leave_room_for_the_reply() {
        let rows = [
            // budget, num_predict, limit, high, low
            (64_000, 2048, 61_952, 57_600, 51_200),
            (64_000, 10_000, 54_000, 54_000, 48_000),
            (4_096, 2048, 2048, 2048, 1821),
            (1_000, 2048, 500, 500, 445),
            (1_000, -1, 500, 500, 445),
            (1, 1, 1, 0, 0),
        ];
        for (budget, num_predict, limit, high, low) in rows {
            let b = Budget::new(budget, num_predict);
            assert_eq!(
                (b.limit(), b.high_water(), b.low_water()),
                (limit, high, low),
                "{budget} {num_predict}"
            );
        }
    }

    /// Reads turns from their costs; a star marks a pinned one, a plus one that goes with the one
    /// before it.
    fn turns(text: &str) -> Vec<Candidate> {
        let turn = |word: &str| Candidate {
            tokens: word.trim_matches(['*', '+']).parse().expect("a number"),
            is_pinned: word.ends_with('*'),
            with_previous: word.starts_with('+'),
        };
        text.split_whitespace().map(turn).collect()
    }

    #[test]
    fn whole_turns_leave_in_order_and_the_newest_and_pinned_ones_stay() {
        use Order::{LeastImportant, Never, Oldest};
        let budget = Budget::new(1000, 100);
        let scores = [3.0, 1.0, 2.0, 0.0];
        let rows = [
            ("nothing yet", "", 100, Oldest, Ok(("", 100))),
            ("exactly 90 %", "400 400", 100, Oldest, Ok(("++", 900))),
            ("one over", "401 400", 100, Oldest, Ok(("-+", 500))),
            (
                "down to 80 %",
                "100 100 100 600",
                50,
                Oldest,
                Ok(("--++", 750)),
            ),
            (
                "the newest stays above 80 %",
                "10 850",
                45,
                Oldest,
                Ok(("-+", 895)),
            ),
            (
                "the newest alone is too much",
                "10 880",
                45,
                Oldest,
                Err(925),
            ),
            (
                "a pinned one stays",
                "300* 300 300",
                100,
                Oldest,
                Ok(("+-+", 700)),
            ),
            (
                "pinned ones are too much",
                "500* 300* 100",
                100,
                Oldest,
                Err(1000),
            ),
            (
                "the least important leave",
                "250 250 250 250",
                0,
                LeastImportant(&scores),
                Ok(("+-++", 750)),
            ),
            (
                "and then the next",
                "300 300 300 300",
                0,
                LeastImportant(&scores),
                Ok(("+--+", 600)),
            ),
            (
                "a call leaves with its results",
                "300 +300 300",
                50,
                Oldest,
                Ok(("--+", 350)),
            ),
            (
                "and stays with them",
                "100 300 +300* 250",
                0,
                Oldest,
                Ok(("-+++", 850)),
            ),
            (
                "the newest keeps its call",
                "300 300 +350",
                0,
                Oldest,
                Ok(("-++", 650)),
            ),
            (
                "the most important of a chain counts",
                "250 +250 250 250",
                0,
                LeastImportant(&[0.0, 4.0, 2.0, 9.0]),
                Ok(("++-+", 750)),
            ),
            (
                "a chain that is too much is taken apart",
                "300 +300 +300 +300",
                0,
                Oldest,
                Ok(("--++", 600)),
            ),
            ("none may leave", "400 400", 100, Never, Ok(("++", 900))),
            (
                "none may leave, and it is too much",
                "400 401",
                100,
                Never,
                Err(901),
            ),
        ];
        for (name, costs, fixed, order, expected) in rows {
            let got = plan(&turns(costs), fixed, budget, order);
            let shown = |keep: &[bool]| {
                keep.iter()
                    .map(|k| if *k { '+' } else { '-' })
                    .collect::<String>()
            };
            let got = got
                .map(|p| (shown(&p.keep), p.tokens))
                .map_err(|o| o.tokens);
            assert_eq!(
                got,
                expected.map(|(keep, tokens): (&str, u64)| (keep.to_owned(), tokens)),
                "{name}"
            );
        }
    }

    #[test]
    fn the_window_is_a_power_of_two_that_never_shrinks() {
        let rows = [
            (10, 2048, None, None, 4096),
            (2048, 2048, None, None, 4096),
            (2049, 2048, None, None, 8192),
            (10, 2048, Some(16384), None, 16384),
            (60_000, 2048, Some(16384), None, 65536),
            (10, 10, Some(5000), None, 5000),
            (10, 2048, None, Some(2048), 2048),
            (30_000, 2048, None, Some(40_960), 32_768),
            (33_000, 2048, None, Some(40_960), 40_960),
            (10, 10, Some(65_536), Some(32_768), 32_768),
        ];
        for (request, reply, before, window, expected) in rows {
            let name = format!("{request} {reply} {before:?} {window:?}");
            assert_eq!(num_ctx(request, reply, before, window), expected, "{name}");
        }
    }

    fn any_turns() -> impl Strategy<Value = (Vec<Candidate>, Vec<f64>)> {
        let turn = (0u64..2000, prop::bool::weighted(0.1), 0.0..1.0).prop_map(
            |(tokens, is_pinned, score)| {
                let with_previous = false;
                (
                    Candidate {
                        tokens,
                        is_pinned,
                        with_previous,
                    },
                    score,
                )
            },
        );
        prop::collection::vec(turn, 0..50).prop_map(|turns| turns.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn a_plan_is_never_over_budget_keeps_what_must_stay_and_is_stable(
            (turns, scores) in any_turns(), by_score: bool,
            fixed in 0u64..3000, max in 1u64..20_000, num_predict in -1i64..5000,
        ) {
            let budget = Budget::new(max, num_predict);
            let order = if by_score { Order::LeastImportant(&scores) } else { Order::Oldest };
            let must_stay = |at: usize| turns[at].is_pinned || at + 1 == turns.len();
            let at_least: u64 = (0..turns.len()).filter(|at| must_stay(*at)).map(|at| turns[at].tokens).sum();
            match plan(&turns, fixed, budget, order) {
                Ok(p) => {
                    prop_assert!(p.tokens <= budget.limit());
                    prop_assert!((0..turns.len()).all(|at| p.keep[at] || !must_stay(at)));
                    let kept: Vec<usize> = (0..turns.len()).filter(|at| p.keep[*at]).collect();
                    prop_assert_eq!(p.tokens, fixed + kept.iter().map(|at| turns[*at].tokens).sum::<u64>());
                    let again: Vec<Candidate> = kept.iter().map(|at| turns[*at]).collect();
                    let scores: Vec<f64> = kept.iter().map(|at| scores[*at]).collect();
                    let order = if by_score { Order::LeastImportant(&scores) } else { Order::Oldest };
                    let twice = plan(&again, fixed, budget, order).expect("it fitted");
                    prop_assert!(twice.keep.iter().all(|keep| *keep), "planning twice changes nothing");
                }
                Err(over) => prop_assert!(over.tokens == fixed + at_least && over.tokens > budget.limit()),
            }
        }

        #[test]
        fn what_belongs_together_is_parted_only_where_it_is_too_much(
            (mut turns, scores) in any_turns(), together in prop::collection::vec(prop::bool::weighted(0.3), 50),
            by_score: bool, fixed in 0u64..3000, max in 1u64..20_000,
        ) {
            for (turn, together) in turns.iter_mut().zip(together) {
                turn.with_previous = together;
            }
            let budget = Budget::new(max, 100);
            let order = if by_score { Order::LeastImportant(&scores) } else { Order::Oldest };
            if let Ok(p) = plan(&turns, fixed, budget, order) {
                prop_assert!(p.tokens <= budget.limit());
                let parted = (1..turns.len()).any(|at| turns[at].with_previous && p.keep[at] != p.keep[at - 1]);
                let must_stay = drop_until(&turns, fixed, 0, order).tokens;
                prop_assert!(!parted || must_stay > budget.limit());
            }
        }

        #[test]
        fn a_larger_budget_never_keeps_less(
            (turns, scores) in any_turns(), by_score: bool,
            fixed in 0u64..500, max in 1u64..20_000, more in 0u64..5000,
        ) {
            let order = if by_score { Order::LeastImportant(&scores) } else { Order::Oldest };
            let small = plan(&turns, fixed, Budget::new(max, 100), order);
            let large = plan(&turns, fixed, Budget::new(max + more, 100), order);
            if let Ok(small) = small {
                let large = large.expect("what fits the smaller fits the larger");
                prop_assert!(small.keep.iter().zip(&large.keep).all(|(small, large)| !small || *large));
            }
        }
    }
}
