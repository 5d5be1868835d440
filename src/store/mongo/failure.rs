//! What went wrong with a server, in the words and codes of this program.
//!
//! Two questions are asked of a failure of the driver. Whether it can be said what became of a
//! write (`is_unknown`): if not, the same write is tried again under the same `_id`. And what to
//! tell (`Failed::told`): who is not let in, does not speak TLS, or is not there, each with what to do.
//!
//! The driver tells why it found no server only in a sentence, so this is where words are
//! looked for; what matches none is told as it is. No secret of the address is in any of it.

use mongodb::error::{Error as DriverError, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};

use crate::error::{Code, Error};
use crate::store::uri::Uri;

/// The server has a document of that `_id`.
const DUPLICATE: i32 = 11000;
/// Name or password are wrong.
const AUTHENTICATION_FAILED: i32 = 18;
/// Who asks may not do that, or did not say who it is.
const UNAUTHORIZED: i32 = 13;
/// A document is too large, as the server or its storage says.
const TOO_LARGE: [i32; 2] = [10334, 17280];
/// No room is left on the server's disk.
const NO_ROOM: i32 = 14031;
/// The server is going, coming, or no longer the one that writes; or gave up an operation.
/// Or a server that came back does not know what was being read.
const PASSING: [i32; 20] = [
    6, 7, 43, 50, 64, 89, 91, 112, 134, 175, 189, 237, 262, 9001, 10058, 10107, 11600, 11602,
    13435, 13436,
];

/// What the words of the driver are about.
const TLS_WORDS: [&str; 5] = ["certificate", "tls", "ssl", "corrupt message", "handshake"];
const LOGIN_WORDS: [&str; 3] = ["authentication", "scram", "auth mechanism"];

/// What an attempt ends with that got no answer in time.
#[derive(Debug)]
pub(super) struct NoAnswer;

/// A failure of the driver and what was being done.
pub(super) struct Failed<'a> {
    pub(super) uri: &'a Uri,
    pub(super) doing: &'a str,
}

/// Tells whether a write was refused because there is a document of that `_id`.
pub(super) fn is_duplicate(error: &DriverError) -> bool {
    code_of(error) == Some(DUPLICATE)
}

/// Tells whether nothing can have been done, because no server was found to do it.
pub(super) fn was_never_sent(error: &DriverError) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::ServerSelection { .. })
}

/// Tells whether a write may have been done, or could be done on another try.
pub(super) fn is_unknown(error: &DriverError) -> bool {
    if error.contains_label(RETRYABLE_WRITE_ERROR) {
        return true;
    }
    match error.kind.as_ref() {
        ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::Write(WriteFailure::WriteConcernError(_))
        | ErrorKind::Custom(_) => !is_about_tls(error),
        ErrorKind::ServerSelection { message, .. } => {
            let causes = causes(message).to_ascii_lowercase();
            !has_any(&causes, &TLS_WORDS) && !has_any(&causes, &LOGIN_WORDS)
        }
        _ => code_of(error).is_some_and(|code| PASSING.contains(&code)),
    }
}

