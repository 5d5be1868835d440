//! The search for what was said: what `grep` does on the logs, without what is hidden, and with the
//! turn and the session of each hit.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;

use super::named;
use crate::cli::{Invocation, Output, SearchWanted, Told};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::output::found::{Found, FoundIn, FoundSession};
use crate::output::{Outcome, Stream};
use crate::progress::Progress;
use crate::session::id::{EventId, SessionId};
use crate::session::pattern::{Pattern, Role};
use crate::store::search::{Hit, Piece, Wanted};
use crate::store::{self, Store, not_found};
use crate::warning::Warning;

/// Searches all sessions, the newest first, or those that are named, and tells what is found as
/// it is found.
///
/// # Errors
/// `usage` for a pattern that is none; `session_not_found`.
pub(super) fn run(
    wanted: &SearchWanted,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let pattern = Pattern::new(&wanted.pattern, wanted.meaning).map_err(|why| {
        Error::new(
            Code::Usage,
            format!("{:?} is no regular expression: {why}", wanted.pattern),
        )
        .hint("--fixed takes it as a text")
    })?;
    let mut store = store::open(&invocation.location()?)?;
    if let Some(store) = &mut store {
        store.telling(progress);
    }
    let ids = match &store {
        Some(store) => ids(&**store, wanted)?,
        None => match wanted.sessions.first() {
            Some(named) => return Err(not_found(named)),
            None => Vec::new(),
        },
    };
    Ok(Outcome::stream(Search {
        store,
        ids,
        pattern,
        wanted: wanted.clone(),
        is_for_people: invocation.output == Output::Text,
    }))
}

fn ids(store: &dyn Store, wanted: &SearchWanted) -> Result<Vec<SessionId>> {
    if wanted.sessions.is_empty() {
        let mut ids = store.ids()?;
        ids.reverse();
        return Ok(ids);
    }
    let mut ids = Vec::new();
    for named in &wanted.sessions {
        let id = named::find(store, named)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// A search that is about to be made.
struct Search {
    store: Option<Box<dyn Store>>,
    ids: Vec<SessionId>,
    pattern: Pattern,
    wanted: SearchWanted,
    is_for_people: bool,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl Stream for Search {
    fn run(&mut self, print: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Vec<Warning>> {
        let Some(store) = self.store.as_ref().filter(|_| self.wanted.limit != Some(0)) else {
            return Ok(Vec::new());
        };
        let is_in_span = self.wanted.said.seen_from(clock::now());
        let wanted = Wanted {
            pattern: &self.pattern,
            roles: &self.wanted.roles,
            model: self.wanted.model.as_deref(),
            is_in_span: &is_in_span,
            first_only: self.wanted.told == Told::Sessions,
        };
        let mut telling = Telling {
            told: self.wanted.told,
            is_for_people: self.is_for_people,
            left: self.wanted.limit.unwrap_or(usize::MAX),
            seen: HashSet::new(),
            counted: (0, 0),
            warnings: Vec::new(),
            print,
        };
        let steps = store.progress().begin("searching", self.ids.len());
        store.search(&self.ids, &wanted, &mut |piece| {
            if matches!(piece, Piece::Done(..)) {
                steps.step();
            }
            telling.take(piece)
        });
        drop(steps);
        Ok(telling.warnings)
    }
}

/// What becomes of what is found.
struct Telling<'a> {
    told: Told,
    is_for_people: bool,
    /// Lines that may still be printed.
    left: usize,
    /// What was found already: a fork has the turns of the session it began with, and a turn is
    /// told once.
    seen: HashSet<(EventId, Role)>,
    /// Messages and matches of the session that is being told.
    counted: (usize, usize),
    warnings: Vec<Warning>,
    print: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Telling<'_> {
    fn take(&mut self, piece: Piece) -> ControlFlow<()> {
        match piece {
            Piece::Hit(session, hit) => self.hit(session, &hit),
            Piece::Done(session, Ok(damaged)) => {
                if damaged > 0 {
                    self.warnings.push(Warning::NotSearched {
                        session,
                        places: damaged,
                    });
                }
                self.done(session)
            }
            Piece::Done(session, Err(error)) => {
                self.warnings.push(Warning::Unreadable {
                    session,
                    cause: error.to_string(),
                });
                self.done(session)
            }
        }
    }

    fn hit(&mut self, session: SessionId, hit: &Hit) -> ControlFlow<()> {
        if self.told == Told::Sessions {
            let found = FoundSession {
                session_id: session,
            };
            return self.line(|is_for_people| {
                if is_for_people {
                    found.text()
                } else {
                    found.line()
                }
            });
        }
        if !self.seen.insert((hit.event, hit.role)) {
            return ControlFlow::Continue(());
        }
        if self.told == Told::Counts {
            self.counted.0 += 1;
            self.counted.1 += hit.count;
            return ControlFlow::Continue(());
        }
        let found = Found::new(session, hit);
        self.line(|is_for_people| {
            if is_for_people {
                found.text()
            } else {
                found.line()
            }
        })
    }

    fn done(&mut self, session_id: SessionId) -> ControlFlow<()> {
        let (messages, matches) = std::mem::take(&mut self.counted);
        if messages == 0 {
            return ControlFlow::Continue(());
        }
        let found = FoundIn {
            session_id,
            messages,
            matches,
        };
        self.line(|is_for_people| {
            if is_for_people {
                found.text()
            } else {
                found.line()
            }
        })
    }

    fn line(&mut self, line: impl FnOnce(bool) -> String) -> ControlFlow<()> {
        (self.print)(&line(self.is_for_people))?;
        self.left -= 1;
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
