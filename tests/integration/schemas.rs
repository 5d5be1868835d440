//! `--print-schema`: what it prints is a schema of draft 2020-12 that real output meets, and that
//! output which is otherwise does not. Everything else the suite sees is held to the same schemas
//! in `support/schemas.rs`.

use serde_json::{Value, json};

use crate::support::{NOBODY_LISTENS, Reply, TestEnv, problems, schema};

const SHAPES: [&str; 35] = [
    "turn",
    "chunk",
    "list",
    "info",
    "message",
    "found",
    "found-in",
    "found-session",
    "stats",
    "error",
    "event",
    "seen",
    "plan",
    "sent",
    "purged",
    "compacted",
    "verified",
    "merged",
    "copied",
    "imported",
    "exported",
    "drafts",
    "cleared",
    "pinned",
    "pruned",
    "reindexed",
    "updated",
    "retracted",
    "redacted",
    "cleanup",
    "templates",
    "template",
    "template-saved",
    "templates-deleted",
    "forked",
];

#[test]
fn every_shape_has_a_schema_and_help_names_it() {
    let env = TestEnv::new();
    let help = env.command().arg("--help").env("COLUMNS", "3000").run();
    let (_, said) = help
        .stdout()
        .split_once("--print-schema")
        .expect("help says that there are schemas");
    let said = said.split("\n\n  -").next().unwrap_or_default();
    for shape in SHAPES {
        let schema = schema(shape);
        if let Err(error) = jsonschema::draft202012::meta::validate(&schema) {
            panic!("{shape}: {error}");
        }
        assert_eq!(schema["title"], shape);
        assert!(said.contains(shape), "{shape}: {said}");
    }
    let unknown = env.command().args(["--print-schema", "hat"]).run();
    assert!(unknown.fails(2, "usage").error.contains("merged"));
    let compact = ["--print-schema", "turn", "--output", "compact"];
    let output = env.command().args(compact).run();
    assert_eq!(output.ok().stdout().lines().count(), 1);
    assert_eq!(output.json(), schema("turn"));
    assert!(env.files().is_empty(), "a schema needs no store");
}

#[test]
fn a_schema_is_printed_for_itself() {
    let env = TestEnv::new();
    for other in [&["--prompt", "hi"][..], &["--list-sessions"]] {
        let run = env
            .command()
            .args(["--print-schema", "turn"])
            .args(other)
            .run();
        assert!(run.fails(2, "usage").error.contains("mutually exclusive"));
    }
    assert_eq!(env.server().request_count(), 0);
}

/// Real output of each shape that has required keys of its own.
fn printed() -> Vec<(&'static str, Value)> {
    let env = TestEnv::new();
    let turn = env
        .chat("one")
        .answered(Reply::text("said").thinking("thought"))
        .run();
    let id = turn.session_id();
    env.chat("two")
        .session(&id)
        .args(["--model", "other"])
        .run()
        .ok();
    let run = |args: &[&str]| env.command().args(args).run().ok().json();
    let chunks = env
        .chat("three")
        .args(["--output", "jsonl"])
        .run()
        .ok()
        .json_lines();
    let failed = env
        .chat("four")
        .session(&id)
        .env("OLLAMA_HOST", NOBODY_LISTENS)
        .run();
    let turn = turn.json();
    let address = format!("{id}:{}", turn["turn"]["id"].as_str().expect("an id"));
    let mut printed = vec![
        ("turn", turn.clone()),
        ("chunk", chunks[0].clone()),
        ("list", run(&["--list-sessions"])),
        ("info", run(&["--session-info", &id])),
        ("error", failed.fails(4, "server_unreachable").json),
        ("plan", env.chat("x").arg("--dry-run").run().ok().json()),
        ("sent", run(&["session", "show", &id, "--context"])),
        ("pruned", run(&["session", "prune", &id, "--to", "1"])),
        ("pinned", run(&["session", "pin", &address])),
        ("compacted", run(&["session", "compact", "--all"])),
        ("imported", run(&["session", "import", "/dev/null"])),
        (
            "exported",
            run(&["session", "export", &id, "--out", "out.jsonl"]),
        ),
        ("verified", run(&["session", "verify"])),
        ("drafts", run(&["session", "drafts"])),
        ("cleared", run(&["session", "drafts", "--clear"])),
        ("reindexed", run(&["session", "reindex"])),
        ("found", run(&["session", "search", "^two$"])),
        ("found-in", run(&["session", "search", "two", "--count"])),
        ("found-session", run(&["session", "search", "two", "-l"])),
        ("stats", run(&["session", "stats"])),
        ("updated", run(&["session", "update", &id, "--tag", "x"])),
        ("redacted", run(&["session", "redact", "two", "--all"])),
        ("retracted", run(&["session", "retract", &address])),
        (
            "template-saved",
            run(&["template", "save", "t", "--model", "m", "--system", "{{x}}"]),
        ),
        ("templates", run(&["template", "list"])),
        ("template", run(&["template", "show", "t"])),
        ("templates-deleted", run(&["template", "delete", "t"])),
        ("forked", run(&["session", "fork", &id])),
    ];
    let show = env
        .command()
        .args(["session", "show", &id, "--output", "jsonl"]);
    let messages = show.run().ok().json_lines();
    printed.extend(messages.into_iter().map(|line| ("message", line)));
    printed.extend(env.lines(&id).into_iter().map(|line| ("event", line)));
    printed.push(("purged", run(&["--purge", "0"])));
    printed
}

