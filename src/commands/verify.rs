//! Every log read and every problem told; with `--repair`, put right first as far as it can be.

use super::named;
use crate::cli::Invocation;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::output::{Checked, Found, Mended, Outcome, Verified};
use crate::progress::Progress;
use crate::session::id::SessionRef;
use crate::store::verify::{Finding, Repaired, Report};
use crate::store::{self, not_found};

/// Verifies the sessions that are named, or all of the store.
///
/// # Errors
/// `session_*`; `store_*` when the store cannot be read at all. That something is wrong is in
/// [`Outcome::failure`]: the answer says what.
pub(super) fn run(
    named: &[SessionRef],
    repair: bool,
    progress: &Progress,
    invocation: &Invocation,
) -> Result<Outcome> {
    let Some(mut store) = store::open(&invocation.location()?)? else {
        return match named.first() {
            Some(reference) => Err(not_found(reference)),
            None => Ok(outcome(Report::default(), repair.then(Vec::new), None)),
        };
    };
    store.telling(progress);
    let ids = named
        .iter()
        .map(|reference| named::find(&*store, reference))
        .collect::<Result<Vec<_>>>()?;
    let named = (!ids.is_empty()).then_some(ids.as_slice());
    let now = clock::now();
    let report = store.verify(named, now)?;
    if !repair || report.findings.is_empty() {
        return Ok(outcome(report, repair.then(Vec::new), None));
    }
    let mut repaired = Vec::new();
    let patience = invocation.lock_timeout;
    let failed = store.repair(named, report, patience, &mut repaired).err();
    Ok(outcome(store.verify(named, now)?, Some(repaired), failed))
}

fn outcome(report: Report, repaired: Option<Vec<Repaired>>, failed: Option<Error>) -> Outcome {
    let checked = report.checked;
    let (problems, notes): (Vec<Finding>, Vec<Finding>) = report
        .findings
        .into_iter()
        .partition(|finding| finding.kind.is_problem());
    let failure = failed.or_else(|| damaged(&problems, repaired.is_some()));
    let verified = Verified {
        checked: Checked {
            sessions: checked.sessions,
            files: checked.files,
            lines: checked.lines,
            bytes: checked.bytes,
        },
        problems: problems.into_iter().map(found).collect(),
        notes: notes.into_iter().map(found).collect(),
        repaired: repaired.map(|repaired| repaired.into_iter().map(mended).collect()),
        warnings: Vec::new(),
    };
    Outcome {
        failure,
        ..Outcome::report(verified)
    }
}

fn damaged(problems: &[Finding], was_repaired: bool) -> Option<Error> {
    let what = match problems.len() {
        0 => return None,
        1 => "a problem".to_owned(),
        n => format!("{n} problems"),
    };
    let error = Error::new(Code::Damaged, format!("the store has {what}"))
        .because("the report on standard output says which");
    Some(if was_repaired {
        error.hint("what is left cannot be repaired here: each message says what it is")
    } else {
        error.hint("ollama-prompt session verify --repair moves damage aside and discards nothing")
    })
}

fn found(finding: Finding) -> Found {
    Found {
        kind: finding.kind.name(),
        session_id: finding.session,
        path: finding.place,
        offset: finding.offset,
        bytes: finding.bytes,
        message: finding.message,
    }
}

fn mended(repaired: Repaired) -> Mended {
    Mended {
        kind: repaired.kind.name(),
        session_id: repaired.session,
        path: repaired.place,
        offset: repaired.damage.as_ref().map(|damage| damage.offset),
        bytes: repaired.damage.as_ref().map(|damage| damage.bytes),
        moved_to: repaired.moved_to,
    }
}
