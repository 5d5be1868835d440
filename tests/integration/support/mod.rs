//! What the tests are written in: an environment of their own ([`TestEnv`]), a scripted Ollama
//! server inside the test process ([`Server`]), and what a run left behind ([`Output`]).
//!
//! Nothing here knows what the program should do; it only lets a test say it in few words and
//! see everything when it did not happen. Nothing waits for ever, and nothing sleeps to be in
//! time: a test that needs an order of events makes it, with a [`Gate`] or by counting requests.
#![allow(
    dead_code,
    reason = "a vocabulary: some words are used by the next test and not by the last"
)]

mod backend;
mod browser;
mod bytes;
mod capture;
mod chat_reply;
mod connection;
mod document;
mod env;
mod gate;
mod honest;
#[cfg(feature = "mongodb")]
pub(crate) mod mongod;
mod output;
mod reply;
mod request;
mod run;
mod running;
mod schemas;
mod server;
mod terminal;
mod tools;

mod env_tests;
mod server_tests;

use std::time::Duration;

#[allow(unused_imports, reason = "as above")]
pub(crate) use self::{
    backend::{Backend, Files},
    browser::{BROWSER, Browser},
    document::{Document, ROOT},
    env::TestEnv,
    gate::Gate,
    honest::{count, count_of_request, counted, honest, messages_of},
    output::{Failure, Output},
    reply::Reply,
    request::Request,
    run::Run,
    running::Running,
    schemas::{problems, schema},
    server::{NOBODY_LISTENS, Server},
    terminal::terminal,
    tools::{is_asked_for, need, outside},
};

/// How long anything in a test may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long the server holds a reply back for something that does not happen: less than
/// [`PATIENCE`], so that the reason is told before the waiting program is killed.
const HOLD: Duration = Duration::from_secs(45);
