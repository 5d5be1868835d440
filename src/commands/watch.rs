//! Events as they are appended, whichever process does it.

use std::time::{Duration, Instant};

use super::named;
use crate::cli::Invocation;
use crate::clock;
use crate::error::{Error, Result};
use crate::output::{Feed, Outcome};
use crate::session::id::{SessionId, SessionRef};
use crate::signals::Hold;
use crate::store::follow::Follower;
use crate::store::{self, not_found};

/// The shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// How much longer than a look the pause after it is, at the least: with very many sessions the
/// watch is slower, and never takes more than a tenth of a processor.
const RATIO: u32 = 10;

/// A watch over a session, or all of them. Whoever prints looks again and again.
#[derive(Debug)]
struct Watch {
    only: Option<SessionId>,
    follower: Box<dyn Follower>,
    signals: Hold,
    pause: Duration,
}

/// Begins a watch. The store need not be there yet; a session that is named must be.
pub(super) fn run(
    named: Option<&SessionRef>,
    from_start: bool,
    invocation: &Invocation,
) -> Result<Outcome> {
    let location = invocation.location()?;
    let signals = Hold::new()?;
    let store = store::open(&location)?;
    let only = named
        .map(|reference| {
            let store = store.as_ref().ok_or_else(|| not_found(reference))?;
            named::find(&**store, reference)
        })
        .transpose()?;
    let watch = Watch {
        only,
        follower: match store {
            Some(store) => store.follow(only, from_start)?,
            None => store::follow(&location, only, from_start)?,
        },
        signals,
        pause: PAUSE,
    };
    Ok(Outcome::feed(watch))
}

impl Feed for Watch {
    fn look(&mut self, tell: &mut dyn FnMut(SessionId, &[u8])) -> Result<()> {
        if let Some(error) = self.signals.first() {
            return Err(self.named(error));
        }
        let began = Instant::now();
        self.follower.look(clock::now(), tell)?;
        self.pause = PAUSE.max(began.elapsed() * RATIO);
        Ok(())
    }

    fn pause(&self) -> Duration {
        self.pause
    }

    fn sessions(&self) -> usize {
        self.follower.sessions()
    }
}

impl Watch {
    fn named(&self, error: Error) -> Error {
        match self.only {
            Some(id) => error.session(id),
            None => error,
        }
    }
}
