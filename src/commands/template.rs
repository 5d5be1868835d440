//! Templates: list, show, save, delete; and what one says to the turn that begins with it.

use crate::cli::{Begin, Invocation, Save, Templates};
use crate::error::{Code, Error, Result};
use crate::handwritten::closest;
use crate::output::{Outcome, TemplateInfo, TemplateList, TemplateSaved, TemplatesDeleted};
use crate::prompt;
use crate::session::event::Settings;
use crate::session::id::SessionRef;
use crate::session::template::{literal, with_defaults};
use crate::store::snapshot::Extent;
use crate::store::templates::{self, TemplateName};
use crate::store::{self, Location, not_found};
use crate::template::Template;
use crate::warning::Warning;
use std::path::Path;

/// Does what was asked for.
///
/// # Errors
/// `usage` for a template that is not there, or is and is not to be replaced; `config` for one
/// that cannot be understood; `session_*`; `store_*`.
pub(super) fn run(asked: &Templates, invocation: &Invocation) -> Result<Outcome> {
    let root = invocation.store.path()?;
    match asked {
        Templates::List => list(root),
        Templates::Show(name) => {
            let template = find(root, name)?;
            Ok(Outcome::report(TemplateInfo::new(
                name.to_string(),
                template,
            )))
        }
        Templates::Save(asked) => save(root, asked, invocation),
        Templates::Delete(names) => delete(root, names),
    }
}

/// Returns the settings a session begins with, by the template of its first turn.
///
/// # Errors
/// `usage` for a template that is not there and for variables that do not fit it; `config` for one
/// that cannot be understood.
pub(super) fn begins(begin: &Begin, root: &Path) -> Result<Settings> {
    find(root, &begin.template)?.begins(&begin.template, &begin.variables)
}

fn list(root: &Path) -> Result<Outcome> {
    let (mut templates, mut warnings) = (Vec::new(), Vec::new());
    for name in templates::names(root)? {
        match find(root, &name) {
            Ok(template) => templates.push(TemplateInfo::new(name.to_string(), template)),
            Err(error) => warnings.push(Warning::UnreadableTemplate {
                template: name.to_string(),
                cause: error.to_string(),
            }),
        }
    }
    let list = TemplateList {
        total: templates.len(),
        templates,
        warnings: Vec::new(),
    };
    Ok(Outcome {
        warnings,
        ..Outcome::report(list)
    })
}

fn save(root: &Path, asked: &Save, invocation: &Invocation) -> Result<Outcome> {
    let mut settings = match &asked.from_session {
        Some(reference) => of_session(&invocation.location()?, reference)?,
        None => Settings::default(),
    };
    let system = asked.system.as_ref();
    settings.overlay(Settings {
        system: system
            .map(|source| prompt::read(source, "system prompt"))
            .transpose()?,
        ..asked.given.clone()
    });
    let given = asked.system.as_ref().and(settings.system.as_deref());
    let defaults = with_defaults(given.unwrap_or_default());
    let warnings = defaults.map(|(text, variable)| Warning::NoVariable {
        text: text.to_owned(),
        variable: variable.to_owned(),
    });
    let warnings = warnings.collect();
    let template = Template {
        description: asked.description.clone(),
        settings,
        variables: asked.variables.clone(),
    };
    let in_text = Template {
        variables: Default::default(),
        ..template.clone()
    };
    if let Some(name) = asked
        .variables
        .keys()
        .find(|name| !in_text.names().contains(name.as_str()))
    {
        let sentence = format!("the system prompt has no variable `{name}`");
        let hint = format!("write {{{{{name}}}}} where its value is to be");
        return Err(Error::new(Code::Usage, sentence).hint(hint));
    }
    let replaced = templates::save(root, &asked.name, &template.to_text()?, asked.replaces)?;
    let saved = Outcome::report(TemplateSaved {
        template: TemplateInfo::new(asked.name.to_string(), template),
        replaced,
        warnings: Vec::new(),
    });
    Ok(Outcome { warnings, ..saved })
}

/// Returns what a session keeps and a template can have. What looks like a variable in its system
/// prompt was said to the model as it is.
fn of_session(location: &Location, reference: &SessionRef) -> Result<Settings> {
    let store = store::open(location)?.ok_or_else(|| not_found(reference))?;
    let id = store.find(reference)?;
    let snapshot = store.read(id, Extent::Context)?;
    let settings = snapshot.ok_or_else(|| not_found(id))?.session.settings;
    let system = settings.system.filter(|text| !text.is_empty());
    let mut options = settings.options;
    options.retain(|_, value| !value.is_null());
    Ok(Settings {
        model: settings.model,
        system: system.map(|text| literal(&text)),
        max_context_tokens: settings.max_context_tokens,
        prune: settings.prune,
        options,
        ..Settings::default()
    })
}

/// Removes templates; none, if one of them is not there.
fn delete(root: &Path, names: &[TemplateName]) -> Result<Outcome> {
    let there = templates::names(root)?;
    if let Some(missing) = names.iter().find(|name| !there.contains(name)) {
        return Err(no_template(root, missing));
    }
    let mut removed = Vec::new();
    for name in names {
        if templates::delete(root, name)? {
            removed.push(name.to_string());
        }
    }
    Ok(Outcome::report(TemplatesDeleted {
        removed: removed.len(),
        templates: removed,
        warnings: Vec::new(),
    }))
}

fn find(root: &Path, name: &TemplateName) -> Result<Template> {
    let found = templates::read(root, name)?.ok_or_else(|| no_template(root, name))?;
    Template::parse(&found)
}

fn no_template(root: &Path, name: &TemplateName) -> Error {
    let names = templates::names(root).unwrap_or_default();
    let error = Error::new(Code::Usage, format!("there is no template `{name}`"));
    match closest(name.as_str(), names.iter().map(TemplateName::as_str)) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error.hint("ollama-prompt template list shows the ones there are"),
    }
}
