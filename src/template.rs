//! Templates: what a session is begun with, under a name. A file a person may have written, read
//! and written here; where it lies is the store's to know.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::config::{budget, options, strategy};
use crate::error::{Code, Error, Result};
use crate::handwritten::Written;
use crate::session::event::Settings;
use crate::session::template::{filled, is_variable_name, variables};
use crate::store::templates::{Found, TemplateName};

/// Every key of a template and what it means; tables with a dot.
pub const KEYS: &[(&str, &str)] = &[
    ("description", "what it is for"),
    ("model", "the model of the session"),
    (
        "system",
        "the system prompt; `{{name}}` in it stands for the value of a variable",
    ),
    ("max_context_tokens", "the context budget"),
    ("prune", "how turns leave the context"),
    ("options", "a table of options of the request"),
    (
        "variables",
        "a table: the values of variables where `--var` gives none",
    ),
];

/// A template.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Template {
    /// What it is for.
    pub description: Option<String>,
    /// What a session begins with; variables are not filled in yet.
    pub settings: Settings,
    /// Values of variables where none are given.
    pub variables: BTreeMap<String, String>,
}

/// A template as it stands in its file, tables last.
#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_context_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    options: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: &'a BTreeMap<String, String>,
}

impl Template {
    /// Reads the text of a template.
    ///
    /// # Errors
    /// `config` with file and line for whatever is not as it should be.
    pub fn parse(found: &Found) -> Result<Self> {
        let file = Written::new(&found.path, &found.text);
        let table = file.table()?;
        let mut template = Self::default();
        let settings = &mut template.settings;
        for entry in file.entries(&table) {
            match entry.key() {
                "description" => template.description = Some(entry.text()?),
                "model" => settings.model = Some(entry.name()?),
                "system" => settings.system = Some(entry.text()?),
                "max_context_tokens" => settings.max_context_tokens = Some(budget(&entry)?),
                "prune" => settings.prune = Some(strategy(&entry)?),
                "options" => options(&mut settings.options, &entry)?,
                "variables" => {
                    for variable in entry.entries()? {
                        if !is_variable_name(variable.key()) {
                            return Err(variable.wrong("is no name of a variable"));
                        }
                        template
                            .variables
                            .insert(variable.key().to_owned(), variable.text()?);
                    }
                }
                _ => {
                    let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).collect();
                    return Err(entry.unknown(&names));
                }
            }
        }
        Ok(template)
    }

    /// Returns the text of its file.
    ///
    /// # Errors
    /// `usage` for an option TOML has no way to write.
    pub fn to_text(&self) -> Result<String> {
        let Settings {
            model,
            system,
            max_context_tokens,
            prune,
            options,
            ..
        } = &self.settings;
        let file = File {
            description: self.description.as_deref(),
            model: model.as_deref(),
            system: system.as_deref(),
            max_context_tokens: *max_context_tokens,
            prune: prune.map(|prune| prune.name()),
            options,
            variables: &self.variables,
        };
        toml::to_string_pretty(&file).map_err(|cause| {
            Error::new(Code::Usage, "cannot write this as a template")
                .because(cause)
                .hint("an option that is null, or has null in it, cannot be kept")
        })
    }

    /// Returns all variables: those of the system prompt, and those that have a value without
    /// being there.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        let mut names = variables(self.settings.system.as_deref().unwrap_or_default());
        names.extend(self.variables.keys().map(String::as_str));
        names
    }

    /// Returns the settings with the variables filled in, and the name of the template among them.
    ///
    /// # Errors
    /// `usage` for a variable that has no value, and for a value of none.
    pub fn begins(
        mut self,
        name: &TemplateName,
        given: &BTreeMap<String, String>,
    ) -> Result<Settings> {
        let known = self.names();
        let unknown: Vec<String> = given
            .keys()
            .filter(|name| !known.contains(name.as_str()))
            .map(|name| format!("`{name}`"))
            .collect();
        if !unknown.is_empty() {
            let sentence = format!("template `{name}` has no variable {}", unknown.join(", "));
            let known: Vec<&str> = known.into_iter().collect();
            return Err(Error::new(Code::Usage, sentence).hint(match known[..] {
                [] => "it has none at all".to_owned(),
                _ => format!("it has {}", known.join(", ")),
            }));
        }
        self.variables.extend(given.clone());
        if let Some(system) = &self.settings.system {
            let filled = filled(system, &self.variables).map_err(|missing| {
                let missing: Vec<&str> = missing.into_iter().collect();
                let sentence = format!("template `{name}` needs {}", missing.join(", "));
                let example = format!("--var {}=…", missing[0]);
                Error::new(Code::Usage, sentence)
                    .because("these variables have no value")
                    .hint(format!("give each one, as in {example}"))
            })?;
            self.settings.system = Some(filled);
        }
        self.settings.template = Some(name.to_string());
        Ok(self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Template> {
        Template::parse(&Found {
            path: "/s/templates/t.toml".into(),
            text: text.to_owned(),
        })
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn every_key_is_read() {
        let text = "description = 'd'\nmodel = 'm'\nsystem = 's {{a}}'\nmax_context_tokens = 9\n\
                    prune = 'off'\n[options]\nseed = 7\n[variables]\na = 'x'\n";
        let template = parse(text).expect("sound");
        for (key, _) in KEYS {
            assert!(text.contains(key), "{key} is listed and not tested");
        }
        assert_eq!(template.description.as_deref(), Some("d"));
        assert_eq!(template.settings.options["seed"], 7);
        let name = "t".parse().expect("a name");
        let settings = template
            .begins(&name, &given(&[("a", "y")]))
            .expect("filled");
        assert_eq!(settings.system.as_deref(), Some("s y"));
        assert_eq!(settings.template.as_deref(), Some("t"));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let rows = [
            ("\nnmae = 'x'", 2, "there is no key `nmae`"),
            ("model = ''", 1, "is empty"),
            ("max_context_tokens = -1", 1, "from 1 to"),
            ("prune = 1", 1, "takes a text"),
            (
                "[options]\nnum_predict = 0",
                2,
                "`options.num_predict` takes",
            ),
            ("[variables]\n'a b' = 'x'", 2, "is no name of a variable"),
            ("[variables]\na = 1", 2, "takes a text"),
            ("system = '''", 1, "no TOML"),
        ];
        for (text, line, part) in rows {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code, Code::Config, "{text}");
            let shown = error.to_string();
            assert!(
                shown.starts_with(&format!("/s/templates/t.toml:{line}: ")),
                "{text}: {shown}"
            );
            assert!(shown.contains(part), "{text}: {shown}");
        }
    }

    #[test]
    fn variables_must_have_values_and_values_variables() {
        let template = parse("system = '{{a}} {{b}} {{c}}'\n[variables]\nc = 'x'").expect("sound");
        let name = "t".parse().expect("a name");
        let rows = [
            (&[("a", "1"), ("b", "2")][..], Ok("1 2 x")),
            (&[("a", "1"), ("b", "2"), ("c", "3")], Ok("1 2 3")),
            (
                &[],
                Err("template `t` needs a, b: these variables have no value"),
            ),
            (&[("d", "1")], Err("template `t` has no variable `d`")),
        ];
        for (pairs, expected) in rows {
            let got = template.clone().begins(&name, &given(pairs));
            let got = got.map(|settings| settings.system.unwrap_or_default());
            let got = got.map_err(|error| error.to_string());
            assert_eq!(
                got.as_deref().map_err(String::as_str),
                expected,
                "{pairs:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            system in ".{0,60}", description in "[\\x00-\\x7f]{0,20}", value in ".{0,20}",
            seed in any::<i64>(), temperature in 0.0..2.0,
        ) {
            let Value::Object(options) = serde_json::json!({
                "seed": seed, "temperature": temperature, "stop": [system], "deep": {"er": true},
            }) else { unreachable!("it is an object") };
            let template = Template {
                description: Some(description),
                settings: Settings {
                    system: Some(system),
                    max_context_tokens: Some(5),
                    prune: Some(crate::session::event::Strategy::Summarize),
                    options,
                    ..Settings::default()
                },
                variables: BTreeMap::from([("a".to_owned(), value)]),
            };
            let text = template.to_text().expect("TOML has all of it");
            prop_assert_eq!(parse(&text).expect("it is read"), template, "{}", text);
        }
    }
}
