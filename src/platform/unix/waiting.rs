//! Signals, and waiting for what comes first of them, a moment and the end of standard output.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Context;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::platform::Signal;

/// Waits, and tells whether standard output has nobody any more who reads it. A signal ends the
/// wait early.
#[must_use]
pub fn is_stdout_closed_after(pause: Duration) -> bool {
    let out = io::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let waited = poll(&mut polled, Some(&timespec(pause)));
    waited.is_ok()
        && polled[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Lets a write beyond the limit of file sizes fail, as one to a full disk does: by itself that
/// ends the process in the middle of it, and the reply is lost.
pub fn outlive_size_limit() {
    // Where it cannot be caught, it ends the process as ever.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Hangup => SIGHUP,
            Self::Interrupt => SIGINT,
            Self::Terminate => SIGTERM,
        }
    }

    /// Sets a flag whenever it comes, after all that was asked for before.
    ///
    /// # Errors
    /// As the system says.
    pub fn sets(self, came: &Arc<AtomicBool>) -> io::Result<()> {
        flag::register(self.number(), Arc::clone(came)).map(drop)
    }

    /// Ends the process with this status when it comes and the switch is on.
    ///
    /// # Errors
    /// As the system says.
    pub fn ends_if(self, switch: &Arc<AtomicBool>, status: u8) -> io::Result<()> {
        let switch = Arc::clone(switch);
        flag::register_conditional_shutdown(self.number(), status.into(), switch).map(drop)
    }

    /// Does what it always does when it comes and the switch is on.
    ///
    /// # Errors
    /// As the system says.
    pub fn does_as_ever_if(self, switch: &Arc<AtomicBool>) -> io::Result<()> {
        flag::register_conditional_default(self.number(), Arc::clone(switch)).map(drop)
    }
}

/// Returns a test whether this process was started to ignore a signal. Where the system does not
/// tell, none is.
pub(in crate::platform) fn ignored() -> impl Fn(Signal) -> bool {
    // The file has no size to go by; it is read at once into what is large enough.
    let mut status = String::with_capacity(8 << 10);
    let bits = File::open("/proc/self/status")
        .and_then(|mut file| file.read_to_string(&mut status))
        .ok()
        .and_then(|_| ignored_in(&status))
        .unwrap_or(0);
    // The lowest bit is signal 1.
    move |signal| bits >> (signal.number() - 1) & 1 == 1
}

fn ignored_in(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|l| l.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// Waits on a thread of its own for signals.
#[derive(Debug)]
pub struct Sentry(UnixStream);

impl Sentry {
    /// Listens from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn of(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let (woken, wake) = UnixStream::pair()?;
        for signal in signals {
            signal_hook::low_level::pipe::register(signal.number(), wake.try_clone()?)?;
        }
        Ok(Self(woken))
    }

    /// Waits for the next one; false when there will be none.
    pub fn wait(&mut self) -> bool {
        self.0.read_exact(&mut [0]).is_ok()
    }
}

/// Wakes who waits in a runtime.
#[derive(Debug)]
pub struct Arrival(tokio::signal::unix::Signal);

impl Arrival {
    /// Listens from now on. To be called within a runtime.
    ///
    /// # Errors
    /// As the system says.
    pub fn of(signal: Signal) -> io::Result<Self> {
        let kind = tokio::signal::unix::SignalKind::from_raw(signal.number());
        tokio::signal::unix::signal(kind).map(Self)
    }

    /// Has the task woken when it comes.
    pub fn wake(&mut self, context: &mut Context<'_>) {
        // Until it is pending: then it wakes this.
        while self.0.poll_recv(context).is_ready() {}
    }
}

/// Hears one signal, for a wait that is also for a moment.
#[derive(Debug)]
pub struct Ear(UnixStream);

impl Ear {
    /// Listens from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn for_signal(signal: Signal) -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal.number(), writer)?;
        Ok(Self(reader))
    }

    /// Tells whether it has come.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        is_readable(&self.0)
    }

    /// Forgets that it has come, so that the next one is a new one.
    pub fn forget(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.0).read(&mut bytes), Ok(n) if n > 0) {}
    }
}

fn is_readable(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    let now = timespec(Duration::ZERO);
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::IN)
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Waits for descriptors; a signal that interrupts this has written to one of them.
fn poll_for(polled: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
    match poll(polled, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn polled<'e>(ears: &[&'e Ear]) -> Vec<PollFd<'e>> {
    let polled = ears.iter().map(|ear| PollFd::new(&ear.0, PollFlags::IN));
    polled.collect()
}

/// A moment that is waited for, by a clock that also runs while the machine is suspended.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Debug)]
pub struct Timer(OwnedFd);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Timer {
    /// Sets it.
    ///
    /// # Errors
    /// As the system says.
    pub fn set(time: Duration) -> io::Result<Self> {
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
            timerfd_settime,
        };
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
        // A timer of zero would never be due.
        let due = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(time.max(Duration::from_nanos(1))),
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &due)?;
        Ok(Self(timer))
    }

    /// Tells whether the moment has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        is_readable(&self.0)
    }

    /// Waits for it, or for what an ear hears.
    ///
    /// # Errors
    /// As the system says.
    pub fn wait_with(&self, ears: &[&Ear]) -> io::Result<()> {
        let mut polled = polled(ears);
        polled.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN));
        poll_for(&mut polled, None)
    }
}

/// A moment that is waited for, by a clock that stands still while the machine is suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Debug)]
pub struct Timer(std::time::Instant);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Timer {
    /// Sets it.
    ///
    /// # Errors
    /// None.
    pub fn set(time: Duration) -> io::Result<Self> {
        Ok(Self(std::time::Instant::now() + time))
    }

    fn left(&self) -> Duration {
        self.0.saturating_duration_since(std::time::Instant::now())
    }

    /// Tells whether the moment has come.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.left().is_zero()
    }

    /// Waits for it, or for what an ear hears.
    ///
    /// # Errors
    /// As the system says.
    pub fn wait_with(&self, ears: &[&Ear]) -> io::Result<()> {
        poll_for(&mut polled(ears), Some(&timespec(self.left())))
    }
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
