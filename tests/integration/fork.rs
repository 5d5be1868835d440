//! `session fork` and `--fork-from`: a session that begins with the history of another.

use std::path::Path;

use serde_json::{Value, json};

use crate::stored::{id, ids, info, listed, make_session, prompts, text, traced, turns};
use crate::support::{Gate, Reply, TestEnv, need};

/// Makes a session of three turns whose settings change with the third.
fn parent(env: &TestEnv) -> String {
    let id = env
        .chat("one")
        .args(["--model", "m1", "--system", "Be brief."])
        .replies("1")
        .session_id();
    env.chat("two").session(&id).replies("2");
    env.chat("three")
        .session(&id)
        .args(["--model", "m2"])
        .replies("3");
    id
}

#[test]
fn a_fork_goes_on_from_a_turn_with_the_settings_of_then_and_leaves_its_parent_alone() {
    let env = TestEnv::new();
    let id = parent(&env);
    let said = turns(&env, &id);
    let log = env.log(&id);
    let second = text(&said[1]["id"]);

    let at_second = format!("{id}:{second}");
    let fork = env.chat("else").args(["--fork-from", &at_second]).run();
    let forked = fork.session_id();
    assert_ne!(forked, id);
    let request = env.server().last_request();
    assert_eq!(
        request.contents(),
        ["Be brief.", "one", "1", "two", "2", "else"]
    );
    assert_eq!(request.model(), "m1");
    assert_eq!(fork.json()["turn"]["parent"], *second);
    let lines = env.lines(&forked);
    let source = json!({"session": id, "turn": second});
    assert_eq!(lines[0]["forked_from"], source);
    assert_eq!(turns(&env, &forked)[..2], said[..2], "lines, ids and all");

    let all = env.chat("else").args(["--fork-from", &id]).run();
    assert_eq!(env.server().last_request().model(), "m2");
    assert_eq!(
        prompts(&env, &all.session_id()),
        ["one", "two", "three", "else"]
    );
    assert_eq!(env.log(&id), log);
    assert_eq!(listed(&env).len(), 3);
    // Each goes on by itself.
    env.chat("more").session(&forked).run().ok();
    env.chat("four").session(&id).run().ok();
    assert_eq!(prompts(&env, &forked), ["one", "two", "else", "more"]);
    assert_eq!(prompts(&env, &id), ["one", "two", "three", "four"]);
    let verified = env.command().args(["session", "verify"]).run();
    assert_eq!(verified.ok().json()["problems"], json!([]));
}

#[test]
fn the_verb_makes_one_without_a_turn() {
    let env = TestEnv::new();
    let id = parent(&env);
    let second = text(&turns(&env, &id)[1]["id"]);
    let fork = |args: &[&str]| {
        let run = env.command().args(["session", "fork"]).args(args);
        run.run().ok().json()
    };
    for args in [
        &[&*id, "--at", &second][..],
        &[&format!("{id}:{second}")],
        &[&id[id.len() - 8..], "--at", &second],
    ] {
        let made = fork(args);
        let source = json!({"session_id": id, "turn": second});
        assert_eq!(made["forked_from"], source);
        assert_eq!(made["turns"], 2);
        let made = text(&made["session_id"]);
        assert_eq!(prompts(&env, &made), ["one", "two"]);
        assert_eq!(info(&env, &made)["model_name"], "m1");
        env.chat("else").session(&made).run().ok();
        let asked = env.server().last_request().contents();
        assert_eq!(asked, ["Be brief.", "one", "1", "two", "2", "else"]);
    }
    assert_eq!(fork(&[&id])["turns"], 3);
}

#[test]
fn what_cannot_be_forked_is_said_and_nothing_is_made() {
    let env = TestEnv::new();
    let nobody = id(9);
    let fork = |from: &str| env.chat("q").args(["--fork-from", from]);
    fork(&nobody).run().fails(3, "session_not_found");
    let id = parent(&env);
    let records = env.records();
    let turn = "01KAV8Z0M4ABCDEFGHJKMNPQRS";
    fork(&format!("{id}:{turn}"))
        .run()
        .fails(3, "session_not_found");
    fork(&nobody).run().fails(3, "session_not_found");
    for wrong in ["", "null", "x", &format!("{id}:x"), &format!("{id}:")] {
        fork(wrong).run().fails(2, "usage");
    }
    let both = fork(&id).args(["--session-key", "s"]).run();
    assert!(both.fails(2, "usage").error.contains("mutually exclusive"));
    let template = fork(&id).args(["--template", "t"]).run();
    assert!(template.fails(2, "usage").error.contains("--template"));
    let verb = env.command().args(["session", "fork", &id, "--at", turn]);
    verb.run().fails(3, "session_not_found");
    assert_eq!(env.records(), records);
    // A call that fails makes no session, and its draft says what it was to be.
    let failed = fork(&id).answered(Reply::error(500, "no")).run();
    failed.fails(5, "server_error");
    assert_eq!(listed(&env).len(), 1);
    assert_eq!(env.drafts()[0]["forked_from"]["session"], *id);
}

