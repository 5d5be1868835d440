//! Windows: what the standard library can do there. It compiles, and nothing of it was ever run.
//!
//! What it promises less than `unix`:
//!
//! * A [`Directory`] is a path, so what is in it is reached by a path of several parts: a link that
//!   is planted on the way is followed. Names that are links themselves are refused, by a look
//!   before the open.
//! * Permissions are access control lists, which the standard library cannot read or set: what is
//!   made has those of the directory it is made in, which in a user's profile are the user's. Every
//!   file counts as the user's own, and permissions are what they should be.
//! * A directory cannot be synced, nor a whole file system.
//! * Of signals there are SIGINT (Ctrl-C) and SIGTERM, which nothing but the process itself
//!   raises. Waits look for them every so often.
//! * A standard output that nobody reads any more is noticed at the next write.

use std::fs::{File, FileTimes, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{
    Access, DIRECTORY_MODE, FILE_MODE, FileKind, Refused, Signal, Stat, Trust, not_a_file,
};

/// How long a signal may go unheard.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Reading and writing where one likes.
pub trait ReadAt {
    /// Reads some bytes from an offset on. The position of the file moves.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes from an offset on. The position of the file moves.
    ///
    /// # Errors
    /// As the system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// As the system says.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads as many bytes as there is room for.
    ///
    /// # Errors
    /// `UnexpectedEof` where there are fewer; as the system says.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.seek_read(buffer, offset) {
            // Beyond its end there is nothing to read.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.seek_write(bytes, offset)
    }
}

/// What tells files apart is when they were made and nothing better: the number a file has is not
/// in the standard library yet.
fn of(metadata: &std::fs::Metadata) -> Stat {
    let kind = match metadata.file_type() {
        kind if kind.is_symlink() => FileKind::Link,
        kind if kind.is_dir() => FileKind::Directory,
        kind if kind.is_file() => FileKind::File,
        _ => FileKind::Unknown,
    };
    let since = |time: io::Result<SystemTime>| {
        let since = time
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        since.map_or((0, 0), |since| {
            (
                i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                since.subsec_nanos(),
            )
        })
    };
    let modified = since(metadata.modified());
    Stat {
        kind,
        mode: match kind {
            FileKind::Directory => DIRECTORY_MODE,
            _ => FILE_MODE,
        },
        owner: user(),
        identity: (0, metadata.creation_time()),
        size: metadata.len(),
        modified,
        changed: modified,
    }
}

/// Returns what is known of a file that is open.
///
/// # Errors
/// As the system says.
pub fn stat(file: &File) -> io::Result<Stat> {
    Ok(of(&file.metadata()?))
}

/// Returns the user this process acts for: the one there is.
#[must_use]
pub fn user() -> u32 {
    0
}

