//! Asking a model: what goes to an Ollama server, what comes back, and every way it can end.
//!
//! The request ([`wire`]), one line of the answer ([`chunk`]), the reply they add up to
//! ([`reply`]), the stream ([`stream`]) and the refusals ([`refusal`]) are pure functions of
//! bytes. [`client`] is async, as else only `store/mongo` is, and stays thin; what happens on the
//! way there is in `transport`. [`echo`] answers without any server.

pub mod chunk;
pub mod client;
pub mod echo;
#[cfg(test)]
mod fixtures;
pub mod host;
pub mod key;
pub mod refusal;
pub mod reply;
pub mod show;
mod signals;
pub mod stream;
mod transport;
pub mod wire;

pub use chunk::Chunk;
pub use client::{Client, Failure};
pub use host::Host;
pub use key::ApiKey;
pub use refusal::Overflow;
pub use reply::Reply;
pub use show::Shown;
pub use wire::{ChatRequest, Message, Role};

/// Who answers.
#[derive(Debug)]
pub enum Backend {
    /// An Ollama server.
    Server(Box<Client>),
    /// The built-in model that needs none.
    Echo,
}

impl Backend {
    /// Asks for one reply; `on_piece` sees each piece as it arrives.
    ///
    /// # Errors
    /// See [`Client::chat`]; the built-in model never fails.
    pub fn chat(
        &self,
        request: &ChatRequest<'_>,
        on_piece: &mut dyn FnMut(&Chunk),
    ) -> Result<Reply, Box<Failure>> {
        match self {
            Self::Server(client) => client.chat(wire::body(request), on_piece),
            Self::Echo => {
                let chunks = echo::chunks(request.messages);
                chunks.iter().for_each(on_piece);
                Ok(chunks.into_iter().collect())
            }
        }
    }
}
