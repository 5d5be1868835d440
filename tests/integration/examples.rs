//! The scripts under `docs/examples`, run as they stand.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{NOBODY_LISTENS, Reply, Run, TestEnv, need};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/examples")
        .join(name)
}

/// Runs a command with the program as `ollama-prompt` on its search path.
fn run<'e>(env: &'e TestEnv, command: &[&str]) -> Run<'e> {
    let script = r#"
        mkdir -p "$HOME/bin" && ln -sf "$0" "$HOME/bin/ollama-prompt"
        PATH=$HOME/bin:$PATH
        exec "$@"
    "#;
    // The program comes after the script, as its `$0`, and the arguments after the program.
    env.command().through(["bash", "-c", script]).args(command)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_parallel_review_asks_again_and_knows_the_file_the_next_time() {
    if !need("bash") || !need("jq") {
        return;
    }
    let env = TestEnv::new();
    for name in ["a.rs", "b.rs", "sub dir/c.rs"] {
        env.write(name, format!("fn {}() {{}}", name.len()));
    }
    let script = example("review.sh");
    let script = script.to_str().expect("a plain path");
    let review = || {
        let files = ["bash", script, "a.rs", "b.rs", "sub dir/c.rs"];
        run(&env, &files).env("PAUSE", "0").env("JOBS", "2")
    };
    let busy = Reply::error(503, "server busy, please try again");
    env.server().enqueue(busy);
    review().run().ok();
    assert_eq!(env.server().count_of("/api/chat"), 4, "one was asked again");
    for (name, out) in [("a.rs", "a.rs.md"), ("sub dir/c.rs", "sub dir_c.rs.md")] {
        let reply = read(&env.work().join("review").join(out));
        assert!(
            reply.contains(&format!("fn {}()", name.len())),
            "{out}: {reply}"
        );
    }
    review().run().ok();
    let last = env.server().last_request();
    assert_eq!(last.roles(), ["user", "assistant", "user"]);

    let output = review().env("OLLAMA_HOST", "ftp://x").run();
    assert_ne!(output.exit_code(), Some(0));
    assert!(output.stderr().contains("a.rs: "), "{output}");
}

#[test]
fn python_gets_answers_and_reasons() {
    if !need("bash") || !need("python3") {
        return;
    }
    let env = TestEnv::new();
    let script = example("ask.py");
    let script = script.to_str().expect("a plain path");
    let output = run(&env, &["python3", script, "name", "one", "two"]).run();
    assert_eq!(output.ok().stdout(), "reply to: one\nreply to: two\n");
    assert_eq!(env.server().last_request().roles().len(), 3);

    let directory = example("");
    let directory = directory.to_str().expect("a plain path");
    let python = |body: &str| {
        let body = format!(
            "import sys; sys.path.insert(0, {directory:?}); sys.dont_write_bytecode = True\nimport ask, json\n{body}"
        );
        run(&env, &["python3", "-c", &body])
    };
    let asked = "try: ask.ask('hi', pause=0, attempts=2)\nexcept ask.Failed as e: print(json.dumps([e.status, e.code, e.retryable, e.answer and e.answer['response']]))";
    env.server().enqueue(Reply::error(503, "busy"));
    let again = python("print(ask.ask('hi', pause=0)['response'])").run();
    assert_eq!(again.ok().stdout(), "reply to: hi\n");
    let rows = [
        (
            python(asked).env("OLLAMA_HOST", NOBODY_LISTENS),
            json!([4, "server_unreachable", true, null]),
        ),
        (
            python(asked).env("OLLAMA_HOST", "ftp://x"),
            json!([2, "config", false, null]),
        ),
    ];
    for (run, expected) in rows {
        assert_eq!(run.run().ok().json(), expected);
    }
    let before = env.server().count_of("/api/chat");
    env.server()
        .enqueue(Reply::error(404, "model 'x' not found"));
    assert_eq!(python(asked).run().ok().json()[1], "model_not_found");
    assert_eq!(
        env.server().count_of("/api/chat"),
        before + 1,
        "asked again in vain"
    );
}

#[test]
fn make_has_the_answers_it_already_got_without_asking_again() {
    if !need("bash") || !need("make") || !need("sha256sum") {
        return;
    }
    let env = TestEnv::new();
    env.write("a.md", "alpha");
    env.write("sub/b.md", "beta");
    let makefile = example("Makefile");
    let makefile = makefile.to_str().expect("a plain path");
    let make = || {
        run(
            &env,
            &["make", "-s", "-j2", "-f", makefile, "TEXTS=*.md */*.md"],
        )
    };
    make().run().ok();
    assert_eq!(env.server().count_of("/api/chat"), 3);
    let all = env.work().join("summaries/all.txt");
    let first = read(&all);
    assert!(first.contains("alpha") && first.contains("beta"), "{first}");

    std::fs::remove_dir_all(env.work().join("summaries")).expect("our own");
    make().run().ok();
    assert_eq!(read(&all), first);
    assert_eq!(env.server().count_of("/api/chat"), 3, "it was asked again");

    env.write("a.md", "gamma");
    make().run().ok();
    assert_eq!(
        env.server().count_of("/api/chat"),
        5,
        "the text that changed, and the whole"
    );
    assert!(read(&all).contains("gamma"));
}

#[test]
fn the_scripts_that_are_not_run_use_flags_there_are() {
    let env = TestEnv::new();
    let help = env.command().arg("--help").run().ok().stdout().to_owned();
    for name in ["review.ps1", "review.yml"] {
        let text = read(&example(name));
        let calls: Vec<&str> = text.split("ollama-prompt --").skip(1).collect();
        assert!(!calls.is_empty(), "{name}");
        for call in calls {
            let call = format!("--{}", call.lines().next().unwrap_or_default());
            let call = call.split(['|', '>']).next().unwrap_or_default();
            for flag in call
                .split_whitespace()
                .filter(|word| word.starts_with("--"))
            {
                assert!(help.contains(flag), "{name}: {flag}");
            }
        }
    }
}
