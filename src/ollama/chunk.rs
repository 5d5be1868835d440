//! One line of the answer to `POST /api/chat`, read with patience: what is unknown is ignored,
//! what is absent stays so, a figure that is no figure is left out.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One line of a streamed answer, or the whole of one that was not streamed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Chunk {
    /// The model, as the request spelled it.
    pub model: Option<String>,
    /// When the server made this line, RFC 3339.
    pub created_at: Option<String>,
    /// The piece of the reply; absent on a line that carries an error.
    pub message: Option<Piece>,
    /// Whether this is the last line.
    pub done: Option<bool>,
    /// Why the model stopped; on the last line only, as are the figures.
    pub done_reason: Option<String>,
    /// What went wrong after the reply had begun; in place of everything else.
    pub error: Option<Value>,
    /// Nanoseconds from request to reply.
    #[serde(deserialize_with = "count")]
    pub total_duration: Option<u64>,
    /// Nanoseconds for loading the model.
    #[serde(deserialize_with = "count")]
    pub load_duration: Option<u64>,
    /// Tokens of the prompt.
    #[serde(deserialize_with = "count")]
    pub prompt_eval_count: Option<u64>,
    /// Nanoseconds for reading the prompt.
    #[serde(deserialize_with = "count")]
    pub prompt_eval_duration: Option<u64>,
    /// Tokens of the reply.
    #[serde(deserialize_with = "count")]
    pub eval_count: Option<u64>,
    /// Nanoseconds for making the reply.
    #[serde(deserialize_with = "count")]
    pub eval_duration: Option<u64>,
    /// Whether half characters (`\ud800`) in the line were replaced by U+FFFD.
    #[serde(skip)]
    pub surrogates_replaced: bool,
}

/// A piece of the model's message.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Piece {
    /// The next text of the answer.
    pub content: Option<String>,
    /// The next text of the thinking before it.
    pub thinking: Option<String>,
    /// The tools the model wants called.
    pub tool_calls: Option<Vec<Value>>,
}

impl Chunk {
    /// Reads one line, without its newline and white space around it.
    ///
    /// # Errors
    /// For what is not one JSON object in the shape of an answer.
    pub fn read(line: &[u8]) -> serde_json::Result<Self> {
        // serde would take an array for a list of the fields.
        if !line.starts_with(b"{") {
            return Err(serde::de::Error::custom("a line begins with `{`"));
        }
        serde_json::from_slice(line).or_else(|error| match repaired(line) {
            Cow::Borrowed(_) => Err(error),
            Cow::Owned(line) => Ok(Self {
                surrogates_replaced: true,
                ..serde_json::from_slice(&line)?
            }),
        })
    }

    /// Tells whether the line says anything of a reply.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.message.is_some() || self.done.is_some()
    }

    /// Returns the text of the answer in this line.
    #[must_use]
    pub fn content(&self) -> &str {
        text(self.message.as_ref().and_then(|m| m.content.as_ref()))
    }

    /// Returns the thinking in this line.
    #[must_use]
    pub fn thinking(&self) -> &str {
        text(self.message.as_ref().and_then(|m| m.thinking.as_ref()))
    }
}

fn text(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

/// Reads a count; anything but a whole number is none.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::<Value>::deserialize(deserializer).map(|value| value.and_then(|v| v.as_u64()))
}

/// Replaces escapes of half a surrogate pair, which JSON can spell and text cannot hold.
///
/// A model's tokens can cut a pair apart, and a proxy in another language can pass that on.
/// Escapes stand in strings only, so no string needs to be told from what is around it.
fn repaired(line: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(line);
    let mut at = 0;
    while let Some(found) = line[at..].iter().position(|&b| b == b'\\') {
        at += found;
        match surrogate(&line[at..]) {
            Some(0xd800..=0xdbff) if matches!(surrogate(&line[at + 6..]), Some(0xdc00..)) => {
                at += 12
            }
            Some(_) => {
                out.to_mut()[at..at + 6].copy_from_slice(br"\ufffd");
                at += 6;
            }
            // The escaped character is passed over with its backslash: it may be one itself.
            None => at = (at + 2).min(line.len()),
        }
    }
    out
}

/// Reads the surrogate that is escaped at the beginning of `text`, if one is.
fn surrogate(text: &[u8]) -> Option<u16> {
    let digits = text.get(..6)?.strip_prefix(br"\u")?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xd800..=0xdfff).contains(&unit).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_characters_are_replaced_and_whole_ones_kept() {
        let rows = [
            ("nothing to do", "plain", "plain", false),
            ("a pair", r"\ud83e\udd80", "🦀", false),
            ("a pair in capitals", r"\uD83E\uDD80", "🦀", false),
            ("high alone", r"a\ud800b", "a\u{fffd}b", true),
            ("low alone", r"\udc00", "\u{fffd}", true),
            ("high at the end", r"\ud83e", "\u{fffd}", true),
            ("high before an escape", r"\ud83e\n", "\u{fffd}\n", true),
            ("high before another", r"\ud83e\u0041", "\u{fffd}A", true),
            (
                "two high, then low",
                r"\ud83e\ud83e\udd80",
                "\u{fffd}🦀",
                true,
            ),
            ("wrong way round", r"\udd80\ud83e", "\u{fffd}\u{fffd}", true),
            (
                "an escaped backslash before",
                r"\\ud800 \ud800",
                "\\ud800 \u{fffd}",
                true,
            ),
        ];
        for (name, written, expected, replaced) in rows {
            let line = format!(r#"{{"message":{{"content":"{written}"}}}}"#);
            let chunk = Chunk::read(line.as_bytes()).expect(name);
            assert_eq!(chunk.content(), expected, "{name}");
            assert_eq!(chunk.surrogates_replaced, replaced, "{name}");
        }
    }

    #[test]
    fn a_line_is_read_with_patience() {
        let line = br#"{"new":[{}],"done":true,"message":null,"eval_count":-1,"load_duration":"x","total_duration":7}"#;
        let chunk = Chunk::read(line).expect("a chunk");
        assert_eq!(
            (chunk.done, chunk.eval_count, chunk.load_duration),
            (Some(true), None, None)
        );
        assert_eq!(chunk.total_duration, Some(7));
        for bad in [
            "",
            "{",
            "[]",
            "7",
            "null",
            "<html>",
            r#"{"done":"x"}"#,
            r#"{"message":[]} x"#,
            r#"{"x":"\ud800}"#,
        ] {
            assert!(Chunk::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn repairing_never_fails_and_repairs_once(text in r#"[\\u"dD8cC0aef ]{0,40}"#) {
            let once = repaired(text.as_bytes()).into_owned();
            prop_assert_eq!(once.len(), text.len());
            let twice = repaired(&once);
            prop_assert!(matches!(twice, Cow::Borrowed(_)), "{:?}", text);
        }
    }
}
