//! The flags of references: files named beside the prompt, and the root all are read beneath.

use std::path::PathBuf;

use clap::Args;

use super::Config;
use super::help::PROMPT;
use super::values::{path, usage};
use crate::error::Result;
use crate::prompt::Rules;

/// Bytes that are read of a reference where nothing else is said: as the Python tool of this name has it,
/// and about as much as its budget of 64 000 tokens takes.
const MAX_FILE_BYTES: u64 = 200_000;

#[derive(Debug, Args)]
pub(super) struct References {
    /// Include a file, as @PATH at the end of the prompt
    ///
    /// May be given several times.
    #[arg(long, value_name = "PATH", value_parser = path(), help_heading = PROMPT)]
    file_reference: Vec<PathBuf>,
    /// The directory that @ paths resolve under and cannot leave [default: .]
    #[arg(
        long,
        value_name = "DIR",
        value_parser = path(),
        hide_short_help = true,
        help_heading = PROMPT
    )]
    repo_root: Option<PathBuf>,
    /// Most bytes that are read of each reference [default: 200000]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        hide_short_help = true,
        help_heading = PROMPT
    )]
    max_file_bytes: Option<i64>,
    /// End the call, before the model is asked, if a reference cannot be read
    #[arg(long, hide_short_help = true, help_heading = PROMPT)]
    strict_refs: bool,
}

impl References {
    /// Returns each flag and whether it was given.
    pub(super) fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("--file-reference", !self.file_reference.is_empty()),
            ("--repo-root", self.repo_root.is_some()),
            ("--max-file-bytes", self.max_file_bytes.is_some()),
            ("--strict-refs", self.strict_refs),
        ]
    }

    /// Returns how references are resolved.
    ///
    /// # Errors
    /// `usage` for an empty path, and for a number of bytes that is none.
    pub(super) fn rules(&self, config: &Config) -> Result<Rules> {
        let is_empty = |path: &PathBuf| path.as_os_str().is_empty();
        if self.file_reference.iter().any(is_empty) {
            return Err(usage("--file-reference is empty"));
        }
        if self.repo_root.as_ref().is_some_and(is_empty) {
            return Err(usage("--repo-root is empty"));
        }
        let given = self.max_file_bytes.map(max_file_bytes).transpose();
        let given = given.map_err(|why| usage(format!("--max-file-bytes {why}")))?;
        Ok(Rules {
            root: self.repo_root.clone().unwrap_or_else(|| PathBuf::from(".")),
            max_file_bytes: given.or(config.max_file_bytes).unwrap_or(MAX_FILE_BYTES),
            is_strict: self.strict_refs || config.strict_refs,
            added: self.file_reference.clone(),
        })
    }
}

/// Reads a number of bytes; the error follows the name of its source.
pub(super) fn max_file_bytes(bytes: i64) -> std::result::Result<u64, String> {
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("takes a number of bytes from 1 on, not {bytes}"))
}
