//! Reading a log from its end, so that a turn costs its context and not its history.
//!
//! If the last line stands where it says it was written, nothing was inserted before it since.
//! Then the newest `prune` event says how many turns from its horizon on lie before it, and has
//! the settings; whoever has these and what follows has the context, if the redactions the horizon
//! counts are among it. Anything out of the usual
//! (a line that is no event, an id twice, a last line in another place) is for the whole reading
//! of `read.rs`, and after that the next append puts the log in place again.

use std::fs::File;
use std::io;

use memchr::{memchr, memrchr};

use super::log::trim;
use crate::platform::ReadAt as _;
use crate::session::event::Event;
use crate::session::fold::Session;
use crate::session::seen::Seen;

/// How much is read at first, in bytes; each further piece is as large as all before it.
const FIRST_PIECE: u64 = 64 << 10;

/// How much is read of a single line at first, in bytes.
const LINE_PIECE: usize = 4 << 10;

/// The end of a log.
#[derive(Debug)]
pub(super) struct Tail {
    /// What it makes of the session; turns before the horizon are only counted.
    pub session: Session,
    /// Offset just past the last newline.
    pub consumed: u64,
}

/// Reads the end of a log of `len` bytes. `None` where it takes the whole.
///
/// # Errors
/// As the system says.
pub(super) fn read_tail(log: &File, len: u64) -> io::Result<Option<Tail>> {
    let mut lines = Lines::default();
    let mut consumed = None;
    let (mut start, mut rest) = (len, Vec::new());
    while start > 0 {
        let size = (len - start).max(FIRST_PIECE).min(start);
        start -= size;
        let mut piece = vec![0; usize::try_from(size).expect("a log fits the address space")];
        log.read_exact_at(&mut piece, start)?;
        // The line the last piece began in the middle of is whole now.
        piece.append(&mut rest);
        let Some(whole) = whole_lines(&piece, start) else {
            rest = piece;
            continue;
        };
        let after_last = piece
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        let first = consumed.is_none();
        consumed.get_or_insert(start + after_last as u64);
        for (offset, line) in backwards(&piece, whole) {
            let unfinished = first && offset >= after_last;
            match lines.line(line, start + offset as u64) {
                Taken::Event | Taken::Nothing => {}
                // What is being written, or was cut short, is passed over.
                Taken::Debris if unfinished => {}
                Taken::Debris => return Ok(None),
            }
            if lines.seen.is_complete() {
                let consumed = consumed.unwrap_or(0);
                let session = lines.seen.into_session(|kept| match kept.at {
                    Some(at) => event_at(log, at),
                    None => Ok(None),
                })?;
                return Ok(session.map(|session| Tail { session, consumed }));
            }
        }
        piece.truncate(whole);
        rest = piece;
    }
    let consumed = consumed.unwrap_or(0);
    Ok(lines
        .seen
        .into_whole_session()
        .map(|session| Tail { session, consumed }))
}

/// Returns where the first line begins of which `piece`, at offset `start` of the log, has the
/// beginning.
fn whole_lines(piece: &[u8], start: u64) -> Option<usize> {
    if start == 0 {
        return Some(0);
    }
    memchr(b'\n', piece).map(|at| at + 1)
}

/// Returns the lines of `piece` from `from` on, the last one first, each with its offset.
fn backwards(piece: &[u8], from: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut end = piece.len();
    std::iter::from_fn(move || {
        if end <= from {
            return None;
        }
        let newline = memrchr(b'\n', &piece[from..end - 1]);
        let begin = newline.map_or(from, |at| from + at + 1);
        let line = &piece[begin..end];
        end = begin;
        Some((begin, line))
    })
}

/// Reads the event whose line begins at `offset`; `None` where none does.
fn event_at(log: &File, offset: u64) -> io::Result<Option<Event>> {
    let mut line = Vec::new();
    loop {
        let mut piece = vec![0; line.len().max(LINE_PIECE)];
        let read = log.read_at(&mut piece, offset + line.len() as u64)?;
        let newline = memchr(b'\n', &piece[..read]);
        line.extend_from_slice(&piece[..newline.unwrap_or(read)]);
        if newline.is_some() || read == 0 {
            return Ok(Event::from_slice(trim(&line)).ok());
        }
    }
}

