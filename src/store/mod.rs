//! Where conversations live: what a store is, whoever keeps it.
//!
//! [`Store`] reads, [`Writable`] is a store with what writing takes besides. They speak of sessions,
//! events and drafts and know no path, lock, sequence number or socket; [`files`] is the store of a
//! directory of append-only logs. Commands know these two and [`open`], which knows who implements
//! them. What must stay true of every store:
//!
//! * an event that is there is not changed by an append, and a session is the fold over all of them;
//! * a turn is acknowledged only when it is there to stay;
//! * turns that are taken at once are all kept, and each is told of those that came in before it;
//! * nobody waits for another process's model who did not ask for it;
//! * nothing is removed but by purge, which leaves a receipt, and by compaction, which is asked for.
//!
//! A store answers most of what it is asked by [`Store::events`]; whatever can be answered from
//! these has a provided method that does, for a store to do better where it can. Folding, deciding
//! what to append, what a fork begins with, what an import adds: that is the same in every store, and
//! here ([`append`], [`fork`], [`import`], [`history`]).
//!
//! `config.toml` and templates are files of the home directory, whatever keeps the sessions.

pub mod append;
pub mod blobs;
pub mod compact;
pub mod config;
pub mod draft;
pub mod figures;
pub mod files;
pub mod follow;
pub mod fork;
mod from_events;
pub mod guard;
pub mod history;
pub mod import;
pub mod list;
pub mod merge;
pub mod models;
#[cfg(feature = "mongodb")]
pub mod mongo;
mod open;
pub mod purge;
pub mod search;
pub mod snapshot;
pub mod templates;
pub mod uri;
pub mod verify;

pub use open::{Location, follow, open, open_or_make};
pub use uri::Uri;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use append::{Appended, Writer};
use blobs::NewBlob;
use compact::Compaction;
use draft::{Draft, FoundDraft, OpenDraft, Rewritten};
use figures::Figures;
use follow::Follower;
use fork::Fork;
use guard::{Guard, Taken};
use history::History;
use import::{Added, Incoming};
use list::Listing;
use merge::Merged;
use models::Model;
use purge::Receipt;
use search::{Piece, Wanted};
use snapshot::{Events, Extent, Snapshot};
use verify::{Repaired, Report};

use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use crate::session::attachment::Blob;
use crate::session::event::{Body, Key, Timestamp};
use crate::session::fold::{SaidTurn, Session, fold};
use crate::session::id::{EventId, SessionId, SessionRef};

/// Whether a turn is on disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Synced: it survives a loss of power.
    Full,
    /// Written: it survives the death of any process.
    Relaxed,
}

/// A session that is to be made.
#[derive(Debug)]
pub struct New<'a> {
    /// Its id, which nobody else knows yet.
    pub id: SessionId,
    /// The history it begins with.
    pub begins_with: Option<&'a Fork>,
    /// Its first events, or those after that history.
    pub bodies: Vec<Body>,
    /// What they name.
    pub blobs: &'a [NewBlob],
    /// Whether it is on disk before it is acknowledged.
    pub durability: Durability,
}

/// A store, open for reading.
pub trait Store: fmt::Debug {
    /// Names somebody who is told how far long work on the store has come.
    fn telling(&mut self, progress: &Progress);

    /// Returns who is told.
    fn progress(&self) -> &Progress;

    /// Returns the ids of all sessions, oldest first. One of them may turn out to have no event;
    /// then it is no session.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn ids(&self) -> Result<Vec<SessionId>>;

    /// Returns every event of a session with its line, in no order; of one id there may be several.
    ///
    /// # Errors
    /// When it is there and cannot be read. A session that is not there has none.
    fn events(&self, id: SessionId) -> Result<Events>;

    /// Returns the names of the blobs of a session, sorted.
    ///
    /// # Errors
    /// When they cannot be listed. A session that is not there has none.
    fn blobs(&self, id: SessionId) -> Result<Vec<String>>;

    /// Reads a blob of a session.
    ///
    /// # Errors
    /// Why it cannot be used, in words: it is gone, or its bytes are not those that were stored
    /// ([`blobs::sound`]).
    fn read_blob(&self, id: SessionId, blob: &Blob) -> std::result::Result<Vec<u8>, String>;

    /// Returns every draft, oldest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn drafts(&self) -> Result<Vec<FoundDraft>>;

