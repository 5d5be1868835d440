//! The format is what docs/format.md says: a reader that knows only the document sees in every
//! store what the program sees, and a store written once stays readable.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::stores::{TABLE, owned, put, three_turns};
use crate::support::{TestEnv, need};

/// Returns what the reader of `tests/reader.py` sees in a store.
fn read_by_others(store: &Path) -> Value {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader.py");
    let python = Command::new("python3").arg(reader).arg(store).output();
    let python = python.expect("python3 runs");
    let said = String::from_utf8_lossy(&python.stderr);
    assert!(python.status.success(), "{said}");
    serde_json::from_slice(&python.stdout).expect("JSON")
}

/// Returns the same as the program tells it.
fn read_by_the_program(env: &TestEnv) -> Value {
    let mut all = Map::new();
    let list = env.command().arg("--list-sessions").run().json();
    for session in list["sessions"].as_array().expect("a list") {
        let id = session["session_id"].as_str().expect("an id");
        let info = env.command().args(["--session-info", id]).run().json();
        let messages = info["messages"].as_array().expect("a list");
        let turns: Vec<Value> = messages
            .chunks(2)
            .map(|pair| {
                json!({
                    "id": pair[0]["turn"], "in_context": pair[0]["in_context"],
                    "prompt": pair[0]["content"], "response": pair[1]["content"],
                    "thinking": pair[1]["thinking"],
                })
            })
            .collect();
        let damage = info["metadata"]["unreadable"].as_array().map(Vec::len);
        let what = json!({
            "model": info["model_name"], "system": info["system_prompt"],
            "max_context_tokens": info["max_context_tokens"], "turns": turns,
            "tags": info["metadata"]["tags"].as_array().cloned().unwrap_or_default(),
            "horizon": info["metadata"]["horizon"], "damage": damage,
        });
        all.insert(id.to_owned(), what);
    }
    all.into()
}

#[track_caller]
fn both_read_the_same(env: &TestEnv, what: &str) -> Value {
    let mut others = read_by_others(&env.store());
    for session in others.as_object_mut().expect("an object").values_mut() {
        let settings = session["settings"].take();
        for key in ["model", "max_context_tokens"] {
            session[key] = settings[key].clone();
        }
        // "" takes the system prompt away.
        session["system"] = match &settings["system"] {
            Value::String(text) if text.is_empty() => Value::Null,
            system => system.clone(),
        };
        let tags = settings["tags"].as_object().into_iter().flatten();
        let mut tags: Vec<&String> = tags.filter(|(_, on)| **on == true).map(|t| t.0).collect();
        tags.sort();
        session["tags"] = json!(tags);
        for turn in session["turns"].as_array_mut().expect("a list") {
            // Absent is null.
            turn["thinking"] = turn["thinking"].take();
        }
        session
            .as_object_mut()
            .expect("an object")
            .remove("settings");
    }
    assert_eq!(others, read_by_the_program(env), "{what}");
    others
}

#[test]
fn a_reader_made_from_the_document_sees_what_the_program_sees() {
    if !need("python3") {
        return;
    }
    for row in TABLE {
        let env = TestEnv::new();
        let (id, lines) = three_turns(&env);
        (row.change)(&lines, &env.store().join("sessions").join(&id));
        let seen = both_read_the_same(&env, row.name);
        let turns = seen[&id]["turns"].as_array().map_or(0, Vec::len);
        assert_eq!(turns, row.turns, "{}", row.name);
    }
}

#[test]
fn a_store_with_horizons_settings_copies_and_duplicates_reads_the_same() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    let budget = [
        "--offline",
        "--max-context-tokens",
        "600",
        "--max_tokens",
        "50",
    ];
    let id = env.chat("first").args(budget).run().session_id();
    for n in 0..8 {
        let prompt = format!("{n} {}", "words and words ".repeat(40));
        let turn = env.chat(&prompt).session(&id).args(budget);
        turn.args(["--system", &format!("be {n}")]).run().ok();
    }
    let plain = env.chat("last").session(&id).args(budget);
    plain.args(["--system", "", "--model", "other"]).run().ok();
    let types: Vec<Value> = env.lines(&id).iter().map(|l| l["type"].clone()).collect();
    assert!(types.contains(&json!("prune")) && types.contains(&json!("set")));
    three_turns(&env);

    let log = env.log(&id);
    let lines: Vec<&str> = log.lines().collect();
    let copy = env.log_path(&id).with_file_name("copy.jsonl");
    let edited = lines[2].replace("words", "sword");
    put(&copy, format!("{}\n{edited}\n{}\n", lines[4], lines[3]));
    owned(&copy);
    put(
        env.log_path(&id),
        log.repeat(2) + "garbage\n" + &lines[1][..50],
    );
    let seen = both_read_the_same(&env, "all at once");
    assert_eq!(seen.as_object().map(Map::len), Some(2));
    assert_eq!(seen[&id]["turns"].as_array().map(Vec::len), Some(10));
    assert!(seen[&id]["horizon"].is_string(), "{seen}");
    assert_eq!(seen[&id]["damage"], 1);
    env.chat("on").session(&id).args(budget).run().ok();
    both_read_the_same(&env, "and after the next turn");
}

