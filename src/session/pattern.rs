//! What is searched for, and where: a regular expression over what was said.
//!
//! What was said stands in a log as JSON, where a quote is `\"` and a newline `\n`, so the
//! expression cannot be run over the bytes as they are. [`Pattern::candidates`] is a second
//! expression that can: every line in which something matches has a match of it, and most others
//! have none. It costs what `grep` costs; only the lines it finds are decoded and searched.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

use super::event::{Body, Event};

/// How a pattern is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meaning {
    /// Whether it is a text and not an expression.
    pub is_fixed: bool,
    /// What upper and lower case mean.
    pub case: Case,
}

/// What upper and lower case mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Case {
    /// They differ.
    #[default]
    Sensitive,
    /// They are the same.
    Ignored,
    /// They are the same, unless the pattern has an upper case letter.
    Smart,
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Regex,
    candidates: String,
}

impl Pattern {
    /// Reads a pattern. `^` and `$` are the ends of a line of what was said.
    ///
    /// # Errors
    /// Why it is no regular expression, in words for people.
    pub fn new(pattern: &str, meaning: Meaning) -> Result<Self, String> {
        let escaped = meaning.is_fixed.then(|| regex::escape(pattern));
        let pattern = escaped.as_deref().unwrap_or(pattern);
        let ignores_case = match meaning.case {
            Case::Sensitive => false,
            Case::Ignored => true,
            Case::Smart => !pattern.chars().any(char::is_uppercase),
        };
        let text = RegexBuilder::new(pattern)
            .multi_line(true)
            .case_insensitive(ignores_case)
            .build()
            .map_err(|e| why_none(&e))?;
        let hir = ParserBuilder::new()
            .multi_line(true)
            .case_insensitive(ignores_case)
            .build()
            .parse(pattern)
            .map_err(|e| why_none(&e))?;
        Ok(Self {
            text,
            candidates: format!("{}|{STRANGE_ESCAPE}", in_json(&hir)),
        })
    }

    /// Returns the expression that has a match in every line of a log in which this one has a match
    /// in what was said. It never matches a newline.
    #[must_use]
    pub fn candidates(&self) -> &str {
        &self.candidates
    }

    /// Returns where it matches, in bytes.
    pub fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        self.text.find_iter(text).map(|found| found.range())
    }
}

/// Escapes this program does not write where it need not: any character may be one of them.
const STRANGE_ESCAPE: &str = r"\\[u/]";

/// The characters that stand in a log as a backslash and this letter.
const ESCAPED: [(char, char); 7] = [
    ('"', '"'),
    ('\\', '\\'),
    ('\n', 'n'),
    ('\r', 'r'),
    ('\t', 't'),
    ('\u{8}', 'b'),
    ('\u{c}', 'f'),
];

fn escape_of(c: char) -> Option<String> {
    let (_, letter) = ESCAPED.iter().find(|(escaped, _)| *escaped == c)?;
    Some(format!("\\{letter}"))
}

/// Returns why a pattern is no regular expression, in one line and without the pattern, which the
/// parser draws above its reason.
#[must_use]
pub fn why_none(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let why = match text.rsplit_once('\n') {
        // Nothing is drawn where it is too large.
        None => text.trim_end_matches('.'),
        Some((_, last)) => last.strip_prefix("error: ").unwrap_or("its syntax"),
    };
    why.to_owned()
}

/// Returns an expression for the JSON of what `hir` matches; it may match more. Looks to the
/// sides (`^`, `\b`) are left out: what stands beside a text is another thing in JSON.
fn in_json(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => match str::from_utf8(&literal.0) {
            Ok(text) => Hir::literal(escaped(text).into_bytes()),
            Err(_) => Hir::empty(),
        },
        HirKind::Class(Class::Unicode(class)) => class_in_json(class),
        HirKind::Class(Class::Bytes(class)) => match class.to_unicode_class() {
            Some(class) => class_in_json(&class),
            None => Hir::empty(),
        },
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            min: repetition.min,
            max: repetition.max,
            greedy: repetition.greedy,
            sub: Box::new(in_json(&repetition.sub)),
        }),
        HirKind::Capture(capture) => in_json(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(in_json).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(in_json).collect()),
    }
}

fn escaped(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for c in text.chars() {
        match escape_of(c) {
            Some(escape) => json.push_str(&escape),
            None => json.push(c),
        }
    }
    json
}

