//! What is remembered and could be found out again: summaries for the list, and models. Wrong or
//! missing, the answer is the same and only slower; what cannot be written is not.

use std::collections::HashMap;
use std::net::IpAddr;

use mongodb::Collection;
use mongodb::bson::doc;
use serde::{Deserialize, Serialize};

use super::database::Database;
use super::document::Position;
use super::patience::Patience;
use crate::error::Result;
use crate::json;
use crate::platform::machine;
use crate::session::id::SessionId;
use crate::session::summary::Summary;
use crate::store::list::Listed;
use crate::store::models::Model;

/// Who wrote a summary, and in which shape: what another version computed is computed again.
const APP: &str = concat!("ollama-prompt ", env!("CARGO_PKG_VERSION"), " summary 2");

/// How many summaries are written at once.
const AT_ONCE: usize = 1000;

/// What is remembered in a database.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    database: Database,
    summaries: Collection<StoredSummary>,
    models: Collection<StoredModel>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredSummary {
    _id: String,
    /// The last document of the session that it is of.
    n: i64,
    app: String,
    damaged: i64,
    bytes: i64,
    summary: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredModel {
    _id: String,
    known: String,
}

/// Summaries that are remembered.
#[derive(Debug, Default)]
pub(super) struct Summaries(HashMap<String, StoredSummary>);

impl Summaries {
    /// Takes the summary of a session, if it is of its present state.
    pub(super) fn take(&mut self, id: SessionId, at: Position) -> Option<Listed> {
        let stored = self.0.remove(&id.to_string())?;
        let is_present = stored.n == at.n && stored.app == APP;
        let summary: Summary = serde_json::from_str(&stored.summary).ok()?;
        is_present.then(|| Listed {
            id,
            summary,
            damaged: usize::try_from(stored.damaged).unwrap_or(0),
            bytes: u64::try_from(stored.bytes).unwrap_or(0),
        })
    }
}

impl Remembered {
    pub(super) fn of(database: &Database) -> Self {
        Self {
            summaries: database.passing("summaries"),
            models: database.passing("models"),
            database: database.clone(),
        }
    }

    pub(super) fn summaries(&self) -> Summaries {
        let found = self.database.wait(async {
            let mut cursor = self.summaries.find(doc! {}).await?;
            let mut found = HashMap::new();
            while cursor.advance().await? {
                let summary = cursor.deserialize_current()?;
                found.insert(summary._id.clone(), summary);
            }
            Ok::<_, mongodb::error::Error>(found)
        });
        Summaries(found.unwrap_or_default())
    }

    pub(super) fn remember_summaries(&self, new: &[(Position, Listed)]) {
        for some in new.chunks(AT_ONCE) {
            let ids: Vec<String> = some
                .iter()
                .map(|(_, listed)| listed.id.to_string())
                .collect();
            let stored: Vec<StoredSummary> = some
                .iter()
                .map(|(at, listed)| stored(*at, listed))
                .collect();
            let _ = self.database.wait(async {
                self.summaries
                    .delete_many(doc! {"_id": {"$in": ids}})
                    .await?;
                self.summaries.insert_many(&stored).ordered(false).await
            });
        }
    }

    /// Returns how many bytes the summaries have.
    pub(super) fn summary_bytes(&self) -> u64 {
        let sum = self.summaries().0.into_values();
        sum.map(|stored| (stored._id.len() + stored.summary.len()) as u64)
            .sum()
    }

    /// Forgets all summaries.
    ///
    /// # Errors
    /// `store_*`.
    pub(super) fn forget_summaries(&self, patience: &mut Patience) -> Result<()> {
        // They have titles, one of which may be to be seen no more: not even after a crash.
        let summaries = self.database.collection::<StoredSummary>("summaries");
        let forgotten = self
            .database
            .insist(patience, || async { summaries.delete_many(doc! {}).await });
        forgotten
            .map(drop)
            .map_err(|error| self.database.failed("forget the summaries", &error))
    }

    /// Forgets the summary of a session. What stays is not of its present state.
    pub(super) fn forget_summary(&self, id: SessionId) {
        let which = doc! {"_id": id.to_string()};
        let _ = self
            .database
            .wait(async { self.summaries.delete_one(which).await });
    }

    pub(super) fn model(&self, host: &str, model: &str) -> Option<Model> {
        let which = doc! {"_id": model_id(host, model, &machine())};
        let found = self
            .database
            .wait(async { self.models.find_one(which).await });
        serde_json::from_str(&found.ok()??.known).ok()
    }

    pub(super) fn remember_model(&self, host: &str, model: &str, known: &Model) {
        let stored = StoredModel {
            _id: model_id(host, model, &machine()),
            known: json::line(known),
        };
        let which = doc! {"_id": &stored._id};
        let _ = self
            .database
            .wait(async { self.models.replace_one(which, &stored).upsert(true).await });
    }
}

fn stored(at: Position, listed: &Listed) -> StoredSummary {
    StoredSummary {
        _id: listed.id.to_string(),
        n: at.n,
        app: APP.to_owned(),
        damaged: listed.damaged as i64,
        bytes: i64::try_from(listed.bytes).unwrap_or(i64::MAX),
        summary: json::line(&listed.summary),
    }
}

/// Returns under which name a model on a server is remembered. A loopback address is another server
/// on each machine, so there the machine is part of it.
fn model_id(host: &str, model: &str, machine: &str) -> String {
    if is_loopback(host) {
        format!("{host} of {machine} {model}")
    } else {
        format!("{host} {model}")
    }
}

/// Tells whether a server is one of the machine that asks it.
fn is_loopback(host: &str) -> bool {
    let (_, rest) = host.split_once("://").unwrap_or(("", host));
    let place = rest.split('/').next().unwrap_or_default();
    let name = match place.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    };
    let address = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_the_machine_itself_is_another_one_on_each_machine() {
        for host in [
            "http://127.0.0.1:11434",
            "http://127.8.0.1",
            "http://[::1]:11434",
            "https://localhost/ollama",
            "http://LOCALHOST:1",
        ] {
            let one = model_id(host, "m", "one");
            assert_ne!(one, model_id(host, "m", "other"), "{host}");
            assert_ne!(one, model_id(host, "n", "one"), "{host}");
        }
    }

    #[test]
    fn a_server_elsewhere_is_the_same_for_every_machine() {
        for host in [
            "http://192.0.2.1:11434",
            "https://ollama.com:443",
            "http://[2001:db8::1]:11434",
            "http://localhost.example:1",
        ] {
            let one = model_id(host, "m", "one");
            assert_eq!(one, model_id(host, "m", "other"), "{host}");
            assert_ne!(one, model_id(host, "n", "one"), "{host}");
        }
    }
}
