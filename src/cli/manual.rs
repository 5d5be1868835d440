//! What is made of the definition of flags and verbs itself: completions for shells, and the
//! manual page.

use std::fmt::Write as _;

use clap::{Args, Command, ValueEnum};
use clap_complete::{Generator, Shell};
use clap_mangen::Man;

use super::env::VARIABLES;
use crate::error::Code;

pub(super) const NAME: &str = "ollama-prompt";

/// A shell, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell: bash, zsh, fish, powershell or elvish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: ShellName,
}

/// The shells completions can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Elvish,
}

impl From<ShellName> for Shell {
    fn from(name: ShellName) -> Self {
        match name {
            ShellName::Bash => Self::Bash,
            ShellName::Zsh => Self::Zsh,
            ShellName::Fish => Self::Fish,
            ShellName::PowerShell => Self::PowerShell,
            ShellName::Elvish => Self::Elvish,
        }
    }
}

impl Completions {
    /// Returns the script its shell reads.
    pub(super) fn script(&self, mut command: Command) -> String {
        command.set_bin_name(NAME);
        command.build();
        let script = written(|out| Shell::from(self.shell).try_generate(&command, out));
        // clap_complete 4.6 spells a name that has a hyphen in two ways in the script for bash, so
        // that nothing is completed after the first verb.
        script.replace("ollama__subcmd__prompt", "ollama__prompt")
    }
}

/// Returns every verb that does something, with the words it is called by, in the order of the
/// help.
pub(super) fn verbs(mut command: Command) -> Vec<(String, Command)> {
    command.build();
    let mut verbs = Vec::new();
    collect(NAME, &command, &mut verbs);
    verbs
}

fn collect(words: &str, command: &Command, verbs: &mut Vec<(String, Command)>) {
    let told = |verb: &&Command| !verb.is_hide_set() && verb.get_name() != "help";
    for verb in command.get_subcommands().filter(told) {
        let words = format!("{words} {}", verb.get_name());
        if verb.has_subcommands() {
            collect(&words, verb, verbs);
        } else {
            verbs.push((words, verb.clone()));
        }
    }
}

/// Returns the manual page, for `man -l`: the turn, then each verb in a section of its own.
pub(super) fn page(command: Command) -> String {
    let man = Man::new(command.clone());
    let mut page = written(|out| {
        man.render_title(out)?;
        man.render_name_section(out)?;
        man.render_synopsis_section(out)?;
        man.render_description_section(out)?;
        man.render_options_section(out)
    });
    for (words, verb) in verbs(command) {
        page += &section(&words, verb);
    }
    page += &environment();
    page += &exit_status();
    in_ascii(&page)
}

/// Returns the section of a verb. What holds for every command is said once, at the beginning.
fn section(words: &str, verb: Command) -> String {
    let verb = verb.bin_name(words.to_owned()).mut_args(|arg| {
        let is_common = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(is_common)
    });
    let has_options = verb.get_arguments().any(|arg| !arg.is_hide_set());
    let man = Man::new(verb);
    let parts = written(|out| {
        man.render_description_section(out)?;
        man.render_synopsis_section(out)?;
        if has_options {
            man.render_options_section(out)?;
        }
        Ok(())
    });
    let mut section = format!(".SH \"{}\"\n", escaped(&words.to_uppercase()));
    for line in parts.lines() {
        match line.strip_prefix(".SH ") {
            Some("DESCRIPTION") => {}
            Some(heading) => drop(writeln!(section, ".SS {heading}")),
            None => drop(writeln!(section, "{line}")),
        }
    }
    section
}

fn environment() -> String {
    let entries = VARIABLES.iter();
    let entries = entries.map(|(name, meaning)| (*name, meaning.replace('`', "")));
    list("ENVIRONMENT", entries)
}

fn exit_status() -> String {
    let mut statuses: Vec<(u8, Vec<&str>)> = vec![(0, vec!["the result is on standard output"])];
    for code in Code::ALL {
        match statuses.last_mut() {
            Some((status, codes)) if *status == code.exit_status() => codes.push(code.name()),
            _ => statuses.push((code.exit_status(), vec![code.name()])),
        }
    }
    let entries = statuses.into_iter();
    list(
        "EXIT STATUS",
        entries.map(|(status, codes)| (status.to_string(), codes.join(", "))),
    )
}

fn list(heading: &str, entries: impl Iterator<Item = (impl AsRef<str>, String)>) -> String {
    let mut section = format!(".SH \"{heading}\"\n");
    for (name, meaning) in entries {
        let (name, meaning) = (escaped(name.as_ref()), escaped(&meaning));
        let _ = writeln!(section, ".TP\n\\fB{name}\\fR\n{meaning}");
    }
    section
}

/// Returns a text that is no line of its own as roff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Returns the page with every other character by its number: what it is encoded in then does not
/// matter.
fn in_ascii(page: &str) -> String {
    let mut ascii = String::with_capacity(page.len());
    for c in page.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let _ = write!(ascii, "\\[u{:04X}]", u32::from(c));
        }
    }
    ascii
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("memory can be written to");
    String::from_utf8(bytes).expect("flags and their help are text")
}
