//! Reading a log: bytes to events, and whatever is no event to damage that is told.
//!
//! A damaged line costs itself and no other. The last line may lack its newline: a write under
//! way, or one that was cut short; it counts if it is whole, and is passed over in silence if it
//! is not. Lines are read in pieces of bounded size, so that a line of 100 MB costs no memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde_json::value::RawValue;

use crate::platform::ReadAt as _;
use crate::session::event::Event;
use crate::session::fold::Entry;
use crate::session::id::EventId;
pub(super) use crate::store::append::LONGEST_LINE;
pub(super) use crate::store::snapshot::Damage;

/// How much is read at once. Larger pieces are not faster, whole files at once are slower: fresh
/// pages cost more than copies.
const PIECE: usize = 256 << 10;

/// How often the bytes of a damaged line may be read over in search of events, on average. Debris
/// can be made so that every attempt reads to its end; what this does not find in it is damage.
const SEARCHES: usize = 16;

/// What a log begins an event with.
const EVENT_START: &[u8] = b"{\"v\":";

/// What a log, or the part of it that was read, holds.
#[derive(Debug, PartialEq)]
pub(super) struct Decoded<T = Entry> {
    /// The events, in the order of the file.
    pub entries: Vec<T>,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Offset just past the last newline: what follows may still be being written.
    pub consumed: u64,
    /// Whether some event does not stand where it was written, or not after all that have lower
    /// ids: the log was merged, edited or compacted.
    pub is_shuffled: bool,
    last: Option<EventId>,
}

/// Who is told what a log holds, as it is read.
pub(super) trait Sink {
    /// Takes an event, and the bytes it was read from, which stand at `offset` of the log.
    fn event(&mut self, event: Event, raw: &[u8], offset: u64);

    /// Takes a stretch of bytes that is no event.
    fn damage(&mut self, damage: Damage);

    /// Is shown each whole line before it is read; `true` is for one that need not be.
    fn knows(&mut self, _line: &[u8]) -> bool {
        false
    }
}

/// A file read from its beginning, wherever the descriptor stands.
#[derive(Debug)]
pub(super) struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> FromStart<'a> {
    pub(super) fn of(file: &'a File) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// How far a log was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Offset just past the last newline: what follows may still be being written.
    pub consumed: u64,
    /// Lines, blank ones and an unfinished one included.
    pub lines: u64,
    /// What follows the last newline, if that is no event: a write under way, or cut short.
    pub torn: Option<Damage>,
}

/// Reads the events that `reader` holds. `start` is the offset of its first byte in the log and
/// the beginning of a line.
///
/// # Errors
/// As the reader says. Damage is no error.
pub(super) fn decode(reader: impl Read, start: u64) -> io::Result<Decoded> {
    decode_as(reader, start, |event, raw| Entry {
        event,
        raw: raw.to_vec(),
    })
}

/// Reads the events that `reader` holds, as [`decode`] does, and keeps of each what `keep` makes of
/// it and its bytes: who needs no texts does not hold them.
///
/// # Errors
/// As the reader says. Damage is no error.
pub(super) fn decode_as<T>(
    reader: impl Read,
    start: u64,
    keep: impl Fn(Event, &[u8]) -> T,
) -> io::Result<Decoded<T>> {
    let decoded = Decoded {
        entries: Vec::new(),
        damage: Vec::new(),
        consumed: start,
        is_shuffled: false,
        last: None,
    };
    let mut keeping = Keeping { decoded, keep };
    let consumed = scan(reader, start, &mut keeping)?.consumed;
    Ok(Decoded {
        consumed,
        ..keeping.decoded
    })
}

/// A sink that keeps something of each event.
struct Keeping<T, F> {
    decoded: Decoded<T>,
    keep: F,
}

impl<T, F: Fn(Event, &[u8]) -> T> Sink for Keeping<T, F> {
    fn event(&mut self, mut event: Event, raw: &[u8], offset: u64) {
        let decoded = &mut self.decoded;
        let follows = decoded.last.is_none_or(|last| last < event.id);
        decoded.is_shuffled |= !follows || event.at != Some(offset);
        decoded.last = Some(event.id);
        // From here on it is where it stands, whatever was written of that.
        event.at = Some(offset);
        decoded.entries.push((self.keep)(event, raw));
    }

    fn damage(&mut self, damage: Damage) {
        self.decoded.damage.push(damage);
    }
}

/// Reads the events that `reader` holds, one at a time, and holds none of them.
///
/// # Errors
/// As [`decode`].
pub(super) fn scan(reader: impl Read, start: u64, sink: &mut impl Sink) -> io::Result<Scanned> {
    let mut reader = BufReader::with_capacity(PIECE, reader);
    let mut scanned = Scanned {
        consumed: start,
        ..Scanned::default()
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let offset = scanned.consumed;
        let read = reader
            .by_ref()
            .take(LONGEST_LINE + 1)
            .read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(scanned);
        }
        scanned.lines += 1;
        if line.last() == Some(&b'\n') {
            scanned.consumed += read;
            if !sink.knows(&line) {
                whole_line(&line, offset, sink);
            }
        } else if read > LONGEST_LINE {
            line = Vec::new();
            let (skipped, ended) = skip_line(&mut reader)?;
            let bytes = read + skipped;
            if !ended {
                scanned.torn = Some(Damage { offset, bytes });
                return Ok(scanned);
            }
            scanned.consumed += bytes;
            sink.damage(Damage { offset, bytes });
        } else {
            let raw = trim(&line);
            match Event::from_slice(raw) {
                Ok(event) => sink.event(event, raw, offset + position(raw, &line)),
                Err(_) if raw.is_empty() => {}
                Err(_) => {
                    scanned.torn = Some(Damage {
                        offset,
                        bytes: read,
                    });
                }
            }
            return Ok(scanned);
        }
    }
}

