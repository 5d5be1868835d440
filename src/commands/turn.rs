//! One turn: read what was typed and what was said before, choose what fits, ask, keep, report.
//!
//! What can be refused is refused before the model is asked; a reply that arrived is reported
//! even where it cannot be kept.

use super::ask::{Asked, Call};
use super::exchange::Exchange;
use super::expected::expect;
use super::guards::Guards;
use super::keep::{Choice, Horizon, Keep, Kept};
use super::place::{Origin, Place};
use super::replay;
use super::request::{Planned, Request};
use super::window::Remembered;
use crate::cli::{Invocation, Memory, Turn};
use crate::clock;
use crate::error::{Error, Result};
use crate::ollama::{Chunk, Failure, Reply};
use crate::output::{Outcome, TurnReport, TurnStatus};
use crate::session::event::{ForkedFrom, Settings, VERSION};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};
use crate::signals::Hold;
use crate::store::append::{Writer, refuse_newer};
use crate::store::draft::{Draft, OpenDraft, new_id};
use crate::store::fork::Fork;
use crate::store::snapshot::Snapshot;
use crate::store::{self, Durability, Location, Store, Writable};
use crate::warning::Warning;

/// Takes a turn, or says what it would be.
///
/// # Errors
/// Before the model is asked: `usage`, `config`, `session_*`, `turn_conflict`,
/// `idempotency_conflict`, `store_*`, `context_overflow`. After that, the client's. What fails
/// while keeping the reply is in [`Outcome::failure`].
pub(super) fn run(
    turn: &Turn,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let call = Call::new(turn, invocation)?;
    if turn.memory == Memory::None {
        return without_session(&call, invocation, on_piece);
    }
    let place = Place::find(&turn.memory, &invocation.location()?)?;
    in_session(&call, place, None, invocation, on_piece)
}

fn without_session(
    call: &Call<'_>,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let session = Session::default();
    let settings = call.settings(&session);
    // A window that is remembered is made use of; a store that cannot be read is none, and nobody is
    // connected to for it.
    let location = invocation.location().ok().filter(Location::is_at_hand);
    let store = location.and_then(|location| store::open(&location).ok().flatten());
    let window = call.remembered(&settings, store.as_deref()).window;
    let planned = call.plan(&settings, &session, false, window, 1.0)?;
    if call.turn.dry_run {
        return Ok(call.would_send(&planned, &settings, None));
    }
    let Asked {
        request,
        reply,
        warnings,
    } = call
        .ask(&settings, &session, false, planned, None, on_piece)
        .map_err(|failure| failure.error)?;
    let model = call.model(&settings);
    let exchange = Exchange {
        request: &request,
        reply: &reply,
        model,
        think: None,
        carried: call.carried(),
        same_system: true,
    };
    let usage = exchange.context_usage(settings.budget(), None);
    let warnings = warnings
        .into_iter()
        .chain(exchange.warnings())
        .chain(call.withhold.warning())
        .collect();
    let notes = call.notes(&request, &settings);
    let report = TurnReport::new(model, reply, usage).referring_to(&call.references);
    Ok(Outcome {
        warnings,
        notes,
        ..Outcome::turn(report)
    })
}

/// Takes a turn in a session, unless it was taken already under its idempotency key. `retried` is
/// its draft, if it is asked for again.
///
/// # Errors
/// As [`run`].
pub(super) fn in_session(
    call: &Call<'_>,
    mut place: Place,
    retried: Option<OpenDraft<'_>>,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let id = place.id;
    let taken = Guards::take(call, &mut place, &invocation.location()?);
    let (guards, answered) = taken.map_err(|error| error.session(id))?;
    if let Some(said) = answered {
        if let Some(draft) = retried {
            draft.done();
        }
        return Ok(replay::outcome(call, &place, said, on_piece));
    }
    match take(call, place, retried, invocation, on_piece) {
        Ok(outcome) => Ok(Outcome {
            failure: outcome.failure.map(|error| guards.end(error)),
            ..outcome
        }),
        Err(error) => Err(guards.end(error.session(id))),
    }
}

