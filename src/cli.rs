//! From what was typed to what was asked for.
//!
//! [`Typed`] mirrors the flags and only checks spelling; [`Env`] is the environment, read here
//! and nowhere else. Together they become a [`Command`], which cannot express a combination that
//! means nothing. Nothing here touches the disk, the network or the clock.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::prompt::Source;
use crate::session::event::Settings;
use crate::session::id::{SessionId, SessionRef};
use crate::store::Durability;

const DEFAULT_MODEL: &str = "deepseek-v3.1:671b-cloud";
const DEFAULT_MAX_CONTEXT_TOKENS: u64 = 64_000;
const DEFAULT_TEMPERATURE: f64 = 0.1;
const DEFAULT_MAX_TOKENS: i64 = 2048;
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest context budget that is not a slip of the keyboard, in tokens.
const LARGEST_CONTEXT: u64 = 1 << 31;

const MANAGEMENT: &str = "Session management";
const UTILITIES: &str = "Session utilities";

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "ollama-prompt",
    version,
    infer_long_args = true,
    about = "Send a prompt to an Ollama server and print one JSON object; conversations persist",
    after_help = "\
Examples:
  ollama-prompt --prompt \"Help me plan a web application\"
  ollama-prompt --session-id ID --prompt \"Now the schema\"
  git diff | ollama-prompt --no-session --prompt - --output text"
)]
pub struct Typed {
    /// The user message; `-` reads it from standard input
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Read the user message from a file
    #[arg(long, value_name = "PATH", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// The model to ask [env: OLLAMA_PROMPT_MODEL] [default: deepseek-v3.1:671b-cloud]; a continued session keeps its own
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The system prompt; changes that of a continued session from this turn on, and "" removes it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Read the system prompt from a file
    #[arg(long, value_name = "PATH", conflicts_with = "system")]
    system_file: Option<PathBuf>,
    /// Sampling temperature [default: 0.1]
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Most tokens to generate; -1 is no limit [default: 2048]
    #[arg(
        long = "max_tokens",
        visible_alias = "max-tokens",
        value_name = "N",
        allow_negative_numbers = true
    )]
    max_tokens: Option<i64>,
    /// Any other Ollama option (seed=7, stop=END, num_ctx=32768); may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Whether to think, and how much: true, false, low, medium, high or max
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    think: Option<Think>,
    /// What to print: json, compact (one line), jsonl (chunks as they arrive) or text (the reply)
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "json",
        hide_default_value = true,
        hide_possible_values = true
    )]
    output: Output,
    /// Longest silence of the server that is waited out, loading included, as in 90s or 10m [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Answer from the built-in echo model instead of a server
    #[arg(long)]
    offline: bool,
    /// Whether a turn is synced to disk before it is acknowledged: full or relaxed [default: full]
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    durability: Option<TypedDurability>,
    /// Say less on standard error
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,
    /// Say more on standard error
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,

    /// Continue a session: its id, or at least 8 characters from its beginning or end
    #[arg(long, value_name = "ID", help_heading = MANAGEMENT)]
    session_id: Option<String>,
    /// Continue the session that always belongs to this name; it is created if absent
    #[arg(long, value_name = "NAME", help_heading = MANAGEMENT)]
    session_key: Option<String>,
    /// With a full --session-id: create the session if it does not exist
    #[arg(long, requires = "session_id", help_heading = MANAGEMENT)]
    create: bool,
    /// Continue the session used most recently
    #[arg(short, long = "continue", help_heading = MANAGEMENT)]
    continue_latest: bool,
    /// Create a session; this is what happens anyway
    #[arg(long, help_heading = MANAGEMENT)]
    new_session: bool,
    /// Leave no trace: nothing is stored or remembered
    #[arg(long, help_heading = MANAGEMENT)]
    no_session: bool,
    /// The session's context budget in tokens [env: OLLAMA_PROMPT_MAX_CONTEXT_TOKENS] [default: 64000]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = MANAGEMENT)]
    max_context_tokens: Option<i64>,

    /// List all sessions, the last used first
    #[arg(long, help_heading = UTILITIES)]
    list_sessions: bool,
    /// Show a session: its settings and every message ever said
    #[arg(long, value_name = "ID", help_heading = UTILITIES)]
    session_info: Option<String>,
    /// Remove sessions not used for this many days; 0 removes all
    #[arg(long, visible_alias = "purge-sessions", value_name = "DAYS", allow_negative_numbers = true, help_heading = UTILITIES)]
    purge: Option<i64>,
}

