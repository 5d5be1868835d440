//! The `logs.db` of `llm`, in its two generations. Until 0.3x each exchange was a row of `responses`;
//! later ones keep messages in a tree (`messages`, `parts`), threads that end somewhere in it, and a
//! row of `turns` for each call of a model. An upgrade keeps the ids, and leaves rows in the old
//! tables that are in the new ones too: those are read once, from the new ones.
//!
//! Fragments are part of the prompt. Tools and attachments are counted and left out.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use chrono::{DateTime, NaiveDateTime};
use rusqlite::{Connection, Row, Statement};
use serde_json::Value;

use super::messages::{Message, Speaker, pair};
use super::sqlite::{self, Database, number, text, unreadable};
use super::{Item, LeftOut, Session, Take};
use crate::error::Result;
use crate::session::event::{Timestamp, Usage};

/// Reads every conversation.
///
/// # Errors
/// What `take` says; when the database cannot be read.
pub fn read(database: &Database, path: &Path, take: &mut Take<'_>) -> Result<()> {
    let fail = |error: rusqlite::Error| unreadable(path, &error);
    let has_turns = database.has("turns", "tip_message_hash").map_err(fail)?;
    if has_turns {
        for session in Threads::open(&database.connection)
            .and_then(|threads| threads.sessions())
            .map_err(fail)?
        {
            told(session, take)?;
        }
    }
    if database.has("responses", "response").map_err(fail)? {
        for session in responses(database, has_turns).map_err(fail)? {
            told(session, take)?;
        }
    }
    let mut left_out = LeftOut::default();
    for table in LEFT_OUT {
        if database.has(table, "id").map_err(fail)? {
            let count = format!("SELECT count(*) FROM {table}");
            let count = database.connection.query_row(&count, [], |row| row.get(0));
            left_out.add(table, count.map(i64::unsigned_abs).map_err(fail)?);
        }
    }
    left_out.tell(take)
}

/// Tables of what has no place in a session, which have the names by which that is told.
const LEFT_OUT: [&str; 3] = ["tool_calls", "tool_results", "attachments"];

/// A conversation before its messages are turns.
#[derive(Default)]
struct Said {
    session: Session,
    messages: Vec<Message>,
    left_out: LeftOut,
}

fn told(mut said: Said, take: &mut Take<'_>) -> Result<()> {
    let turns = pair(said.messages).turns(&mut said.left_out);
    said.left_out.tell(take)?;
    if turns.is_empty() {
        return take(Item::Skipped {
            what: format!("conversation {}", said.session.key),
            why: "nothing in it was answered".to_owned(),
        });
    }
    take(Item::Session(Session {
        turns,
        ..said.session
    }))
}

/// Returns the rows of the older generation by conversation, those left out that `turns` has too.
fn responses(database: &Database, has_turns: bool) -> rusqlite::Result<Vec<Said>> {
    let mut statement = database
        .connection
        .prepare(&query_of_responses(database, has_turns)?)?;
    let mut fragments = Fragments::open(database)?;
    let mut rows = statement.query([])?;
    let mut found: Vec<Said> = Vec::new();
    while let Some(row) = rows.next()? {
        let key = text(row, "conversation").unwrap_or_default();
        let mut said = match found.pop() {
            Some(said) if said.session.key == key => said,
            before => {
                found.extend(before);
                begun(row, key)
            }
        };
        let system = text(row, "system").filter(|text| !text.is_empty());
        said.session.system = said.session.system.or(system);
        said.messages.extend(asked(row, fragments.of(row)?));
        said.messages.extend(answered(row));
        found.push(said);
    }
    Ok(found)
}

fn query_of_responses(database: &Database, has_turns: bool) -> rusqlite::Result<String> {
    let only = if has_turns {
        "WHERE r.id NOT IN (SELECT id FROM turns)"
    } else {
        ""
    };
    let (name, join) = if database.has("conversations", "name")? {
        (
            "c.name",
            "LEFT JOIN conversations c ON c.id = r.conversation_id",
        )
    } else {
        ("NULL", "")
    };
    Ok(format!(
        "SELECT r.*, {name} AS conversation_name, coalesce(r.conversation_id, r.id) AS conversation \
         FROM responses r {join} {only} ORDER BY conversation, r.rowid"
    ))
}

