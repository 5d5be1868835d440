//! References resolved: each piece of a prompt becomes text, in the order of the prompt, and what
//! was read for it is noted. What is included is not looked at for references again.

use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::content::{Content, read_text};
use super::parse::{Piece, Reading, Target, Wanted, Word, parse};
use super::refusal::Refusal;
use super::workspace::{Opened, Workspace};
use super::{listing, render, search};
use crate::error::{Code, Error, Result};
use crate::session::event::{Reference, ReferenceStatus};
use crate::store::append::{LONGEST_LINE, too_long};
use crate::warning::Warning;

/// How references are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The directory they resolve under and cannot leave.
    pub root: PathBuf,
    /// Bytes that are read of each.
    pub max_file_bytes: u64,
    /// Whether one that cannot be read ends the call.
    pub is_strict: bool,
    /// References to add at the end, without their `@`.
    pub added: Vec<PathBuf>,
}

/// A prompt with everything in it that it refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// What is sent.
    pub text: String,
    /// What was read for it.
    pub references: Vec<Reference>,
    /// What is worth telling.
    pub warnings: Vec<Warning>,
}

/// Expands a prompt. Where nothing in it can be a reference, nothing is opened. `stdin` is `None`
/// where the prompt itself came from there.
///
/// # Errors
/// `usage` for a root that cannot be opened, or for `@-` where standard input is the prompt;
/// `reference` for what cannot be read, if the rules are strict; `store_unsupported` when the
/// whole is longer than a line of the log.
pub fn expand<'a>(
    text: String,
    rules: &'a Rules,
    stdin: Option<&'a mut dyn Read>,
) -> Result<Expanded> {
    if !text.contains('@') && rules.added.is_empty() {
        return Ok(Expanded {
            text,
            ..Expanded::default()
        });
    }
    let mut expansion = Expansion {
        rules,
        stdin: stdin.map_or(Stdin::IsThePrompt, Stdin::Unread),
        workspace: None,
        done: Expanded::default(),
        is_after_block: false,
    };
    for piece in parse(&text) {
        match piece {
            Piece::Text(text) => expansion.push_text(text),
            Piece::Word(word) => expansion.word(&word)?,
        }
    }
    for added in &rules.added {
        expansion.added(added)?;
    }
    Ok(expansion.done)
}

/// Standard input, which can be read once.
enum Stdin<'a> {
    IsThePrompt,
    Unread(&'a mut dyn Read),
    Read,
}

struct Expansion<'a> {
    rules: &'a Rules,
    stdin: Stdin<'a>,
    /// The root, once something was looked for in it.
    workspace: Option<Workspace>,
    done: Expanded,
    is_after_block: bool,
}

