//! The ear for signals while a server is waited for.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Code, Error, Result};
use crate::signals::Hold;

/// Wakes who waits when a signal comes.
pub(super) struct Signals {
    hold: Hold,
    streams: Vec<Signal>,
}

impl Signals {
    /// Listens from now on. To be called within a runtime.
    pub(super) fn listen() -> Result<Self> {
        let refused = |cause: io::Error| {
            Error::new(Code::Internal, "cannot listen for signals").because(cause)
        };
        let hold = Hold::new()?;
        let streams = hold
            .numbers()
            .map(|number| signal(SignalKind::from_raw(number)))
            .collect::<io::Result<_>>()
            .map_err(refused)?;
        Ok(Self { hold, streams })
    }

    /// Waits for the first signal, which may have come already, and returns the error it ends the
    /// call with.
    pub(super) async fn next(&mut self) -> Error {
        std::future::poll_fn(|context| {
            for stream in &mut self.streams {
                // Until it is pending: then it wakes this.
                while stream.poll_recv(context).is_ready() {}
            }
            self.hold.first().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
