//! Compaction: a session's logs rewritten as one, without what nobody can miss.
//!
//! Kept are the raw lines, each id once, in the order of ids; they are copied and never written
//! from values, so what a newer program put into them survives. The exceptions are an event that was
//! redacted, whose line the hidden bytes leave, and a horizon whose summary may say what is hidden,
//! which loses the summary. What is no event is moved to `.damaged-…` beside
//! the log. With `drop_pruned` the turns that nobody is sent any more go as well.
//!
//! Of a log of any size only where its lines are is held. The order of steps, each of which leaves
//! the old log or the new one when the process is killed after it:
//!
//! 1. under the session's lock, read all logs; decide what is kept
//! 2. damage into its own file, kept lines into a temporary one; sync
//! 3. read the temporary file back: it must say, event for event, what the old logs say
//! 4. rename it over the log, sync the directory: this is the compaction
//! 5. take over what somebody without a lock appended to the old log meanwhile
//! 6. remove the other logs, which are in the new one now, and sync; remove blobs nobody names
//!
//! The lines do not stand where their `at` says any more. Readers notice, read the whole once, and
//! the next turn states the horizon anew.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use super::dir::{Access, Dir, Doing};
use super::layout::{BLOBS, DAMAGED, LOG};
use super::lines::{Found, Line, Log, Logs};
use super::lock::WriteLock;
use super::log::{Damage, Sink, scan};
use super::purge::bytes_below;
use super::read::open_session;
use super::sweep::{is_abandoned, sweep_temporary};
use super::whole::{fresh_id, temporary_name_of};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::session::event::{Body, Event};
use crate::session::fold::Session;
use crate::session::id::{EventId, SessionId};
use crate::session::redact::without_field;
use crate::store::append::refuse_newer;
use crate::store::blobs::{is_blob_name, names_in};
use crate::store::compact::{Compacted, Compaction, is_sent};

/// How much is written at once.
const PIECE: usize = 256 << 10;

/// Compacts a session.
///
/// # Errors
/// `store_unsupported` where the mount has no locks or a newer program wrote; otherwise as the
/// system says. The old logs are untouched then, unless only the last sync or removals failed.
pub(super) fn compact(
    sessions: &Dir,
    id: SessionId,
    drop_pruned: bool,
    lock: &WriteLock,
) -> Result<Compaction> {
    if !lock.excludes() {
        return Err(Error::new(
            Code::StoreUnsupported,
            format!("refusing to compact the session {id}"),
        )
        .because("locks do not work on this file system, and a turn may be on its way")
        .hint("compact on the machine the files are on"));
    }
    let Some(dir) = open_session(sessions, id)? else {
        return Ok(Compaction::NotThere);
    };
    let bytes_before = bytes_below(dir.path());
    sweep_temporary(&dir, clock::now());
    let logs = Logs::open(&dir)?;
    let found = logs.read()?;
    if found.lines.is_empty() {
        return Ok(Compaction::NotThere);
    }
    let plan = logs.plan(found, drop_pruned)?;
    refuse_newer(&plan.session, id)?;
    let unnamed = unnamed_blobs(&dir, &plan, &logs)?;
    let damaged = if plan.is_in_place(&logs) {
        if unnamed.is_empty() {
            return Ok(Compaction::Untouched);
        }
        None
    } else {
        rewrite(&dir, &logs, &plan)?
    };
    remove_blobs(&dir, &unnamed);
    Ok(Compaction::Done(Compacted {
        bytes_before,
        bytes_after: bytes_below(dir.path()),
        dropped_duplicates: plan.dropped_duplicates,
        dropped_turns: plan.dropped_turns,
        damaged_bytes_moved_to: damaged,
    }))
}

/// What is kept, in the order of ids.
#[derive(Debug)]
struct Plan {
    kept: Vec<Line>,
    damage: Vec<(u16, Damage)>,
    torn: Option<u64>,
    /// The session without its turns: horizon, and what is hidden.
    session: Session,
    /// Events whose lines still have what is hidden.
    to_mask: BTreeSet<EventId>,
    /// Horizons whose summaries may say what is hidden.
    to_unsay: BTreeSet<EventId>,
    dropped_duplicates: u64,
    dropped_turns: u64,
}

