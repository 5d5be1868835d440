//! What can be told of sessions by all their events, wherever they are kept: what a store answers
//! that has no shorter way. Each of these holds the events of one session at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;

use super::Store;
use super::blobs::named;
use super::figures::Figures;
use super::history::Lines;
use super::list::{Listed, Listing};
use super::search::{Piece, Wanted, shown};
use super::snapshot::Events;
use super::verify::{FAR_AHEAD_MS, Finding, Kind, Report};
use crate::error::{Code, Error, Result};
use crate::session::attachment::Blob;
use crate::session::event::{Body, Timestamp, VERSION};
use crate::session::fold::{Entry, fold, one_of_each};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::Hidden;
use crate::session::summary::Summary;
use crate::session::usage::TurnFigures;

/// Lists the sessions of a store.
pub(super) fn list(store: &(impl Store + ?Sized)) -> Result<Listing> {
    let ids = store.ids()?;
    let steps = store.progress().begin("reading sessions", ids.len());
    let mut listing = Listing::default();
    for id in ids {
        steps.step();
        match store.events(id) {
            Ok(events) => listing.sessions.extend(listed(id, events)),
            Err(error) => listing.unreadable.push((id, error)),
        }
    }
    Ok(listing)
}

/// Returns what a list shows of a session.
pub(super) fn listed(id: SessionId, events: Events) -> Option<Listed> {
    let Events { entries, damage } = events;
    let bytes = bytes(&entries);
    let summary = Summary::of(&fold(entries))?;
    Some(Listed {
        id,
        summary,
        damaged: damage.len(),
        bytes,
    })
}

/// Returns how many bytes events have, as lines.
pub(super) fn bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.raw.len() as u64 + 1).sum()
}

/// Returns the figures of the turns of a session.
pub(super) fn figures(events: Events) -> Figures {
    let Events { entries, damage } = events;
    if entries.is_empty() {
        return None;
    }
    let turns = one_of_each(entries).into_values();
    let turns = turns.filter_map(|entry| TurnFigures::of(entry.event));
    Some((turns.collect(), damage.len()))
}

/// Searches a session and hands over what is found, until `take` says to stop.
pub(super) fn search(
    id: SessionId,
    events: Result<Events>,
    wanted: &Wanted<'_>,
    take: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Events { entries, damage } = match events {
        Ok(events) => events,
        Err(error) => return take(Piece::Done(id, Err(error))),
    };
    let mut hidden: BTreeMap<EventId, Hidden> = BTreeMap::new();
    let entries = one_of_each(entries);
    for entry in entries.values() {
        if let Body::Redact(redact) = &entry.event.body {
            hidden.entry(redact.turn).or_default().add(redact);
        }
    }
    for Entry { event, raw } in entries.into_values() {
        if !wanted.may_be(&event) || !wanted.is_in(&event) {
            continue;
        }
        let hidden = hidden.get(&event.id);
        let Some(event) = shown(event, &raw, hidden) else {
            continue;
        };
        for hit in wanted.hits(&event) {
            take(Piece::Hit(id, Box::new(hit)))?;
            if wanted.first_only {
                return take(Piece::Done(id, Ok(damage.len())));
            }
        }
    }
    take(Piece::Done(id, Ok(damage.len())))
}

/// The lines of a session, all of them held.
pub(super) struct Held<'a, S: ?Sized> {
    store: &'a S,
    id: SessionId,
    entries: Vec<Entry>,
}

impl<'a, S: ?Sized> Held<'a, S> {
    pub(super) fn of(store: &'a S, id: SessionId, entries: Vec<Entry>) -> Self {
        Self {
            store,
            id,
            entries: one_of_each(entries).into_values().collect(),
        }
    }
}

impl<S: ?Sized> fmt::Debug for Held<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<S: Store + ?Sized> Lines for Held<'_, S> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn id(&self, n: usize) -> EventId {
        self.entries[n].event.id
    }

    fn is_turn(&self, n: usize) -> bool {
        matches!(self.entries[n].event.body, Body::Turn(_))
    }

    fn raw(&self, n: usize) -> Result<Vec<u8>> {
        Ok(self.entries[n].raw.clone())
    }

    fn blobs(&self) -> Result<Vec<String>> {
        self.store.blobs(self.id)
    }

    fn read_blob(&self, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
        self.store.read_blob(self.id, blob)
    }

    fn blob(&self, name: &str) -> Result<(u64, Box<dyn Read + '_>)> {
        let bytes = self.store.read_blob(self.id, &named(name));
        let bytes = bytes.map_err(|cause| {
            Error::new(Code::StoreIo, format!("cannot read the blob {name}"))
                .because(cause)
                .session(self.id)
        })?;
        Ok((bytes.len() as u64, Box::new(Cursor::new(bytes))))
    }
}

