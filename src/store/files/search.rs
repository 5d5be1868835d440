//! Searching every log for what was said.
//!
//! Sessions are searched by several threads and told in the order they were given in. The bytes
//! of a log are searched in pieces, as `grep` does it, for lines that may have a match
//! ([`Pattern::candidates`]); only those are read as events. What the fold would not show is not
//! found: the first match in a session has its logs surveyed for redactions, and for lines that
//! another line of the same id takes the place of. Sessions without a match are read once and
//! nothing of them is kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, SinkMatch};

use super::dir::{Dir, Doing};
use super::layout::LOG;
use super::log::{self, Damage, FromStart, LONGEST_LINE, trim, whole_line};
use super::read::{open_log, open_session, other_logs};
use super::threads;
use crate::error::Result;
use crate::session::event::{Body, Event};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::Hidden;
use crate::store::search::{Piece, Wanted, shown};

/// How many sessions a thread takes at once, how many such shares may be ahead of the one that is
/// told, and how many pieces of each: what bounds the memory of a search that finds everything.
const SHARE: usize = 64;
const SHARES_AHEAD: usize = 8;
const PIECES_AHEAD: usize = 256;

/// Searches sessions and hands over what is found, in their order and in that of their logs, until
/// `take` says to stop.
///
/// # Panics
/// When the expression of candidates is none: it is made of one.
pub(super) fn search(
    sessions: &Dir,
    ids: &[SessionId],
    wanted: &Wanted<'_>,
    take: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) {
    let threads = threads().min(ids.len().div_ceil(SHARE));
    let shares = Mutex::new(ids.chunks(SHARE));
    let (announce, announced) = sync_channel(SHARES_AHEAD);
    let matcher = RegexMatcherBuilder::new()
        .line_terminator(Some(b'\n'))
        .build(wanted.pattern.candidates())
        .expect("candidates are an expression without newlines");
    thread::scope(|scope| {
        for _ in 0..threads {
            let announce = announce.clone();
            let (shares, matcher) = (&shares, &matcher);
            scope.spawn(move || {
                let mut searcher = searcher();
                while let Some((ids, pieces)) = next_share(shares, &announce) {
                    for id in ids {
                        let mut looking = Looking::new(*id, wanted, &pieces);
                        let done = looking.session(sessions, matcher, &mut searcher);
                        let damaged = done.map(|()| looking.damaged);
                        if looking.is_unheard || pieces.send(Piece::Done(*id, damaged)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(announce);
        // Both ends of what is not told any more are dropped here, which ends the threads.
        for share in announced {
            for piece in share {
                if take(piece).is_break() {
                    return;
                }
            }
        }
    });
}

/// Takes the next sessions and announces them. Both under one lock, so that they are told in
/// their order, and nobody runs far ahead of the telling.
fn next_share<'a>(
    shares: &Mutex<std::slice::Chunks<'a, SessionId>>,
    announce: &SyncSender<Receiver<Piece>>,
) -> Option<(&'a [SessionId], SyncSender<Piece>)> {
    let mut shares = shares.lock().expect("nobody panics with it");
    let share = shares.next()?;
    let (sender, receiver) = sync_channel(PIECES_AHEAD);
    announce.send(receiver).ok()?;
    Some((share, sender))
}

fn searcher() -> Searcher {
    SearcherBuilder::new()
        .binary_detection(BinaryDetection::none())
        .bom_sniffing(false)
        .line_number(false)
        .heap_limit(usize::try_from(LONGEST_LINE).ok())
        .build()
}

/// The search of one session.
struct Looking<'a> {
    id: SessionId,
    wanted: &'a Wanted<'a>,
    pieces: &'a SyncSender<Piece>,
    /// The logs; none before the session was opened.
    logs: Option<Rc<(Dir, Vec<String>)>>,
    survey: Option<Survey>,
    damaged: usize,
    has_hit: bool,
    /// Nobody listens any more.
    is_unheard: bool,
    failed: Option<crate::error::Error>,
}

impl<'a> Looking<'a> {
    fn new(id: SessionId, wanted: &'a Wanted<'a>, pieces: &'a SyncSender<Piece>) -> Self {
        Self {
            id,
            wanted,
            pieces,
            logs: None,
            survey: None,
            damaged: 0,
            has_hit: false,
            is_unheard: false,
            failed: None,
        }
    }

    fn session(
        &mut self,
        sessions: &Dir,
        matcher: &RegexMatcher,
        searcher: &mut Searcher,
    ) -> Result<()> {
        let Some(dir) = open_session(sessions, self.id)? else {
            return Ok(());
        };
        let mut names = other_logs(&dir)?;
        names.push(LOG.to_owned());
        let logs = Rc::new((dir, names));
        self.logs = Some(Rc::clone(&logs));
        let (dir, names) = &*logs;
        for name in names {
            let Some(file) = open_log(dir, name)? else {
                continue;
            };
            let before = self.damaged;
            let searched = searcher.search_reader(matcher, FromStart::of(&file), &mut *self);
            if searched.is_err() {
                // A line longer than any event is too long for the searcher. What is found again
                // is told once.
                self.damaged = before;
                let scanned = log::scan(FromStart::of(&file), 0, self);
                scanned.doing("read", dir.path_of(name))?;
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.is_done() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_unheard || self.failed.is_some() || (self.has_hit && self.wanted.first_only)
    }

    /// Looks at an event whose line may have a match.
    fn look(&mut self, event: Event, raw: &[u8]) {
        if self.is_done() || !self.wanted.may_be(&event) || !self.wanted.is_in(&event) {
            return;
        }
        if self.survey.is_none() {
            let logs = self.logs.as_ref().expect("the session was opened");
            let (dir, names) = &**logs;
            match Survey::of(dir, names) {
                Ok(survey) => self.survey = Some(survey),
                Err(error) => return self.failed = Some(error),
            }
        }
        let survey = self.survey.as_ref().expect("it was taken");
        if let Some(event) = survey.shown(event, raw) {
            self.tell(&event);
        }
    }

    fn tell(&mut self, event: &Event) {
        for hit in self.wanted.hits(event) {
            if self.is_done() {
                return;
            }
            self.has_hit = true;
            let told = self.pieces.send(Piece::Hit(self.id, Box::new(hit)));
            self.is_unheard = told.is_err();
        }
    }
}

impl grep_searcher::Sink for Looking<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        let (line, offset) = (found.bytes(), found.absolute_byte_offset());
        if line.last() == Some(&b'\n') {
            whole_line(line, offset, self);
        } else if let Ok(event) = Event::from_slice(trim(line)) {
            self.look(event, trim(line));
        }
        Ok(!self.is_done())
    }
}

impl log::Sink for Looking<'_> {
    fn event(&mut self, event: Event, raw: &[u8], _: u64) {
        self.look(event, raw);
    }

    fn damage(&mut self, _: Damage) {
        self.damaged += 1;
    }
}

/// What of a session's lines does not count, in part or at all.
#[derive(Debug, Default)]
struct Survey {
    hidden: BTreeMap<EventId, Hidden>,
    /// Of ids that several different lines have, the hash of the line that counts.
    counts: HashMap<EventId, u64>,
}

impl Survey {
    fn of(dir: &Dir, names: &[String]) -> Result<Self> {
        let mut ids = Ids::default();
        read_all(dir, names, &mut ids)?;
        let Ids { mut ids, hidden } = ids;
        ids.sort_unstable();
        let twice = ids.windows(2).filter(|pair| pair[0] == pair[1]);
        let twice: HashSet<EventId> = twice.map(|pair| pair[0]).collect();
        if twice.is_empty() {
            return Ok(Self {
                hidden,
                counts: HashMap::new(),
            });
        }
        drop(ids);
        // Mostly they are copies, and nothing but their hash is held.
        let mut hashes = Hashes {
            of: twice.into_iter().map(|id| (id, Vec::new())).collect(),
        };
        read_all(dir, names, &mut hashes)?;
        let differ = hashes.of.into_iter().filter(|(_, hashes)| hashes.len() > 1);
        let mut greatest = Greatest {
            of: differ.map(|(id, _)| (id, Vec::new())).collect(),
        };
        if !greatest.of.is_empty() {
            read_all(dir, names, &mut greatest)?;
        }
        let counts = greatest.of.into_iter();
        let counts = counts.map(|(id, line)| (id, hash(&line))).collect();
        Ok(Self { hidden, counts })
    }

    /// Returns what may be shown of an event; `None` where that is nothing, or where another line
    /// of its id counts.
    fn shown(&self, event: Event, raw: &[u8]) -> Option<Event> {
        if self
            .counts
            .get(&event.id)
            .is_some_and(|counts| *counts != hash(raw))
        {
            return None;
        }
        let hidden = self.hidden.get(&event.id);
        shown(event, raw, hidden)
    }
}

fn read_all(dir: &Dir, names: &[String], sink: &mut impl log::Sink) -> Result<()> {
    for name in names {
        if let Some(file) = open_log(dir, name)? {
            let scanned = log::scan(FromStart::of(&file), 0, sink);
            scanned.doing("read", dir.path_of(name))?;
        }
    }
    Ok(())
}

fn hash(line: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(line);
    hasher.finish()
}

/// The ids of all lines, and what is hidden.
#[derive(Default)]
struct Ids {
    ids: Vec<EventId>,
    hidden: BTreeMap<EventId, Hidden>,
}

impl log::Sink for Ids {
    fn event(&mut self, event: Event, _: &[u8], _: u64) {
        self.ids.push(event.id);
        if let Body::Redact(redact) = &event.body {
            self.hidden.entry(redact.turn).or_default().add(redact);
        }
    }

    fn damage(&mut self, _: Damage) {}

    /// A turn that this program wrote need not be read for its id.
    fn knows(&mut self, line: &[u8]) -> bool {
        let id = id_of_turn(line);
        self.ids.extend(id);
        id.is_some()
    }
}

/// Returns the id of a line that begins and ends as a turn does and has no other event in it.
fn id_of_turn(line: &[u8]) -> Option<EventId> {
    let rest = line.strip_prefix(b"{\"v\":1,\"id\":\"")?;
    let (id, rest) = rest.split_at_checked(26)?;
    let rest = rest.strip_prefix(b"\",\"type\":\"turn\",")?;
    let is_alone = rest.ends_with(b"}\n") && memchr::memmem::find(rest, b"{\"v\":").is_none();
    is_alone.then_some(())?;
    str::from_utf8(id).ok()?.parse().ok()
}

/// The hashes of the different lines that some ids have.
struct Hashes {
    of: HashMap<EventId, Vec<u64>>,
}

impl log::Sink for Hashes {
    fn event(&mut self, event: Event, raw: &[u8], _: u64) {
        if let Some(known) = self.of.get_mut(&event.id) {
            let hash = hash(raw);
            if !known.contains(&hash) {
                known.push(hash);
            }
        }
    }

    fn damage(&mut self, _: Damage) {}
}

/// The byte-wise greatest lines of some ids.
struct Greatest {
    of: HashMap<EventId, Vec<u8>>,
}

impl log::Sink for Greatest {
    fn event(&mut self, event: Event, raw: &[u8], _: u64) {
        if let Some(known) = self.of.get_mut(&event.id)
            && known.as_slice() < raw
        {
            raw.clone_into(known);
        }
    }

    fn damage(&mut self, _: Damage) {}
}