/// What is printed of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One indented object.
    Json,
    /// One object on one line.
    Compact,
    /// A line for each chunk as it arrives, the last one the whole object.
    Jsonl,
    /// The reply only, as it arrives.
    Text,
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

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// One turn.
    Turn(Box<Turn>),
    /// All sessions.
    ListSessions,
    /// One session.
    SessionInfo(SessionRef),
    /// The end of sessions not used for this many days.
    Purge {
        /// Days; 0 means whatever their last use.
        days: u32,
    },
}

/// What a turn needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Where the user's message comes from.
    pub prompt: Source,
    /// Where the system prompt comes from, if one was given.
    pub system: Option<Source>,
    /// The session it belongs to.
    pub memory: Memory,
    /// The model, if one was given by a flag.
    pub model: Option<String>,
    /// The context budget in tokens, if one was given by a flag.
    pub max_context_tokens: Option<u64>,
    /// What a new session begins with where no flag says otherwise.
    pub defaults: Settings,
    /// The options of the request, `temperature` and `num_predict` among them.
    pub options: Map<String, Value>,
    /// Whether to think, and how much.
    pub think: Option<Value>,
    /// Who is asked.
    pub server: Server,
    /// What is printed.
    pub output: Output,
}

/// The session a turn belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// None: nothing is read or written.
    None,
    /// A new one.
    New,
    /// One that must be there.
    Continue(SessionRef),
    /// The one used last.
    Latest,
    /// One that is made if it is not there.
    ContinueOrCreate(SessionId),
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// The built-in echo model.
    Echo,
    /// A server.
    Ollama {
        /// What `OLLAMA_HOST` says.
        host: String,
        /// What `OLLAMA_API_KEY` says.
        api_key: Option<String>,
        /// The longest silence that is waited out.
        silence: Duration,
    },
}

/// A command and what holds for every command.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What was asked for.
    pub command: Command,
    /// The root of the store.
    pub store: StoreRoot,
    /// Whether a turn is synced before it is acknowledged.
    pub durability: Durability,
    /// The longest wait for a lock.
    pub lock_timeout: Duration,
    /// How much is said on standard error: 0 is nothing but failures, 1 the usual, 2 more.
    pub verbosity: u8,
}

/// The root of the store, or why there is none: `--no-session` does not need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRoot {
    /// A directory, which may have to be made.
    At(PathBuf),
    /// The sentence and the hint of the `config` error.
    Unknown(&'static str, &'static str),
}

impl StoreRoot {
    /// Returns the directory.
    ///
    /// # Errors
    /// `config` when the environment names none, or one this build cannot use.
    pub fn path(&self) -> Result<&Path> {
        match self {
            Self::At(path) => Ok(path),
            Self::Unknown(sentence, hint) => Err(Error::new(Code::Config, *sentence).hint(*hint)),
        }
    }
}

/// The environment; what is empty counts as not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    home: Option<PathBuf>,
    store: Option<PathBuf>,
    db_path: Option<PathBuf>,
    db_uri: bool,
    host: Option<String>,
    api_key: Option<String>,
    model: Option<String>,
    max_context_tokens: Option<String>,
    no_session: Option<String>,
    lock_timeout: Option<String>,
    durability: Option<String>,
}

