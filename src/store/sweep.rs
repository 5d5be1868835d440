//! Sweeping: what killed processes left under temporary names.
//!
//! Such names are no part of the data, and removing them can fail without harm: the next sweep
//! meets them again.

use std::io;

use rustix::fs::FileType;

use super::files::Dir;
use crate::session::event::Timestamp;

/// A temporary name that was not written to for so long belongs to nobody any more.
const ABANDONED_AFTER_MS: u64 = 60 * 60 * 1000;

/// Removes from a directory what is over an hour old and begins with one of `prefixes`.
pub(super) fn sweep(dir: &Dir, prefixes: &[&str], now: Timestamp) {
    let mut names = Vec::new();
    let listed = dir.for_each_name(|name| {
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) && is_abandoned(dir, name, now) {
            names.push(name.to_owned());
        }
    });
    if listed.is_ok() {
        names.iter().for_each(|name| drop(remove(dir, name)));
    }
}

/// Tells whether nobody wrote to something for an hour.
pub(super) fn is_abandoned(dir: &Dir, name: &str, now: Timestamp) -> bool {
    let Ok(stat) = dir.stat(name) else {
        return false;
    };
    let modified_ms = u64::try_from(stat.st_mtime)
        .unwrap_or(0)
        .saturating_mul(1000);
    modified_ms.saturating_add(ABANDONED_AFTER_MS) < now.as_ms()
}

/// Removes a file, or a directory with everything in it.
pub(super) fn remove(dir: &Dir, name: &str) -> io::Result<()> {
    if FileType::from_raw_mode(dir.stat(name)?.st_mode) == FileType::Directory {
        std::fs::remove_dir_all(dir.path_of(name))
    } else {
        dir.remove_file(name)
    }
}
