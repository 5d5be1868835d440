//! Waiting for a moment or a signal, whichever comes first, for a process that goes on for months.
//!
//! Nothing is polled: the process sleeps until the kernel has something for it. The wait goes by a
//! clock that also runs while the machine is suspended, where the system has one, so that a
//! laptop that was closed for a day does at once what was due meanwhile.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::signals::is_ignored;

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The time was up.
    Due,
    /// SIGHUP: something is to be done now.
    Hurried(&'static str),
    /// SIGINT or SIGTERM: the process is to end.
    Ended(&'static str),
}

/// The ear for signals of a process that goes on. SIGINT and SIGTERM are told, once; a second one
/// does what it always does. A signal that was ignored when the program started stays so.
#[derive(Debug)]
pub struct Bell {
    ends: Vec<(UnixStream, &'static str)>,
    hurries: Option<UnixStream>,
}

impl Bell {
    /// Listens from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn listen() -> io::Result<Self> {
        let is_ended = Arc::new(AtomicBool::new(false));
        let mut ends = Vec::new();
        for (number, name) in [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")] {
            if is_ignored(number) {
                continue;
            }
            // In this order: the first signal flips the switch, the second finds it flipped.
            signal_hook::flag::register_conditional_default(number, Arc::clone(&is_ended))?;
            signal_hook::flag::register(number, Arc::clone(&is_ended))?;
            ends.push((heard(number)?, name));
        }
        let hurries = if is_ignored(SIGHUP) {
            None
        } else {
            Some(heard(SIGHUP)?)
        };
        Ok(Self { ends, hurries })
    }

    /// Tells whether the process is to end, and by which signal.
    #[must_use]
    pub fn ended(&self) -> Option<&'static str> {
        let mut ends = self.ends.iter();
        ends.find(|(stream, _)| has_something(stream))
            .map(|(_, name)| *name)
    }

    /// Waits.
    ///
    /// # Errors
    /// As the system says.
    pub fn wait(&self, time: Duration) -> io::Result<Woken> {
        let timer = Timer::set(time)?;
        loop {
            if let Some(name) = self.ended() {
                return Ok(Woken::Ended(name));
            }
            if let Some(stream) = &self.hurries
                && has_something(stream)
            {
                forget(stream);
                return Ok(Woken::Hurried("SIGHUP"));
            }
            if timer.is_due() {
                return Ok(Woken::Due);
            }
            let streams = self
                .ends
                .iter()
                .map(|(stream, _)| stream)
                .chain(&self.hurries);
            let mut polled: Vec<PollFd<'_>> = streams
                .map(|stream| PollFd::new(stream, PollFlags::IN))
                .collect();
            timer.wait_with(&mut polled)?;
        }
    }
}

/// Returns a stream that has something to read once a signal has come.
fn heard(number: i32) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(number, writer)?;
    Ok(reader)
}

fn has_something(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::IN)
}

/// Reads all there is, so that the next signal is a new one.
fn forget(mut stream: &UnixStream) {
    let mut bytes = [0; 64];
    while matches!(stream.read(&mut bytes), Ok(n) if n > 0) {}
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

/// The time that is waited for.
#[cfg(any(target_os = "linux", target_os = "android"))]
struct Timer(std::os::fd::OwnedFd);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Timer {
    fn set(time: Duration) -> io::Result<Self> {
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

    fn is_due(&self) -> bool {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let now = timespec(Duration::ZERO);
        poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::IN)
    }

    fn wait_with<'a>(&'a self, polled: &mut Vec<PollFd<'a>>) -> io::Result<()> {
        polled.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN));
        poll_for(polled, None)
    }
}

/// The time that is waited for, by a clock that stands still while the machine is suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
struct Timer(std::time::Instant);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Timer {
    fn set(time: Duration) -> io::Result<Self> {
        Ok(Self(std::time::Instant::now() + time))
    }

    fn left(&self) -> Duration {
        self.0.saturating_duration_since(std::time::Instant::now())
    }

    fn is_due(&self) -> bool {
        self.left().is_zero()
    }

    fn wait_with(&self, polled: &mut Vec<PollFd<'_>>) -> io::Result<()> {
        poll_for(polled, Some(&timespec(self.left())))
    }
}
