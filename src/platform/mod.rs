//! What differs between operating systems, and the only module that names one.
//!
//! `unix` and `windows` have the same functions; whoever calls them does not ask which it is. Linux
//! is what all of it is tested on. On Windows nothing was ever run: what the standard library can do
//! there is done, and each function that promises less says so.
//!
//! Nothing here knows what a store or a session is.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

use std::fs::File;
use std::io;

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device.
    Device,
    /// Something else.
    Unknown,
}

/// What is known of a file without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Who may do what with it: the nine bits of a Unix mode.
    pub mode: u32,
    /// The user it belongs to.
    pub owner: u32,
    /// What tells it from every other file there is at the same time.
    pub identity: (u64, u64),
    /// Its bytes.
    pub size: u64,
    /// When its content changed last, in seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// When anything about it changed last. Nobody can set that.
    pub changed: (i64, u32),
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading, and writing at its end.
    Append,
    /// Reading and writing, made when missing: lock files, which some mounts refuse to lock when
    /// they are open for one of the two only.
    Lock,
}

/// Who else has to do with a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whether other users may read it.
    pub is_shown: bool,
    /// Whether other users may have written it.
    pub is_foreign: bool,
}

/// Why the system refuses something, as far as it makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no room, or no more is allowed.
    Full,
    /// This user may not, or nobody may.
    Forbidden,
    /// A link stands where none is followed.
    Link,
    /// What stands there is of another kind.
    Kind,
    /// A socket cannot be opened.
    Socket,
    /// The mount has no locks.
    NoLocks,
    /// Anything else.
    Other,
}

/// Permissions of a directory of the user's alone.
pub const DIRECTORY_MODE: u32 = 0o700;

/// Permissions of a file of the user's alone.
pub const FILE_MODE: u32 = 0o600;

/// The error of something that is there under a file's name and is no regular file.
#[must_use]
pub fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Tells what file a descriptor is open on.
///
/// # Errors
/// As the system says.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    Ok(stat(file)?.identity)
}

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The terminal is gone; to a process that goes on, that something is to be done now.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// The polite way to end a process.
    Terminate,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hangup, Self::Interrupt, Self::Terminate];

    /// Returns those this process was not started to ignore.
    pub fn unignored() -> impl Iterator<Item = Self> {
        let is_ignored = ignored();
        Self::ALL
            .into_iter()
            .filter(move |signal| !is_ignored(*signal))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}