/// What is appended to a session of three turns, given their ids, and the turns that are then in
/// the transcript, `+` for those that are in the context.
type Row = (&'static str, fn(&[Value; 3]) -> Vec<Value>, &'static str);

const HIDDEN_PINNED_KEPT: &[Row] = &[
    (
        "parts of a prompt, two events, characters cut, beyond the end",
        |t| {
            vec![
                json!({"type": "turn", "prompt": "aéxx日b🦀", "response": "ö", "thinking": "hm: ö"}),
                json!({"type": "redact", "turn": t[0], "fields": {"prompt": [[0, 3], [5, 5], [7, 6]]}}),
                json!({"type": "redact", "turn": t[0], "fields": {"prompt": [[3, 4], [9, 99]], "response": [[0, 1]]}}),
                json!({"type": "redact", "turn": TURN, "fields": {"prompt": [[2, 3], [7, 8], [9, 10]], "thinking": [[4, 5]]}}),
                json!({"type": "redact", "turn": TURN, "fields": {"response": [[1, 1]], "note": [[0, 9]]}}),
            ]
        },
        "++++",
    ),
    (
        "redacted before it was said, and a turn nobody has",
        |_| {
            vec![
                json!({"id": "01AAAAAAAAAAAAAAAAAAAAAAAA", "type": "redact", "turn": TURN, "fields": {"prompt": [[1, 2]]}}),
                json!({"type": "turn", "prompt": "abc", "response": "d"}),
                json!({"type": "redact", "turn": "01BBBBBBBBBBBBBBBBBBBBBBBB"}),
            ]
        },
        "++++",
    ),
    (
        "retracted, before and after a part was",
        |t| {
            vec![
                json!({"type": "redact", "turn": t[1], "fields": {"prompt": [[0, 3]]}}),
                json!({"type": "redact", "turn": t[1], "fields": {}}),
                json!({"type": "redact", "turn": t[2]}),
                json!({"type": "redact", "turn": t[2], "fields": {"prompt": [[0, 3]]}}),
            ]
        },
        "+",
    ),
    (
        "settings that are hidden, in part and whole, and what holds all together",
        |_| {
            let set = "01AAAAAAAAAAAAAAAAAAAAAAAA";
            vec![
                json!({"id": set, "type": "set", "system": "be shy now", "tags": {"a": true}, "prune": "importance"}),
                json!({"type": "redact", "turn": set, "fields": {"system": [[3, 6]], "tags": [[0, 1]], "model": [[0, 9]]}}),
                json!({"type": "set", "tags": {"b": true}}),
            ]
        },
        "+++",
    ),
    (
        "pins and tags, one by one, before the horizon",
        |t| {
            let (one, two) = (t[0].as_str().expect("id"), t[1].as_str().expect("id"));
            vec![
                json!({"type": "set", "prune": "importance", "pins": {one: true, two: true}, "tags": {"a": true, "b": true}}),
                prune(&t[2], json!({"budget": 600})),
                json!({"type": "set", "pins": {two: false}, "tags": {"b": false, "c": true}}),
            ]
        },
        "+-+",
    ),
    (
        "kept before the horizon, with a summary",
        |t| {
            let kept = json!([{"id": t[1], "at": 9}, {"id": "01BBBBBBBBBBBBBBBBBBBBBBBB"}]);
            vec![prune(
                &t[2],
                json!({"keep": kept, "summary": "s", "budget": 600}),
            )]
        },
        "-++",
    ),
    (
        "kept, and no longer; pinned and retracted",
        |t| {
            let one = t[0].as_str().expect("id");
            vec![
                prune(&t[2], json!({"keep": [{"id": t[1]}]})),
                prune(&t[2], json!({})),
                json!({"type": "set", "pins": {one: true}}),
                json!({"type": "redact", "turn": one}),
            ]
        },
        "-+",
    ),
    (
        "not back by accident",
        |t| {
            vec![
                prune(&t[2], json!({})),
                prune(&t[0], json!({"keep": [{"id": t[1]}]})),
            ]
        },
        "--+",
    ),
    (
        "back on purpose, and forth",
        |t| {
            vec![
                prune(&t[2], json!({})),
                prune(&t[1], json!({"back": true, "keep": []})),
                prune(&t[0], json!({"back": false})),
            ]
        },
        "-++",
    ),
];

