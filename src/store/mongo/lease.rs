//! What a process holds for as long as it lives, among processes of several machines.
//!
//! A file lock ends with its process. A document does not, so it says until when it is held, by
//! the clock of the server and no other, and who holds it renews that. A process that was killed
//! is forgotten after [`TERM`]; one that was stopped for longer may find out that it
//! holds nothing any more, and can ask ([`Lease::holds`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use serde::Deserialize;
use tokio::task::JoinHandle;

use super::database::Database;
use super::failure::is_duplicate;
use super::patience::Patience;
use crate::clock;
use crate::error::Result;
use crate::session::id::EventId;

/// How long a lease holds after it was last renewed.
pub const TERM: Duration = Duration::from_secs(12);

/// What may be held, by name.
#[derive(Debug, Clone)]
pub struct Leases {
    database: Database,
    documents: Collection<Document>,
    term: Duration,
}

/// Something that is held. It is let go when this goes.
#[derive(Debug)]
pub struct Lease {
    database: Database,
    documents: Collection<Document>,
    name: String,
    holder: String,
    is_held: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

/// What came of trying to hold something.
#[derive(Debug)]
pub enum Try {
    /// It is held now; this is what its last holder left there.
    Held(Lease, Option<String>),
    /// Somebody else holds it; this is what is written there.
    Busy(Option<String>),
}

#[derive(Debug, Deserialize)]
struct Found {
    holder: Option<String>,
    note: Option<String>,
}

impl Leases {
    /// Returns what may be held in `database`.
    #[must_use]
    pub fn of(database: &Database) -> Self {
        Self::for_term(database, TERM)
    }

    /// The same for what may be held by two after a crash of the server.
    #[must_use]
    pub fn passing(database: &Database) -> Self {
        Self {
            documents: database.passing("leases"),
            ..Self::of(database)
        }
    }

    /// The same as [`Leases::of`] with another term than the usual.
    #[must_use]
    pub fn for_term(database: &Database, term: Duration) -> Self {
        Self {
            database: database.clone(),
            documents: database.collection("leases"),
            term,
        }
    }

    /// Tries to hold what has this name; `note` is for others to read while it is held.
    ///
    /// # Errors
    /// `store_*`.
    pub fn take(&self, name: &str, note: Option<&str>, patience: &mut Patience) -> Result<Try> {
        let holder = EventId::next(clock::now().as_ms(), None, clock::random_bits()).to_string();
        // Whoever asks twice with one name for itself gets the same answer.
        let is_free = doc! {"$or": [
            {"$lte": [{"$ifNull": ["$until", {"$toDate": 0_i64}]}, "$$NOW"]},
            {"$eq": ["$holder", &holder]},
        ]};
        let if_free =
            |value: Document, otherwise: &str| doc! {"$cond": [&is_free, value, otherwise]};
        let literal = |text: Option<&str>| doc! {"$literal": text};
        let change = vec![
            doc! {"$set": {"before": {"$cond": [
                {"$and": [&is_free, {"$ne": ["$holder", &holder]}]},
                {"$ifNull": ["$note", null]},
                "$before",
            ]}}},
            doc! {"$set": {
                "note": if_free(literal(note), "$note"),
                "until": if_free(until(self.term), "$until"),
                "holder": if_free(literal(Some(&holder)), "$holder"),
            }},
        ];
        let documents = self.documents.clone_with_type::<TakenDocument>();
        let taken = self.database.insist(patience, || async {
            loop {
                let update = documents.find_one_and_update(doc! {"_id": name}, change.clone());
                match update
                    .upsert(true)
                    .return_document(ReturnDocument::After)
                    .await
                {
                    // Two made it at once: it is there now.
                    Err(error) if is_duplicate(&error) => {}
                    taken => return taken,
                }
            }
        });
        let taken = taken.map_err(|error| self.database.failed("hold a lease", &error))?;
        let taken = taken.unwrap_or_default();
        if taken.holder.as_deref() != Some(holder.as_str()) {
            return Ok(Try::Busy(taken.note));
        }
        Ok(Try::Held(self.held(name, holder), taken.before))
    }

    /// Tells whether anybody holds what has this name, and what is written there.
    ///
    /// # Errors
    /// `store_*`.
    pub fn look(&self, name: &str, patience: &mut Patience) -> Result<(bool, Option<String>)> {
        let looked = self.database.insist(patience, || async {
            let held = doc! {"_id": name, "$expr": {"$gt": ["$until", "$$NOW"]}};
            let documents = self.documents.clone_with_type::<Found>();
            if let Some(found) = documents.find_one(held).await? {
                return Ok((found.holder.is_some(), found.note));
            }
            let found = documents.find_one(doc! {"_id": name}).await?;
            Ok((false, found.and_then(|found| found.note)))
        });
        looked.map_err(|error| self.database.failed("look at a lease", &error))
    }