/// Returns the conversation a row is the first of.
fn begun(row: &Row<'_>, key: String) -> Said {
    Said {
        session: Session {
            key,
            title: text(row, "conversation_name"),
            created: moment(row),
            ..Session::default()
        },
        ..Said::default()
    }
}

fn asked(row: &Row<'_>, mut prompt: Vec<String>) -> Option<Message> {
    prompt.extend(text(row, "prompt").filter(|text| !text.is_empty()));
    let message = Message {
        by: Speaker::User,
        text: prompt.join("\n"),
        at: moment(row),
        ..Message::default()
    };
    (!prompt.is_empty()).then_some(message)
}

/// Returns the answer; `None` where the model only called a tool, or was cut off.
fn answered(row: &Row<'_>) -> Option<Message> {
    Some(Message {
        by: Speaker::Assistant,
        key: text(row, "id").unwrap_or_default(),
        text: text(row, "response").filter(|text| !text.is_empty())?,
        thinking: text(row, "reasoning").filter(|text| !text.is_empty()),
        at: moment(row),
        model: model(row),
        usage: usage(row),
    })
}

/// The pieces that prompts of the older generation are made of, where there are any.
struct Fragments<'a>(Option<Statement<'a>>);

impl<'a> Fragments<'a> {
    fn open(database: &'a Database) -> rusqlite::Result<Self> {
        let query = "SELECT f.content FROM prompt_fragments p JOIN fragments f ON f.id = p.fragment_id \
                     WHERE p.response_id = ?1 ORDER BY p.\"order\"";
        let is_there = database.has("prompt_fragments", "response_id")?;
        let statement = is_there.then(|| database.connection.prepare(query));
        Ok(Self(statement.transpose()?))
    }

    fn of(&mut self, row: &Row<'_>) -> rusqlite::Result<Vec<String>> {
        let Some(statement) = &mut self.0 else {
            return Ok(Vec::new());
        };
        let id = text(row, "id").unwrap_or_default();
        statement.query_map([id], |row| row.get(0))?.collect()
    }
}

fn moment(row: &Row<'_>) -> Option<Timestamp> {
    text(row, "datetime_utc").and_then(|at| utc(&at))
}

fn model(row: &Row<'_>) -> Option<String> {
    text(row, "resolved_model").or(text(row, "model"))
}

fn usage(row: &Row<'_>) -> Usage {
    Usage {
        prompt_eval_count: number(row, "input_tokens"),
        eval_count: number(row, "output_tokens"),
        total_duration: number(row, "duration_ms").map(|ms| ms.saturating_mul(1_000_000)),
        ..Usage::default()
    }
}

/// A call of a model in the newer generation.
struct Call {
    id: String,
    thread: String,
    at: Option<Timestamp>,
    model: Option<String>,
    usage: Usage,
}

/// The newer generation.
struct Threads<'a> {
    connection: &'a Connection,
    /// Calls by the message they ended with.
    calls: HashMap<String, Vec<Call>>,
}

impl<'a> Threads<'a> {
    fn open(connection: &'a Connection) -> rusqlite::Result<Self> {
        let mut calls: HashMap<String, Vec<Call>> = HashMap::new();
        let mut statement = connection.prepare("SELECT * FROM turns ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            calls
                .entry(text(row, "tip_message_hash").unwrap_or_default())
                .or_default()
                .push(Call {
                    id: text(row, "id").unwrap_or_default(),
                    thread: text(row, "thread_id").unwrap_or_default(),
                    at: moment(row),
                    model: model(row),
                    usage: usage(row),
                });
        }
        Ok(Self { connection, calls })
    }

