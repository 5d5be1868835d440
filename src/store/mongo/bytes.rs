//! What does not fit a document: blobs, and texts that are too long, in parts.
//!
//! They belong to a session or a draft and go with it. A part is never changed but for its age,
//! and its name is made of the hash of the whole. Bytes that are read are compared with their
//! hash.
//!
//! Whoever is about to name bytes stores them, and they are young then, also where they were there
//! already. Only what is old by the clock of the server is removed, one part at a time by its own
//! age: so what is named the next moment stays.

use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use serde::{Deserialize, Serialize};

use super::database::Database;
use super::failure::is_duplicate;
use super::patience::Patience;
use crate::digest::sha256;
use crate::error::{Code, Error, Result};

/// How much a part holds. A document may have 16 MiB; smaller ones do not keep others waiting.
pub const PART: usize = 4 << 20;

/// How old bytes are, in milliseconds, before nobody is on the way to name them.
const AN_HOUR_MS: i64 = 60 * 60 * 1000;

/// What bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A blob that an event names.
    Blob,
    /// A text that belongs into a document and does not fit it.
    Text,
}

impl Use {
    const fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Text => "text",
        }
    }
}

/// The parts of a database.
#[derive(Debug, Clone)]
pub struct Bytes {
    database: Database,
    parts: Collection<Document>,
}

/// What is read of a part. Besides, it has its owner, its hash and use, its number, and when it was
/// stored last, by the clock of the server.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    of: i64,
    bytes: Binary,
}

impl Bytes {
    /// Returns the parts of `database`.
    #[must_use]
    pub fn of(database: &Database) -> Self {
        Self {
            database: database.clone(),
            parts: database.collection("parts"),
        }
    }

    /// Stores bytes and returns their hash. What is there already stays, and is young again.
    ///
    /// # Errors
    /// `store_*`; then they may be there in part, which nobody sees.
    pub fn put(
        &self,
        owner: &str,
        r#use: Use,
        bytes: &[u8],
        patience: &mut Patience,
    ) -> Result<String> {
        let sha256 = sha256(bytes);
        let pieces: Vec<&[u8]> = if bytes.is_empty() {
            vec![bytes]
        } else {
            bytes.chunks(PART).collect()
        };
        let now = doc! {"at": true};
        let all = all_parts(owner, &sha256);
        let touched = self.database.insist(patience, || async {
            let touch = doc! {"$currentDate": &now};
            self.parts.update_many(all.clone(), touch).await
        });
        let touched = touched.map_err(|error| self.database.failed("store bytes", &error))?;
        let of = pieces.len();
        if touched.matched_count == of as u64 {
            return Ok(sha256);
        }
        for (part, piece) in pieces.into_iter().enumerate() {
            let which = doc! {"_id": id(owner, &sha256, part as i64), "owner": owner};
            let bytes = Binary {
                subtype: BinarySubtype::Generic,
                bytes: piece.to_vec(),
            };
            let made = doc! {
                "sha256": &sha256,
                "use": r#use.name(),
                "part": part as i64,
                "of": of as i64,
                "bytes": bytes,
            };
            let change = doc! {"$setOnInsert": made, "$currentDate": &now};
            let put = self.database.insist(patience, || async {
                let put = self.parts.update_one(which.clone(), change.clone());
                match put.upsert(true).await {
                    // Two made it at once: it is there.
                    Err(error) if is_duplicate(&error) => Ok(()),
                    put => put.map(drop),
                }
            });
            put.map_err(|error| self.database.failed("store bytes", &error))?;
        }
        Ok(sha256)
    }

    /// Returns bytes by their hash; `None` where they are not there, or not all of them.
    ///
    /// # Errors
    /// `store_*`; `damaged` where they are not what was stored.
    pub fn get(
        &self,
        owner: &str,
        sha256: &str,
        patience: &mut Patience,
    ) -> Result<Option<Vec<u8>>> {
        let all = all_parts(owner, sha256);
        let parts = self.parts.clone_with_type::<Part>();
        let found = self.database.read_all(patience, || async {
            let mut cursor = parts.find(all.clone()).sort(doc! {"_id": 1}).await?;
            let (mut bytes, mut parts, mut of) = (Vec::new(), 0, None);
            while cursor.advance().await? {
                let part: Part = cursor.deserialize_current()?;
                of = of.or(Some(part.of));
                parts += 1;
                bytes.extend_from_slice(&part.bytes.bytes);
            }
            Ok((bytes, parts, of))
        });
        let (bytes, parts, of) =
            found.map_err(|error| self.database.failed("read bytes", &error))?;
        if of != Some(parts) {
            return Ok(None);
        }
        if crate::digest::sha256(&bytes) != sha256 {
            return Err(
                Error::new(Code::Damaged, format!("cannot use the bytes {sha256}"))
                    .because("they are not those that were stored"),
            );
        }
        Ok(Some(bytes))
    }