/// Passes over the rest of a line. Returns how many bytes that was and whether its end came.
fn skip_line(reader: &mut impl BufRead) -> io::Result<(u64, bool)> {
    let mut skipped = 0;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok((skipped, false));
        }
        let newline = piece.iter().position(|b| *b == b'\n');
        let taken = newline.map_or(piece.len(), |at| at + 1);
        reader.consume(taken);
        skipped += taken as u64;
        if newline.is_some() {
            return Ok((skipped, true));
        }
    }
}

/// Tells what a whole line at `offset` holds: one event, or what can be salvaged of the debris.
pub(super) fn whole_line(line: &[u8], offset: u64, sink: &mut impl Sink) {
    let trimmed = trim(line);
    if trimmed.is_empty() {
        return;
    }
    if let Ok(event) = Event::from_slice(trimmed) {
        sink.event(event, trimmed, offset + position(trimmed, line));
        return;
    }
    let mut debris = 0;
    let mut from = 0;
    let mut effort = SEARCHES * line.len();
    while let Some(found) = find(&line[from..], EVENT_START) {
        let start = from + found;
        from = start + 1;
        match event_at(&line[start..]) {
            Ok((event, raw)) => {
                tell_debris(&line[debris..start], offset + debris as u64, sink);
                sink.event(event, raw, offset + start as u64);
                from = start + raw.len();
                debris = from;
            }
            Err(read) if read < effort => effort -= read,
            Err(_) => break,
        }
    }
    tell_debris(&line[debris..], offset + debris as u64, sink);
}

fn tell_debris(bytes: &[u8], offset: u64, sink: &mut impl Sink) {
    if !trim(bytes).is_empty() {
        sink.damage(Damage {
            offset,
            bytes: bytes.len() as u64,
        });
    }
}

/// Returns where `part` of `line`, got by trimming it, begins in it.
fn position(part: &[u8], line: &[u8]) -> u64 {
    (part.as_ptr().addr() - line.as_ptr().addr()) as u64
}

/// Reads the event that `bytes` begin with, whatever follows it, and its own bytes.
///
/// # Errors
/// When they begin with none: how many bytes were read to see that.
fn event_at(bytes: &[u8]) -> Result<(Event, &[u8]), usize> {
    let mut objects = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    let raw = match objects.next() {
        Some(Ok(raw)) => raw.get().as_bytes(),
        // A line is one line to the parser too, but for the newline at its end.
        Some(Err(error)) if error.line() == 1 => return Err(error.column()),
        _ => return Err(bytes.len()),
    };
    let event = Event::from_slice(raw).map_err(|_| raw.len())?;
    Ok((event, raw))
}

