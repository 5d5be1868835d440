//! `ollama-prompt template VERB`, and what a turn says of the template it begins with: as they are
//! typed, and what they ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::examples;
use super::help::{MANAGEMENT, MODEL, PROMPT};
use super::options::TypedOptions;
use super::values::{TypedStrategy, context_tokens, no_address, path, session_ref, usage};
use super::{Command, Memory};
use crate::error::{Error, Result};
use crate::prompt::Source;
use crate::session::event::{Settings, Strategy};
use crate::session::id::SessionRef;
use crate::session::template::is_variable_name;
use crate::store::templates::TemplateName;

/// What is done with templates.
#[derive(Debug, Clone, PartialEq)]
pub enum Templates {
    /// All of them.
    List,
    /// One.
    Show(TemplateName),
    /// A new one, or another in its place.
    Save(Box<Save>),
    /// The end of these.
    Delete(Vec<TemplateName>),
}

/// A template that is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Save {
    /// Its name.
    pub name: TemplateName,
    /// The session whose settings it has, where flags say nothing else.
    pub from_session: Option<SessionRef>,
    /// What it is for.
    pub description: Option<String>,
    /// Where its system prompt comes from, if one was given.
    pub system: Option<Source>,
    /// What else flags say, options included.
    pub given: Settings,
    /// Values of variables where a turn gives none.
    pub variables: BTreeMap<String, String>,
    /// Whether it replaces one that is there.
    pub replaces: bool,
}

/// The template a turn begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Its name.
    pub template: TemplateName,
    /// The values of its variables.
    pub variables: BTreeMap<String, String>,
}

/// The verbs of `template`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List all templates
    #[command(after_long_help = examples::TEMPLATE_LIST)]
    List,
    /// Show a template
    #[command(after_long_help = examples::TEMPLATE_SHOW)]
    Show(Named),
    /// Keep a template, from flags or from a session
    #[command(after_long_help = examples::TEMPLATE_SAVE)]
    Save(Box<TypedSave>),
    /// Remove templates
    #[command(after_long_help = examples::TEMPLATE_DELETE)]
    Delete(TypedDelete),
}

/// A template, as it is typed.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The template
    #[arg(value_name = "NAME")]
    name: String,
}

/// Templates, as they are typed.
#[derive(Debug, Args)]
pub(super) struct TypedDelete {
    /// The templates
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// `template save`, as it is typed.
#[derive(Debug, Args)]
pub(super) struct TypedSave {
    /// Its name: letters, digits, `_`, `-` and `.`
    #[arg(value_name = "NAME")]
    name: String,
    /// Take the settings of this session
    ///
    /// Those are model, system prompt, options, budget and pruning; other flags go before them.
    #[arg(long, value_name = "ID")]
    from_session: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    description: Option<String>,
    /// The model of the session
    #[arg(long, value_name = "NAME", help_heading = MODEL)]
    model: Option<String>,
    /// The system prompt
    ///
    /// {{name}} in it stands for the value of a variable.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = PROMPT
    )]
    system: Option<String>,
    /// Read the system prompt from a file
    #[arg(
        long,
        value_name = "PATH", value_parser = path(),
        conflicts_with = "system",
        help_heading = PROMPT
    )]
    system_file: Option<PathBuf>,
    #[command(flatten)]
    options: TypedOptions,
    /// The context budget in tokens
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = MANAGEMENT
    )]
    max_context_tokens: Option<i64>,
    /// How turns leave a full context
    ///
    /// fifo, importance, summarize or off.
    #[arg(
        long,
        value_name = "STRATEGY",
        hide_possible_values = true,
        help_heading = MANAGEMENT
    )]
    prune: Option<TypedStrategy>,
    /// The value of a variable where a turn gives none
    ///
    /// May be given several times.
    #[arg(long, value_name = "NAME=VALUE", help_heading = PROMPT)]
    var: Vec<String>,
    /// Replace a template of this name
    #[arg(long)]
    force: bool,
}

