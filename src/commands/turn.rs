//! One turn: read what was typed and what was said before, choose what fits, ask, keep, report.
//!
//! What can be refused is refused before the model is asked; a reply that arrived is reported
//! even where it cannot be kept.

use super::exchange::Exchange;
use super::keep::{Horizon, Keep, Kept};
use super::place::Place;
use super::request::{self, Request};
use super::{Answer, Outcome};
use crate::cli::{Invocation, Memory, Server, Turn};
use crate::clock;
use crate::error::Result;
use crate::ollama::{ApiKey, Backend, ChatRequest, Chunk, Client, Failure, Host, Reply, echo};
use crate::output::{TurnReport, TurnStatus};
use crate::prompt::{self, Source};
use crate::session::event::{Settings, VERSION};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::SessionId;
use crate::store::append::refuse_newer;
use crate::store::draft::{Draft, new_id};
use crate::warning::Warning;

/// Takes a turn.
///
/// # Errors
/// Before the model is asked: `usage`, `config`, `session_*`, `store_*`, `context_overflow`.
/// After that, the client's. What fails while keeping the reply is in [`Outcome::failure`].
pub(super) fn run(
    turn: &Turn,
    invocation: &Invocation,
    on_piece: &mut dyn FnMut(&Chunk),
) -> Result<Outcome> {
    let call = Call {
        turn,
        prompt: prompt::read(&turn.prompt, "prompt")?,
        given: given(turn)?,
        backend: backend(&turn.server)?,
    };
    if turn.memory == Memory::None {
        return call.without_session(on_piece);
    }
    let place = Place::find(&turn.memory, invocation.store.path()?)?;
    let id = place.id;
    call.in_session(place, invocation, on_piece)
        .map_err(|error| error.session(id))
}

/// Returns what the flags say of the session, from this turn on. An empty system prompt on the
/// command line removes the one there is.
fn given(turn: &Turn) -> Result<Settings> {
    let system = match &turn.system {
        Some(Source::Text(text)) => Some(text.clone()),
        Some(source) => Some(prompt::read(source, "system prompt")?),
        None => None,
    };
    Ok(Settings {
        model: turn.model.clone(),
        system,
        max_context_tokens: turn.max_context_tokens,
        ..Settings::default()
    })
}

fn backend(server: &Server) -> Result<Backend> {
    match server {
        Server::Echo => Ok(Backend::Echo),
        Server::Ollama {
            host,
            api_key,
            silence,
        } => {
            let key = api_key.as_deref().map(ApiKey::parse).transpose()?;
            let client = Client::new(&Host::parse(host)?, key.as_ref(), *silence)?;
            Ok(Backend::Server(client))
        }
    }
}

/// A turn with everything that was typed read in.
struct Call<'a> {
    turn: &'a Turn,
    prompt: String,
    given: Settings,
    backend: Backend,
}

