//! The deliberate end of sessions: of those that were not used for a while, and of those that were
//! named.

use std::time::Duration;

use crate::cli::{Invocation, Purge};
use crate::clock;
use crate::error::{Error, Result};
use crate::output::{Outcome, Purged};
use crate::session::event::{Settings, Timestamp};
use crate::session::fold::Session;
use crate::session::id::SessionId;
use crate::store::snapshot::Extent;
use crate::store::{self, Location, Store, Writable, not_found};
use crate::warning::Warning;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Purges every session that was not used for so long, and drafts as old. A session with a turn
/// under way is left and named.
pub(super) fn run(which: &Purge, invocation: &Invocation) -> Result<Outcome> {
    let location = invocation.location()?;
    round(which, &location, invocation.lock_timeout, &|| true)?.outcome()
}

/// Does the same for who comes back: the store as it is now, session after session for as
/// long as `goes_on` says so.
///
/// # Errors
/// `store_*` when the store cannot be opened or listed.
pub(super) fn round(
    which: &Purge,
    location: &Location,
    patience: Duration,
    goes_on: &dyn Fn() -> bool,
) -> Result<Round> {
    let mut gone = Gone::default();
    if let Some(store) = store::open(location)? {
        let cut = Cut {
            which,
            now: clock::now(),
        };
        let writable = writable(&*store, !which.dry_run, patience)?;
        if let Some(writable) = &writable {
            sweep_drafts(&*store, &**writable, |settings, made| {
                cut.reaches(settings, Some(made))
            })?;
        }
        for id in store.ids()?.into_iter().take_while(|_| goes_on()) {
            match store.read(id, Extent::History) {
                Ok(Some(snapshot)) if cut.takes(&snapshot.session) => {
                    gone.end(id, &*store, writable.as_deref(), &which.asked, |now| {
                        cut.takes(now)
                    })?;
                }
                Ok(_) => {}
                Err(error) => gone.warnings.push(Warning::Unreadable {
                    session: id,
                    cause: error.to_string(),
                }),
            }
        }
    }
    Ok(gone.round(which.dry_run, &of_which(which)))
}

/// What one round came to.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) purged: Purged,
    pub(super) warnings: Vec<Warning>,
    /// The first session that could not be ended, and why.
    pub(super) failure: Option<Error>,
}

impl Round {
    fn outcome(self) -> Result<Outcome> {
        let Self {
            purged,
            warnings,
            failure,
        } = self;
        let failure = match failure {
            Some(error) if purged.sessions.is_empty() => return Err(error),
            failure => failure,
        };
        Ok(Outcome {
            warnings,
            failure,
            ..Outcome::report(purged)
        })
    }
}

/// Purges the sessions of these ids, and their drafts, if all of them are there.
pub(super) fn delete(ids: &[SessionId], invocation: &Invocation) -> Result<Outcome> {
    let mut gone = Gone::default();
    let store = store::open(&invocation.location()?)?.ok_or_else(|| not_found(ids[0]))?;
    for id in ids {
        if store.read(*id, Extent::Context)?.is_none() {
            return Err(not_found(id).session(id));
        }
    }
    let writable = writable(&*store, true, invocation.lock_timeout)?;
    for id in ids {
        gone.end(*id, &*store, writable.as_deref(), "session delete", |_| {
            true
        })?;
    }
    if let Some(writable) = &writable {
        for found in store.drafts()?.into_iter().filter(|found| !found.under_way) {
            if found
                .draft
                .is_some_and(|draft| gone.sessions.contains(&draft.session))
            {
                writable.remove_draft(found.id)?;
            }
        }
    }
    gone.round(false, "").outcome()
}

/// Opens the store for writing, if it is to be written, and sweeps it.
fn writable<'a>(
    store: &'a dyn Store,
    is_written: bool,
    patience: Duration,
) -> Result<Option<Box<dyn Writable + 'a>>> {
    if !is_written {
        return Ok(None);
    }
    let writable = store.for_writing(patience)?;
    writable.sweep();
    Ok(Some(writable))
}

/// What is gone, or would be.
#[derive(Default)]
struct Gone {
    sessions: Vec<SessionId>,
    bytes: u64,
    warnings: Vec<Warning>,
    failure: Option<Error>,
}

impl Gone {
    /// Ends a session if `goes` says so of it under its lock, and no turn of it is under way. One
    /// that cannot be ended does not keep the others from it.
    fn end(
        &mut self,
        id: SessionId,
        store: &dyn Store,
        writable: Option<&dyn Writable>,
        why: &str,
        goes: impl Fn(&Session) -> bool,
    ) -> Result<()> {
        if self.sessions.contains(&id) {
            return Ok(());
        }
        if is_under_way(store, id)? {
            self.warnings.push(Warning::UnderWay(id));
            return Ok(());
        }
        let Some(writable) = writable else {
            self.sessions.push(id);
            self.bytes += store.bytes_of(id);
            return Ok(());
        };
        match writable.purge(id, why, &goes) {
            Ok(Some(receipt)) => {
                self.sessions.push(id);
                self.bytes += receipt.bytes;
            }
            Ok(None) => {}
            Err(error) => drop(self.failure.get_or_insert(error.session(id))),
        }
        Ok(())
    }

