//! What a turn takes from the session besides its words: the images of earlier turns, and the
//! calls that the results it brings belong to.

use std::collections::BTreeMap;

use crate::error::{Code, Error, Result};
use crate::prompt::attachments::encode;
use crate::session::attachment::{ToolResult, called, calls, matched};
use crate::session::fold::{SaidTurn, Session};
use crate::session::id::SessionId;
use crate::store::Store;
use crate::warning::Warning;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Recalled {
    /// The results of the new message, each with the id of its call.
    pub(super) results: Vec<ToolResult>,
    /// The images of earlier turns in base64, by hash.
    pub(super) images: BTreeMap<String, String>,
    /// Images that cannot be sent again.
    pub(super) warnings: Vec<Warning>,
}

/// Finds what belongs to a turn in the session it continues.
///
/// # Errors
/// `usage` for a result of a tool that the newest turn did not call.
pub(super) fn recall(
    results: &[ToolResult],
    session: &Session,
    place: Option<(&dyn Store, SessionId)>,
) -> Result<Recalled> {
    let context = session.context();
    let mut recalled = Recalled {
        results: answers(results, context.last().copied())?,
        ..Recalled::default()
    };
    let Some((store, id)) = place else {
        return Ok(recalled);
    };
    for blob in context.iter().flat_map(|said| &said.turn.blobs) {
        if recalled.images.contains_key(&blob.sha256) {
            continue;
        }
        match store.read_blob(id, blob) {
            Ok(bytes) => drop(recalled.images.insert(blob.sha256.clone(), encode(&bytes))),
            Err(cause) => {
                let image = blob.name.clone();
                let warning = Warning::ImageMissing { image, cause };
                if !recalled.warnings.contains(&warning) {
                    recalled.warnings.push(warning);
                }
            }
        }
    }
    Ok(recalled)
}

/// Finds the call of each result among those of the newest turn: no other is waiting for one.
fn answers(results: &[ToolResult], newest: Option<&SaidTurn>) -> Result<Vec<ToolResult>> {
    let newest = newest.map(|said| &said.turn);
    matched(results, newest).map_err(|name| {
        let calls = newest.map_or(&[][..], calls);
        let names: Vec<&str> = calls.iter().filter_map(|call| called(call).0).collect();
        let hint = if names.is_empty() {
            "the newest turn of the session called no tool".to_owned()
        } else {
            format!(
                "the newest turn of the session called: {}",
                names.join(", ")
            )
        };
        let sentence = format!("--tool-result {name} answers no call");
        Error::new(Code::Usage, sentence).hint(hint)
    })
}
