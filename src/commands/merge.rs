//! The union with another copy of the store: the way together again for two machines, or two
//! branches.

use std::path::Path;

use crate::cli::Invocation;
use crate::error::Result;
use crate::output::{MergeReport, Outcome};
use crate::progress::Progress;
use crate::store;
use crate::store::merge::Copy;
use crate::warning::Warning;

/// Adds what the copy in `dir` has more. What cannot be read there is told and left out.
pub(super) fn run(
    dir: &Path,
    include_purged: bool,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let copy = Copy::open(dir)?;
    let mut store = store::open_or_make(&invocation.location()?)?;
    store.telling(progress);
    let writable = store.for_writing(invocation.lock_timeout)?;
    let merged = writable.merge(&copy, include_purged, invocation.durability)?;
    let damaged = merged.damaged.iter();
    let damaged = damaged.map(|(session, places)| Warning::DamagedCopy {
        session: *session,
        places: *places,
    });
    let refused = merged.refused.iter();
    let refused = refused.map(|(session, error)| Warning::NotMerged {
        session: *session,
        cause: error.to_string(),
    });
    let blobs = merged.damaged_blobs.iter();
    let blobs = blobs.map(|(session, name)| Warning::DamagedBlob {
        session: *session,
        name: name.clone(),
    });
    Ok(Outcome {
        warnings: damaged.chain(blobs).chain(refused).collect(),
        ..Outcome::report(MergeReport {
            sessions_added: merged.added.len(),
            sessions_changed: merged.changed.len(),
            events_added: merged.events,
            skipped_purged: merged.purged,
            warnings: Vec::new(),
        })
    })
}
