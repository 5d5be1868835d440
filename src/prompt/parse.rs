//! From a text to its pieces: what is plain, and what may be a reference. Pure.
//!
//! Whether a word is a reference can hang on what there is: `@src/a.py` on whether that exists,
//! `@./a.py.` on whether the last point belongs to the name. So a word comes with every way to
//! read it, the longest first, and whoever can look chooses ([`super::expand`]).

use std::path::PathBuf;

/// The longest word that is looked at, in bytes: no path is longer (`PATH_MAX`).
const LONGEST_WORD: usize = 4096;

/// How many characters at the end of a word are tried as part of the name, one by one.
const TRIED: usize = 8;

/// What may end a sentence, or enclose a path, and so is no part of it.
const PUNCTUATION: &str = ".,;:!?)]}>'\"`*_…’”»。，、；：！？）」』】》";

/// What may stand right before a reference, besides space.
const OPENING: [char; 3] = ['(', '[', '{'];

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// What is sent as it is.
    Text(&'a str),
    /// A word that may be a reference.
    Word(Word<'a>),
}

/// A word that may be a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// As it was typed, the `@` included.
    pub(super) typed: &'a str,
    /// The ways to read it, the longest first; never none.
    pub(super) readings: Vec<Reading<'a>>,
    /// Whether it is a reference only if what it names exists: `@src/a.py` may be a handle or the
    /// name of a package.
    pub(super) only_if_there: bool,
}

/// One way to read a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    /// What is referred to.
    pub(super) target: Target,
    /// What follows it in the word and stays as text.
    pub(super) rest: &'a str,
}

/// What is referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As it was typed, without the `@` and quotes.
    pub(super) typed: String,
    /// The path, relative to the root or absolute; empty for standard input.
    pub(super) path: PathBuf,
    /// What is wanted of it.
    pub(super) wanted: Wanted,
}

/// What is wanted of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Standard input.
    Stdin,
    /// The text of a file, or the names in a directory.
    Contents,
    /// The names in a directory.
    List,
    /// The names in a directory and in those below it.
    Tree,
    /// The lines beneath a directory that match a regular expression.
    Search(String),
}

impl Target {
    /// Reads what stands behind an `@`; of a word also the operator at its end.
    pub(super) fn of(typed: &str) -> Self {
        let (path, wanted) = split(typed);
        Self {
            typed: typed.to_owned(),
            path: PathBuf::from(path),
            wanted,
        }
    }
}

/// Takes a text apart.
pub(super) fn parse(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    // Where the text begins that is in no piece yet, and where to look on.
    let (mut kept, mut from) = (0, 0);
    while let Some(found) = text[from..].find('@') {
        let at = from + found;
        from = at + 1;
        let before = text[..at].trim_end_matches('\\');
        if !before.is_empty()
            && !before.ends_with(|c: char| c.is_whitespace() || OPENING.contains(&c))
        {
            continue;
        }
        if before.len() < at {
            // Of the backslashes before an `@` one is taken away, and that is all.
            push_text(&mut pieces, &text[kept..at - 1]);
            kept = at;
        } else if let Some(word) = word(&text[at..]) {
            push_text(&mut pieces, &text[kept..at]);
            from = at + word.typed.len();
            kept = from;
            pieces.push(Piece::Word(word));
        }
    }
    push_text(&mut pieces, &text[kept..]);
    pieces
}

fn push_text<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

/// Reads the word at the beginning of a text that begins with `@`; `None` where it cannot be a
/// reference.
fn word(text: &str) -> Option<Word<'_>> {
    let behind = &text[1..];
    if behind.starts_with('"') {
        return quoted(text);
    }
    let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
    let body = &behind[..end];
    let is_stdin = body
        .strip_prefix('-')
        .is_some_and(|rest| rest.chars().all(is_punctuation));
    if body.len() > LONGEST_WORD || !(is_stdin || body.contains('/')) {
        return None;
    }
    Some(Word {
        typed: &text[..=end],
        readings: if is_stdin {
            vec![reading(body, 1)]
        } else {
            readings(body)
        },
        only_if_there: !is_stdin && !is_plain_path(body),
    })
}

