//! Finding sessions and what was said in them: `session list`, `show`, `search` and
//! `stats`, as they are typed and what they ask for.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use clap::{Args, ValueEnum};

use super::Command;
use super::help::{MEANING, PRINTED, WHEN, WHERE, WHICH};
use super::values::{age, no_turn, session_of, session_or_turn, usage};
use crate::error;
use crate::session::event::Timestamp;
use crate::session::id::{EventId, SessionRef};
use crate::session::pattern::{Case, Meaning, Role};

/// `session list`: which sessions, in which order, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListWanted {
    /// Which sessions.
    pub sessions: SessionFilter,
    /// In which order.
    pub sort: Sort,
    /// How many at the most.
    pub limit: Option<usize>,
}

/// `session show`: one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowWanted {
    /// The session.
    pub session: SessionRef,
    /// What of it.
    pub part: Part,
}

/// What is shown of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    All,
    /// What there was of it when this turn was stored.
    At(EventId),
    /// What was said in this turn.
    Turn(EventId),
}

/// `session search`: what is looked for, and what is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchWanted {
    /// What is looked for.
    pub pattern: String,
    /// How that is meant.
    pub meaning: Meaning,
    /// In which sessions; none is all of them.
    pub sessions: Vec<SessionRef>,
    /// In what these said.
    pub roles: Vec<Role>,
    /// In turns of this model only.
    pub model: Option<String>,
    /// In what was said in this time.
    pub said: Span,
    /// What is told.
    pub told: Told,
    /// How many lines at the most.
    pub limit: Option<usize>,
}

/// `session stats`: of which turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsWanted {
    /// Of this model only.
    pub model: Option<String>,
    /// In this time only.
    pub said: Span,
}

/// What a search tells, a line for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Messages with matches.
    Messages,
    /// Sessions, and how many matches they have.
    Counts,
    /// Sessions.
    Sessions,
}

/// Which sessions are meant: those that are all of this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The next turn asks this model.
    pub model: Option<String>,
    /// They have all these tags.
    pub tags: Vec<String>,
    /// They were last used in this time.
    pub used: Span,
}

/// A time from one moment to another, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its beginning; without one it has none.
    pub since: Option<Moment>,
    /// Its end; without one it has none.
    pub until: Option<Moment>,
}

/// A moment as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This one.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl Moment {
    /// Returns the moment itself.
    #[must_use]
    pub fn seen_from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(moment) => moment,
            Self::Ago(age) => {
                let ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                Timestamp::from_ms(now.as_ms().saturating_sub(ms))
            }
        }
    }
}

impl Span {
    /// Returns a test of moments, as it is now.
    pub fn seen_from(self, now: Timestamp) -> impl Fn(Timestamp) -> bool {
        let since = self.since.map(|moment| moment.seen_from(now));
        let until = self.until.map(|moment| moment.seen_from(now));
        move |moment| {
            since.is_none_or(|since| moment >= since) && until.is_none_or(|until| moment <= until)
        }
    }
}

/// The order of a list: what is largest or newest comes first, titles from A to Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// By the last use.
    #[default]
    LastUsed,
    /// By the first event.
    Created,
    /// By the number of messages.
    Messages,
    /// By the tokens of the context.
    Tokens,
    /// By the bytes of the logs.
    Size,
    /// By the title; sessions without one come last.
    Title,
}

/// `session list`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those that ask this model
    #[arg(long, value_name = "NAME", help_heading = WHICH)]
    model: Option<String>,
    /// Only those that have this tag
    ///
    /// May be given several times; then they have all of them.
    #[arg(long, value_name = "TAG", help_heading = WHICH)]
    tag: Vec<String>,
    #[command(flatten)]
    used: TypedSpan,
    /// What comes first [default: last-used]
    ///
    /// last-used, created, messages, tokens, size or title. The newest or largest comes first, titles from A to Z.
    #[arg(
        long,
        value_name = "KEY",
        default_value = "last-used",
        hide_default_value = true,
        hide_possible_values = true,
        help_heading = PRINTED
    )]
    sort: Sort,
    /// Show so many at the most
    #[arg(long, value_name = "N", help_heading = PRINTED)]
    limit: Option<usize>,
}

