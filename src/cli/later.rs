//! Verbs whose flags are defined when one of them is typed.
//!
//! Defining the flags of every verb takes as long as all else a turn computes, and a turn has no
//! verb: a fifth of its instructions (docs/performance.md).

use super::help::in_groups;
use clap::builder::{Resettable, StyledStr};
use clap::{ArgMatches, Command, Error, FromArgMatches, Subcommand};

/// The verbs of `V`, defined only once their parent is typed, or asked what it has.
#[derive(Debug)]
pub(super) struct Later<V>(pub(super) V);

impl<V: Subcommand> Subcommand for Later<V> {
    fn augment_subcommands(parent: Command) -> Command {
        parent.defer(|parent| in_groups(said_of(&parent).of(V::augment_subcommands(parent))))
    }

    fn augment_subcommands_for_update(parent: Command) -> Command {
        parent.defer(|parent| said_of(&parent).of(V::augment_subcommands_for_update(parent)))
    }

    fn has_subcommand(name: &str) -> bool {
        V::has_subcommand(name)
    }
}

/// What help says of a verb that has verbs: by the variant it is, not by the type of its verbs,
/// which speaks last where definitions come later.
struct Said {
    about: Option<StyledStr>,
    long_about: Option<StyledStr>,
}

fn said_of(parent: &Command) -> Said {
    Said {
        about: parent.get_about().cloned(),
        long_about: parent.get_long_about().cloned(),
    }
}

impl Said {
    fn of(self, parent: Command) -> Command {
        parent
            .about(Resettable::from(self.about))
            .long_about(Resettable::from(self.long_about))
    }
}

impl<V: FromArgMatches> FromArgMatches for Later<V> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        V::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}
