//! Files and directories that are there whole or not at all: made under a name nobody reads, and
//! renamed.
//!
//! What a killed process leaves of one is no part of the data; [`super::sweep`] removes it.

use std::fs::File;
use std::io;

use super::dir::{Dir, Doing};
use super::layout::TEMPORARY;
use crate::clock;
use crate::error::Result;
use crate::session::id::EventId;

/// Returns an id for a name nobody else has.
pub(in crate::store) fn fresh_id() -> EventId {
    EventId::next(clock::now().as_ms(), None, clock::random_bits())
}

/// Returns a name for what is not whole yet.
#[must_use]
pub fn temporary_name() -> String {
    temporary_name_of(fresh_id())
}

/// Returns the name that has this id, which nobody else has.
pub(super) fn temporary_name_of(id: EventId) -> String {
    format!("{TEMPORARY}{id}")
}

/// Makes a file what `fill` writes, in the place of whatever has its name.
///
/// # Errors
/// As the system says; then it is as it was.
pub(in crate::store) fn put<T>(
    dir: &Dir,
    name: &str,
    fill: impl FnOnce(File) -> io::Result<T>,
) -> io::Result<T> {
    put_as(fresh_id(), dir, name, fill)
}

/// The same, by an id that nobody else has.
///
/// # Errors
/// As [`put`].
pub(super) fn put_as<T>(
    id: EventId,
    dir: &Dir,
    name: &str,
    fill: impl FnOnce(File) -> io::Result<T>,
) -> io::Result<T> {
    let temporary = temporary_name_of(id);
    make(dir, &temporary, || dir.rename(&temporary, name), fill)
}

/// Makes a file what `fill` writes, where nothing has its name.
///
/// # Errors
/// `AlreadyExists`; otherwise as the system says.
pub(in crate::store) fn put_new<T>(
    dir: &Dir,
    name: &str,
    fill: impl FnOnce(File) -> io::Result<T>,
) -> io::Result<T> {
    let temporary = temporary_name();
    make(dir, &temporary, || dir.rename_new(&temporary, name), fill)
}

fn make<T>(
    dir: &Dir,
    temporary: &str,
    rename: impl FnOnce() -> io::Result<()>,
    fill: impl FnOnce(File) -> io::Result<T>,
) -> io::Result<T> {
    let file = dir.create_file(temporary)?;
    let filled = fill(file).and_then(|filled| rename().map(|()| filled));
    filled.inspect_err(|_| drop(dir.remove_file(temporary)))
}

/// Makes a directory with what `fill` puts into it.
///
/// # Errors
/// What `fill` fails with; otherwise as the system says. There is nothing then.
pub(super) fn put_dir<T>(
    parent: &Dir,
    name: &str,
    fill: impl FnOnce(&Dir) -> Result<T>,
) -> Result<T> {
    let temporary = temporary_name();
    let path = parent.path_of(&temporary);
    parent.make_dir(&temporary).doing("make", &path)?;
    let make = || {
        let filled = fill(&parent.open_dir(&temporary).doing("open", &path)?)?;
        parent
            .rename(&temporary, name)
            .doing("make", parent.path_of(name))?;
        Ok(filled)
    };
    make().inspect_err(|_| {
        let _ = std::fs::remove_dir_all(&path);
    })
}
