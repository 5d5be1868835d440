//! A store of files: a directory of append-only logs.
//!
//! [`FileStore`] reads and needs nothing but `sessions`; `FileWritable` is the store with what
//! writing takes besides (locks, drafts), made on first use. What must stay true:
//!
//! * bytes of a log, once written, are not changed by an append, so readers take no lock;
//! * a turn is acknowledged only after its own sync;
//! * a lock is held for the write, never across the model's answer and not across the sync;
//! * nothing is removed but by purge, which leaves a receipt, and by compaction, which is asked for.
//!
//! The index is a cache that [`FileStore::ids`] and [`FileStore::read`] do not know of.

mod append;
mod blobs;
mod compact;
mod dir;
mod draft;
mod figures;
mod follow;
mod fork;
mod guard;
mod history;
mod import;
mod index;
pub mod layout;
mod lines;
mod lock;
mod log;
pub(super) mod merge;
mod models;
mod purge;
mod read;
mod repair;
mod replace;
mod search;
mod sweep;
mod tail;
mod verify;
mod whole;

pub use dir::{Access, Dir, Doing, Trust};
pub(super) use dir::{check_owner, open_own};
pub(super) use sweep::sweep_temporary;
pub use whole::temporary_name;
pub(super) use whole::{put, put_new};

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use append::FileAppending;
use follow::FileFollower;
use layout::{CACHE, DAMAGED, GITATTRIBUTES, GITIGNORE, INDEX, LOCKS, OPEN, PURGED, SESSIONS};
use lock::{LockFile, TenureLock};
use sweep::sweep_trash;

use super::append::{Appended, Writer};
use super::compact::Compaction;
use super::draft::{Draft, FoundDraft, OpenDraft, Rewritten};
use super::figures::Figures;
use super::follow::Follower;
use super::fork::Fork;
use super::guard::{Guard, Taken};
use super::history::History;
use super::import::{Added, Incoming};
use super::list::Listing;
use super::merge::Merged;
use super::models::Model;
use super::purge::Receipt;
use super::search::{Piece, Wanted};
use super::snapshot::{Events, Extent, Snapshot};
use super::verify::{Repaired, Report};
use super::{Durability, New, Store, Tenure, Writable};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::platform::{FileKind, Stat, make_own_dir};
use crate::progress::Progress;
use crate::session::attachment::Blob;
use crate::session::event::{Key, Timestamp};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::{EventId, SessionId};

/// A store of files, open for reading.
#[derive(Debug)]
pub struct FileStore {
    root: Dir,
    sessions: Dir,
    progress: Progress,
}

impl FileStore {
    /// Opens the store at `root`; `None` where there is none yet.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let root = match Dir::open(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory && is_database(root) => {
                return Err(Error::new(Code::Config, format!("`{}` is a database, not a store", root.display()))
                    .because("the Python tool of the same name kept its sessions in such files")
                    .hint("nothing was changed in it; unset OLLAMA_PROMPT_DB_PATH, or name a directory with it, and bring its sessions in with ollama-prompt session import FILE"));
            }
            opened => opened.doing("open the store", root)?,
        };
        match root.open_dir_or_own_link(SESSIONS) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let sessions = opened.doing("open the store", root.path_of(SESSIONS))?;
                Ok(Some(Self {
                    root,
                    sessions,
                    progress: Progress::default(),
                }))
            }
        }
    }

    /// Opens the store at `root`, making what is missing of it.
    ///
    /// # Errors
    /// When something is missing and cannot be made.
    pub fn open_or_make(root: &Path) -> Result<Self> {
        if let Some(store) = Self::open(root)? {
            return Ok(store);
        }
        make_root(root)?;
        Self::open(root)?.ok_or_else(|| {
            Error::new(
                Code::StoreIo,
                format!("cannot open the store `{}`", root.display()),
            )
            .because("it vanished while it was made")
        })
    }

    /// Follows the store at `root`, which is not there yet.
    pub(super) fn follow_missing(root: &Path, only: Option<SessionId>) -> Box<dyn Follower> {
        Box::new(FileFollower::from_start(root.to_owned(), only))
    }

    fn guards(&self) -> Result<Dir> {
        check_owner(&self.root)?;
        open_or_make_dir(&self.root, LOCKS)
    }

    /// Opens the directory of a session; `None` where there is none.
    fn session(&self, id: SessionId) -> Result<Option<Dir>> {
        read::open_session(&self.sessions, id)
    }

    /// Opens what writing needs, making it when missing.
    fn writable(&self, patience: Duration) -> Result<FileWritable<'_>> {
        check_owner(&self.root)?;
        check_owner(&self.sessions)?;
        Ok(FileWritable {
            store: self,
            patience,
            locks: open_or_make_dir(&self.root, LOCKS)?,
            open: open_or_make_dir(&self.root, OPEN)?,
            purged: RefCell::default(),
        })
    }
}