/// Reads `@"…"`, which ends on its line, and the operator that may follow it.
fn quoted(text: &str) -> Option<Word<'_>> {
    let mut typed = String::new();
    let mut chars = text.char_indices().skip(2).peekable();
    let end = loop {
        match chars.next()? {
            (_, '\n') => return None,
            (_, '\\') if matches!(chars.peek(), Some((_, '"'))) => {
                chars.next();
                typed.push('"');
            }
            (at, '"') => break at + 1,
            (_, c) => typed.push(c),
        }
    };
    let behind = &text[end..];
    let stop = behind.find(char::is_whitespace).unwrap_or(behind.len());
    let (operator, rest) = match readings(&behind[..stop]).into_iter().last() {
        Some(Reading { target, rest }) if is_operator(&target.typed) => (target.typed, rest),
        _ => (String::new(), &behind[..0]),
    };
    if !operator.is_empty() && !typed.ends_with('/') {
        typed.push('/');
    }
    typed.push_str(&operator);
    if typed.len() > LONGEST_WORD || !typed.contains('/') {
        return None;
    }
    Some(Word {
        typed: &text[..end + operator.len() + rest.len()],
        only_if_there: !is_plain_path(&typed),
        readings: vec![Reading {
            target: Target::of(&typed),
            rest,
        }],
    })
}

/// Tells whether a text is an operator that stands for itself, behind a quoted path.
fn is_operator(text: &str) -> bool {
    matches!(text, ":list" | ":tree")
        || text.strip_prefix(":search:").is_some_and(|p| !p.is_empty())
}

/// Returns the ways to read a word: whole, without its last character if that may be punctuation,
/// and so on.
fn readings(body: &str) -> Vec<Reading<'_>> {
    if let Some(at) = body.find(":search:") {
        let pattern = at + ":search:".len();
        return vec![reading(body, pattern + pattern_end(&body[pattern..]))];
    }
    let shortest = body.trim_end_matches(is_punctuation).len();
    let ends = (body.char_indices().map(|(at, c)| at + c.len_utf8()))
        .rev()
        .take(TRIED)
        .filter(|end| *end > shortest)
        .chain([shortest]);
    let mut readings: Vec<_> = ends.map(|end| reading(body, end)).collect();
    if readings.len() > 1 {
        // `./src/.` is a directory and a full stop.
        let shortest = readings.pop();
        readings.retain(|reading| !ends_with_dots(&reading.target.typed));
        readings.extend(shortest);
    }
    readings
}

fn reading(body: &str, end: usize) -> Reading<'_> {
    Reading {
        target: Target::of(&body[..end]),
        rest: &body[end..],
    }
}

/// Returns where a regular expression ends: what ends a sentence is no part of it, unless a
/// backslash says so, nor is a bracket that was not opened in it.
fn pattern_end(pattern: &str) -> usize {
    let mut end = pattern.len();
    while let Some(last) = pattern[..end].chars().next_back() {
        let before = &pattern[..end - last.len_utf8()];
        let is_open = |opening| before.matches(opening).count() > before.matches(last).count();
        let goes = match last {
            '.' | ',' | ';' | ':' | '!' => !before.ends_with('\\') && !before.is_empty(),
            ')' => !before.ends_with('\\') && !is_open('('),
            ']' => !before.ends_with('\\') && !is_open('['),
            '}' => !before.ends_with('\\') && !is_open('{'),
            _ => false,
        };
        if !goes {
            break;
        }
        end = before.len();
    }
    end
}

