//! Reading a session: every log of its directory, folded as one set. No lock is taken and
//! nothing is written; what a reader can see of a write in progress is a prefix of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::dir::{Access, Dir, Doing, identity};
use super::layout::{LOG, is_log_name};
use super::log::{Damage, Decoded, Sink, decode, decode_as, scan};
use super::tail::read_tail;
use crate::error::Result;
use crate::platform::ReadAt as _;
use crate::session::event::{Body, Event};
use crate::session::fold::{Entry, SaidTurn, Session, fold};
use crate::session::id::{EventId, SessionId};
use crate::session::summary::{Outline, Summary, Verdict, summarize};
use crate::store::import::Visit;
use crate::store::snapshot::{self, Events, Extent, Snapshot, only};

/// How much before the end of what was read is compared to see that it is still the same log.
const WITNESS: u64 = 64;

/// How far the main log was read, and how to know it again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    identity: (u64, u64),
    consumed: u64,
    witness: Vec<u8>,
}

/// Opens the directory of a session; `None` where there is none.
///
/// # Errors
/// As the system says.
pub(super) fn open_session(sessions: &Dir, id: SessionId) -> Result<Option<Dir>> {
    let name = id.to_string();
    match sessions.open_dir(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened
            .doing("open the session", sessions.path_of(&name))
            .map(Some),
    }
}

/// Reads a session. `None` where there is no such directory or no event in it.
///
/// # Errors
/// When a log is there and cannot be read, or is no regular file.
pub(super) fn read(sessions: &Dir, id: SessionId, extent: Extent) -> Result<Option<Snapshot>> {
    let Some(dir) = open_session(sessions, id)? else {
        return Ok(None);
    };
    let snapshot = read_dir(&dir, extent)?;
    Ok(snapshot.session.created.is_some().then_some(snapshot))
}

/// Reads what a list shows of the session in `dir`, and how many places of its logs are damaged,
/// holding no text. `None` where there is no event.
///
/// # Errors
/// As [`read`].
pub(super) fn read_summary(dir: &Dir) -> Result<Option<(Summary, usize)>> {
    let (outlines, damaged) = decode_logs(dir, |event, _| Outline::from(event))?;
    match summarize(outlines) {
        Verdict::Empty => Ok(None),
        Verdict::Known(summary) => Ok(Some((summary, damaged))),
        Verdict::AskTheLines => {
            let snapshot = read_dir(dir, Extent::History)?;
            Ok(Summary::of(&snapshot.session).map(|summary| (summary, snapshot.damage.len())))
        }
    }
}

/// Returns the turns of a session that were asked under an idempotency key, oldest first, what is
/// hidden of them left out. Nothing else of the history is held.
///
/// # Errors
/// As [`read`].
pub(super) fn turns_under_key(sessions: &Dir, id: SessionId, key: &str) -> Result<Vec<SaidTurn>> {
    let Some(dir) = open_session(sessions, id)? else {
        return Ok(Vec::new());
    };
    let (under_key, _) = decode_logs(&dir, |event, _| {
        let is_under_key = match &event.body {
            Body::Turn(turn) => turn.key.as_ref().is_some_and(|known| known.key == key),
            _ => false,
        };
        is_under_key.then_some(event.id)
    })?;
    let under_key: BTreeSet<EventId> = under_key.into_iter().flatten().collect();
    if under_key.is_empty() {
        return Ok(Vec::new());
    }
    // Another line of the same id may be the one that counts.
    let (found, _) = decode_logs(&dir, |event, raw| {
        let is_wanted = under_key.contains(&event.id) || matches!(event.body, Body::Redact(_));
        let raw = is_wanted.then(|| raw.to_vec());
        raw.map(|raw| Box::new(Entry { event, raw }))
    })?;
    let session = fold(found.into_iter().flatten().map(|entry| *entry));
    Ok(session.under_key(key).cloned().collect())
}

/// Reads every log in `dir`, the main one last, and keeps of each event what `keep` makes of it and
/// its bytes. Returns that and how many places are damaged.
///
/// # Errors
/// As [`read`].
pub(super) fn decode_logs<T>(
    dir: &Dir,
    keep: impl Fn(Event, &[u8]) -> T,
) -> Result<(Vec<T>, usize)> {
    let mut kept = Vec::new();
    let mut damaged = 0;
    for name in other_logs(dir)?.iter().map(String::as_str).chain([LOG]) {
        if let Some(file) = open_log(dir, name)? {
            let decoded = decode_as(&file, 0, &keep).doing("read", dir.path_of(name))?;
            kept.extend(decoded.entries);
            damaged += decoded.damage.len();
        }
    }
    Ok((kept, damaged))
}

