//! Signals that end a call but let it keep what arrived.
//!
//! While a call runs, SIGHUP, SIGINT and SIGTERM are told to it; after the first of them, and
//! whenever no call runs, they do what they always do. So a second Ctrl-C helps also where the
//! first is not heard, as in a write to a pipe nobody reads.
//!
//! A signal that was ignored when the program started stays so: `nohup` asks for that.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Code, Error};

const SIGNALS: [(i32, Code, &str); 3] = [
    (SIGHUP, Code::Hangup, "SIGHUP"),
    (SIGINT, Code::Interrupted, "SIGINT"),
    (SIGTERM, Code::Terminated, "SIGTERM"),
];

/// The ear for signals during one call.
pub(super) struct Signals {
    streams: Vec<(Signal, Code, &'static str)>,
    kill: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on. To be called within a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let heard = SIGNALS
            .iter()
            .filter(|(number, ..)| ignored >> (number - 1) & 1 == 0);
        let kill = Arc::clone(kill_switch()?);
        kill.store(false, Ordering::SeqCst);
        let streams = heard
            .map(|&(number, code, name)| Ok((signal(SignalKind::from_raw(number))?, code, name)))
            .collect::<io::Result<_>>()?;
        Ok(Self { streams, kill })
    }

    /// Waits for the first signal and returns the error it ends the call with.
    pub(super) async fn next(&mut self) -> Error {
        std::future::poll_fn(|context| {
            for (stream, code, name) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(Error::new(*code, format!("{name} ended the call")));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.kill.store(true, Ordering::SeqCst);
    }
}

/// Returns the switch that says whether a signal kills, after its handlers were installed once.
/// A handler that is there stays for the life of the process.
fn kill_switch() -> io::Result<&'static Arc<AtomicBool>> {
    static SWITCH: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(switch) = SWITCH.get() {
        return Ok(switch);
    }
    let ignored = ignored();
    let switch = Arc::new(AtomicBool::new(true));
    for (number, ..) in SIGNALS {
        if ignored >> (number - 1) & 1 == 0 {
            // In this order: the first signal flips the switch, the second finds it flipped.
            signal_hook::flag::register_conditional_default(number, Arc::clone(&switch))?;
            signal_hook::flag::register(number, Arc::clone(&switch))?;
        }
    }
    Ok(SWITCH.get_or_init(|| switch))
}

/// Returns the signals this process ignores, the lowest bit being signal 1. Where the system
/// does not tell, none.
fn ignored() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .as_deref()
        .and_then(ignored_in)
        .unwrap_or(0)
}

fn ignored_in(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|l| l.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_a_process() {
        let rows = [
            ("Name:\tx\nSigIgn:\t0000000000000001\nSigCgt:\t0\n", Some(1)),
            (
                "SigBlk:\t0000000000010000\nSigIgn:\t0000000000001002\n",
                Some(0x1002),
            ),
            ("SigIgn:\tx\n", None),
            ("", None),
        ];
        for (status, expected) in rows {
            assert_eq!(ignored_in(status), expected, "{status:?}");
        }
    }
}
