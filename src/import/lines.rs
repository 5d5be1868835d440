//! Lines of JSON, one at a time, as transcripts and exports have them. One that is no JSON is told
//! and passed over; one that is longer than any transcript's is not even held.

use std::io::{BufRead, Read};

use serde_json::Value;

use super::{Item, Take};
use crate::error::Result;
use crate::user_file::Doing;

/// The longest line that is read, in bytes: a turn of 64 MiB and what is around it.
const LONGEST: u64 = 128 << 20;

/// Calls `each` with every line of `source` that is not blank, its number and its bytes.
///
/// # Errors
/// What `each` and `take` say; when the source cannot be read.
pub fn each_line(
    source: &mut dyn BufRead,
    name: &str,
    take: &mut Take<'_>,
    mut each: impl FnMut(u64, &[u8], &mut Take<'_>) -> Result<()>,
) -> Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut *source).take(LONGEST).read_until(b'\n', &mut line);
        if read.doing("read", name)? == 0 {
            break;
        }
        if line.len() as u64 == LONGEST && line.last() != Some(&b'\n') {
            skip_line(source).doing("read", name)?;
            take(skipped(name, number, "it is too long"))?;
            continue;
        }
        let text = line.trim_ascii();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if !text.is_empty() {
            each(number, text, take)?;
        }
    }
    Ok(())
}

/// Calls `each` with every JSON object of `source`, one a line, and its number.
///
/// # Errors
/// As [`each_line`].
pub fn each_object(
    source: &mut dyn BufRead,
    name: &str,
    take: &mut Take<'_>,
    mut each: impl FnMut(u64, Value, &mut Take<'_>) -> Result<()>,
) -> Result<()> {
    each_line(
        source,
        name,
        take,
        |number, text, take| match serde_json::from_slice::<Value>(text) {
            Ok(value) if value.is_object() => each(number, value, take),
            Ok(_) => take(skipped(name, number, "it is no JSON object")),
            Err(error) => take(skipped(name, number, &format!("it is no JSON: {error}"))),
        },
    )
}

/// Says that a line is left out.
#[must_use]
pub fn skipped(name: &str, number: u64, why: &str) -> Item {
    Item::Skipped {
        what: format!("line {number} of {name}"),
        why: why.to_owned(),
    }
}

fn skip_line(source: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let piece = source.fill_buf()?;
        if piece.is_empty() {
            return Ok(());
        }
        let newline = memchr::memchr(b'\n', piece);
        let taken = newline.map_or(piece.len(), |at| at + 1);
        source.consume(taken);
        if newline.is_some() {
            return Ok(());
        }
    }
}

/// Returns the text of a message's content: a string, or the texts of its parts. What else there
/// is among the parts is counted by its type.
pub fn text_of(content: &Value, mut other: impl FnMut(&str)) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let mut texts = Vec::new();
            for part in parts {
                match (part, part["text"].as_str()) {
                    (Value::String(text), _) => texts.push(text.as_str()),
                    (_, Some(text)) if is_text(part) => texts.push(text),
                    _ => other(part["type"].as_str().unwrap_or("parts")),
                }
            }
            texts.join("\n\n")
        }
        _ => String::new(),
    }
}

fn is_text(part: &Value) -> bool {
    let kind = part["type"].as_str().unwrap_or("text");
    matches!(kind, "text" | "input_text" | "output_text" | "refusal")
}

/// Reads a moment as JSON has it: RFC 3339, or seconds since 1970.
#[must_use]
pub fn moment(value: &Value) -> Option<crate::session::event::Timestamp> {
    use crate::session::event::Timestamp;
    match value {
        Value::String(text) => {
            let at = chrono::DateTime::parse_from_rfc3339(text).ok()?;
            Some(Timestamp(at.to_utc()))
        }
        Value::Number(seconds) => {
            let ms = seconds.as_f64()? * 1000.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "within bounds that are far below 2^52"
            )]
            (1.0..1e15)
                .contains(&ms)
                .then(|| Timestamp::from_ms(ms as u64))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_of_a_message_and_what_else_it_has() {
        let rows = [
            (json!("a"), "a", ""),
            (json!(null), "", ""),
            (
                json!([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]),
                "a\n\nb",
                "",
            ),
            (
                json!(["a", {"type": "image_url", "image_url": {}}]),
                "a",
                "image_url",
            ),
            (
                json!([{"type": "thinking", "text": "t"}, 5]),
                "",
                "thinking parts",
            ),
        ];
        for (content, expected, others) in rows {
            let mut found = Vec::new();
            let text = text_of(&content, |kind| found.push(kind.to_owned()));
            assert_eq!(
                (text.as_str(), found.join(" ").as_str()),
                (expected, others),
                "{content}"
            );
        }
    }

    #[test]
    fn moments_are_read_and_garbage_is_none() {
        let rows = [
            (json!("2026-11-21T23:17:00.123Z"), Some(1_795_303_020_123)),
            (
                json!("2026-11-22T00:17:00.123+01:00"),
                Some(1_795_303_020_123),
            ),
            (json!(1_795_303_020.123), Some(1_795_303_020_123)),
            (json!(-5), None),
            (json!(1e300), None),
            (json!("yesterday"), None),
            (json!(null), None),
        ];
        for (value, expected) in rows {
            assert_eq!(moment(&value).map(|at| at.as_ms()), expected, "{value}");
        }
    }
}
