//! How help is arranged: the headings flags stand under, and the verbs of `session` in groups.
//!
//! `-h` is what most people need, a line for each flag, on one screen; `--help` is everything, with
//! [examples](super::examples) at the end.

use std::fmt::Write as _;

use clap::Command;

pub(super) const PROMPT: &str = "Prompt";
pub(super) const MODEL: &str = "Model and reply";
pub(super) const MANAGEMENT: &str = "Session management";
pub(super) const UTILITIES: &str = "Session utilities";
pub(super) const OUTPUT: &str = "Output";

pub(super) const WHICH: &str = "Which sessions";
pub(super) const CHANGES: &str = "What changes";
pub(super) const MEANING: &str = "How the pattern is meant";
pub(super) const WHERE: &str = "Where it is looked for";
pub(super) const WHEN: &str = "When";
pub(super) const PRINTED: &str = "What is printed";

/// The verbs of `session`, by what they are for. Each stands in one group.
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Look",
        &["list", "show", "search", "stats", "drafts", "watch"],
    ),
    ("Change", &["update", "pin", "unpin", "prune"]),
    ("Go on", &["fork", "retry"]),
    (
        "Hide and remove",
        &["retract", "redact", "compact", "delete", "purge"],
    ),
    (
        "Keep and move",
        &["verify", "reindex", "merge", "copy", "import", "export"],
    ),
];

/// Puts the verbs of `session` into their groups, once they are defined.
pub(super) fn in_groups(parent: Command) -> Command {
    if parent.get_name() != "session" {
        return parent;
    }
    let template = template(&parent);
    parent.help_template(template)
}

/// Returns the help of a command with its verbs in groups; what is in no group comes last.
fn template(command: &Command) -> String {
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    let is_grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let rest = command.get_subcommands().map(Command::get_name);
    let rest: Vec<&str> = rest.filter(|name| !is_grouped(name)).collect();
    for (heading, names) in GROUPS.into_iter().chain([("More", rest.as_slice())]) {
        let verbs = names
            .iter()
            .filter_map(|name| command.find_subcommand(name));
        let mut lines = verbs.map(|verb| {
            let about = verb.get_about().map(ToString::to_string);
            format!("  {:<8} {}\n", verb.get_name(), about.unwrap_or_default())
        });
        if let Some(first) = lines.next() {
            let _ = write!(text, "\n{heading}:\n{first}");
            text.extend(lines);
        }
    }
    text + "\nOptions:\n{options}{after-help}"
}
