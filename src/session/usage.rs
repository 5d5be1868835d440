//! How much was asked and answered: the server's figures of turns, added up. Nothing here holds a
//! word of what was said.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::event::{Body, Event, Timestamp};
use super::id::EventId;

/// The figures of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnFigures {
    /// The turn.
    pub id: EventId,
    /// When it was stored.
    pub ts: Timestamp,
    /// The model that answered.
    pub model: String,
    /// Tokens of the whole prompt, where the server counted them.
    pub tokens_in: Option<u64>,
    /// Tokens of the reply, where the server counted them.
    pub tokens_out: Option<u64>,
    /// Nanoseconds for making the reply, where the server timed it.
    pub eval_duration: Option<u64>,
    /// Nanoseconds from request to reply.
    pub total_duration: Option<u64>,
}

impl TurnFigures {
    /// Returns the figures of an event, if it is a turn. A retracted one had its costs too.
    #[must_use]
    pub fn of(event: Event) -> Option<Self> {
        let Body::Turn(turn) = event.body else {
            return None;
        };
        Some(Self {
            id: event.id,
            ts: event.ts,
            model: turn.model,
            tokens_in: turn.usage.prompt_eval_count,
            tokens_out: turn.usage.eval_count,
            eval_duration: turn.usage.eval_duration,
            total_duration: turn.usage.total_duration,
        })
    }
}

/// Figures added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Turns.
    pub turns: u64,
    /// Turns whose tokens the server did not count.
    pub uncounted: u64,
    /// Tokens of the prompts, each as often as it was sent.
    pub tokens_in: u64,
    /// Tokens of the replies.
    pub tokens_out: u64,
    /// Nanoseconds from request to reply.
    pub duration: u64,
    /// Tokens of the replies whose making was timed, and nanoseconds that took.
    timed: (u64, u64),
}

impl Sum {
    /// Adds a turn.
    pub fn add(&mut self, turn: &TurnFigures) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        self.turns += 1;
        self.uncounted += u64::from(turn.tokens_out.is_none());
        add(&mut self.tokens_in, turn.tokens_in.unwrap_or(0));
        add(&mut self.tokens_out, turn.tokens_out.unwrap_or(0));
        add(&mut self.duration, turn.total_duration.unwrap_or(0));
        if let (Some(tokens), Some(took)) = (turn.tokens_out, turn.eval_duration) {
            add(&mut self.timed.0, tokens);
            add(&mut self.timed.1, took);
        }
    }

    /// Returns the tokens of replies made in a second, to two decimals, of those that were timed.
    #[must_use]
    pub fn tokens_per_second(&self) -> Option<f64> {
        let (tokens, nanoseconds) = self.timed;
        let rate = tokens as f64 / (nanoseconds as f64 / 1e9);
        (nanoseconds > 0).then(|| (rate * 100.0).round() / 100.0)
    }
}

/// The use of a store: in all, by model and by day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// All of it.
    pub total: Sum,
    /// By model.
    pub models: BTreeMap<String, Sum>,
    /// By day, in UTC.
    pub days: BTreeMap<NaiveDate, Sum>,
}

impl Use {
    /// Adds a turn.
    pub fn add(&mut self, turn: &TurnFigures) {
        self.total.add(turn);
        if let Some(sum) = self.models.get_mut(&turn.model) {
            sum.add(turn);
        } else {
            self.models.entry(turn.model.clone()).or_default().add(turn);
        }
        let day = turn.ts.0.date_naive();
        self.days.entry(day).or_default().add(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Usage;
    use super::super::event::tests::turn;
    use super::*;

    fn figures(n: u64, usage: Usage) -> TurnFigures {
        let mut event = turn(n, "p", "r");
        if let Body::Turn(turn) = &mut event.body {
            turn.usage = usage;
            turn.model = format!("m{}", n % 2);
        }
        TurnFigures::of(event).expect("a turn")
    }

    #[test]
    fn figures_add_up_and_the_rate_is_of_what_was_timed() {
        let counted = |tokens_out, took| Usage {
            prompt_eval_count: Some(100),
            eval_count: Some(tokens_out),
            eval_duration: took,
            total_duration: Some(7),
            ..Usage::default()
        };
        let mut used = Use::default();
        used.add(&figures(1, counted(30, Some(2_000_000_000))));
        used.add(&figures(2, counted(1000, None)));
        used.add(&figures(3, Usage::default()));
        let total = used.total;
        assert_eq!((total.turns, total.uncounted, total.duration), (3, 1, 14));
        assert_eq!((total.tokens_in, total.tokens_out), (200, 1030));
        assert_eq!(total.tokens_per_second(), Some(15.0));
        assert_eq!(used.models["m0"].tokens_per_second(), None);
        assert_eq!((used.models["m1"].turns, used.days.len()), (2, 1));
    }
}
