//! Taking away what counts no longer: documents below a compaction or a purge, and texts in parts
//! that no document names.

use std::collections::BTreeSet;

use mongodb::bson::{DateTime, Document, doc};
use serde::Deserialize;

use super::{Journal, by_id};
use crate::error::Result;
use crate::session::id::SessionId;
use crate::store::mongo::bytes::{Use, an_hour_before};
use crate::store::mongo::document::between;
use crate::store::mongo::patience::Patience;

#[derive(Debug, Deserialize)]
struct StoredLong {
    long: String,
}

impl Journal {
    /// Takes note that a session will have something to be swept, before it has.
    ///
    /// # Errors
    /// `store_*`.
    pub fn will_sweep(&self, session: SessionId, patience: &mut Patience) -> Result<()> {
        let note = doc! {"_id": session.to_string()};
        let noted = self.database.insist(patience, || async {
            let put = self.sweeps.replace_one(note.clone(), doc! {});
            put.upsert(true).await
        });
        noted
            .map(drop)
            .map_err(|error| self.database.failed("store what is to be removed", &error))
    }

    /// Removes what a session has that counts no longer; of one that was closed also all its bytes
    /// that nobody stored since `before`, which is an hour ago if it is not known better.
    ///
    /// # Errors
    /// `store_*`; doing it again goes on.
    pub fn sweep(
        &self,
        session: SessionId,
        before: Option<DateTime>,
        patience: &mut Patience,
    ) -> Result<()> {
        let owner = session.to_string();
        if let Some(base) = self.base(session, patience)? {
            let below = between(session, 0, Some(base.from));
            let texts = self.texts(&below, patience)?;
            let removed = self.database.insist(patience, || async {
                let removal = self.documents.delete_many(below.clone());
                removal.hint(by_id()).await
            });
            removed.map_err(|error| self.database.failed("remove documents", &error))?;
            let before = match before {
                Some(before) => before,
                None => an_hour_before(self.database.time(patience)?),
            };
            let in_use = self.texts(&between(session, 0, None), patience)?;
            for text in texts.difference(&in_use) {
                self.bytes.remove(&owner, text, before, patience)?;
            }
            let head = self.head(session, patience)?;
            if base.closed.is_some() && head.is_some_and(|head| head.closed.is_some()) {
                self.bytes.remove_all(&owner, before, patience)?;
                if self.bytes.has_any(&owner, patience)? {
                    // Of a writer that has not seen yet that the session ended.
                    return Ok(());
                }
            }
        }
        let done = doc! {"_id": owner};
        let swept = self.database.insist(patience, || async {
            self.sweeps.delete_one(done.clone()).await
        });
        swept
            .map(drop)
            .map_err(|error| self.database.failed("remove a note", &error))
    }

    /// Tells whether [`Journal::will_sweep`] was said of a session, and it was not swept.
    ///
    /// # Errors
    /// `store_*`.
    pub fn is_to_be_swept(&self, session: SessionId, patience: &mut Patience) -> Result<bool> {
        let note = doc! {"_id": session.to_string()};
        let found = self.database.insist(patience, || async {
            self.sweeps.find_one(note.clone()).await
        });
        found
            .map(|found| found.is_some())
            .map_err(|error| self.database.failed("read what is to be removed", &error))
    }

    /// Returns the sessions that [`Journal::will_sweep`] was said of, and not swept.
    ///
    /// # Errors
    /// `store_*`.
    pub fn to_be_swept(&self, patience: &mut Patience) -> Result<Vec<SessionId>> {
        let found = self.database.read_all(patience, || async {
            let mut cursor = self.sweeps.find(doc! {}).await?;
            let mut sessions = Vec::new();
            while cursor.advance().await? {
                let note = cursor.deserialize_current()?;
                let id = note.get_str("_id").ok();
                sessions.extend(id.and_then(|id| id.parse::<SessionId>().ok()));
            }
            Ok(sessions)
        });
        found.map_err(|error| self.database.failed("read what is to be removed", &error))
    }

    /// Removes texts in parts that are old and that no document of a session names: of writers who
    /// were not the first at their number.
    ///
    /// # Errors
    /// `store_*`.
    pub fn sweep_texts(&self, session: SessionId, patience: &mut Patience) -> Result<()> {
        let owner = session.to_string();
        let (old, before) = self.bytes.old(&owner, Use::Text, patience)?;
        if old.is_empty() {
            return Ok(());
        }
        let in_use = self.texts(&between(session, 0, None), patience)?;
        for text in old.iter().filter(|text| !in_use.contains(*text)) {
            self.bytes.remove(&owner, text, before, patience)?;
        }
        Ok(())
    }

    /// Returns the hashes of the texts in parts that some documents name.
    fn texts(&self, which: &Document, patience: &mut Patience) -> Result<BTreeSet<String>> {
        let mut which = which.clone();
        which.insert("long", doc! {"$exists": true});
        let named = self.documents.clone_with_type::<StoredLong>();
        let found = self.database.read_all(patience, || async {
            let only = doc! {"_id": 0, "long": 1};
            let found = named.find(which.clone()).projection(only).hint(by_id());
            let mut cursor = found.await?;
            let mut found = BTreeSet::new();
            while cursor.advance().await? {
                found.insert(cursor.deserialize_current()?.long);
            }
            Ok(found)
        });
        found.map_err(|error| self.database.failed("read a session", &error))
    }
}
