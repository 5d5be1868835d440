//! Redaction: what is hidden of an event, and what is left of it.
//!
//! A `redact` event names byte ranges of an event's text as it was first stored. They stay true for
//! ever, because on disk nothing is ever cut out: compaction puts as many other bytes in the place
//! of those that are hidden ([`Hidden::mask_line`]), so that a redaction another machine made of
//! the same event still means the same, and one applied twice changes nothing. Whoever reads gets
//! [`MARKER`] in the place of each hidden stretch, and nothing at all of a turn that was retracted.
//!
//! A range that ends inside a character hides all of it; one beyond the end hides nothing there. A
//! field that is no text (tool calls, tags) is hidden whole. What holds a session together (ids,
//! counts, the model's name) is never hidden, whatever an event says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::event::{Counted, Redact, Turn};
use crate::json;

/// What is shown in the place of a hidden stretch of text.
pub const MARKER: &str = "[redacted]";

/// What stands on disk in the place of a hidden byte.
const BLANK: &str = "*";

/// What stands on disk in the place of a character of 2, 3 or 4 bytes that a range hides a part
/// of: one of the same length, so that the range meets a character's inside again.
const BLANKS: [&str; 3] = ["\u{a4}", "\u{203b}", "\u{1f0a0}"];

/// Fields that hold a session together and say nothing of what was said.
const STRUCTURE: [&str; 35] = [
    "v",
    "id",
    "type",
    "ts",
    "at",
    "app",
    "forked_from",
    "model",
    "max_context_tokens",
    "prune",
    "pins",
    "parent",
    "concurrent_with",
    "done_reason",
    "usage",
    "think",
    "tokens",
    "sent",
    "keep_from",
    "keep",
    "strategy",
    "budget",
    "back",
    "kept_turns",
    "dropped_turns",
    "dropped_tokens",
    "kept_redacts",
    "settings",
    "turn",
    "fields",
    "original",
    "salt",
    "hash",
    "num_ctx",
    "replaces",
];

/// Fields that only events other than turns have.
const OF_NO_TURN: [&str; 6] = ["system", "title", "tags", "summary", "template", "imported"];

/// Fields of a turn that are gone when it is retracted, besides prompt and response.
const SAID: [&str; 11] = [
    "thinking",
    "tool_calls",
    "tool_results",
    "tools",
    "options",
    "format",
    "references",
    "blobs",
    "images",
    "key",
    "request",
];

/// The beginning of the names of settings a `prune` event has a copy of.
const COPIED: &str = "settings.";

/// Tells whether a field may be hidden, by its name in a `redact` event.
#[must_use]
pub fn may_be_hidden(name: &str) -> bool {
    !STRUCTURE.contains(&name.strip_prefix(COPIED).unwrap_or(name))
}

/// Returns a line without one of its fields, everything else as it was; `None` where it has no
/// such field.
#[must_use]
pub fn without_field(raw: &[u8], name: &str) -> Option<Vec<u8>> {
    let Fields(fields) = serde_json::from_slice(raw).ok()?;
    let kept = fields.iter().filter(|(field, _)| field != name);
    let kept: Vec<(&str, Cow<'_, str>)> = kept
        .map(|(name, value)| (name.as_str(), value.get().into()))
        .collect();
    (kept.len() < fields.len()).then(|| object(&kept).into_bytes())
}

/// What is put in the place of hidden stretches of a text.
type Cover = fn(&str, &[[u64; 2]]) -> String;

/// All that is hidden of one event, by however many others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hidden {
    redactions: u64,
    is_whole: bool,
    fields: BTreeMap<String, Vec<[u64; 2]>>,
    /// The event with the hidden bytes blanked out, once it was seen.
    masked: Option<Value>,
}

impl Hidden {
    /// Adds what an event hides.
    pub fn add(&mut self, redact: &Redact) {
        self.redactions += 1;
        self.is_whole |= redact.is_whole();
        for (name, ranges) in &redact.fields {
            let known = self.fields.entry(name.clone()).or_default();
            known.extend(ranges.iter().filter(|[start, end]| start < end));
            *known = merged(std::mem::take(known));
        }
    }