fn class_in_json(class: &ClassUnicode) -> Hir {
    let of = |c: char| ClassUnicodeRange::new(c, c);
    let escapes = ESCAPED.iter().filter(|(c, _)| {
        let ranges = class.ranges().iter();
        ranges
            .clone()
            .any(|range| (range.start()..=range.end()).contains(c))
    });
    let escapes = escapes.map(|(c, _)| Hir::literal(escaped(&c.to_string()).into_bytes()));
    let mut raw = class.clone();
    // Within a string neither a quote nor a backslash nor a newline stands alone.
    raw.difference(&ClassUnicode::new([of('"'), of('\\'), of('\n')]));
    let raw = (!raw.ranges().is_empty()).then(|| Hir::class(Class::Unicode(raw)));
    Hir::alternation(raw.into_iter().chain(escapes).collect())
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Who set the session up.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The model, before it answered.
    Thinking,
}

impl Role {
    /// Returns the name, as it is typed and printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Thinking => "thinking",
        }
    }
}

/// Returns what was said in an event, and by whom.
pub fn said_in(event: &Event) -> impl Iterator<Item = (Role, &str)> {
    let said: [Option<(Role, &str)>; 3] = match &event.body {
        Body::Session(header) => [system(header.settings.system.as_ref()), None, None],
        Body::Set(settings) => [system(settings.system.as_ref()), None, None],
        Body::Turn(turn) => [
            Some((Role::User, &turn.prompt)),
            turn.thinking.as_deref().map(|text| (Role::Thinking, text)),
            Some((Role::Assistant, &turn.response)),
        ],
        Body::Prune(_) | Body::Redact(_) | Body::Unknown(_) => [None; 3],
    };
    said.into_iter().flatten()
}

fn system(text: Option<&String>) -> Option<(Role, &str)> {
    text.map(|text| (Role::System, text.as_str()))
}

/// A piece of what was said, around its first match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The piece.
    pub text: String,
    /// Where it begins, in bytes of what was said.
    pub offset: usize,
    /// The matches in it, in its own bytes.
    pub matches: Vec<Range<usize>>,
}

impl Snippet {
    /// How many bytes are shown before the first match, and how many from its beginning on.
    const BEFORE: usize = 60;
    const AFTER: usize = 140;

    /// Cuts a piece out of `text`, on the boundaries of characters. `matches` are all that there
    /// are; one that the piece has not the whole of is cut.
    ///
    /// # Panics
    /// When there is no match.
    #[must_use]
    pub fn around(text: &str, matches: &[Range<usize>]) -> Self {
        let first = matches.first().expect("there is a match").start;
        let offset = text.floor_char_boundary(first.saturating_sub(Self::BEFORE));
        let end = text.ceil_char_boundary((first + Self::AFTER).min(text.len()));
        let shown = matches
            .iter()
            .take_while(|found| found.start < end.max(first + 1));
        let shown = shown.map(|found| found.start - offset..found.end.min(end) - offset);
        Self {
            matches: shown.collect(),
            text: text[offset..end].to_owned(),
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::turn;
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, Meaning::default()).expect("a pattern")
    }

    fn is_candidate(pattern: &Pattern, line: &str) -> bool {
        Regex::new(pattern.candidates())
            .expect("an expression")
            .is_match(line)
    }

    #[test]
    fn what_was_said_is_found_in_json_as_it_was_said() {
        let rows = [
            ("say \"hi\"", "say \"hi\"", true),
            ("a\nb", "a\\nb", true),
            ("tab\there", "\\t", true),
            ("C:\\temp", r"C:\\temp", true),
            ("café 日本 🦀", "é 日.+🦀", true),
            ("first\nsecond", "^second$", true),
            ("two words", r"\btwo\b", true),
            ("a\u{1}b", "a\u{1}b", true),
            ("a\u{2028}b", "a.b", true),
            ("line\nline", "[^x]{9}", true),
            ("plain", "prompt", false),
            ("plain", "\\\\n", false),
            ("a\nb", "\\\\n", false),
        ];
        for (said, expression, expected) in rows {
            let pattern = pattern(expression);
            let line = turn(1, said, "").to_line();
            assert_eq!(
                pattern.matches(said).next().is_some(),
                expected,
                "{said:?} {expression}"
            );
            assert!(
                !expected || is_candidate(&pattern, &line),
                "{line} {}",
                pattern.candidates()
            );
        }
    }

