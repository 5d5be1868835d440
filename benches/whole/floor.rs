//! What cannot be saved: programs that do by hand, with nothing but the standard library, what a
//! line of the budget has to do. `measure.py` compiles this file and times the program beside it.
//!
//! ```text
//! floor serve MILLISECONDS      a server that answers every chat after so long; prints its port
//! floor ask PORT BODY           the chat request in the file BODY; prints the reply
//! floor turn PORT BODY STORE    a draft before it, the request, and a line to a log under a lock, synced
//! floor begin PORT BODY STORE   the same to a log that is new: three syncs
//! floor empty                   nothing
//! floor list STORE              the directory, one stat a session, the index
//! floor read STORE              every log, a block at a time
//! ```

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

const SHOW: &str = r#"{"details":{"family":"llama"},"model_info":{"general.architecture":"llama","llama.context_length":131072},"capabilities":["completion"]}"#;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let word = |n: usize| words.get(n).map_or("", String::as_str);
    match word(0) {
        "serve" => serve(Duration::from_millis(number(word(1)))),
        "ask" => ask(number(word(1)) as u16, word(2)),
        "turn" => turn(number(word(1)) as u16, word(2), Path::new(word(3)), false),
        "begin" => turn(number(word(1)) as u16, word(2), Path::new(word(3)), true),
        "empty" => Ok(()),
        "list" => list(Path::new(word(1))),
        "read" => read(Path::new(word(1))),
        other => panic!("{other:?} is none of serve, ask, turn, begin, empty, list, read"),
    }
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn serve(delay: Duration) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for connection in listener.incoming() {
        let connection = connection?;
        // A thread each: the requests of 64 programs must not wait for each other.
        std::thread::spawn(move || answer(connection, delay));
    }
    Ok(())
}

/// Answers requests on `connection` until the other side closes it.
fn answer(mut connection: TcpStream, delay: Duration) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 16, connection.try_clone()?);
    loop {
        let (request, length) = head(&mut reader)?;
        let Some(path) = request.split(' ').nth(1) else {
            return Ok(());
        };
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let (body, kind) = match path {
            "/api/chat" => {
                std::thread::sleep(delay);
                (reply(length), "application/x-ndjson")
            }
            _ => (SHOW.to_owned(), "application/json"),
        };
        let length = body.len() + 1;
        write!(
            connection,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}\n"
        )?;
    }
}

/// An answer to a request of so many bytes; four of them are taken for a token.
fn reply(request: u64) -> String {
    format!(
        r#"{{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{{"role":"assistant","content":"It is four."}},"done":true,"done_reason":"stop","total_duration":1000000,"load_duration":1000,"prompt_eval_count":{},"prompt_eval_duration":1000,"eval_count":5,"eval_duration":1000}}"#,
        request / 4
    )
}

/// Returns the first line and the length of the body.
fn head(reader: &mut impl BufRead) -> io::Result<(String, u64)> {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            return Ok((first, length));
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number(value.trim());
        }
    }
}

fn ask(port: u16, body: &str) -> io::Result<()> {
    let body = fs::read(body)?;
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(&[head.as_bytes(), &body].concat())?;
    let mut reader = BufReader::new(connection);
    let (_, length) = self::head(&mut reader)?;
    let mut reply = String::new();
    reader.take(length).read_to_string(&mut reply)?;
    // The content is all a bare program would print.
    let (_, rest) = reply.split_once(r#""content":""#).expect("a reply");
    println!("{}", rest.split('"').next().unwrap_or_default());
    Ok(())
}

/// What no durable turn can do without: a draft while the model answers, and a synced line.
fn turn(port: u16, body: &str, store: &Path, is_new: bool) -> io::Result<()> {
    let (sessions, drafts) = (store.join("sessions"), store.join("open"));
    fs::create_dir_all(&drafts)?;
    let lock = File::create(store.join("lock"))?;
    let session = sessions.join(if is_new { "new" } else { "session" });
    let begin = || fs::create_dir_all(&session);
    if !is_new {
        begin()?;
        let _ = fs::read(session.join("events.jsonl"));
    }
    fs::write(drafts.join(".tmp"), fs::read(body)?)?;
    fs::rename(drafts.join(".tmp"), drafts.join("draft"))?;
    ask(port, body)?;
    if is_new {
        begin()?;
    }
    let log = File::options()
        .append(true)
        .create(true)
        .open(session.join("events.jsonl"))?;
    lock.lock()?;
    (&log).write_all(&[b'x'; 600])?;
    lock.unlock()?;
    if is_new {
        log.sync_all()?;
        File::open(&session)?.sync_all()?;
        File::open(&sessions)?.sync_all()?;
        fs::remove_dir_all(&session)?;
    } else {
        log.sync_data()?;
    }
    fs::remove_file(drafts.join("draft"))
}

fn list(store: &Path) -> io::Result<()> {
    let mut bytes = 0;
    for entry in fs::read_dir(store.join("sessions"))? {
        if let Ok(log) = fs::symlink_metadata(entry?.path().join("events.jsonl")) {
            bytes += log.len();
        }
    }
    println!("{bytes} {}", fs::read(store.join("cache/index.jsonl"))?.len());
    Ok(())
}

fn read(store: &Path) -> io::Result<()> {
    let (mut block, mut lines) = (vec![0; 1 << 18], 0);
    for entry in fs::read_dir(store.join("sessions"))? {
        let Ok(mut log) = File::open(entry?.path().join("events.jsonl")) else {
            continue;
        };
        loop {
            let length = log.read(&mut block)?;
            if length == 0 {
                break;
            }
            lines += block[..length].iter().filter(|byte| **byte == b'\n').count();
        }
    }
    println!("{lines}");
    Ok(())
}
