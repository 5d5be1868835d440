//! The index: what the list shows of each session, so that an unchanged one need not be read.
//!
//! It is a cache. The list starts from the directories; an entry counts only while everything the
//! session consists of looks from outside as it did before it was read. Wrong, torn, missing or
//! not writable, the answer is the same and only slower. Readers write it, appends never do; it
//! resolves no id and is no part of any context.
//!
//! What must stay true:
//!
//! * stamps are taken before the logs are read, so what changes meanwhile is seen the next time;
//! * an entry is believed only if it is older than the index by more than two changes within one
//!   tick of the file system's clock can hide (git's rule for its own index). Both times are that
//!   clock's; how long the listing took comes on top;
//! * each line has a checksum, so that a flipped digit is not believed;
//! * the file is replaced by a finished one and not synced: two that write at once both write
//!   what is true.

mod entry;

use std::io::{self, BufWriter, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use entry::{Entry, Stamp, Stamps, nanoseconds, nanoseconds_of, sealed, unsealed};

use super::dir::{Access, Dir, Doing, check_owner};
use super::layout::{CACHE, INDEX, TEMPORARY};
use super::making::open_or_make_dir;
use super::read::{open_session, read_summary};
use super::whole::put;
use super::{FileStore, threads};
use crate::clock;
use crate::error::Result;
use crate::json;
use crate::platform;
use crate::session::event::Timestamp;
use crate::session::id::{EventId, SessionId};
use crate::session::summary::Summary;
use crate::store::Store as _;
use crate::store::list::{Listed, Listing};

/// How much older than the index a session must look to be believed.
const MARGIN: Duration = Duration::from_secs(2);

/// The largest index that is read: a good million of sessions.
const LARGEST: u64 = 1 << 29;

/// How many sessions are worth a thread.
const SHARE: usize = 1000;

/// Who wrote the index, and in which shape: what another version computed is computed again.
const APP: &str = concat!("ollama-prompt ", env!("CARGO_PKG_VERSION"), " index 2");

/// Lists all sessions, and brings the index up to date if it can be written.
///
/// # Errors
/// When the directory of sessions cannot be listed.
pub(super) fn list(store: &FileStore) -> Result<Listing> {
    list_at(store, clock::now())
}

fn list_at(store: &FileStore, now: Timestamp) -> Result<Listing> {
    let bytes = read_index(&store.root).unwrap_or_default();
    let index = Index::parse(&bytes);
    let started = Instant::now();
    let rows = look(store, &index, now)?;
    if is_worth_writing(&rows, &index) && check_owner(&store.root).is_ok() {
        // Whoever may not write has the list all the same.
        let _ = replace(&store.root, &rows, started);
    }
    Ok(listing(rows))
}

/// Makes the index anew, believing nothing of what is there. Returns its size besides.
///
/// # Errors
/// As [`list`], and when the index cannot be written.
pub(super) fn rebuild(store: &FileStore) -> Result<(Listing, u64)> {
    check_owner(&store.root)?;
    let started = Instant::now();
    let rows = look(store, &Index::default(), clock::now())?;
    let bytes = replace(&store.root, &rows, started)?;
    Ok((listing(rows), bytes))
}

/// What was found of one session, and the line of the index that says so.
#[derive(Debug)]
struct Row<'a> {
    id: SessionId,
    found: Result<Option<Found>>,
    line: Line<'a>,
}

/// What a session's logs say.
#[derive(Debug)]
struct Found {
    summary: Summary,
    damaged: usize,
    bytes: u64,
}

#[derive(Debug)]
enum Line<'a> {
    /// The one that is in the index.
    Kept(&'a [u8]),
    /// One that is not, or that will be believed only when it is written again.
    New(String),
    /// None: there is nothing to remember.
    Nothing,
}

/// Looks at every session, with several threads where there are many: on a cold disk each look
/// waits for it.
fn look<'a>(store: &FileStore, index: &Index<'a>, now: Timestamp) -> Result<Vec<Row<'a>>> {
    let ids = store.ids()?;
    let share = ids.len().div_ceil(threads()).max(SHARE);
    let steps = store.progress.begin("reading sessions", ids.len());
    let look_at = |ids: &[SessionId]| -> Vec<Row<'a>> {
        let mut path = String::new();
        let rows = ids.iter().map(|id| {
            let row = row(&store.sessions, *id, index, now, &mut path);
            steps.step();
            row
        });
        rows.collect()
    };
    if ids.len() <= share {
        return Ok(look_at(&ids));
    }
    thread::scope(|scope| {
        let shares = ids.chunks(share).map(|ids| scope.spawn(|| look_at(ids)));
        let shares: Vec<_> = shares.collect();
        let mut rows = Vec::with_capacity(ids.len());
        for share in shares {
            rows.extend(share.join().expect("a look does not panic"));
        }
        Ok(rows)
    })
}

