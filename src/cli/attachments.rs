//! The flags of what a turn carries besides its text.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::help::{MODEL, PROMPT};
use super::values::{no_address, path, usage};
use super::{Config, Memory};
use crate::error::Result;
use crate::prompt::Source;
use crate::prompt::attachments::{Attached, Format};

/// What was typed.
#[derive(Debug, Default, Args)]
pub(super) struct Attachments {
    /// Attach an image: PNG, JPEG, WebP or GIF
    ///
    /// May be given several times.
    #[arg(long, value_name = "PATH", value_parser = path(), help_heading = PROMPT)]
    image: Vec<PathBuf>,
    /// Have the reply be JSON: json, or @FILE for a schema
    ///
    /// The file has a JSON Schema, which the reply then follows.
    #[arg(long, value_name = "FORMAT", help_heading = MODEL)]
    format: Option<String>,
    /// How long the model stays loaded: 5m, a number of seconds, 0, or -1 for ever
    ///
    /// [default: the server's]
    #[arg(
        long,
        value_name = "D",
        allow_hyphen_values = true,
        hide_short_help = true,
        help_heading = MODEL
    )]
    keep_alive: Option<String>,
    /// Offer the tools a file defines, a JSON array as Ollama takes it
    #[arg(long, value_name = "@FILE", hide_short_help = true, help_heading = MODEL)]
    tools: Option<String>,
    /// The result of a tool the model called, as text or @FILE
    ///
    /// May be given several times; --prompt may then be left out.
    #[arg(
        long,
        value_name = "NAME=TEXT|@FILE",
        hide_short_help = true,
        help_heading = PROMPT
    )]
    tool_result: Vec<String>,
}

impl Attachments {
    /// Returns the flags, and whether they were given.
    pub(super) fn given(&self) -> [(&'static str, bool); 5] {
        [
            ("--image", !self.image.is_empty()),
            ("--format", self.format.is_some()),
            ("--keep-alive", self.keep_alive.is_some()),
            ("--tools", self.tools.is_some()),
            ("--tool-result", !self.tool_result.is_empty()),
        ]
    }

    /// Tells whether the message may be without a text.
    pub(super) fn can_stand_alone(&self) -> bool {
        !self.tool_result.is_empty()
    }

    /// Returns what is asked for.
    ///
    /// # Errors
    /// `usage` for a value that cannot be meant, and for results where no session is continued.
    pub(super) fn attached(&self, memory: &Memory, config: &Config) -> Result<Attached> {
        if !self.tool_result.is_empty() && matches!(memory, Memory::None | Memory::New) {
            return Err(
                usage("--tool-result needs the session in which the tool was called")
                    .hint("name it with --session-id, --session-key or --continue"),
            );
        }
        let given = self.keep_alive.as_deref().map(keep_alive).transpose();
        let given = given.map_err(|why| {
            usage(format!("--keep-alive {why}"))
                .hint("as in 5m, 1h30m, 300, 0 (unload at once) or -1 (for ever)")
        })?;
        Ok(Attached {
            images: self.image.clone(),
            format: self.format.as_deref().map(format).transpose()?,
            keep_alive: given.or_else(|| config.keep_alive.clone()),
            tools: self.tools.as_deref().map(tools).transpose()?,
            tool_results: self
                .tool_result
                .iter()
                .map(|text| tool_result(text))
                .collect::<Result<_>>()?,
        })
    }
}

fn format(text: &str) -> Result<Format> {
    no_address(text.trim_start_matches('@'))?;
    match text.strip_prefix('@') {
        None if text == "json" => Ok(Format::Json),
        Some(path) if !path.is_empty() => Ok(Format::Schema(path.into())),
        _ => Err(usage(format!("--format takes json or @FILE, not `{text}`"))
            .hint("put the JSON Schema into a file: --format @schema.json")),
    }
}

fn tools(text: &str) -> Result<PathBuf> {
    no_address(text.trim_start_matches('@'))?;
    text.strip_prefix('@')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .ok_or_else(|| {
            usage(format!("--tools takes @FILE, not `{text}`"))
                .hint("put the definitions into a file, a JSON array: --tools @tools.json")
        })
}

fn tool_result(text: &str) -> Result<(String, Source)> {
    no_address(text)?;
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| {
            usage(format!(
                "--tool-result takes NAME=TEXT or NAME=@FILE, not `{text}`"
            ))
            .hint("as in --tool-result get_weather='11 degrees'")
        })?;
    let value = match value.strip_prefix('@') {
        Some("") => {
            return Err(usage(format!("--tool-result {name}=@ names no file")));
        }
        Some(path) => {
            no_address(path)?;
            Source::File(path.into())
        }
        None if value.starts_with("\\@") => Source::Text(value[1..].to_owned()),
        None => Source::Text(value.to_owned()),
    };
    Ok((name.to_owned(), value))
}

