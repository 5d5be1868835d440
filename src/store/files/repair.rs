//! Repair: what verify found, moved out of the way, and never a byte discarded.
//!
//! Under the session's lock, what is no event goes to a side file in the session's directory,
//! which is synced before the log is replaced by one without it. What stands where a log should
//! be and is no file is renamed aside. Permissions are set right. Whose it is, how far its clock
//! was ahead and which version wrote it cannot be repaired here, and is left.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::time::Duration;

use super::FileStore;
use super::dir::{Access, Dir, Doing};
use super::layout::{DAMAGED, PURGED, SESSIONS};
use super::lock::WriteLock;
use super::log::{Damage, FromStart, Sink, scan};
use super::read::open_session;
use super::replace::{insist_on, replace};
use super::verify::{logs, outvoted, read_receipts, right_mode};
use super::whole::fresh_id;
use super::writable::FileWritable;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::platform::ReadAt as _;
use crate::session::event::Event;
use crate::session::id::SessionId;
use crate::store::Store as _;
use crate::store::verify::{Finding, Kind, Repaired, Report};

/// How often permissions are set right: a directory that was closed may have others beneath it.
const DEPTH: usize = 3;

/// Puts right what can be: permissions first, since nothing is written to a store others may
/// write to, and nothing read that is closed to its owner.
///
/// # Errors
/// `store_*`; `store_locked` after `patience`. What was repaired until then stays so.
pub(super) fn mend(
    store: &FileStore,
    named: Option<&[SessionId]>,
    mut report: Report,
    patience: Duration,
    repaired: &mut Vec<Repaired>,
) -> Result<()> {
    for _ in 0..DEPTH {
        let mut wrong = report.findings.iter().filter(|f| f.kind == Kind::WrongMode);
        let before = repaired.len();
        wrong.try_for_each(|finding| set_right_mode(store, finding).map(|r| repaired.push(r)))?;
        if repaired.len() == before {
            break;
        }
        report = store.verify(named, clock::now())?;
    }
    let writable = FileWritable::of(store, patience)?;
    let mut sessions: Vec<SessionId> = report
        .findings
        .iter()
        .filter(|finding| is_mended_in_its_session(finding))
        .filter_map(|finding| finding.session)
        .collect();
    sessions.dedup();
    for id in sessions {
        repaired.extend(writable.repair(id).map_err(|error| error.session(id))?);
    }
    let of_receipts = |finding: &Finding| {
        finding.session.is_none() && matches!(finding.kind, Kind::DamagedReceipt | Kind::TornTail)
    };
    if report.findings.iter().any(of_receipts) {
        repaired.extend(writable.repair_receipts()?);
    }
    Ok(())
}

fn is_mended_in_its_session(finding: &Finding) -> bool {
    matches!(
        finding.kind,
        Kind::DamagedLine
            | Kind::TornTail
            | Kind::ConflictingEvent
            | Kind::NotAFile
            | Kind::NotADirectory
    )
}

/// Gives what a finding is about the permissions it should have.
fn set_right_mode(store: &FileStore, finding: &Finding) -> Result<Repaired> {
    let FileStore { root, sessions, .. } = store;
    let mut parts = finding.place.split('/');
    let set = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("."), ..) => root
            .metadata()
            .and_then(|s| root.set_own_mode(right_mode(&s))),
        (Some(SESSIONS), None, ..) => {
            let stat = sessions.metadata();
            stat.and_then(|stat| sessions.set_own_mode(right_mode(&stat)))
        }
        (Some(SESSIONS), Some(name), None, _) => set_mode(sessions, name),
        (Some(SESSIONS), Some(name), Some(file), None) => {
            sessions.open_dir(name).and_then(|dir| set_mode(&dir, file))
        }
        (Some(SESSIONS), Some(name), Some(below), Some(blob)) => sessions
            .open_dir(name)
            .and_then(|session| session.open_dir(below))
            .and_then(|dir| set_mode(&dir, blob)),
        (Some(name), None, ..) => set_mode(root, name),
        (Some(name), Some(file), ..) => root.open_dir(name).and_then(|dir| set_mode(&dir, file)),
        (None, ..) => Ok(()),
    };
    set.doing("change the mode of", root.path_of(&finding.place))?;
    Ok(Repaired {
        kind: finding.kind,
        session: finding.session,
        place: finding.place.clone(),
        damage: None,
        moved_to: None,
    })
}