impl Env {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// `config` when a variable that must be text is not UTF-8.
    pub fn of_process() -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place that reads the environment"
        )]
        let raw = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &'static str| match raw(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(Error::new(Code::Config, format!("{name} is not UTF-8"))),
        };
        Ok(Self {
            home: raw("HOME").map(PathBuf::from),
            store: raw("OLLAMA_PROMPT_HOME").map(PathBuf::from),
            db_path: raw("OLLAMA_PROMPT_DB_PATH").map(PathBuf::from),
            db_uri: raw("OLLAMA_PROMPT_DB_URI").is_some(),
            host: text("OLLAMA_HOST")?,
            api_key: text("OLLAMA_API_KEY")?,
            model: text("OLLAMA_PROMPT_MODEL")?,
            max_context_tokens: text("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS")?,
            no_session: text("OLLAMA_PROMPT_NO_SESSION")?,
            lock_timeout: text("OLLAMA_PROMPT_LOCK_TIMEOUT")?,
            durability: text("OLLAMA_PROMPT_DURABILITY")?,
        })
    }

    fn store_root(&self) -> StoreRoot {
        if self.db_uri {
            return StoreRoot::Unknown(
                "OLLAMA_PROMPT_DB_URI is set, and this build has no database backend",
                "unset it to use the files under ~/.ollama-prompt",
            );
        }
        match (&self.store, &self.db_path, &self.home) {
            (Some(store), Some(path), _) if store != path => StoreRoot::Unknown(
                "OLLAMA_PROMPT_HOME and OLLAMA_PROMPT_DB_PATH name two different stores",
                "unset OLLAMA_PROMPT_DB_PATH, which is the older name",
            ),
            (Some(store), ..) => StoreRoot::At(store.clone()),
            (None, Some(path), _) => StoreRoot::At(path.clone()),
            (None, None, Some(home)) => StoreRoot::At(home.join(".ollama-prompt")),
            (None, None, None) => StoreRoot::Unknown(
                "there is no place for sessions: HOME is not set",
                "set HOME, or OLLAMA_PROMPT_HOME, or use --no-session",
            ),
        }
    }
}

/// What parsing the command line gives.
#[derive(Debug)]
pub enum Parsed {
    /// Something to do.
    Invocation(Box<Invocation>),
    /// A text that was asked for: help or version.
    Text(String),
}

/// Turns arguments (the program's name first) and environment into what was asked for.
///
/// # Errors
/// `usage` for the arguments, `config` for the environment; the message names the source.
pub fn parse(arguments: impl IntoIterator<Item = OsString>, env: &Env) -> Result<Parsed> {
    match Typed::try_parse_from(arguments) {
        Ok(typed) => Ok(Parsed::Invocation(Box::new(typed.asks_for(env)?))),
        Err(error) if !error.use_stderr() => Ok(Parsed::Text(error.render().to_string())),
        Err(error) => Err(misspelt(&error.render().to_string())),
    }
}

/// Takes clap's message apart: the sentence, and below it what to do.
fn misspelt(message: &str) -> Error {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let (sentence, rest) = message.split_once("\n\n").unwrap_or((message, ""));
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    let tip = rest
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "));
    usage(sentence).hint(tip.unwrap_or("ollama-prompt --help shows every option"))
}

fn usage(sentence: impl Into<String>) -> Error {
    Error::new(Code::Usage, sentence)
}

impl Typed {
    fn asks_for(self, env: &Env) -> Result<Invocation> {
        let lock_timeout = match &env.lock_timeout {
            None => DEFAULT_LOCK_TIMEOUT,
            Some(text) => duration(text)
                .map_err(|why| bad_variable("OLLAMA_PROMPT_LOCK_TIMEOUT", text, &why))?,
        };
        Ok(Invocation {
            store: env.store_root(),
            durability: self.durability(env)?,
            lock_timeout,
            verbosity: if self.quiet > 0 { 0 } else { 1 + self.verbose },
            command: self.command(env)?,
        })
    }

