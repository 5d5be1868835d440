//! What a source is, judged by what is in it.

use std::io::{self, BufRead};

use serde_json::Value;

use super::{Kind, codex};

/// What every SQLite database begins with (<https://sqlite.org/fileformat.html>, section 1.3).
pub const SQLITE: &[u8] = b"SQLite format 3\0";

/// How much of a source is looked at.
pub const PEEK: usize = 1 << 20;

/// What a source seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Text of this kind.
    Text(Kind),
    /// A database, whose tables will say of what.
    Database,
    /// The log of a session as it lies in a store.
    Log,
    /// A zip archive.
    Archive,
    /// Nothing at all.
    Nothing,
    /// Something else.
    Unknown,
}

/// Judges a source by its first bytes, which stay to be read.
///
/// # Errors
/// As the reader says.
pub fn detect(source: &mut dyn BufRead) -> io::Result<Seen> {
    Ok(judge(source.fill_buf()?))
}

/// Judges the first bytes of a source.
#[must_use]
pub fn judge(start: &[u8]) -> Seen {
    let start = start
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(start)
        .trim_ascii_start();
    match start {
        [] => Seen::Nothing,
        [b'P', b'K', 3, 4, ..] => Seen::Archive,
        [b'[', ..] => array(start),
        [b'{', ..] => object(start),
        _ if start.starts_with(SQLITE) => Seen::Database,
        _ => Seen::Unknown,
    }
}

/// An array of conversations, or none at all.
fn array(start: &[u8]) -> Seen {
    let first = start[1..].trim_ascii_start();
    let is_tree = memchr::memmem::find(start, b"\"mapping\"").is_some();
    if first.first() == Some(&b']') || (first.first() == Some(&b'{') && is_tree) {
        Seen::Text(Kind::ChatGpt)
    } else {
        Seen::Unknown
    }
}

/// Lines of objects: the first of them that tells decides.
fn object(start: &[u8]) -> Seen {
    let mut lines = start
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        match serde_json::from_slice::<Value>(line) {
            Ok(value) => {
                if let Some(seen) = line_of(&value) {
                    return seen;
                }
            }
            // A line that is longer than what is looked at, or an object over several lines.
            Err(_) => {
                let has = |key: &str| memchr::memmem::find(line, key.as_bytes()).is_some();
                let spread = memchr::memmem::find(start, b"\"mapping\"").is_some();
                let guesses = [
                    (spread, Kind::ChatGpt),
                    (has("\"messages\""), Kind::OpenAi),
                    (has("\"sessionId\""), Kind::Claude),
                    (has("\"payload\"") || has("\"instructions\""), Kind::Codex),
                ];
                let guess = guesses.iter().find(|(fits, _)| *fits);
                if let Some((_, kind)) = guess.filter(|_| is_last || spread) {
                    return Seen::Text(*kind);
                }
            }
        }
    }
    Seen::Unknown
}

fn line_of(value: &Value) -> Option<Seen> {
    let has = |key: &str| value.get(key).is_some();
    let kind = match value {
        _ if has("export") && has("session") => Kind::Native,
        _ if has("v") && has("id") && has("type") => return Some(Seen::Log),
        _ if value["messages"].is_array() => Kind::OpenAi,
        _ if has("mapping") => Kind::ChatGpt,
        _ if has("sessionId") || value["type"] == "summary" && has("leafUuid") => Kind::Claude,
        _ if value["type"] == "file-history-snapshot" => Kind::Claude,
        _ if codex::is_line(value) => Kind::Codex,
        _ => return None,
    };
    Some(Seen::Text(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_known_by_what_is_in_it() {
        use Seen::{Archive, Database, Log, Nothing, Text, Unknown};
        let rows = [
            ("", Nothing),
            (" \n", Nothing),
            ("hello", Unknown),
            ("[1, 2]", Unknown),
            ("{\"a\": 1}", Unknown),
            ("[]", Text(Kind::ChatGpt)),
            ("[{\"title\": \"t\", \"mapping\": {", Text(Kind::ChatGpt)),
            (
                "{\n  \"title\": \"t\",\n  \"mapping\": {}\n}",
                Text(Kind::ChatGpt),
            ),
            (
                "{\"export\":1,\"session\":\"x\",\"events\":1,\"blobs\":0}\n",
                Text(Kind::Native),
            ),
            ("{\"v\":1,\"id\":\"x\",\"type\":\"session\"}\n", Log),
            ("\u{feff}{\"messages\": []}\n", Text(Kind::OpenAi)),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": \"cut of",
                Text(Kind::OpenAi),
            ),
            (
                "{\"type\":\"summary\",\"summary\":\"s\",\"leafUuid\":\"x\"}\n",
                Text(Kind::Claude),
            ),
            ("garbage\n{\"a\":1}", Unknown),
            (
                "{\"a\":1}\n{\"type\":\"user\",\"sessionId\":\"s\"}\n",
                Text(Kind::Claude),
            ),
            (
                "{\"timestamp\":\"t\",\"type\":\"session_meta\",\"payload\":{}}",
                Text(Kind::Codex),
            ),
            (
                "{\"id\":\"i\",\"timestamp\":\"t\",\"instructions\":null}",
                Text(Kind::Codex),
            ),
            ("SQLite format 3\0", Database),
            ("PK\u{3}\u{4}", Archive),
        ];
        for (start, expected) in rows {
            assert_eq!(judge(start.as_bytes()), expected, "{start:?}");
        }
    }
}
