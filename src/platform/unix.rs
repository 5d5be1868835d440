//! Unix: what POSIX has, and what Linux has besides where that is better.

mod waiting;

pub use waiting::*;

use std::ffi::CStr;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
pub use std::os::unix::fs::FileExt as ReadAt;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use cap_std::fs::OpenOptionsExt as _;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps, UTIME_NOW};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::{Access, DIRECTORY_MODE, FILE_MODE, FileKind, Refused, Stat, Trust, not_a_file};

impl From<rustix::fs::Stat> for Stat {
    fn from(stat: rustix::fs::Stat) -> Self {
        let nanoseconds = |ns| u32::try_from(ns).unwrap_or(0);
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => FileKind::File,
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Link,
                FileType::Fifo => FileKind::Pipe,
                FileType::Socket => FileKind::Socket,
                FileType::CharacterDevice | FileType::BlockDevice => FileKind::Device,
                FileType::Unknown => FileKind::Unknown,
            },
            mode: stat.st_mode & 0o777,
            owner: stat.st_uid,
            identity: (stat.st_dev, stat.st_ino),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }
}

/// Returns what is known of a file that is open.
///
/// # Errors
/// As the system says.
pub fn stat(file: &File) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(file)?.into())
}

/// Returns the user this process acts for.
#[must_use]
pub fn user() -> u32 {
    geteuid().as_raw()
}

/// Returns the name of this machine.
#[must_use]
pub fn machine() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// An open directory. What is in it is reached from its descriptor, so that nothing on the way can
/// be put in another's place.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens the directory at `path`, following links.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self(fd))
    }

    /// Opens a directory in this one, which is not a link.
    ///
    /// # Errors
    /// As the system says: ENOTDIR or ELOOP for a link.
    pub fn open_dir(&self, name: &str) -> io::Result<Self> {
        self.open_dir_with(name, OFlags::NOFOLLOW)
    }

    /// Opens a directory in this one, or what a link of the user's own leads to.
    ///
    /// # Errors
    /// As [`Directory::open_dir`].
    pub fn open_dir_or_own_link(&self, name: &str) -> io::Result<Self> {
        match self.open_dir(name) {
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOTDIR | Errno::LOOP)) => {
                if self.stat(name)?.owner == user() {
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
        let fd = retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty()))?;
        Ok(Self(fd))
    }

    /// Makes a directory in this one, for the user alone.
    ///
    /// # Errors
    /// As the system says.
    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        let mode = Mode::from_raw_mode(DIRECTORY_MODE);
        Ok(rustix::fs::mkdirat(&self.0, name, mode)?)
    }

    /// Opens a regular file in this directory, which is not a link. A pipe cannot make it hang.
    ///
    /// # Errors
    /// As the system says: ELOOP for a link, [`not_a_file`] for whatever else is no regular file.
    pub fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        let flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Append => OFlags::RDWR | OFlags::APPEND,
            Access::Lock => OFlags::RDWR | OFlags::CREATE,
        };
        let file = self.open_at(name, flags | OFlags::NONBLOCK)?;
        if stat(&file)?.kind != FileKind::File {
            return Err(not_a_file());
        }
        Ok(file)
    }

    /// Makes a file in this directory, for the user alone, open for reading and writing at its end.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND;
        self.open_at(name, flags)
    }

    fn open_at(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        Ok(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, mode))?.into())
    }

    /// Returns what stands under a name, without following a link.
    ///
    /// # Errors
    /// As the system says.
    pub fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
    }

    /// Returns what is known of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?.into())
    }

    /// Calls `each` with every name in the directory that is UTF-8, in the order of the file system.
    ///
    /// # Errors
    /// As the system says.
    pub fn for_each_name(&self, mut each: impl FnMut(&str)) -> io::Result<()> {
        let own = |name: &CStr| name == c"." || name == c"..";
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && !own(entry.file_name())
            {
                each(name);
            }
        }
        Ok(())
    }

    /// Syncs everything on the file system this directory is on. Returns whether the system can.
    ///
    /// # Errors
    /// As the system says.
    pub fn sync_file_system(&self) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&self.0)?;
        Ok(cfg!(target_os = "linux"))
    }

    /// Changes the permissions of what has this name, which is not a link.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        // Linux changes no link's own mode, and would follow it. Only who may write to this
        // directory could put one there between the look and the change.
        if self.stat(name)?.kind == FileKind::Link {
            return Err(Errno::LOOP.into());
        }
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::chmodat(&self.0, name, mode, AtFlags::empty())?)
    }

    /// Changes the permissions of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode))?)
    }

    /// Renames within this directory, over whatever has the new name.
    ///
    /// # Errors
    /// As the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Renames within this directory, unless something has the new name.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        // A second name, and then the end of the first: nobody's file is lost on the way.
        match rustix::fs::linkat(&self.0, from, &self.0, to, AtFlags::empty()) {
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
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Removes an empty directory of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes the directory's entries survive a loss of power.
    ///
    /// # Errors
    /// As the system says.
    pub fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&self.0))?)
    }
}

