//! Templates: keeping them, beginning sessions with them, and what a bad one costs.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Run, TestEnv};

const REVIEW: &str = r#"
description = "A review of code"
model = "coder"
system = "You review {{language}} code. Be {{tone}}."
max_context_tokens = 9000
prune = "importance"

[options]
seed = 7
temperature = 0.5

[variables]
tone = "brief"
"#;

fn path(env: &TestEnv, name: &str) -> PathBuf {
    env.store().join("templates").join(format!("{name}.toml"))
}

fn write(env: &TestEnv, name: &str, text: &str) {
    env.write(path(env, name), text);
}

fn template<'e>(env: &'e TestEnv, args: &[&str]) -> Run<'e> {
    env.command().arg("template").args(args)
}

#[test]
fn a_session_begins_with_a_template_and_keeps_what_it_said() {
    let env = TestEnv::new();
    write(&env, "review", REVIEW);
    let begin = ["--template", "review", "--var", "language=Rust"];
    let output = env.chat("one").args(begin).run();
    let id = output.session_id();
    let request = env.server().last_request();
    assert_eq!(request.model(), "coder");
    assert_eq!(request.contents()[0], "You review Rust code. Be brief.");
    let options = ["seed", "temperature", "num_predict"];
    let sent = options.map(|name| request.option(name).clone());
    assert_eq!(sent, [json!(7), json!(0.5), json!(2048)]);
    assert_eq!(output.json()["context_usage"]["max_context_tokens"], 9000);
    let header = &env.lines(&id)[0];
    assert_eq!(header["template"], "review");
    assert_eq!(header["prune"], "importance");
    assert_eq!(header["options"], json!({"seed": 7, "temperature": 0.5}));

    template(&env, &["delete", "review"]).run().ok();
    env.chat("two")
        .session(&id)
        .args(["--option", "seed=8"])
        .run()
        .ok();
    let request = env.server().last_request();
    assert_eq!(request.model(), "coder");
    assert_eq!(request.contents()[0], "You review Rust code. Be brief.");
    let sent = options.map(|name| request.option(name).clone());
    assert_eq!(sent, [json!(8), json!(0.5), json!(2048)]);
}

#[test]
fn without_a_session_a_template_is_read_and_nothing_written() {
    let env = TestEnv::new();
    write(&env, "review", REVIEW);
    let before = env.snapshot();
    let begin = [
        "--template",
        "review",
        "--var",
        "language=C",
        "--var",
        "tone=kind",
        "--no-session",
    ];
    env.chat("one").args(begin).run().ok();
    let request = env.server().last_request();
    assert_eq!(request.contents()[0], "You review C code. Be kind.");
    assert_eq!(*request.option("seed"), json!(7));
    assert_eq!(env.snapshot(), before);
}

