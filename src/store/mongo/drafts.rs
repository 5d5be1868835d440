//! Drafts: a document each, held by a lease.
//!
//! One that is too long for a document is in parts.

use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::at_once;
use super::bytes::{Bytes, Use};
use super::database::Database;
use super::lease::{Lease, Leases, Try};
use super::patience::Patience;
use crate::error::{Code, Error, Result};
use crate::json;
use crate::session::id::EventId;
use crate::store::draft::{Draft, FoundDraft, HeldDraft, OpenDraft, Rewritten, cover_draft};

/// The longest text that is stored in the document itself.
const INLINE: usize = 8 << 20;

/// How long the draft of a turn that is stored is tried to be removed.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// The drafts of a database.
#[derive(Debug, Clone)]
pub(super) struct Drafts {
    database: Database,
    documents: Collection<Stored>,
    leases: Leases,
    bytes: Bytes,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    _id: String,
    /// The session.
    s: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The hash of the text, where it is too long and stored in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long: Option<String>,
}

/// A draft this process holds.
#[derive(Debug)]
struct Held {
    drafts: Drafts,
    id: EventId,
    _lease: Lease,
}

impl Drafts {
    pub(super) fn of(database: &Database) -> Self {
        Self {
            documents: database.collection("drafts"),
            leases: Leases::passing(database),
            bytes: Bytes::of(database),
            database: database.clone(),
        }
    }

