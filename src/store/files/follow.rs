//! Following: events as they come into the logs, whoever appends them.
//!
//! Whatever has changed is found by looking: one stat for a session's directory and one for each
//! of its logs, 1.5 µs each. No lock is taken and nothing is written. An event is told once, by
//! its id: when a log is replaced (compaction), copied in or merged it is read again, and what
//! was told or was there at the beginning is known. Half an event is none: a line counts when it
//! is whole, and a proper prefix of one never is. What is redacted is told without what is hidden.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::FileStore;
use super::dir::{Access, Dir, Doing};
use super::layout::is_log_name;
use super::log::{Damage, FromStart, Sink, scan};
use super::read::Mark;
use super::verify::logs;
use crate::error::Result;
use crate::platform::{FileKind, Stat};
use crate::session::event::{Body, Event, Timestamp};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::Hidden;
use crate::store::Store as _;
use crate::store::follow::{Follower, Tell};

/// How long after its last change a directory is listed anew at each look: two changes within
/// one tick of the file system's clock look like one.
const UNSETTLED_MS: u64 = 2_000;

/// The sessions that are followed, and how far.
#[derive(Debug)]
pub(in crate::store) struct FileFollower {
    /// Where the store is, or is to be: it is opened anew for each look, for it may be made, moved
    /// or restored meanwhile.
    root: PathBuf,
    only: Option<SessionId>,
    followed: BTreeMap<SessionId, Followed>,
}

/// How far one session was read.
#[derive(Debug, Default)]
struct Followed {
    /// Every event that was told, or was there at the beginning.
    known: HashSet<EventId>,
    /// What is hidden of them, or of what is yet to come: a merge may bring the text back.
    hidden: BTreeMap<EventId, Hidden>,
    logs: BTreeMap<String, Followable>,
    directory: Option<Stamp>,
}

/// How far one log was read.
#[derive(Debug, Default)]
struct Followable {
    stamp: Option<Stamp>,
    mark: Option<Mark>,
}

/// What changes when a file or directory does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: (u64, u64),
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            identity: stat.identity,
            size: stat.size,
            modified: stat.modified,
            changed: stat.changed,
        }
    }

    /// Tells whether another change could still look the same.
    fn is_unsettled(&self, now: Timestamp) -> bool {
        let modified = u64::try_from(self.modified.0).unwrap_or(0) * 1000;
        modified + UNSETTLED_MS > now.as_ms()
    }
}

impl FileFollower {
    /// Begins with nothing known: all that is in the store is told.
    pub(in crate::store) fn from_start(root: PathBuf, only: Option<SessionId>) -> Self {
        Self {
            root,
            only,
            followed: BTreeMap::new(),
        }
    }

    /// Begins with what is in the store now: none of that is told.
    ///
    /// # Errors
    /// When the sessions cannot be listed. One that cannot be read has nothing known of it.
    pub(super) fn from_now(store: &FileStore, only: Option<SessionId>) -> Result<Self> {
        let mut follower = Self::from_start(store.root.path().to_owned(), only);
        // How long each log is, quickly, is what "now" means; then what is in them.
        let mut found = Vec::new();
        for id in chosen(store, only)? {
            let Ok(dir) = store.sessions.open_dir(&id.to_string()) else {
                continue;
            };
            for name in logs(&dir).unwrap_or_default() {
                if let Ok(stat) = dir.stat(&name) {
                    found.push((id, name, stat));
                }
            }
        }
        for (id, name, stat) in found {
            let followed = follower.followed.entry(id).or_default();
            if let Ok(mark) = followed.learn(&store.sessions, id, &name, &stat) {
                let log = Followable {
                    stamp: None,
                    mark: Some(mark),
                };
                followed.logs.insert(name, log);
            }
        }
        Ok(follower)
    }
}

impl Follower for FileFollower {
    fn sessions(&self) -> usize {
        self.followed.len()
    }

    fn look(&mut self, now: Timestamp, tell: &mut Tell<'_>) -> Result<()> {
        let Some(store) = FileStore::open(&self.root)? else {
            return Ok(());
        };
        for id in chosen(&store, self.only)? {
            let followed = self.followed.entry(id).or_default();
            let looked = followed.look(&store.sessions, id, now, tell);
            // One session that cannot be read is not the end of the others; `verify` tells it.
            if self.only.is_some() {
                looked.doing("read", store.sessions.path_of(id.to_string()))?;
            }
        }
        Ok(())
    }
}

fn chosen(store: &FileStore, only: Option<SessionId>) -> Result<Vec<SessionId>> {
    only.map_or_else(|| store.ids(), |id| Ok(vec![id]))
}

