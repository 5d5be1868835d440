//! Why a reference is not read, in words that name no path.

use std::fmt;

use crate::session::event::ReferenceStatus;

/// Why a reference is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is nothing of that name.
    Missing,
    /// It leads out of the root.
    Outside,
    /// It is a symbolic link.
    Link,
    /// It is a pipe, a device, a socket, or made up by the kernel.
    NotAFile,
    /// It is a file.
    NotADirectory,
    /// This user may not.
    Forbidden,
    /// It is no text: the byte that says so.
    Binary(usize),
    /// The regular expression cannot be used.
    Pattern(String),
    /// Standard input was read by an earlier reference.
    StdinRead,
    /// Something else, in the system's words.
    Io(String),
}

impl Refusal {
    /// Returns how this is told in `references`.
    pub(super) fn status(&self) -> ReferenceStatus {
        match self {
            Self::Binary(_) => ReferenceStatus::Binary,
            _ => ReferenceStatus::Error,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no such file or directory",
            Self::Outside => "outside the root",
            Self::Link => "a symbolic link, which is not followed",
            Self::NotAFile => "not a regular file",
            Self::NotADirectory => "not a directory",
            Self::Forbidden => "permission denied",
            Self::Binary(byte) => return write!(f, "binary: byte {byte} is not UTF-8 text"),
            Self::Pattern(why) => return write!(f, "not a regular expression: {why}"),
            Self::StdinRead => "standard input was read already",
            Self::Io(why) => why,
        })
    }
}
