//! The lines of a session's logs, for whoever goes through its history: read again where they are
//! wanted, because a history need not fit memory.

use std::io::{self, Read};

use super::blobs;
use super::dir::{Access, Dir, Doing};
use super::layout::BLOBS;
use super::lines::{Line, Logs};
use super::read::open_session;
use crate::error::Result;
use crate::session::attachment::Blob;
use crate::session::id::{EventId, SessionId};
use crate::store::history::{History, Lines};

/// The logs of a session, and where each line of them is.
#[derive(Debug)]
struct LogLines {
    dir: Dir,
    logs: Logs,
    lines: Vec<Line>,
}

/// Opens the history of a session as it is now; what is appended later is not in it. `None` where
/// there is no such session.
///
/// # Errors
/// When it is there and cannot be read.
pub(super) fn open(sessions: &Dir, id: SessionId) -> Result<Option<History<'static>>> {
    let Some(dir) = open_session(sessions, id)? else {
        return Ok(None);
    };
    let logs = Logs::open(&dir)?;
    let mut found = logs.read()?;
    let damaged = found.damage.len();
    logs.keep_one_of_each(&mut found.lines)?;
    let lines = LogLines {
        dir,
        logs,
        lines: found.lines,
    };
    History::of(id, Box::new(lines), damaged)
}

impl Lines for LogLines {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn id(&self, n: usize) -> EventId {
        self.lines[n].id
    }

    fn is_turn(&self, n: usize) -> bool {
        self.lines[n].is_turn
    }

    fn raw(&self, n: usize) -> Result<Vec<u8>> {
        self.logs.raw(&self.lines[n])
    }

    fn blobs(&self) -> Result<Vec<String>> {
        blobs::names(&self.dir)
    }

    fn read_blob(&self, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        blobs::read(&self.dir, blob)
    }

    fn blob(&self, name: &str) -> Result<(u64, Box<dyn Read + '_>)> {
        let open = || {
            let file = self.dir.open_dir(BLOBS)?.open_file(name, Access::Read)?;
            Ok((file.metadata()?.len(), file))
        };
        let opened: io::Result<_> = open();
        let (of, file) = opened.doing("open", self.dir.path().join(BLOBS).join(name))?;
        Ok((of, Box::new(file)))
    }
}
