//! Colour: for people, where they want it, and never in what programs read.

use crate::support::{Output, Reply, Run, TestEnv, need};

/// Runs a command on a terminal; what it prints there becomes this one's standard output.
const ON_A_TERMINAL: &str = "import os, pty, sys\n\
                             sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

fn on_a_terminal(run: Run<'_>) -> Output {
    run.env("TERM", "xterm")
        .through(["python3", "-c", ON_A_TERMINAL])
        .run()
}

#[test]
fn a_failure_on_a_terminal_is_a_sentence_in_colour_where_that_is_wanted() {
    if !need("python3") {
        return;
    }
    let env = TestEnv::new();
    let missing = "00000000-0000-4000-8000-000000000000";
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], bool);
    let rows: [Row<'_>; 9] = [
        (&[], &[], true),
        (&["--color", "auto"], &[], true),
        (&[], &[("NO_COLOR", "1")], false),
        (&[], &[("NO_COLOR", "")], true),
        (&[], &[("TERM", "dumb")], false),
        (&["--color", "auto"], &[("NO_COLOR", "1")], false),
        (&["--color", "always"], &[("NO_COLOR", "1")], true),
        (&["--color=never"], &[], false),
        (&["--color", "never", "--color=always"], &[], true),
    ];
    for (args, variables, is_colored) in rows {
        // One that is understood and fails, and one that is not understood.
        for failing in [&["--session-info", missing][..], &["--no-such-flag"]] {
            let run = env.command().args(args.iter().chain(failing));
            let run = run
                .env("TERM", "xterm")
                .through(["python3", "-c", ON_A_TERMINAL]);
            let run = variables
                .iter()
                .fold(run, |run, (name, value)| run.env(name, value));
            let output = run.run();
            let told = output.stdout();
            assert!(told.contains("error:"), "{args:?} {variables:?}: {output}");
            assert!(!told.contains('{'), "no JSON: {output}");
            let has_color = told.contains("\u{1b}[31m");
            assert_eq!(
                has_color, is_colored,
                "{args:?} {variables:?} {failing:?}: {output}"
            );
            assert_eq!(told.contains('\u{1b}'), is_colored, "{output}");
            assert!(matches!(output.exit_code(), Some(2 | 3)), "{output}");
        }
    }
}

#[test]
fn what_programs_read_has_no_colour_however_it_is_asked_for() {
    let env = TestEnv::new();
    let always = ["--color", "always"];
    let failing = env
        .command()
        .args(["--session-info", "0123456789"])
        .args(always);
    let output = failing.run();
    output.fails(3, "session_not_found");
    assert!(!output.stderr().contains('\u{1b}'), "{output}");
    for form in ["json", "compact", "jsonl", "text"] {
        let turn = env.chat("hi").args(always).args(["--output", form]);
        let output = turn.answered(Reply::text("\u{1b}[31mred")).run();
        assert!(!output.ok().stdout().contains('\u{1b}'), "{form}: {output}");
    }
}

#[test]
fn a_warning_has_colour_where_it_was_asked_for_and_the_words_of_others_have_none() {
    let env = TestEnv::new();
    let warned = |color: &str| {
        let turn = env.chat("hi").args(["--offline", "--color", color]);
        turn.run().ok().stderr().to_owned()
    };
    assert!(
        warned("always").contains("\u{1b}[33m"),
        "{}",
        warned("always")
    );
    assert!(
        warned("auto").starts_with("warning: answered"),
        "{}",
        warned("auto")
    );
    assert_eq!(warned("auto"), warned("never"));
    if !need("python3") {
        return;
    }
    let words = "boom \u{1b}[2J\u{1b}]0;title\u{7}";
    let run = env.chat("hi").answered(Reply::error(500, words));
    let output = on_a_terminal(run);
    assert!(output.stdout().contains("boom \\u{1b}[2J"), "{output}");
    assert!(!output.stdout().contains("\u{1b}[2J"), "{output}");
}

#[test]
fn a_colour_nobody_knows_is_refused() {
    let env = TestEnv::new();
    let failure = env.chat("hi").args(["--color", "blue"]).run();
    assert!(failure.fails(2, "usage").error.contains("always"));
}