#[test]
fn pins_horizon_and_what_is_hidden_are_carried_and_read_from_the_end() {
    let env = TestEnv::new();
    let limits = ["--max-context-tokens", "300", "--max_tokens", "40"];
    let turn = |n: usize| {
        let run = env.chat(&format!("number {n}, said in some more words"));
        let run = run.args(["--offline", "-q", "--session-key", "s"]);
        let output = run.args(limits).run();
        let json = output.ok().json();
        (text(&json["session_id"]), text(&json["turn"]["id"]))
    };
    let (id, first) = turn(0);
    let address = format!("{id}:{first}");
    env.command().args(["session", "pin", &address]).run().ok();
    let turns_taken: Vec<String> = (1..9).map(|n| turn(n).1).collect();
    let hidden = turns_taken.last().expect("a turn");
    // Appended as a redaction is: the newest turn is retracted.
    let last = env.lines(&id).last().expect("a line").clone();
    let redact = json!({"v": 1, "id": text(&last["id"]).replacen("01", "02", 1), "type": "redact",
        "ts": last["ts"], "turn": hidden});
    let log = format!("{}{redact}\n", env.log(&id));
    env.write(env.log_path(&id), log);

    let plan = |args: &[&str]| {
        let run = env.chat("what now?").args(args).args(limits);
        run.args(["--offline", "-q", "--dry-run"]).run().ok().json()["request"]["messages"].clone()
    };
    let here = plan(&["--session-id", &id]);
    assert_eq!(
        plan(&["--fork-from", &id]),
        here,
        "what would be sent is the same"
    );
    let said = here.as_array().expect("messages").clone();
    assert_eq!(said[0]["content"], "number 0, said in some more words");
    let made = env
        .command()
        .args(["session", "fork", &id])
        .run()
        .ok()
        .json();
    let made = text(&made["session_id"]);
    assert_eq!(plan(&["--session-id", &made]), here);
    let retracted = info(&env, &made)["metadata"]["retracted"].clone();
    assert_eq!(retracted, json!([hidden]));
    assert_eq!(
        info(&env, &made)["message_count"],
        info(&env, &id)["message_count"]
    );
    // Before the turn that was retracted the redaction says nothing.
    let before = format!("{id}:{}", turns_taken[3]);
    let before = env
        .command()
        .args(["session", "fork", &before])
        .run()
        .ok()
        .json();
    let before = text(&before["session_id"]);
    assert!(
        env.lines(&before)
            .iter()
            .all(|line| line["type"] != "redact")
    );
    assert_eq!(prompts(&env, &before).len(), 5);
}

#[test]
fn what_is_hidden_of_the_settings_it_began_with_is_not_in_a_fork() {
    let env = TestEnv::new();
    let begun = env.chat("one").args(["--system", "never say SECRET"]);
    let id = begun.replies("fine").session_id();
    let session = |args: &[&str]| {
        let run = env.command().arg("session").args(args).run();
        run.ok().json()
    };
    session(&["redact", "SECRET", &id]);
    let compacted = id.clone();
    for verb in [None, Some("compact")] {
        if let Some(verb) = verb {
            session(&[verb, &compacted]);
        }
        let fork = text(&session(&["fork", &id])["session_id"]);
        env.chat("two").session(&fork).replies("yes");
        let sent = env.server().last_request().contents();
        assert_eq!(sent[0], "never say [redacted]", "{verb:?}");
        let bytes: String = env.log(&fork);
        assert!(!bytes.contains("SECRET"), "{verb:?}: {bytes}");
    }
}