    /// Returns how many events this is the sum of.
    #[must_use]
    pub fn redactions(&self) -> u64 {
        self.redactions
    }

    /// Tells whether the whole turn is retracted.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Tells whether this is about a turn, and not about settings or a horizon.
    #[must_use]
    pub fn is_of_a_turn(&self) -> bool {
        let is_other =
            |name: &String| OF_NO_TURN.contains(&name.as_str()) || name.starts_with(COPIED);
        self.is_whole || !self.fields.keys().all(is_other)
    }

    /// Returns the byte ranges that are hidden of a field, sorted and apart; `None` where none is
    /// named of it.
    #[must_use]
    pub fn of_field(&self, name: &str) -> Option<&[[u64; 2]]> {
        self.fields.get(name).map(Vec::as_slice)
    }

    /// Returns what may be shown of a turn, `None` where that is nothing. What was hidden by an
    /// earlier call stays so.
    #[must_use]
    pub fn hide_turn(&mut self, turn: Turn) -> Option<Turn> {
        if self.is_whole {
            self.masked = None;
            return None;
        }
        let mut shown: Turn = self.hide(turn)?;
        let masked = self.masked.as_ref()?;
        if masked["prompt"] != *shown.prompt || masked["response"] != *shown.response {
            // What was measured was another text; this much the new one has at most.
            shown.tokens.prompt = shown.prompt.len() as u64;
            shown.tokens.response = shown.response.len() as u64;
            shown.tokens.counted = Counted::Bytes;
        }
        Some(shown)
    }

    /// Returns what may be shown of an event's body, `None` where what is left of it is none any
    /// more. What was hidden by an earlier call stays so.
    #[must_use]
    pub fn hide<T: Serialize + DeserializeOwned>(&mut self, body: T) -> Option<T> {
        let mut masked = match self.masked.take() {
            Some(masked) => masked,
            None => serde_json::to_value(body).ok()?,
        };
        let mut shown = masked.clone();
        for (name, ranges) in self.fields.iter().filter(|(name, _)| may_be_hidden(name)) {
            cover_field(&mut masked, name, ranges, mask);
            cover_field(&mut shown, name, ranges, show);
        }
        self.masked = Some(masked);
        serde_json::from_value(shown).ok()
    }

    /// Returns the line of an event with the hidden bytes gone from it, everything else in it as it
    /// was; `None` where nothing hidden is in it any more.
    #[must_use]
    pub fn mask_line(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let line = str::from_utf8(raw).ok()?;
        let masked = self.cover_object(line, "", mask)?;
        (masked != line).then(|| masked.into_bytes())
    }

