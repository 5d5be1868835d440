//! Signals that end a call: SIGHUP, SIGINT and SIGTERM.
//!
//! Each ends it with its own exit status, whatever the call is at:
//!
//! * While a turn is under way it is [held](Hold): what waits is told, and the draft keeps what
//!   had arrived. A signal that comes when the reply is complete does not keep it from being
//!   stored and printed.
//! * Else, where a call may last (standard input being read, a verb that looks at the whole store),
//!   a thread waits for the first signal and ends the process ([`end_at_once`]). What is
//!   on disk is sound at any moment.
//! * Where neither is set up, a signal does what it always does.
//!
//! A second signal ends the process at once, which helps where the first is not heard, as in a
//! write to a pipe nobody reads. A signal that was ignored when the program started stays so:
//! `nohup` asks for that.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Code, Error, Result};

/// Number, what it ends a call with, name.
type Row = (i32, Code, &'static str);

const SIGNALS: [Row; 3] = [
    (SIGHUP, Code::Hangup, "SIGHUP"),
    (SIGINT, Code::Interrupted, "SIGINT"),
    (SIGTERM, Code::Terminated, "SIGTERM"),
];

/// While there is one, the first signal is told and does nothing else.
#[derive(Debug)]
pub struct Hold(&'static Handlers);

impl Hold {
    /// Holds signals back from now on.
    ///
    /// # Errors
    /// `internal` when the system refuses, which it does for no signal there is.
    pub fn new() -> Result<Self> {
        let handlers = handlers().map_err(refused)?;
        if handlers.holds.fetch_add(1, Ordering::SeqCst) == 0 {
            handlers.kill.store(false, Ordering::SeqCst);
        }
        Ok(Self(handlers))
    }

    /// Returns the error the call ends with, if a signal has come.
    #[must_use]
    pub fn first(&self) -> Option<Error> {
        self.0.first()
    }

    /// Returns the numbers of the signals that are heard.
    pub fn numbers(&self) -> impl Iterator<Item = i32> {
        self.0.heard.iter().map(|((number, ..), _)| *number)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let handlers = self.0;
        let is_last = handlers.holds.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && !handlers.is_announced.load(Ordering::SeqCst) {
            handlers.kill.store(true, Ordering::SeqCst);
        }
    }
}

/// Returns the error the call ends with, if a signal has come and is held back.
#[must_use]
pub fn held_back() -> Option<Error> {
    let handlers = HANDLERS.get()?;
    let is_held = handlers.holds.load(Ordering::SeqCst) > 0;
    handlers.first().filter(|_| is_held)
}

/// Has a thread wait for the first signal that nobody holds back, and call `end` with what it
/// ends the call with.
///
/// # Errors
/// `internal` when there can be no thread.
pub fn end_at_once(end: impl Fn(Error) + Send + 'static) -> Result<()> {
    let listen = || {
        let handlers = handlers()?;
        let (mut woken, wake) = UnixStream::pair()?;
        for ((number, ..), _) in &handlers.heard {
            signal_hook::low_level::pipe::register(*number, wake.try_clone()?)?;
        }
        handlers.is_announced.store(true, Ordering::SeqCst);
        handlers.kill.store(false, Ordering::SeqCst);
        thread::Builder::new().spawn(move || {
            while woken.read_exact(&mut [0]).is_ok() {
                if handlers.holds.load(Ordering::SeqCst) > 0 {
                    continue;
                }
                if let Some(error) = handlers.first() {
                    end(error);
                }
            }
        })
    };
    listen().map(drop).map_err(refused)
}

fn refused(cause: io::Error) -> Error {
    Error::new(Code::Internal, "cannot listen for signals").because(cause)
}

/// What is set up once: a handler that is there stays for the life of the process.
#[derive(Debug)]
struct Handlers {
    /// Each signal that is heard, and whether it came.
    heard: Vec<(Row, Arc<AtomicBool>)>,
    /// Whether a signal ends the process by itself.
    kill: Arc<AtomicBool>,
    /// Whether a thread tells of signals that nobody holds back.
    is_announced: AtomicBool,
    holds: AtomicUsize,
}

static HANDLERS: OnceLock<Handlers> = OnceLock::new();

impl Handlers {
    fn first(&self) -> Option<Error> {
        let came = self
            .heard
            .iter()
            .find(|(_, came)| came.load(Ordering::SeqCst));
        came.map(|((_, code, name), _)| Error::new(*code, format!("{name} ended the call")))
    }
}

fn handlers() -> io::Result<&'static Handlers> {
    if let Some(handlers) = HANDLERS.get() {
        return Ok(handlers);
    }
    let ignored = ignored();
    let kill = Arc::new(AtomicBool::new(true));
    let mut heard = Vec::new();
    for row in SIGNALS {
        let (number, code, _) = row;
        if ignored >> (number - 1) & 1 == 1 {
            continue;
        }
        let came = Arc::new(AtomicBool::new(false));
        // In this order: the first signal flips the switch, the second finds it flipped.
        flag::register_conditional_shutdown(number, code.exit_status().into(), Arc::clone(&kill))?;
        flag::register(number, Arc::clone(&kill))?;
        flag::register(number, Arc::clone(&came))?;
        heard.push((row, came));
    }
    Ok(HANDLERS.get_or_init(|| Handlers {
        heard,
        kill,
        is_announced: AtomicBool::new(false),
        holds: AtomicUsize::new(0),
    }))
}

/// Tells whether this process ignores a signal, by its number.
#[must_use]
pub fn is_ignored(number: i32) -> bool {
    ignored() >> (number - 1) & 1 == 1
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
