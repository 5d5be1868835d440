//! Texts with variables: `{{name}}` stands for a value that is given later.
//!
//! White space within the braces does not count. A backslash before them makes the text stand as
//! it is: of the backslashes right before it one is taken away. Whatever else has braces in it is
//! text. A value is put in as it is, also where it looks like a variable.

use std::collections::{BTreeMap, BTreeSet};

/// A piece of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// The name, and all of it with its braces.
    Variable(&'a str, &'a str),
}

/// Tells whether this can be the name of a variable.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let mut chars = name.chars();
    let begins = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    begins && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Returns the names of all variables of a text.
#[must_use]
pub fn variables(text: &str) -> BTreeSet<&str> {
    let pieces = pieces(text).into_iter();
    let name = |piece| match piece {
        Piece::Variable(name, _) => Some(name),
        Piece::Text(_) => None,
    };
    pieces.filter_map(name).collect()
}

/// Returns what looks like a variable with a default, `{{name=value}}`, and is text here: all of
/// it with its braces, and what is between them.
pub fn with_defaults(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices("{{").filter_map(|(open, _)| {
        let rest = &text[open + 2..];
        let inner = &rest[..rest.find("}}")?];
        let (name, _) = inner.split_once('=')?;
        let is_meant = is_variable_name(name.trim()) && !text[..open].ends_with('\\');
        is_meant.then(|| (&text[open..open + inner.len() + 4], inner.trim()))
    })
}

/// Puts values in the places of the variables.
///
/// # Errors
/// The names that have no value.
pub fn filled<'t>(
    text: &'t str,
    values: &BTreeMap<String, String>,
) -> Result<String, BTreeSet<&'t str>> {
    let mut filled = String::with_capacity(text.len());
    let mut missing = BTreeSet::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => filled += text,
            Piece::Variable(name, _) => match values.get(name) {
                Some(value) => filled += value,
                None => drop(missing.insert(name)),
            },
        }
    }
    if missing.is_empty() {
        Ok(filled)
    } else {
        Err(missing)
    }
}

/// Returns the text with variables that gives this one, whatever looks like a variable in it.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for piece in scan(text) {
        match piece {
            Piece::Text(text) => literal += text,
            Piece::Variable(_, whole) => {
                literal.push('\\');
                literal += whole;
            }
        }
    }
    literal
}

/// Returns the pieces, what a backslash makes text among the texts.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = scan(text);
    for at in 1..pieces.len() {
        if let (Piece::Text(before), Piece::Variable(_, whole)) = (pieces[at - 1], pieces[at])
            && let Some(before) = before.strip_suffix('\\')
        {
            pieces[at - 1] = Piece::Text(before);
            pieces[at] = Piece::Text(whole);
        }
    }
    pieces
}

/// Returns the pieces as they look, backslashes aside.
fn scan(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut done, mut at) = (0, 0);
    while let Some(open) = text[at..].find("{{").map(|found| at + found) {
        let inner = &text[open + 2..];
        let name = inner.find("}}").map(|end| &inner[..end]);
        match name.filter(|name| is_variable_name(name.trim())) {
            Some(name) => {
                let end = open + 2 + name.len() + 2;
                pieces.push(Piece::Text(&text[done..open]));
                pieces.push(Piece::Variable(name.trim(), &text[open..end]));
                (done, at) = (end, end);
            }
            None => at = open + 1,
        }
    }
    pieces.push(Piece::Text(&text[done..]));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variables_are_filled_and_whatever_else_has_braces_is_text() {
        let values = BTreeMap::from([
            ("a".to_owned(), "1".to_owned()),
            ("b-2".into(), "{{a}}".into()),
        ]);
        let rows = [
            ("no variable", Ok("no variable")),
            ("", Ok("")),
            ("x {{a}} y", Ok("x 1 y")),
            ("{{ a }}{{a}}", Ok("11")),
            ("{{b-2}}", Ok("{{a}}")),
            (r"\{{a}}", Ok("{{a}}")),
            (r"\\{{a}}", Ok(r"\{{a}}")),
            (r"a\b {{a}}", Ok(r"a\b 1")),
            ("{{{a}}}", Ok("{1}")),
            (
                "{{}} {{ }} {{a b}} {{1}} {{",
                Ok("{{}} {{ }} {{a b}} {{1}} {{"),
            ),
            ("fn f() { {{a}} }", Ok("fn f() { 1 }")),
            ("{{é}}", Ok("{{é}}")),
            ("{{z}} {{a}} {{y}} {{z}}", Err("y z")),
        ];
        for (text, expected) in rows {
            let got = filled(text, &values);
            let got = got.map_err(|missing| missing.into_iter().collect::<Vec<_>>().join(" "));
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(got, expected, "{text}");
        }
        let defaults = r"{{a=1}} {{ b = x y }} {{a}} {{1=2}} \{{c=3}} {{d=";
        let defaults: Vec<_> = with_defaults(defaults).collect();
        assert_eq!(defaults, [("{{a=1}}", "a=1"), ("{{ b = x y }}", "b = x y")]);
        let names: Vec<&str> = variables(r"{{b}} \{{c}} {{a}} {{b}}").into_iter().collect();
        assert_eq!(names, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn a_text_made_literal_gives_itself(text in r"[\\{}a é-]{0,24}") {
            let literal = literal(&text);
            prop_assert_eq!(variables(&literal).len(), 0, "{}", &literal);
            prop_assert_eq!(filled(&literal, &BTreeMap::new()), Ok(text));
        }

        #[test]
        fn any_text_can_be_looked_at(text in ".{0,40}") {
            let _ = variables(&text);
        }
    }
}