impl Store for FileStore {
    fn telling(&mut self, progress: &Progress) {
        self.progress = progress.clone();
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The directories that are named by an id.
    fn ids(&self) -> Result<Vec<SessionId>> {
        ids_in(&self.sessions)
    }

    fn events(&self, id: SessionId) -> Result<Events> {
        match self.session(id)? {
            Some(dir) => read::events(&dir),
            None => Ok(Events::default()),
        }
    }

    fn blobs(&self, id: SessionId) -> Result<Vec<String>> {
        match self.session(id)? {
            Some(dir) => blobs::names(&dir),
            None => Ok(Vec::new()),
        }
    }

    fn read_blob(&self, id: SessionId, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        let session = self.sessions.open_dir(&id.to_string());
        let session = session.map_err(|cause| cause.to_string())?;
        blobs::read(&session, blob)
    }

    fn drafts(&self) -> Result<Vec<FoundDraft>> {
        match self.root.open_dir(OPEN) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            opened => draft::list(&opened.doing("open", self.root.path_of(OPEN))?),
        }
    }

    fn rewrite_draft(
        &self,
        id: EventId,
        dry_run: bool,
        cover: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Rewritten> {
        if !dry_run {
            check_owner(&self.root)?;
        }
        match self.root.open_dir(OPEN) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Rewritten::Unchanged),
            opened => {
                let open = opened.doing("open", self.root.path_of(OPEN))?;
                draft::rewrite(&open, id, dry_run, cover)
            }
        }
    }

    fn receipts(&self) -> Result<Vec<Receipt>> {
        purge::receipts(&self.root)
    }

    fn model(&self, host: &str, model: &str) -> Option<Model> {
        models::recall(&self.root, host, model)
    }

    fn remember_model(&self, host: &str, model: &str, known: Model) {
        let _ = models::remember(&self.root, host, model, known);
    }

    fn take_turn(&self, id: SessionId, patience: Duration) -> Result<Guard> {
        guard::take_turn(self.guards()?, id, patience)
    }

    fn take_key(&self, id: SessionId, key: &Key, patience: Duration) -> Result<Taken> {
        guard::take_key(self.guards()?, id, key, patience)
    }

    /// Refuses a store that belongs to another user, or to which others may write.
    fn for_writing(&self, patience: Duration) -> Result<Box<dyn Writable + '_>> {
        Ok(Box::new(self.writable(patience)?))
    }

    fn has_name(&self, id: SessionId) -> Result<bool> {
        let name = id.to_string();
        match self.sessions.stat(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            found => found
                .map(|_| true)
                .doing("look at", self.sessions.path_of(&name)),
        }
    }

    /// No lock is taken.
    fn read(&self, id: SessionId, extent: Extent) -> Result<Option<Snapshot>> {
        read::read(&self.sessions, id, extent)
    }

    fn turns_under_key(&self, id: SessionId, key: &str) -> Result<Vec<SaidTurn>> {
        read::turns_under_key(&self.sessions, id, key)
    }

    fn history(&self, id: SessionId) -> Result<Option<History<'_>>> {
        history::open(&self.sessions, id)
    }

    fn fork(&self, parent: SessionId, at: Option<EventId>, app: &str) -> Result<Option<Fork>> {
        fork::read(&self.sessions, parent, at, app)
    }

    /// The bytes of all its files.
    fn bytes_of(&self, id: SessionId) -> u64 {
        purge::bytes_below(&self.sessions.path_of(id.to_string()))
    }

    fn moved_aside(&self, id: SessionId) -> Result<Vec<String>> {
        let Some(dir) = self.session(id)? else {
            return Ok(Vec::new());
        };
        let mut names = dir.names().doing("list", dir.path())?;
        names.retain(|name| name.starts_with(DAMAGED));
        names.sort_unstable();
        Ok(names)
    }

    /// Reads the sessions that changed since the index was written.
    fn list(&self) -> Result<Listing> {
        index::list(self)
    }

    fn reindex(&self) -> Result<(Listing, u64)> {
        index::rebuild(self)
    }

    fn search(
        &self,
        ids: &[SessionId],
        wanted: &Wanted<'_>,
        take: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) {
        search::search(&self.sessions, ids, wanted, take);
    }

    fn figures(
        &self,
        ids: &[SessionId],
        take: &mut dyn FnMut(SessionId, Result<Figures>) -> ControlFlow<()>,
    ) {
        figures::read(self, ids, take);
    }

    fn verify(&self, named: Option<&[SessionId]>, now: Timestamp) -> Result<Report> {
        verify::verify(self, named, now)
    }

    fn repair(
        &self,
        named: Option<&[SessionId]>,
        report: Report,
        patience: Duration,
        repaired: &mut Vec<Repaired>,
    ) -> Result<()> {
        repair::mend(self, named, report, patience, repaired)
    }

    fn would_add(&self, id: SessionId, incoming: Incoming<'_>) -> Result<Added> {
        import::would_add(&self.sessions, id, incoming)
    }

    fn follow(
        self: Box<Self>,
        only: Option<SessionId>,
        from_start: bool,
    ) -> Result<Box<dyn Follower>> {
        Ok(Box::new(if from_start {
            FileFollower::from_start(self.root.path().to_owned(), only)
        } else {
            FileFollower::from_now(&self, only)?
        }))
    }
}

