//! Waiting for a moment or a signal, whichever comes first, for a process that goes on for months.
//!
//! Nothing is polled: the process sleeps until the kernel has something for it. The wait goes by a
//! clock that also runs while the machine is suspended, where the system has one, so that a
//! laptop that was closed for a day does at once what was due meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::platform::{Ear, Signal, Timer};

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
    ends: Vec<(Ear, &'static str)>,
    hurries: Option<(Ear, &'static str)>,
}

impl Bell {
    /// Listens from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn listen() -> io::Result<Self> {
        let is_ended = Arc::new(AtomicBool::new(false));
        let (mut ends, mut hurries) = (Vec::new(), None);
        for signal in Signal::unignored() {
            if signal == Signal::Hangup {
                hurries = Some((Ear::for_signal(signal)?, signal.name()));
                continue;
            }
            // In this order: the first signal flips the switch, the second finds it flipped.
            signal.does_as_ever_if(&is_ended)?;
            signal.sets(&is_ended)?;
            ends.push((Ear::for_signal(signal)?, signal.name()));
        }
        Ok(Self { ends, hurries })
    }

    /// Tells whether the process is to end, and by which signal.
    #[must_use]
    pub fn ended(&self) -> Option<&'static str> {
        let mut ends = self.ends.iter();
        ends.find(|(ear, _)| ear.has_heard()).map(|(_, name)| *name)
    }

    /// Waits.
    ///
    /// # Errors
    /// As the system says.
    pub fn wait(&self, time: Duration) -> io::Result<Woken> {
        let timer = Timer::set(time)?;
        let ears = self.ends.iter().chain(&self.hurries);
        let ears: Vec<&Ear> = ears.map(|(ear, _)| ear).collect();
        loop {
            if let Some(name) = self.ended() {
                return Ok(Woken::Ended(name));
            }
            if let Some((ear, name)) = &self.hurries
                && ear.has_heard()
            {
                ear.forget();
                return Ok(Woken::Hurried(name));
            }
            if timer.is_due() {
                return Ok(Woken::Due);
            }
            timer.wait_with(&ears)?;
        }
    }
}
