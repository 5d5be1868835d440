//! What counts as stored: a majority has it, nothing above it says that it counts no longer, and
//! where that cannot be told, this is told.

use std::thread;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use ollama_prompt::error::Code;
use ollama_prompt::session::id::SessionId;
use ollama_prompt::store::mongo::bytes::{Bytes, Use};
use ollama_prompt::store::mongo::database::Database;
use ollama_prompt::store::mongo::document::{Lines, Position, Written};
use ollama_prompt::store::mongo::journal::{Content, Decision, Journal};
use ollama_prompt::store::mongo::patience::Patience;
use serde_json::json;

use super::journal::{append, event, events, purge, read, session, title};
use super::{connect, patience};
use crate::stored::{id, prompts};
use crate::support::mongod::{Kind, Mongod, need_mongod, run, world_in};

/// A server that can be told to fail.
fn server_that_may_fail() -> Mongod {
    let flags = ["--setParameter", "enableTestCommands=1"];
    Mongod::start(Kind::ReplicaSet, &flags, "")
}

/// Has commands done and their acknowledgement by a majority denied.
fn deny_majority(server: &Mongod, mode: Document, commands: &[&str]) {
    let data = doc! {
        "failCommands": commands.to_vec(),
        "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"},
    };
    let deny = doc! {"configureFailPoint": "failCommand", "mode": mode, "data": data};
    server.admin(deny).expect("the server may be told to fail");
}

fn titles(database: &Database, id: SessionId) -> Vec<String> {
    events(&read(database, id)).iter().map(title).collect()
}

#[test]
fn a_write_that_a_majority_does_not_acknowledge_is_asked_for_until_it_does() {
    if !need_mongod() {
        return;
    }
    let server = server_that_may_fail();
    let database = connect(&server.uri());
    let (journal, id) = (Journal::of(&database), session());
    append(&journal, id, "first").expect("kept");
    // The insert, its second try, which finds the document there, and the first question whether a
    // majority has that.
    deny_majority(&server, doc! {"times": 3}, &["insert", "update"]);
    append(&journal, id, "second").expect("kept in the end");
    let off = doc! {"configureFailPoint": "failCommand", "mode": "off"};
    let denied = server.admin(off).expect("it stops failing");
    let times = denied.get("count").map(ToString::to_string);
    assert_eq!(
        times.as_deref(),
        Some("3"),
        "it was not asked for to the end"
    );
    append(&journal, id, "third").expect("kept");
    assert_eq!(titles(&database, id), ["first", "second", "third"]);
}

#[test]
fn a_write_that_no_majority_ever_acknowledges_is_not_said_to_be_stored() {
    if !need_mongod() {
        return;
    }
    let server = server_that_may_fail();
    let database = connect(&server.uri());
    let (journal, id) = (Journal::of(&database), session());
    append(&journal, id, "first").expect("kept");
    deny_majority(&server, doc! {"times": 1_000_000}, &["insert", "update"]);
    let mut brief = Patience::of(Duration::from_millis(500));
    let decide =
        &mut |_: &[Written], at: Position| Ok(Decision::Append(vec![event(None, at, "second")]));
    let error = journal
        .append(id, Position::default(), &mut brief, decide)
        .expect_err("nobody vouches for it");
    assert_eq!(error.code, Code::StoreIo, "{error}");
    assert!(!error.code.retryable());
    assert!(error.to_string().contains("cannot tell whether"), "{error}");
}

#[test]
fn a_server_that_takes_a_write_and_does_not_answer_is_not_waited_for_without_end() {
    if !need_mongod() {
        return;
    }
    let mut server = Mongod::start(Kind::ReplicaSet, &[], "serverSelectionTimeoutMS=500");
    let database = connect(&server.uri());
    let (journal, id) = (Journal::of(&database), session());
    append(&journal, id, "first").expect("kept");
    let lock = doc! {"fsync": 1, "lock": true};
    server.admin(lock).expect("its files are locked");
    let begun = Instant::now();
    let mut brief = Patience::of(Duration::from_secs(1));
    let decide =
        &mut |_: &[Written], at: Position| Ok(Decision::Append(vec![event(None, at, "second")]));
    let error = journal
        .append(id, Position::default(), &mut brief, decide)
        .expect_err("it does not answer");
    assert_eq!(error.code, Code::StoreIo, "{error}");
    assert!(error.to_string().contains("cannot tell whether"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    server.kill();
}

/// Compacts a session as the program does: what stays once more, and that it begins there.
fn compact(journal: &Journal, id: SessionId, seen: Position, stays: &str) {
    let entry = event(None, seen, stays);
    let lines = Lines::from_iter([&entry]);
    let write = |seen, content: &Content<'_>| {
        let written = journal.write(id, seen, content, &mut patience());
        written.expect("kept").expect("nobody else writes")
    };
    let first = write(seen, &Content::Lines(&lines));
    write(first, &Content::Rest(first.n));
    journal.sweep(id, None, &mut patience()).expect("swept");
}

#[test]
fn a_writer_that_read_before_a_compaction_decides_anew() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        // How many others wrote after the stale one read and before the compaction: then its number
        // is taken, or one that was taken and removed.
        for between in 0..3 {
            let (stale, other) = (connect(&uri), connect(&uri));
            let id = session();
            for n in 0..4 {
                append(&Journal::of(&other), id, &format!("{n}")).expect("kept");
            }
            let mut asked = 0;
            let decide = &mut |_: &[Written], at: Position| {
                asked += 1;
                if asked == 1 {
                    for n in 0..between {
                        append(&Journal::of(&other), id, &format!("later {n}")).expect("kept");
                    }
                    let end = read(&other, id).last().expect("documents").at;
                    compact(&Journal::of(&other), id, end, "all of it");
                }
                Ok(Decision::Append(vec![event(None, at, "kept")]))
            };
            let appended =
                Journal::of(&stale).append(id, Position::default(), &mut patience(), decide);
            appended.expect("kept in the end");
            assert_eq!(asked, 2, "{kind:?} {between}");
            assert_eq!(
                titles(&other, id),
                ["all of it", "kept"],
                "{kind:?} {between}"
            );
            let (numbers, rest) = Journal::of(&other)
                .numbers(id, &mut patience())
                .expect("readable");
            assert_eq!(numbers, [5 + between, 6 + between, 7 + between]);
            assert_eq!(rest, None, "{kind:?} {between}");
        }
    }
}