    /// Puts other texts in the place of those of a draft that `cover` has one for, or finds out
    /// whether it has ([`draft::cover_draft`]). For finding out, the store need not be fit for
    /// writing.
    ///
    /// # Errors
    /// `store_*`; the draft is as it was then.
    fn rewrite_draft(
        &self,
        id: EventId,
        dry_run: bool,
        cover: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Rewritten>;

    /// Returns the receipts of what was purged here.
    ///
    /// # Errors
    /// When they cannot be read.
    fn receipts(&self) -> Result<Vec<Receipt>>;

    /// Returns what is remembered of a model on a server.
    fn model(&self, host: &str, model: &str) -> Option<Model>;

    /// Remembers a model on a server. Where that cannot be stored it is asked for again.
    fn remember_model(&self, host: &str, model: &str, known: Model);

    /// Waits, for `patience` at the longest, until no other turn of the session is under way that
    /// keeps others waiting; this one keeps them waiting then. The session need not be there.
    ///
    /// # Errors
    /// `store_locked` after that ([`guard::turn_took_too_long`]); `store_*` where such a wait is not
    /// possible.
    fn take_turn(&self, id: SessionId, patience: Duration) -> Result<Guard>;

    /// Takes an idempotency key, waiting while the same request is under way. The session need not
    /// be there.
    ///
    /// # Errors
    /// `idempotency_conflict` when another request is under way with it ([`guard::conflict`]);
    /// `timeout` after `patience` ([`guard::key_took_too_long`]); `store_*` where such a wait is not
    /// possible.
    fn take_key(&self, id: SessionId, key: &Key, patience: Duration) -> Result<Taken>;

    /// Opens what writing needs, making it when missing. `patience` is the longest wait for
    /// another process's write.
    ///
    /// # Errors
    /// `store_readonly` and its like: what can be refused is refused here.
    fn for_writing(&self, patience: Duration) -> Result<Box<dyn Writable + '_>>;

    /// Finds the session a user named. A full id is not looked for.
    ///
    /// # Errors
    /// `session_not_found`; `session_ambiguous` where a fragment fits several.
    fn find(&self, reference: &SessionRef) -> Result<SessionId> {
        match reference {
            SessionRef::Full(id) => Ok(*id),
            fragment => only_one(fragment, self.ids()?),
        }
    }

    /// Tells whether there is anything under a session's name, of whatever kind.
    ///
    /// # Errors
    /// As [`Store::events`].
    fn has_name(&self, id: SessionId) -> Result<bool> {
        let events = self.events(id)?;
        Ok(!events.entries.is_empty() || !events.damage.is_empty())
    }

    /// Tells whether there is no session.
    ///
    /// # Errors
    /// As [`Store::ids`].
    fn is_empty(&self) -> Result<bool> {
        Ok(self.ids()?.is_empty())
    }

    /// Reads a session; `None` where there is none of that id.
    ///
    /// # Errors
    /// As [`Store::events`].
    fn read(&self, id: SessionId, extent: Extent) -> Result<Option<Snapshot>> {
        Ok(self.events(id)?.fold(extent))
    }

    /// Returns the turns of a session that were asked under an idempotency key, oldest first, what
    /// is hidden of them left out. Whatever is not in the context is looked through as well.
    ///
    /// # Errors
    /// As [`Store::events`].
    fn turns_under_key(&self, id: SessionId, key: &str) -> Result<Vec<SaidTurn>> {
        let session = fold(self.events(id)?.entries);
        Ok(session.under_key(key).cloned().collect())
    }

    /// Opens the history of a session as it is now; what is appended later is not in it. `None`
    /// where there is no such session.
    ///
    /// # Errors
    /// As [`Store::events`].
    fn history(&self, id: SessionId) -> Result<Option<History<'_>>> {
        let Events { entries, damage } = self.events(id)?;
        let lines = from_events::Held::of(self, id, entries);
        History::of(id, Box::new(lines), damage.len())
    }

    /// Reads what a fork of a session begins with: all up to a turn, or all. `app` is the program
    /// that makes it. `None` where there is no such session.
    ///
    /// # Errors
    /// `session_not_found` when it has no such turn; otherwise as [`Store::events`].
    fn fork(&self, parent: SessionId, at: Option<EventId>, app: &str) -> Result<Option<Fork>> {
        let entries = self.events(parent)?.entries;
        Fork::of(parent, at, app, entries, self.blobs(parent)?)
    }

    /// Returns how many bytes a session takes.
    fn bytes_of(&self, id: SessionId) -> u64 {
        self.events(id)
            .map_or(0, |events| from_events::bytes(&events.entries))
    }

    /// Returns names for what compaction and repair moved aside of a session: nothing finds what
    /// was said in it, and a redaction does not reach it.
    ///
    /// # Errors
    /// `store_*`.
    fn moved_aside(&self, _: SessionId) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Lists all sessions.
    ///
    /// # Errors
    /// When it cannot be said which there are. A session that cannot be read is part of the
    /// listing.
    fn list(&self) -> Result<Listing> {
        from_events::list(self)
    }