    fn command(self, env: &Env) -> Result<Command> {
        let utilities = [
            ("--list-sessions", self.list_sessions),
            ("--session-info", self.session_info.is_some()),
            ("--purge", self.purge.is_some()),
        ];
        let prompts = [
            ("--prompt", self.prompt.is_some()),
            ("--prompt-file", self.prompt_file.is_some()),
        ];
        one_at_most(utilities.iter().chain(&prompts))?;
        if self.list_sessions {
            return Ok(Command::ListSessions);
        }
        if let Some(id) = &self.session_info {
            return Ok(Command::SessionInfo(session_ref(id, "--session-info")?));
        }
        if let Some(days) = self.purge {
            let days = u32::try_from(days).map_err(|_| {
                usage(format!(
                    "--purge takes a number of days from 0 on, not {days}"
                ))
            })?;
            return Ok(Command::Purge { days });
        }
        self.turn(env).map(|turn| Command::Turn(Box::new(turn)))
    }

    fn turn(self, env: &Env) -> Result<Turn> {
        let memory = self.memory(env)?;
        let prompt = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) if text == "-" => Source::Stdin,
            (Some(text), _) => Source::Text(text.clone()),
            (None, Some(path)) => Source::File(path.clone()),
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
        Ok(Turn {
            prompt,
            system,
            memory,
            max_context_tokens,
            defaults: defaults(env)?,
            options: self.options()?,
            think: self.think.map(Think::to_json),
            server: if self.offline {
                Server::Echo
            } else {
                Server::Ollama {
                    host: env.host.clone().unwrap_or_default(),
                    api_key: env.api_key.clone(),
                    silence: self.timeout.unwrap_or(Duration::from_secs(600)),
                }
            },
            output: self.output,
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
        ];
        one_at_most(&choices)?;
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
        let stateless_by_default = match env.no_session.as_deref() {
            None | Some("0" | "false" | "no" | "off") => false,
            Some("1" | "true" | "yes" | "on") => true,
            Some(other) => {
                return Err(bad_variable(
                    "OLLAMA_PROMPT_NO_SESSION",
                    other,
                    "it is neither 1 nor 0",
                ));
            }
        };
        Ok(if self.continue_latest {
            Memory::Latest
        } else if self.no_session || (stateless_by_default && !self.new_session) {
            Memory::None
        } else {
            Memory::New
        })
    }

    /// Returns the options of the request: those given by name, and the two that have flags.
    fn options(&self) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        for text in &self.option {
            let (key, value) = text
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| {
                    usage(format!("--option takes KEY=VALUE, not `{text}`"))
                        .hint("as in --option seed=7")
                })?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            if options.insert(key.to_owned(), value).is_some() {
                return Err(usage(format!("--option {key} is given twice")));
            }
        }
        if let Some(temperature) = self.temperature
            && !(temperature.is_finite() && temperature >= 0.0)
        {
            return Err(usage(format!(
                "--temperature takes a number from 0 on, not {temperature}"
            )));
        }
        if let Some(tokens) = self.max_tokens
            && (tokens < -1 || tokens == 0 || tokens > i64::from(i32::MAX))
        {
            return Err(usage(format!(
                "--max_tokens takes a number from 1 on, or -1 for no limit, not {tokens}"
            )));
        }
        let flags: [(&str, &str, Option<Value>, Value); 2] = [
            (
                "temperature",
                "--temperature",
                self.temperature.map(Value::from),
                DEFAULT_TEMPERATURE.into(),
            ),
            (
                "num_predict",
                "--max_tokens",
                self.max_tokens.map(Value::from),
                DEFAULT_MAX_TOKENS.into(),
            ),
        ];
        for (key, flag, given, default) in flags {
            match (options.contains_key(key), given) {
                (true, Some(_)) => {
                    return Err(usage(format!(
                        "{flag} and --option {key} say the same thing twice"
                    )));
                }
                (true, None) => {}
                (false, given) => drop(options.insert(key.to_owned(), given.unwrap_or(default))),
            }
        }
        Ok(options)
    }

    fn durability(&self, env: &Env) -> Result<Durability> {
        match (self.durability, env.durability.as_deref()) {
            (Some(TypedDurability::Full), _) | (None, None | Some("full")) => Ok(Durability::Full),
            (Some(TypedDurability::Relaxed), _) | (None, Some("relaxed")) => {
                Ok(Durability::Relaxed)
            }
            (None, Some(other)) => Err(bad_variable(
                "OLLAMA_PROMPT_DURABILITY",
                other,
                "it is neither full nor relaxed",
            )),
        }
    }
}