/// What was found out by breaking it: each schema knows its keys and their types.
#[test]
fn output_that_is_otherwise_is_noticed() {
    let printed = printed();
    let types: Vec<&Value> = printed.iter().map(|(_, value)| &value["type"]).collect();
    for kind in ["session", "turn", "set", "prune"] {
        assert!(types.contains(&&json!(kind)), "there is no {kind}");
    }
    for (shape, value) in printed {
        assert_eq!(problems(shape, &value), [""; 0], "{value}");
        let schema = schema(shape);
        let required = schema["required"].as_array().expect("required keys");
        assert!(!required.is_empty(), "{shape}");
        for key in required.iter().filter_map(Value::as_str) {
            let mut without = value.clone();
            let removed = without.as_object_mut().expect("an object").remove(key);
            assert!(removed.is_some(), "{shape}: {key} is not there: {value}");
            assert_ne!(problems(shape, &without), [""; 0], "{shape} without {key}");
        }
        for (key, was) in value.as_object().expect("an object") {
            // Of no type that anything has, but for what may be anything.
            let mut other = value.clone();
            other[key] = if was.is_array() {
                json!({})
            } else {
                json!([[0.5]])
            };
            let described = &schema["properties"][key];
            if described.get("type").is_some() || described.get("$ref").is_some() {
                assert_ne!(problems(shape, &other), [""; 0], "{shape}: {key}");
            }
        }
        let mut more = value.clone();
        more["a_key_of_a_later_version"] = json!([1]);
        assert_eq!(problems(shape, &more), [""; 0], "{shape}");
    }
}

#[test]
fn ids_times_and_codes_are_held_to_their_grammar() {
    let turn = printed().swap_remove(0).1;
    let rows = [
        ("/session_id", json!("not-a-uuid")),
        ("/turn/id", json!("01")),
        ("/turn/concurrent_with", json!(["x"])),
        ("/done", json!(false)),
        ("/context", json!([1])),
        ("/eval_count", json!(-1)),
        ("/turn/stored", Value::Null),
    ];
    for (pointer, wrong) in rows {
        let mut turn = turn.clone();
        *turn.pointer_mut(pointer).expect("it is there") = wrong;
        assert_ne!(problems("turn", &turn), [""; 0], "{pointer}");
    }
    let error = json!({"error": "x", "code": "usage", "retryable": false});
    assert_eq!(problems("error", &error), [""; 0]);
    let unknown = json!({"error": "x", "code": "oops", "retryable": false});
    assert_ne!(problems("error", &unknown), [""; 0]);
    let list = |used: &str| {
        let session = json!({
            "session_id": "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33", "model_name": null,
            "created_at": null, "last_used": used, "message_count": 0, "context_tokens": 0,
            "max_context_tokens": null, "title": null, "tags": [], "pinned": 0, "turns": 0,
        });
        problems("list", &json!({"sessions": [session], "total": 1}))
    };
    let good = list("2026-11-22T05:00:00.000Z");
    assert_ne!(list("yesterday"), good, "{good:?}");
}
