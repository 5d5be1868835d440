//! A session as people read it: what was said, as plain text and as Markdown, and a line a message
//! for programs.

use std::fmt::Write as _;

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
    let title = info.metadata.title.as_ref().map(|title| one_line(title));
    let title = title.unwrap_or_else(|| format!("Session {}", info.session_id));
    let mut text = format!("# {}\n\n", plain(&title));
    for (name, fact) in facts(info) {
        writeln!(text, "- {name}: {}", plain(&fact)).expect("memory");
    }
    let mut section = |heading: &str, said: &str| {
        write!(
            text,
            "\n## {}\n\n{}\n",
            plain(heading),
            closed(&harmless(said))
        )
        .expect("memory");
    };
    if let Some(system) = &info.system_prompt {
        section("system", system);
    }
    for message in &info.messages {
        if let Some(thinking) = &message.thinking {
            section("thinking", &quoted(thinking));
        }
        section(&heading(message), &message.content);
    }
    text.trim_end().to_owned()
}

/// Returns a line in which nothing is Markdown or HTML.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' | '|' | '~'
        ) {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

/// Returns Markdown whose last fence is closed, so that what follows is not part of its code.
fn closed(markdown: &str) -> String {
    let mut open: Option<&str> = None;
    for line in markdown.lines() {
        let line = line.trim_start();
        let end = line.find(|c| c != '`').unwrap_or(line.len());
        let tildes = line.find(|c| c != '~').unwrap_or(line.len());
        let fence = &line[..end.max(tildes)];
        let rest = &line[fence.len()..];
        match open {
            Some(begun) if fence.starts_with(begun) && rest.trim().is_empty() => open = None,
            None if fence.len() >= 3 && !(fence.starts_with('`') && rest.contains('`')) => {
                open = Some(fence);
            }
            _ => {}
        }
    }
    let markdown = markdown.trim_end();
    match open {
        Some(fence) => format!("{markdown}\n{fence}"),
        None => markdown.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("> {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_that_is_left_open_is_closed() {
        let rows = [
            ("text", "text"),
            ("```rust\ncode", "```rust\ncode\n```"),
            ("```\ncode\n```", "```\ncode\n```"),
            ("````\n```\ncode", "````\n```\ncode\n````"),
            ("~~~\n```\n", "~~~\n```\n~~~"),
            ("``` inline ``` text", "``` inline ``` text"),
            ("```\na\n``` no end", "```\na\n``` no end\n```"),
        ];
        for (markdown, expected) in rows {
            assert_eq!(closed(markdown), expected, "{markdown:?}");
        }
    }

    #[test]
    fn a_title_is_no_markdown() {
        assert_eq!(plain("a <b> *c* #d `e`"), "a \\<b\\> \\*c\\* \\#d \\`e\\`");
    }
}