    /// Stores a draft and holds it.
    pub(super) fn create<'a>(
        &self,
        draft: Draft,
        patience: &mut Patience,
    ) -> Result<OpenDraft<'a>> {
        // Held before it can be seen.
        let Some(lease) = hold(&self.leases, draft.id, patience)? else {
            return Err(Error::new(Code::Internal, "two drafts have one id"));
        };
        self.put(
            draft.id,
            &draft.session.to_string(),
            &json::line(&draft),
            patience,
        )?;
        let held = Held {
            drafts: self.clone(),
            id: draft.id,
            _lease: lease,
        };
        Ok(OpenDraft::new(draft, Box::new(held)))
    }

    /// Takes over a draft nobody holds; `None` where somebody does, or it is gone.
    pub(super) fn take_over<'a>(
        &self,
        id: EventId,
        patience: &mut Patience,
    ) -> Result<Option<OpenDraft<'a>>> {
        let Some(lease) = hold(&self.leases, id, patience)? else {
            return Ok(None);
        };
        // Read only now: who held it before may have changed or removed it.
        let Some((_, text)) = self.get(id, patience)? else {
            return Ok(None);
        };
        let draft = serde_json::from_str(&text).map_err(|cause| {
            Error::new(Code::StoreIo, format!("cannot read the draft {id}")).because(cause)
        })?;
        let held = Held {
            drafts: self.clone(),
            id,
            _lease: lease,
        };
        Ok(Some(OpenDraft::new(draft, Box::new(held))))
    }

    /// Returns every draft, oldest first.
    pub(super) fn list(&self, patience: &mut Patience) -> Result<Vec<FoundDraft>> {
        let held = self.leases.held_below(PREFIX, patience)?;
        let found = self.database.insist(patience, || async {
            let mut cursor = self.documents.find(doc! {}).sort(doc! {"_id": 1}).await?;
            let mut found: Vec<Stored> = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        });
        let found = found.map_err(|error| self.database.failed("list the drafts", &error))?;
        let mut drafts = Vec::new();
        for stored in found {
            let Ok(id) = stored._id.parse::<EventId>() else {
                continue;
            };
            let text = self.text(stored, patience)?;
            drafts.push(FoundDraft {
                id,
                under_way: held.contains(&name(id)),
                draft: text.and_then(|text| serde_json::from_str(&text).ok()),
            });
        }
        Ok(drafts)
    }

    pub(super) fn rewrite(
        &self,
        id: EventId,
        dry_run: bool,
        cover: &dyn Fn(&str) -> Option<String>,
        patience: &mut Patience,
    ) -> Result<Rewritten> {
        let lease = if dry_run {
            if self.leases.look(&name(id), patience)?.0 {
                return Ok(Rewritten::UnderWay);
            }
            None
        } else {
            match hold(&self.leases, id, patience)? {
                None => return Ok(Rewritten::UnderWay),
                held => held,
            }
        };
        let Some((session, text)) = self.get(id, patience)? else {
            return Ok(Rewritten::Unchanged);
        };
        let Ok(mut draft) = serde_json::from_str::<Map<String, Value>>(&text) else {
            return Ok(Rewritten::Unreadable);
        };
        if !cover_draft(&mut draft, cover) {
            return Ok(Rewritten::Unchanged);
        }
        if lease.is_some() {
            self.put(id, &session, &json::line(&draft), patience)?;
        }
        Ok(Rewritten::Changed)
    }

    /// Removes a draft, whoever holds it.
    pub(super) fn remove(&self, id: EventId, patience: &mut Patience) -> Result<()> {
        let which = doc! {"_id": id.to_string()};
        let removed = self.database.insist(patience, || async {
            self.documents.find_one_and_delete(which.clone()).await
        });
        let removed = removed.map_err(|error| self.database.failed("remove the draft", &error))?;
        if removed.is_some_and(|removed| removed.long.is_some()) {
            self.bytes.remove_all(&name(id), DateTime::MAX, patience)?;
        }
        Ok(())
    }

    /// Stores the text of a draft in the place of the one there is.
    fn put(&self, id: EventId, session: &str, text: &str, patience: &mut Patience) -> Result<()> {
        let long = (text.len() > INLINE)
            .then(|| {
                self.bytes
                    .put(&name(id), Use::Text, text.as_bytes(), patience)
            })
            .transpose()?;
        let stored = Stored {
            _id: id.to_string(),
            s: session.to_owned(),
            text: long.is_none().then(|| text.to_owned()),
            long,
        };
        let which = doc! {"_id": &stored._id};
        let put = self.database.insist(patience, || async {
            self.documents
                .find_one_and_replace(which.clone(), &stored)
                .upsert(true)
                .await
        });
        let before = put.map_err(|error| self.database.failed("write the draft", &error))?;
        let unused = before.and_then(|before| before.long);
        if let Some(unused) = unused.filter(|unused| stored.long.as_ref() != Some(unused)) {
            self.bytes
                .remove(&name(id), &unused, DateTime::MAX, patience)?;
        }
        Ok(())
    }

    /// Returns the session and the text of a draft.
    fn get(&self, id: EventId, patience: &mut Patience) -> Result<Option<(String, String)>> {
        let which = doc! {"_id": id.to_string()};
        let found = self.database.insist(patience, || async {
            self.documents.find_one(which.clone()).await
        });
        let found = found.map_err(|error| self.database.failed("read the draft", &error))?;
        let Some(found) = found else { return Ok(None) };
        let session = found.s.clone();
        Ok(self.text(found, patience)?.map(|text| (session, text)))
    }

    fn text(&self, stored: Stored, patience: &mut Patience) -> Result<Option<String>> {
        let Some(long) = stored.long else {
            return Ok(stored.text);
        };
        let bytes = self
            .bytes
            .get(&format!("{PREFIX}{}", stored._id), &long, patience)?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

impl HeldDraft for Held {
    fn remove(self: Box<Self>) {
        // One that stays is taken for a turn that was killed.
        let _ = self
            .drafts
            .remove(self.id, &mut Patience::of(REMOVED_WITHIN));
    }

    fn replace(self: Box<Self>, draft: &Draft) {
        let session = draft.session.to_string();
        let text = json::line(draft);
        let _ = self.drafts.put(self.id, &session, &text, &mut at_once());
    }
}

/// What the names of leases of drafts, and of the owners of their parts, begin with.
const PREFIX: &str = "draft/";

fn name(id: EventId) -> String {
    format!("{PREFIX}{id}")
}

fn hold(leases: &Leases, id: EventId, patience: &mut Patience) -> Result<Option<Lease>> {
    match leases.take(&name(id), None, patience)? {
        Try::Held(lease, _) => Ok(Some(lease)),
        Try::Busy(_) => Ok(None),
    }
}
