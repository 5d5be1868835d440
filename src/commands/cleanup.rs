//! A purge that comes back: once for a timer of the system, or as a process that goes on.
//!
//! One per store, held by a lock whose file says who it is. What goes wrong in a round is a line
//! of the log and no end: the next round may find the disk, the store or the lock again.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::purge::{Round, round};
use crate::cli::{Cleanup, Invocation};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::json;
use crate::output::{CleanupEvent, CleanupLine, Outcome, Stream};
use crate::store::{self, Location, Tenure};
use crate::wake::{Bell, Woken};
use crate::warning::Warning;

/// What the lock and the sentence about a second one call it.
const NAME: &str = "cleanup";

type Print<'a> = dyn FnMut(&str) -> ControlFlow<()> + 'a;

/// Begins to clean up. Nothing is done before somebody reads.
///
/// # Errors
/// `config` where there can be no store.
pub(super) fn run(cleanup: &Cleanup, invocation: &Invocation) -> Result<Outcome> {
    Ok(Outcome::stream(Cleaner {
        cleanup: cleanup.clone(),
        location: invocation.location()?,
        patience: invocation.lock_timeout,
        tenure: None,
        is_missing: false,
    }))
}

/// Who cleans up.
#[derive(Debug)]
struct Cleaner {
    cleanup: Cleanup,
    location: Location,
    patience: Duration,
    tenure: Option<Tenure>,
    is_missing: bool,
}

impl Stream for Cleaner {
    fn run(&mut self, print: &mut Print<'_>) -> Result<Vec<Warning>> {
        match self.cleanup.every {
            Some(every) => self.go_on(every, print)?,
            None => self.once(print)?,
        }
        Ok(Vec::new())
    }
}

impl Cleaner {
    /// Does one round. What went wrong in it is the call's failure.
    fn once(&mut self, print: &mut Print<'_>) -> Result<()> {
        self.take_over()?;
        let done = round(&self.cleanup.purge, &self.location, self.patience, &|| true)?;
        let failure = tell_round(done, print).1;
        failure.map_or(Ok(()), Err)
    }

    /// Does one round after the other until a signal, or until nobody reads any more.
    fn go_on(&mut self, every: Duration, print: &mut Print<'_>) -> Result<()> {
        let bell = Bell::listen().map_err(|cause| {
            Error::new(Code::Internal, "cannot listen for signals").because(cause)
        })?;
        // Who comes second is told at once, and not by a line of a log.
        self.take_over()?;
        let started = CleanupEvent::Started {
            pid: std::process::id(),
            store: self.shown_location(),
            asked: &self.cleanup.purge.asked,
            every_seconds: every.as_secs_f64(),
        };
        let mut told = tell(started, print);
        while told.is_continue() {
            let begun = Instant::now();
            told = self.look(&bell, print);
            let left = every.saturating_sub(begun.elapsed());
            if told.is_break() {
                break;
            }
            match bell.wait(left) {
                Ok(Woken::Due) => {}
                Ok(Woken::Hurried(signal)) => told = tell(CleanupEvent::Asked { signal }, print),
                Ok(Woken::Ended(signal)) => {
                    // That it ends is what was asked for, told or not.
                    let _ = tell(CleanupEvent::Stopped { signal }, print);
                    return Ok(());
                }
                Err(cause) => {
                    return Err(Error::new(Code::Internal, "cannot wait").because(cause));
                }
            }
        }
        Ok(())
    }

    /// Does one round of many, and tells what came of it.
    fn look(&mut self, bell: &Bell, print: &mut Print<'_>) -> ControlFlow<()> {
        let goes_on = || bell.ended().is_none();
        let done = self.take_over().and_then(|is_there| {
            let done = round(&self.cleanup.purge, &self.location, self.patience, &goes_on)?;
            Ok((is_there, done))
        });
        match done {
            Ok((false, _)) if self.is_missing => ControlFlow::Continue(()),
            Ok((false, _)) => {
                self.is_missing = true;
                let store = self.shown_location();
                tell(CleanupEvent::StoreMissing { store }, print)
            }
            Ok((true, done)) => {
                if std::mem::take(&mut self.is_missing) {
                    let store = self.shown_location();
                    tell(CleanupEvent::StoreBack { store }, print)?;
                }
                tell_round(done, print).0
            }
            Err(error) => {
                let code = error.code.name();
                let error = error.to_string();
                tell(CleanupEvent::Failed { code, error }, print)
            }
        }
    }

    /// Makes sure that this is the one cleanup of the store that is there now. Returns whether
    /// there is one. Who only looks keeps nobody from anything.
    ///
    /// # Errors
    /// `store_locked` where another is; `store_*`.
    fn take_over(&mut self) -> Result<bool> {
        let Some(store) = store::open(&self.location)? else {
            self.tenure = None;
            return Ok(false);
        };
        if self.cleanup.purge.dry_run {
            return Ok(true);
        }
        let writable = store.for_writing(self.patience)?;
        let who = format!("process {} since {}", std::process::id(), clock::now());
        self.tenure = Some(writable.tenure(NAME, &who, self.tenure.take())?);
        Ok(true)
    }

    fn shown_location(&self) -> String {
        self.location.to_string()
    }
}

fn tell(event: CleanupEvent<'_>, print: &mut Print<'_>) -> ControlFlow<()> {
    let line = CleanupLine::new(clock::now(), event);
    print(&(json::line(&line) + "\n"))
}

/// Tells what a round came to; returns what failed in it as well.
fn tell_round(done: Round, print: &mut Print<'_>) -> (ControlFlow<()>, Option<Error>) {
    let Round {
        mut purged,
        warnings,
        failure,
    } = done;
    purged.warnings = warnings.iter().map(ToString::to_string).collect();
    let error = failure.as_ref().map(ToString::to_string);
    (tell(CleanupEvent::Round { purged, error }, print), failure)
}