fn take(
    call: &Call<'_>,
    mut place: Place,
    retried: Option<OpenDraft<'_>>,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let id = place.id;
    refuse_newer(&place.snapshot.session, id)?;
    expect(call.turn.guarantees.expected, &mut place)?;
    let before = Before::of(call, &mut place)?;
    let planned = before.plan(call)?;
    if call.turn.dry_run {
        return Ok(call.would_send(&planned, &before.settings, Some((id, &before.session))));
    }

    let Place {
        store,
        origin,
        snapshot,
        ..
    } = place;
    let store = match store {
        Some(store) => store,
        None => store::open_or_make(&invocation.location()?)?,
    };
    let is_fresh = matches!(origin, Origin::Fresh);
    let left_behind = is_fresh.then(|| left_behind(invocation, &*store)).flatten();
    let writable = store.for_writing(invocation.lock_timeout)?;
    let target = Target::prepare(&*writable, id, origin)?;
    // From here on until the turn is stored a signal loses nothing: it ends the waiting for the
    // model and for the lock, with a draft of what had arrived.
    let _hold = Hold::new()?;
    let draft = match retried {
        Some(draft) => draft,
        None => writable.draft(draft(call, id, &before.settings, target.forked_from()))?,
    };
    let (asked, again) = match before.ask(call, planned, &*store, on_piece) {
        Ok(asked) => asked,
        Err(failure) => return Err(not_answered(call, id, draft, *failure)),
    };
    call.doubt_window(&before.settings, &*store, &asked.reply);

    let withheld = call.withhold.reply(&asked.reply);
    let exchange = before.exchange(call, &asked.request, &withheld);
    let keep = before.keep(call, &exchange, again);
    let mut warnings = warnings(&snapshot, id, &asked, &exchange, keep.horizon.as_ref());
    warnings.extend(left_behind);
    warnings.extend(call.unused_template(&before.session));
    warnings.extend(call.withhold.warning());
    let (status, failure) = match target.keep(keep, &*writable, snapshot, invocation.durability) {
        Ok(kept) => {
            draft.done();
            warnings.extend(kept.warnings());
            (stored(kept, exchange.parent()), None)
        }
        Err(error) => {
            let error = error.session(id);
            draft.fail(&error, withheld.content.clone(), withheld.thinking.clone());
            (not_stored(exchange.parent()), Some(error))
        }
    };
    let dropped = before.session.turn_count() - asked.request.kept.len() as u64;
    let usage = exchange.context_usage(before.settings.budget(), Some(dropped));
    let model = call.model(&before.settings);
    let notes = call.notes(&asked.request, &before.settings);
    // What is withheld from the store is printed as it came.
    let report = TurnReport::new(model, asked.reply.clone(), usage)
        .referring_to(&call.references)
        .in_session(id, status);
    Ok(Outcome {
        warnings,
        notes,
        failure,
        ..Outcome::turn(report)
    })
}

/// Keeps what had arrived in the draft, and returns the error the turn ends with.
fn not_answered(
    call: &Call<'_>,
    session: SessionId,
    draft: OpenDraft<'_>,
    failure: Failure,
) -> Error {
    let error = failure.error.session(session);
    let content = call.withhold.text(failure.partial.content);
    let thinking = failure.partial.thinking;
    let thinking = thinking.map(|text| call.withhold.text(text));
    draft.fail(&error, content, thinking);
    error
}

/// What a turn is taken with: the session as it was, and what holds from the turn on.
struct Before {
    session: Session,
    settings: Settings,
    remembered: Remembered,
    /// Whether there are all turns to choose from, and not those in the context only.
    again: bool,
}

impl Before {
    fn of(call: &Call<'_>, place: &mut Place) -> Result<Self> {
        let settings = call.settings(&place.snapshot.session);
        let remembered = call.remembered(&settings, place.store.as_deref());
        // A budget that grew since turns left may bring them back: then all are to choose from.
        let again = call.has_grown(&settings, &place.snapshot.session, remembered.window);
        if again {
            place.read_history()?;
        }
        let session = place.snapshot.session.clone();
        call.recall(
            &session,
            place
                .store
                .as_deref()
                .map(|store| (store, place.blobs_of())),
        )?;
        Ok(Self {
            session,
            settings,
            remembered,
            again,
        })
    }

    fn plan<'s>(&'s self, call: &'s Call<'_>) -> Result<Planned<'s>> {
        let window = self.remembered.window;
        call.plan(&self.settings, &self.session, self.again, window, 1.0)
    }

    /// Asks, with the window the model really has. Returns with the reply whether all turns were
    /// to choose from.
    fn ask<'s>(
        &'s self,
        call: &'s Call<'_>,
        mut planned: Planned<'s>,
        store: &dyn Store,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> std::result::Result<(Asked<'s>, bool), Box<Failure>> {
        let Self {
            session,
            settings,
            remembered,
            again,
        } = self;
        let mut again = *again;
        let window = call.window(settings, store, *remembered);
        let window = window.map_err(Failure::of)?;
        if window != remembered.window {
            again = again && call.has_grown(settings, session, window);
            let replanned = call.plan(settings, session, again, window, 1.0);
            planned = replanned.map_err(Failure::of)?;
        }
        let asked = call.ask(settings, session, again, planned, Some(store), on_piece)?;
        Ok((asked, again))
    }

    fn exchange<'s>(
        &'s self,
        call: &'s Call<'_>,
        request: &'s Request<'_>,
        reply: &'s Reply,
    ) -> Exchange<'s> {
        Exchange {
            request,
            reply,
            model: call.model(&self.settings),
            think: call.turn.think.as_ref(),
            carried: call.carried(),
            same_system: self.session.settings.system == self.settings.system,
        }
    }

    fn keep<'s>(&'s self, call: &'s Call<'_>, exchange: &Exchange<'_>, again: bool) -> Keep<'s> {
        let mut turn = exchange.event(&call.prompt, &call.references);
        turn.key.clone_from(&call.key);
        Keep {
            turn,
            blobs: &call.new_blobs,
            given: call.given.clone(),
            settings: &self.settings,
            horizon: Horizon::of(
                &self.session,
                choice(exchange.request, &self.settings, again),
            ),
            expected: call.turn.guarantees.expected,
        }
    }
}

