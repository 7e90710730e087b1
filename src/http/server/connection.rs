//! What one connection may take: how long its client may keep us waiting, and how much of what it sends is
//! read before what it asked for is answered.
//!
//! The HTTP stack below bounds the first head on a connection and the silence between two requests. It does
//! not bound a later head that trickles in, a refused body that goes on and on, or an answer that the client never
//! takes; and once 128 KiB of requests wait behind such an answer, it asks the socket for more without a
//! pause. [`TimedStream`] stands between it and the socket and closes what is overdue.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connections::Open;
use super::socket::Socket;

/// So many bytes are looked at before more are read, and kept for later while a request is being answered. Each
/// request in them is held as one of seven KiB, and the shortest has 18 bytes.
const STEP: usize = 2 * 1024;
/// Bytes of a request that are not worth reading on their own.
const SHORTEST: usize = 32;

/// How patient the server is with its clients. But for the first, not configurable; tests have less time.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long an idle connection is kept, `server.keep_alive`. Proxies keep theirs for a minute: the server must not be
    /// first.
    pub keep_alive: Duration,
    /// The time from the first byte of a request to the end of its head.
    pub head: Duration,
    /// The time from the end of its head to the end of its body.
    pub body: Duration,
    /// How long a client may take no byte of what it is sent.
    pub stall: Duration,
    /// Connections that are open at a time; for more, idle ones make way. Fewer, if the system has no more files.
    pub connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(75),
            head: Duration::from_secs(10),
            body: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            connections: 10_000,
        }
    }
}

/// Whose turn it is on a connection, and until when. The connection and its requests share it.
pub(crate) struct ConnectionState {
    bounds: Bounds,
    open: Open,
    state: Cell<State>,
    /// By when the client must have done its part, where it is the client's turn.
    due: Cell<Option<Instant>>,
    /// Part of an answer waits for the client.
    blocked: Cell<bool>,
    /// Requests may be left that came before an answer had to wait.
    behind: Cell<bool>,
    /// A request has begun since that was last looked at.
    begun: Cell<bool>,
    last: Cell<bool>,
    /// Whom to wake when reading may go on.
    parked: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Default)]
enum State {
    /// No request has begun.
    #[default]
    Idle,
    /// Some of a head has come.
    Head,
    /// A request is being answered, and perhaps more of its body is wanted.
    Request { more: bool },
}

impl ConnectionState {
    fn new(bounds: Bounds, open: Open) -> Self {
        Self {
            bounds,
            open,
            state: Cell::default(),
            due: Cell::new(Some(Instant::now() + bounds.keep_alive)),
            blocked: Cell::default(),
            behind: Cell::default(),
            begun: Cell::default(),
            last: Cell::default(),
            parked: RefCell::default(),
        }
    }

    /// The turn of the connection that a request came on, if it is one of ours.
    pub(crate) fn of(req: &HttpRequest) -> Option<Rc<Self>> {
        req.conn_data::<Rc<Self>>().cloned()
    }

    /// The head of a request is complete. It is being answered until what is returned is dropped.
    pub(crate) fn begin(self: Rc<Self>) -> Serving {
        self.state.set(State::Request { more: false });
        self.begun.set(true);
        self.due.set(None);
        self.open.is_at_work();
        Serving(self)
    }

    /// The request has a body. Its reader gives up at [`Bounds::body`] and can say so; this is for the others.
    pub(super) fn expects_body(&self) {
        self.due.set(Some(Instant::now() + self.bounds.body + self.bounds.head));
        self.wants_more();
    }

    /// The body is being waited for.
    pub(super) fn wants_more(&self) {
        self.state.set(State::Request { more: true });
        self.open.is_waiting();
        self.wake();
    }

    /// There is no more of the body to come, or it is not wanted. What then comes next is not a request.
    pub(super) fn end_of_body(&self, whole: bool) {
        self.due.set(None);
        self.open.is_at_work();
        self.last.set(!whole);
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether the connection should be closed behind the answer.
    pub(crate) fn is_last(&self) -> bool {
        self.last.get() || self.open.is_closing()
    }

    /// Whether no request has begun: what comes next is the beginning of a head.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state.get(), State::Idle)
    }

    fn may_read(&self) -> bool {
        !self.blocked.get() && !matches!(self.state.get(), State::Request { more: false })
    }

