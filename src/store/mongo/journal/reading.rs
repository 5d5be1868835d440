//! Reading logs: forwards, backwards, and the last document of each.

use mongodb::Cursor;
use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use serde::Deserialize;

use super::{Journal, StoredFrom, by_id};
use crate::error::{Code, Result};
use crate::session::id::SessionId;
use crate::store::mongo::document::{
    Head, Position, Stored, StoredHead, Written, between, of_head,
};
use crate::store::mongo::patience::Patience;

impl Journal {
    /// Reads what a session has after a position and still counts.
    ///
    /// # Errors
    /// `store_*`.
    pub fn read_after(
        &self,
        session: SessionId,
        after: Position,
        patience: &mut Patience,
    ) -> Result<Vec<Written>> {
        let wanted = between(session, after.n + 1, None);
        let read = self.database.read_all(patience, || async {
            let in_order = self
                .documents
                .find(wanted.clone())
                .sort(doc! {"_id": 1})
                .hint(by_id());
            let mut cursor = in_order.await?;
            let mut found: Vec<Stored> = Vec::new();
            while cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                if let Some(from) = document.from {
                    found.retain(|earlier| earlier.n >= from);
                }
                found.push(document);
            }
            Ok(found)
        });
        let read = read.map_err(|error| self.database.failed("read a session", &error))?;
        read.into_iter()
            .map(|document| self.written(document, patience))
            .collect()
    }

    /// Reads the documents of a session one by one, the last one first, also what counts no longer.
    ///
    /// # Errors
    /// `store_*`.
    pub fn backwards(&self, session: SessionId, patience: &mut Patience) -> Result<Backwards<'_>> {
        let all = between(session, 0, None);
        let cursor = self.database.insist(patience, || async {
            let backwards = self.documents.find(all.clone()).sort(doc! {"_id": -1});
            backwards.batch_size(BACKWARDS_AT_ONCE).hint(by_id()).await
        });
        let cursor = cursor.map_err(|error| self.database.failed("read a session", &error))?;
        Ok(Backwards {
            journal: self,
            cursor,
        })
    }

    /// Returns the first document of a session that ends behind a place of the log.
    ///
    /// # Errors
    /// `store_*`.
    pub fn document_at(
        &self,
        session: SessionId,
        offset: u64,
        patience: &mut Patience,
    ) -> Result<Option<Written>> {
        let mut wanted = between(session, 0, None);
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        wanted.insert("end", doc! {"$gt": offset});
        let found = self.database.insist(patience, || async {
            let first = self.documents.find_one(wanted.clone());
            first.sort(doc! {"_id": 1}).hint(by_id()).await
        });
        let found = found.map_err(|error| self.database.failed("read a session", &error))?;
        found
            .map(|document| self.written(document, patience))
            .transpose()
    }

    /// Returns the last document of a session; `None` where it never had one.
    ///
    /// # Errors
    /// `store_*`.
    pub fn head(&self, session: SessionId, patience: &mut Patience) -> Result<Option<Head>> {
        let all = between(session, 0, None);
        let heads = self.documents.clone_with_type::<StoredHead>();
        let found = self.database.insist(patience, || async {
            let last = heads.find_one(all.clone()).sort(doc! {"_id": -1});
            last.hint(by_id()).projection(of_head()).await
        });
        let found = found.map_err(|error| self.database.failed("read a session", &error))?;
        Ok(found.and_then(StoredHead::head))
    }

    /// Returns the last document of every session, by id. What is none that a program of this kind
    /// wrote is passed over; [`Journal::strangers`] finds it.
    ///
    /// # Errors
    /// `store_*`.
    pub fn heads(&self, patience: &mut Patience) -> Result<Vec<Head>> {
        let found = self.database.read_all(patience, || async {
            let heads = self
                .documents
                .aggregate(last_of_each())
                .allow_disk_use(true);
            read_heads(heads.with_type::<StoredHead>().await?).await
        });
        let mut heads = found.map_err(|error| self.database.failed("list the sessions", &error))?;
        heads.sort_unstable_by_key(|head| head.session);
        Ok(heads)
    }

    /// Returns the names of documents that no program of this kind can have written.
    ///
    /// # Errors
    /// `store_*`.
    pub fn strangers(&self, patience: &mut Patience) -> Result<Vec<String>> {
        let is_not = |field: &str, kind: &str| doc! {field: {"$not": {"$type": kind}}};
        let strange = doc! {"$or": [
            is_not("s", "string"), is_not("n", "long"), is_not("end", "long"),
        ]};
        let documents = self.documents.clone_with_type::<Document>();
        let found = self.database.read_all(patience, || async {
            let only = doc! {"_id": 1};
            let mut cursor = documents.find(strange.clone()).projection(only).await?;
            let mut names = Vec::new();
            while cursor.advance().await? {
                let document = cursor.deserialize_current()?;
                names.extend(document.get("_id").map(ToString::to_string));
            }
            Ok(names)
        });
        found.map_err(|error| self.database.failed("verify the documents", &error))
    }

    /// Returns the last document that says from which number on a session counts.
    pub(super) fn base(
        &self,
        session: SessionId,
        patience: &mut Patience,
    ) -> Result<Option<StoredFrom>> {
        let mut bases = between(session, 0, None);
        bases.insert("from", doc! {"$exists": true});
        let documents = self.documents.clone_with_type::<StoredFrom>();
        let found = self.database.insist(patience, || async {
            let last = documents.find_one(bases.clone()).sort(doc! {"_id": -1});
            last.hint(by_id()).await
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Returns the numbers of the documents of a session that count, after 0 where it was neither
    /// closed nor compacted, and the first of those that count no longer.
    ///
    /// # Errors
    /// `store_*`.
    pub fn numbers(
        &self,
        session: SessionId,
        patience: &mut Patience,
    ) -> Result<(Vec<i64>, Option<i64>)> {
        #[derive(Deserialize)]
        struct Number {
            n: i64,
            #[serde(default)]
            from: Option<i64>,
        }
        let all = between(session, 0, None);
        let documents = self.documents.clone_with_type::<Number>();
        let found = self.database.read_all(patience, || async {
            let in_order = documents.find(all.clone()).sort(doc! {"_id": 1});
            let only = doc! {"n": 1, "from": 1};
            let mut cursor = in_order.projection(only).hint(by_id()).await?;
            let (mut numbers, mut rest) = (vec![0], None);
            while cursor.advance().await? {
                let Number { n, from } = cursor.deserialize_current()?;
                if let Some(from) = from {
                    rest = rest.or(numbers.iter().copied().find(|n| (1..from).contains(n)));
                    numbers.retain(|n| *n >= from);
                }
                numbers.push(n);
            }
            Ok((numbers, rest))
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }

    /// Returns what is left of the sessions that were closed, those among them that were begun
    /// again.
    ///
    /// # Errors
    /// `store_*`.
    pub fn receipts(&self, patience: &mut Patience) -> Result<Vec<Head>> {
        let heads = self.documents.clone_with_type::<StoredHead>();
        let found = self.database.read_all(patience, || async {
            let closed = heads.find(doc! {"closed": {"$exists": true}});
            read_heads(closed.sort(doc! {"_id": 1}).projection(of_head()).await?).await
        });
        found.map_err(|error| self.database.failed("read the receipts", &error))
    }

    fn written(&self, document: Stored, patience: &mut Patience) -> Result<Written> {
        let (mut lines, mut lost) = (Vec::new(), None);
        match (document.lines, document.long) {
            (Some(text), _) => lines = text.into_bytes(),
            (None, Some(hash)) => match self.bytes.get(&document.s, &hash, patience) {
                Ok(Some(text)) => lines = text,
                Ok(None) => lost = Some(hash),
                Err(error) if error.code == Code::Damaged => lost = Some(hash),
                Err(error) => return Err(error),
            },
            (None, None) => {}
        }
        Ok(Written {
            at: Position {
                n: document.n,
                end: document.end,
            },
            lines,
            lost,
            closed: document.closed,
            from: document.from,
        })
    }
}

/// How many documents are fetched at once by who reads backwards.
const BACKWARDS_AT_ONCE: u32 = 32;

/// The documents of a session, the last one first.
#[derive(Debug)]
pub struct Backwards<'a> {
    journal: &'a Journal,
    cursor: Cursor<Stored>,
}

impl Backwards<'_> {
    /// Returns the next one.
    ///
    /// # Errors
    /// `store_*`.
    pub fn next(&mut self, patience: &mut Patience) -> Result<Option<Written>> {
        let database = &self.journal.database;
        let failed = |error: DriverError| database.failed("read a session", &error);
        if !database.wait(self.cursor.advance()).map_err(failed)? {
            return Ok(None);
        }
        let document = self.cursor.deserialize_current().map_err(failed)?;
        self.journal.written(document, patience).map(Some)
    }
}

/// Returns what finds the last document of each session. With the index it reads one key of each.
fn last_of_each() -> [Document; 2] {
    [
        doc! {"$sort": {"s": -1, "n": -1}},
        doc! {"$group": {
            "_id": "$s",
            "s": {"$first": "$s"},
            "n": {"$first": "$n"},
            "end": {"$first": "$end"},
            "closed": {"$first": "$closed"},
        }},
    ]
}

async fn read_heads(mut cursor: Cursor<StoredHead>) -> std::result::Result<Vec<Head>, DriverError> {
    let mut heads = Vec::new();
    while cursor.advance().await? {
        let head = cursor.deserialize_current().ok();
        heads.extend(head.and_then(StoredHead::head));
    }
    Ok(heads)
}
