//! Tables for people: on a terminal they fit it, elsewhere lines are as long as they are, and
//! nothing in them moves a cursor.

use serde_json::json;
use unicode_width::UnicodeWidthStr;

use crate::list::{Left, leave, session_id};
use crate::support::{Run, TestEnv, need, terminal};

fn two_sessions(env: &TestEnv) {
    let titles = [
        "日本語の題名、二桁の幅の文字でできている長い題名です、とても長い題名",
        "evil \u{1b}]0;owned\u{7} \u{1b}[31m \r name\nwith a newline 🦀",
    ];
    for (n, title) in titles.into_iter().enumerate() {
        let left = Left {
            n: n as u64,
            model: "a-model-with-a-name-that-is-rather-long:70b-instruct-q4_K_M",
            day: n as u64,
            turns: 1,
            set: json!({"title": title, "tags": {"first": true, "second": true}}),
        };
        leave(&env.store(), &left);
    }
}

#[test]
fn a_table_fits_the_terminal_and_names_sessions_by_the_end_of_their_id() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    two_sessions(&env);
    for columns in [60, 80, 200] {
        let shown = env
            .command()
            .args(["session", "list", "--output", "table"])
            .through(terminal("o", columns))
            .run();
        let lines: Vec<&str> = shown.ok().stdout().lines().collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            let line = line.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
            assert!(line.width() <= usize::from(columns), "{columns}: {line:?}");
        }
        let short = &session_id(0)[28..];
        assert!(lines[2].contains(short), "{columns}: {lines:?}");
        let found = env.command().args(["session", "show", short]).run();
        assert_eq!(found.ok().json()["session_id"], session_id(0));
    }
}

#[test]
fn the_head_of_a_table_is_bold_where_colour_is_wanted() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    two_sessions(&env);
    let table = || {
        let table = ["session", "list", "--output", "table"];
        env.command().args(table).through(terminal("o", 80))
    };
    let escapes = |run: Run<'_>| run.run().ok().stdout().matches('\u{1b}').count();
    assert_eq!(escapes(table()), 2);
    assert_eq!(escapes(table().env("NO_COLOR", "1")), 0);
    assert_eq!(escapes(table().args(["--color", "never"])), 0);
}

#[test]
fn a_table_that_is_no_terminals_is_whole_and_harmless() {
    let env = TestEnv::new();
    two_sessions(&env);
    let shown = env
        .command()
        .args(["session", "list", "--output", "table"])
        .run();
    let text = shown.ok().stdout();
    assert!(text.contains("とても長い題名"), "{text}");
    assert!(
        text.contains("\\u{1b}]0;owned\\u{7} \\u{1b}[31m name with a newline 🦀"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    assert_eq!(text.lines().count(), 3);
}
