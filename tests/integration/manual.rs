//! Completions and the manual page: the shell and `man` take them.

use crate::support::{TestEnv, need};

#[test]
fn bash_completes_flags_and_verbs() {
    if !need("bash") {
        return;
    }
    let env = TestEnv::new();
    let script = r#"
        set -e
        source <("$0" completions bash)
        complete -p ollama-prompt >/dev/null
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            function=$(complete -p ollama-prompt | sed 's/.*-F \([^ ]*\).*/\1/')
            "$function" ollama-prompt "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" || true
            echo "${COMPREPLY[*]}"
        }
        try ollama-prompt --se
        try ollama-prompt session ve
        try ollama-prompt template sa
    "#;
    let output = env.command().through(["bash", "-c", script]).run();
    let lines: Vec<&str> = output.ok().stdout().lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    for flag in ["--session-id", "--session-key", "--session-info"] {
        assert!(
            lines[0].split(' ').any(|word| word == flag),
            "{flag}: {output}"
        );
    }
    assert_eq!(lines[1..], ["verify", "save"]);
}

#[test]
fn there_are_completions_for_every_shell_and_no_other() {
    let env = TestEnv::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = env.command().args(["completions", shell]).run();
        let script = output.ok().stdout();
        assert!(
            script.contains("session-id") && script.contains("verify"),
            "{shell}"
        );
    }
    let failure = env
        .command()
        .args(["completions", "csh"])
        .run()
        .fails(2, "usage");
    assert!(failure.error.contains("csh"));
    assert!(env.files().is_empty());
}

#[test]
fn the_manual_page_has_no_mistake_in_it_and_every_verb() {
    if !need("groff") {
        return;
    }
    let env = TestEnv::new();
    let page = env.command().arg("man").run();
    let page = page.ok().stdout();
    let at = env.write("ollama-prompt.1", page);
    let groff = std::process::Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(&at)
        .output()
        .expect("groff runs");
    assert!(
        groff.status.success() && groff.stderr.is_empty(),
        "{groff:?}"
    );
    for (words, _) in ollama_prompt::cli::verbs() {
        let heading = format!(".SH \"{}\"", words.to_uppercase().replace('-', "\\-"));
        assert!(page.contains(&heading), "{heading}");
    }
    for part in [
        "OLLAMA_PROMPT_HOME",
        "session_not_found",
        "\\-\\-session\\-key",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn neither_needs_a_home_or_a_sound_config() {
    let env = TestEnv::new();
    env.write(env.store().join("config.toml"), "this is no TOML");
    for args in [
        &["completions", "bash"][..],
        &["man"],
        &["--help"],
        &["--version"],
    ] {
        env.command().args(args).run().ok();
        env.command().args(args).env_remove("HOME").run().ok();
    }
}