    #[test]
    fn most_lines_are_no_candidates_and_foreign_escapes_are() {
        let line = turn(1, "nothing of the kind", "at all").to_line();
        for text in [
            "needle",
            "né+dle",
            "(?i)needle",
            "need[le]{2}",
            "\"needle\"",
            "\n\n",
        ] {
            assert!(!is_candidate(&pattern(text), &line), "{text}");
        }
        let foreign = r#"{"v":1,"prompt":"caf\u00e9","response":"a\/b"}"#;
        assert!(is_candidate(&pattern("café"), foreign));
        assert!(is_candidate(&pattern("a/b"), r#"{"response":"a\/b"}"#));
    }

    #[test]
    fn case_is_what_it_is_said_to_be() {
        use Case::{Ignored, Sensitive, Smart};
        let rows = [
            ("Needle", Sensitive, false),
            ("needle", Sensitive, false),
            ("NEEDLE", Sensitive, true),
            ("Needle", Ignored, true),
            ("needle", Smart, true),
            ("Needle", Smart, false),
        ];
        for (text, case, expected) in rows {
            for is_fixed in [false, true] {
                let pattern = Pattern::new(text, Meaning { is_fixed, case }).expect("a pattern");
                let found = pattern.matches("a NEEDLE").next().is_some();
                assert_eq!(found, expected, "{text} {case:?} {is_fixed}");
            }
        }
        let fixed = Meaning {
            is_fixed: true,
            ..Meaning::default()
        };
        let dots = Pattern::new("a.b(", fixed).expect("any text is a fixed pattern");
        assert!(dots.matches("a.b(").next().is_some() && dots.matches("axb(").next().is_none());
        let error = Pattern::new("a(b", Meaning::default()).expect_err("no expression");
        assert_eq!(error, "unclosed group");
    }

    #[test]
    fn a_snippet_is_cut_between_characters_and_says_where_it_is() {
        let text = format!("{}needle{}", "é".repeat(100), "日".repeat(100));
        let matches: Vec<_> = pattern("needle|日").matches(&text).collect();
        let snippet = Snippet::around(&text, &matches);
        assert_eq!(&snippet.text[snippet.matches[0].clone()], "needle");
        assert_eq!(&snippet.text[snippet.matches[1].clone()], "日");
        assert_eq!(
            &text[snippet.offset..snippet.offset + snippet.text.len()],
            snippet.text
        );
        assert!(snippet.text.len() <= 60 + 140 + 6 && snippet.matches.len() < matches.len());
        for at in [0, 3] {
            let nothing = at..at;
            let snippet = Snippet::around("abc", std::slice::from_ref(&nothing));
            assert_eq!((snippet.text.as_str(), snippet.offset), ("abc", 0));
            assert_eq!(snippet.matches, std::slice::from_ref(&nothing));
        }
    }

    #[test]
    fn why_a_pattern_is_none_is_one_line_without_it() {
        let rows = [
            ("(secret", "unclosed group"),
            ("secret\nerror: (", "unclosed group"),
            ("secret{2,1}", "invalid repetition count range"),
            ("(secret{1000}){1000}", "exceeds size limit"),
        ];
        for (pattern, part) in rows {
            let error = Regex::new(pattern).expect_err(pattern);
            let why = why_none(&error);
            assert!(why.contains(part), "{pattern}: {why}");
            assert!(
                !why.contains("secret") && !why.contains("error") && !why.contains('\n'),
                "{pattern}: {why}"
            );
        }
    }

    proptest! {
        /// What is cut out of a text, escaped and cut short by wild cards, is found in its line.
        #[test]
        fn every_line_that_has_a_match_is_a_candidate(
            before in ".{0,8}", said in "(?s)[\\x00-\\x7f\u{80}-\u{9f}é日🦀\u{2028}\"\\\\\n\t]{1,12}", after in ".{0,8}",
            wild in 0usize..12, kind in 0usize..4,
        ) {
            let parts: Vec<String> = said.chars().enumerate().map(|(n, c)| {
                let own = regex::escape(&c.to_string());
                match kind {
                    _ if n != wild => own,
                    0 => "(?s:.)".to_owned(),
                    1 => "[^\u{1f600}]".to_owned(),
                    2 => format!("(?:{own}|zz)+"),
                    _ => format!("(?:{own}|zz)(?:\\b|\\B)"),
                }
            }).collect();
            let pattern = pattern(&parts.concat());
            let text = format!("{before}{said}{after}");
            if pattern.matches(&text).next().is_some() {
                let line = turn(1, &text, "").to_line();
                prop_assert!(is_candidate(&pattern, &line), "{} in {line}", pattern.candidates());
            }
        }
    }
}
