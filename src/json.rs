//! JSON as this program writes it: one safe line for disk and pipes, one indented document for
//! stdout.
//!
//! Besides what JSON itself demands, control characters (DEL and C1, U+0085 among them) and the
//! separators U+2028 and U+2029 are escaped: naive line splitters and terminals stay safe. All
//! other text stays as it was said, so that `grep` finds it.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Returns `value` as one line without its newline.
pub fn line<T: Serialize + ?Sized>(value: &T) -> String {
    text(value, CompactFormatter)
}

/// Appends `value` as one line, without its newline, to what `bytes` hold.
pub fn append_line<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    write(value, CompactFormatter, bytes);
}

/// Returns `value` as a document indented by two spaces, without a final newline.
pub fn document<T: Serialize + ?Sized>(value: &T) -> String {
    text(value, PrettyFormatter::new())
}

fn text<T: Serialize + ?Sized, F: Formatter>(value: &T, formatter: F) -> String {
    let mut bytes = Vec::new();
    write(value, formatter, &mut bytes);
    String::from_utf8(bytes).expect("the serializer writes UTF-8")
}

fn write<T: Serialize + ?Sized, F: Formatter>(value: &T, formatter: F, bytes: &mut Vec<u8>) {
    value
        .serialize(&mut Serializer::with_formatter(bytes, Safe(formatter)))
        .expect("what this program writes has string keys and goes to memory");
}

/// Returns JSON that others wrote as this program would have: what [`is_unsafe`] names can stand
/// raw within strings only, where it is escaped, or between tokens as white space.
#[must_use]
pub fn made_safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => safe.push(' '),
            c if is_unsafe(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Tells whether a character must not stand raw in anything this program writes.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A formatter that escapes what [`is_unsafe`] names inside strings, and is `F` otherwise.
struct Safe<F>(F);

macro_rules! delegate {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$method(writer $(, $arg)*)
        })*
    };
}

impl<F: Formatter> Formatter for Safe<F> {
    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    /// serde_json hands over what needs no escape by JSON's own rules.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        w: &mut W,
        text: &str,
    ) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = find_unsafe(rest) {
            let c = rest[at..]
                .chars()
                .next()
                .expect("a character was found there");
            w.write_all(&rest.as_bytes()[..at])?;
            write!(w, "\\u{:04x}", c as u32)?;
            rest = &rest[at + c.len_utf8()..];
        }
        w.write_all(rest.as_bytes())
    }
}

/// Finds the first unsafe character. All of them begin with one of three bytes in UTF-8 (0x7f,
/// 0xc2 for C1, 0xe2 for the separators), so ordinary text is passed over byte by byte.
fn find_unsafe(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().position(|(i, b)| match b {
        0x7f => true,
        0xc2 => bytes[i + 1] < 0xa0,
        0xe2 => bytes[i + 1] == 0x80 && matches!(bytes[i + 2], 0xa8 | 0xa9),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_breaks_lines_or_terminals_is_escaped_and_the_rest_is_raw() {
        let rows = [
            ("plain", r#""plain""#),
            ("naïve 日本 🦀 ع", r#""naïve 日本 🦀 ع""#),
            ("a\u{85}b", r#""a\u0085b""#),
            ("\u{2028}\u{2029}\u{2027}", "\"\\u2028\\u2029\u{2027}\""),
            ("\u{7f}\u{9f}\u{a0}", "\"\\u007f\\u009f\u{a0}\""),
            ("\u{0}\n\t\u{1b}", r#""\u0000\n\t\u001b""#),
            ("\"\\/", r#""\"\\/""#),
        ];
        for (text, expected) in rows {
            assert_eq!(line(text), expected, "{text:?}");
        }
    }

    #[test]
    fn json_of_others_is_made_safe_and_says_the_same() {
        let theirs = "{\t\"a\":\r\"\u{2028}é\u{85}\" }";
        let safe = made_safe(theirs);
        assert_eq!(safe, r#"{ "a": "\u2028é\u0085" }"#);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&safe), value(theirs));
    }

    #[test]
    fn a_document_is_indented_by_two_and_keeps_nulls() {
        let value = serde_json::json!({"a": null, "b": [1]});
        assert_eq!(
            document(&value),
            "{\n  \"a\": null,\n  \"b\": [\n    1\n  ]\n}"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_its_line_is_one_line(text in any::<String>()) {
            let written = line(&text);
            prop_assert!(!written.chars().any(is_unsafe), "{written:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&written).expect("it is JSON"), text);
        }
    }
}
