//! Drafts: turns under way, failed or killed.
//!
//! A draft is made before the model is asked and held by its process. When the turn is stored it
//! is removed. So one that nobody holds failed or was killed, and what was asked is still there.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock;
use crate::error::Error;
use crate::session::attachment::Attachments;
use crate::session::event::{ForkedFrom, Key, Reference, Settings, Timestamp};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::may_be_hidden;

/// What a draft says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The format version.
    pub v: u32,
    /// The draft's own id.
    pub id: EventId,
    /// When it was made.
    pub ts: Timestamp,
    /// The session the turn belongs to, which need not exist yet.
    pub session: SessionId,
    /// The settings the session has or would have had.
    pub settings: Settings,
    /// What the user said, with everything expanded into it.
    pub prompt: String,
    /// What was read for the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// The options of the request.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Whether thinking was asked for, and how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Value>,
    /// What goes with the prompt; images whole, for the session may not be there yet.
    #[serde(default, skip_serializing_if = "Attachments::is_empty")]
    pub attachments: Attachments,
    /// What flags said of the session, from this turn on.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub given: Settings,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The history the session was to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    /// Why there is no turn: what went to stderr. Absent under way and after a kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// What had arrived of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// What had arrived of the thinking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
}

/// A draft in its store, held by this process until the value is dropped.
pub trait HeldDraft: fmt::Debug {
    /// Removes it. One that cannot be removed does no harm but to be listed.
    fn remove(self: Box<Self>);

    /// Puts another in its place, which nobody holds then. Best effort: it still says what was
    /// asked as it was.
    fn replace(self: Box<Self>, draft: &Draft);
}

/// A draft this process holds.
#[derive(Debug)]
pub struct OpenDraft<'a> {
    draft: Draft,
    held: Box<dyn HeldDraft + 'a>,
}

impl<'a> OpenDraft<'a> {
    /// Says what is in a draft that is held.
    #[must_use]
    pub fn new(draft: Draft, held: Box<dyn HeldDraft + 'a>) -> Self {
        Self { draft, held }
    }

    /// Returns what it says.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Removes the draft: its turn is stored.
    pub fn done(self) {
        self.held.remove();
    }

    /// Keeps what had arrived and why it was no more. Best effort: the call has failed already,
    /// and the draft as it was first written still says what was asked.
    pub fn fail(mut self, error: &Error, response: String, thinking: Option<String>) {
        self.draft.error = serde_json::to_value(error.report()).ok();
        self.draft.response = Some(response);
        self.draft.thinking = thinking;
        self.held.replace(&self.draft);
    }
}

/// A draft as it was found.
#[derive(Debug)]
pub struct FoundDraft {
    /// Its id.
    pub id: EventId,
    /// Whether a process holds it: the turn is under way.
    pub under_way: bool,
    /// What it says; `None` where that cannot be read.
    pub draft: Option<Draft>,
}

/// What became of a draft whose text was to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewritten {
    /// It says something else now; or would, where nothing was to be changed.
    Changed,
    /// There was nothing to change, or the draft is gone.
    Unchanged,
    /// A process holds it, which may write it again.
    UnderWay,
    /// It cannot be read.
    Unreadable,
}

/// Covers, in a draft as it is stored, every text for which `cover` has another; tells whether there
/// was any.
pub fn cover_draft(draft: &mut Map<String, Value>, cover: &dyn Fn(&str) -> Option<String>) -> bool {
    let mut is_changed = false;
    for (name, value) in draft.iter_mut() {
        if may_be_hidden(name) && name != "session" {
            let has_free_names = name.starts_with("tool") || name == "options";
            let images = value.get_mut("images").map(Value::take);
            is_changed |= cover_all(value, cover, has_free_names);
            // Bytes that are no text.
            if let (Some(images), Some(place)) = (images, value.get_mut("images")) {
                *place = images;
            }
        }
    }
    // Of the settings only these are texts of the user's own.
    if let Some(Value::Object(settings)) = draft.get_mut("settings") {
        for (name, value) in settings.iter_mut() {
            if may_be_hidden(name) {
                is_changed |= cover_all(value, cover, name == "tags");
            }
        }
    }
    is_changed
}

/// Covers every text in a value, and names of fields where anybody may choose these; tells whether
/// there was any.
fn cover_all(
    value: &mut Value,
    cover: &dyn Fn(&str) -> Option<String>,
    has_free_names: bool,
) -> bool {
    let inside = |value: &mut Value| cover_all(value, cover, has_free_names);
    match value {
        Value::String(text) => match cover(text) {
            Some(covered) => {
                *text = covered;
                true
            }
            None => false,
        },
        Value::Array(values) => {
            // Every one of them, not up to the first.
            let changed = values
                .iter_mut()
                .map(inside)
                .filter(|is_changed| *is_changed);
            changed.count() > 0
        }
        Value::Object(fields) => {
            let mut is_changed = false;
            let covered = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                is_changed |= inside(&mut value);
                let covered = cover(&name).filter(|_| has_free_names);
                is_changed |= covered.is_some();
                (covered.unwrap_or(name), value)
            });
            *fields = covered.collect();
            is_changed
        }
        _ => false,
    }
}

/// Returns a fresh id for a draft.
#[must_use]
pub fn new_id(now: Timestamp) -> EventId {
    EventId::next(now.as_ms(), None, clock::random_bits())
}
