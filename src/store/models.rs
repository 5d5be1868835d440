//! What is remembered of models: the window each one has, so that a turn need not ask. A cache:
//! wrong, torn, missing or unwritable, the server is asked again.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::files::{Access, Dir};
use super::layout::{CACHE, MODELS, TEMPORARY};
use crate::clock;
use crate::json;
use crate::session::event::Timestamp;
use crate::session::id::EventId;

/// How long a window is taken as known, in milliseconds: a day.
const FRESH_MS: u64 = 24 * 60 * 60 * 1000;

/// The largest cache that is read.
const LARGEST: u64 = 1 << 20;

/// What a server said of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The window in tokens; absent where the server does not say.
    pub context_length: Option<u64>,
    /// When the model was changed last, as the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<String>,
    /// When it was asked.
    pub asked_at: Timestamp,
}

impl Model {
    /// Tells whether it was asked within the last day.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.as_ms().checked_sub(self.asked_at.as_ms());
        age.is_some_and(|age| age < FRESH_MS)
    }
}

type Models = BTreeMap<String, Model>;

/// Names a model on a server.
fn key(host: &str, model: &str) -> String {
    format!("{host} {model}")
}

/// Returns what is remembered of a model on a server.
pub(super) fn recall(root: &Dir, host: &str, model: &str) -> Option<Model> {
    read(&root.open_dir(CACHE).ok()?)?.remove(&key(host, model))
}

/// Remembers a model. Two that do so at once may forget one of the two, which costs a question.
pub(super) fn remember(root: &Dir, host: &str, model: &str, known: Model) -> std::io::Result<()> {
    match root.make_dir(CACHE) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let cache = root.open_dir(CACHE)?;
    let mut models = read(&cache).unwrap_or_default();
    models.insert(key(host, model), known);
    let name = format!(
        "{TEMPORARY}{}",
        EventId::next(clock::now().as_ms(), None, clock::random_bits())
    );
    let written = cache
        .create_file(&name)
        .and_then(|mut file| file.write_all(json::document(&models).as_bytes()));
    written
        .and_then(|()| cache.rename(&name, MODELS))
        .inspect_err(|_| drop(cache.remove_file(&name)))
}

fn read(cache: &Dir) -> Option<Models> {
    let file = cache.open_file(MODELS, Access::Read).ok()?;
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_remembered_for_a_day_and_damage_is_forgotten() {
        let home = tempfile::tempdir().expect("a directory");
        let root = Dir::open(home.path()).expect("it opens");
        assert_eq!(recall(&root, "h", "m"), None);
        let asked_at = Timestamp::from_ms(1_000);
        let known = Model {
            context_length: Some(8192),
            modified_at: None,
            asked_at,
        };
        remember(&root, "h", "m", known.clone()).expect("writable");
        remember(&root, "h", "n", known.clone()).expect("writable");
        assert_eq!(recall(&root, "h", "m"), Some(known.clone()));
        assert_eq!(recall(&root, "other", "m"), None);
        let rows = [
            (1_000, true),
            (1_000 + FRESH_MS - 1, true),
            (1_000 + FRESH_MS, false),
            (999, false),
        ];
        for (now, expected) in rows {
            assert_eq!(known.is_fresh(Timestamp::from_ms(now)), expected, "{now}");
        }
        let path = home.path().join(CACHE).join(MODELS);
        std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)
            .expect("it is there");
        assert_eq!(recall(&root, "h", "m"), None);
        remember(&root, "h", "m", known.clone()).expect("writable");
        assert_eq!(recall(&root, "h", "m"), Some(known));
    }
}
