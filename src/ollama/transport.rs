//! What went wrong on the way to the server and back, told from what the libraries report.
//!
//! Their own words name the URL and each layer; here the innermost cause is enough, and the URL
//! may hold a password.

use std::error::Error as StdError;
use std::time::Duration;

use super::host::Host;
use super::refusal::excerpt;
use crate::error::{Code, Error};

/// Returns what a failure before the status line means.
pub(super) fn before_reply(error: &reqwest::Error, host: &Host) -> Error {
    if error.is_builder() {
        return Error::new(Code::Internal, "the request could not be built").because(cause(error));
    }
    if find::<rustls::Error>(error).is_some() {
        // Certificates and protocols do not change when the call is made again.
        return Error::new(
            Code::BadResponse,
            format!("no secure connection to {host} is possible"),
        )
        .because(cause(error))
        .hint("is it a server for https, with a certificate this machine trusts?");
    }
    if error.is_connect() {
        let hint = if host.is_loopback() {
            "`ollama serve` starts the server; OLLAMA_HOST says where it is"
        } else {
            "is the server running there? OLLAMA_HOST says where it is"
        };
        return Error::new(
            Code::ServerUnreachable,
            format!("cannot reach an Ollama server at {host}"),
        )
        .because(cause(error))
        .hint(hint);
    }
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        return Error::new(Code::BadResponse, format!("{host} does not speak HTTP"))
            .because(cause(error))
            .hint("is OLLAMA_HOST, port and scheme included, the address of an Ollama server?");
    }
    // It was there and took the request.
    Error::new(
        Code::StreamInterrupted,
        format!("{host} closed the connection before it answered"),
    )
    .because(cause(error))
}

/// Returns what a failure after the status line means.
pub(super) fn within_reply(error: &reqwest::Error, host: &Host) -> Error {
    Error::new(
        Code::StreamInterrupted,
        format!("the connection to {host} broke before the reply was finished"),
    )
    .because(cause(error))
}

/// Returns what it means that nothing came for as long as was to be waited.
pub(super) fn silence(waited: Duration, host: &Host) -> Error {
    Error::new(
        Code::Timeout,
        format!("{host} said nothing for {} s", waited.as_secs_f64()),
    )
    .hint("loading a model and reading a long prompt are silent too; --timeout waits longer")
}

/// Returns the words of the innermost cause.
fn cause(error: &reqwest::Error) -> String {
    let last = causes(error).last();
    last.map_or_else(String::new, |e| excerpt(e.to_string().as_bytes()))
}

fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    causes(error).find_map(|e| e.downcast_ref())
}

/// Walks from the cause of `error` inwards. An I/O error does not own up to what it wraps, so it
/// is asked twice.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&e| {
        let wrapped = e
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => e.source(),
        }
    })
}