    /// Returns the line of an event as it may be shown; as it is where nothing of it is hidden.
    #[must_use]
    pub fn show_line<'a>(&self, raw: &'a [u8]) -> Cow<'a, [u8]> {
        let shown = str::from_utf8(raw).ok();
        match shown.and_then(|line| self.cover_object(line, "", show)) {
            Some(shown) => Cow::Owned(shown.into_bytes()),
            None => Cow::Borrowed(raw),
        }
    }

    /// Returns a JSON object with what is hidden of its fields covered; `None` where nothing is,
    /// or it is no object. `prefix` is what comes before the names.
    fn cover_object(&self, text: &str, prefix: &str, cover: Cover) -> Option<String> {
        let Fields(fields) = serde_json::from_str(text).ok()?;
        let is_type =
            |(name, value): &(String, &RawValue)| name == "type" && value.get() == "\"turn\"";
        let is_retracted = self.is_whole && prefix.is_empty() && fields.iter().any(is_type);
        let mut is_changed = false;
        let mut kept: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(fields.len());
        for (name, value) in &fields {
            let covered = if is_retracted {
                left_of_retracted(name, value.get())
            } else {
                self.cover_value(&format!("{prefix}{name}"), value.get(), cover)
            };
            is_changed |= covered.as_deref() != Some(value.get());
            kept.extend(covered.map(|value| (name.as_str(), value)));
        }
        is_changed.then(|| object(&kept))
    }

    /// Returns what is left of one field's JSON; `None` where that is nothing.
    fn cover_value<'a>(&self, name: &str, value: &'a str, cover: Cover) -> Option<Cow<'a, str>> {
        let is_copy = COPIED.strip_suffix('.') == Some(name);
        if is_copy && self.fields.keys().any(|field| field.starts_with(COPIED)) {
            let covered = self.cover_object(value, COPIED, cover);
            return Some(covered.map_or(value.into(), Cow::Owned));
        }
        let ranges = self.fields.get(name).filter(|_| may_be_hidden(name));
        match (ranges, serde_json::from_str::<String>(value)) {
            (None, _) => Some(value.into()),
            // There are no ranges in what is no text.
            (Some(_), Err(_)) => None,
            (Some(ranges), Ok(text)) => {
                let covered = cover(&text, ranges);
                Some(if covered == text {
                    value.into()
                } else {
                    json::line(&covered).into()
                })
            }
        }
    }
}

/// Returns what is left of a field's JSON when its turn is retracted; `None` where that is nothing.
fn left_of_retracted<'a>(name: &str, value: &'a str) -> Option<Cow<'a, str>> {
    match name {
        "prompt" | "response" => Some("\"\"".into()),
        _ if SAID.contains(&name) => None,
        _ => Some(value.into()),
    }
}

/// Writes an object of names and JSON values.
fn object(fields: &[(&str, Cow<'_, str>)]) -> String {
    let mut text = String::from("{");
    for (name, value) in fields {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&json::line(name));
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

/// Covers what is hidden of one field of a value; one that is no text goes.
fn cover_field(body: &mut Value, name: &str, ranges: &[[u64; 2]], cover: Cover) {
    let (body, name) = match name.strip_prefix(COPIED) {
        Some(name) => (body.get_mut("settings"), name),
        None => (Some(body), name),
    };
    let Some(fields) = body.and_then(Value::as_object_mut) else {
        return;
    };
    match fields.get_mut(name) {
        Some(Value::String(text)) => *text = cover(text, ranges),
        Some(_) => drop(fields.shift_remove(name)),
        None => {}
    }
}

/// Sorts ranges and makes one of those that overlap or touch.
#[must_use]
pub fn merged(mut ranges: Vec<[u64; 2]>) -> Vec<[u64; 2]> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touches = next[0] <= last[1];
        if touches {
            last[1] = last[1].max(next[1]);
        }
        touches
    });
    ranges
}

/// How much of a character is hidden.
#[derive(PartialEq, Eq)]
enum Covered {
    None,
    Part,
    Whole,
}

/// Returns how much merged ranges hide of the bytes `at`.
fn covered_part(ranges: &[[u64; 2]], at: Range<usize>) -> Covered {
    let (start, end) = (at.start as u64, at.end as u64);
    let next = ranges.partition_point(|range| range[1] <= start);
    match ranges.get(next) {
        Some(range) if range[0] <= start && end <= range[1] => Covered::Whole,
        Some(range) if range[0] < end => Covered::Part,
        _ => Covered::None,
    }
}

/// Returns the characters of a text with where they are and how much of them is hidden.
fn covered<'a>(text: &'a str, ranges: &'a [[u64; 2]]) -> impl Iterator<Item = (&'a str, Covered)> {
    text.char_indices().map(|(start, c)| {
        let at = start..start + c.len_utf8();
        (&text[at.clone()], covered_part(ranges, at))
    })
}

