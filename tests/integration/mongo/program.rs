//! The program with its sessions on a server: what is killed, on either side, costs nothing that
//! was acknowledged; a server that is away is waited for by who has something to store; and no
//! password is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use ollama_prompt::clock;
use serde_json::{Value, json};

use super::killed_twice;
use crate::stored::{assert_not_stored, id, prompts};
use crate::support::mongod::{
    Kind, Mongod, certificate, database_in, need_mongod, profiled, run, world, world_in,
};
use crate::support::{Gate, NOBODY_LISTENS, Output, Reply, Run, TestEnv, need};

const PASSWORD: &str = "p%40ss%2Fw0rd";
const PASSWORD_MEANT: &str = "p@ss/w0rd";

fn said(output: &Output) -> bool {
    output.exit_code() == Some(0) && output.json()["turn"]["stored"] == true
}

/// What was asked in a session, and what of it was acknowledged.
#[derive(Debug, Default)]
struct Prompts {
    asked: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
}

/// The prompts of each session, for all who ask.
#[derive(Debug, Default)]
struct Asked(Mutex<BTreeMap<String, Prompts>>);

impl Asked {
    fn note(&self, session: &str, prompt: &str, is_acknowledged: bool) {
        let mut sessions = self.0.lock().expect("whole");
        let prompts = sessions.entry(session.to_owned()).or_default();
        prompts.asked.insert(prompt.to_owned());
        if is_acknowledged {
            prompts.acknowledged.insert(prompt.to_owned());
        }
    }

    /// Returns how many were acknowledged, and how many were not.
    fn counts(&self) -> (usize, usize) {
        let sessions = self.0.lock().expect("whole");
        let acknowledged: usize = sessions.values().map(|said| said.acknowledged.len()).sum();
        let asked: usize = sessions.values().map(|said| said.asked.len()).sum();
        (acknowledged, asked - acknowledged)
    }

    /// Asserts that of each session all that was acknowledged is there, once, and nothing that was
    /// not asked.
    fn assert_kept(self, env: &TestEnv) {
        for (session, said) in self.0.into_inner().expect("whole") {
            let there = prompts(env, &session);
            let distinct: BTreeSet<String> = there.iter().cloned().collect();
            assert_eq!(distinct.len(), there.len(), "twice: {there:?}");
            let lost: Vec<_> = said.acknowledged.difference(&distinct).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
            let unheard: Vec<_> = distinct.difference(&said.asked).collect();
            assert!(unheard.is_empty(), "never asked: {unheard:?}");
        }
        let verified = env.command().args(["session", "verify"]).run();
        assert_eq!(verified.ok().json()["problems"], json!([]), "{verified}");
    }
}

#[test]
fn a_server_that_is_killed_under_turns_loses_none_that_was_acknowledged() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let mut server = Mongod::start(kind, &[], "");
        let env = world_in(server.uri());
        let asked = Asked::default();
        let is_over = AtomicBool::new(false);
        let mut was_under_load = false;
        thread::scope(|scope| {
            for writer in 0..6 {
                let (env, asked, is_over) = (&env, &asked, &is_over);
                let session = id(1 + writer % 3);
                scope.spawn(move || {
                    let mut n = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        n += 1;
                        let prompt = format!("{writer} {n}");
                        let turn = offline(env, &session, &prompt).run();
                        asked.note(&session, &prompt, said(&turn));
                    }
                });
            }
            let acknowledged = || asked.counts().0;
            was_under_load = killed_twice(&mut server, Duration::from_millis(500), acknowledged);
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(was_under_load, "{kind:?}");
        asked.assert_kept(&env);
    }
}

/// A turn of a session, which it makes, without a model.
fn offline<'env>(env: &'env TestEnv, session: &str, prompt: &str) -> Run<'env> {
    env.chat(prompt)
        .args(["--offline", "--create"])
        .session(session)
}

/// Tells whether a turn that may have been killed was acknowledged before that.
fn was_acknowledged(output: &Output) -> bool {
    let answer = serde_json::from_str::<Value>(output.stdout());
    answer.is_ok_and(|answer| answer["turn"]["stored"] == true)
}

/// Returns a random moment in a length of time.
fn moment_in(length: Duration) -> Duration {
    let nanos = u64::try_from(length.as_nanos()).expect("no such length");
    let random = u64::try_from(clock::random_bits() % u128::from(nanos));
    Duration::from_nanos(random.expect("less than that"))
}