/// A store of files, open for writing.
#[derive(Debug)]
struct FileWritable<'a> {
    store: &'a FileStore,
    patience: Duration,
    locks: Dir,
    open: Dir,
    purged: RefCell<purge::Seen>,
}

impl FileWritable<'_> {
    /// Tells whether a session, which is locked and not there, was purged.
    fn is_purged(&self, id: SessionId) -> Result<bool> {
        self.purged.borrow_mut().has(&self.store.root, id)
    }

    fn lock(&self, id: SessionId) -> Result<lock::WriteLock> {
        LockFile::open(&self.locks, id)?.lock(&self.locks, self.patience)
    }

    /// Repairs the logs of a session, or what stands in the place of its directory.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait. What was repaired until then stays so.
    fn repair(&self, id: SessionId) -> Result<Vec<Repaired>> {
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
    fn repair_receipts(&self) -> Result<Vec<Repaired>> {
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

/// Returns how many threads may read sessions at once; a disk answers no more than a few.
fn threads() -> usize {
    const MOST: usize = 8;
    let threads = std::thread::available_parallelism();
    threads.map_or(1, usize::from).min(MOST)
}

fn ids_in(sessions: &Dir) -> Result<Vec<SessionId>> {
    let mut ids = Vec::new();
    sessions
        .for_each_name(|name| {
            // Only the one spelling a session has: `sessions` may be on a file system that
            // tells no upper from lower case.
            if name.len() == 36 && !name.bytes().any(|b| b.is_ascii_uppercase()) {
                ids.extend(name.parse::<SessionId>());
            }
        })
        .doing("list", sessions.path())?;
    ids.sort_unstable();
    Ok(ids)
}

/// Tells whether a regular file is an SQLite database, by the 16 bytes all of them begin with
/// (<https://sqlite.org/fileformat.html>, section 1.3). A pipe is not waited for.
fn is_database(path: &Path) -> bool {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let file = Dir::open(parent.unwrap_or(Path::new(".")))
        .and_then(|dir| dir.open_file(name, Access::Read));
    let mut start = [0; 16];
    let read = file.and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"SQLite format 3\0"
}

pub(super) fn open_or_make_dir(root: &Dir, name: &str) -> Result<Dir> {
    match root.open_dir(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_dir(root, name)?;
            root.open_dir(name).doing("open", root.path_of(name))
        }
        opened => opened.doing("open", root.path_of(name)),
    }
}

fn make_dir(parent: &Dir, name: &str) -> Result<()> {
    match parent.make_dir(name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.doing("make", parent.path_of(name)),
    }
}

/// Makes an empty store, its parents with the user's usual permissions.
fn make_root(path: &Path) -> Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).doing("make", parent)?;
    let parent = Dir::open(parent).doing("open", parent)?;
    match make_own_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.doing("make", path)?,
    }
    let root = Dir::open(path).doing("open the store", path)?;
    check_owner(&root)?;
    // `sessions` last: a store that has it is whole.
    make_text(&root, ".gitignore", GITIGNORE)?;
    make_text(&root, ".gitattributes", GITATTRIBUTES)?;
    make_dir(&root, SESSIONS)?;
    let sessions = root
        .open_dir_or_own_link(SESSIONS)
        .doing("open the store", root.path_of(SESSIONS))?;
    make_text(&sessions, ".gitattributes", GITATTRIBUTES)?;
    for dir in [&sessions, &root, &parent] {
        dir.sync().doing("sync", dir.path())?;
    }
    Ok(())
}

/// Makes a small file, unless there is one.
fn make_text(dir: &Dir, name: &str, text: &str) -> Result<()> {
    match dir.create_file(name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                // A name without its text would stay so: git would merge without it.
                file.sync_data()
            })
            .doing("make", dir.path_of(name)),
    }
}
