//! Looking for text that is to be hidden: in which fields of which events, at which bytes.
//!
//! Text is looked for as it was said, decoded, and each field for itself. What an event keeps of
//! the search is where it found something, never what it looked for.

use std::collections::BTreeMap;
use std::fmt;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::event::{Body, Redact};
use super::fold::{Entry, Session};
use super::id::EventId;
use super::pattern::why_none;
use super::redact::{Fields, Hidden, MARKER, may_be_hidden, merged};
use crate::digest::sha256_of_all;

/// How large an expression may become, in bytes: what is larger was not meant to be run over every
/// turn.
const LARGEST: usize = 32 << 20;

/// What is looked for. It is never printed.
#[derive(Clone)]
pub struct Patterns(Vec<Regex>);

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} patterns", self.0.len())
    }
}

impl Patterns {
    /// Reads patterns: regular expressions or, if they are `fixed`, texts.
    ///
    /// # Errors
    /// Which pattern, counted from 1, is none, and why, in words that do not have it.
    pub fn parse<S: AsRef<str>>(patterns: &[S], fixed: bool) -> Result<Self, (usize, String)> {
        let parse = |(number, pattern): (usize, &S)| {
            let pattern = pattern.as_ref();
            if pattern.is_empty() {
                return Err((number + 1, "it is empty".to_owned()));
            }
            let expression = if fixed {
                regex::escape(pattern)
            } else {
                pattern.to_owned()
            };
            RegexBuilder::new(&expression)
                .size_limit(LARGEST)
                .build()
                .map_err(|error| (number + 1, why_none(&error)))
        };
        let all = patterns.iter().enumerate().map(parse);
        all.collect::<Result<_, _>>().map(Self)
    }

    /// Returns where a text has what is looked for, in bytes, sorted and apart. Matches of nothing
    /// are none.
    #[must_use]
    pub fn ranges(&self, text: &str) -> Vec<[u64; 2]> {
        let found = self.0.iter().flat_map(|pattern| pattern.find_iter(text));
        let ranges = found.map(|found| [found.start() as u64, found.end() as u64]);
        merged(ranges.filter(|[start, end]| start < end).collect())
    }

    /// Returns a text with [`MARKER`] in the place of what is looked for, and how many stretches
    /// that were; `None` where it has none.
    #[must_use]
    pub fn cover(&self, text: &str) -> Option<(String, usize)> {
        let ranges = self.ranges(text);
        if ranges.is_empty() {
            return None;
        }
        let mut covered = String::with_capacity(text.len());
        let mut rest = 0;
        for [start, end] in &ranges {
            covered.push_str(&text[rest..index(*start)]);
            covered.push_str(MARKER);
            rest = index(*end);
        }
        covered.push_str(&text[rest..]);
        Some((covered, ranges.len()))
    }

    /// Covers every text in a value, names of fields included; returns how many stretches that were.
    pub fn cover_value(&self, value: &mut Value) -> usize {
        let mut stretches = 0;
        match value {
            Value::String(text) => {
                if let Some((covered, more)) = self.cover(text) {
                    *text = covered;
                    stretches += more;
                }
            }
            Value::Array(values) => {
                stretches += values
                    .iter_mut()
                    .map(|value| self.cover_value(value))
                    .sum::<usize>();
            }
            Value::Object(fields) => {
                let covered = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                    stretches += self.cover_value(&mut value);
                    let (name, more) = self.cover(&name).unwrap_or((name, 0));
                    stretches += more;
                    (name, value)
                });
                *fields = covered.collect();
            }
            _ => {}
        }
        stretches
    }

    /// Tells whether any text in a value, names of fields included, has what is looked for.
    fn is_in(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => !self.ranges(text).is_empty(),
            Value::Array(values) => values.iter().any(|value| self.is_in(value)),
            Value::Object(fields) => fields
                .iter()
                .any(|(name, value)| !self.ranges(name).is_empty() || self.is_in(value)),
            _ => false,
        }
    }
}

/// An offset in a text of this process.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a text fits the address space")
}

/// What was found in one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What hides it.
    pub redact: Redact,
    /// Stretches of text, a field that is no text counting as one.
    pub stretches: usize,
}

/// Looks for text in an event that is not hidden yet. `salt` goes into the hash of it; without one
/// there is none.
#[must_use]
pub fn seek(
    patterns: &Patterns,
    entry: &Entry,
    hidden: Option<&Hidden>,
    salt: Option<&str>,
) -> Option<Finding> {
    let is_gone = hidden.is_some_and(Hidden::is_whole);
    if is_gone || matches!(entry.event.body, Body::Redact(_)) {
        return None;
    }
    let mut search = Search {
        patterns,
        hidden,
        fields: BTreeMap::new(),
        original: BTreeMap::new(),
        texts: BTreeMap::new(),
        stretches: 0,
    };
    search.object(str::from_utf8(&entry.raw).ok()?, "");
    search.finding(entry.event.id, salt)
}

/// What was found so far in one event.
struct Search<'a> {
    patterns: &'a Patterns,
    hidden: Option<&'a Hidden>,
    fields: BTreeMap<String, Vec<[u64; 2]>>,
    original: BTreeMap<String, u64>,
    /// What is hidden of each field.
    texts: BTreeMap<String, String>,
    stretches: usize,
}

