//! The environment: every variable this program reads, and what it means where a flag does not
//! say otherwise. What no variable says, `config.toml` may.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::config::Config;
use super::values::{context_tokens, duration};
use super::{Server, StoreRoot, bad_variable};
use crate::error::{Code, Error, Result};
use crate::import::places_of_the_python_tool;
use crate::session::event::Settings;
use crate::store::uri::is_meant;
use crate::store::{Durability, Uri};

// What the Python tool of this name uses where nothing is said, so that scripts get what they got.
const DEFAULT_MODEL: &str = "deepseek-v3.1:671b-cloud";
const DEFAULT_MAX_CONTEXT_TOKENS: u64 = 64_000;
/// Of silence of the server: a large model takes minutes to load.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// Longer than 64 neighbours take to append, and shorter than whoever looks on.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a variable; what is empty counts as not set.
fn raw(name: &str) -> Option<OsString> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Tells whether the environment wants no colour: `NO_COLOR`, whatever it says, or a terminal that
/// has none.
pub(super) fn forbids_color() -> bool {
    raw("NO_COLOR").is_some() || raw("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// Every variable that is read, and what it means.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        "HOME",
        "the store is `.ollama-prompt` there, unless one of the next two says otherwise",
    ),
    (
        "OLLAMA_PROMPT_HOME",
        "the store: a directory, made if it is missing",
    ),
    (
        "OLLAMA_PROMPT_DB_PATH",
        "the same under its older name; two that disagree are an error",
    ),
    (
        "OLLAMA_PROMPT_DB_URI",
        "a database in place of the files, in builds that have one: `mongodb://…`",
    ),
    (
        "APPDATA",
        "on Windows: where the Python tool kept what `session import --from python` finds by itself",
    ),
    (
        "OLLAMA_HOST",
        "the server, as Ollama's own client reads it [default: `127.0.0.1:11434`]",
    ),
    (
        "OLLAMA_API_KEY",
        "a bearer token, for servers that want one",
    ),
    (
        "OLLAMA_PROMPT_MODEL",
        "the model of a new session [default: `deepseek-v3.1:671b-cloud`]",
    ),
    (
        "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS",
        "the context budget of a new session [default: 64000]",
    ),
    (
        "OLLAMA_PROMPT_NO_SESSION",
        "`1` makes `--no-session` the default, `0` does not",
    ),
    (
        "OLLAMA_PROMPT_LOCK_TIMEOUT",
        "the longest wait for another process's lock [default: 30s]",
    ),
    (
        "OLLAMA_PROMPT_DURABILITY",
        "as `--durability` [default: `full`]",
    ),
    (
        "NO_COLOR",
        "whatever it says, what people read has no colour, unless `--color always` does",
    ),
    ("TERM", "`dumb` is a terminal without colours"),
];

/// The environment; what is empty counts as not set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Env {
    pub(super) home: Option<PathBuf>,
    pub(super) app_data: Option<PathBuf>,
    pub(super) store: Option<PathBuf>,
    pub(super) db_path: Option<PathBuf>,
    /// Not its text: there may be a password in it.
    pub(super) database: Option<std::result::Result<Uri, &'static str>>,
    pub(super) host: Option<String>,
    pub(super) api_key: Option<String>,
    pub(super) model: Option<String>,
    pub(super) max_context_tokens: Option<String>,
    pub(super) no_session: Option<String>,
    pub(super) lock_timeout: Option<String>,
    pub(super) durability: Option<String>,
    pub(super) forbids_color: bool,
    pub(super) config: Config,
}

