//! Redaction: text that fits a pattern hidden at once and for ever, in the sessions that are named
//! and in the drafts of their turns.
//!
//! A session in which nothing is found is not written to. One in which something is found is
//! searched once more under its lock, so that no turn stored until then is missed. What is looked
//! for is in no event, no receipt and no message.

use crate::cli::{Invocation, Redact, Selection, Sought};
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::output::{FailedSession, Outcome, RedactedSession, Redactions};
use crate::prompt;
use crate::session::event::Body;
use crate::session::fold::{Entry, Session, fold};
use crate::session::id::SessionId;
use crate::session::seek::{Finding, Patterns, events_to_hide, is_on_disk, seek};
use crate::store::append::refuse_newer;
use crate::store::draft::Rewritten;
use crate::store::snapshot::Extent;
use crate::store::{self, Store, Writable, not_found};
use crate::warning::Warning;

/// How many ids a message names; more sessions are `--all`.
const NAMED: usize = 3;

/// Hides what fits, in every session that is meant. One in which that fails does not keep the
/// others from it; the first such failure is told in the end.
///
/// # Errors
/// `usage` for patterns that cannot be read or are none; `session_*`; `store_*`.
pub(super) fn run(redact: &Redact, invocation: &Invocation) -> Result<Outcome> {
    let mut work = Work {
        redact,
        patterns: patterns(redact)?,
        invocation,
        done: Redactions {
            dry_run: redact.dry_run,
            ..Redactions::default()
        },
        warnings: Vec::new(),
        failure: None,
        is_listed: false,
    };
    if let Some(store) = store::open(&invocation.location()?)? {
        let ids = chosen(&*store, &redact.sessions)?;
        let mut writable = None;
        for id in &ids {
            if let Err(error) = work.in_session(*id, &*store, &mut writable) {
                work.fail(*id, error);
            }
        }
        work.in_drafts(&ids, &*store)?;
        if work.is_listed {
            writing(&*store, &mut writable, invocation)?.forget_index()?;
        }
        work.off_the_disk(&ids, &*store)?;
    } else if let Selection::These(references) = &redact.sessions {
        return Err(not_found(&references[0]));
    }
    Ok(work.outcome())
}

/// Reads what is looked for.
fn patterns(redact: &Redact) -> Result<Patterns> {
    let listed;
    let all: Vec<&str> = match &redact.sought {
        Sought::Typed(pattern) => vec![pattern],
        Sought::Listed(source) => {
            listed = prompt::read(source, "list of patterns")?;
            listed.lines().filter(|line| !line.is_empty()).collect()
        }
    };
    Patterns::parse(&all, redact.is_fixed).map_err(|(number, why)| {
        let what = match redact.sought {
            Sought::Typed(_) => "the pattern".to_owned(),
            Sought::Listed(_) => format!("pattern {number} of the list"),
        };
        Error::new(Code::Usage, format!("{what} cannot be used"))
            .because(why)
            .hint("--fixed takes the pattern as the text itself")
    })
}

/// Returns the sessions that are meant, each once. One that is not there may still have drafts.
fn chosen(store: &dyn Store, sessions: &Selection) -> Result<Vec<SessionId>> {
    let mut ids = match sessions {
        Selection::All => store.ids()?,
        Selection::These(references) => {
            let drafts = store.drafts()?;
            let found = references.iter().map(|reference| {
                let id = store.find(reference)?;
                let of_it = |draft: &crate::store::draft::Draft| draft.session == id;
                let has_draft = drafts.iter().filter_map(|d| d.draft.as_ref()).any(of_it);
                let is_there = has_draft || store.has_name(id)?;
                is_there.then_some(id).ok_or_else(|| not_found(reference))
            });
            found.collect::<Result<Vec<_>>>()?
        }
    };
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn writing<'a, 's>(
    store: &'s dyn Store,
    writable: &'a mut Option<Box<dyn Writable + 's>>,
    invocation: &Invocation,
) -> Result<&'a dyn Writable> {
    match writable {
        Some(writable) => Ok(&**writable),
        none => Ok(&**none.insert(store.for_writing(invocation.lock_timeout)?)),
    }
}

/// What is done so far.
struct Work<'a> {
    redact: &'a Redact,
    patterns: Patterns,
    invocation: &'a Invocation,
    done: Redactions,
    warnings: Vec<Warning>,
    failure: Option<Error>,
    /// Whether something is hidden that the index has: titles and tags.
    is_listed: bool,
}

