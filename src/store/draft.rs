//! Drafts: turns under way, failed or killed.
//!
//! A draft is made before the model is asked and held by its process with an exclusive lock. When
//! the turn is stored it is removed. So one whose lock is free failed or was killed, and what was
//! asked is still there. It is not synced: what a loss of power takes is a question, not an
//! answer.

use std::fs::File;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::files::{Access, Dir, Doing, identity};
use super::layout::{DRAFT_SUFFIX, TEMPORARY};
use super::lock;
use crate::clock;
use crate::error::{Error, Result};
use crate::json;
use crate::session::attachment::Attachments;
use crate::session::event::{ForkedFrom, Key, Reference, Settings, Timestamp};
use crate::session::id::{EventId, SessionId};
use crate::session::redact::may_be_hidden;

/// The largest draft that is read: a prompt and a partial reply, each of at most a line.
const LARGEST: u64 = 2 * super::log::LONGEST_LINE;

/// What a draft says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// The format version.
    pub v: u32,
    /// The draft's own id; also the name of its file.
    pub id: EventId,
    /// When it was made.
    pub ts: Timestamp,
    /// The session the turn belongs to, which need not exist yet.
    pub session: SessionId,
    /// The settings the session has or would have had.
    pub settings: Settings,
    /// What the user said, with everything expanded into it.
    pub prompt: String,
    /// What was read for the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// The options of the request.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Whether thinking was asked for, and how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Value>,
    /// What goes with the prompt; images whole, for the session may not be there yet.
    #[serde(default, skip_serializing_if = "Attachments::is_empty")]
    pub attachments: Attachments,
    /// What flags said of the session, from this turn on.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub given: Settings,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The history the session was to begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    /// Why there is no turn: what went to stderr. Absent under way and after a kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// What had arrived of the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// What had arrived of the thinking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
}

/// A draft this process holds.
#[derive(Debug)]
pub struct OpenDraft<'a> {
    dir: &'a Dir,
    draft: Draft,
    _held: File,
}

fn file_name(id: EventId) -> String {
    format!("{id}{DRAFT_SUFFIX}")
}

impl<'a> OpenDraft<'a> {
    /// Writes a draft and holds it.
    ///
    /// # Errors
    /// When it cannot be written: then neither could the turn be.
    pub(super) fn create(dir: &'a Dir, draft: Draft) -> Result<Self> {
        let name = file_name(draft.id);
        // It gets its name when it is held and whole: who lists drafts sees it so or not at all.
        let temporary = format!("{TEMPORARY}{}", draft.id);
        let written = write_new(dir, &temporary, &draft);
        let held = written
            .and_then(|held| dir.rename(&temporary, &name).map(|()| held))
            .inspect_err(|_| drop(dir.remove_file(&temporary)))
            .doing("write the draft", dir.path_of(&name))?;
        Ok(Self {
            dir,
            draft,
            _held: held,
        })
    }

    /// Takes over a draft of a turn that failed or was killed, to ask for it again. `None` where
    /// it is under way, also because another process was faster; or where it is gone.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub(super) fn take_over(dir: &'a Dir, id: EventId) -> Result<Option<Self>> {
        let name = file_name(id);
        let doing = "take over the draft";
        let file = match dir.open_file(&name, Access::Append) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.doing(doing, dir.path_of(&name))?,
        };
        if !lock::try_hold(&file) || !is_named(dir, &name, &file) {
            return Ok(None);
        }
        let mut text = Vec::new();
        let read = (&file).take(LARGEST).read_to_end(&mut text);
        read.doing("read", dir.path_of(&name))?;
        let draft = serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .doing("read the draft", dir.path_of(&name))?;
        Ok(Some(Self {
            dir,
            draft,
            _held: file,
        }))
    }

    /// Returns what it says.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Removes the draft: its turn is stored. One that cannot be removed does no harm but to be
    /// listed.
    pub fn done(self) {
        let _ = self.dir.remove_file(&file_name(self.draft.id));
    }

    /// Keeps what had arrived and why it was no more. Best effort: the call has failed already,
    /// and the draft as it was first written still says what was asked.
    pub fn fail(mut self, error: &Error, response: String, thinking: Option<String>) {
        self.draft.error = serde_json::to_value(error.report()).ok();
        self.draft.response = Some(response);
        self.draft.thinking = thinking;
        let temporary = format!("{TEMPORARY}{}", self.draft.id);
        match write_new(self.dir, &temporary, &self.draft) {
            Ok(_held) => drop(self.dir.rename(&temporary, &file_name(self.draft.id))),
            Err(_) => drop(self.dir.remove_file(&temporary)),
        }
    }
}

/// Tells whether a file that is open has still its name: a turn that was stored removed it, one
/// that failed again has put another in its place.
fn is_named(dir: &Dir, name: &str, file: &File) -> bool {
    let named = dir.stat(name).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((named, identity(file)), (Ok(named), Ok(open)) if named == open)
}

/// Writes a file that is held from before its first byte.
fn write_new(dir: &Dir, name: &str, draft: &impl Serialize) -> io::Result<File> {
    let mut file = dir.create_file(name)?;
    lock::hold(&file);
    let written = file.write_all((json::line(draft) + "\n").as_bytes());
    if let Err(cause) = written {
        let _ = dir.remove_file(name);
        return Err(cause);
    }
    Ok(file)
}