fn set_mode(dir: &Dir, name: &str) -> io::Result<()> {
    dir.set_mode(name, right_mode(&dir.stat(name)?))
}

/// Moves what stands under the name of a session, and is no directory, out of the way.
///
/// # Errors
/// As the system says.
pub(super) fn session_name(sessions: &Dir, id: SessionId, held: &WriteLock) -> Result<Repaired> {
    let name = id.to_string();
    let path = sessions.path_of(&name);
    insist_on(held, &format!("move `{}`", path.display()))?;
    let aside = format!("{DAMAGED}{}-{name}", fresh_id());
    sessions.rename(&name, &aside).doing("move", path)?;
    sessions.sync().doing("sync", sessions.path())?;
    Ok(Repaired {
        kind: Kind::NotADirectory,
        session: Some(id),
        place: format!("{SESSIONS}/{name}"),
        damage: None,
        moved_to: Some(format!("{SESSIONS}/{aside}")),
    })
}

/// Repairs the logs of one session. Afterwards every event is where it was found, and nothing
/// else is in the logs.
///
/// # Errors
/// `store_unsupported` where the mount has no locks; otherwise as the system says. Whatever was
/// repaired until then stays so.
pub(super) fn session(sessions: &Dir, id: SessionId, held: &WriteLock) -> Result<Vec<Repaired>> {
    let Some(dir) = open_session(sessions, id)? else {
        return Ok(Vec::new());
    };
    insist_on(held, &format!("repair the session {id}"))?;
    let mut repaired = Vec::new();
    let mut done = |kind, file: &str, damage, aside: &str| {
        repaired.push(Repaired {
            kind,
            session: Some(id),
            place: format!("{SESSIONS}/{id}/{file}"),
            damage,
            moved_to: Some(format!("{SESSIONS}/{id}/{aside}")),
        });
    };
    let mut opened = Vec::new();
    for log in logs(&dir).doing("list", dir.path())? {
        match dir.open_file(&log, Access::Read) {
            Ok(file) => opened.push((log, file)),
            Err(cause) => {
                let error = Err::<(), _>(cause).doing("open", dir.path_of(&log));
                if !matches!(&error, Err(e) if e.code == Code::StoreUnsupported) {
                    error?;
                }
                let aside = format!("{DAMAGED}{}", fresh_id());
                dir.rename(&log, &aside).doing("move", dir.path_of(&log))?;
                dir.sync().doing("sync", dir.path())?;
                done(Kind::NotAFile, &log, None, &aside);
            }
        }
    }
    let files: Vec<&File> = opened.iter().map(|(_, file)| file).collect();
    let outvoted = outvoted(&files).doing("read", dir.path())?;
    for (number, (log, file)) in opened.iter().enumerate() {
        let losers: Vec<Damage> = outvoted
            .iter()
            .filter(|(of, _)| *of == number)
            .map(|(_, damage)| damage.clone())
            .collect();
        let read = read_log(file, &losers).doing("read", dir.path_of(log))?;
        let events = read.events();
        let mut cuts: Vec<(Kind, Damage)> = read
            .damage
            .into_iter()
            .map(|damage| (Kind::DamagedLine, damage))
            .chain(losers.into_iter().map(|d| (Kind::ConflictingEvent, d)))
            .collect();
        cuts.sort_unstable_by_key(|(_, damage)| damage.offset);
        if cuts.is_empty() {
            continue;
        }
        let ranges: Vec<Damage> = cuts.iter().map(|(_, damage)| damage.clone()).collect();
        let aside = cut(&dir, log, file, &ranges, held, |new| {
            Ok(read_log(new, &[])?.events() == events)
        })?;
        for (kind, damage) in cuts {
            done(kind, log, Some(damage), &aside);
        }
    }
    Ok(repaired)
}

