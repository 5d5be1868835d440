//! JSON Schema (draft 2020-12) of what is printed and stored, made from the shapes themselves
//! when it is asked for: nothing of it is built on any other call.
//!
//! Keys may be added to any shape, so none forbids keys it does not know. What is printed is
//! described as it is written: a key is required unless it is left out where there is nothing to
//! say. An event is described as it may be read, since logs of earlier versions and of other
//! programs have less in them.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::found::{Found, FoundIn, FoundSession};
use super::{
    CleanupLine, Cleared, Compactions, CopyReport, DraftList, ExportReport, Forked, ImportReport,
    MergeReport, Piece, Pinned, PlanReport, Pruned, Purged, Redactions, Reindexed, Report,
    Retracted, SaidMessage, Seen, SentReport, SessionInfo, SessionList, Stats, TemplateInfo,
    TemplateList, TemplateSaved, TemplatesDeleted, TurnReport, Updates, Verified,
};
use crate::cli::Shape;
use crate::error;
use crate::json;
use crate::session::event::Event;

/// `--print-schema`: a schema.
#[derive(Debug)]
pub struct Described(Schema);

impl Described {
    /// Makes the schema of a shape.
    #[must_use]
    pub fn of(shape: Shape) -> Self {
        let mut schema = match shape {
            Shape::Turn => written::<TurnReport>(),
            Shape::Chunk => written::<Piece<'_>>(),
            Shape::List => written::<SessionList>(),
            Shape::Info => written::<SessionInfo>(),
            Shape::Message => written::<SaidMessage>(),
            Shape::Found => written::<Found<'_>>(),
            Shape::FoundIn => written::<FoundIn>(),
            Shape::FoundSession => written::<FoundSession>(),
            Shape::Stats => written::<Stats>(),
            Shape::Error => written::<error::Report<'_>>(),
            Shape::Event => stored::<Event>(),
            Shape::Seen => written::<Seen>(),
            Shape::Plan => written::<PlanReport>(),
            Shape::Sent => written::<SentReport>(),
            Shape::Purged => written::<Purged>(),
            Shape::Compacted => written::<Compactions>(),
            Shape::Verified => written::<Verified>(),
            Shape::Merged => written::<MergeReport>(),
            Shape::Copied => written::<CopyReport>(),
            Shape::Imported => written::<ImportReport>(),
            Shape::Exported => written::<ExportReport>(),
            Shape::Forked => written::<Forked>(),
            Shape::Drafts => written::<DraftList>(),
            Shape::Cleared => written::<Cleared>(),
            Shape::Pinned => written::<Pinned>(),
            Shape::Pruned => written::<Pruned>(),
            Shape::Reindexed => written::<Reindexed>(),
            Shape::Updated => written::<Updates>(),
            Shape::Retracted => written::<Retracted>(),
            Shape::Redacted => written::<Redactions>(),
            Shape::Cleanup => written::<CleanupLine<'_>>(),
            Shape::Templates => written::<TemplateList>(),
            Shape::Template => written::<TemplateInfo>(),
            Shape::TemplateSaved => written::<TemplateSaved>(),
            Shape::TemplatesDeleted => written::<TemplatesDeleted>(),
        };
        schema.insert("title".to_owned(), shape.name().into());
        Self(schema)
    }
}

impl Report for Described {
    /// A schema is what it is, whatever else is worth telling.
    fn warn(&mut self, _: Vec<String>) {}

    fn document(&self) -> String {
        json::document(&self.0)
    }

    fn line(&self) -> String {
        json::line(&self.0)
    }
}

fn written<T: JsonSchema>() -> Schema {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.transforms.push(Box::new(left_out_is_not_null));
    of::<T>(settings)
}

