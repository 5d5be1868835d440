//! Appending: the one way anything gets into a session that is there.
//!
//! Whoever stores a turn decides what to write knowing what others stored meanwhile. That is the
//! same in every store, so it is here: what is new since the session was read is folded in, a
//! session a newer program wrote to is refused, the caller decides. How others are kept out until
//! the events are written is the store's ([`Appending`]): a lock, or an attempt that fails when
//! somebody was faster, after which the caller decides again.

use std::fmt;

use super::Durability;
use super::blobs::NewBlob;
use super::snapshot::Snapshot;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::event::{Body, Event, VERSION};
use crate::session::fold::{Entry, Session};
use crate::session::id::{EventId, SessionId};

/// The longest event, as a line: longer ones are refused before they are written, and are damage
/// to whoever reads.
pub const LONGEST_LINE: u64 = 64 << 20;

/// What an append did.
#[derive(Debug)]
pub struct Appended {
    /// The ids of the events, in the order they were given.
    pub ids: Vec<EventId>,
    /// Whether others were kept out; they cannot be where a mount has no locks.
    pub locked: bool,
}

/// What became of an attempt to write.
#[derive(Debug)]
pub enum Written {
    /// The events are in the session, and on disk if that was asked for.
    Done(Appended),
    /// Somebody was faster; nothing was written. These are the events again.
    Overtaken(Vec<Body>),
}

/// A session that its store has ready to be appended to. Used by [`Writer`] only, in this order:
/// `catch_up`, perhaps `events`, `write`; and once more from the beginning after
/// [`Written::Overtaken`].
pub trait Appending: fmt::Debug {
    /// Returns the session as it is now, going on from what was read of it, and from here until
    /// `write` sees to it that no event comes in between unnoticed. The blobs, which the events to
    /// come will name, are in the store when this returns.
    ///
    /// A session the snapshot found empty is made if it is still not there. One that is gone since
    /// was purged, and stays so ([`purged_meanwhile`]).
    ///
    /// # Errors
    /// `store_locked` after the longest wait; `store_*`.
    fn catch_up(
        &mut self,
        snapshot: Snapshot,
        blobs: &[NewBlob],
        durability: Durability,
    ) -> Result<Snapshot>;

    /// Returns every event of the session as `catch_up` found it.
    ///
    /// # Errors
    /// As [`super::Store::events`].
    fn events(&self) -> Result<Vec<Entry>>;

    /// Writes these events ([`number`] gives them their ids), all of them or none.
    ///
    /// # Errors
    /// `store_*` when the write fails, and then the session is as it was; `store_io` when it is
    /// only not certain that they are on disk.
    fn write(&mut self, bodies: Vec<Body>, durability: Durability) -> Result<Written>;
}

/// A session that is ready to be appended to: what can be refused was refused.
#[derive(Debug)]
pub struct Writer<'a> {
    id: SessionId,
    blobs: &'a [NewBlob],
    session: Box<dyn Appending + 'a>,
}

/// What a session is by the time something is appended to it.
#[derive(Debug)]
pub struct Found<'a> {
    /// The session, everything that was appended by now included.
    pub session: &'a Session,
    /// Turns that were appended since the snapshot was taken.
    pub concurrent: Vec<EventId>,
    /// Whether events are not where they were written: the horizon is to be stated anew.
    pub is_shuffled: bool,
    /// What was decided the last time, if somebody was faster since; else nothing. Who gave away
    /// something of value finds it here.
    pub overtaken: Vec<Body>,
    appending: &'a dyn Appending,
}

impl Found<'_> {
    /// Returns every event of the session with its line, as [`super::Store::events`].
    ///
    /// # Errors
    /// As that.
    pub fn events(&self) -> Result<Vec<Entry>> {
        self.appending.events()
    }
}

impl<'a> Writer<'a> {
    /// Wraps what a store has ready.
    #[must_use]
    pub fn new(id: SessionId, session: Box<dyn Appending + 'a>) -> Self {
        Self {
            id,
            blobs: &[],
            session,
        }
    }

