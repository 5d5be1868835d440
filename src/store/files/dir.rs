//! Files and directories, beneath a directory that is already open.
//!
//! Nothing below the store's root is reached by a path of several parts, so no link planted on
//! the way is followed; the last part is never a link, a FIFO cannot make an open hang, and only
//! regular files are read or written. Modes are given when a file is made. This is the one
//! module that makes, renames or removes files of the store, and the one with platform code.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::layout::{DIRECTORY_MODE, FILE_MODE};
use crate::error::{Code, Error, Result};

/// An open directory; its path is for messages only.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
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

impl Dir {
    /// Opens the directory at `path`, following links: the root of a store may be one.
    ///
    /// # Errors
    /// As the system says; `NotFound` where there is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
        })
    }

    /// Opens a directory in this one, which is not a link.
    ///
    /// # Errors
    /// As the system says: `NotFound`; ENOTDIR or ELOOP for a link.
    pub fn open_dir(&self, name: &str) -> io::Result<Self> {
        self.open_dir_with(name, OFlags::NOFOLLOW)
    }

    /// Opens a directory in this one, or what a link of this name leads to, if the link is the
    /// user's own: `sessions` may lie on another disk.
    ///
    /// # Errors
    /// As [`Dir::open_dir`]; `PermissionDenied` for another user's link.
    pub fn open_dir_or_own_link(&self, name: &str) -> io::Result<Self> {
        match self.open_dir(name) {
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOTDIR | Errno::LOOP)) => {
                let link = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if link.st_uid == rustix::process::geteuid().as_raw() {
                    self.open_dir_with(name, OFlags::empty())
                } else {
                    Err(Errno::LOOP.into())
                }
            }
            opened => opened,
        }
    }

    fn open_dir_with(&self, name: &str, extra: OFlags) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
        let fd = retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, Mode::empty()))?;
        Ok(Self {
            fd,
            path: self.path.join(name),
        })
    }

    /// Makes a directory in this one, for the user alone.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(
            &self.fd,
            name,
            Mode::from_raw_mode(DIRECTORY_MODE),
        )?)
    }

    /// Opens a regular file in this directory.
    ///
    /// # Errors
    /// As the system says; ELOOP for a link, and [`not_a_file`] for whatever else is no regular
    /// file.
    pub fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Append => OFlags::RDWR | OFlags::APPEND,
            Access::Lock => OFlags::RDWR | OFlags::CREATE,
        };
        let file = self.open_at(name, flags | OFlags::NONBLOCK)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(not_a_file());
        }
        Ok(file)
    }

    /// Makes a file in this directory, open for reading and writing at its end.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        self.open_at(
            name,
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND,
        )
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        Ok(retry_on_intr(|| rustix::fs::openat(&self.fd, name, flags, mode))?.into())
    }

    /// Returns what stands under a name, without following a link.
    ///
    /// # Errors
    /// As the system says; `NotFound` where there is nothing.
    pub fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(rustix::fs::statat(
            &self.fd,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// Returns what is known of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn metadata(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.fd)?)
    }

    /// Calls `each` with every name in the directory that is UTF-8 (no other name is one of
    /// ours), in the order of the file system.
    ///
    /// # Errors
    /// As the system says.
    pub fn for_each_name(&self, mut each: impl FnMut(&str)) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                each(name);
            }
        }
        Ok(())
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
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&self.fd)?;
        Ok(cfg!(target_os = "linux"))
    }

    /// Changes the permissions of a file or directory of this directory, which is not a link.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        // Linux changes no link's own mode, and would follow it. Only who may write to this
        // directory could put one there between the look and the change.
        if FileType::from_raw_mode(self.stat(name)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::chmodat(&self.fd, name, mode, AtFlags::empty())?)
    }

    /// Changes the permissions of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode))?)
    }

    /// Renames within this directory, over whatever has the new name.
    ///
    /// # Errors
    /// As the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Renames within this directory, unless something has the new name.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        // A second name, and then the end of the first: nobody's file is lost on the way.
        match rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            Ok(()) => self.remove_file(from),
            // Some file systems have no second names.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS) => {
                match self.stat(to) {
                    Ok(_) => Err(Errno::EXIST.into()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => self.rename(from, to),
                    Err(e) => Err(e),
                }
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Removes a file of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes an empty directory of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes the directory's entries survive a loss of power.
    ///
    /// # Errors
    /// As the system says. A failed sync is not to be tried again: the pages count as clean now.
    pub fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&self.fd))?)
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

/// Who else has to do with a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whether other users may read it.
    pub is_shown: bool,
    /// Whether other users may have written it.
    pub is_foreign: bool,
}

/// Opens a regular file the user keeps, by its path, and tells who else has to do with it. Where
/// the last part of the path is a link of the user's own, it is followed: people keep such files
/// elsewhere. Costs one system call where there is nothing.
///
/// # Errors
/// As the system says; ELOOP for another user's link, and [`not_a_file`] for whatever else is no
/// regular file.
pub(in crate::store) fn open_own(path: &Path) -> io::Result<(File, Trust)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
    let me = rustix::process::geteuid().as_raw();
    let (file, is_link): (File, bool) = match open(flags | OFlags::NOFOLLOW) {
        Err(Errno::LOOP) if rustix::fs::lstat(path)?.st_uid == me => (open(flags)?.into(), true),
        opened => (opened?.into(), false),
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_a_file());
    }
    // Who may not enter the directory cannot reach the file, whatever its own mode says.
    // Of where a link leads to that is not known.
    let entering = match path.parent() {
        Some(dir) if !is_link => (rustix::fs::stat(dir)?.st_mode & 0o011) * 0o7,
        _ => 0o077,
    };
    let others = stat.st_mode & entering;
    let trust = Trust {
        is_shown: others & 0o044 != 0,
        is_foreign: others & 0o022 != 0 || ![me, 0].contains(&stat.st_uid),
    };
    Ok((file, trust))
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
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        let hint = "run as the user it belongs to, or name another store with OLLAMA_PROMPT_HOME";
        return refuse("it belongs to another user", hint.to_owned());
    }
    if stat.st_mode & 0o022 != 0 {
        let hint = format!("chmod go-w '{}'", dir.path().display());
        return refuse("others may write to it", hint);
    }
    Ok(())
}

/// The error of something that is there under a file's name and is no regular file.
#[must_use]
pub(super) fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Tells what file a descriptor is open on: device and inode.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
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
    match Errno::from_io_error(cause) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Code::StoreFull,
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Code::StoreReadonly,
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO) => Code::StoreUnsupported,
        _ => Code::StoreIo,
    }
}
