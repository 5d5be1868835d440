//! Guards: what a turn holds so that others wait, if they asked to, also on other machines.
//!
//! Each is a lease, renewed by the process that holds it. Who waits asks again and again, so
//! turns that wait do not follow each other in the order they came. A process that is killed keeps
//! others waiting until its lease is over ([`super::lease::TERM`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::at_once;
use super::database::Database;
use super::lease::{Lease, Leases, Try};
use super::patience::Patience;
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::json;
use crate::session::event::Key;
use crate::session::id::SessionId;
use crate::store::guard::{
    Guard, HeldKey, KeyGuard, Taken, conflict, key_took_too_long, turn_took_too_long,
};

/// What is written at a key.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The hash of the request that is, or was, under way.
    request: String,
    /// Why there is no turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

/// A key that is held.
#[derive(Debug)]
struct HeldLease {
    lease: Lease,
    request: String,
}

impl HeldKey for HeldLease {
    fn leave(self: Box<Self>, error: Value) {
        let note = Note {
            request: self.request,
            error: Some(error),
        };
        let _ = self.lease.leave(&json::line(&note), &mut at_once());
    }
}

/// Takes the turn of a session, as [`crate::store::Store::take_turn`] says.
pub(super) fn take_turn(
    leases: &Leases,
    database: &Database,
    session: SessionId,
    patience: Duration,
) -> Result<Guard> {
    let mut waiting = Patience::of(patience);
    loop {
        if let Try::Held(lease, _) =
            leases.take(&format!("turn/{session}"), None, &mut at_once())?
        {
            return Ok(Guard::new(lease));
        }
        let Some(wait) = waiting.next_wait() else {
            return Err(turn_took_too_long(session, patience));
        };
        database.pause(wait)?;
    }
}

/// Takes a key, as [`crate::store::Store::take_key`] says.
pub(super) fn take_key(
    leases: &Leases,
    database: &Database,
    session: SessionId,
    key: &Key,
    patience: Duration,
) -> Result<Taken> {
    // The key itself may be as long as it likes, and its owner's secret.
    let hash = sha256(format!("{session}\n{}", key.key));
    let name = format!("key/{session}/{hash}");
    let own = json::line(&Note {
        request: key.request.clone(),
        error: None,
    });
    let note_of = |text: Option<String>| -> Option<Note> { serde_json::from_str(&text?).ok() };
    let mut waiting = Patience::of(patience);
    let mut has_waited = false;
    loop {
        match leases.take(&name, Some(&own), &mut at_once())? {
            Try::Busy(note) => {
                if note_of(note).is_some_and(|note| note.request != key.request) {
                    return Err(conflict(&key.key));
                }
            }
            Try::Held(lease, before) => {
                let note = note_of(before.clone()).filter(|note| note.request == key.request);
                let failure = note.and_then(|note| Error::of_report(&note.error?));
                if let Some(failure) = failure.filter(|_| has_waited) {
                    // It stays for the others who waited.
                    let _ = lease.leave(&before.unwrap_or_default(), &mut at_once());
                    return Ok(Taken::Failed(failure));
                }
                let request = key.request.clone();
                return Ok(Taken::Held(KeyGuard::new(Box::new(HeldLease {
                    lease,
                    request,
                }))));
            }
        }
        has_waited = true;
        let Some(wait) = waiting.next_wait() else {
            return Err(key_took_too_long(&key.key, patience));
        };
        database.pause(wait)?;
    }
}
