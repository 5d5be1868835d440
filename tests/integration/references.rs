//! References in a prompt: what the model is sent for each, what is told and stored of it.
//!
//! What is never read, whatever stands in its place, is in `references_hostile.rs`.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Output, Run, TestEnv};

/// Takes a turn without a session; returns what the model was sent, and the run.
#[track_caller]
fn sent(env: &TestEnv, run: Run<'_>) -> (String, Output) {
    let output = run.arg("--no-session").replies("ok");
    (env.server().last_request().last_user(), output)
}

/// Returns what the model is sent for a prompt.
#[track_caller]
fn sent_for(env: &TestEnv, prompt: &str) -> String {
    sent(env, env.chat(prompt)).0
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small project.
fn project() -> TestEnv {
    let env = TestEnv::new();
    env.write("a.py", "print('a')\n");
    env.write("src/main.rs", "fn main() {\n    todo();\n}\n");
    env.write("src/lib/deep/deeper/x.rs", "// TODO: x\n");
    env.write("src/lib/logo.png", b"\x89PNG\0\0TODO");
    env.write("a b.md", "spaces\n");
    env.write(".gitignore", "target/\n*.log\n!kept.log\n");
    env.write("target/out.rs", "TODO: ignored\n");
    env.write("src/debug.log", "TODO: ignored\n");
    env.write("src/kept.log", "TODO: kept\n");
    env.write("src/lib/.gitignore", "secret.*\n");
    env.write("src/lib/secret.txt", "TODO: ignored\n");
    env.write(".git/config", "TODO: git\n");
    env
}

#[test]
fn a_file_takes_the_place_of_its_reference() {
    let env = project();
    let prompt = "Explain @./a.py, please";
    let expected =
        "Explain \n--- FILE: ./a.py START ---\nprint('a')\n--- FILE: ./a.py END ---\n, please";
    let output = env.chat(prompt).replies("ok");
    let json = output.json();
    assert_eq!(env.server().last_request().last_user(), expected);
    let references = json!([{
        "path": "./a.py", "bytes": 11, "sha256": sha256(b"print('a')\n"), "status": "ok",
    }]);
    assert_eq!(json["references"], references);
    assert_eq!(json.get("warnings"), None);
    let turn = &env.lines(&output.session_id())[1];
    assert_eq!(turn["references"], references, "they are stored");
    assert_eq!(turn["prompt"], expected, "with what was sent");

    let plan = env.chat(prompt).arg("--dry-run").run();
    assert_eq!(plan.ok().json()["references"], references);
    assert_eq!(plan.json()["request"]["messages"][0]["content"], expected);
    let again = env.chat("and?").session(&output.session_id()).replies("ok");
    assert_eq!(again.json().get("references"), None);
    assert_eq!(env.server().last_request().contents()[0], expected);
}

#[test]
fn each_spelling_means_what_it_says() {
    let env = project();
    let a = "--- FILE: ./a.py START ---\nprint('a')\n--- FILE: ./a.py END ---";
    let absolute = env.work().join("a.py").display().to_string();
    let rows = [
        ("me@example.com, @name", "me@example.com, @name".to_owned()),
        (r"\@./a.py", "@./a.py".to_owned()),
        ("@types/node is a package", "@types/node is a package".to_owned()),
        ("@./a.py", a.to_owned()),
        ("(@./a.py)", format!("(\n{a}\n)")),
        ("see @./a.py.", format!("see \n{a}\n.")),
        (
            "@src/kept.log",
            "--- FILE: src/kept.log START ---\nTODO: kept\n--- FILE: src/kept.log END ---".to_owned(),
        ),
        (
            r#"@"./a b.md"!"#,
            "--- FILE: ./a b.md START ---\nspaces\n--- FILE: ./a b.md END ---\n!".to_owned(),
        ),
        ("@./src/../a.py", a.replace("./a.py", "./src/../a.py")),
        (&format!("@{absolute}"), a.replace("./a.py", &absolute)),
        (
            "@./none",
            "--- FILE: ./none (ERROR: no such file or directory) ---".to_owned(),
        ),
        (
            "@./src",
            "--- DIRECTORY: ./src START ---\ndebug.log\nkept.log\nlib/\nmain.rs\n--- DIRECTORY: ./src END ---"
                .to_owned(),
        ),
    ];
    for (prompt, expected) in rows {
        assert_eq!(sent_for(&env, prompt), expected, "{prompt}");
    }
    // Only where such a file exists the punctuation is part of its name.
    env.write("a.py.", "with a full stop\n");
    assert!(sent_for(&env, "see @./a.py.").contains("with a full stop"));
}

#[test]
fn directories_are_listed_drawn_and_searched() {
    let env = project();
    let rows = [
        (
            "@./src/lib/",
            "--- DIRECTORY: ./src/lib START ---\n.gitignore\ndeep/\nlogo.png\nsecret.txt\n--- DIRECTORY: ./src/lib END ---",
        ),
        (
            "@./src/lib/:list",
            "--- DIRECTORY: ./src/lib START ---\n.gitignore\ndeep/\nlogo.png\nsecret.txt\n--- DIRECTORY: ./src/lib END ---",
        ),
        (
            "@./:tree",
            "--- TREE: . START ---\n.gitignore\na b.md\na.py\nsrc/\n  kept.log\n  lib/\n    .gitignore\n    deep/\n    logo.png\n  main.rs\n--- TREE: . END ---",
        ),
        (
            "@./src/:search:TODO",
            "--- SEARCH: 'TODO' in ./src START ---\n./src/kept.log:1: TODO: kept\n./src/lib/deep/deeper/x.rs:1: // TODO: x\n--- SEARCH: 'TODO' in ./src END ---",
        ),
        (
            r#"@"./:search:^fn .*\(\)""#,
            "--- SEARCH: '^fn .*\\(\\)' in . START ---\n./src/main.rs:1: fn main() {\n--- SEARCH: '^fn .*\\(\\)' in . END ---",
        ),
        (
            "@./src/:search:nowhere",
            "--- SEARCH: 'nowhere' in ./src START ---\n(no matches)\n--- SEARCH: 'nowhere' in ./src END ---",
        ),
        (
            "@./a.py/:tree",
            "--- TREE: ./a.py (ERROR: not a directory) ---",
        ),
        (
            "@./none/:list",
            "--- DIRECTORY: ./none (ERROR: no such file or directory) ---",
        ),
    ];
    for (prompt, expected) in rows {
        assert_eq!(sent_for(&env, prompt), expected, "{prompt}");
    }
    // What is named itself is not ignored; what is in it may be.
    assert!(sent_for(&env, "@./target/:search:TODO").contains("./target/out.rs:1: TODO: ignored"));
}

#[test]
fn an_expression_that_cannot_be_used_is_an_error_entry() {
    let env = project();
    for pattern in ["a(b", r"(\w{500}){500}", r"a\nb"] {
        let prompt = format!("@./src/:search:{pattern}");
        let (_, output) = sent(&env, env.chat(&prompt));
        let json = output.json();
        let error = json["references"][0]["error"].as_str().expect("an error");
        assert!(error.starts_with("not a regular expression: "), "{output}");
        assert_eq!(json["references"][0]["status"], "error");
    }
}

#[test]
fn standard_input_is_read_once_and_only_for_this() {
    let env = project();
    let run = env.chat("Review @- and @-").stdin("a @./a.py\n");
    let (text, output) = sent(&env, run);
    assert_eq!(
        text,
        "Review \n--- STDIN START ---\na @./a.py\n--- STDIN END ---\n and \n--- STDIN (ERROR: standard input was read already) ---"
    );
    let json = output.json();
    assert_eq!(json["references"][0]["sha256"], sha256(b"a @./a.py\n"));
    assert_eq!(json["references"][1]["path"], "-");
    // A standard input nobody asked for is not waited on.
    sent(&env, env.chat("@./a.py").stdin_open());

    let both = ["--prompt", "-", "--file-reference", "-"];
    let output = env.command().args(both).stdin("x").run();
    assert!(output.fails(2, "usage").error.contains("@-"), "{output}");
    let output = env.command().args(["--prompt", "-"]).stdin("a @- b").run();
    output.fails(2, "usage");
}

#[test]
fn a_prompt_from_anywhere_is_expanded_once() {
    let env = project();
    env.write("refers.md", "see @./a.py\n");
    env.write("prompt.txt", "do @./refers.md");
    let expected =
        "do \n--- FILE: ./refers.md START ---\nsee @./a.py\n--- FILE: ./refers.md END ---";
    let from_file = env.command().args(["--prompt-file", "prompt.txt"]);
    assert_eq!(sent(&env, from_file).0, expected);
    let from_stdin = env
        .command()
        .args(["--prompt", "-"])
        .stdin("do @./refers.md");
    assert_eq!(sent(&env, from_stdin).0, expected);
}

#[test]
fn files_named_by_flags_come_at_the_end() {
    let env = project();
    env.write("plain", "no slash\n");
    let flags = [
        "--file-reference",
        "plain",
        "--file-reference",
        "./src/:list",
    ];
    let (text, output) = sent(&env, env.chat("Look").args(flags));
    assert_eq!(
        text,
        "Look\n--- FILE: plain START ---\nno slash\n--- FILE: plain END ---\n--- DIRECTORY: ./src START ---\ndebug.log\nkept.log\nlib/\nmain.rs\n--- DIRECTORY: ./src END ---"
    );
    assert_eq!(
        output.json()["references"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn a_long_file_is_cut_on_a_character_boundary_and_says_so() {
    let env = TestEnv::new();
    env.write("long.txt", "aéé".repeat(100));
    let run = env.chat("@./long.txt").args(["--max-file-bytes", "3"]);
    let (text, output) = sent(&env, run);
    assert_eq!(
        text,
        "--- FILE: ./long.txt START ---\naé\n[TRUNCATED: the first 3 of 500 bytes]\n--- FILE: ./long.txt END ---"
    );
    let run = env.chat("@./long.txt").args(["--max-file-bytes", "4"]);
    let (text, output_of_4) = sent(&env, run);
    assert!(text.contains("\naé\n[TRUNCATED: the first 3 of 500 bytes]"));
    for output in [output, output_of_4] {
        let json = output.json();
        let reference = &json["references"][0];
        assert_eq!(
            (&reference["bytes"], &reference["status"]),
            (&json!(3), &json!("truncated"))
        );
        assert_eq!(reference["sha256"], sha256("aé".as_bytes()));
        let warning = "`@./long.txt` is not whole in the prompt: the first 3 of 500 bytes";
        assert_eq!(json["warnings"], json!([warning]));
        assert!(output.stderr().contains(warning), "{output}");
    }
    for wrong in ["0", "-1"] {
        let output = env.chat("x").args(["--max-file-bytes", wrong]).run();
        output.fails(2, "usage");
    }
}

#[test]
fn results_that_are_made_here_are_cut_as_well() {
    let env = TestEnv::new();
    for n in 0..50 {
        env.write(format!("d/{n:02}.txt"), "match\n".repeat(50));
    }
    for operator in [":list", ":tree", ":search:match"] {
        let run = env
            .chat(&format!("@./d/{operator}"))
            .args(["--max-file-bytes", "100"]);
        let (text, output) = sent(&env, run);
        let json = output.json();
        let bytes = json["references"][0]["bytes"].as_u64().expect("a number");
        assert!((50..=100).contains(&bytes), "{output}");
        assert!(
            text.contains(&format!("\n[TRUNCATED: the first {bytes} bytes]\n")),
            "{text}"
        );
        assert_eq!(json["references"][0]["status"], "truncated");
    }
}

#[test]
fn what_is_no_text_is_left_out_and_told() {
    let env = project();
    env.write("latin1.txt", b"caf\xe9");
    let (text, output) = sent(&env, env.chat("@./src/lib/logo.png and @./latin1.txt"));
    let json = output.json();
    for (n, byte) in [(0, 0), (1, 3)] {
        let reference = &json["references"][n];
        assert_eq!(reference["status"], "binary");
        assert_eq!(
            reference["error"],
            format!("binary: byte {byte} is not UTF-8 text")
        );
        assert_eq!(
            (&reference["bytes"], &reference["sha256"]),
            (&json!(0), &Value::Null)
        );
    }
    assert_eq!(text.matches("(ERROR: binary: ").count(), 2, "{text}");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(2));
}

#[test]
fn with_strict_refs_nobody_is_asked() {
    let env = project();
    for wrong in [
        "@./none",
        "@./src/lib/logo.png",
        "@../x",
        "@./a.py/:tree",
        "@./src/:search:(",
    ] {
        let output = env.chat(&format!("a {wrong} b")).arg("--strict-refs").run();
        let failure = output.fails(8, "reference");
        assert!(failure.error.contains(wrong), "{output}");
        assert!(!failure.retryable && failure.hint.is_some());
    }
    assert_eq!(env.server().request_count(), 0);
    assert_eq!(
        env.files(),
        Vec::<std::path::PathBuf>::new(),
        "and nothing is stored"
    );
    let cut = ["--strict-refs", "--max-file-bytes", "4"];
    sent(&env, env.chat("@./a.py").args(cut));
    // What can be a handle is no reference that cannot be read.
    sent(&env, env.chat("@types/node").arg("--strict-refs"));
}

#[test]
fn the_root_is_another_directory_if_that_is_said() {
    let env = project();
    let run = env.chat("@./main.rs @../a.py").args(["--repo-root", "src"]);
    let (text, _) = sent(&env, run);
    assert!(
        text.starts_with("--- FILE: ./main.rs START ---\nfn main()"),
        "{text}"
    );
    assert!(
        text.ends_with("--- FILE: ../a.py (ERROR: outside the root) ---"),
        "{text}"
    );
    let output = env.chat("@./x").args(["--repo-root", "nowhere"]).run();
    assert!(
        output.fails(2, "usage").error.contains("nowhere"),
        "{output}"
    );
}

#[test]
fn a_draft_keeps_what_was_put_in() {
    let env = project();
    let failing = crate::support::Reply::error(500, "no");
    env.chat("@./a.py")
        .answered(failing)
        .run()
        .fails(5, "server_error");
    let draft = &env.drafts()[0];
    let prompt = draft["prompt"].as_str().expect("a text");
    assert!(prompt.contains("print('a')"));
    assert_eq!(draft["references"][0]["path"], "./a.py");
}

#[test]
fn more_than_a_line_of_the_log_holds_is_refused_before_anybody_is_asked() {
    let env = TestEnv::new();
    // Escaped for the log, each of these bytes has six.
    env.write("control", vec![1; 12 << 20]);
    let run = env
        .chat("@./control")
        .args(["--max-file-bytes", "100000000"]);
    run.run().fails(7, "store_unsupported");
    env.write("big", vec![b'x'; 40 << 20]);
    let run = env
        .chat("@./big @./big")
        .args(["--max-file-bytes", "100000000"]);
    run.run().fails(7, "store_unsupported");
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn a_prompt_without_references_opens_no_directory() {
    if !crate::support::need("strace") {
        return;
    }
    let env = project();
    let trace = env.work().join("trace");
    let opened = |prompt: &str| {
        let through = ["strace", "-f", "-e", "trace=openat,openat2,open", "-o"];
        let through = through
            .iter()
            .map(|word| (*word).into())
            .chain([trace.clone().into_os_string()]);
        let through: Vec<std::ffi::OsString> = through.collect();
        sent(&env, env.chat(prompt).through(through));
        let trace = std::fs::read_to_string(&trace).expect("a trace");
        trace
            .lines()
            .filter(|line| line.contains("O_PATH") || line.contains("openat2"))
            .count()
    };
    assert_eq!(opened("mail me@example.com, @name"), 0);
    assert!(opened("@./a.py") > 0, "the trace shows what is looked for");
}
