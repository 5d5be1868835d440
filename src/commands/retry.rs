//! Retrying: a turn that failed or was killed is asked for again, as its draft says.

use std::path::PathBuf;

use super::ask::Call;
use super::place::{Origin, Place, fork};
use super::turn;
use crate::cli::{Guarantees, Invocation, Memory, Server, Turn};
use crate::error::{Code, Error, Result};
use crate::ollama::Chunk;
use crate::output::Outcome;
use crate::prompt::attachments::Attached;
use crate::prompt::{Rules, Source};
use crate::session::id::{EventId, SessionId, SessionRef};
use crate::store::draft::{Draft, FoundDraft};
use crate::store::snapshot::{Extent, Snapshot};
use crate::store::{self, Location, Store, not_found};

/// How many drafts are named where it is not clear which one is meant.
const CANDIDATES: usize = 5;

/// What is to be asked again, and of whom.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) session: &'a SessionRef,
    /// The draft, where one was named.
    pub(super) draft: Option<EventId>,
    pub(super) server: &'a Server,
    /// What it promises about others of its session; its key is the draft's.
    pub(super) guarantees: &'a Guarantees,
}

/// Asks again. The draft goes when the turn is stored, and else has the new failure.
///
/// # Errors
/// `session_not_found` where there is no such draft, `session_ambiguous` where there are several,
/// `store_locked` where its turn is under way; and those of a turn.
pub(super) fn run(
    wanted: &Wanted<'_>,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let location = invocation.location()?;
    let store = store::open(&location)?.ok_or_else(|| not_found(wanted.session))?;
    let (id, session) = choose(&*store, wanted)?;
    let writable = store.for_writing(invocation.lock_timeout)?;
    let held = writable
        .take_over_draft(id)
        .and_then(|held| held.ok_or_else(|| under_way(id)))
        .map_err(|error| error.session(session))?;
    let asked = turn_of(held.draft(), wanted);
    let call = Call::again(&asked, held.draft(), invocation)?;
    let place = place(&location, held.draft()).map_err(|error| error.session(session))?;
    turn::in_session(&call, place, Some(held), invocation, on_piece)
}

/// Returns the draft that is meant, and its session.
fn choose(store: &dyn Store, wanted: &Wanted<'_>) -> Result<(EventId, SessionId)> {
    let mut found: Vec<(FoundDraft, SessionId)> = store
        .drafts()?
        .into_iter()
        .filter_map(|found| {
            let session = found.draft.as_ref()?.session;
            wanted.session.matches(session).then_some((found, session))
        })
        .collect();
    if let Some(id) = wanted.draft {
        found.retain(|(found, _)| found.id == id);
    } else if found.iter().any(|(found, _)| !found.under_way) {
        found.retain(|(found, _)| !found.under_way);
    }
    match &found[..] {
        [] => Err(no_draft(store, wanted)?),
        [(found, session)] if found.under_way => Err(under_way(found.id).session(session)),
        [(found, session)] => Ok((found.id, *session)),
        several => {
            let shown = several.iter().take(CANDIDATES).map(|(found, session)| {
                let prompt = found.draft.iter().flat_map(|draft| draft.prompt.chars());
                let prompt: String = prompt.take(40).collect();
                format!("{session}:{} ({prompt:?})", found.id)
            });
            let shown: Vec<String> = shown.collect();
            let sentence = format!("{} has {} drafts", wanted.session, several.len());
            Err(Error::new(Code::SessionAmbiguous, sentence)
                .hint(format!("name one, as ID:DRAFT: {}", shown.join(", "))))
        }
    }
}

/// Returns the error of a session without such a draft.
fn no_draft(store: &dyn Store, wanted: &Wanted<'_>) -> Result<Error> {
    let hint = "session drafts lists what failed or was killed";
    if let Some(draft) = wanted.draft {
        let sentence = format!("the session {} has no draft {draft}", wanted.session);
        return Ok(Error::new(Code::SessionNotFound, sentence).hint(hint));
    }
    let id = store.find(wanted.session)?;
    if store.read(id, Extent::Context)?.is_none() {
        return Ok(not_found(wanted.session));
    }
    let sentence = format!("the session {id} has no turn to ask for again");
    Ok(Error::new(Code::SessionNotFound, sentence)
        .hint(hint)
        .session(id))
}

fn under_way(draft: EventId) -> Error {
    Error::new(
        Code::StoreLocked,
        format!("the turn of the draft {draft} is under way"),
    )
    .because("another process is waiting for its reply")
    .hint("wait for its end: session show has the turn, or the draft says why there is none")
}

/// Returns the turn a draft is of. Its prompt is not read from here: everything that stood in it
/// was put in its place when the draft was made.
fn turn_of(draft: &Draft, wanted: &Wanted<'_>) -> Turn {
    Turn {
        prompt: Source::Text(draft.prompt.clone()),
        references: Rules {
            root: PathBuf::new(),
            max_file_bytes: 0,
            is_strict: false,
            added: Vec::new(),
        },
        system: None,
        memory: Memory::ContinueOrCreate(draft.session),
        model: draft.given.model.clone(),
        max_context_tokens: draft.given.max_context_tokens,
        begin: None,
        defaults: draft.settings.clone(),
        prune: draft.given.prune,
        dry_run: false,
        options: draft.options.clone(),
        think: draft.think.clone(),
        attached: Attached::default(),
        server: wanted.server.clone(),
        guarantees: Guarantees {
            key: draft.key.as_ref().map(|key| key.key.clone()),
            ..wanted.guarantees.clone()
        },
    }
}

/// Returns the session of a draft, which a first turn that failed has not made. One that was to be
/// a fork is forked again.
fn place(location: &Location, draft: &Draft) -> Result<Place> {
    let place = Place::find(&Memory::ContinueOrCreate(draft.session), location)?;
    let Some(from) = draft.forked_from else {
        return Ok(place);
    };
    let store = place.store.as_ref();
    let is_there = match store {
        Some(store) => store.read(draft.session, Extent::Context)?.is_some(),
        None => false,
    };
    match store {
        Some(store) if !is_there => {
            let origin = fork(&**store, &SessionRef::Full(from.session), from.turn)?;
            Ok(Place {
                origin: Origin::Forked(Box::new(origin)),
                snapshot: Snapshot::default(),
                ..place
            })
        }
        _ => Ok(place),
    }
}
