//! A proxy before a server that can lose an answer: what was asked is done, and who asked does not
//! hear of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A proxy that runs until the process ends.
pub(crate) struct Proxy {
    port: u16,
    to_lose: Arc<AtomicU32>,
}

impl Proxy {
    /// Starts a proxy before the server on a port.
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let to_lose = Arc::new(AtomicU32::new(0));
        let left = to_lose.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, left) = (client.expect("a client"), left.clone());
                thread::spawn(move || relay(client, server, &left));
            }
        });
        Self { port, to_lose }
    }

    /// Returns the address of a database behind it.
    pub(crate) fn uri_of(&self, database: &str) -> String {
        format!(
            "mongodb://127.0.0.1:{}/{database}?directConnection=true",
            self.port
        )
    }

    /// Lets the next answers to inserts get lost.
    pub(crate) fn lose(&self, answers: u32) {
        self.to_lose.store(answers, Ordering::SeqCst);
    }

    /// Returns how many are still to be lost.
    pub(crate) fn left(&self) -> u32 {
        self.to_lose.load(Ordering::SeqCst)
    }
}

/// Passes messages on, one answer for each, which is how drivers ask that do not stream.
fn relay(mut client: TcpStream, server: u16, to_lose: &AtomicU32) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else {
        return;
    };
    let mut back = (
        server.try_clone().expect("a handle"),
        client.try_clone().expect("a handle"),
    );
    // Answers wait for their fate: whether one is lost is decided when it was asked for.
    let is_lost = Arc::new(AtomicU32::new(0));
    let lost = is_lost.clone();
    let answers = thread::spawn(move || {
        while let Some(answer) = message(&mut back.0) {
            if lost.load(Ordering::SeqCst) > 0 || back.1.write_all(&answer).is_err() {
                break;
            }
        }
        let _ = back.1.shutdown(std::net::Shutdown::Both);
        let _ = back.0.shutdown(std::net::Shutdown::Both);
    });
    while let Some(asked) = message(&mut client) {
        let is_insert = has(&asked, b"\x02insert\0\x07\0\0\0events\0");
        let lose = |left: u32| left.checked_sub(1);
        if is_insert
            && to_lose
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose)
                .is_ok()
        {
            is_lost.store(1, Ordering::SeqCst);
        }
        if server.write_all(&asked).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Write);
    let _ = answers.join();
}

fn message(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let mut bytes = length.to_vec();
    bytes.resize(u32::from_le_bytes(length) as usize, 0);
    from.read_exact(&mut bytes[4..]).ok()?;
    Some(bytes)
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
