//! Sessions into another store as well, whatever keeps them here and there.
//!
//! Each session is added as a merge adds it: what is there stays, what is missing comes as the bytes
//! it is. So a copy that ended early is gone on with by making it again. Each is then read there
//! and compared: what is said to be copied is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Outcome};
use crate::cli::{Copying, Invocation, Selection};
use crate::error::{Code, Error, Result};
use crate::output::CopyReport;
use crate::progress::Progress;
use crate::session::attachment::Blob;
use crate::session::fold::one_of_each;
use crate::session::id::{EventId, SessionId};
use crate::store::import::{Added, Incoming};
use crate::store::purge::Receipt;
use crate::store::{self, Location, Store, Writable};
use crate::warning::Warning;

/// The largest blob that is copied, in bytes.
const LARGEST_BLOB: u64 = 1 << 30;

/// How many sessions may be added before they are made sure of.
const AT_ONCE: usize = 100;

/// Copies sessions.
pub(super) fn run(
    copying: &Copying,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let place = |given: &Option<Location>| match given {
        Some(location) => Ok(location.clone()),
        None => invocation.location(),
    };
    let (from, to) = (place(&copying.from)?, place(&copying.to)?);
    if from == to {
        let sentence = format!("--from and --to are the same store, {from}");
        return Err(Error::new(Code::Usage, sentence).hint("name two"));
    }
    let Some(source) = store::open(&from)? else {
        return Err(
            Error::new(Code::Usage, format!("there is no store in {from}"))
                .hint("name a directory that holds `sessions`, or the address of a database"),
        );
    };
    let ids = match &copying.sessions {
        Selection::All => source.ids()?,
        Selection::These(named) => {
            let ids = named.iter().map(|reference| source.find(reference));
            ids.collect::<Result<_>>()?
        }
    };
    let mut target = store::open_or_make(&to)?;
    target.telling(progress);
    let writable = target.for_writing(invocation.lock_timeout)?;
    let copied = Copied {
        report: CopyReport {
            from: from.to_string(),
            to: to.to_string(),
            sessions_added: 0,
            sessions_changed: 0,
            sessions_unchanged: 0,
            events_added: 0,
            blobs: 0,
            skipped_purged: Vec::new(),
            warnings: Vec::new(),
        },
        warnings: Vec::new(),
        unsafe_yet: BTreeSet::new(),
    };
    let known = target.receipts()?;
    let mut copied = copied.copy(&ids, &*source, &*writable, &known, copying.include_purged)?;
    if copying.sessions == Selection::All {
        note_receipts(&*source, &*writable, &known)?;
    }
    copied.report.skipped_purged.sort_unstable();
    Ok(Outcome {
        notes: Vec::new(),
        warnings: copied.warnings,
        answer: Answer::Report(Box::new(copied.report)),
        failure: None,
    })
}

/// What was copied so far.
struct Copied {
    report: CopyReport,
    warnings: Vec<Warning>,
    /// Sessions that a loss of power may take again.
    unsafe_yet: BTreeSet<SessionId>,
}

impl Copied {
    fn copy(
        mut self,
        ids: &[SessionId],
        source: &dyn Store,
        writable: &dyn Writable,
        known: &[Receipt],
        include_purged: bool,
    ) -> Result<Self> {
        let target = writable.store();
        let purged: BTreeSet<SessionId> = known.iter().map(|receipt| receipt.session).collect();
        let steps = target.progress().begin("copying", ids.len());
        for id in ids {
            steps.step();
            let session = match Whole::read(source, *id, &mut self.warnings) {
                Ok(session) if session.lines.is_empty() => continue,
                Ok(session) => session,
                Err(error) => {
                    self.warnings.push(Warning::NotCopied {
                        session: *id,
                        cause: error.to_string(),
                    });
                    continue;
                }
            };
            if purged.contains(id) && !include_purged && !target.has_name(*id)? {
                self.report.skipped_purged.push(*id);
                continue;
            }
            let added = writable.add(*id, session.incoming())?;
            self.count(*id, added, session.blobs.len());
            session.compare(target, *id)?;
            if self.unsafe_yet.len() >= AT_ONCE {
                writable.sync_added(&std::mem::take(&mut self.unsafe_yet))?;
            }
        }
        writable.sync_added(&std::mem::take(&mut self.unsafe_yet))?;
        Ok(self)
    }

    fn count(&mut self, id: SessionId, added: Added, blobs: usize) {
        let count = match (added.is_new, added.events) {
            (true, _) => &mut self.report.sessions_added,
            (false, 0) => &mut self.report.sessions_unchanged,
            (false, _) => &mut self.report.sessions_changed,
        };
        *count += 1;
        self.report.events_added += added.events;
        self.report.blobs += blobs as u64;
        self.unsafe_yet.insert(id);
    }
}

/// A session with everything it has.
struct Whole {
    lines: BTreeMap<EventId, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Whole {
    fn read(source: &dyn Store, id: SessionId, warnings: &mut Vec<Warning>) -> Result<Self> {
        let events = source.events(id)?;
        if !events.damage.is_empty() {
            warnings.push(Warning::DamagedCopy {
                session: id,
                places: events.damage.len(),
            });
        }
        let mut blobs = BTreeMap::new();
        for name in source.blobs(id)? {
            let blob = Blob {
                sha256: name.clone(),
                bytes: LARGEST_BLOB,
                media_type: String::new(),
                name: String::new(),
            };
            match source.read_blob(id, &blob) {
                Ok(bytes) => drop(blobs.insert(name, bytes)),
                Err(_) => warnings.push(Warning::DamagedBlob { session: id, name }),
            }
        }
        let lines = one_of_each(events.entries).into_iter();
        Ok(Self {
            lines: lines.map(|(id, entry)| (id, entry.raw)).collect(),
            blobs,
        })
    }

    fn incoming(&self) -> Incoming<'_> {
        Incoming::Lines {
            lines: &self.lines,
            blobs: &self.blobs,
        }
    }

    /// Makes sure that all of it is in a store.
    fn compare(&self, store: &dyn Store, id: SessionId) -> Result<()> {
        let missing = store.would_add(id, self.incoming())?.events;
        let there = store.blobs(id)?;
        let is_there = |name: &&String| there.binary_search(name).is_ok();
        let blobs = self.blobs.keys().filter(|name| !is_there(name)).count();
        if missing == 0 && blobs == 0 {
            return Ok(());
        }
        Err(Error::new(
            Code::StoreIo,
            format!("the session {id} is not copied whole"),
        )
        .because(format!(
            "{missing} events and {blobs} blobs of it are not there"
        ))
        .hint("something else changes the other store; make the copy again")
        .session(id))
    }
}

/// Remembers what was purged here and is not there, so that a third copy does not bring it back.
fn note_receipts(source: &dyn Store, writable: &dyn Writable, known: &[Receipt]) -> Result<()> {
    let mut new: Vec<Receipt> = Vec::new();
    for receipt in source.receipts()? {
        let is_known = known.contains(&receipt) || new.contains(&receipt);
        if !is_known && !writable.store().has_name(receipt.session)? {
            new.push(receipt);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    writable.note_receipts(&new)
}
