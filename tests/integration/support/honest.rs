//! A model that counts: every byte of a word costs what it costs in any request, whoever asks.

use serde_json::Value;

use super::reply::Reply;
use super::request::Request;

/// Answers at a length that varies, and counts what it was sent.
pub(crate) fn honest(request: &Request) -> Reply {
    let asked = request.last_user();
    let answer = format!("answer to {asked} {}", "and more ".repeat(asked.len() % 17));
    counted(request, answer)
}

/// Says `answer`, with the counts of an honest server.
pub(crate) fn counted(request: &Request, answer: impl Into<String>) -> Reply {
    let answer = answer.into();
    let counts = (count_of_request(request), count(&answer));
    Reply::text(answer)
        .in_one_chunk()
        .counts(counts.0, counts.1)
}

/// Tokens of a request: of its messages, five more for the template around each, three at the
/// end.
pub(crate) fn count_of_request(request: &Request) -> u64 {
    let messages = request.contents();
    messages.iter().map(|text| count(text) + 5).sum::<u64>() + 3
}

/// Tokens of a text: one for every three bytes of a word and for every space.
pub(crate) fn count(text: &str) -> u64 {
    let words = text.split(' ').map(|word| word.len().div_ceil(3) as u64);
    words.sum()
}

/// Returns the bytes of the messages of a request as they were sent, the last bracket left out.
pub(crate) fn messages_of(request: &Request) -> Vec<u8> {
    let key = b"\"messages\":";
    let at = request.body.windows(key.len()).position(|part| part == key);
    let from = &request.body[at.expect("messages") + key.len()..];
    let mut values = serde_json::Deserializer::from_slice(from).into_iter::<Value>();
    values.next().expect("an array").expect("of messages");
    from[..values.byte_offset() - 1].to_vec()
}