/// Makes a directory at a path, for the user alone.
///
/// # Errors
/// As the system says; `AlreadyExists` where there is something of that name.
pub fn make_own_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)
}

/// Opens a regular file the user keeps, by its path, and tells who else has to do with it. Where
/// the last part of the path is a link of the user's own, it is followed: people keep such files
/// elsewhere. Costs one system call where there is nothing.
///
/// # Errors
/// As the system says; ELOOP for another user's link, and [`not_a_file`] for whatever else is no
/// regular file.
pub fn open_own(path: &Path) -> io::Result<(File, Trust)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
    let me = user();
    let (file, is_link): (File, bool) = match open(flags | OFlags::NOFOLLOW) {
        Err(Errno::LOOP) if rustix::fs::lstat(path)?.st_uid == me => (open(flags)?.into(), true),
        opened => (opened?.into(), false),
    };
    let found = stat(&file)?;
    if found.kind != FileKind::File {
        return Err(not_a_file());
    }
    // Who may not enter the directory cannot reach the file, whatever its own mode says.
    // Of where a link leads to that is not known.
    let entering = match path.parent() {
        Some(dir) if !is_link => (rustix::fs::stat(dir)?.st_mode & 0o011) * 0o7,
        _ => 0o077,
    };
    let others = found.mode & entering;
    let trust = Trust {
        is_shown: others & 0o044 != 0,
        is_foreign: others & 0o022 != 0 || ![me, 0].contains(&found.owner),
    };
    Ok((file, trust))
}

/// Opens a file for reading. A pipe or a device cannot make it wait.
///
/// # Errors
/// As the system says.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(no_wait());
    options.open(path)
}

/// Has a file opened beneath a directory without waiting.
pub fn without_waiting(options: &mut cap_std::fs::OpenOptions) {
    options.custom_flags(no_wait());
}

fn no_wait() -> i32 {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    i32::try_from(flags.bits()).expect("flags of open are a C int")
}

/// Tells whether the kernel makes the file up as it is read: `/proc`, where reading one's own
/// environment or memory is reading a file, and `/sys`.
///
/// # Errors
/// As the system says.
#[cfg(target_os = "linux")]
pub fn is_made_up(file: &cap_std::fs::File) -> io::Result<bool> {
    use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};
    /// The file system of `/sys` (linux/magic.h).
    const SYSFS_MAGIC: u64 = 0x6265_6572;

    let kind = fstatfs(file)?.f_type;
    Ok(kind == PROC_SUPER_MAGIC || u64::try_from(kind) == Ok(SYSFS_MAGIC))
}

/// Tells whether the kernel makes the file up as it is read: there is none such here.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn is_made_up(_file: &cap_std::fs::File) -> io::Result<bool> {
    Ok(false)
}

/// Has a file look as if it was written just now.
///
/// # Errors
/// As the system says.
pub fn touch(file: &File) -> io::Result<()> {
    let now = rustix::fs::Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW as _,
    };
    let now = Timestamps {
        last_access: now,
        last_modification: now,
    };
    Ok(rustix::fs::futimens(file, &now)?)
}

/// Tells why the system refuses something.
#[must_use]
pub fn why(error: &io::Error) -> Refused {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Refused::Full,
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Refused::Forbidden,
        Some(Errno::LOOP) => Refused::Link,
        Some(Errno::NOTDIR | Errno::ISDIR) => Refused::Kind,
        Some(Errno::NXIO) => Refused::Socket,
        // Some network and container mounts answer every lock with one of these.
        Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL) => Refused::NoLocks,
        _ => Refused::Other,
    }
}

/// Has a connection live however long the other side acknowledges nothing of what was sent: who
/// waits decides how long that is.
pub fn without_acknowledgement_timeout(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(None);
    builder
}

/// Returns how wide the terminal is that standard output is; `None` where it is none.
#[must_use]
pub fn columns_of_stdout() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}
