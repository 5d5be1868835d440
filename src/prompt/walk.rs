//! The names in a directory and below it.
//!
//! Every step is through the descriptor of the directory above, so that a directory that becomes
//! a link during the walk is not followed: no name outside the root is ever seen. A walker that
//! goes by paths (walkdir, or that of the `ignore` crate) cannot promise this.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use super::ignored::{Ignored, virtual_path};
use super::refusal::Refusal;
use super::workspace::{Opened, Workspace, open_in};

/// The most entries that are looked at for one reference.
pub(super) const MOST_ENTRIES: usize = 100_000;

/// What an entry is, without following a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A pipe, a device, a socket.
    Special,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: OsString,
    /// What it is.
    pub(super) kind: Kind,
}

/// An entry a walk has come to.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// The directory it is in.
    pub(super) dir: &'a Dir,
    /// Its name.
    pub(super) name: &'a OsStr,
    /// What it is.
    pub(super) kind: Kind,
    /// Its path, from where the walk began.
    pub(super) path: &'a Path,
    /// How many directories it is below where the walk began.
    pub(super) depth: usize,
}

/// Returns the entries of a directory by name, at most `most` of them, and whether these are all.
///
/// # Errors
/// As the system says.
pub(super) fn entries(dir: &Dir, most: usize) -> io::Result<(Vec<Entry>, bool)> {
    let mut found = Vec::new();
    for entry in dir.entries()? {
        let entry = entry?;
        if found.len() == most {
            found.sort_unstable();
            return Ok((found, false));
        }
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_file() => Kind::File,
            Ok(kind) if kind.is_dir() => Kind::Directory,
            Ok(kind) if kind.is_symlink() => Kind::Link,
            Ok(_) => Kind::Special,
            // It is gone.
            Err(_) => continue,
        };
        let name = entry.file_name();
        found.push(Entry { name, kind });
    }
    found.sort_unstable();
    Ok((found, true))
}

/// A walk under way.
pub(super) struct Walk<'a> {
    ignored: Ignored,
    /// Levels that are entered, the first directory not counted.
    deepest: usize,
    entries_left: usize,
    is_whole: bool,
    visit: &'a mut dyn FnMut(&Found<'_>) -> ControlFlow<()>,
}

impl<'a> Walk<'a> {
    /// Walks a directory: each entry that is not ignored, by name, a directory before what is in
    /// it. Directories that cannot be read are passed over. Returns whether it came to all there
    /// are, or was told to stop.
    ///
    /// # Errors
    /// Why the first directory is not read.
    pub(super) fn of(
        workspace: &Workspace,
        path: &Path,
        deepest: usize,
        visit: &'a mut dyn FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> Result<bool, Refusal> {
        let dir = workspace.open_dir(path)?;
        let start = virtual_path(&workspace.beneath(path)?);
        let mut walk = Self {
            ignored: Ignored::above(workspace, &start),
            deepest,
            entries_left: MOST_ENTRIES,
            is_whole: true,
            visit,
        };
        // Unlike those below it, the first must be readable.
        entries(&dir, 0).map_err(Refusal::of)?;
        let _ = walk.directory(&dir, &start, &PathBuf::new(), 0);
        Ok(walk.is_whole)
    }

    fn directory(&mut self, dir: &Dir, place: &Path, path: &Path, depth: usize) -> ControlFlow<()> {
        let Ok((found, is_all)) = entries(dir, self.entries_left) else {
            return ControlFlow::Continue(());
        };
        self.entries_left -= found.len();
        self.is_whole &= is_all;
        self.ignored.enter(dir, place);
        let flow = found
            .iter()
            .try_for_each(|entry| self.entry(dir, place, path, depth, entry));
        self.ignored.leave();
        flow
    }

    fn entry(
        &mut self,
        dir: &Dir,
        place: &Path,
        path: &Path,
        depth: usize,
        entry: &Entry,
    ) -> ControlFlow<()> {
        let Entry { name, kind } = entry;
        let place = place.join(name);
        if self.ignored.hides(&place, *kind == Kind::Directory) {
            return ControlFlow::Continue(());
        }
        let path = path.join(name);
        (self.visit)(&Found {
            dir,
            name,
            kind: *kind,
            path: &path,
            depth,
        })?;
        if *kind != Kind::Directory || depth == self.deepest {
            return ControlFlow::Continue(());
        }
        match open_in(dir, Path::new(name)) {
            Ok(Opened::Directory(below)) => self.directory(&below, &place, &path, depth + 1),
            _ => ControlFlow::Continue(()),
        }
    }
}
