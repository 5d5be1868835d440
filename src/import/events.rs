//! From a conversation of another program to the events of a session.
//!
//! Importing twice adds nothing and importing later only what is new, so every id follows from the
//! source: its time from when something was said, its random bits from a hash of what the source
//! calls it. The random bits alone tell whether an event is there already; the time may come out
//! differently, in another time zone or when the source forgot an older turn. What a turn is dated
//! is when it was answered, so that of two states of a turn whose answer grew the later one is the
//! greater line.

use sha2::{Digest, Sha256};

use super::{Kind, Session, Turn};
use crate::session::context::{Budget, USUAL_REPLY};
use crate::session::event::{
    self, Body, Event, Header, Imported, Prune, Settings, Strategy, Timestamp, Tokens, VERSION,
};
use crate::session::id::{EventId, SessionId};
use crate::tokens;

/// What holds for sessions whose source does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The model they ask.
    pub model: Option<String>,
    /// Their context budget in tokens.
    pub max_context_tokens: u64,
    /// When what has no date was said.
    pub undated: Timestamp,
    /// Who writes the log.
    pub app: String,
}

/// Dates a clock may have shown, in milliseconds since 1970: from 1990 to 2200. Others are none.
const CREDIBLE: std::ops::Range<u64> = 631_152_000_000..7_258_118_400_000;

/// Returns the id of the session that a conversation becomes: its own where it has a UUID or a
/// ULID, else the version 5 UUID of its name.
#[must_use]
pub fn session_id(kind: Kind, key: &str) -> SessionId {
    key.parse()
        .unwrap_or_else(|_| SessionId::from_key(&format!("import:{}:{key}", kind.name())))
}

