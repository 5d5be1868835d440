//! The deliberate end of sessions that were not used for a while.

use super::{Answer, Outcome};
use crate::cli::Invocation;
use crate::clock;
use crate::error::Result;
use crate::output::Purged;
use crate::session::event::Timestamp;
use crate::session::id::SessionId;
use crate::store::read::Extent;
use crate::store::{Store, Writable};
use crate::warning::Warning;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Purges every session whose last turn is older than `days`, and drafts as old. A session with a
/// turn under way is left and named.
pub(super) fn run(days: u32, invocation: &Invocation) -> Result<Outcome> {
    let mut warnings = Vec::new();
    let mut receipts = Vec::new();
    if let Some(store) = Store::open(invocation.store.path()?)? {
        let writable = store.for_writing(invocation.lock_timeout)?;
        let cut = Cut {
            days,
            now: clock::now(),
        };
        let busy = sweep_drafts(&store, &writable, cut)?;
        let why = format!("--purge {days}");
        for id in store.ids()? {
            match store.read(id, Extent::History) {
                Ok(Some(snapshot)) if cut.is_before(snapshot.session.last_used()) => {}
                Ok(_) => continue,
                Err(error) => {
                    warnings.push(Warning::Unreadable {
                        session: id,
                        cause: error.to_string(),
                    });
                    continue;
                }
            }
            if busy.contains(&id) {
                warnings.push(Warning::UnderWay(id));
                continue;
            }
            let receipt = writable.purge(id, &why, |last_used| cut.is_before(last_used))?;
            receipts.extend(receipt);
        }
    }
    let removed = receipts.len();
    let purged = Purged {
        removed,
        message: sentence(removed, days),
        sessions: receipts.iter().map(|receipt| receipt.session).collect(),
        bytes_freed: receipts.iter().map(|receipt| receipt.bytes).sum(),
        warnings: Vec::new(),
    };
    Ok(Outcome {
        answer: Answer::Purged(purged),
        warnings,
        notes: Vec::new(),
        failure: None,
    })
}

fn sentence(removed: usize, days: u32) -> String {
    let sessions = if removed == 1 {
        "1 session".to_owned()
    } else {
        format!("{removed} sessions")
    };
    match days {
        0 => format!("Removed {sessions}"),
        1 => format!("Removed {sessions} not used for 1 day"),
        _ => format!("Removed {sessions} not used for {days} days"),
    }
}

/// Which sessions go.
#[derive(Clone, Copy)]
struct Cut {
    days: u32,
    now: Timestamp,
}

impl Cut {
    /// Tells whether a session last used then is to go. With 0 days any is, also one another
    /// machine's clock used tomorrow.
    fn is_before(self, last_used: Option<Timestamp>) -> bool {
        let cut = self
            .now
            .as_ms()
            .saturating_sub(u64::from(self.days) * DAY_MS);
        self.days == 0 || last_used.is_some_and(|used| used.as_ms() < cut)
    }
}

/// Removes drafts that nobody holds and that are as old as the sessions to go. Returns the
/// sessions whose turns are under way.
fn sweep_drafts(store: &Store, writable: &Writable<'_>, cut: Cut) -> Result<Vec<SessionId>> {
    let mut busy = Vec::new();
    for found in store.drafts()? {
        if found.under_way {
            busy.extend(found.draft.map(|draft| draft.session));
        } else if cut.is_before(Some(Timestamp::from_ms(found.id.timestamp_ms()))) {
            writable.remove_draft(found.id)?;
        }
    }
    Ok(busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_days_goes() {
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
            let cut = Cut { days, now };
            assert_eq!(
                cut.is_before(used.map(Timestamp::from_ms)),
                expected,
                "{name}"
            );
        }
    }
}
