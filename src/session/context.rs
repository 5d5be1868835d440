//! The context plan: which turns go out with the next message. A pure choice over token counts.
//!
//! Pruning starts above 90 % of the budget and goes down to 80 %, so that it is rare and that
//! between two prunings the messages sent begin byte for byte with those of the turn before:
//! the server's prompt cache is reused.

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

/// The choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Position of the oldest turn that is sent.
    pub keep_from: usize,
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

/// Chooses the newest turns that fit. `turns` are the costs of those in the context so far,
/// oldest first; `fixed` is what goes out whatever is chosen: the system prompt and the new
/// message. The newest turn always stays.
///
/// # Errors
/// When the newest turn and `fixed` exceed the limit.
pub fn plan(turns: &[u64], fixed: u64, budget: Budget) -> Result<Plan, Overflow> {
    let mut tokens = turns
        .iter()
        .fold(fixed, |sum, cost| sum.saturating_add(*cost));
    let mut keep_from = 0;
    if tokens > budget.high_water() {
        while tokens > budget.low_water() && keep_from + 1 < turns.len() {
            tokens -= turns[keep_from];
            keep_from += 1;
        }
    }
    let limit = budget.limit();
    if tokens > limit {
        Err(Overflow { tokens, limit })
    } else {
        Ok(Plan { keep_from, tokens })
    }
}

/// Chooses the window to ask of a local server: the smallest power of two from 4096 on (Ollama's
/// own default) that holds the request and its reply, never smaller than in the turn before,
/// since a changed window reloads the model.
#[must_use]
pub fn num_ctx(request: u64, reply: u64, before: Option<u64>) -> u64 {
    const SMALLEST: u64 = 4096;
    const LARGEST: u64 = 1 << 31;
    let needed = request
        .saturating_add(reply)
        .clamp(SMALLEST, LARGEST)
        .next_power_of_two();
    needed.max(before.unwrap_or(0))
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

    #[test]
    fn whole_turns_go_oldest_first_and_the_newest_stays() {
        let budget = Budget::new(1000, 100);
        type Row = (&'static str, &'static [u64], u64, Result<(usize, u64), u64>);
        let rows: [Row; 6] = [
            ("nothing yet", &[], 100, Ok((0, 100))),
            ("exactly 90 %", &[400, 400], 100, Ok((0, 900))),
            ("one over", &[401, 400], 100, Ok((1, 500))),
            ("down to 80 %", &[100, 100, 100, 600], 50, Ok((2, 750))),
            ("the newest stays above 80 %", &[10, 850], 45, Ok((1, 895))),
            ("the newest alone is too much", &[10, 880], 45, Err(925)),
        ];
        for (name, turns, fixed, expected) in rows {
            let got = plan(turns, fixed, budget);
            let got = got.map(|p| (p.keep_from, p.tokens)).map_err(|o| o.tokens);
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn the_window_is_a_power_of_two_that_never_shrinks() {
        let rows = [
            (10, 2048, None, 4096),
            (2048, 2048, None, 4096),
            (2049, 2048, None, 8192),
            (10, 2048, Some(16384), 16384),
            (60_000, 2048, Some(16384), 65536),
            (10, 10, Some(5000), 5000),
        ];
        for (request, reply, before, expected) in rows {
            assert_eq!(
                num_ctx(request, reply, before),
                expected,
                "{request} {reply} {before:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_plan_is_never_over_budget_keeps_the_newest_and_is_stable(
            turns in prop::collection::vec(0u64..2000, 0..50), fixed in 0u64..3000,
            max in 1u64..20_000, num_predict in -1i64..5000,
        ) {
            let budget = Budget::new(max, num_predict);
            let newest = turns.last().copied().unwrap_or(0);
            match plan(&turns, fixed, budget) {
                Ok(p) => {
                    prop_assert!(p.tokens <= budget.limit());
                    prop_assert!(turns.is_empty() || p.keep_from < turns.len());
                    prop_assert_eq!(p.tokens, fixed + turns[p.keep_from..].iter().sum::<u64>());
                    prop_assert_eq!(plan(&turns[p.keep_from..], fixed, budget).map(|p| p.keep_from), Ok(0));
                }
                Err(over) => prop_assert!(over.tokens == fixed + newest && over.tokens > budget.limit()),
            }
        }

        #[test]
        fn a_larger_budget_never_keeps_less(
            turns in prop::collection::vec(0u64..2000, 0..50), fixed in 0u64..500, max in 1u64..20_000, more in 0u64..5000,
        ) {
            let small = plan(&turns, fixed, Budget::new(max, 100));
            let large = plan(&turns, fixed, Budget::new(max + more, 100));
            if let Ok(small) = small {
                prop_assert!(large.is_ok_and(|large| large.keep_from <= small.keep_from));
            }
        }
    }
}
