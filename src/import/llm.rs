//! The `logs.db` of `llm`, in its two generations. Until 0.3x each exchange was a row of `responses`;
//! later ones keep messages in a tree (`messages`, `parts`), threads that end somewhere in it, and a
//! row of `turns` for each call of a model. An upgrade keeps the ids, and leaves rows in the old
//! tables that are in the new ones too: those are read once, from the new ones.
//!
//! Fragments are part of the prompt. Tools and attachments are counted and left out.

use std::collections::HashMap;
use std::path::Path;

use chrono::{DateTime, NaiveDateTime};
use rusqlite::Connection;
use serde_json::Value;

use super::messages::{Message, Speaker, pair};
use super::sqlite::{self, Database, number, text, unreadable};
use super::{Item, Session, Take, leave_out};
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
    for (table, what) in LEFT_OUT {
        if database.has(table, "id").map_err(fail)? {
            let count = format!("SELECT count(*) FROM {table}");
            let count: i64 = database
                .connection
                .query_row(&count, [], |row| row.get(0))
                .map_err(fail)?;
            leave_out(what, count.unsigned_abs(), take)?;
        }
    }
    Ok(())
}

/// Tables of what has no place in a session.
const LEFT_OUT: [(&str, &str); 3] = [
    ("tool_calls", "tool_calls"),
    ("tool_results", "tool_results"),
    ("attachments", "attachments"),
];

/// A conversation before its messages are turns.
struct Said {
    session: Session,
    messages: Vec<Message>,
    tools: u64,
}

fn told(said: Said, take: &mut Take<'_>) -> Result<()> {
    let paired = pair(said.messages);
    leave_out("unanswered_prompts", paired.unanswered, take)?;
    leave_out("answers_without_prompt", paired.unasked, take)?;
    leave_out("tool_messages", said.tools, take)?;
    if paired.turns.is_empty() {
        return take(Item::Skipped {
            what: format!("conversation {}", said.session.key),
            why: "nothing in it was answered".to_owned(),
        });
    }
    take(Item::Session(Session {
        turns: paired.turns,
        ..said.session
    }))
}

/// Returns the rows of the older generation by conversation, those left out that `turns` has too.
fn responses(database: &Database, has_turns: bool) -> rusqlite::Result<Vec<Said>> {
    let connection = &database.connection;
    let only = if has_turns {
        "WHERE r.id NOT IN (SELECT id FROM turns)"
    } else {
        ""
    };
    let has_names = database.has("conversations", "name")?;
    let (name, join) = if has_names {
        (
            "c.name",
            "LEFT JOIN conversations c ON c.id = r.conversation_id",
        )
    } else {
        ("NULL", "")
    };
    let query = format!(
        "SELECT r.*, {name} AS conversation_name, coalesce(r.conversation_id, r.id) AS conversation \
         FROM responses r {join} {only} ORDER BY conversation, r.rowid"
    );
    let fragments = if database.has("prompt_fragments", "response_id")? {
        Some(connection.prepare(
            "SELECT f.content FROM prompt_fragments p JOIN fragments f ON f.id = p.fragment_id \
             WHERE p.response_id = ?1 ORDER BY p.\"order\"",
        )?)
    } else {
        None
    };
    let mut fragments = fragments;
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([])?;
    let mut found: Vec<Said> = Vec::new();
    while let Some(row) = rows.next()? {
        let key = text(row, "conversation").unwrap_or_default();
        let id = text(row, "id").unwrap_or_default();
        let at = text(row, "datetime_utc").and_then(|at| utc(&at));
        if found.last().is_none_or(|said| said.session.key != key) {
            found.push(Said {
                session: Session {
                    key,
                    title: text(row, "conversation_name"),
                    created: at,
                    ..Session::default()
                },
                messages: Vec::new(),
                tools: 0,
            });
        }
        let Some(said) = found.last_mut() else {
            continue;
        };
        said.session.system = said
            .session
            .system
            .take()
            .or(text(row, "system").filter(|text| !text.is_empty()));
        let mut prompt = Vec::new();
        if let Some(fragments) = &mut fragments {
            let texts = fragments.query_map([&id], |row| row.get::<_, String>(0))?;
            prompt = texts.collect::<rusqlite::Result<_>>()?;
        }
        prompt.extend(text(row, "prompt").filter(|text| !text.is_empty()));
        if !prompt.is_empty() {
            said.messages.push(Message {
                by: Speaker::User,
                text: prompt.join("\n"),
                at,
                ..Message::default()
            });
        }
        let response = text(row, "response").unwrap_or_default();
        if response.is_empty() {
            // It only called a tool, or was cut off.
            continue;
        }
        said.messages.push(Message {
            by: Speaker::Assistant,
            key: id,
            text: response,
            thinking: text(row, "reasoning").filter(|text| !text.is_empty()),
            at,
            model: text(row, "resolved_model").or(text(row, "model")),
            usage: usage(row),
        });
    }
    Ok(found)
}

fn usage(row: &rusqlite::Row<'_>) -> Usage {
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
                    at: text(row, "datetime_utc").and_then(|at| utc(&at)),
                    model: text(row, "resolved_model").or(text(row, "model")),
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
                created: text(row, "datetime_utc").and_then(|at| utc(&at)),
                forked_from: text(row, "forked_from"),
                ..Session::default()
            };
            found.push(self.thread(session, text(row, "tip_message_hash"))?);
        }
        Ok(found)
    }

    /// Reads what was said in a thread, from its end back to the beginning of the tree.
    fn thread(&self, mut session: Session, tip: Option<String>) -> rusqlite::Result<Said> {
        let mut message = self
            .connection
            .prepare_cached("SELECT parent_hash, role FROM messages WHERE hash = ?1")?;
        let mut messages = Vec::new();
        let mut tools = 0;
        let mut next = tip;
        let mut seen = std::collections::HashSet::new();
        while let Some(hash) = next.take().filter(|hash| seen.insert(hash.clone())) {
            let Some((parent, role)) = optional(message.query_row([&hash], |row| {
                Ok((
                    text(row, "parent_hash"),
                    text(row, "role").unwrap_or_default(),
                ))
            }))?
            else {
                break;
            };
            next = parent;
            let (said, thinking) = self.parts(&hash)?;
            let by = match role.as_str() {
                "user" => Speaker::User,
                "assistant" => Speaker::Assistant,
                "system" => {
                    session.system = Some(said).filter(|text| !text.is_empty());
                    continue;
                }
                _ => {
                    tools += 1;
                    continue;
                }
            };
            if said.is_empty() {
                continue;
            }
            let call = self.calls.get(&hash).filter(|_| by == Speaker::Assistant);
            let call = call.and_then(|calls| {
                calls
                    .iter()
                    .find(|call| call.thread == session.key)
                    .or(calls.first())
            });
            messages.push(Message {
                by,
                key: match call {
                    Some(call) => call.id.clone(),
                    // A question is known by its answer, and an answer that no call made by its text.
                    None if by == Speaker::User => String::new(),
                    None => hash,
                },
                text: said,
                thinking,
                at: call.and_then(|call| call.at),
                model: call.and_then(|call| call.model.clone()),
                usage: call.map(|call| call.usage.clone()).unwrap_or_default(),
            });
        }
        messages.reverse();
        Ok(Said {
            session,
            messages,
            tools,
        })
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