impl Logs {
    /// Decides what is kept.
    fn plan(&self, found: Found, drop_pruned: bool) -> Result<Plan> {
        let Found {
            lines: mut kept,
            mut damage,
            torn,
            version,
            ..
        } = found;
        // Only the main log is appended to: a last line of another stays unfinished, and is damage.
        let main = self.logs.iter().position(|log| log.name == LOG);
        let torn_at = torn
            .iter()
            .find(|(log, _)| Some(usize::from(*log)) == main)
            .map(|(_, torn)| torn.offset);
        damage.extend(torn);
        damage.sort_unstable_by_key(|(log, damage)| (*log, damage.offset));
        let all = kept.len();
        self.keep_one_of_each(&mut kept)?;
        let dropped_duplicates = (all - kept.len()) as u64;

        let mut session = Session {
            version,
            ..Session::default()
        };
        let mut horizons = Vec::new();
        for line in kept.iter().filter(|line| !line.is_turn) {
            let event = self.event(line)?;
            if matches!(&event.body, Body::Prune(prune) if prune.summary.is_some()) {
                horizons.push(event.clone());
            }
            session.apply(event);
        }
        horizons.retain(|event| session.hides_summary_of(event));
        let newest_turn = kept.iter().rfind(|line| line.is_turn).map(|line| line.id);
        let before = kept.len();
        if drop_pruned {
            kept.retain(|line| {
                let is_newest = Some(line.id) == newest_turn;
                !line.is_turn || is_newest || is_sent(&session, line.id)
            });
        }
        let mut to_mask = BTreeSet::new();
        for line in &kept {
            if let Some(hidden) = session.hidden.get(&line.id)
                && hidden.mask_line(&self.raw(line)?).is_some()
            {
                to_mask.insert(line.id);
            }
        }
        Ok(Plan {
            dropped_turns: (before - kept.len()) as u64,
            kept,
            damage,
            torn: torn_at,
            session,
            to_mask,
            to_unsay: horizons.iter().map(|event| event.id).collect(),
            dropped_duplicates,
        })
    }
}

impl Plan {
    /// Returns the line as it is to be written.
    fn line(&self, logs: &Logs, line: &Line) -> Result<Vec<u8>> {
        let mut raw = logs.raw(line)?;
        if self.to_unsay.contains(&line.id) {
            raw = without_field(&raw, "summary").unwrap_or(raw);
        }
        if self.to_mask.contains(&line.id) {
            let hidden = self.session.hidden.get(&line.id);
            raw = hidden
                .and_then(|hidden| hidden.mask_line(&raw))
                .unwrap_or(raw);
        }
        Ok(raw)
    }

    /// Tells whether the log is already what would be written.
    fn is_in_place(&self, logs: &Logs) -> bool {
        let [log] = &logs.logs[..] else { return false };
        let mut next = 0;
        let in_order = self.kept.iter().all(|line| {
            let is_next = line.offset == next;
            next += u64::from(line.length) + 1;
            is_next
        });
        // The last line may lack its newline: the next append writes it.
        let is_all = log.name == LOG && (log.len == next || log.len + 1 == next);
        in_order
            && is_all
            && self.damage.is_empty()
            && self.to_mask.is_empty()
            && self.to_unsay.is_empty()
    }
}

/// Writes the new log and puts it in the place of the old ones. Returns the name of the file that
/// has the damage, if there was any.
fn rewrite(dir: &Dir, logs: &Logs, plan: &Plan) -> Result<Option<String>> {
    let fresh = fresh_id();
    let temporary = temporary_name_of(fresh);
    let damaged = (!plan.damage.is_empty()).then(|| format!("{DAMAGED}{fresh}"));
    let written = damaged
        .as_ref()
        .map_or(Ok(()), |name| move_damage(dir, name, logs, plan))
        .and_then(|()| write_checked(dir, &temporary, logs, plan))
        .and_then(|()| logs.are_still_there(dir))
        .and_then(|()| {
            dir.rename(&temporary, LOG)
                .doing("rename", dir.path_of(&temporary))
        });
    if let Err(cause) = written {
        // What stays in spite of this is no part of the data.
        let _ = dir.remove_file(&temporary);
        damaged.iter().for_each(|name| drop(dir.remove_file(name)));
        return Err(cause);
    }
    dir.sync().doing("sync", dir.path())?;
    if let Some(old) = logs.logs.last().filter(|log| log.name == LOG) {
        // A last line that was being written when it was read is whole by now.
        let from = plan.torn.unwrap_or(old.len);
        follow(dir, old, from).doing("append to", dir.path_of(LOG))?;
    }
    for log in logs.logs.iter().filter(|log| log.name != LOG) {
        // One that changed since it was read is left for the next time.
        if log.is_still(dir) {
            dir.remove_file(&log.name)
                .doing("remove", dir.path_of(&log.name))?;
        }
    }
    // Or what was dropped or redacted may come back with them when the power goes.
    if logs.logs.iter().any(|log| log.name != LOG) {
        dir.sync().doing("sync", dir.path())?;
    }
    Ok(damaged)
}

