//! What does not fit a document: blobs, and texts that are too long, in parts.
//!
//! They belong to a session or a draft and go with it. A part is never changed, its name is made
//! of the hash of the whole, and the first part is written last: what has one is whole. Bytes
//! that are read are compared with their hash.

use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::database::Database;
use super::failure::is_duplicate;
use super::patience::Patience;
use crate::clock;
use crate::error::{Code, Error, Result};

/// How much a part holds. A document may have 16 MiB; smaller ones do not keep others waiting.
pub const PART: usize = 4 << 20;

/// How old a blob is before nobody is on the way to name it.
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
    parts: Collection<Part>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Part {
    _id: String,
    owner: String,
    sha256: String,
    r#use: String,
    part: i64,
    of: i64,
    /// When it was stored, by the clock of who did.
    at: DateTime,
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

    /// Stores bytes and returns their hash. What is there already stays.
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
        let sha256 = format!("{:x}", HexOf(&Sha256::digest(bytes)));
        if self.has(owner, &sha256, patience)? {
            return Ok(sha256);
        }
        let pieces: Vec<&[u8]> = if bytes.is_empty() {
            vec![bytes]
        } else {
            bytes.chunks(PART).collect()
        };
        let of = pieces.len() as i64;
        for (part, piece) in pieces.into_iter().enumerate().rev() {
            let part = Part {
                _id: id(owner, &sha256, part as i64),
                owner: owner.to_owned(),
                sha256: sha256.clone(),
                r#use: r#use.name().to_owned(),
                part: part as i64,
                of,
                at: DateTime::from_millis(now_ms()),
                bytes: Binary {
                    subtype: BinarySubtype::Generic,
                    bytes: piece.to_vec(),
                },
            };
            let put = self
                .database
                .insist(patience, || async { self.parts.insert_one(&part).await });
            match put {
                Err(error) if is_duplicate(&error) => {}
                put => drop(put.map_err(|error| self.database.failed("store bytes", &error))?),
            }
        }
        Ok(sha256)
    }

    /// Returns bytes by their hash, or why they cannot be used; `None` where they are not there.
    ///
    /// # Errors
    /// `store_*`; `store_io` where they are not what was stored.
    pub fn get(
        &self,
        owner: &str,
        sha256: &str,
        patience: &mut Patience,
    ) -> Result<Option<Vec<u8>>> {
        let all = doc! {"_id": {"$gte": id(owner, sha256, 0), "$lte": id(owner, sha256, i64::from(u32::MAX))}};
        let found = self.database.insist(patience, || async {
            let mut cursor = self.parts.find(all.clone()).sort(doc! {"_id": 1}).await?;
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
        if format!("{:x}", HexOf(&Sha256::digest(&bytes))) != sha256 {
            return Err(
                Error::new(Code::StoreIo, format!("cannot use the bytes {sha256}"))
                    .because("they are not those that were stored"),
            );
        }
        Ok(Some(bytes))
    }

    /// Tells whether bytes are there, whole.
    ///
    /// # Errors
    /// `store_*`.
    pub fn has(&self, owner: &str, sha256: &str, patience: &mut Patience) -> Result<bool> {
        let first = doc! {"_id": id(owner, sha256, 0)};
        let found = self.database.insist(patience, || async {
            self.parts.count_documents(first.clone()).await
        });
        found
            .map(|found| found > 0)
            .map_err(|error| self.database.failed("look for bytes", &error))
    }

    /// Returns the hashes of all blobs of an owner, sorted.
    ///
    /// # Errors
    /// `store_*`.
    pub fn blobs(&self, owner: &str, patience: &mut Patience) -> Result<Vec<String>> {
        self.firsts(owner, doc! {"use": Use::Blob.name()}, patience)
    }

    /// Returns the hashes of what an owner has for some use for more than an hour: what is younger
    /// may belong to a turn that is under way.
    ///
    /// # Errors
    /// `store_*`.
    pub fn old(&self, owner: &str, r#use: Use, patience: &mut Patience) -> Result<Vec<String>> {
        let before = DateTime::from_millis(now_ms() - AN_HOUR_MS);
        let which = doc! {"use": r#use.name(), "at": {"$lt": before}};
        self.firsts(owner, which, patience)
    }

    fn firsts(&self, owner: &str, which: Document, patience: &mut Patience) -> Result<Vec<String>> {
        let mut firsts = all_of(owner);
        firsts.insert("part", 0);
        firsts.extend(which);
        let names = self.database.collection::<Name>("parts");
        let found = self.database.insist(patience, || async {
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

    /// Removes some bytes of an owner. Returns how many parts that were.
    ///
    /// # Errors
    /// `store_*`.
    pub fn remove(&self, owner: &str, sha256: &str, patience: &mut Patience) -> Result<u64> {
        self.remove_where(doc! {"owner": owner, "_id": {"$gte": id(owner, sha256, 0), "$lte": id(owner, sha256, i64::from(u32::MAX))}}, patience)
    }

    /// Removes everything an owner has.
    ///
    /// # Errors
    /// `store_*`.
    pub fn remove_all(&self, owner: &str, patience: &mut Patience) -> Result<u64> {
        self.remove_where(all_of(owner), patience)
    }

    fn remove_where(&self, which: Document, patience: &mut Patience) -> Result<u64> {
        let removed = self.database.insist(patience, || async {
            self.parts.delete_many(which.clone()).await
        });
        removed
            .map(|removed| removed.deleted_count)
            .map_err(|error| self.database.failed("remove bytes", &error))
    }
}

fn now_ms() -> i64 {
    i64::try_from(clock::now().as_ms()).unwrap_or(i64::MAX)
}

#[derive(Debug, Deserialize)]
struct Name {
    sha256: String,
}

/// Returns what finds everything of an owner by `_id` alone: `/` is followed by `0`.
fn all_of(owner: &str) -> Document {
    doc! {"_id": {"$gt": format!("{owner}/"), "$lt": format!("{owner}0")}}
}

fn id(owner: &str, sha256: &str, part: i64) -> String {
    format!("{owner}/{sha256}/{part:010}")
}

struct HexOf<'a>(&'a [u8]);

impl std::fmt::LowerHex for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