    /// Returns the names that begin with `prefix` and are held.
    ///
    /// # Errors
    /// `store_*`.
    pub fn held_below(&self, prefix: &str, patience: &mut Patience) -> Result<Vec<String>> {
        let held = doc! {"_id": {"$gte": prefix, "$lt": format!("{prefix}\u{10ffff}")}, "$expr": {"$gt": ["$until", "$$NOW"]}};
        let found = self.database.insist(patience, || async {
            let mut cursor = self.documents.find(held.clone()).await?;
            let mut names = Vec::new();
            while cursor.advance().await? {
                names.extend(
                    cursor
                        .deserialize_current()?
                        .get_str("_id")
                        .ok()
                        .map(str::to_owned),
                );
            }
            Ok(names)
        });
        found.map_err(|error| self.database.failed("look at leases", &error))
    }

    /// Forgets what nobody has held for a day.
    ///
    /// # Errors
    /// `store_*`.
    pub fn sweep(&self, patience: &mut Patience) -> Result<()> {
        let a_day_ago = doc! {"$subtract": ["$$NOW", 24_i64 * 60 * 60 * 1000]};
        let long_free = doc! {"$expr": {"$lt": ["$until", a_day_ago]}};
        let swept = self.database.insist(patience, || async {
            self.documents.delete_many(long_free.clone()).await
        });
        swept
            .map(drop)
            .map_err(|error| self.database.failed("sweep the leases", &error))
    }

    fn held(&self, name: &str, holder: String) -> Lease {
        let is_held = Arc::new(AtomicBool::new(true));
        let renewal = {
            let (documents, term) = (self.documents.clone(), self.term);
            let own = doc! {"_id": name, "holder": &holder};
            let is_held = is_held.clone();
            self.database.spawn(async move {
                loop {
                    tokio::time::sleep(term / 3).await;
                    let renewed = documents
                        .update_one(own.clone(), vec![doc! {"$set": {"until": until(term)}}])
                        .await;
                    // A server that does not answer now may do so before the term is over.
                    if renewed.is_ok_and(|renewed| renewed.matched_count == 0) {
                        is_held.store(false, Ordering::Release);
                        return;
                    }
                }
            })
        };
        Lease {
            database: self.database.clone(),
            documents: self.documents.clone(),
            name: name.to_owned(),
            holder,
            is_held,
            renewal,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct TakenDocument {
    holder: Option<String>,
    note: Option<String>,
    before: Option<String>,
}

impl Lease {
    /// Asks the server whether this is still held.
    ///
    /// # Errors
    /// `store_*`.
    pub fn holds(&self, patience: &mut Patience) -> Result<bool> {
        if !self.is_held.load(Ordering::Acquire) {
            return Ok(false);
        }
        let own =
            doc! {"_id": &self.name, "holder": &self.holder, "$expr": {"$gt": ["$until", "$$NOW"]}};
        let found = self.database.insist(patience, || async {
            self.documents.count_documents(own.clone()).await
        });
        found
            .map(|found| found == 1)
            .map_err(|error| self.database.failed("look at a lease", &error))
    }

    /// Tells whether this is held under a name in a database.
    #[must_use]
    pub fn is_of(&self, name: &str, database: &Database) -> bool {
        self.name == name && self.database.is(database)
    }

    /// Lets go, and leaves something to read for who comes next.
    ///
    /// # Errors
    /// `store_*`; it is let go when its term is over.
    pub fn leave(self, note: &str, patience: &mut Patience) -> Result<()> {
        self.renewal.abort();
        let own = doc! {"_id": &self.name, "holder": &self.holder};
        let change = doc! {"$set": {"note": note, "until": mongodb::bson::DateTime::from_millis(0)}, "$unset": {"holder": ""}};
        let left = self.database.insist(patience, || async {
            self.documents.update_one(own.clone(), change.clone()).await
        });
        left.map(drop)
            .map_err(|error| self.database.failed("let go of a lease", &error))
    }
}

impl Drop for Lease {
    /// Lets go at once, if the server hears it; else when the term is over.
    fn drop(&mut self) {
        self.renewal.abort();
        let own = doc! {"_id": &self.name, "holder": &self.holder};
        let _ = self
            .database
            .wait(async { self.documents.delete_one(own).await });
    }
}

fn until(term: Duration) -> Document {
    doc! {"$add": ["$$NOW", term.as_millis() as i64]}
}
