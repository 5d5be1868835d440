//! Sessions for other programs and for people: to standard output, a file or a directory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::compact::chosen;
use crate::cli::{Export, ExportForm, Invocation, Selection};
use crate::error::{Code, Error, Result};
use crate::output::export::{Put, Stop, about, separator, write};
use crate::output::{ExportReport, Outcome, Stream, page};
use crate::session::id::SessionId;
use crate::signals::Hold;
use crate::store::files::Dir;
use crate::store::files::temporary_name;
use crate::store::history::History;
use crate::store::{self, Store, not_found};
use crate::user_file::Doing;
use crate::warning::Warning;

/// How much is printed at once.
const PIECE: usize = 64 << 10;

/// Exports sessions in the order of their ids.
pub(super) fn run(export: &Export, invocation: &Invocation) -> Result<Outcome> {
    let store = store::open(&invocation.location()?)?;
    let ids = match (&store, &export.sessions) {
        (Some(store), sessions) => chosen(&**store, sessions)?,
        (None, Selection::All) => Vec::new(),
        (None, Selection::These(references)) => return Err(not_found(&references[0])),
    };
    let sessions = Sessions {
        store,
        ids,
        form: export.to,
        is_all: export.sessions == Selection::All,
    };
    sessions.must_be_there()?;
    sessions.must_have_room(export.out.as_deref())?;
    let Some(out) = &export.out else {
        return Ok(Outcome::stream(sessions));
    };
    let mut warnings = Vec::new();
    let report = sessions.write_to(out, &mut warnings)?;
    Ok(Outcome {
        warnings,
        ..Outcome::report(report)
    })
}

/// What is to be exported.
#[derive(Debug)]
struct Sessions {
    store: Option<Box<dyn Store>>,
    ids: Vec<SessionId>,
    form: ExportForm,
    /// Whether nobody named them: what cannot be read is told then and keeps no other back.
    is_all: bool,
}

impl Stream for Sessions {
    fn run(&mut self, print: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Vec<Warning>> {
        let mut text = String::new();
        let mut put = |piece: &str| {
            text.push_str(piece);
            if text.len() >= PIECE {
                let flow = print(&text);
                text.clear();
                if flow.is_break() {
                    return Err(Stop::Closed);
                }
            }
            Ok(())
        };
        let mut warnings = Vec::new();
        let written = self.write_all(&mut put, &mut warnings);
        let _ = print(&text);
        match written {
            Err(Stop::Failed(error)) => Err(error),
            Ok(_) | Err(Stop::Closed) => Ok(warnings),
        }
    }
}

impl Sessions {
    /// Makes sure, before anything is written, that what was named is there.
    fn must_be_there(&self) -> Result<()> {
        let Some(store) = self.store.as_ref().filter(|_| !self.is_all) else {
            return Ok(());
        };
        for id in &self.ids {
            if !store.has_name(*id)? {
                return Err(not_found(id).session(*id));
            }
        }
        Ok(())
    }

    /// Makes sure that pages do not run into one another.
    fn must_have_room(&self, out: Option<&Path>) -> Result<()> {
        let in_one = out.is_none_or(|out| !is_directory(out));
        if self.form == ExportForm::Html && in_one && (self.is_all || self.ids.len() > 1) {
            let sentence = "several sessions do not go into one page";
            return Err(Error::new(Code::Usage, sentence)
                .hint("name one, or give --out DIRECTORY/ for a page each and an index"));
        }
        Ok(())
    }

    /// Opens a session; `None` where there is nothing of it to export.
    fn open(&self, id: SessionId, warnings: &mut Vec<Warning>) -> Result<Option<History<'_>>> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        match store.history(id) {
            Ok(None) if !self.is_all => Err(not_found(id).session(id)),
            Ok(found) => {
                let damaged = found.as_ref().map_or(0, |history| history.damaged);
                warnings.extend((damaged > 0).then_some(Warning::Damaged {
                    session: id,
                    places: damaged,
                }));
                Ok(found)
            }
            Err(error) if self.is_all => {
                let cause = error.to_string();
                warnings.push(Warning::NotExported { session: id, cause });
                Ok(None)
            }
            Err(error) => Err(error.session(id)),
        }
    }

    /// Writes all of them to one place. Returns how many, and how many turns.
    fn write_all(
        &self,
        put: &mut Put<'_>,
        warnings: &mut Vec<Warning>,
    ) -> std::result::Result<(usize, u64), Stop> {
        let (mut sessions, mut turns) = (0, 0);
        for id in &self.ids {
            if let Some(history) = self.open(*id, warnings)? {
                if sessions > 0 {
                    put(separator(self.form))?;
                }
                write(self.form, &history, put)?;
                sessions += 1;
                turns += history.turns;
            }
        }
        Ok((sessions, turns))
    }

    fn write_to(&self, out: &Path, warnings: &mut Vec<Warning>) -> Result<ExportReport> {
        let mut report = ExportReport {
            out: out.display().to_string(),
            sessions: 0,
            turns: 0,
            files: 0,
            bytes: 0,
            warnings: Vec::new(),
        };
        if !is_directory(out) {
            let mut file = Target::open(out)?;
            (report.sessions, report.turns) = file.write(|put| self.write_all(put, warnings))?;
            report.bytes = file.finish(true)?;
            report.files = 1;
            return Ok(report);
        }
        std::fs::create_dir_all(out).doing("make", out)?;
        let mut pages = Vec::new();
        for id in &self.ids {
            if let Some(history) = self.open(*id, warnings)? {
                let name = format!("{id}.{}", self.form.extension());
                let mut file = Target::open(&out.join(&name))?;
                file.write(|put| write(self.form, &history, put))?;
                report.bytes += file.finish(false)?;
                report.sessions += 1;
                report.turns += history.turns;
                report.files += 1;
                if self.form == ExportForm::Html {
                    pages.push((about(&history), name));
                }
            }
        }
        if self.form == ExportForm::Html {
            let mut file = Target::open(&out.join("index.html"))?;
            file.write(|put| put(&page::index(&pages)))?;
            report.bytes += file.finish(false)?;
            report.files += 1;
        }
        let dir = Dir::open(out).doing("open", out)?;
        dir.sync().doing("sync", out)?;
        Ok(report)
    }
}

