//! Conversations of other programs, and exports of this one, brought into the store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::cli::{Import, Invocation};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::import::detect::{PEEK, Seen, detect};
use crate::import::events::{Defaults, events, session_id};
use crate::import::{Item, Kind, Lines, Session, chatgpt, claude, codex, native, openai};
use crate::output::{ImportReport, ImportedSource, Outcome, SkippedItem};
use crate::progress::{Progress, Steps};
use crate::session::event::{APP, Timestamp};
use crate::session::id::SessionId;
use crate::store::import::{Added, Incoming};
use crate::store::{self, Durability, Store, Writable};
use crate::user_file::Doing;

/// How much that was skipped is named; the rest is counted.
const NAMED: usize = 100;

/// Imports what a source holds. What is here already stays as it is.
pub(super) fn run(
    import: &Import,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let sources = sources(import)?;
    let store = match import.dry_run {
        true => store::open(&invocation.location()?)?,
        false => Some(store::open_or_make(&invocation.location()?)?),
    };
    let writable = match &store {
        Some(store) if !import.dry_run => Some(store.for_writing(invocation.lock_timeout)?),
        _ => None,
    };
    let purged = match &store {
        Some(store) if !import.include_purged => store
            .receipts()?
            .into_iter()
            .map(|receipt| receipt.session)
            .collect(),
        _ => BTreeSet::new(),
    };
    let mut importer = Importer {
        import,
        progress,
        store: store.as_deref(),
        writable,
        purged,
        touched: BTreeSet::new(),
        report: ImportReport {
            dry_run: import.dry_run,
            ..ImportReport::default()
        },
    };
    let is_single = sources.len() == 1;
    let imported = sources
        .iter()
        .try_for_each(|source| match importer.source(source) {
            Err(error) if !is_single && is_its_own(&error) => {
                importer.skip(source, source.name(), error.to_string());
                Ok(())
            }
            done => done,
        });
    // What came before a failure stays, so it is to outlive a loss of power as well.
    let synced = match &importer.writable {
        Some(writable) if invocation.durability == Durability::Full => {
            writable.sync_added(&importer.touched)
        }
        _ => Ok(()),
    };
    imported.and(synced)?;
    Ok(Outcome::report(importer.report))
}

/// Tells whether a failure is that of a source: others in the same directory may be sound.
fn is_its_own(error: &Error) -> bool {
    matches!(error.code, Code::Usage | Code::Config)
}

/// Where something is read from.
#[derive(Debug)]
enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Stdin => "standard input".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Returns when what has no date of its own was said, at the latest.
    fn date(&self) -> Timestamp {
        let modified = match self {
            Self::Stdin => None,
            Self::File(path) => path.metadata().and_then(|file| file.modified()).ok(),
        };
        modified.map_or_else(clock::now, |at| Timestamp(at.into()))
    }
}

/// Returns the files that are meant.
fn sources(import: &Import) -> Result<Vec<Source>> {
    let Some(path) = &import.source else {
        let found = import.known_places.iter().find(|path| path.is_file());
        let looked: Vec<String> = import
            .known_places
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        return found
            .map(|path| vec![Source::File(path.clone())])
            .ok_or_else(|| {
                Error::new(Code::Usage, "there is no sessions.db of the Python tool")
                    .because(format!("none of {} is there", looked.join(", ")))
                    .hint("name the file: ollama-prompt session import FILE")
            });
    };
    if path == Path::new("-") {
        return Ok(vec![Source::Stdin]);
    }
    let missing = |cause: &dyn std::fmt::Display| {
        Error::new(
            Code::Usage,
            format!("there is nothing to import at `{}`", path.display()),
        )
        .because(cause)
        .hint("name a file, a directory of files, or `-` for standard input")
    };
    match path.metadata() {
        Err(error) => Err(missing(&error)),
        Ok(found) if found.is_dir() => {
            if path.join("sessions").is_dir() && !path.join("conversations.json").exists() {
                return Err(missing(&"it is a store itself")
                    .hint("ollama-prompt session merge DIR adds what another store has more"));
            }
            let files = walkdir::WalkDir::new(path).sort_by_file_name().into_iter();
            let files = files
                .filter_map(std::result::Result::ok)
                .map(walkdir::DirEntry::into_path);
            let fits = |path: &PathBuf| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                path.is_file()
                    && extension
                        .is_some_and(|extension| ["jsonl", "json", "db"].contains(&extension))
            };
            let files: Vec<Source> = files.filter(fits).map(Source::File).collect();
            if files.is_empty() {
                return Err(missing(&"no file in it ends in .jsonl, .json or .db"));
            }
            Ok(files)
        }
        Ok(_) => Ok(vec![Source::File(path.clone())]),
    }
}

