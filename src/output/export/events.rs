//! Every event as it is stored, so that nothing is lost: a line that names the session, its lines
//! in the order of ids, its blobs in base64. docs/format.md describes it for other programs.
//!
//! None of the lines between begins with `{"v":`, so none is ever taken for an event.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Put, Stop};
use crate::json;
use crate::session::id::SessionId;
use crate::store::files::Doing;
use crate::store::history::History;

/// The version of the lines between the events.
const EXPORT_VERSION: u32 = 1;

/// Bytes of a blob on one line: lines stay of a length that everybody reads.
const PIECE: u64 = 768 << 10;

/// The line a session begins with.
#[derive(Debug, Serialize)]
struct Begin {
    export: u32,
    session: SessionId,
    events: usize,
    blobs: usize,
}

/// A part of a blob.
#[derive(Debug, Serialize)]
struct Part<'a> {
    blob: &'a str,
    /// The offset of its first byte.
    at: u64,
    /// How many bytes the whole blob has.
    of: u64,
    base64: String,
}

pub(super) fn write(history: &History<'_>, put: &mut Put<'_>) -> Result<(), Stop> {
    let blobs = history.blobs()?;
    let begin = Begin {
        export: EXPORT_VERSION,
        session: history.id,
        events: history.len(),
        blobs: blobs.len(),
    };
    put(&(json::line(&begin) + "\n"))?;
    for line in history.lines() {
        put(&(line? + "\n"))?;
    }
    for name in &blobs {
        write_blob(history, name, put)?;
    }
    Ok(())
}

fn write_blob(history: &History<'_>, name: &str, put: &mut Put<'_>) -> Result<(), Stop> {
    let (of, mut blob) = history.blob(name)?;
    let mut at = 0;
    loop {
        let mut bytes = Vec::new();
        let read = blob.by_ref().take(PIECE).read_to_end(&mut bytes);
        read.doing("read", name)?;
        let part = Part {
            blob: name,
            at,
            of,
            base64: STANDARD.encode(&bytes),
        };
        put(&(json::line(&part) + "\n"))?;
        at += bytes.len() as u64;
        // One that is empty is a line as well; one that was cut off meanwhile has an end.
        if at >= of || bytes.is_empty() {
            return Ok(());
        }
    }
}