    /// Makes anew what the store remembers for the sake of the list, and lists all sessions.
    /// Returns how many bytes it remembers besides.
    ///
    /// # Errors
    /// As [`Store::list`]; `store_*` when it cannot be written.
    fn reindex(&self) -> Result<(Listing, u64)> {
        Ok((self.list()?, 0))
    }

    /// Searches sessions and hands over what is found, in their order and in that of their events,
    /// until `take` says to stop. The last piece of each session is [`Piece::Done`].
    fn search(
        &self,
        ids: &[SessionId],
        wanted: &Wanted<'_>,
        take: &mut dyn FnMut(Piece) -> ControlFlow<()>,
    ) {
        let mut ids = ids.iter();
        let _ = ids.try_for_each(|id| from_events::search(*id, self.events(*id), wanted, take));
    }

    /// Reads the figures of sessions and hands them over, in any order, until `take` says to stop.
    fn figures(
        &self,
        ids: &[SessionId],
        take: &mut dyn FnMut(SessionId, Result<Figures>) -> ControlFlow<()>,
    ) {
        let steps = self.progress().begin("reading sessions", ids.len());
        for id in ids {
            steps.step();
            if take(*id, self.events(*id).map(from_events::figures)).is_break() {
                return;
            }
        }
    }

    /// Reads everything of the sessions that are named, or with `None` of the whole store, and
    /// tells what is not as it should be.
    ///
    /// # Errors
    /// When it cannot be said which sessions there are. Whatever else cannot be read is told.
    fn verify(&self, named: Option<&[SessionId]>, now: Timestamp) -> Result<Report> {
        from_events::verify(self, named, now)
    }

    /// Puts right what a report tells, as far as that can be done, and adds what was put right to
    /// `repaired`. Nothing is discarded. A store that has nothing of its own to put right leaves
    /// this as it is.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after `patience`. What was repaired until then stays so.
    fn repair(
        &self,
        _named: Option<&[SessionId]>,
        _report: Report,
        _patience: Duration,
        _repaired: &mut Vec<Repaired>,
    ) -> Result<()> {
        Ok(())
    }

    /// Tells what [`Writable::add`] would do.
    ///
    /// # Errors
    /// As [`Store::events`]; `store_unsupported` where a newer program wrote to the session.
    fn would_add(&self, id: SessionId, incoming: Incoming<'_>) -> Result<Added> {
        let events = self.events(id)?;
        let missing = import::missing(id, incoming, |visit| {
            let here = events.entries.iter();
            here.for_each(|entry| visit(&entry.event, &entry.raw));
            Ok(())
        });
        Ok(missing?.added)
    }

    /// Follows the store from now on: one session of it, or all. What is there already is told
    /// only `from_start`.
    ///
    /// # Errors
    /// When it cannot be said which sessions there are.
    fn follow(
        self: Box<Self>,
        only: Option<SessionId>,
        from_start: bool,
    ) -> Result<Box<dyn Follower>>
    where
        Self: 'static,
    {
        Ok(Box::new(follow::Reading::new(self, only, from_start)?))
    }
}

/// A store, open for writing.
pub trait Writable: fmt::Debug {
    /// Returns the store.
    fn store(&self) -> &dyn Store;

    /// Gets a session ready to be appended to, which need not be there.
    ///
    /// # Errors
    /// When it cannot be written.
    fn writer(&self, id: SessionId) -> Result<Writer<'_>>;

