//! `session copy`: sessions from files to a server and back are the same sessions, byte for byte,
//! also when a copy is killed in the middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::stored::{id, make_session};
use crate::support::TestEnv;
use crate::support::mongod::{Kind, Mongod, need_mongod};

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

#[test]
fn sessions_come_back_from_a_server_as_they_were() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = TestEnv::new();
        for n in 1..=4 {
            make_session(
                &env,
                &id(n),
                &["one", "two ü \u{2028} three", "four"][..n.min(3)],
            );
        }
        let picture = env.write("p.png", b"\x89PNG\r\n\x1a\nnot much of a picture");
        let turn = env
            .chat("see")
            .session(&id(2))
            .args(["--image", picture.to_str().expect("a name")]);
        turn.replies("seen");
        env.command()
            .args(["session", "update", &id(3), "--title", "three"])
            .run()
            .ok();
        let before = everything(&env.store());
        let uri = Mongod::database(kind);

        let there = copy(&env, &["--to", &uri]);
        assert_eq!(
            (&there["sessions_added"], &there["blobs"]),
            (&4.into(), &1.into()),
            "{there}"
        );
        assert_eq!(there["to"], uri.split('?').next().expect("an address"));
        let again = copy(&env, &["--to", &uri]);
        assert_eq!(
            (&again["sessions_unchanged"], &again["events_added"]),
            (&4.into(), &0.into()),
            "{again}"
        );

        let back = env.work().join("back");
        let back_name = back.to_str().expect("a name");
        let returned = copy(&env, &["--from", &uri, "--to", back_name]);
        assert_eq!(returned["sessions_added"], 4, "{returned}");
        assert_eq!(everything(&back), before, "{kind:?}");
        let list = |run: crate::support::Run<'_>| run.args(["--list-sessions"]).run().ok().json();
        let here = list(env.command());
        assert_eq!(list(env.command().env("OLLAMA_PROMPT_DB_URI", &uri)), here);
        assert_eq!(list(env.command().env("OLLAMA_PROMPT_HOME", &back)), here);

        // What came later follows, and only that; what was purged there stays out.
        let on_server = |args: &[&str]| {
            env.command()
                .env("OLLAMA_PROMPT_DB_URI", &uri)
                .args(args)
                .run()
        };
        let gone = env
            .chat("on the server")
            .env("OLLAMA_PROMPT_DB_URI", &uri)
            .session(&id(1));
        gone.replies("there");
        on_server(&["session", "delete", &id(4)]).ok();
        env.chat("in files").session(&id(1)).replies("here");
        let later = copy(&env, &["--to", &uri]);
        assert_eq!(
            (&later["sessions_changed"], &later["events_added"]),
            (&1.into(), &1.into()),
            "{later}"
        );
        assert_eq!(later["skipped_purged"], serde_json::json!([id(4)]));
        let missed = copy(&env, &["--from", &uri]);
        assert_eq!(
            (&missed["sessions_changed"], &missed["events_added"]),
            (&1.into(), &1.into()),
            "{missed}"
        );
        let brought = copy(&env, &["--to", &uri, "--include-purged", &id(4)]);
        assert_eq!(brought["sessions_added"], 1, "{brought}");
    }
}

#[test]
fn a_copy_that_is_killed_is_gone_on_with() {
    if !need_mongod() {
        return;
    }
    for kind in Kind::BOTH {
        let env = TestEnv::new();
        let sessions = 120;
        for n in 1..=sessions {
            make_session(&env, &id(n), &["a question"]);
        }
        let before = everything(&env.store());
        let uri = Mongod::database(kind);
        let mut was_in_the_middle = false;
        for wait in [60, 90, 120, 150, 200, 250, 300] {
            let running = env
                .command()
                .args(["session", "copy", "--to", &uri])
                .spawn();
            thread::sleep(Duration::from_millis(wait));
            running.kill9();
            let there = env
                .command()
                .env("OLLAMA_PROMPT_DB_URI", &uri)
                .arg("--list-sessions")
                .run();
            let total = there.ok().json()["total"].as_u64().expect("a number");
            was_in_the_middle |= total > 0 && total < sessions as u64;
            for session in there.json()["sessions"].as_array().expect("sessions") {
                assert_eq!(session["message_count"], 2, "a session in part: {session}");
            }
        }
        assert!(
            was_in_the_middle,
            "{kind:?}: no copy was killed in the middle"
        );
        let rest = copy(&env, &["--to", &uri]);
        let count = |key: &str| rest[key].as_u64().expect("a number");
        assert_eq!(
            count("sessions_added") + count("sessions_unchanged"),
            sessions as u64,
            "{rest}"
        );
        let back = env.work().join("back");
        copy(
            &env,
            &["--from", &uri, "--to", back.to_str().expect("a name")],
        );
        assert_eq!(everything(&back), before, "{kind:?}");
    }
}
