//! Templates as files: `templates/NAME.toml`, beneath the root. What they say is not judged here.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::files::layout::{TEMPLATE_SUFFIX, TEMPLATES};
use super::files::{
    Access, Dir, Doing, FileStore, check_owner, open_or_make_dir, put, put_new, sweep_temporary,
};
use crate::clock;
use crate::error::{Code, Error, Result};

/// The longest name, in characters.
const LONGEST_NAME: usize = 64;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The name of a template: letters, digits, `_`, `-` and `.` of ASCII, the first one of the first
/// three kinds; 64 at the most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateName(String);

impl TemplateName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn file_name(&self) -> String {
        format!("{}{TEMPLATE_SUFFIX}", self.0)
    }
}

impl FromStr for TemplateName {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || text.len() > LONGEST_NAME {
            return Err("it has 1 to 64 characters");
        }
        if text.starts_with(['.', '-']) || !text.chars().all(is_sound) {
            return Err(
                "it has letters, digits, `_`, `-` and `.`, and begins with none of the last two",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Returns the names of all templates, sorted. What has another name is none.
///
/// # Errors
/// `store_*` when the directory is there and cannot be listed.
pub fn names(root: &Path) -> Result<Vec<TemplateName>> {
    let Some(dir) = open(root)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    dir.for_each_name(|name| {
        let name = name.strip_suffix(TEMPLATE_SUFFIX);
        names.extend(name.and_then(|name| name.parse().ok()));
    })
    .doing("list", dir.path())?;
    names.sort_unstable();
    Ok(names)
}

/// Reads a template; `None` where there is none of that name.
///
/// # Errors
/// `store_unsupported` for what is no regular file; `config` for one that has over 1 MiB or is not
/// UTF-8.
pub fn read(root: &Path, name: &TemplateName) -> Result<Option<Found>> {
    let Some(dir) = open(root)? else {
        return Ok(None);
    };
    let path = dir.path_of(name.file_name());
    let file = match dir.open_file(&name.file_name(), Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.doing("read", &path)?,
    };
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.doing("read", &path)?;
    let unreadable = |cause: String| {
        Error::new(Code::Config, format!("cannot read `{}`", path.display())).because(cause)
    };
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable("it has over 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(format!("byte {at} is not UTF-8"))
    })?;
    Ok(Some(Found { path, text }))
}

/// Writes a template, whole or not at all, and returns whether it took the place of another. One
/// that is there is replaced only if `replaces`.
///
/// # Errors
/// `usage` for one that is there and is to stay; `store_*`.
pub fn save(root: &Path, name: &TemplateName, text: &str, replaces: bool) -> Result<bool> {
    drop(FileStore::open_or_make(root)?);
    let root = Dir::open(root).doing("open the store", root)?;
    check_owner(&root)?;
    let dir = open_or_make_dir(&root, TEMPLATES)?;
    sweep_temporary(&dir, clock::now());
    let name = name.file_name();
    let path = dir.path_of(&name);
    let is_there = dir.stat(&name).is_ok();
    let write = |mut file: File| {
        file.write_all(text.as_bytes())?;
        file.sync_data()
    };
    let written = if replaces {
        put(&dir, &name, write)
    } else {
        put_new(&dir, &name, write)
    };
    match written {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            let sentence = format!("`{}` is there already", path.display());
            return Err(Error::new(Code::Usage, sentence).hint("--force replaces it"));
        }
        written => written.doing("write", &path)?,
    }
    dir.sync().doing("sync", dir.path())?;
    Ok(is_there)
}

/// Removes a template, and tells whether there was one.
///
/// # Errors
/// `store_*`.
pub fn delete(root: &Path, name: &TemplateName) -> Result<bool> {
    let Some(dir) = open(root)? else {
        return Ok(false);
    };
    match dir.remove_file(&name.file_name()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => {
            removed.doing("remove", dir.path_of(name.file_name()))?;
            dir.sync().doing("sync", dir.path())?;
            Ok(true)
        }
    }
}

fn open(root: &Path) -> Result<Option<Dir>> {
    let root = match Dir::open(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.doing("open the store", root)?,
    };
    match root.open_dir(TEMPLATES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.doing("open", root.path_of(TEMPLATES)).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_name_on_every_file_system() {
        let long = "x".repeat(LONGEST_NAME);
        for name in ["a", "review", "Code-Review_2.1", "_x", "7", &long] {
            assert!(name.parse::<TemplateName>().is_ok(), "{name}");
        }
        let too_long = "x".repeat(LONGEST_NAME + 1);
        for name in [
            "", ".", "..", ".x", "-x", "a/b", "../a", "a\\b", "a b", "a\n", "é", "a:b", &too_long,
        ] {
            assert!(name.parse::<TemplateName>().is_err(), "{name}");
        }
    }
}