/// Reads every log in `dir`, the main one last, and shows each event with its line.
///
/// # Errors
/// As [`read`].
pub(super) fn scan_logs(dir: &Dir, visit: &mut Visit<'_>) -> Result<()> {
    let mut showing = Showing(visit);
    for name in other_logs(dir)?.iter().map(String::as_str).chain([LOG]) {
        if let Some(file) = open_log(dir, name)? {
            scan(&file, 0, &mut showing).doing("read", dir.path_of(name))?;
        }
    }
    Ok(())
}

struct Showing<'a, 'b>(&'a mut Visit<'b>);

impl Sink for Showing<'_, '_> {
    fn event(&mut self, event: Event, raw: &[u8], _: u64) {
        (self.0)(&event, raw);
    }

    fn damage(&mut self, _: Damage) {}
}

/// Returns every event in `dir` with its line, of every log.
///
/// # Errors
/// As [`read`].
pub(super) fn events(dir: &Dir) -> Result<Events> {
    let mut events = Events::default();
    for name in other_logs(dir)?.iter().map(String::as_str).chain([LOG]) {
        if let Some(file) = open_log(dir, name)? {
            take(
                &mut events,
                name,
                decode(&file, 0).doing("read", dir.path_of(name))?,
            );
        }
    }
    Ok(events)
}

fn take(events: &mut Events, log: &str, decoded: Decoded) {
    events.entries.extend(decoded.entries);
    let damage = decoded.damage.into_iter();
    events.damage.extend(damage.map(|d| (log.to_owned(), d)));
}

fn read_dir(dir: &Dir, extent: Extent) -> Result<Snapshot> {
    let others = other_logs(dir)?;
    if extent == Extent::Context
        && others.is_empty()
        && let Some(snapshot) = read_end(dir)?
    {
        return Ok(snapshot);
    }
    let mut events = Events::default();
    // The main log last: compaction renames before it removes, so in this order an event may be
    // seen twice, never not at all.
    for name in &others {
        if let Some(file) = open_log(dir, name)? {
            take(
                &mut events,
                name,
                decode(&file, 0).doing("read", dir.path_of(name))?,
            );
        }
    }
    let mut mark = None;
    let mut is_shuffled = !others.is_empty();
    if let Some(file) = open_log(dir, LOG)? {
        let decoded = decode(&file, 0).doing("read", dir.path_of(LOG))?;
        mark = Some(Mark::set(&file, decoded.consumed).doing("read", dir.path_of(LOG))?);
        is_shuffled |= decoded.is_shuffled;
        take(&mut events, LOG, decoded);
    }
    only(&mut events.entries, extent);
    Ok(Snapshot {
        session: fold(events.entries),
        damage: events.damage,
        is_shuffled,
        mark: mark.map(snapshot::Mark::new),
    })
}

/// Reads the main log from its end, if it has only grown since it was written.
fn read_end(dir: &Dir) -> Result<Option<Snapshot>> {
    let Some(file) = open_log(dir, LOG)? else {
        return Ok(None);
    };
    let read = || {
        let Some(tail) = read_tail(&file, file.metadata()?.len())? else {
            return Ok(None);
        };
        let mark = Mark::set(&file, tail.consumed)?;
        Ok(Some(Snapshot {
            session: tail.session,
            mark: Some(snapshot::Mark::new(mark)),
            ..Snapshot::default()
        }))
    };
    read().doing("read", dir.path_of(LOG))
}

pub(super) fn other_logs(dir: &Dir) -> Result<Vec<String>> {
    let mut others = Vec::new();
    dir.for_each_name(|name| {
        if is_log_name(name) && name != LOG {
            others.push(name.to_owned());
        }
    })
    .doing("list", dir.path())?;
    Ok(others)
}

pub(super) fn open_log(dir: &Dir, name: &str) -> Result<Option<File>> {
    match dir.open_file(name, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.doing("open", dir.path_of(name)).map(Some),
    }
}

