//! What can go wrong, in one table: the code programs match on, the exit status, and whether
//! trying the same call again can help.
//!
//! An [`Error`] carries one sentence (what was being done, to what), the cause beneath it, and
//! a hint apart from both: what to do next, only where there is something to do. Nothing here
//! prints; `output` does.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $exit:literal, $retry:literal;)*) => {
        /// The kind of a failure. The names are a contract with calling programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[doc = $doc])* $variant),* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name programs see, e.g. `session_not_found`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Returns the exit status of the process, 1 to 143.
            #[must_use]
            pub const fn exit_status(self) -> u8 {
                match self { $(Self::$variant => $exit),* }
            }

            /// Returns what it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*)),* }
            }

            /// Tells whether a signal ended the call.
            #[must_use]
            pub const fn is_signal(self) -> bool {
                matches!(self, Self::Hangup | Self::Interrupted | Self::Terminated)
            }

            /// Tells whether the same call may succeed when it is simply made again.
            #[must_use]
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retry),* }
            }
        }
    };
}

codes! {
    /// A promise of this program was broken: a bug.
    Internal = "internal", 1, false;
    /// The command line asks for something that makes no sense.
    Usage = "usage", 2, false;
    /// The environment, `config.toml` or a template says something that makes no sense.
    Config = "config", 2, false;
    /// No session has that id.
    SessionNotFound = "session_not_found", 3, false;
    /// More than one session, or draft, may be meant.
    SessionAmbiguous = "session_ambiguous", 3, false;
    /// A session that was to be created is there already.
    SessionExists = "session_exists", 3, false;
    /// The session has a newer turn than the one that was expected to be its newest.
    TurnConflict = "turn_conflict", 3, false;
    /// Another request was made under the same idempotency key.
    IdempotencyConflict = "idempotency_conflict", 3, false;
    /// Nobody listens at the server's address, or it cannot be found.
    ServerUnreachable = "server_unreachable", 4, true;
    /// The server, or a turn that was waited for, took longer than `--timeout`.
    Timeout = "timeout", 4, true;
    /// The server does not have the model.
    ModelNotFound = "model_not_found", 5, false;
    /// The server wants to know who asks.
    AuthRequired = "auth_required", 5, false;
    /// The server has too much to do (status 429 or 503).
    RateLimited = "rate_limited", 5, true;
    /// The server failed (status 5xx, or an error inside the stream).
    ServerError = "server_error", 5, true;
    /// What came back is not what an Ollama server says, or it refuses the request.
    BadResponse = "bad_response", 5, false;
    /// The reply ended before it was finished.
    StreamInterrupted = "stream_interrupted", 5, true;
    /// The model cannot do what was asked (think, use tools).
    ModelUnsupported = "model_unsupported", 5, false;
    /// What must be sent does not fit the context window.
    ContextOverflow = "context_overflow", 6, false;
    /// The store could not be read or written.
    StoreIo = "store_io", 7, false;
    /// Another process held a lock for longer than was waited.
    StoreLocked = "store_locked", 7, true;
    /// No room is left for the store.
    StoreFull = "store_full", 7, false;
    /// The store cannot be written by this user or on this mount.
    StoreReadonly = "store_readonly", 7, false;
    /// The store, or something in it, is of a kind this program refuses to touch.
    StoreUnsupported = "store_unsupported", 7, false;
    /// The server with the store does not answer, or none of its servers takes writes.
    StoreUnreachable = "store_unreachable", 7, true;
    /// Something the prompt refers to cannot be read, and `--strict-refs` says that this matters.
    Reference = "reference", 8, false;
    /// What `session verify` found is on standard output.
    Damaged = "damaged", 9, false;
    /// The server with the store does not let this user in, or not do this.
    StoreAuth = "store_auth", 10, false;
    /// The server with the store and this program do not agree on TLS, or on a certificate.
    StoreTls = "store_tls", 11, false;
    /// SIGHUP ended the call.
    Hangup = "hangup", 129, false;
    /// SIGINT ended the call.
    Interrupted = "interrupted", 130, false;
    /// SIGTERM ended the call.
    Terminated = "terminated", 143, false;
}

/// A failure: what was being done and to what, why it failed, and what to do next.
#[derive(Debug)]
pub struct Error {
    /// The kind; decides the exit status.
    pub code: Code,
    sentence: String,
    cause: Option<String>,
    hint: Option<String>,
    server_message: Option<String>,
    session_id: Option<Box<str>>,
}

