//! Import: what other programs kept and what this one exported becomes sessions, once, however often
//! it is done, and its source stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::concurrency::hold_lock;
use crate::stored::{id, make_session, times_called, traced};
use crate::support::{Output, TestEnv, need};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/import")
        .join(name)
}

fn import(env: &TestEnv, arguments: &[&str]) -> Output {
    let run = env.command().env("TZ", "UTC").args(["session", "import"]);
    run.args(arguments).run()
}

fn import_fixture(env: &TestEnv, name: &str) -> Value {
    import(env, &[fixture(name).to_str().expect("UTF-8")])
        .ok()
        .json()
}

fn info(env: &TestEnv, id: &str) -> Value {
    env.command().args(["--session-info", id]).run().ok().json()
}

/// Returns what was said in a session, in turn.
fn said(env: &TestEnv, id: &str) -> Vec<String> {
    let info = info(env, id);
    let messages = info["messages"].as_array().expect("messages");
    let content = |message: &Value| message["content"].as_str().expect("text").to_owned();
    messages.iter().map(content).collect()
}

fn sessions(env: &TestEnv) -> Vec<String> {
    let list = env.command().arg("--list-sessions").run().ok().json();
    let sessions = list["sessions"].as_array().expect("sessions");
    let id = |session: &Value| session["session_id"].as_str().expect("an id").to_owned();
    sessions.iter().map(id).collect()
}

/// Asserts that an import says the second time that it is all there, and changes nothing.
fn nothing_more(env: &TestEnv, source: &str) {
    let before = env.records();
    let again = import(env, &[source]).ok().json();
    assert_eq!(
        (&again["turns_added"], &again["events_added"]),
        (&json!(0), &json!(0)),
        "{again}"
    );
    assert_eq!(env.records(), before, "{source}");
}

#[test]
fn what_was_exported_comes_back_byte_for_byte() {
    let env = TestEnv::new();
    let id = env
        .chat("one")
        .args(["--system", "s"])
        .replies("1")
        .session_id();
    env.chat("two")
        .session(&id)
        .args(["--model", "other"])
        .replies("2");
    env.chat("other").replies("talk");
    let blob = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let log = env.log(&id);
    let last = env.lines(&id).last().expect("a line")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let event = last.replace(&last[..1], "1");
    env.write(
        env.log_path(&id),
        format!("{log}{{\"v\":1,\"id\":\"{event}\",\"type\":\"later\",\"blobs\":[\"{blob}\"]}}\n"),
    );
    env.write(env.log_path(&id).with_file_name("blobs").join(blob), "test");
    let exported = env
        .command()
        .args(["session", "export", "--all"])
        .run()
        .ok()
        .stdout()
        .to_owned();
    let there = env.home().join("there");
    let at = |arguments: &[&str]| {
        env.command()
            .env("OLLAMA_PROMPT_HOME", &there)
            .args(arguments)
    };
    let told = at(&["session", "import", "-"])
        .stdin(exported.clone())
        .run()
        .ok()
        .json();
    assert_eq!(
        (&told["sessions_added"], &told["turns_added"]),
        (&json!(2), &json!(3)),
        "{told}"
    );
    assert_eq!(told["skipped"], json!([]));
    assert_eq!(
        at(&["session", "export", "--all"]).run().ok().stdout(),
        exported
    );
    let again = at(&["session", "import", "-"])
        .stdin(exported.clone())
        .run()
        .ok()
        .json();
    assert_eq!(
        (&again["sessions_unchanged"], &again["events_added"]),
        (&json!(2), &json!(0))
    );

    // Cut short, it gives what there is of it and says that there was more.
    let cut: String = exported.split_inclusive('\n').take(2).collect();
    let third = env.home().join("third");
    let told = env
        .command()
        .env("OLLAMA_PROMPT_HOME", &third)
        .args(["session", "import", "-"])
        .stdin(cut)
        .run();
    let told = told.ok().json();
    assert_eq!(told["skipped_total"], 2, "events and a blob: {told}");
}