    /// Whether there is work left. It is worked off without waiting, until an answer has to wait again: so if nothing
    /// has begun since the last time, there is none.
    fn is_behind(&self) -> bool {
        if self.behind.get() && !self.begun.replace(false) {
            self.behind.set(false);
        }
        self.behind.get()
    }

    fn received(&self) {
        match self.state.get() {
            State::Idle => {
                self.state.set(State::Head);
                self.due.set(Some(Instant::now() + self.bounds.head));
                self.open.is_waiting();
            }
            State::Head => {}
            State::Request { .. } => {
                self.state.set(State::Request { more: false });
                self.open.is_at_work();
            }
        }
    }

    /// The client has taken part of an answer that waited for it.
    fn takes_answer(&self) {
        if self.is_idle() {
            self.open.is_idle()
        } else {
            self.open.is_at_work()
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.parked.take() {
            waker.wake();
        }
    }
}

/// A request that is being answered.
pub(crate) struct Serving(Rc<ConnectionState>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.state.set(State::Idle);
        self.0.due.set(Some(Instant::now() + self.0.bounds.keep_alive));
        // An answer that waits for its client is in flight still.
        if !self.0.blocked.get() {
            self.0.open.is_idle();
        }
        self.0.wake();
    }
}

/// A socket that reads no more when its client is overdue, and fails when its client takes nothing of what is written.
pub(super) struct TimedStream {
    socket: Socket,
    state: Rc<ConnectionState>,
    /// Goes off when something is due, or before that.
    alarm: Pin<Box<Sleep>>,
    /// Goes off when a write has waited too long.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Bytes read since they were last looked at.
    run: usize,
    /// Read while it was not the client's turn.
    ahead: BytesMut,
}

impl TimedStream {
    pub(super) fn new(socket: Socket, bounds: Bounds, open: Open) -> Self {
        let alarm = Box::pin(sleep(bounds.keep_alive));
        Self {
            socket,
            state: Rc::new(ConnectionState::new(bounds, open)),
            alarm,
            stalled: None,
            run: 0,
            ahead: BytesMut::new(),
        }
    }

    pub(super) fn state(&self) -> &Rc<ConnectionState> {
        &self.state
    }

    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = self.state.due.get() else { return false };
        // It is set anew only where it must be, which is about once in the time that a head may take.
        if self.alarm.deadline() > due {
            self.alarm.as_mut().reset(due);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return true;
            }
            self.alarm.as_mut().reset(due);
        }
        false
    }

    /// Looks whether the client is still there. What it sends meanwhile is kept for later, up to a point.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < STEP {
            let mut space = [0; STEP / 2];
            let mut space = ReadBuf::new(&mut space);
            match Pin::new(&mut self.socket).poll_read(cx, &mut space) {
                Poll::Ready(Ok(())) if !space.filled().is_empty() => self.ahead.extend_from_slice(space.filled()),
                Poll::Ready(over) => return Poll::Ready(over),
                Poll::Pending => break,
            }
        }
        if !self.ahead.is_empty() {
            *self.state.parked.borrow_mut() = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Reads what comes next, as far as it is looked at in one go.
    fn poll_next(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let most = buffer.remaining().min(STEP - self.run);
        if !self.ahead.is_empty() {
            let next = self.ahead.get(..self.ahead.len().min(most)).unwrap_or_default();
            let first = end_of_first(next);
            let part = self.ahead.split_to(first.unwrap_or(next.len()));
            buffer.put_slice(&part);
            return Poll::Ready(Ok(self.read(part.len(), first)));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part)?);
        let (first, bytes) = (end_of_first(part.filled()), part.filled().len());
        if let Some(rest) = first.and_then(|end| part.filled().get(end..)) {
            self.ahead.extend_from_slice(rest);
        }
        buffer.advance(first.unwrap_or(bytes));
        Poll::Ready(Ok(self.read(first.unwrap_or(bytes), first)))
    }

    /// Where only the first of several requests was read, no more are before that has been looked at.
    fn read(&mut self, bytes: usize, first: Option<usize>) -> usize {
        self.run = if first.is_some() { STEP } else { self.run + bytes };
        bytes
    }
}

/// Where the first request ends, as far as its head goes, if another follows it whole: the stack below would hold up to
/// sixteen, of seven KiB each, for a client that takes none of their answers.
fn end_of_first(bytes: &[u8]) -> Option<usize> {
    let mut ends = bytes.windows(3).enumerate().filter_map(|(at, three)| match three {
        [b'\n', b'\n', _] => Some(at + 2),
        [b'\n', b'\r', b'\n'] => Some(at + 3),
        [_, b'\n', b'\n'] if at + 3 == bytes.len() => Some(at + 3),
        _ => None,
    });
    let first = ends.find(|end| *end >= SHORTEST)?;
    ends.next().map(|_second| first)
}

