//! Sweeping: what killed processes left under temporary names.
//!
//! Such names are no part of the data, and removing them can fail without harm: the next sweep
//! meets them again.

use std::io;

use super::dir::Dir;
use super::layout::{TEMPORARY, TRASH};
use crate::platform::FileKind;
use crate::session::event::Timestamp;

/// A temporary name that was not written to for so long belongs to nobody any more.
const ABANDONED_AFTER_MS: u64 = 60 * 60 * 1000;

/// Removes the temporary files of a directory that are over an hour old.
pub(in crate::store) fn sweep_temporary(dir: &Dir, now: Timestamp) {
    sweep(dir, |name| {
        name.starts_with(TEMPORARY) && is_abandoned(dir, name, now)
    });
}

/// Removes what was purged and is still there. Nobody has a use for it, whatever its age.
pub(super) fn sweep_trash(sessions: &Dir) {
    sweep(sessions, |name| name.starts_with(TRASH));
}

fn sweep(dir: &Dir, goes: impl Fn(&str) -> bool) {
    let mut names = Vec::new();
    let listed = dir.for_each_name(|name| names.extend(goes(name).then(|| name.to_owned())));
    if listed.is_ok() {
        names.iter().for_each(|name| drop(remove(dir, name)));
    }
}

/// Tells whether nobody wrote to something for an hour.
pub(super) fn is_abandoned(dir: &Dir, name: &str, now: Timestamp) -> bool {
    let Ok(stat) = dir.stat(name) else {
        return false;
    };
    let modified_ms = u64::try_from(stat.modified.0)
        .unwrap_or(0)
        .saturating_mul(1000);
    modified_ms.saturating_add(ABANDONED_AFTER_MS) < now.as_ms()
}

/// Removes a file, or a directory with everything in it.
fn remove(dir: &Dir, name: &str) -> io::Result<()> {
    if dir.stat(name)?.kind == FileKind::Directory {
        std::fs::remove_dir_all(dir.path_of(name))
    } else {
        dir.remove_file(name)
    }
}