/// Verifies the sessions that are named, or with `None` the whole store, as far as events and
/// drafts tell.
pub(super) fn verify(
    store: &(impl Store + ?Sized),
    named: Option<&[SessionId]>,
    now: Timestamp,
) -> Result<Report> {
    let mut report = Report::default();
    let all;
    let ids = match named {
        Some(ids) => ids,
        None => {
            unfinished_turns(store, &mut report)?;
            all = store.ids()?;
            &all
        }
    };
    let steps = store.progress().begin("verifying", ids.len());
    for id in ids {
        steps.step();
        session(store, *id, now, &mut report);
    }
    Ok(report)
}

fn finding(kind: Kind, session: Option<SessionId>, place: String, message: String) -> Finding {
    Finding {
        kind,
        session,
        place,
        offset: None,
        bytes: None,
        message,
    }
}

fn unfinished_turns(store: &(impl Store + ?Sized), report: &mut Report) -> Result<()> {
    for found in store.drafts()?.into_iter().filter(|found| !found.under_way) {
        let session = found.draft.map(|draft| draft.session);
        let message = "a turn failed or was killed: session retry asks again".to_owned();
        report.findings.push(finding(
            Kind::UnfinishedTurn,
            session,
            format!("draft {}", found.id),
            message,
        ));
    }
    Ok(())
}