impl Work<'_> {
    fn in_session<'s>(
        &mut self,
        id: SessionId,
        store: &'s dyn Store,
        writable: &mut Option<Box<dyn Writable + 's>>,
    ) -> Result<()> {
        let entries = store.events(id)?.entries;
        let session = fold(entries.clone());
        let mut found = self.find(&session, &entries);
        let mut on_disk = is_on_disk(&entries, &session);
        drop(entries);
        if !found.is_empty() {
            refuse_newer(&session, id)?;
            on_disk = true;
        }
        if !found.is_empty() && !self.redact.dry_run {
            let Some(snapshot) = store.read(id, Extent::Context)? else {
                return Ok(());
            };
            let writer = writing(store, writable, self.invocation)?.writer(id)?;
            writer.append(snapshot, self.invocation.durability, |under_lock| {
                let entries = under_lock.events()?;
                let session = fold(entries.clone());
                found = self.find(&session, &entries);
                Ok(self.events(&session, &found))
            })?;
        }
        if !found.is_empty() {
            let stretches = found.iter().map(|finding| finding.stretches).sum();
            let names = found
                .iter()
                .flat_map(|finding| finding.redact.fields.keys());
            let is_listed = |name: &String| name.ends_with("title") || name.ends_with("tags");
            self.is_listed |= !self.redact.dry_run && names.into_iter().any(is_listed);
            self.done.matches += stretches;
            self.done.sessions.push(RedactedSession {
                session_id: id,
                events: found.len(),
                matches: stretches,
            });
        }
        if on_disk {
            self.done.to_compact.push(id);
        }
        Ok(())
    }

    /// Looks through the lines the fold takes; others of the same ids are for compaction.
    fn find(&self, session: &Session, entries: &[Entry]) -> Vec<Finding> {
        let mut by_id: std::collections::BTreeMap<_, &Entry> = std::collections::BTreeMap::new();
        for entry in entries {
            let known = by_id.entry(entry.event.id).or_insert(entry);
            if known.raw < entry.raw {
                *known = entry;
            }
        }
        let found = by_id.values().filter_map(|entry| {
            let salt = self.redact.is_hashed.then(|| {
                format!(
                    "{:020x}{:012x}",
                    clock::random_bits(),
                    clock::random_bits() >> 32
                )
            });
            let hidden = session.hidden.get(&entry.event.id);
            seek(&self.patterns, entry, hidden, salt.as_deref())
        });
        found.collect()
    }

    fn events(&self, session: &Session, found: &[Finding]) -> Vec<Body> {
        if found.is_empty() {
            return Vec::new();
        }
        events_to_hide(&self.patterns, session, found)
    }

    fn in_drafts(&mut self, ids: &[SessionId], store: &dyn Store) -> Result<()> {
        let drafts = store.drafts()?;
        let is_all = self.redact.sessions == Selection::All;
        let is_meant = |draft: &crate::store::draft::Draft| ids.contains(&draft.session);
        for found in drafts {
            if !(is_all || found.draft.as_ref().is_none_or(is_meant)) {
                continue;
            }
            let cover = |text: &str| self.patterns.cover(text).map(|(covered, _)| covered);
            match store.rewrite_draft(found.id, self.redact.dry_run, &cover)? {
                Rewritten::Changed => self.done.drafts.push(found.id),
                Rewritten::Unchanged => {}
                Rewritten::UnderWay => {
                    self.done.under_way.push(found.id);
                    self.warnings.push(Warning::UnsearchedTurn(found.id));
                }
                Rewritten::Unreadable => self.warnings.push(Warning::UnsearchedDraft(found.id)),
            }
        }
        Ok(())
    }

    /// Takes the bytes away where that is asked for, and tells where they may still be.
    fn off_the_disk(&mut self, ids: &[SessionId], store: &dyn Store) -> Result<()> {
        let redact = self.redact;
        if redact.compact && !redact.dry_run && !self.done.to_compact.is_empty() {
            let writable = store.for_writing(self.invocation.lock_timeout)?;
            for id in std::mem::take(&mut self.done.to_compact) {
                if let Err(error) = writable.compact(id, false) {
                    self.done.to_compact.push(id);
                    self.fail(id, error);
                }
            }
        }
        for id in ids {
            let files = store.moved_aside(*id)?.len();
            if files > 0 && redact.drop_damaged && !redact.dry_run {
                let writable = store.for_writing(self.invocation.lock_timeout)?;
                writable.remove_moved_aside(*id)?;
            } else if files > 0 {
                self.warnings.push(Warning::UnsearchedDamage {
                    session: *id,
                    files,
                });
            }
        }
        Ok(())
    }

    fn fail(&mut self, id: SessionId, error: Error) {
        self.done.failed.push(FailedSession::new(id, &error));
        self.failure.get_or_insert_with(|| error.session(id));
    }

    fn outcome(self) -> Outcome {
        let Self {
            mut done,
            warnings,
            failure,
            ..
        } = self;
        done.message = message(&done);
        Outcome {
            warnings,
            failure,
            ..Outcome::report(done)
        }
    }
}

fn message(done: &Redactions) -> String {
    let count = |n: usize, one: &str| {
        let plural = if n == 1 { "" } else { "s" };
        format!("{n} {one}{plural}")
    };
    let verb = if done.dry_run {
        "would be hidden"
    } else {
        "hidden"
    };
    let matches = match done.matches {
        1 => "1 match".to_owned(),
        n => format!("{n} matches"),
    };
    let sessions = count(done.sessions.len(), "session");
    let drafts = count(done.drafts.len(), "draft");
    let hidden = format!("{matches} {verb} in {sessions}, and text in {drafts}");
    if done.to_compact.is_empty() || done.dry_run {
        return hidden;
    }
    let which: Vec<String> = done.to_compact.iter().map(ToString::to_string).collect();
    let which = if which.len() > NAMED {
        "--all".to_owned()
    } else {
        which.join(" ")
    };
    format!("{hidden}; hidden bytes are in the logs until `ollama-prompt session compact {which}`")
}
