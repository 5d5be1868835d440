//! One turn: read what was typed and what was said before, choose what fits, ask, store, report.
//!
//! What can be refused is refused before the model is asked; a reply that arrived is reported
//! even where it cannot be stored.

use crate::cli::{Invocation, Memory, Server, Turn};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::ollama::{ApiKey, Backend, ChatRequest, Chunk, Client, Host, Reply, echo};
use crate::output::{ContextUsage, TurnReport, TurnStatus};
use crate::prompt;
use crate::session::event::{Body, Header, Prune, Settings, Turn as TurnEvent, VERSION};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};
use crate::store::append::{Appended, Found, refuse_newer};
use crate::store::draft::{Draft, new_id};
use crate::store::read::Snapshot;
use crate::store::{Store, Writable, not_found};
use crate::tokens;
use crate::warning::Warning;

use super::request::{self, Request};
use super::{Answer, Outcome};

const APP: &str = concat!("ollama-prompt ", env!("CARGO_PKG_VERSION"));

/// Takes a turn.
///
/// # Errors
/// Before the model is asked: `usage`, `config`, `session_*`, `store_*`, `context_overflow`.
/// After that, the client's. What fails while storing is in [`Outcome::failure`].
pub(super) fn run(turn: &Turn, invocation: &Invocation, on_piece: &mut dyn FnMut(&Chunk)) -> Result<Outcome> {
    let prompt = prompt::read(&turn.prompt, "prompt")?;
    let given = Settings {
        model: turn.model.clone(),
        system: turn.system.as_ref().map(|source| read_system(source)).transpose()?,
        max_context_tokens: turn.max_context_tokens,
    };
    let backend = backend(&turn.server)?;
    if turn.memory == Memory::None {
        return stateless(turn, &prompt, given, &backend, on_piece);
    }
    let place = Place::find(&turn.memory, invocation)?;
    let id = place.id;
    in_session(turn, &prompt, given, place, invocation, &backend, on_piece).map_err(|error| error.session(id))
}

/// Reads the system prompt; an empty one given on the command line removes the session's.
fn read_system(source: &prompt::Source) -> Result<String> {
    match source {
        prompt::Source::Text(text) => Ok(text.clone()),
        other => prompt::read(other, "system prompt"),
    }
}

fn backend(server: &Server) -> Result<Backend> {
    match server {
        Server::Echo => Ok(Backend::Echo),
        Server::Ollama { host, api_key, silence } => {
            let key = api_key.as_deref().map(ApiKey::parse).transpose()?;
            let client = Client::new(&Host::parse(host)?, key.as_ref(), *silence)?;
            Ok(Backend::Server(client))
        }
    }
}

fn stateless(
    turn: &Turn,
    prompt: &str,
    given: Settings,
    backend: &Backend,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let mut settings = turn.defaults.clone();
    settings.overlay(given);
    let request = assemble(turn, prompt, &settings, &[])?;
    let reply = ask(turn, &settings, &request, backend, on_piece).map_err(|failure| failure.error)?;
    let mut warnings = warnings_of(&reply, &request, None, backend);
    let usage = context_usage(&reply, &request, &settings, None, &mut warnings);
    let report = TurnReport::new(model_of(backend, &settings), reply, usage, None, None);
    Ok(Outcome { answer: Answer::Turn(Box::new(report)), warnings, failure: None })
}

/// The session a turn belongs to, as it was found.
struct Place {
    store: Store,
    id: SessionId,
    snapshot: Snapshot,
    /// Whether the id was made for this call, so that nobody else can know it.
    fresh: bool,
}

