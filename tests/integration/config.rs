//! `config.toml` and the environment: which source of a setting wins, and what a bad one costs.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Request, Run, TestEnv, need};

/// A source of a setting, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Flag,
    Session,
    Environment,
    Config,
    Default,
}

/// How a source says it.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// Arguments of the call.
    Flags(&'static [&'static str]),
    /// Arguments of the first turn of the session, and the `config.toml` it was begun with.
    BegunWith(&'static [&'static str], &'static str),
    /// A variable.
    Variable(&'static str, &'static str),
    /// A line of `config.toml`.
    Line(&'static str),
    /// Nobody says anything.
    Nothing,
}

/// What can be seen of a turn from outside.
struct Sight {
    request: Arc<Request>,
    /// What `--dry-run` says.
    plan: Value,
    output: Value,
}

struct Setting {
    name: &'static str,
    seen: fn(&Sight) -> Value,
    /// The sources it has, how each says it, and what is seen then.
    sources: Vec<(Source, Says, Value)>,
}

fn option(name: &str) -> impl Fn(&Sight) -> Value {
    move |sight| sight.request.option(name).clone()
}

fn settings() -> Vec<Setting> {
    use Says::{BegunWith, Flags, Line, Nothing, Variable};
    use Source::{Config, Default, Environment, Flag, Session};
    vec![
        Setting {
            name: "model",
            seen: |sight| sight.request.model().into(),
            sources: vec![
                (Flag, Flags(&["--model", "f"]), json!("f")),
                (Session, BegunWith(&["--model", "s"], ""), json!("s")),
                (
                    Environment,
                    Variable("OLLAMA_PROMPT_MODEL", "e"),
                    json!("e"),
                ),
                (Config, Line("model = 'c'"), json!("c")),
                (Default, Nothing, json!("deepseek-v3.1:671b-cloud")),
            ],
        },
        Setting {
            name: "max_context_tokens",
            seen: |sight| sight.output["context_usage"]["max_context_tokens"].clone(),
            sources: vec![
                (Flag, Flags(&["--max-context-tokens", "5001"]), json!(5001)),
                (
                    Session,
                    BegunWith(&["--max-context-tokens", "5002"], ""),
                    json!(5002),
                ),
                (
                    Environment,
                    Variable("OLLAMA_PROMPT_MAX_CONTEXT_TOKENS", "5003"),
                    json!(5003),
                ),
                (Config, Line("max_context_tokens = 5004"), json!(5004)),
                (Default, Nothing, json!(64000)),
            ],
        },
        Setting {
            name: "system",
            seen: |sight| match sight.request.roles()[0].as_str() {
                "system" => sight.request.contents()[0].clone().into(),
                _ => Value::Null,
            },
            sources: vec![
                (Flag, Flags(&["--system", "f"]), json!("f")),
                (Session, BegunWith(&["--system", "s"], ""), json!("s")),
                (Config, Line("system = 'c'"), json!("c")),
                (Default, Nothing, Value::Null),
            ],
        },
        Setting {
            name: "prune",
            seen: |sight| sight.plan["context_plan"]["strategy"].clone(),
            sources: vec![
                (Flag, Flags(&["--prune", "off"]), json!("off")),
                (
                    Session,
                    BegunWith(&["--prune", "importance"], ""),
                    json!("importance"),
                ),
                (Config, Line("prune = 'summarize'"), json!("summarize")),
                (Default, Nothing, json!("fifo")),
            ],
        },
        Setting {
            name: "temperature",
            seen: |sight| option("temperature")(sight),
            sources: vec![
                (Flag, Flags(&["--temperature", "0.5"]), json!(0.5)),
                (Session, BegunWith(&[], "temperature = 0.625"), json!(0.625)),
                (Config, Line("temperature = 0.75"), json!(0.75)),
                (Default, Nothing, json!(0.1)),
            ],
        },
        Setting {
            name: "max_tokens",
            seen: |sight| option("num_predict")(sight),
            sources: vec![
                (Flag, Flags(&["--max_tokens", "11"]), json!(11)),
                (Session, BegunWith(&[], "max_tokens = 12"), json!(12)),
                (Config, Line("max_tokens = 13"), json!(13)),
                (Default, Nothing, json!(2048)),
            ],
        },
        Setting {
            name: "keep_alive",
            seen: |sight| sight.request.json["keep_alive"].clone(),
            sources: vec![
                (Flag, Flags(&["--keep-alive", "5m"]), json!("5m")),
                (Config, Line("keep_alive = 90"), json!(90)),
                (Default, Nothing, Value::Null),
            ],
        },
        Setting {
            name: "options",
            seen: |sight| option("seed")(sight),
            sources: vec![
                (Flag, Flags(&["--option", "seed=1"]), json!(1)),
                (Session, BegunWith(&[], "options.seed = 2"), json!(2)),
                (Config, Line("options.seed = 3"), json!(3)),
                (Default, Nothing, Value::Null),
            ],
        },
    ]
}

