//! Which session a turn belongs to, and what it was when the turn began.

use crate::cli::Memory;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::event::{APP, Timestamp};
use crate::session::id::{EventId, SessionId, SessionRef};
use crate::store::fork::Fork;
use crate::store::snapshot::{Extent, Snapshot};
use crate::store::{self, Location, Store, not_found};

/// How many sessions are named where it is not clear which one is meant.
const CANDIDATES: usize = 5;

/// A session as it was found, or is to be made. Nothing is made by looking.
#[derive(Debug)]
pub(super) struct Place {
    /// The store, if there is one.
    pub(super) store: Option<Box<dyn Store>>,
    pub(super) id: SessionId,
    pub(super) origin: Origin,
    pub(super) snapshot: Snapshot,
}

/// Where the session comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// It is made with this turn, and nobody else can know its id.
    Fresh,
    /// The same, and it begins with the history of another.
    Forked(Box<Fork>),
    /// It must be there.
    There,
    /// It is made with this turn if it is not there.
    ThereOrNot,
}

impl Place {
    /// Finds the session `memory` names in the store at `location`. It is not read yet.
    ///
    /// # Errors
    /// `session_not_found`, `session_ambiguous`; `store_*` when it is there and cannot be read.
    pub(super) fn find(memory: &Memory, location: &Location) -> Result<Self> {
        let store = store::open(location)?;
        let (id, origin) = match (memory, &store) {
            (Memory::None | Memory::New, _) => (new_id(), Origin::Fresh),
            (Memory::ContinueOrCreate(id), _) => (*id, Origin::ThereOrNot),
            (Memory::Continue(reference), Some(store)) => (store.find(reference)?, Origin::There),
            (Memory::Continue(reference), None) => return Err(not_found(reference)),
            (Memory::Latest, Some(store)) => (latest(&**store)?, Origin::There),
            (Memory::Latest, None) => return Err(nothing_to_continue()),
            (Memory::Fork { parent, turn }, Some(store)) => {
                let fork = fork(&**store, parent, *turn)?;
                (new_id(), Origin::Forked(Box::new(fork)))
            }
            (Memory::Fork { parent, .. }, None) => return Err(not_found(parent)),
        };
        Ok(Self {
            store,
            id,
            origin,
            snapshot: Snapshot::default(),
        })
    }

    /// Tells whether nobody else can know the session.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.origin, Origin::Fresh | Origin::Forked(_))
    }

    /// Returns the session in whose directory the images of earlier turns are.
    pub(super) fn blobs_of(&self) -> SessionId {
        match &self.origin {
            Origin::Forked(fork) => fork.from.session,
            Origin::Fresh | Origin::There | Origin::ThereOrNot => self.id,
        }
    }

    /// Reads what the context needs.
    ///
    /// # Errors
    /// `session_not_found`; `store_*` when it is there and cannot be read.
    pub(super) fn read(&mut self) -> Result<()> {
        if let Origin::Forked(fork) = &self.origin {
            self.snapshot.session = fork.session.clone();
        }
        if self.is_new() {
            return Ok(());
        }
        let found = self.store.as_ref();
        let found = found.map(|store| store.read(self.id, Extent::Context));
        self.snapshot = match (found.transpose()?.flatten(), &self.origin) {
            (Some(snapshot), _) => snapshot,
            (None, Origin::There) => return Err(not_found(self.id)),
            (None, _) => Snapshot::default(),
        };
        Ok(())
    }

    /// Reads the whole history, where only the context was read.
    ///
    /// # Errors
    /// `store_*` when it cannot be read.
    pub(super) fn read_history(&mut self) -> Result<()> {
        if !self.is_new()
            && let Some(store) = &self.store
            && let Some(snapshot) = store.read(self.id, Extent::History)?
        {
            self.snapshot = snapshot;
        }
        Ok(())
    }

    /// Returns the store, making it when missing.
    ///
    /// # Errors
    /// `store_*` when it cannot be made.
    pub(super) fn open_or_make(&mut self, location: &Location) -> Result<&dyn Store> {
        let store = match self.store.take() {
            Some(store) => store,
            None => store::open_or_make(location)?,
        };
        Ok(&**self.store.insert(store))
    }
}

/// Reads what a fork begins with.
///
/// # Errors
/// `session_not_found` for a session or turn that is not there; `store_*`.
pub(super) fn fork(store: &dyn Store, parent: &SessionRef, turn: Option<EventId>) -> Result<Fork> {
    let id = store.find(parent)?;
    let fork = store
        .fork(id, turn, APP)
        .map_err(|error| error.session(id))?;
    fork.ok_or_else(|| not_found(parent).session(id))
}

/// Returns an id nobody has.
pub(super) fn new_id() -> SessionId {
    SessionId::from_parts(clock::now().as_ms(), clock::random_bits())
}

fn nothing_to_continue() -> Error {
    Error::new(Code::SessionNotFound, "there is no session to continue")
        .hint("leave out --continue: the first prompt makes a session")
}

/// Returns the session used last, unless another process is using it: then "the last" may mean
/// that one or the one before, and this is not the place to guess. A session that cannot be read
/// is passed over: the list says why.
fn latest(store: &dyn Store) -> Result<SessionId> {
    let read = store.ids()?.into_iter().filter_map(|id| {
        let snapshot = store.read(id, Extent::Context).ok()??;
        Some((snapshot.session.last_used(), id))
    });
    let mut by_use: Vec<(Option<Timestamp>, SessionId)> = read.collect();
    by_use.sort_unstable_by(|a, b| b.cmp(a));
    let (_, newest) = *by_use.first().ok_or_else(nothing_to_continue)?;
    let is_under_way = store.drafts()?.iter().any(|found| {
        let session = found.draft.as_ref().map(|draft| draft.session);
        found.under_way && session == Some(newest)
    });
    if !is_under_way {
        return Ok(newest);
    }
    let candidates = by_use.iter().take(CANDIDATES).map(|(used, id)| {
        let used = used.map_or_else(String::new, |used| format!(" (last turn {used})"));
        format!("{id}{used}")
    });
    let candidates: Vec<String> = candidates.collect();
    let sentence = format!("it is not clear which session --continue means: {newest} is in use");
    Err(Error::new(Code::SessionAmbiguous, sentence)
        .because("another process has a turn of it under way")
        .hint(format!(
            "name one with --session-id: {}",
            candidates.join(", ")
        ))
        .session(newest))
}
