//! An entry of the index: what the list shows of a session, what its files looked like from outside
//! before it was read, and a checksum, so that a flipped digit is not believed.

use std::fmt::Write as _;
use std::hash::Hasher;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Found;
use crate::json;
use crate::platform::{FileKind, Stat};
use crate::session::event::Timestamp;
use crate::session::id::SessionId;
use crate::session::summary::Summary;
use crate::store::files::dir::Dir;
use crate::store::files::layout::LOG;
use crate::store::files::read::other_logs;

/// What a file or a directory looks like from outside: inode, size, and the nanoseconds since 1970
/// of its last change of content and of its last change of anything. Nobody can set the latter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp(u64, u64, i64, i64);

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        let time = |(seconds, nanoseconds): (i64, u32)| {
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanoseconds.into())
        };
        Self(
            stat.identity.1,
            stat.size,
            time(stat.modified),
            time(stat.changed),
        )
    }

    /// Returns when its content changed last.
    pub(super) fn modified(&self) -> i64 {
        self.2
    }

    /// Returns when anything about it changed last.
    fn newest(&self) -> i64 {
        self.2.max(self.3)
    }
}

/// What a session looks like from outside.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamps {
    /// Its directory: it changes when a file is added, removed or renamed.
    dir: Stamp,
    /// The log that is appended to.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Stamp>,
    /// Other logs beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<(String, Stamp)>,
}

impl Stamps {
    pub(super) fn take(dir: &Dir) -> io::Result<Self> {
        let stamp = |name: &str| match dir.stat(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            stat => stat.map(|stat| Some(Stamp::of(&stat))),
        };
        let own = Stamp::of(&dir.metadata()?);
        let mut others = Vec::new();
        for name in other_logs(dir).map_err(io::Error::other)? {
            if let Some(stamp) = stamp(&name)? {
                others.push((name, stamp));
            }
        }
        Ok(Self {
            dir: own,
            log: stamp(LOG)?,
            others,
        })
    }

    /// Returns the bytes of the logs.
    pub(super) fn bytes(&self) -> u64 {
        let others = self.others.iter().map(|(_, stamp)| stamp);
        others.chain(&self.log).map(|stamp| stamp.1).sum()
    }

    pub(super) fn newest(&self) -> i64 {
        let others = self.others.iter().map(|(_, stamp)| stamp);
        let stamps = others.chain(&self.log).chain([&self.dir]);
        stamps.map(Stamp::newest).max().unwrap_or(i64::MAX)
    }
}

pub(super) fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_ms()).map_or(i64::MAX, |ms| ms.saturating_mul(1_000_000))
}

pub(super) fn nanoseconds_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A line of the index.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    id: SessionId,
    pub(super) stamps: Stamps,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Milliseconds since 1970, as `last_used`: they are read faster than dates.
    created: i64,
    last_used: i64,
    turns: u64,
    context_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_context_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    damaged: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Entry {
    pub(super) fn new(id: SessionId, stamps: Stamps, summary: &Summary, damaged: usize) -> Self {
        Self {
            id,
            stamps,
            model: summary.model.clone(),
            created: summary.created.0.timestamp_millis(),
            last_used: summary.last_used.0.timestamp_millis(),
            turns: summary.turns,
            context_tokens: summary.context_tokens,
            max_context_tokens: summary.max_context_tokens,
            title: summary.title.clone(),
            tags: summary.tags.clone(),
            damaged,
        }
    }

    pub(super) fn to_line(&self) -> String {
        sealed(json::line(self))
    }

    /// Reads a line if it is as it was written.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(unsealed(line)?).ok()
    }

    /// Tells whether the session looks as it did when it was read.
    pub(super) fn is_unchanged(&self, sessions: &Dir, path: &mut String) -> bool {
        let Stamps { dir, log, others } = &self.stamps;
        let mut stat = |name: Option<&str>| {
            path.clear();
            write!(path, "{}", self.id).ok()?;
            if let Some(name) = name {
                write!(path, "/{name}").ok()?;
            }
            sessions.stat(path).ok()
        };
        let is_same = |stat: Option<Stat>, kind, stamp: &Stamp| {
            stat.is_some_and(|stat| stat.kind == kind && Stamp::of(&stat) == *stamp)
        };
        is_same(stat(None), FileKind::Directory, dir)
            && match log {
                Some(log) => is_same(stat(Some(LOG)), FileKind::File, log),
                None => true,
            }
            && others
                .iter()
                .all(|(name, stamp)| is_same(stat(Some(name)), FileKind::File, stamp))
    }

    /// Returns what the list shows.
    pub(super) fn into_found(self) -> Found {
        let bytes = self.stamps.bytes();
        let time = |ms| chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let summary = Summary {
            model: self.model,
            created: Timestamp(time(self.created)),
            last_used: Timestamp(time(self.last_used)),
            turns: self.turns,
            context_tokens: self.context_tokens,
            max_context_tokens: self.max_context_tokens,
            title: self.title,
            tags: self.tags,
        };
        Found {
            summary,
            damaged: self.damaged,
            bytes,
        }
    }
}

/// What comes after a line's content: a checksum of it as its last key.
const SEAL: &str = ",\"sum\":\"";
pub(super) const SEAL_LENGTH: usize = SEAL.len() + 16 + "\"}".len();

pub(super) fn sealed(mut object: String) -> String {
    object.pop();
    let sum = checksum(object.as_bytes());
    write!(object, "{SEAL}{sum:016x}\"}}").expect("a String takes all text");
    object
}

/// Returns the line if its checksum is right.
pub(super) fn unsealed(line: &[u8]) -> Option<&[u8]> {
    let (content, seal) = line.split_at_checked(line.len().checked_sub(SEAL_LENGTH)?)?;
    let sum = seal
        .strip_prefix(SEAL.as_bytes())?
        .strip_suffix(b"\"}")
        .and_then(|sum| str::from_utf8(sum).ok())?;
    (u64::from_str_radix(sum, 16) == Ok(checksum(content))).then_some(line)
}

/// SipHash with fixed keys: what another release of the standard library makes of the same bytes
/// may differ, and then the index is made anew.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
