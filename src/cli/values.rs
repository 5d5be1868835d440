//! What is typed in more than one place: sessions and turns, lengths of time, numbers of tokens.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::error::{Code, Error, Result};
use crate::session::event::Strategy;
use crate::session::id::{Address, EventId, SessionRef};
use crate::store::uri::is_meant;

/// The largest context budget that is not a slip of the keyboard, in tokens.
pub(super) const LARGEST_CONTEXT: u64 = 1 << 31;

/// A day, in seconds.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// Returns the error of a command line that cannot be understood.
pub(super) fn usage(sentence: impl Into<String>) -> Error {
    Error::new(Code::Usage, sentence)
}

/// Reads a session: its id, or a part of it.
pub(super) fn session_ref(text: &str, flag: &str) -> Result<SessionRef> {
    no_address(text)?;
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

/// Reads a session and, after a colon, one of its turns or drafts.
pub(super) fn source(text: &str, flag: &str) -> Result<(SessionRef, Option<EventId>)> {
    no_address(text)?;
    let Some((session, turn)) = text.split_once(':') else {
        return Ok((session_ref(text, flag)?, None));
    };
    let turn = turn.parse().map_err(|_| {
        let shown: String = turn.chars().take(80).collect();
        usage(format!(
            "{shown:?} after {flag} is no id of a turn or draft"
        ))
        .hint("such an id has 26 characters; session show and session drafts list them")
    })?;
    Ok((session_ref(session, flag)?, Some(turn)))
}

/// Reads a session, or a turn of one as a search prints it.
pub(super) fn session_or_turn(text: &str) -> Result<(SessionRef, Option<EventId>)> {
    no_address(text)?;
    if !text.contains(':') {
        return Ok((session_ref(text, "ID")?, None));
    }
    let Address { session, turn } = text.parse().map_err(|_| no_turn(text))?;
    Ok((session, Some(turn)))
}

/// Reads a session for a verb that is about the whole of it; of a turn it is the session that
/// counts.
pub(super) fn session_of(text: &str) -> Result<SessionRef> {
    session_or_turn(text).map(|(session, _)| session)
}

/// Reads sessions for such a verb.
pub(super) fn session_refs(ids: &[String]) -> Result<Vec<SessionRef>> {
    ids.iter().map(|id| session_of(id)).collect()
}

/// Reads a turn of a session.
pub(super) fn turn_address(text: &str) -> Result<Address> {
    text.parse().map_err(|_| no_turn(text))
}

/// Returns the error of what is no turn.
pub(super) fn no_turn(text: &str) -> Error {
    if let Err(error) = no_address(text) {
        return error;
    }
    let shown: String = text.chars().take(120).collect();
    usage(format!("{shown:?} names no turn"))
        .hint("a turn is written ID:TURN, as in session show; its own id has 26 characters")
}

/// Makes sure that what is no store is not the address of one, since that would be repeated
/// wherever it makes no sense, and may have a password in it.
pub(super) fn no_address(text: &str) -> Result<()> {
    if is_meant(text) {
        return Err(misplaced_address());
    }
    Ok(())
}

/// Reads the path of a file or a directory; the same holds of it as of [`no_address`].
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match is_meant(&path.to_string_lossy()) {
        false => Ok(path),
        true => Err("that is the address of a database"),
    })
}

pub(super) fn misplaced_address() -> Error {
    usage("the address of a database stands where a session, a file or a verb belongs")
        .hint("it goes behind --from or --to of session copy, or into OLLAMA_PROMPT_DB_URI")
}

/// Reads for how long a session was not used: `30d`, `12h`; a bare number could be days or seconds.
pub(super) fn age(text: &str) -> std::result::Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(100 * 366 * DAY);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match humantime::parse_duration(text) {
        Ok(age) if age > LONGEST => Err("that is more than 100 years".to_owned()),
        Ok(age) => Ok(age),
        Err(_) => Err("give a number and a unit, as in 30d, 12h or 2weeks".to_owned()),
    }
}

/// Reads a length of time: `90s`, `10m`, `1h 30m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()));
    seconds.unwrap_or_else(|| humantime::parse_duration(text).map_err(|e| e.to_string()))
}

/// Reads a number of tokens of context.
pub(super) fn context_tokens(tokens: i64) -> std::result::Result<u64, String> {
    u64::try_from(tokens)
        .ok()
        .filter(|tokens| (1..=LARGEST_CONTEXT).contains(tokens))
        .ok_or_else(|| {
            format!("takes a number of tokens from 1 to {LARGEST_CONTEXT}, not {tokens}")
        })
}

/// How turns leave the context, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TypedStrategy {
    Fifo,
    Importance,
    Summarize,
    Off,
}

impl From<TypedStrategy> for Strategy {
    fn from(typed: TypedStrategy) -> Self {
        match typed {
            TypedStrategy::Fifo => Self::Fifo,
            TypedStrategy::Importance => Self::Importance,
            TypedStrategy::Summarize => Self::Summarize,
            TypedStrategy::Off => Self::Off,
        }
    }
}
