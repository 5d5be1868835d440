//! Settings of sessions changed without a turn: of one, of several, of all that fit conditions.
//!
//! Each change is a `set` event that says what differs and nothing else, decided under the
//! session's lock. So a second run writes nothing, and two that run at once agree.

use super::named;
use super::withhold::Withhold;
use crate::cli::{Condition, Invocation, Selection, Update};
use crate::clock;
use crate::error::Result;
use crate::output::{FailedSession, Outcome, UpdatedSession, Updates};
use crate::prompt::{self, Source};
use crate::session::event::{Body, Settings, Timestamp};
use crate::session::fold::Session;
use crate::session::id::SessionId;
use crate::store::append::refuse_newer;
use crate::store::snapshot::{Extent, Snapshot};
use crate::store::{self, Store, Writable, not_found};

/// Changes every session that is meant. One that cannot be changed does not keep the others from
/// it; the first such failure is told in the end.
///
/// # Errors
/// `session_*` for one that was named and is not there; `usage` for a system prompt that cannot be
/// read; `store_*`.
pub(super) fn run(update: &Update, invocation: &Invocation) -> Result<Outcome> {
    let withhold = Withhold::new(&invocation.redact)?;
    let change = Change::of(update, &withhold)?;
    let mut updates = Updates {
        dry_run: update.dry_run,
        ..Updates::default()
    };
    let mut failure = None;
    if let Some(store) = store::open(&invocation.location()?)? {
        let mut writable = None;
        for id in candidates(&*store, update, &change)? {
            match change.apply(id, &*store, &mut writable, invocation) {
                Ok(Applied::Changed(changes)) => updates.updated.push(UpdatedSession {
                    session_id: id,
                    changes: *changes,
                }),
                Ok(Applied::Unchanged) => updates.unchanged += 1,
                Ok(Applied::NotMeant) => {}
                Err(error) => {
                    updates.failed.push(FailedSession::new(id, &error));
                    failure.get_or_insert_with(|| error.session(id));
                }
            }
        }
    } else if let Selection::These(references) = &update.sessions {
        return Err(not_found(&references[0]));
    }
    match failure {
        Some(error) if updates.updated.is_empty() && updates.unchanged == 0 => Err(error),
        failure => Ok(Outcome {
            warnings: withhold.warning().into_iter().collect(),
            failure,
            ..Outcome::report(updates)
        }),
    }
}

/// Returns the sessions to look at, each once: those that are named, or of all those the list does
/// not rule out. One that cannot be listed is looked at, so that it is told.
fn candidates(store: &dyn Store, update: &Update, change: &Change<'_>) -> Result<Vec<SessionId>> {
    let mut ids = match &update.sessions {
        Selection::These(references) => {
            let found = references.iter().map(|named| named::find(store, named));
            found.collect::<Result<Vec<_>>>()?
        }
        Selection::All if update.conditions.is_empty() => store.ids()?,
        Selection::All => {
            let listing = store.list()?;
            let fits = listing.sessions.iter().filter(|listed| {
                let summary = &listed.summary;
                change.may_be_meant(summary.model.as_deref(), summary.last_used)
            });
            let unreadable = listing.unreadable.iter().map(|(id, _)| *id);
            fits.map(|listed| listed.id).chain(unreadable).collect()
        }
    };
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// What is to hold, with everything that was typed read in.
struct Change<'a> {
    update: &'a Update,
    wanted: Settings,
    now: Timestamp,
}

enum Applied {
    Changed(Box<Settings>),
    Unchanged,
    NotMeant,
}

impl<'a> Change<'a> {
    fn of(update: &'a Update, withhold: &Withhold) -> Result<Self> {
        let system = match &update.system {
            Some(Source::Text(text)) => Some(text.clone()),
            Some(source) => Some(prompt::read(source, "system prompt")?),
            None => None,
        };
        Ok(Self {
            update,
            wanted: Settings {
                title: update.title.clone().map(|text| withhold.text(text)),
                model: update.model.clone(),
                system: system.map(|text| withhold.text(text)),
                max_context_tokens: update.max_context_tokens,
                prune: update.prune,
                tags: update.tags.iter().cloned().collect(),
                ..Settings::default()
            },
            now: clock::now(),
        })
    }

