//! Where conversations live: a directory of append-only logs.
//!
//! [`Store`] reads and needs nothing but `sessions`; [`Writable`] is the store with what writing
//! takes besides (locks, drafts), made on first use. What must stay true:
//!
//! * bytes of a log, once written, are not changed by an append, so readers take no lock;
//! * a turn is acknowledged only after its own sync;
//! * a lock is held for the write, never across the model's answer and not across the sync;
//! * nothing is removed but by purge, which leaves a receipt, and by compaction, which is asked for.
//!
//! The index is a cache that [`Store::ids`] and
//! [`Store::read`] do not know of.

pub mod append;
pub mod blobs;
pub mod compact;
pub mod config;
pub mod draft;
pub mod figures;
pub mod files;
pub mod follow;
pub mod fork;
pub mod guard;
pub mod history;
pub mod import;
pub mod index;
pub mod layout;
mod lines;
pub mod lock;
pub mod log;
pub mod merge;
pub mod models;
pub mod purge;
pub mod read;
pub mod repair;
mod replace;
pub mod search;
mod sweep;
pub mod tail;
pub mod templates;
pub mod verify;

use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use append::{Appended, Writer};
use blobs::NewBlob;
use compact::Compaction;
use draft::{Draft, FoundDraft, OpenDraft, Rewritten};
use files::{Access, Dir, Doing, check_owner};
use fork::Fork;
use guard::{Guard, Taken};
use index::Listing;
use layout::{
    CACHE, DAMAGED, DIRECTORY_MODE, GITATTRIBUTES, GITIGNORE, INDEX, LOCKS, OPEN, SESSIONS,
};
use lock::{LockFile, Tenure};
use models::Model;
use purge::Receipt;
use read::{Extent, Snapshot};
use repair::Repaired;
use sweep::{sweep_temporary, sweep_trash};
use verify::{Finding, Report};

use crate::clock;
use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use crate::session::attachment::Blob;
use crate::session::event::{Body, Key, Timestamp};
use crate::session::fold::{Entry, SaidTurn, Session};
use crate::session::id::{EventId, SessionId, SessionRef};

/// Whether a turn is on disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced: it survives a loss of power.
    Full,
    /// Written: it survives the death of any process.
    Relaxed,
}

/// A store, open for reading.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    sessions: Dir,
    progress: Progress,
}

impl Store {
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

    /// Returns the store with somebody who is told how far long work on it has come.
    #[must_use]
    pub fn telling(self, progress: &Progress) -> Self {
        Self {
            progress: progress.clone(),
            ..self
        }
    }

    /// Returns who is told how far long work has come.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
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

