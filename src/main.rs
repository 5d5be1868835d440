//! The program: parse, run, print, exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use ollama_prompt::cli::{self, Color, Config, Env, Parsed};
use ollama_prompt::error::Result;
use ollama_prompt::output::{Printer, end_with, print_failure, print_text, progress_of, tell_bugs};
use ollama_prompt::platform::outlive_size_limit;
use ollama_prompt::{commands, signals, store};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut color = cli::color_in(&arguments);
    tell_bugs(color);
    outlive_size_limit();
    match run(arguments, &mut color) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_failure(&error, color);
            ExitCode::from(error.code.exit_status())
        }
    }
}

/// Does what was asked for; what `color` is comes out of that.
fn run(arguments: Vec<OsString>, color: &mut Color) -> Result<()> {
    let typed = match cli::parse(arguments)? {
        Parsed::Text(text) => return print_text(&text),
        Parsed::Typed(typed) => typed,
    };
    let invocation = typed.asks_for(&surroundings()?)?;
    *color = invocation.color;
    if invocation.command.may_last() {
        let color = invocation.color;
        signals::end_at_once(move |error| end_with(&error, color))?;
    }
    let mut printer = Printer::new(&invocation);
    let progress = progress_of(&invocation);
    let outcome = commands::run(&invocation, &progress, &mut |chunk| printer.piece(chunk))?;
    printer.finish(outcome)
}

/// Reads what holds where no flag says otherwise: the environment, and behind it `config.toml`.
fn surroundings() -> Result<Env> {
    let env = Env::of_process()?;
    let found = match env.config_root() {
        Some(root) => store::config::read(&root)?,
        None => None,
    };
    Ok(match found {
        Some(found) => env.with_config(Config::parse(&found)?),
        None => env,
    })
}
