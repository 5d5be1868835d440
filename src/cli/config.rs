//! `config.toml`: the settings of the environment and the flags that make sense as a default, for
//! those who set them once.
//!
//! It stands behind flags, session, template and environment. What a session keeps it shapes only
//! when the session is new. There is no key for the place of the store, where this file lies, and
//! none for `--output`: programs that call this one rely on what it prints.

use std::time::Duration;

use clap::ValueEnum;
use regex::Regex;
use serde_json::{Map, Value};

use super::Color;
use super::attachments::keep_alive;
use super::options::{NUM_PREDICT, TEMPERATURE, check, check_max_tokens, check_temperature};
use super::references::max_file_bytes;
use super::values::{context_tokens, duration};
use crate::error::{Code, Error, Result};
use crate::handwritten::{Entry, Written};
use crate::ollama::{ApiKey, Host};
use crate::session::event::{Settings, Strategy};
use crate::session::pattern::why_none;
use crate::store::Durability;
use crate::store::config::Found;

/// Every key of the file and what it means; tables with a dot.
pub const KEYS: &[(&str, &str)] = &[
    ("model", "as `--model` of a new session"),
    ("system", "as `--system` of a new session"),
    (
        "max_context_tokens",
        "as `--max-context-tokens` of a new session",
    ),
    ("prune", "as `--prune` of a new session"),
    ("temperature", "as `--temperature`, kept by a new session"),
    ("max_tokens", "as `--max_tokens`, kept by a new session"),
    (
        "options",
        "a table: as `--option KEY=VALUE` each, kept by a new session",
    ),
    ("no_session", "`true` makes `--no-session` the default"),
    ("host", "as `OLLAMA_HOST`"),
    (
        "api_key",
        "as `OLLAMA_API_KEY`; nobody else may be able to read the file then",
    ),
    ("timeout", "as `--timeout`"),
    ("lock_timeout", "as `OLLAMA_PROMPT_LOCK_TIMEOUT`"),
    ("durability", "as `--durability`"),
    ("keep_alive", "as `--keep-alive`"),
    ("color", "as `--color`"),
    ("max_file_bytes", "as `--max-file-bytes`"),
    ("strict_refs", "`true` makes `--strict-refs` the default"),
    (
        "redact.patterns",
        "a list of regular expressions: what is never to be stored",
    ),
];

/// What `config.toml` says.
#[derive(Clone, Default, PartialEq)]
pub struct Config {
    /// What a new session begins with.
    pub(super) settings: Settings,
    pub(super) no_session: Option<bool>,
    pub(super) host: Option<String>,
    pub(super) api_key: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) lock_timeout: Option<Duration>,
    pub(super) durability: Option<Durability>,
    pub(super) keep_alive: Option<Value>,
    pub(super) color: Option<Color>,
    pub(super) max_file_bytes: Option<u64>,
    pub(super) strict_refs: bool,
    pub(super) redact: Vec<String>,
    /// The path, if somebody else may have written what it says.
    foreign: Option<String>,
}

impl Config {
    /// Reads what was found.
    ///
    /// # Errors
    /// `config` with file and line for whatever is not as it should be.
    pub fn parse(found: &Found) -> Result<Self> {
        let file = Written::new(&found.path, &found.text);
        let table = file.table()?;
        let mut config = Self::default();
        for entry in file.entries(&table) {
            config.take(&entry)?;
            if entry.key() == "api_key" && found.trust.is_shown {
                let error = entry.wrong("can be read by others");
                return Err(error.hint(format!("chmod 600 '{}'", found.path.display())));
            }
        }
        config.foreign = found
            .trust
            .is_foreign
            .then(|| found.path.display().to_string());
        Ok(config)
    }