impl Call<'_> {
    fn without_session(&self, on_piece: &mut dyn FnMut(&Chunk)) -> Result<Outcome> {
        let settings = self.settings(Settings::default());
        let request = self.assemble(&settings, &[])?;
        let reply = self
            .ask(&settings, &request, on_piece)
            .map_err(|failure| failure.error)?;
        let model = self.model(&settings);
        let exchange = Exchange {
            request: &request,
            reply: &reply,
            model,
            same_system: true,
        };
        let usage = exchange.context_usage(budget(&settings), None);
        let warnings = self
            .offline()
            .into_iter()
            .chain(exchange.warnings())
            .collect();
        let report = TurnReport::new(model, reply, usage);
        Ok(Outcome {
            answer: Answer::Turn(Box::new(report)),
            warnings,
            failure: None,
        })
    }

    fn in_session(
        &self,
        place: Place,
        invocation: &Invocation,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> Result<Outcome> {
        let Place {
            store,
            id,
            snapshot,
            is_fresh,
        } = place;
        let session = snapshot.session.clone();
        refuse_newer(&session, id)?;
        let settings = self.settings(session.settings.clone());
        let request = self.assemble(&settings, session.context())?;

        let writable = store.for_writing(invocation.lock_timeout)?;
        let writer = if is_fresh {
            None
        } else {
            Some(writable.writer(id)?)
        };
        let draft = writable.draft(self.draft(id, &settings, &request))?;
        let reply = match self.ask(&settings, &request, on_piece) {
            Ok(reply) => reply,
            Err(failure) => {
                let error = failure.error.session(id);
                draft.fail(&error, failure.partial.content, failure.partial.thinking);
                return Err(error);
            }
        };

        let model = self.model(&settings);
        let same_system = session.settings.system == settings.system;
        let exchange = Exchange {
            request: &request,
            reply: &reply,
            model,
            same_system,
        };
        let horizon = Horizon::of(&session, &request);
        let mut warnings: Vec<Warning> = damage(&snapshot.damage, id)
            .into_iter()
            .chain(self.offline())
            .chain(exchange.warnings())
            .chain(horizon.map(|horizon| pruned(horizon, &settings)))
            .collect();
        let turn = exchange.event(&self.prompt);
        let keep = Keep {
            turn,
            given: self.given.clone(),
            settings: &settings,
            horizon,
        };
        let kept = match writer {
            None => keep.in_new(&writable, id, invocation.durability),
            Some(writer) => keep.in_existing(writer, snapshot, invocation.durability),
        };

        let usage = exchange.context_usage(budget(&settings), Some(dropped(&session, &request)));
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
                    (!concurrent_with.is_empty())
                        .then(|| Warning::Concurrent(concurrent_with.clone())),
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
                draft.fail(&error, reply.content.clone(), reply.thinking.clone());
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
        let report = TurnReport::new(model, reply, usage).in_session(id, status);
        Ok(Outcome {
            answer: Answer::Turn(Box::new(report)),
            warnings,
            failure,
        })
    }

    /// Returns the settings of this turn: flags before the session, the session before the
    /// environment and the defaults.
    fn settings(&self, session: Settings) -> Settings {
        let mut settings = self.turn.defaults.clone();
        settings.overlay(session);
        settings.overlay(self.given.clone());
        settings
    }

    fn assemble<'a>(
        &'a self,
        settings: &'a Settings,
        turns: &'a [SaidTurn],
    ) -> Result<Request<'a>> {
        let draft = request::Draft {
            model: asked_model(settings),
            system: settings.system.as_deref().filter(|text| !text.is_empty()),
            turns,
            prompt: &self.prompt,
            options: &self.turn.options,
            max_context_tokens: budget(settings),
        };
        draft.assemble()
    }

    fn ask(
        &self,
        settings: &Settings,
        request: &Request<'_>,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> std::result::Result<Reply, Box<Failure>> {
        let chat = ChatRequest {
            model: asked_model(settings),
            messages: &request.messages,
            options: &request.options,
            think: self.turn.think.as_ref(),
            format: None,
            keep_alive: None,
            tools: None,
        };
        let mut reply = self.backend.chat(&chat, on_piece)?;
        if matches!(self.backend, Backend::Echo) {
            reply.usage.created_at = Some(clock::now().to_string());
        }
        Ok(reply)
    }

    fn draft(&self, session: SessionId, settings: &Settings, request: &Request<'_>) -> Draft {
        let ts = clock::now();
        Draft {
            v: VERSION,
            id: new_id(ts),
            ts,
            session,
            settings: settings.clone(),
            prompt: self.prompt.clone(),
            options: request.options.clone(),
            think: self.turn.think.clone(),
            error: None,
            response: None,
            thinking: None,
        }
    }

    /// Returns the name under which the reply goes into history and output.
    fn model<'a>(&self, settings: &'a Settings) -> &'a str {
        match self.backend {
            Backend::Echo => echo::MODEL,
            Backend::Server(_) => asked_model(settings),
        }
    }

    fn offline(&self) -> Option<Warning> {
        matches!(self.backend, Backend::Echo).then_some(Warning::Offline)
    }
}

fn asked_model(settings: &Settings) -> &str {
    settings
        .model
        .as_deref()
        .expect("the defaults name a model")
}

fn budget(settings: &Settings) -> u64 {
    settings
        .max_context_tokens
        .expect("the defaults have a budget")
}

fn dropped(session: &Session, request: &Request<'_>) -> u64 {
    session.turn_count() - request.kept.len() as u64
}

fn damage<T>(places: &[T], session: SessionId) -> Option<Warning> {
    (!places.is_empty()).then_some(Warning::Damaged {
        session,
        places: places.len(),
    })
}

fn pruned(horizon: Horizon, settings: &Settings) -> Warning {
    Warning::Pruned {
        turns: horizon.newly_dropped,
        max_context_tokens: budget(settings),
    }
}
