//! Asking: what was typed becomes a plan, the plan a request, and a refusal for its length a
//! shorter one.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::exchange::Carried;
use super::key::KeyedRequest;
use super::messages::Images;
use super::recall::{Recalled, recall};
use super::request::{self, Planned, Request};
use super::window::Remembered;
use super::withhold::Withhold;
use super::{summary, template, window};
use crate::cli::{Invocation, Server, Turn, in_force};
use crate::clock;
use crate::error::Result;
use crate::ollama::{
    ApiKey, Backend, ChatRequest, Chunk, Client, Failure, Host, Overflow, Reply, echo, wire,
};
use crate::output::{ContextPlan, Outcome, PlanReport};
use crate::prompt::attachments;
use crate::prompt::{self, Source};
use crate::session::attachment::{Asking, Attachments, Blob, Image};
use crate::session::event::{Key, Reference, Settings};
use crate::session::fold::Session;
use crate::session::id::SessionId;
use crate::store::Store;
use crate::store::blobs::NewBlob;
use crate::store::draft::Draft;
use crate::warning::Warning;

/// A turn with everything that was typed read in.
pub(super) struct Call<'a> {
    pub(super) turn: &'a Turn,
    /// The user's message, with everything it refers to.
    pub(super) prompt: String,
    /// What was read for it.
    pub(super) references: Vec<Reference>,
    /// What is worth telling of that.
    reference_warnings: Vec<Warning>,
    /// What goes with it: images, the format of the reply, tools, results.
    pub(super) attachments: Attachments,
    blobs: Vec<Blob>,
    /// The images as they are kept.
    pub(super) new_blobs: Vec<NewBlob>,
    /// What the flags say of the session, from this turn on.
    pub(super) given: Settings,
    recalled: OnceCell<Recalled>,
    /// What is never to be stored.
    pub(super) withhold: Withhold,
    /// What its template says, if it begins with one.
    pub(super) begins: Settings,
    /// What a new session begins with where nothing else says otherwise.
    defaults: Settings,
    /// What it was asked with before, if it is asked for again.
    drafted: Settings,
    /// Its idempotency key, if it has one.
    pub(super) key: Option<Key>,
    backend: Backend,
}

