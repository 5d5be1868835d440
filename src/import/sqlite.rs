//! Databases of other programs, read and never changed: not a byte of the file, nor of what SQLite
//! keeps beside it.
//!
//! A database that is not in WAL mode is opened for reading only; its owner may go on with it. One
//! that is, or has a journal to be rolled back, cannot be read without writing beside it: such a
//! one is copied with its journals into a directory of ours first, and the copy is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use tempfile::TempDir;

use super::Kind;
use crate::error::{Code, Error, Result};
use crate::user_file::Doing;

/// How often a database that changes while it is copied is copied anew.
const ATTEMPTS: usize = 5;

/// A database that is open for reading.
#[derive(Debug)]
pub struct Database {
    /// The connection.
    pub connection: Connection,
    /// Where the copy is that is read, until this is gone.
    _copy: Option<TempDir>,
}

/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-journal"];

impl Database {
    /// Opens a database.
    ///
    /// # Errors
    /// When it cannot be read, or changes whenever it is copied.
    pub fn open(path: &Path) -> Result<Self> {
        if is_at_rest(path).doing("read", path)? {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            return Ok(Self {
                connection: connect(path, flags).map_err(|error| unreadable(path, &error))?,
                _copy: None,
            });
        }
        let copy =
            TempDir::with_prefix("ollama-prompt-").doing("make a directory for a copy of", path)?;
        let name = copy.path().join("copy.db");
        for _ in 0..ATTEMPTS {
            let before = stamps(path);
            copy_all(path, &name).doing("copy", path)?;
            if stamps(path) == before {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                return Ok(Self {
                    connection: connect(&name, flags).map_err(|error| unreadable(path, &error))?,
                    _copy: Some(copy),
                });
            }
        }
        Err(
            Error::new(Code::Usage, format!("cannot read `{}`", path.display()))
                .because("it changes all the time: its owner is writing to it")
                .hint("import again when the other program is done"),
        )
    }

    /// Tells whose database it is, by its tables.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kind(&self) -> rusqlite::Result<Option<Kind>> {
        Ok(if self.has("sessions", "history_json")? {
            Some(Kind::Python)
        } else if self.has("responses", "response")? || self.has("turns", "tip_message_hash")? {
            Some(Kind::Llm)
        } else {
            None
        })
    }

    /// Returns how many sessions there are, about.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn sessions(&self, kind: Kind) -> rusqlite::Result<usize> {
        let mut sessions = 0;
        let tables = if kind == Kind::Python {
            &["sessions"][..]
        } else {
            &["threads", "conversations"]
        };
        for table in tables {
            let is_there: bool = self.connection.query_row(
                "SELECT count(*) > 0 FROM sqlite_master WHERE name = ?1",
                [table],
                |row| row.get(0),
            )?;
            if is_there {
                let count = format!("SELECT count(*) FROM {table}");
                sessions += self
                    .connection
                    .query_row(&count, [], |row| row.get::<_, usize>(0))?;
            }
        }
        Ok(sessions)
    }

    /// Tells whether a table has a column.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn has(&self, table: &str, column: &str) -> rusqlite::Result<bool> {
        let query = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
        let found: i64 = self
            .connection
            .query_row(query, [table, column], |row| row.get(0))?;
        Ok(found > 0)
    }
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // A file that is no database says so only now.
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
    Ok(connection)
}

/// Tells whether a database can be read where it is without a change of anything: the file format
/// says in its bytes 18 and 19 that it is not in WAL mode (<https://sqlite.org/fileformat.html>,
/// section 1.3.3), and there is no journal of a change that was cut off.
fn is_at_rest(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(20).read_to_end(&mut start)?;
    let has_wal = start
        .get(18..20)
        .is_some_and(|versions| versions.contains(&2));
    let has_journal = BESIDE.iter().any(|suffix| {
        beside(path, suffix)
            .metadata()
            .is_ok_and(|file| file.len() > 0)
    });
    Ok(!has_wal && !has_journal)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to)?;
    for suffix in BESIDE {
        match std::fs::copy(beside(from, suffix), beside(to, suffix)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _ = std::fs::remove_file(beside(to, suffix));
            }
            copied => drop(copied?),
        }
    }
    Ok(())
}

/// Returns what changes when a database or its journals do.
fn stamps(path: &Path) -> Vec<Option<(u64, std::time::SystemTime)>> {
    let stamp = |path: &Path| {
        let found = path.metadata().ok()?;
        Some((found.len(), found.modified().ok()?))
    };
    let beside = BESIDE.iter().map(|suffix| stamp(&beside(path, suffix)));
    std::iter::once(stamp(path)).chain(beside).collect()
}

/// The error of a database that cannot be read.
#[must_use]
pub fn unreadable(path: &Path, cause: &rusqlite::Error) -> Error {
    Error::new(
        Code::Usage,
        format!("cannot read the database `{}`", path.display()),
    )
    .because(cause)
    .hint("it was not changed; `sqlite3 FILE .recover` may save more of a damaged one")
}

/// Returns a column as text; `None` for NULL, and for what is no text.
#[must_use]
pub fn text(row: &Row<'_>, column: &str) -> Option<String> {
    match row.get_ref(column).ok()? {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns a column as a number that is not negative.
#[must_use]
pub fn number(row: &Row<'_>, column: &str) -> Option<u64> {
    match row.get_ref(column).ok()? {
        ValueRef::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}