fn row<'a>(
    sessions: &Dir,
    id: SessionId,
    index: &Index<'a>,
    now: Timestamp,
    path: &mut String,
) -> Row<'a> {
    let old = index.line(id);
    if let Some(line) = old
        && let Some(entry) = Entry::read(line)
        && index.believes(&entry)
        && entry.is_unchanged(sessions, path)
    {
        return Row {
            id,
            found: Ok(Some(entry.into_found())),
            line: Line::Kept(line),
        };
    }
    read_again(sessions, id, old, now)
}

fn read_again<'a>(sessions: &Dir, id: SessionId, old: Option<&'a [u8]>, now: Timestamp) -> Row<'a> {
    let read = || -> Result<Option<(Summary, usize, Stamps)>> {
        let Some(dir) = open_session(sessions, id)? else {
            return Ok(None);
        };
        let stamps = Stamps::take(&dir).doing("look at", dir.path())?;
        Ok(read_summary(&dir)?.map(|(summary, damaged)| (summary, damaged, stamps)))
    };
    match read() {
        Ok(Some((summary, damaged, stamps))) => {
            let is_settled = stamps.newest() <= nanoseconds(now) - nanoseconds_of(MARGIN);
            let bytes = stamps.bytes();
            let new = Entry::new(id, stamps, &summary, damaged).to_line();
            let line = match old {
                Some(old) if old == new.as_bytes() && !is_settled => Line::Kept(old),
                _ => Line::New(new),
            };
            let found = Ok(Some(Found {
                summary,
                damaged,
                bytes,
            }));
            Row { id, found, line }
        }
        Ok(None) => Row {
            id,
            found: Ok(None),
            line: Line::Nothing,
        },
        Err(error) => Row {
            id,
            found: Err(error),
            line: Line::Nothing,
        },
    }
}

fn listing(rows: Vec<Row<'_>>) -> Listing {
    let mut listing = Listing::default();
    for Row { id, found, .. } in rows {
        match found {
            Ok(Some(Found {
                summary,
                damaged,
                bytes,
            })) => listing.sessions.push(Listed {
                id,
                summary,
                damaged,
                bytes,
            }),
            Ok(None) => {}
            Err(error) => listing.unreadable.push((id, error)),
        }
    }
    listing
}

/// The first line of the index.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    app: String,
    /// How much older than the index an entry must be: [`MARGIN`] and what the listing took.
    margin_ms: u64,
}

/// The index as it was found.
#[derive(Debug, Default)]
struct Index<'a> {
    /// Its lines, by id. They are looked into when they are needed.
    lines: Vec<(SessionId, &'a [u8])>,
    /// What an entry must not be newer than.
    horizon: i64,
}

/// The bytes of an index and when it was written.
#[derive(Debug, Default)]
struct Bytes {
    bytes: Vec<u8>,
    written: i64,
}

impl<'a> Index<'a> {
    fn parse(found: &'a Bytes) -> Self {
        let mut lines = found.bytes.split(|b| *b == b'\n');
        let header = lines
            .next()
            .and_then(unsealed)
            .and_then(|line| serde_json::from_slice::<Header>(line).ok())
            .filter(|header| header.app == APP);
        let Some(header) = header else {
            return Self::default();
        };
        let margin = nanoseconds_of(Duration::from_millis(header.margin_ms));
        let mut lines: Vec<_> = lines
            .filter_map(|line| Some((id_of(line)?, line)))
            .collect();
        lines.sort_by_key(|(id, _)| *id);
        Self {
            lines,
            horizon: found.written.saturating_sub(margin),
        }
    }

    fn line(&self, id: SessionId) -> Option<&'a [u8]> {
        let at = self.lines.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.lines[at].1)
    }

    fn believes(&self, entry: &Entry) -> bool {
        entry.stamps.newest() <= self.horizon
    }
}

/// Returns the id a line begins with.
fn id_of(line: &[u8]) -> Option<SessionId> {
    let id = line.strip_prefix(b"{\"id\":\"")?.get(..36)?;
    str::from_utf8(id).ok()?.parse().ok()
}