impl Env {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// `config` when a variable that must be text is not UTF-8.
    pub fn of_process() -> Result<Self> {
        let text = |name: &'static str| match raw(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(Error::new(Code::Config, format!("{name} is not UTF-8"))),
        };
        Ok(Self {
            home: raw("HOME").map(PathBuf::from),
            app_data: raw("APPDATA").map(PathBuf::from),
            store: raw("OLLAMA_PROMPT_HOME").map(PathBuf::from),
            db_path: raw("OLLAMA_PROMPT_DB_PATH").map(PathBuf::from),
            database: text("OLLAMA_PROMPT_DB_URI")?.map(Uri::new),
            host: text("OLLAMA_HOST")?,
            api_key: text("OLLAMA_API_KEY")?,
            model: text("OLLAMA_PROMPT_MODEL")?,
            max_context_tokens: text("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS")?,
            no_session: text("OLLAMA_PROMPT_NO_SESSION")?,
            lock_timeout: text("OLLAMA_PROMPT_LOCK_TIMEOUT")?,
            durability: text("OLLAMA_PROMPT_DURABILITY")?,
            forbids_color: forbids_color(),
            config: Config::default(),
        })
    }

    /// Returns the directory `config.toml` is looked for in, if there is a store.
    #[must_use]
    pub fn config_root(&self) -> Option<PathBuf> {
        match self.store_root() {
            StoreRoot::At(path) => Some(path),
            StoreRoot::Unknown(..) => None,
        }
    }

    /// Adds what `config.toml` says.
    #[must_use]
    pub fn with_config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    pub(super) fn store_root(&self) -> StoreRoot {
        // Neither would be made sense of, and both would be repeated with the password in them.
        let is_address = |path: &Option<PathBuf>| {
            path.as_ref()
                .is_some_and(|p| is_meant(&p.to_string_lossy()))
        };
        match (&self.store, &self.db_path, &self.home) {
            (store, ..) if is_address(store) => StoreRoot::Unknown(
                "OLLAMA_PROMPT_HOME is the address of a database, and takes a directory",
                "the variable for an address is OLLAMA_PROMPT_DB_URI",
            ),
            (_, path, _) if is_address(path) => StoreRoot::Unknown(
                "OLLAMA_PROMPT_DB_PATH is the address of a database, and takes a directory",
                "the variable for an address is OLLAMA_PROMPT_DB_URI",
            ),
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

    /// Returns where the Python tool may have kept its sessions.
    pub(super) fn old_databases(&self) -> Vec<PathBuf> {
        places_of_the_python_tool(self.home.as_deref(), self.app_data.as_deref())
    }

    /// Returns what a new session begins with where neither flag nor template says otherwise.
    pub(super) fn defaults(&self) -> Result<Settings> {
        let mut settings = Settings {
            model: Some(DEFAULT_MODEL.to_owned()),
            max_context_tokens: Some(DEFAULT_MAX_CONTEXT_TOKENS),
            ..Settings::default()
        };
        settings.overlay(self.config.trusted()?.settings.clone());
        settings.overlay(Settings {
            model: self.model.clone(),
            max_context_tokens: self.max_context_tokens()?,
            ..Settings::default()
        });
        Ok(settings)
    }

    fn max_context_tokens(&self) -> Result<Option<u64>> {
        let read = |text: &String| {
            text.trim()
                .parse()
                .map_err(|_| "takes a whole number of tokens".to_owned())
                .and_then(context_tokens)
                .map_err(|why| {
                    let why = format!("it {why}");
                    bad_variable("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", text, &why)
                })
        };
        self.max_context_tokens.as_ref().map(read).transpose()
    }

    /// Returns the server that is asked; `silence` is the longest that is waited out, where a flag
    /// says it.
    pub(super) fn server(&self, silence: Option<Duration>) -> Result<Server> {
        let config = self.config.trusted()?;
        let host = self.host.as_ref().or(config.host.as_ref());
        Ok(Server::Ollama {
            host: host.cloned().unwrap_or_default(),
            api_key: self.api_key.as_ref().or(config.api_key.as_ref()).cloned(),
            silence: silence.or(config.timeout).unwrap_or(DEFAULT_TIMEOUT),
        })
    }

    /// Returns the longest wait for a turn of another process: as for a server that is silent.
    pub(super) fn patience(&self, given: Option<Duration>) -> Duration {
        given.or(self.config.timeout).unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Returns the longest wait for a lock.
    pub(super) fn lock_timeout(&self) -> Result<Duration> {
        let Some(text) = &self.lock_timeout else {
            return Ok(self.config.lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT));
        };
        duration(text).map_err(|why| bad_variable("OLLAMA_PROMPT_LOCK_TIMEOUT", text, &why))
    }

    /// Returns whether a turn is synced before it is acknowledged.
    pub(super) fn durability(&self) -> Result<Durability> {
        match self.durability.as_deref() {
            None => Ok(self.config.durability.unwrap_or(Durability::Full)),
            Some("full") => Ok(Durability::Full),
            Some("relaxed") => Ok(Durability::Relaxed),
            Some(other) => {
                let why = "it is neither full nor relaxed";
                Err(bad_variable("OLLAMA_PROMPT_DURABILITY", other, why))
            }
        }
    }

    /// Returns whether a turn without a flag that says otherwise leaves no trace.
    pub(super) fn is_stateless(&self) -> Result<bool> {
        match self.no_session.as_deref() {
            None => Ok(self.config.no_session.unwrap_or(false)),
            Some("0" | "false" | "no" | "off") => Ok(false),
            Some("1" | "true" | "yes" | "on") => Ok(true),
            Some(other) => Err(bad_variable(
                "OLLAMA_PROMPT_NO_SESSION",
                other,
                "it is neither 1 nor 0",
            )),
        }
    }

    /// Returns regular expressions of what is never to be stored.
    pub(super) fn redact(&self) -> Vec<String> {
        self.config.redact.clone()
    }
}