    fn sessions(&self) -> rusqlite::Result<Vec<Said>> {
        let mut statement = self
            .connection
            .prepare("SELECT * FROM threads ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let session = Session {
                key: text(row, "id").unwrap_or_default(),
                title: text(row, "name"),
                created: moment(row),
                forked_from: text(row, "forked_from"),
                ..Session::default()
            };
            found.push(self.thread(session, text(row, "tip_message_hash"))?);
        }
        Ok(found)
    }

    /// Reads what was said in a thread, from its end back to the beginning of the tree.
    fn thread(&self, session: Session, tip: Option<String>) -> rusqlite::Result<Said> {
        let mut message = self
            .connection
            .prepare_cached("SELECT parent_hash, role FROM messages WHERE hash = ?1")?;
        let mut found = Said {
            session,
            ..Said::default()
        };
        let (mut next, mut seen) = (tip, HashSet::new());
        while let Some(hash) = next.take().filter(|hash| seen.insert(hash.clone())) {
            let found_at = optional(message.query_row([&hash], |row| {
                Ok((text(row, "parent_hash"), text(row, "role")))
            }))?;
            let Some((parent, role)) = found_at else {
                break;
            };
            next = parent;
            let (said, thinking) = self.parts(&hash)?;
            match role.as_deref() {
                Some("system") => found.session.system = Some(said).filter(|text| !text.is_empty()),
                Some("user" | "assistant") if said.is_empty() => {}
                // A question is known by its answer.
                Some("user") => found.messages.push(Message {
                    by: Speaker::User,
                    text: said,
                    thinking,
                    ..Message::default()
                }),
                Some("assistant") => found.messages.push(Message {
                    text: said,
                    thinking,
                    ..self.answer(hash, &found.session.key)
                }),
                _ => found.left_out.count("tool_messages"),
            }
        }
        found.messages.reverse();
        Ok(found)
    }

    /// Returns an answer without its text: what is known of the call that made it, the one in this
    /// thread where several ended with it. One that no call made is known by what was said.
    fn answer(&self, hash: String, thread: &str) -> Message {
        let calls = self.calls.get(&hash).map_or(&[][..], Vec::as_slice);
        let call = calls.iter().find(|call| call.thread == thread);
        let by = Speaker::Assistant;
        match call.or(calls.first()) {
            Some(call) => Message {
                by,
                key: call.id.clone(),
                at: call.at,
                model: call.model.clone(),
                usage: call.usage.clone(),
                ..Message::default()
            },
            None => Message {
                by,
                key: hash,
                ..Message::default()
            },
        }
    }

    /// Returns the text of a message and what was thought before it.
    fn parts(&self, hash: &str) -> rusqlite::Result<(String, Option<String>)> {
        let mut parts = self.connection.prepare_cached(
            "SELECT type, text, payload FROM parts WHERE message_hash = ?1 ORDER BY position",
        )?;
        let (mut said, mut thought) = (Vec::new(), Vec::new());
        let mut rows = parts.query([hash])?;
        while let Some(row) = rows.next()? {
            let text = match text(row, "text").filter(|text| !text.is_empty()) {
                Some(text) => text,
                None => self.referred(&text(row, "payload").unwrap_or_default())?,
            };
            match sqlite::text(row, "type").as_deref() {
                _ if text.is_empty() => {}
                Some("text") => said.push(text),
                Some("reasoning") => thought.push(text),
                _ => {}
            }
        }
        let thought = Some(thought.join("\n")).filter(|text| !text.is_empty());
        Ok((said.join("\n"), thought))
    }

    /// Returns a text that stands in pieces, some of which are fragments:
    /// `{"text_ref": [{"fragment": 1}, {"literal": "…"}]}`.
    fn referred(&self, payload: &str) -> rusqlite::Result<String> {
        let payload: Value = serde_json::from_str(payload).unwrap_or_default();
        let mut fragment = self
            .connection
            .prepare_cached("SELECT content FROM fragments WHERE id = ?1")?;
        let mut text = String::new();
        for piece in payload["text_ref"].as_array().into_iter().flatten() {
            text.push_str(piece["literal"].as_str().unwrap_or_default());
            if let Some(id) = piece["fragment"].as_i64() {
                let content: Option<String> = optional(fragment.query_row([id], |row| row.get(0)))?;
                text.push_str(&content.unwrap_or_default());
            }
        }
        Ok(text)
    }
}

fn optional<T>(found: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match found {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        found => found.map(Some),
    }
}

/// Reads a time in UTC, whether it says so or not.
fn utc(text: &str) -> Option<Timestamp> {
    let text = text.replacen(' ', "T", 1);
    let zoned = DateTime::parse_from_rfc3339(&text).map(|at| at.to_utc());
    let naive =
        || NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").map(|at| at.and_utc());
    zoned.or_else(|_| naive()).ok().map(Timestamp)
}
