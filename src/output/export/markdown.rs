//! A session as a text for people: a heading for what it is and one for each message. What was
//! said is Markdown itself most often, so it stands as it is; only a fence that it leaves open is
//! closed, or the rest of the page would be code.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Put, Stop};
use crate::output::text::harmless;
use crate::session::attachment::Asking;
use crate::session::event::Turn;
use crate::session::fold::SaidTurn;
use crate::store::history::History;

pub(super) fn write(history: &History<'_>, put: &mut Put<'_>) -> Result<(), Stop> {
    let settings = &history.session.settings;
    let mut head = format!("# Session {}\n\n", history.id);
    let _ = writeln!(head, "- created: {}", history.created);
    if let Some(model) = &settings.model {
        let _ = writeln!(head, "- model: {}", one_line(model));
    }
    let _ = writeln!(head, "- turns: {}", history.turns);
    let tags = settings.tags.iter().filter(|(_, on)| **on);
    let tags: Vec<Cow<'_, str>> = tags.map(|(name, _)| one_line(name)).collect();
    if !tags.is_empty() {
        let _ = writeln!(head, "- tags: {}", tags.join(", "));
    }
    put(&head)?;
    if let Some(system) = settings.system.as_deref().filter(|text| !text.is_empty()) {
        put(&section("System", system))?;
    }
    for (number, said) in history.turns().enumerate() {
        put(&turn(number + 1, &said?))?;
    }
    Ok(())
}

fn turn(number: usize, said: &SaidTurn) -> String {
    let turn = &said.turn;
    let mut text = question(number, turn);
    let heading = format!(
        "{number}. Assistant: {} at {}",
        one_line(&turn.model),
        said.ts
    );
    let thinking = turn.thinking.as_deref().filter(|text| !text.is_empty());
    let Some(thinking) = thinking else {
        text.push_str(&section(&heading, &turn.response));
        return text;
    };
    let quoted = harmless(thinking);
    let quoted = quoted
        .lines()
        .map(|line| format!("> {line}").trim_end().to_owned());
    let quoted: Vec<String> = quoted.collect();
    let _ = write!(text, "\n## {heading}\n\n{}\n", quoted.join("\n"));
    text.push_str(&body(&turn.response));
    text
}

/// Returns the user's side of a turn: results of calls, the prompt, the names of its images.
fn question(number: usize, turn: &Turn) -> String {
    let mut text = String::new();
    for result in &turn.tool_results {
        let heading = format!("{number}. Tool {}", one_line(&result.name));
        text.push_str(&section(&heading, &result.content));
    }
    if Asking::of(turn).has_prompt() {
        text.push_str(&section(&format!("{number}. User"), &turn.prompt));
    }
    for blob in &turn.blobs {
        let _ = write!(text, "\n[image: {}]\n", one_line(&blob.name));
    }
    text
}

fn section(heading: &str, said: &str) -> String {
    format!("\n## {heading}\n{}", body(said))
}

/// Returns what was said as a block of its own.
fn body(said: &str) -> String {
    let said = harmless(said);
    let said = said.trim_matches('\n');
    let mut text = format!("\n{said}\n");
    if let Some(fence) = open_fence(said) {
        text.push_str(&fence);
        text.push('\n');
    }
    text
}

fn one_line(text: &str) -> Cow<'_, str> {
    match harmless(text) {
        text if text.contains('\n') => Cow::Owned(text.replace('\n', " ")),
        text => text,
    }
}

/// Returns the fence that closes the block of code a text leaves open, by CommonMark's rule: three
/// backticks or tildes or more, indented by three spaces at the most, closed by at least as many
/// of the same and nothing else on the line.
fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines() {
        let unindented = line.trim_start_matches(' ');
        if line.len() - unindented.len() > 3 {
            continue;
        }
        let Some(mark) = unindented.chars().next().filter(|c| matches!(c, '`' | '~')) else {
            continue;
        };
        let rest = unindented.trim_start_matches(mark);
        let length = unindented.len() - rest.len();
        open = match open {
            // A line with a backtick behind it is code within a line of text.
            None if length >= 3 && !(mark == '`' && rest.contains('`')) => Some((mark, length)),
            Some((by, at_least)) if by == mark && length >= at_least && rest.trim().is_empty() => {
                None
            }
            as_before => as_before,
        };
    }
    open.map(|(mark, length)| mark.to_string().repeat(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_left_open_is_closed() {
        let rows = [
            ("plain", None),
            ("```rust\nfn main() {}\n```", None),
            ("```rust\nfn main() {}", Some("```")),
            ("~~~~\n~~~\n", Some("~~~~")),
            ("````\n```\n", Some("````")),
            ("```\n``` not the end", Some("```")),
            ("    ```\nindented code", None),
            ("```inline``` code", None),
            ("   ```\nx", Some("```")),
        ];
        for (text, expected) in rows {
            assert_eq!(open_fence(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_was_said_moves_no_cursor_and_stands_apart() {
        assert_eq!(
            body("\n\u{1b}[2Ja\n```\nb\n\n"),
            "\n\\u{1b}[2Ja\n```\nb\n```\n"
        );
        assert_eq!(one_line("a\nb"), "a b");
    }
}