/// Copies what is no event into a file of its own, which is there before the log is replaced.
fn move_damage(dir: &Dir, name: &str, logs: &Logs, plan: &Plan) -> Result<()> {
    let path = dir.path_of(name);
    let mut file = dir.create_file(name).doing("make", &path)?;
    for (log, damage) in &plan.damage {
        let log = &logs.logs[usize::from(*log)];
        let mut copy = || {
            let mut from = &log.file;
            from.seek(SeekFrom::Start(damage.offset))?;
            io::copy(&mut from.take(damage.bytes), &mut file)?;
            file.write_all(b"\n")
        };
        copy().doing("write", &path)?;
    }
    file.sync_data().doing("sync", &path)?;
    dir.sync().doing("sync", dir.path())
}

/// Writes the kept lines to a new file, reads it back and syncs it.
fn write_checked(dir: &Dir, name: &str, logs: &Logs, plan: &Plan) -> Result<()> {
    let path = dir.path_of(name);
    let file = dir.create_file(name).doing("make", &path)?;
    let mut writer = BufWriter::with_capacity(PIECE, &file);
    for line in &plan.kept {
        let mut bytes = plan.line(logs, line)?;
        bytes.push(b'\n');
        writer.write_all(&bytes).doing("write", &path)?;
    }
    writer.flush().doing("write", &path)?;
    drop(writer);

    (&file).seek(SeekFrom::Start(0)).doing("read", &path)?;
    let mut check = Check {
        logs,
        plan,
        seen: 0,
        differs: false,
        failure: None,
    };
    let scanned = scan(&file, 0, &mut check).doing("read", &path)?;
    check.failure.map_or(Ok(()), Err)?;
    if check.differs || check.seen != plan.kept.len() || scanned.torn.is_some() {
        let sentence = format!("gave up compacting `{}`", dir.path().display());
        return Err(Error::new(Code::Internal, sentence)
            .because("the new log does not say what the old one says")
            .hint("the old one is untouched; please report this"));
    }
    file.sync_data().doing("sync", &path)
}

/// Compares a new log with the lines it was made of.
struct Check<'a> {
    logs: &'a Logs,
    plan: &'a Plan,
    seen: usize,
    differs: bool,
    failure: Option<Error>,
}

impl Sink for Check<'_> {
    fn event(&mut self, event: Event, raw: &[u8], _offset: u64) {
        let line = self.plan.kept.get(self.seen);
        self.seen += 1;
        match line.map_or(Ok(false), |line| self.is_same(line, event, raw)) {
            Ok(is_same) => self.differs |= !is_same,
            Err(error) => self.failure = Some(error),
        }
    }

    fn damage(&mut self, _: Damage) {
        self.differs = true;
    }
}

impl Check<'_> {
    /// Tells whether a new line is the old one: byte for byte, or, where some bytes had to go, for
    /// everybody who reads it.
    fn is_same(&self, line: &Line, event: Event, raw: &[u8]) -> Result<bool> {
        let is_unsaid = self.plan.to_unsay.contains(&line.id);
        if !self.plan.to_mask.contains(&line.id) && !is_unsaid {
            return Ok(self.logs.raw(line)? == raw);
        }
        let shown = |event: Event| {
            let mut alone = Session {
                hidden: self
                    .plan
                    .session
                    .hidden
                    .range(line.id..=line.id)
                    .map(|(id, h)| (*id, h.clone()))
                    .collect(),
                ..Session::default()
            };
            alone.apply(event);
            if let Some(horizon) = alone.horizon.as_mut().filter(|_| is_unsaid) {
                horizon.summary = None;
            }
            // What was blanked out for it differs by the summary.
            alone.hidden.clear();
            alone
        };
        Ok(shown(self.logs.event(line)?) == shown(event))
    }
}

