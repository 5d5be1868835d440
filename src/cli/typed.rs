//! The flags of a turn as they are typed, and what they ask for; each verb has its own beside this.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use super::attachments::Attachments;
use super::display::{Color, Display};
use super::examples;
use super::guarantees::TypedGuarantees;
use super::help::{MANAGEMENT, MODEL, OUTPUT, PROMPT, UTILITIES};
use super::later::Later;
use super::manual::{Completions, page};
use super::options::TypedOptions;
use super::purge::CleanupArgs;
use super::references::References;
use super::session::Verb;
use super::templates::{self, TypedBegin};
use super::values::{
    DAY, TypedStrategy, context_tokens, duration, path, session_ref, source, usage,
};
use super::{
    Command, Env, Invocation, ListWanted, Memory, Output, Part, Purge, Server, ShowWanted, Turn,
};
use crate::error::Result;
use crate::prompt::Source;
use crate::session::event::Strategy;
use crate::session::id::{SessionId, SessionRef};
use crate::store::Durability;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "ollama-prompt",
    version,
    infer_long_args = true,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    disable_help_flag = true,
    disable_version_flag = true,
    about = "Ask an Ollama server, print one JSON object, keep the conversation",
    long_about = "\
Ask an Ollama server, print one JSON object, keep the conversation

Without a flag that says otherwise a session is created; its id is in the answer. A failure prints \
one JSON object on standard error and nothing on standard output; its exit status says of which \
kind it is.",
    after_long_help = examples::TURN
)]
pub struct Typed {
    #[command(subcommand)]
    long_form: Option<LongForm>,

