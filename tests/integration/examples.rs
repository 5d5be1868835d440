//! The scripts under `docs/examples`, run as they stand.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::list::{Left, leave};
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

/// Makes a git repository of the directory runs start in, with a branch that changes something.
fn repository(env: &TestEnv) {
    let identity = "[user]\n name = A\n email = a@example.com\n[init]\n defaultBranch = main\n";
    env.write(env.home().join(".gitconfig"), identity);
    env.write("a.py", "x = 1 / 2\n");
    let script = "git init -q && git add a.py && git commit -qm first && git switch -qc change
        echo 'x = 1 / n' >a.py && git commit -qam second";
    run(env, &["bash", "-ec", script]).run().ok();
}

#[test]
fn what_a_project_decided_stays_in_its_context() {
    if !["bash", "jq", "git"].into_iter().all(need) {
        return;
    }
    let env = TestEnv::new();
    repository(&env);
    let script = example("project.sh");
    let script = script.to_str().expect("a plain path");
    let project = |args: &[&str]| {
        let command = [&[script], args].concat();
        run(&env, &command).env("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "400")
    };
    let prompts = |env: &TestEnv| env.server().last_request().contents().concat();
    project(&["decide", "We use PostgreSQL"]).run().ok();
    for question in 0..12 {
        let question = format!("question {question} {}", "and more ".repeat(20));
        project(&["ask", &question])
            .stdin("a text brought along")
            .run()
            .ok();
    }
    let sent = prompts(&env);
    assert!(sent.contains("We use PostgreSQL"), "{sent}");
    assert!(
        !sent.contains("question 2 "),
        "nothing left the context: {sent}"
    );
    assert!(sent.contains("a text brought along"), "{sent}");

    let found = project(&["find", "question 2 "]).run();
    assert_eq!(found.ok().stdout().lines().count(), 2, "{found}");
    let since = project(&["since", "1h"]).run();
    assert_eq!(since.ok().stdout().lines().count(), 26, "{since}");
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 1);
    for wrong in [&[][..], &["ask"], &["sing", "a song"]] {
        assert_eq!(project(wrong).run().exit_code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_step_of_a_pipeline_passes_fails_and_is_asked_once() {
    if !["bash", "jq", "git"].into_iter().all(need) {
        return;
    }
    let env = TestEnv::new();
    repository(&env);
    let script = example("ci.sh");
    let script = script.to_str().expect("a plain path");
    let review = || run(&env, &[script, "main"]).env("PAUSE", "0");
    let verdict = |merge: bool, findings: &serde_json::Value| {
        let said = json!({"merge": merge, "findings": findings});
        Reply::text(said.to_string()).in_one_chunk()
    };
    let finding = json!([{"file": "a.py", "line": 1, "what": "n may be 0"}]);

    env.server().enqueue(Reply::error(503, "busy"));
    env.server().enqueue(verdict(false, &finding));
    let output = review().run();
    assert_eq!(output.exit_code(), Some(1), "{output}");
    assert_eq!(output.stdout(), "a.py:1: n may be 0\n");
    assert_eq!(env.server().count_of("/api/chat"), 2, "asked again");
    let sent = env.server().last_request();
    assert!(
        sent.last_user().contains("+x = 1 / n"),
        "the change is sent"
    );
    assert_eq!(
        sent.json["format"]["required"],
        json!(["merge", "findings"])
    );
    assert_eq!(review().run().exit_code(), Some(1));
    assert_eq!(env.server().count_of("/api/chat"), 2, "not asked again");

    let commit = "git commit -q --allow-empty -m third";
    run(&env, &["bash", "-c", commit]).run().ok();
    env.server().enqueue(verdict(true, &json!([])));
    assert_eq!(review().run().ok().stdout(), "");
    run(&env, &["bash", "-c", commit]).run().ok();
    let unasked = |what| {
        let review = review().env("OLLAMA_HOST", NOBODY_LISTENS);
        review.env("UNASKED", what).run()
    };
    assert!(
        unasked("pass")
            .ok()
            .stderr()
            .starts_with("not reviewed: cannot reach")
    );
    assert_eq!(unasked("fail").exit_code(), Some(1));
}

#[test]
fn a_team_that_shares_a_session_has_one_history() {
    if !["bash", "jq", "git", "flock"].into_iter().all(need) {
        return;
    }
    let env = TestEnv::new();
    repository(&env);
    let clones =
        "git init -q --bare all.git && for who in a b c; do git clone -q all.git $who; done";
    run(&env, &["bash", "-ec", clones]).run().ok();
    let script = example("team.sh");
    let script = script.to_str().expect("a plain path");
    let store = |who: &str| env.work().join(format!("store-{who}"));
    let say = |who: &str| {
        let said = env
            .chat(&format!("{who} says"))
            .args(["--session-key", "design"]);
        said.env("OLLAMA_PROMPT_HOME", store(who))
            .run()
            .session_id()
    };
    let share = |who: &str| run(&env, &[script, who]).env("OLLAMA_PROMPT_HOME", store(who));
    // All at once: those who are not first merge what came before, and push again.
    let sharing: Vec<_> = ["a", "b", "c"]
        .map(|who| {
            say(who);
            share(who).spawn()
        })
        .into();
    for shared in sharing {
        shared.wait().ok();
    }
    let id = say("a");
    for who in ["a", "b", "c"] {
        share(who).run().ok();
    }
    for who in ["a", "b", "c"] {
        let info = env.command().args(["--session-info", &id]);
        let info = info.env("OLLAMA_PROMPT_HOME", store(who)).run().ok().json();
        assert_eq!(info["message_count"], 8, "{who}: {info}");
        let verify = env.command().args(["session", "verify"]);
        verify.env("OLLAMA_PROMPT_HOME", store(who)).run().ok();
    }
}

#[test]
fn a_night_removes_only_what_is_in_the_archive() {
    if !["bash", "jq"].into_iter().all(need) {
        return;
    }
    let env = TestEnv::new();
    for n in 0..3 {
        let left = Left {
            n,
            model: "m:1b",
            day: n,
            turns: 2,
            set: json!({}),
        };
        leave(&env.store(), &left);
    }
    let young = env.chat("young").run().session_id();
    let log = env.log(&young) + "no event\n";
    env.write(env.log_path(&young), log);
    let script = example("nightly.sh");
    let script = script.to_str().expect("a plain path");
    let night = || run(&env, &[script]).run().ok().json();
    let first = night();
    assert_eq!(
        (&first["archived"], &first["removed"], &first["problems"]),
        (&json!(3), &json!(3), &json!(1))
    );
    let second = night();
    assert_eq!(
        (&second["archived"], &second["removed"], &second["problems"]),
        (&json!(0), &json!(0), &json!(0))
    );
    let list = env.command().arg("--list-sessions").run().ok().json();
    assert_eq!(list["total"], 1);

    let archive = env.home().join("ollama-prompt-archive");
    let archive = std::fs::read_dir(archive).expect("an archive").next();
    let archive = archive.expect("a file").expect("readable").path();
    let import = env
        .command()
        .args(["session", "import", "--include-purged"])
        .arg(archive);
    assert_eq!(import.run().ok().json()["turns_added"], 6);
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