impl List {
    pub(super) fn command(&self) -> Command {
        Command::ListSessions(ListWanted {
            sessions: SessionFilter {
                model: self.model.clone(),
                tags: self.tag.clone(),
                used: self.used.span(),
            },
            sort: self.sort,
            limit: self.limit,
        })
    }
}

/// `session show`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The session, by its id or a part of it; or one turn, ID:TURN
    ///
    /// A part has at least 8 characters, from the beginning of the id or from its end.
    #[arg(value_name = "ID")]
    id: String,
    /// Show the session as it was when this turn was stored
    #[arg(long, value_name = "TURN", conflicts_with = "context", help_heading = PRINTED)]
    at: Option<String>,
    /// Print the request that was sent for a turn
    ///
    /// Exactly as it was sent; for the newest turn, if none is named.
    #[arg(
        long,
        value_name = "TURN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "newest",
        help_heading = PRINTED
    )]
    context: Option<String>,
}

impl Show {
    pub(super) fn command(&self) -> error::Result<Command> {
        let (session, own) = session_or_turn(&self.id)?;
        let turn = |text: &String| text.parse::<EventId>().map_err(|_| no_turn(text));
        match (own, &self.at, &self.context) {
            (None, None, None) => Ok((session, Part::All)),
            (None, Some(text), _) => Ok((session, Part::At(turn(text)?))),
            (Some(own), None, None) => Ok((session, Part::Turn(own))),
            (Some(_), Some(_), _) => {
                Err(usage("ID:TURN and --at are mutually exclusive").hint("give one of them"))
            }
            (own, None, Some(text)) if text == "newest" => {
                return Ok(Command::SentContext { session, turn: own });
            }
            (None, None, Some(text)) => {
                let turn = Some(turn(text)?);
                return Ok(Command::SentContext { session, turn });
            }
            (Some(_), None, Some(_)) => {
                Err(usage("ID:TURN and --context=TURN are mutually exclusive")
                    .hint("--context alone prints the request of the turn in the id"))
            }
        }
        .map(|(session, part)| Command::SessionInfo(ShowWanted { session, part }))
    }
}

/// `session search`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Search {
    /// A regular expression, in the syntax of ripgrep
    ///
    /// ^ and $ are the ends of a line.
    #[arg(value_name = "PATTERN", allow_hyphen_values = true)]
    pattern: String,
    /// The sessions to search; all if none is given
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Take the pattern as a text
    #[arg(short = 'F', long, help_heading = MEANING)]
    fixed: bool,
    /// Upper and lower case are the same
    #[arg(short, long, conflicts_with = "smart_case", help_heading = MEANING)]
    ignore_case: bool,
    /// They are, unless the pattern has an upper case letter
    #[arg(short = 'S', long, help_heading = MEANING)]
    smart_case: bool,
    /// Only what user, assistant, system or thinking said
    ///
    /// May be given several times. [default: all but thinking]
    #[arg(
        long,
        value_name = "ROLE",
        hide_possible_values = true,
        help_heading = WHERE
    )]
    role: Vec<TypedRole>,
    /// Only turns of this model
    #[arg(long, value_name = "NAME", help_heading = WHERE)]
    model: Option<String>,
    #[command(flatten)]
    said: TypedSpan,
    /// Print how many messages of each match, and how often
    #[arg(short, long, help_heading = PRINTED)]
    count: bool,
    /// Print only the ids of sessions that match
    #[arg(short = 'l', long, conflicts_with = "count", help_heading = PRINTED)]
    files_with_matches: bool,
    /// Print so many lines at the most
    #[arg(long, value_name = "N", help_heading = PRINTED)]
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypedRole {
    User,
    Assistant,
    System,
    Thinking,
}

