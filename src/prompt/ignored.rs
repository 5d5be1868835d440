//! What `.gitignore` files say is not part of the work. Their meaning is the `ignore` crate's, as
//! ripgrep has it; they are read here, beneath the root like everything else, because one may be a
//! link to anything or a pipe.

use std::path::{Component, Path, PathBuf};

use cap_std::fs::Dir;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::content::read_text;
use super::workspace::{Opened, Workspace, open_in};

/// The most that is read of a `.gitignore`, in bytes.
const LONGEST: u64 = 256 * 1024;

/// The directory that is never walked into.
const GIT: &str = ".git";

/// The rules in force in a directory: those of its `.gitignore` and of the directories above it,
/// up to the root. Rules outside the root are not read.
#[derive(Debug)]
pub(super) struct Ignored {
    levels: Vec<Gitignore>,
}

impl Ignored {
    /// Returns the rules in force where a walk of `start` begins, its own not yet among them.
    pub(super) fn above(workspace: &Workspace, start: &Path) -> Self {
        let mut ignored = Self { levels: Vec::new() };
        for directory in start.ancestors().skip(1).collect::<Vec<_>>().iter().rev() {
            let path = directory.strip_prefix("/").unwrap_or(directory);
            match workspace.open_dir(path) {
                Ok(dir) => ignored.enter(&dir, directory),
                Err(_) => ignored.levels.push(Gitignore::empty()),
            }
        }
        ignored
    }

    /// Adds the rules of a directory. `path` is where it is, as [`virtual_path`] has it.
    pub(super) fn enter(&mut self, dir: &Dir, path: &Path) {
        self.levels
            .push(rules(dir, path).unwrap_or_else(Gitignore::empty));
    }

    /// Takes away those that were added last.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    /// Tells whether an entry of the directory entered last is left out.
    pub(super) fn hides(&self, path: &Path, is_dir: bool) -> bool {
        let is_git = path.file_name().is_some_and(|name| name == GIT);
        let inner_first = self.levels.iter().rev();
        let said = inner_first.map(|rules| rules.matched(path, is_dir));
        is_git
            || said
                .into_iter()
                .find(|said| !said.is_none())
                .is_some_and(|said| said.is_ignore())
    }
}

/// Reads the rules of one directory; a line that is no rule is none.
fn rules(dir: &Dir, path: &Path) -> Option<Gitignore> {
    let Ok(Opened::File(file, size)) = open_in(dir, Path::new(".gitignore")) else {
        return None;
    };
    let text = read_text(file, LONGEST, Some(size)).ok()?.text;
    let mut rules = GitignoreBuilder::new(path);
    for line in text.lines() {
        let _ = rules.add_line(None, line);
    }
    rules.build().ok()
}

/// Returns the path of a directory as the rules know it: as if the root were `/`.
pub(super) fn virtual_path(path: &Path) -> PathBuf {
    let mut from_root = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => from_root.push(name),
            Component::ParentDir => drop(from_root.pop()),
            _ => {}
        }
    }
    from_root
}
