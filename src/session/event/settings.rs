//! What a session remembers between turns, and how later settings lie over earlier ones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::session::id::EventId;

/// What a session remembers between turns. In an event only what it sets is there; for each key
/// the event with the greatest id wins.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Settings {
    /// The model that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What people call the session; empty means nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The system prompt; empty means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The context budget in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_tokens: Option<u64>,
    /// How turns are chosen to leave the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Strategy>,
    /// The template it began with; what that said is in the other settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Options of the request that hold for every turn where a flag says nothing else. Each is a
    /// setting of its own; null is one that holds no longer.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Turns that stay in the context whatever leaves it (`true`), or no longer (`false`). Each
    /// turn is a key of its own, so that two copies in which different turns were pinned merge
    /// into one with both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, bool>")]
    pub pins: BTreeMap<EventId, bool>,
    /// Tags by name: whether the session has it. Each is a setting of its own, so that what two
    /// clones changed merges tag by tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, bool>,
}

/// How turns are chosen to leave the context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The oldest first.
    #[default]
    Fifo,
    /// The least important first.
    Importance,
    /// The oldest first, and a summary of them stays.
    Summarize,
    /// None: what does not fit is an error.
    Off,
}

impl Strategy {
    /// Returns the name, as it is typed and stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Importance => "importance",
            Self::Summarize => "summarize",
            Self::Off => "off",
        }
    }
}

impl Settings {
    /// Overlays `later`: what it sets wins.
    pub fn overlay(&mut self, later: Self) {
        let Self {
            model,
            title,
            system,
            max_context_tokens,
            prune,
            template,
            options,
            pins,
            tags,
        } = later;
        self.model = model.or(self.model.take());
        self.title = title.or(self.title.take());
        self.system = system.or(self.system.take());
        self.max_context_tokens = max_context_tokens.or(self.max_context_tokens);
        self.prune = prune.or(self.prune);
        self.template = template.or(self.template.take());
        self.options.extend(options);
        self.pins.extend(pins);
        self.tags.extend(tags);
    }

    /// Returns only what differs from `before`: what a `set` event must say.
    #[must_use]
    pub fn changes_from(&self, before: &Self) -> Self {
        fn changed<T: Clone + PartialEq>(new: &Option<T>, old: &Option<T>) -> Option<T> {
            new.clone().filter(|_| new != old)
        }
        let tags = self.tags.iter();
        let tags = tags.filter(|(name, on)| before.tags.get(*name) != Some(*on));
        Self {
            model: changed(&self.model, &before.model),
            title: changed(&self.title, &before.title),
            system: changed(&self.system, &before.system),
            max_context_tokens: changed(&self.max_context_tokens, &before.max_context_tokens),
            prune: changed(&self.prune, &before.prune),
            template: changed(&self.template, &before.template),
            options: self
                .options
                .iter()
                .filter(|(key, value)| before.options.get(*key) != Some(*value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            pins: self
                .pins
                .iter()
                .filter(|(id, pin)| before.pins.get(id) != Some(pin))
                .map(|(id, pin)| (*id, *pin))
                .collect(),
            tags: tags.map(|(name, on)| (name.clone(), *on)).collect(),
        }
    }

    /// Returns the model, of settings that were completed with the defaults.
    #[must_use]
    pub fn model(&self) -> &str {
        self.model.as_deref().expect("the defaults name a model")
    }

    /// Returns the context budget in tokens, of settings that were completed with the defaults.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.max_context_tokens.expect("the defaults have a budget")
    }

    /// Tells whether a turn is pinned.
    #[must_use]
    pub fn is_pinned(&self, turn: EventId) -> bool {
        self.pins.get(&turn) == Some(&true)
    }

    /// Returns the title, where there is one.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref().filter(|title| !title.is_empty())
    }

    /// Returns the tags the session has, sorted.
    #[must_use]
    pub fn tag_names(&self) -> Vec<String> {
        let on = self.tags.iter().filter(|(_, on)| **on);
        on.map(|(name, _)| name.clone()).collect()
    }

    /// Tells whether the session has a tag.
    #[must_use]
    pub fn has_tag(&self, name: &str) -> bool {
        self.tags.get(name) == Some(&true)
    }

    /// Tells whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_overlay_key_by_key_and_say_what_changed() {
        let before = Settings {
            model: Some("a".into()),
            system: Some("s".into()),
            tags: [("x".into(), true), ("y".into(), true)].into(),
            ..Settings::default()
        };
        let change = Settings {
            model: Some("b".into()),
            tags: [("x".into(), false), ("z".into(), true)].into(),
            ..Settings::default()
        };
        let mut after = before.clone();
        after.overlay(change.clone());
        assert_eq!(
            after,
            Settings {
                model: Some("b".into()),
                tags: [("x".into(), false), ("y".into(), true), ("z".into(), true)].into(),
                ..before.clone()
            }
        );
        assert!(after.has_tag("y") && !after.has_tag("x") && !after.has_tag("w"));
        assert_eq!(after.changes_from(&before), change);
        assert!(after.changes_from(&after).is_empty());
    }
}