/// Tells whether a path is that of a directory, be it there or not.
fn is_directory(out: &Path) -> bool {
    out.is_dir() || out.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// A file that is being written: under another name until it is whole, so that one which is there
/// already stays until then. A signal ends that, and takes the other name away.
struct Target {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    /// Nobody holds signals back where a write may wait for a reader.
    hold: Option<Hold>,
    /// The directory it is in, its name there now and in the end; `None` for what is no regular
    /// file and is written to as it is: a pipe, a device.
    renamed: Option<(Dir, String, String)>,
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        let made = |file, hold, renamed| Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(PIECE, file),
            bytes: 0,
            hold,
            renamed,
        };
        // A link leads to the file that is meant.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if real.exists() && !real.is_file() {
            let file = OpenOptions::new().write(true).open(&real);
            return Ok(made(file.doing("open", path)?, None, None));
        }
        let name = real.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| bad_target(path, "the name is not UTF-8"))?;
        let parent = real
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let dir = match Dir::open(parent.unwrap_or(Path::new("."))) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(bad_target(path, "there is no such directory"));
            }
            opened => opened.doing("open the directory of", path)?,
        };
        let hold = Hold::new()?;
        // One that came before ends the process in a moment, and nobody would remove the file.
        if let Some(signal) = hold.first() {
            return Err(signal);
        }
        let temporary = temporary_name();
        let file = dir.create_file(&temporary).doing("make", path)?;
        let renamed = Some((dir, temporary, name.to_owned()));
        Ok(made(file, Some(hold), renamed))
    }

    fn write<T>(
        &mut self,
        fill: impl FnOnce(&mut Put<'_>) -> std::result::Result<T, Stop>,
    ) -> Result<T> {
        let Self {
            path,
            file,
            bytes,
            hold,
            ..
        } = self;
        let filled = fill(&mut |text: &str| {
            if let Some(signal) = hold.as_ref().and_then(Hold::first) {
                return Err(Stop::Failed(signal));
            }
            *bytes += text.len() as u64;
            let written = file.write_all(text.as_bytes());
            written.doing("write", &*path).map_err(Stop::from)
        });
        filled.map_err(|stop| {
            self.give_up();
            match stop {
                Stop::Failed(error) => error,
                Stop::Closed => unreachable!("a file has no reader that could go"),
            }
        })
    }

    /// Puts the file where it is to be. Returns how many bytes it has.
    fn finish(mut self, sync_dir: bool) -> Result<u64> {
        let finished = self.put_in_place(sync_dir);
        if finished.is_err() {
            self.give_up();
        }
        finished.map(|()| self.bytes)
    }

    fn put_in_place(&mut self, sync_dir: bool) -> Result<()> {
        let path = &self.path;
        self.file.flush().doing("write", path)?;
        let Some((dir, temporary, name)) = &self.renamed else {
            return Ok(());
        };
        self.file.get_ref().sync_data().doing("write", path)?;
        if let Some(signal) = self.hold.as_ref().and_then(Hold::first) {
            return Err(signal);
        }
        dir.rename(temporary, name).doing("write", path)?;
        if sync_dir {
            dir.sync().doing("write", path)?;
        }
        Ok(())
    }

    fn give_up(&self) {
        if let Some((dir, temporary, _)) = &self.renamed {
            // What stays in spite of this has a name nobody takes for an export.
            let _ = dir.remove_file(temporary);
        }
    }
}

fn bad_target(path: &Path, cause: &str) -> Error {
    let sentence = format!("cannot export to `{}`", path.display());
    Error::new(Code::Usage, sentence)
        .because(cause)
        .hint("--out takes a file in a directory that is there, or a directory")
}