/// The first of the events that are appended.
const TURN: &str = "6GBZY6YG00ABCDEFGHJKMNPQR0";

fn prune(keep_from: &Value, more: Value) -> Value {
    let mut prune = json!({
        "type": "prune", "keep_from": keep_from, "strategy": "fifo", "kept_turns": 9,
        "dropped_turns": 9, "dropped_tokens": 9, "settings": {},
    });
    for (key, value) in more.as_object().expect("an object") {
        prune[key] = value.clone();
    }
    prune
}

#[test]
fn what_is_hidden_pinned_kept_and_brought_back_reads_the_same() {
    if !need("python3") {
        return;
    }
    for (name, events, expected) in HIDDEN_PINNED_KEPT {
        let env = TestEnv::new();
        let (id, _) = three_turns(&env);
        let turns = env.lines(&id).into_iter().skip(1).map(|l| l["id"].clone());
        let turns: Vec<Value> = turns.collect();
        let turns: [Value; 3] = turns.try_into().expect("three");
        let mut log = env.log(&id);
        let first = &TURN[..25];
        let mut n = 0;
        for event in events(&turns) {
            let mut line = json!({"v": 1});
            line["id"] = json!(format!("{first}{n}"));
            n += u8::from(event["id"].is_null());
            for (key, value) in event.as_object().expect("an object") {
                line[key] = value.clone();
            }
            log += &format!("{line}\n");
        }
        put(env.log_path(&id), log);
        let seen = both_read_the_same(&env, name);
        let seen = seen[&id]["turns"].as_array().expect("a list").iter();
        let seen = seen.map(|turn| if turn["in_context"] == true { '+' } else { '-' });
        assert_eq!(seen.collect::<String>(), *expected, "{name}");
    }
}

/// Asserts that everything expected is there; more may have been added since.
#[track_caller]
fn holds(actual: &Value, expected: &Value, place: &str) {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            for (key, expected) in expected {
                let actual = actual.get(key).unwrap_or(&Value::Null);
                holds(actual, expected, &format!("{place}.{key}"));
            }
        }
        (Value::Array(actual), Value::Array(expected)) => {
            assert_eq!(actual.len(), expected.len(), "{place}: {actual:?}");
            for (n, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                holds(actual, expected, &format!("{place}[{n}]"));
            }
        }
        _ => assert_eq!(actual, expected, "{place}"),
    }
}

/// Copies a directory, with the permissions a store has: git keeps none.
fn copy_store(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    fs::set_permissions(to, Permissions::from_mode(0o700)).expect("permissions");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy_store(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).expect("a copy");
            owned(&to);
        }
    }
}

#[test]
fn a_store_of_version_1_reads_as_it_always_did() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1");
    let env = TestEnv::new();
    copy_store(&fixture.join("store"), &env.store());
    let before = env.records();
    let expected = fs::read_dir(fixture.join("expected")).expect("a directory");
    let mut compared = 0;
    for entry in expected {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|n| n.to_str()).expect("a name");
        let args = match name {
            "list" => vec!["--list-sessions"],
            "verify" | "drafts" => vec!["session", name],
            id => vec!["--session-info", id],
        };
        let run = env.command().args(args).run();
        let text = fs::read_to_string(&path).expect("readable");
        let expected = serde_json::from_str(&text).expect("JSON");
        holds(&run.json(), &expected, name);
        compared += 1;
    }
    assert_eq!(compared, 6);
    assert_eq!(env.records(), before, "reading changes nothing");
    if need("python3") {
        both_read_the_same(&env, "as it is");
    }

    for id in [
        "019467a5-8c00-7c3e-9a52-0c8f6b1f2a33",
        "8029a7ef-a5c3-5f6d-9fba-0a44b16eb20a",
        "01946746-1700-7c3e-9a52-0c8f6b1f2a34",
    ] {
        let turn = env.chat("and on").session(id).arg("--offline").run();
        turn.ok();
    }
    if need("python3") {
        both_read_the_same(&env, "after a turn in each");
    }
    let repair = ["session", "verify", "--repair"];
    env.command().args(repair).run().ok();
}