fn write_config(env: &TestEnv, text: &str) -> PathBuf {
    env.write(env.store().join("config.toml"), text)
}

/// Takes a turn in which every one of `said` is said, and returns what is seen of it.
fn look(said: &[Says]) -> Sight {
    let env = TestEnv::new();
    env.server().set_context_length(1 << 20);
    for says in said {
        if let Says::BegunWith(args, config) = says {
            write_config(&env, config);
            let begin = env.chat("one").args(["--session-key", "k"]).args(*args);
            begin.run().ok();
        }
    }
    write_config(&env, "");
    let call = |prompt: &str| {
        let run = env.chat(prompt).args(["--session-key", "k"]);
        said.iter().fold(run, |run: Run<'_>, says| match says {
            Says::Flags(args) => run.args(*args),
            Says::Variable(name, value) => run.env(name, value),
            Says::Line(line) => {
                write_config(&env, line);
                run
            }
            Says::BegunWith(..) | Says::Nothing => run,
        })
    };
    let plan = call("two").arg("--dry-run").run().ok().json();
    let output = call("two").run().ok().json();
    Sight {
        request: env.server().last_request(),
        plan,
        output,
    }
}

#[test]
fn of_every_two_sources_of_a_setting_the_stronger_wins() {
    for setting in settings() {
        let Setting {
            name,
            seen,
            sources,
        } = setting;
        for (at, (stronger, says, value)) in sources.iter().enumerate() {
            assert_eq!(seen(&look(&[*says])), *value, "{name}: {stronger:?} alone");
            for (weaker, other, value_of_other) in &sources[at + 1..] {
                assert!(stronger < weaker, "{name}: the table is not in order");
                assert_ne!(value, value_of_other, "{name}: nothing is told apart");
                let got = seen(&look(&[*says, *other]));
                assert_eq!(got, *value, "{name}: {stronger:?} over {weaker:?}");
            }
        }
    }
}

#[test]
fn a_continued_session_keeps_what_it_has_also_where_that_is_nothing() {
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    write_config(
        &env,
        "model = 'c'\nsystem = 'c'\nprune = 'off'\nmax_context_tokens = 5000\ntemperature = 0.9\noptions.seed = 4",
    );
    env.chat("two").session(&id).run().ok();
    let request = env.server().last_request();
    assert_eq!(request.model(), "deepseek-v3.1:671b-cloud");
    assert_eq!(*request.option("temperature"), json!(0.1));
    assert_eq!(*request.option("seed"), Value::Null);
    let types: Vec<Value> = env
        .lines(&id)
        .iter()
        .map(|line| line["type"].clone())
        .collect();
    assert_eq!(
        types,
        ["session", "turn", "turn"],
        "a default changed the session"
    );
}

#[test]
fn options_of_the_config_are_kept_by_the_session_and_those_of_a_flag_are_not() {
    let env = TestEnv::new();
    write_config(&env, "temperature = 0.7\noptions.seed = 4");
    let flags = ["--option", "seed=5", "--max_tokens", "9"];
    let id = env.chat("one").args(flags).run().session_id();
    let header = &env.lines(&id)[0];
    assert_eq!(header["options"], json!({"temperature": 0.7, "seed": 4}));
    write_config(&env, "");
    env.chat("two").session(&id).run().ok();
    let request = env.server().last_request();
    let options = ["temperature", "seed", "num_predict"].map(|name| request.option(name).clone());
    assert_eq!(options, [json!(0.7), json!(4), json!(2048)]);
}

#[test]
fn host_and_key_are_those_of_the_environment_before_those_of_the_config() {
    let env = TestEnv::new();
    let text = format!("host = '{}'\napi_key = 'of-config'", env.server().url());
    let path = write_config(&env, &text);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("our own");
    let authorization = || {
        let request = env.server().last_request();
        request.header("authorization").map(str::to_owned)
    };
    env.chat("hi").env_remove("OLLAMA_HOST").run().ok();
    assert_eq!(authorization().as_deref(), Some("Bearer of-config"));
    let run = env.chat("hi").env_remove("OLLAMA_HOST");
    run.env("OLLAMA_API_KEY", "of-env").run().ok();
    assert_eq!(authorization().as_deref(), Some("Bearer of-env"));

    write_config(&env, "host = '192.0.2.1:9'");
    env.chat("hi").run().ok();
    write_config(&env, "");
    let run = env.chat("hi").env_remove("OLLAMA_HOST").arg("--dry-run");
    assert_eq!(
        run.run().ok().json()["url"],
        "http://127.0.0.1:11434/api/chat"
    );
}