impl Expansion<'_> {
    fn push_text(&mut self, text: &str) {
        if self.is_after_block {
            render::push_after_block(&mut self.done.text, text);
        } else {
            self.done.text.push_str(text);
        }
        self.is_after_block &= text.is_empty();
    }

    fn word(&mut self, word: &Word<'_>) -> Result<()> {
        match self.chosen(word)? {
            Some(Reading { target, rest }) => {
                self.include(target)?;
                self.push_text(rest);
            }
            None => self.push_text(word.typed),
        }
        Ok(())
    }

    /// Returns the longest reading that names something, else the shortest; `None` where the word
    /// is plain text.
    fn chosen<'w, 't>(&mut self, word: &'w Word<'t>) -> Result<Option<&'w Reading<'t>>> {
        if word.readings.len() > 1 || word.only_if_there {
            let workspace = self.workspace()?;
            for reading in &word.readings {
                if workspace.has(&reading.target.path) {
                    return Ok(Some(reading));
                }
            }
        }
        Ok(word.readings.last().filter(|_| !word.only_if_there))
    }

    fn added(&mut self, path: &Path) -> Result<()> {
        let target = match path.to_str() {
            Some(typed) => Target::of(typed),
            None => Target {
                typed: render::shown(path.as_os_str()).into_owned(),
                path: path.to_owned(),
                wanted: Wanted::Contents,
            },
        };
        self.include(&target)
    }

    /// Puts what is referred to in the place of the reference.
    fn include(&mut self, target: &Target) -> Result<()> {
        let (heading, read) = self.read(target)?;
        let typed = render::shown(target.typed.as_ref());
        let (content, status) = match &read {
            Ok(content) => {
                let cut = content.cut.as_ref();
                let warning = cut.map(|cut| Warning::ReferenceCut {
                    path: typed.to_string(),
                    shown: cut.clone(),
                });
                self.done.warnings.extend(warning);
                let status = cut.map_or(ReferenceStatus::Ok, |_| ReferenceStatus::Truncated);
                (Some(content), status)
            }
            Err(refusal) if self.rules.is_strict => {
                let error = Error::new(Code::Reference, format!("cannot read `@{typed}`"));
                return Err(error
                    .because(refusal)
                    .hint("without --strict-refs the prompt says so in its place and is sent"));
            }
            Err(refusal) => {
                self.done.warnings.push(Warning::ReferenceUnread {
                    path: typed.to_string(),
                    cause: refusal.to_string(),
                });
                (None, refusal.status())
            }
        };
        self.done.references.push(Reference {
            path: target.typed.clone(),
            bytes: content.map_or(0, |content| content.text.len() as u64),
            sha256: content.map(Content::sha256),
            status,
            error: read.as_ref().err().map(ToString::to_string),
        });
        let block = render::block(&heading, read.as_ref());
        render::push_block(&mut self.done.text, &block);
        self.is_after_block = true;
        fits(&self.done.text)
    }

    /// Reads what is referred to, and says what it is called.
    fn read(&mut self, target: &Target) -> Result<(String, Included)> {
        let most = self.rules.max_file_bytes.min(LONGEST_LINE);
        if target.wanted == Wanted::Stdin {
            return Ok((render::heading(target, false), self.read_stdin(most)?));
        }
        let workspace = self.workspace()?;
        let (mut is_directory, path) = (false, &target.path);
        let read = match &target.wanted {
            Wanted::Stdin => unreachable!("it was read above"),
            Wanted::Contents => match workspace.open_any(path) {
                Ok(Opened::File(file, size)) => read_text(file, most, Some(size)),
                Ok(Opened::Directory(dir)) => {
                    is_directory = true;
                    listing::list_opened(&dir, most)
                }
                Err(refusal) => Err(refusal),
            },
            Wanted::List => listing::list(workspace, path, most),
            Wanted::Tree => listing::tree(workspace, path, most),
            Wanted::Search(pattern) => {
                let name = render::search_heading(path);
                search::search(workspace, path, &name, pattern, most)
            }
        };
        Ok((render::heading(target, is_directory), read))
    }

    fn read_stdin(&mut self, most: u64) -> Result<Included> {
        match std::mem::replace(&mut self.stdin, Stdin::Read) {
            Stdin::Unread(reader) => Ok(read_text(reader, most, None)),
            Stdin::Read => Ok(Err(Refusal::StdinRead)),
            Stdin::IsThePrompt => Err(Error::new(
                Code::Usage,
                "`@-` and --prompt - both read standard input",
            )
            .hint("give the prompt with --prompt TEXT or --prompt-file PATH, or write `\\@-`")),
        }
    }

    /// Returns the root, opened when it is needed first.
    fn workspace(&mut self) -> Result<&Workspace> {
        let workspace = match self.workspace.take() {
            Some(workspace) => workspace,
            None => Workspace::open(&self.rules.root)
                .map_err(|cause| no_root(&self.rules.root, cause))?,
        };
        Ok(self.workspace.insert(workspace))
    }
}

/// What a reference becomes, or why there is nothing.
type Included = std::result::Result<Content, Refusal>;

fn no_root(root: &Path, cause: impl Display) -> Error {
    let sentence = format!("cannot open the root of references `{}`", root.display());
    Error::new(Code::Usage, sentence)
        .because(cause)
        .hint("--repo-root names the directory that `@` paths resolve under")
}

/// Refuses what no line of the log can hold, before there is more of it.
fn fits(text: &str) -> Result<()> {
    if text.len() as u64 > LONGEST_LINE {
        return Err(too_long(text.len() as u64));
    }
    Ok(())
}