/// Splits a word into path and operator.
fn split(typed: &str) -> (&str, Wanted) {
    if typed == "-" {
        return ("", Wanted::Stdin);
    }
    if let Some((path, pattern)) = typed.split_once("/:search:") {
        return (directory(path), Wanted::Search(pattern.to_owned()));
    }
    let operators = [("/:list", Wanted::List), ("/:tree", Wanted::Tree)];
    for (operator, wanted) in operators {
        if let Some(path) = typed.strip_suffix(operator) {
            return (directory(path), wanted);
        }
    }
    match typed.strip_suffix('/') {
        Some(path) => (directory(path), Wanted::List),
        None => (typed, Wanted::Contents),
    }
}

fn directory(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Tells whether a word can be nothing but a path. A lone slash is what an import has: `@/`.
fn is_plain_path(body: &str) -> bool {
    let is_absolute = body.starts_with('/') && body.len() > 1;
    is_absolute || body.starts_with("./") || body.starts_with("../")
}

fn ends_with_dots(typed: &str) -> bool {
    let (_, last) = typed.rsplit_once('/').unwrap_or(("", typed));
    !last.is_empty() && last.bytes().all(|b| b == b'.')
}

fn is_punctuation(c: char) -> bool {
    PUNCTUATION.contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the pieces of a text in short: text as it is, a word as its longest reading in
    /// brackets, what would be left of it behind a bar, `?` if it must exist.
    fn in_short(text: &str) -> String {
        let piece = |piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Word(word) => {
                let mark = if word.only_if_there { "?" } else { "" };
                let readings: Vec<String> = (word.readings.iter())
                    .map(|reading| format!("{}|{}", reading.target.typed, reading.rest))
                    .collect();
                format!("<{mark}{}>", readings.join(" "))
            }
        };
        parse(text).into_iter().map(piece).collect()
    }

    #[test]
    fn a_text_is_taken_apart_into_words_that_may_be_references() {
        let rows = [
            ("a file", "see @./a.py now", "see <./a.py|> now"),
            ("at both ends", "@./a @/b", "<./a|> </b|>"),
            ("above", "@../x", "<../x|>"),
            ("only if it is there", "@src/a", "<?src/a|>"),
            ("a handle", "@name and @Override", "@name and @Override"),
            ("an address", "me@example.com a@./b", "me@example.com a@./b"),
            ("in brackets", "(@./a)", "(<./a)| ./a|)>"),
            ("in quotes, as code has it", "'@/lib/a'", "'@/lib/a'"),
            ("an import", "the @/ alias", "the <?/|> alias"),
            ("a hunk", "@@ -1,3 +1,4 @@", "@@ -1,3 +1,4 @@"),
            ("stdin", "@-", "<-|>"),
            ("stdin in a sentence", "(@-).", "(<-|).>"),
            ("not stdin", "@-x @--", "@-x @--"),
            ("a full stop", "@./a.py.", "<./a.py.| ./a.py|.>"),
            (
                "an ellipsis",
                "@./a...",
                "<./a...| ./a..|. ./a.|.. ./a|...>",
            ),
            ("a directory and a full stop", "@./a/.", "<./a/|.>"),
            ("above and a full stop", "@../..", "<../|..>"),
            (
                "an operator",
                "@./a/:tree, @./b/:list",
                "<./a/:tree,| ./a/:tree|,> <./b/:list|>",
            ),
            ("a search", "@./a/:search:foo.", "<./a/:search:foo|.>"),
            (
                "its brackets",
                "(@./a/:search:f(x))",
                "(<./a/:search:f(x)|)>",
            ),
            ("its last point", r"@./a/:search:x\.", r"<./a/:search:x\.|>"),
            ("quoted", r#"@"./a b.md", then"#, r#"<./a b.md|>, then"#),
            ("a quote in it", r#"@"./a\"b""#, r#"<./a"b|>"#),
            ("an operator behind", r#"@"./a b":tree."#, "<./a b/:tree|.>"),
            (
                "a search with spaces",
                r#"@"./a/:search:fn main""#,
                "<./a/:search:fn main|>",
            ),
            ("quoted over lines", "@\"./a\nb\"", "@\"./a\nb\""),
            ("a string of another language", r#"@"hello""#, r#"@"hello""#),
            ("never closed", r#"@"./a"#, r#"@"./a"#),
            ("escaped", r"\@./a \@-", "@./a @-"),
            ("a backslash escaped", r"\\@./a", r"\@./a"),
            ("not at the beginning of a word", r"a\@./b", r"a\@./b"),
        ];
        for (name, text, expected) in rows {
            assert_eq!(in_short(text), expected, "{name}");
        }
    }

    #[test]
    fn what_is_wanted_stands_at_the_end() {
        let rows = [
            ("./a", "./a", Wanted::Contents),
            ("./a/", "./a", Wanted::List),
            ("./a/:list", "./a", Wanted::List),
            ("./a/:tree", "./a", Wanted::Tree),
            (
                "./a/:search:x/:tree",
                "./a",
                Wanted::Search("x/:tree".into()),
            ),
            ("./a:tree", "./a:tree", Wanted::Contents),
            ("./", ".", Wanted::List),
            ("/:tree", "/", Wanted::Tree),
            ("-", "", Wanted::Stdin),
        ];
        for (typed, path, wanted) in rows {
            let target = Target::of(typed);
            assert_eq!(
                (target.path, target.wanted),
                (path.into(), wanted),
                "{typed}"
            );
        }
    }

    #[test]
    fn a_word_longer_than_a_path_can_be_is_text() {
        let text = format!("@./{}", "x".repeat(LONGEST_WORD));
        assert_eq!(parse(&text), [Piece::Text(&text)]);
        let dots = format!("@./a{}", ".".repeat(1000));
        let [Piece::Word(word)] = &parse(&dots)[..] else {
            panic!("it is a word");
        };
        assert!(word.readings.len() <= TRIED + 1);
    }

    /// Writes every reference as plain text.
    fn escaped(text: &str) -> String {
        let mut escaped = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('@') {
            let before = rest[..at].trim_end_matches('\\');
            escaped.push_str(before);
            let starts = escaped.is_empty()
                || escaped.ends_with(|c: char| c.is_whitespace() || OPENING.contains(&c));
            if starts {
                escaped.push('\\');
            }
            escaped.push_str(&rest[before.len()..=at]);
            rest = &rest[at + 1..];
        }
        escaped + rest
    }

    /// Returns texts that are dense in what matters here.
    fn texts() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "@", "\\", "\"", "./", "/", ":tree", ":search:", "-", ".", ")", "(", " ", "\n", "a",
            "é", "。",
        ]);
        prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_text_without_an_at_sign_is_one_piece(text in "[^@]+") {
            prop_assert_eq!(parse(&text), [Piece::Text(&text)]);
        }

        #[test]
        fn an_escaped_text_comes_back(text in prop_oneof![texts(), any::<String>()]) {
            let escaped = escaped(&text);
            let plain: Option<String> = parse(&escaped)
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => Some(text),
                    Piece::Word(_) => None,
                })
                .collect();
            prop_assert_eq!(plain, Some(text));
        }

        #[test]
        fn no_byte_is_lost_but_the_backslashes_that_escape(text in texts()) {
            let parsed = parse(&text);
            let together: String = parsed
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text,
                    Piece::Word(word) => word.typed,
                })
                .collect();
            let mut kept = together.chars();
            let mut expected = kept.next();
            for c in text.chars() {
                if Some(c) == expected {
                    expected = kept.next();
                } else {
                    prop_assert_eq!(c, '\\');
                }
            }
            prop_assert_eq!(expected, None);
            for piece in &parsed {
                if let Piece::Word(word) = piece {
                    prop_assert!(!word.readings.is_empty());
                    prop_assert!(word.readings.windows(2).all(|w| w[0].rest.len() < w[1].rest.len()));
                    prop_assert!(word.readings.iter().all(|r| word.typed.ends_with(r.rest)));
                }
            }
        }
    }
}