/// Reads how long a model stays loaded, as Ollama does: a number is seconds, anything else one of
/// Go's durations. The error follows the name of its source.
pub(super) fn keep_alive(text: &str) -> std::result::Result<Value, String> {
    let number = text.parse::<i64>().map(Value::from).ok().or_else(|| {
        text.parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
            .map(Value::from)
    });
    if let Some(number) = number {
        return Ok(number);
    }
    if is_go_duration(text) {
        return Ok(text.into());
    }
    Err(format!(
        "takes a duration or a number of seconds, not `{text}`"
    ))
}

/// Tells whether Go's `time.ParseDuration` takes a text: a sign, then numbers, each with a unit
/// (<https://pkg.go.dev/time#ParseDuration>).
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (digits, after) = rest.split_at(number);
        let is_number = digits.bytes().any(|b| b.is_ascii_digit())
            && digits.bytes().filter(|b| *b == b'.').count() <= 1;
        let unit = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"]
            .iter()
            .filter_map(|unit| after.strip_prefix(unit))
            .min_by_key(|after| after.len());
        match unit {
            Some(after) if is_number => rest = after,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_model_stays_loaded_as_ollama_reads_it() {
        let rows = [
            ("5m", Some(json!("5m"))),
            ("1h30m", Some(json!("1h30m"))),
            ("1.5h", Some(json!("1.5h"))),
            ("250ms", Some(json!("250ms"))),
            ("-1m", Some(json!("-1m"))),
            ("300", Some(json!(300))),
            ("0", Some(json!(0))),
            ("-1", Some(json!(-1))),
            ("1.5", Some(json!(1.5))),
            ("soon", None),
            ("", None),
            ("-", None),
            ("5", Some(json!(5))),
            ("5 m", None),
            ("5min", None),
            ("1.2.3s", None),
            (".s", None),
            ("m", None),
            ("nan", None),
            ("inf", None),
            ("5d", None),
        ];
        for (text, expected) in rows {
            assert_eq!(keep_alive(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_format_is_json_or_a_file() {
        let rows = [
            ("json", Some(Format::Json)),
            ("@s.json", Some(Format::Schema("s.json".into()))),
            ("@", None),
            ("JSON", None),
            ("{}", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(format(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_result_is_a_text_or_a_file() {
        let text = |text: &str| Source::Text(text.to_owned());
        let rows = [
            ("f=a=b", Some(("f", text("a=b")))),
            ("f=", Some(("f", text("")))),
            ("f=@x.txt", Some(("f", Source::File("x.txt".into())))),
            (r"f=\@home", Some(("f", text("@home")))),
            ("f=@", None),
            ("f", None),
            ("=x", None),
        ];
        for (typed, expected) in rows {
            let expected = expected.map(|(name, source)| (name.to_owned(), source));
            assert_eq!(tool_result(typed).ok(), expected, "{typed:?}");
        }
        assert_eq!(tools("@t.json").ok(), Some("t.json".into()));
        assert!(tools("t.json").is_err());
    }
}
