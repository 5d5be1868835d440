//! Verify: every log read, and everything told that is not as docs/format.md has it.
//!
//! Nothing is changed and no lock is taken. A log of any size is read in pieces and none of its
//! events is held; only where a session was merged or edited are the ids of its events compared,
//! at 48 bytes each. A [`Kind`] is either a problem, which `repair.rs` can put right if anything
//! can, or something that is good to know and right as it is: readers are built for it.

mod outvoted;
mod reader;
mod receipts;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

pub(super) use outvoted::outvoted;
use reader::LogReader;
pub(super) use receipts::read_receipts;

use super::FileStore;
use super::dir::{Access, Dir};
use super::layout::{
    BLOBS, DAMAGED, DIRECTORY_MODE, DRAFT_SUFFIX, FILE_MODE, LOCKS, LOG, OPEN, PURGED, SESSIONS,
    TEMPORARY, TRASH, is_log_name,
};
use super::log::{Damage, FromStart, Scanned, scan};
use crate::digest::sha256_of_all_in;
use crate::error::Result;
use crate::platform::{FileKind, Stat, user};
use crate::progress::Steps;
use crate::session::event::Timestamp;
use crate::session::id::SessionId;
use crate::store::Store as _;
use crate::store::blobs::is_blob_name;
use crate::store::verify::{Finding, Kind, Report};

/// Verifies the sessions that are named, or with `None` the whole store.
///
/// # Errors
/// When the directory of sessions cannot be listed. Whatever else cannot be read is a finding.
pub(super) fn verify(
    store: &FileStore,
    named: Option<&[SessionId]>,
    now: Timestamp,
) -> Result<Report> {
    let sessions = named.map_or_else(|| store.ids().map_or(0, |ids| ids.len()), <[_]>::len);
    let mut verifier = Verifier {
        store,
        now,
        steps: store.progress.begin("verifying", sessions),
        report: Report::default(),
    };
    match named {
        Some(ids) => ids.iter().for_each(|id| verifier.session(*id)),
        None => verifier.whole_store()?,
    }
    Ok(verifier.report)
}

/// What a finding is about.
#[derive(Debug, Clone)]
struct Place {
    session: Option<SessionId>,
    path: String,
}

impl Place {
    fn of_store(path: &str) -> Self {
        Self {
            session: None,
            path: path.to_owned(),
        }
    }

    fn of_session(id: SessionId) -> Self {
        Self {
            session: Some(id),
            path: format!("{SESSIONS}/{id}"),
        }
    }

    fn below(&self, name: &str) -> Self {
        Self {
            session: self.session,
            path: format!("{}/{name}", self.path),
        }
    }

    fn found(&self, kind: Kind, message: impl Into<String>) -> Finding {
        Finding {
            kind,
            session: self.session,
            place: self.path.clone(),
            offset: None,
            bytes: None,
            message: message.into(),
        }
    }

    fn found_at(&self, kind: Kind, damage: &Damage, message: impl Into<String>) -> Finding {
        Finding {
            offset: Some(damage.offset),
            bytes: Some(damage.bytes),
            ..self.found(kind, message)
        }
    }
}

struct Verifier<'a> {
    store: &'a FileStore,
    now: Timestamp,
    steps: Steps<'a>,
    report: Report,
}

