//! Options of the request: as they are typed, and what holds where nobody says otherwise.

use clap::Args;
use serde_json::{Map, Value};

use super::help::MODEL;
use super::values::{LARGEST_CONTEXT, usage};
use crate::error::Result;
use crate::session::context::USUAL_REPLY;

/// As the Python tool of this name has it.
const DEFAULT_TEMPERATURE: f64 = 0.1;

/// The option `--max_tokens` stands for.
pub(super) const NUM_PREDICT: &str = "num_predict";
/// The option `--temperature` stands for.
pub(super) const TEMPERATURE: &str = "temperature";

/// The options of the request, as they are typed.
#[derive(Debug, Args)]
pub(super) struct TypedOptions {
    /// Sampling temperature [default: 0.1]
    #[arg(
        long,
        value_name = "F",
        allow_negative_numbers = true,
        hide_short_help = true,
        help_heading = MODEL
    )]
    pub(super) temperature: Option<f64>,
    /// Most tokens to generate; -1 is no limit [default: 2048]
    #[arg(
        long = "max_tokens",
        visible_alias = "max-tokens",
        value_name = "N",
        allow_negative_numbers = true,
        hide_short_help = true,
        help_heading = MODEL
    )]
    pub(super) max_tokens: Option<i64>,
    /// Any other Ollama option, as in seed=7, stop=END or num_ctx=32768
    ///
    /// The value is JSON where it parses as that. May be given several times.
    #[arg(long, value_name = "KEY=VALUE", hide_short_help = true, help_heading = MODEL)]
    pub(super) option: Vec<String>,
}

impl TypedOptions {
    /// Returns what was given, by name and by the two flags.
    pub(super) fn given(&self) -> Result<Map<String, Value>> {
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
            check(key, &value).map_err(|why| usage(format!("--option {key} {why}")))?;
            if options.insert(key.to_owned(), value).is_some() {
                return Err(usage(format!("--option {key} is given twice")));
            }
        }
        let flags = [
            (
                TEMPERATURE,
                "--temperature",
                self.temperature.map(Value::from),
                self.temperature.map(check_temperature),
            ),
            (
                NUM_PREDICT,
                "--max_tokens",
                self.max_tokens.map(Value::from),
                self.max_tokens.map(check_max_tokens),
            ),
        ];
        for (key, flag, value, checked) in flags {
            checked
                .transpose()
                .map_err(|why| usage(format!("{flag} {why}")))?;
            if value.is_some() && options.contains_key(key) {
                return Err(usage(format!(
                    "{flag} and --option {key} say the same thing twice"
                )));
            }
            options.extend(value.map(|value| (key.to_owned(), value)));
        }
        Ok(options)
    }
}

/// Returns the options of a turn: `given` before those the session keeps, those before what
/// holds where nobody says otherwise.
#[must_use]
pub fn in_force(session: &Map<String, Value>, given: &Map<String, Value>) -> Map<String, Value> {
    let mut options = Map::new();
    options.insert(TEMPERATURE.to_owned(), DEFAULT_TEMPERATURE.into());
    options.insert(NUM_PREDICT.to_owned(), USUAL_REPLY.into());
    let kept = session.iter().filter(|(_, value)| !value.is_null());
    for (key, value) in kept.chain(given) {
        options.insert(key.clone(), value.clone());
    }
    options
}

/// Checks a sampling temperature; the error follows the name of its source.
pub(super) fn check_temperature(temperature: f64) -> std::result::Result<(), String> {
    if temperature.is_finite() && temperature >= 0.0 {
        return Ok(());
    }
    Err(format!("takes a number from 0 on, not {temperature}"))
}

/// Checks a number of tokens of a reply; the error follows the name of its source.
pub(super) fn check_max_tokens(tokens: i64) -> std::result::Result<(), String> {
    if is_reply_length(tokens) {
        return Ok(());
    }
    Err(format!(
        "takes a number from 1 on, or -1 for no limit, not {tokens}"
    ))
}

/// Checks the options this program reads itself; the others are the server's to judge. The error
/// follows the name of its source.
pub(super) fn check(key: &str, value: &Value) -> std::result::Result<(), String> {
    let is_sound = match key {
        "num_ctx" => value
            .as_u64()
            .is_some_and(|tokens| (1..=LARGEST_CONTEXT).contains(&tokens)),
        NUM_PREDICT => value.as_i64().is_some_and(is_reply_length),
        _ => true,
    };
    if is_sound {
        return Ok(());
    }
    Err(format!(
        "takes a whole number of tokens from 1 on, not {value}"
    ))
}

/// Tells whether a number can be that of the tokens of a reply; -1 is no limit. To Ollama 0 does
/// not mean none.
fn is_reply_length(tokens: i64) -> bool {
    tokens == -1 || (1..=i64::from(i32::MAX)).contains(&tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_goes_before_the_session_and_the_session_before_the_default() {
        let map = |json: &str| serde_json::from_str::<Map<_, _>>(json).expect(json);
        let rows = [
            ("{}", "{}", r#"{"temperature": 0.1, "num_predict": 2048}"#),
            (
                r#"{"seed": 1, "temperature": 1}"#,
                r#"{"seed": 2}"#,
                r#"{"temperature": 1, "num_predict": 2048, "seed": 2}"#,
            ),
            (
                r#"{"num_predict": null, "seed": null}"#,
                "{}",
                r#"{"temperature": 0.1, "num_predict": 2048}"#,
            ),
        ];
        for (session, given, expected) in rows {
            let got = in_force(&map(session), &map(given));
            assert_eq!(got, map(expected), "{session} {given}");
        }
    }
}
