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
mod making;
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
mod writable;

pub use dir::{Access, Dir, Doing, Trust};
pub(super) use dir::{check_owner, open_own};
pub(super) use making::open_or_make_dir;
pub(super) use sweep::sweep_temporary;
pub use whole::temporary_name;
pub(super) use whole::{put, put_new};

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use follow::FileFollower;
use layout::{DAMAGED, LOCKS, OPEN, SESSIONS};
use making::{is_database, make_root};
use writable::FileWritable;

use super::draft::{FoundDraft, Rewritten};
use super::figures::Figures;
use super::follow::Follower;
use super::fork::Fork;
use super::guard::{Guard, Taken};
use super::history::History;
use super::import::{Added, Incoming};
use super::list::Listing;
use super::models::Model;
use super::purge::Receipt;
use super::search::{Piece, Wanted};
use super::snapshot::{Events, Extent, Snapshot};
use super::verify::{Repaired, Report};
use super::{Store, Writable};
use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use crate::session::attachment::Blob;
use crate::session::event::{Key, Timestamp};
use crate::session::fold::SaidTurn;
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
        Ok(Box::new(FileWritable::of(self, patience)?))
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
