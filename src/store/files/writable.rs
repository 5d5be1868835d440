//! A store of files with what writing takes besides: locks and drafts, made on first use.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::append::{self, FileAppending};
use super::dir::{Dir, Doing, check_owner};
use super::layout::{CACHE, INDEX, LOCKS, OPEN, PURGED};
use super::lock::{self, LockFile, TenureLock};
use super::making::open_or_make_dir;
use super::sweep::{sweep_temporary, sweep_trash};
use super::{FileStore, compact, draft, fork, guard, import, merge, purge, repair};
use crate::clock;
use crate::error::Result;
use crate::platform::{FileKind, Stat};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};
use crate::store::append::{Appended, Writer};
use crate::store::compact::Compaction;
use crate::store::draft::{Draft, OpenDraft};
use crate::store::import::{Added, Incoming};
use crate::store::merge::Merged;
use crate::store::purge::Receipt;
use crate::store::verify::Repaired;
use crate::store::{Durability, New, Store, Tenure, Writable};

/// A store of files, open for writing.
#[derive(Debug)]
pub(super) struct FileWritable<'a> {
    pub(super) store: &'a FileStore,
    patience: Duration,
    locks: Dir,
    open: Dir,
    purged: RefCell<purge::Seen>,
}

impl<'a> FileWritable<'a> {
    /// Opens what writing needs, making it when missing.
    ///
    /// # Errors
    /// `store_*`.
    pub(super) fn of(store: &'a FileStore, patience: Duration) -> Result<Self> {
        check_owner(&store.root)?;
        check_owner(&store.sessions)?;
        Ok(Self {
            store,
            patience,
            locks: open_or_make_dir(&store.root, LOCKS)?,
            open: open_or_make_dir(&store.root, OPEN)?,
            purged: RefCell::default(),
        })
    }

    /// Tells whether a session, which is locked and not there, was purged.
    pub(super) fn is_purged(&self, id: SessionId) -> Result<bool> {
        self.purged.borrow_mut().has(&self.store.root, id)
    }

    pub(super) fn lock(&self, id: SessionId) -> Result<lock::WriteLock> {
        LockFile::open(&self.locks, id)?.lock(&self.locks, self.patience)
    }

    /// Repairs the logs of a session, or what stands in the place of its directory.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait. What was repaired until then stays so.
    pub(super) fn repair(&self, id: SessionId) -> Result<Vec<Repaired>> {
        let sessions = &self.store.sessions;
        let held = self.lock(id)?;
        let name = id.to_string();
        let is_dir = |stat: Stat| stat.kind == FileKind::Directory;
        if sessions.stat(&name).is_ok_and(|stat| !is_dir(stat)) {
            return Ok(vec![repair::session_name(sessions, id, &held)?]);
        }
        repair::session(sessions, id, &held)
    }

    /// Repairs the receipts, with every session locked.
    ///
    /// # Errors
    /// As [`FileWritable::repair`].
    pub(super) fn repair_receipts(&self) -> Result<Vec<Repaired>> {
        let lock =
            |stripe| LockFile::of_stripe(&self.locks, stripe)?.lock(&self.locks, self.patience);
        let held = (0..=u8::MAX).map(lock).collect::<Result<Vec<_>>>()?;
        repair::receipts(&self.store.root, &held)
    }
}

impl Writable for FileWritable<'_> {
    fn store(&self) -> &dyn Store {
        self.store
    }

    fn writer(&self, id: SessionId) -> Result<Writer<'_>> {
        let Self {
            store,
            locks,
            patience,
            ..
        } = self;
        let prepared = FileAppending::prepare(&store.sessions, locks, *patience, id)?;
        Ok(Writer::new(id, Box::new(prepared)))
    }

    fn create(&self, new: New<'_>) -> Result<Appended> {
        match new.begins_with {
            Some(fork) => fork::create(&self.store.sessions, fork, new),
            None => append::create(&self.store.sessions, new),
        }
    }

    fn draft(&self, draft: Draft) -> Result<OpenDraft<'_>> {
        draft::create(&self.open, draft)
    }

    fn take_over_draft(&self, id: EventId) -> Result<Option<OpenDraft<'_>>> {
        draft::take_over(&self.open, id)
    }

    fn remove_draft(&self, id: EventId) -> Result<()> {
        draft::remove(&self.open, id)
    }

    fn add(&self, id: SessionId, incoming: Incoming<'_>, include_purged: bool) -> Result<Added> {
        let _held = self.lock(id)?;
        let stays_out = || Ok(!include_purged && self.is_purged(id)?);
        import::add(&self.store.sessions, id, incoming, stays_out)
    }

    fn sync_added(&self, ids: &BTreeSet<SessionId>) -> Result<()> {
        import::sync_added(&self.store.sessions, ids)
    }

    /// Under the lock of one of the sessions: whoever repairs the receipts holds all of them.
    fn note_receipts(&self, receipts: &[Receipt]) -> Result<()> {
        let Some(first) = receipts.first() else {
            return Ok(());
        };
        let _held = self.lock(first.session)?;
        let root = &self.store.root;
        let written = purge::append_receipts(root, receipts);
        written.doing("write the receipts to", root.path_of(PURGED))
    }

    /// Blobs are copied in pieces and not held.
    fn merge(
        &self,
        copy: &merge::Copy,
        include_purged: bool,
        durability: Durability,
    ) -> Result<Merged> {
        merge::merge(self, copy, include_purged, durability)
    }

    /// Rewrites a session's logs as one.
    fn compact(&self, id: SessionId, drop_pruned: bool) -> Result<Compaction> {
        let lock = self.lock(id)?;
        compact::compact(&self.store.sessions, id, drop_pruned, &lock)
    }

    fn purge(
        &self,
        id: SessionId,
        why: &str,
        goes: &dyn Fn(&Session) -> bool,
    ) -> Result<Option<Receipt>> {
        let FileStore { root, sessions, .. } = self.store;
        let lock = self.lock(id)?;
        purge::purge(root, sessions, id, why, lock, goes)
    }

    fn tenure(&self, name: &'static str, who: &str, held: Option<Tenure>) -> Result<Tenure> {
        let is_of_this = |held: &Tenure| {
            let lock = held.held::<TenureLock>();
            lock.is_some_and(|lock| lock.is_of(&self.locks))
        };
        if let Some(held) = held.filter(is_of_this) {
            return Ok(held);
        }
        Ok(Tenure::new(TenureLock::begin(&self.locks, name, who)?))
    }

    /// What has a temporary name.
    fn sweep(&self) {
        let FileStore { root, sessions, .. } = self.store;
        let now = clock::now();
        [root, sessions, &self.open]
            .iter()
            .for_each(|dir| sweep_temporary(dir, now));
        sweep_trash(sessions);
        guard::sweep(&self.locks);
    }

    /// Removes the index.
    fn forget_index(&self) -> Result<()> {
        let removed = match self.store.root.open_dir(CACHE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.and_then(|cache| cache.remove_file(INDEX)),
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.doing("remove the index in", self.store.root.path_of(CACHE)),
        }
    }

    fn remove_moved_aside(&self, id: SessionId) -> Result<Vec<String>> {
        let names = self.store.moved_aside(id)?;
        if names.is_empty() {
            return Ok(names);
        }
        let session = id.to_string();
        let sessions = &self.store.sessions;
        let dir = sessions
            .open_dir(&session)
            .doing("open the session", sessions.path_of(&session))?;
        for name in &names {
            dir.remove_file(name).doing("remove", dir.path_of(name))?;
        }
        dir.sync().doing("sync", dir.path())?;
        Ok(names)
    }
}
