//! The lines beneath a directory that match a regular expression, as ripgrep finds them.
//!
//! Whatever the expression and the files are, a search ends: matching takes time in proportion to
//! the text, compiled expressions, files, lines and the whole have limits.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkFinish, SinkMatch};

use super::content::{Content, Lines};
use super::listing::too_many;
use super::refusal::Refusal;
use super::render::shown;
use super::walk::{Found, Kind, Walk};
use super::workspace::{Opened, Workspace, open_in};
use crate::session::pattern::why_none;

/// Bytes a compiled expression may take.
const LARGEST_PATTERN: usize = 1 << 20;

/// Bytes that are searched of one file.
const MOST_OF_A_FILE: u64 = 16 << 20;

/// Bytes that are searched in all.
const MOST_IN_ALL: u64 = 256 << 20;

/// Bytes a line may have; in a file with a longer one the search ends there.
const LONGEST_LINE: usize = 1 << 20;

/// Bytes that are shown of a line.
const SHOWN: usize = 500;

/// How many directories are entered one below the other.
const DEEPEST: usize = 64;

/// Searches every text file beneath a directory that is not ignored, for at most `most` bytes of
/// result. `heading` is how the directory is called in it.
///
/// # Errors
/// Why the directory is not read, or the expression not used.
pub(super) fn search(
    workspace: &Workspace,
    path: &Path,
    heading: &str,
    pattern: &str,
    most: u64,
) -> Result<Content, Refusal> {
    let mut search = Search {
        matcher: matcher(pattern)?,
        searcher: SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .bom_sniffing(false)
            .heap_limit(Some(LONGEST_LINE))
            .build(),
        heading,
        lines: Lines::up_to(most),
        left: MOST_IN_ALL,
        is_whole: true,
    };
    let is_all = Walk::of(workspace, path, DEEPEST, &mut |found| search.visit(found))?;
    if !is_all {
        search.lines.stop(too_many());
    }
    if !search.is_whole {
        let shown = format!(
            "the first {} MiB of a file, {} MiB in all, {DEEPEST} directories deep",
            MOST_OF_A_FILE >> 20,
            MOST_IN_ALL >> 20
        );
        search.lines.stop(shown);
    }
    Ok(search.lines.finish("(no matches)"))
}

fn matcher(pattern: &str) -> Result<RegexMatcher, Refusal> {
    let matcher = RegexMatcherBuilder::new()
        .line_terminator(Some(b'\n'))
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN)
        .build(pattern);
    matcher.map_err(|error| Refusal::Pattern(why_none(&error)))
}

/// A search under way.
struct Search<'a> {
    matcher: RegexMatcher,
    searcher: Searcher,
    heading: &'a str,
    lines: Lines,
    /// Bytes that may still be read.
    left: u64,
    /// Whether everything was read that was met.
    is_whole: bool,
}

impl Search<'_> {
    fn visit(&mut self, found: &Found<'_>) -> ControlFlow<()> {
        match found.kind {
            Kind::File => {
                if let Ok(Opened::File(file, _)) = open_in(found.dir, Path::new(found.name)) {
                    self.file(found.path, file);
                }
            }
            Kind::Directory => self.is_whole &= found.depth < DEEPEST,
            Kind::Link | Kind::Special => {}
        }
        if self.left == 0 || self.lines.is_full() {
            self.is_whole &= self.left > 0;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn file(&mut self, path: &Path, file: File) {
        let most = MOST_OF_A_FILE.min(self.left);
        let mut reader = Counted {
            inner: file.take(most),
            bytes: 0,
        };
        let mut matches = Matches {
            lines: Vec::new(),
            room: self.lines.room(),
            is_binary: false,
        };
        let searched = self
            .searcher
            .search_reader(&self.matcher, &mut reader, &mut matches);
        self.left -= reader.bytes;
        if matches.is_binary {
            return;
        }
        // A line that is too long, or a file that cannot be read to its end.
        self.is_whole &= searched.is_ok() && reader.bytes < MOST_OF_A_FILE;
        let name = format!("{}/{}", self.heading, shown(path.as_os_str()));
        for (number, line) in matches.lines {
            if !self.lines.push(&format!("{name}:{number}: {line}")) {
                break;
            }
        }
    }
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// The matching lines of one file, with their numbers.
struct Matches {
    lines: Vec<(u64, String)>,
    /// Bytes more than which will not be shown.
    room: u64,
    is_binary: bool,
}

impl Sink for Matches {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        let line = shortened(found.bytes());
        self.room = self.room.saturating_sub(line.len() as u64 + 1);
        self.lines.push((found.line_number().unwrap_or(0), line));
        // One more than there is room for, so that it is known that there are more.
        Ok(self.room > 0)
    }

    fn finish(&mut self, _: &Searcher, end: &SinkFinish) -> io::Result<()> {
        self.is_binary = end.binary_byte_offset().is_some();
        Ok(())
    }
}

/// Returns a line as it is shown: without its end, and not all of a long one.
fn shortened(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(&line[..line.len().min(2 * SHOWN)]);
    if line.len() <= SHOWN {
        return text.into_owned();
    }
    format!("{} […]", &text[..text.floor_char_boundary(SHOWN)])
}
