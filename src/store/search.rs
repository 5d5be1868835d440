//! Searching for what was said: what is looked for, and what a message with it looks like. What the
//! fold would not show is not found.

use crate::error::Result;
use crate::session::event::{Body, Event, Timestamp};
use crate::session::id::{EventId, SessionId};
use crate::session::pattern::{Pattern, Role, Snippet, said_in};
use crate::session::redact::Hidden;

/// What is looked for, and where.
pub struct Wanted<'a> {
    /// What.
    pub pattern: &'a Pattern,
    /// In what was said by these.
    pub roles: &'a [Role],
    /// Only by this model, and in answer to what was said to it.
    pub model: Option<&'a str>,
    /// Only in this time.
    pub is_in_span: &'a (dyn Fn(Timestamp) -> bool + Sync),
    /// Whether one match in a session is enough.
    pub first_only: bool,
}

/// A message with matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The event.
    pub event: EventId,
    /// Whether that is a turn; else it is a setting.
    pub is_turn: bool,
    /// Who said it.
    pub role: Role,
    /// When it was written.
    pub ts: Timestamp,
    /// The model of the turn.
    pub model: Option<String>,
    /// How many matches the message has.
    pub count: usize,
    /// The first of them and what stands around it.
    pub snippet: Snippet,
}

/// What a search tells.
#[derive(Debug)]
pub enum Piece {
    /// A message of a session.
    Hit(SessionId, Box<Hit>),
    /// A session was searched; so many places of it that may have a match are damaged.
    Done(SessionId, Result<usize>),
}

impl Wanted<'_> {
    /// Tells whether an event is of the time and the model that are meant.
    #[must_use]
    pub fn may_be(&self, event: &Event) -> bool {
        let model = match &event.body {
            Body::Turn(turn) => Some(turn.model.as_str()),
            _ => None,
        };
        (self.is_in_span)(event.ts) && self.model.is_none_or(|wanted| model == Some(wanted))
    }

    /// Tells whether something in an event matches.
    #[must_use]
    pub fn is_in(&self, event: &Event) -> bool {
        let mut said = said_in(event).filter(|(role, _)| self.roles.contains(role));
        said.any(|(_, text)| self.pattern.matches(text).next().is_some())
    }

    /// Returns the messages of an event with matches.
    pub fn hits(&self, event: &Event) -> impl Iterator<Item = Hit> {
        let said = said_in(event).filter(|(role, _)| self.roles.contains(role));
        said.filter_map(|(role, text)| {
            let matches: Vec<_> = self.pattern.matches(text).collect();
            if matches.is_empty() {
                return None;
            }
            let turn = match &event.body {
                Body::Turn(turn) => Some(turn),
                _ => None,
            };
            Some(Hit {
                event: event.id,
                is_turn: turn.is_some(),
                role,
                ts: event.ts,
                model: turn.map(|turn| turn.model.clone()),
                count: matches.len(),
                snippet: Snippet::around(text, &matches),
            })
        })
    }
}

/// Returns what may be shown of an event; `None` where that is nothing. `raw` is its line.
#[must_use]
pub fn shown(event: Event, raw: &[u8], hidden: Option<&Hidden>) -> Option<Event> {
    let Some(hidden) = hidden else {
        return Some(event);
    };
    match event.body {
        Body::Turn(turn) => {
            let shown = hidden.clone().hide_turn(*turn)?;
            Some(Event {
                body: Body::Turn(Box::new(shown)),
                ..event
            })
        }
        _ => Event::from_slice(&hidden.show_line(raw)).ok(),
    }
}