    fn take(&mut self, entry: &Entry<'_>) -> Result<()> {
        match entry.key() {
            "model" => self.settings.model = Some(entry.name()?),
            "system" => self.settings.system = Some(entry.text()?),
            "max_context_tokens" => {
                self.settings.max_context_tokens = Some(budget(entry)?);
            }
            "prune" => self.settings.prune = Some(strategy(entry)?),
            "temperature" => {
                let temperature = entry.number()?;
                check_temperature(temperature).map_err(|why| entry.wrong(why))?;
                put(
                    &mut self.settings.options,
                    entry,
                    TEMPERATURE,
                    temperature.into(),
                )?;
            }
            "max_tokens" => {
                let tokens = entry.whole()?;
                check_max_tokens(tokens).map_err(|why| entry.wrong(why))?;
                put(
                    &mut self.settings.options,
                    entry,
                    NUM_PREDICT,
                    tokens.into(),
                )?;
            }
            "options" => options(&mut self.settings.options, entry)?,
            "no_session" => self.no_session = Some(entry.boolean()?),
            "host" => self.host = Some(host(entry)?),
            "api_key" => self.api_key = Some(api_key(entry)?),
            "timeout" => self.timeout = Some(length_of_time(entry)?),
            "lock_timeout" => self.lock_timeout = Some(length_of_time(entry)?),
            "durability" => self.durability = Some(durability(entry)?),
            "color" => self.color = Some(color(entry)?),
            "max_file_bytes" => {
                let bytes = max_file_bytes(entry.whole()?);
                self.max_file_bytes = Some(bytes.map_err(|why| entry.wrong(why))?);
            }
            "strict_refs" => self.strict_refs = entry.boolean()?,
            "keep_alive" => self.keep_alive = Some(unloaded_after(entry)?),
            "redact" => {
                for entry in entry.entries()? {
                    match entry.key() {
                        "patterns" => self.redact = patterns(&entry)?,
                        _ => return Err(entry.unknown(&["patterns"])),
                    }
                }
            }
            _ => return Err(entry.unknown(&names())),
        }
        Ok(())
    }

