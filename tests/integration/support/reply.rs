//! What the server answers: a value a test builds, turned into bytes when the request is there.
//!
//! A chunk, wherever one is counted, is a line of a streamed reply; any other body is one chunk.

use std::time::Duration;

use serde_json::{Value, json};

use super::bytes::Bytes;
use super::chat_reply::{ChatReply, Ending, Pieces};
use super::gate::Gate;
use super::request::Request;

/// One answer, and the way it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    content: Content,
    /// What is waited for before the first byte, as a model being loaded is.
    pub(super) before: Vec<Hold>,
    /// After how many chunks which gate is.
    pub(super) pauses: Vec<(usize, Gate)>,
    /// After how many chunks the connection breaks, and how.
    pub(super) cut: Option<(usize, Cut)>,
    pub(super) byte_by_byte: bool,
}

#[derive(Debug, Clone)]
enum Content {
    Chat(ChatReply),
    Recorded(String),
    Plain {
        status: u16,
        content_type: &'static str,
        body: String,
    },
    Raw(Vec<u8>),
    Silence,
}

/// What a reply waits for.
#[derive(Debug, Clone)]
pub(super) enum Hold {
    Time(Duration),
    Gate(Gate),
    Arrivals(usize),
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// In order, as when a server is stopped: the client sees an end that comes too early.
    Close,
    /// With a reset, as when a server is killed.
    Reset,
}

impl Reply {
    /// A model that says `text`, a word a chunk, and is done.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::chat(ChatReply {
            text: Some(text.into()),
            ..ChatReply::default()
        })
    }

    /// A model that says `reply to: ` and what the user said last. The default of the server.
    pub(crate) fn echo() -> Self {
        Self::chat(ChatReply::default())
    }

    /// A model that says `bytes` bytes, 64 KiB a chunk.
    pub(crate) fn huge(bytes: usize) -> Self {
        let mut reply = Self::text("x".repeat(bytes));
        reply.chat_mut().pieces = Pieces::Bytes(64 * 1024);
        reply
    }

    /// What a real server sent: the case's bytes as they came where they were kept
    /// (`response.raw`), else its headers and its body, framed as the headers say.
    pub(crate) fn recorded(case: &str) -> Self {
        Self::of(Content::Recorded(case.to_owned()))
    }

    /// An error as Ollama words it: a status and `{"error": message}`.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::of(Content::Plain {
            status,
            content_type: "application/json; charset=utf-8",
            body: json!({"error": message}).to_string(),
        })
    }

    /// A page from some proxy in between.
    pub(crate) fn html(status: u16) -> Self {
        Self::of(Content::Plain {
            status,
            content_type: "text/html",
            body: format!("<html><head><title>{status}</title></head><body>no</body></html>\n"),
        })
    }

    /// Any JSON with status 200, for the paths that are not chats.
    pub(crate) fn json(body: &Value) -> Self {
        Self::of(Content::Plain {
            status: 200,
            content_type: "application/json; charset=utf-8",
            body: body.to_string(),
        })
    }

    /// These bytes and nothing else, status line and all, then the connection is closed.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Content::Raw(bytes.into()))
    }

    /// No byte, for as long as the client stays.
    pub(crate) fn silence() -> Self {
        Self::of(Content::Silence)
    }

    /// Thinks this first.
    pub(crate) fn thinking(mut self, text: &str) -> Self {
        self.chat_mut().thinking = text.to_owned();
        self
    }

    /// Calls these tools after the text; an array as Ollama sends it.
    pub(crate) fn tool_calls(mut self, calls: Value) -> Self {
        self.chat_mut().tool_calls = Some(calls);
        self
    }

    /// Says this much in the `done` line itself.
    pub(crate) fn last_text(mut self, text: &str) -> Self {
        self.chat_mut().last_text = text.to_owned();
        self
    }

    /// Reports these counts of tokens instead of counting words.
    pub(crate) fn counts(mut self, prompt: u64, eval: u64) -> Self {
        self.chat_mut().counts = Some((prompt, eval));
        self
    }

    /// Ends for this reason instead of `stop`.
    pub(crate) fn done_reason(mut self, reason: &str) -> Self {
        self.chat_mut().done_reason = Some(reason.to_owned());
        self
    }

    /// Says all its text in one line.
    pub(crate) fn in_one_chunk(mut self) -> Self {
        self.chat_mut().pieces = Pieces::Whole;
        self
    }

    /// Ends in good order, but without the `done` line.
    pub(crate) fn no_done(mut self) -> Self {
        self.chat_mut().ending = Ending::Nothing;
        self
    }

    /// Ends with an error line in place of the `done` line, still at status 200.
    pub(crate) fn error_mid_stream(mut self, message: &str) -> Self {
        self.chat_mut().ending = Ending::Error(message.to_owned());
        self
    }

    /// Sends every byte by itself.
    pub(crate) fn byte_by_byte(mut self) -> Self {
        self.byte_by_byte = true;
        self
    }

    /// Sends nothing, not even the status line, for this long.
    pub(crate) fn delay_before(mut self, time: Duration) -> Self {
        self.before.push(Hold::Time(time));
        self
    }

    /// Sends nothing, not even the status line, until the gate is open.
    pub(crate) fn held_by(mut self, gate: &Gate) -> Self {
        self.before.push(Hold::Gate(gate.clone()));
        self
    }

    /// Sends nothing until so many chats were asked for, counted from the start of the server:
    /// what makes processes race for sure.
    pub(crate) fn after_arrivals(mut self, chats: usize) -> Self {
        self.before.push(Hold::Arrivals(chats));
        self
    }

    /// Stops after so many chunks (0: after the headers) until the gate is open.
    pub(crate) fn pause_after_chunks(mut self, chunks: usize, gate: &Gate) -> Self {
        self.pauses.push((chunks, gate.clone()));
        self
    }

    /// Closes the connection after so many chunks, the last one missing.
    pub(crate) fn cut_after_chunks(mut self, chunks: usize) -> Self {
        self.cut = Some((chunks, Cut::Close));
        self
    }

    /// Resets the connection after so many chunks.
    pub(crate) fn reset_after_chunks(mut self, chunks: usize) -> Self {
        self.cut = Some((chunks, Cut::Reset));
        self
    }

    /// Returns what to send to `request`; `None` is silence.
    pub(super) fn bytes(&self, request: &Request) -> Option<Bytes> {
        Some(match &self.content {
            Content::Chat(chat) => Bytes::streamed(&chat.lines(request)),
            Content::Recorded(case) => Bytes::recorded(case),
            Content::Plain {
                status,
                content_type,
                body,
            } => Bytes::plain(*status, content_type, body),
            Content::Raw(bytes) => Bytes::raw(bytes),
            Content::Silence => return None,
        })
    }

    fn chat(reply: ChatReply) -> Self {
        Self::of(Content::Chat(reply))
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            before: Vec::new(),
            pauses: Vec::new(),
            cut: None,
            byte_by_byte: false,
        }
    }

    #[track_caller]
    fn chat_mut(&mut self) -> &mut ChatReply {
        match &mut self.content {
            Content::Chat(chat) => chat,
            other => panic!("only a model's words can be changed, not {other:?}"),
        }
    }
}