#[test]
fn images_of_the_turns_are_copied_and_sent_again() {
    let env = TestEnv::new();
    let image =
        |name: &str, byte: u8| env.write(name, [b"\xff\xd8\xff\xe0".as_slice(), &[byte]].concat());
    let look = |session: &[&str], name: &str, byte: u8| {
        let run = env.chat("look").args(session).arg("--image");
        run.arg(image(name, byte)).run().ok().json()
    };
    let first = look(&[], "a.jpg", b'a');
    let id = text(&first["session_id"]);
    look(&["--session-id", &id], "b.jpg", b'b');
    let blobs = |id: &str| {
        let dir = env.log_path(id).with_file_name("blobs");
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .expect("blobs")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    let at_first = format!("{id}:{}", text(&first["turn"]["id"]));
    let named = |id: &str| turns(&env, id)[0]["blobs"][0]["sha256"].clone();
    let made = env
        .command()
        .args(["session", "fork", &at_first])
        .run()
        .ok()
        .json();
    let made = text(&made["session_id"]);
    assert_eq!(
        json!(blobs(&made)),
        json!([named(&id)]),
        "and not the later one"
    );
    let fork = look(&["--fork-from", &at_first], "c.jpg", b'c');
    let fork = text(&fork["session_id"]);
    assert_eq!(blobs(&fork).len(), 2, "with its own");
    let sent = env.server().last_request().json["messages"].clone();
    assert_eq!(sent[0]["images"], json!(["/9j/4GE="]));
    assert_eq!(sent[2]["images"], json!(["/9j/4GM="]));
    env.command().args(["session", "delete", &id]).run().ok();
    env.chat("and?").session(&fork).run().ok();
    assert_eq!(
        env.server().last_request().json["messages"][0]["images"],
        sent[0]["images"]
    );
    let verified = env.command().args(["session", "verify"]).run();
    assert_eq!(verified.ok().json()["problems"], json!([]));
}

#[test]
fn a_fork_of_a_session_under_load_and_compaction_is_whole() {
    let env = TestEnv::new();
    make_session(&env, &id(1), &["the first", "the second"]);
    let id = id(1);
    std::thread::scope(|scope| {
        let (env, id) = (&env, &id);
        let turns = scope.spawn(move || {
            for n in 0..12 {
                let run = env.chat(&format!("turn {n}")).session(id);
                run.args(["--offline", "-q"]).run().ok();
            }
        });
        let compact = scope.spawn(move || {
            for _ in 0..12 {
                env.command().args(["session", "compact", id]).run().ok();
            }
        });
        for _ in 0..8 {
            let made = env.command().args(["session", "fork", id]).run();
            let made = text(&made.ok().json()["session_id"]);
            let said = prompts(env, &made);
            let expected: Vec<String> = ["the first".into(), "the second".into()]
                .into_iter()
                .chain((0..said.len() - 2).map(|n| format!("turn {n}")))
                .collect();
            assert_eq!(said, expected);
        }
        turns.join().expect("turns work");
        compact.join().expect("compactions work");
    });
    let verified = env.command().args(["session", "verify"]).run();
    assert_eq!(verified.ok().json()["problems"], json!([]));
}

#[test]
fn killed_anywhere_a_fork_is_whole_or_not_there() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = parent(&env);
    let mut kills = 0;
    for call in [
        "mkdirat",
        "openat",
        "write",
        "fdatasync",
        "fsync",
        "renameat",
        "close",
    ] {
        for n in 1.. {
            let trace = format!("trace={call}");
            let kill = format!("inject={call}:signal=KILL:when={n}");
            let run = env.command().args(["session", "fork", &id]);
            let killed = traced(run, &[] as &[&Path], &[&trace, &kill]).run();
            for (session, messages) in listed(&env) {
                assert_eq!(messages, 6, "{session} after {call} {n}");
            }
            if killed.exit_code() == Some(0) {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 20, "{kills}");
}

#[test]
fn a_fork_that_is_asked_twice_makes_two_and_its_keys_are_those_of_its_parent() {
    let env = TestEnv::new();
    let key = ["--idempotency-key", "k"];
    let id = env.chat("q").args(key).run().session_id();
    let inherited = env.chat("q").args(["--fork-from", &id]).args(key);
    inherited.run().fails(3, "idempotency_conflict");
    let gate = Gate::new();
    let mut slow = env
        .chat("slow")
        .args(["--fork-from", &id, "--idempotency-key", "l"])
        .answered(Reply::echo().held_by(&gate))
        .spawn();
    slow.wait_for_request();
    // What the parent says meanwhile is not in the fork.
    env.chat("meanwhile").session(&id).run().ok();
    gate.open();
    let forked = slow.wait().session_id();
    assert_eq!(prompts(&env, &forked), ["q", "slow"]);
    let again = env.chat("q").session(&forked).args(key).run();
    assert_eq!(again.ok().json()["turn"]["replayed"], true);
    assert_eq!(ids(&turns(&env, &forked))[0], ids(&turns(&env, &id))[0]);
    assert_eq!(env.drafts(), Vec::<Value>::new());
}
