//! A reply as bytes: HTTP around a body, cut where a script may stop or break off.

use std::path::Path;

/// The bytes of a reply, in the pieces they are sent in.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) head: Vec<u8>,
    pub(super) chunks: Vec<Vec<u8>>,
    /// What says that the body is complete.
    pub(super) tail: &'static [u8],
    pub(super) then_close: bool,
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Bytes {
    /// Returns a stream of lines, each a chunk of its own as Ollama sends them.
    pub(super) fn streamed(lines: &[String]) -> Self {
        let head = "HTTP/1.1 200 OK\r\n\
            Content-Type: application/x-ndjson\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        Self {
            head: head.into(),
            chunks: lines.iter().map(|line| chunk(line.as_bytes())).collect(),
            tail: LAST_CHUNK,
            then_close: false,
        }
    }

    /// Returns a body whose length is said before.
    pub(super) fn plain(status: u16, content_type: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\n\
             Content-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        Self {
            head: head.into(),
            chunks: vec![body.into()],
            ..Self::default()
        }
    }

    /// Returns these bytes and the end of the connection.
    pub(super) fn raw(bytes: &[u8]) -> Self {
        Self {
            head: bytes.to_vec(),
            then_close: true,
            ..Self::default()
        }
    }

    /// Returns what a real server sent.
    pub(super) fn recorded(case: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/ollama")
            .join(case);
        let read = |name| std::fs::read(directory.join(name));
        if let Ok(raw) = read("response.raw") {
            // Headers end with an empty line; so does every chunk, since its data is a line.
            let mut pieces = split_after(&raw, b"\n\r\n").into_iter();
            return Self {
                head: pieces.next().unwrap_or_default(),
                chunks: pieces.collect(),
                then_close: true,
                ..Self::default()
            };
        }
        let must_read = |name| {
            let bytes = read(name);
            bytes.unwrap_or_else(|e| panic!("{}/{name}: {e}", directory.display()))
        };
        Self::framed(must_read("response.headers"), &must_read("response.body"))
    }

    /// Returns headers as they are and a body framed as they say.
    fn framed(head: Vec<u8>, body: &[u8]) -> Self {
        assert!(
            !head.is_empty(),
            "the server did not answer when this was recorded"
        );
        let headers = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let chunked = headers.contains("\r\ntransfer-encoding: chunked");
        let lines = body.split_inclusive(|&byte| byte == b'\n');
        let chunks = if chunked {
            lines.map(chunk).collect()
        } else {
            lines.map(<[u8]>::to_vec).collect()
        };
        Self {
            chunks,
            tail: if chunked { LAST_CHUNK } else { b"" },
            then_close: headers.contains("\r\nconnection: close"),
            head,
        }
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn split_after(mut bytes: &[u8], end: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let Some(at) = bytes.windows(end.len()).position(|window| window == end) {
        let (piece, rest) = bytes.split_at(at + end.len());
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces.extend(Some(bytes.to_vec()).filter(|rest| !rest.is_empty()));
    pieces
}
