//! The ear for signals while a server is waited for.

use std::io;
use std::task::Poll;

use crate::error::{Code, Error, Result};
use crate::platform::Arrival;
use crate::signals::Hold;

/// Wakes who waits when a signal comes.
pub(super) struct Signals {
    hold: Hold,
    arrivals: Vec<Arrival>,
}

impl Signals {
    /// Listens from now on. To be called within a runtime.
    pub(super) fn listen() -> Result<Self> {
        let refused = |cause: io::Error| {
            Error::new(Code::Internal, "cannot listen for signals").because(cause)
        };
        let hold = Hold::new()?;
        let arrivals = hold.heard().map(Arrival::of);
        let arrivals = arrivals.collect::<io::Result<_>>().map_err(refused)?;
        Ok(Self { hold, arrivals })
    }

    /// Waits for the first signal, which may have come already, and returns the error it ends the
    /// call with.
    pub(super) async fn next(&mut self) -> Error {
        std::future::poll_fn(|context| {
            for arrival in &mut self.arrivals {
                arrival.wake(context);
            }
            self.hold.first().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
