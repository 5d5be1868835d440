//! What an answer with a status other than 200 means: one function from its bytes to an error.
//!
//! The statuses and words are those of a real server (tests/fixtures/ollama); only what names a
//! kind of failure is looked for in the words, which change between releases.

use serde::Deserialize;
use serde_json::Value;

use super::host::Host;
use crate::error::{Code, Error};
use crate::json;

/// Bytes read of the body of a refusal.
pub const BODY_LIMIT: usize = 64 << 10;

/// Characters quoted of what is not Ollama's.
const QUOTED: usize = 200;

/// How far a prompt is beyond the window, as the server counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the window the model runs with.
    pub num_ctx: u64,
}

/// An answer that is no reply.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The `Location` header.
    pub location: Option<&'a str>,
    /// The body, or its beginning.
    pub body: &'a [u8],
}

impl Refusal<'_> {
    /// Returns what the refusal means, and the counts where a prompt did not fit.
    #[must_use]
    pub fn explain(&self, host: &Host) -> (Error, Option<Overflow>) {
        if (300..400).contains(&self.status) {
            return (self.redirect(host), None);
        }
        let said = Said::read(self.body);
        let overflow = said.overflow();
        let is_overflow = overflow.is_some() || said.says("exceed_context_size_error")
            // What `"shift": false` alone ends in.
            || said.says("longer than the context length");
        let error = match self.status {
            400 if is_overflow => Error::new(
                Code::ContextOverflow,
                "the prompt does not fit the model's context window",
            ),
            400 if said.says("does not support") => Error::new(
                Code::ModelUnsupported,
                "the model cannot do what was asked of it",
            ),
            // What the runner says where the model has no part that sees.
            400 | 500 if said.says("missing data required for image input") => {
                Error::new(Code::ModelUnsupported, "the model cannot see images")
            }
            401 => Error::new(Code::AuthRequired, format!("{host} wants to know who asks"))
                .hint(said.signin_hint()),
            403 if said.says("cloud is disabled") => Error::new(
                Code::ModelUnsupported,
                format!("{host} does not run cloud models"),
            )
            .hint("choose a model the server has itself, or start it without OLLAMA_NO_CLOUD"),
            403 if said.error.is_some() => {
                Error::new(Code::AuthRequired, format!("{host} forbids the request"))
                    .hint(said.signin_hint())
            }
            403 => Error::new(Code::BadResponse, format!("{host} forbids the request")).hint(
                "Ollama does this to host names that are not local: name its IP address in \
                 OLLAMA_HOST, or start the server with OLLAMA_HOST=0.0.0.0",
            ),
            404 if said.is_model_not_found() => {
                let error = Error::new(
                    Code::ModelNotFound,
                    format!("{host} does not have the model"),
                );
                match said.quoted_name() {
                    Some(name) => error.hint(format!("`ollama pull {name}` gets it")),
                    None => error.hint("`ollama pull` gets models, `ollama list` shows them"),
                }
            }
            404 | 405 => Error::new(
                Code::BadResponse,
                format!("{host} does not know /api/chat (status {})", self.status),
            )
            .hint("is OLLAMA_HOST, its path included, the address of an Ollama server?"),
            429 | 503 => Error::new(Code::RateLimited, format!("{host} has too much to do"))
                .hint("try again later"),
            // It will say the same to the same request.
            500 if said.blames_the_request() => {
                Error::new(Code::BadResponse, format!("{host} refuses the request"))
            }
            500.. => Error::new(
                Code::ServerError,
                format!("{host} failed (status {})", self.status),
            ),
            _ => Error::new(
                Code::BadResponse,
                format!("{host} refuses the request (status {})", self.status),
            ),
        };
        (said.add_to(error), overflow)
    }

    fn redirect(&self, host: &Host) -> Error {
        let error = Error::new(
            Code::BadResponse,
            format!("{host} redirects to another address"),
        );
        let location = self.location.unwrap_or_default();
        match reqwest::Url::parse(location) {
            Ok(url) if url.host_str().is_some() => {
                let origin = url.origin().ascii_serialization();
                error.because(format!("it names {origin}")).hint(format!(
                    "set OLLAMA_HOST to {origin} if that is the Ollama server"
                ))
            }
            _ => error
                .because(format!("it names `{}`", excerpt(location.as_bytes())))
                .hint("set OLLAMA_HOST to the address and path of the Ollama server itself"),
        }
    }
}

