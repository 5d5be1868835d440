//! Redaction: what is hidden of a turn, and what is left of it.
//!
//! A `redact` event names byte ranges of a turn's text as it was first stored. They stay true for
//! ever, because on disk nothing is ever cut out: compaction puts as many other bytes in the place
//! of those that are hidden ([`Hidden::mask_line`]), so that a redaction another machine made of
//! the same turn still means the same, and one applied twice changes nothing. Whoever reads gets
//! [`MARKER`] in the place of each hidden stretch, and nothing at all of a turn that was retracted.
//!
//! A range that ends inside a character hides all of it; one beyond the end hides nothing there.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
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

/// All that is hidden of one turn, by however many events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hidden {
    redactions: u64,
    is_whole: bool,
    fields: BTreeMap<String, Vec<[u64; 2]>>,
    /// The turn with the hidden bytes blanked out, once it was seen.
    masked: Option<Box<Turn>>,
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

    /// Returns what may be shown of a turn, `None` where that is nothing. What was hidden by an
    /// earlier call stays so.
    #[must_use]
    pub fn hide(&mut self, turn: Turn) -> Option<Turn> {
        let mut masked = self.masked.take().map_or(turn, |masked| *masked);
        if self.is_whole {
            return None;
        }
        let mut shown = masked.clone();
        let tokens = masked.tokens;
        for (name, ranges) in &self.fields {
            if hide_whole(&mut masked, name) {
                hide_whole(&mut shown, name);
            } else if let Some(text) = text_of(&mut masked, name) {
                *text = mask(text, ranges);
            }
            if let (Some(text), Some(from)) =
                (text_of(&mut shown, name), text_of(&mut masked, name))
            {
                *text = show(from, ranges);
            }
        }
        if shown.prompt != masked.prompt || shown.response != masked.response {
            // What was measured was another text; this much the new one has at most.
            shown.tokens.prompt = shown.prompt.len() as u64;
            shown.tokens.response = shown.response.len() as u64;
            shown.tokens.counted = Counted::Bytes;
        }
        debug_assert_eq!(masked.tokens, tokens);
        self.masked = Some(Box::new(masked));
        Some(shown)
    }

    /// Returns the line of a turn with the hidden bytes gone from it, everything else in it as it
    /// was; `None` where nothing hidden is in it any more.
    #[must_use]
    pub fn mask_line(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let Fields(fields) = serde_json::from_slice(raw).ok()?;
        let mut line = Vec::with_capacity(raw.len());
        let mut is_changed = false;
        for (name, value) in fields {
            let value = value.get();
            let kept = self.mask_field(&name, value);
            is_changed |= kept.as_deref() != Some(value);
            if let Some(kept) = kept {
                line.push(if line.is_empty() { b'{' } else { b',' });
                line.extend_from_slice(json::line(&name).as_bytes());
                line.push(b':');
                line.extend_from_slice(kept.as_bytes());
            }
        }
        line.push(b'}');
        is_changed.then_some(line)
    }

    /// Returns what is left of one field's JSON; `None` where that is nothing.
    fn mask_field(&self, name: &str, value: &str) -> Option<String> {
        if self.is_whole {
            return match name {
                "prompt" | "response" => Some("\"\"".to_owned()),
                "thinking" | "tool_calls" | "tool_results" | "references" | "blobs" | "tools"
                | "format" => None,
                _ => Some(value.to_owned()),
            };
        }
        match (self.fields.get(name), serde_json::from_str::<String>(value)) {
            (None, _) => Some(value.to_owned()),
            // There are no ranges in what is no text.
            (Some(_), Err(_)) => None,
            (Some(ranges), Ok(text)) => {
                let masked = mask(&text, ranges);
                Some(if masked == text {
                    value.to_owned()
                } else {
                    json::line(&masked)
                })
            }
        }
    }
}

