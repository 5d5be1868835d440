//! The window a model really has: remembered for a day, asked for when that is over.
//!
//! A reply does not say which model answered but by name, and to ask each time would double the
//! requests. But a model that was changed must be loaded anew, and that the reply does say: after
//! a long load the next turn asks again.

use crate::clock;
use crate::error::{Code, Result};
use crate::ollama::{Client, Shown};
use crate::session::event::{Timestamp, Usage};
use crate::store::Store;
use crate::store::models::Model;

/// What is known of a window without asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The window in tokens, where it is known. One that was remembered long ago is still the best
    /// guess where nobody may be asked.
    pub(super) window: Option<u64>,
    /// Whether there is no need to ask again.
    pub(super) is_fresh: bool,
}

/// Returns what is remembered of a model's window.
pub(super) fn recall(client: &Client, model: &str, store: &dyn Store) -> Remembered {
    let known = store.model(&client.host().to_string(), model);
    let is_fresh = known
        .as_ref()
        .is_some_and(|known| known.is_fresh(clock::now()));
    Remembered {
        window: known.and_then(|known| known.context_length),
        is_fresh,
    }
}

/// Asks the server for a model's window and remembers it; `remembered` stands where the server
/// does not say.
///
/// # Errors
/// When the server cannot be asked at all, or does not have the model: then it cannot answer a
/// turn either. One that knows the model and does not say its window is no error.
pub(super) fn ask(
    client: &Client,
    model: &str,
    store: &dyn Store,
    remembered: Option<u64>,
) -> Result<Option<u64>> {
    let shown = match client.show(model) {
        Ok(shown) => shown,
        Err(error) if ends_the_turn(error.code) => return Err(error),
        // A server that cannot say it now is not asked again before a day is over.
        Err(_) => Shown {
            context_length: remembered,
            modified_at: None,
        },
    };
    let Shown {
        context_length,
        modified_at,
    } = shown;
    let known = Model {
        context_length,
        modified_at,
        asked_at: clock::now(),
    };
    store.remember_model(&client.host().to_string(), model, known);
    Ok(context_length)
}

/// How long a load takes at the least that is no mere switching between requests, in nanoseconds:
/// a loaded model answers with well under a tenth of it.
const LONG_LOAD: u64 = 1_000_000_000;

/// Has the window asked for again with the next turn, if the model was loaded anew for this one:
/// it may be another by the same name.
pub(super) fn doubt(client: &Client, model: &str, store: &dyn Store, usage: &Usage) {
    let host = client.host().to_string();
    if usage.load_duration.is_some_and(|load| load >= LONG_LOAD)
        && let Some(known) = store.model(&host, model)
    {
        store.remember_model(
            &host,
            model,
            Model {
                asked_at: Timestamp::from_ms(0),
                ..known
            },
        );
    }
}

/// Tells whether a turn that was asked now would fail the same way.
fn ends_the_turn(code: Code) -> bool {
    matches!(
        code,
        Code::ServerUnreachable
            | Code::ModelNotFound
            | Code::AuthRequired
            | Code::Hangup
            | Code::Interrupted
            | Code::Terminated
    )
}

/// Remembers a window the server turned out to have when it refused a request.
pub(super) fn correct(client: &Client, model: &str, store: &dyn Store, window: u64) {
    let known = Model {
        context_length: Some(window),
        modified_at: None,
        asked_at: clock::now(),
    };
    store.remember_model(&client.host().to_string(), model, known);
}
