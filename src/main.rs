//! The program: parse, run, print, exit code.

use std::process::ExitCode;

use ollama_prompt::cli::{self, Env, Parsed};
use ollama_prompt::commands;
use ollama_prompt::error::Result;
use ollama_prompt::output::{Printer, print_failure, print_text};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_failure(&error);
            ExitCode::from(error.code.exit_status())
        }
    }
}

fn run() -> Result<()> {
    let invocation = match cli::parse(std::env::args_os(), &Env::of_process()?)? {
        Parsed::Text(text) => return print_text(&text),
        Parsed::Invocation(invocation) => invocation,
    };
    let mut printer = Printer::new(&invocation);
    let outcome = commands::run(&invocation, &mut |chunk| printer.piece(chunk))?;
    printer.finish(outcome)
}
