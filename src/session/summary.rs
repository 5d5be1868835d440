//! A session as the list shows it, made without holding a word of what was said.
//!
//! [`Summary::of`] takes it from a folded session. [`summarize`] makes the same of [`Outline`]s, which
//! are what events weigh without their texts; a session of any length is listed in little memory.

use serde::{Deserialize, Serialize};

use super::event::{Body, Event, Settings, Timestamp};
use super::fold::Session;
use super::id::EventId;

/// What the list shows of a session besides its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The model the next turn asks.
    pub model: Option<String>,
    /// When the first event was written, to the millisecond.
    pub created: Timestamp,
    /// When it was last used, to the millisecond.
    pub last_used: Timestamp,
    /// Turns that are in the history.
    pub turns: u64,
    /// Tokens of those that are in the context.
    pub context_tokens: u64,
    /// The context budget.
    pub max_context_tokens: Option<u64>,
    /// What people call it.
    pub title: Option<String>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
}

impl Summary {
    /// Returns the summary of a session that was read whole; `None` of one without events.
    #[must_use]
    pub fn of(session: &Session) -> Option<Self> {
        Some(Self {
            model: session.settings.model.clone(),
            created: session.created?.to_the_millisecond(),
            last_used: session.last_used()?.to_the_millisecond(),
            turns: session.turns.len() as u64,
            context_tokens: session.context_tokens(),
            max_context_tokens: session.settings.max_context_tokens,
            title: session.settings.title().map(str::to_owned),
            tags: session.settings.tag_names(),
        })
    }
}

/// What a summary needs to know of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    id: EventId,
    ts: Timestamp,
    what: What,
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    Turn {
        tokens: u64,
    },
    Settings(Box<Settings>),
    Horizon {
        keep_from: EventId,
        keep: Vec<EventId>,
        back: bool,
    },
    /// Something is hidden: what is left of its turn is for the fold of whole lines.
    Hides,
    Nothing,
}

impl From<Event> for Outline {
    fn from(event: Event) -> Self {
        let settings = |settings| {
            What::Settings(Box::new(Settings {
                system: None,
                ..settings
            }))
        };
        Self {
            id: event.id,
            ts: event.ts,
            what: match event.body {
                Body::Session(header) => settings(header.settings),
                Body::Set(set) => settings(set),
                Body::Turn(turn) => What::Turn {
                    tokens: turn.tokens.prompt + turn.tokens.response,
                },
                Body::Prune(prune) => What::Horizon {
                    keep_from: prune.keep_from,
                    keep: prune.keep.iter().map(|kept| kept.id).collect(),
                    back: prune.back,
                },
                Body::Redact(_) => What::Hides,
                Body::Unknown(_) => What::Nothing,
            },
        }
    }
}

/// What a set of outlines can say.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is no event.
    Empty,
    /// All a list needs.
    Known(Summary),
    /// Two lines of one id differ in what matters here: which of them counts is for the fold of
    /// whole lines.
    AskTheLines,
}

/// Folds outlines as [`super::fold::fold`] folds events: by id, whatever order they were found in.
#[must_use]
pub fn summarize(mut outlines: Vec<Outline>) -> Verdict {
    // Mostly they are in order already, which this sort sees in one pass.
    outlines.sort_by_key(|outline| outline.id);
    outlines.dedup();
    let hides = |outline: &Outline| outline.what == What::Hides;
    if outlines.windows(2).any(|pair| pair[0].id == pair[1].id) || outlines.iter().any(hides) {
        return Verdict::AskTheLines;
    }
    let Some(created) = outlines.first().map(|outline| outline.ts) else {
        return Verdict::Empty;
    };
    let mut settings = Settings::default();
    let mut horizon: Option<(EventId, &[EventId])> = None;
    let mut last_used = None;
    let mut turns = 0;
    for outline in &outlines {
        match &outline.what {
            What::Turn { .. } => {
                turns += 1;
                last_used = last_used.max(Some(outline.ts));
            }
            What::Settings(set) => settings.overlay(set.as_ref().clone()),
            What::Horizon {
                keep_from,
                keep,
                back,
            } => {
                if *back || horizon.is_none_or(|(now, _)| *keep_from >= now) {
                    horizon = Some((*keep_from, keep));
                }
            }
            What::Hides | What::Nothing => {}
        }
    }
    let is_in = |id: EventId| {
        horizon.is_none_or(|(from, keep)| id >= from || keep.contains(&id))
            || settings.is_pinned(id)
    };
    let in_context = outlines.iter().map(|outline| match outline.what {
        What::Turn { tokens } if is_in(outline.id) => tokens,
        _ => 0,
    });
    Verdict::Known(Summary {
        context_tokens: in_context.sum(),
        title: settings.title().map(str::to_owned),
        tags: settings.tag_names(),
        model: settings.model,
        created: created.to_the_millisecond(),
        last_used: last_used.unwrap_or(created).to_the_millisecond(),
        turns,
        max_context_tokens: settings.max_context_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::turn;
    use super::super::fold::fold;
    use super::super::fold::tests::{any_event, entry};
    use super::*;
    use proptest::prelude::*;

    fn of_outlines(events: &[Event]) -> Verdict {
        summarize(events.iter().cloned().map(Outline::from).collect())
    }

    fn of_fold(events: &[Event]) -> Option<Summary> {
        Summary::of(&fold(events.iter().cloned().map(entry)))
    }

    /// An event that may be followed by another of the same id that differs in its text, its
    /// tokens or both.
    fn with_tokens() -> impl Strategy<Value = Event> {
        (any_event(), 0u64..3).prop_map(|(mut event, tokens)| {
            if let Body::Turn(turn) = &mut event.body {
                turn.tokens.prompt = tokens;
            }
            event
        })
    }

    #[test]
    fn an_edit_that_a_list_does_not_show_needs_no_lines() {
        let same = [turn(1, "a", "r"), turn(1, "b", "r")];
        assert_eq!(
            of_outlines(&same),
            Verdict::Known(of_fold(&same).expect("a session"))
        );
        let mut other = same.clone();
        if let Body::Turn(turn) = &mut other[1].body {
            turn.tokens.response = 7;
        }
        assert_eq!(of_outlines(&other), Verdict::AskTheLines);
        assert_eq!(of_outlines(&[]), Verdict::Empty);
    }

    proptest! {
        #[test]
        fn outlines_say_what_the_fold_says(
            events in prop::collection::vec(with_tokens(), 0..30).prop_flat_map(|events| {
                let twice: Vec<_> = events.iter().chain(&events[..events.len() / 2]).cloned().collect();
                Just(twice).prop_shuffle()
            })
        ) {
            match of_outlines(&events) {
                Verdict::Known(summary) => prop_assert_eq!(Some(summary), of_fold(&events)),
                Verdict::Empty => prop_assert_eq!(None, of_fold(&events)),
                Verdict::AskTheLines => {}
            }
        }
    }
}