impl Place {
    fn find(memory: &Memory, invocation: &Invocation) -> Result<Self> {
        let root = invocation.store.path()?;
        let (store, id) = match memory {
            Memory::None | Memory::New => {
                let id = SessionId::from_parts(clock::now().as_ms(), clock::random_bits());
                let store = Store::open_or_make(root)?;
                return Ok(Self { store, id, snapshot: Snapshot::default(), fresh: true });
            }
            Memory::ContinueOrCreate(id) => {
                let store = Store::open_or_make(root)?;
                let snapshot = store.read(*id)?.unwrap_or_default();
                return Ok(Self { store, id: *id, snapshot, fresh: false });
            }
            Memory::Continue(reference) => {
                let store = Store::open(root)?.ok_or_else(|| not_found(reference))?;
                let id = store.find(reference)?;
                (store, id)
            }
            Memory::Latest => {
                let store = Store::open(root)?.ok_or_else(no_latest)?;
                let id = latest(&store)?.ok_or_else(no_latest)?;
                (store, id)
            }
        };
        let snapshot = store.read(id)?.ok_or_else(|| not_found(id).session(id))?;
        Ok(Self { store, id, snapshot, fresh: false })
    }
}

fn no_latest() -> Error {
    Error::new(Code::SessionNotFound, "there is no session to continue")
        .hint("leave out --continue: the first prompt makes a session")
}

fn latest(store: &Store) -> Result<Option<SessionId>> {
    let mut latest = None;
    for id in store.ids()? {
        // One that cannot be read is not continued; the list says why.
        if let Ok(Some(snapshot)) = store.read(id) {
            latest = latest.max(Some((snapshot.session.last_used(), id)));
        }
    }
    Ok(latest.map(|(_, id)| id))
}

fn in_session(
    turn: &Turn,
    prompt: &str,
    given: Settings,
    place: Place,
    invocation: &Invocation,
    backend: &Backend,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let Place { store, id, snapshot, fresh } = place;
    let before = snapshot.session.clone();
    let mut warnings = damage_of(&snapshot, id);
    refuse_newer(&before, id)?;
    let mut settings = turn.defaults.clone();
    settings.overlay(before.settings.clone());
    settings.overlay(given.clone());
    let in_context = &before.turns[before.context_start()..];
    let request = assemble(turn, prompt, &settings, in_context)?;

    let writable = store.for_writing()?;
    let writer = if fresh { None } else { Some(writable.writer(id)?) };
    let draft = writable.draft(draft(id, prompt, turn, &settings, &request))?;
    let reply = match ask(turn, &settings, &request, backend, on_piece) {
        Ok(reply) => reply,
        Err(failure) => {
            let error = failure.error.session(id);
            draft.fail(&error, failure.partial.content, failure.partial.thinking);
            return Err(error);
        }
    };

    let parent = request.kept.last().filter(|_| before.settings.system == settings.system);
    let parent = parent.filter(|parent| parent.turn.model == model_of(backend, &settings));
    warnings.extend(warnings_of(&reply, &request, parent.map(|parent| &parent.turn), backend));
    let event = turn_event(model_of(backend, &settings), prompt, &reply, &request, parent.map(|p| &p.turn));
    let moved = Horizon::of(&before, &request, &settings);
    warnings.extend(moved.as_ref().map(|horizon| horizon.warning(&settings)));
    let stored = store_turn(&writable, id, invocation, writer, snapshot, Line { event, given, moved, settings: &settings });

    let dropped = (before.turns.len() - request.kept.len()) as u64;
    let usage = context_usage(&reply, &request, &settings, Some(dropped), &mut warnings);
    let (status, failure) = match stored {
        Ok(stored) => {
            draft.done();
            if !stored.concurrent.is_empty() {
                warnings.push(Warning::Concurrent(stored.concurrent.clone()));
            }
            if !stored.locked {
                warnings.push(Warning::NoLocks);
            }
            (TurnStatus::stored(stored.id, stored.parent, stored.concurrent), None)
        }
        Err(error) => {
            let error = error.session(id);
            draft.fail(&error, reply.content.clone(), reply.thinking.clone());
            (TurnStatus::not_stored(request.kept.last().map(|turn| turn.id)), Some(error))
        }
    };
    let report = TurnReport::new(model_of(backend, &settings), reply, usage, Some(status), Some(id));
    Ok(Outcome { answer: Answer::Turn(Box::new(report)), warnings, failure })
}

