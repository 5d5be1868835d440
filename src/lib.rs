//! Session-keeping command line for Ollama.
#![warn(missing_docs)]

pub mod cli;
pub mod clock;
pub mod commands;
pub mod error;
pub mod json;
pub mod ollama;
pub mod output;
pub mod prompt;
pub mod session;
pub mod store;
pub mod tokens;
pub mod warning;
