//! Signals that end a call but let it keep what arrived.
//!
//! While a call runs, SIGHUP, SIGINT and SIGTERM are told to it; after the first of them, and
//! whenever no call runs, they do what they always do. So a second Ctrl-C helps also where the
//! first is not heard, as in a write to a pipe nobody reads.
//!
//! A signal that was ignored when the program started stays so: `nohup` asks for that.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Code, Error};

/// Number, what it ends a call with, name.
type Row = (i32, Code, &'static str);

const SIGNALS: [Row; 3] = [
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
        let Installed { heard, kill } = installed()?;
        kill.store(false, Ordering::SeqCst);
        let streams = heard
            .iter()
            .map(|&(number, code, name)| Ok((signal(SignalKind::from_raw(number))?, code, name)))
            .collect::<io::Result<_>>()?;
        let kill = Arc::clone(kill);
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

/// The ear for signals in a loop that looks for them between two waits.
#[derive(Debug)]
pub struct SignalFlags(Vec<(Arc<AtomicBool>, Code, &'static str)>);

impl SignalFlags {
    /// Listens from now on.
    ///
    /// # Errors
    /// `internal` when the system refuses, which it does for no signal there is.
    pub fn listen() -> Result<Self, Error> {
        let listen = || {
            let Installed { heard, kill } = installed()?;
            kill.store(false, Ordering::SeqCst);
            let flag = |&(number, code, name): &Row| {
                let flag = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(number, Arc::clone(&flag))?;
                Ok((flag, code, name))
            };
            heard.iter().map(flag).collect::<io::Result<_>>()
        };
        let refused =
            |cause| Error::new(Code::Internal, "cannot listen for signals").because(cause);
        listen()
            .map(Self)
            .map_err(|cause: io::Error| refused(cause))
    }

    /// Returns the error the call ends with, if a signal has come.
    #[must_use]
    pub fn first(&self) -> Option<Error> {
        let came = self.0.iter().find(|(flag, ..)| flag.load(Ordering::SeqCst));
        came.map(|(_, code, name)| Error::new(*code, format!("{name} ended the call")))
    }
}

/// What is set up once: a handler that is there stays for the life of the process.
struct Installed {
    heard: Vec<Row>,
    /// Whether a signal does what it always does.
    kill: Arc<AtomicBool>,
}

fn installed() -> io::Result<&'static Installed> {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    if let Some(installed) = INSTALLED.get() {
        return Ok(installed);
    }
    let ignored = ignored();
    let mut heard = SIGNALS.to_vec();
    heard.retain(|(number, ..)| ignored >> (number - 1) & 1 == 0);
    let kill = Arc::new(AtomicBool::new(true));
    for &(number, ..) in &heard {
        // In this order: the first signal flips the switch, the second finds it flipped.
        signal_hook::flag::register_conditional_default(number, Arc::clone(&kill))?;
        signal_hook::flag::register(number, Arc::clone(&kill))?;
    }
    Ok(INSTALLED.get_or_init(|| Installed { heard, kill }))
}

/// Returns the signals this process ignores, the lowest bit being signal 1. Where the system
/// does not tell, none.
fn ignored() -> u64 {
    // The file has no size to go by; it is read at once into what is large enough.
    let mut status = String::with_capacity(8 << 10);
    File::open("/proc/self/status")
        .and_then(|mut file| file.read_to_string(&mut status))
        .ok()
        .and_then(|_| ignored_in(&status))
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