fn assemble<'a>(
    turn: &'a Turn,
    prompt: &'a str,
    settings: &'a Settings,
    turns: &'a [crate::session::fold::SaidTurn],
) -> Result<Request<'a>> {
    let draft = request::Draft {
        model: settings.model.as_deref().unwrap_or_default(),
        system: settings.system.as_deref().filter(|text| !text.is_empty()),
        turns,
        prompt,
        options: &turn.options,
        max_context_tokens: settings.max_context_tokens.unwrap_or_default(),
    };
    draft.assemble()
}

fn ask(
    turn: &Turn,
    settings: &Settings,
    request: &Request<'_>,
    backend: &Backend,
    on_piece: &mut dyn FnMut(&Chunk),
) -> std::result::Result<Reply, Box<crate::ollama::Failure>> {
    let chat = ChatRequest {
        model: settings.model.as_deref().unwrap_or_default(),
        messages: &request.messages,
        options: &request.options,
        think: turn.think.as_ref(),
        format: None,
        keep_alive: None,
        tools: None,
    };
    backend.chat(&chat, on_piece)
}

fn draft(id: SessionId, prompt: &str, turn: &Turn, settings: &Settings, request: &Request<'_>) -> Draft {
    let ts = clock::now();
    Draft {
        v: VERSION,
        id: new_id(ts),
        ts,
        session: id,
        settings: settings.clone(),
        prompt: prompt.to_owned(),
        options: request.options.clone(),
        think: turn.think.clone(),
        error: None,
        response: None,
        thinking: None,
    }
}

/// Returns the name under which the reply goes into history and output.
fn model_of(backend: &Backend, settings: &Settings) -> String {
    match backend {
        Backend::Echo => echo::MODEL.to_owned(),
        Backend::Server(_) => settings.model.clone().unwrap_or_default(),
    }
}

fn turn_event(
    model: String,
    prompt: &str,
    reply: &Reply,
    request: &Request<'_>,
    before: Option<&TurnEvent>,
) -> TurnEvent {
    let thought = reply.thinking.is_some();
    let sent = request.sent.clone();
    let tokens = tokens::settle(request.ruler, prompt, &reply.content, thought, &reply.usage, &sent, before);
    TurnEvent {
        parent: request.kept.last().map(|turn| turn.id),
        concurrent_with: Vec::new(),
        model,
        prompt: prompt.to_owned(),
        response: reply.content.clone(),
        thinking: reply.thinking.clone(),
        tool_calls: reply.tool_calls.clone(),
        done_reason: reply.done_reason.clone(),
        usage: reply.usage.clone(),
        options: request.options.clone(),
        tokens,
        sent,
    }
}

/// A horizon that moved with this turn.
struct Horizon {
    keep_from: EventId,
    newly_dropped: u64,
    dropped_turns: u64,
    dropped_tokens: u64,
}

impl Horizon {
    fn of(before: &Session, request: &Request<'_>, settings: &Settings) -> Option<Self> {
        let start = before.turns.len() - request.kept.len();
        let newly_dropped = (start - before.context_start()) as u64;
        let _ = settings;
        let keep_from = request.kept.first().filter(|_| newly_dropped > 0)?.id;
        let earlier = before.horizon.as_ref().map_or(0, |horizon| horizon.dropped_tokens);
        let dropped_tokens = earlier + request.dropped_tokens;
        Some(Self { keep_from, newly_dropped, dropped_turns: start as u64, dropped_tokens })
    }

    fn warning(&self, settings: &Settings) -> Warning {
        let max_context_tokens = settings.max_context_tokens.unwrap_or_default();
        Warning::Pruned { turns: self.newly_dropped, max_context_tokens }
    }
}

/// What is to be stored.
struct Line<'a> {
    event: TurnEvent,
    /// What flags said: from this turn on it holds.
    given: Settings,
    moved: Option<Horizon>,
    settings: &'a Settings,
}

struct Stored {
    id: EventId,
    parent: Option<EventId>,
    concurrent: Vec<EventId>,
    locked: bool,
}