#[test]
fn a_template_stands_between_session_and_environment() {
    // The setting, and for flag, template, environment and config what each says.
    type Row = (
        &'static str,
        &'static [&'static str],
        &'static str,
        Option<(&'static str, &'static str)>,
        &'static str,
        [Value; 4],
    );
    let rows: [Row; 7] = [
        (
            "model",
            &["--model", "f"],
            "model = 't'",
            Some(("OLLAMA_PROMPT_MODEL", "e")),
            "model = 'c'",
            [json!("f"), json!("t"), json!("e"), json!("c")],
        ),
        (
            "max_context_tokens",
            &["--max-context-tokens", "5001"],
            "max_context_tokens = 5002",
            Some(("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "5003")),
            "max_context_tokens = 5004",
            [json!(5001), json!(5002), json!(5003), json!(5004)],
        ),
        (
            "system",
            &["--system", "f"],
            "system = 't'",
            None,
            "system = 'c'",
            [json!("f"), json!("t"), json!("c"), json!("c")],
        ),
        (
            "strategy",
            &["--prune", "off"],
            "prune = 'importance'",
            None,
            "prune = 'summarize'",
            [
                json!("off"),
                json!("importance"),
                json!("summarize"),
                json!("summarize"),
            ],
        ),
        (
            "temperature",
            &["--temperature", "0.25"],
            "options.temperature = 0.5",
            None,
            "temperature = 0.75",
            [json!(0.25), json!(0.5), json!(0.75), json!(0.75)],
        ),
        (
            "num_predict",
            &["--max_tokens", "11"],
            "options.num_predict = 12",
            None,
            "max_tokens = 13",
            [json!(11), json!(12), json!(13), json!(13)],
        ),
        (
            "seed",
            &["--option", "seed=1"],
            "options.seed = 2",
            None,
            "options.seed = 3",
            [json!(1), json!(2), json!(3), json!(3)],
        ),
    ];
    let seen = |name: &str, plan: &Value| match name {
        "model" => plan["request"]["model"].clone(),
        "system" => plan["request"]["messages"][0]["content"].clone(),
        "max_context_tokens" | "strategy" => plan["context_plan"][name].clone(),
        _ => plan["request"]["options"][name].clone(),
    };
    for (name, flag, toml, variable, line, values) in rows {
        // Each subset of flag, template and environment, over the config.
        for subset in 0..8_u8 {
            let env = TestEnv::new();
            env.write(env.store().join("config.toml"), line);
            write(&env, "t", toml);
            let mut run = env.chat("hi").arg("--dry-run");
            let mut expected = &values[3];
            if let Some((variable, value)) = variable.filter(|_| subset & 1 != 0) {
                run = run.env(variable, value);
                expected = &values[2];
            }
            if subset & 2 != 0 {
                run = run.args(["--template", "t"]);
                expected = &values[1];
            }
            if subset & 4 != 0 {
                run = run.args(flag);
                expected = &values[0];
            }
            let plan = run.run().ok().json();
            assert_eq!(
                seen(name, &plan),
                *expected,
                "{name}: {subset:03b}: {plan:#}"
            );
        }
        // The session goes before the template it was not begun with.
        let env = TestEnv::new();
        env.write(env.store().join("config.toml"), line);
        env.chat("one").args(["--session-key", "k"]).run().ok();
        write(&env, "t", toml);
        let again = env
            .chat("two")
            .args(["--session-key", "k", "--template", "t", "--dry-run"]);
        let output = again.run();
        assert_eq!(
            seen(name, &output.ok().json()),
            values[3],
            "{name}: of the session"
        );
    }
}

#[test]
fn a_session_that_is_there_is_not_begun_again() {
    let env = TestEnv::new();
    write(&env, "t", "model = 't'");
    write(&env, "u", "model = 'u'");
    let id = env.chat("one").run().session_id();
    for flags in [
        &["--session-id", &id][..],
        &["--continue"],
        &["--fork-from", &id],
    ] {
        let run = env.chat("two").args(flags).args(["--template", "t"]);
        let failure = run.run().fails(2, "usage");
        assert!(failure.error.contains("--template"), "{}", failure.error);
        assert!(failure.hint.is_some());
    }
    // The same line can be called again and again; another template is told to be without effect.
    let key = ["--session-key", "k", "--template"];
    let call = |template: &str| env.chat("hi").args(key).arg(template).run().ok().json();
    assert_eq!(call("t")["warnings"], Value::Null);
    assert_eq!(call("t")["warnings"], Value::Null);
    let warned = call("u")["warnings"].clone();
    assert!(
        warned[0].as_str().is_some_and(|text| text.contains("`u`")),
        "{warned}"
    );
    assert_eq!(env.server().last_request().model(), "t");
}

#[test]
fn variables_that_do_not_fit_are_named_before_anything_is_asked() {
    let env = TestEnv::new();
    write(&env, "review", REVIEW);
    let before = env.snapshot();
    let rows: [(&[&str], &str, &str); 7] = [
        (&[], "usage", "language"),
        (
            &["--var", "language=Rust", "--var", "lang=C"],
            "usage",
            "`lang`",
        ),
        (
            &["--var", "language=Rust", "--var", "language=C"],
            "usage",
            "twice",
        ),
        (&["--var", "language"], "usage", "NAME=VALUE"),
        (&["--var", "=x"], "usage", "NAME=VALUE"),
        (&["--template", "no/name"], "usage", "no/name"),
        (&["--template", "reviev"], "usage", "reviev"),
    ];
    for (args, code, part) in rows {
        let named = args.contains(&"--template");
        let run = env.chat("hi").args(args);
        let run = if named {
            run
        } else {
            run.args(["--template", "review"])
        };
        let failure = run.run().fails(2, code);
        assert!(failure.error.contains(part), "{args:?}: {}", failure.error);
    }
    let near = env
        .chat("hi")
        .args(["--template", "reviev"])
        .run()
        .fails(2, "usage");
    assert_eq!(near.hint.as_deref(), Some("did you mean `review`?"));
    env.chat("hi")
        .args(["--var", "a=b"])
        .run()
        .fails(2, "usage");
    assert_eq!(env.server().request_count(), 0);
    assert_eq!(env.snapshot(), before);
}

#[test]
fn a_template_is_saved_from_flags_shown_and_used() {
    let env = TestEnv::new();
    let saved = template(
        &env,
        &["save", "review", "--model", "coder", "--temperature", "0.5"],
    )
    .args([
        "--system",
        "You review {{language}} code. Be {{tone}}.",
        "--var",
        "tone=brief",
    ])
    .args(["--description", "A review of code", "--option", "seed=7"])
    .args(["--max-context-tokens", "9000", "--prune", "importance"])
    .run()
    .ok()
    .json();
    assert_eq!(saved["replaced"], false);
    let mode = std::fs::metadata(path(&env, "review"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = template(&env, &["show", "review"]).run().ok().json();
    assert_eq!(shown, saved["template"]);
    assert_eq!(
        shown["variables"],
        json!([{"name": "language", "default": null}, {"name": "tone", "default": "brief"}])
    );
    let by_hand = TestEnv::new();
    write(&by_hand, "review", REVIEW);
    assert_eq!(
        shown,
        template(&by_hand, &["show", "review"]).run().ok().json()
    );
    let begin = ["--template", "review", "--var", "language=Go"];
    env.chat("hi").args(begin).run().ok();
    assert_eq!(
        env.server().last_request().contents()[0],
        "You review Go code. Be brief."
    );

    let text = std::fs::read_to_string(path(&env, "review")).expect("it is there");
    let failure = template(&env, &["save", "review", "--model", "x"])
        .run()
        .fails(2, "usage");
    assert!(failure.hint.is_some_and(|hint| hint.contains("--force")));
    assert_eq!(
        std::fs::read_to_string(path(&env, "review")).expect("it is there"),
        text
    );
    let forced = template(&env, &["save", "review", "--model", "x", "--force"]).run();
    assert_eq!(forced.ok().json()["replaced"], true);
    let gone = template(&env, &["delete", "review"]).run().ok().json();
    assert_eq!(gone["templates"], json!(["review"]));
    template(&env, &["show", "review"]).run().fails(2, "usage");
}

#[test]
fn a_template_is_saved_from_a_session_and_begins_another_like_it() {
    let env = TestEnv::new();
    env.write(env.store().join("config.toml"), "options.seed = 4");
    let id = env
        .chat("one")
        .args([
            "--model",
            "m1",
            "--system",
            "Write {{braces}} and \\{{these}} as they are.",
        ])
        .args(["--max-context-tokens", "7000", "--prune", "off"])
        .run()
        .session_id();
    template(
        &env,
        &["save", "like", "--from-session", &id, "--model", "m2"],
    )
    .run()
    .ok();
    env.write(env.store().join("config.toml"), "");
    env.chat("hi").args(["--template", "like"]).run().ok();
    let request = env.server().last_request();
    assert_eq!(request.model(), "m2");
    assert_eq!(
        request.contents()[0],
        "Write {{braces}} and \\{{these}} as they are."
    );
    assert_eq!(*request.option("seed"), json!(4));
    template(
        &env,
        &[
            "save",
            "no",
            "--from-session",
            "0199aabb-ccdd-7fff-bfff-ffffffffffff",
        ],
    )
    .run()
    .fails(3, "session_not_found");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let env = TestEnv::new();
    let rows: [&[&str]; 8] = [
        &["save", "t"],
        &["save", "t", "--description", "nothing else"],
        &["save", "../t", "--model", "m"],
        &["save", ".t", "--model", "m"],
        &["save", "t", "--system", "s", "--var", "a=b"],
        &["save", "t", "--model", ""],
        &["save", "t", "--option", "stop=null"],
        &["delete", "t"],
    ];
    for args in rows {
        template(&env, args).run().fails(2, "usage");
        assert!(!path(&env, "t").exists(), "{args:?}");
    }
}

#[test]
fn a_bad_template_has_its_line_and_the_others_are_listed() {
    let env = TestEnv::new();
    assert_eq!(template(&env, &["list"]).run().ok().json()["total"], 0);
    assert!(env.files().is_empty(), "a list made something");
    write(&env, "good", REVIEW);
    write(&env, "bad", "model = 'm'\nsytem = 's'");
    write(&env, "not a name", "model = 'm'");
    std::os::unix::fs::symlink(path(&env, "good"), path(&env, "link")).expect("a link");
    let list = template(&env, &["list"]).run();
    assert_eq!(list.ok().json()["total"], 1);
    assert_eq!(list.json()["templates"][0]["name"], "good");
    let warnings = list.json()["warnings"].to_string();
    assert!(
        warnings.contains("bad.toml:2: there is no key `sytem`"),
        "{warnings}"
    );
    assert!(warnings.contains("link"), "{warnings}");
    for args in [
        &["--template", "bad"][..],
        &["--template", "bad", "--no-session"],
    ] {
        let failure = env.chat("hi").args(args).run().fails(2, "config");
        assert!(failure.error.contains("bad.toml:2"), "{}", failure.error);
        assert_eq!(failure.hint.as_deref(), Some("did you mean `system`?"));
    }
    template(&env, &["show", "link"])
        .run()
        .fails(7, "store_unsupported");
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn the_table_is_for_people_and_harmless() {
    let env = TestEnv::new();
    write(
        &env,
        "a",
        "description = \"red \\u001b[31m\"\nsystem = '{{x}} {{y}}'\nvariables.y = '1'",
    );
    write(&env, "b", "model = 'm'");
    let table = template(&env, &["list", "--output", "table"]).run();
    let table = table.ok().stdout();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["NAME", "MODEL", "VARIABLES", "DESCRIPTION"]);
    assert_eq!(lines[1], ["a", "x", "y=1", "red", "\\u{1b}[31m"]);
    assert_eq!(lines[2], ["b", "m"]);
}

#[test]
fn of_many_who_save_one_name_at_once_one_does() {
    let env = TestEnv::new();
    let names: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|model| template(&env, &["save", "t", "--model", model]).spawn())
        .collect();
    let done: Vec<_> = running.into_iter().map(|run| run.wait()).collect();
    let winners: Vec<_> = done
        .iter()
        .filter(|output| output.exit_code() == Some(0))
        .collect();
    assert_eq!(winners.len(), 1);
    let shown = template(&env, &["show", "t"]).run().ok().json();
    assert_eq!(winners[0].json()["template"], shown);
    let left = std::fs::read_dir(env.store().join("templates")).expect("a directory");
    assert_eq!(left.count(), 1, "a temporary file is left");
}

#[test]
fn a_default_in_the_text_is_told_to_be_none() {
    let env = TestEnv::new();
    let system = "Be {{tone=brief}}, in {{language}}. {{ x = 1 }} \\{{y=2}}";
    let saved = template(&env, &["save", "t", "--system", system]).run();
    let warnings = saved.ok().json()["warnings"].clone();
    let warnings = warnings.as_array().expect("warnings");
    assert_eq!(warnings.len(), 2, "{saved}");
    let first = warnings[0].as_str().expect("a sentence");
    for part in ["{{tone=brief}}", "no variable", "--var tone=brief"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(saved.stderr().contains("--var tone=brief"), "{saved}");
    assert_eq!(
        saved.json()["template"]["variables"],
        json!([{"name": "language", "default": null}])
    );

    let sound = [
        "save",
        "u",
        "--system",
        "Be {{tone}}: a == b",
        "--var",
        "tone=brief",
    ];
    let saved = template(&env, &sound).run();
    assert_eq!(saved.ok().json().get("warnings"), None);
    // What a session was told is no template, whatever it looks like.
    let id = env.chat("hi").args(["--system", system]).run().session_id();
    let saved = template(&env, &["save", "v", "--from-session", &id]).run();
    assert_eq!(saved.ok().json().get("warnings"), None);
}
