//! The window a model really has: remembered for a day, asked for when that is over.

use crate::clock;
use crate::error::{Code, Result};
use crate::ollama::Client;
use crate::store::Store;
use crate::store::models::Model;

/// Returns the window of a model in tokens, where it is known: as remembered, or else as the
/// server says now. `store` is where it is remembered. What was remembered long ago is still the
/// best guess where nobody may be asked, or where the server does not say.
///
/// # Errors
/// When the server cannot be asked at all, or does not have the model: then it cannot answer a
/// turn either. One that knows the model and does not say its window is no error.
pub(super) fn find(
    client: &Client,
    model: &str,
    store: Option<&Store>,
    may_ask: bool,
) -> Result<Option<u64>> {
    let host = client.host().to_string();
    let now = clock::now();
    let known = store.and_then(|store| store.model(&host, model));
    let is_fresh = known.as_ref().is_some_and(|known| known.is_fresh(now));
    let remembered = known.and_then(|known| known.context_length);
    if is_fresh || !may_ask {
        return Ok(remembered);
    }
    match client.show(model) {
        Ok(shown) => {
            let known = Model {
                context_length: shown.context_length,
                modified_at: shown.modified_at,
                asked_at: now,
            };
            if let Some(store) = store {
                store.remember_model(&host, model, known);
            }
            Ok(shown.context_length)
        }
        Err(error) if ends_the_turn(error.code) => Err(error),
        Err(_) => Ok(remembered),
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
pub(super) fn correct(client: &Client, model: &str, store: &Store, window: u64) {
    let known = Model {
        context_length: Some(window),
        modified_at: None,
        asked_at: clock::now(),
    };
    store.remember_model(&client.host().to_string(), model, known);
}
