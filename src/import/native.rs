//! What `session export --to jsonl` wrote: sessions as lines of their logs, each after a line that
//! names it, its blobs behind. docs/format.md describes it.

use std::io::BufRead;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::lines::{each_line, skipped};
use super::{Item, Lines, Take};
use crate::digest::sha256;
use crate::error::Result;
use crate::session::event::{Body, Event};
use crate::session::id::SessionId;
use crate::store::blobs::is_blob_name;

/// The line a session begins with.
#[derive(Debug, Deserialize)]
struct Begin {
    export: u32,
    session: SessionId,
    events: usize,
    blobs: usize,
}

/// A part of a blob.
#[derive(Debug, Deserialize)]
struct Part {
    blob: String,
    at: u64,
    of: u64,
    base64: String,
}

/// A session that is being read.
#[derive(Default)]
struct Open {
    lines: Lines,
    /// How many events it says it has, and how many were seen.
    events: (usize, usize),
    /// How many blobs it says it has.
    blobs: usize,
}

/// Reads sessions one after the other, holding one.
///
/// # Errors
/// What `take` says; when the source cannot be read.
pub fn read(source: &mut dyn BufRead, name: &str, take: &mut Take<'_>) -> Result<()> {
    let mut open = Open::default();
    each_line(source, name, take, |number, text, take| {
        if let Ok(event) = Event::from_slice(text) {
            return open.event(
                event,
                text,
                skipped(name, number, "it belongs to no session"),
                take,
            );
        }
        if let Ok(begin) = serde_json::from_slice::<Begin>(text) {
            open.finish(take)?;
            if begin.export > 1 {
                let why = "a newer program wrote it: upgrade ollama-prompt";
                return take(skipped(name, number, why));
            }
            open.lines.id = Some(begin.session);
            open.events.0 = begin.events;
            open.blobs = begin.blobs;
            return Ok(());
        }
        match serde_json::from_slice::<Part>(text) {
            Ok(part) if open.lines.id.is_some() => match open.part(part) {
                Ok(()) => Ok(()),
                Err(why) => take(skipped(name, number, why)),
            },
            _ => take(skipped(name, number, "it is no line of an export")),
        }
    })?;
    open.finish(take)
}

impl Open {
    fn event(&mut self, event: Event, text: &[u8], lost: Item, take: &mut Take<'_>) -> Result<()> {
        if self.lines.id.is_none() {
            return take(lost);
        }
        self.events.1 += 1;
        self.lines.turns += u64::from(matches!(event.body, Body::Turn(_)));
        let line = self.lines.lines.entry(event.id).or_default();
        // Of two with one id the greater counts, as everywhere.
        if line.as_slice() < text {
            *line = text.to_vec();
        }
        Ok(())
    }

    fn part(&mut self, part: Part) -> std::result::Result<(), &'static str> {
        if !is_blob_name(&part.blob) {
            return Err("its blob has no name of one");
        }
        let bytes = STANDARD
            .decode(part.base64)
            .map_err(|_| "it is no base64")?;
        let blob = self.lines.blobs.entry(part.blob).or_default();
        if blob.len() as u64 != part.at || part.at + bytes.len() as u64 > part.of {
            return Err("it does not follow the part before it");
        }
        blob.extend(bytes);
        Ok(())
    }

    /// Hands over the session, without blobs that are not what their name says.
    fn finish(&mut self, take: &mut Take<'_>) -> Result<()> {
        let Self {
            mut lines,
            events: (said, seen),
            blobs,
        } = std::mem::take(self);
        let Some(id) = lines.id else {
            return Ok(());
        };
        if seen < said {
            take(Item::Skipped {
                what: format!("{} events of session {id}", said - seen),
                why: "the export was cut short".to_owned(),
            })?;
        }
        lines.blobs.retain(|name, bytes| sha256(bytes) == *name);
        let missing = blobs.saturating_sub(lines.blobs.len());
        if missing > 0 {
            take(Item::Skipped {
                what: format!("{missing} blobs of session {id}"),
                why: "they are not there, or not whole".to_owned(),
            })?;
        }
        take(Item::Lines(lines))
    }
}
