//! Where the lines of a session stand: every log of it read once, and of each line only its id and
//! its place held. Whoever goes through a session of any size reads each line again when its turn
//! comes, so that a log of a gigabyte costs some megabytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::dir::{Access, Dir, Doing, identity};
use super::layout::LOG;
use super::log::{Damage, Sink, scan};
use super::read::other_logs;
use crate::error::{Code, Error, Result};
use crate::platform::ReadAt as _;
use crate::session::event::{Body, Event};
use crate::session::id::EventId;

/// A log that is open, and how long it was.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) name: String,
    pub(super) file: File,
    pub(super) len: u64,
}

/// Every log of a session, the main one last.
#[derive(Debug)]
pub(super) struct Logs {
    path: PathBuf,
    pub(super) logs: Vec<Log>,
}

/// Where a line is: all that is held of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: EventId,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) log: u16,
    pub(super) is_turn: bool,
}

/// What the logs hold.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lines: Vec<Line>,
    pub(super) damage: Vec<(u16, Damage)>,
    /// Where a last line without newline begins that is no event, and in which log: it is being
    /// written or was cut short, and is no damage to who only reads.
    pub(super) torn: Vec<(u16, Damage)>,
    log: u16,
    pub(super) version: u32,
}

impl Sink for Found {
    fn event(&mut self, event: Event, raw: &[u8], offset: u64) {
        self.version = self.version.max(event.v);
        self.lines.push(Line {
            id: event.id,
            offset,
            length: u32::try_from(raw.len()).expect("a line has a limit far below 4 GiB"),
            log: self.log,
            is_turn: matches!(event.body, Body::Turn(_)),
        });
    }

    fn damage(&mut self, damage: Damage) {
        self.damage.push((self.log, damage));
    }
}

impl Logs {
    /// Opens every log in a session's directory.
    ///
    /// # Errors
    /// When one is there and cannot be opened.
    pub(super) fn open(dir: &Dir) -> Result<Self> {
        let mut names = other_logs(dir)?;
        names.sort_unstable();
        names.push(LOG.to_owned());
        let mut logs = Vec::with_capacity(names.len());
        for name in names {
            match dir.open_file(&name, Access::Read) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                opened => {
                    let file = opened.doing("open", dir.path_of(&name))?;
                    let len = file.metadata().doing("look at", dir.path_of(&name))?.len();
                    logs.push(Log { name, file, len });
                }
            }
        }
        Ok(Self {
            path: dir.path().to_owned(),
            logs,
        })
    }

    /// Reads every log, holding none of it.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn read(&self) -> Result<Found> {
        let mut found = Found::default();
        for (number, log) in self.logs.iter().enumerate() {
            let Ok(number) = u16::try_from(number) else {
                return Err(Error::new(
                    Code::StoreUnsupported,
                    format!("cannot go through `{}`", self.path.display()),
                )
                .because("it has more than 65536 logs"));
            };
            found.log = number;
            let scanned = scan((&log.file).take(log.len), 0, &mut found)
                .doing("read", self.path.join(&log.name))?;
            found.torn.extend(scanned.torn.map(|torn| (number, torn)));
        }
        Ok(found)
    }

    /// Sorts lines by id and keeps of each id the line the fold takes: the byte-wise greater.
    ///
    /// # Errors
    /// As [`Logs::raw`].
    pub(super) fn keep_one_of_each(&self, lines: &mut Vec<Line>) -> Result<()> {
        lines.sort_unstable_by_key(|line| (line.id, line.log, line.offset));
        let mut failure = None;
        lines.dedup_by(|line, kept| {
            if line.id != kept.id {
                return false;
            }
            match (self.raw(line), self.raw(kept)) {
                (Ok(raw), Ok(known)) if raw > known => *kept = *line,
                (Ok(_), Ok(_)) => {}
                (Err(error), _) | (_, Err(error)) => failure = Some(error),
            }
            true
        });
        failure.map_or(Ok(()), Err)
    }

    /// Returns the bytes of a line.
    ///
    /// # Errors
    /// As the system says; a log that was cut off meanwhile.
    pub(super) fn raw(&self, line: &Line) -> Result<Vec<u8>> {
        let log = &self.logs[usize::from(line.log)];
        let mut bytes = vec![0; line.length as usize];
        log.file
            .read_exact_at(&mut bytes, line.offset)
            .doing("read", self.path.join(&log.name))?;
        Ok(bytes)
    }

    /// Returns the event of a line.
    ///
    /// # Errors
    /// As [`Logs::raw`]; when it is none any more.
    pub(super) fn event(&self, line: &Line) -> Result<Event> {
        Event::from_slice(&self.raw(line)?).map_err(|cause| self.changed(cause))
    }

    /// The error of logs that are not what they were when they were read.
    pub(super) fn changed(&self, cause: impl std::fmt::Display) -> Error {
        Error::new(
            Code::StoreIo,
            format!("cannot go on with `{}`", self.path.display()),
        )
        .because(format!(
            "a log was changed by something that takes no lock: {cause}"
        ))
        .hint("nothing was changed; try again")
    }
}

impl Log {
    /// Returns what tells the file from others.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        identity(&self.file).ok()
    }

    /// Returns what has the log's name now, and how long it is.
    pub(super) fn file_now(&self, dir: &Dir) -> Option<((u64, u64), u64)> {
        let stat = dir.stat(&self.name).ok()?;
        Some((stat.identity, stat.size))
    }

    /// Tells whether it is the file that was read, as long as it was.
    pub(super) fn is_still(&self, dir: &Dir) -> bool {
        let now = self.file_now(dir);
        now.is_some_and(|(identity, len)| Some(identity) == self.identity() && len == self.len)
    }
}