/// The template of a turn, as it is typed.
#[derive(Debug, Args)]
pub(super) struct TypedBegin {
    /// Begin the session with a stored template
    #[arg(long, value_name = "NAME", hide_short_help = true, help_heading = PROMPT)]
    pub(super) template: Option<String>,
    /// The value of a variable of the template
    ///
    /// May be given several times.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        requires = "template",
        hide_short_help = true,
        help_heading = PROMPT
    )]
    pub(super) var: Vec<String>,
}

impl TypedBegin {
    /// Returns the template of a turn that belongs to `memory`.
    pub(super) fn begin(&self, memory: &Memory) -> Result<Option<Begin>> {
        let Some(name) = &self.template else {
            return Ok(None);
        };
        let begin = Begin {
            template: template_name(name, "--template")?,
            variables: variables(&self.var)?,
        };
        let has_settings = matches!(
            memory,
            Memory::Continue(_) | Memory::Latest | Memory::Fork { .. }
        );
        if has_settings {
            let sentence = "--template begins a session, and this one is there already";
            return Err(usage(sentence).hint(
                "leave it out, or say what is to change with --model, --system and their like",
            ));
        }
        Ok(Some(begin))
    }
}

impl Verb {
    /// Returns what the verb asks for.
    pub(super) fn command(&self) -> Result<Command> {
        let asked = match self {
            Self::List => Templates::List,
            Self::Show(named) => Templates::Show(template_name(&named.name, "NAME")?),
            Self::Save(save) => Templates::Save(Box::new(save.command()?)),
            Self::Delete(delete) => {
                let names = delete.names.iter().map(|name| template_name(name, "NAME"));
                Templates::Delete(names.collect::<Result<_>>()?)
            }
        };
        Ok(Command::Templates(asked))
    }
}

impl TypedSave {
    fn command(&self) -> Result<Save> {
        let model = self.model.as_deref().map(str::trim);
        if model == Some("") {
            return Err(usage("--model is empty").hint("ollama list shows the models there are"));
        }
        let max_context_tokens = self.max_context_tokens.map(context_tokens).transpose();
        let from_session = self.from_session.as_deref();
        let text = self.system.clone().map(Source::Text);
        let save = Save {
            name: template_name(&self.name, "NAME")?,
            from_session: from_session
                .map(|id| session_ref(id, "--from-session"))
                .transpose()?,
            description: self.description.clone(),
            system: text.or_else(|| self.system_file.clone().map(Source::File)),
            given: Settings {
                model: self.model.clone(),
                max_context_tokens: max_context_tokens
                    .map_err(|why| usage(format!("--max-context-tokens {why}")))?,
                prune: self.prune.map(Strategy::from),
                options: self.options.given()?,
                ..Settings::default()
            },
            variables: variables(&self.var)?,
            replaces: self.force,
        };
        if save.from_session.is_none() && save.system.is_none() && save.given.is_empty() {
            return Err(usage("there is nothing to keep in the template")
                .hint("give --model, --system, --option or their like, or --from-session ID"));
        }
        Ok(save)
    }
}

fn template_name(text: &str, flag: &str) -> Result<TemplateName> {
    no_address(text)?;
    text.parse().map_err(|why| {
        let shown: String = text.chars().take(80).collect();
        usage(format!("{flag} is no name of a template: {shown:?}")).hint(why)
    })
}

/// Reads values of variables, as they are typed.
fn variables(typed: &[String]) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for text in typed {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| is_variable_name(name))
            .ok_or_else(|| no_variable(text))?;
        if variables
            .insert(name.to_owned(), value.to_owned())
            .is_some()
        {
            return Err(usage(format!("--var {name} is given twice")));
        }
    }
    Ok(variables)
}

fn no_variable(text: &str) -> Error {
    let shown: String = text.chars().take(80).collect();
    usage(format!("--var takes NAME=VALUE, not {shown:?}"))
        .hint("a name has letters, digits, `_` and `-`, and begins with none of the digits")
}