    /// The user message; `-` reads standard input
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = PROMPT
    )]
    prompt: Option<String>,
    /// Read the user message from a file
    #[arg(
        long,
        value_name = "PATH",
        value_parser = path(),
        conflicts_with = "prompt",
        hide_short_help = true,
        help_heading = PROMPT
    )]
    prompt_file: Option<PathBuf>,
    /// The system prompt
    ///
    /// That of a continued session changes from this turn on; "" removes it.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = PROMPT
    )]
    system: Option<String>,
    /// Read the system prompt from a file
    #[arg(
        long,
        value_name = "PATH",
        value_parser = path(),
        conflicts_with = "system",
        hide_short_help = true,
        help_heading = PROMPT
    )]
    system_file: Option<PathBuf>,
    #[command(flatten)]
    begin: TypedBegin,
    #[command(flatten)]
    references: References,

    /// The model to ask
    ///
    /// A continued session keeps its own unless this is given. [env: OLLAMA_PROMPT_MODEL] [default:
    /// deepseek-v3.1:671b-cloud]
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    model: Option<String>,
    #[command(flatten)]
    options: TypedOptions,
    /// Whether to think, and how much: true, false, low, medium, high or max
    #[arg(
        long,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_short_help = true,
        help_heading = MODEL
    )]
    think: Option<Think>,
    #[command(flatten)]
    attachments: Attachments,
    /// Longest silence of the server that is waited out, as in 90s or 10m
    ///
    /// The time it takes to load a model counts. [default: 10m]
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        hide_short_help = true,
        help_heading = MODEL
    )]
    timeout: Option<Duration>,
    /// Answer from the built-in echo model instead of a server
    #[arg(long, hide_short_help = true, help_heading = MODEL)]
    offline: bool,

    /// Continue a session: its id, or a part of it
    ///
    /// A part has at least 8 characters, from the beginning of the id or from its end.
    #[arg(long, value_name = "ID", help_heading = MANAGEMENT)]
    session_id: Option<String>,
    /// The session that always belongs to this name
    ///
    /// It is created if absent: the name of a branch, a ticket or a file will do.
    #[arg(long, value_name = "NAME", help_heading = MANAGEMENT)]
    session_key: Option<String>,
    /// Continue the session used most recently
    #[arg(short, long = "continue", help_heading = MANAGEMENT)]
    continue_latest: bool,
    /// With a full --session-id: create the session if it does not exist
    #[arg(long, requires = "session_id", hide_short_help = true, help_heading = MANAGEMENT)]
    create: bool,
    /// Create a session; this is what happens anyway
    #[arg(long, hide_short_help = true, help_heading = MANAGEMENT)]
    new_session: bool,
    /// Leave no trace: nothing is stored or remembered
    ///
    /// [env: OLLAMA_PROMPT_NO_SESSION=1 makes it the default]
    #[arg(long, help_heading = MANAGEMENT)]
    no_session: bool,
    /// Create a session that begins with the history of this one, up to TURN
    ///
    /// Without TURN, with all of it.
    #[arg(
        long,
        value_name = "ID[:TURN]",
        hide_short_help = true,
        help_heading = MANAGEMENT
    )]
    fork_from: Option<String>,
    #[command(flatten)]
    guarantees: TypedGuarantees,
    /// The session's context budget [default: 64000]
    ///
    /// In tokens, from this turn on; the default is for a new session, and a continued one keeps
    /// its own. [env: OLLAMA_PROMPT_MAX_CONTEXT_TOKENS]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = MANAGEMENT
    )]
    max_context_tokens: Option<i64>,
    /// How turns leave the context when it is full: fifo, importance, summarize or off
    ///
    /// fifo: the oldest leave; importance: the least important; summarize: the oldest, and a
    /// summary stays; off: none, and what does not fit is an error. From this turn on. [default:
    /// fifo]
    #[arg(
        long,
        value_name = "STRATEGY",
        hide_possible_values = true,
        hide_short_help = true,
        help_heading = MANAGEMENT
    )]
    prune: Option<TypedStrategy>,
    /// Whether a turn is synced to disk before it is acknowledged: full or relaxed [default: full]
    #[arg(
        long,
        value_name = "LEVEL",
        hide_possible_values = true,
        hide_short_help = true,
        help_heading = MANAGEMENT
    )]
    durability: Option<TypedDurability>,

    /// List all sessions, the last used first
    #[arg(long, help_heading = UTILITIES)]
    list_sessions: bool,
    /// Show a session: settings, and all that was said
    #[arg(long, value_name = "ID", help_heading = UTILITIES)]
    session_info: Option<String>,
    /// Remove sessions not used for so long; 0 is all
    ///
    /// Each leaves a receipt. session purge takes a model and a tag besides. [alias:
    /// --purge-sessions]
    #[arg(
        long,
        alias = "purge-sessions",
        value_name = "DAYS",
        allow_negative_numbers = true,
        help_heading = UTILITIES
    )]
    purge: Option<i64>,

    /// What to print: json, compact, jsonl or text
    ///
    /// json is one indented object, compact the same on one line; jsonl has the pieces of the reply
    /// as they arrive, the last line the whole object; text is the reply only, as it arrives. Verbs
    /// have json and compact, and some have table, text, jsonl, markdown, html or svg; a verb that
    /// lacks the form says which it has. [default: json]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "json",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = OUTPUT
    )]
    output: Output,
    /// Print the exact request and what is kept and dropped, and why
    ///
    /// Nobody is asked and nothing is written.
    #[arg(long, hide_short_help = true, help_heading = OUTPUT)]
    dry_run: bool,
    #[command(flatten)]
    display: Display,
    /// Say less on standard error
    #[arg(
        short,
        long,
        action = ArgAction::Count,
        conflicts_with = "verbose",
        global = true,
        hide_short_help = true,
        help_heading = OUTPUT
    )]
    quiet: u8,
    /// Say more on standard error
    #[arg(
        short,
        long,
        action = ArgAction::Count,
        global = true,
        hide_short_help = true,
        help_heading = OUTPUT
    )]
    verbose: u8,
    /// Print help: -h in short, --help all of it
    #[arg(short, long, action = ArgAction::Help, global = true, help_heading = OUTPUT)]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = OUTPUT)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum LongForm {
    /// Look into what is stored, change it, keep it in order
    #[command(subcommand, after_long_help = examples::SESSION)]
    Session(Later<Verb>),
    /// Remove sessions that nobody uses, once or again and again
    ///
    /// A process that goes on until a signal, with one JSON object a line as its log.
    #[command(after_long_help = examples::CLEANUP)]
    Cleanup(CleanupArgs),
    /// Keep what sessions are begun with
    #[command(subcommand, after_long_help = examples::TEMPLATE)]
    Template(Later<templates::Verb>),
    /// Print completions for a shell
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Print the manual page, for man -l -
    #[command(after_long_help = examples::MAN)]
    Man,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypedDurability {
    Full,
    Relaxed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Think {
    True,
    False,
    Low,
    Medium,
    High,
    Max,
}

impl Think {
    fn to_json(self) -> Value {
        match self {
            Self::True => Value::Bool(true),
            Self::False => Value::Bool(false),
            Self::Low => "low".into(),
            Self::Medium => "medium".into(),
            Self::High => "high".into(),
            Self::Max => "max".into(),
        }
    }
}

impl Typed {
    /// Returns a text that is asked for and depends on nothing else.
    pub(super) fn text(&self) -> Option<String> {
        match &self.long_form {
            Some(LongForm::Completions(shell)) => {
                Some(shell.script(<Self as CommandFactory>::command()))
            }
            Some(LongForm::Man) => Some(page(<Self as CommandFactory>::command())),
            _ => None,
        }
    }

    /// Returns what was asked for, in an environment.
    ///
    /// # Errors
    /// `usage` for what makes no sense, `config` for the environment and `config.toml`; the
    /// message names the source.
    pub fn asks_for(self, env: &Env) -> Result<Invocation> {
        let (output, durability) = (self.output, self.durability(env)?);
        let verbosity = if self.quiet > 0 { 0 } else { 1 + self.verbose };
        let color = env.config.color.filter(|_| !env.forbids_color);
        let color = Color::of(self.display.color.or(color), env.forbids_color);
        let command = self.command(env)?;
        in_a_form_it_has(&command, output)?;
        Ok(Invocation {
            store: env.store_root(),
            database: env.database.clone(),
            old_databases: env.old_databases(),
            output,
            durability,
            lock_timeout: env.lock_timeout()?,
            color,
            verbosity,
            redact: env.redact(),
            command,
        })
    }

    fn command(self, env: &Env) -> Result<Command> {
        match &self.long_form {
            Some(LongForm::Session(Later(verb))) => return verb.command(env),
            Some(LongForm::Cleanup(cleanup)) => return Ok(cleanup.command()),
            Some(LongForm::Template(Later(verb))) => return verb.command(),
            Some(LongForm::Completions(_) | LongForm::Man) => {
                unreachable!("a text is printed before anything else is looked at")
            }
            None => {}
        }
        let utilities = [
            ("--list-sessions", self.list_sessions),
            ("--session-info", self.session_info.is_some()),
            ("--purge", self.purge.is_some()),
            ("--print-schema", self.display.print_schema.is_some()),
        ];
        one_at_most(&utilities)?;
        if let Some((utility, _)) = utilities.iter().find(|(_, given)| *given) {
            self.no_turn(utility)?;
        }
        if let Some(shape) = self.display.print_schema {
            return Ok(Command::PrintSchema(shape));
        }
        if self.list_sessions {
            return Ok(Command::ListSessions(ListWanted::default()));
        }
        if let Some(id) = &self.session_info {
            return Ok(Command::SessionInfo(ShowWanted {
                session: session_ref(id, "--session-info")?,
                part: Part::All,
            }));
        }
        if let Some(days) = self.purge {
            let days = u32::try_from(days).map_err(|_| {
                usage(format!(
                    "--purge takes a number of days from 0 on, not {days}"
                ))
            })?;
            return Ok(Command::Purge(Purge {
                unused_for: Duration::from_secs(u64::from(days) * DAY),
                model: None,
                tag: None,
                dry_run: false,
                asked: format!("--purge {days}"),
            }));
        }
        self.turn(env).map(|turn| Command::Turn(Box::new(turn)))
    }

    /// Refuses what only a turn can make use of.
    fn no_turn(&self, utility: &str) -> Result<()> {
        let of_a_turn = [
            ("--prompt", self.prompt.is_some()),
            ("--prompt-file", self.prompt_file.is_some()),
            ("--session-id", self.session_id.is_some()),
            ("--session-key", self.session_key.is_some()),
            ("--continue", self.continue_latest),
            ("--new-session", self.new_session),
            ("--no-session", self.no_session),
            ("--fork-from", self.fork_from.is_some()),
            ("--model", self.model.is_some()),
            ("--system", self.system.is_some()),
            ("--system-file", self.system_file.is_some()),
            ("--template", self.begin.template.is_some()),
            ("--temperature", self.options.temperature.is_some()),
            ("--max_tokens", self.options.max_tokens.is_some()),
            ("--max-context-tokens", self.max_context_tokens.is_some()),
            ("--option", !self.options.option.is_empty()),
            ("--think", self.think.is_some()),
            ("--prune", self.prune.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--offline", self.offline),
            ("--dry-run", self.dry_run),
        ];
        let attached = self.attachments.given();
        let given = self.references.given().into_iter().chain(attached);
        let mut of_a_turn = of_a_turn
            .into_iter()
            .chain(given)
            .chain(self.guarantees.given());
        if let Some((flag, _)) = of_a_turn.find(|(_, given)| *given) {
            return Err(
                usage(format!("{utility} and {flag} are mutually exclusive"))
                    .hint(format!("{utility} stands alone")),
            );
        }
        Ok(())
    }

    fn turn(self, env: &Env) -> Result<Turn> {
        let memory = self.memory(env)?;
        let prompt = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) if text == "-" => Source::Stdin,
            (Some(text), _) => Source::Text(text.clone()),
            (None, Some(path)) => Source::File(path.clone()),
            (None, None) if self.attachments.can_stand_alone() => Source::Absent,
            (None, None) => {
                return Err(usage("there is no prompt: --prompt is required")
                    .hint("ollama-prompt --prompt \"…\", or --list-sessions, --session-info ID, --purge DAYS"));
            }
        };
        let system = self.system.clone().map(Source::Text);
        let system = system.or_else(|| self.system_file.clone().map(Source::File));
        let max_context_tokens = self
            .max_context_tokens
            .map(context_tokens)
            .transpose()
            .map_err(|why| usage(format!("--max-context-tokens {why}")))?;
        if self
            .model
            .as_deref()
            .is_some_and(|name| name.trim().is_empty())
        {
            return Err(usage("--model is empty").hint("ollama list shows the models there are"));
        }
        let patience = env.patience(self.timeout);
        Ok(Turn {
            prompt,
            references: self.references.rules(&env.config)?,
            system,
            attached: self.attachments.attached(&memory, &env.config)?,
            max_context_tokens,
            prune: self.prune.map(Strategy::from),
            dry_run: self.dry_run,
            begin: self.begin.begin(&memory)?,
            guarantees: self.guarantees.ask_for(&memory, patience)?,
            memory,
            defaults: env.defaults()?,
            options: self.options.given()?,
            think: self.think.map(Think::to_json),
            server: if self.offline {
                Server::Echo
            } else {
                env.server(self.timeout)?
            },
            model: self.model,
        })
    }

    fn memory(&self, env: &Env) -> Result<Memory> {
        let choices = [
            ("--session-id", self.session_id.is_some()),
            ("--session-key", self.session_key.is_some()),
            ("--continue", self.continue_latest),
            ("--new-session", self.new_session),
            ("--no-session", self.no_session),
            ("--fork-from", self.fork_from.is_some()),
        ];
        one_at_most(&choices)?;
        if let Some(text) = &self.fork_from {
            let (parent, turn) = source(text, "--fork-from")?;
            return Ok(Memory::Fork { parent, turn });
        }
        if let Some(text) = &self.session_id {
            let reference = session_ref(text, "--session-id")?;
            return match (self.create, reference) {
                (false, reference) => Ok(Memory::Continue(reference)),
                (true, SessionRef::Full(id)) => Ok(Memory::ContinueOrCreate(id)),
                (true, SessionRef::Fragment(_)) => Err(usage(format!(
                    "--create needs a full session id, and `{text}` is none"
                ))
                .hint("make one with uuidgen, or use --session-key NAME")),
            };
        }
        if let Some(name) = &self.session_key {
            if name.trim().is_empty() {
                return Err(usage("--session-key is empty")
                    .hint("give it the name of a branch, a ticket or a file"));
            }
            return Ok(Memory::ContinueOrCreate(SessionId::from_key(name)));
        }
        Ok(if self.continue_latest {
            Memory::Latest
        } else if self.no_session || (!self.new_session && env.is_stateless()?) {
            Memory::None
        } else {
            Memory::New
        })
    }

    fn durability(&self, env: &Env) -> Result<Durability> {
        match self.durability {
            Some(TypedDurability::Full) => Ok(Durability::Full),
            Some(TypedDurability::Relaxed) => Ok(Durability::Relaxed),
            None => env.durability(),
        }
    }
}

/// Refuses a form of output the command does not have.
fn in_a_form_it_has(command: &Command, output: Output) -> Result<()> {
    let forms = command.forms();
    if forms.contains(&output) {
        return Ok(());
    }
    let names: Vec<&str> = forms.iter().map(|form| form.name()).collect();
    let sentence = format!("there is no --output {} of this", output.name());
    Err(usage(sentence).hint(format!("--output takes {} here", names.join(", "))))
}

fn one_at_most<'a>(flags: impl IntoIterator<Item = &'a (&'static str, bool)>) -> Result<()> {
    let given: Vec<&str> = flags
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| *name)
        .collect();
    if given.len() > 1 {
        return Err(
            usage(format!("{} are mutually exclusive", given.join(" and ")))
                .hint("give one of them"),
        );
    }
    Ok(())
}