impl AsyncRead for TimedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let makes_way = this.state.open.is_to_close(cx.waker());
        if this.is_overdue(cx) || (makes_way && this.state.blocked.get()) {
            // The end, as if the client had hung up.
            return Poll::Ready(Ok(()));
        }
        if !this.state.may_read() {
            return this.poll_ahead(cx);
        }
        if this.run >= STEP || this.state.is_behind() {
            this.run = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = this.poll_next(cx, buffer);
        match &read {
            Poll::Ready(Ok(0)) => {}
            Poll::Ready(Ok(_)) => this.state.received(),
            Poll::Ready(Err(_)) => {}
            // What was read is looked at first: it may be a request, which is answered.
            Poll::Pending if makes_way && this.run > 0 => {
                this.run = 0;
                cx.waker().wake_by_ref();
            }
            Poll::Pending if makes_way => return Poll::Ready(Ok(())),
            Poll::Pending => this.run = 0,
        }
        read.map_ok(|_bytes| ())
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        if written.is_ready() {
            if this.state.blocked.replace(false) {
                this.stalled = None;
                this.state.takes_answer();
            }
            return written;
        }
        if !this.state.blocked.replace(true) {
            this.state.open.is_waiting();
        }
        this.state.behind.set(true);
        if this.state.open.is_closing() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let stall = this.state.bounds.stall;
        match this.stalled.get_or_insert_with(|| Box::pin(sleep(stall))).as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::super::connections::Connections;
    use super::*;
    use crate::network::Peer;

    /// Reads once: how many bytes.
    async fn read(server: &mut TimedStream) -> Poll<usize> {
        let mut space = [0; 256];
        poll_fn(|cx| {
            let mut space = ReadBuf::new(&mut space);
            let read = Pin::new(&mut *server).poll_read(cx, &mut space);
            Poll::Ready(read.map(|read| read.map(|()| space.filled().len()).unwrap()))
        })
        .await
    }

    /// The HTTP stack reads until there is nothing more before it looks at what it has. The end would have it drop a
    /// request that waits for the database.
    #[actix_web::test]
    async fn a_request_that_arrives_as_its_connection_makes_way_is_answered_first() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let connections = Connections::new(1, Box::new(|_| false));
        let open = connections.enter(Some(Peer::Address(Ipv4Addr::LOCALHOST.into())));
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut server = TimedStream::new(socket.into(), Bounds::default(), open);
        assert!(read(&mut server).await.is_pending());

        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        client.write_all(request).await.unwrap();
        let Socket::Tcp(socket) = &server.socket else { panic!("it is one") };
        socket.readable().await.unwrap();
        let _newer = connections.enter(Some(Peer::Address(Ipv4Addr::LOCALHOST.into())));
        assert!(server.state.open.is_closing(), "there is room for one only");
        assert_eq!(read(&mut server).await, Poll::Ready(request.len()));
        assert!(read(&mut server).await.is_pending(), "not the end: what was read may be a request");
        let serving = server.state().clone().begin();
        for _ in 0..3 {
            assert!(read(&mut server).await.is_pending(), "not while it is answered");
        }
        assert!(server.state.is_last());
        drop(serving);
        assert_eq!(read(&mut server).await, Poll::Ready(0));
    }

    #[test]
    fn of_several_requests_the_first_is_read_alone() {
        let get = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let bare = "GET /health/live HTTP/1.1\nHost: localhost\n\n";
        let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{\"a\": 1}\n";
        let cases = [
            (String::new(), None),
            ("\n".into(), None),
            ("\r\n\r\n".into(), None),
            (get.to_owned(), None),
            (post.to_owned(), None),
            (format!("{get}GET /"), None),
            (format!("{get}{get}"), Some(get.len())),
            (format!("{bare}{bare}"), Some(bare.len())),
            (format!("{bare}{get}{bare}"), Some(bare.len())),
            (format!("{post}{get}"), Some(post.len() - 9)),
            // Not byte by byte.
            ("\n".repeat(200), Some(SHORTEST)),
        ];
        for (text, end) in cases {
            assert_eq!(end_of_first(text.as_bytes()), end, "{text:?}");
        }
    }
}