    /// Tells whether an owner has anything.
    ///
    /// # Errors
    /// `store_*`.
    pub fn has_any(&self, owner: &str, patience: &mut Patience) -> Result<bool> {
        let all = all_of(owner);
        let names = self.parts.clone_with_type::<Name>();
        let found = self.database.insist(patience, || async {
            let any = names.find_one(all.clone());
            any.projection(doc! {"sha256": 1}).await
        });
        found
            .map(|found| found.is_some())
            .map_err(|error| self.database.failed("look for bytes", &error))
    }

    /// Returns the hashes of all blobs of an owner, sorted.
    ///
    /// # Errors
    /// `store_*`.
    pub fn blobs(&self, owner: &str, patience: &mut Patience) -> Result<Vec<String>> {
        self.firsts(owner, doc! {"use": Use::Blob.name()}, patience)
    }

    /// Returns the hashes of what an owner has for some use and nobody stored for an hour, and the
    /// moment that was an hour ago.
    ///
    /// # Errors
    /// `store_*`.
    pub fn old(
        &self,
        owner: &str,
        r#use: Use,
        patience: &mut Patience,
    ) -> Result<(Vec<String>, DateTime)> {
        let before = an_hour_before(self.database.time(patience)?);
        let which = doc! {"use": r#use.name(), "at": {"$lt": before}};
        Ok((self.firsts(owner, which, patience)?, before))
    }

    fn firsts(&self, owner: &str, which: Document, patience: &mut Patience) -> Result<Vec<String>> {
        let mut firsts = all_of(owner);
        firsts.insert("part", 0);
        firsts.extend(which);
        let names = self.parts.clone_with_type::<Name>();
        let found = self.database.read_all(patience, || async {
            let only = doc! {"sha256": 1};
            let mut cursor = names
                .find(firsts.clone())
                .projection(only)
                .sort(doc! {"_id": 1})
                .await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?.sha256);
            }
            Ok(found)
        });
        found.map_err(|error| self.database.failed("list blobs", &error))
    }

    /// Removes some bytes of an owner, if nobody stored them since `before`.
    ///
    /// # Errors
    /// `store_*`.
    pub fn remove(
        &self,
        owner: &str,
        sha256: &str,
        before: DateTime,
        patience: &mut Patience,
    ) -> Result<()> {
        self.remove_where(all_parts(owner, sha256), before, patience)
    }

    /// Removes everything of an owner that nobody stored since `before`.
    ///
    /// # Errors
    /// `store_*`.
    pub fn remove_all(&self, owner: &str, before: DateTime, patience: &mut Patience) -> Result<()> {
        self.remove_where(all_of(owner), before, patience)
    }

    fn remove_where(
        &self,
        mut which: Document,
        before: DateTime,
        patience: &mut Patience,
    ) -> Result<()> {
        which.insert("at", doc! {"$lt": before});
        let removed = self.database.insist(patience, || async {
            self.parts.delete_many(which.clone()).await
        });
        removed
            .map(drop)
            .map_err(|error| self.database.failed("remove bytes", &error))
    }
}

/// Returns the moment an hour before another.
pub(super) fn an_hour_before(now: DateTime) -> DateTime {
    DateTime::from_millis(now.timestamp_millis() - AN_HOUR_MS)
}

#[derive(Debug, Deserialize)]
struct Name {
    sha256: String,
}

/// Returns what finds everything of an owner by `_id` alone: `/` is followed by `0`.
fn all_of(owner: &str) -> Document {
    doc! {"_id": {"$gt": format!("{owner}/"), "$lt": format!("{owner}0")}, "owner": owner}
}

/// Returns what finds all parts of some bytes.
fn all_parts(owner: &str, sha256: &str) -> Document {
    let (first, last) = (id(owner, sha256, 0), id(owner, sha256, i64::from(u32::MAX)));
    doc! {"_id": {"$gte": first, "$lte": last}, "owner": owner}
}

fn id(owner: &str, sha256: &str, part: i64) -> String {
    format!("{owner}/{sha256}/{part:010}")
}
