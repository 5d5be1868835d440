//! Stores as people, crashes and other programs leave them: a table of what may be found in a
//! session's directory, for every test that must cope with all of it.

use std::fs;
use std::path::Path;

use crate::support::TestEnv;

/// A session of three turns, and what became of its files.
pub(crate) struct Damaged {
    pub(crate) name: &'static str,
    /// Turns that can still be read; 0 where the session is refused until it is repaired.
    pub(crate) turns: usize,
    /// The kinds `verify` tells, sorted; those that are no problem in brackets.
    pub(crate) found: &'static str,
    /// Changes the three lines and their header, given without their newlines.
    pub(crate) change: fn(&Lines, &Path),
}

/// The lines of the log: the header and three turns.
pub(crate) struct Lines(pub(crate) Vec<String>);

impl Lines {
    fn log(&self, lines: &[&str]) -> String {
        format!("{}\n{}\n", self.0[0], lines.join("\n"))
    }

    fn turn(&self, n: usize) -> &str {
        &self.0[n]
    }

    fn half(&self, n: usize) -> &str {
        let line = self.turn(n);
        &line[..line.len() / 2]
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what befalls a store is not written by the store"
)]
pub(crate) fn put(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::write(path, bytes).expect("a file of the test's own");
}

fn log(dir: &Path, text: impl AsRef<[u8]>) {
    put(dir.join("events.jsonl"), text);
}