#[test]
fn the_database_of_the_python_tool() {
    let env = TestEnv::new();
    let source = fixture("python-1.2.0.db");
    let path = source.to_str().expect("UTF-8");
    let told = import(&env, &[path, "--model", "mine"]).ok().json();
    assert_eq!(told["sources"][0]["kind"], "python");
    assert_eq!(told["sessions_added"], 7, "{told}");
    assert_eq!(
        told["left_out"],
        json!({"answers_without_prompt": 1, "damaged_messages": 3, "unanswered_prompts": 1})
    );
    let why: Vec<&str> = told["skipped"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["why"].as_str())
        .collect();
    assert_eq!(why.len(), 6, "{told:#}");
    let ids = sessions(&env);
    let infos: Vec<Value> = ids.iter().map(|id| info(&env, id)).collect();
    let find = |text: &str| {
        infos
            .iter()
            .find(|info| info["messages"].to_string().contains(text))
            .expect(text)
    };
    let hamlet = find("Hamlet");
    assert_eq!(hamlet["system_prompt"], "Answer briefly.");
    assert_eq!(hamlet["model_name"], "llama3.2");
    assert_eq!(
        hamlet["messages"][3]["content"],
        "In 1564.\n\nIn Stratford."
    );
    let other = find("日本");
    assert_eq!(
        (&other["model_name"], &other["max_context_tokens"]),
        (&json!("qwen3:8b"), &json!(8000))
    );
    assert_eq!(find("named")["model_name"], "mine", "the source names none");
    let all = Value::from(infos.clone()).to_string();
    assert!(
        !all.contains("orphan") && !all.contains("no answer"),
        "they are counted"
    );
}

#[test]
fn a_time_without_a_zone_is_that_of_the_clock_on_the_wall() {
    let source = fixture("python-1.2.0.db");
    let at = |zone: &str| {
        let env = TestEnv::new();
        let run = env
            .command()
            .env("TZ", zone)
            .args(["session", "import"])
            .arg(&source);
        run.run().ok();
        let info = info(&env, "00000000-0000-4000-8000-000000000003");
        info["messages"][0]["timestamp"]
            .as_str()
            .expect("a time")
            .to_owned()
    };
    assert_eq!(at("UTC"), "2025-11-02T10:00:00.250Z");
    assert_eq!(at("Asia/Tokyo"), "2025-11-02T01:00:00.250Z");
}

#[test]
fn a_second_import_adds_nothing_and_a_later_one_what_is_new() {
    for name in [
        "python-1.2.0.db",
        "llm-0.36.db",
        "llm-0.10.db",
        "openai.jsonl",
        "conversations.json",
        "claude.jsonl",
        "codex.jsonl",
        "codex-old.jsonl",
    ] {
        let env = TestEnv::new();
        let first = import_fixture(&env, name);
        assert!(first["turns_added"].as_u64() > Some(0), "{name}: {first}");
        assert_eq!(
            env.command().args(["session", "verify"]).run().exit_code(),
            Some(0),
            "{name}"
        );
        nothing_more(&env, fixture(name).to_str().expect("UTF-8"));
        // The same in another time zone.
        let again = env
            .command()
            .env("TZ", "Asia/Tokyo")
            .args(["session", "import"])
            .arg(fixture(name))
            .run();
        assert_eq!(again.ok().json()["events_added"], 0, "{name}");
        let dry = TestEnv::new();
        let mut would = import(&dry, &["--dry-run", fixture(name).to_str().expect("UTF-8")])
            .ok()
            .json();
        assert!(dry.files().is_empty(), "{name}");
        assert_eq!(would["dry_run"].take(), true);
        would["dry_run"] = json!(false);
        assert_eq!(would, first, "{name}");
    }

    // Claude Code went on with the answer meanwhile, and then with another turn; so did we.
    let env = TestEnv::new();
    let id = "0199b000-0000-4000-8000-0000000c1a0d";
    let text = fs::read_to_string(fixture("claude.jsonl")).expect("a transcript");
    let lines: Vec<&str> = text.lines().collect();
    let early = env.write("claude.jsonl", lines[..5].join("\n"));
    import(&env, &[early.to_str().expect("UTF-8")]).ok();
    assert_eq!(said(&env, id), ["write hello", "I write it."]);
    env.chat("and here")
        .session(id)
        .args(["--model", "local"])
        .replies("yes");
    let more = lines[7]
        .replace("\"a2\"", "\"a3\"")
        .replace("Done.", "Again.")
        .replace("10:00:04", "10:00:09");
    let asked = lines[2]
        .replace("\"u1\"", "\"u3\"")
        .replace("write hello", "again")
        .replace("10:00:00", "10:00:08");
    env.write("claude.jsonl", format!("{text}{asked}\n{more}\n"));
    let later = import(&env, &["claude.jsonl"]).ok().json();
    assert_eq!(
        (&later["sessions_changed"], &later["turns_added"]),
        (&json!(1), &json!(2)),
        "{later}"
    );
    assert_eq!(
        said(&env, id),
        [
            "write hello",
            "I write it.\n\nDone.",
            "again",
            "Again.",
            "and here",
            "yes"
        ]
    );
    nothing_more(&env, "claude.jsonl");
    env.chat("on").session(id).replies("and on");
    assert_eq!(said(&env, id).len(), 8);
}

