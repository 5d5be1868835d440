//! The program with its sessions on a server: what is killed, on either side, costs nothing that
//! was acknowledged; a server that is away is waited for by who has something to store; and no
//! password is told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mongodb::bson::doc;
use serde_json::json;

use crate::stored::{assert_not_stored, id, prompts};
use crate::support::mongod::{Kind, Mongod, certificate, need_mongod, run, world, world_in};
use crate::support::{Gate, NOBODY_LISTENS, Output, Reply, TestEnv, need};

const PASSWORD: &str = "p%40ss%2Fw0rd";
const PASSWORD_MEANT: &str = "p@ss/w0rd";

fn said(output: &Output) -> bool {
    output.exit_code() == Some(0) && output.json()["turn"]["stored"] == true
}

/// Asserts that of each session all that was acknowledged is there, once, and nothing that was
/// not asked.
fn assert_all_kept(env: &TestEnv, acknowledged: BTreeMap<String, Vec<String>>) {
    for (session, mut said) in acknowledged {
        let mut there = prompts(env, &session);
        there.sort();
        said.sort();
        assert!(there.windows(2).all(|pair| pair[0] != pair[1]), "{there:?}");
        let is_lost = |prompt: &&String| there.binary_search(prompt).is_err();
        let lost: Vec<&String> = said.iter().filter(is_lost).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
    let verified = env.command().args(["session", "verify"]).run();
    assert_eq!(verified.ok().json()["problems"], json!([]), "{verified}");
}

#[test]
fn a_server_that_is_killed_under_turns_loses_none_that_was_acknowledged() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let mut server = Mongod::start(kind, &[], "");
        let env = world_in(server.uri());
        let sessions: Vec<String> = (1..=3).map(id).collect();
        let acknowledged = Mutex::new(BTreeMap::<String, Vec<String>>::new());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..6 {
                let (env, acknowledged, is_over) = (&env, &acknowledged, &is_over);
                let session = &sessions[writer % 3];
                scope.spawn(move || {
                    let mut n = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        n += 1;
                        let prompt = format!("{writer} {n}");
                        let turn = env.chat(&prompt).args(["--offline", "--create"]);
                        if said(&turn.session(session).run()) {
                            let mut all = acknowledged.lock().expect("whole");
                            all.entry(session.clone()).or_default().push(prompt);
                        }
                    }
                });
            }
            for _ in 0..2 {
                thread::sleep(Duration::from_secs(2));
                server.kill();
                thread::sleep(Duration::from_millis(500));
                server.restart();
            }
            thread::sleep(Duration::from_secs(2));
            is_over.store(true, Ordering::Relaxed);
        });
        let acknowledged = acknowledged.into_inner().expect("whole");
        let count: usize = acknowledged.values().map(Vec::len).sum();
        assert!(count > 20, "{kind:?}: there was no load, only {count}");
        assert_all_kept(&env, acknowledged);
    }
}

#[test]
fn a_program_that_is_killed_at_any_moment_leaves_whole_turns() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = world(kind);
        let session = id(1);
        let mut acknowledged = Vec::new();
        for n in 0..40_u64 {
            let prompt = format!("turn {n}");
            let turn = env
                .chat(&prompt)
                .args(["--offline", "--create"])
                .session(&session)
                .spawn();
            // From before it connects until after it is done.
            thread::sleep(Duration::from_millis(n * 2));
            let output = turn.kill9();
            if output.exit_code() == Some(0) && said(&output) {
                acknowledged.push(prompt);
            }
        }
        let last = env
            .chat("the last")
            .args(["--offline", "--create"])
            .session(&session)
            .run();
        assert!(said(&last), "{last}");
        acknowledged.push("the last".to_owned());
        assert_all_kept(&env, BTreeMap::from([(session, acknowledged)]));
    }
}

/// Runs a turn whose reply arrives while the server with the store is away.
fn turn_without_server(
    env: &TestEnv,
    server: &mut Mongod,
    patience: &str,
    meanwhile: impl FnOnce(&mut Mongod),
) -> Output {
    let gate = Gate::new();
    let held = Reply::text("paid for").held_by(&gate);
    let turn = env.chat("question").answered(held).session(&id(1));
    let mut turn = turn.env("OLLAMA_PROMPT_LOCK_TIMEOUT", patience).spawn();
    turn.wait_for_request();
    // A draft is on the server's disk a tenth of a second later.
    thread::sleep(Duration::from_millis(500));
    server.kill();
    gate.open();
    meanwhile(server);
    turn.wait()
}

#[test]
fn a_server_that_comes_back_while_a_turn_waits_gets_it() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let mut server = Mongod::start(kind, &[], "");
        let env = world_in(server.uri());
        env.chat("first")
            .args(["--create"])
            .session(&id(1))
            .replies("one");
        let output = turn_without_server(&env, &mut server, "50", |server| {
            // Long enough for a first attempt to fail.
            thread::sleep(Duration::from_secs(4));
            server.restart();
        });
        assert!(said(&output), "{kind:?}: {output}");
        assert_eq!(prompts(&env, &id(1)), ["first", "question"]);
    }
}