/// Hides a field that is no text, and so has no ranges; tells whether it is one.
fn hide_whole(turn: &mut Turn, name: &str) -> bool {
    match name {
        "tool_calls" => turn.tool_calls = None,
        "tool_results" => turn.tool_results.clear(),
        "references" => turn.references.clear(),
        "blobs" => turn.blobs.clear(),
        "tools" => turn.tools = None,
        "format" => turn.format = None,
        _ => return false,
    }
    true
}

/// Returns a field of a turn that is text.
fn text_of<'a>(turn: &'a mut Turn, name: &str) -> Option<&'a mut String> {
    match name {
        "prompt" => Some(&mut turn.prompt),
        "response" => Some(&mut turn.response),
        "thinking" => turn.thinking.as_mut(),
        _ => None,
    }
}

/// Sorts ranges and makes one of those that overlap or touch.
fn merged(mut ranges: Vec<[u64; 2]>) -> Vec<[u64; 2]> {
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
enum Cover {
    None,
    Part,
    Whole,
}

/// Returns how much merged ranges hide of the bytes `at`.
fn cover(ranges: &[[u64; 2]], at: Range<usize>) -> Cover {
    let (start, end) = (at.start as u64, at.end as u64);
    let next = ranges.partition_point(|range| range[1] <= start);
    match ranges.get(next) {
        Some(range) if range[0] <= start && end <= range[1] => Cover::Whole,
        Some(range) if range[0] < end => Cover::Part,
        _ => Cover::None,
    }
}

/// Returns the characters of a text with where they are and how much of them is hidden.
fn covered<'a>(text: &'a str, ranges: &'a [[u64; 2]]) -> impl Iterator<Item = (&'a str, Cover)> {
    text.char_indices().map(|(start, c)| {
        let at = start..start + c.len_utf8();
        (&text[at.clone()], cover(ranges, at))
    })
}

/// Blanks out what is hidden; no byte changes its place.
fn mask(text: &str, ranges: &[[u64; 2]]) -> String {
    let mut masked = String::with_capacity(text.len());
    for (c, cover) in covered(text, ranges) {
        match (cover, c.len()) {
            (Cover::None, _) => masked.push_str(c),
            (Cover::Part, length @ 2..) => masked.push_str(BLANKS[length - 2]),
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
        let was_hidden = std::mem::replace(&mut is_hidden, cover != Cover::None);
        match (is_hidden, was_hidden) {
            (false, _) => shown.push_str(c),
            (true, false) => shown.push_str(MARKER),
            (true, true) => {}
        }
    }
    shown
}

/// Returns the line of an event without one of its keys, everything else in it as it was; `None`
/// where it is no object.
#[must_use]
pub fn without_field(raw: &[u8], name: &str) -> Option<Vec<u8>> {
    let Fields(mut fields) = serde_json::from_slice(raw).ok()?;
    fields.retain(|(other, _)| other != name);
    let fields = fields
        .iter()
        .map(|(name, value)| format!("{}:{}", json::line(name), value.get()));
    Some(format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes())
}

/// The fields of a JSON object as they stand there.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

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
                .hide(said(turn(1, "aéxx日b🦀", "r")))
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
        assert_eq!(hidden.hide(said(event)), None);
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
            let expected = hidden(&all).hide(said(event.clone()));

            let raw = event.to_line();
            let compacted = hidden(&first).mask_line(raw.as_bytes()).unwrap_or(raw.into_bytes());
            let compacted = said(Event::from_slice(&compacted).expect("still a turn"));
            let mut backwards: Vec<Redact> = all.clone();
            backwards.reverse();
            prop_assert_eq!(hidden(&backwards).hide(compacted), expected.clone());

            let mut one_by_one = Hidden::default();
            let mut got = Some(said(event));
            for redact in &all {
                one_by_one.add(redact);
                got = one_by_one.hide(got.expect("not retracted"));
            }
            prop_assert_eq!(got, expected);
        }
    }
}