#[test]
fn a_program_that_is_killed_at_any_moment_leaves_whole_turns() {
    const CLIENTS: usize = 4;
    const TURNS: usize = 25;
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = world(kind);
        let asked = Asked::default();
        // As many at once as below, each of them whole.
        let begun = Instant::now();
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (env, asked) = (&env, &asked);
                scope.spawn(move || {
                    let (session, prompt) = (id(1 + client % 2), format!("{client} first"));
                    let turn = offline(env, &session, &prompt).run();
                    assert!(said(&turn), "{turn}");
                    asked.note(&session, &prompt, true);
                });
            }
        });
        let one_turn = begun.elapsed();
        let before = asked.counts();
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (env, asked) = (&env, &asked);
                scope.spawn(move || {
                    let mut reach = one_turn;
                    for n in 0..TURNS {
                        let (session, prompt) = (id(1 + client % 2), format!("{client} {n}"));
                        let turn = offline(env, &session, &prompt).spawn();
                        // From before it connects until after it is done, which is sooner or
                        // later than it was at first, as much as there is to do meanwhile.
                        thread::sleep(moment_in(reach));
                        let turn = turn.kill9();
                        let is_acknowledged = was_acknowledged(&turn);
                        reach = if is_acknowledged {
                            reach * 9 / 10
                        } else {
                            reach * 10 / 9
                        };
                        asked.note(&session, &prompt, is_acknowledged);
                    }
                });
            }
        });
        let (acknowledged, killed) = asked.counts();
        let acknowledged = acknowledged - before.0;
        assert!(
            acknowledged >= 5 && killed >= 5,
            "{kind:?}: {acknowledged} acknowledged, {killed} killed before that; one takes {one_turn:?}"
        );
        for session in [id(1), id(2)] {
            let last = offline(&env, &session, "the last").run();
            assert!(said(&last), "{last}");
            asked.note(&session, "the last", true);
        }
        asked.assert_kept(&env);
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
    assert_refused(
        &world_in(format!("mongodb://{address}/db")),
        10,
        "store_auth",
    );

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
        let database = database_in(&uri);
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

/// Returns what of the commands of a run says how safe or how fresh something has to be.
fn promises(profile: &[Document]) -> BTreeSet<String> {
    let mut promises = BTreeSet::new();
    for entry in profile {
        let Ok(command) = entry.get_document("command") else {
            continue;
        };
        let name = command.keys().next().map_or("", String::as_str);
        if name == "profile" {
            continue;
        }
        let said = ["writeConcern", "readConcern", "$readPreference"];
        let said = said.map(|key| command.get(key).map(ToString::to_string));
        let place = entry.get_str("ns").unwrap_or_default();
        let (_, collection) = place.split_once('.').unwrap_or_default();
        promises.insert(format!("{name} {collection} {said:?}"));
    }
    promises
}

#[test]
fn an_address_that_asks_for_less_changes_no_promise() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let promised = |options: &str| {
            let uri = Mongod::database(kind);
            let joint = if uri.contains('?') { '&' } else { '?' };
            let env = world_in(format!("{uri}{joint}{options}"));
            let work = || {
                assert!(said(&offline(&env, &id(1), "one").run()));
                assert!(said(&offline(&env, &id(1), "two").run()));
                assert_eq!(prompts(&env, &id(1)), ["one", "two"]);
            };
            promises(&profiled(&uri, database_in(&uri), work))
        };
        let usual = promised("appName=usual");
        let writes = usual.iter().find(|told| told.starts_with("insert events"));
        let writes = writes.expect("something was written");
        assert!(writes.contains("majority"), "{writes}");
        let less = promised("w=1&journal=false&readPreference=secondary&readConcernLevel=local");
        assert_eq!(less, usual, "{kind:?}");
    }
}

#[test]
fn a_user_who_may_only_read_can_look_and_is_refused_a_turn() {
    if !need_mongod() {
        return;
    }
    let server = Mongod::start(Kind::Standalone, &["--auth"], "");
    let root = doc! {"createUser": "root", "pwd": "secret", "roles": ["root"]};
    server.admin(root).expect("the first user is made");
    let address = |user: &str| {
        let port = server.port();
        format!("mongodb://{user}:secret@127.0.0.1:{port}/db?authSource=admin")
    };
    let roles = vec![doc! {"role": "read", "db": "db"}];
    let reader = doc! {"createUser": "reader", "pwd": "secret", "roles": roles};
    run(&address("root"), "admin", reader).expect("the second user is made");
    let owner = world_in(address("root"));
    assert!(said(&offline(&owner, &id(1), "what is there").run()));

    let env = world_in(address("reader"));
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 1, "{list}");
    assert_eq!(prompts(&env, &id(1)), ["what is there"]);
    let found = env.command().args(["session", "search", "is there"]).run();
    assert!(found.ok().stdout().contains(&id(1)), "{found}");
    let refused = env.chat("hi").session(&id(1)).run();
    let failure = refused.fails(10, "store_auth");
    assert!(failure.hint.is_some(), "{refused}");
    assert_eq!(env.server().request_count(), 0, "nobody was asked");
}