/// Repairs the receipts. `held` are all locks of the store, so that nobody purges meanwhile.
///
/// # Errors
/// As [`session`].
pub(super) fn receipts(root: &Dir, held: &[WriteLock]) -> Result<Vec<Repaired>> {
    let path = root.path_of(PURGED);
    let file = match root.open_file(PURGED, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.doing("open", &path)?,
    };
    let read = read_receipts(&file).doing("read", &path)?;
    let sessions = read.sessions.clone();
    let damage = read.all_damage();
    let (Some(first), false) = (held.first(), damage.is_empty()) else {
        return Ok(Vec::new());
    };
    for lock in held {
        insist_on(lock, &format!("rewrite `{}`", path.display()))?;
    }
    let aside = cut(root, PURGED, &file, &damage, first, |new| {
        Ok(read_receipts(new)?.sessions == sessions)
    })?;
    let repaired = damage.into_iter().map(|damage| Repaired {
        kind: Kind::DamagedReceipt,
        session: None,
        place: PURGED.to_owned(),
        damage: Some(damage),
        moved_to: Some(aside.clone()),
    });
    Ok(repaired.collect())
}

/// Moves stretches of a file to a side file, whose name is returned.
fn cut(
    dir: &Dir,
    name: &str,
    old: &File,
    cuts: &[Damage],
    held: &WriteLock,
    is_same: impl Fn(&File) -> io::Result<bool>,
) -> Result<String> {
    let len = old.metadata().doing("look at", dir.path_of(name))?.len();
    let aside = format!("{DAMAGED}{}", fresh_id());
    let path = dir.path_of(&aside);
    let keep_aside = || {
        let mut side = dir.create_file(&aside)?;
        for damage in cuts {
            copy(old, damage.offset, damage.offset + damage.bytes, &mut side)?;
            end_line(&mut side)?;
        }
        side.sync_data()?;
        dir.sync()
    };
    keep_aside().doing("write", &path)?;
    replace(
        dir,
        name,
        held,
        |new| {
            let mut from = 0;
            for damage in cuts {
                copy(old, from, damage.offset, new)?;
                end_line(new)?;
                from = damage.offset + damage.bytes;
            }
            copy(old, from, len, new)
        },
        |new| {
            if is_same(new).doing("read", dir.path_of(name))? {
                return Ok(());
            }
            let sentence = format!("cannot repair `{}`", dir.path_of(name).display());
            Err(Error::new(Code::Internal, sentence)
                .because("what would be kept is not what is there")
                .hint("nothing was changed; please report this"))
        },
    )?;
    Ok(aside)
}

/// Copies the bytes of `old` between two offsets.
fn copy(old: &File, from: u64, to: u64, new: &mut File) -> io::Result<()> {
    let mut piece = vec![0; 256 << 10];
    let mut at = from;
    while at < to {
        let size = usize::try_from(to - at).map_or(piece.len(), |rest| rest.min(piece.len()));
        old.read_exact_at(&mut piece[..size], at)?;
        new.write_all(&piece[..size])?;
        at += size as u64;
    }
    Ok(())
}

/// Writes a newline where the last byte is not one.
fn end_line(file: &mut File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let mut last = *b"\n";
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last == *b"\n" {
        Ok(())
    } else {
        file.write_all(b"\n")
    }
}

/// What a log holds, in short.
#[derive(Default)]
struct Summary {
    /// Where the events are that are not to be kept.
    losers: Vec<u64>,
    kept: u64,
    hasher: DefaultHasher,
    damage: Vec<Damage>,
}

impl Summary {
    /// Returns the events that are kept, in the order of the file, as a count and a hash.
    fn events(&self) -> (u64, u64) {
        (self.kept, self.hasher.finish())
    }
}

impl Sink for Summary {
    fn event(&mut self, event: Event, raw: &[u8], offset: u64) {
        if self.losers.binary_search(&offset).is_err() {
            self.kept += 1;
            (event.id, raw).hash(&mut self.hasher);
        }
    }

    fn damage(&mut self, damage: Damage) {
        self.damage.push(damage);
    }
}

/// Reads a log but for the events at `losers`. Nobody is writing to it: an unfinished last line
/// is a line, of which events may be salvaged as of any other.
fn read_log(file: &File, losers: &[Damage]) -> io::Result<Summary> {
    let mut summary = Summary {
        losers: losers.iter().map(|damage| damage.offset).collect(),
        ..Summary::default()
    };
    let len = file.metadata()?.len();
    let ended = FromStart::of(file).take(len).chain(&b"\n"[..]);
    scan(ended, 0, &mut summary)?;
    // The newline that was added is not there.
    if let Some(last) = summary.damage.last_mut() {
        last.bytes = last.bytes.min(len - last.offset);
    }
    Ok(summary)
}
