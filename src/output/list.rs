//! The list of sessions as people read it.

use super::table::{Column, Page, bytes, minute, short_id, table};
use super::{Report, SessionList, SessionSummary};
use crate::cli::Output;

impl Report for SessionList {
    super::report::as_json!();

    fn for_people(&self, form: Output, page: Page) -> Option<String> {
        let heads = [
            ("ID", Column::Whole),
            ("LAST USED", Column::Whole),
            ("TITLE", Column::Text),
            ("MESSAGES", Column::Number),
            ("MODEL", Column::Text),
            ("TAGS", Column::Text),
            ("TOKENS", Column::Number),
            ("SIZE", Column::Number),
        ];
        (form == Output::Table).then(|| table(page, &heads, self.sessions.iter().map(row)))
    }
}

fn row(session: &SessionSummary) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![
        short_id(session.session_id),
        session.last_used.map(minute).unwrap_or_default(),
        text(&session.title),
        session.message_count.to_string(),
        text(&session.model_name),
        session.tags.join(", "),
        session.context_tokens.to_string(),
        bytes(session.bytes),
    ]
}