#[test]
fn conversations_of_llm_in_both_generations() {
    for name in ["llm-0.36.db", "llm-0.10.db"] {
        let env = TestEnv::new();
        let told = import_fixture(&env, name);
        assert_eq!(told["skipped"], json!([]), "{name}");
        let talks: Vec<Vec<String>> = sessions(&env).iter().map(|id| said(&env, id)).collect();
        let expected = [
            "first question",
            "reply to: first question",
            "second question",
            "reply to: second question",
        ];
        assert!(
            talks.iter().any(|talk| talk == &expected),
            "{name}: {talks:#?}"
        );
        let whole = |text: &str| talks.iter().any(|talk| talk[0] == text);
        assert!(whole("another\nconversation"), "{name}");
        if name == "llm-0.36.db" {
            assert_eq!(talks.len(), 5);
            assert!(
                whole("text of a fragment\nsum it up") && whole("shout panda"),
                "{talks:#?}"
            );
            assert_eq!(told["left_out"]["attachments"], 1);
        }
        let first = sessions(&env)
            .into_iter()
            .find(|id| said(&env, id)[0] == "first question")
            .expect("there");
        assert_eq!(
            (
                info(&env, &first)["system_prompt"].clone(),
                info(&env, &first)["model_name"].clone()
            ),
            (json!("be brief"), json!("mock"))
        );
    }
}

#[test]
fn transcripts_keep_what_was_said_and_count_the_rest() {
    let env = TestEnv::new();
    let told = import_fixture(&env, "codex.jsonl");
    let id = "0199a000-0000-7000-8000-00000000c0de";
    assert_eq!(said(&env, id), ["fix the test", "I look at it.\n\nFixed."]);
    assert_eq!(info(&env, id)["model_name"], "gpt-5-codex");
    assert_eq!(
        told["left_out"],
        json!({"instructions": 1, "reasoning": 1, "tool_calls": 1, "tool_results": 1})
    );
    import_fixture(&env, "codex-old.jsonl");
    assert_eq!(
        said(&env, "0199a000-0000-4000-8000-00000000c0de"),
        ["hello", "hi"]
    );

    let told = import_fixture(&env, "claude.jsonl");
    let id = "0199b000-0000-4000-8000-0000000c1a0d";
    assert_eq!(said(&env, id), ["write hello", "I write it.\n\nDone."]);
    assert_eq!(info(&env, id)["messages"][1]["thinking"], "In Go, then.");
    assert_eq!(
        env.lines(id)[0]["imported"],
        json!({"from": "claude", "id": id})
    );
    assert_eq!(env.lines(id)[0]["title"], "A greeting in Go");
    assert_eq!(
        told["left_out"],
        json!({"other_events": 1, "subagent_messages": 1, "tool_calls": 1, "tool_results": 1})
    );

    let told = import_fixture(&env, "openai.jsonl");
    assert_eq!(
        (&told["sessions_added"], &told["skipped_total"]),
        (&json!(2), &json!(3)),
        "{told}"
    );
    let first = sessions(&env)
        .into_iter()
        .find(|id| said(&env, id)[0] == "one")
        .expect("there");
    assert_eq!(said(&env, &first), ["one", "1", "two", "2"]);
    assert_eq!(info(&env, &first)["system_prompt"], "be brief");
}

