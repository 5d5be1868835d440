//! How much was asked and answered, for whoever pays for it or waits for it.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use crate::cli::{Invocation, StatsWanted};
use crate::clock;
use crate::error::{Error, Result};
use crate::output::{Failures, Outcome, Stats};
use crate::progress::Progress;
use crate::session::event::Timestamp;
use crate::session::id::{EventId, SessionId};
use crate::session::usage::Use;
use crate::store;
use crate::store::draft::FoundDraft;
use crate::store::figures::Figures;
use crate::warning::Warning;

/// Adds up the figures of all turns that are meant. A turn that several sessions have, because one
/// was forked from the other, counts once.
pub(super) fn run(
    wanted: &StatsWanted,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let is_in_span = wanted.said.seen_from(clock::now());
    let mut counting = Counting {
        model: wanted.model.as_deref(),
        is_in_span: &is_in_span,
        takes_all: *wanted == StatsWanted::default(),
        seen: HashSet::new(),
        used: Use::default(),
        sessions: Vec::new(),
        warnings: Vec::new(),
    };
    let mut bytes = 0;
    let mut failures = Failures::default();
    if let Some(mut store) = store::open(&invocation.location()?)? {
        store.telling(progress);
        store.figures(&store.ids()?, &mut |id, read| {
            counting.session(id, read);
            ControlFlow::Continue(())
        });
        bytes = counting.sessions.iter().map(|id| store.bytes_of(*id)).sum();
        failures = counting.failures(store.drafts()?);
    }
    let Counting {
        used,
        sessions,
        mut warnings,
        ..
    } = counting;
    // Threads tell sessions in any order.
    warnings.sort_by_key(ToString::to_string);
    let stats = Stats::new(&used, sessions.len(), bytes, failures, wanted.model.clone());
    Ok(Outcome {
        warnings,
        ..Outcome::report(stats)
    })
}

struct Counting<'a> {
    model: Option<&'a str>,
    is_in_span: &'a dyn Fn(Timestamp) -> bool,
    /// Whether sessions without a turn count too.
    takes_all: bool,
    seen: HashSet<EventId>,
    used: Use,
    /// The sessions that have a turn that counts.
    sessions: Vec<SessionId>,
    warnings: Vec<Warning>,
}

impl Counting<'_> {
    fn session(&mut self, session: SessionId, read: Result<Figures>) {
        match read {
            Ok(None) => {}
            Ok(Some((turns, damaged))) => {
                let mut has_turn = self.takes_all;
                for turn in &turns {
                    if self.is_meant(turn.ts, Some(&turn.model)) {
                        has_turn = true;
                        if self.seen.insert(turn.id) {
                            self.used.add(turn);
                        }
                    }
                }
                self.sessions.extend(has_turn.then_some(session));
                if damaged > 0 {
                    self.warnings.push(Warning::Damaged {
                        session,
                        places: damaged,
                    });
                }
            }
            Err(error) => self.unreadable(session, &error),
        }
    }

    fn unreadable(&mut self, session: SessionId, error: &Error) {
        self.warnings.push(Warning::Unreadable {
            session,
            cause: error.to_string(),
        });
    }

    fn is_meant(&self, ts: Timestamp, model: Option<&str>) -> bool {
        (self.is_in_span)(ts) && self.model.is_none_or(|meant| model == Some(meant))
    }

    /// Counts the drafts nobody holds: their turns failed or were killed.
    fn failures(&self, drafts: Vec<FoundDraft>) -> Failures {
        let mut by_code: BTreeMap<String, usize> = BTreeMap::new();
        let failed = drafts.into_iter().filter(|found| !found.under_way);
        for draft in failed.filter_map(|found| found.draft) {
            if self.is_meant(draft.ts, draft.settings.model.as_deref()) {
                let code = draft
                    .error
                    .as_ref()
                    .and_then(|error| error["code"].as_str());
                *by_code
                    .entry(code.unwrap_or("killed").to_owned())
                    .or_default() += 1;
            }
        }
        Failures {
            total: by_code.values().sum(),
            by_code,
        }
    }
}