impl Logs {
    /// Makes sure that the main log is the one that was read, or still missing; one that has only
    /// grown is dealt with after the rename.
    fn are_still_there(&self, dir: &Dir) -> Result<()> {
        match self.logs.last().filter(|log| log.name == LOG) {
            Some(log) => match log.file_now(dir) {
                Some((identity, len)) if Some(identity) == log.identity() && len >= log.len => {
                    Ok(())
                }
                _ => Err(self.changed("it is another file now")),
            },
            None if dir.stat(LOG).is_ok() => Err(self.changed("there is a new one")),
            None => Ok(()),
        }
    }
}

/// Appends to the new log what was appended to the old one since it was read: by somebody whom the
/// lock did not keep out. On most systems nobody is.
fn follow(dir: &Dir, old: &Log, mut from: u64) -> io::Result<()> {
    let grown = |from: u64| -> io::Result<bool> { Ok(old.file.metadata()?.len() > from) };
    if !grown(old.len)? {
        return Ok(());
    }
    let mut new = dir.open_file(LOG, Access::Append)?;
    while grown(from)? {
        let mut file = &old.file;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        from += file.read_to_end(&mut bytes)? as u64;
        new.write_all(&bytes)?;
        new.sync_data()?;
    }
    Ok(())
}

/// Returns the blobs no kept line names. One younger than an hour may belong to a turn that is
/// under way.
fn unnamed_blobs(dir: &Dir, plan: &Plan, logs: &Logs) -> Result<BTreeSet<String>> {
    let mut unnamed = BTreeSet::new();
    let blobs = match dir.open_dir(BLOBS) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(unnamed),
        opened => opened.doing("open", dir.path_of(BLOBS))?,
    };
    let now = clock::now();
    let list = blobs.for_each_name(|name| {
        if is_blob_name(name) && is_abandoned(&blobs, name, now) {
            unnamed.insert(name.to_owned());
        }
    });
    list.doing("list", blobs.path())?;
    for line in &plan.kept {
        if unnamed.is_empty() {
            break;
        }
        for name in names_in(&plan.line(logs, line)?) {
            unnamed.remove(name);
        }
    }
    Ok(unnamed)
}