impl Search<'_> {
    fn object(&mut self, json: &str, prefix: &str) {
        let Ok(Fields(fields)) = serde_json::from_str(json) else {
            return;
        };
        for (name, value) in fields {
            if prefix.is_empty() && name == "settings" {
                self.object(value.get(), "settings.");
                continue;
            }
            let name = format!("{prefix}{name}");
            if may_be_hidden(&name) {
                self.field(name, value.get());
            }
        }
    }

    fn field(&mut self, name: String, json: &str) {
        let known = self.hidden.and_then(|hidden| hidden.of_field(&name));
        let Ok(mut value) = serde_json::from_str::<Value>(json) else {
            return;
        };
        if matches!(name.as_str(), "blobs" | "references") {
            without_figures(&mut value);
        }
        let (ranges, text) = match &value {
            Value::String(text) => {
                let mut ranges = self.patterns.ranges(text);
                ranges.retain(|range| !is_covered(*range, known.unwrap_or_default()));
                (ranges, text.as_str())
            }
            other if known.is_none() && self.patterns.is_in(other) => {
                (vec![[0, json.len() as u64]], json)
            }
            _ => return,
        };
        if ranges.is_empty() {
            return;
        }
        self.stretches += ranges.len();
        let hidden = ranges
            .iter()
            .map(|[start, end]| &text[index(*start)..index(*end)]);
        self.texts.insert(name.clone(), hidden.collect());
        self.original.insert(name.clone(), text.len() as u64);
        self.fields.insert(name, ranges);
    }

    fn finding(self, id: EventId, salt: Option<&str>) -> Option<Finding> {
        let Self {
            fields,
            original,
            texts,
            stretches,
            ..
        } = self;
        if fields.is_empty() {
            return None;
        }
        let hash = salt.map(|salt| hash(salt, &texts));
        Some(Finding {
            redact: Redact {
                turn: id,
                fields,
                original,
                salt: salt.map(str::to_owned),
                hash,
            },
            stretches,
        })
    }
}

/// Leaves of a list of files what somebody named them: a hash or a type is no text that was said.
fn without_figures(files: &mut Value) {
    let files = files.as_array_mut().into_iter().flatten();
    for file in files.filter_map(Value::as_object_mut) {
        for figure in ["sha256", "media_type", "status"] {
            file.shift_remove(figure);
        }
    }
}

/// Tells whether one range lies in others, which are sorted and apart.
fn is_covered([start, end]: [u64; 2], ranges: &[[u64; 2]]) -> bool {
    ranges
        .iter()
        .any(|known| known[0] <= start && end <= known[1])
}

/// Returns the hash of what is hidden, by field.
#[must_use]
pub fn hash(salt: &str, texts: &BTreeMap<String, String>) -> String {
    const FIRST: [&str; 3] = ["prompt", "response", "thinking"];
    let rest = texts
        .iter()
        .filter(|(name, _)| !FIRST.contains(&name.as_str()));
    let first = FIRST.iter().filter_map(|name| texts.get(*name));
    let texts = first.chain(rest.map(|(_, text)| text));
    sha256_of_all([salt].into_iter().chain(texts.map(String::as_str)))
}

/// Tells whether what is hidden is still on the disk, for compaction to take away.
#[must_use]
pub fn is_on_disk(entries: &[Entry], session: &Session) -> bool {
    entries.iter().any(|entry| {
        let hidden = session.hidden.get(&entry.event.id);
        hidden.is_some_and(|hidden| hidden.mask_line(&entry.raw).is_some())
            || session.hides_summary_of(&entry.event)
    })
}