/// What a body says, whoever wrote it.
struct Said {
    /// The value of `error`, where the body is JSON that has one.
    error: Option<String>,
    signin_url: Option<String>,
    /// The beginning of any other body.
    other: String,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            error: Value,
            signin_url: Option<String>,
        }
        match serde_json::from_slice::<Body>(body) {
            Ok(said) => Self {
                error: Some(message_of(&said.error)),
                signin_url: said.signin_url.filter(|url| !url.is_empty()),
                other: String::new(),
            },
            Err(_) => Self {
                error: None,
                signin_url: None,
                other: excerpt(body),
            },
        }
    }

    fn says(&self, words: &str) -> bool {
        self.error.as_ref().is_some_and(|e| e.contains(words))
    }

    fn is_model_not_found(&self) -> bool {
        self.says("model") && self.says("not found")
    }

    /// Tells whether a status of 500 is for an option or a format the caller chose.
    fn blames_the_request(&self) -> bool {
        self.error.as_ref().is_some_and(|e| {
            (e.starts_with("option ") && e.contains("must be of type"))
                || e.starts_with("invalid format")
        })
    }

    /// Reads the counts from the JSON that stands inside the error string.
    fn overflow(&self) -> Option<Overflow> {
        #[derive(Deserialize)]
        struct Inner {
            error: Counts,
        }
        #[derive(Deserialize)]
        struct Counts {
            n_prompt_tokens: u64,
            n_ctx: u64,
        }
        let Inner { error } = serde_json::from_str(self.error.as_ref()?).ok()?;
        Some(Overflow {
            prompt_tokens: error.n_prompt_tokens,
            num_ctx: error.n_ctx,
        })
    }

    /// Returns the first name in quotes, if a shell would read it as one word.
    fn quoted_name(&self) -> Option<&str> {
        let (_, rest) = self.error.as_ref()?.split_once(['\'', '"'])?;
        let (name, _) = rest.split_once(['\'', '"'])?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@".contains(c);
        (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
    }

    fn signin_hint(&self) -> String {
        match &self.signin_url {
            Some(url) => format!(
                "`ollama signin`, or open {}; a hosted server wants OLLAMA_API_KEY",
                clean(url)
            ),
            None => "`ollama signin`; a hosted server wants OLLAMA_API_KEY".to_owned(),
        }
    }

    fn add_to(self, error: Error) -> Error {
        match self.error {
            Some(message) => error
                .because(excerpt(message.as_bytes()))
                .server_message(message),
            None if self.other.is_empty() => error,
            None => error.because(format!("it says `{}`", self.other)),
        }
    }
}

/// Returns the words of an `error` value: Ollama's is a string, a proxy's may be an object.
pub(super) fn message_of(error: &Value) -> String {
    match error {
        Value::String(message) => message.clone(),
        Value::Object(object) => match object.get("message") {
            Some(Value::String(message)) => message.clone(),
            _ => error.to_string(),
        },
        other => other.to_string(),
    }
}