#[test]
fn the_branches_of_chatgpt_become_sessions_that_share_their_beginning() {
    let env = TestEnv::new();
    let told = import_fixture(&env, "conversations.json");
    assert_eq!(
        (&told["sessions_added"], &told["skipped_total"]),
        (&json!(2), &json!(2)),
        "{told}"
    );
    assert_eq!(
        told["left_out"],
        json!({"attachments": 1, "tool_calls": 1, "tool_results": 1})
    );
    let id = "68000000-0000-4000-8000-00000000c4a7";
    assert_eq!(
        said(&env, id),
        [
            "first question",
            "first answer",
            "second, edited",
            "answer to the edit"
        ]
    );
    let other = sessions(&env)
        .into_iter()
        .find(|other| other != id)
        .expect("a branch");
    assert_eq!(
        said(&env, &other),
        [
            "first question",
            "first answer",
            "second, as it was",
            "answer to that"
        ]
    );
    assert_eq!(env.lines(&other)[0]["imported"]["forked_from"], id);
    assert_eq!(
        env.lines(&other)[1]["id"],
        env.lines(id)[1]["id"],
        "what they share is the same"
    );
    assert_ne!(env.lines(&other)[2]["id"], env.lines(id)[2]["id"]);
    assert_eq!(env.lines(id)[1]["ts"], "2023-11-14T22:13:23.250Z");
}

#[test]
fn a_long_import_is_read_from_its_end_like_any_long_session() {
    let env = TestEnv::new();
    env.server().set_context_length(131_072);
    let words = "many words that take room in a context window ".repeat(40);
    let messages: Vec<Value> = (0..200)
        .flat_map(|n| {
            [
                json!({"role": "user", "content": format!("question {n}")}),
                json!({"role": "assistant", "content": words}),
            ]
        })
        .collect();
    let line = json!({"id": "long", "messages": messages, "model": "llama3.2"});
    env.write("long.jsonl", format!("{line}\n"));
    let id = import(&env, &["long.jsonl"]).ok().json()["sessions"][0]
        .as_str()
        .expect("an id")
        .to_owned();
    let lines = env.lines(&id);
    let prune = lines.last().expect("a line");
    assert_eq!(prune["type"], "prune");
    let mut at = 0;
    for (line, text) in lines.iter().zip(env.log(&id).lines()) {
        assert_eq!(line["at"], at, "every line says where it stands");
        at += text.len() + 1;
    }
    // Damage in the middle is not met: the turn reads the end only, and needs no vocabulary.
    let log = env.log(&id);
    let middle = log.find("question 5\"").expect("an early turn");
    env.write(
        env.log_path(&id),
        format!("{}#{}", &log[..middle], &log[middle + 1..]).replacen("{\"v\":1", "{\"V\":1", 1),
    );
    let turn = env.chat("and now?").session(&id).arg("-v").replies("on");
    assert_eq!(turn.json().get("warnings"), None, "{turn}");
    assert!(turn.stderr().contains("vocabularies loaded: 0"), "{turn}");
    assert_eq!(
        turn.json()["context_usage"]["kept_turns"],
        prune["kept_turns"]
    );
}

/// Returns every file of a directory with its bytes, mode and times.
fn all_of(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, std::time::SystemTime)> {
    let entries = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("readable").path());
    let with = |path: PathBuf| {
        let found = fs::metadata(&path).expect("a file");
        let bytes = fs::read(&path).expect("a file");
        (
            path,
            (
                bytes,
                found.permissions().mode(),
                found.modified().expect("a time"),
            ),
        )
    };
    entries.map(with).collect()
}

#[test]
fn a_database_is_never_changed_not_even_beside_it() {
    let env = TestEnv::new();
    let source = env.write(
        "db/sessions.db",
        fs::read(fixture("python-1.2.0.db")).expect("a database"),
    );
    let path = source.to_str().expect("UTF-8");
    let directory = source.parent().expect("a directory");
    let before = all_of(directory);
    assert_eq!(import(&env, &[path]).ok().json()["sessions_added"], 7);
    assert_eq!(all_of(directory), before);

    // In WAL mode and in use: what is only in the log of writes is read as well.
    let database = rusqlite::Connection::open(&source).expect("a database");
    database
        .pragma_update(None, "journal_mode", "wal")
        .expect("WAL mode");
    database
        .execute(
            "UPDATE sessions SET history_json = replace(history_json, 'Hamlet', 'Macbeth')",
            [],
        )
        .expect("written");
    assert!(source.with_file_name("sessions.db-wal").exists());
    let before = all_of(directory);
    let told = import(&env, &[path]).ok().json();
    assert_eq!(told["turns_added"], 1, "{told}");
    assert_eq!(all_of(directory), before);
    drop(database);

    // In a directory that cannot be written.
    let before = all_of(directory);
    fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).expect("a mode");
    nothing_more(&env, path);
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("a mode");
    assert_eq!(all_of(directory), before);
}