fn session(store: &(impl Store + ?Sized), id: SessionId, now: Timestamp, report: &mut Report) {
    report.checked.sessions += 1;
    let mut tell = |kind, place: String, message: String| {
        report
            .findings
            .push(finding(kind, Some(id), place, message));
    };
    let Events { entries, damage } = match store.events(id) {
        Ok(events) => events,
        Err(error) => {
            let message = format!("cannot be read: {error}");
            return tell(Kind::Unreadable, format!("session {id}"), message);
        }
    };
    for (place, damage) in &damage {
        let message = format!("{} bytes that are no event", damage.bytes);
        tell(Kind::DamagedLine, place.clone(), message);
    }
    if let Some(event) = entries.iter().find(|entry| entry.event.v > VERSION) {
        let message = format!("a newer program wrote it, in format {}", event.event.v);
        tell(
            Kind::NewerVersion,
            format!("event {}", event.event.id),
            message,
        );
    }
    let ahead = entries.iter().map(|entry| entry.event.id);
    let ahead = ahead.filter(|id| id.timestamp_ms() > now.as_ms().saturating_add(FAR_AHEAD_MS));
    if let Some(event) = ahead.max() {
        let message = "its id is ahead of the clock: the order of events is kept".to_owned();
        tell(Kind::FutureId, format!("event {event}"), message);
    }
    let (lines, bytes) = (entries.len() as u64, bytes(&entries));
    let mut names = BTreeMap::new();
    for said in fold(entries).turns {
        let blobs = said.turn.blobs.into_iter();
        names.extend(blobs.map(|blob| (blob.sha256.clone(), (said.id, blob))));
    }
    let there = store.blobs(id).unwrap_or_default();
    for (name, (turn, blob)) in names {
        let place = format!("blob {name}");
        if there.binary_search(&name).is_err() {
            tell(Kind::MissingBlob, place, format!("turn {turn} names it"));
        } else if let Err(cause) = store.read_blob(id, &blob) {
            tell(Kind::DamagedBlob, place, cause);
        }
    }
    report.checked.lines += lines;
    report.checked.bytes += bytes;
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::progress::Progress;
    use crate::session::event::tests::{event, id as event_id};
    use crate::session::event::{Event, Key, Redact};
    use crate::session::fold::tests::any_event;
    use crate::session::pattern::{Meaning, Pattern, Role};
    use crate::store::draft::{FoundDraft, Rewritten};
    use crate::store::files::FileStore;
    use crate::store::files::layout::{LOG, SESSIONS};
    use crate::store::guard::{Guard, Taken};
    use crate::store::import::Incoming;
    use crate::store::models::Model;
    use crate::store::purge::Receipt;
    use crate::store::snapshot::Extent;
    use crate::store::{Store, Writable};

    /// A store that does itself only what every store must, and leaves the rest to what is provided.
    #[derive(Debug)]
    struct Plain(FileStore);

    impl Store for Plain {
        fn telling(&mut self, progress: &Progress) {
            self.0.telling(progress);
        }

        fn progress(&self) -> &Progress {
            self.0.progress()
        }

        fn ids(&self) -> Result<Vec<SessionId>> {
            self.0.ids()
        }

        fn events(&self, id: SessionId) -> Result<Events> {
            self.0.events(id)
        }

        fn blobs(&self, id: SessionId) -> Result<Vec<String>> {
            self.0.blobs(id)
        }

        fn read_blob(&self, id: SessionId, blob: &Blob) -> std::result::Result<Vec<u8>, String> {
            self.0.read_blob(id, blob)
        }

        fn drafts(&self) -> Result<Vec<FoundDraft>> {
            self.0.drafts()
        }

        fn rewrite_draft(
            &self,
            id: EventId,
            dry_run: bool,
            cover: &dyn Fn(&str) -> Option<String>,
        ) -> Result<Rewritten> {
            self.0.rewrite_draft(id, dry_run, cover)
        }

        fn receipts(&self) -> Result<Vec<Receipt>> {
            self.0.receipts()
        }

        fn model(&self, host: &str, model: &str) -> Option<Model> {
            self.0.model(host, model)
        }

        fn remember_model(&self, host: &str, model: &str, known: Model) {
            self.0.remember_model(host, model, known);
        }

        fn take_turn(&self, id: SessionId, patience: Duration) -> Result<Guard> {
            self.0.take_turn(id, patience)
        }

        fn take_key(&self, id: SessionId, key: &Key, patience: Duration) -> Result<Taken> {
            self.0.take_key(id, key, patience)
        }

        fn for_writing(&self, patience: Duration) -> Result<Box<dyn Writable + '_>> {
            self.0.for_writing(patience)
        }
    }

    /// Any event, some of them under a key, some hiding something of another.
    fn any_line() -> impl Strategy<Value = Event> {
        // Each has an id of its own: what is hidden by one that is outvoted is hidden by files.
        let redact = (1u64..30, any::<bool>()).prop_map(|(of, is_whole)| {
            let at = 100 + 2 * of + u64::from(is_whole);
            let fields = (!is_whole).then(|| ("prompt".to_owned(), vec![[0, 1]]));
            let redact = Redact {
                fields: fields.into_iter().collect(),
                ..Redact::whole(event_id(of))
            };
            event(at, Body::Redact(redact))
        });
        let with_key = (any_event(), any::<bool>()).prop_map(|(mut event, has_key)| {
            if let (Body::Turn(turn), true) = (&mut event.body, has_key) {
                turn.key = Some(Key {
                    key: "k".to_owned(),
                    request: String::new(),
                });
            }
            event
        });
        prop_oneof![6 => with_key, 1 => redact]
    }

    fn session(n: usize) -> SessionId {
        SessionId::from_parts(n as u64 + 1, 1)
    }

    /// Makes a store of these sessions, each of some logs, with a damaged line in the first.
    fn stored(sessions: &[Vec<Vec<Event>>]) -> (tempfile::TempDir, FileStore) {
        let home = tempfile::tempdir().expect("a directory");
        let store = FileStore::open_or_make(home.path()).expect("a store");
        for (n, logs) in sessions.iter().enumerate() {
            let dir = home.path().join(SESSIONS).join(session(n).to_string());
            std::fs::create_dir(&dir).expect("a directory");
            for (log, events) in logs.iter().enumerate() {
                let name = if log == 0 {
                    LOG.to_owned()
                } else {
                    format!("copy{log}.jsonl")
                };
                let file = OpenOptions::new()
                    .create_new(true)
                    .write(true)
                    .open(dir.join(name));
                let mut file = file.expect("a new file");
                for event in events {
                    writeln!(file, "{}", event.to_line()).expect("writable");
                }
                if n == 0 {
                    writeln!(file, "debris").expect("writable");
                }
            }
        }
        (home, store)
    }

    fn hits(store: &dyn Store, ids: &[SessionId], wanted: &Wanted<'_>) -> BTreeSet<String> {
        let mut hits = BTreeSet::new();
        store.search(ids, wanted, &mut |piece| {
            if let Piece::Hit(id, hit) = piece {
                hits.insert(format!("{id} {hit:?}"));
            }
            ControlFlow::Continue(())
        });
        hits
    }

    fn figures_of(store: &dyn Store, ids: &[SessionId]) -> BTreeMap<SessionId, Figures> {
        let mut all = BTreeMap::new();
        store.figures(ids, &mut |id, figures| {
            all.insert(id, figures.expect("readable"));
            ControlFlow::Continue(())
        });
        all
    }

    fn told(store: Box<dyn Store>) -> BTreeSet<(SessionId, EventId)> {
        let mut follower = store.follow(None, true).expect("it can be followed");
        let mut told = BTreeSet::new();
        for _ in 0..2 {
            let look = follower.look(Timestamp::from_ms(0), &mut |id, line| {
                let event = Event::from_slice(line).expect("an event");
                assert!(told.insert((id, event.id)), "told once");
            });
            look.expect("readable");
        }
        told
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What is provided for every store says what files say in their own way.
        #[test]
        fn what_events_tell_is_what_a_store_of_files_tells(
            sessions in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any_line(), 0..12), 1..3), 1..4),
            incoming in prop::collection::vec(any_line(), 0..6),
        ) {
            let (home, files) = stored(&sessions);
            let again = || FileStore::open(home.path()).expect("it opens").expect("it is there");
            let plain = Plain(again());
            let ids: Vec<SessionId> = (0..=sessions.len()).map(session).collect();

            let listed = |store: &dyn Store| {
                let sessions = store.list().expect("a list").sessions.into_iter();
                sessions.map(|one| (one.id, one.summary, one.damaged)).collect::<Vec<_>>()
            };
            prop_assert_eq!(listed(&plain), listed(&files));
            prop_assert_eq!(figures_of(&plain, &ids), figures_of(&files, &ids));
            let pattern = Pattern::new("p1|r", Meaning::default()).expect("an expression");
            let wanted = Wanted {
                pattern: &pattern,
                roles: &[Role::User, Role::Assistant, Role::Thinking, Role::System],
                model: None,
                is_in_span: &|_| true,
                first_only: false,
            };
            prop_assert_eq!(hits(&plain, &ids, &wanted), hits(&files, &ids, &wanted));
            prop_assert_eq!(told(Box::new(Plain(again()))), told(Box::new(again())));

            let lines: BTreeMap<EventId, Vec<u8>> = incoming
                .iter()
                .map(|event| (event.id, event.to_line().into_bytes()))
                .collect();
            let distinct: HashSet<EventId> = incoming.iter().map(|event| event.id).collect();
            for id in ids {
                for extent in [Extent::History, Extent::Until(event_id(15))] {
                    let read = |store: &dyn Store| {
                        let snapshot = store.read(id, extent).expect("readable");
                        snapshot.map(|snapshot| (snapshot.session, snapshot.damage.len()))
                    };
                    prop_assert_eq!(read(&plain), read(&files));
                }
                let keyed = |store: &dyn Store| store.turns_under_key(id, "k").expect("readable");
                prop_assert_eq!(keyed(&plain), keyed(&files));
                let gone_through = |store: &dyn Store| {
                    let history = store.history(id).expect("readable")?;
                    let lines: Vec<String> = history.lines().map(|line| line.expect("a line")).collect();
                    let turns: Vec<_> = history.turns().map(|turn| turn.expect("a turn")).collect();
                    Some((history.created, history.turns, history.damaged, lines, turns))
                };
                prop_assert_eq!(gone_through(&plain), gone_through(&files));
                let forked = |store: &dyn Store| {
                    let fork = store.fork(id, None, "test").expect("readable")?;
                    let lines = fork.log.split(|b| *b == b'\n').skip(1).map(<[u8]>::to_vec);
                    Some((fork.from, fork.session.turns.clone(), lines.collect::<Vec<_>>()))
                };
                prop_assert_eq!(forked(&plain), forked(&files));
                let derived: Vec<Event> = incoming
                    .iter()
                    .filter(|event| distinct.contains(&event.id))
                    .cloned()
                    .collect();
                let no_blobs = BTreeMap::new();
                for incoming in [
                    Incoming::Derived(&derived),
                    Incoming::Lines { lines: &lines, blobs: &no_blobs },
                ] {
                    prop_assert_eq!(
                        plain.would_add(id, incoming).expect("readable"),
                        files.would_add(id, incoming).expect("readable")
                    );
                }
            }
        }
    }
}
