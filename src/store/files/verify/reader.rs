//! What there is to tell of one log, noted while it is read in pieces.

use std::collections::BTreeSet;

use super::{Place, UNFINISHED};
use crate::session::event::{Body, Event, Timestamp, VERSION};
use crate::session::id::EventId;
use crate::store::files::log::{Damage, Scanned, Sink};
use crate::store::verify::{FAR_AHEAD_MS, Finding, Kind};

/// Takes note of what is to tell of one log.
pub(super) struct LogReader {
    place: Place,
    now: Timestamp,
    findings: Vec<Finding>,
    pub(super) events: u64,
    /// Whether every id is higher than the one before.
    pub(super) in_order: bool,
    last: Option<EventId>,
    /// The first event of each of these, and how many there are.
    out_of_place: Option<(Damage, u64)>,
    future: Option<(Damage, u64)>,
    newer: Option<(Damage, u64)>,
    damage: Option<Damage>,
    /// The blobs its turns name.
    pub(super) blobs: BTreeSet<String>,
}

impl LogReader {
    pub(super) fn new(place: Place, now: Timestamp) -> Self {
        Self {
            place,
            now,
            findings: Vec::new(),
            events: 0,
            in_order: true,
            last: None,
            out_of_place: None,
            future: None,
            newer: None,
            damage: None,
            blobs: BTreeSet::new(),
        }
    }

    /// Tells the stretch of damage that has ended: one finding, however many lines it has.
    pub(super) fn tell_damage(&mut self) {
        if let Some(damage) = self.damage.take() {
            let finding = self
                .place
                .found_at(Kind::DamagedLine, &damage, "no event: passed over");
            self.findings.push(finding);
        }
    }

    pub(super) fn end(&mut self, scanned: &Scanned) -> Vec<Finding> {
        self.tell_damage();
        let notes = [
            (
                Kind::OutOfPlace,
                self.out_of_place.take(),
                "not where they were written, this one first: merged, edited or compacted",
            ),
            (
                Kind::FutureId,
                self.future.take(),
                "dated more than a day ahead of this clock, this one first; their order holds",
            ),
            (
                Kind::NewerVersion,
                self.newer.take(),
                "written by a newer program, this one first: this one reads and does not append",
            ),
        ];
        for (kind, noted, what) in notes {
            if let Some((first, count)) = noted {
                let events = if count == 1 { "event" } else { "events" };
                let message = format!("{count} {events} {what}");
                self.findings
                    .push(self.place.found_at(kind, &first, message));
            }
        }
        if let Some(torn) = &scanned.torn {
            self.findings
                .push(self.place.found_at(Kind::TornTail, torn, UNFINISHED));
        }
        std::mem::take(&mut self.findings)
    }
}

impl Sink for LogReader {
    fn event(&mut self, event: Event, raw: &[u8], offset: u64) {
        self.events += 1;
        self.in_order &= self.last.is_none_or(|last| last < event.id);
        self.last = Some(event.id);
        if let Body::Turn(turn) = &event.body {
            let names = turn.blobs.iter().map(|blob| blob.sha256.clone());
            self.blobs.extend(names);
        }
        let here = Damage {
            offset,
            bytes: raw.len() as u64,
        };
        let note = |noted: &mut Option<(Damage, u64)>, holds: bool| {
            if holds {
                noted.get_or_insert_with(|| (here.clone(), 0)).1 += 1;
            }
        };
        note(&mut self.out_of_place, event.at != Some(offset));
        let ahead = event.id.timestamp_ms() > self.now.as_ms() + FAR_AHEAD_MS;
        note(&mut self.future, ahead);
        note(&mut self.newer, event.v > VERSION);
    }

    fn damage(&mut self, damage: Damage) {
        match &mut self.damage {
            Some(before) if before.offset + before.bytes == damage.offset => {
                before.bytes += damage.bytes;
            }
            _ => {
                self.tell_damage();
                self.damage = Some(damage);
            }
        }
    }
}
