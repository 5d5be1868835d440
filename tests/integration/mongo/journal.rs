//! The log of a session as documents: nothing acknowledged is lost, nothing is there twice, and
//! who is late is told so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ollama_prompt::clock;
use ollama_prompt::session::event::{Body, Event, Settings, VERSION};
use ollama_prompt::session::fold::Entry;
use ollama_prompt::session::id::{EventId, SessionId};
use ollama_prompt::store::mongo::bytes::{Bytes, PART, Use};
use ollama_prompt::store::mongo::database::Database;
use ollama_prompt::store::mongo::document::{Position, Written};
use ollama_prompt::store::mongo::journal::{Decision, Journal};
use ollama_prompt::store::mongo::lease::{Leases, Try};

use super::proxy::Proxy;
use super::{connect, killed_twice, patience};
use crate::support::mongod::{Kind, Mongod, database_in, need_mongod, profiled};
use crate::support::{PATIENCE, outside};

pub(super) fn session() -> SessionId {
    SessionId::from_parts(clock::now().as_ms(), clock::random_bits())
}

/// Returns an event that comes after `highest` and says `title`.
pub(super) fn event(highest: Option<EventId>, at: Position, title: &str) -> Entry {
    let ts = clock::now();
    let settings = Settings {
        title: Some(title.to_owned()),
        ..Settings::default()
    };
    let event = Event {
        v: VERSION,
        id: EventId::next(ts.as_ms(), highest, clock::random_bits()),
        ts,
        at: u64::try_from(at.end).ok(),
        body: Body::Set(settings),
    };
    let raw = event.to_line().into_bytes();
    Entry { event, raw }
}

pub(super) fn events(written: &[Written]) -> Vec<Event> {
    let lines = written
        .iter()
        .flat_map(|document| document.lines.split(|b| *b == b'\n'));
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| Event::from_slice(line).expect("an event"))
        .collect()
}

pub(super) fn title(event: &Event) -> String {
    match &event.body {
        Body::Set(settings) => settings.title.clone().expect("a title"),
        other => panic!("{other:?}"),
    }
}

/// Appends an event that says `title` after whatever is there.
pub(super) fn append(
    journal: &Journal,
    session: SessionId,
    title: &str,
) -> Result<EventId, String> {
    let (mut highest, mut appended) = (None, None);
    let decide = &mut |news: &[Written], at: Position| {
        highest = events(news).iter().map(|event| event.id).max().max(highest);
        let entry = event(highest, at, title);
        appended = Some(entry.event.id);
        Ok(Decision::Append(vec![entry]))
    };
    let done = journal.append(session, Position::default(), &mut patience(), decide);
    done.map_err(|error| error.to_string())?;
    Ok(appended.expect("it was decided"))
}

pub(super) fn read(database: &Database, session: SessionId) -> Vec<Written> {
    let journal = Journal::of(database);
    journal
        .read_after(session, Position::default(), &mut patience())
        .expect("readable")
}

/// Asserts that numbers have no gaps, offsets are those of the lines, and ids rise.
#[track_caller]
fn assert_in_order(written: &[Written]) {
    let mut end = 0;
    for (n, document) in written.iter().enumerate() {
        end += document.lines.len() as i64;
        assert_eq!(
            document.at,
            Position {
                n: n as i64 + 1,
                end
            }
        );
    }
    let ids: Vec<EventId> = events(written).iter().map(|event| event.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[test]
fn sixteen_writers_on_one_session_are_all_kept() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        let id = session();
        thread::scope(|scope| {
            for writer in 0..16 {
                let uri = &uri;
                scope.spawn(move || {
                    let database = connect(uri);
                    for n in 0..10 {
                        append(&Journal::of(&database), id, &format!("{writer} {n}"))
                            .expect("kept");
                    }
                });
            }
        });
        let written = read(&connect(&uri), id);
        assert_in_order(&written);
        let all: BTreeSet<String> = events(&written).iter().map(title).collect();
        assert_eq!((written.len(), all.len()), (160, 160), "{kind:?}");
    }
}

#[test]
fn a_server_that_is_killed_under_load_loses_nothing_it_acknowledged_and_doubles_nothing() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let mut server = Mongod::start(kind, &[], "");
        let uri = server.uri();
        let sessions: Vec<SessionId> = (0..4).map(|_| session()).collect();
        let acknowledged = Mutex::new(BTreeMap::<SessionId, Vec<String>>::new());
        let is_over = AtomicBool::new(false);
        let mut was_under_load = false;
        thread::scope(|scope| {
            for writer in 0..8 {
                let (uri, acknowledged, is_over) = (&uri, &acknowledged, &is_over);
                let id = sessions[writer % 4];
                scope.spawn(move || {
                    let database = connect(uri);
                    let mut n = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        n += 1;
                        let said = format!("{writer} {n}");
                        append(&Journal::of(&database), id, &said)
                            .expect("a server that comes back");
                        acknowledged
                            .lock()
                            .expect("whole")
                            .entry(id)
                            .or_default()
                            .push(said);
                    }
                });
            }
            let count = || {
                let acknowledged = acknowledged.lock().expect("whole");
                acknowledged.values().map(Vec::len).sum()
            };
            was_under_load = killed_twice(&mut server, Duration::from_millis(300), count);
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(was_under_load, "{kind:?}");
        let database = connect(&uri);
        for (id, mut said) in acknowledged.into_inner().expect("whole") {
            let written = read(&database, id);
            assert_in_order(&written);
            let mut there: Vec<String> = events(&written).iter().map(title).collect();
            there.sort();
            said.sort();
            assert_eq!(there, said, "{kind:?}");
        }
    }
}

