//! What a real server said, byte for byte: tests/fixtures/ollama, one directory an exchange.

use std::path::PathBuf;

/// Exchanges whose body is the answer to a chat, finished or not.
pub(super) const ANSWERS: [&str; 6] = [
    "chat-think-stream",
    "chat-unicode-stream",
    "chat-token-repeat-nostream",
    "chat-unload",
    "runner-dies-mid-stream",
    "server-killed-mid-stream",
];

fn file(case: &str, name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/ollama")
        .join(case)
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The body, chunked coding removed.
pub(super) fn body(case: &str) -> Vec<u8> {
    file(case, "response.body")
}

/// Every byte of the response as it came from the socket.
pub(super) fn raw(case: &str) -> Vec<u8> {
    file(case, "response.raw")
}

/// A response without a recording from the socket, put together again.
pub(super) fn response(case: &str) -> Vec<u8> {
    let (mut bytes, body) = (file(case, "response.headers"), body(case));
    if String::from_utf8_lossy(&bytes).contains("chunked") {
        bytes.extend(format!("{:x}\r\n", body.len()).into_bytes());
        bytes.extend(body);
        bytes.extend(b"\r\n0\r\n\r\n");
    } else {
        bytes.extend(body);
    }
    bytes
}

/// What was asked, as JSON.
pub(super) fn request(case: &str) -> serde_json::Value {
    let exchange: serde_json::Value =
        serde_json::from_slice(&file(case, "request.json")).expect("an exchange is JSON");
    exchange["body"].clone()
}

/// The status and the `Location`.
pub(super) fn head(case: &str) -> (u16, Option<String>) {
    let text = String::from_utf8(file(case, "response.headers")).expect("headers are ASCII");
    let status = text[9..12].parse().expect("a status line");
    let location = text
        .lines()
        .find_map(|line| line.strip_prefix("Location: "));
    (status, location.map(str::to_owned))
}