    /// Changes one session, or finds out that it would change.
    fn apply<'s>(
        &self,
        id: SessionId,
        store: &'s dyn Store,
        writable: &mut Option<Box<dyn Writable + 's>>,
        invocation: &Invocation,
    ) -> Result<Applied> {
        let Some(snapshot) = store.read(id, Extent::History)? else {
            return match self.update.sessions {
                Selection::All => Ok(Applied::NotMeant),
                Selection::These(_) => Err(not_found(id)),
            };
        };
        let seen = self.of_session(&snapshot.session);
        let Applied::Changed(_) = seen else {
            return Ok(seen);
        };
        refuse_newer(&snapshot.session, id)?;
        if self.update.dry_run {
            return Ok(seen);
        }
        let writable = match writable {
            Some(writable) => writable,
            none => none.insert(store.for_writing(invocation.lock_timeout)?),
        };
        self.append(id, snapshot, &**writable, invocation)
    }

    /// Decides once more under the lock and writes.
    fn append(
        &self,
        id: SessionId,
        snapshot: Snapshot,
        writable: &dyn Writable,
        invocation: &Invocation,
    ) -> Result<Applied> {
        let mut applied = Applied::Unchanged;
        let writer = writable.writer(id)?;
        writer.append(snapshot, invocation.durability, |found| {
            applied = self.of_session(found.session);
            Ok(match &applied {
                Applied::Changed(changes) => vec![Body::Set(Settings::clone(changes))],
                Applied::Unchanged | Applied::NotMeant => Vec::new(),
            })
        })?;
        Ok(applied)
    }

    /// Returns what becomes of a session as it is.
    fn of_session(&self, session: &Session) -> Applied {
        if !self.means(session) {
            return Applied::NotMeant;
        }
        let mut changes = self.wanted.changes_from(&session.settings);
        // What is not there need not be taken away.
        let settings = &session.settings;
        let is_none = |new: &Option<String>, old: &Option<String>| {
            new.as_deref() == Some("") && old.as_deref().unwrap_or_default().is_empty()
        };
        if is_none(&changes.title, &settings.title) {
            changes.title = None;
        }
        if is_none(&changes.system, &settings.system) {
            changes.system = None;
        }
        changes
            .tags
            .retain(|name, on| *on || settings.has_tag(name));
        if changes.is_empty() {
            Applied::Unchanged
        } else {
            Applied::Changed(Box::new(changes))
        }
    }

    fn means(&self, session: &Session) -> bool {
        let settings = &session.settings;
        self.update.conditions.iter().all(|condition| {
            let last_used = session.last_used();
            match condition {
                Condition::Tag(name) => settings.has_tag(name),
                Condition::Title(pattern) => pattern.is_match(settings.title().unwrap_or_default()),
                Condition::Model(_) | Condition::OlderThan(_) => {
                    last_used.is_some_and(|used| self.fits(condition, &settings.model, used))
                }
            }
        })
    }

    /// Tells whether a session can be meant, by what a list knows of it.
    fn may_be_meant(&self, model: Option<&str>, last_used: Timestamp) -> bool {
        let model = model.map(str::to_owned);
        let mut conditions = self.update.conditions.iter();
        conditions.all(|condition| self.fits(condition, &model, last_used))
    }

    /// Tells whether a condition holds, as far as model and last use say; the others may.
    fn fits(&self, condition: &Condition, model: &Option<String>, last_used: Timestamp) -> bool {
        match condition {
            Condition::Model(name) => model.as_ref() == Some(name),
            Condition::OlderThan(age) => {
                let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                age == 0 || last_used.as_ms() < self.now.as_ms().saturating_sub(age)
            }
            Condition::Tag(_) | Condition::Title(_) => true,
        }
    }
}