    /// Returns the ids of all sessions, oldest first: the directories that are named by one. A
    /// directory may turn out to hold no event; then it is no session.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn ids(&self) -> Result<Vec<SessionId>> {
        ids_in(&self.sessions)
    }

    /// Finds the session a user named. A full id is not looked for in the directory.
    ///
    /// # Errors
    /// `session_not_found`; `session_ambiguous` where a fragment fits several.
    pub fn find(&self, reference: &SessionRef) -> Result<SessionId> {
        if let SessionRef::Full(id) = reference {
            return Ok(*id);
        }
        let mut found = self.ids()?;
        found.retain(|id| reference.matches(*id));
        match found[..] {
            [] => Err(not_found(reference)),
            [id] => Ok(id),
            ref some => {
                let shown: Vec<String> = some.iter().take(5).map(ToString::to_string).collect();
                let more = if some.len() > shown.len() {
                    ", …"
                } else {
                    ""
                };
                let sentence = format!("`{reference}` fits {} sessions", some.len());
                Err(Error::new(Code::SessionAmbiguous, sentence)
                    .hint(format!("give more of the id: {}{more}", shown.join(", "))))
            }
        }
    }

    /// Reads a session without a lock; `None` where there is none of that id.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, id: SessionId, extent: Extent) -> Result<Option<Snapshot>> {
        read::read(&self.sessions, id, extent)
    }

    /// Reads a blob of a session.
    ///
    /// # Errors
    /// Why it cannot be used, in words: it is gone, or its bytes are not those that were stored.
    pub fn read_blob(&self, id: SessionId, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        let session = self.sessions.open_dir(&id.to_string());
        let session = session.map_err(|cause| cause.to_string())?;
        blobs::read(&session, blob)
    }

    /// Returns every event of a session with its line, in no order; of one id there may be several.
    ///
    /// # Errors
    /// As [`Store::read`]. A session that is not there has none.
    pub fn events(&self, id: SessionId) -> Result<Vec<Entry>> {
        let name = id.to_string();
        match self.sessions.open_dir(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            opened => {
                read::events(&opened.doing("open the session", self.sessions.path_of(&name))?)
            }
        }
    }

    /// Returns the names of what compaction and repair moved aside in a session's directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn damaged_files(&self, id: SessionId) -> Result<Vec<String>> {
        let name = id.to_string();
        let dir = match self.sessions.open_dir(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.doing("open the session", self.sessions.path_of(&name))?,
        };
        let mut names = dir.names().doing("list", dir.path())?;
        names.retain(|name| name.starts_with(DAMAGED));
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the turns of a session that were asked under an idempotency key, oldest first. The
    /// whole history is read, and little of it held.
    ///
    /// # Errors
    /// When the session is there and cannot be read.
    pub fn turns_under_key(&self, id: SessionId, key: &str) -> Result<Vec<SaidTurn>> {
        read::turns_under_key(&self.sessions, id, key)
    }

    /// Reads what a fork of a session begins with: all up to a turn, or all. `app` is the program
    /// that makes it. `None` where there is no such session.
    ///
    /// # Errors
    /// `session_not_found` when it has no such turn; `store_*` when it cannot be read.
    pub fn fork(&self, parent: SessionId, at: Option<EventId>, app: &str) -> Result<Option<Fork>> {
        fork::read(&self.sessions, parent, at, app)
    }

    /// Waits, for `patience` at the longest, until no other turn of the session is under way that
    /// keeps others waiting; this one keeps them waiting then.
    ///
    /// # Errors
    /// `store_locked` after that; `store_*` where such a wait is not possible.
    pub fn take_turn(&self, id: SessionId, patience: Duration) -> Result<Guard> {
        guard::take_turn(self.guards()?, id, patience)
    }

    /// Takes an idempotency key, waiting while the same request is under way.
    ///
    /// # Errors
    /// `idempotency_conflict` when another request is under way with it; `timeout` after
    /// `patience`; `store_*` where such a wait is not possible.
    pub fn take_key(&self, id: SessionId, key: &Key, patience: Duration) -> Result<Taken> {
        guard::take_key(self.guards()?, id, key, patience)
    }

    fn guards(&self) -> Result<Dir> {
        check_owner(&self.root)?;
        open_or_make_dir(&self.root, LOCKS)
    }

    /// Returns the bytes of all files of a session.
    #[must_use]
    pub fn bytes_of(&self, id: SessionId) -> u64 {
        purge::bytes_below(&self.sessions.path_of(id.to_string()))
    }

    /// Reads every log of the sessions that are named, or with `None` the whole store, and tells
    /// what is not as it should be.
    ///
    /// # Errors
    /// When the directory of sessions cannot be listed. Whatever else cannot be read is told.
    pub fn verify(&self, named: Option<&[SessionId]>, now: Timestamp) -> Result<Report> {
        verify::verify(self, named, now)
    }

    /// Gives what a finding is about the permissions it should have. For this a store need not be
    /// fit for writing.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_right_mode(&self, finding: &Finding) -> Result<Repaired> {
        repair::set_right_mode(self, finding)
    }

    /// Tells whether there is anything under a session's name, of whatever kind.
    ///
    /// # Errors
    /// As the system says.
    pub fn has_name(&self, id: SessionId) -> Result<bool> {
        let name = id.to_string();
        match self.sessions.stat(&name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            found => found
                .map(|_| true)
                .doing("look at", self.sessions.path_of(&name)),
        }
    }

    /// Lists all sessions, reading those that changed since the index was written.
    ///
    /// # Errors
    /// When the directory of sessions cannot be listed. A session that cannot be read is part of
    /// the listing.
    pub fn list(&self) -> Result<Listing> {
        index::list(self)
    }

    /// Makes the index anew and lists all sessions. Returns the size of the index besides.
    ///
    /// # Errors
    /// As [`Store::list`]; `store_*` when the index cannot be written.
    pub fn reindex(&self) -> Result<(Listing, u64)> {
        index::rebuild(self)
    }

    /// Opens what writing needs, making it when missing. `patience` is the longest wait for a
    /// lock.
    ///
    /// # Errors
    /// `store_readonly` and its like; `store_unsupported` where the store belongs to another user
    /// or others may write to it.
    pub fn for_writing(&self, patience: Duration) -> Result<Writable<'_>> {
        check_owner(&self.root)?;
        check_owner(&self.sessions)?;
        Ok(Writable {
            store: self,
            patience,
            locks: open_or_make_dir(&self.root, LOCKS)?,
            open: open_or_make_dir(&self.root, OPEN)?,
        })
    }

    /// Returns what is remembered of a model on a server.
    #[must_use]
    pub fn model(&self, host: &str, model: &str) -> Option<Model> {
        models::recall(&self.root, host, model)
    }

    /// Remembers a model on a server. Where that cannot be written it is asked for again.
    pub fn remember_model(&self, host: &str, model: &str, known: Model) {
        let _ = models::remember(&self.root, host, model, known);
    }

    /// Puts other texts in the place of those of a draft that `cover` has one for, or finds out
    /// whether it has.
    ///
    /// # Errors
    /// As the system says.
    pub fn rewrite_draft(
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

    /// Returns every draft, oldest first.
    ///
    /// # Errors
    /// When the directory is there and cannot be listed.
    pub fn drafts(&self) -> Result<Vec<FoundDraft>> {
        match self.root.open_dir(OPEN) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            opened => draft::list(&opened.doing("open", self.root.path_of(OPEN))?),
        }
    }
}

