//! Session-keeping command line for Ollama.
//!
//! # The map
//!
//! Modules in the order of their dependencies, the ones that know least first:
//!
//! * [`error`], [`warning`]: what can fail and what is worth telling, a table each
//! * [`handwritten`]: files people write, with file and line of every mistake
//! * [`progress`]: how far long work has come, for whoever shows it
//! * [`digest`]: hashes as they are written down
//! * [`json`]: JSON as it is written to disk and to standard output
//! * [`platform`]: what differs between operating systems, and the only module that names one
//! * [`signals`]: signals that end a call
//! * [`wake`]: waiting for a moment or a signal
//! * [`session`]: what a conversation is. Ids, events, the fold, the context plan. Pure
//! * [`clock`]: the wall clock and randomness
//! * [`tokens`]: how many tokens a text has
//! * [`store`]: where conversations live: what every store is and does, and who implements it. The
//!   one of files is the only module that locks, appends and removes files; the one of a MongoDB
//!   server is in builds that can speak to one
//! * [`import`]: conversations of other programs, as sessions of turns
//! * [`prompt`]: where the prompt comes from
//! * [`ollama`]: asking a server; async code is here and in `store::mongo` only
//! * [`cli`]: what was typed and what was asked for; the only reader of the environment
//! * [`template`]: what sessions are begun with, under a name
//! * [`commands`]: one file for each thing the program does
//! * [`output`]: what is printed; the only module that prints
//!
//! # One run
//!
//! [`cli::parse`] reads the arguments; with the environment and the store's `config.toml` they
//! become an [`cli::Invocation`]. For a turn,
//! [`commands`] reads the prompt, reads the session without a lock, chooses what fits the budget,
//! opens what the append will need, and writes a draft of the prompt that it holds while the
//! model answers. The reply arrives in pieces, which [`output`] may show at once. Then, under the
//! session's lock, what others appended meanwhile is folded in and the turn is written in one
//! call; it is synced after the lock is free, the draft is removed, and one object is printed. A
//! reply that arrived and could not be stored is printed all the same, and the exit status says
//! so.
#![warn(missing_docs)]

pub mod cli;
pub mod clock;
pub mod commands;
pub mod digest;
pub mod error;
pub mod handwritten;
pub mod import;
pub mod json;
pub mod ollama;
pub mod output;
pub mod platform;
pub mod progress;
pub mod prompt;
pub mod session;
pub mod signals;
pub mod store;
pub mod template;
pub mod tokens;
pub mod user_file;
pub mod wake;
pub mod warning;
