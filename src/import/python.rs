//! The `sessions.db` of the Python tool of the same name: a row for each session, what was said as
//! JSON in one of its columns. The tool forgets what leaves its context, so a later state may lack
//! the beginning of an earlier one.
//!
//! Its times have no zone: they are those of the clock on the wall where it ran, and are read in the
//! zone of this machine (`TZ`). Those with a space between date and time are SQLite's own, in UTC.

use std::path::Path;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};
use serde_json::Value;

use super::messages::{Message, Speaker, pair};
use super::sqlite::{Database, number, text, unreadable};
use super::{Item, LeftOut, Session, Take};
use crate::error::Result;
use crate::session::event::Timestamp;

/// Reads every session.
///
/// # Errors
/// What `take` says; when the database cannot be read.
pub fn read(database: &Database, path: &Path, take: &mut Take<'_>) -> Result<()> {
    let fail = |error: rusqlite::Error| unreadable(path, &error);
    let query = "SELECT * FROM sessions ORDER BY created_at, session_id";
    let mut statement = database.connection.prepare(query).map_err(fail)?;
    let mut rows = statement.query([]).map_err(fail)?;
    let mut number_of_row = 0;
    loop {
        // Rows before damage are read all the same.
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(()),
            Err(error) => {
                return take(Item::Skipped {
                    what: format!("what follows row {number_of_row} of the table sessions"),
                    why: error.to_string(),
                });
            }
        };
        number_of_row += 1;
        let Some(key) = text(row, "session_id").filter(|key| !key.is_empty()) else {
            take(Item::Skipped {
                what: format!("row {number_of_row} of the table sessions"),
                why: "it has no session_id".to_owned(),
            })?;
            continue;
        };
        let session = Session {
            model: text(row, "model_name").filter(|name| !name.is_empty()),
            system: text(row, "system_prompt").filter(|system| !system.is_empty()),
            max_context_tokens: number(row, "max_context_tokens"),
            created: text(row, "created_at").and_then(|at| local(&at)),
            ..Session::default()
        };
        history(key, session, text(row, "history_json"), take)?;
    }
}

/// Reads what was said in a session.
fn history(key: String, session: Session, json: Option<String>, take: &mut Take<'_>) -> Result<()> {
    let skip = |why: String| Item::Skipped {
        what: format!("session {key}"),
        why,
    };
    let Some(json) = json else {
        return take(skip("nothing was said in it".to_owned()));
    };
    let value: Value = match serde_json::from_str(&json) {
        Ok(value) => value,
        Err(error) => return take(skip(format!("what was said in it is damaged: {error}"))),
    };
    let Some(messages) = value["messages"].as_array() else {
        return take(skip(
            "what was said in it is damaged: there are no messages".to_owned(),
        ));
    };
    if messages.is_empty() {
        return take(skip("nothing was said in it".to_owned()));
    }
    let mut left_out = LeftOut::default();
    let said: Vec<Message> = messages
        .iter()
        .filter_map(|message| {
            let by = match message["role"].as_str() {
                Some("user") => Some(Speaker::User),
                Some("assistant") => Some(Speaker::Assistant),
                _ => None,
            };
            let said = by.zip(message["content"].as_str());
            left_out.add("damaged_messages", u64::from(said.is_none()));
            said.map(|(by, text)| of(by, text, &message["timestamp"]))
        })
        .collect();
    let mut turns = pair(said).turns(&mut left_out);
    left_out.tell(take)?;
    if turns.is_empty() {
        return take(skip("nothing in it was answered".to_owned()));
    }
    // The tool gives its messages no ids. What was said when is all that tells one from another.
    let mut seen = std::collections::HashMap::new();
    for turn in &mut turns {
        let said = format!("{}\0{}\0{}", turn.key, turn.prompt, turn.response);
        let times: &mut u64 = seen.entry(said.clone()).or_default();
        turn.key = format!("{key}\0{times}\0{said}");
        *times += 1;
    }
    take(Item::Session(Session {
        key,
        turns,
        ..session
    }))
}

fn of(by: Speaker, text: &str, timestamp: &Value) -> Message {
    Message {
        by,
        key: timestamp.as_str().unwrap_or_default().to_owned(),
        text: text.to_owned(),
        at: timestamp.as_str().and_then(local),
        ..Message::default()
    }
}

/// Reads a time of the clock on the wall. One that was shown twice, when the clock was put back, is
/// taken for the first; one that was never shown for as much later as the clock was put on.
fn local(text: &str) -> Option<Timestamp> {
    if let Ok(zoned) = DateTime::parse_from_rfc3339(text) {
        return Some(Timestamp(zoned.to_utc()));
    }
    if let Ok(utc) = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f") {
        return Some(Timestamp(utc.and_utc()));
    }
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    let read = |naive: &NaiveDateTime| Local.from_local_datetime(naive).earliest();
    let shifted = || {
        let hour = chrono::TimeDelta::hours(1);
        read(&(naive - hour)).map(|at| at + hour)
    };
    let at: DateTime<Utc> = read(&naive).or_else(shifted)?.to_utc();
    Some(Timestamp(at))
}