#[test]
fn an_old_database_is_found_and_told_of_once() {
    let env = TestEnv::new();
    let bytes = fs::read(fixture("python-1.2.0.db")).expect("a database");
    import(&env, &["--from", "python"]).fails(2, "usage");
    for place in [
        ".config/ollama-prompt/sessions.db",
        ".ollama-prompt/sessions.db",
    ] {
        let env = TestEnv::new();
        env.write(env.home().join(place), &bytes);
        let failed = env.chat("first").env("OLLAMA_HOST", "127.0.0.1:9").run();
        failed.fails(4, "server_unreachable");
        let first = env.chat("first").replies("1");
        assert!(
            first.stderr().contains("session import --from python"),
            "{first}"
        );
        let second = env.chat("second").replies("2");
        assert!(!second.stderr().contains("import"), "{second}");
        let told = import(&env, &["--from", "python"]).ok().json();
        assert_eq!(told["sessions_added"], 7, "{told}");
    }
    // As a store, it is none; the hint says what to do with it.
    let file = env.write("sessions.db", &bytes);
    let failed = env.chat("hi").env("OLLAMA_PROMPT_DB_PATH", &file).run();
    let hint = failed.fails(2, "config").hint.expect("a hint");
    assert!(hint.contains("session import"), "{hint}");
}

#[test]
fn what_was_purged_stays_away_unless_it_is_asked_for() {
    let env = TestEnv::new();
    import_fixture(&env, "codex.jsonl");
    env.command().args(["--purge", "0"]).run().ok();
    let told = import_fixture(&env, "codex.jsonl");
    assert_eq!(
        (&told["skipped_purged"], &told["sessions_added"]),
        (&json!(["0199a000-0000-7000-8000-00000000c0de"]), &json!(0))
    );
    let back = import(
        &env,
        &[
            "--include-purged",
            fixture("codex.jsonl").to_str().expect("UTF-8"),
        ],
    );
    assert_eq!(back.ok().json()["sessions_added"], 1);
}

#[test]
fn a_directory_is_imported_file_by_file() {
    let env = TestEnv::new();
    for name in ["codex.jsonl", "claude.jsonl", "llm-0.10.db"] {
        env.write(
            format!("all/deep/{name}"),
            fs::read(fixture(name)).expect("a fixture"),
        );
    }
    env.write("all/notes.json", "{\"of\": \"no kind\"}");
    env.write("all/picture.png", "not looked at");
    env.write("all/empty.jsonl", "");
    let told = import(&env, &["all"]).ok().json();
    assert_eq!(
        (&told["sessions_added"], &told["skipped_total"]),
        (&json!(4), &json!(1)),
        "{told}"
    );
    assert!(
        told["skipped"][0]["what"]
            .as_str()
            .expect("text")
            .ends_with("notes.json")
    );
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_of_its_directory_back() {
    let env = TestEnv::new();
    for name in ["a.jsonl", "z.jsonl"] {
        let said = json!({"messages": [
            {"role": "user", "content": name},
            {"role": "assistant", "content": "yes"},
        ]});
        env.write(format!("all/{name}"), format!("{said}\n"));
    }
    env.write(
        "all/damaged.db",
        [&b"SQLite format 3\0"[..], &[7; 500]].concat(),
    );
    let closed = env.write("all/closed.jsonl", "{}\n");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("permissions");
    // Nobody reads its first page, whoever asks.
    let broken = env.work().join("all/memory.jsonl");
    std::os::unix::fs::symlink("/proc/self/mem", broken).expect("a link");
    let told = import(&env, &["all"]).ok().json();
    assert_eq!(told["sessions_added"], 2, "{told}");
    let skipped: Vec<&str> = told["skipped"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["what"].as_str())
        .collect();
    for name in ["damaged.db", "closed.jsonl", "memory.jsonl"] {
        let named = skipped.iter().filter(|what| what.ends_with(name));
        assert_eq!(named.count(), 1, "{name}: {told}");
    }
}

#[test]
fn what_was_imported_before_it_failed_outlives_a_loss_of_power() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    for n in [1, 2] {
        make_session(&env, &id(n), &["one"]);
    }
    let export = ["session", "export", "--all", "--out", "both.jsonl"];
    env.command().args(export).run().ok();
    let dir = |n| env.store().join("sessions").join(id(n));
    for n in [1, 2] {
        fs::remove_dir_all(dir(n)).expect("a session");
    }
    let held = hold_lock(&env, &id(2));
    let run = env.command().args(["session", "import", "both.jsonl"]);
    let run = run.env("OLLAMA_PROMPT_LOCK_TIMEOUT", "0.1");
    let log = dir(1).join("events.jsonl");
    let output = traced(run, &[&log], &["trace=fdatasync"]).run();
    output.fails(7, "store_locked");
    assert_eq!(said(&env, &id(1)).len(), 2);
    assert_eq!(times_called(&env, "fdatasync"), 1, "{output}");
    drop(held);
}

