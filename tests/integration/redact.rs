//! `session redact`: text that fits is in no output, in no request, and after a compaction in no
//! file; what was looked for never is in any.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Gate, Output, Reply, TestEnv};

const SECRET: &str = "hunter2-ключ";
/// What is looked for, and has nothing of the secret in it that a file could have by itself.
const PATTERN: &str = r"hun\w{4}-\p{Cyrillic}+";

fn redact<'a>(env: &TestEnv, args: impl IntoIterator<Item = &'a str>) -> Output {
    env.command().args(["session", "redact"]).args(args).run()
}

/// Asserts that no file of the home has a text.
#[track_caller]
fn nowhere(env: &TestEnv, text: &str) {
    for (file, bytes) in env.snapshot() {
        let content = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!content.contains(text), "{}: {content}", file.display());
    }
}

/// A session that has the secret wherever one can be, and a draft of a turn that failed.
fn told_everywhere(env: &TestEnv) -> String {
    let with = |text: &str| format!("{text} {SECRET}.");
    let reply = Reply::text(with("noted:")).thinking(&with("hm:"));
    let id = env
        .chat(&with("my password is"))
        .args([
            "--system",
            &with("the system knows"),
            "--option",
            &format!("stop={SECRET}"),
        ])
        .answered(reply)
        .run()
        .session_id();
    let title = [
        &id,
        "--title",
        &with("about"),
        "--tag",
        SECRET,
        "--tag",
        "plain",
    ];
    env.command()
        .args(["session", "update"])
        .args(title)
        .run()
        .ok();
    env.chat("and another").session(&id).replies("yes");
    let failed = env.chat(&with("once more:")).session(&id);
    let error = Reply::error(500, &with("boom"));
    failed.answered(error).run().fails(5, "server_error");
    env.command().arg("--list-sessions").run().ok();
    id
}

/// Asserts that nothing the program prints or sends has the secret.
#[track_caller]
fn unseen(env: &TestEnv, id: &str) {
    let list = ["--list-sessions"];
    let show = ["session", "show", id];
    let context = ["session", "show", id, "--context"];
    let drafts = ["session", "drafts"];
    let dry_run = ["--session-id", id, "--prompt", "x", "--dry-run"];
    let search = ["session", "search", "."];
    let export = ["session", "export", "--all"];
    let stats = ["session", "stats"];
    let outputs = [
        &list[..],
        &show,
        &context,
        &drafts,
        &dry_run,
        &search,
        &export,
        &stats,
    ];
    for args in outputs {
        let output = env.command().args(args).run();
        assert!(!output.ok().stdout().contains(SECRET), "{output}");
    }
    for turn in env.lines(id).iter().filter(|line| line["type"] == "turn") {
        let turn = turn["id"].as_str().expect("an id");
        let context = format!("--context={turn}");
        let output = env.command().args(["session", "show", id, &context]).run();
        assert!(!output.ok().stdout().contains(SECRET), "{output}");
    }
    env.chat("what do you know?").session(id).replies("little");
    let sent = env.server().last_request().contents().join("\n");
    assert!(!sent.contains(SECRET), "{sent}");
}

