//! A session as a text for people: a heading for what it is and one for each message.

use std::fmt::Write as _;

use super::{Put, Stop};
use crate::output::markdown::{block, plain, quoted, section};
use crate::session::attachment::Asking;
use crate::session::event::Turn;
use crate::session::fold::SaidTurn;
use crate::store::history::History;

pub(super) fn write(history: &History<'_>, put: &mut Put<'_>) -> Result<(), Stop> {
    let settings = &history.session.settings;
    let mut head = match settings.title() {
        Some(title) => format!("# {}\n\n- session: {}\n", plain(title), history.id),
        None => format!("# Session {}\n\n", history.id),
    };
    let _ = writeln!(head, "- created: {}", history.created);
    if let Some(model) = &settings.model {
        let _ = writeln!(head, "- model: {}", plain(model));
    }
    let _ = writeln!(head, "- turns: {}", history.turns);
    let tags = settings.tags.iter().filter(|(_, on)| **on);
    let tags: Vec<String> = tags.map(|(name, _)| plain(name)).collect();
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
    let heading = format!("{number}. Assistant: {} at {}", turn.model, said.ts);
    let thinking = turn.thinking.as_deref().filter(|text| !text.is_empty());
    match thinking {
        None => text += &section(&heading, &turn.response),
        Some(thinking) => {
            let (heading, response) = (plain(&heading), block(&turn.response));
            let _ = write!(
                text,
                "\n## {heading}\n\n{}\n\n{response}\n",
                quoted(thinking)
            );
        }
    }
    text
}

/// Returns the user's side of a turn: results of calls, the prompt, the names of its images.
fn question(number: usize, turn: &Turn) -> String {
    let mut text = String::new();
    for result in &turn.tool_results {
        let heading = format!("{number}. Tool {}", result.name);
        text.push_str(&section(&heading, &result.content));
    }
    if Asking::of(turn).has_prompt() {
        text.push_str(&section(&format!("{number}. User"), &turn.prompt));
    }
    for blob in &turn.blobs {
        let _ = write!(text, "\n\\[image: {}\\]\n", plain(&blob.name));
    }
    text
}
