//! HTTP/1.1 as cheap as it gets: requests written by hand over connections that are kept.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::Outcome;

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, read to its end.
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: &'a str,
}

struct Head {
    status: u16,
    body: usize,
    end: usize,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Outcome<Self> {
        Self::over(TcpStream::connect(address).await?)
    }

    /// Connects from one of the many addresses of this machine.
    pub async fn open_from(from: Ipv4Addr, address: SocketAddr) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        Self::over(socket.connect(address).await?)
    }

    fn over(stream: TcpStream) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 * 1024) })
    }

    /// Sends a request, and waits for its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Outcome<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let mut head = None;
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server has hung up".into());
            }
            if head.is_none() {
                head = read_head(&self.buffer)?;
            }
            match head {
                Some(head) if self.buffer.len() >= head.end => break head,
                _ => {}
            }
        };
        let body = self.buffer.get(head.body..head.end).unwrap_or_default();
        Ok(Answer { status: head.status, body: str::from_utf8(body)? })
    }
}

/// Writes a request for `path`, in place of what was in `request`.
pub fn write_request(request: &mut Vec<u8>, method: &str, path: &str, bearer: Option<&str>, body: &[&str]) {
    request.clear();
    for part in [method, " ", path, " HTTP/1.1\r\nHost: localhost\r\n"] {
        request.extend_from_slice(part.as_bytes());
    }
    if let Some(token) = bearer {
        for part in ["Authorization: Bearer ", token, "\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
    }
    if !body.is_empty() {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let fields = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        request.extend_from_slice(fields.as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    for part in body {
        request.extend_from_slice(part.as_bytes());
    }
}

/// `None`: there is more to come.
fn read_head(bytes: &[u8]) -> Outcome<Option<Head>> {
    let Some(length) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(bytes.get(..length).unwrap_or_default())?;
    let status = head.get(9..12).ok_or("no status line")?.parse()?;
    let mut body_length = 0;
    for line in head.split("\r\n") {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body_length = value.trim().parse()?;
        }
    }
    let body = length + 4;
    Ok(Some(Head { status, body, end: body + body_length }))
}

/// The text member `name` of a JSON object, without reading the rest of it. Tokens need no unescaping.
pub fn member<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.match_indices(name).find_map(|(at, _)| {
        let before = body.get(..at)?.ends_with('"');
        let value = body.get(at + name.len()..)?.strip_prefix("\":\"").filter(|_| before)?;
        value.split('"').next()
    })
}
