//! Lines of one id that are not the same: which of them the fold passes over.
//!
//! Of each event id, hash and place are held, 48 bytes; lines are read again only to compare two
//! versions of one.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;

use crate::platform::ReadAt as _;
use crate::session::event::Event;
use crate::session::id::EventId;
use crate::store::files::log::{Damage, FromStart, Sink, scan};

/// Returns the events that lose against another one of the same id, with the number of their log:
/// those the fold passes over.
pub(in crate::store::files) fn outvoted(logs: &[&File]) -> io::Result<Vec<(usize, Damage)>> {
    let mut seen = Vec::new();
    for (log, file) in logs.iter().enumerate() {
        let mut sink = Stands {
            log,
            seen: &mut seen,
        };
        scan(FromStart::of(file), 0, &mut sink)?;
    }
    seen.sort_unstable_by_key(|stand| (stand.id, stand.hash));
    let mut outvoted = Vec::new();
    for same_id in seen.chunk_by(|a, b| a.id == b.id) {
        let mut versions = same_id.chunk_by(|a, b| a.hash == b.hash);
        let (Some(first), Some(second)) = (versions.next(), versions.next()) else {
            continue;
        };
        let mut greatest = (first[0].read(logs)?, first[0].hash);
        for version in std::iter::once(second).chain(versions) {
            greatest = greatest.max((version[0].read(logs)?, version[0].hash));
        }
        let losers = same_id.iter().filter(|stand| stand.hash != greatest.1);
        outvoted.extend(losers.map(|stand| (stand.log, stand.place())));
    }
    outvoted.sort_unstable_by_key(|(log, damage)| (*log, damage.offset));
    Ok(outvoted)
}

/// Where an event stands, and what tells it from another of its id.
struct Stand {
    id: EventId,
    hash: u64,
    offset: u64,
    bytes: u32,
    log: usize,
}

impl Stand {
    fn place(&self) -> Damage {
        Damage {
            offset: self.offset,
            bytes: self.bytes.into(),
        }
    }

    fn read(&self, logs: &[&File]) -> io::Result<Vec<u8>> {
        let mut raw = vec![0; self.bytes as usize];
        logs[self.log].read_exact_at(&mut raw, self.offset)?;
        Ok(raw)
    }
}

struct Stands<'a> {
    log: usize,
    seen: &'a mut Vec<Stand>,
}

impl Sink for Stands<'_> {
    fn event(&mut self, event: Event, raw: &[u8], offset: u64) {
        let mut hasher = DefaultHasher::new();
        raw.hash(&mut hasher);
        self.seen.push(Stand {
            id: event.id,
            hash: hasher.finish(),
            offset,
            bytes: u32::try_from(raw.len()).expect("a line has at most 64 MiB"),
            log: self.log,
        });
    }

    fn damage(&mut self, _: Damage) {}
}