/// Lines as they are seen, from the last one of a log.
#[derive(Default)]
struct Lines {
    seen: Seen,
    has_last: bool,
}

enum Taken {
    Event,
    Nothing,
    Debris,
}

impl Lines {
    fn line(&mut self, line: &[u8], offset: u64) -> Taken {
        let trimmed = trim(line);
        if trimmed.is_empty() {
            return Taken::Nothing;
        }
        let Ok(event) = Event::from_slice(trimmed) else {
            return Taken::Debris;
        };
        if !self.has_last && event.at != Some(offset) {
            return Taken::Debris;
        }
        self.has_last = true;
        if self.seen.take(event) {
            Taken::Event
        } else {
            Taken::Debris
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Write;

    use proptest::prelude::*;

    use crate::session::event::tests::{event, id, turn};
    use crate::session::event::{Body, KeptTurn, Prune, Redact, Settings};
    use crate::session::fold::{Entry, fold};
    use crate::session::id::EventId;

    /// Writes a log as appends would.
    fn log(events: Vec<Event>) -> (File, u64) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        let (bytes, _) = offsets(&events);
        file.write_all(&bytes).expect("writable");
        (file, bytes.len() as u64)
    }

    /// Returns the bytes of a log and where its events stand.
    fn offsets(events: &[Event]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
        for event in events {
            let at = bytes.len() as u64;
            offsets.push(at);
            bytes.extend(
                (Event {
                    at: Some(at),
                    ..event.clone()
                }
                .to_line()
                    + "\n")
                    .into_bytes(),
            );
        }
        (bytes, offsets)
    }

    fn prune(at: u64, keep_from: u64, kept_turns: u64) -> Event {
        let settings = Settings {
            model: Some("snapshot".into()),
            ..Settings::default()
        };
        let strategy = "fifo".to_owned();
        let (keep_from, dropped_turns) = (id(keep_from), keep_from - 1);
        event(
            at,
            Body::Prune(Prune {
                keep_from,
                keep: Vec::new(),
                strategy,
                summary: None,
                budget: 0,
                back: false,
                kept_turns,
                dropped_turns,
                dropped_tokens: 0,
                kept_redacts: 0,
                settings,
            }),
        )
    }

    fn long_turn(n: u64) -> Event {
        turn(n, &format!("question {n} {}", "x".repeat(3000)), "answer")
    }

    /// A log of 200 turns, about 600 KB, with a horizon at turn 151 that turn 180 came with.
    fn pruned_log() -> Vec<Event> {
        let mut events: Vec<Event> = (1..=200).map(|n| long_turn(n * 2)).collect();
        events.insert(179, prune(359, 302, 29));
        if let Body::Prune(prune) = &mut events[179].body {
            prune.dropped_turns = 150;
        }
        events
    }

    #[test]
    fn the_context_from_the_end_is_the_context_from_the_whole() {
        let events = pruned_log();
        let (file, len) = log(events.clone());
        let tail = read_tail(&file, len)
            .expect("readable")
            .expect("in place")
            .session;
        let whole = fold(events.into_iter().map(|event| Entry {
            raw: event.to_line().into_bytes(),
            event,
        }));
        let said = |session: &Session| -> Vec<(EventId, String)> {
            session
                .context()
                .iter()
                .map(|said| (said.id, said.turn.prompt.clone()))
                .collect()
        };
        assert_eq!(said(&tail), said(&whole));
        assert_eq!(tail.context().len(), 50);
        assert_eq!((tail.turn_count(), tail.earlier_turns), (200, 150));
        assert_eq!(tail.settings.model.as_deref(), Some("snapshot"));
        assert_eq!(tail.highest, whole.highest);
    }

    fn redact(at: u64, of: u64, prompt: Option<[u64; 2]>) -> Event {
        let redact = Redact {
            turn: id(of),
            fields: prompt
                .map(|range| ("prompt".to_owned(), vec![range]))
                .into_iter()
                .collect(),
            original: BTreeMap::new(),
            salt: None,
            hash: None,
        };
        event(at, Body::Redact(redact))
    }

    /// The log of a program that states the horizon whenever it moves, and where it is told to.
    fn lived(steps: &[Step]) -> Vec<Event> {
        let (mut events, mut now) = (Vec::new(), Session::default());
        for (n, step) in steps.iter().enumerate() {
            let at = n as u64 * 10 + 10;
            let place = |share: f64| id((at as f64 * share) as u64 / 10 * 10);
            let body = match step {
                Step::Turn => long_turn(at).body,
                Step::Redact(share, range) => {
                    let mut event = redact(at, 1, *range);
                    if let Body::Redact(redact) = &mut event.body {
                        redact.turn = place(*share);
                    }
                    event.body
                }
                Step::Prune(share) => {
                    let wanted =
                        place(*share).max(now.horizon.as_ref().map_or(id(0), |h| h.keep_from));
                    let Some(first) = now
                        .turns
                        .iter()
                        .map(|said| said.id)
                        .find(|id| *id >= wanted)
                    else {
                        continue;
                    };
                    let kept_turns =
                        now.turns.iter().filter(|said| said.id >= first).count() as u64;
                    Body::Prune(Prune {
                        keep_from: first,
                        keep: Vec::new(),
                        summary: None,
                        budget: 0,
                        back: false,
                        strategy: "fifo".to_owned(),
                        kept_turns,
                        dropped_turns: now.turn_count() - kept_turns,
                        dropped_tokens: 0,
                        kept_redacts: now.kept_redacts(|turn| turn >= first),
                        settings: Settings::default(),
                    })
                }
            };
            events.push(event(at, body));
            now.apply(events[events.len() - 1].clone());
        }
        events
    }

    #[derive(Debug, Clone)]
    enum Step {
        Turn,
        Redact(f64, Option<[u64; 2]>),
        Prune(f64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Turn),
            1 => (0.0..1.0, prop::option::of(prop::array::uniform2(0u64..3000))).prop_map(|(s, r)| Step::Redact(s, r)),
            1 => (0.0..1.0).prop_map(Step::Prune),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Context, counts and what is hidden, wherever redactions and horizons stand.
        #[test]
        fn whatever_was_redacted_the_end_says_what_the_whole_says(
            steps in prop::collection::vec(any_step(), 1..80),
        ) {
            let events = lived(&steps);
            prop_assume!(!events.is_empty());
            let (file, len) = log(events.clone());
            let tail = read_tail(&file, len).expect("readable").expect("in place").session;
            let whole = fold(events.into_iter().map(|event| Entry { raw: event.to_line().into_bytes(), event }));
            prop_assert_eq!(tail.context(), whole.context());
            prop_assert_eq!(tail.turn_count(), whole.turn_count());
            let from = whole.horizon.as_ref().map_or(id(0), |horizon| horizon.keep_from);
            prop_assert_eq!(tail.kept_redacts(|turn| turn >= from), whole.kept_redacts(|turn| turn >= from));
        }
    }

    /// An older copy of the log glued to it, and then a turn that states the horizon anew.
    #[test]
    fn a_redaction_that_stands_before_its_turn_is_found() {
        let mut first = vec![long_turn(10), long_turn(20), redact(30, 20, None)];
        first.extend([long_turn(10), long_turn(20)]);
        let whole = fold(first.iter().cloned().map(|event| Entry {
            raw: event.to_line().into_bytes(),
            event,
        }));
        let mut stated = prune(40, 10, 1);
        if let Body::Prune(prune) = &mut stated.body {
            prune.kept_redacts = whole.kept_redacts(|_| true);
            prune.dropped_turns = whole.turn_count() - 1;
        }
        first.extend([stated, long_turn(50)]);
        let (file, len) = log(first);
        let tail = read_tail(&file, len)
            .expect("readable")
            .expect("in place")
            .session;
        let said: Vec<EventId> = tail.context().iter().map(|said| said.id).collect();
        assert_eq!((said, tail.turn_count()), (vec![id(10), id(50)], 3));
    }

    #[test]
    fn older_turns_that_were_kept_are_read_where_they_stand_and_pins_send_to_the_whole() {
        let mut events = pruned_log();
        let (_, offsets) = offsets(&events);
        let kept = KeptTurn {
            id: events[9].id,
            at: Some(offsets[9]),
        };
        let change = |events: &mut Vec<Event>, keep: KeptTurn| match &mut events[179].body {
            Body::Prune(prune) => {
                prune.keep = vec![keep];
                prune.dropped_turns = 149;
            }
            other => panic!("{other:?}"),
        };
        change(&mut events, kept);
        let (file, len) = log(events.clone());
        let tail = read_tail(&file, len)
            .expect("readable")
            .expect("in place")
            .session;
        assert_eq!((tail.context().len(), tail.turn_count()), (51, 200));
        assert_eq!(tail.context()[0].id, kept.id);

        let mut elsewhere = events.clone();
        change(
            &mut elsewhere,
            KeptTurn {
                at: Some(offsets[8]),
                ..kept
            },
        );
        let (file, len) = log(elsewhere);
        assert!(
            read_tail(&file, len).expect("readable").is_none(),
            "another line stands there"
        );

        let pins = [(events[3].id, true)].into();
        events.push(event(
            900,
            Body::Set(Settings {
                pins,
                ..Settings::default()
            }),
        ));
        let (file, len) = log(events);
        assert!(
            read_tail(&file, len).expect("readable").is_none(),
            "a pinned turn is not in the end"
        );
    }

    #[test]
    fn a_log_without_a_horizon_is_read_to_its_beginning() {
        let (file, len) = log((1..=100).map(long_turn).collect());
        let tail = read_tail(&file, len).expect("readable").expect("in order");
        assert_eq!((tail.session.turns.len(), tail.consumed), (100, len));
    }

    #[test]
    fn what_is_out_of_the_usual_is_left_to_the_whole_reading() {
        let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
            let (file, len) = log(pruned_log());
            let mut bytes = vec![0; usize::try_from(len).expect("small")];
            file.read_exact_at(&mut bytes, 0).expect("readable");
            change(&mut bytes);
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(&bytes).expect("writable");
            read_tail(&file, bytes.len() as u64)
                .expect("readable")
                .is_none()
        };
        assert!(!damaged(&|_| {}), "as it was written");
        assert!(damaged(&|b| b.insert(0, b'\n')), "a byte inserted before");
        assert!(
            damaged(&|b| {
                b.remove(1);
            }),
            "a byte removed before"
        );
        assert!(
            damaged(&|b| {
                let at = b.len() - 20_000;
                b[at..at + 7000].fill(b'#');
            }),
            "garbage in the window"
        );
        assert!(
            damaged(&|b| b.extend_from_within(b.len() - 3_300..)),
            "the last line twice"
        );
        assert!(
            !damaged(&|b| b.extend_from_slice(b"{\"v\":1,\"id\"")),
            "a write under way"
        );
        assert!(
            !damaged(&|b| b[..9000].fill(b'#')),
            "garbage long before the window"
        );
    }

    #[test]
    fn lines_of_any_length_meet_the_edges_of_pieces() {
        for size in [1usize, 100, 65_000, 65_400, 65_536, 66_000, 140_000] {
            let events: Vec<Event> = (1..=5).map(|n| turn(n, &"y".repeat(size), "r")).collect();
            let (file, len) = log(events);
            let tail = read_tail(&file, len).expect("readable").expect("in order");
            assert_eq!(tail.session.turns.len(), 5, "{size}");
        }
    }
}
