//! The end of sessions that were not used for a while: once, or again and again.

use std::time::Duration;

use clap::Args;

use super::Command;
use super::help::WHICH;
use super::values::{DAY, age};

/// Which sessions are to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// For how long they were not used; 0 means whatever their last use.
    pub unused_for: Duration,
    /// The model they ask, if only such are meant.
    pub model: Option<String>,
    /// A tag they have, if only such are meant.
    pub tag: Option<String>,
    /// Whether they are only to be named.
    pub dry_run: bool,
    /// The words of the call, for the receipts.
    pub asked: String,
}

/// A purge that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    /// What is purged.
    pub purge: Purge,
    /// How long after the beginning of a round the next one begins; none is one round only.
    pub every: Option<Duration>,
}

/// Which sessions are to be removed, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Unused {
    /// For how long they were not used, as in 30d
    ///
    /// Or 12h, 2weeks; 0 removes all.
    #[arg(
        long,
        value_name = "AGE",
        value_parser = age,
        allow_hyphen_values = true,
        help_heading = WHICH
    )]
    older_than: Duration,
    /// Only those that ask this model
    #[arg(long, value_name = "NAME", help_heading = WHICH)]
    model: Option<String>,
    /// Only those that have this tag
    #[arg(long, value_name = "TAG", help_heading = WHICH)]
    tag: Option<String>,
    /// Only say which would go
    #[arg(long)]
    dry_run: bool,
}

impl Unused {
    pub(super) fn command(&self) -> Command {
        Command::Purge(self.asked_by("session purge"))
    }

    /// Returns the purge, by the verb that asks for it.
    fn asked_by(&self, verb: &str) -> Purge {
        let mut asked = format!("{verb} --older-than {}", short(self.older_than));
        for (flag, value) in [("--model", &self.model), ("--tag", &self.tag)] {
            asked.extend(value.iter().map(|value| format!(" {flag} {value}")));
        }
        Purge {
            unused_for: self.older_than,
            model: self.model.clone(),
            tag: self.tag.clone(),
            dry_run: self.dry_run,
            asked,
        }
    }
}

/// `cleanup`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct CleanupArgs {
    /// Go on until a signal, and look so often, as in 1h
    ///
    /// Without it, the sessions are looked at once.
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    every: Option<Duration>,
    #[command(flatten)]
    unused: Unused,
}

impl CleanupArgs {
    pub(super) fn command(&self) -> Command {
        Command::Cleanup(Cleanup {
            purge: self.unused.asked_by("cleanup"),
            every: self.every,
        })
    }
}

/// Reads how long it is between two rounds.
fn interval(text: &str) -> std::result::Result<Duration, String> {
    match age(text)? {
        short if short < Duration::from_secs(1) => Err("that is less than a second".to_owned()),
        every => Ok(every),
    }
}

/// Returns a length of time as it may be typed: whole days as days.
fn short(age: Duration) -> String {
    match age.as_secs() {
        0 => "0".to_owned(),
        seconds if seconds % DAY == 0 && age.subsec_nanos() == 0 => format!("{}d", seconds / DAY),
        _ => humantime::format_duration(age).to_string(),
    }
}
