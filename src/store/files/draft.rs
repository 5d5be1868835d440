//! Drafts as files, each held by its process with an exclusive lock.
//!
//! One whose lock is free failed or was killed. It is not synced: what a loss of power takes is a
//! question, not an answer.

use std::fs::File;
use std::io::{self, Read, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use super::dir::{Access, Dir, Doing, identity};
use super::layout::DRAFT_SUFFIX;
use super::lock;
use super::whole::{put, put_as};
use crate::error::Result;
use crate::json;
use crate::session::id::EventId;
use crate::store::append::LONGEST_LINE;
use crate::store::draft::{Draft, FoundDraft, HeldDraft, OpenDraft, Rewritten, cover_draft};

/// The largest draft that is read: a prompt and a partial reply, each of at most a line.
const LARGEST: u64 = 2 * LONGEST_LINE;

/// The file of a draft this process holds.
#[derive(Debug)]
struct DraftFile<'a> {
    dir: &'a Dir,
    id: EventId,
    _held: File,
}

fn file_name(id: EventId) -> String {
    format!("{id}{DRAFT_SUFFIX}")
}

/// Writes a draft and holds it.
///
/// # Errors
/// When it cannot be written: then neither could the turn be.
pub(super) fn create(dir: &Dir, draft: Draft) -> Result<OpenDraft<'_>> {
    let name = file_name(draft.id);
    // It gets its name when it is held and whole: who lists drafts sees it so or not at all.
    let held = put_as(draft.id, dir, &name, |file| hold_and_write(file, &draft))
        .doing("write the draft", dir.path_of(&name))?;
    Ok(open(dir, draft, held))
}

fn open(dir: &Dir, draft: Draft, held: File) -> OpenDraft<'_> {
    let id = draft.id;
    let file = DraftFile {
        dir,
        id,
        _held: held,
    };
    OpenDraft::new(draft, Box::new(file))
}

/// Takes over a draft of a turn that failed or was killed, to ask for it again. `None` where
/// it is under way, also because another process was faster; or where it is gone.
///
/// # Errors
/// When it cannot be opened or read.
pub(super) fn take_over(dir: &Dir, id: EventId) -> Result<Option<OpenDraft<'_>>> {
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
    Ok(Some(open(dir, draft, file)))
}

impl HeldDraft for DraftFile<'_> {
    fn remove(self: Box<Self>) {
        let _ = self.dir.remove_file(&file_name(self.id));
    }

    fn replace(self: Box<Self>, draft: &Draft) {
        let name = file_name(self.id);
        // The draft there was is better than none.
        let _ = put_as(self.id, self.dir, &name, |file| hold_and_write(file, draft));
    }
}

/// Tells whether a file that is open has still its name: a turn that was stored removed it, one
/// that failed again has put another in its place.
fn is_named(dir: &Dir, name: &str, file: &File) -> bool {
    let named = dir.stat(name).map(|stat| stat.identity);
    matches!((named, identity(file)), (Ok(named), Ok(open)) if named == open)
}

/// Writes a draft to a file that is held from before its first byte.
fn hold_and_write(mut file: File, draft: &impl Serialize) -> io::Result<File> {
    lock::hold(&file);
    file.write_all((json::line(draft) + "\n").as_bytes())?;
    Ok(file)
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
    if !cover_draft(&mut draft, cover) {
        return Ok(Rewritten::Unchanged);
    }
    if !dry_run {
        put(dir, &name, |file| hold_and_write(file, &draft)).doing("write the draft", &path)?;
    }
    Ok(Rewritten::Changed)
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
