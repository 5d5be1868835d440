//! The directory that references resolve under: whatever is opened here lies beneath it.
//!
//! Paths are resolved by the kernel (`openat2`, `RESOLVE_BENEATH`) or, where it cannot, step by
//! step through descriptors, from a descriptor of the root: a `..`, an absolute link or a directory
//! that becomes a link meanwhile leads nowhere. The last part of a path is never a link. What was
//! opened is judged by its descriptor and not by its name, and opening cannot wait.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileType, OpenOptions};

use super::refusal::Refusal;
use crate::platform::{Refused, is_made_up, why, without_waiting};

/// The root.
#[derive(Debug)]
pub(super) struct Workspace {
    root: Dir,
    /// The ways in which an absolute path to the root begins.
    absolute: Vec<PathBuf>,
}

/// What a path led to.
#[derive(Debug)]
pub(super) enum Opened {
    /// A regular file and its size in bytes.
    File(File, u64),
    /// A directory.
    Directory(Dir),
}

impl Workspace {
    /// Opens the root.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(root, ambient_authority())?;
        let absolute = [std::path::absolute(root), root.canonicalize()];
        Ok(Self {
            root: dir,
            absolute: absolute.into_iter().flatten().collect(),
        })
    }

    /// Tells whether there is something of this name beneath the root, be it readable or not.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.beneath(path)
            .is_ok_and(|path| self.root.symlink_metadata(path).is_ok())
    }

    /// Opens a file or directory.
    ///
    /// # Errors
    /// Why it is not read.
    pub(super) fn open_any(&self, path: &Path) -> Result<Opened, Refusal> {
        open_in(&self.root, &self.beneath(path)?)
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// Why it is not read.
    pub(super) fn open_dir(&self, path: &Path) -> Result<Dir, Refusal> {
        match self.open_any(path)? {
            Opened::Directory(dir) => Ok(dir),
            Opened::File(..) => Err(Refusal::NotADirectory),
        }
    }

    /// Returns the path from the root on. What leads outside in the end is found out when it is
    /// opened; this refuses absolute paths that begin outside.
    pub(super) fn beneath(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let path = if path.is_absolute() {
            let mut roots = self.absolute.iter();
            roots
                .find_map(|root| path.strip_prefix(root).ok())
                .ok_or(Refusal::Outside)?
        } else {
            path
        };
        // Without the slash at its end, which would have a link followed.
        let path: PathBuf = path.components().collect();
        Ok(if path.as_os_str().is_empty() {
            Component::CurDir.as_os_str().into()
        } else {
            path
        })
    }
}

/// Opens something beneath a directory.
///
/// # Errors
/// Why it is not read.
pub(super) fn open_in(dir: &Dir, path: &Path) -> Result<Opened, Refusal> {
    // A look first, because opening a pipe would be noticed at its other end.
    let is_special = |kind: FileType| !kind.is_file() && !kind.is_dir();
    let kind = dir.symlink_metadata(path).map_err(Refusal::of)?.file_type();
    if kind.is_symlink() {
        return Err(Refusal::Link);
    }
    if is_special(kind) {
        return Err(Refusal::NotAFile);
    }
    let mut options = OpenOptions::new();
    options.read(true).follow(FollowSymlinks::No);
    without_waiting(&mut options);
    let file = dir.open_with(path, &options).map_err(Refusal::of)?;
    let metadata = file.metadata().map_err(Refusal::of)?;
    if is_special(metadata.file_type()) || is_made_up(&file).map_err(Refusal::of)? {
        return Err(Refusal::NotAFile);
    }
    Ok(if metadata.is_dir() {
        Opened::Directory(Dir::from_std_file(file.into_std()))
    } else {
        Opened::File(file.into_std(), metadata.len())
    })
}

impl Refusal {
    /// Makes a refusal of the system's error, without any path that may be in it.
    pub(super) fn of(error: io::Error) -> Self {
        match (why(&error), error.kind()) {
            // cap-std's own way to say that a path leads out.
            (_, io::ErrorKind::PermissionDenied) if error.raw_os_error().is_none() => Self::Outside,
            (Refused::Link, _) => Self::Link,
            (Refused::Socket, _) => Self::NotAFile,
            (_, io::ErrorKind::NotFound) => Self::Missing,
            (_, io::ErrorKind::PermissionDenied) => Self::Forbidden,
            (_, io::ErrorKind::NotADirectory) => Self::NotADirectory,
            _ => Self::Io(error.to_string()),
        }
    }
}
