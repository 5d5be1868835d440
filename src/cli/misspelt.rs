//! What is said of a command line that clap does not understand: a sentence, and what to type.
//! Which line is right is the definition of the flags; this only says it so that who typed something
//! else finds it.

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Typed;
use super::manual::NAME;
use super::values::{misplaced_address, usage};
use crate::error::Error;
use crate::store::uri::is_meant;

const HOW_TO_PROMPT: &str = "a prompt is given with --prompt, as in ollama-prompt --prompt \"…\"";

/// Says what clap found.
pub(super) fn misspelt(error: &clap::Error) -> Error {
    let message = error.render().to_string();
    if has_address(&message) {
        return misplaced_address();
    }
    let words = words_of_usage(&message);
    let command = if words.is_empty() {
        NAME.to_owned()
    } else {
        words.join(" ")
    };
    let verb = words.last().filter(|_| words.len() > 1);
    let typed = about(error, ContextKind::InvalidSubcommand);
    let is_verb = |word: &str| Typed::command().find_subcommand(word).is_some();
    match (error.kind(), typed) {
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => {
            let name = verb.unwrap_or(&NAME);
            usage(format!("{name} needs a verb"))
                .hint(format!("{command} --help shows the ones there are"))
        }
        (ErrorKind::InvalidSubcommand, Some(typed)) => {
            let meant = about(error, ContextKind::SuggestedSubcommand);
            no_verb(typed).hint(match (meant, verb) {
                (Some(meant), _) => format!("did you mean `{meant}`?"),
                (None, Some(_)) => format!("{command} --help shows the ones there are"),
                (None, None) => HOW_TO_PROMPT.to_owned(),
            })
        }
        // A word behind a flag: clap takes it for a verb, whatever it is.
        (ErrorKind::ArgumentConflict, Some(typed)) if !is_verb(typed) => {
            no_verb(typed).hint(HOW_TO_PROMPT)
        }
        _ => sentence_and_tip(&message, format!("{command} --help shows every option")),
    }
}

/// Tells whether a word of clap's may be the address of a database, with a password in it.
fn has_address(message: &str) -> bool {
    let mut words =
        message.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '`' | '=' | '"'));
    words.any(is_meant)
}

fn no_verb(typed: &str) -> Error {
    usage(format!("there is no verb `{typed}`"))
}

/// Takes clap's message apart: the sentence, and below it what to do.
fn sentence_and_tip(message: &str, otherwise: String) -> Error {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let (sentence, rest) = message.split_once("\n\n").unwrap_or((message, ""));
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    let tip = rest
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "));
    usage(sentence).hint(tip.map_or(otherwise, str::to_owned))
}

/// Returns the program and the verbs of the usage line: what was understood.
fn words_of_usage(message: &str) -> Vec<&str> {
    let line = message
        .lines()
        .find_map(|line| line.strip_prefix("Usage: "));
    line.into_iter()
        .flat_map(|line| line.split(' '))
        .take_while(|word| !word.starts_with(['-', '[', '<']))
        .collect()
}

fn about(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}