/// A request that was answered.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) request: Request<'a>,
    pub(super) reply: Reply,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Call<'a> {
    /// Reads what was typed.
    ///
    /// # Errors
    /// `usage` for a prompt that cannot be read and for a template that cannot be used, `reference`
    /// for what the prompt refers to if that is to matter, `config` for a server that cannot be
    /// meant.
    pub(super) fn new(turn: &'a Turn, invocation: &Invocation) -> Result<Self> {
        let withhold = Withhold::new(&invocation.redact)?;
        let mut begins = match &turn.begin {
            Some(begin) => template::begins(begin, invocation.store.path()?)?,
            None => Settings::default(),
        };
        begins.system = begins.system.map(|text| withhold.text(text));
        let mut defaults = turn.defaults.clone();
        defaults.system = defaults.system.map(|text| withhold.text(text));
        let expanded = prompt::read_expanded(&turn.prompt, &turn.references)?;
        let mut attachments = attachments::read(&turn.attached)?;
        for result in &mut attachments.tool_results {
            result.content = withhold.text(std::mem::take(&mut result.content));
        }
        let mut references = expanded.references;
        for reference in &mut references {
            reference.path = withhold.text(std::mem::take(&mut reference.path));
            reference.error = reference.error.take().map(|text| withhold.text(text));
        }
        let mut given = given(turn)?;
        given.system = given.system.map(|text| withhold.text(text));
        let mut call = Self {
            turn,
            prompt: withhold.text(expanded.text),
            references,
            reference_warnings: expanded.warnings,
            blobs: attachments.blobs(),
            new_blobs: new_blobs(&attachments)?,
            attachments,
            recalled: OnceCell::new(),
            given,
            withhold,
            begins,
            defaults,
            drafted: Settings::default(),
            key: None,
            backend: backend(&turn.server)?,
        };
        call.key = call.key();
        Ok(call)
    }

    fn key(&self) -> Option<Key> {
        let key = self.turn.guarantees.key.as_deref()?;
        let images = self.attachments.images.iter();
        let request = KeyedRequest {
            key,
            prompt: &self.prompt,
            model: self.given.model.as_deref(),
            system: self.given.system.as_deref(),
            template: &self.begins,
            options: self.turn.options.iter().collect(),
            think: self.turn.think.as_ref(),
            images: images.map(|image| image.blob.sha256.as_str()).collect(),
            format: self.attachments.format.as_ref(),
            tools: self.attachments.tools.as_ref(),
            tool_results: &self.attachments.tool_results,
        };
        Some(request.key())
    }

    /// Makes the call of a draft once more: everything was read when the draft was made.
    ///
    /// # Errors
    /// `config` for a server that cannot be meant.
    pub(super) fn again(turn: &'a Turn, draft: &Draft, invocation: &Invocation) -> Result<Self> {
        Ok(Self {
            turn,
            prompt: draft.prompt.clone(),
            references: draft.references.clone(),
            reference_warnings: Vec::new(),
            blobs: draft.attachments.blobs(),
            new_blobs: new_blobs(&draft.attachments)?,
            attachments: draft.attachments.clone(),
            recalled: OnceCell::new(),
            given: draft.given.clone(),
            withhold: Withhold::new(&invocation.redact)?,
            begins: Settings::default(),
            defaults: turn.defaults.clone(),
            drafted: Settings {
                // These are the session's own, whatever is asked.
                pins: BTreeMap::new(),
                tags: BTreeMap::new(),
                ..draft.settings.clone()
            },
            key: draft.key.clone(),
            backend: backend(&turn.server)?,
        })
    }

    /// Takes what belongs to this turn from the session it continues: the images of earlier
    /// turns, and the calls whose results it brings. Without this no session is continued.
    ///
    /// # Errors
    /// `usage` for a result of a tool that was not called.
    pub(super) fn recall(
        &self,
        session: &Session,
        place: Option<(&dyn Store, SessionId)>,
    ) -> Result<()> {
        let recalled = recall(&self.attachments.tool_results, session, place)?;
        // Only the first look counts: it is what the request is made of.
        let _ = self.recalled.set(recalled);
        Ok(())
    }

    /// Returns what the turn carries, as it is stored.
    pub(super) fn carried(&self) -> Carried<'_> {
        Carried {
            attachments: &self.attachments,
            results: &self.recalled().results,
        }
    }

    fn recalled(&self) -> &Recalled {
        self.recalled.get_or_init(Recalled::default)
    }

    fn images(&self) -> Images<'_> {
        Images {
            own: &self.attachments.images,
            recalled: Some(&self.recalled().images),
        }
    }

    /// Returns the settings of this turn: flags before the session, the session before template,
    /// environment, `config.toml` and defaults. A session that is there keeps its options as they
    /// are, also where it has none.
    pub(super) fn settings(&self, session: &Session) -> Settings {
        let mut settings = self.defaults.clone();
        if session.created.is_some() {
            settings.options.clear();
        } else {
            settings.overlay(self.begins.clone());
        }
        settings.overlay(session.settings.clone());
        settings.overlay(self.given.clone());
        settings.overlay(self.drafted.clone());
        settings
    }

    /// Tells whether a template was named that the session, which is there already, was not begun
    /// with.
    pub(super) fn unused_template(&self, session: &Session) -> Option<Warning> {
        let named = self.begins.template.as_ref();
        let is_other = session.created.is_some() && session.settings.template.as_ref() != named;
        named
            .filter(|_| is_other)
            .map(|template| Warning::TemplateUnused {
                template: template.clone(),
            })
    }

    /// Returns the options of the request.
    pub(super) fn options(&self, settings: &Settings) -> Map<String, Value> {
        in_force(&settings.options, &self.turn.options)
    }

    /// Returns what is remembered of the model's window.
    pub(super) fn remembered(&self, settings: &Settings, store: Option<&dyn Store>) -> Remembered {
        match (&self.backend, store) {
            (Backend::Server(client), Some(store)) => {
                window::recall(client, settings.model(), store)
            }
            _ => Remembered::default(),
        }
    }

    /// Returns the window the model has: as remembered, or as the server says now.
    ///
    /// # Errors
    /// Those of a server that could not answer the turn either.
    pub(super) fn window(
        &self,
        settings: &Settings,
        store: &dyn Store,
        remembered: Remembered,
    ) -> Result<Option<u64>> {
        match &self.backend {
            Backend::Server(client) if !remembered.is_fresh => {
                window::ask(client, settings.model(), store, remembered.window)
            }
            _ => Ok(remembered.window),
        }
    }

    /// Tells whether the budget has grown since turns left the context.
    pub(super) fn has_grown(
        &self,
        settings: &Settings,
        session: &Session,
        window: Option<u64>,
    ) -> bool {
        let Some(horizon) = &session.horizon else {
            return false;
        };
        let now = window.map_or(settings.budget(), |window| window.min(settings.budget()));
        horizon.dropped_turns > 0 && horizon.budget > 0 && horizon.budget < now
    }

    /// Chooses what fits: of the turns in the context, or `again` of all there are.
    ///
    /// # Errors
    /// `context_overflow` when what must be sent does not fit.
    pub(super) fn plan<'s>(
        &'s self,
        settings: &'s Settings,
        session: &'s Session,
        again: bool,
        window: Option<u64>,
        scale: f64,
    ) -> Result<Planned<'s>> {
        let summary = session.summary().filter(|_| !again);
        let turns = if again {
            session.turns.iter().collect()
        } else {
            session.context()
        };
        let asking = Asking {
            prompt: &self.prompt,
            results: &self.recalled().results,
            blobs: &self.blobs,
            parent: turns.last().map(|said| said.id),
        };
        let draft = request::Draft {
            settings,
            summary,
            turns,
            before: again.then_some(session),
            asking,
            tools: self.attachments.tools.as_ref(),
            images: self.images(),
            options: self.options(settings),
            window,
            scale,
        };
        draft.plan()
    }

    /// Asks, and once more with less if the server says that it was too much. `store` is where a
    /// window that turns out to be another is remembered.
    ///
    /// # Errors
    /// The client's, with what had arrived; `context_overflow` if even so it is too much.
    pub(super) fn ask<'s>(
        &'s self,
        settings: &'s Settings,
        session: &'s Session,
        again: bool,
        planned: Planned<'s>,
        store: Option<&dyn Store>,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> std::result::Result<Asked<'s>, Box<Failure>> {
        let mut warnings = self.warnings();
        let request = self.request(settings, &planned, &mut warnings)?;
        let failure = match self.chat(settings, &request, on_piece) {
            Ok(reply) => {
                return Ok(Asked {
                    request,
                    reply,
                    warnings,
                });
            }
            Err(failure) => failure,
        };
        let Some(overflow) = failure.overflow else {
            return Err(failure);
        };
        let (window, scale) = self.corrected(settings, &request, overflow, store);
        let Ok(planned) = self.plan(settings, session, again, window, scale) else {
            return Err(failure);
        };
        warnings.push(Warning::AskedAgain {
            tokens: overflow.prompt_tokens,
            num_ctx: overflow.num_ctx,
        });
        let request = self.request(settings, &planned, &mut warnings)?;
        let reply = self.chat(settings, &request, on_piece)?;
        Ok(Asked {
            request,
            reply,
            warnings,
        })
    }

    /// Takes what the server measured when it refused: a window smaller than was asked for is the
    /// model's own, and counts that were too low are raised.
    fn corrected(
        &self,
        settings: &Settings,
        request: &Request<'_>,
        overflow: Overflow,
        store: Option<&dyn Store>,
    ) -> (Option<u64>, f64) {
        let Overflow {
            prompt_tokens,
            num_ctx,
        } = overflow;
        let is_own = request.sent.num_ctx.is_none_or(|asked| num_ctx < asked);
        if let (true, Some(store), Backend::Server(client)) = (is_own, store, &self.backend) {
            window::correct(client, settings.model(), store, num_ctx);
        }
        let known = self.remembered(settings, store).window;
        let scale = prompt_tokens as f64 / request.tokens.max(1) as f64;
        (if is_own { Some(num_ctx) } else { known }, scale.max(1.0))
    }

    /// Has the window asked for again with the next turn, if this one's reply gives cause.
    pub(super) fn doubt_window(&self, settings: &Settings, store: &dyn Store, reply: &Reply) {
        if let Backend::Server(client) = &self.backend {
            window::doubt(client, settings.model(), store, &reply.usage);
        }
    }

    /// Puts the request together, with a summary of what leaves where that is wanted.
    fn request<'s>(
        &self,
        settings: &Settings,
        planned: &Planned<'s>,
        warnings: &mut Vec<Warning>,
    ) -> std::result::Result<Request<'s>, Box<Failure>> {
        let turns = planned.to_summarize();
        if planned.is_room_missing {
            let cause = "the budget leaves no room for a summary".to_owned();
            warnings.push(Warning::NotSummarized { cause });
        }
        if turns.is_empty() {
            return Ok(planned.request(None));
        }
        let num_ctx = planned.num_ctx_for_summary();
        match summary::of(
            &self.backend,
            settings.model(),
            num_ctx,
            planned.earlier_summary(),
            &turns,
        ) {
            Ok(summary) => Ok(planned.request(Some(self.withhold.text(summary)))),
            Err(error) if summary::ends_the_turn(&error) => Err(Failure::of(error)),
            Err(error) => {
                warnings.push(Warning::NotSummarized {
                    cause: error.to_string(),
                });
                Ok(planned.request(None))
            }
        }
    }

    fn chat(
        &self,
        settings: &Settings,
        request: &Request<'_>,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> std::result::Result<Reply, Box<Failure>> {
        let mut reply = self
            .backend
            .chat(&self.chat_request(settings, request), on_piece)?;
        if matches!(self.backend, Backend::Echo) {
            reply.usage.created_at = Some(clock::now().to_string());
        }
        Ok(reply)
    }

    fn chat_request<'s>(
        &'s self,
        settings: &'s Settings,
        request: &'s Request<'_>,
    ) -> ChatRequest<'s> {
        ChatRequest {
            model: settings.model(),
            messages: &request.messages,
            options: &request.options,
            think: self.turn.think.as_ref(),
            format: self.attachments.format.as_ref(),
            keep_alive: self.attachments.keep_alive.as_ref(),
            tools: self.attachments.tools.as_ref(),
        }
    }

    /// Returns what would be sent, with nothing sent and nothing written.
    pub(super) fn would_send(
        &self,
        planned: &Planned<'_>,
        settings: &Settings,
        place: Option<(SessionId, &Session)>,
    ) -> Outcome {
        let request = planned.request(None);
        let body = wire::body(&self.chat_request(settings, &request));
        let kept = request.sent.turns;
        let plan = ContextPlan {
            strategy: settings.prune.unwrap_or_default().name(),
            max_context_tokens: settings.budget(),
            budget: request.budget,
            tokens: request.tokens,
            num_ctx: request.sent.num_ctx,
            kept_turns: kept,
            dropped_turns: place.map_or(0, |(_, session)| session.turn_count() - kept),
            would_summarize: planned.to_summarize().len() as u64,
            messages: planned.messages(),
        };
        let url = match &self.backend {
            Backend::Echo => None,
            Backend::Server(client) => Some(client.host().url("/api/chat")),
        };
        let report = PlanReport::new(url, body, plan, place.map(|(id, _)| id))
            .referring_to(&self.references);
        Outcome {
            warnings: self.warnings(),
            ..Outcome::report(report)
        }
    }

    /// Returns what is told of a turn when more is to be said.
    pub(super) fn notes(&self, request: &Request<'_>, settings: &Settings) -> Vec<String> {
        let who = match &self.backend {
            Backend::Echo => "the built-in echo model".to_owned(),
            Backend::Server(client) => format!("{} at {}", settings.model(), client.host()),
        };
        let window = request
            .sent
            .num_ctx
            .map_or("its own".to_owned(), |tokens| tokens.to_string());
        let asked = format!(
            "asked {who}: {} messages, {} bytes, at most {} tokens of {}, window {window}",
            request.sent.messages, request.sent.bytes, request.tokens, request.budget
        );
        vec![asked]
    }

    /// Returns the name under which the reply goes into history and output.
    pub(super) fn model<'s>(&self, settings: &'s Settings) -> &'s str {
        match self.backend {
            Backend::Echo => echo::MODEL,
            Backend::Server(_) => settings.model(),
        }
    }

    /// Returns what is worth telling before anything is asked.
    fn warnings(&self) -> Vec<Warning> {
        let offline = matches!(self.backend, Backend::Echo).then_some(Warning::Offline);
        let references = self.reference_warnings.iter().cloned();
        let images = self.recalled().warnings.iter().cloned();
        references.chain(images).chain(offline).collect()
    }
}

fn new_blobs(attachments: &Attachments) -> Result<Vec<NewBlob>> {
    let new = |image: &Image| {
        Ok(NewBlob {
            sha256: image.blob.sha256.clone(),
            bytes: attachments::decode(image)?,
        })
    };
    attachments.images.iter().map(new).collect()
}

/// Returns what the flags say of the session. An empty system prompt on the command line removes
/// the one there is.
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
        prune: turn.prune,
        ..Settings::default()
    })
}

/// Returns who answers.
///
/// # Errors
/// `config` for a server that cannot be meant.
pub(super) fn backend(server: &Server) -> Result<Backend> {
    match server {
        Server::Echo => Ok(Backend::Echo),
        Server::Ollama {
            host,
            api_key,
            silence,
        } => {
            let key = api_key.as_deref().map(ApiKey::parse).transpose()?;
            let client = Client::new(&Host::parse(host)?, key.as_ref(), *silence)?;
            Ok(Backend::Server(Box::new(client)))
        }
    }
}