    /// Makes a session. No crash leaves a part of it behind.
    ///
    /// # Errors
    /// `session_exists` ([`append::session_exists`]); `store_*`, and nothing is left of it then,
    /// unless it is only not certain that it is on disk.
    fn create(&self, new: New<'_>) -> Result<Appended>;

    /// Stores a draft and holds it for as long as the value lives.
    ///
    /// # Errors
    /// `store_*`.
    fn draft(&self, draft: Draft) -> Result<OpenDraft<'_>>;

    /// Takes over the draft of a turn that failed or was killed. `None` where it is under way or
    /// gone.
    ///
    /// # Errors
    /// When it cannot be read.
    fn take_over_draft(&self, id: EventId) -> Result<Option<OpenDraft<'_>>>;

    /// Removes a draft that was found. One that is gone already is no error.
    ///
    /// # Errors
    /// `store_*`.
    fn remove_draft(&self, id: EventId) -> Result<()>;

    /// Adds to a session what it has not ([`import::missing`]), and makes it where it is not there.
    /// One that was purged here stays out ([`Added::is_purged`]), also when that was but a moment
    /// ago, unless `include_purged` says otherwise. It may be on disk only after
    /// [`Writable::sync_added`].
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait.
    fn add(&self, id: SessionId, incoming: Incoming<'_>, include_purged: bool) -> Result<Added>;

    /// Makes sure that what was added to these sessions outlives a loss of power.
    ///
    /// # Errors
    /// When it may not be on disk.
    fn sync_added(&self, _: &BTreeSet<SessionId>) -> Result<()> {
        Ok(())
    }

    /// Adds receipts of what was purged elsewhere.
    ///
    /// # Errors
    /// `store_*`.
    fn note_receipts(&self, receipts: &[Receipt]) -> Result<()>;

    /// Adds what another copy of the store has more; sessions that were purged here only if
    /// `include_purged` says so.
    ///
    /// # Errors
    /// `store_*` when something cannot be written here. What could not be read is part of the
    /// result.
    fn merge(
        &self,
        copy: &merge::Copy,
        include_purged: bool,
        durability: Durability,
    ) -> Result<Merged> {
        merge::by_adding(self, copy, include_purged, durability)
    }

    /// Takes off the disk of a session what nobody can miss: duplicates, damage and what was
    /// redacted; with `drop_pruned` also the turns that are not sent any more.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait. The session is as it was then.
    fn compact(&self, id: SessionId, drop_pruned: bool) -> Result<Compaction>;

    /// Purges a session if `goes` says so of it as it is at that moment; leaves a receipt
    /// ([`Receipt::of`]), and nothing that a writer who read the session before could go on with.
    /// `None` where it is gone or was used meanwhile.
    ///
    /// # Errors
    /// `store_*`; `store_locked` after the longest wait.
    fn purge(
        &self,
        id: SessionId,
        why: &str,
        goes: &dyn Fn(&Session) -> bool,
    ) -> Result<Option<Receipt>>;

    /// Keeps every other process from doing something called `name` in this store, for as long as the
    /// value lives. `held` is what an earlier call returned: where it still holds in this store it
    /// is given back. `who` is what others are told of this process.
    ///
    /// # Errors
    /// `store_locked` where another does, with what that says of itself; `store_*`.
    fn tenure(&self, name: &'static str, who: &str, held: Option<Tenure>) -> Result<Tenure>;

    /// Removes what killed processes left behind and nobody reads.
    fn sweep(&self) {}

    /// Forgets what the store remembers for the sake of the list: it has titles and tags, and one
    /// of them is to be seen no more.
    ///
    /// # Errors
    /// `store_*`; that there is nothing is no error.
    fn forget_index(&self) -> Result<()> {
        Ok(())
    }

    /// Removes what compaction and repair moved aside of a session ([`Store::moved_aside`]).
    /// Returns the names.
    ///
    /// # Errors
    /// `store_*`.
    fn remove_moved_aside(&self, _: SessionId) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Makes its holder the only process that does something in a store, for as long as it lives. Only
/// the store looks into it.
#[derive(Debug)]
pub struct Tenure(Box<dyn std::any::Any>);

impl Tenure {
    /// Wraps what a store holds: when it is dropped, another may begin.
    pub fn new(held: impl std::any::Any) -> Self {
        Self(Box::new(held))
    }

    /// Returns what the store holds, if it is of this kind.
    #[must_use]
    pub fn held<T: std::any::Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// Returns the one session that a fragment of an id fits.
fn only_one(fragment: &SessionRef, mut ids: Vec<SessionId>) -> Result<SessionId> {
    ids.retain(|id| fragment.matches(*id));
    match ids[..] {
        [] => Err(not_found(fragment)),
        [id] => Ok(id),
        ref some => {
            let shown: Vec<String> = some.iter().take(5).map(ToString::to_string).collect();
            let more = if some.len() > shown.len() {
                ", …"
            } else {
                ""
            };
            let sentence = format!("`{fragment}` fits {} sessions", some.len());
            Err(Error::new(Code::SessionAmbiguous, sentence)
                .hint(format!("give more of the id: {}{more}", shown.join(", "))))
        }
    }
}

/// The error of a turn that is not in a session.
#[must_use]
pub fn no_turn(turn: EventId, session: SessionId) -> Error {
    Error::new(
        Code::SessionNotFound,
        format!("the session has no turn {turn}"),
    )
    .hint("session show lists the turns there are")
    .session(session)
}

/// Returns the error for an id that names nothing.
pub fn not_found(reference: impl fmt::Display) -> Error {
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