/// A store, open for writing.
#[derive(Debug)]
pub struct Writable<'a> {
    store: &'a Store,
    patience: Duration,
    locks: Dir,
    open: Dir,
}

impl Writable<'_> {
    /// Gets a session ready to be appended to.
    ///
    /// # Errors
    /// When its lock or its log cannot be written.
    pub fn writer(&self, id: SessionId) -> Result<Writer<'_>> {
        Writer::prepare(&self.store.sessions, &self.locks, self.patience, id)
    }

    /// Makes a session whose id nobody else knows yet.
    ///
    /// # Errors
    /// `store_*`; nothing is left of it then, unless only the sync failed.
    pub fn create(
        &self,
        id: SessionId,
        durability: Durability,
        bodies: Vec<Body>,
    ) -> Result<Appended> {
        self.create_with(id, durability, bodies, &[])
    }

    /// Makes a session whose events name blobs: those are on disk first.
    ///
    /// # Errors
    /// As [`Writable::create`].
    pub fn create_with(
        &self,
        id: SessionId,
        durability: Durability,
        bodies: Vec<Body>,
        blobs: &[NewBlob],
    ) -> Result<Appended> {
        append::create(&self.store.sessions, id, durability, bodies, blobs)
    }

    /// Makes a session that begins with the history of another.
    ///
    /// # Errors
    /// `store_*`; nothing is left of it then, unless only the last sync failed.
    pub fn create_fork(
        &self,
        id: SessionId,
        fork: &Fork,
        durability: Durability,
        bodies: Vec<Body>,
        blobs: &[NewBlob],
    ) -> Result<Appended> {
        fork::create(&self.store.sessions, id, fork, durability, bodies, blobs)
    }

    /// Takes over the draft of a turn that failed or was killed. `None` where it is under way or
    /// gone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take_over_draft(&self, id: EventId) -> Result<Option<OpenDraft<'_>>> {
        OpenDraft::take_over(&self.open, id)
    }

    /// Writes a draft and holds it for as long as the value lives.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn draft(&self, draft: Draft) -> Result<OpenDraft<'_>> {
        OpenDraft::create(&self.open, draft)
    }

    /// Removes what killed processes left under temporary names.
    pub fn sweep(&self) {
        let Store { root, sessions, .. } = self.store;
        let now = clock::now();
        [root, sessions, &self.open]
            .iter()
            .for_each(|dir| sweep_temporary(dir, now));
        sweep_trash(sessions);
        guard::sweep(&self.locks);
    }

    /// Begins to be the only process that does something called `name` in this store.
    ///
    /// # Errors
    /// `store_locked` where another does, with what that says of itself; as the system says.
    pub fn tenure(&self, name: &'static str, who: &str) -> Result<Tenure> {
        Tenure::begin(&self.locks, name, who)
    }

    /// Tells whether a tenure is of this store, and not of one that was here before.
    #[must_use]
    pub fn is_tenure_of_this(&self, tenure: &Tenure) -> bool {
        tenure.is_of(&self.locks)
    }

    /// Removes a draft that was found.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_draft(&self, id: EventId) -> Result<()> {
        draft::remove(&self.open, id)
    }

    /// Removes the index: it has titles and tags, and one of them is to be seen no more.
    ///
    /// # Errors
    /// As the system says; that there is none is no error.
    pub fn forget_index(&self) -> Result<()> {
        let removed = match self.store.root.open_dir(CACHE) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.and_then(|cache| cache.remove_file(INDEX)),
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.doing("remove the index in", self.store.root.path_of(CACHE)),
        }
    }

    /// Removes what compaction and repair moved aside in a session's directory. Returns the names.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_damaged(&self, id: SessionId) -> Result<Vec<String>> {
        let names = self.store.damaged_files(id)?;
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

    /// Adds what another copy of the store has more; sessions that were purged here only if
    /// `include_purged` says so.
    ///
    /// # Errors
    /// `store_*` when something cannot be written here. What could not be read is part of the
    /// result.
    pub fn merge(
        &self,
        copy: &merge::Copy,
        include_purged: bool,
        durability: Durability,
    ) -> Result<merge::Merged> {
        merge::merge(self, copy, include_purged, durability)
    }

    /// Repairs the logs of a session, or what stands in the place of its directory.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait. What was repaired until then stays so.
    pub fn repair(&self, id: SessionId) -> Result<Vec<Repaired>> {
        let sessions = &self.store.sessions;
        let held = LockFile::open(&self.locks, id)?.lock(&self.locks, self.patience)?;
        let name = id.to_string();
        let is_dir = |stat: rustix::fs::Stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
        };
        if sessions.stat(&name).is_ok_and(|stat| !is_dir(stat)) {
            return Ok(vec![repair::session_name(sessions, id, &held)?]);
        }
        repair::session(sessions, id, &held)
    }

    /// Repairs the receipts, with every session locked.
    ///
    /// # Errors
    /// As [`Writable::repair`].
    pub fn repair_receipts(&self) -> Result<Vec<Repaired>> {
        let lock =
            |stripe| LockFile::of_stripe(&self.locks, stripe)?.lock(&self.locks, self.patience);
        let held = (0..=u8::MAX).map(lock).collect::<Result<Vec<_>>>()?;
        repair::receipts(&self.store.root, &held)
    }

    /// Rewrites a session's logs as one, without duplicates, damage and what was redacted; with
    /// `drop_pruned` also without the turns that are not sent any more.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait. The session is as it was then.
    pub fn compact(&self, id: SessionId, drop_pruned: bool) -> Result<Compaction> {
        let lock = LockFile::open(&self.locks, id)?.lock(&self.locks, self.patience)?;
        compact::compact(&self.store.sessions, id, drop_pruned, &lock)
    }

    /// Purges a session if `goes` says so of it, seen under its lock.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait.
    pub fn purge(
        &self,
        id: SessionId,
        why: &str,
        goes: impl FnOnce(&Session) -> bool,
    ) -> Result<Option<Receipt>> {
        let Store { root, sessions, .. } = self.store;
        let lock = LockFile::open(&self.locks, id)?.lock(&self.locks, self.patience)?;
        purge::purge(root, sessions, id, why, lock, goes)
    }
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

/// Returns the error for an id that names nothing.
pub fn not_found(reference: impl std::fmt::Display) -> Error {
    let reference = reference.to_string();
    let error = Error::new(
        Code::SessionNotFound,
        format!("Session not found: {reference}"),
    )
    .hint("ollama-prompt --list-sessions shows the ones there are");
    match reference.parse::<SessionId>() {
        Ok(id) => error.session(id),
        Err(_) => error,
    }
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

fn open_or_make_dir(root: &Dir, name: &str) -> Result<Dir> {
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
    match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
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