#[test]
fn text_that_fits_is_seen_nowhere_and_then_is_nowhere() {
    let env = TestEnv::new();
    let id = told_everywhere(&env);
    let report = redact(&env, [PATTERN, &id]).ok().json();
    assert_eq!(report["sessions"][0]["session_id"], id.as_str());
    assert_eq!(
        report["drafts"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );
    assert_eq!(report["to_compact"], json!([id]));
    let message = report["message"].as_str().expect("a sentence");
    assert!(
        message.contains(&format!("session compact {id}")),
        "{message}"
    );

    unseen(&env, &id);
    let info = env
        .command()
        .args(["session", "show", &id])
        .run()
        .ok()
        .json();
    assert_eq!(info["messages"][0]["content"], "my password is [redacted].");
    assert_eq!(info["messages"][1]["content"], "noted: [redacted].");
    assert_eq!(info["messages"][1]["thinking"], "hm: [redacted].");
    assert_eq!(info["system_prompt"], "the system knows [redacted].");
    assert_eq!(info["metadata"]["title"], "about [redacted].");
    assert_eq!(
        info["metadata"]["tags"],
        json!(["plain"]),
        "the other tag stays"
    );
    assert_eq!(info["unfinished"][0]["prompt"], "once more: [redacted].");

    let before = env.log(&id);
    let again = redact(&env, [PATTERN, &id]).ok().json();
    assert_eq!(again["matches"], 0, "{again}");
    assert_eq!(
        again["to_compact"],
        json!([id]),
        "the bytes are still there"
    );
    assert_eq!(env.log(&id), before, "a second time writes nothing");

    env.command().args(["session", "compact", &id]).run().ok();
    nowhere(&env, SECRET);
    nowhere(&env, PATTERN);
    unseen(&env, &id);
    assert_eq!(
        redact(&env, [PATTERN, &id]).ok().json()["to_compact"],
        json!([])
    );
    env.command().args(["session", "verify"]).run().ok();
}

#[test]
fn a_merge_does_not_bring_it_back() {
    let env = TestEnv::new();
    let id = told_everywhere(&env);
    let copy = env.work().join("copy");
    let sessions = copy.join("sessions").join(&id);
    fs::create_dir_all(&sessions).expect("a copy");
    fs::copy(env.log_path(&id), sessions.join("events.jsonl")).expect("a copy");
    redact(&env, [PATTERN, "--all", "--compact"]).ok();
    nowhere(&env, SECRET);

    let mut watch = env.command().args(["session", "watch"]).spawn();
    watch.wait_for_stderr("watching");
    let copy = copy.to_str().expect("UTF-8");
    env.command().args(["session", "merge", copy]).run().ok();
    assert!(
        env.log(&id).contains(SECRET),
        "the bytes are back: {}",
        env.log(&id)
    );
    unseen(&env, &id);
    watch.wait_for_stdout("what do you know?");
    watch.signal(2);
    let watched = watch.wait();
    assert!(!watched.stdout().contains(SECRET), "{watched}");
    env.command().args(["session", "compact", &id]).run().ok();
    assert!(!env.log(&id).contains(SECRET), "{}", env.log(&id));
}

#[test]
fn what_is_watched_from_its_beginning_is_watched_without_it() {
    let env = TestEnv::new();
    let id = told_everywhere(&env);
    redact(&env, [PATTERN, &id]).ok();
    let mut watch = env
        .command()
        .args(["session", "watch", &id, "--from-start"])
        .spawn();
    watch.wait_for_stdout("\"redact\"");
    watch.signal(2);
    let watched = watch.wait();
    let text = watched.stdout();
    assert!(text.contains("my password is [redacted]."), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn what_is_left_behind_is_ranges_and_a_hash_that_proves_the_text() {
    use sha2::{Digest, Sha256};
    let env = TestEnv::new();
    let id = env
        .chat("ab SECRET c SECRET")
        .replies("SECRET")
        .session_id();
    redact(&env, ["--fixed", "SECRET", &id]).ok();
    let event = env.lines(&id).pop().expect("a line");
    assert_eq!(
        event["fields"],
        json!({"prompt": [[3, 9], [12, 18]], "response": [[0, 6]]})
    );
    assert_eq!(event["original"], json!({"prompt": 18, "response": 6}));
    let salt = event["salt"].as_str().expect("a salt");
    let digest = Sha256::digest(format!("{salt}SECRETSECRETSECRET"));
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(event["hash"], hash);

    let other = env.chat("4711").run().session_id();
    redact(&env, ["--no-hash", "4711", &other]).ok();
    let event = env.lines(&other).pop().expect("a line");
    assert_eq!(
        (event.get("salt"), event.get("hash")),
        (None, None),
        "{event}"
    );
}

#[test]
fn patterns_may_come_from_a_file_or_standard_input_and_one_that_is_none_is_not_repeated() {
    let env = TestEnv::new();
    let id = env.chat("one SECRET and one OTHER").run().session_id();
    let list = env.write("patterns", "SE\\w+\n\nOTHER\n");
    let list = list.to_str().expect("UTF-8");
    let would = redact(&env, ["--pattern-file", list, &id, "--dry-run"])
        .ok()
        .json();
    assert_eq!(
        (&would["matches"], &would["dry_run"]),
        (&json!(4), &json!(true))
    );
    assert!(env.log(&id).contains("SECRET"));
    let args = ["session", "redact", "--pattern-file", "-", "--all"];
    let run = env.command().args(args).stdin("OTHER\n").run();
    assert_eq!(run.ok().json()["matches"], 2);
    let info = env
        .command()
        .args(["session", "show", &id])
        .run()
        .ok()
        .json();
    assert_eq!(
        info["messages"][0]["content"],
        "one SECRET and one [redacted]"
    );

    let bad = redact(&env, ["sec(ret", "--all"]);
    let failure = bad.fails(2, "usage");
    assert!(!failure.json.to_string().contains("sec(ret"), "{bad}");
    assert!(
        failure.error.contains("unclosed group"),
        "{}",
        failure.error
    );
    let list = env.write("bad", "fine\nsec(ret\n");
    let list = list.to_str().expect("UTF-8");
    let failure = redact(&env, ["--pattern-file", list, "--all"]).fails(2, "usage");
    assert!(failure.error.contains("pattern 2"), "{}", failure.error);
    for args in [&["x"][..], &["x", &id, "--all"], &["--all"]] {
        redact(&env, args.iter().copied()).fails(2, "usage");
    }
    redact(&env, ["x", "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33"]).fails(3, "session_not_found");
}

#[test]
fn what_is_said_in_json_is_found_as_it_was_said() {
    let env = TestEnv::new();
    let id = env.chat("a \"quoted\"\tsecret\u{85}\n").run().session_id();
    let report = redact(&env, ["\"quoted\"\\s+secret", &id]).ok().json();
    assert_eq!(report["matches"], 2, "prompt and reply: {report}");
    let escapes = redact(&env, [r"\\u0085|\\n|\\t", &id]).ok().json();
    assert_eq!(escapes["matches"], 0, "{escapes}");
}

#[test]
fn a_summary_that_may_tell_goes_and_so_do_its_bytes() {
    let env = TestEnv::new();
    let id = env.chat("the code is SECRET").replies("noted").session_id();
    for n in 0..3 {
        let long = format!("question {n} {}", "and words ".repeat(300));
        env.chat(&long).session(&id).replies("answer");
    }
    let prune = [
        "session",
        "prune",
        &id,
        "--strategy",
        "summarize",
        "--to",
        "1200",
    ];
    let summary = Reply::text("They told a code in other words.");
    let pruned = env.command().args(prune).answered(summary).run();
    assert_eq!(pruned.ok().json()["summarized"], true, "{pruned}");
    let tells = "in other words";
    assert!(env.log(&id).contains(tells), "{}", env.log(&id));
    redact(&env, ["SECRET", &id, "--compact"]).ok();
    env.chat("go on").session(&id).replies("yes");
    let sent = env.server().last_request().contents().join("\n");
    assert!(!sent.contains(tells), "{sent}");
    nowhere(&env, tells);
    nowhere(&env, "SECRET");
}

#[test]
fn a_turn_under_way_is_told_of() {
    let env = TestEnv::new();
    let id = env.chat("one SECRET").replies("fine").session_id();
    let gate = Gate::new();
    let reply = Reply::text("SECRET").held_by(&gate);
    let mut turn = env.chat("two").session(&id).answered(reply).spawn();
    turn.wait_for_request();
    let output = redact(&env, ["SECRET", &id]);
    let report = output.ok().json();
    assert_eq!(report["matches"], 1);
    assert_eq!(report["under_way"].as_array().map(Vec::len), Some(1));
    assert!(output.stderr().contains("redact again"), "{output}");
    gate.open();
    turn.wait().ok();
    assert_eq!(
        redact(&env, ["SECRET", &id]).ok().json()["matches"],
        1,
        "the reply"
    );
}

#[test]
fn damage_that_was_moved_aside_is_told_of_and_can_be_removed() {
    let env = TestEnv::new();
    let id = env.chat("one SECRET").replies("fine").session_id();
    let log = env.log(&id);
    env.write(
        env.log_path(&id),
        format!("{log}garbage with SECRET in it\n"),
    );
    let output = redact(&env, ["SECRET", &id, "--compact"]);
    let report = output.ok().json();
    let warning = report["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("--drop-damaged"), "{warning}");
    redact(&env, ["SECRET", &id, "--drop-damaged"]).ok();
    nowhere(&env, "SECRET");
}

#[test]
fn sessions_that_do_not_say_it_are_not_touched() {
    let env = TestEnv::new();
    let told = env.chat("a SECRET").replies("fine").session_id();
    let other = env.chat("hello").replies("hello").session_id();
    let before = (env.log(&told), env.log(&other));
    let would = redact(&env, ["SECRET", "--all", "--dry-run"]).ok().json();
    assert_eq!(would["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!((env.log(&told), env.log(&other)), before);
    redact(&env, ["SECRET", "--all"]).ok();
    assert_eq!(env.log(&other), before.1);
    let newer = before.0.replace("{\"v\":1,", "{\"v\":2,");
    env.write(env.log_path(&told), newer);
    let refused: Value = redact(&env, ["SECRET", "--all"])
        .prints_and_fails(7, "store_unsupported")
        .json;
    assert_eq!(refused["session_id"], told.as_str());
}

/// Writes `config.toml`.
fn configured(patterns: &str) -> TestEnv {
    let env = TestEnv::new();
    let config = env.store().join("config.toml");
    env.write(&config, format!("[redact]\npatterns = {patterns}\n"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(env.store(), mode).expect("a mode");
    env
}

#[test]
fn what_is_never_to_be_stored_is_not_stored_by_the_config_either() {
    let env = configured("['hunter\\d']");
    let config = env.store().join("config.toml");
    let redact = fs::read_to_string(&config).expect("a file");
    env.write(&config, format!("system = 'say hunter1'\n{redact}"));
    let id = env.chat("hi").replies("hello").session_id();
    let sent = env.server().last_request().contents();
    assert_eq!(sent[0], "say [redacted]");
    assert!(!env.log(&id).contains("hunter"));
}

/// Goes on with a session until some of it leaves the context by hand, summed up as `summary`.
fn summarized(env: &TestEnv, id: &str, summary: &str) -> Output {
    for n in 0..3 {
        let long = format!("question {n} {}", "and words ".repeat(300));
        env.chat(&long).session(id).replies("answer");
    }
    let prune = ["session", "prune", id, "--strategy", "summarize"];
    let run = env.command().args(prune).args(["--to", "1200"]);
    run.answered(Reply::text(summary)).run()
}

#[test]
fn what_is_never_to_be_stored_is_in_no_summary_of_a_pruning_by_hand() {
    let env = configured("['hunter\\d']");
    let id = env.chat("the first").replies("noted").session_id();
    let pruned = summarized(&env, &id, "They said hunter2.");
    let printed = pruned.ok().json();
    assert_eq!(printed["summarized"], true, "{pruned}");
    let warning = printed["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("1 stretch"), "{warning}");
    assert!(env.log(&id).contains("They said [redacted]."));
    nowhere(&env, "hunter2");
}

#[test]
fn a_template_that_is_redacted_takes_no_summary_along() {
    let env = TestEnv::new();
    let save = ["template", "save", "weekly-SECRET", "--system", "be brief"];
    env.command().args(save).run().ok();
    let begun = env.chat("the first").args(["--template", "weekly-SECRET"]);
    let id = begun.replies("noted").session_id();
    let pruned = summarized(&env, &id, "They greeted each other.");
    assert_eq!(pruned.ok().json()["summarized"], true, "{pruned}");
    redact(&env, ["SECRET", &id, "--compact"]).ok();
    env.chat("go on").session(&id).replies("yes");
    let sent = env.server().last_request().contents().join("\n");
    assert!(sent.contains("They greeted each other."), "{sent}");
    assert!(!env.log(&id).contains("SECRET"));
}

#[test]
fn what_is_never_to_be_stored_is_not_even_sent() {
    let env = configured("['hunter\\d', 'se.cret']");
    let file = env.write("notes.txt", "the file says hunter3");
    let prompt = format!("my password is hunter2, see @{}", file.display());
    let reply = Reply::text("noted: hunter2").thinking("hm: se-cret");
    let output = env
        .chat(&prompt)
        .args(["--system", "never say hunter1"])
        .args([
            "--repo-root",
            file.parent().and_then(|p| p.to_str()).expect("UTF-8"),
        ])
        .answered(reply)
        .run();
    let printed = output.ok().json();
    assert_eq!(
        printed["response"], "noted: hunter2",
        "it is printed as it came"
    );
    let warning = printed["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("5 stretches"), "{warning}");
    let sent = env.server().last_request().contents().join("\n");
    assert!(sent.contains("my password is [redacted]"), "{sent}");
    assert!(sent.contains("the file says [redacted]"), "{sent}");
    let id = output.session_id();
    let log = env.log(&id);
    assert!(!log.contains("hunter") && !log.contains("se-cret"), "{log}");
    assert!(log.contains("noted: [redacted]"), "{log}");
    let shown = ["session", "show", &id, "--context"];
    assert_eq!(env.command().args(shown).run().ok().json()["exact"], true);

    let broken = Reply::text("half of hunter4 and more").no_done();
    let failed = env.chat("and hunter5").session(&id).answered(broken).run();
    assert_ne!(failed.exit_code(), Some(0));
    let drafts = format!("{:?}", env.drafts());
    assert!(
        drafts.contains("half of [redacted]") && !drafts.contains("hunter"),
        "{drafts}"
    );
    let plain = env.chat("nothing of it").session(&id).run().ok().json();
    assert_eq!(plain.get("warnings"), None);
    let stateless = env.chat("hunter6").arg("--no-session").run();
    assert!(stateless.ok().json()["warnings"][0].is_string());
    assert_eq!(env.server().last_request().contents(), ["[redacted]"]);
}
