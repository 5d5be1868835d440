//! The program: parse, run, print, exit code.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use ollama_prompt::cli::{self, Color, Env, Parsed};
use ollama_prompt::error::Result;
use ollama_prompt::output::{Printer, end_with, print_failure, print_text, tell_bugs};
use ollama_prompt::{commands, signals};

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
    let invocation = match cli::parse(arguments, &Env::of_process()?)? {
        Parsed::Text(text) => return print_text(&text),
        Parsed::Invocation(invocation) => invocation,
    };
    *color = invocation.color;
    if invocation.command.may_last() {
        let color = invocation.color;
        signals::end_at_once(move |error| end_with(&error, color))?;
    }
    let mut printer = Printer::new(&invocation);
    let outcome = commands::run(&invocation, &mut |chunk| printer.piece(chunk))?;
    printer.finish(outcome)
}

/// Lets a write beyond the limit of file sizes fail, as one to a full disk does: by itself that
/// ends the process in the middle of it, and the reply is lost.
fn outlive_size_limit() {
    let raised = Arc::default();
    // Where it cannot be caught, it ends the process as ever.
    let _ = signal_hook::flag::register(signal_hook::consts::signal::SIGXFSZ, raised);
}