/// Returns what a new session begins with where no flag says otherwise.
fn defaults(env: &Env) -> Result<Settings> {
    let max_context_tokens = match &env.max_context_tokens {
        None => DEFAULT_MAX_CONTEXT_TOKENS,
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| "takes a whole number of tokens".to_owned())
            .and_then(context_tokens)
            .map_err(|why| {
                bad_variable(
                    "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS",
                    text,
                    &format!("it {why}"),
                )
            })?,
    };
    Ok(Settings {
        model: Some(
            env.model
                .clone()
                .unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
        ),
        system: None,
        max_context_tokens: Some(max_context_tokens),
    })
}

fn context_tokens(tokens: i64) -> std::result::Result<u64, String> {
    u64::try_from(tokens)
        .ok()
        .filter(|tokens| (1..=LARGEST_CONTEXT).contains(tokens))
        .ok_or_else(|| {
            format!("takes a number of tokens from 1 to {LARGEST_CONTEXT}, not {tokens}")
        })
}

fn session_ref(text: &str, flag: &str) -> Result<SessionRef> {
    if matches!(text, "" | "null") {
        return Err(usage(format!(
            "{flag} is {}",
            if text.is_empty() { "empty" } else { "`null`" }
        ))
        .hint("the call that was to give the id has failed: look at its standard error"));
    }
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        usage(format!("{flag} is no session id: {shown:?}"))
            .hint("an id is a UUID, or at least 8 characters from its beginning or its end")
    })
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

fn bad_variable(name: &str, value: &str, why: &str) -> Error {
    Error::new(
        Code::Config,
        format!("{name}={value} cannot be used: {why}"),
    )
    .hint(format!("correct or unset {name}"))
}

