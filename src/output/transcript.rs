//! A session as people read it: what was said, as plain text and as Markdown, and a line a message
//! for programs.

use std::fmt::Write as _;

use super::markdown::{plain, quoted, section};
use super::table::{minute, one_line};
use super::text::harmless;
use super::{Page, Report, SaidMessage, SessionInfo};
use crate::cli::Output;
use crate::json;

impl Report for SessionInfo {
    super::report::as_json!();

    fn for_people(&self, form: Output, page: Page) -> Option<String> {
        match form {
            Output::Jsonl => Some(lines(self)),
            Output::Text => Some(text(self, page)),
            Output::Markdown => Some(markdown(self)),
            _ => None,
        }
    }
}

fn lines(info: &SessionInfo) -> String {
    let lines: Vec<String> = info.messages.iter().map(json::line).collect();
    lines.join("\n")
}

/// Returns what is known of the session besides what was said, by name.
fn facts(info: &SessionInfo) -> Vec<(&'static str, String)> {
    let facts = [
        ("Session", Some(info.session_id.to_string())),
        ("Model", info.model_name.clone()),
        ("Created", info.created_at.map(minute)),
        ("Last used", info.last_used.map(minute)),
        (
            "Tags",
            Some(info.metadata.tags.join(", ")).filter(|tags| !tags.is_empty()),
        ),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, fact)| Some((name, one_line(&fact?))));
    known.collect()
}

/// Returns who said something, when, and in which turn.
fn heading(message: &SaidMessage) -> String {
    let model = message
        .model
        .as_ref()
        .map(|model| format!(" ({})", one_line(model)));
    let (role, time, turn) = (message.role, minute(message.timestamp), message.turn);
    let out = if message.in_context {
        ""
    } else {
        ", not in context"
    };
    format!("{role}{}, {time}, {turn}{out}", model.unwrap_or_default())
}

fn text(info: &SessionInfo, page: Page) -> String {
    let mut text = String::new();
    if let Some(title) = &info.metadata.title {
        text += &(page.palette.heading(&one_line(title)) + "\n");
    }
    for (name, fact) in facts(info) {
        text += &format!("{name}: {fact}\n");
    }
    let mut section = |heading: &str, said: &str| {
        let said = harmless(said);
        write!(
            text,
            "\n{}\n{}\n",
            page.palette.heading(heading),
            said.trim_end()
        )
        .expect("memory");
    };
    if let Some(system) = &info.system_prompt {
        section("system", system);
    }
    for message in &info.messages {
        if let Some(thinking) = &message.thinking {
            section("thinking", thinking);
        }
        section(&heading(message), &message.content);
    }
    for unfinished in &info.unfinished {
        let state = if unfinished.under_way {
            "under way"
        } else {
            "not finished"
        };
        section(
            &format!("user, {state}, draft {}", unfinished.draft),
            &unfinished.prompt,
        );
    }
    text.trim_end().to_owned()
}

fn markdown(info: &SessionInfo) -> String {
    let title = info.metadata.title.clone();
    let title = title.unwrap_or_else(|| format!("Session {}", info.session_id));
    let mut text = format!("# {}\n\n", plain(&title));
    for (name, fact) in facts(info) {
        writeln!(text, "- {name}: {}", plain(&fact)).expect("memory");
    }
    if let Some(system) = &info.system_prompt {
        text += &section("system", system);
    }
    for message in &info.messages {
        if let Some(thinking) = &message.thinking {
            text += &format!("\n## thinking\n\n{}\n", quoted(thinking));
        }
        text += &section(&heading(message), &message.content);
    }
    text.trim_end().to_owned()
}