/// A draft as it was found.
#[derive(Debug)]
pub struct FoundDraft {
    /// Its id, from the file's name.
    pub id: EventId,
    /// Whether a process holds it: the turn is under way.
    pub under_way: bool,
    /// What it says; `None` where that cannot be read.
    pub draft: Option<Draft>,
}

/// Returns every draft, oldest first. One that vanishes meanwhile was stored.
///
/// # Errors
/// When the directory cannot be listed.
pub(super) fn list(dir: &Dir) -> Result<Vec<FoundDraft>> {
    let mut ids: Vec<EventId> = Vec::new();
    dir.for_each_name(|name| {
        let id = name
            .strip_suffix(DRAFT_SUFFIX)
            .and_then(|id| id.parse::<EventId>().ok());
        ids.extend(id);
    })
    .doing("list", dir.path())?;
    ids.sort_unstable();
    Ok(ids.into_iter().filter_map(|id| find(dir, id)).collect())
}

fn find(dir: &Dir, id: EventId) -> Option<FoundDraft> {
    let file = dir.open_file(&file_name(id), Access::Read).ok()?;
    let under_way = lock::is_held(&file);
    let mut text = Vec::new();
    let read = file.take(LARGEST).read_to_end(&mut text);
    let draft = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
    Some(FoundDraft {
        id,
        under_way,
        draft,
    })
}

/// What became of a draft whose text was to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewritten {
    /// It says something else now, or would.
    Changed,
    /// There was nothing to change, or the draft is gone.
    Unchanged,
    /// A process holds it, which may write it again.
    UnderWay,
    /// It cannot be read.
    Unreadable,
}

/// Puts another text in the place of every text of a draft for which `cover` has one, unless it is
/// only to be found out whether there is one. The new draft replaces the old by a rename.
///
/// # Errors
/// As the system says; the draft is as it was then.
pub(super) fn rewrite(
    dir: &Dir,
    id: EventId,
    dry_run: bool,
    cover: &dyn Fn(&str) -> Option<String>,
) -> Result<Rewritten> {
    let name = file_name(id);
    let path = dir.path_of(&name);
    let file = match dir.open_file(&name, Access::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Rewritten::Unchanged),
        opened => opened.doing("open the draft", &path)?,
    };
    let under_way = lock::is_held(&file);
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .doing("read the draft", &path)?;
    let Ok(mut draft) = serde_json::from_slice::<Map<String, Value>>(&text) else {
        return Ok(if under_way {
            Rewritten::UnderWay
        } else {
            Rewritten::Unreadable
        });
    };
    if under_way {
        return Ok(Rewritten::UnderWay);
    }
    let mut is_changed = false;
    for (name, value) in draft.iter_mut() {
        if may_be_hidden(name) && name != "session" {
            let has_free_names = name.starts_with("tool") || name == "options";
            let images = value.get_mut("images").map(Value::take);
            is_changed |= cover_all(value, cover, has_free_names);
            // Bytes that are no text.
            if let (Some(images), Some(place)) = (images, value.get_mut("images")) {
                *place = images;
            }
        }
    }
    // Of the settings only these are texts of the user's own.
    if let Some(Value::Object(settings)) = draft.get_mut("settings") {
        for (name, value) in settings.iter_mut() {
            if may_be_hidden(name) {
                is_changed |= cover_all(value, cover, name == "tags");
            }
        }
    }
    if !is_changed {
        return Ok(Rewritten::Unchanged);
    }
    if !dry_run {
        let fresh = format!("{TEMPORARY}{}", new_id(clock::now()));
        let written = write_new(dir, &fresh, &draft);
        written
            .and_then(|_held| dir.rename(&fresh, &name))
            .inspect_err(|_| drop(dir.remove_file(&fresh)))
            .doing("write the draft", &path)?;
    }
    Ok(Rewritten::Changed)
}

/// Covers every text in a value, and names of fields where anybody may choose these; tells whether
/// there was any.
fn cover_all(
    value: &mut Value,
    cover: &dyn Fn(&str) -> Option<String>,
    has_free_names: bool,
) -> bool {
    let inside = |value: &mut Value| cover_all(value, cover, has_free_names);
    match value {
        Value::String(text) => match cover(text) {
            Some(covered) => {
                *text = covered;
                true
            }
            None => false,
        },
        Value::Array(values) => {
            // Every one of them, not up to the first.
            let changed = values
                .iter_mut()
                .map(inside)
                .filter(|is_changed| *is_changed);
            changed.count() > 0
        }
        Value::Object(fields) => {
            let mut is_changed = false;
            let covered = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                is_changed |= inside(&mut value);
                let covered = cover(&name).filter(|_| has_free_names);
                is_changed |= covered.is_some();
                (covered.unwrap_or(name), value)
            });
            *fields = covered.collect();
            is_changed
        }
        _ => false,
    }
}

/// Removes a draft.
///
/// # Errors
/// As the system says; one that is gone already is no error.
pub(super) fn remove(dir: &Dir, id: EventId) -> Result<()> {
    let name = file_name(id);
    match dir.remove_file(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove the draft", dir.path_of(&name)),
    }
}

/// Returns a fresh id for a draft.
#[must_use]
pub fn new_id(now: Timestamp) -> EventId {
    EventId::next(now.as_ms(), None, clock::random_bits())
}
