//! Making a store, and telling what is none.

use std::io::{self, Read, Write};
use std::path::Path;

use super::dir::{Access, Dir, Doing, check_owner};
use super::layout::{GITATTRIBUTES, GITIGNORE, SESSIONS};
use crate::error::Result;
use crate::platform::make_own_dir;

/// Tells whether a regular file is an SQLite database, by the 16 bytes all of them begin with
/// (<https://sqlite.org/fileformat.html>, section 1.3). A pipe is not waited for.
pub(super) fn is_database(path: &Path) -> bool {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let file = Dir::open(parent.unwrap_or(Path::new(".")))
        .and_then(|dir| dir.open_file(name, Access::Read));
    let mut start = [0; 16];
    let read = file.and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"SQLite format 3\0"
}

/// Opens a directory, making it when missing.
///
/// # Errors
/// As the system says.
pub(in crate::store) fn open_or_make_dir(root: &Dir, name: &str) -> Result<Dir> {
    match root.open_dir(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_dir(root, name)?;
            root.open_dir(name).doing("open", root.path_of(name))
        }
        opened => opened.doing("open", root.path_of(name)),
    }
}

fn make_dir(parent: &Dir, name: &str) -> Result<()> {
    match parent.make_dir(name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.doing("make", parent.path_of(name)),
    }
}

/// Makes an empty store, its parents with the user's usual permissions.
pub(super) fn make_root(path: &Path) -> Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).doing("make", parent)?;
    let parent = Dir::open(parent).doing("open", parent)?;
    match make_own_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.doing("make", path)?,
    }
    let root = Dir::open(path).doing("open the store", path)?;
    check_owner(&root)?;
    // `sessions` last: a store that has it is whole.
    make_text(&root, ".gitignore", GITIGNORE)?;
    make_text(&root, ".gitattributes", GITATTRIBUTES)?;
    make_dir(&root, SESSIONS)?;
    let sessions = root
        .open_dir_or_own_link(SESSIONS)
        .doing("open the store", root.path_of(SESSIONS))?;
    make_text(&sessions, ".gitattributes", GITATTRIBUTES)?;
    for dir in [&sessions, &root, &parent] {
        dir.sync().doing("sync", dir.path())?;
    }
    Ok(())
}

/// Makes a small file, unless there is one.
fn make_text(dir: &Dir, name: &str, text: &str) -> Result<()> {
    match dir.create_file(name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                // A name without its text would stay so: git would merge without it.
                file.sync_data()
            })
            .doing("make", dir.path_of(name)),
    }
}
