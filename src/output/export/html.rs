//! A session as a page of its own.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Put, Stop};
use crate::output::page::{About, Page};
use crate::session::attachment::{Blob, Image};
use crate::store::history::History;

pub(super) fn write(history: &History<'_>, put: &mut Put<'_>) -> Result<(), Stop> {
    let (mut page, head) = Page::begin(&about(history));
    put(&head)?;
    let mut last_used = history.created;
    for said in history.turns() {
        let said = said?;
        last_used = last_used.max(said.ts);
        let images: Vec<Image> = said
            .turn
            .blobs
            .iter()
            .filter_map(|blob| image(history, blob))
            .collect();
        put(&page.turn(&said, &images, history.session.is_in_context(said.id)))?;
    }
    put(&page.end(last_used))
}

/// Returns an image as it is shown; `None` where it is gone, or other bytes are in its place.
fn image(history: &History<'_>, blob: &Blob) -> Option<Image> {
    let bytes = history.read_blob(blob).ok()?;
    Some(Image {
        blob: blob.clone(),
        data: BASE64_STANDARD.encode(bytes),
    })
}

/// Returns what there is to say of a session without a look at its turns.
#[must_use]
pub fn about(history: &History<'_>) -> About {
    let settings = &history.session.settings;
    About {
        id: Some(history.id),
        title: settings.title().map(str::to_owned),
        model: settings.model.clone(),
        system: settings.system.clone(),
        created: Some(history.created),
        turns: history.turns,
        max_context_tokens: settings.max_context_tokens,
        tags: settings.tag_names(),
    }
}
