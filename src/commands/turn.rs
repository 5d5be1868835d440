//! One turn: read what was typed and what was said before, choose what fits, ask, keep, report.
//!
//! What can be refused is refused before the model is asked; a reply that arrived is reported
//! even where it cannot be kept.

use super::ask::{Asked, Call};
use super::exchange::Exchange;
use super::keep::{Choice, Horizon, Keep, Kept};
use super::place::Place;
use super::request::Request;
use super::{Answer, Outcome};
use crate::cli::{Invocation, Memory, Turn};
use crate::clock;
use crate::error::Result;
use crate::ollama::{Chunk, Failure};
use crate::output::{TurnReport, TurnStatus};
use crate::session::event::{Settings, VERSION};
use crate::session::fold::Session;
use crate::session::id::SessionId;
use crate::signals::Hold;
use crate::store::Store;
use crate::store::append::refuse_newer;
use crate::store::draft::{Draft, new_id};
use crate::warning::Warning;

/// Takes a turn, or says what it would be.
///
/// # Errors
/// Before the model is asked: `usage`, `config`, `session_*`, `store_*`, `context_overflow`.
/// After that, the client's. What fails while keeping the reply is in [`Outcome::failure`].
pub(super) fn run(
    turn: &Turn,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let call = Call::new(turn, invocation)?;
    if turn.memory == Memory::None {
        return without_session(&call, invocation, on_piece);
    }
    let place = Place::find(&turn.memory, invocation.store.path()?)?;
    let id = place.id;
    in_session(&call, place, invocation, on_piece).map_err(|error| error.session(id))
}

fn without_session(
    call: &Call<'_>,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let session = Session::default();
    let settings = call.settings(&session);
    // A window that is remembered is made use of; a store that cannot be read is none.
    let store = invocation
        .store
        .path()
        .ok()
        .and_then(|root| Store::open(root).ok())
        .flatten();
    let window = call.remembered(&settings, store.as_ref()).window;
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
        answer: Answer::Turn(Box::new(report)),
        warnings,
        notes,
        failure: None,
    })
}

fn in_session(
    call: &Call<'_>,
    mut place: Place,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let id = place.id;
    refuse_newer(&place.snapshot.session, id)?;
    let settings = call.settings(&place.snapshot.session);
    let remembered = call.remembered(&settings, place.store.as_ref());
    // A budget that grew since turns left may bring them back: then all are to choose from.
    let again = call.has_grown(&settings, &place.snapshot.session, remembered.window);
    if again {
        place.read_history()?;
    }
    let session = place.snapshot.session.clone();
    call.recall(&session, place.store.as_ref().map(|store| (store, id)))?;
    let planned = call.plan(&settings, &session, again, remembered.window, 1.0)?;
    if call.turn.dry_run {
        return Ok(call.would_send(&planned, &settings, Some((id, &session))));
    }

    let Place {
        snapshot,
        is_fresh,
        store,
        ..
    } = place;
    let store = match store {
        Some(store) => store,
        None => Store::open_or_make(invocation.store.path()?)?,
    };
    let left_behind = is_fresh.then(|| left_behind(invocation, &store)).flatten();
    let writable = store.for_writing(invocation.lock_timeout)?;
    let writer = if is_fresh {
        None
    } else {
        Some(writable.writer(id)?)
    };
    // From here on until the turn is stored a signal loses nothing: it ends the waiting for the
    // model and for the lock, with a draft of what had arrived.
    let _hold = Hold::new()?;
    let draft = writable.draft(draft(call, id, &settings))?;
    let asked = call
        .window(&settings, &store, remembered)
        .and_then(|window| {
            if window == remembered.window {
                return Ok((planned, again));
            }
            let again = again && call.has_grown(&settings, &session, window);
            Ok((call.plan(&settings, &session, again, window, 1.0)?, again))
        })
        .map_err(Failure::of)
        .and_then(|(planned, again)| {
            let asked = call.ask(&settings, &session, again, planned, Some(&store), on_piece)?;
            Ok((asked, again))
        });
    let (
        Asked {
            request,
            reply,
            warnings,
        },
        again,
    ) = match asked {
        Ok(asked) => asked,
        Err(failure) => {
            let error = failure.error.session(id);
            let content = call.withhold.text(failure.partial.content);
            let thinking = failure.partial.thinking;
            draft.fail(
                &error,
                content,
                thinking.map(|text| call.withhold.text(text)),
            );
            return Err(error);
        }
    };

    call.doubt_window(&settings, &store, &reply);
    let model = call.model(&settings);
    let same_system = session.settings.system == settings.system;
    let stored = call.withhold.reply(&reply);
    let exchange = Exchange {
        request: &request,
        reply: &stored,
        model,
        think: call.turn.think.as_ref(),
        carried: call.carried(),
        same_system,
    };
    let horizon = Horizon::of(&session, choice(&request, &settings, again));
    let dropped_now = horizon.as_ref().map_or(0, |horizon| horizon.newly_dropped);
    let mut warnings: Vec<Warning> = damage(&snapshot.damage, id)
        .into_iter()
        .chain(call.unused_template(&session))
        .chain(warnings)
        .chain(exchange.warnings())
        .chain(left_behind)
        .chain((dropped_now > 0).then(|| pruned(dropped_now, &request)))
        .chain(call.withhold.warning())
        .collect();
    let turn = exchange.event(&call.prompt, &call.references);
    let keep = Keep {
        turn,
        blobs: &call.new_blobs,
        given: call.given.clone(),
        settings: &settings,
        horizon,
    };
    let kept = match writer {
        None => keep.in_new(&writable, id, invocation.durability),
        Some(writer) => keep.in_existing(writer, snapshot, invocation.durability),
    };

    let dropped = session.turn_count() - request.kept.len() as u64;
    let usage = exchange.context_usage(settings.budget(), Some(dropped));
    let notes = call.notes(&request, &settings);
    let parent = exchange.parent();
    let (status, failure) = match kept {
        Ok(Kept {
            id,
            concurrent_with,
            locked,
        }) => {
            draft.done();
            warnings.extend((!locked).then_some(Warning::NoLocks));
            warnings.extend(
                (!concurrent_with.is_empty()).then(|| Warning::Concurrent(concurrent_with.clone())),
            );
            (
                TurnStatus {
                    id: Some(id),
                    parent,
                    concurrent_with,
                    stored: true,
                },
                None,
            )
        }
        Err(error) => {
            let error = error.session(id);
            draft.fail(&error, stored.content.clone(), stored.thinking.clone());
            (
                TurnStatus {
                    id: None,
                    parent,
                    concurrent_with: Vec::new(),
                    stored: false,
                },
                Some(error),
            )
        }
    };
    let report = TurnReport::new(model, reply, usage)
        .referring_to(&call.references)
        .in_session(id, status);
    Ok(Outcome {
        answer: Answer::Turn(Box::new(report)),
        warnings,
        notes,
        failure,
    })
}

fn draft(call: &Call<'_>, session: SessionId, settings: &Settings) -> Draft {
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
        error: None,
        response: None,
        thinking: None,
    }
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
fn left_behind(invocation: &Invocation, store: &Store) -> Option<Warning> {
    let mut places = invocation.old_databases.iter();
    let there = places.find(|path| path.is_file())?;
    let is_empty = store.is_empty().unwrap_or(false);
    is_empty.then(|| Warning::OldDatabase(there.clone()))
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
