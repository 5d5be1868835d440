//! `session copy`: sessions from files to a server and back are the same sessions, byte for byte,
//! also when a copy is killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use mongodb::bson::doc;
use ollama_prompt::store::{Location, Uri};
use serde_json::Value;

use crate::copy::assert_a_purge_meanwhile_counts;
use crate::list::{Left, leave};
use crate::stored::{id, make_session};
use crate::support::TestEnv;
use crate::support::mongod::{Kind, Mongod, need_mongod, run};

/// The lines of a session, and the bytes of its blobs.
type Whole = (BTreeSet<String>, BTreeMap<String, Vec<u8>>);

/// Returns everything that is in a store of files.
fn everything(store: &Path) -> BTreeMap<String, Whole> {
    let mut all = BTreeMap::new();
    for session in std::fs::read_dir(store.join("sessions")).expect("a store") {
        let session = session.expect("a directory").path();
        if !session.is_dir() {
            continue;
        }
        let log = std::fs::read_to_string(session.join("events.jsonl")).expect("a log");
        let mut blobs = BTreeMap::new();
        if let Ok(files) = std::fs::read_dir(session.join("blobs")) {
            for file in files {
                let path = file.expect("a file").path();
                let name = path
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                blobs.insert(name, std::fs::read(path).expect("readable"));
            }
        }
        let name = session
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        all.insert(name, (log.lines().map(str::to_owned).collect(), blobs));
    }
    all
}

fn copy(env: &TestEnv, args: &[&str]) -> Value {
    let output = env.command().args(["session", "copy"]).args(args).run();
    output.ok().json()
}

/// Asserts how many sessions were added and changed, and how many events were added.
#[track_caller]
fn assert_copied(copied: &Value, added: u64, changed: u64, events: u64) {
    let keys = ["sessions_added", "sessions_changed", "events_added"];
    let found = keys.map(|key| copied[key].as_u64().expect("a number"));
    assert_eq!(found, [added, changed, events], "{copied}");
}

/// Makes four sessions in files: of one turn and of several, with an image, with a title.
fn four_sessions() -> TestEnv {
    let env = TestEnv::new();
    for n in 1..=4 {
        let prompts = ["one", "two ü \u{2028} three", "four"];
        make_session(&env, &id(n), &prompts[..n.min(3)]);
    }
    let picture = env.write("p.png", b"\x89PNG\r\n\x1a\nnot much of a picture");
    let turn = env.chat("see").session(&id(2)).arg("--image").arg(picture);
    turn.replies("seen");
    let title = ["session", "update", &id(3), "--title", "three"];
    env.command().args(title).run().ok();
    env
}

#[test]
fn sessions_come_back_from_a_server_as_they_were() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = four_sessions();
        let uri = Mongod::database(kind);
        let there = copy(&env, &["--to", &uri]);
        assert_eq!(
            (&there["sessions_added"], &there["blobs"]),
            (&4.into(), &1.into()),
            "{there}"
        );
        assert_eq!(there["to"], uri.split('?').next().expect("an address"));

        let back = env.work().join("back");
        let back_name = back.to_str().expect("a name");
        let returned = copy(&env, &["--from", &uri, "--to", back_name]);
        assert_eq!(returned["sessions_added"], 4, "{returned}");
        assert_eq!(everything(&back), everything(&env.store()), "{kind:?}");
        let list = |run: crate::support::Run<'_>| run.arg("--list-sessions").run().ok().json();
        let here = list(env.command());
        assert_eq!(list(env.command().env("OLLAMA_PROMPT_DB_URI", &uri)), here);
        assert_eq!(list(env.command().env("OLLAMA_PROMPT_HOME", &back)), here);
    }
}

#[test]
fn what_came_later_follows_and_nothing_else() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = four_sessions();
        let uri = Mongod::database(kind);
        copy(&env, &["--to", &uri]);
        let again = copy(&env, &["--to", &uri]);
        assert_copied(&again, 0, 0, 0);
        assert_eq!(again["sessions_unchanged"], 4, "{again}");

        let on_server = env.chat("on the server").session(&id(1));
        let on_server = on_server.env("OLLAMA_PROMPT_DB_URI", &uri);
        on_server.replies("there");
        env.chat("in files").session(&id(1)).replies("here");
        assert_copied(&copy(&env, &["--to", &uri]), 0, 1, 1);
        assert_copied(&copy(&env, &["--from", &uri]), 0, 1, 1);
        assert_copied(&copy(&env, &["--to", &uri]), 0, 0, 0);
    }
}