#[test]
fn an_answer_that_got_lost_is_asked_for_again_under_the_same_name() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let server = Mongod::start(kind, &[], "");
        let proxy = Proxy::before(server.port());
        let id = session();
        {
            let database = connect(&proxy.uri_of("lost"));
            let journal = Journal::of(&database);
            append(&journal, id, "first").expect("kept");
            // More than the driver tries again by itself.
            proxy.lose(4);
            append(&journal, id, "second").expect("kept");
            assert_eq!(proxy.left(), 0, "{kind:?}: answers got lost");
            append(&journal, id, "third").expect("kept");
        }
        let written = read(&connect(&server.uri_of("lost")), id);
        assert_in_order(&written);
        let said: Vec<String> = events(&written).iter().map(title).collect();
        assert_eq!(said, ["first", "second", "third"], "{kind:?}");
    }
}

/// Closes a session as a purge does.
pub(super) fn purge(journal: &Journal, id: SessionId) {
    let close = &mut |_: &[Written], _: Position| Ok(Decision::Close("gone".to_owned()));
    journal
        .append(id, Position::default(), &mut patience(), close)
        .expect("closed");
    journal.sweep(id, None, &mut patience()).expect("swept");
}

#[test]
fn a_writer_that_read_before_a_purge_does_not_bring_the_session_back() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        // How many others wrote after the stale one read and before the purge: then its number is
        // that of the purge, or one that was taken and removed.
        for between in 0..3 {
            let (stale, other) = (connect(&uri), connect(&uri));
            let id = session();
            for n in 0..5 {
                append(&Journal::of(&other), id, &format!("{n}")).expect("kept");
            }
            let mut was_closed = Vec::new();
            let decide = &mut |news: &[Written], at: Position| {
                was_closed.push(news.iter().any(|document| document.closed.is_some()));
                if was_closed.len() > 1 {
                    return Ok(Decision::Nothing);
                }
                for n in 0..between {
                    append(&Journal::of(&other), id, &format!("later {n}")).expect("kept");
                }
                purge(&Journal::of(&other), id);
                Ok(Decision::Append(vec![event(None, at, "too late")]))
            };
            let appended =
                Journal::of(&stale).append(id, Position::default(), &mut patience(), decide);
            appended.expect("it is told what happened");
            assert_eq!(was_closed, [false, true], "{kind:?} {between}");
            let left = read(&other, id);
            assert_eq!(left.len(), 1, "{kind:?} {between}: {left:?}");
            assert_eq!(left[0].closed.as_deref(), Some("gone"));
            let head = Journal::of(&other)
                .head(id, &mut patience())
                .expect("readable");
            assert_eq!(head.expect("what is left").closed.as_deref(), Some("gone"));

            append(&Journal::of(&stale), id, "a new life").expect("kept");
            let again = read(&other, id);
            assert_eq!(
                events(&again).iter().map(title).collect::<Vec<_>>(),
                ["a new life"]
            );
        }
    }
}

#[test]
fn what_is_too_long_for_a_document_comes_back_whole() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let database = connect(&Mongod::database(kind));
        let bytes = Bytes::of(&database);
        for length in [0, 1, PART, PART + 1, 2 * PART + 17] {
            let whole: Vec<u8> = (0..length).map(|n| (n * 31 % 251) as u8).collect();
            let hash = bytes
                .put("s", Use::Blob, &whole, &mut patience())
                .expect("stored");
            let again = bytes
                .put("s", Use::Blob, &whole, &mut patience())
                .expect("stored twice");
            assert_eq!(hash, again);
            let read = bytes.get("s", &hash, &mut patience()).expect("readable");
            assert!(read.as_ref() == Some(&whole), "{kind:?} {length}");
            assert_eq!(
                bytes.get("t", &hash, &mut patience()).expect("readable"),
                None
            );
        }
        assert_eq!(bytes.blobs("s", &mut patience()).expect("listed").len(), 5);

        let (journal, id) = (Journal::of(&database), session());
        append(&journal, id, "short").expect("kept");
        append(&journal, id, &"long ".repeat(4 << 20)).expect("kept");
        let written = read(&database, id);
        assert_in_order(&written);
        assert_eq!(title(&events(&written)[1]).len(), 20 << 20, "{kind:?}");
        purge(&journal, id);
        let heads = journal.heads(&mut patience()).expect("listed");
        assert_eq!(heads.len(), 1);
        assert!(heads[0].closed.is_some());
    }
}