/// The result of anything that can fail in a way the user must be told of.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error from its kind and the sentence that says what could not be done.
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self {
            code,
            sentence: sentence.into(),
            cause: None,
            hint: None,
            server_message: None,
            session_id: None,
        }
    }

    /// Adds why it failed.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the server's own words, verbatim.
    #[must_use]
    pub fn server_message(mut self, message: impl Into<String>) -> Self {
        self.server_message = Some(message.into());
        self
    }

    /// Adds the session the failed call was about.
    #[must_use]
    pub fn session(mut self, id: impl fmt::Display) -> Self {
        self.session_id = Some(id.to_string().into());
        self
    }

    /// Takes a failure from what another process reported of it; `None` for what is no report.
    #[must_use]
    pub fn of_report(report: &Value) -> Option<Self> {
        let text = |key: &str| report.get(key).and_then(Value::as_str);
        let code = Code::ALL
            .iter()
            .find(|code| Some(code.name()) == text("code"))?;
        Some(Self {
            code: *code,
            sentence: text("error")?.to_owned(),
            cause: None,
            hint: text("hint").map(str::to_owned),
            server_message: text("server_message").map(str::to_owned),
            session_id: text("session_id").map(Into::into),
        })
    }

    /// Returns what goes to stderr for programs, keys in the order of the contract.
    #[must_use]
    pub fn report(&self) -> Report<'_> {
        Report {
            error: self.to_string(),
            code: self.code.name(),
            hint: self.hint.as_deref(),
            retryable: self.code.retryable(),
            server_message: self.server_message.as_deref(),
            session_id: self.session_id.as_deref(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.sentence),
            None => f.write_str(&self.sentence),
        }
    }
}

impl std::error::Error for Error {}

/// A failure, on standard error.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Report<'a> {
    /// The sentence and its cause.
    pub error: String,
    /// What kind of failure it is; decides the exit status.
    #[schemars(schema_with = "names")]
    pub code: &'static str,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'a str>,
    /// Whether the same call may succeed when made again.
    pub retryable: bool,
    /// The server's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_message: Option<&'a str>,
    /// The session the call was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "uuid"))]
    pub session_id: Option<&'a str>,
}

/// Returns the schema of [`Report::code`]: every name of the table.
fn names(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    json_schema!({"type": "string", "enum": names})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_contract() {
        let rows: Vec<String> = Code::ALL
            .iter()
            .map(|c| format!("{} {} {}", c.exit_status(), c.name(), c.retryable()))
            .collect();
        assert_eq!(
            rows,
            [
                "1 internal false",
                "2 usage false",
                "2 config false",
                "3 session_not_found false",
                "3 session_ambiguous false",
                "3 session_exists false",
                "3 turn_conflict false",
                "3 idempotency_conflict false",
                "4 server_unreachable true",
                "4 timeout true",
                "5 model_not_found false",
                "5 auth_required false",
                "5 rate_limited true",
                "5 server_error true",
                "5 bad_response false",
                "5 stream_interrupted true",
                "5 model_unsupported false",
                "6 context_overflow false",
                "7 store_io false",
                "7 store_locked true",
                "7 store_full false",
                "7 store_readonly false",
                "7 store_unsupported false",
                "7 store_unreachable true",
                "8 reference false",
                "9 damaged false",
                "10 store_auth false",
                "11 store_tls false",
                "129 hangup false",
                "130 interrupted false",
                "143 terminated false",
            ]
        );
    }

    #[test]
    fn a_report_has_its_keys_in_order_and_no_empty_ones() {
        let full = Error::new(Code::ServerError, "the server failed")
            .because("it said so")
            .hint("try again")
            .server_message("boom")
            .session("s1");
        assert_eq!(
            serde_json::to_string(&full.report()).expect("a report is JSON"),
            r#"{"error":"the server failed: it said so","code":"server_error","hint":"try again","retryable":true,"server_message":"boom","session_id":"s1"}"#
        );
        let value = serde_json::to_value(full.report()).expect("a report is JSON");
        let again = Error::of_report(&value).expect("a report");
        assert_eq!(
            serde_json::to_value(again.report()).expect("a report is JSON"),
            value
        );
        assert!(Error::of_report(&Value::Null).is_none());
        let bare = Error::new(Code::Usage, "no");
        assert_eq!(
            serde_json::to_string(&bare.report()).expect("a report is JSON"),
            r#"{"error":"no","code":"usage","retryable":false}"#
        );
    }
}