#[test]
fn a_stateless_default_of_the_config_leaves_no_trace_and_gives_way() {
    let env = TestEnv::new();
    write_config(&env, "no_session = true\nmodel = 'c'");
    let before = env.snapshot();
    env.chat("hi").run().ok();
    assert_eq!(env.server().last_request().model(), "c");
    assert_eq!(env.snapshot(), before);
    let run = env.chat("hi").env("OLLAMA_PROMPT_NO_SESSION", "0");
    assert!(run.run().ok().json()["session_id"].is_string());
    let run = env.chat("hi").arg("--new-session");
    assert!(run.run().ok().json()["session_id"].is_string());
}

#[test]
fn a_bad_value_is_told_with_its_source_before_anything_is_asked_or_written() {
    let env = TestEnv::new();
    let path = env.store().join("config.toml");
    let line = |number: u32| format!("{}:{number}: ", path.display());
    let rows: [(&str, &str, String); 5] = [
        (
            "model = 'm'\n\nmodle = 'm'\n",
            "did you mean `model`?",
            line(3),
        ),
        ("max_context_tokens = 0", "", line(1)),
        ("model = 'm", "", line(1)),
        ("[redact]\npatterns = ['(']", "", line(2)),
        ("temperature = 'hot'", "", line(1)),
    ];
    for (text, hint, place) in rows {
        write_config(&env, text);
        let before = env.snapshot();
        for args in [
            &["--prompt", "hi"][..],
            &["--prompt", "hi", "--no-session"],
            &["--list-sessions"],
        ] {
            let failure = env.command().args(args).run().fails(2, "config");
            assert!(
                failure.error.starts_with(&place),
                "{text}: {}",
                failure.error
            );
            assert!(failure.hint.unwrap_or_default().contains(hint), "{text}");
        }
        assert_eq!(env.snapshot(), before, "{text}");
        env.command().arg("--help").run().ok();
    }
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn what_is_no_file_of_text_is_an_error_and_never_a_wait() {
    if !need("mkfifo") {
        return;
    }
    let rows: [(&str, &[&str], &str); 4] = [
        ("directory", &["mkdir", "config.toml"], "not a regular file"),
        ("FIFO", &["mkfifo", "config.toml"], "not a regular file"),
        (
            "huge",
            &["truncate", "-s", "2G", "config.toml"],
            "over 1 MiB",
        ),
        (
            "not UTF-8",
            &["sh", "-c", "printf 'model = \"\\377\"' > config.toml"],
            "byte 9 is not UTF-8",
        ),
    ];
    for (name, command, part) in rows {
        let env = TestEnv::new();
        std::fs::create_dir(env.store()).expect("a root");
        let made = std::process::Command::new(command[0])
            .args(&command[1..])
            .current_dir(env.store())
            .status();
        assert!(made.expect("it runs").success(), "{name}");
        let failure = env.chat("hi").run().fails(2, "config");
        for part in ["config.toml", part] {
            assert!(failure.error.contains(part), "{name}: {}", failure.error);
        }
        assert_eq!(env.server().request_count(), 0, "{name}");
    }
}

#[test]
fn one_that_cannot_be_read_is_an_error() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let path = write_config(&env, "model = 'c'");
    // Who tests may be root, whom no mode keeps out.
    let trace = format!("--trace-path={}", path.display());
    let run = env.chat("hi").through([
        "strace",
        "-f",
        "-o",
        "/dev/null",
        &trace,
        "-e",
        "inject=open,openat:error=EACCES",
    ]);
    let failure = run.run().fails(2, "config");
    assert!(failure.error.contains("config.toml"), "{}", failure.error);
    assert_eq!(env.server().request_count(), 0);
}

#[test]
fn without_one_a_turn_looks_once_and_does_nothing_else() {
    if !need("strace") {
        return;
    }
    let env = TestEnv::new();
    let id = env.chat("one").run().session_id();
    let trace = env.work().join("trace");
    let at = trace.to_str().expect("a plain path");
    let run = env.chat("two").session(&id);
    run.through(["strace", "-f", "-o", at]).run().ok();
    let trace = std::fs::read_to_string(trace).expect("a trace");
    let calls: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("config.toml"))
        .collect();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].contains("ENOENT"), "{calls:?}");
}

