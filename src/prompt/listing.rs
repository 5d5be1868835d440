//! The names in a directory: a list of them, or a tree of three levels.

use std::ops::ControlFlow;
use std::path::Path;

use super::content::{Content, Lines};
use super::refusal::Refusal;
use super::render::shown;
use super::walk::{Kind, MOST_ENTRIES, Walk, entries};
use super::workspace::Workspace;

/// Levels of a tree.
const LEVELS: usize = 3;

const EMPTY: &str = "(empty)";

/// Lists a directory, ignored files and all, in at most `most` bytes.
///
/// # Errors
/// Why it is not read.
pub(super) fn list(workspace: &Workspace, path: &Path, most: u64) -> Result<Content, Refusal> {
    list_opened(&workspace.open_dir(path)?, most)
}

/// Lists a directory that is open.
///
/// # Errors
/// As the system says.
pub(super) fn list_opened(dir: &cap_std::fs::Dir, most: u64) -> Result<Content, Refusal> {
    let (found, is_all) = entries(dir, MOST_ENTRIES).map_err(Refusal::of)?;
    let mut lines = Lines::up_to(most);
    for entry in found {
        if !lines.push(&format!("{}{}", shown(&entry.name), mark(entry.kind))) {
            break;
        }
    }
    if !is_all {
        lines.stop(too_many());
    }
    Ok(lines.finish(EMPTY))
}

/// Lists a directory and two levels below it, in at most `most` bytes.
///
/// # Errors
/// Why it is not read.
pub(super) fn tree(workspace: &Workspace, path: &Path, most: u64) -> Result<Content, Refusal> {
    let mut lines = Lines::up_to(most);
    let is_all = Walk::of(workspace, path, LEVELS - 1, &mut |found| {
        let indent = "  ".repeat(found.depth);
        let line = format!("{indent}{}{}", shown(found.name), mark(found.kind));
        if lines.push(&line) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if !is_all {
        lines.stop(too_many());
    }
    Ok(lines.finish(EMPTY))
}

/// Says that there were more entries than are looked at.
pub(super) fn too_many() -> String {
    format!("the first {MOST_ENTRIES} entries")
}

/// Returns what stands behind a name, as `ls -F` has it.
fn mark(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "",
        Kind::Directory => "/",
        Kind::Link => "@",
        Kind::Special => "|",
    }
}