/// Returns the name of this machine; an empty one where nothing says it.
#[must_use]
pub fn machine() -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "it is what the system says, and no setting"
    )]
    let name = std::env::var_os("COMPUTERNAME");
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// A directory, by its path.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Takes the directory at `path`, following links.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::metadata(path)?.is_dir() {
            true => Ok(Self(path.to_owned())),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Takes a directory in this one, which is not a link.
    ///
    /// # Errors
    /// As the system says.
    pub fn open_dir(&self, name: &str) -> io::Result<Self> {
        match self.stat(name)?.kind {
            FileKind::Directory => Ok(Self(self.0.join(name))),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Takes a directory in this one, or what a link leads to: making one takes a privilege.
    ///
    /// # Errors
    /// As the system says.
    pub fn open_dir_or_own_link(&self, name: &str) -> io::Result<Self> {
        Self::open(&self.0.join(name))
    }

    /// Makes a directory in this one.
    ///
    /// # Errors
    /// As the system says.
    pub fn make_dir(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir(self.0.join(name))
    }

    /// Opens a regular file in this directory, which is not a link.
    ///
    /// # Errors
    /// As the system says; [`not_a_file`] for whatever is no regular file.
    pub fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        match (self.stat(name), access) {
            (Ok(found), _) if found.kind != FileKind::File => return Err(not_a_file()),
            (Err(e), Access::Lock) if e.kind() == io::ErrorKind::NotFound => {}
            (found, _) => drop(found?),
        }
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Append => options.read(true).append(true),
            Access::Lock => options.read(true).write(true).create(true).truncate(false),
        };
        options.open(self.0.join(name))
    }

    /// Makes a file in this directory, open for reading and writing at its end.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn create_file(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        options.open(self.0.join(name))
    }

    /// Returns what stands under a name, without following a link.
    ///
    /// # Errors
    /// As the system says.
    pub fn stat(&self, name: &str) -> io::Result<Stat> {
        Ok(of(&std::fs::symlink_metadata(self.0.join(name))?))
    }

    /// Returns what is known of the directory itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(of(&std::fs::metadata(&self.0)?))
    }

    /// Calls `each` with every name in the directory that is Unicode.
    ///
    /// # Errors
    /// As the system says.
    pub fn for_each_name(&self, mut each: impl FnMut(&str)) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.0)? {
            if let Some(name) = entry?.file_name().to_str() {
                each(name);
            }
        }
        Ok(())
    }

    /// Does nothing: there is no such call.
    ///
    /// # Errors
    /// None.
    pub fn sync_file_system(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Does nothing: permissions are no modes.
    ///
    /// # Errors
    /// As the system says, where there is nothing of that name.
    pub fn set_mode(&self, name: &str, _mode: u32) -> io::Result<()> {
        self.stat(name).map(drop)
    }

    /// Does nothing: permissions are no modes.
    ///
    /// # Errors
    /// None.
    pub fn set_own_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    /// Renames within this directory, over whatever has the new name.
    ///
    /// # Errors
    /// As the system says.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    /// Renames within this directory, unless something has the new name.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` where there is something of that name.
    pub fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.0.join(from), self.0.join(to))?;
        self.remove_file(from)
    }

    /// Removes a file of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    /// Removes an empty directory of this directory.
    ///
    /// # Errors
    /// As the system says.
    pub fn remove_dir(&self, name: &str) -> io::Result<()> {
        std::fs::remove_dir(self.0.join(name))
    }

    /// Does nothing: a directory cannot be synced. What was renamed may be lost with the power.
    ///
    /// # Errors
    /// None.
    pub fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a directory at a path.
///
/// # Errors
/// As the system says; `AlreadyExists` where there is something of that name.
pub fn make_own_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Opens a regular file the user keeps, by its path. Nobody else is taken to have to do with it.
///
/// # Errors
/// As the system says; [`not_a_file`] for whatever is no regular file.
pub fn open_own(path: &Path) -> io::Result<(File, Trust)> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(not_a_file());
    }
    Ok((file, Trust::default()))
}

/// Opens a file for reading. A named pipe makes it wait.
///
/// # Errors
/// As the system says.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    // What a directory takes to be opened at all: what it is is judged by its descriptor.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    options.open(path)
}

/// Changes nothing: there are no pipes in a directory.
pub fn without_waiting(_options: &mut cap_std::fs::OpenOptions) {}

/// Tells whether the kernel makes the file up as it is read: there is none such here.
///
/// # Errors
/// None.
pub fn is_made_up(_file: &cap_std::fs::File) -> io::Result<bool> {
    Ok(false)
}

/// Has a file look as if it was written just now.
///
/// # Errors
/// As the system says.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the file system is not to be had"
)]
pub fn touch(file: &File) -> io::Result<()> {
    file.set_times(FileTimes::new().set_modified(SystemTime::now()))
}

/// Tells why the system refuses something.
#[must_use]
pub fn why(error: &io::Error) -> Refused {
    match error.kind() {
        _ if error.raw_os_error().is_none() => Refused::Other,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Refused::Full
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Refused::Forbidden,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Refused::Kind,
        io::ErrorKind::Unsupported => Refused::NoLocks,
        _ => Refused::Other,
    }
}

/// Changes nothing: reqwest sets no such timeout here.
pub fn without_acknowledgement_timeout(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder
}

/// Returns how wide the terminal is: what is not known is nothing to go by.
#[must_use]
pub fn columns_of_stdout() -> Option<u16> {
    None
}