/// Returns the events that hide what was found, and those that set again what goes with it:
/// several tags, or options, are one field, and only some of them may be meant.
#[must_use]
pub fn events_to_hide(patterns: &Patterns, session: &Session, found: &[Finding]) -> Vec<Body> {
    let mut after = session.clone();
    let mut bodies = Vec::with_capacity(found.len() + 1);
    for finding in found {
        let body = Body::Redact(finding.redact.clone());
        after.apply(after.next(body.clone()));
        bodies.push(body);
    }
    let fits = |text: &str| !patterns.ranges(text).is_empty();
    let mut again = session.settings.clone();
    again.tags.retain(|name, _| !fits(name));
    again
        .options
        .retain(|name, value| !fits(name) && !patterns.is_in(value));
    let mut lost = again.changes_from(&after.settings);
    lost.tags
        .retain(|name, on| *on || after.settings.has_tag(name));
    lost.options
        .retain(|name, value| !value.is_null() || after.settings.options.contains_key(name));
    // Only these share a field with what is to be hidden.
    let lost = super::event::Settings {
        tags: lost.tags,
        options: lost.options,
        ..super::event::Settings::default()
    };
    bodies.extend((!lost.is_empty()).then_some(Body::Set(lost)));
    bodies
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{event, id, turn};
    use super::super::event::{Event, Settings};
    use super::super::fold::fold;
    use super::super::fold::tests::entry;
    use super::*;
    use proptest::prelude::*;

    fn patterns(all: &[&str]) -> Patterns {
        Patterns::parse(all, false).expect("expressions")
    }

    #[test]
    fn what_is_no_expression_is_said_without_it() {
        for bad in [
            "se(cret",
            "se[cret",
            "secret{",
            "(?P<secret",
            "\\p{secret}",
            "*secret",
            "(?secret)",
        ] {
            let (number, why) = Patterns::parse(&["fine", bad], false).expect_err(bad);
            assert_eq!(number, 2, "{bad}");
            assert!(
                !why.contains("secret") && !why.contains('\n'),
                "{bad}: {why}"
            );
        }
        let huge = Patterns::parse(&["\\w{5000}{5000}"], false).expect_err("too large");
        assert!(!huge.1.contains("5000"), "{}", huge.1);
        assert!(
            Patterns::parse(&["("], true).is_ok(),
            "a text is no expression"
        );
        assert!(Patterns::parse(&[""], true).is_err());
        assert_eq!(format!("{:?}", patterns(&["secret"])), "1 patterns");
    }

    #[test]
    fn matches_are_whole_stretches_and_matches_of_nothing_are_none() {
        type Row = (&'static [&'static str], &'static str, &'static [[u64; 2]]);
        let rows: [Row; 6] = [
            (&["x*"], "aéxx日", &[[3, 5]]),
            (&["a", "b"], "ab c b", &[[0, 2], [5, 6]]),
            (&["(?i)SECRET"], "Secret", &[[0, 6]]),
            (&["^b"], "a\nb", &[]),
            (&["(?m)^b"], "a\nb", &[[2, 3]]),
            (&["日"], "a日", &[[1, 4]]),
        ];
        for (all, text, expected) in rows {
            assert_eq!(patterns(all).ranges(text), expected, "{all:?} in {text:?}");
        }
        assert_eq!(
            patterns(&["x+"]).cover("xa\nxx"),
            Some(("[redacted]a\n[redacted]".to_owned(), 2))
        );
        assert_eq!(patterns(&["x+"]).cover("a"), None);
    }

    #[test]
    fn every_text_of_every_kind_of_event_is_looked_into_and_no_structure() {
        let tags = [("a secret".to_owned(), true), ("other".to_owned(), true)];
        let set = event(
            2,
            Body::Set(Settings {
                model: Some("secret-model".into()),
                title: Some("secret".into()),
                system: Some("the secret".into()),
                tags: tags.into(),
                ..Settings::default()
            }),
        );
        let session = fold([entry(turn(1, "q", "a")), entry(set.clone())]);
        let found = seek(&patterns(&["secret"]), &entry(set), None, Some("salt"));
        let found = found.expect("there is something");
        let names: Vec<&String> = found.redact.fields.keys().collect();
        assert_eq!(names, ["system", "tags", "title"]);
        let expected = BTreeMap::from([
            ("system".to_owned(), "secret".to_owned()),
            (
                "tags".to_owned(),
                r#"{"a secret":true,"other":true}"#.to_owned(),
            ),
            ("title".to_owned(), "secret".to_owned()),
        ]);
        assert_eq!(found.redact.hash, Some(hash("salt", &expected)));

        let bodies = events_to_hide(&patterns(&["secret"]), &session, &[found]);
        let mut after = session;
        for body in bodies {
            after.apply(after.next(body));
        }
        assert_eq!(after.settings.system.as_deref(), Some("the [redacted]"));
        assert_eq!(after.settings.title.as_deref(), Some("[redacted]"));
        assert_eq!(after.settings.tag_names(), ["other"]);
        assert_eq!(after.settings.model.as_deref(), Some("secret-model"));
    }

    proptest! {
        /// Whatever is looked for, once hidden it is in nothing that is shown, and looking again
        /// finds nothing; also when the line was compacted in between.
        #[test]
        fn what_is_found_is_hidden_and_then_not_found_again(
            prompt in "[a-cé日]{0,12}", response in "[a-c\"\\\\]{0,12}", pattern in "[a-cé]{1,2}", compacted: bool,
        ) {
            let patterns = patterns(&[&pattern]);
            let said = turn(1, &prompt, &response);
            let Some(found) = seek(&patterns, &entry(said.clone()), None, None) else {
                prop_assert!(!prompt.contains(&pattern) && !response.contains(&pattern));
                return Ok(());
            };
            let redact = event(2, Body::Redact(found.redact.clone()));
            let session = fold([said.clone(), redact].map(entry));
            let shown = &session.turns[0].turn;
            let is_clean = |text: &str| text.split(MARKER).all(|part| !part.contains(&pattern));
            prop_assert!(is_clean(&shown.prompt) && is_clean(&shown.response), "{:?}", shown);

            let mut line = entry(said);
            let hidden = &session.hidden[&id(1)];
            if compacted {
                let raw = hidden.mask_line(&line.raw).expect("something is hidden");
                line = Entry { event: Event::from_slice(&raw).expect("an event"), raw };
            }
            prop_assert_eq!(seek(&patterns, &line, Some(hidden), None), None);
        }
    }
}