    /// Adds blobs that the events will name: they are in the store before those are.
    #[must_use]
    pub fn with_blobs(mut self, blobs: &'a [NewBlob]) -> Self {
        self.blobs = blobs;
        self
    }

    /// Appends the events `decide` returns; where that is none, nothing is written. It is asked
    /// again where somebody else was faster. A session the snapshot found empty is made if it is
    /// still not there; one that is gone since was purged, and stays so.
    ///
    /// # Errors
    /// Whatever `decide` refuses; `store_unsupported` where a newer program wrote; the store's, as
    /// [`Appending`] has them.
    pub fn append(
        self,
        snapshot: Snapshot,
        durability: Durability,
        mut decide: impl FnMut(Found<'_>) -> Result<Vec<Body>>,
    ) -> Result<Appended> {
        let Self {
            id,
            blobs,
            session: mut appending,
        } = self;
        let seen: Vec<EventId> = snapshot.session.turns.iter().map(|turn| turn.id).collect();
        let mut now = snapshot;
        let mut overtaken = Vec::new();
        loop {
            now = appending.catch_up(now, blobs, durability)?;
            refuse_newer(&now.session, id)?;
            let concurrent = now.session.turns.iter().map(|turn| turn.id).filter(|id| {
                // A snapshot of the context does not know what lies before it.
                seen.first().is_none_or(|first| id > first) && seen.binary_search(id).is_err()
            });
            let bodies = decide(Found {
                session: &now.session,
                concurrent: concurrent.collect(),
                is_shuffled: now.is_shuffled,
                overtaken,
                appending: &*appending,
            })?;
            if bodies.is_empty() {
                return Ok(Appended {
                    ids: Vec::new(),
                    locked: true,
                });
            }
            match appending.write(bodies, durability)? {
                Written::Done(appended) => return Ok(appended),
                Written::Overtaken(bodies) => overtaken = bodies,
            }
        }
    }
}

/// The error of a session that is gone since it was read.
#[must_use]
pub fn purged_meanwhile(id: SessionId) -> Error {
    Error::new(Code::StoreIo, format!("cannot append to the session {id}"))
        .because("it was purged meanwhile")
        .hint("the reply is printed, and kept in the draft")
}

/// The error of a session that is to be made and is there.
#[must_use]
pub fn session_exists(id: SessionId) -> Error {
    let sentence = format!("cannot make the session {id}: it exists");
    Error::new(Code::SessionExists, sentence)
        .hint(format!("continue it with --session-id {id}"))
        .session(id)
}

/// Refuses to write where a newer program wrote.
///
/// # Errors
/// `store_unsupported`, always when the session has an event of a higher version.
pub fn refuse_newer(session: &Session, id: SessionId) -> Result<()> {
    if session.is_newer_than_this_program() {
        let sentence = format!("cannot append to the session {id}");
        let cause = format!(
            "a newer program wrote format {} to it, and this one knows {VERSION}",
            session.version
        );
        return Err(Error::new(Code::StoreUnsupported, sentence)
            .because(cause)
            .hint("upgrade ollama-prompt; reading works with this one"));
    }
    Ok(())
}

/// Makes events of what is to be written, each with an id after `highest` and after the one before
/// it. Where they stand is the store's to say.
pub fn number(bodies: Vec<Body>, mut highest: Option<EventId>) -> impl Iterator<Item = Event> {
    let ts = clock::now();
    bodies.into_iter().map(move |body| {
        let id = EventId::next(ts.as_ms(), highest, clock::random_bits());
        highest = Some(id);
        Event {
            v: VERSION,
            id,
            ts,
            at: None,
            body,
        }
    })
}

/// The error of an event that is too long to be stored, `bytes` as its line.
#[must_use]
pub fn too_long(bytes: u64) -> Error {
    Error::new(Code::StoreUnsupported, "cannot store the turn")
        .because(format!(
            "it has {bytes} bytes, and a line of the log at most {LONGEST_LINE}"
        ))
        .hint("send less at once, or use --no-session")
}