impl Verifier<'_> {
    fn tell(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn whole_store(&mut self) -> Result<()> {
        use super::dir::Doing;
        let FileStore { root, sessions, .. } = self.store;
        for (dir, path) in [(root, "."), (sessions, SESSIONS)] {
            let stat = dir.metadata().doing("look at", dir.path())?;
            self.permissions(&stat, &Place::of_store(path));
        }
        for name in [LOCKS, OPEN] {
            self.plain_directory(name);
        }
        self.leftovers(root, &Place::of_store("."));
        self.receipts();
        self.drafts();
        for name in sessions.names().doing("list", sessions.path())? {
            let place = Place::of_store(SESSIONS).below(&name);
            match name.parse::<SessionId>() {
                Ok(id) if id.to_string() == name => self.session(id),
                Ok(id) => self.tell(place.found(
                    Kind::ForeignName,
                    format!("no session is read from it: renamed to {id} it would be one"),
                )),
                Err(_) if is_leftover(&name) => self.leftover(&place),
                Err(_) if name.starts_with('.') => {}
                Err(_) => self.tell(place.found(
                    Kind::ForeignName,
                    "its name is no session id: it is left alone",
                )),
            }
        }
        Ok(())
    }

    /// Looks at a directory of small files and at each of them.
    fn plain_directory(&mut self, name: &str) {
        let place = Place::of_store(name);
        let Some(dir) = self.directory(&self.store.root, name, &place) else {
            return;
        };
        self.leftovers(&dir, &place);
        let names = dir.names().unwrap_or_default();
        for name in names.iter().filter(|name| !name.starts_with('.')) {
            if let Ok(stat) = dir.stat(name) {
                self.permissions(&stat, &place.below(name));
            }
        }
    }

    /// Opens a directory; tells what is wrong with it. One that is not there is no finding.
    fn directory(&mut self, parent: &Dir, name: &str, place: &Place) -> Option<Dir> {
        let stat = self.stat(parent, name, place)?;
        if stat.kind != FileKind::Directory {
            let message = format!("{} where a directory should be", kind_of(&stat));
            self.tell(place.found(Kind::NotADirectory, message));
            return None;
        }
        self.permissions(&stat, place);
        self.readable(parent.open_dir(name), place)
    }

    fn stat(&mut self, dir: &Dir, name: &str, place: &Place) -> Option<Stat> {
        let stat = dir.stat(name);
        self.readable(stat, place)
    }

    /// Returns what was read; tells why it cannot be. What is gone is no finding.
    fn readable<T>(&mut self, read: io::Result<T>, place: &Place) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => {
                self.tell(place.found(Kind::Unreadable, format!("cannot be read: {e}")));
                None
            }
        }
    }

    fn permissions(&mut self, stat: &Stat, place: &Place) {
        let (mode, right) = (stat.mode, right_mode(stat));
        if stat.owner != user() {
            let message = format!("belongs to user {}", stat.owner);
            self.tell(place.found(Kind::WrongOwner, message));
        } else if mode != right {
            let message = format!("its mode is {mode:04o} and should be {right:04o}");
            self.tell(place.found(Kind::WrongMode, message));
        }
    }

    fn leftovers(&mut self, dir: &Dir, place: &Place) {
        for name in dir.names().unwrap_or_default() {
            if is_leftover(&name) {
                self.leftover(&place.below(&name));
            }
        }
    }

    fn leftover(&mut self, place: &Place) {
        let name = place.path.rsplit('/').next().unwrap_or_default();
        let message = if name.starts_with(TEMPORARY) {
            "was being written: not part of the data"
        } else if name.starts_with(TRASH) {
            "was being removed: not part of the data"
        } else {
            "was moved aside by a repair: remove it when you have looked at it"
        };
        self.tell(place.found(Kind::Leftover, message));
    }

    fn session(&mut self, id: SessionId) {
        self.steps.step();
        self.report.checked.sessions += 1;
        let place = Place::of_session(id);
        let store = self.store;
        let Some(dir) = self.directory(&store.sessions, &id.to_string(), &place) else {
            return;
        };
        self.leftovers(&dir, &place);
        let Some(names) = self.readable(dir.names(), &place) else {
            return;
        };
        let before = self.report.findings.len();
        let (mut events, mut in_order) = (0, true);
        let mut logs = Vec::new();
        let mut named = BTreeSet::new();
        for name in names.into_iter().filter(|name| is_log_name(name)) {
            let place = place.below(&name);
            if let Some((file, mut log)) = self.log(&dir, &name, &place) {
                named.append(&mut log.blobs);
                events += log.events;
                in_order &= log.in_order;
                logs.push((place, file));
            }
        }
        if logs.len() > 1 || !in_order {
            self.conflicts(&logs);
        }
        self.blobs(&dir, &named, &place.below(BLOBS));
        let has_problem = |findings: &[Finding]| findings.iter().any(|f| f.kind.is_problem());
        if events == 0 && !has_problem(&self.report.findings[before..]) {
            let message = "no session: it holds no event, as a first turn that was cut short";
            self.tell(place.found(Kind::NoEvent, message));
        }
    }

    /// Compares the blobs there are with those that are named, and their bytes with their names.
    fn blobs(&mut self, session: &Dir, named: &BTreeSet<String>, place: &Place) {
        let mut there = BTreeSet::new();
        if let Some(dir) = self.directory(session, BLOBS, place) {
            self.leftovers(&dir, place);
            let names = dir.names().unwrap_or_default();
            for name in names.into_iter().filter(|name| is_blob_name(name)) {
                self.blob(&dir, &name, named.contains(&name), &place.below(&name));
                there.insert(name);
            }
        }
        for name in named.difference(&there) {
            let message = "a turn names it: what it has is not sent again";
            self.tell(place.below(name).found(Kind::MissingBlob, message));
        }
    }

    fn blob(&mut self, dir: &Dir, name: &str, is_named: bool, place: &Place) {
        let Some(stat) = self.stat(dir, name, place) else {
            return;
        };
        if stat.kind != FileKind::File {
            let message = format!("{} where a blob should be: it is not read", kind_of(&stat));
            return self.tell(place.found(Kind::NotAFile, message));
        }
        self.permissions(&stat, place);
        let hash = dir
            .open_file(name, Access::Read)
            .and_then(|mut file| sha256_of_all_in(&mut file));
        match self.readable(hash, place) {
            Some(hash) if hash != name => {
                let message = "its bytes are not what its name says: it is not sent again";
                self.tell(place.found(Kind::DamagedBlob, message));
            }
            Some(_) if !is_named => {
                let message = "no turn names it: compaction removes it when it is an hour old";
                self.tell(place.found(Kind::UnreferencedBlob, message));
            }
            _ => {}
        }
    }

    /// Reads a log that is a file; tells what is wrong with it.
    fn log(&mut self, dir: &Dir, name: &str, place: &Place) -> Option<(File, LogReader)> {
        let stat = self.stat(dir, name, place)?;
        if stat.kind != FileKind::File {
            let message = format!("{} where a log should be: it is not read", kind_of(&stat));
            self.tell(place.found(Kind::NotAFile, message));
            return None;
        }
        self.permissions(&stat, place);
        let file = self.readable(dir.open_file(name, Access::Read), place)?;
        let mut log = LogReader::new(place.clone(), self.now);
        let scanned = self.readable(scan(FromStart::of(&file), 0, &mut log), place)?;
        self.count(&scanned);
        self.report.findings.append(&mut log.end(&scanned));
        Some((file, log))
    }

    fn count(&mut self, scanned: &Scanned) {
        let checked = &mut self.report.checked;
        checked.files += 1;
        checked.lines += scanned.lines;
        checked.bytes += scanned.consumed + scanned.torn.as_ref().map_or(0, |torn| torn.bytes);
    }

    fn conflicts(&mut self, logs: &[(Place, File)]) {
        let files: Vec<&File> = logs.iter().map(|(_, file)| file).collect();
        match outvoted(&files) {
            Ok(outvoted) => {
                for (log, damage) in outvoted {
                    let message =
                        "another event has the same id and other bytes, and counts in its place";
                    let (place, _) = &logs[log];
                    self.tell(place.found_at(Kind::ConflictingEvent, &damage, message));
                }
            }
            Err(e) => self.tell(logs[0].0.found(Kind::Unreadable, e.to_string())),
        }
    }

    fn receipts(&mut self) {
        let place = Place::of_store(PURGED);
        let store = self.store;
        let Some(stat) = self.stat(&store.root, PURGED, &place) else {
            return;
        };
        if stat.kind != FileKind::File {
            let message = format!("{} where the receipts should be", kind_of(&stat));
            return self.tell(place.found(Kind::NotAFile, message));
        }
        self.permissions(&stat, &place);
        let read = store.root.open_file(PURGED, Access::Read);
        let read = read.and_then(|file| read_receipts(&file));
        let Some(receipts) = self.readable(read, &place) else {
            return;
        };
        self.count(&receipts.scanned);
        for damage in &receipts.damage {
            self.tell(place.found_at(Kind::DamagedReceipt, damage, "no receipt"));
        }
        if let Some(torn) = &receipts.scanned.torn {
            self.tell(place.found_at(Kind::TornTail, torn, UNFINISHED));
        }
        for id in receipts.sessions {
            if store.sessions.stat(&id.to_string()).is_ok() {
                let message = "its receipt is void: the session is there";
                self.tell(Finding {
                    session: Some(id),
                    ..place.found(Kind::VoidReceipt, message)
                });
            }
        }
    }

    fn drafts(&mut self) {
        // What cannot be listed was told as a directory.
        for found in self.store.drafts().unwrap_or_default() {
            if found.under_way {
                continue;
            }
            let place = Place::of_store(OPEN).below(&format!("{}{DRAFT_SUFFIX}", found.id));
            let finding = match found.draft {
                Some(draft) => Finding {
                    session: Some(draft.session),
                    ..place.found(Kind::UnfinishedTurn, "a turn that failed or was killed")
                },
                None => place.found(Kind::UnfinishedTurn, "a draft that says nothing any more"),
            };
            self.tell(finding);
        }
    }
}

const UNFINISHED: &str =
    "the last line is unfinished: being written, or cut short; nothing that was acknowledged";

/// Returns the mode a file or directory of the store should have.
pub(super) fn right_mode(stat: &Stat) -> u32 {
    if stat.kind == FileKind::Directory {
        DIRECTORY_MODE
    } else {
        FILE_MODE
    }
}

fn is_leftover(name: &str) -> bool {
    [TEMPORARY, TRASH, DAMAGED]
        .iter()
        .any(|start| name.starts_with(start))
}

fn kind_of(stat: &Stat) -> &'static str {
    match stat.kind {
        FileKind::File => "a file",
        FileKind::Directory => "a directory",
        FileKind::Link => "a link",
        FileKind::Pipe => "a pipe",
        FileKind::Socket => "a socket",
        FileKind::Device => "a device",
        FileKind::Unknown => "something unknown",
    }
}

/// Returns the logs of a session's directory, the main one last, as the reader takes them.
pub(super) fn logs(dir: &Dir) -> io::Result<Vec<String>> {
    let mut names = dir.names()?;
    names.retain(|name| is_log_name(name));
    names.sort_by_key(|name| name == LOG);
    Ok(names)
}