#[test]
fn a_server_that_stays_away_costs_the_store_and_not_the_reply() {
    if !need_mongod() {
        return;
    }
    let mut server = Mongod::start(Kind::ReplicaSet, &[], "");
    let env = world_in(server.uri());
    env.chat("first")
        .args(["--create"])
        .session(&id(1))
        .replies("one");
    let output = turn_without_server(&env, &mut server, "1", |_| {});
    let failure = output.prints_and_fails(7, "store_unreachable");
    assert!(failure.hint.is_some() && failure.retryable, "{output}");
    assert_not_stored(&output, "paid for");

    server.restart();
    thread::sleep(Duration::from_secs(13));
    let drafts = env.command().args(["session", "drafts"]).run().ok().json();
    let drafts = drafts["drafts"].as_array().expect("drafts");
    let is_there = drafts.iter().any(|draft| draft["prompt"] == "question");
    assert!(is_there, "{drafts:?}");
    assert_eq!(prompts(&env, &id(1)), ["first"]);
}

#[track_caller]
fn assert_refused(env: &TestEnv, exit: i32, code: &str) {
    let asked = env.server().request_count();
    for args in [
        &["--prompt", "hi"][..],
        &["--list-sessions"],
        &["--prompt", "hi", "-v"],
    ] {
        let output = env.command().args(args).run();
        let failure = output.fails(exit, code);
        assert!(failure.hint.is_some(), "{output}");
        for secret in [PASSWORD, PASSWORD_MEANT, "w0rd"] {
            assert!(!output.stderr().contains(secret), "{output}");
        }
    }
    assert_eq!(env.server().request_count(), asked, "nobody was asked");
    let output = env.chat("hi").arg("--no-session").replies("hello");
    output.ok();
}

#[test]
fn a_server_that_cannot_be_used_is_told_before_the_model_is_asked() {
    if !need_mongod() || !need("openssl") {
        return;
    }
    let address = NOBODY_LISTENS.trim_start_matches("http://");
    let down = world_in(format!("mongodb://u:{PASSWORD}@{address}/db"));
    assert_refused(&down, 7, "store_unreachable");

    let server = Mongod::start(Kind::Standalone, &["--auth"], "");
    let user = doc! {"createUser": "u", "pwd": "another", "roles": ["root"]};
    server
        .admin(user)
        .expect("the first user is made from the machine itself");
    let address = format!("127.0.0.1:{}", server.port());
    let login = format!("mongodb://u:{PASSWORD}@{address}/db?authSource=admin");
    assert_refused(&world_in(login), 10, "store_auth");
    assert_refused(&world_in(format!("mongodb://{address}/db")), 10, "store_auth");

    let directory = tempfile::tempdir().expect("a directory");
    let file = certificate(directory.path());
    let flags = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile"];
    let flags = [&flags[..], &[file.to_str().expect("a name")]].concat();
    let ca = directory.path().join("cert.pem");
    let options = format!("tls=true&tlsCAFile={}", ca.display());
    let server = Mongod::start(Kind::Standalone, &flags, &options);
    let address = format!("mongodb://u:{PASSWORD}@127.0.0.1:{}/db", server.port());
    assert_refused(&world_in(format!("{address}?tls=true")), 11, "store_tls");
    assert_refused(&world_in(address), 11, "store_tls");
    let right = world_in(server.uri());
    right.chat("hi").replies("hello");
}

#[test]
fn an_address_that_is_none_is_told_without_it() {
    let env = world_in(format!("mongodb://u:{PASSWORD}/x@h/db"));
    let output = env.chat("hi").run();
    let failure = output.fails(2, "config");
    assert!(failure.error.contains("OLLAMA_PROMPT_DB_URI"), "{output}");
    assert!(!output.stderr().contains("w0rd"), "{output}");
}

#[test]
fn a_session_longer_than_a_document_is_gone_on_with() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = world(kind);
        env.server().set_context_length(10_000_000);
        let file = env.write("long.txt", "many words ".repeat(1_800_000));
        let file = file.to_str().expect("a name");
        let turn = env
            .command()
            .args(["--prompt-file", file, "--max-context-tokens", "9000000"]);
        let session = turn.replies("long").session_id();
        env.chat("short").session(&session).replies("short");
        let shown = prompts(&env, &session);
        assert_eq!(
            shown.iter().map(String::len).collect::<Vec<_>>(),
            [19_800_000, 5]
        );
        let export = env.command().args(["session", "export", &session]).run();
        assert!(export.ok().stdout_bytes().len() > 19_800_000);
    }
}

#[test]
fn a_document_that_somebody_removed_is_missed() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        let env = world_in(uri.clone());
        for prompt in ["one", "two", "three"] {
            env.chat(prompt)
                .arg("--create")
                .session(&id(1))
                .replies("yes");
        }
        let verify = || env.command().args(["session", "verify"]).run();
        assert_eq!(verify().ok().json()["problems"], json!([]));
        let database = uri.rsplit_once('/').expect("an address").1;
        let database = database.split('?').next().expect("a name");
        let which = doc! {"q": {"s": id(1), "n": 2}, "limit": 1};
        let removed = run(
            &uri,
            database,
            doc! {"delete": "events", "deletes": [which]},
        );
        assert_eq!(removed.expect("removed").get_i32("n").ok(), Some(1));
        let output = verify();
        output.prints_and_fails(9, "damaged");
        assert!(output.stdout().contains("document 2"), "{output}");
        assert_eq!(prompts(&env, &id(1)), ["one", "three"]);
        env.chat("four").session(&id(1)).replies("yes");
        assert_eq!(prompts(&env, &id(1)), ["one", "three", "four"]);
    }
}
