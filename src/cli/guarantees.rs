//! What a turn promises about others of its session: flags as they are typed, and what they ask for.

use std::time::Duration;

use clap::Args;

use super::Memory;
use super::help::MANAGEMENT;
use super::values::{no_address, usage};
use crate::error::Result;
use crate::session::id::EventId;

/// The longest idempotency key, in bytes: a hash or a path with a number, not a document.
const LONGEST_KEY: usize = 256;

/// The flags.
#[derive(Debug, Args)]
pub(super) struct TypedGuarantees {
    /// Take the turn only if ID is the session's newest turn
    ///
    /// It is `turn.id` of the answer before; `none` stands for no turn yet. Otherwise the call ends
    /// with exit status 3, `turn_conflict`.
    #[arg(long, value_name = "ID", hide_short_help = true, help_heading = MANAGEMENT)]
    expect_turn: Option<String>,
    /// Wait until no other --serialize turn of the session is under way, and keep others waiting
    #[arg(long, hide_short_help = true, help_heading = MANAGEMENT)]
    serialize: bool,
    /// Ask once for all calls with this key and the same request; each prints that answer
    #[arg(long, value_name = "KEY", hide_short_help = true, help_heading = MANAGEMENT)]
    idempotency_key: Option<String>,
}

/// What a turn promises about others of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantees {
    /// The turn that must be the newest.
    pub expected: Option<Expected>,
    /// Whether turns follow each other that say so.
    pub serialize: bool,
    /// The key under which a request is asked once.
    pub key: Option<String>,
    /// The longest wait for a turn of another process.
    pub patience: Duration,
}

/// What the newest turn of a session must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// None: the session has none yet.
    NoTurn,
    /// This one.
    Turn(EventId),
}

impl TypedGuarantees {
    /// Returns the flags and whether they were given.
    pub(super) fn given(&self) -> [(&'static str, bool); 3] {
        [
            ("--expect-turn", self.expect_turn.is_some()),
            ("--serialize", self.serialize),
            ("--idempotency-key", self.idempotency_key.is_some()),
        ]
    }

    /// Returns what they ask for.
    ///
    /// # Errors
    /// `usage` for values that are none, and for promises a turn without others cannot make.
    pub(super) fn ask_for(self, memory: &Memory, patience: Duration) -> Result<Guarantees> {
        if *memory == Memory::None
            && let Some((flag, _)) = self.given().into_iter().find(|(_, given)| *given)
        {
            return Err(usage(format!("{flag} needs a session"))
                .hint("leave out --no-session, or unset OLLAMA_PROMPT_NO_SESSION"));
        }
        let is_new = matches!(memory, Memory::New | Memory::Fork { .. });
        if is_new && self.expect_turn.is_some() {
            return Err(usage("--expect-turn needs a session that others know")
                .hint("name it with --session-id, --session-key or --continue"));
        }
        Ok(Guarantees {
            expected: self.expect_turn.as_deref().map(expected).transpose()?,
            serialize: self.serialize,
            key: self.idempotency_key.map(key).transpose()?,
            patience,
        })
    }
}

pub(super) fn expected(text: &str) -> Result<Expected> {
    if text == "none" {
        return Ok(Expected::NoTurn);
    }
    no_address(text)?;
    text.parse().map(Expected::Turn).map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        usage(format!(
            "--expect-turn takes the id of a turn, not {shown:?}"
        ))
        .hint("it is `turn.id` of the answer; `none` stands for no turn yet")
    })
}

fn key(text: String) -> Result<String> {
    let why = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.len() > LONGEST_KEY {
        format!("has {} bytes, and a key at most {LONGEST_KEY}", text.len())
    } else if text.chars().any(char::is_control) {
        "has control characters".to_owned()
    } else {
        return Ok(text);
    };
    Err(usage(format!("--idempotency-key {why}"))
        .hint("a name of the request will do, as in ci-42/review"))
}