/// Removes blobs. One that cannot be removed is found again the next time.
fn remove_blobs(dir: &Dir, names: &BTreeSet<String>) {
    if let Ok(blobs) = dir.open_dir(BLOBS) {
        names.iter().for_each(|name| drop(blobs.remove_file(name)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::FileStore;
    use super::*;
    use crate::clock;
    use crate::session::event::tests::{event, id, turn};
    use crate::session::event::{Prune, Redact, Settings};
    use crate::session::fold::SaidTurn;
    use crate::store::Store as _;
    use crate::store::snapshot::Extent;

    /// What may lie in a log: an event, in one of a few spellings, or bytes that are none.
    #[derive(Debug, Clone)]
    enum Piece {
        Event(Box<Event>),
        Bytes(&'static str),
    }

    impl Piece {
        fn id(&self) -> Option<EventId> {
            match self {
                Self::Event(event) => Some(event.id),
                Self::Bytes(_) => None,
            }
        }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        (1u64..40, 0..6, 1u64..40, "[aé🦀]{0,6}").prop_map(|(at, kind, other, text)| match kind {
            0 => event(
                at,
                Body::Set(Settings {
                    model: Some(text),
                    ..Settings::default()
                }),
            ),
            1 => event(
                at,
                Body::Prune(Prune {
                    keep_from: id(other),
                    keep: Vec::new(),
                    summary: None,
                    budget: 0,
                    back: false,
                    strategy: "fifo".into(),
                    kept_turns: 0,
                    dropped_turns: 0,
                    dropped_tokens: 0,
                    kept_redacts: 0,
                    settings: Settings::default(),
                }),
            ),
            2 => {
                let fields =
                    (other % 3 > 0).then(|| ("prompt".to_owned(), vec![[other % 5, at % 7]]));
                event(
                    at,
                    Body::Redact(Redact {
                        turn: id(other),
                        fields: fields.into_iter().collect(),
                        original: BTreeMap::new(),
                        salt: None,
                        hash: None,
                    }),
                )
            }
            _ => turn(at, &text, "r"),
        })
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            8 => any_event().prop_map(|event| Piece::Event(Box::new(event))),
            1 => prop::sample::select(vec!["\n", "garbage\n", "\0\0\n", "{\"v\":1,\"id\":", "\r\n", "{\"v\":1,\"id\":\"torn\n"])
                .prop_map(Piece::Bytes),
        ]
    }

    fn text(pieces: &[Piece]) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Event(event) => event.to_line() + "\n",
            Piece::Bytes(bytes) => (*bytes).to_owned(),
        };
        pieces.iter().map(text).collect()
    }

    /// A store with one session that has these logs.
    fn store(logs: &[Vec<Piece>]) -> (tempfile::TempDir, FileStore, SessionId) {
        let root = tempfile::TempDir::new().expect("a temporary directory");
        let store = FileStore::open_or_make(&root.path().join("store")).expect("a store");
        let session = SessionId::from_parts(1, clock::random_bits());
        let path = store.sessions.path_of(session.to_string());
        std::fs::create_dir(&path).expect("a directory");
        let dir = Dir::open(&path).expect("open");
        for (n, pieces) in logs.iter().enumerate() {
            let name = if n == 0 {
                LOG.to_owned()
            } else {
                format!("copy-{n}.jsonl")
            };
            let mut file = dir.create_file(&name).expect("a log");
            file.write_all(text(pieces).as_bytes()).expect("writable");
        }
        (root, store, session)
    }

    fn compacted(store: &FileStore, id: SessionId, drop_pruned: bool) -> Compaction {
        let writable = store
            .for_writing(std::time::Duration::from_secs(5))
            .expect("writable");
        writable.compact(id, drop_pruned).expect("compacted")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Read by the fold itself, which shares nothing with how lines are chosen here.
        #[test]
        fn whatever_lies_there_the_fold_is_the_same_afterwards(
            logs in prop::collection::vec(prop::collection::vec(any_piece(), 0..30), 1..3), drop_pruned: bool,
        ) {
            let (_root, store, id) = store(&logs);
            let Some(before) = store.read(id, Extent::History).expect("readable") else {
                prop_assert_eq!(compacted(&store, id, drop_pruned), Compaction::NotThere);
                return Ok(());
            };
            let done = compacted(&store, id, drop_pruned);
            let after = store.read(id, Extent::History).expect("readable").expect("a session");
            prop_assert_eq!(&after.damage, &[]);
            if drop_pruned {
                let newest = before.session.turns.last().map(|said| said.id);
                let stays = |said: &&SaidTurn| {
                    after.session.turns.iter().any(|other| other.id == said.id) || Some(said.id) == newest
                };
                prop_assert_eq!(after.session.context(), before.session.context());
                prop_assert!(before.session.context().iter().all(stays));
                prop_assert_eq!(&after.session.settings, &before.session.settings);
                prop_assert_eq!(after.session.highest, before.session.highest);
            } else {
                prop_assert_eq!(&after.session, &before.session);
            }
            // It is in order, and a second time there is nothing to do.
            let log = std::fs::read_to_string(store.sessions.path_of(id.to_string()).join(LOG)).expect("readable");
            prop_assert!(log.lines().is_sorted(), "{done:?}: {log}");
            prop_assert_eq!(compacted(&store, id, drop_pruned), Compaction::Untouched);
        }

        /// One machine compacted, the other went on: the union is what it would have been.
        #[test]
        fn a_copy_that_was_not_compacted_merges_into_the_same(
            common in prop::collection::vec(any_piece(), 0..30), theirs in prop::collection::vec(any_piece(), 0..10),
        ) {
            let (_root, here, id) = store(std::slice::from_ref(&common));
            compacted(&here, id, false);
            let dir = here.sessions.open_dir(&id.to_string());
            // An event is written once; two of one id are somebody's edit, of what was there.
            let is_new = |piece: &Piece| match piece {
                Piece::Event(event) => !common.iter().any(|known| known.id() == Some(event.id)),
                Piece::Bytes(_) => true,
            };
            let theirs: Vec<Piece> = theirs.into_iter().filter(is_new).collect();
            let copy = [common, theirs].concat();
            if let Ok(mut file) = dir.and_then(|dir| dir.create_file("theirs.jsonl")) {
                file.write_all(text(&copy).as_bytes()).expect("writable");
            }
            let (_root, there, other) = store(&[copy]);
            let folded = |store: &FileStore, id| store.read(id, Extent::History).expect("readable").map(|s| s.session);
            prop_assert_eq!(folded(&here, id), folded(&there, other));
        }
    }
}
