//! One connection of the scripted server: requests are read, recorded and answered in turn.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::bytes::Bytes;
use super::reply::{Cut, Hold, Reply};
use super::request::Request;
use super::server::Shared;

/// Answers the requests of one client until it leaves or its script says to break off.
///
/// A client that leaves early is its own affair: whatever the socket then says is an end.
pub(super) fn converse(socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut connection = Connection {
        reader: BufReader::new(socket.try_clone()?),
        socket,
        shared,
    };
    while let Some(request) = Request::read(&mut connection.reader)? {
        let (request, reply) = shared.receive(request);
        if !connection.answer(&request, &reply)? {
            break;
        }
    }
    Ok(())
}

struct Connection<'a> {
    reader: BufReader<TcpStream>,
    socket: TcpStream,
    shared: &'a Shared,
}

impl Connection<'_> {
    /// Sends a reply; tells whether another request may follow.
    fn answer(&mut self, request: &Request, reply: &Reply) -> io::Result<bool> {
        for hold in &reply.before {
            match hold {
                Hold::Time(time) => self.shared.linger(*time),
                Hold::Gate(gate) => self.shared.pass(gate),
                Hold::Arrivals(chats) => self.shared.wait_for_arrivals(*chats),
            }
        }
        match reply.bytes(request) {
            Some(bytes) => self.send(&bytes, reply),
            None => self.wait_for_departure(),
        }
    }

    fn send(&mut self, bytes: &Bytes, reply: &Reply) -> io::Result<bool> {
        let places = reply.pauses.iter().map(|(after, _)| *after);
        let last_place = places.chain(reply.cut.map(|(after, _)| after)).max();
        let chunks = bytes.chunks.len();
        assert!(
            last_place <= Some(chunks),
            "the reply has only {chunks} chunks"
        );
        self.write(&bytes.head, reply)?;
        for sent in 0..=chunks {
            for (_, gate) in reply.pauses.iter().filter(|(after, _)| *after == sent) {
                self.shared.pass(gate);
            }
            if let Some((_, cut)) = reply.cut.filter(|(after, _)| *after == sent) {
                self.break_off(cut)?;
                return Ok(false);
            }
            if let Some(chunk) = bytes.chunks.get(sent) {
                self.write(chunk, reply)?;
            }
        }
        self.write(bytes.tail, reply)?;
        if bytes.then_close {
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(!bytes.then_close)
    }

    fn write(&mut self, bytes: &[u8], reply: &Reply) -> io::Result<()> {
        let size = if reply.byte_by_byte { 1 } else { bytes.len() };
        for piece in bytes.chunks(size.max(1)) {
            self.socket.write_all(piece)?;
        }
        Ok(())
    }

    fn break_off(&mut self, cut: Cut) -> io::Result<()> {
        if let Cut::Reset = cut {
            // With no time to linger, closing sends RST and not FIN.
            rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO))?;
            return Ok(());
        }
        self.socket.shutdown(Shutdown::Both)
    }

    fn wait_for_departure(&mut self) -> io::Result<bool> {
        io::copy(&mut self.reader.by_ref(), &mut io::sink())?;
        Ok(false)
    }
}