    /// Refuses a file somebody else may have written: it decides who is asked, and with what key.
    pub(super) fn trusted(&self) -> Result<&Self> {
        let Some(path) = &self.foreign else {
            return Ok(self);
        };
        let sentence = format!("refusing to ask a server as `{path}` says");
        Err(Error::new(Code::Config, sentence)
            .because("other users may have written it")
            .hint(format!("make it your own: chmod go-w '{path}'")))
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the key.
        f.debug_struct("Config")
            .field("settings", &self.settings)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

fn names() -> Vec<&'static str> {
    let name = |(key, _): &(&'static str, _)| key.split('.').next().unwrap_or(key);
    KEYS.iter().map(name).collect()
}

/// Reads a context budget in tokens.
pub(crate) fn budget(entry: &Entry<'_>) -> Result<u64> {
    context_tokens(entry.whole()?).map_err(|why| entry.wrong(why))
}

/// Reads the name of a way in which turns leave the context.
pub(crate) fn strategy(entry: &Entry<'_>) -> Result<Strategy> {
    let name = entry.text()?;
    let all = [
        Strategy::Fifo,
        Strategy::Importance,
        Strategy::Summarize,
        Strategy::Off,
    ];
    let found = all.into_iter().find(|strategy| strategy.name() == name);
    found.ok_or_else(|| entry.wrong("takes fifo, importance, summarize or off"))
}

/// Reads a table of options of the request.
pub(crate) fn options(into: &mut Map<String, Value>, entry: &Entry<'_>) -> Result<()> {
    for option in entry.entries()? {
        let value = option.json()?;
        check(option.key(), &value).map_err(|why| option.wrong(why))?;
        put(into, &option, option.key(), value)?;
    }
    Ok(())
}

fn put(into: &mut Map<String, Value>, entry: &Entry<'_>, key: &str, value: Value) -> Result<()> {
    match into.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(entry.wrong("says for the second time what another key says")),
    }
}

fn host(entry: &Entry<'_>) -> Result<String> {
    let text = entry.name()?;
    Host::read(&text)
        .map(|_| text)
        .map_err(|why| entry.wrong(format!("is no server address: {why}")))
}

fn api_key(entry: &Entry<'_>) -> Result<String> {
    let text = entry.text()?;
    ApiKey::parse_from("it", &text)
        .map(|_| text)
        .map_err(|_| entry.wrong("is no API key: it must be visible ASCII without spaces"))
}

fn length_of_time(entry: &Entry<'_>) -> Result<Duration> {
    let text = match entry.text() {
        Ok(text) => text,
        // A bare number is seconds, here as elsewhere.
        Err(_) => entry.number()?.to_string(),
    };
    duration(&text).map_err(|why| entry.wrong(format!("takes a length of time: {why}")))
}

fn durability(entry: &Entry<'_>) -> Result<Durability> {
    match entry.text()?.as_str() {
        "full" => Ok(Durability::Full),
        "relaxed" => Ok(Durability::Relaxed),
        _ => Err(entry.wrong("takes full or relaxed")),
    }
}

/// Reads how long a model stays loaded. A number is seconds, as the server takes it.
fn unloaded_after(entry: &Entry<'_>) -> Result<Value> {
    let text = match entry.text() {
        Ok(text) => text,
        Err(_) => entry.number()?.to_string(),
    };
    keep_alive(&text).map_err(|why| entry.wrong(why))
}

fn color(entry: &Entry<'_>) -> Result<Color> {
    let found = Color::from_str(&entry.text()?, false);
    found.map_err(|_| entry.wrong("takes auto, always or never"))
}

fn patterns(entry: &Entry<'_>) -> Result<Vec<String>> {
    let patterns = entry.texts()?;
    for pattern in &patterns {
        let broken = |error: regex::Error| {
            let why = why_none(&error);
            entry.wrong(format!(
                "has a pattern that is no regular expression: {why}"
            ))
        };
        Regex::new(pattern).map_err(broken)?;
        if pattern.is_empty() {
            return Err(entry.wrong("has an empty pattern"));
        }
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files::Trust;

    fn parse(text: &str, trust: Trust) -> Result<Config> {
        Config::parse(&Found {
            path: "/s/config.toml".into(),
            text: text.to_owned(),
            trust,
        })
    }

    /// A line for each key, with a value that is no default.
    const EVERY: &str = r#"
model = "m"
system = "s"
max_context_tokens = 1000
prune = "off"
temperature = 1
max_tokens = 7
no_session = true
host = "h:1"
api_key = "k"
timeout = "90s"
lock_timeout = 1.5
durability = "relaxed"
color = "never"
keep_alive = "5m"
max_file_bytes = 10
strict_refs = true
[options]
seed = 3
stop = ["a"]
[redact]
patterns = ["sk-[a-z]+"]
"#;

    #[test]
    fn every_key_is_read_and_every_key_is_listed() {
        let config = parse(EVERY, Trust::default()).expect("sound");
        let options =
            serde_json::json!({"temperature": 1.0, "num_predict": 7, "seed": 3, "stop": ["a"]});
        let Value::Object(options) = options else {
            unreachable!("it is an object")
        };
        let expected = Config {
            settings: Settings {
                model: Some("m".into()),
                system: Some("s".into()),
                max_context_tokens: Some(1000),
                prune: Some(Strategy::Off),
                options,
                ..Settings::default()
            },
            no_session: Some(true),
            host: Some("h:1".into()),
            api_key: Some("k".into()),
            timeout: Some(Duration::from_secs(90)),
            lock_timeout: Some(Duration::from_millis(1500)),
            durability: Some(Durability::Relaxed),
            keep_alive: Some("5m".into()),
            color: Some(Color::Never),
            max_file_bytes: Some(10),
            strict_refs: true,
            redact: vec!["sk-[a-z]+".into()],
            foreign: None,
        };
        assert!(config == expected, "{config:?}");
        for (key, _) in KEYS {
            let key = key.split('.').next().expect("a name");
            let is_there =
                EVERY.contains(&format!("\n{key} = ")) || EVERY.contains(&format!("[{key}]"));
            assert!(is_there, "{key} is listed and not tested");
        }
        assert_eq!(
            EVERY.matches("\n").count() - 4,
            KEYS.len(),
            "a key is not listed"
        );
        assert!(!format!("{config:?}").contains("\"k\""), "the key is shown");
        assert_eq!(
            parse("", Trust::default()).expect("empty"),
            Config::default()
        );
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let rows = [
            ("\nmodle = 'x'", 2, "there is no key `modle`"),
            (
                "[redact]\npattern = []",
                2,
                "there is no key `redact.pattern`",
            ),
            ("model = ''", 1, "`model` is empty"),
            ("model = 3", 1, "`model` takes a text"),
            ("max_context_tokens = 0", 1, "from 1 to"),
            ("max_context_tokens = '9'", 1, "takes a whole number"),
            ("prune = 'newest'", 1, "takes fifo, importance"),
            ("temperature = -1", 1, "takes a number from 0 on, not -1"),
            ("temperature = nan", 1, "takes a number from 0 on"),
            ("max_tokens = 0", 1, "from 1 on, or -1"),
            (
                "temperature = 1\n[options]\ntemperature = 1",
                3,
                "for the second time",
            ),
            (
                "max_tokens = 1\noptions.num_predict = 1",
                2,
                "for the second time",
            ),
            (
                "[options]\nnum_ctx = 0",
                2,
                "`options.num_ctx` takes a whole number",
            ),
            ("options = 3", 1, "takes a table"),
            ("no_session = 1", 1, "takes true or false"),
            (
                "host = 'ftp://h'",
                1,
                "`host` is no server address: its scheme is neither",
            ),
            ("host = ' '", 1, "is empty"),
            ("api_key = 's3cret s3cret'", 1, "is no API key"),
            ("timeout = 'soon'", 1, "takes a length of time"),
            ("lock_timeout = -1", 1, "takes a length of time"),
            ("durability = 'some'", 1, "takes full or relaxed"),
            ("max_file_bytes = 0", 1, "takes a number of bytes from 1 on"),
            (
                "keep_alive = '5d'",
                1,
                "takes a duration or a number of seconds",
            ),
            ("color = 'blue'", 1, "takes auto, always or never"),
            (
                "[redact]\npatterns = ['(']",
                2,
                "no regular expression: unclosed group",
            ),
            ("[redact]\npatterns = ['']", 2, "an empty pattern"),
            ("model = 'a'\nmodel = 'b'", 2, "no TOML"),
            ("output = 'text'", 1, "there is no key `output`"),
        ];
        for (text, line, part) in rows {
            let error = parse(text, Trust::default()).expect_err(text);
            assert_eq!(error.code, Code::Config, "{text}");
            let shown = error.to_string();
            assert!(
                shown.starts_with(&format!("/s/config.toml:{line}: ")),
                "{text}: {shown}"
            );
            assert!(shown.contains(part), "{text}: {shown}");
            assert!(
                !shown.contains("s3cret") && !shown.contains('\n'),
                "{text}: {shown}"
            );
        }
    }

    #[test]
    fn a_key_others_may_read_and_a_file_others_may_write_are_refused() {
        let shown = Trust {
            is_shown: true,
            ..Trust::default()
        };
        let error = parse("model = 'm'\napi_key = 's3cret'", shown).expect_err("shown");
        assert_eq!(
            error.to_string(),
            "/s/config.toml:2: `api_key` can be read by others"
        );
        parse("model = 'm'", shown).expect("no secret in it");
        let foreign = Trust {
            is_foreign: true,
            ..Trust::default()
        };
        let config = parse("model = 'm'", foreign).expect("it may be looked at");
        let error = config.trusted().expect_err("but not obeyed");
        assert!(error.to_string().contains("other users"), "{error}");
    }
}