#[test]
fn a_list_needs_one_look_at_each_session() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        let database = connect(&uri);
        let journal = Journal::of(&database);
        let mut expected = BTreeMap::new();
        for n in 1..=5 {
            let id = session();
            for _ in 0..n * 4 {
                append(&journal, id, "x").expect("kept");
            }
            expected.insert(id, n * 4);
        }
        let mut heads = Vec::new();
        let profile = profiled(&uri, database_in(&uri), || {
            heads = journal.heads(&mut patience()).expect("listed");
        });
        let found: BTreeMap<SessionId, i64> =
            heads.iter().map(|head| (head.session, head.at.n)).collect();
        assert_eq!(found, expected, "{kind:?}");
        assert!(heads.is_sorted_by_key(|head| head.session));

        let mut asked = profile.iter().filter(|entry| {
            let command = entry.get_document("command");
            command.is_ok_and(|command| command.contains_key("aggregate"))
        });
        let asked = asked.next().expect("the server was asked");
        let plan = asked.get_str("planSummary").expect("a plan");
        assert!(plan.contains("SCAN { s: 1, n: 1 }"), "{kind:?}: {asked}");
        let examined = |key: &str| {
            let (short, long) = (asked.get_i32(key), asked.get_i64(key));
            short.map(i64::from).or(long).expect(key)
        };
        assert_eq!(examined("docsExamined"), 5, "{kind:?}: {asked}");
        assert!(examined("keysExamined") <= 10, "{kind:?}: {asked}");
    }
}

/// A process that holds a lease until it is killed.
struct Holder(Child);

impl Holder {
    fn start(uri: &str, term: Duration) -> Self {
        let mut holder = Command::new(std::env::current_exe().expect("the tests' own path"))
            .args([
                "--exact",
                "mongo::journal::a_holder",
                "--ignored",
                "--nocapture",
            ])
            .env(HOLDS_IN, uri)
            .env(HOLDS_FOR, term.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests run themselves");
        let said = BufReader::new(holder.stdout.take().expect("it was asked for")).lines();
        let mut said = said.map_while(Result::ok);
        assert!(said.any(|line| line.contains("it is held")), "it ended");
        Self(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HOLDS_IN: &str = "TEST_HOLDS_IN";
const HOLDS_FOR: &str = "TEST_HOLDS_FOR";

#[test]
#[ignore = "is run by the next, in a process of its own"]
#[expect(
    clippy::print_stdout,
    reason = "this is how it says so to the other process"
)]
fn a_holder() {
    let said = |name| outside(name).and_then(|value| value.into_string().ok());
    let term = said(HOLDS_FOR)
        .and_then(|term| term.parse().ok())
        .expect("milliseconds");
    let database = connect(&said(HOLDS_IN).expect("an address"));
    let leases = Leases::for_term(&database, Duration::from_millis(term));
    let taken = leases.take("turn", None, &mut patience());
    let Ok(Try::Held(lease, _)) = taken else {
        panic!("{taken:?}")
    };
    println!("it is held");
    thread::sleep(Duration::from_secs(60));
    drop(lease);
}

#[test]
fn what_is_held_is_held_by_one_and_free_when_that_one_is_gone() {
    if !need_mongod() {
        return;
    }
    let term = Duration::from_secs(3);
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        let (one, two) = (connect(&uri), connect(&uri));
        let other = Leases::for_term(&two, term);
        let take =
            |leases: &Leases, note: &str| match leases.take("turn", Some(note), &mut patience()) {
                Ok(Try::Held(lease, before)) => {
                    drop(lease);
                    Ok(before)
                }
                Ok(Try::Busy(note)) => Err(note),
                Err(error) => panic!("{error}"),
            };
        let taken = Leases::for_term(&one, term).take("turn", Some("mine"), &mut patience());
        let Ok(Try::Held(lease, None)) = taken else {
            panic!("{taken:?}")
        };
        // Longer than it holds by itself: it is renewed.
        thread::sleep(term * 2);
        assert_eq!(
            take(&other, "theirs"),
            Err(Some("mine".to_owned())),
            "{kind:?}"
        );
        assert!(lease.holds(&mut patience()).expect("asked"));
        assert_eq!(
            other.held_below("tu", &mut patience()).expect("listed"),
            ["turn"]
        );
        lease
            .leave("for who comes next", &mut patience())
            .expect("let go");
        assert_eq!(
            take(&other, "theirs"),
            Ok(Some("for who comes next".to_owned())),
            "{kind:?}"
        );
        assert_eq!(
            other.look("turn", &mut patience()).expect("asked"),
            (false, None)
        );

        drop(one);

        // A process that is killed renews nothing and says nothing.
        let mut holder = Holder::start(&uri, term);
        assert_eq!(take(&other, "theirs"), Err(None), "{kind:?}");
        holder.0.kill().expect("it runs");
        let killed = Instant::now();
        while take(&other, "theirs").is_err() {
            assert!(killed.elapsed() < PATIENCE, "{kind:?}: it is held for ever");
            thread::sleep(Duration::from_millis(50));
        }
    }
}
