//! The stream of an answer: bytes cut anywhere in, lines and what they add up to out.
//!
//! A reply can fail after it began with status 200, and can end cleanly without being finished;
//! the recordings in tests/fixtures/ollama show how. Each byte is looked at once, however the
//! network cut the stream.

use serde_json::Value;

use super::chunk::Chunk;
use super::refusal::{excerpt, message_of};
use super::reply::Reply;
use crate::error::{Code, Error, Result};

/// Bytes of one line beyond which the stream is refused.
pub const LINE_LIMIT: usize = 64 << 20;

/// Bytes of text, thinking and tool calls in one reply beyond which it is refused.
pub const REPLY_LIMIT: usize = 64 << 20;

/// Reads the body of a `200` answer to `POST /api/chat`, streamed or in one piece.
#[derive(Debug)]
pub struct Decoder {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    reply: Reply,
    /// What of the reply has been counted against its limit.
    size: usize,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    line: usize,
    reply: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limits(Limits {
            line: LINE_LIMIT,
            reply: REPLY_LIMIT,
        })
    }
}

impl Decoder {
    fn with_limits(limits: Limits) -> Self {
        Self {
            line: Vec::new(),
            reply: Reply::default(),
            size: 0,
            limits,
        }
    }

    /// Takes the next bytes; `on_chunk` sees each line they complete. What follows the line
    /// that says `done` is ignored.
    ///
    /// # Errors
    /// [`Code::ServerError`] for a line that reports one, [`Code::BadResponse`] for one that is
    /// no line of an answer or beyond a limit. Nothing is to be pushed after an error.
    pub fn push(&mut self, mut bytes: &[u8], on_chunk: &mut dyn FnMut(&Chunk)) -> Result<()> {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.check_line(end)?;
            if self.line.is_empty() {
                self.take_line(&bytes[..end], on_chunk)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.take_line(&line, on_chunk)?;
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        self.check_line(bytes.len())?;
        if !self.reply.done {
            self.line.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Takes note that no more bytes come. The last line may lack its newline.
    ///
    /// # Errors
    /// As [`Decoder::push`], and [`Code::StreamInterrupted`] when the reply is not finished.
    pub fn finish(&mut self, on_chunk: &mut dyn FnMut(&Chunk)) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        let is_cut_off = matches!(Chunk::read(line), Err(error) if error.is_eof());
        if !is_cut_off {
            self.take_line(line, on_chunk)?;
        }
        if self.reply.done {
            return Ok(());
        }
        Err(Error::new(
            Code::StreamInterrupted,
            "the server ended its reply without saying that it is finished",
        )
        .hint("a model that repeats one token is stopped like this: a higher temperature may help"))
    }

    /// Tells whether the line that ends a reply has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.reply.done
    }

    /// Returns the reply as far as it came.
    #[must_use]
    pub fn into_reply(self) -> Reply {
        self.reply
    }

    fn take_line(&mut self, line: &[u8], on_chunk: &mut dyn FnMut(&Chunk)) -> Result<()> {
        let line = line.trim_ascii();
        if line.is_empty() || self.reply.done {
            return Ok(());
        }
        let chunk = Chunk::read(line).map_err(|_| not_an_answer(line))?;
        if let Some(error) = &chunk.error {
            return Err(failed_midway(error));
        }
        if !chunk.is_answer() {
            return Err(not_an_answer(line));
        }
        self.size += chunk.content().len() + chunk.thinking().len();
        if chunk
            .message
            .as_ref()
            .is_some_and(|m| m.tool_calls.is_some())
        {
            self.size += line.len();
        }
        if self.size > self.limits.reply {
            return Err(too_long("reply", self.limits.reply));
        }
        on_chunk(&chunk);
        self.reply.absorb(chunk);
        Ok(())
    }

    fn check_line(&self, more: usize) -> Result<()> {
        if self.line.len() + more > self.limits.line {
            return Err(too_long("line of the reply", self.limits.line));
        }
        Ok(())
    }
}

fn failed_midway(error: &Value) -> Error {
    let message = message_of(error);
    Error::new(
        Code::ServerError,
        "the server reported an error in the middle of its reply",
    )
    .because(excerpt(message.as_bytes()))
    .server_message(message)
}

fn not_an_answer(line: &[u8]) -> Error {
    Error::new(
        Code::BadResponse,
        "the server's reply is not what Ollama says",
    )
    .because(format!("it holds `{}`", excerpt(line)))
    .hint("is OLLAMA_HOST the address of an Ollama server, and not of a proxy's own page?")
}

fn too_long(what: &str, limit: usize) -> Error {
    Error::new(
        Code::BadResponse,
        format!("a {what} is longer than {limit} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ollama::fixtures::{self, body};
    use proptest::prelude::*;

    type Outcome = (Reply, String, std::result::Result<(), Code>);

    /// Decodes `pieces`; what comes back is the reply, the text as it was streamed, the end.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let mut decoder = Decoder::default();
        let mut streamed = String::new();
        let mut on_chunk = |chunk: &Chunk| streamed.push_str(chunk.content());
        let end = pieces
            .into_iter()
            .try_for_each(|piece| decoder.push(piece, &mut on_chunk))
            .and_then(|()| decoder.finish(&mut on_chunk));
        (decoder.into_reply(), streamed, end.map_err(|e| e.code))
    }

    fn error(bytes: &[u8]) -> Error {
        let mut decoder = Decoder::default();
        decoder
            .push(bytes, &mut |_| ())
            .and_then(|()| decoder.finish(&mut |_| ()))
            .expect_err("an error was expected")
    }

    #[test]
    fn every_recorded_answer_is_read() {
        let repeated = " no".repeat(31);
        let rows = [
            ("chat-stream", Ok(()), Some("length"), Some(24), None),
            (
                "chat-nostream",
                Ok(()),
                Some("length"),
                Some(24),
                Some(
                    " I think red is the most beautiful colour, but it's not as easy to see as blue or yellow.",
                ),
            ),
            (
                "chat-think-stream",
                Ok(()),
                Some("stop"),
                Some(14),
                Some("Blue."),
            ),
            ("chat-unicode-stream", Ok(()), Some("stop"), Some(62), None),
            (
                "chat-done-length",
                Ok(()),
                Some("length"),
                Some(3),
                Some(" I'm"),
            ),
            ("chat-logprobs", Ok(()), Some("length"), Some(2), None),
            ("chat-load", Ok(()), Some("load"), None, Some("")),
            ("chat-unload", Ok(()), Some("unload"), None, Some("")),
            ("chat-multi-turn", Ok(()), Some("stop"), Some(12), None),
            (
                "chat-token-repeat-stream",
                Err(Code::StreamInterrupted),
                None,
                None,
                Some(repeated.as_str()),
            ),
            (
                "chat-token-repeat-nostream",
                Err(Code::StreamInterrupted),
                None,
                None,
                Some(repeated.as_str()),
            ),
            (
                "runner-dies-mid-stream",
                Err(Code::ServerError),
                None,
                None,
                None,
            ),
            (
                "server-killed-mid-stream",
                Err(Code::StreamInterrupted),
                None,
                None,
                Some("["),
            ),
        ];
        for (case, end, reason, eval_count, text) in rows {
            let bytes = body(case);
            let (reply, streamed, got) = decode([bytes.as_slice()]);
            assert_eq!(got, end, "{case}");
            assert_eq!(reply.done, end.is_ok(), "{case}");
            assert_eq!(reply.done_reason.as_deref(), reason, "{case}");
            if end.is_ok() {
                assert_eq!(reply.usage.eval_count, eval_count, "{case}");
            }
            assert!(reply.model.starts_with("gemma3"), "{case}");
            assert!(reply.usage.created_at.is_some(), "{case}");
            assert_eq!(streamed, reply.content, "{case}");
            if let Some(text) = text {
                assert_eq!(reply.content, text, "{case}");
            }
        }
    }

    #[test]
    fn thinking_and_figures_are_the_recorded_ones() {
        let (reply, ..) = decode([body("chat-think-stream").as_slice()]);
        assert!(reply.thinking.is_some_and(|t| !t.is_empty()));
        let usage = reply.usage;
        assert_eq!(
            usage.created_at.as_deref(),
            Some("2026-11-22T00:17:49.356132099Z")
        );
        assert_eq!(usage.total_duration, Some(8_196_401_864));
        assert_eq!(usage.load_duration, Some(1_070_077));
        assert_eq!(usage.prompt_eval_count, Some(81));
        assert_eq!(usage.prompt_eval_duration, Some(5_783_053_000));
        assert_eq!(usage.eval_duration, Some(2_403_538_000));
    }

    /// However the network cuts a stream, the reply is the same.
    #[test]
    fn bytes_cut_anywhere_give_the_same_reply() {
        for case in fixtures::ANSWERS {
            let bytes = body(case);
            let whole = decode([bytes.as_slice()]);
            for cut in 0..=bytes.len() {
                let (head, tail) = bytes.split_at(cut);
                assert_eq!(decode([head, tail]), whole, "{case} cut at byte {cut}");
            }
            assert_eq!(decode(bytes.chunks(1)), whole, "{case} byte by byte");
        }
    }

    /// A stream that stops anywhere before its last line is never taken for a whole reply, and
    /// keeps what came.
    #[test]
    fn a_stream_that_stops_early_is_interrupted() {
        let bytes = body("chat-unicode-stream");
        let (whole, ..) = decode([bytes.as_slice()]);
        let last_line = bytes
            .trim_ascii_end()
            .iter()
            .rposition(|&b| b == b'\n')
            .expect("lines");
        for cut in 0..=last_line {
            let (reply, _, end) = decode([&bytes[..cut]]);
            assert_eq!(end, Err(Code::StreamInterrupted), "cut at byte {cut}");
            assert!(
                whole.content.starts_with(&reply.content),
                "cut at byte {cut}"
            );
        }
    }

    #[test]
    fn lines_end_as_they_like_and_what_follows_the_last_is_ignored() {
        let a = r#"{"message":{"content":"a"}}"#;
        let z = r#"{"message":{"content":"z"},"done":true}"#;
        let rows = [
            ("unix", format!("{a}\n{z}\n")),
            ("crlf", format!("{a}\r\n{z}\r\n")),
            ("blank lines", format!("\n\r\n{a}\n\n \n{z}\n\n")),
            ("no last newline", format!("{a}\n{z}")),
            (
                "something follows",
                format!("{a}\n{z}\n{{\"error\":\"late\"}}\n<html>"),
            ),
        ];
        for (name, text) in rows {
            let (reply, _, end) = decode([text.as_bytes()]);
            assert_eq!((reply.content.as_str(), end), ("az", Ok(())), "{name}");
        }
    }

    #[test]
    fn an_error_line_is_repeated_word_for_word() {
        let error = error(&body("runner-dies-mid-stream"));
        let report = error.report();
        assert_eq!(
            report.server_message,
            Some("an error was encountered while running the model: unexpected EOF")
        );
        assert!(
            report.error.ends_with(": unexpected EOF"),
            "{}",
            report.error
        );
        assert!(report.retryable);
    }

    #[test]
    fn what_is_no_answer_is_refused_and_quoted_safely() {
        let rows = [
            ("page", "<html>\n<title>502</title>", "`<html>`"),
            (
                "page on one line",
                "<html><title>502</title>",
                "`<html><title>502</title>`",
            ),
            ("array", "[]\n", "`[]`"),
            ("empty object", "{}\n", "`{}`"),
            (
                "another object",
                r#"{"status":"ok"}"#,
                r#"`{"status":"ok"}`"#,
            ),
            (
                "wrong shape",
                "{\"message\":\"x\"}\n",
                r#"`{"message":"x"}`"#,
            ),
            ("sse", "data: {}\n", "`data: {}`"),
            ("control characters", "\u{1b}[2Jboo\u{85}\n", "`[2Jboo`"),
            (
                "value cut by a newline",
                "\n{\"message\":\n",
                "`{\"message\":`",
            ),
        ];
        for (name, text, quoted) in rows {
            let error = error(text.as_bytes());
            assert_eq!(error.code, Code::BadResponse, "{name}");
            assert!(error.to_string().ends_with(quoted), "{name}: {error}");
        }
        let long = error(&[b'x'; 1000]).to_string();
        assert!(long.chars().count() < 300, "{long}");
    }

    #[test]
    fn half_characters_are_noted() {
        let (reply, _, end) =
            decode([br#"{"message":{"content":"\ud83e"},"done":true}"#.as_slice()]);
        assert_eq!((reply.content.as_str(), end), ("\u{fffd}", Ok(())));
        assert!(reply.surrogates_replaced);
    }

    #[test]
    fn the_limits_hold_at_their_edge() {
        let line = r#"{"message":{"content":"abcd","thinking":"ef"}}"#;
        let push = |limits: Limits, pieces: &[&str]| {
            let mut decoder = Decoder::with_limits(limits);
            pieces
                .iter()
                .try_for_each(|piece| decoder.push(piece.as_bytes(), &mut |_| ()))
                .map_err(|e| e.code)
        };
        let two = format!("{line}\n{line}\n");
        let rows = [
            ("line at", (line.len(), 99), two.as_str(), true),
            ("line over", (line.len() - 1, 99), &two, false),
            ("unfinished line over", (line.len() - 1, 99), line, false),
            ("reply at", (99, 12), &two, true),
            ("reply over", (99, 11), &two, false),
        ];
        for (name, (line, reply), text, fits) in rows {
            let limits = Limits { line, reply };
            let expected = if fits { Ok(()) } else { Err(Code::BadResponse) };
            assert_eq!(push(limits, &[text]), expected, "{name}");
            for cut in 0..text.len() {
                let (head, tail) = text.split_at(cut);
                assert_eq!(
                    push(limits, &[head, tail]),
                    expected,
                    "{name}, cut at {cut}"
                );
            }
        }
    }

    /// Were the line scanned again with each byte, this would take hours.
    #[test]
    fn a_long_line_byte_by_byte_takes_linear_time() {
        let text = "a".repeat(5 << 20);
        let line = format!(r#"{{"message":{{"content":"{text}"}},"done":true}}"#);
        let (reply, _, end) = decode(line.as_bytes().chunks(1));
        assert_eq!(end, Ok(()));
        assert_eq!(reply.content.len(), text.len());
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..6)) {
            let (reply, ..) = decode(pieces.iter().map(Vec::as_slice));
            prop_assert!(!reply.done);
        }

        #[test]
        fn text_said_in_pieces_comes_back_whole(pieces in proptest::collection::vec(any::<String>(), 0..6), every in 1usize..9) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                bytes.extend(serde_json::json!({"message": {"content": piece}}).to_string().into_bytes());
                bytes.push(b'\n');
            }
            bytes.extend(br#"{"done":true}"#);
            let (reply, _, end) = decode(bytes.chunks(every));
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(reply.content, pieces.concat());
        }
    }
}
