//! One request as it came over the socket, and the questions tests ask about it.

use std::io::{self, BufRead, Read};
use std::time::Instant;

use serde_json::Value;

/// A request the server received.
#[derive(Debug)]
pub(crate) struct Request {
    /// The method, e.g. `POST`.
    pub(crate) method: String,
    /// The path as sent, e.g. `/api/chat`.
    pub(crate) path: String,
    /// The headers in the order they came, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body's bytes, chunked coding removed.
    pub(crate) body: Vec<u8>,
    /// The body, if it is JSON, else null.
    pub(crate) json: Value,
    /// When the whole of it had arrived.
    pub(crate) arrived: Instant,
}

impl Request {
    /// Reads the next request of a connection; `None` when the client has left.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let first = read_line(from)?;
        let mut words = first.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Ok(None);
        };
        let (method, path) = (method.to_owned(), path.to_owned());
        let mut request = Self {
            method,
            path,
            headers: read_headers(from)?,
            body: Vec::new(),
            json: Value::Null,
            arrived: Instant::now(),
        };
        if request.header("transfer-encoding") == Some("chunked") {
            request.body = read_chunks(from)?;
        } else if let Some(length) = request.header("content-length") {
            request.body = vec![0; length.parse().map_err(io::Error::other)?];
            from.read_exact(&mut request.body)?;
        }
        request.json = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        request.arrived = Instant::now();
        Ok(Some(request))
    }

    /// Tells whether this asks for a turn of a chat.
    pub(crate) fn is_chat(&self) -> bool {
        self.method == "POST" && self.path == "/api/chat"
    }

    /// Returns a header's value; the name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the model as it was spelled.
    pub(crate) fn model(&self) -> &str {
        self.json["model"].as_str().unwrap_or("")
    }

    /// Returns one of the `options`, null when it was not sent.
    pub(crate) fn option(&self, name: &str) -> &Value {
        &self.json["options"][name]
    }

    /// Returns the messages' roles in order.
    pub(crate) fn roles(&self) -> Vec<String> {
        self.of_messages("role")
    }

    /// Returns the messages' contents in order.
    pub(crate) fn contents(&self) -> Vec<String> {
        self.of_messages("content")
    }

    /// Returns the content of the last message whose role is `user`, empty when there is none.
    pub(crate) fn last_user(&self) -> String {
        let mut both = self.roles().into_iter().zip(self.contents());
        let last = both.rfind(|(role, _)| role == "user");
        last.map(|(_, content)| content).unwrap_or_default()
    }

    fn of_messages(&self, key: &str) -> Vec<String> {
        let messages = self.json["messages"].as_array().map_or(&[][..], |m| m);
        messages
            .iter()
            .map(|message| message[key].as_str().unwrap_or("").to_owned())
            .collect()
    }
}

fn read_headers(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(headers);
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = u64::from_str_radix(&read_line(from)?, 16).map_err(io::Error::other)?;
        from.by_ref().take(size).read_to_end(&mut body)?;
        read_line(from)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Reads a line without its end; empty at the end of the connection.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}