/// Returns the beginning of what somebody else wrote, safe to show on one line.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    // Four bytes a character at most, and as many again for what is left out.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(8 * QUOTED)]);
    let clean = clean(text.trim());
    match clean.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|&c| !json::is_unsafe(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ollama::fixtures;

    fn explain(status: u16, location: Option<&str>, body: &[u8]) -> (Error, Option<Overflow>) {
        let host = Host::parse("https://me:s3cret@h.example/ollama").expect("a host");
        let refusal = Refusal {
            status,
            location,
            body,
        };
        refusal.explain(&host)
    }

    #[test]
    fn every_recorded_refusal_has_its_code() {
        let rows = [
            ("chat-unknown-model", Code::ModelNotFound),
            ("unknown-path", Code::BadResponse),
            ("double-slash-path", Code::BadResponse),
            ("foreign-host-header", Code::BadResponse),
            ("chat-cloud-model-disabled", Code::ModelUnsupported),
            ("chat-think-unsupported", Code::ModelUnsupported),
            ("chat-options-bad-type-temperature", Code::BadResponse),
            ("chat-format-unknown", Code::BadResponse),
            ("chat-load-fails", Code::ServerError),
            ("server-busy", Code::RateLimited),
            ("ctx-truncate-false", Code::ContextOverflow),
            ("ctx-truncate-false-shift-false", Code::ContextOverflow),
            ("ctx-shift-false", Code::ContextOverflow),
        ];
        for (case, code) in rows {
            let (status, location) = fixtures::head(case);
            let body = fixtures::body(case);
            let (error, _) = explain(status, location.as_deref(), &body);
            assert_eq!(error.code, code, "{case}: {error}");
            assert!(!error.to_string().contains("s3cret"), "{case}: {error}");
            let said = serde_json::from_slice::<Value>(&body).ok();
            let said = said.as_ref().and_then(|v| v["error"].as_str());
            assert_eq!(error.report().server_message, said, "{case}");
        }
    }

    #[test]
    fn an_overflow_says_how_far() {
        let rows = [
            ("ctx-truncate-false", Some((406, 256))),
            ("ctx-truncate-false-shift-false", Some((406, 256))),
            ("ctx-shift-false", None),
        ];
        for (case, expected) in rows {
            let (_, overflow) = explain(400, None, &fixtures::body(case));
            let got = overflow.map(|o| (o.prompt_tokens, o.num_ctx));
            assert_eq!(got, expected, "{case}");
        }
    }

    #[test]
    fn other_refusals_have_theirs() {
        let rows: [(&str, u16, &str, Code); 14] = [
            (
                "unauthorized",
                401,
                r#"{"error":"unauthorized"}"#,
                Code::AuthRequired,
            ),
            ("unauthorized by a page", 401, "<html>", Code::AuthRequired),
            (
                "subscription",
                403,
                r#"{"error":"this model requires a subscription"}"#,
                Code::AuthRequired,
            ),
            ("forbidden by a page", 403, "<html>", Code::BadResponse),
            (
                "bad request",
                400,
                r#"{"error":"model is required"}"#,
                Code::BadResponse,
            ),
            (
                "no tools",
                400,
                r#"{"error":"registry/m does not support tools"}"#,
                Code::ModelUnsupported,
            ),
            ("method", 405, "405 method not allowed", Code::BadResponse),
            ("too large", 413, "", Code::BadResponse),
            (
                "rate",
                429,
                r#"{"error":"too many requests"}"#,
                Code::RateLimited,
            ),
            ("busy page", 503, "<html>", Code::RateLimited),
            ("gateway", 502, "<html>", Code::ServerError),
            (
                "crash",
                500,
                r#"{"error":{"message":"boom"}}"#,
                Code::ServerError,
            ),
            ("no json", 500, "", Code::ServerError),
            (
                "old not found",
                404,
                r#"{"error":"model \"x\" not found, try pulling it first"}"#,
                Code::ModelNotFound,
            ),
        ];
        for (name, status, body, code) in rows {
            let (error, overflow) = explain(status, None, body.as_bytes());
            assert_eq!((error.code, overflow), (code, None), "{name}: {error}");
        }
    }

    #[test]
    fn hints_say_what_to_do() {
        let rows: [(&str, u16, Option<&str>, &str, &str); 6] = [
            (
                "pull",
                404,
                None,
                r#"{"error":"model 'ns/m:1b' not found"}"#,
                "`ollama pull ns/m:1b` gets it",
            ),
            (
                "no name for a shell",
                404,
                None,
                r#"{"error":"model 'a;b' not found"}"#,
                "`ollama pull` gets models, `ollama list` shows them",
            ),
            (
                "sign in",
                401,
                None,
                r#"{"error":"unauthorized","signin_url":"https://x/\u001b1"}"#,
                "`ollama signin`, or open https://x/1; a hosted server wants OLLAMA_API_KEY",
            ),
            (
                "elsewhere",
                301,
                Some("https://me:pw@new.example:8/a?b=c"),
                "",
                "set OLLAMA_HOST to https://new.example:8 if that is the Ollama server",
            ),
            (
                "another path",
                307,
                Some("/api/chat"),
                "",
                "set OLLAMA_HOST to the address and path of the Ollama server itself",
            ),
            (
                "nowhere",
                302,
                None,
                "",
                "set OLLAMA_HOST to the address and path of the Ollama server itself",
            ),
        ];
        for (name, status, location, body, hint) in rows {
            let (error, _) = explain(status, location, body.as_bytes());
            assert_eq!(error.report().hint, Some(hint), "{name}");
        }
    }

    #[test]
    fn an_excerpt_is_short_and_clean() {
        let long = "é\u{1b}".repeat(1000);
        assert_eq!(excerpt(long.as_bytes()), format!("{}…", "é".repeat(QUOTED)));
        assert_eq!(excerpt(b" a\r\nb\xff\x00 "), "ab\u{fffd}");
        assert_eq!(excerpt("x".repeat(QUOTED).as_bytes()), "x".repeat(QUOTED));
    }
}
