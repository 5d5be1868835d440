//! Protects P2, P3 and P7 against damaged logs: what can be read is, what cannot is told with its
//! place, nothing is taken away, and the next turn works.

use serde_json::{Value, json};

use crate::stored::{id, info, listed, make_session, prompts};
use crate::support::TestEnv;

/// A damage: what it is called, the log with it, the prompts that are left, the places told.
type Row = (&'static str, Vec<u8>, &'static [&'static str], usize);

const ALL: &[&str] = &["one", "two", "three"];

/// Returns every row of the table in the design, made of this log of a header and three turns.
fn rows(log: &str) -> Vec<Row> {
    let lines: Vec<&str> = log.lines().collect();
    let [header, one, two, three] = lines[..] else {
        panic!("four lines: {log}")
    };
    let half = &two[..two.len() / 2];
    let middle = |damage: &str| format!("{header}\n{one}\n{damage}\n{two}\n{three}\n").into_bytes();
    let reversed: Vec<&str> = lines.iter().rev().copied().collect();
    let deep = "[".repeat(100_000);
    let deep_events = "{\"v\":1,\"x\":".repeat(10_000);
    vec![
        ("whole", log.into(), ALL, 0),
        ("no last newline", log.trim_end().into(), ALL, 0),
        (
            "a torn tail",
            format!("{header}\n{one}\n{half}").into(),
            &["one"],
            0,
        ),
        (
            "a torn line",
            format!("{header}\n{one}\n{half}\n{three}\n").into(),
            &["one", "three"],
            1,
        ),
        (
            "glued to a torn one",
            format!("{header}\n{one}\n{half}{three}\n").into(),
            &["one", "three"],
            1,
        ),
        (
            "two on a line",
            format!("{header}\n{one}{two}\n{three}\n").into(),
            ALL,
            0,
        ),
        (
            "all on a line",
            format!("{header}{one}{two}{three}\n").into(),
            ALL,
            0,
        ),
        (
            "NULs around",
            format!("{header}\n\0\0{one}\0\n{two}\n\0\0\0\n{three}\n\0\0").into(),
            ALL,
            0,
        ),
        (
            "a tail of NULs",
            format!("{log}{}", "\0".repeat(4096)).into(),
            ALL,
            0,
        ),
        ("CRLF", log.replace('\n', "\r\n").into(), ALL, 0),
        ("a BOM", format!("\u{feff}{log}").into(), ALL, 0),
        ("blank lines", log.replace('\n', "\n\n  \n").into(), ALL, 0),
        ("garbage", middle("what is this?"), ALL, 1),
        (
            "other JSON",
            middle("{\"hello\":\"world\"}\n[1,2]\nnull"),
            ALL,
            3,
        ),
        (
            "conflict markers",
            middle("<<<<<<< HEAD\n=======\n>>>>>>> theirs"),
            ALL,
            3,
        ),
        (
            "invalid UTF-8",
            [log.as_bytes(), b"\xff\xfe\xfd\n"].concat(),
            ALL,
            1,
        ),
        ("arrays nested deeply", middle(&deep), ALL, 1),
        ("events nested deeply", middle(&deep_events), ALL, 1),
        (
            "a zeroed page",
            log.replacen("\"prompt\":\"two\"", "\"pro\0\0\0\0\0\0two\"", 1)
                .into(),
            &["one", "three"],
            1,
        ),
        (
            "lines twice",
            log.lines()
                .flat_map(|l| [l, "\n", l, "\n"])
                .collect::<String>()
                .into(),
            ALL,
            0,
        ),
        ("the file twice", format!("{log}{log}").into(), ALL, 0),
        ("reversed", (reversed.join("\n") + "\n").into(), ALL, 0),
        (
            "no header",
            format!("{one}\n{two}\n{three}\n").into(),
            ALL,
            0,
        ),
    ]
}

#[test]
fn damage_costs_the_line_it_hit_is_told_with_its_place_and_the_next_turn_works() {
    let env = TestEnv::new();
    make_session(&env, &id(0), ALL);
    let rows = rows(&env.log(&id(0)));
    for (n, (_, bytes, ..)) in rows.iter().enumerate() {
        env.write(env.log_path(&id(n + 1)), bytes);
    }
    let listed = listed(&env);
    for (n, (name, bytes, expected, places)) in rows.iter().enumerate() {
        let id = id(n + 1);
        assert!(
            listed.contains(&(id.clone(), 2 * expected.len() as u64)),
            "{name}: {listed:?}"
        );
        assert_eq!(prompts(&env, &id), *expected, "{name}");
        assert_places(&env, &id, bytes, *places, name);

        let turn = env
            .chat("next")
            .session(&id)
            .args(["--offline", "--output", "compact"])
            .run();
        let said = turn.ok().json();
        assert_eq!(
            said["context_usage"]["kept_turns"],
            expected.len(),
            "{name}"
        );
        let warned = said["warnings"].to_string().contains("unreadable places");
        assert_eq!(warned, *places > 0, "{name}: {turn}");
        assert_eq!(
            warned,
            turn.stderr().contains("unreadable places"),
            "{name}: {turn}"
        );

        let after = std::fs::read(env.log_path(&id)).expect("a log");
        let added = after
            .strip_prefix(&bytes[..])
            .expect("nothing is taken away");
        let sealed = added.strip_prefix(b"\n").unwrap_or(added);
        assert_eq!(
            sealed.len() < added.len(),
            bytes.last() != Some(&b'\n'),
            "{name}: sealed"
        );
        // A horizon may stand before the turn, from which the next reader can start.
        let added = std::str::from_utf8(sealed).expect("text");
        let lines: Result<Vec<Value>, _> = added.lines().map(serde_json::from_str).collect();
        let lines = lines.unwrap_or_else(|e| panic!("{name}: {e}: {added}"));
        assert_eq!(lines.last().expect("a turn")["prompt"], "next", "{name}");
        assert_eq!(
            prompts(&env, &id),
            [expected, &["next"][..]].concat(),
            "{name}"
        );
    }
}

/// Asserts how many places `--session-info` tells, and that each is where it says: no event is
/// in it, and what is there is there.
#[track_caller]
fn assert_places(env: &TestEnv, id: &str, log: &[u8], places: usize, name: &str) {
    let unreadable = info(env, id)["metadata"]["unreadable"].clone();
    let told = unreadable.as_array().expect("places");
    assert_eq!(told.len(), places, "{name}: {unreadable}");
    for place in told {
        assert_eq!(place["file"], "events.jsonl", "{name}");
        let at =
            |key: &str| usize::try_from(place[key].as_u64().expect("a number")).expect("small");
        let (offset, bytes) = (at("offset"), at("bytes"));
        let there = &log[offset..][..bytes];
        assert!(
            serde_json::from_slice::<Value>(there).map_or(true, |v| v["v"].is_null()),
            "{name}"
        );
        // It begins where a line does, or where what was salvaged before it ends.
        assert!(
            offset == 0 || matches!(log[offset - 1], b'\n' | b'}'),
            "{name}: {offset}"
        );
    }
}

#[test]
fn a_log_in_which_nothing_is_an_event_is_no_session_until_it_gets_a_turn() {
    let env = TestEnv::new();
    make_session(&env, &id(0), &["one"]);
    for (n, bytes) in [&b""[..], b"\n", b"\0\0\0", b"hello\n", b"{}\n", b"torn"]
        .iter()
        .enumerate()
    {
        let id = id(n + 1);
        env.write(env.log_path(&id), bytes);
        env.command()
            .args(["--session-info", &id])
            .run()
            .fails(3, "session_not_found");
        env.chat("x")
            .session(&id)
            .run()
            .fails(3, "session_not_found");
        assert_eq!(env.server().request_count(), 0);
        make_session(&env, &id, &["new"]);
        assert_eq!(prompts(&env, &id), ["new"], "{bytes:?}");
        assert!(
            std::fs::read(env.log_path(&id))
                .expect("a log")
                .starts_with(bytes)
        );
    }
}

#[test]
fn a_line_of_a_hundred_megabytes_is_passed_over() {
    let env = TestEnv::new();
    make_session(&env, &id(0), &["one"]);
    let long = format!("{}{}\n", env.log(&id(0)), "x".repeat(100 << 20));
    env.write(env.log_path(&id(0)), &long);
    let limited = ["sh", "-c", "ulimit -v 400000; exec \"$@\"", "sh"];
    let turn = env.chat("two").session(&id(0)).args(["--offline", "-q"]);
    let output = turn.through(limited).run();
    assert_eq!(output.ok().json()["context_usage"]["kept_turns"], 1);
    let unreadable = &info(&env, &id(0))["metadata"]["unreadable"];
    assert_eq!(unreadable[0]["bytes"], json!((100 << 20) + 1));
    assert_eq!(prompts(&env, &id(0)), ["one", "two"]);
}
