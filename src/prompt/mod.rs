//! From what was typed to what is sent: where the prompt comes from, and what it refers to.
//!
//! Standard input is read only when it was asked for by `-` or `@-`, so that a call never waits on
//! an input its caller merely left open.
//!
//! References go three ways: `parse` takes the text apart, `expand` resolves what may be a
//! reference beneath the root (`workspace`, `walk`, `listing`, `search`), and `render`
//! writes what takes its place. The first and the last are pure.

mod content;
mod expand;
mod ignored;
mod listing;
mod parse;
mod refusal;
mod render;
mod search;
mod walk;
mod workspace;

pub mod attachments;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

pub use expand::{Expanded, Rules, expand};

use crate::error::{Code, Error, Result};
use crate::json;
use crate::store::append::{LONGEST_LINE, too_long};

/// Where the user's message comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Text(String),
    /// Standard input, to its end.
    Stdin,
    /// A file, or a pipe that has a path.
    File(PathBuf),
    /// Nowhere: what is said is the results of tool calls.
    Absent,
}

/// Reads a text the user gave: the prompt, or the system prompt. It is kept as it is, final
/// newline included.
///
/// # Errors
/// `usage` when it cannot be read, is empty or is no UTF-8; `store_unsupported` when it is longer
/// than a line of the log may be.
pub fn read(source: &Source, what: &str) -> Result<String> {
    let text = read_text(source, what)?;
    if *source == Source::Absent {
        return Ok(text);
    }
    if text.trim().is_empty() {
        return Err(Error::new(Code::Usage, format!("the {what} is empty"))
            .hint("give some text: --prompt \"…\", --prompt - for standard input, or --prompt-file PATH"));
    }
    Ok(text)
}

/// Reads the user's message and puts in what it refers to.
///
/// # Errors
/// Those of [`read`] and [`expand`].
pub fn read_expanded(source: &Source, rules: &Rules) -> Result<Expanded> {
    let text = read(source, "prompt")?;
    let mut stdin = io::stdin();
    let stdin: Option<&mut dyn Read> = match source {
        Source::Stdin => None,
        Source::Text(_) | Source::File(_) | Source::Absent => Some(&mut stdin),
    };
    let expanded = expand(text, rules, stdin)?;
    fits_a_line(&expanded.text)?;
    Ok(expanded)
}

/// Refuses a text that no line of the log can hold. Escaped, a byte has at most six.
fn fits_a_line(text: &str) -> Result<()> {
    if text.len() as u64 > LONGEST_LINE / 6 {
        let bytes = json::line(text).len() as u64;
        if bytes > LONGEST_LINE {
            return Err(too_long(bytes));
        }
    }
    Ok(())
}

/// Reads a text that may be empty.
fn read_text(source: &Source, what: &str) -> Result<String> {
    match source {
        Source::Absent => Ok(String::new()),
        Source::Text(text) => Ok(text.clone()),
        Source::Stdin => read_all(
            io::stdin().lock(),
            &format!("the {what} from standard input"),
        ),
        Source::File(path) => {
            let what = format!("the {what} from `{}`", path.display());
            let file = File::open(path).map_err(|cause| unreadable(&what, cause))?;
            read_all(file, &what)
        }
    }
}

fn read_all(reader: impl Read, what: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let read = reader.take(LONGEST_LINE + 1).read_to_end(&mut bytes);
    read.map_err(|cause| unreadable(what, cause))?;
    if bytes.len() as u64 > LONGEST_LINE {
        return Err(too_long(bytes.len() as u64));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        unreadable(what, format!("byte {at} is not UTF-8"))
            .hint("convert it first, for example with iconv -t UTF-8")
    })
}

fn unreadable(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(Code::Usage, format!("cannot read {what}")).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_as_it_is_or_refused() {
        let rows: [(&str, &[u8], std::result::Result<&str, &str>); 4] = [
            (
                "as it is",
                "a\0b\u{2028}\n".as_bytes(),
                Ok("a\0b\u{2028}\n"),
            ),
            ("empty is for the caller to refuse", b"", Ok("")),
            (
                "not UTF-8",
                b"ab\xffc",
                Err("cannot read it: byte 2 is not UTF-8"),
            ),
            (
                "cut character",
                &"é".as_bytes()[..1],
                Err("cannot read it: byte 0 is not UTF-8"),
            ),
        ];
        for (name, bytes, expected) in rows {
            let got = read_all(bytes, "it").map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{name}");
        }
        let long = read_all(io::repeat(b'x'), "it").expect_err("endless");
        assert_eq!(long.code, Code::StoreUnsupported);
    }
}