impl Search {
    pub(super) fn command(&self) -> error::Result<Command> {
        let ids = self.ids.iter().map(|id| session_of(id));
        let role = |role: &TypedRole| match role {
            TypedRole::User => Role::User,
            TypedRole::Assistant => Role::Assistant,
            TypedRole::System => Role::System,
            TypedRole::Thinking => Role::Thinking,
        };
        let roles: Vec<Role> = self.role.iter().map(role).collect();
        Ok(Command::Search(SearchWanted {
            pattern: self.pattern.clone(),
            meaning: Meaning {
                is_fixed: self.fixed,
                case: match (self.ignore_case, self.smart_case) {
                    (true, _) => Case::Ignored,
                    (_, true) => Case::Smart,
                    _ => Case::Sensitive,
                },
            },
            sessions: ids.collect::<error::Result<_>>()?,
            roles: if roles.is_empty() {
                vec![Role::System, Role::User, Role::Assistant]
            } else {
                roles
            },
            model: self.model.clone(),
            said: self.said.span(),
            told: match (self.count, self.files_with_matches) {
                (true, _) => Told::Counts,
                (_, true) => Told::Sessions,
                _ => Told::Messages,
            },
            limit: self.limit,
        }))
    }
}

/// `session stats`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Stats {
    /// Only turns of this model
    #[arg(long, value_name = "NAME", help_heading = WHERE)]
    model: Option<String>,
    #[command(flatten)]
    said: TypedSpan,
}

impl Stats {
    pub(super) fn command(&self) -> Command {
        Command::Stats(StatsWanted {
            model: self.model.clone(),
            said: self.said.span(),
        })
    }
}

/// A span of time, as it is typed.
#[derive(Debug, Args)]
pub(super) struct TypedSpan {
    /// Not before then: a date, a time, or an age as in 7d
    ///
    /// As in 2026-11-20, 2026-11-20T08:00:00Z or 12h; dates are those of UTC.
    #[arg(long, value_name = "WHEN", value_parser = since, help_heading = WHEN)]
    since: Option<Moment>,
    /// Not after then; of a date the whole day counts
    #[arg(long, value_name = "WHEN", value_parser = until, help_heading = WHEN)]
    until: Option<Moment>,
}

impl TypedSpan {
    pub(super) fn span(&self) -> Span {
        Span {
            since: self.since,
            until: self.until,
        }
    }
}

fn since(text: &str) -> Result<Moment, String> {
    moment(text, |day| day)
}

fn until(text: &str) -> Result<Moment, String> {
    let end = |day: DateTime<Utc>| {
        let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
        next - chrono::Duration::milliseconds(1)
    };
    moment(text, end)
}

/// Reads a moment; `of_day` chooses one of a day, given its beginning.
fn moment(text: &str, of_day: impl Fn(DateTime<Utc>) -> DateTime<Utc>) -> Result<Moment, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        let day = date.and_time(NaiveTime::MIN).and_utc();
        return Ok(Moment::At(Timestamp(of_day(day))));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(Timestamp(time.to_utc())));
    }
    let why = "give a date (2026-11-20), a time (2026-11-20T08:00:00Z) or an age (7d, 12h)";
    age(text).map(Moment::Ago).map_err(|_| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_times_and_ages() {
        let now = Timestamp::from_ms(1_763_856_000_000); // 2025-11-23T00:00:00Z
        let rows = [
            (
                "2025-11-20",
                "2025-11-20T00:00:00.000Z",
                "2025-11-20T23:59:59.999Z",
            ),
            (
                "2025-11-20T08:00:00+02:00",
                "2025-11-20T06:00:00.000Z",
                "2025-11-20T06:00:00.000Z",
            ),
            (
                "36h",
                "2025-11-21T12:00:00.000Z",
                "2025-11-21T12:00:00.000Z",
            ),
            ("0", "2025-11-23T00:00:00.000Z", "2025-11-23T00:00:00.000Z"),
        ];
        for (text, begins, ends) in rows {
            let seen =
                |moment: Result<Moment, String>| moment.map(|m| m.seen_from(now).to_string());
            assert_eq!(seen(since(text)), Ok(begins.to_owned()), "{text}");
            assert_eq!(seen(until(text)), Ok(ends.to_owned()), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2025-13-01",
            "7",
            "-1d",
            "2025-11-20 08:00",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_has_both_its_ends() {
        let at = |ms| Some(Moment::At(Timestamp::from_ms(ms)));
        let holds = |since, until, ms| {
            Span { since, until }.seen_from(Timestamp::from_ms(0))(Timestamp::from_ms(ms))
        };
        assert!(holds(None, None, 5) && holds(at(5), at(5), 5));
        assert!(!holds(at(6), None, 5) && !holds(None, at(4), 5));
    }
}
