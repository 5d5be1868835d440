//! From what was typed to what is sent: where the prompt comes from.
//!
//! Standard input is read only when it was asked for by `-`, so that a call never waits on an
//! input its caller merely left open.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::error::{Code, Error, Result};
use crate::store::append::too_long;
use crate::store::log::LONGEST_LINE;

/// Where the user's message comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Text(String),
    /// Standard input, to its end.
    Stdin,
    /// A file, or a pipe that has a path.
    File(PathBuf),
}

/// Reads a text the user gave: the prompt, or the system prompt. It is kept as it is, final
/// newline included.
///
/// # Errors
/// `usage` when it cannot be read, is empty or is no UTF-8; `store_unsupported` when it is longer
/// than a line of the log may be.
pub fn read(source: &Source, what: &str) -> Result<String> {
    let text = match source {
        Source::Text(text) => text.clone(),
        Source::Stdin => read_all(
            io::stdin().lock(),
            &format!("the {what} from standard input"),
        )?,
        Source::File(path) => {
            let what = format!("the {what} from `{}`", path.display());
            let file = File::open(path).map_err(|cause| unreadable(&what, cause))?;
            read_all(file, &what)?
        }
    };
    if text.trim().is_empty() {
        return Err(Error::new(Code::Usage, format!("the {what} is empty"))
            .hint("give some text: --prompt \"…\", --prompt - for standard input, or --prompt-file PATH"));
    }
    Ok(text)
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