/// Where the turn goes; what that needs is opened before the model is asked.
enum Target<'a> {
    New(SessionId),
    Fork(SessionId, Box<Fork>),
    Log(SessionId, Writer<'a>),
}

impl<'a> Target<'a> {
    fn prepare(writable: &'a dyn Writable, id: SessionId, origin: Origin) -> Result<Self> {
        Ok(match origin {
            Origin::Fresh => Self::New(id),
            Origin::Forked(fork) => Self::Fork(id, fork),
            Origin::There | Origin::ThereOrNot => Self::Log(id, writable.writer(id)?),
        })
    }

    fn forked_from(&self) -> Option<ForkedFrom> {
        match self {
            Self::Fork(_, fork) => Some(fork.from),
            Self::New(_) | Self::Log(..) => None,
        }
    }

    fn keep(
        self,
        keep: Keep<'_>,
        writable: &dyn Writable,
        snapshot: Snapshot,
        durability: Durability,
    ) -> Result<Kept> {
        match self {
            Self::New(id) => keep.in_new(writable, id, durability),
            Self::Fork(id, fork) => keep.in_fork(writable, id, &fork, durability),
            Self::Log(id, writer) => keep.in_existing(writer, id, snapshot, durability),
        }
    }
}

fn draft(
    call: &Call<'_>,
    session: SessionId,
    settings: &Settings,
    forked_from: Option<ForkedFrom>,
) -> Draft {
    let ts = clock::now();
    Draft {
        v: VERSION,
        id: new_id(ts),
        ts,
        session,
        settings: settings.clone(),
        prompt: call.prompt.clone(),
        references: call.references.clone(),
        options: call.options(settings),
        think: call.turn.think.clone(),
        attachments: call.attachments.clone(),
        given: call.given.clone(),
        key: call.key.clone(),
        forked_from,
        error: None,
        response: None,
        thinking: None,
    }
}

fn stored(kept: Kept, parent: Option<EventId>) -> TurnStatus {
    TurnStatus {
        id: Some(kept.id),
        parent,
        concurrent_with: kept.concurrent_with,
        stored: true,
        replayed: false,
    }
}

fn not_stored(parent: Option<EventId>) -> TurnStatus {
    TurnStatus {
        id: None,
        parent,
        concurrent_with: Vec::new(),
        stored: false,
        replayed: false,
    }
}

fn warnings(
    snapshot: &Snapshot,
    id: SessionId,
    asked: &Asked<'_>,
    exchange: &Exchange<'_>,
    horizon: Option<&Horizon>,
) -> Vec<Warning> {
    let dropped = horizon.map_or(0, |horizon| horizon.newly_dropped);
    damage(&snapshot.damage, id)
        .into_iter()
        .chain(asked.warnings.iter().cloned())
        .chain(exchange.warnings())
        .chain((dropped > 0).then(|| pruned(dropped, &asked.request)))
        .collect()
}

fn choice(request: &Request<'_>, settings: &Settings, again: bool) -> Choice {
    Choice {
        kept: request.kept.iter().map(|said| said.id).collect(),
        dropped_tokens: request.dropped_tokens,
        strategy: settings.prune.unwrap_or_default(),
        summary: request.summary.clone(),
        budget: request.budget,
        again,
    }
}

/// Tells of sessions of the Python tool, before the first session is made here. Looking for them
/// takes a microsecond, and the list of sessions is looked at only where there are some.
fn left_behind(invocation: &Invocation, store: &dyn Store) -> Option<Warning> {
    let mut places = invocation.old_databases.iter();
    let there = places.find(|path| path.is_file())?;
    let is_empty = store.is_empty().unwrap_or(false);
    is_empty.then(|| Warning::OldDatabase(there.display().to_string()))
}

fn damage<T>(places: &[T], session: SessionId) -> Option<Warning> {
    (!places.is_empty()).then_some(Warning::Damaged {
        session,
        places: places.len(),
    })
}

fn pruned(turns: u64, request: &Request<'_>) -> Warning {
    Warning::Pruned {
        turns,
        max_context_tokens: request.budget,
    }
}