impl Followed {
    /// Takes note of the events a log had when it was `stat`.
    fn learn(
        &mut self,
        sessions: &Dir,
        id: SessionId,
        name: &str,
        stat: &Stat,
    ) -> io::Result<Mark> {
        let file = sessions
            .open_dir(&id.to_string())?
            .open_file(name, Access::Read)?;
        let same = Stamp::of(stat).identity == super::dir::identity(&file)?;
        let len = if same {
            stat.size
        } else {
            file.metadata()?.len()
        };
        let mut news = News {
            known: &mut self.known,
            hidden: &self.hidden,
            id,
            tell: &mut |_, _| {},
        };
        let scanned = scan(FromStart::of(&file).take(len), 0, &mut news)?;
        scan(
            FromStart::of(&file).take(len),
            0,
            &mut Hides(&mut self.hidden),
        )?;
        Mark::set(&file, scanned.consumed)
    }

    fn look(
        &mut self,
        sessions: &Dir,
        id: SessionId,
        now: Timestamp,
        tell: &mut Tell<'_>,
    ) -> io::Result<()> {
        let name = id.to_string();
        let stat = match sessions.stat(&name) {
            Ok(stat) if stat.kind == FileKind::Directory => stat,
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            // Purged, or not made yet. What was told of it stays known: it may come back.
            _ => {
                self.logs.clear();
                self.directory = None;
                return Ok(());
            }
        };
        let stamp = Stamp::of(&stat);
        if self.directory != Some(stamp) || stamp.is_unsettled(now) {
            let names = sessions.open_dir(&name)?.names()?;
            self.logs.retain(|log, _| names.contains(log));
            for log in names.into_iter().filter(|log| is_log_name(log)) {
                self.logs.entry(log).or_default();
            }
            self.directory = Some(stamp);
        }
        let mut changed = Vec::new();
        for (log, followable) in &self.logs {
            // A path of two parts, and nothing but a hint: what is read is opened step by step.
            let stamp = match sessions.stat(&format!("{name}/{log}")) {
                Ok(stat) => Stamp::of(&stat),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if followable.stamp == Some(stamp) {
                continue;
            }
            let opened = sessions
                .open_dir(&name)
                .and_then(|dir| dir.open_file(log, Access::Read));
            let file = match opened {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            // Whatever is hidden anywhere is known before anything is told.
            followable.read_on(&file, &mut Hides(&mut self.hidden))?;
            changed.push((log.clone(), file, stamp));
        }
        for (log, file, stamp) in changed {
            let mut news = News {
                known: &mut self.known,
                hidden: &self.hidden,
                id,
                tell: &mut *tell,
            };
            if let Some(followable) = self.logs.get_mut(&log) {
                let consumed = followable.read_on(&file, &mut news)?;
                followable.mark = Some(Mark::set(&file, consumed)?);
                followable.stamp = Some(stamp);
            }
        }
        Ok(())
    }
}

impl Followable {
    /// Reads what a log has more than when it was last read; all of it, if it is another one.
    /// Returns how far that was.
    fn read_on(&self, mut file: &File, sink: &mut impl Sink) -> io::Result<u64> {
        let same = self.mark.as_ref().filter(|mark| mark.holds(file));
        let from = same.map_or(0, Mark::consumed);
        file.seek(SeekFrom::Start(from))?;
        Ok(scan(file, from, sink)?.consumed)
    }
}

/// Takes note of what is hidden.
struct Hides<'a>(&'a mut BTreeMap<EventId, Hidden>);

impl Sink for Hides<'_> {
    fn event(&mut self, event: Event, _: &[u8], _: u64) {
        if let Body::Redact(redact) = event.body {
            self.0.entry(redact.turn).or_default().add(&redact);
        }
    }

    fn damage(&mut self, _: Damage) {}
}

/// Tells the events that are not known yet.
struct News<'a> {
    known: &'a mut HashSet<EventId>,
    hidden: &'a BTreeMap<EventId, Hidden>,
    id: SessionId,
    tell: &'a mut Tell<'a>,
}

impl Sink for News<'_> {
    fn event(&mut self, event: Event, raw: &[u8], _: u64) {
        if self.known.insert(event.id) {
            let hidden = self.hidden.get(&event.id);
            let shown = hidden.map_or(Cow::Borrowed(raw), |hidden| hidden.show_line(raw));
            (self.tell)(self.id, &shown);
        }
    }

    fn damage(&mut self, _: Damage) {}
}
