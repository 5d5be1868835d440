//! Finding `config.toml`: an optional file in the root of the store that the user writes. What it
//! says is not judged here.
//!
//! A turn without one pays one failed `open` for the look. What is no file of the user's own is
//! an error rather than passed over: else a setting would be silently without effect.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::files::layout::CONFIG;
use super::files::{Trust, open_own};
use crate::error::{Code, Error, Result};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The text of `config.toml`, and who else has to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// Who else may read or write it.
    pub trust: Trust,
}

/// Reads the `config.toml` of the store at `root`; `None` where there is none.
///
/// # Errors
/// `config` for one that cannot be read, is no regular file, has over 1 MiB or is not UTF-8.
pub fn read(root: &Path) -> Result<Option<Found>> {
    let path = root.join(CONFIG);
    let unreadable = |cause: &dyn std::fmt::Display| {
        Error::new(Code::Config, format!("cannot read `{}`", path.display()))
            .because(cause)
            .hint("correct it or move it away: it is optional")
    };
    let (file, trust) = match open_own(&path) {
        Err(e) if is_absence(&e) => return Ok(None),
        opened => opened.map_err(|e| unreadable(&e))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(&"it has over 1 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(&format!("byte {at} is not UTF-8"))
    })?;
    Ok(Some(Found { path, text, trust }))
}

/// Tells whether nothing is there, a directory to look in included: of a root that is no
/// directory the store has its own to say.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
