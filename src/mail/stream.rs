//! A connection that takes in so much and no more, a line at a time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More than any mail server says about one mail, in bytes.
const MOST: usize = 1024 * 1024;
/// Of which so many are read at once.
const AT_ONCE: usize = 4 * 1024;

/// A connection to a mail server, whose answers must come to an end: nothing else bounds how long a line may be.
///
/// It hands out no more than one line at a time. So nothing that was sent in the clear behind the answer to STARTTLS is taken
/// for something said under TLS (RFC 3207 section 6): TLS finds it, and fails.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    left: usize,
    /// Read, and not handed out yet.
    kept: Vec<u8>,
}

impl BoundedStream {
    /// Around a new connection.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, left: MOST, kept: Vec::new() }
    }

    /// Reads what there is.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let most = self.left.min(AT_ONCE);
        if most == 0 {
            return Poll::Ready(Err(io::Error::other("the server says too much")));
        }
        let mut bytes = [0; AT_ONCE];
        let mut buffer = ReadBuf::new(bytes.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.left -= buffer.filled().len();
        self.kept.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.kept.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        let line = self.kept.iter().position(|byte| *byte == b'\n').map_or(self.kept.len(), |end| end + 1);
        let handed_out = self.kept.drain(..line.min(into.remaining()));
        into.put_slice(handed_out.as_slice());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for BoundedStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}