fn stored<T: JsonSchema>() -> Schema {
    of::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

fn of<T: JsonSchema>(mut settings: SchemaSettings) -> Schema {
    settings.transforms.push(Box::new(in_one_line));
    settings.into_generator().into_root_schema_for::<T>()
}

/// A key that is left out where there is nothing to say is there only with a value.
fn left_out_is_not_null(schema: &mut Schema) {
    transform_subschemas(&mut left_out_is_not_null, schema);
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    let required = object.get("required").cloned().unwrap_or_default();
    let is_required = |key: &str| {
        let mut names = required.as_array().into_iter().flatten();
        names.any(|name| name == key)
    };
    let properties = object.get_mut("properties").and_then(Value::as_object_mut);
    for (key, property) in properties.into_iter().flatten() {
        if !is_required(key) {
            without_null(property);
        }
    }
}

fn without_null(property: &mut Value) {
    if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            property["type"] = only.clone();
        }
    }
    if let Some(choices) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
    }
}

/// Takes the line breaks of the source out of a description.
fn in_one_line(schema: &mut Schema) {
    transform_subschemas(&mut in_one_line, schema);
    let described = schema.get("description").and_then(Value::as_str);
    if let Some(text) = described.filter(|text| text.contains('\n')) {
        let text = text.replace("\n\n", "\u{0}").replace('\n', " ");
        let text = text.replace('\u{0}', "\n\n");
        schema.insert("description".to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn schema(shape: Shape) -> Value {
        Described::of(shape).0.to_value()
    }

    #[test]
    fn every_shape_is_described_and_none_forbids_a_key() {
        for shape in Shape::value_variants() {
            let schema = schema(*shape);
            assert_eq!(schema["title"], shape.name());
            assert_eq!(
                schema["$schema"],
                "https://json-schema.org/draft/2020-12/schema"
            );
            let text = schema.to_string();
            for closed in ["\"additionalProperties\":false", "unevaluatedProperties"] {
                assert!(!text.contains(closed), "{}: {text}", shape.name());
            }
        }
    }

    #[test]
    fn every_key_says_what_it_is() {
        for shape in Shape::value_variants() {
            let mut undescribed = Vec::new();
            let schema = schema(*shape);
            keys_without_description(&schema, "", &mut undescribed);
            assert!(undescribed.is_empty(), "{}: {undescribed:?}", shape.name());
        }
    }

    fn keys_without_description(value: &Value, path: &str, found: &mut Vec<String>) {
        let Some(object) = value.as_object() else {
            return;
        };
        for (key, value) in object {
            let path = format!("{path}/{key}");
            if key == "properties" {
                let properties = value.as_object().into_iter().flatten();
                let silent = properties.filter(|(key, property)| {
                    // What distinguishes the events is its own name.
                    *key != "type" && property.get("description").is_none()
                });
                found.extend(silent.map(|(key, _)| format!("{path}/{key}")));
            }
            keys_without_description(value, &path, found);
            for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                keys_without_description(item, &format!("{path}/{i}"), found);
            }
        }
    }

    #[test]
    fn what_is_left_out_is_optional_and_what_may_be_null_is_not() {
        let turn = schema(Shape::Turn);
        let required = turn["required"].as_array().expect("a list");
        let is_required = |key: &str| required.iter().any(|name| name == key);
        for key in ["model", "response", "thinking", "context", "context_usage"] {
            assert!(is_required(key), "{key}");
        }
        for key in ["turn", "session_id", "warnings", "tool_calls"] {
            assert!(turn["properties"].get(key).is_some(), "{key}");
            assert!(!is_required(key), "{key}");
        }
        let types = |key: &str| turn["properties"][key]["type"].clone();
        assert_eq!(types("thinking"), serde_json::json!(["string", "null"]));
        assert_eq!(types("response"), "string");
        assert_eq!(types("context"), "null");
        assert_eq!(types("session_id"), serde_json::Value::Null, "a reference");
        let error = schema(Shape::Error);
        assert_eq!(error["properties"]["hint"]["type"], "string");
        let event = schema(Shape::Event);
        let types = &event["$defs"]["Turn"]["properties"]["thinking"]["type"];
        assert_eq!(*types, serde_json::json!(["string", "null"]));
    }
}
