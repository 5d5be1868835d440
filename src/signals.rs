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

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::error::{Code, Error, Result};
use crate::platform::{Sentry, Signal};

/// Returns what a signal ends a call with.
fn code(signal: Signal) -> Code {
    match signal {
        Signal::Hangup => Code::Hangup,
        Signal::Interrupt => Code::Interrupted,
        Signal::Terminate => Code::Terminated,
    }
}

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

    /// Returns the signals that are heard.
    pub fn heard(&self) -> impl Iterator<Item = Signal> {
        self.0.signals()
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
        let mut sentry = Sentry::of(handlers.signals())?;
        handlers.is_announced.store(true, Ordering::SeqCst);
        handlers.kill.store(false, Ordering::SeqCst);
        thread::Builder::new().spawn(move || {
            while sentry.wait() {
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
    heard: Vec<(Signal, Arc<AtomicBool>)>,
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
        came.map(|(signal, _)| {
            let sentence = format!("{} ended the call", signal.name());
            Error::new(code(*signal), sentence)
        })
    }

    fn signals(&self) -> impl Iterator<Item = Signal> {
        self.heard.iter().map(|(signal, _)| *signal)
    }
}

fn handlers() -> io::Result<&'static Handlers> {
    if let Some(handlers) = HANDLERS.get() {
        return Ok(handlers);
    }
    let kill = Arc::new(AtomicBool::new(true));
    let mut heard = Vec::new();
    for signal in Signal::unignored() {
        let came = Arc::new(AtomicBool::new(false));
        // In this order: the first signal flips the switch, the second finds it flipped.
        signal.ends_if(&kill, code(signal).exit_status())?;
        signal.sets(&kill)?;
        signal.sets(&came)?;
        heard.push((signal, came));
    }
    Ok(HANDLERS.get_or_init(|| Handlers {
        heard,
        kill,
        is_announced: AtomicBool::new(false),
        holds: AtomicUsize::new(0),
    }))
}
