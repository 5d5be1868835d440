//! What a turn carries besides its text: images, kept once beside the log, and the format of the
//! reply, how long the model stays loaded, how it thinks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Reply, TestEnv, need};

/// A PNG of one red pixel.
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\
\x00\x00\x00\x0cIDAT\x08\xd7c\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\x18\xdd\x8d\xb0\x00\x00\x00\x00IEND\xaeB`\x82";
const PNG_BASE64: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVQI12P4z8AAAAMBAQAY3Y2wAAAAAElFTkSuQmCC";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0rest";
const JPEG_BASE64: &str = "/9j/4HJlc3Q=";

fn blobs(env: &TestEnv, id: &str) -> PathBuf {
    env.store().join("sessions").join(id).join("blobs")
}

fn names(dir: PathBuf) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// Makes a session whose first turn has a PNG.
fn with_image(env: &TestEnv) -> String {
    let file = env.write("pictures/red.png", PNG);
    let run = env.chat("What is this?").arg("--image").arg(file);
    run.replies("A red dot.").session_id()
}

fn turns(env: &TestEnv, id: &str) -> Vec<Value> {
    let mut lines = env.lines(id);
    lines.retain(|line| line["type"] == "turn");
    lines
}

fn findings(env: &TestEnv, id: &str) -> Vec<(String, String)> {
    let report = env.command().args(["session", "verify", id]).run().json();
    let problems = ["problems", "notes", "findings"].map(|key| report[key].as_array().cloned());
    let all = problems.into_iter().flatten().flatten();
    all.map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("path"))
    })
    .collect()
}

#[test]
fn an_image_is_sent_stored_once_and_sent_again() {
    let env = TestEnv::new();
    let id = with_image(&env);
    assert_eq!(
        env.server().last_request().json["messages"],
        json!([{"role": "user", "content": "What is this?", "images": [PNG_BASE64]}])
    );
    let blob = turns(&env, &id)[0]["blobs"][0].clone();
    let sha256 = blob["sha256"].as_str().expect("a hash").to_owned();
    assert_eq!(
        blob,
        json!({"sha256": sha256, "bytes": PNG.len(), "media_type": "image/png", "name": "red.png"})
    );
    assert_eq!(names(blobs(&env, &id)), [sha256.as_str()]);
    let path = blobs(&env, &id).join(&sha256);
    assert_eq!(fs::read(&path).expect("the blob"), PNG);
    let mode = |path: PathBuf| fs::metadata(path).expect("a mode").permissions().mode() & 0o777;
    assert_eq!((mode(path), mode(blobs(&env, &id))), (0o600, 0o700));
    let log = env.log(&id);
    assert!(
        !log.contains(&PNG_BASE64[..20]) && !log.contains("pictures"),
        "{log}"
    );

    // The same bytes under another name, and another image.
    env.write("copy.png", PNG);
    env.write("b.jpg", JPEG);
    let more = env.chat("And these?").session(&id);
    more.args(["--image", "copy.png", "--image", "b.jpg"])
        .replies("Dots.")
        .ok();
    assert_eq!(names(blobs(&env, &id)).len(), 2);
    env.chat("Thanks.").session(&id).run().ok();
    let messages = env.server().last_request().json["messages"].clone();
    assert_eq!(messages[0]["images"], json!([PNG_BASE64]));
    assert_eq!(messages[2]["images"], json!([PNG_BASE64, JPEG_BASE64]));
    assert_eq!(messages[4].get("images"), None);
    assert_eq!(turns(&env, &id)[1]["blobs"][0]["name"], "copy.png");
    assert!(findings(&env, &id).is_empty());
}

#[test]
fn an_image_is_shown_planned_and_repeated_exactly() {
    let env = TestEnv::new();
    let id = with_image(&env);
    let next = || env.chat("Again.").session(&id);
    let planned = next().arg("--dry-run").run().ok().json();
    next().run().ok();
    let sent = env.server().last_request().json.clone();
    assert_eq!(planned["request"], sent);
    let shown = env.command().args(["session", "show", &id, "--context"]);
    let shown = shown.run().ok().json();
    assert_eq!((&shown["exact"], &shown["request"]), (&json!(true), &sent));
    let info = env
        .command()
        .args(["--session-info", &id])
        .run()
        .ok()
        .json();
    assert_eq!(info["messages"][0]["images"][0]["name"], "red.png");
    assert!(!info.to_string().contains(&PNG_BASE64[..20]));
}

#[test]
fn an_image_costs_1024_tokens_until_the_server_has_counted_one() {
    let env = TestEnv::new();
    env.write("a.png", PNG);
    let tokens = |run: crate::support::Run<'_>| {
        let plan = run
            .args(["--image", "a.png", "--dry-run"])
            .run()
            .ok()
            .json();
        plan["context_plan"]["tokens"].as_u64().expect("a number")
    };
    let unknown = tokens(env.chat("What is this?"));
    assert_eq!(unknown, 13 + 16 + 1024 + 16);
    let first = env.chat("What is this?").args(["--image", "a.png"]);
    let id = first
        .answered(Reply::text("Red.").counts(270, 4))
        .run()
        .session_id();
    assert_eq!(turns(&env, &id)[0]["tokens"]["prompt"], 270);
    // 270 tokens, of which the text had at least one.
    let known = tokens(env.chat("And this?").session(&id));
    assert_eq!(known, (270 + 4) + (9 + 16 + 269) + 16);
}

#[test]
fn what_is_no_image_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    env.write("text.png", "not a picture");
    env.write("empty.png", "");
    env.write("vector.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>");
    env.write("large.png", [PNG, &vec![0; 20 << 20]].concat());
    let fifo = env.work().join("pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo runs").success());
    for path in [
        "text.png",
        "empty.png",
        "vector.svg",
        "large.png",
        "pipe.png",
        "gone.png",
        ".",
        "/dev/zero",
    ] {
        for session in ["--new-session", "--no-session"] {
            let run = env.chat("hi").args(["--image", path, session]).run();
            let failure = run.fails(2, "usage");
            assert!(failure.error.contains(path), "{}", failure.error);
        }
    }
    assert_eq!(env.server().request_count(), 0);
    assert!(env.files().is_empty());
}

#[test]
fn without_a_session_an_image_leaves_no_trace() {
    let env = TestEnv::new();
    env.write("a.jpg", JPEG);
    let run = env.chat("hi").args(["--image", "a.jpg", "--no-session"]);
    run.run().ok();
    assert_eq!(
        env.server().last_request().json["messages"][0]["images"],
        json!([JPEG_BASE64])
    );
    assert!(env.files().is_empty());
}

#[test]
fn a_model_that_cannot_see_is_a_failure_that_leaves_no_session() {
    let env = TestEnv::new();
    env.write("a.jpg", JPEG);
    for (status, message) in [
        (400, "\"gemma3:270m\" does not support vision"),
        (500, "this model is missing data required for image input"),
    ] {
        let run = env.chat("hi").args(["--image", "a.jpg"]);
        let run = run.answered(Reply::error(status, message)).run();
        let failure = run.fails(5, "model_unsupported");
        assert_eq!(failure.server_message.as_deref(), Some(message));
    }
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 0);
    let image = &env.drafts()[0]["attachments"]["images"][0];
    assert_eq!(
        (&image["name"], &image["data"]),
        (&json!("a.jpg"), &json!(JPEG_BASE64))
    );
}

#[test]
fn a_missing_or_damaged_image_is_left_out_told_and_found() {
    for (damage, kind, cause) in [
        (None, "missing_blob", "not there"),
        (Some(&b"\x89PNG rotten"[..]), "damaged_blob", "damaged"),
    ] {
        let env = TestEnv::new();
        let id = with_image(&env);
        let path = blobs(&env, &id).join(&names(blobs(&env, &id))[0]);
        match damage {
            None => fs::remove_file(&path).expect("it was there"),
            Some(bytes) => drop(env.write(&path, bytes)),
        }
        let output = env.chat("Again.").session(&id).run();
        let warning = output.ok().json()["warnings"][0].clone();
        let warning = warning.as_str().expect("a warning");
        assert!(
            warning.contains("red.png") && warning.contains(cause),
            "{warning}"
        );
        let messages = env.server().last_request().json["messages"].clone();
        assert_eq!(
            messages[0],
            json!({"role": "user", "content": "What is this?"})
        );
        let run = env.command().args(["session", "verify", &id]).run();
        assert_eq!(run.exit_code(), Some(9));
        let found = findings(&env, &id);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, kind);
        assert!(
            path.ends_with(&found[0].1["sessions/".len()..]),
            "{found:?}"
        );

        // Sent once more it is there again, whole.
        let again = env
            .chat("This one.")
            .session(&id)
            .args(["--image", "pictures/red.png"]);
        again.run().ok();
        assert_eq!(fs::read(&path).expect("the blob"), PNG);
        assert!(findings(&env, &id).is_empty());
    }
}

#[test]
fn killed_between_image_and_turn_the_image_is_found_and_swept() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = env.chat("one").replies("1").session_id();
    env.write("a.png", PNG);
    let log = env.log(&id);
    // The first directory to be synced is that of the blobs: the image has its name by then.
    let killed = env
        .chat("two")
        .session(&id)
        .args(["--image", "a.png"])
        .through([
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync",
            "-e",
            "inject=fsync:signal=KILL:when=1",
        ])
        .run();
    assert_eq!(killed.signal(), Some(9));
    assert_eq!(env.log(&id), log);
    let name = names(blobs(&env, &id));
    assert_eq!(name.len(), 1);
    let found = findings(&env, &id);
    assert_eq!(found[0].0, "unreferenced_blob");
    env.command().args(["session", "compact", &id]).run().ok();
    assert_eq!(names(blobs(&env, &id)), name, "a turn may be on its way");

    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let file = fs::File::options()
        .write(true)
        .open(blobs(&env, &id).join(&name[0]));
    file.and_then(|file| file.set_modified(long_ago))
        .expect("a new time");
    env.command().args(["session", "compact", &id]).run().ok();
    assert!(names(blobs(&env, &id)).is_empty());
    assert_eq!(env.log(&id), log);
}

#[test]
fn sixteen_turns_with_one_image_on_one_session_share_a_blob() {
    let env = TestEnv::new();
    let id = env.chat("the first").replies("ready").session_id();
    env.write("a.png", PNG);
    env.server().handle(|_| Reply::echo().after_arrivals(17));
    let racers: Vec<_> = (0..16)
        .map(|n| {
            let run = env.chat(&format!("racer {n}")).session(&id);
            run.args(["--image", "a.png"]).spawn()
        })
        .collect();
    racers
        .into_iter()
        .for_each(|racer| drop(racer.wait().ok().json()));
    let turns = turns(&env, &id);
    assert_eq!(
        turns.iter().filter(|turn| turn["blobs"].is_array()).count(),
        16
    );
    assert_eq!(names(blobs(&env, &id)).len(), 1);
    assert!(
        findings(&env, &id)
            .iter()
            .all(|(kind, _)| !kind.contains("blob"))
    );
}

#[test]
fn the_image_of_a_retracted_turn_leaves_with_compaction_and_a_purge_takes_all() {
    let env = TestEnv::new();
    let id = with_image(&env);
    env.chat("Next.").session(&id).run().ok();
    let of_turn = |n: usize| {
        turns(&env, &id)[n]["id"]
            .as_str()
            .expect("an id")
            .to_owned()
    };
    let redact = json!({"v": 1, "id": format!("{}Z", &of_turn(1)[..25]), "type": "redact",
        "ts": "2026-11-22T00:00:00Z", "turn": of_turn(0)});
    env.write(env.log_path(&id), format!("{}{redact}\n", env.log(&id)));
    env.chat("After.").session(&id).run().ok();
    assert_eq!(
        env.server().last_request().json["messages"][0]["content"],
        "Next."
    );
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for name in names(blobs(&env, &id)) {
        let file = fs::File::options()
            .write(true)
            .open(blobs(&env, &id).join(name));
        file.and_then(|file| file.set_modified(long_ago))
            .expect("a new time");
    }
    env.command().args(["session", "compact", &id]).run().ok();
    assert!(names(blobs(&env, &id)).is_empty());
    assert!(
        findings(&env, &id)
            .iter()
            .all(|(kind, _)| !kind.contains("blob"))
    );

    with_image(&env);
    env.command().args(["--purge", "0"]).run().ok();
    assert!(
        env.files()
            .iter()
            .all(|file| !file.display().to_string().contains("blobs"))
    );
}

#[test]
fn a_merge_brings_images_along() {
    let env = TestEnv::new();
    let id = with_image(&env);
    let other = env.work().join("other");
    let merge = env.command().arg("session").arg("merge").arg(env.store());
    merge.env("OLLAMA_PROMPT_HOME", &other).run().ok();
    let next = env
        .chat("Again.")
        .session(&id)
        .env("OLLAMA_PROMPT_HOME", &other);
    next.run().ok();
    let messages = env.server().last_request().json["messages"].clone();
    assert_eq!(messages[0]["images"], json!([PNG_BASE64]));
}

#[test]
fn a_format_is_sent_stored_and_the_reply_passed_on() {
    let env = TestEnv::new();
    let schema = r#"{"type":"object","required":["name"],"properties":{"zebra":{"type":"string"},"name":{"type":"string"}}}"#;
    env.write("schema.json", schema);
    let json: Value = serde_json::from_str(schema).expect("JSON");
    for (flag, sent) in [("json", json!("json")), ("@schema.json", json)] {
        let run = env.chat("Who?").args(["--format", flag]);
        let output = run.answered(Reply::recorded("chat-format-json")).run();
        let body = output.ok().json();
        let reply = body["response"].as_str().expect("a reply");
        assert!(serde_json::from_str::<Value>(reply).is_ok(), "{reply}");
        assert_eq!(body.get("warnings"), None);
        assert_eq!(env.server().last_request().json["format"], sent);
        let turn = &turns(&env, &output.session_id())[0];
        assert_eq!((&turn["format"], &turn["response"]), (&sent, &json!(reply)));
        let shown = env
            .command()
            .args(["session", "show", &output.session_id(), "--context"]);
        assert_eq!(
            shown.run().ok().json()["request"],
            env.server().last_request().json
        );
    }
    let raw = String::from_utf8_lossy(&env.server().last_request().body).into_owned();
    assert!(
        raw.contains(schema),
        "the order of keys means something to a model: {raw}"
    );

    let cut = env.chat("Who?").args(["--format", "json", "--no-session"]);
    let cut = cut
        .answered(Reply::recorded("chat-format-schema-cut-by-length"))
        .run();
    let body = cut.ok().json();
    assert_eq!(body["response"], "{\"name\":\"Bob");
    let warnings = body["warnings"].to_string();
    assert!(warnings.contains("not JSON"), "{warnings}");
}

#[test]
fn a_format_that_is_none_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    for text in ["{", "[1]", "\"json\"", "", "{} x"] {
        env.write("schema.json", text);
        let run = env.chat("hi").args(["--format", "@schema.json"]).run();
        let failure = run.fails(2, "usage");
        assert!(
            failure.error.contains("schema.json"),
            "{text}: {}",
            failure.error
        );
    }
    for flag in ["xml", "@", "@gone.json", "schema.json"] {
        env.chat("hi")
            .args(["--format", flag])
            .run()
            .fails(2, "usage");
    }
    assert_eq!(env.server().request_count(), 0);
    // What only the server can judge.
    env.write("schema.json", r#"{"type":"nonsense"}"#);
    let run = env.chat("hi").args(["--format", "@schema.json"]);
    let run = run
        .answered(Reply::recorded("chat-format-bad-schema"))
        .run();
    let failure = run.fails(5, "bad_response");
    assert!(
        failure
            .server_message
            .expect("words")
            .contains("Unrecognized schema")
    );
}

#[test]
fn how_long_a_model_stays_loaded_is_passed_on() {
    let env = TestEnv::new();
    for (typed, sent) in [
        ("5m", json!("5m")),
        ("-1", json!(-1)),
        ("0", json!(0)),
        ("90", json!(90)),
        ("1h30m", json!("1h30m")),
    ] {
        env.chat("hi")
            .args(["--keep-alive", typed, "--no-session"])
            .run()
            .ok();
        assert_eq!(
            env.server().last_request().json["keep_alive"],
            sent,
            "{typed}"
        );
    }
    let asked = env.server().request_count();
    env.chat("hi")
        .args(["--keep-alive", "soon"])
        .run()
        .fails(2, "usage");
    assert_eq!(env.server().request_count(), asked);
}

#[test]
fn thinking_is_kept_apart_also_in_drafts_and_refused_by_models_that_cannot() {
    let env = TestEnv::new();
    let run = env.chat("Sky?").args(["--think=low"]);
    let output = run.answered(Reply::recorded("chat-think-level-low")).run();
    let (id, body) = (output.session_id(), output.ok().json());
    assert_eq!(
        (&body["response"], &body["thinking"]),
        (&json!("Blue."), &json!("Sky is blue.\n"))
    );
    let turn = &turns(&env, &id)[0];
    assert_eq!(
        (&turn["think"], &turn["thinking"]),
        (&json!("low"), &json!("Sky is blue.\n"))
    );
    // The server counted thinking and answer together: what the answer costs is not that.
    assert_eq!(turn["tokens"]["response"], 5 + 16);

    let broken = Reply::text("one two")
        .thinking("hm, well")
        .cut_after_chunks(2);
    let run = env
        .chat("More?")
        .session(&id)
        .arg("--think")
        .answered(broken)
        .run();
    run.fails(5, "stream_interrupted");
    let draft = &env.drafts()[0];
    assert_eq!(draft["think"], true);
    assert!(
        draft["thinking"]
            .as_str()
            .expect("thinking")
            .starts_with("hm")
    );
    let sent = env.server().last_request();
    assert!(!String::from_utf8_lossy(&sent.body).contains("Sky is blue"));

    let refused = env.chat("hi").arg("--think");
    let refused = refused
        .answered(Reply::recorded("chat-think-unsupported"))
        .run();
    refused.fails(5, "model_unsupported");
    env.chat("hi")
        .arg("--think=extreme")
        .run()
        .fails(2, "usage");
}
