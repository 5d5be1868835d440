//! The one place that waits for a model's server; of async code the program has this and `store/mongo`.
//!
//! It connects, sends, reads and gives up; what bytes mean is decided in the pure modules. A
//! call blocks and has a runtime of its own on the calling thread, so nothing here leaks out.
//!
//! A plain http host pays nothing for TLS: certificates are read for https only. This machine
//! is never reached through a proxy, and its own name is not looked up.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, Response, Url};
use tokio::time::timeout;

use super::chunk::Chunk;
use super::host::Host;
use super::key::ApiKey;
use super::refusal::{BODY_LIMIT, Overflow, Refusal};
use super::reply::Reply;
use super::show::Shown;
use super::signals::Signals;
use super::stream::Decoder;
use super::transport;
use crate::error::{Code, Error, Result};
use crate::json;
use crate::platform::without_acknowledgement_timeout;

/// How long the body of a refusal is waited for; its status says enough without.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);

/// How long a model's description is waited for.
const SHOW_PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of it, in bytes; recorded ones have 17 KB.
const SHOW_LIMIT: usize = 16 << 20;

/// A connection to one server, made anew for each call.
pub struct Client {
    http: reqwest::Client,
    chat: Url,
    show: Url,
    host: Host,
    silence: Duration,
}

/// A call that did not end in a whole reply.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// What of the reply had arrived.
    pub partial: Reply,
    /// By how much the prompt was too long, if that is it and the server counted.
    pub overflow: Option<Overflow>,
}

impl Failure {
    /// Makes the failure of a call that was not made.
    #[must_use]
    pub fn of(error: Error) -> Box<Self> {
        Box::new(Self {
            error,
            partial: Reply::default(),
            overflow: None,
        })
    }
}

impl Client {
    /// Prepares calls to `host`. Nothing is connected yet.
    ///
    /// `silence` is the longest time without a byte from the server that is waited out,
    /// connecting included: Ollama sends not even a status before the first token.
    ///
    /// # Errors
    /// [`Code::Config`] when the platform's certificates cannot be used, for an https host.
    pub fn new(host: &Host, api_key: Option<&ApiKey>, silence: Duration) -> Result<Self> {
        let unusable = |why: &dyn fmt::Display| {
            Error::new(Code::Config, format!("cannot prepare calls to {host}")).because(why)
        };
        let url = |endpoint| Url::parse(&host.url(endpoint)).map_err(|error| unusable(&error));
        let http = builder(host, api_key)
            .build()
            .map_err(|error| unusable(&error.without_url()))?;
        Ok(Self {
            http,
            chat: url("/api/chat")?,
            show: url("/api/show")?,
            host: host.clone(),
            silence,
        })
    }