fn read_index(root: &Dir) -> io::Result<Bytes> {
    let file = root.open_dir(CACHE)?.open_file(INDEX, Access::Read)?;
    let stat = platform::stat(&file)?;
    let mut bytes = Vec::with_capacity(
        usize::try_from(stat.size)
            .unwrap_or(0)
            .min(LARGEST as usize),
    );
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(Bytes {
        bytes,
        written: Stamp::of(&stat).modified(),
    })
}

/// Tells whether an index made of `rows` says anything the one that was found does not.
fn is_worth_writing(rows: &[Row<'_>], index: &Index<'_>) -> bool {
    let kept = rows.iter().filter(|row| matches!(row.line, Line::Kept(_)));
    rows.iter().any(|row| matches!(row.line, Line::New(_))) || kept.count() != index.lines.len()
}

/// Writes the index and returns its size.
fn replace(root: &Dir, rows: &[Row<'_>], started: Instant) -> Result<u64> {
    let cache = open_or_make_dir(root, CACHE)?;
    sweep(&cache);
    let written = put(&cache, INDEX, |file| {
        let mut file = BufWriter::new(file);
        write_rows(&mut file, rows, started)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(file.metadata()?.len())
    });
    written.doing("write", cache.path_of(INDEX))
}

fn write_rows(out: &mut impl Write, rows: &[Row<'_>], started: Instant) -> io::Result<()> {
    let margin = (MARGIN + started.elapsed()).as_millis();
    let header = Header {
        app: APP.to_owned(),
        margin_ms: u64::try_from(margin).unwrap_or(u64::MAX),
    };
    out.write_all(sealed(json::line(&header)).as_bytes())?;
    out.write_all(b"\n")?;
    for row in rows {
        let line = match &row.line {
            Line::Kept(line) => *line,
            Line::New(line) => line.as_bytes(),
            Line::Nothing => continue,
        };
        out.write_all(line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Removes what a killed process left half written, an hour later.
fn sweep(cache: &Dir) {
    const HOUR_MS: u64 = 60 * 60 * 1000;
    let mut names = Vec::new();
    let listed = cache.for_each_name(|name| {
        if let Some(id) = name.strip_prefix(TEMPORARY) {
            names.extend(id.parse().map(|id: EventId| (name.to_owned(), id)));
        }
    });
    let now = clock::now().as_ms();
    if listed.is_ok() {
        for (name, id) in names {
            if id.timestamp_ms() + HOUR_MS < now {
                let _ = cache.remove_file(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::entry::SEAL_LENGTH;
    use super::*;
    use crate::session::event::tests::turn;
    use crate::session::event::{Body, Header, Settings};
    use crate::store::files::layout::{LOG, SESSIONS};
    use crate::store::{Durability, New};
    use std::fs::File;
    use std::path::{Path, PathBuf};

    /// A store of two sessions, one with a conflict copy and a damaged line in it.
    struct World {
        dir: tempfile::TempDir,
        store: FileStore,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::TempDir::new().expect("a temporary directory");
            let store = FileStore::open_or_make(&dir.path().join("store")).expect("a store");
            let world = Self { dir, store };
            world.make(1, 2);
            world.make(2, 1);
            world.write(&world.log(2, "events.copy.jsonl"), b"debris\n");
            world
        }

        fn make(&self, n: u64, turns: u64) {
            let settings = Settings {
                model: Some(format!("model-{n}")),
                ..Settings::default()
            };
            let header = Header {
                settings,
                ..Header::default()
            };
            let mut bodies = vec![Body::Session(header)];
            bodies.extend((0..turns).map(|n| turn(n, "question", "answer").body));
            let writable = self.store.for_writing(Duration::ZERO).expect("writable");
            let created = writable.create(New {
                id: id(n),
                begins_with: None,
                bodies,
                blobs: &[],
                durability: Durability::Relaxed,
            });
            created.expect("a new session");
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("store")
        }

        fn session(&self, n: u64) -> PathBuf {
            self.root().join(SESSIONS).join(id(n).to_string())
        }

        fn log(&self, n: u64, name: &str) -> PathBuf {
            self.session(n).join(name)
        }

        fn index(&self) -> PathBuf {
            self.root().join(CACHE).join(INDEX)
        }

        #[expect(clippy::disallowed_methods, reason = "not written by the store")]
        fn write(&self, path: &Path, bytes: &[u8]) {
            std::fs::write(path, bytes).expect("writable");
        }

        /// Writes the index, so much later than the sessions that it is believed.
        fn write_index(&self, bytes: &[u8]) {
            self.write(&self.index(), bytes);
            self.age_sessions();
        }

        fn age_sessions(&self) {
            let index = File::options().write(true).open(self.index());
            let index = index.expect("there is an index");
            let written = index.metadata().and_then(|m| m.modified());
            let later = written.expect("a time") + Duration::from_secs(60);
            index.set_modified(later).expect("the time can be set");
        }

        fn read_index(&self) -> Vec<u8> {
            std::fs::read(self.index()).expect("there is an index")
        }

        /// Returns what the list says, with the index and whatever it is worth.
        fn list(&self) -> (Vec<Listed>, Vec<String>) {
            let listing = self.store.list().expect("a list");
            let unreadable = listing.unreadable.into_iter();
            let unreadable = unreadable.map(|(id, error)| format!("{id}: {error}"));
            (listing.sessions, unreadable.collect())
        }

        fn list_without_index(&self) -> (Vec<Listed>, Vec<String>) {
            std::fs::remove_dir_all(self.root().join(CACHE)).expect("there was a cache");
            self.list()
        }
    }

    fn id(n: u64) -> SessionId {
        SessionId::from_parts(n, u128::from(n))
    }

    #[test]
    fn an_entry_is_believed_and_only_its_checksum_protects_it() {
        let world = World::new();
        let truth = world.list();
        let index = String::from_utf8(world.read_index()).expect("UTF-8");
        assert!(index.contains("\"turns\":2"), "{index}");
        let lie = index.replace("\"turns\":2", "\"turns\":7");
        world.write_index(lie.as_bytes());
        assert_eq!(world.list(), truth);

        let sealed: String = lie
            .lines()
            .map(|line| sealed(line[..line.len() - SEAL_LENGTH].to_owned() + "}") + "\n")
            .collect();
        world.write_index(sealed.as_bytes());
        assert_eq!(world.list().0[0].summary.turns, 7, "nothing was read");
        assert_eq!(world.list_without_index(), truth);
    }

    #[test]
    fn any_byte_of_the_index_damaged_gives_the_same_list() {
        let world = World::new();
        let truth = world.list();
        assert_eq!((truth.0.len(), truth.0[1].damaged), (2, 1));
        let index = world.read_index();
        for at in 0..index.len() {
            for wrong in [index[at] ^ 1, b'\n'] {
                let mut damaged = index.clone();
                damaged[at] = wrong;
                world.write_index(&damaged);
                assert_eq!(world.list(), truth, "byte {at} is {wrong}");
            }
            world.write_index(&index[..at]);
            assert_eq!(world.list(), truth, "cut at byte {at}");
        }
        let mut lines: Vec<&[u8]> = index.split_inclusive(|b| *b == b'\n').collect();
        lines[1..].reverse();
        let reversed = lines.concat();
        lines.extend_from_within(1..);
        for shuffled in [reversed, lines.concat()] {
            world.write_index(&shuffled);
            assert_eq!(world.list(), truth);
        }
    }

    #[test]
    fn whatever_happened_to_a_session_the_list_is_the_one_without_an_index() {
        let line = |ms| turn(ms, "merged", "in").to_line() + "\n";
        let append = |path: PathBuf, text: &str| {
            let mut file = File::options().append(true).open(path).expect("a log");
            file.write_all(text.as_bytes()).expect("writable");
        };
        type Change<'a> = &'a dyn Fn(&World);
        let rows: [(&str, Change<'_>); 15] = [
            ("nothing", &|_| {}),
            ("a turn", &|w| append(w.log(1, LOG), &line(99))),
            ("garbage", &|w| append(w.log(1, LOG), "garbage\n")),
            ("a new session", &|w| w.make(3, 1)),
            ("one copied in", &|w| {
                std::fs::create_dir(w.session(4)).expect("a new directory");
                std::fs::copy(w.log(1, LOG), w.log(4, LOG))
                    .map(drop)
                    .expect("copied");
            }),
            ("one removed", &|w| {
                std::fs::remove_dir_all(w.session(1)).expect("removed");
            }),
            ("one renamed", &|w| {
                std::fs::rename(w.session(1), w.session(5)).expect("renamed");
            }),
            ("two changed places", &|w| {
                std::fs::rename(w.session(1), w.session(9)).expect("renamed");
                std::fs::rename(w.session(2), w.session(1)).expect("renamed");
                std::fs::rename(w.session(9), w.session(2)).expect("renamed");
            }),
            ("a conflict copy", &|w| {
                w.write(&w.log(1, "events.sync.jsonl"), line(98).as_bytes());
            }),
            ("a conflict copy grown", &|w| {
                append(w.log(2, "events.copy.jsonl"), &line(97));
            }),
            ("a conflict copy removed", &|w| {
                std::fs::remove_file(w.log(2, "events.copy.jsonl")).expect("removed");
            }),
            ("an edit of the same size, its time put back", &|w| {
                let path = w.log(1, LOG);
                let text = std::fs::read_to_string(&path).expect("a log");
                let time = path.metadata().and_then(|m| m.modified()).expect("a time");
                w.write(&path, text.replace("model-1", "model-X").as_bytes());
                let file = File::options().append(true).open(&path).expect("a log");
                file.set_modified(time).expect("the time can be set");
            }),
            ("a log replaced by a link to the same", &|w| {
                std::fs::rename(w.log(1, LOG), w.root().join("elsewhere")).expect("renamed");
                std::os::unix::fs::symlink("../../elsewhere", w.log(1, LOG)).expect("a link");
            }),
            ("a directory replaced by a link to the same", &|w| {
                std::fs::rename(w.session(1), w.root().join("elsewhere")).expect("renamed");
                std::os::unix::fs::symlink("../elsewhere", w.session(1)).expect("a link");
            }),
            ("a log emptied", &|w| w.write(&w.log(1, LOG), b"")),
        ];
        for (name, change) in rows {
            let world = World::new();
            let before = world.list();
            world.age_sessions();
            change(&world);
            let with = world.list();
            let without = world.list_without_index();
            assert_eq!(with, without, "{name}");
            assert_eq!(with == before, name == "nothing", "{name}: {with:?}");
        }
    }

    #[test]
    fn where_nothing_changed_nothing_is_written() {
        let world = World::new();
        world.list();
        world.age_sessions();
        let look = || {
            world.index().metadata().map(|m| {
                use std::os::unix::fs::MetadataExt;
                (m.ino(), m.mtime(), m.len())
            })
        };
        let before = look().expect("there is an index");
        world.list();
        assert_eq!(look().expect("there is an index"), before);
    }

    #[test]
    fn what_changed_just_before_the_index_is_believed_from_the_next_one_on() {
        let world = World::new();
        let stat = || platform::stat(&std::fs::File::open(world.index())?);
        let inode = || stat().map(|stat| stat.identity.1).ok();
        world.list();
        let first = inode().expect("there is an index");
        let bytes = Bytes {
            written: Stamp::of(&stat().expect("an index")).modified(),
            bytes: world.read_index(),
        };
        let index = Index::parse(&bytes);
        let entry = Entry::read(index.lines[0].1).expect("a line");
        assert!(!index.believes(&entry), "it is too young");
        world.list();
        assert_eq!(inode(), Some(first), "another look now would not help");
        let later = Timestamp::from_ms(clock::now().as_ms() + 3000);
        list_at(&world.store, later).expect("a list");
        assert_ne!(inode(), Some(first), "now it does");
    }

    #[test]
    fn what_stands_in_the_way_of_the_index_only_makes_it_slower() {
        let world = World::new();
        let truth = world.list();
        let cache = world.root().join(CACHE);
        std::fs::remove_dir_all(&cache).expect("there was a cache");
        world.write(&cache, b"a file");
        assert_eq!(world.list(), truth);
        assert_eq!(std::fs::read(&cache).expect("a file"), b"a file");
        std::fs::remove_file(&cache).expect("removed");
        std::fs::create_dir_all(world.index()).expect("a directory");
        assert_eq!(world.list(), truth);
        let left = std::fs::read_dir(&cache).expect("a directory").count();
        assert_eq!(left, 1, "nothing half written stays");
        std::fs::remove_dir_all(&cache).expect("removed");
        std::os::unix::fs::symlink(world.dir.path(), &cache).expect("a link");
        assert_eq!(world.list(), truth);
        assert!(
            !world.dir.path().join(INDEX).exists(),
            "a link is not followed"
        );
        assert!(
            world.store.reindex().is_err(),
            "who asked for an index is told"
        );
    }
}