/// Each session appears whole, by a rename, so a killed import leaves some of them and the next one
/// adds the others.
#[test]
fn a_killed_import_leaves_whole_sessions_and_the_next_one_ends_it() {
    if !need("strace") {
        return;
    }
    let source: String = (0..4)
        .map(|n| {
            let said = |role, text| json!({"role": role, "content": format!("{text} {n}")});
            let line = json!({"messages": [said("user", "question"), said("assistant", "answer")]});
            format!("{line}\n")
        })
        .collect();
    let mut kills = 0;
    for call in [
        "renameat",
        "renameat2",
        "mkdirat",
        "write",
        "syncfs",
        "fdatasync",
        "fsync",
    ] {
        for n in 1.. {
            let env = TestEnv::new();
            let file = env.write("chats.jsonl", &source);
            let run = env.command().args(["session", "import"]).arg(&file);
            let kill = format!("inject={call}:signal=KILL:when={n}");
            let output = traced(run, &[], &[&format!("trace={call}"), &kill]).run();
            for id in sessions(&env) {
                assert_eq!(said(&env, &id).len(), 2, "{call} {n}: {id}");
            }
            import(&env, &[file.to_str().expect("UTF-8")]).ok();
            let mut all: Vec<String> = sessions(&env)
                .iter()
                .flat_map(|id| said(&env, id))
                .collect();
            all.sort();
            let expected: Vec<String> = ["answer", "question"]
                .iter()
                .flat_map(|text| (0..4).map(move |n| format!("{text} {n}")))
                .collect();
            assert_eq!(all, expected, "{call} {n}");
            env.command().args(["session", "verify"]).run().ok();
            if output.exit_code() == Some(0) {
                break;
            }
            assert_eq!(output.signal(), Some(9), "{output}");
            kills += 1;
        }
    }
    assert!(kills >= 8, "{kills}");
}

#[test]
fn what_cannot_be_imported_is_said_and_no_store_is_made() {
    let env = TestEnv::new();
    env.write("zip.json", b"PK\x03\x04rest");
    env.write(
        "log.jsonl",
        "{\"v\":1,\"id\":\"01KAV8Z0M4ABCDEFGHJKMNPQRS\",\"type\":\"session\"}\n",
    );
    env.write("text.txt", "hello");
    env.write(
        "damaged.db",
        [&b"SQLite format 3\0"[..], &[7; 500]].concat(),
    );
    fs::create_dir(env.work().join("empty")).expect("a directory");
    let rows: [(&[&str], i32, &str, &str); 11] = [
        (&[], 2, "usage", ""),
        (&["--from", "codex"], 2, "usage", "SOURCE"),
        (&["nowhere"], 2, "usage", "nowhere"),
        (&["empty"], 2, "usage", "empty"),
        (&["zip.json"], 2, "usage", "archive"),
        (&["log.jsonl"], 2, "usage", "log of a session"),
        (&["text.txt"], 2, "usage", "no kind"),
        (&["text.txt", "--from", "python"], 2, "usage", "no database"),
        (&["damaged.db"], 2, "usage", "damaged.db"),
        (
            &["/proc/self/mem"],
            2,
            "usage",
            "cannot read `/proc/self/mem`",
        ),
        (
            &["text.txt", "--from", "elsewhere"],
            2,
            "usage",
            "elsewhere",
        ),
    ];
    for (arguments, exit, code, part) in rows {
        let failed = import(&env, arguments).fails(exit, code);
        assert!(
            failed.error.contains(part),
            "{arguments:?}: {}",
            failed.error
        );
    }
    assert_eq!(sessions(&env).len(), 0);
}
