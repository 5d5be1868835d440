//! What may be typed, what it asks for, and what makes no sense.

use super::values::{DAY, duration};
use super::*;

const DEFAULT_MODEL: &str = "deepseek-v3.1:671b-cloud";

fn env() -> Env {
    Env {
        home: Some("/home/u".into()),
        ..Env::default()
    }
}

fn ask_in(line: &str, env: &Env) -> Result<Invocation> {
    let words =
        std::iter::once("ollama-prompt").chain(line.split(' ').filter(|word| !word.is_empty()));
    match parse(words.map(OsString::from))? {
        Parsed::Typed(typed) => typed.asks_for(env),
        Parsed::Text(text) => panic!("a text: {text}"),
    }
}

fn ask(line: &str) -> Result<Invocation> {
    ask_in(line, &env())
}

fn turn(line: &str) -> Turn {
    match ask(line).expect(line).command {
        Command::Turn(turn) => *turn,
        other => panic!("{line}: {other:?}"),
    }
}

const ID: &str = "019aa0c4-7d10-7c3e-9a52-0c8f6b1f2a33";

#[test]
fn the_command_definition_is_sound() {
    <Typed as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn a_bare_prompt_is_a_new_session_with_the_defaults() {
    let t = turn("--prompt hi");
    assert_eq!(t.prompt, Source::Text("hi".into()));
    assert_eq!(t.memory, Memory::New);
    assert_eq!(
        Value::Object(in_force(&t.defaults.options, &t.options)),
        serde_json::json!({"temperature": 0.1, "num_predict": 2048})
    );
    assert_eq!(t.defaults.model.as_deref(), Some(DEFAULT_MODEL));
    assert_eq!(t.defaults.max_context_tokens, Some(64_000));
    assert_eq!(ask("--prompt hi").expect("usual").output, Output::Json);
    assert_eq!(
        ask("--prompt hi").expect("usual").store,
        StoreRoot::At("/home/u/.ollama-prompt".into())
    );
}

#[test]
fn sessions_are_named_in_their_ways() {
    let id: SessionId = ID.parse().expect("an id");
    let rows = [
        (
            format!("--session-id {ID}"),
            Memory::Continue(SessionRef::Full(id)),
        ),
        (
            format!("--session-id {}", &ID[28..]),
            Memory::Continue(SessionRef::Fragment(ID[28..].into())),
        ),
        (
            format!("--session-id {ID} --create"),
            Memory::ContinueOrCreate(id),
        ),
        (
            "--session-key main".into(),
            Memory::ContinueOrCreate(SessionId::from_key("main")),
        ),
        ("--continue".into(), Memory::Latest),
        ("-c".into(), Memory::Latest),
        ("--new-session".into(), Memory::New),
        ("--no-session".into(), Memory::None),
    ];
    for (flags, expected) in rows {
        assert_eq!(turn(&format!("-p hi {flags}")).memory, expected, "{flags}");
    }
}

#[test]
fn a_flag_that_names_a_session_beats_the_stateless_default() {
    let stateless = Env {
        no_session: Some("1".into()),
        ..env()
    };
    let rows = [
        ("", Memory::None),
        ("--new-session", Memory::New),
        ("-c", Memory::Latest),
    ];
    for (flags, expected) in rows {
        match ask_in(&format!("-p hi {flags}"), &stateless)
            .expect(flags)
            .command
        {
            Command::Turn(t) => assert_eq!(t.memory, expected, "{flags}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error_that_says_so() {
    let rows = [
        ("", "--prompt is required"),
        (
            "-p hi --session-id 019aa0c4 --no-session",
            "--session-id and --no-session are mutually exclusive",
        ),
        ("-p hi --continue --new-session", "mutually exclusive"),
        (
            "--list-sessions --purge 3",
            "--list-sessions and --purge are mutually exclusive",
        ),
        ("--list-sessions -p hi", "mutually exclusive"),
        (
            "--list-sessions --model x",
            "--list-sessions and --model are mutually exclusive",
        ),
        ("--purge 3 --session-id 019aa0c4", "mutually exclusive"),
        ("--list-sessions --output text", "there is no --output text"),
        ("-p hi --option num_ctx=abc", "num_ctx"),
        ("-p hi --option num_predict=0", "num_predict"),
        ("-p hi --session-id null", "`null`"),
        ("-p hi --session-id=", "empty"),
        ("-p hi --session-id ../../x/y", "no session id"),
        ("--session-info short", "no session id"),
        ("-p hi --create", "--session-id"),
        ("-p hi --create --session-id 019aa0c4", "full session id"),
        ("--purge -1", "from 0 on, not -1"),
        ("--purge x", "'x'"),
        ("-p hi --max_tokens 0", "from 1 on"),
        ("-p hi --temperature NaN", "from 0 on"),
        ("-p hi --temperature -1", "from 0 on"),
        ("-p hi --option seed", "KEY=VALUE"),
        ("-p hi --option a=1 --option a=2", "twice"),
        ("-p hi --option temperature=1 --temperature 1", "twice"),
        ("-p hi --max-context-tokens 0", "from 1 to"),
        ("-p hi --max-context-tokens -5", "from 1 to"),
        ("-p hi --output yaml", "yaml"),
        ("-p hi --timeout soon", "soon"),
        ("-p hi --think=hard", "hard"),
        ("-p hi --prompt-file x", "cannot be used with"),
        ("-p hi --frobnicate", "--frobnicate"),
        ("-p hi --m 3", "--m"),
        ("-p hi --session-key=", "empty"),
        ("-p hi --model=", "empty"),
    ];
    for (line, part) in rows {
        let error = ask(line).expect_err(line);
        assert_eq!(error.code, Code::Usage, "{line}");
        assert!(error.to_string().contains(part), "{line}: {error}");
        assert!(!error.to_string().contains('\n'), "{line}: {error}");
    }
}

#[test]
fn options_may_be_abbreviated_and_both_spellings_work() {
    for flag in ["--max_tokens", "--max-tokens", "--max_t", "--max-t"] {
        assert_eq!(
            turn(&format!("-p hi {flag} 5")).options["num_predict"],
            5,
            "{flag}"
        );
    }
    let Command::Purge(purge) = ask("--purge-s 3").expect("purge").command else {
        panic!("not a purge");
    };
    assert_eq!(
        (purge.unused_for.as_secs() / DAY, purge.asked.as_str()),
        (3, "--purge 3")
    );
}

#[test]
fn option_values_are_json_where_they_parse() {
    let t = turn(
        "-p hi --option seed=7 --option stop=END --option stop2=[\"a\"] --option num_predict=9",
    );
    let expected = serde_json::json!({"seed": 7, "stop": "END", "stop2": ["a"], "num_predict": 9});
    assert_eq!(Value::Object(t.options), expected);
}

#[test]
fn think_has_levels() {
    let rows = [
        ("", None),
        ("--think", Some(Value::Bool(true))),
        ("--think=false", Some(Value::Bool(false))),
        ("--think=high", Some("high".into())),
    ];
    for (flag, expected) in rows {
        assert_eq!(turn(&format!("{flag} -p hi")).think, expected, "{flag}");
    }
}

#[test]
fn prompts_may_begin_with_a_hyphen_and_a_lone_one_is_stdin() {
    assert_eq!(turn("--prompt -").prompt, Source::Stdin);
    assert_eq!(turn("--prompt -x").prompt, Source::Text("-x".into()));
    assert_eq!(
        turn("--prompt-file p.txt").prompt,
        Source::File("p.txt".into())
    );
}

#[test]
fn the_store_is_where_the_environment_says_or_nowhere() {
    let home = env();
    let rows: [(&str, Env, Option<&str>); 6] = [
        ("home", home.clone(), Some("/home/u/.ollama-prompt")),
        (
            "store",
            Env {
                store: Some("/s".into()),
                ..home.clone()
            },
            Some("/s"),
        ),
        (
            "older name",
            Env {
                db_path: Some("/d".into()),
                ..home.clone()
            },
            Some("/d"),
        ),
        (
            "two",
            Env {
                store: Some("/s".into()),
                db_path: Some("/d".into()),
                ..home.clone()
            },
            None,
        ),
        (
            "a database besides",
            Env {
                database: Some(Uri::new("mongodb://h".into())),
                ..home
            },
            Some("/home/u/.ollama-prompt"),
        ),
        ("none", Env::default(), None),
    ];
    for (name, env, expected) in rows {
        let root = ask_in("-p hi", &env).expect(name).store;
        match expected {
            Some(path) => assert_eq!(root.path().expect(name), Path::new(path), "{name}"),
            None => assert_eq!(root.path().expect_err(name).code, Code::Config, "{name}"),
        }
    }
}

#[test]
fn sessions_are_in_the_database_that_is_named() {
    let location = |env: &Env| ask_in("-p hi", env).expect("it is understood").location();
    let with = |uri: Option<&str>| Env {
        store: Some("/s".into()),
        database: uri.map(|uri| Uri::new(uri.to_owned())),
        ..env()
    };
    assert_eq!(
        location(&with(None)).expect("a place"),
        Location::Files("/s".into())
    );
    let uri = "mongodb://user:secret@h/db";
    let named = Location::Database(Uri::new(uri.to_owned()).expect("an address"));
    let there = location(&with(Some(uri)));
    let expected = if cfg!(feature = "mongodb") {
        Ok(named)
    } else {
        Err(Code::Config)
    };
    assert!(!format!("{there:?}").contains("secret"));
    assert_eq!(there.map_err(|error| error.code), expected);
    let other = location(&with(Some("postgres://user:secret@h"))).expect_err("of another kind");
    assert_eq!(other.code, Code::Config);
    assert!(!format!("{other:?} {other}").contains("secret"));
}

#[test]
fn a_variable_that_does_not_parse_is_named() {
    let rows = [
        (
            Env {
                max_context_tokens: Some("many".into()),
                ..env()
            },
            "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS=many",
        ),
        (
            Env {
                max_context_tokens: Some("0".into()),
                ..env()
            },
            "OLLAMA_PROMPT_MAX_CONTEXT_TOKENS=0",
        ),
        (
            Env {
                no_session: Some("maybe".into()),
                ..env()
            },
            "OLLAMA_PROMPT_NO_SESSION=maybe",
        ),
        (
            Env {
                lock_timeout: Some("soon".into()),
                ..env()
            },
            "OLLAMA_PROMPT_LOCK_TIMEOUT=soon",
        ),
        (
            Env {
                durability: Some("some".into()),
                ..env()
            },
            "OLLAMA_PROMPT_DURABILITY=some",
        ),
    ];
    for (env, part) in rows {
        let error = ask_in("-p hi", &env).expect_err(part);
        assert_eq!(error.code, Code::Config, "{part}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn times_are_read_as_people_write_them() {
    for (text, seconds) in [
        ("90", 90.0),
        ("0.5", 0.5),
        ("90s", 90.0),
        ("10m", 600.0),
        ("1h 30m", 5400.0),
    ] {
        assert_eq!(duration(text).expect(text).as_secs_f64(), seconds, "{text}");
    }
    for text in ["", "-1", "x", "10 parsecs", "NaN"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn the_verbs_of_session_are_the_long_form_of_the_flags() {
    let rows = [
        ("session list", "--list-sessions"),
        ("session show 019aa0c4", "--session-info 019aa0c4"),
        ("session list -q", "--list-sessions -q"),
    ];
    for (long, short) in rows {
        assert_eq!(ask(long).expect(long), ask(short).expect(short), "{long}");
    }
    for line in [
        "session",
        "session list -p hi",
        "-p hi session list",
        "session show",
        "session show null",
    ] {
        assert_eq!(ask(line).expect_err(line).code, Code::Usage, "{line}");
    }
}

#[test]
fn how_long_a_session_was_not_used_has_a_unit_and_a_limit() {
    let id = "0199aabb-ccdd-7fff-bfff-ffffffffffff";
    let rows = [
        ("session purge --older-than 30d", Some(30 * DAY)),
        ("session purge --older-than 12h --dry-run", Some(DAY / 2)),
        ("session purge --older-than 0", Some(0)),
        ("session purge --older-than 0s --model m --tag t", Some(0)),
        ("session purge --older-than 2weeks", Some(14 * DAY)),
        ("session purge", None),
        ("session purge --older-than 30", None),
        ("session purge --older-than -30d", None),
        ("session purge --older-than=-1", None),
        ("session purge --older-than 1.5d", Some(36 * 60 * 60)),
        ("session purge --older-than 101y", None),
        ("session purge --older-than 99999999999999999999y", None),
        ("session purge --older-than soon", None),
        ("session purge --older-than 30d --model", None),
    ];
    for (line, expected) in rows {
        let got = ask(line)
            .ok()
            .and_then(|invocation| match invocation.command {
                Command::Purge(purge) => Some(purge.unused_for.as_secs()),
                _ => None,
            });
        assert_eq!(got, expected, "{line}");
    }
    let asked = ask("session purge --older-than 1d --tag t --model m")
        .expect("a purge")
        .command;
    assert!(
        matches!(asked, Command::Purge(p) if p.asked == "session purge --older-than 1d --model m --tag t")
    );
    for (line, is_good) in [
        (format!("session delete {id} {id}"), true),
        ("session delete 0199aabb".to_owned(), false),
        ("session delete".to_owned(), false),
        (format!("session delete {id} null"), false),
    ] {
        let got = ask(&line);
        assert_eq!(
            got.is_ok_and(|i| matches!(i.command, Command::Delete(_))),
            is_good,
            "{line}"
        );
    }
}

/// What holds for every call, or is not seen in a request: each source before those after it.
#[test]
fn flags_go_before_the_environment_that_before_the_config_and_that_before_the_default() {
    type Probe = fn(&Invocation) -> String;
    /// Its name, how it is seen, and for each source how that says it and what is seen then.
    type Row = (
        &'static str,
        Probe,
        Option<(&'static str, &'static str)>,
        Option<(fn(&mut Env), &'static str)>,
        Option<(fn(&mut Config), &'static str)>,
        &'static str,
    );
    fn server(invocation: &Invocation) -> (String, Option<String>, Duration) {
        match &invocation.command {
            Command::Turn(turn) => match turn.server.clone() {
                Server::Ollama {
                    host,
                    api_key,
                    silence,
                } => (host, api_key, silence),
                Server::Echo => panic!("no server"),
            },
            other => panic!("{other:?}"),
        }
    }
    let rows: [Row; 9] = [
        (
            "max_file_bytes",
            |i| match &i.command {
                Command::Turn(turn) => turn.references.max_file_bytes.to_string(),
                other => panic!("{other:?}"),
            },
            Some(("--max-file-bytes 1", "1")),
            None,
            Some((|c| c.max_file_bytes = Some(3), "3")),
            "200000",
        ),
        (
            "strict_refs",
            |i| match &i.command {
                Command::Turn(turn) => turn.references.is_strict.to_string(),
                other => panic!("{other:?}"),
            },
            Some(("--strict-refs", "true")),
            None,
            Some((|c| c.strict_refs = true, "true")),
            "false",
        ),
        (
            "color",
            |i| format!("{:?}", i.color),
            Some(("--color always", "Always")),
            Some((|e| e.forbids_color = true, "Never")),
            Some((|c| c.color = Some(Color::Always), "Always")),
            "Auto",
        ),
        (
            "timeout",
            |i| format!("{:?}", server(i).2),
            Some(("--timeout 1", "1s")),
            None,
            Some((|c| c.timeout = Some(Duration::from_secs(3)), "3s")),
            "600s",
        ),
        (
            "lock_timeout",
            |i| format!("{:?}", i.lock_timeout),
            None,
            Some((|e| e.lock_timeout = Some("2".into()), "2s")),
            Some((|c| c.lock_timeout = Some(Duration::from_secs(3)), "3s")),
            "30s",
        ),
        (
            "durability",
            |i| format!("{:?}", i.durability),
            Some(("--durability full", "Full")),
            Some((|e| e.durability = Some("relaxed".into()), "Relaxed")),
            Some((|c| c.durability = Some(Durability::Relaxed), "Relaxed")),
            "Full",
        ),
        (
            "no_session",
            |i| match &i.command {
                Command::Turn(turn) => format!("{:?}", turn.memory),
                other => panic!("{other:?}"),
            },
            Some(("--new-session", "New")),
            Some((|e| e.no_session = Some("1".into()), "None")),
            Some((|c| c.no_session = Some(true), "None")),
            "New",
        ),
        (
            "host",
            |i| server(i).0,
            None,
            Some((|e| e.host = Some("env".into()), "env")),
            Some((|c| c.host = Some("config".into()), "config")),
            "",
        ),
        (
            "api_key",
            |i| format!("{:?}", server(i).1),
            None,
            Some((|e| e.api_key = Some("env".into()), "Some(\"env\")")),
            Some((|c| c.api_key = Some("config".into()), "Some(\"config\")")),
            "None",
        ),
    ];
    for (name, probe, flag, variable, key, default) in rows {
        // Every subset of the sources: the strongest in it is seen.
        for subset in 0..8_u8 {
            let has = |bit: u8| subset & bit != 0;
            let (mut line, mut env, mut expected) = ("-p hi".to_owned(), env(), default);
            if let Some((set, seen)) = key.filter(|_| has(1)) {
                set(&mut env.config);
                expected = seen;
            }
            if let Some((set, seen)) = variable.filter(|_| has(2)) {
                set(&mut env);
                expected = seen;
            }
            if let Some((flag, seen)) = flag.filter(|_| has(4)) {
                line = format!("{line} {flag}");
                expected = seen;
            }
            let invocation = ask_in(&line, &env).expect(name);
            assert_eq!(probe(&invocation), expected, "{name}: {line} {subset:03b}");
        }
    }
    // A variable can also say no where the file says yes.
    let mut env = env();
    env.config.no_session = Some(true);
    env.config.durability = Some(Durability::Relaxed);
    env.no_session = Some("0".into());
    env.durability = Some("full".into());
    let invocation = ask_in("-p hi", &env).expect("sound");
    assert_eq!(invocation.durability, Durability::Full);
    assert!(matches!(invocation.command, Command::Turn(turn) if turn.memory == Memory::New));
}