/// Reads a length of time: `90s`, `10m`, `1h 30m`; a bare number is seconds.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()));
    seconds.unwrap_or_else(|| humantime::parse_duration(text).map_err(|e| e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        Env {
            home: Some("/home/u".into()),
            ..Env::default()
        }
    }

    fn ask_in(line: &str, env: &Env) -> Result<Invocation> {
        let words =
            std::iter::once("ollama-prompt").chain(line.split(' ').filter(|word| !word.is_empty()));
        match parse(words.map(OsString::from), env)? {
            Parsed::Invocation(invocation) => Ok(*invocation),
            Parsed::Text(text) => panic!("a text: {text}"),
        }
    }

    fn ask(line: &str) -> Result<Invocation> {
        ask_in(line, &env())
    }

    fn turn(line: &str) -> Turn {
        match ask(line).expect(line).command {
            Command::Turn(turn) => *turn,
            other => panic!("{line}: {other:?}"),
        }
    }

    const ID: &str = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";

    #[test]
    fn the_command_definition_is_sound() {
        <Typed as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_bare_prompt_is_a_new_session_with_the_defaults() {
        let t = turn("--prompt hi");
        assert_eq!(t.prompt, Source::Text("hi".into()));
        assert_eq!(t.memory, Memory::New);
        assert_eq!(
            Value::Object(t.options),
            serde_json::json!({"temperature": 0.1, "num_predict": 2048})
        );
        assert_eq!(t.defaults.model.as_deref(), Some(DEFAULT_MODEL));
        assert_eq!(t.defaults.max_context_tokens, Some(64_000));
        assert_eq!(t.output, Output::Json);
        assert_eq!(
            ask("--prompt hi").expect("usual").store,
            StoreRoot::At("/home/u/.ollama-prompt".into())
        );
    }

    #[test]
    fn sessions_are_named_in_their_ways() {
        let id: SessionId = ID.parse().expect("an id");
        let rows = [
            (
                format!("--session-id {ID}"),
                Memory::Continue(SessionRef::Full(id)),
            ),
            (
                format!("--session-id {}", &ID[28..]),
                Memory::Continue(SessionRef::Fragment(ID[28..].into())),
            ),
            (
                format!("--session-id {ID} --create"),
                Memory::ContinueOrCreate(id),
            ),
            (
                "--session-key main".into(),
                Memory::ContinueOrCreate(SessionId::from_key("main")),
            ),
            ("--continue".into(), Memory::Latest),
            ("-c".into(), Memory::Latest),
            ("--new-session".into(), Memory::New),
            ("--no-session".into(), Memory::None),
        ];
        for (flags, expected) in rows {
            assert_eq!(turn(&format!("-p hi {flags}")).memory, expected, "{flags}");
        }
    }

    #[test]
    fn a_flag_that_names_a_session_beats_the_stateless_default() {
        let stateless = Env {
            no_session: Some("1".into()),
            ..env()
        };
        let rows = [
            ("", Memory::None),
            ("--new-session", Memory::New),
            ("-c", Memory::Latest),
        ];
        for (flags, expected) in rows {
            match ask_in(&format!("-p hi {flags}"), &stateless)
                .expect(flags)
                .command
            {
                Command::Turn(t) => assert_eq!(t.memory, expected, "{flags}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error_that_says_so() {
        let rows = [
            ("", "--prompt is required"),
            (
                "-p hi --session-id 019aa0c4 --no-session",
                "--session-id and --no-session are mutually exclusive",
            ),
            ("-p hi --continue --new-session", "mutually exclusive"),
            (
                "--list-sessions --purge 3",
                "--list-sessions and --purge are mutually exclusive",
            ),
            ("--list-sessions -p hi", "mutually exclusive"),
            ("-p hi --session-id null", "`null`"),
            ("-p hi --session-id=", "empty"),
            ("-p hi --session-id ../../x/y", "no session id"),
            ("--session-info short", "no session id"),
            ("-p hi --create", "--session-id"),
            ("-p hi --create --session-id 019aa0c4", "full session id"),
            ("--purge -1", "from 0 on, not -1"),
            ("--purge x", "'x'"),
            ("-p hi --max_tokens 0", "from 1 on"),
            ("-p hi --temperature NaN", "from 0 on"),
            ("-p hi --temperature -1", "from 0 on"),
            ("-p hi --option seed", "KEY=VALUE"),
            ("-p hi --option a=1 --option a=2", "twice"),
            ("-p hi --option temperature=1 --temperature 1", "twice"),
            ("-p hi --max-context-tokens 0", "from 1 to"),
            ("-p hi --max-context-tokens -5", "from 1 to"),
            ("-p hi --output yaml", "yaml"),
            ("-p hi --timeout soon", "soon"),
            ("-p hi --think=hard", "hard"),
            ("-p hi --prompt-file x", "cannot be used with"),
            ("-p hi --frobnicate", "--frobnicate"),
            ("-p hi --m 3", "--m"),
            ("-p hi --session-key=", "empty"),
            ("-p hi --model=", "empty"),
        ];
        for (line, part) in rows {
            let error = ask(line).expect_err(line);
            assert_eq!(error.code, Code::Usage, "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
            assert!(!error.to_string().contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn options_may_be_abbreviated_and_both_spellings_work() {
        for flag in ["--max_tokens", "--max-tokens", "--max_t", "--max-t"] {
            assert_eq!(
                turn(&format!("-p hi {flag} 5")).options["num_predict"],
                5,
                "{flag}"
            );
        }
        assert_eq!(
            ask("--purge-s 3").expect("purge").command,
            Command::Purge { days: 3 }
        );
    }

    #[test]
    fn option_values_are_json_where_they_parse() {
        let t = turn(
            "-p hi --option seed=7 --option stop=END --option stop2=[\"a\"] --option num_predict=9",
        );
        let expected = serde_json::json!({"seed": 7, "stop": "END", "stop2": ["a"], "num_predict": 9, "temperature": 0.1});
        assert_eq!(Value::Object(t.options), expected);
    }

    #[test]
    fn think_has_levels() {
        let rows = [
            ("", None),
            ("--think", Some(Value::Bool(true))),
            ("--think=false", Some(Value::Bool(false))),
            ("--think=high", Some("high".into())),
        ];
        for (flag, expected) in rows {
            assert_eq!(turn(&format!("{flag} -p hi")).think, expected, "{flag}");
        }
    }

    #[test]
    fn prompts_may_begin_with_a_hyphen_and_a_lone_one_is_stdin() {
        assert_eq!(turn("--prompt -").prompt, Source::Stdin);
        assert_eq!(turn("--prompt -x").prompt, Source::Text("-x".into()));
        assert_eq!(
            turn("--prompt-file p.txt").prompt,
            Source::File("p.txt".into())
        );
    }

    #[test]
    fn the_store_is_where_the_environment_says_or_nowhere() {
        let home = env();
        let rows: [(&str, Env, Option<&str>); 6] = [
            ("home", home.clone(), Some("/home/u/.ollama-prompt")),
            (
                "store",
                Env {
                    store: Some("/s".into()),
                    ..home.clone()
                },
                Some("/s"),
            ),
            (
                "older name",
                Env {
                    db_path: Some("/d".into()),
                    ..home.clone()
                },
                Some("/d"),
            ),
            (
                "two",
                Env {
                    store: Some("/s".into()),
                    db_path: Some("/d".into()),
                    ..home.clone()
                },
                None,
            ),
            (
                "database",
                Env {
                    db_uri: true,
                    store: Some("/s".into()),
                    ..home
                },
                None,
            ),
            ("none", Env::default(), None),
        ];
        for (name, env, expected) in rows {
            let root = ask_in("-p hi", &env).expect(name).store;
            match expected {
                Some(path) => assert_eq!(root.path().expect(name), Path::new(path), "{name}"),
                None => assert_eq!(root.path().expect_err(name).code, Code::Config, "{name}"),
            }
        }
    }

    #[test]
    fn a_variable_that_does_not_parse_is_named() {
        let rows = [
            (
                Env {
                    max_context_tokens: Some("many".into()),
                    ..env()
                },
                "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS=many",
            ),
            (
                Env {
                    max_context_tokens: Some("0".into()),
                    ..env()
                },
                "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS=0",
            ),
            (
                Env {
                    no_session: Some("maybe".into()),
                    ..env()
                },
                "OLLAMA_PROMPT_NO_SESSION=maybe",
            ),
            (
                Env {
                    lock_timeout: Some("soon".into()),
                    ..env()
                },
                "OLLAMA_PROMPT_LOCK_TIMEOUT=soon",
            ),
            (
                Env {
                    durability: Some("some".into()),
                    ..env()
                },
                "OLLAMA_PROMPT_DURABILITY=some",
            ),
        ];
        for (env, part) in rows {
            let error = ask_in("-p hi", &env).expect_err(part);
            assert_eq!(error.code, Code::Config, "{part}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90", 90.0),
            ("0.5", 0.5),
            ("90s", 90.0),
            ("10m", 600.0),
            ("1h 30m", 5400.0),
        ] {
            assert_eq!(duration(text).expect(text).as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "-1", "x", "10 parsecs", "NaN"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