/// Blanks out what is hidden; no byte changes its place.
fn mask(text: &str, ranges: &[[u64; 2]]) -> String {
    let mut masked = String::with_capacity(text.len());
    for (c, cover) in covered(text, ranges) {
        match (cover, c.len()) {
            (Covered::None, _) => masked.push_str(c),
            (Covered::Part, length @ 2..) => masked.push_str(BLANKS[length - 2]),
            (_, length) => masked.extend(std::iter::repeat_n(BLANK, length)),
        }
    }
    masked
}

/// Puts the marker in the place of each hidden stretch.
fn show(text: &str, ranges: &[[u64; 2]]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut is_hidden = false;
    for (c, cover) in covered(text, ranges) {
        let was_hidden = std::mem::replace(&mut is_hidden, cover != Covered::None);
        match (is_hidden, was_hidden) {
            (false, _) => shown.push_str(c),
            (true, false) => shown.push_str(MARKER),
            (true, true) => {}
        }
    }
    shown
}

/// The fields of a JSON object as they stand there.
pub(super) struct Fields<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{id, turn};
    use super::super::event::{Body, Event, Reference, ReferenceStatus};
    use super::*;
    use proptest::prelude::*;

    fn redact(fields: &[(&str, &[[u64; 2]])]) -> Redact {
        let fields = fields
            .iter()
            .map(|(name, ranges)| ((*name).to_owned(), ranges.to_vec()));
        Redact {
            turn: id(1),
            fields: fields.collect(),
            original: BTreeMap::new(),
            salt: None,
            hash: None,
        }
    }

    fn hidden(redacts: &[Redact]) -> Hidden {
        let mut hidden = Hidden::default();
        redacts.iter().for_each(|redact| hidden.add(redact));
        hidden
    }

    fn said(event: Event) -> Turn {
        match event.body {
            Body::Turn(turn) => *turn,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hidden_stretches_become_markers_whatever_the_ranges() {
        let rows: [(&str, &[[u64; 2]], &str); 11] = [
            ("in the middle", &[[3, 5]], "aé[redacted]日b🦀"),
            ("nothing", &[], "aéxx日b🦀"),
            ("empty and backwards", &[[2, 2], [5, 1]], "aéxx日b🦀"),
            ("all", &[[0, 99]], "[redacted]"),
            ("beyond the end", &[[13, 99], [50, 60]], "aéxx日b🦀"),
            (
                "the largest there is",
                &[[9, u64::MAX]],
                "aéxx日b[redacted]",
            ),
            ("inside a character", &[[2, 3]], "a[redacted]xx日b🦀"),
            ("one byte of three", &[[6, 7]], "aéxx[redacted]b🦀"),
            ("touching are one", &[[3, 4], [4, 5]], "aé[redacted]日b🦀"),
            (
                "overlapping, unsorted",
                &[[4, 8], [0, 1], [3, 5]],
                "[redacted]é[redacted]b🦀",
            ),
            (
                "around one that stays",
                &[[0, 1], [3, 4]],
                "[redacted]é[redacted]x日b🦀",
            ),
        ];
        for (name, ranges, expected) in rows {
            let mut hidden = hidden(&[redact(&[("prompt", ranges)])]);
            let got = hidden
                .hide_turn(said(turn(1, "aéxx日b🦀", "r")))
                .expect("not retracted");
            assert_eq!(got.prompt, expected, "{name}");
            assert_eq!(got.response, "r", "{name}");
        }
    }

    #[test]
    fn a_line_loses_what_is_hidden_and_keeps_what_nobody_knows() {
        let hidden = hidden(&[redact(&[
            ("prompt", &[[4, 10]]),
            ("note", &[[0, 1]]),
            ("list", &[[0, 1]]),
        ])]);
        let raw = r#"{"v":1,"new":{"a": 1e400},"prompt":"say secret!","note":"xy","list":["x"],"response":"\u0041"}"#;
        let masked = hidden
            .mask_line(raw.as_bytes())
            .expect("something is hidden");
        let text = String::from_utf8(masked.clone()).expect("UTF-8");
        assert_eq!(
            text,
            r#"{"v":1,"new":{"a": 1e400},"prompt":"say ******!","note":"*y","response":"\u0041"}"#
        );
        assert_eq!(
            hidden.mask_line(&masked),
            None,
            "a second time changes nothing"
        );
    }

    #[test]
    fn of_a_retracted_turn_nothing_is_left() {
        let mut event = turn(1, "secret", "secret");
        if let Body::Turn(turn) = &mut event.body {
            turn.thinking = Some("secret".into());
            turn.tool_calls = Some(serde_json::json!(["secret"]));
            turn.references = vec![Reference {
                path: "./secret".into(),
                bytes: 6,
                sha256: None,
                status: ReferenceStatus::Ok,
                error: None,
            }];
        }
        let mut hidden = hidden(&[redact(&[])]);
        let line = hidden
            .mask_line(event.to_line().as_bytes())
            .expect("something is hidden");
        let text = String::from_utf8(line).expect("UTF-8");
        assert!(!text.contains("secret"), "{text}");
        assert!(
            Event::from_slice(text.as_bytes()).is_ok(),
            "still a turn: {text}"
        );
        assert_eq!(hidden.hide_turn(said(event)), None);
    }

    #[test]
    fn what_holds_a_session_together_is_never_hidden() {
        let everything: Vec<(&str, &[[u64; 2]])> = STRUCTURE
            .iter()
            .map(|name| (*name, &[[0u64, 99]] as &[[u64; 2]]))
            .collect();
        let hidden = hidden(&[redact(&everything)]);
        let line = turn(1, "p", "r").to_line();
        assert_eq!(hidden.mask_line(line.as_bytes()), None);
    }

    #[test]
    fn the_copy_of_settings_in_a_horizon_is_covered_field_by_field() {
        let hidden = hidden(&[redact(&[
            ("settings.system", &[[3, 6]]),
            ("settings.tags", &[[0, 1]]),
            ("summary", &[[0, 2]]),
        ])]);
        let raw = r#"{"v":1,"summary":"abc","settings":{"model":"m","system":"be shy","tags":{"x":true}}}"#;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        assert_eq!(
            hidden
                .mask_line(raw.as_bytes())
                .map(|line| text(&line))
                .as_deref(),
            Some(r#"{"v":1,"summary":"**c","settings":{"model":"m","system":"be ***"}}"#)
        );
        assert_eq!(
            text(&hidden.show_line(raw.as_bytes())),
            r#"{"v":1,"summary":"[redacted]c","settings":{"model":"m","system":"be [redacted]"}}"#
        );
        assert!(!hidden.is_of_a_turn());
    }

    fn any_redact() -> impl Strategy<Value = Redact> {
        let ranges = || prop::collection::vec(prop::array::uniform2(0u64..40), 0..4);
        (ranges(), ranges())
            .prop_map(|(prompt, response)| redact(&[("prompt", &prompt), ("response", &response)]))
    }

    proptest! {
        /// Whatever was compacted in between, and whoever redacted what in which order.
        #[test]
        fn redactions_of_a_compacted_turn_are_those_of_the_turn(
            prompt: String, response: String,
            first in prop::collection::vec(any_redact(), 1..3), then in prop::collection::vec(any_redact(), 0..3),
        ) {
            let event = turn(1, &prompt, &response);
            let all: Vec<Redact> = first.iter().chain(&then).cloned().collect();
            let expected = hidden(&all).hide_turn(said(event.clone()));

            let raw = event.to_line();
            let compacted = hidden(&first).mask_line(raw.as_bytes()).unwrap_or(raw.into_bytes());
            let compacted = said(Event::from_slice(&compacted).expect("still a turn"));
            let mut backwards: Vec<Redact> = all.clone();
            backwards.reverse();
            prop_assert_eq!(hidden(&backwards).hide_turn(compacted), expected.clone());

            let mut one_by_one = Hidden::default();
            let mut got = Some(said(event));
            for redact in &all {
                one_by_one.add(redact);
                got = one_by_one.hide_turn(got.expect("not retracted"));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
