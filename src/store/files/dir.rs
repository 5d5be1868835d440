//! Files and directories, beneath a directory that is already open.
//!
//! Nothing below the store's root is reached by a path of several parts, so no link planted on
//! the way is followed; the last part is never a link, a FIFO cannot make an open hang, and only
//! regular files are read or written. Modes are given when a file is made. This is the one
//! module that makes, renames or removes files of the store; how, is [`crate::platform`]'s to know.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};
pub(crate) use crate::platform::open_own;
pub use crate::platform::{Access, Trust};
use crate::platform::{Directory, Refused, Stat, user, why};
pub(super) use crate::platform::{identity, not_a_file};

/// An open directory; its path is for messages only.
#[derive(Debug)]
pub struct Dir {
    handle: Directory,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory at `path`, following links: the root of a store may be one.
    ///
    /// # Errors
    /// As the system says; `NotFound` where there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            handle: Directory::open(path)?,
            path: path.to_owned(),
        })
    }

    /// Opens a directory in this one, which is not a link.
    ///
    /// # Errors
    /// As the system says: `NotFound`; ENOTDIR or ELOOP for a link.
    pub fn open_dir(&self, name: &str) -> io::Result<Self> {
        Ok(self.below(name, self.handle.open_dir(name)?))
    }

    /// Opens a directory in this one, or what a link of this name leads to, if the link is the
    /// user's own: `sessions` may lie on another disk.
    ///
    /// # Errors
    /// As [`Dir::open_dir`]; ELOOP for another user's link.
    pub fn open_dir_or_own_link(&self, name: &str) -> io::Result<Self> {
        Ok(self.below(name, self.handle.open_dir_or_own_link(name)?))
    }

    fn below(&self, name: &str, handle: Directory) -> Self {
        Self {
            handle,
            path: self.path.join(name),
        }
    }

    /// Makes a directory in this one, for the user alone.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        self.handle.make_dir(name)
    }

    /// Opens a regular file in this directory.
    ///
    /// # Errors
    /// As the system says; ELOOP for a link, and [`not_a_file`] for whatever else is no regular
    /// file.
    pub fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        self.handle.open_file(name, access)
    }

    /// Makes a file in this directory, open for reading and writing at its end.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        self.handle.create_file(name)
    }

    /// Returns what stands under a name, without following a link.
    ///
    /// # Errors
    /// As the system says; `NotFound` where there is nothing.
    pub fn stat(&self, name: &str) -> io::Result<Stat> {
        self.handle.stat(name)
    }

    /// Returns what is known of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn metadata(&self) -> io::Result<Stat> {
        self.handle.own_stat()
    }

    /// Calls `each` with every name in the directory that is UTF-8 (no other name is one of
    /// ours), in the order of the file system.
    ///
    /// # Errors
    /// As the system says.
    pub fn for_each_name(&self, each: impl FnMut(&str)) -> io::Result<()> {
        self.handle.for_each_name(each)
    }

    /// Returns every name [`for_each_name`](Self::for_each_name) has, sorted.
    ///
    /// # Errors
    /// As the system says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.for_each_name(|name| names.push(name.to_owned()))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Syncs everything on the file system this directory is on, where the system can do that.
    /// Returns whether it can.
    ///
    /// # Errors
    /// As the system says.
    pub fn sync_file_system(&self) -> io::Result<bool> {
        self.handle.sync_file_system()
    }

    /// Changes the permissions of a file or directory of this directory, which is not a link.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        self.handle.set_mode(name, mode)
    }

    /// Changes the permissions of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        self.handle.set_own_mode(mode)
    }

    /// Renames within this directory, over whatever has the new name.
    ///
    /// # Errors
    /// As the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.handle.rename(from, to)
    }

    /// Renames within this directory, unless something has the new name.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.handle.rename_new(from, to)
    }

    /// Removes a file of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        self.handle.remove_file(name)
    }

    /// Removes an empty directory of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_dir(&self, name: &str) -> io::Result<()> {
        self.handle.remove_dir(name)
    }

    /// Makes the directory's entries survive a loss of power.
    ///
    /// # Errors
    /// As the system says. A failed sync is not to be tried again: the pages count as clean now.
    pub fn sync(&self) -> io::Result<()> {
        self.handle.sync()
    }

    /// Returns the path the directory was opened by, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of something in the directory, for messages.
    #[must_use]
    pub fn path_of(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }
}

/// Tells whether the directory may be trusted with a conversation: it is the user's own, and
/// nobody else can write to it.
pub(in crate::store) fn check_owner(dir: &Dir) -> Result<()> {
    let stat = dir.metadata().doing("look at", dir.path())?;
    let refuse = |cause: &str, hint: String| {
        Err(Error::new(
            Code::StoreUnsupported,
            format!("refusing to write to the store `{}`", dir.path().display()),
        )
        .because(cause)
        .hint(hint))
    };
    if stat.owner != user() {
        let hint = "run as the user it belongs to, or name another store with OLLAMA_PROMPT_HOME";
        return refuse("it belongs to another user", hint.to_owned());
    }
    if stat.mode & 0o022 != 0 {
        let hint = format!("chmod go-w '{}'", dir.path().display());
        return refuse("others may write to it", hint);
    }
    Ok(())
}

/// Turns the system's error into one that says what was being done, and to what.
pub trait Doing<T> {
    /// Adds the action ("append to") and the path.
    ///
    /// # Errors
    /// Whenever `self` is an error, with the code that the cause deserves.
    fn doing(self, action: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|cause| {
            let code = code_of(&cause);
            let sentence = format!("cannot {action} `{}`", path.as_ref().display());
            let error = Error::new(code, sentence).because(&cause);
            match code {
                Code::StoreFull => error.hint("free some space (or raise the quota), then try again"),
                Code::StoreReadonly => {
                    error.hint("make it writable for this user, name another store with OLLAMA_PROMPT_HOME, or use --no-session")
                }
                Code::StoreUnsupported => {
                    error.hint("links, pipes and devices in a store are never followed: move it aside")
                }
                _ => error,
            }
        })
    }
}

fn code_of(cause: &io::Error) -> Code {
    if cause.kind() == io::ErrorKind::InvalidInput && cause.raw_os_error().is_none() {
        return Code::StoreUnsupported;
    }
    match why(cause) {
        Refused::Full => Code::StoreFull,
        Refused::Forbidden => Code::StoreReadonly,
        Refused::Link | Refused::Kind | Refused::Socket => Code::StoreUnsupported,
        Refused::NoLocks | Refused::Other => Code::StoreIo,
    }
}
