//! How things are printed, and the schemas of what is printed.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::help::OUTPUT;

/// The flags.
#[derive(Debug, Args)]
pub(super) struct Display {
    /// Whether what people read has colour: auto, always or never
    ///
    /// auto is on a terminal, unless NO_COLOR is set. [default: auto]
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        overrides_with = "color",
        hide_possible_values = true,
        hide_short_help = true,
        help_heading = OUTPUT
    )]
    pub(super) color: Option<Color>,
    /// Print the JSON Schema of what is printed or stored
    ///
    /// SHAPE is turn, list, info, message (a line of session show --output jsonl), found, found-in,
    /// found-session (lines of session search), stats, error, event, chunk (a line of --output jsonl
    /// but the last), seen (a line of session watch), plan (--dry-run), sent (the context of a past
    /// turn), purged, compacted, verified, merged, copied, imported, exported (the report of a session
    /// export), forked, drafts, cleared, pinned, pruned, reindexed, updated, retracted, redacted,
    /// cleanup (a line of it), templates, template, template-saved or templates-deleted.
    #[arg(
        long,
        value_name = "SHAPE",
        hide_possible_values = true,
        hide_short_help = true,
        help_heading = OUTPUT
    )]
    pub(super) print_schema: Option<Shape>,
}

/// When what people read has colour. What programs read never has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Decides between flag and environment: the flag wins, unless it leaves it open.
    pub(super) fn of(typed: Option<Self>, environment_forbids: bool) -> Self {
        match typed.unwrap_or_default() {
            Self::Auto if environment_forbids => Self::Never,
            asked => asked,
        }
    }

    /// Returns the last `--color` that is spelled out, whatever the rest of the line says.
    pub(super) fn spelled_out(arguments: &[OsString]) -> Option<Self> {
        let mut values = arguments.iter().enumerate().filter_map(|(at, argument)| {
            let next = || arguments.get(at + 1)?.to_str();
            match argument.to_str()?.strip_prefix("--color")? {
                "" => next(),
                joined => joined.strip_prefix('='),
            }
        });
        Self::from_str(values.next_back()?, false).ok()
    }
}

/// Something that is printed or stored, and has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A turn; also the last line of `--output jsonl`.
    Turn,
    /// A line of `--output jsonl` before the last.
    Chunk,
    /// `--list-sessions`.
    List,
    /// `--session-info`.
    Info,
    /// A line of `session show --output jsonl`.
    Message,
    /// A line of `session search`.
    Found,
    /// A line of `session search --count`.
    FoundIn,
    /// A line of `session search --files-with-matches`.
    FoundSession,
    /// `session stats`.
    Stats,
    /// A failure on standard error.
    Error,
    /// A line of a session's log.
    Event,
    /// A line of `session watch`.
    Seen,
    /// `--dry-run`.
    Plan,
    /// `session show --context`.
    Sent,
    /// `--purge`, `session purge` and `session delete`.
    Purged,
    /// `session compact`.
    Compacted,
    /// `session verify`.
    Verified,
    /// `session merge`.
    Merged,
    /// `session copy`.
    Copied,
    /// `session import`.
    Imported,
    /// `session export --out`.
    Exported,
    /// `session fork`.
    Forked,
    /// `session drafts`.
    Drafts,
    /// `session drafts --clear`.
    Cleared,
    /// `session pin` and `unpin`.
    Pinned,
    /// `session prune`.
    Pruned,
    /// `session reindex`.
    Reindexed,
    /// `session update`.
    Updated,
    /// `session retract`.
    Retracted,
    /// `session redact`.
    Redacted,
    /// A line of `cleanup`.
    Cleanup,
    /// `template list`.
    Templates,
    /// `template show`.
    Template,
    /// `template save`.
    TemplateSaved,
    /// `template delete`.
    TemplatesDeleted,
}

impl Shape {
    /// Returns the name, as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Chunk => "chunk",
            Self::List => "list",
            Self::Info => "info",
            Self::Message => "message",
            Self::Found => "found",
            Self::FoundIn => "found-in",
            Self::FoundSession => "found-session",
            Self::Stats => "stats",
            Self::Error => "error",
            Self::Event => "event",
            Self::Seen => "seen",
            Self::Plan => "plan",
            Self::Sent => "sent",
            Self::Purged => "purged",
            Self::Compacted => "compacted",
            Self::Verified => "verified",
            Self::Merged => "merged",
            Self::Copied => "copied",
            Self::Imported => "imported",
            Self::Exported => "exported",
            Self::Forked => "forked",
            Self::Drafts => "drafts",
            Self::Cleared => "cleared",
            Self::Pinned => "pinned",
            Self::Pruned => "pruned",
            Self::Reindexed => "reindexed",
            Self::Updated => "updated",
            Self::Retracted => "retracted",
            Self::Redacted => "redacted",
            Self::Cleanup => "cleanup",
            Self::Templates => "templates",
            Self::Template => "template",
            Self::TemplateSaved => "template-saved",
            Self::TemplatesDeleted => "templates-deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_environment_unless_it_leaves_it_open() {
        let rows = [
            ("", false, Color::Auto),
            ("", true, Color::Never),
            ("--color auto", true, Color::Never),
            ("--color auto", false, Color::Auto),
            ("--color=always", true, Color::Always),
            ("--color never", false, Color::Never),
            ("--color never --oops --color=always", false, Color::Always),
            ("--color", false, Color::Auto),
            ("--color blue", false, Color::Auto),
            ("--colorful always", false, Color::Auto),
        ];
        for (line, forbids, expected) in rows {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let color = Color::of(Color::spelled_out(&arguments), forbids);
            assert_eq!(color, expected, "{line} {forbids}");
        }
    }
}