#[test]
fn what_was_purged_on_the_server_stays_out_unless_it_is_asked_for() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = four_sessions();
        let uri = Mongod::database(kind);
        copy(&env, &["--to", &uri]);
        let delete = env.command().args(["session", "delete", &id(4)]);
        delete.env("OLLAMA_PROMPT_DB_URI", &uri).run().ok();
        let without = copy(&env, &["--to", &uri]);
        assert_eq!(without["skipped_purged"], serde_json::json!([id(4)]));
        assert_copied(&without, 0, 0, 0);
        let brought = copy(&env, &["--to", &uri, "--include-purged", &id(4)]);
        assert_eq!(brought["sessions_added"], 1, "{brought}");
    }
}

#[test]
fn a_session_that_is_purged_while_others_are_copied_stays_out() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let uri = Uri::new(Mongod::database(kind)).expect("an address");
        assert_a_purge_meanwhile_counts(&Location::Database(uri));
    }
}

/// Leaves many short sessions in files.
fn many_sessions(count: u64) -> TestEnv {
    let env = TestEnv::new();
    for n in 0..count {
        let left = Left {
            n,
            model: "m:1b",
            day: 0,
            turns: 1,
            set: serde_json::json!({}),
        };
        leave(&env.store(), &left);
    }
    env
}

/// Returns how many sessions a server has; each must be whole.
fn whole_sessions(env: &TestEnv, uri: &str) -> u64 {
    let list = env.command().arg("--list-sessions");
    let list = list.env("OLLAMA_PROMPT_DB_URI", uri).run().ok().json();
    for session in list["sessions"].as_array().expect("sessions") {
        assert_eq!(session["message_count"], 2, "a session in part: {session}");
    }
    list["total"].as_u64().expect("a number")
}

/// Kills copies to a server, each a little later than the one before, until one was killed in the
/// middle. `false` where they were through before that.
fn kill_in_the_middle(env: &TestEnv, uri: &str, sessions: u64) -> bool {
    let mut wait = Duration::from_millis(10);
    loop {
        let args = ["session", "copy", "--to", uri];
        let running = env.command().args(args).spawn();
        thread::sleep(wait);
        running.kill9();
        match whole_sessions(env, uri) {
            0 => wait += wait / 8,
            there => return there < sessions,
        }
    }
}

#[test]
fn a_copy_that_is_killed_is_gone_on_with() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let sessions = 200;
        let env = many_sessions(sessions);
        let in_the_middle = (0..5).find_map(|_| {
            let uri = Mongod::database(kind);
            kill_in_the_middle(&env, &uri, sessions).then_some(uri)
        });
        let uri = in_the_middle.expect("a copy is killed in the middle");
        let rest = copy(&env, &["--to", &uri]);
        let count = |key: &str| rest[key].as_u64().expect("a number");
        let all = count("sessions_added") + count("sessions_unchanged");
        assert_eq!(all, sessions, "{kind:?}: {rest}");
        let back = env.work().join("back");
        let back_name = back.to_str().expect("a name");
        copy(&env, &["--from", &uri, "--to", back_name]);
        assert_eq!(everything(&back), everything(&env.store()), "{kind:?}");
    }
}

#[test]
fn a_source_that_goes_away_ends_the_copy_with_its_failure() {
    if !need_mongod() {
        return;
    }
    let env = many_sessions(500);
    let mut server = Mongod::start(Kind::Standalone, &[], "");
    let uri = server.uri();
    copy(&env, &["--to", &uri]);
    let back = env.work().join("back");
    let args = ["session", "copy", "--from", &uri, "--to"];
    let mut running = env.command().args(args).arg(&back).spawn();
    running.wait_until(|| {
        let sessions = std::fs::read_dir(back.join("sessions"));
        sessions.is_ok_and(|mut sessions| sessions.next().is_some())
    });
    server.kill();
    let output = running.wait();
    output.fails(7, "store_unreachable");
    assert!(everything(&back).len() < 500, "it was through before that");

    server.restart();
    env.command().args(args).arg(&back).run().ok();
    assert_eq!(everything(&back), everything(&env.store()));
}

#[test]
fn of_several_receipts_the_newest_is_kept_and_a_copy_made_again_changes_nothing() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = TestEnv::new();
        let uri = Mongod::database(kind);
        // Purged twice here: two receipts of one session.
        for prompt in ["first life", "second life"] {
            make_session(&env, &id(1), &[prompt]);
            let delete = ["session", "delete", &id(1)];
            env.command().args(delete).run().ok();
        }
        make_session(&env, &id(2), &["another"]);
        let documents = || {
            let database = uri.rsplit_once('/').expect("an address").1;
            let database = database.split('?').next().expect("a name");
            let find = doc! {"find": "events", "filter": {"s": id(1)}, "sort": {"_id": 1}};
            let found = run(&uri, database, find).expect("found");
            let cursor = found.get_document("cursor").expect("a cursor");
            cursor.get_array("firstBatch").expect("documents").clone()
        };
        copy(&env, &["--to", &uri]);
        let once = documents();
        assert!(!once.is_empty());
        copy(&env, &["--to", &uri]);
        assert_eq!(documents(), once, "{kind:?}");
    }
}
