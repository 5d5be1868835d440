//! What is remembered of models, as a file: a turn asks a server for a window once a day, and not
//! each time.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::dir::{Access, Dir};
use super::layout::{CACHE, MODELS};
use super::whole::put;
use crate::json;
use crate::store::models::Model;

/// The largest cache that is read.
const LARGEST: u64 = 1 << 20;

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
    let models = json::document(&models);
    put(&cache, MODELS, |mut file| file.write_all(models.as_bytes()))
}

fn read(cache: &Dir) -> Option<Models> {
    let file = cache.open_file(MODELS, Access::Read).ok()?;
    // Of a few models it is one read.
    let mut bytes = Vec::with_capacity(4096);
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Timestamp;

    #[test]
    fn a_model_is_remembered_and_damage_is_forgotten() {
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