impl Mark {
    pub(super) fn set(file: &File, consumed: u64) -> io::Result<Self> {
        let length = consumed.min(WITNESS);
        let mut witness = vec![0; usize::try_from(length).expect("at most 64")];
        file.read_exact_at(&mut witness, consumed - length)?;
        Ok(Self {
            identity: identity(file)?,
            consumed,
            witness,
        })
    }

    /// Returns the offset up to which the log was read.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(super) fn holds(&self, file: &File) -> bool {
        Self::set(file, self.consumed).is_ok_and(|now| now == *self)
    }
}

/// A session brought up to date under its lock.
#[derive(Debug)]
pub(super) struct CaughtUp {
    pub(super) session: Session,
    pub(super) is_shuffled: bool,
    /// Whether the log ends with a newline (or is empty).
    pub(super) ends_with_newline: bool,
}

/// Folds in what was appended to `log` since the snapshot was taken, up to `len`. If the log
/// is not the one that was read (edited, merged, compacted meanwhile), or what was appended
/// does not simply follow, the whole session is read again.
pub(super) fn catch_up(
    snapshot: Snapshot,
    dir: &Dir,
    mut log: &File,
    len: u64,
) -> Result<CaughtUp> {
    let Snapshot {
        mut session,
        is_shuffled,
        mark,
        ..
    } = snapshot;
    let mark = mark.as_ref().and_then(|mark| mark.known::<Mark>());
    if let Some(mark) = mark.filter(|mark| mark.holds(log)) {
        // Nobody was here meanwhile, as is usual.
        if len == mark.consumed {
            return Ok(CaughtUp {
                session,
                is_shuffled,
                ends_with_newline: true,
            });
        }
        let path = dir.path_of(LOG);
        log.seek(SeekFrom::Start(mark.consumed))
            .doing("read", &path)?;
        let rest = log.take(len.saturating_sub(mark.consumed));
        let decoded = decode(rest, mark.consumed).doing("read", &path)?;
        let ends_with_newline = decoded.consumed == len;
        let first = decoded.entries.first().map(|entry| entry.event.id);
        if !decoded.is_shuffled && first.is_none_or(|first| session.highest < Some(first)) {
            decoded
                .entries
                .into_iter()
                .for_each(|entry| session.apply(entry.event));
            return Ok(CaughtUp {
                session,
                is_shuffled,
                ends_with_newline,
            });
        }
    }
    let again = read_dir(dir, Extent::History)?;
    let mark = again.mark.as_ref().and_then(|mark| mark.known::<Mark>());
    let consumed = mark.map_or(0, |mark| mark.consumed);
    Ok(CaughtUp {
        session: again.session,
        is_shuffled: again.is_shuffled,
        ends_with_newline: consumed == len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::Event;
    use crate::session::fold::tests::any_event;
    use proptest::prelude::*;
    use std::io::Write;

    /// A line of a log, or what became of one.
    fn any_line() -> impl Strategy<Value = Vec<u8>> {
        let whole = |event: Event| event.to_line().into_bytes();
        prop_oneof![
            8 => any_event().prop_map(whole),
            1 => (any_event(), 0usize..80).prop_map(move |(event, cut)| whole(event)[..cut].to_vec()),
            1 => (any_event(), any_event()).prop_map(move |(a, b)| [whole(a), whole(b)].concat()),
            1 => any::<Vec<u8>>(),
        ]
    }

    proptest! {
        #[test]
        fn a_summary_without_texts_is_the_one_of_the_whole(
            logs in prop::collection::vec(prop::collection::vec(any_line(), 0..20), 1..3),
            is_sealed: bool,
        ) {
            let path = tempfile::TempDir::new().expect("a temporary directory");
            let dir = Dir::open(path.path()).expect("a directory");
            for (lines, name) in logs.iter().zip([LOG, "events.copy.jsonl"]) {
                let mut bytes = lines.join(&b'\n');
                bytes.extend(is_sealed.then_some(b'\n'));
                let log = dir.create_file(name);
                log.expect("a new file").write_all(&bytes).expect("writable");
            }
            let whole = read_dir(&dir, Extent::History).expect("readable");
            let expected = Summary::of(&whole.session).map(|summary| (summary, whole.damage.len()));
            prop_assert_eq!(read_summary(&dir).expect("readable"), expected);
        }
    }
}
