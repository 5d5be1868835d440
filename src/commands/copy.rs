//! Sessions into another store as well, whatever keeps them here and there.
//!
//! Each session is added as a merge adds it: what is there stays, what is missing comes as the bytes
//! it is. So a copy that ended early is gone on with by making it again. Each is then read there
//! and compared: what is said to be copied is.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::{Copying, Invocation, Selection};
use crate::error::{Code, Error, Result};
use crate::output::{CopyReport, Outcome};
use crate::progress::Progress;
use crate::session::fold::one_of_each;
use crate::session::id::{EventId, SessionId};
use crate::store::import::{Added, Incoming};
use crate::store::merge::{Merged, note_receipts};
use crate::store::{self, Location, Store, Writable, blobs};
use crate::warning::Warning;

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
    let mut copied = Copied::default();
    copied.copy(&ids, &*source, &*writable, copying.include_purged)?;
    if copying.sessions == Selection::All {
        note_receipts(&*writable, source.receipts()?)?;
    }
    Ok(copied.outcome(&from, &to))
}

/// What was copied so far.
#[derive(Default)]
struct Copied {
    sessions: Merged,
    unchanged: usize,
    blobs: u64,
    warnings: Vec<Warning>,
}

impl Copied {
    fn copy(
        &mut self,
        ids: &[SessionId],
        source: &dyn Store,
        writable: &dyn Writable,
        include_purged: bool,
    ) -> Result<()> {
        let target = writable.store();
        let mut unsafe_yet = BTreeSet::new();
        let steps = target.progress().begin("copying", ids.len());
        for id in ids {
            steps.step();
            let session = match Whole::read(source, *id, &mut self.warnings) {
                Ok(session) if session.lines.is_empty() => continue,
                Ok(session) => session,
                // The next one could not be read either.
                Err(error) if is_gone(&error) => return Err(error),
                Err(error) => {
                    self.warnings.push(Warning::NotCopied {
                        session: *id,
                        cause: error.to_string(),
                    });
                    continue;
                }
            };
            let added = writable.add(*id, session.incoming(), include_purged)?;
            self.count(*id, added, &session);
            if added.is_purged {
                continue;
            }
            session.compare(target, *id)?;
            unsafe_yet.insert(*id);
            if unsafe_yet.len() >= AT_ONCE {
                writable.sync_added(&std::mem::take(&mut unsafe_yet))?;
            }
        }
        writable.sync_added(&unsafe_yet)
    }

    fn count(&mut self, id: SessionId, added: Added, session: &Whole) {
        self.sessions.note(id, added);
        if !added.is_purged {
            self.unchanged += usize::from(added.events == 0);
            self.blobs += session.blobs.len() as u64;
        }
    }

    fn outcome(self, from: &Location, to: &Location) -> Outcome {
        let mut skipped_purged = self.sessions.purged;
        skipped_purged.sort_unstable();
        let report = CopyReport {
            from: from.to_string(),
            to: to.to_string(),
            sessions_added: self.sessions.added.len(),
            sessions_changed: self.sessions.changed.len(),
            sessions_unchanged: self.unchanged,
            events_added: self.sessions.events,
            blobs: self.blobs,
            skipped_purged,
            warnings: Vec::new(),
        };
        Outcome {
            warnings: self.warnings,
            ..Outcome::report(report)
        }
    }
}

/// Tells whether it is the store that cannot be read, whichever session was asked for.
fn is_gone(error: &Error) -> bool {
    matches!(
        error.code,
        Code::StoreUnreachable | Code::StoreAuth | Code::StoreTls
    )
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
            match read_blob(source, id, &name)? {
                Some(bytes) => drop(blobs.insert(name, bytes)),
                None => warnings.push(Warning::DamagedBlob { session: id, name }),
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

/// Reads a blob that the source named; `None` where it is damaged, or was removed meanwhile.
fn read_blob(source: &dyn Store, id: SessionId, name: &str) -> Result<Option<Vec<u8>>> {
    let why = match source.read_blob(id, &blobs::named(name)) {
        Ok(bytes) => return Ok(Some(bytes)),
        Err(why) => why,
    };
    // A store says only in words why it has no bytes. What it says of itself is a failure.
    let there = source.blobs(id)?;
    if why == blobs::DAMAGED || there.iter().all(|other| other != name) {
        return Ok(None);
    }
    let sentence = format!("cannot read the blob {name} now");
    Err(Error::new(Code::StoreIo, sentence).because(why).session(id))
}