/// Waits. Whether somebody still reads is found out by the next write.
#[must_use]
pub fn is_stdout_closed_after(pause: Duration) -> bool {
    thread::sleep(pause);
    false
}

/// Does nothing: files have no limit of size here.
pub fn outlive_size_limit() {}

impl Signal {
    fn number(self) -> Option<i32> {
        match self {
            Self::Hangup => None,
            Self::Interrupt => Some(SIGINT),
            Self::Terminate => Some(SIGTERM),
        }
    }

    /// Sets a flag whenever it comes, after all that was asked for before.
    ///
    /// # Errors
    /// As the system says.
    pub fn sets(self, came: &Arc<AtomicBool>) -> io::Result<()> {
        let Some(number) = self.number() else {
            return Ok(());
        };
        flag::register(number, Arc::clone(came)).map(drop)
    }

    /// Ends the process with this status when it comes and the switch is on.
    ///
    /// # Errors
    /// As the system says.
    pub fn ends_if(self, switch: &Arc<AtomicBool>, status: u8) -> io::Result<()> {
        let Some(number) = self.number() else {
            return Ok(());
        };
        let switch = Arc::clone(switch);
        flag::register_conditional_shutdown(number, status.into(), switch).map(drop)
    }

    /// Does what it always does when it comes and the switch is on.
    ///
    /// # Errors
    /// As the system says.
    pub fn does_as_ever_if(self, switch: &Arc<AtomicBool>) -> io::Result<()> {
        let Some(number) = self.number() else {
            return Ok(());
        };
        flag::register_conditional_default(number, Arc::clone(switch)).map(drop)
    }
}

/// Returns a test whether a signal never comes.
pub(super) fn ignored() -> impl Fn(Signal) -> bool {
    |signal| signal.number().is_none()
}

/// Waits on a thread of its own for signals.
#[derive(Debug)]
pub struct Sentry(Arc<AtomicBool>);

impl Sentry {
    /// Listens from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn of(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let came = Arc::default();
        for signal in signals {
            signal.sets(&came)?;
        }
        Ok(Self(came))
    }

    /// Waits for the next one; false when there will be none.
    pub fn wait(&mut self) -> bool {
        while !self.0.swap(false, Ordering::SeqCst) {
            thread::sleep(BETWEEN_LOOKS);
        }
        true
    }
}

/// Wakes who waits in a runtime, every so often: who is woken looks whether a signal has come.
#[derive(Debug)]
pub struct Arrival(tokio::time::Interval);

impl Arrival {
    /// Listens from now on. To be called within a runtime that has a clock.
    ///
    /// # Errors
    /// None.
    pub fn of(_signal: Signal) -> io::Result<Self> {
        Ok(Self(tokio::time::interval(BETWEEN_LOOKS)))
    }

    /// Has the task woken.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        while self.0.poll_tick(context).is_ready() {}
    }
}

/// Hears one signal, for a wait that is also for a moment.
#[derive(Debug)]
pub struct Ear(Arc<AtomicBool>);

impl Ear {
    /// Listens from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn for_signal(signal: Signal) -> io::Result<Self> {
        let came = Arc::default();
        signal.sets(&came)?;
        Ok(Self(came))
    }

    /// Tells whether it has come.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Forgets that it has come, so that the next one is a new one.
    pub fn forget(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// A moment that is waited for, by a clock that stands still while the machine is suspended.
#[derive(Debug)]
pub struct Timer(Instant);

impl Timer {
    /// Sets it.
    ///
    /// # Errors
    /// None.
    pub fn set(time: Duration) -> io::Result<Self> {
        Ok(Self(Instant::now() + time))
    }

    /// Tells whether the moment has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.0
    }

    /// Waits for it, or for what an ear hears.
    ///
    /// # Errors
    /// None.
    pub fn wait_with(&self, ears: &[&Ear]) -> io::Result<()> {
        while !self.is_due() && !ears.iter().any(|ear| ear.has_heard()) {
            let left = self.0.saturating_duration_since(Instant::now());
            thread::sleep(left.min(BETWEEN_LOOKS));
        }
        Ok(())
    }
}