/// Returns 80 bits that follow from what something is called.
fn bits(kind: Kind, what: &str, key: &str) -> u128 {
    let mut hash = Sha256::new();
    for part in ["ollama-prompt import", kind.name(), what, key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    hash[..10]
        .iter()
        .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

/// Returns the events of a session, in the order of their ids; their `at` is for whoever writes
/// them to say. The last one may be the horizon, if there is more than the context holds.
#[must_use]
pub fn events(kind: Kind, session: &Session, defaults: &Defaults) -> Vec<Event> {
    let mut made = Made {
        kind,
        undated: defaults.undated,
        events: Vec::with_capacity(session.turns.len() + 2),
    };
    let credible = |at: Option<Timestamp>| at.filter(|at| CREDIBLE.contains(&at.as_ms()));
    let first = session.turns.iter().find_map(|turn| credible(turn.asked));
    let created = match (credible(session.created), first) {
        (Some(created), Some(first)) => Some(created.min(first)),
        (created, first) => created.or(first),
    };
    let last_model = session
        .turns
        .iter()
        .rev()
        .find_map(|turn| turn.model.as_ref());
    let model = session
        .model
        .as_ref()
        .or(last_model)
        .or(defaults.model.as_ref());
    let budget = session.max_context_tokens.filter(|tokens| *tokens > 0);
    let settings = Settings {
        model: model.cloned(),
        system: session.system.clone(),
        title: session.title.clone().filter(|title| !title.is_empty()),
        max_context_tokens: Some(budget.unwrap_or(defaults.max_context_tokens)),
        ..Settings::default()
    };
    let header = Header {
        forked_from: None,
        app: Some(defaults.app.clone()),
        imported: Some(Imported {
            from: kind.name().to_owned(),
            id: session.key.clone(),
            forked_from: session
                .forked_from
                .as_ref()
                .map(|key| session_id(kind, key)),
        }),
        settings: settings.clone(),
    };
    made.push(
        "session",
        &session.key,
        created,
        created,
        Body::Session(header),
    );
    for turn in &session.turns {
        let asked = credible(turn.asked);
        let answered = credible(turn.answered).or(asked);
        let body = Body::Turn(Box::new(said(turn, &settings)));
        made.push("turn", &turn.key, asked, answered, body);
    }
    if let Some(prune) = horizon(&made.events, settings) {
        let key = format!("{}:{}", session.key, prune.keep_from);
        made.push("prune", &key, None, None, Body::Prune(prune));
    }
    made.events
}

/// Events that are being made.
struct Made {
    kind: Kind,
    undated: Timestamp,
    events: Vec<Event>,
}

impl Made {
    /// Adds an event with the id that follows from its name, after all that are there.
    fn push(
        &mut self,
        what: &str,
        key: &str,
        began: Option<Timestamp>,
        ended: Option<Timestamp>,
        body: Body,
    ) {
        let last = self.events.last();
        let began = began.map_or(0, Timestamp::as_ms);
        let id = EventId::next(
            began,
            last.map(|event| event.id),
            bits(self.kind, what, key),
        );
        let ts = ended.or(last.map(|event| event.ts)).unwrap_or(self.undated);
        // A log has no finer times, and what is read again must compare as equal.
        let ts = ts.to_the_millisecond();
        self.events.push(Event {
            v: VERSION,
            id,
            ts,
            at: None,
            body,
        });
    }
}

fn said(turn: &Turn, settings: &Settings) -> event::Turn {
    let response = match turn.usage.eval_count {
        Some(tokens) if turn.thinking.is_none() => tokens,
        _ => tokens::estimate(&turn.response),
    };
    event::Turn {
        model: turn
            .model
            .as_ref()
            .or(settings.model.as_ref())
            .cloned()
            .unwrap_or_default(),
        prompt: turn.prompt.clone(),
        response: turn.response.clone(),
        thinking: turn.thinking.clone().filter(|text| !text.is_empty()),
        usage: turn.usage.clone(),
        tokens: Tokens {
            prompt: tokens::estimate(&turn.prompt),
            response,
            counted: event::Counted::Learned,
        },
        ..event::Turn::default()
    }
}

/// Returns the horizon of a session that has more than its context holds: so that the next turn
/// reads it from its end, as that of a session which was pruned here.
fn horizon(events: &[Event], settings: Settings) -> Option<Prune> {
    let budget = Budget::new(settings.budget(), USUAL_REPLY);
    let turns: Vec<(EventId, u64)> = events
        .iter()
        .filter_map(|event| match &event.body {
            Body::Turn(turn) => Some((event.id, turn.tokens.prompt + turn.tokens.response)),
            _ => None,
        })
        .collect();
    let system = settings.system.as_deref().map_or(0, tokens::estimate);
    let all = turns
        .iter()
        .fold(system, |sum, (_, tokens)| sum.saturating_add(*tokens));
    if all <= budget.high_water() {
        return None;
    }
    let mut left = all;
    let dropped = turns
        .iter()
        .take(turns.len().saturating_sub(1))
        .take_while(|(_, tokens)| {
            let is_too_much = left > budget.low_water();
            left -= if is_too_much { *tokens } else { 0 };
            is_too_much
        });
    let dropped = dropped.count();
    if dropped == 0 {
        return None;
    }
    Some(Prune {
        keep_from: turns[dropped].0,
        keep: Vec::new(),
        strategy: Strategy::Fifo.name().to_owned(),
        summary: None,
        budget: settings.budget(),
        back: false,
        kept_turns: (turns.len() - dropped) as u64,
        dropped_turns: dropped as u64,
        dropped_tokens: turns[..dropped].iter().map(|(_, tokens)| tokens).sum(),
        kept_redacts: 0,
        settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn defaults() -> Defaults {
        Defaults {
            model: None,
            max_context_tokens: 1000,
            undated: Timestamp::from_ms(1_700_000_000_000),
            app: "test".into(),
        }
    }

    fn turn(key: &str, asked: Option<u64>, bytes: usize) -> Turn {
        Turn {
            key: key.into(),
            asked: asked.map(Timestamp::from_ms),
            prompt: "x".repeat(bytes),
            response: "y".into(),
            ..Turn::default()
        }
    }

    fn random(event: &Event) -> String {
        event.id.to_string()[10..].to_owned()
    }

    #[test]
    fn an_id_of_the_source_is_kept_and_another_name_has_always_the_same() {
        let uuid = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";
        assert_eq!(session_id(Kind::Python, uuid).to_string(), uuid);
        let named = session_id(Kind::Python, "my session");
        assert_eq!(named, session_id(Kind::Python, "my session"));
        assert_ne!(named, session_id(Kind::Llm, "my session"));
    }

    #[test]
    fn dates_that_no_clock_shows_are_none() {
        let year_9999 = 253_000_000_000_000;
        let session = Session {
            created: Some(Timestamp::from_ms(year_9999)),
            turns: vec![
                turn("a", Some(year_9999), 1),
                turn("b", None, 1),
                turn("c", Some(1_600_000_000_000), 1),
            ],
            ..Session::default()
        };
        let made = events(Kind::Python, &session, &defaults());
        let dates: Vec<u64> = made
            .iter()
            .map(|event| event.ts.as_ms() / 1_000_000_000)
            .collect();
        assert_eq!(dates, [1600, 1600, 1600, 1600]);
        let undated = Session {
            turns: vec![turn("a", None, 1)],
            ..Session::default()
        };
        let made = events(Kind::OpenAi, &undated, &defaults());
        assert_eq!(made[1].ts, defaults().undated);
        assert_eq!(
            made[1].id.timestamp_ms(),
            1,
            "ids do not depend on when it is read"
        );
    }

    #[test]
    fn more_than_the_context_holds_gets_a_horizon() {
        let turns = (1..=10)
            .map(|n| turn(&n.to_string(), Some(1_600_000_000_000 + n), 200))
            .collect();
        let session = Session {
            turns,
            ..Session::default()
        };
        let made = events(Kind::Python, &session, &defaults());
        let Some(Body::Prune(prune)) = made.last().map(|event| &event.body) else {
            panic!("no horizon")
        };
        assert_eq!(prune.kept_turns + prune.dropped_turns, 10);
        assert_eq!(prune.keep_from, made[prune.dropped_turns as usize + 1].id);
        let kept = made[made.len() - 1 - prune.kept_turns as usize..].iter();
        let kept: u64 = kept
            .map(|e| match &e.body {
                Body::Turn(t) => t.tokens.prompt + t.tokens.response,
                _ => 0,
            })
            .sum();
        assert!(
            (1..=Budget::new(1000, USUAL_REPLY).low_water()).contains(&kept),
            "{kept}"
        );
    }

    proptest! {
        #[test]
        fn ids_rise_and_their_random_bits_do_not_depend_on_what_is_around(
            times in prop::collection::vec(prop::option::of(1_000_000_000_000u64..1_000_000_000_020), 1..12), skip in 0usize..12,
        ) {
            let turns: Vec<Turn> = times.iter().enumerate().map(|(n, at)| turn(&n.to_string(), *at, 1)).collect();
            let session = |turns: &[Turn]| Session { key: "k".into(), turns: turns.to_vec(), ..Session::default() };
            let all = events(Kind::Llm, &session(&turns), &defaults());
            prop_assert!(all.windows(2).all(|two| two[0].id < two[1].id));
            let fewer = events(Kind::Llm, &session(&turns[skip.min(turns.len())..]), &defaults());
            let known: Vec<String> = all.iter().map(random).collect();
            prop_assert!(fewer.iter().all(|event| known.contains(&random(event))));
        }
    }
}