    /// Sends `body` to `/api/chat` and returns the whole reply; `on_piece` sees each line of it
    /// as it arrives.
    ///
    /// # Errors
    /// Every code of exit statuses 4, 5 and 6, and [`Code::Hangup`], [`Code::Interrupted`] and
    /// [`Code::Terminated`] for the signals. The failure keeps what had arrived.
    pub fn chat(
        &self,
        body: Vec<u8>,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> std::result::Result<Reply, Box<Failure>> {
        let mut decoder = Decoder::default();
        match wait(self.exchange(body, &mut decoder, on_piece)) {
            Ok(()) => Ok(decoder.into_reply()),
            Err(stop) => Err(Box::new(Failure {
                error: stop.error,
                partial: decoder.into_reply(),
                overflow: stop.overflow,
            })),
        }
    }

    /// Returns the server that is called.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Asks what a model is; the answer to `/api/show`.
    ///
    /// # Errors
    /// As [`Client::chat`]; [`Code::BadResponse`] for an answer that is none. The server is waited
    /// for no longer than some seconds: it answers this at once, whatever it is busy with.
    pub fn show(&self, model: &str) -> Result<Shown> {
        let body = json::line(&serde_json::json!({ "model": model })).into_bytes();
        let patience = self.silence.min(SHOW_PATIENCE);
        wait(self.look(body, patience)).map_err(|stop| stop.error)
    }

    async fn look(
        &self,
        body: Vec<u8>,
        patience: Duration,
    ) -> std::result::Result<Shown, Box<Stop>> {
        let silent = |_| Box::<Stop>::from(transport::silence(patience, &self.host));
        let request = self.http.post(self.show.clone()).body(body);
        let mut response = timeout(patience, request.send())
            .await
            .map_err(silent)?
            .map_err(|error| transport::before_reply(&error, &self.host))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let mut bytes = Vec::new();
        while let Some(piece) = timeout(patience, response.chunk())
            .await
            .map_err(silent)?
            .map_err(|error| transport::within_reply(&error, &self.host))?
        {
            bytes.extend_from_slice(&piece);
            if bytes.len() > SHOW_LIMIT {
                break;
            }
        }
        Ok(Shown::read(&bytes).map_err(|error| {
            let sentence = format!("{} does not say what the model is", self.host);
            Error::new(Code::BadResponse, sentence).because(error)
        })?)
    }

    async fn exchange(
        &self,
        body: Vec<u8>,
        decoder: &mut Decoder,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> std::result::Result<(), Box<Stop>> {
        let request = self.http.post(self.chat.clone()).body(body);
        let mut response = self
            .unless_silent(request.send())
            .await?
            .map_err(|error| transport::before_reply(&error, &self.host))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        while let Some(bytes) = self
            .unless_silent(response.chunk())
            .await?
            .map_err(|error| transport::within_reply(&error, &self.host))?
        {
            decoder.push(&bytes, on_piece)?;
            if decoder.is_done() {
                return Ok(());
            }
        }
        Ok(decoder.finish(on_piece)?)
    }

    async fn unless_silent<T>(&self, answer: impl Future<Output = T>) -> Result<T> {
        timeout(self.silence, answer)
            .await
            .map_err(|_| transport::silence(self.silence, &self.host))
    }

    async fn refusal(&self, mut response: Response) -> Box<Stop> {
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(bytes)) = response.chunk().await {
                body.extend_from_slice(&bytes);
                if body.len() >= BODY_LIMIT {
                    break;
                }
            }
        };
        // However the reading ended, what was read is what the server said.
        let _ = timeout(self.silence.min(REFUSAL_PATIENCE), read).await;
        body.truncate(BODY_LIMIT);
        let location = response.headers().get(header::LOCATION);
        let (error, overflow) = Refusal {
            status: response.status().as_u16(),
            location: location.and_then(|value| value.to_str().ok()),
            body: &body,
        }
        .explain(&self.host);
        Box::new(Stop { error, overflow })
    }
}

/// Waits for a call on a runtime of its own, or for a signal.
fn wait<T>(
    call: impl Future<Output = std::result::Result<T, Box<Stop>>>,
) -> std::result::Result<T, Box<Stop>> {
    let no_runtime =
        |error| Error::new(Code::Internal, "cannot wait for the network").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let end = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            biased;
            error = signals.next() => Err(error.into()),
            end = call => end,
        }
    });
    // Looking up a name has a thread of its own, and nobody waits for that one any more.
    runtime.shutdown_background();
    end
}

/// The URL may hold a password, the host does not show it.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .field("silence", &self.silence)
            .finish_non_exhaustive()
    }
}

/// Why a call ended early.
struct Stop {
    error: Error,
    overflow: Option<Overflow>,
}

impl From<Error> for Box<Stop> {
    fn from(error: Error) -> Self {
        Self::new(Stop {
            error,
            overflow: None,
        })
    }
}

fn builder(host: &Host, api_key: Option<&ApiKey>) -> ClientBuilder {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::ACCEPT,
        HeaderValue::from_static("application/x-ndjson"),
    );
    if let Some(key) = api_key {
        headers.insert(header::AUTHORIZATION, key.header());
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("ollama-prompt/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        // A connection does not outlive the runtime of its call.
        .pool_max_idle_per_host(0);
    // reqwest's 30 s would end calls whose silence is to be waited out for longer.
    builder = without_acknowledgement_timeout(builder);
    if host.is_loopback() {
        builder = builder.no_proxy();
    }
    if host.is_localhost() {
        // The port is the URL's.
        let loopback = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        builder = builder.resolve_to_addrs("localhost", &loopback);
    }
    if host.is_https() {
        // An error says that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        builder
    } else {
        builder.tls_backend_preconfigured(trusting_nobody())
    }
}

/// Returns a TLS configuration without certificates: reqwest insists on one, and would read the
/// platform's for milliseconds. (A proxy that is itself spoken to in TLS is refused by it; for
/// an https host it is not.)
fn trusting_nobody() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions of TLS")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

#[cfg(test)]
mod tests;