#[test]
fn bytes_of_a_purged_session_go_and_those_of_its_next_life_stay() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let database = connect(&Mongod::database(kind));
        let (journal, bytes, id) = (Journal::of(&database), Bytes::of(&database), session());
        let owner = id.to_string();
        let put = |text: &[u8]| {
            bytes
                .put(&owner, Use::Blob, text, &mut patience())
                .expect("stored")
        };
        append(&journal, id, "first").expect("kept");
        let (_, both) = (put(b"of the first life"), put(b"of both"));
        thread::sleep(Duration::from_millis(20));
        let begun = time_of(&database);
        thread::sleep(Duration::from_millis(20));
        // Stored again before the purge removes what it found.
        let close = &mut |_: &[Written], _: Position| Ok(Decision::Close("gone".to_owned()));
        journal
            .append(id, Position::default(), &mut patience(), close)
            .expect("closed");
        assert_eq!(put(b"of both"), both);
        journal
            .will_sweep(id, &mut patience())
            .and_then(|()| journal.sweep(id, Some(begun), &mut patience()))
            .expect("swept");
        assert_eq!(
            bytes.blobs(&owner, &mut patience()).expect("listed"),
            [both]
        );
        // Somebody is about to name it: the purge is not done with.
        let left = journal.to_be_swept(&mut patience()).expect("listed");
        assert_eq!(left, [id], "{kind:?}");
        append(&journal, id, "a new life").expect("kept");
        journal.sweep(id, None, &mut patience()).expect("swept");
        assert_eq!(titles(&database, id), ["a new life"]);
        assert_eq!(
            bytes.blobs(&owner, &mut patience()).expect("listed").len(),
            1
        );
        assert_eq!(journal.to_be_swept(&mut patience()).expect("listed"), []);
        purge(&journal, id);
        assert_eq!(titles(&database, id), [""; 0]);
    }
}

fn time_of(database: &Database) -> mongodb::bson::DateTime {
    database.time(&mut patience()).expect("the server tells")
}

#[test]
fn a_compaction_that_is_killed_leaves_the_same_session_and_is_gone_on_with() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Mongod::database(kind);
        let env = world_in(uri.clone());
        let turn = |prompt: String| {
            let file = env.write("prompt.txt", prompt);
            let turn = env.command().arg("--prompt-file").arg(file);
            let turn = turn.args(["--offline", "--create"]).session(&id(1)).run();
            turn.ok().json()["turn"]["id"].as_str().map(str::to_owned)
        };
        let secret = turn(format!("SECRET {}", "word ".repeat(20_000))).expect("stored");
        for n in 0..12 {
            turn(format!("{n} {}", "word ".repeat(20_000)));
        }
        let of_it = |args: &[&str]| env.command().arg("session").args(args).run();
        of_it(&["retract", &format!("{}:{secret}", id(1))]).ok();
        let mut expected = prompts(&env, &id(1));
        let holds = |words: &str| {
            let database = uri.rsplit_once('/').expect("an address").1;
            let database = database.split('?').next().expect("a name");
            let found = doc! {"count": "events", "query": {"lines": {"$regex": words}}};
            let found = run(&uri, database, found).expect("counted");
            found.get_i32("n").expect("a number")
        };
        assert_eq!(holds("SECRET"), 1, "{kind:?}");

        let mut wait = Duration::from_millis(2);
        let mut was_in_the_middle = false;
        loop {
            let compaction = env.command().args(["session", "compact", &id(1)]).spawn();
            thread::sleep(wait);
            let output = compaction.kill9();
            assert_eq!(prompts(&env, &id(1)), expected, "{kind:?} {wait:?}");
            if output.exit_code() == Some(0) {
                break;
            }
            was_in_the_middle |= holds("\"prompt\":\"0 word") != 1;
            // Somebody goes on in between.
            let between = format!("after {wait:?}");
            turn(between.clone()).expect("stored");
            expected.push(between);
            wait = wait * 21 / 20 + Duration::from_millis(1);
        }
        assert!(
            was_in_the_middle,
            "{kind:?}: it was never killed in the middle"
        );
        of_it(&["compact", &id(1)]).ok();
        assert_eq!(holds("SECRET"), 0, "{kind:?}");
        assert_eq!(prompts(&env, &id(1)), expected, "{kind:?}");
        assert_eq!(of_it(&["verify"]).ok().json()["problems"], json!([]));
        assert_eq!(of_it(&["compact", &id(1)]).ok().json()["unchanged"], 1);
    }
}