/// How much of a text is a step of the way, in bytes.
const STEP: u64 = 1 << 20;

/// A text that tells how much of it was read.
struct Told<'a> {
    read: Box<dyn Read>,
    steps: &'a Steps<'a>,
    bytes: u64,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read.read(buffer)?;
        let before = self.bytes / STEP;
        self.bytes += read as u64;
        (before..self.bytes / STEP).for_each(|_| self.steps.step());
        Ok(read)
    }
}

/// An import under way.
struct Importer<'a> {
    import: &'a Import,
    progress: &'a Progress,
    store: Option<&'a dyn Store>,
    /// `None` where nothing is to be written.
    writable: Option<Box<dyn Writable + 'a>>,
    /// Sessions that stay away.
    purged: BTreeSet<SessionId>,
    /// Sessions that are to be synced in the end.
    touched: BTreeSet<SessionId>,
    report: ImportReport,
}

impl Importer<'_> {
    fn source(&mut self, source: &Source) -> Result<()> {
        let name = source.name();
        let bytes = match source {
            Source::Stdin => 0,
            Source::File(path) => path.metadata().map_or(0, |file| file.len()),
        };
        let steps = usize::try_from(bytes / STEP).unwrap_or(usize::MAX);
        let steps = self.progress.begin("importing", steps);
        let read: Box<dyn Read> = match source {
            Source::Stdin => Box::new(io::stdin()),
            Source::File(path) => Box::new(File::open(path).doing("open", path)?),
        };
        let told = Told {
            read,
            steps: &steps,
            bytes: 0,
        };
        let mut reader = BufReader::with_capacity(PEEK, told);
        let seen = detect(&mut reader).doing("read", &name)?;
        if seen == Seen::Database {
            drop(reader);
            drop(steps);
            return self.database(source, &name);
        }
        let kind = kind_of(self.import.from, seen, &name)?;
        self.note(&name, kind);
        let Some(kind) = kind else {
            return Ok(());
        };
        let defaults = self.defaults(source);
        let stem = match source {
            Source::File(path) => path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or(&name)
                .to_owned(),
            Source::Stdin => name.clone(),
        };
        let mut take = |item: Item| self.item(kind, item, &name, &defaults);
        match kind {
            Kind::Native => native::read(&mut reader, &name, &mut take),
            Kind::OpenAi => openai::read(&mut reader, &name, &mut take),
            Kind::ChatGpt => chatgpt::read(&mut reader, &name, &mut take),
            Kind::Claude => claude::read(&mut reader, &stem, &mut take),
            Kind::Codex => codex::read(&mut reader, &stem, &mut take),
            Kind::Python | Kind::Llm => unreachable!("a database is none of these"),
        }
    }

    #[cfg(feature = "sqlite")]
    fn database(&mut self, source: &Source, name: &str) -> Result<()> {
        use crate::import::sqlite::{Database, unreadable};
        use crate::import::{llm, python};
        let Source::File(path) = source else {
            return Err(not_imported(name, "a database has to be a file")
                .hint("save it, and name the file"));
        };
        let database = Database::open(path)?;
        let kind = database.kind().map_err(|error| unreadable(path, &error))?;
        let kind = match (kind, self.import.from) {
            (None, _) => {
                return Err(not_imported(
                    name,
                    "it is a database of no kind that is known here",
                ));
            }
            (Some(kind), Some(from)) if kind != from => {
                return Err(not_imported(
                    name,
                    &format!("it is not of {} but of {}", from.name(), kind.name()),
                ));
            }
            (Some(kind), _) => kind,
        };
        self.note(name, Some(kind));
        let defaults = self.defaults(source);
        let rows = database
            .sessions(kind)
            .map_err(|error| unreadable(path, &error))?;
        let steps = self.progress.begin("importing", rows);
        let mut take = |item: Item| {
            steps.step();
            self.item(kind, item, name, &defaults)
        };
        match kind {
            Kind::Llm => llm::read(&database, path, &mut take),
            _ => python::read(&database, path, &mut take),
        }
    }

    #[cfg(not(feature = "sqlite"))]
    fn database(&mut self, _: &Source, name: &str) -> Result<()> {
        Err(not_imported(
            name,
            "it is an SQLite database, and this build has no SQLite",
        )
        .hint("build it with the feature `sqlite`, which is on by default"))
    }

    fn defaults(&self, source: &Source) -> Defaults {
        Defaults {
            model: self.import.model.clone(),
            max_context_tokens: self.import.max_context_tokens,
            undated: source.date(),
            app: APP.to_owned(),
        }
    }

    fn note(&mut self, name: &str, kind: Option<Kind>) {
        self.report.sources.push(ImportedSource {
            source: name.to_owned(),
            kind: kind.map(Kind::name),
        });
    }

    fn skip(&mut self, source: &Source, what: String, why: String) {
        self.skipped(&source.name(), what, why);
    }

    fn skipped(&mut self, source: &str, what: String, why: String) {
        self.report.skipped_total += 1;
        if self.report.skipped.len() < NAMED {
            let source = source.to_owned();
            self.report.skipped.push(SkippedItem { source, what, why });
        }
    }

    fn item(&mut self, kind: Kind, item: Item, source: &str, defaults: &Defaults) -> Result<()> {
        match item {
            Item::Skipped { what, why } => {
                self.skipped(source, what, why);
                Ok(())
            }
            Item::LeftOut { what, count } => {
                *self.report.left_out.entry(what).or_default() += count;
                Ok(())
            }
            Item::Lines(Lines {
                id, lines, blobs, ..
            }) => match id {
                Some(id) => self.add(
                    id,
                    Incoming::Lines {
                        lines: &lines,
                        blobs: &blobs,
                    },
                    source,
                ),
                None => Ok(()),
            },
            Item::Session(session) => self.session(kind, &session, source, defaults),
        }
    }

    fn session(
        &mut self,
        kind: Kind,
        session: &Session,
        source: &str,
        defaults: &Defaults,
    ) -> Result<()> {
        let events = events(kind, session, defaults);
        self.add(
            session_id(kind, &session.key),
            Incoming::Derived(&events),
            source,
        )
    }

    fn add(&mut self, id: SessionId, incoming: Incoming<'_>, source: &str) -> Result<()> {
        let is_here = match self.store {
            Some(store) => store.has_name(id)?,
            None => false,
        };
        if !is_here && self.purged.contains(&id) {
            self.report.skipped_purged.insert(id);
            return Ok(());
        }
        let added = match (&self.writable, self.store) {
            (Some(writable), _) => writable.add(id, incoming, self.import.include_purged),
            (None, Some(store)) => store.would_add(id, incoming),
            (None, None) => all(incoming),
        };
        let added = match added {
            // It is this one session that is not as it should be.
            Err(error) if error.code == Code::StoreUnsupported => {
                self.skipped(source, format!("session {id}"), error.to_string());
                return Ok(());
            }
            added => added?,
        };
        if added.is_purged {
            self.report.skipped_purged.insert(id);
            return Ok(());
        }
        self.count(id, added);
        Ok(())
    }

    fn count(&mut self, id: SessionId, added: Added) {
        let report = &mut self.report;
        if added.events == 0 {
            report.sessions_unchanged += 1;
            return;
        }
        report.turns_added += added.turns;
        report.events_added += added.events;
        if added.is_new && report.sessions.insert(id) {
            report.sessions_added += 1;
        } else if report.sessions.insert(id) {
            report.sessions_changed += 1;
        }
        self.touched.insert(id);
    }
}

