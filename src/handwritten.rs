//! Files people write by hand, in TOML: every mistake is told with file and line, and a key that
//! is misspelt with the one that was probably meant. What a value was is never repeated: it may
//! be a secret.

use std::path::Path;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Code, Error, Result};

/// The text of a file, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    path: &'a Path,
    text: &'a str,
}

/// A key of such a file and its value.
#[derive(Debug)]
pub struct Entry<'a> {
    file: Written<'a>,
    /// The tables it is in and the key itself, with dots between.
    name: String,
    key: &'a str,
    at: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Written<'a> {
    /// Takes the text of the file at `path`.
    #[must_use]
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text }
    }

    /// Parses the text.
    ///
    /// # Errors
    /// `config` with file and line where it is no TOML.
    pub fn table(&self) -> Result<Spanned<DeTable<'a>>> {
        DeTable::parse(self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let why = error.message().replace('\n', ", ");
            self.wrong(at, format!("this is no TOML: {why}"))
        })
    }

    /// Returns the entries of the file, in the order they were written.
    #[must_use]
    pub fn entries(self, table: &'a Spanned<DeTable<'a>>) -> Vec<Entry<'a>> {
        entries(self, "", table.get_ref())
    }

    /// Returns the error for what stands at a byte.
    fn wrong(&self, at: usize, sentence: impl std::fmt::Display) -> Error {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let place = format!("{}:{line}", self.path.display());
        Error::new(Code::Config, format!("{place}: {sentence}"))
    }
}

fn entries<'a>(file: Written<'a>, within: &str, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let entry = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
        let at = key.span().start;
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        Entry {
            file,
            name: format!("{within}{key}"),
            key,
            at,
            value: value.get_ref(),
        }
    };
    let mut entries: Vec<Entry<'a>> = table.iter().map(entry).collect();
    entries.sort_unstable_by_key(|entry| entry.at);
    entries
}

impl<'a> Entry<'a> {
    /// Returns the key, without the tables it is in.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// Returns the error for this entry; `why` follows its name: "takes …", "is empty".
    #[must_use]
    pub fn wrong(&self, why: impl std::fmt::Display) -> Error {
        self.file.wrong(self.at, format!("`{}` {why}", self.name))
    }

    /// Returns the error for a key nobody knows, with the one of `known` that is like it.
    #[must_use]
    pub fn unknown(&self, known: &[&str]) -> Error {
        let sentence = format!("there is no key `{}`", self.name);
        let error = self.file.wrong(self.at, sentence);
        match closest(self.key, known.iter().copied()) {
            Some(meant) => error.hint(format!("did you mean `{meant}`?")),
            None => error.hint(format!("the keys here are {}", known.join(", "))),
        }
    }

    /// Returns a text.
    ///
    /// # Errors
    /// `config` for anything else.
    pub fn text(&self) -> Result<String> {
        let text = self.value.as_str().ok_or_else(|| self.takes("a text"))?;
        Ok(text.to_owned())
    }

    /// Returns a text that is more than white space.
    ///
    /// # Errors
    /// `config` for anything else.
    pub fn name(&self) -> Result<String> {
        let text = self.text()?;
        if text.trim().is_empty() {
            return Err(self.wrong("is empty"));
        }
        Ok(text)
    }

    /// Returns a whole number.
    ///
    /// # Errors
    /// `config` for anything else, and for one beyond 64 bits.
    pub fn whole(&self) -> Result<i64> {
        let number = self
            .value
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        number.ok_or_else(|| self.takes("a whole number"))
    }

    /// Returns a number.
    ///
    /// # Errors
    /// `config` for anything else.
    pub fn number(&self) -> Result<f64> {
        let number = match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(_) => self.whole().ok().map(|number| number as f64),
            _ => None,
        };
        number.ok_or_else(|| self.takes("a number"))
    }

    /// Returns true or false.
    ///
    /// # Errors
    /// `config` for anything else.
    pub fn boolean(&self) -> Result<bool> {
        self.value
            .as_bool()
            .ok_or_else(|| self.takes("true or false"))
    }

    /// Returns a list of texts.
    ///
    /// # Errors
    /// `config` for anything else.
    pub fn texts(&self) -> Result<Vec<String>> {
        let text = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
        let texts = self
            .value
            .as_array()
            .and_then(|array| array.iter().map(text).collect());
        texts.ok_or_else(|| self.takes("a list of texts"))
    }

    /// Returns the entries of a table.
    ///
    /// # Errors
    /// `config` for anything else.
    pub fn entries(&self) -> Result<Vec<Entry<'a>>> {
        let table = self.value.as_table();
        let table = table.ok_or_else(|| self.takes("a table"))?;
        Ok(entries(self.file, &format!("{}.", self.name), table))
    }

    /// Returns the value as JSON.
    ///
    /// # Errors
    /// `config` for what JSON has not: a date, a number that is none or beyond 64 bits.
    pub fn json(&self) -> Result<Value> {
        to_json(self.value).ok_or_else(|| self.takes("a value JSON has, too"))
    }

    fn takes(&self, what: &str) -> Error {
        self.wrong(format!("takes {what}"))
    }
}