#[test]
fn a_link_of_the_users_own_is_followed() {
    let env = TestEnv::new();
    let target = env.write("dotfiles/ollama.toml", "model = 'linked'");
    std::fs::create_dir(env.store()).expect("a root");
    std::os::unix::fs::symlink(target, env.store().join("config.toml")).expect("a link");
    env.chat("hi").run().ok();
    assert_eq!(env.server().last_request().model(), "linked");
}

#[test]
fn a_key_others_may_read_and_a_file_others_may_write_are_refused() {
    let env = TestEnv::new();
    std::fs::create_dir(env.store()).expect("a root");
    let rows = [
        (0o700, 0o666, "api_key = 's3cret'", None),
        (0o755, 0o600, "api_key = 's3cret'", None),
        (0o755, 0o644, "model = 'm'", None),
        (
            0o755,
            0o644,
            "api_key = 's3cret'",
            Some("can be read by others"),
        ),
        (
            0o755,
            0o664,
            "model = 'm'",
            Some("other users may have written it"),
        ),
    ];
    for (dir, file, text, refusal) in rows {
        let path = write_config(&env, text);
        std::fs::set_permissions(&path, Permissions::from_mode(file)).expect("our own");
        std::fs::set_permissions(env.store(), Permissions::from_mode(dir)).expect("our own");
        let output = env.chat("hi").arg("--no-session").run();
        match refusal {
            None => drop(output.ok()),
            Some(part) => {
                let failure = output.fails(2, "config");
                assert!(
                    failure.error.contains(part),
                    "{dir:o} {file:o}: {}",
                    failure.error
                );
                assert!(failure.hint.expect("a hint").contains("chmod"));
                assert!(!failure.json.to_string().contains("s3cret"));
            }
        }
        env.command().arg("--help").run().ok();
    }
    // What asks nobody goes on without what the file says of that.
    write_config(&env, "model = 'm'");
    let path = env.store().join("config.toml");
    std::fs::set_permissions(path, Permissions::from_mode(0o666)).expect("our own");
    env.command().arg("--list-sessions").run().ok();
}

#[test]
fn every_variable_of_text_must_be_text_and_an_empty_one_is_none() {
    use std::os::unix::ffi::OsStrExt;
    let names = [
        "OLLAMA_HOST",
        "OLLAMA_API_KEY",
        "OLLAMA_PROMPT_MODEL",
        "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS",
        "OLLAMA_PROMPT_NO_SESSION",
        "OLLAMA_PROMPT_LOCK_TIMEOUT",
        "OLLAMA_PROMPT_DURABILITY",
    ];
    for name in names {
        let env = TestEnv::new();
        let not_text = std::ffi::OsStr::from_bytes(b"a\xff");
        let failure = env.chat("hi").env(name, not_text).run().fails(2, "config");
        assert!(failure.error.contains(name), "{}", failure.error);
        env.command().arg("--help").env(name, not_text).run().ok();
        let run = env.chat("hi").arg("--dry-run").env(name, "");
        let plain = env.chat("hi").arg("--dry-run").env_remove(name);
        let (empty, unset) = (run.run().ok().json(), plain.run().ok().json());
        for part in ["url", "request", "context_plan"] {
            assert_eq!(empty[part], unset[part], "{name}");
        }
    }
    // Paths are bytes; an empty one is none.
    for name in ["OLLAMA_PROMPT_HOME", "OLLAMA_PROMPT_DB_PATH"] {
        let env = TestEnv::new();
        env.chat("hi").env(name, "").run().ok();
        assert!(env.store().is_dir(), "{name}");
        let odd = env.work().join(std::ffi::OsStr::from_bytes(b"od\xffd"));
        env.chat("hi").env(name, &odd).run().ok();
        assert!(odd.join("sessions").is_dir(), "{name}");
    }
    let env = TestEnv::new();
    env.chat("hi").env("OLLAMA_PROMPT_DB_URI", "").run().ok();
    let nowhere = env.chat("hi").env("HOME", "").run().fails(2, "config");
    assert!(nowhere.error.contains("HOME"), "{}", nowhere.error);
}

#[test]
fn every_variable_the_program_reads_is_in_its_own_list() {
    let source = include_str!("../../src/cli/env.rs");
    let calls = ["raw(\"", "text(\""].map(|call| source.split(call).skip(1));
    let names = calls.into_iter().flatten();
    let mut read: Vec<&str> = names.filter_map(|rest| rest.split('"').next()).collect();
    read.sort_unstable();
    read.dedup();
    let mut listed: Vec<&str> = ollama_prompt::cli::VARIABLES
        .iter()
        .map(|(name, _)| *name)
        .collect();
    listed.sort_unstable();
    assert_eq!(read, listed);
}