pub(crate) const TABLE: &[Damaged] = &[
    Damaged {
        name: "as it was written",
        turns: 3,
        found: "",
        change: |_, _| {},
    },
    Damaged {
        name: "no final newline",
        turns: 3,
        found: "",
        change: |l, d| log(d, l.0.join("\n")),
    },
    Damaged {
        name: "a torn tail",
        turns: 2,
        found: "(torn_tail)",
        change: |l, d| log(d, l.log(&[l.turn(1), l.turn(2)]) + l.half(3)),
    },
    Damaged {
        name: "a torn tail with an event in it",
        turns: 2,
        found: "(torn_tail)",
        change: |l, d| log(d, l.log(&[l.turn(1), l.turn(2)]) + l.turn(3) + l.half(1)),
    },
    Damaged {
        name: "a torn line",
        turns: 2,
        found: "(out_of_place) damaged_line",
        change: |l, d| log(d, l.log(&[l.half(1), l.turn(2), l.turn(3)])),
    },
    Damaged {
        name: "torn and glued",
        turns: 2,
        found: "(out_of_place) damaged_line",
        change: |l, d| log(d, l.log(&[&[l.half(1), l.turn(2)].concat(), l.turn(3)])),
    },
    Damaged {
        name: "two on a line",
        turns: 3,
        found: "(out_of_place)",
        change: |l, d| log(d, l.log(&[&[l.turn(1), l.turn(2)].concat(), l.turn(3)])),
    },
    Damaged {
        name: "text before, between and after",
        turns: 3,
        found: "(out_of_place) damaged_line damaged_line damaged_line",
        change: |l, d| {
            let glued = ["one ", l.turn(1), " two ", l.turn(2), " three"].concat();
            log(d, l.log(&[&glued, l.turn(3)]));
        },
    },
    Damaged {
        name: "NULs, CRLF, a byte order mark, blank lines",
        turns: 3,
        found: "(out_of_place)",
        change: |l, d| {
            let odd = format!("\0\0{}\0\r\n\r\n \t\n\u{feff}{}\r", l.turn(1), l.turn(2));
            log(d, l.log(&[&odd, l.turn(3)]));
        },
    },
    Damaged {
        name: "conflict markers",
        turns: 3,
        found: "(out_of_place) damaged_line damaged_line damaged_line",
        change: |l, d| {
            let lines = ["<<<<<<< ours", l.turn(1), "=======", l.turn(2), ">>>>>>>"];
            log(d, l.log(&lines) + l.turn(3) + "\n");
        },
    },
    Damaged {
        name: "invalid UTF-8",
        turns: 3,
        found: "(out_of_place) damaged_line",
        change: |l, d| {
            let text = l.log(&[l.turn(1), l.turn(2), l.turn(3)]);
            log(d, [b"\xff\xfe\n", text.as_bytes()].concat());
        },
    },
    Damaged {
        name: "a zeroed page in an event",
        turns: 2,
        found: "damaged_line",
        change: |l, d| {
            let mut bytes = l.log(&[l.turn(1), l.turn(2), l.turn(3)]).into_bytes();
            let at = l.0[0].len() + 1 + 60;
            bytes[at..at + 40].fill(0);
            log(d, bytes);
        },
    },
    Damaged {
        name: "deep nesting",
        turns: 3,
        found: "damaged_line",
        change: |l, d| {
            let text = l.log(&[l.turn(1), l.turn(2), l.turn(3)]);
            log(d, text + &"[".repeat(100_000) + "\n");
        },
    },
    Damaged {
        name: "the whole file twice",
        turns: 3,
        found: "(out_of_place)",
        change: |l, d| log(d, l.log(&[l.turn(1), l.turn(2), l.turn(3)]).repeat(2)),
    },
    Damaged {
        name: "backwards, without the header",
        turns: 3,
        found: "(out_of_place)",
        change: |l, d| log(d, [l.turn(3), l.turn(2), l.turn(1), ""].join("\n")),
    },
    Damaged {
        name: "a line edited in a copy",
        turns: 3,
        found: "(out_of_place) conflicting_event",
        change: |l, d| {
            let edited = l.turn(2).replace("question 2", "question Z");
            log(d, l.log(&[l.turn(1), l.turn(2), l.turn(3), &edited]));
        },
    },
    Damaged {
        name: "a conflict copy with a turn of its own and an edited one",
        turns: 3,
        found: "(out_of_place) conflicting_event",
        change: |l, d| {
            log(d, l.log(&[l.turn(1), l.turn(2)]));
            let edited = l.turn(1).replace("question 1", "question A");
            let copy = "events.sync-conflict-20261121.jsonl";
            put(d.join(copy), format!("{edited}\n{}\n", l.turn(3)));
            owned(&d.join(copy));
        },
    },
    Damaged {
        name: "newer types, a newer version, unknown keys",
        turns: 3,
        found: "(newer_version) (out_of_place)",
        change: |l, d| {
            let id = "01KAV8Z0M4ABCDEFGHJKMNPQR";
            let newer = format!(r#"{{"v":1,"id":"{id}S","type":"weather","sky":"blue"}}"#);
            let version = format!(r#"{{"v":9,"id":"{id}T","type":"turn","said":[1]}}"#);
            log(
                d,
                l.log(&[l.turn(1), &newer, l.turn(2), &version, l.turn(3)]),
            );
        },
    },
    Damaged {
        name: "an id of the year 9000",
        turns: 4,
        found: "(future_id)",
        change: |l, d| {
            let text = l.log(&[l.turn(1), l.turn(2), l.turn(3)]);
            let last = format!(
                r#"{{"v":1,"id":"6GBZY6YG00ABCDEFGHJKMNPQRS","type":"turn","ts":"9000-01-01T00:00:00Z","at":{},"prompt":"far","response":"away"}}"#,
                text.len()
            );
            log(d, text + &last + "\n");
        },
    },
    Damaged {
        name: "a link beside the log",
        turns: 0,
        found: "not_a_file",
        change: |_, d| {
            std::os::unix::fs::symlink("/etc/passwd", d.join("other.jsonl")).expect("a link");
        },
    },
    Damaged {
        name: "a directory beside the log",
        turns: 0,
        found: "not_a_file",
        change: |_, d| {
            fs::create_dir(d.join("other.jsonl")).expect("a directory");
            put(d.join("other.jsonl/inside"), "kept");
        },
    },
];

/// Gives a file the permissions the program would have given it.
pub(crate) fn owned(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
}

/// Makes a store with one session of three turns; returns its id and its lines.
pub(crate) fn three_turns(env: &TestEnv) -> (String, Lines) {
    let offline = |prompt: &str| env.chat(prompt).arg("--offline");
    let id = offline("question 1").run().session_id();
    for prompt in ["question 2", "question 3"] {
        offline(prompt).session(&id).run().ok();
    }
    let lines = env.log(&id).lines().map(str::to_owned).collect();
    (id, Lines(lines))
}
