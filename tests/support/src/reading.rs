//! Reads that a paused machine does not break: a read with a timeout ends with `Interrupted` when its process is stopped and
//! continued (signal(7)), and only the reads of whole buffers and lines in the standard library try again.

use std::io::{ErrorKind, Read, Result};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

/// Reads what there is, as [`Read::read`] does.
#[expect(clippy::disallowed_methods, reason = "this is the loop around it")]
pub fn read(stream: &mut impl Read, into: &mut [u8]) -> Result<usize> {
    uninterrupted(|| stream.read(into))
}

/// Whether there is anything to read, and how much, as [`TcpStream::peek`] does.
#[expect(clippy::disallowed_methods, reason = "this is the loop around it")]
pub fn peek(stream: &TcpStream) -> Result<usize> {
    uninterrupted(|| stream.peek(&mut [0]))
}

/// Receives a datagram, as [`UnixDatagram::recv`] does.
#[expect(clippy::disallowed_methods, reason = "this is the loop around it")]
pub fn receive(socket: &UnixDatagram, into: &mut [u8]) -> Result<usize> {
    uninterrupted(|| socket.recv(into))
}

fn uninterrupted<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
