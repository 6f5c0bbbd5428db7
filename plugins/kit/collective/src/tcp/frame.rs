//! Messages on a socket: a kind, a length, bytes.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers or bytes that the other side asked for.
    Data = 0,
    /// A process ends, with the reason.
    Abort = 1,
    /// A process is done.
    Goodbye = 2,
}

/// The longest message; a longer one was not sent by this program.
const MOST: u64 = 1 << 34;

pub fn send(mut stream: &TcpStream, kind: Kind, bytes: &[u8]) -> Result<()> {
    let mut head = [0; 9];
    head[0] = kind as u8;
    head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    match bytes.len() < 1 << 12 {
        true => stream.write_all(&[&head, bytes].concat()),
        false => stream.write_all(&head).and_then(|()| stream.write_all(bytes)),
    }
}

pub fn receive(mut stream: &TcpStream) -> Result<(Kind, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let kind = match head[0] {
        0 => Kind::Data,
        1 => Kind::Abort,
        2 => Kind::Goodbye,
        other => return Err(Error::new(ErrorKind::InvalidData, format!("a message of kind {other}"))),
    };
    let mut length = [0; 8];
    length.copy_from_slice(&head[1..]);
    let length = u64::from_le_bytes(length);
    if length > MOST {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    // Not reserved at once, since the length may be wrong.
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok((kind, bytes)),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Makes the system notice within 9 seconds that the other machine is gone, and send small messages at once.
pub fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    use std::time::Duration;
    // A system without these options still notices a process that ends.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(3));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(2));
    let _ = sockopt::set_tcp_keepcnt(stream, 3);
}
