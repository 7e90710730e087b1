//! What stands between the HTTP parser and a connection: it hands the parser requests that it would otherwise not
//! understand ([`Http10`]), and puts a body and a line in the access log to what the parser refuses by itself.
//!
//! The parser answers a head that it cannot read, or whose end is not in sight after 128 KiB, with a bare status, which
//! no middleware ever sees. Such an answer is the last on its connection, and no other looks like it: all of ours have
//! more header fields. So it is found by its looks, at the end of what is written.

use std::io;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::MessageBody as _;
use actix_web::http::StatusCode;
use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

use super::connection::TimedStream;
use super::http10::Http10;
use super::origin_line::OriginLine;
use crate::guard::cross_site::Origins;
use crate::http::middleware::add_headers;
use crate::http::middleware::cors::Readers;
use crate::network::Peer;
use crate::problem::{Code, Problem};

/// The parser's own answers are shorter.
const LONGEST_BARE: usize = 256;

/// A connection, as the parser sees it.
pub(super) struct Wire {
    connection: TimedStream,
    peer: Option<Peer>,
    requests: Http10,
    origins: Arc<Origins>,
    /// Where the request comes from that is being read; none where no origin may read answers.
    origin: Option<OriginLine>,
    /// Bytes that the parser may read.
    incoming: BytesMut,
    /// What is written in place of the parser's own answer.
    refusal: Option<BytesMut>,
}

impl Wire {
    pub(super) fn new(connection: TimedStream, peer: Option<Peer>, origins: Arc<Origins>) -> Self {
        let origin = origins.any_allowed().then(OriginLine::default);
        Self { connection, peer, requests: Http10::new(), origins, origin, incoming: BytesMut::new(), refusal: None }
    }

    pub(super) fn connection(&self) -> &TimedStream {
        &self.connection
    }

    pub(super) fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Reads what the client sends next.
    fn poll_client(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(origin) = &mut self.origin else { return Pin::new(&mut self.connection).poll_read(cx, buffer) };
        let is_next_head = self.connection.state().is_idle();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(cx, buffer))?;
        if is_next_head {
            origin.begin();
        }
        origin.pass(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }

    /// Which pages may read the refusal of what was read last.
    fn readers(&self) -> Readers {
        match &self.origin {
            None => Readers::Unconfigured,
            Some(origin) => {
                let origin = origin.found().filter(|origin| self.origins.may_read(origin));
                origin.map_or(Readers::None, |origin| Readers::Origin(origin.clone()))
            }
        }
    }

    /// Writes what is left of the refusal.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(left) = self.refusal.as_mut().filter(|left| !left.is_empty()) {
            let written = ready!(Pin::new(&mut self.connection).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(left.split_to(written));
        }
        self.refusal = None;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.incoming.is_empty() {
            if this.requests.is_over() {
                return this.poll_client(cx, buffer);
            }
            let mut space = [0; 1024];
            let mut space = ReadBuf::new(&mut space);
            ready!(this.poll_client(cx, &mut space))?;
            match space.filled() {
                [] => this.requests.finish(&mut this.incoming),
                bytes => this.requests.pass(bytes, &mut this.incoming),
            }
        }
        let part = this.incoming.split_to(this.incoming.len().min(buffer.remaining()));
        buffer.put_slice(&part);
        if this.incoming.is_empty() {
            this.incoming = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refusal.is_none() {
            match bare_answer(bytes) {
                None => return Pin::new(&mut this.connection).poll_write(cx, bytes),
                Some(([], problem)) => this.refusal = Some(refuse(&problem, bytes, this.peer, &this.readers())),
                Some((before, _)) => return Pin::new(&mut this.connection).poll_write(cx, before),
            }
        }
        // As long as this is not done, the parser asks for the same bytes to be written.
        ready!(this.poll_refusal(cx))?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(cx)
    }
}

/// What stands before an answer of the parser's own at the end of some bytes, and what that answer means. Its 408 to a
/// head that never ends is left as it is: connections that nothing was ever asked on get it, too.
fn bare_answer(bytes: &[u8]) -> Option<(&[u8], Problem)> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = bytes.len().saturating_sub(LONGEST_BARE);
    let at = bytes.get(from..)?.windows(7).rposition(|window| window == b"HTTP/1.")? + from;
    let (before, answer) = bytes.split_at(at);
    let mut lines = str::from_utf8(answer).ok()?.trim_end().split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?;
    let fields = ["content-length: 0", "connection: close"];
    let bare = |line: &str| fields.iter().any(|field| line.eq_ignore_ascii_case(field)) || date(line).is_some();
    if !lines.all(bare) {
        return None;
    }
    let problem = match status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok())? {
        StatusCode::BAD_REQUEST => Problem::new(Code::InvalidRequest).detail("This is not a well-formed HTTP request."),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Code::HeadersTooLarge.into(),
        _ => return None,
    };
    Some((before, problem))
}

fn date(line: &str) -> Option<&str> {
    line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("date")).map(|(_, date)| date)
}

/// The whole answer to a request that could not be read, in place of the bare one; and its line in the log.
fn refuse(problem: &Problem, bare: &[u8], peer: Option<Peer>, readers: &Readers) -> BytesMut {
    let id = Uuid::now_v7().to_string();
    let mut response = problem.respond(Some(&id));
    readers.say(&mut response);
    add_headers(&mut response, &id, false, true);
    let status = response.status();
    tracing::info_span!("request", id = %id).in_scope(|| {
        tracing::info!(
            target: "countersign::access",
            method = "(unreadable)",
            route = "(none)",
            status = status.as_u16(),
            ip_address = peer.map(|peer| tracing::field::display(peer.address())),
            "request"
        );
    });
    let mut answer = BytesMut::new();
    let mut line =
        |parts: &[&[u8]]| parts.iter().chain([&&b"\r\n"[..]]).for_each(|part| answer.extend_from_slice(part));
    line(&[b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", status.canonical_reason().unwrap_or("Error").as_bytes()]);
    for (name, value) in response.headers() {
        line(&[name.as_str().as_bytes(), b": ", value.as_bytes()]);
    }
    let date = str::from_utf8(bare).ok().and_then(|bare| bare.split("\r\n").find_map(date));
    if let Some(date) = date {
        line(&[b"date: ", date.as_bytes()]);
    }
    let body = response.into_body().try_into_bytes().unwrap_or_default();
    line(&[b"content-length: ", body.len().to_string().as_bytes()]);
    line(&[b"connection: close"]);
    line(&[]);
    answer.extend_from_slice(&body);
    answer
}
