//! Session-keeping command line for Ollama.
#![warn(missing_docs)]

pub mod error;
pub mod json;
pub mod ollama;
pub mod session;