/// Takes off what surrounds an event without harm: NULs (pages a crash left empty), white space,
/// carriage returns, a byte order mark.
pub(super) fn trim(mut line: &[u8]) -> &[u8] {
    const BOM: &[u8] = b"\xef\xbb\xbf";
    let blank = |b: &u8| matches!(b, 0 | b'\r' | b'\n' | b'\t' | b' ');
    loop {
        let start = line.iter().position(|b| !blank(b)).unwrap_or(line.len());
        let end = line
            .iter()
            .rposition(|b| !blank(b))
            .map_or(start, |at| at + 1);
        line = &line[start..end];
        match line.strip_prefix(BOM) {
            Some(rest) => line = rest,
            None => return line,
        }
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::event::tests::turn;
    use proptest::prelude::*;

    fn line(n: u64) -> String {
        turn(
            n,
            &format!("question {n} with {{\"v\":1 in it"),
            "answer\nin two lines",
        )
        .to_line()
    }

    /// Returns the numbers of the turns that were read, and the damage.
    fn read(bytes: &[u8]) -> (Vec<u64>, Vec<Damage>) {
        let decoded = decode(bytes, 0).expect("memory reads");
        let ids = decoded
            .entries
            .iter()
            .map(|e| e.event.id.timestamp_ms())
            .collect();
        (ids, decoded.damage)
    }

    #[test]
    fn damage_costs_the_line_it_hit_and_is_told_where() {
        let (a, b, c) = (line(1), line(2), line(3));
        let torn = &a[..a.len() / 2];
        let all = |text: String| text.into_bytes();
        let nested = "{\"v\":1,\"x\":".repeat(100_000);
        let rows: [(&str, Vec<u8>, Vec<u64>, usize); 17] = [
            ("whole", all(format!("{a}\n{b}\n{c}\n")), vec![1, 2, 3], 0),
            ("no final newline", all(format!("{a}\n{b}")), vec![1, 2], 0),
            ("torn tail", all(format!("{b}\n{torn}")), vec![2], 0),
            ("torn line", all(format!("{torn}\n{b}\n")), vec![2], 1),
            (
                "torn and glued",
                all(format!("{torn}{b}\n{c}\n")),
                vec![2, 3],
                1,
            ),
            (
                "two on a line",
                all(format!("{a}{b}\n{c}\n")),
                vec![1, 2, 3],
                0,
            ),
            (
                "NULs around",
                all(format!("\0\0{a}\0\n\0\0\n{b}\n")),
                vec![1, 2],
                0,
            ),
            (
                "NULs between two",
                all(format!("{a}\0\0\0{b}\n")),
                vec![1, 2],
                0,
            ),
            (
                "CRLF, BOM, blank",
                all(format!("\u{feff}{a}\r\n\r\n  \n{b}\r\n")),
                vec![1, 2],
                0,
            ),
            ("garbage", all(format!("{a}\nhello\n{b}\n")), vec![1, 2], 1),
            (
                "conflict markers",
                all(format!("<<<<<<< ours\n{a}\n=======\n{b}\n>>>>>>> theirs\n")),
                vec![1, 2],
                3,
            ),
            (
                "text after an event",
                all(format!("{a} oops\n{b}\n")),
                vec![1, 2],
                1,
            ),
            (
                "invalid UTF-8",
                [b"\xff\xfe\n".as_slice(), a.as_bytes(), b"\n"].concat(),
                vec![1],
                1,
            ),
            (
                "a zeroed page",
                all(format!("{}\0\0\0{}\n{b}\n", &a[..60], &a[63..])),
                vec![2],
                1,
            ),
            (
                "deep nesting",
                all(format!("{}\n{a}\n", "[".repeat(100_000))),
                vec![1],
                1,
            ),
            (
                "events nested deeply",
                all(format!("{nested}\n{a}\n")),
                vec![1],
                1,
            ),
            ("nothing", vec![], vec![], 0),
        ];
        for (name, bytes, expected, damaged) in rows {
            let (got, damage) = read(&bytes);
            assert_eq!(got, expected, "{name}");
            assert_eq!(damage.len(), damaged, "{name}: {damage:?}");
        }
    }

    #[test]
    fn damage_says_where_it_is() {
        let (a, b) = (line(1), line(2));
        let (_, damage) = read(format!("{a}\nhello\n{b}\n").as_bytes());
        assert_eq!(
            damage,
            [Damage {
                offset: a.len() as u64 + 1,
                bytes: 6
            }]
        );
    }

    #[test]
    fn a_log_cut_at_any_byte_reads_as_a_prefix() {
        let lines: Vec<String> = (1..=3).map(line).collect();
        let bytes = lines.join("\n").into_bytes();
        for cut in 0..=bytes.len() {
            let (got, damage) = read(&bytes[..cut]);
            let whole = (1..=3)
                .filter(|n| lines[..*n].join("\n").len() <= cut)
                .count();
            assert_eq!(
                got,
                (1..=whole as u64).collect::<Vec<_>>(),
                "cut at byte {cut}"
            );
            assert_eq!(damage, [], "cut at byte {cut}");
        }
    }

    #[test]
    fn a_line_too_long_is_skipped_without_being_held() {
        struct Long(u64);
        impl Read for Long {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let n = buffer
                    .len()
                    .min(usize::try_from(self.0).unwrap_or(usize::MAX));
                buffer[..n].fill(b'x');
                self.0 -= n as u64;
                Ok(n)
            }
        }
        let after = format!("\n{}\n", line(7));
        let decoded =
            decode(Long(LONGEST_LINE + 5).chain(after.as_bytes()), 0).expect("memory reads");
        assert_eq!(decoded.entries.len(), 1);
        assert_eq!(
            decoded.damage,
            [Damage {
                offset: 0,
                bytes: LONGEST_LINE + 6
            }]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_between_two_events_cost_neither(garbage: Vec<u8>) {
            prop_assume!(find(&garbage, EVENT_START).is_none());
            let bytes = [line(1).as_bytes(), b"\n", &garbage, b"\n", line(2).as_bytes(), b"\n"].concat();
            prop_assert_eq!(read(&bytes).0, vec![1, 2]);
        }

        #[test]
        fn what_is_read_in_two_parts_is_what_is_read_at_once(split in 0usize..4) {
            let lines: String = (1..=4).map(|n| line(n) + "\n").collect();
            let at: usize = (1..=split as u64).map(|n| line(n).len() + 1).sum();
            let mut first = decode(&lines.as_bytes()[..at], 0).expect("memory reads");
            let second = decode(&lines.as_bytes()[at..], first.consumed).expect("memory reads");
            first.entries.extend(second.entries);
            let at_once = decode(lines.as_bytes(), 0).expect("memory reads");
            prop_assert!((first.entries, second.consumed) == (at_once.entries, at_once.consumed));
        }
    }
}