/// What is added where there is no store yet.
fn all(incoming: Incoming<'_>) -> Result<Added> {
    use crate::session::event::{Body, Event};
    let is_turn = |event: &Event| matches!(event.body, Body::Turn(_));
    let (events, turns) = match incoming {
        Incoming::Derived(events) => (
            events.len(),
            events.iter().filter(|event| is_turn(event)).count(),
        ),
        Incoming::Lines { lines, .. } => {
            let turns = lines
                .values()
                .filter_map(|line| Event::from_slice(line).ok());
            (lines.len(), turns.filter(is_turn).count())
        }
    };
    Ok(Added {
        is_purged: false,
        is_new: true,
        events: events as u64,
        turns: turns as u64,
    })
}

/// Returns whose conversations a text has, by what was said of it or else by what is seen; `None`
/// where there is nothing in it.
fn kind_of(said: Option<Kind>, seen: Seen, name: &str) -> Result<Option<Kind>> {
    match (said, seen) {
        (Some(Kind::Python | Kind::Llm), _) => Err(not_imported(name, "it is no database")),
        (Some(kind), _) | (None, Seen::Text(kind)) => Ok(Some(kind)),
        (None, Seen::Nothing) => Ok(None),
        (None, Seen::Log) => {
            let why = "it is the log of a session as it lies in a store";
            Err(not_imported(name, why)
                .hint("ollama-prompt session merge DIR adds what another store has more"))
        }
        (None, Seen::Archive) => Err(not_imported(name, "it is an archive")
            .hint("unpack it, and name the file or the directory")),
        (None, Seen::Unknown | Seen::Database) => {
            Err(not_imported(name, "it is of no kind that is known here"))
        }
    }
}

fn not_imported(name: &str, cause: &str) -> Error {
    Error::new(Code::Usage, format!("cannot import {name}"))
        .because(cause)
        .hint("session import takes exports of this program, sessions.db, llm's logs.db, chat JSONL, ChatGPT's conversations.json, and transcripts of Claude Code and codex")
}
