//! The shapes of what is printed about templates, which are files of the user and no events.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::table::{Column, table};
use super::{Page, Report};
use crate::cli::Output;
use crate::template::Template;

/// `template list`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct TemplateList {
    /// The templates, by name.
    pub templates: Vec<TemplateInfo>,
    /// How many.
    pub total: usize,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A template; also `template show`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct TemplateInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The model of the session.
    pub model: Option<String>,
    /// The system prompt, variables in it as `{{name}}`.
    pub system: Option<String>,
    /// The context budget in tokens.
    pub max_context_tokens: Option<u64>,
    /// How turns leave the context.
    pub prune: Option<&'static str>,
    /// Options of the request.
    pub options: Map<String, Value>,
    /// The variables, by name.
    pub variables: Vec<Variable>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A variable of a template.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value where none is given; null: one must be given.
    pub default: Option<String>,
}

/// `template save`.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct TemplateSaved {
    /// What is kept now.
    pub template: TemplateInfo,
    /// Whether it took the place of another.
    pub replaced: bool,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `template delete`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct TemplatesDeleted {
    /// How many are gone.
    pub removed: usize,
    /// Which.
    pub templates: Vec<String>,
    /// What is worth telling.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl TemplateInfo {
    /// Makes the shape of a template.
    #[must_use]
    pub fn new(name: String, template: Template) -> Self {
        let variable = |name: &str| Variable {
            name: name.to_owned(),
            default: template.variables.get(name).cloned(),
        };
        let variables = template.names().into_iter().map(variable).collect();
        let Template {
            description,
            settings,
            ..
        } = template;
        Self {
            name,
            description,
            model: settings.model,
            system: settings.system,
            max_context_tokens: settings.max_context_tokens,
            prune: settings.prune.map(|prune| prune.name()),
            options: settings.options,
            variables,
            warnings: Vec::new(),
        }
    }
}

impl Report for TemplateList {
    super::report::as_json!();

    fn for_people(&self, form: Output, page: Page) -> Option<String> {
        let heads = [
            ("NAME", Column::Whole),
            ("MODEL", Column::Text),
            ("VARIABLES", Column::Text),
            ("DESCRIPTION", Column::Text),
        ];
        (form == Output::Table).then(|| table(page, &heads, self.templates.iter().map(row)))
    }
}

fn row(template: &TemplateInfo) -> Vec<String> {
    let variables: Vec<String> = template.variables.iter().map(shown).collect();
    vec![
        template.name.clone(),
        template.model.clone().unwrap_or_default(),
        variables.join(" "),
        template.description.clone().unwrap_or_default(),
    ]
}

fn shown(variable: &Variable) -> String {
    match &variable.default {
        Some(value) => format!("{}={value}", variable.name),
        None => variable.name.clone(),
    }
}
