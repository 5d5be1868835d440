//! `docs/reference.md`: what it lists is what the program says of itself.
//!
//! The parts between `<!-- begin NAME -->` and `<!-- end NAME -->` are made here, from the help of
//! every command, the tables of codes, variables and keys, and the schemas of what is printed.
//! After a change of any of them `UPDATE_DOCS=1 cargo test --test integration -- reference::`
//! writes them anew; without that variable the test compares.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ollama_prompt::cli::{KEYS, Shape, VARIABLES, verbs};
use ollama_prompt::error::Code;
use ollama_prompt::template;
use serde_json::Value;

use crate::support::{TestEnv, is_asked_for, schema};

const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test integration -- reference::";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md")
}

#[test]
fn the_reference_says_what_the_program_says() {
    let env = TestEnv::new();
    let document = std::fs::read_to_string(path()).expect("there is a reference");
    let parts: [(&str, String); 6] = [
        ("commands", commands(&env)),
        ("variables", table(["variable", "meaning"], rows(VARIABLES))),
        ("config", table(["key", "meaning"], rows(KEYS))),
        ("template", table(["key", "meaning"], rows(template::KEYS))),
        ("codes", codes()),
        ("output", output()),
    ];
    let mut made = document.clone();
    for (name, part) in &parts {
        made = with_part(&made, name, part);
    }
    if is_asked_for("UPDATE_DOCS") {
        env.write(path(), &made);
        return;
    }
    let first = made
        .lines()
        .zip(document.lines())
        .find(|(made, there)| made != there);
    assert!(
        made == document,
        "docs/reference.md is out of date; {UPDATE} writes it anew.\nThe first difference: {first:#?}"
    );
}

/// Puts a part between its markers.
fn with_part(document: &str, name: &str, part: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let (before, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
    format!("{before}{begin}\n{}\n\n{end}{after}", part.trim())
}

/// Returns the help of the program and of every verb, as they are printed.
fn commands(env: &TestEnv) -> String {
    let mut text = String::new();
    let program = [("ollama-prompt".to_owned(), ())];
    let verbs = verbs().into_iter().map(|(words, _)| (words, ()));
    for (words, ()) in program.into_iter().chain(verbs) {
        let args = words.split(' ').skip(1).chain(["--help"]);
        let help = env.command().args(args).run();
        let help: Vec<&str> = help.ok().stdout().lines().map(str::trim_end).collect();
        let _ = write!(
            text,
            "### `{words}`\n\n```text\n{}\n```\n\n",
            help.join("\n").trim()
        );
    }
    text
}

fn rows<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = Vec<String>> + 'a {
    pairs
        .iter()
        .map(|(name, meaning)| vec![format!("`{name}`"), (*meaning).to_owned()])
}

fn codes() -> String {
    let row = |code: &Code| {
        let again = if code.retryable() { "yes" } else { "no" };
        vec![
            code.exit_status().to_string(),
            format!("`{}`", code.name()),
            again.to_owned(),
            code.meaning().trim().trim_end_matches('.').to_owned(),
        ]
    };
    table(
        ["exit status", "code", "retryable", "meaning"],
        Code::ALL.iter().map(row),
    )
}

/// Returns the fields of everything that has a schema.
fn output() -> String {
    let mut text = String::new();
    for shape in Shape::value_variants() {
        let possible = shape.to_possible_value().expect("none is hidden");
        let name = possible.get_name();
        let schema = schema(name);
        let about = schema["description"].as_str().unwrap_or_default();
        let mut rows = Vec::new();
        fields(&schema, &schema, "", &mut BTreeSet::new(), &mut rows);
        let _ = write!(
            text,
            "### `{name}`\n\n{about}\n\n{}\n",
            table(["field", "type", "meaning"], rows)
        );
    }
    text
}

/// Adds the fields of an object and of those in it. `above` are the names of the objects around
/// it: one that holds its like is described once.
fn fields(
    root: &Value,
    schema: &Value,
    within: &str,
    above: &mut BTreeSet<String>,
    rows: &mut Vec<Vec<String>>,
) {
    for choice in ["oneOf", "allOf"]
        .iter()
        .flat_map(|key| schema[*key].as_array())
        .flatten()
    {
        // What an event has depends on its type.
        match choice["properties"]["type"]["const"].as_str() {
            Some(kind) => inner(root, choice, &format!("{kind}: {within}"), above, rows),
            None => inner(root, choice, within, above, rows),
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{within}{name}");
        let about = property["description"].as_str().unwrap_or_default();
        let meaning = about.replace('\n', " ").replace('|', "\\|");
        let row = vec![format!("`{path}`"), types(root, property), meaning];
        if !rows.contains(&row) {
            rows.push(row);
        }
        inner(root, property, &format!("{path}."), above, rows);
        inner(root, &property["items"], &format!("{path}[]."), above, rows);
    }
}

/// Adds the fields of what a schema is or refers to.
fn inner(
    root: &Value,
    schema: &Value,
    within: &str,
    above: &mut BTreeSet<String>,
    rows: &mut Vec<Vec<String>>,
) {
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    for schema in choices.chain([schema]) {
        let Some(name) = schema["$ref"].as_str() else {
            fields_of_plain(root, schema, within, above, rows);
            continue;
        };
        if above.insert(name.to_owned()) {
            fields(root, resolved(root, name), within, above, rows);
            above.remove(name);
        }
    }
}

fn fields_of_plain(
    root: &Value,
    schema: &Value,
    within: &str,
    above: &mut BTreeSet<String>,
    rows: &mut Vec<Vec<String>>,
) {
    if schema.get("properties").is_some() {
        fields(root, schema, within, above, rows);
    }
}

fn resolved<'v>(root: &'v Value, name: &str) -> &'v Value {
    let pointer = name.trim_start_matches('#');
    root.pointer(pointer)
        .unwrap_or_else(|| panic!("{name} is nowhere"))
}

/// Returns the types a value may have, in words.
fn types(root: &Value, schema: &Value) -> String {
    let mut names = BTreeSet::new();
    collect_types(root, schema, &mut names);
    if names.is_empty() {
        return "any".to_owned();
    }
    names.into_iter().collect::<Vec<_>>().join(" or ")
}

fn collect_types(root: &Value, schema: &Value, names: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        collect_types(root, resolved(root, name), names);
    }
    for choice in ["anyOf", "oneOf"]
        .iter()
        .flat_map(|key| schema[*key].as_array())
        .flatten()
    {
        collect_types(root, choice, names);
    }
    match &schema["type"] {
        Value::String(name) => drop(names.insert(name.clone())),
        Value::Array(several) => {
            names.extend(several.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => {}
    }
}

fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = format!("| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(N));
    for row in rows {
        assert_eq!(row.len(), N);
        let _ = writeln!(table, "| {} |", row.join(" | "));
    }
    table
}

#[test]
fn a_part_takes_the_place_of_the_one_before() {
    let document = "a\n<!-- begin x -->\n\nold\n\n<!-- end x -->\nb";
    let made = with_part(document, "x", "new\n");
    assert_eq!(made, "a\n<!-- begin x -->\n\nnew\n\n<!-- end x -->\nb");
    assert_eq!(with_part(&made, "x", "new"), made);
}