fn to_json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()?
            .into(),
        DeValue::Float(number) => Number::from_f64(number.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(is_true) => (*is_true).into(),
        DeValue::Datetime(_) => return None,
        DeValue::Array(values) => {
            let values = values.iter().map(|value| to_json(value.get_ref()));
            Value::Array(values.collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.to_string(), to_json(value.get_ref())?))
            };
            Value::Object(table.iter().map(pair).collect::<Option<Map<_, _>>>()?)
        }
    })
}

/// Returns the name that was probably meant, if there is one as like it as a slip of the keyboard
/// leaves two words.
#[must_use]
pub fn closest<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let likeness = |name| (strsim::jaro(given, name), name);
    let best = names.into_iter().map(likeness);
    let best = best.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness > 0.7)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first<T>(text: &str, read: impl Fn(&Entry<'_>) -> Result<T>) -> Result<T> {
        let file = Written::new(Path::new("f.toml"), text);
        let table = file.table()?;
        read(&file.entries(&table)[0])
    }

    #[test]
    fn values_are_what_they_say() {
        assert_eq!(first("a = 'x'", |e| e.text()).expect("text"), "x");
        assert_eq!(first("a = 0x10", |e| e.whole()).expect("hex"), 16);
        assert_eq!(first("a = -1_000", |e| e.whole()).expect("whole"), -1000);
        assert_eq!(first("a = 2", |e| e.number()).expect("whole"), 2.0);
        assert_eq!(first("a = 2.5e1", |e| e.number()).expect("number"), 25.0);
        assert!(first("a = true", |e| e.boolean()).expect("boolean"));
        assert_eq!(
            first("a = ['x', 'y']", |e| e.texts()).expect("texts"),
            ["x", "y"]
        );
        assert_eq!(
            first("a = {b = [1, 0.5, true, 'x', {c = 2}]}", |e| e.json()).expect("json"),
            serde_json::json!({"b": [1, 0.5, true, "x", {"c": 2}]})
        );
    }

    #[test]
    fn what_is_wrong_has_file_line_and_name_and_never_the_value() {
        type Read = fn(&Entry<'_>) -> Result<()>;
        let rows: [(&str, Read, &str); 10] = [
            ("\n\na = s3cret", |_| Ok(()), "f.toml:3: this is no TOML: "),
            ("a = 's3cret", |_| Ok(()), "f.toml:1: this is no TOML: "),
            (
                "# c\na = 1",
                |e| e.text().map(drop),
                "f.toml:2: `a` takes a text",
            ),
            (
                "a = 's3cret'",
                |e| e.whole().map(drop),
                "f.toml:1: `a` takes a whole number",
            ),
            (
                "a = 99999999999999999999",
                |e| e.whole().map(drop),
                "f.toml:1: `a` takes a whole",
            ),
            (
                "a = 's3cret'",
                |e| e.number().map(drop),
                "f.toml:1: `a` takes a number",
            ),
            (
                "a = 's3cret'",
                |e| e.boolean().map(drop),
                "f.toml:1: `a` takes true or false",
            ),
            (
                "a = ['s3cret', 1]",
                |e| e.texts().map(drop),
                "f.toml:1: `a` takes a list",
            ),
            (
                "a = 2026-01-01",
                |e| e.json().map(drop),
                "f.toml:1: `a` takes a value JSON",
            ),
            (
                "[a]\nb = 's3cret'",
                |e| e.entries()?[0].whole().map(drop),
                "f.toml:2: `a.b` takes a whole number",
            ),
        ];
        for (text, read, expected) in rows {
            let error = first(text, read).expect_err(text);
            assert_eq!(error.code, Code::Config, "{text}");
            assert!(error.to_string().starts_with(expected), "{text}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{text}: {error}");
            assert!(!error.to_string().contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_that_is_misspelt_is_told_with_the_one_that_was_meant() {
        let known = ["model", "max_tokens"];
        let rows = [
            ("modle = 1", "did you mean `model`?"),
            ("max-tokens = 1", "did you mean `max_tokens`?"),
            ("zzz = 1", "the keys here are model, max_tokens"),
        ];
        for (text, hint) in rows {
            let error = first(text, |entry| Ok(entry.unknown(&known))).expect("an entry");
            assert_eq!(error.report().hint, Some(hint), "{text}");
        }
    }
}