impl Failed<'_> {
    /// Returns the failure as it is told.
    pub(super) fn told(&self, error: &DriverError) -> Error {
        let sentence = format!("cannot {} in {}", self.doing, self.uri);
        let cause = self.uri.without_secrets(&cause_of(error));
        let (code, hint) = self.kind(error);
        let told = Error::new(code, sentence).because(cause);
        match hint {
            Some(hint) => told.hint(hint),
            None => told,
        }
    }

    /// Tells whether the server ended a connection that began without TLS, as one does that wants
    /// it. One that goes away does so too, but is then not there to be connected to.
    fn was_hung_up_on(&self, causes: &str) -> bool {
        causes.contains("unexpected end of file") && !self.uri.asks_for_tls()
    }

    fn kind(&self, error: &DriverError) -> (Code, Option<&'static str>) {
        const LOGIN: &str = "OLLAMA_PROMPT_DB_URI has user and password, and authSource=DATABASE where the user is not of the database that is used";
        const RIGHTS: &str = "the server wants to know who asks, or that user may not do this: OLLAMA_PROMPT_DB_URI has user and password, and the user needs the role readWrite";
        const TLS: &str = "the server speaks TLS if OLLAMA_PROMPT_DB_URI says tls=true, with a certificate for that host, by tlsCAFile=FILE if it is not publicly trusted";
        const GONE: &str = "check that the server runs and that the address is right; OLLAMA_PROMPT_DB_URI can say serverSelectionTimeoutMS=10000 where it takes longer to find";
        match code_of(error) {
            Some(AUTHENTICATION_FAILED) => return (Code::StoreAuth, Some(LOGIN)),
            Some(UNAUTHORIZED) => return (Code::StoreAuth, Some(RIGHTS)),
            Some(NO_ROOM) => return (Code::StoreFull, None),
            Some(code) if TOO_LARGE.contains(&code) => return (Code::StoreUnsupported, None),
            Some(code) if PASSING.contains(&code) => return (Code::StoreUnreachable, Some(GONE)),
            _ => {}
        }
        match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => (Code::StoreAuth, Some(LOGIN)),
            ErrorKind::InvalidTlsConfig { .. } => (Code::StoreTls, Some(TLS)),
            ErrorKind::IncompatibleServer { .. } => (Code::StoreUnsupported, None),
            ErrorKind::InvalidArgument { .. } => (Code::Config, None),
            ErrorKind::ServerSelection { message, .. } => {
                let causes = causes(message).to_ascii_lowercase();
                if has_any(&causes, &LOGIN_WORDS) {
                    (Code::StoreAuth, Some(LOGIN))
                } else if has_any(&causes, &TLS_WORDS) || self.was_hung_up_on(&causes) {
                    (Code::StoreTls, Some(TLS))
                } else {
                    (Code::StoreUnreachable, Some(GONE))
                }
            }
            ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } if is_about_tls(error) => {
                (Code::StoreTls, Some(TLS))
            }
            ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::Custom(_)
            | ErrorKind::DnsResolve { .. } => (Code::StoreUnreachable, Some(GONE)),
            _ => (Code::StoreIo, None),
        }
    }
}

fn is_about_tls(error: &DriverError) -> bool {
    let text = error.kind.to_string().to_ascii_lowercase();
    has_any(&text, &TLS_WORDS)
}

fn has_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

fn code_of(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => {
            let write = error.write_errors.as_ref().and_then(|all| all.first());
            let concern = error.write_concern_error.as_ref();
            write.map(|e| e.code).or(concern.map(|e| e.code))
        }
        _ => code_of(source_of(error)?),
    }
}

/// Returns the failure beneath a failure.
fn source_of(error: &DriverError) -> Option<&DriverError> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Returns why, in words: of a server that was not found what it said itself, else the message of
/// the server without what is around it.
fn cause_of(error: &DriverError) -> String {
    let text = match error.kind.as_ref() {
        ErrorKind::Command(error) => format!("{} ({})", error.message, error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            format!("{} ({})", error.message, error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("{} ({})", error.message, error.code)
        }
        ErrorKind::ServerSelection { message, .. } => selection(message),
        ErrorKind::Custom(_) => "it takes what is asked and does not answer".to_owned(),
        other => other.to_string(),
    };
    match source_of(error) {
        Some(source) => format!("{text}: {}", cause_of(source)),
        None => text,
    }
}

/// Returns why no server was found: what each that answered said.
fn selection(message: &str) -> String {
    let causes = causes(message);
    if !causes.is_empty() {
        return causes;
    }
    match message.split_once(". Topology:") {
        Some((what, _)) if what.contains("None of the available servers") => {
            "no server there takes writes at the moment".to_owned()
        }
        _ => "no server answers".to_owned(),
    }
}

/// Returns what the driver says each server answered, without all it knows of them: names of hosts
/// and sets may be any words.
fn causes(message: &str) -> String {
    let mut causes: Vec<&str> = Vec::new();
    for part in message.split("Error: Kind: ").skip(1) {
        let cause = part.split(", labels: ").next().unwrap_or(part);
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    causes.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sentence as the driver has it, of a host whose name is `host`.
    fn sentence(host: &str, error: &str) -> String {
        format!(
            "Server selection timeout: No available servers. Topology: {{ Type: Single, Set Name: ssl-set, \
             Servers: [ {{ Address: {host}:27017, Type: Unknown, Error: Kind: {error}, labels: {{}} }} ] }}"
        )
    }

    #[test]
    fn words_are_looked_for_in_what_servers_answered_and_not_in_their_names() {
        let refused = "I/O error: Connection refused (os error 111)";
        let hosts = ["tls.internal", "authentication", "certificate-db"];
        for host in hosts {
            assert_eq!(causes(&sentence(host, refused)), refused);
        }
        let tls = "I/O error: invalid peer certificate: UnknownIssuer";
        assert_eq!(causes(&sentence("db", tls)), tls);
        assert_eq!(
            selection("Server selection timeout: No available servers. Topology: { tls }"),
            "no server answers"
        );
    }
}
