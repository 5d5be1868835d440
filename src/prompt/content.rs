//! The text of one reference, cut where it is too long.

use std::io::{self, Read};

use super::refusal::Refusal;
use crate::digest::sha256;

/// What a reference becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// The text.
    pub(super) text: String,
    /// What is missing of it, if anything: `the first 10 of 20 bytes`.
    pub(super) cut: Option<String>,
}

impl Content {
    /// Returns the SHA-256 of the text, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        sha256(&self.text)
    }
}

/// Reads at most `most` bytes of text, and no part of a character. `size` is how many there are,
/// where that is known.
///
/// # Errors
/// [`Refusal::Binary`] for what is no text, as far as it was read.
pub(super) fn read_text(
    reader: impl Read,
    most: u64,
    size: Option<u64>,
) -> Result<Content, Refusal> {
    let mut bytes = Vec::new();
    read_all(reader.take(most.saturating_add(1)), &mut bytes).map_err(Refusal::of)?;
    let is_cut = bytes.len() as u64 > most;
    if is_cut {
        bytes.pop();
    }
    let (valid, is_text) = match std::str::from_utf8(&bytes) {
        Ok(text) => (text.len(), true),
        Err(error) => (error.valid_up_to(), is_cut && error.error_len().is_none()),
    };
    let nul = memchr::memchr(0, &bytes[..valid]);
    if nul.is_some() || !is_text {
        return Err(Refusal::Binary(nul.unwrap_or(valid)));
    }
    bytes.truncate(valid);
    let text = String::from_utf8(bytes).expect("the rest was cut off");
    let cut = is_cut.then(|| {
        let shown = text.len() as u64;
        match size.filter(|size| *size > shown) {
            Some(size) => format!("the first {shown} of {size} bytes"),
            None => format!("the first {shown} bytes"),
        }
    });
    Ok(Content { text, cut })
}

/// Reads to the end. Some files are read by a descriptor that must not wait, which says
/// `WouldBlock` where it would: there is no more now.
fn read_all(mut reader: impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    match reader.read_to_end(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        read => read.map(drop),
    }
}

/// Lines that are made here, as many as fit.
#[derive(Debug)]
pub(super) struct Lines {
    text: String,
    most: u64,
    cut: Option<String>,
}

impl Lines {
    /// Starts without any; `most` is in bytes.
    pub(super) fn up_to(most: u64) -> Self {
        Self {
            text: String::new(),
            most,
            cut: None,
        }
    }

    /// Adds a line, given without its end, and tells whether more may come.
    pub(super) fn push(&mut self, line: &str) -> bool {
        if self.cut.is_none() && (self.text.len() + line.len()) as u64 + 1 > self.most {
            self.cut = Some(format!("the first {} bytes", self.text.len()));
        }
        if self.cut.is_some() {
            return false;
        }
        self.text.push_str(line);
        self.text.push('\n');
        true
    }

    /// Says that there is more than was looked at.
    pub(super) fn stop(&mut self, why: String) {
        self.cut.get_or_insert(why);
    }

    /// Returns how many bytes more there may be.
    pub(super) fn room(&self) -> u64 {
        self.most.saturating_sub(self.text.len() as u64)
    }

    /// Tells whether no more may come.
    pub(super) fn is_full(&self) -> bool {
        self.cut.is_some()
    }

    /// Returns them; `none` where there are none.
    pub(super) fn finish(mut self, none: &str) -> Content {
        if self.text.is_empty() && self.cut.is_none() {
            self.push(none);
        }
        Content {
            text: self.text,
            cut: self.cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_or_refused() {
        let ok = |text: &str, cut: Option<&str>| {
            Ok(Content {
                text: text.to_owned(),
                cut: cut.map(str::to_owned),
            })
        };
        type Row<'a> = (&'a str, &'a [u8], u64, Result<Content, Refusal>);
        let rows: [Row<'_>; 9] = [
            ("one under", b"abc", 4, ok("abc", None)),
            ("at the edge", b"abcd", 4, ok("abcd", None)),
            (
                "one over",
                b"abcde",
                4,
                ok("abcd", Some("the first 4 of 5 bytes")),
            ),
            (
                "in a character",
                "abcé".as_bytes(),
                4,
                ok("abc", Some("the first 3 of 5 bytes")),
            ),
            (
                "before a character",
                "abcdé".as_bytes(),
                4,
                ok("abcd", Some("the first 4 of 6 bytes")),
            ),
            ("empty", b"", 4, ok("", None)),
            ("a NUL", b"ab\0", 4, Err(Refusal::Binary(2))),
            ("another encoding", b"a\xe9b", 4, Err(Refusal::Binary(1))),
            (
                "a character that ends early",
                b"ab\xc3",
                4,
                Err(Refusal::Binary(2)),
            ),
        ];
        for (name, bytes, most, expected) in rows {
            let got = read_text(bytes, most, Some(bytes.len() as u64));
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn lines_are_as_many_as_fit() {
        let mut lines = Lines::up_to(6);
        assert!(lines.push("ab") && lines.push("cd"));
        assert!(!lines.push("e"));
        let content = lines.finish("none");
        assert_eq!(
            (content.text.as_str(), content.cut.as_deref()),
            ("ab\ncd\n", Some("the first 6 bytes"))
        );
        assert_eq!(Lines::up_to(9).finish("none").text, "none\n");
    }

    proptest! {
        #[test]
        fn a_cut_text_is_the_longest_beginning_that_fits(text in "[a-é🦀 ]{0,20}", most in 1..40_u64) {
            let content = read_text(text.as_bytes(), most, None).expect("it is text");
            prop_assert!(text.starts_with(&content.text));
            prop_assert_eq!(content.cut.is_some(), text.len() as u64 > most);
            let next = text[content.text.len()..].chars().next();
            let room = most - content.text.len() as u64;
            prop_assert!(next.is_none_or(|c| c.len_utf8() as u64 > room));
        }
    }
}