fn store_turn(
    writable: &Writable<'_>,
    id: SessionId,
    invocation: &Invocation,
    writer: Option<crate::store::append::Writer<'_>>,
    snapshot: Snapshot,
    line: Line<'_>,
) -> Result<Stored> {
    let parent = line.event.parent;
    let (appended, concurrent) = match writer {
        None => {
            let bodies = line.bodies(&Session::default(), &[]);
            (writable.create(id, invocation.durability, bodies)?, Vec::new())
        }
        Some(writer) => {
            let mut concurrent = Vec::new();
            let decide = |found: Found<'_>| {
                concurrent = found.concurrent;
                Ok(line.bodies(found.session, &concurrent))
            };
            let appended = writer.append(snapshot, invocation.durability, invocation.lock_timeout, decide)?;
            (appended, concurrent)
        }
    };
    let Appended { ids, locked } = appended;
    let id = *ids.last().expect("the turn is the last event of its append");
    Ok(Stored { id, parent, concurrent, locked })
}

impl Line<'_> {
    /// Returns the events to append to a session as it is now: the turn, and before it what
    /// must hold from it on.
    fn bodies(self, now: &Session, concurrent: &[EventId]) -> Vec<Body> {
        let Self { mut event, given, moved, settings } = self;
        let mut bodies = Vec::new();
        if now.created.is_none() {
            bodies.push(Body::Session(Header { app: Some(APP.to_owned()), settings: settings.clone() }));
        } else {
            let changes = given.changes_from(&now.settings);
            if !changes.is_empty() {
                bodies.push(Body::Set(changes));
            }
        }
        if let Some(horizon) = moved
            && now.horizon.as_ref().is_none_or(|there| there.keep_from < horizon.keep_from)
        {
            let mut snapshot = now.settings.clone();
            snapshot.overlay(given);
            bodies.push(Body::Prune(Prune {
                keep_from: horizon.keep_from,
                strategy: "fifo".to_owned(),
                dropped_turns: horizon.dropped_turns,
                dropped_tokens: horizon.dropped_tokens,
                settings: snapshot,
            }));
        }
        event.concurrent_with = concurrent.to_vec();
        bodies.push(Body::Turn(Box::new(event)));
        bodies
    }
}

fn damage_of(snapshot: &Snapshot, session: SessionId) -> Vec<Warning> {
    let places = snapshot.damage.len();
    if places == 0 { Vec::new() } else { vec![Warning::Damaged { session, places }] }
}

fn warnings_of(reply: &Reply, request: &Request<'_>, before: Option<&TurnEvent>, backend: &Backend) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if matches!(backend, Backend::Echo) {
        warnings.push(Warning::Offline);
    }
    if reply.surrogates_replaced {
        warnings.push(Warning::SurrogatesReplaced);
    }
    let asked = request.options.get("num_predict").and_then(serde_json::Value::as_u64);
    if let (Some("length"), Some(tokens)) = (reply.done_reason.as_deref(), reply.usage.eval_count)
        && asked.is_none_or(|asked| tokens < asked)
    {
        warnings.push(Warning::WindowFull { tokens });
    }
    let least = tokens::at_least(&request.sent, before);
    if let Some(read) = reply.usage.prompt_eval_count.filter(|read| *read < least) {
        warnings.push(Warning::TruncatedByServer { read, sent: least });
    }
    warnings
}

fn context_usage(
    reply: &Reply,
    request: &Request<'_>,
    settings: &Settings,
    dropped_turns: Option<u64>,
    warnings: &mut [Warning],
) -> ContextUsage {
    let measured = reply.usage.prompt_eval_count;
    let truncated = warnings.iter().any(|warning| matches!(warning, Warning::TruncatedByServer { .. }));
    ContextUsage::new(
        measured.unwrap_or(request.tokens),
        measured.is_some(),
        settings.max_context_tokens.unwrap_or_default(),
        dropped_turns.map(|dropped| (request.kept.len() as u64, dropped)),
        request.sent.num_ctx,
        truncated,
    )
}