    fn round(self, dry_run: bool, of_which: &str) -> Round {
        let Self {
            sessions,
            bytes,
            warnings,
            failure,
        } = self;
        let removed = sessions.len();
        let verb = if dry_run { "Would remove" } else { "Removed" };
        let noun = if removed == 1 { "session" } else { "sessions" };
        Round {
            purged: Purged {
                dry_run,
                removed,
                message: format!("{verb} {removed} {noun}{of_which}"),
                sessions,
                bytes_freed: bytes,
                warnings: Vec::new(),
            },
            warnings,
            failure,
        }
    }
}

/// Returns, as the end of a sentence, which sessions were meant.
fn of_which(which: &Purge) -> String {
    let mut text = String::new();
    text.extend(
        which
            .model
            .iter()
            .map(|model| format!(" of the model {model}")),
    );
    text.extend(which.tag.iter().map(|tag| format!(" tagged {tag}")));
    match (which.unused_for, which.unused_for.as_secs() / DAY.as_secs()) {
        (Duration::ZERO, _) => {}
        (DAY, _) => text += " not used for 1 day",
        (age, days) if age == DAY * u32::try_from(days).unwrap_or(0) => {
            text += &format!(" not used for {days} days");
        }
        (age, _) => text += &format!(" not used for {}", humantime::format_duration(age)),
    }
    text
}

/// Which sessions go.
#[derive(Clone, Copy)]
struct Cut<'a> {
    which: &'a Purge,
    now: Timestamp,
}

impl Cut<'_> {
    fn takes(self, session: &Session) -> bool {
        self.reaches(&session.settings, session.last_used())
    }

    /// Tells whether a session last used then is to go. With no time at all any is, also one
    /// another machine's clock used tomorrow.
    fn reaches(self, settings: &Settings, last_used: Option<Timestamp>) -> bool {
        let Purge {
            unused_for,
            model,
            tag,
            ..
        } = self.which;
        let unused_ms = u64::try_from(unused_for.as_millis()).unwrap_or(u64::MAX);
        let cut = self.now.as_ms().saturating_sub(unused_ms);
        (unused_for.is_zero() || last_used.is_some_and(|used| used.as_ms() < cut))
            && (model.is_none() || *model == settings.model)
            && tag.as_deref().is_none_or(|tag| settings.has_tag(tag))
    }
}

fn is_under_way(store: &dyn Store, id: SessionId) -> Result<bool> {
    let drafts = store.drafts()?.into_iter().filter(|found| found.under_way);
    Ok(drafts
        .filter_map(|found| found.draft)
        .any(|draft| draft.session == id))
}

/// Removes drafts that nobody holds and that are as old as the sessions to go.
fn sweep_drafts(
    store: &dyn Store,
    writable: &dyn Writable,
    goes: impl Fn(&Settings, Timestamp) -> bool,
) -> Result<()> {
    for found in store.drafts()?.into_iter().filter(|found| !found.under_way) {
        let made = Timestamp::from_ms(found.id.timestamp_ms());
        let settings = found.draft.map(|draft| draft.settings).unwrap_or_default();
        if goes(&settings, made) {
            writable.remove_draft(found.id)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(unused_for: Duration) -> Purge {
        Purge {
            unused_for,
            model: None,
            tag: None,
            dry_run: false,
            asked: String::new(),
        }
    }

    #[test]
    fn what_is_older_than_the_days_goes() {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let now = Timestamp::from_ms(100 * DAY_MS);
        let rows = [
            ("today", 30, Some(100 * DAY_MS), false),
            ("to the millisecond", 30, Some(70 * DAY_MS), false),
            ("one over", 30, Some(70 * DAY_MS - 1), true),
            ("never used", 30, None, false),
            ("all", 0, Some(100 * DAY_MS), true),
            ("all, the future included", 0, Some(200 * DAY_MS), true),
            ("more days than there were", u32::MAX, Some(1), false),
        ];
        for (name, days, used, expected) in rows {
            let which = which(DAY * days);
            let cut = Cut { which: &which, now };
            let got = cut.reaches(&Settings::default(), used.map(Timestamp::from_ms));
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn model_and_tag_both_have_to_fit() {
        let settings = Settings {
            model: Some("m".into()),
            tags: [("on".into(), true), ("off".into(), false)].into(),
            ..Settings::default()
        };
        let rows = [
            (None, None, true),
            (Some("m"), None, true),
            (Some("n"), None, false),
            (None, Some("on"), true),
            (None, Some("off"), false),
            (None, Some("never"), false),
            (Some("m"), Some("on"), true),
            (Some("n"), Some("on"), false),
        ];
        for (model, tag, expected) in rows {
            let which = Purge {
                model: model.map(str::to_owned),
                tag: tag.map(str::to_owned),
                ..which(Duration::ZERO)
            };
            let cut = Cut {
                which: &which,
                now: Timestamp::from_ms(1),
            };
            assert_eq!(cut.reaches(&settings, None), expected, "{model:?} {tag:?}");
        }
    }

    #[test]
    fn the_sentence_says_what_was_meant() {
        let rows = [
            (Duration::ZERO, ""),
            (DAY, " not used for 1 day"),
            (DAY * 30, " not used for 30 days"),
            (DAY / 2, " not used for 12h"),
        ];
        for (age, expected) in rows {
            assert_eq!(of_which(&which(age)), expected);
        }
    }
}
