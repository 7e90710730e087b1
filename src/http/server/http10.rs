//! Requests of HTTP/1.0 without a body, which the parser below refuses.
//!
//! A request with neither `Content-Length` nor `Transfer-Encoding` has no body (RFC 9112 section 6.3), but the parser
//! takes a `POST` of HTTP/1.0 like that for a mistake (RFC 1945 section 7.2.2). nginx speaks HTTP/1.0 to the servers
//! behind it unless told otherwise, and passes on requests without a body just like that. [`Http10`] gives such a
//! head the `Content-Length: 0` it lacks.
//!
//! It reads no more than it must: what begins with a request of another version is passed on unseen from there to the
//! end of the connection, and so is everything behind a head that it cannot tell the end of.

use actix_web::web::BytesMut;

/// A longer head is refused anyhow.
const MAX_HEAD: usize = 64 * 1024;
/// What is added.
const NO_BODY: &[u8] = b"Content-Length: 0\r\n";

/// What comes next on a connection.
#[derive(Clone, Copy)]
enum Expected {
    Head,
    /// So many bytes of a body, and then a request.
    Body(u64),
    /// Anything.
    Unseen,
}

/// What a head says of the body behind it.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    /// Nothing.
    Unsaid,
    Length(u64),
    /// Something that the parser must refuse, or that only it can follow.
    Unclear,
}

/// The bytes of one connection, on their way to the parser.
pub(super) struct Http10 {
    expected: Expected,
    /// What has come of a head that is not complete.
    held: BytesMut,
}

impl Http10 {
    pub(super) fn new() -> Self {
        Self { expected: Expected::Head, held: BytesMut::new() }
    }

    /// Whether bytes need not come by here any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.expected, Expected::Unseen)
    }

    /// Takes bytes, and appends those that may be passed on to `out`.
    pub(super) fn pass(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.held.extend_from_slice(bytes);
        while !self.held.is_empty() {
            match self.expected {
                Expected::Unseen => return self.finish(out),
                Expected::Body(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.held.len());
                    out.extend_from_slice(&self.held.split_to(here));
                    let left = left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
                    self.expected = if left == 0 { Expected::Head } else { Expected::Body(left) };
                }
                Expected::Head => {
                    if !self.pass_head(out) {
                        return;
                    }
                }
            }
        }
        // What is left of it is as large as the largest head was.
        self.held = BytesMut::new();
    }

    /// The client has sent all it will: the parser sees what was held back.
    pub(super) fn finish(&mut self, out: &mut BytesMut) {
        self.expected = Expected::Unseen;
        out.extend_from_slice(&std::mem::take(&mut self.held));
    }

    /// Passes on a head if it is complete; whether it was, or will not be waited for.
    fn pass_head(&mut self, out: &mut BytesMut) -> bool {
        let start = self.held.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let head = self.held.get(start..).unwrap_or_default();
        let ours = is_http10(head);
        let end = if ours == Some(true) { end_of(head) } else { None };
        let Some(length) = end else {
            let waits = ours != Some(false) && self.held.len() <= MAX_HEAD;
            if !waits {
                self.finish(out);
            }
            return !waits;
        };
        let (head, _) = head.split_at(length);
        let said = body_of(head);
        let bare = said == Body::Unsaid && head.starts_with(b"POST ");
        // In front of the empty line, whichever way lines end here.
        let fields = start + length - if head.ends_with(b"\r\n") { 2 } else { 1 };
        out.extend_from_slice(&self.held.split_to(fields));
        if bare {
            out.extend_from_slice(NO_BODY);
        }
        out.extend_from_slice(&self.held.split_to(start + length - fields));
        self.expected = match said {
            Body::Unsaid | Body::Length(0) => Expected::Head,
            Body::Length(length) => Expected::Body(length),
            Body::Unclear => Expected::Unseen,
        };
        true
    }
}

/// Whether a request line says HTTP/1.0; none if that cannot be told yet.
fn is_http10(head: &[u8]) -> Option<bool> {
    // A method is the first to come, and most connections can be told by it from TLS and other protocols.
    let method = head.iter().position(|byte| !byte.is_ascii_uppercase()).unwrap_or(head.len());
    if method > 16 || head.get(method).is_some_and(|byte| *byte != b' ') {
        return Some(false);
    }
    let end = head.iter().position(|byte| *byte == b'\n')?;
    let line = head.get(..end).unwrap_or_default();
    Some(line.strip_suffix(b"\r").unwrap_or(line).ends_with(b" HTTP/1.0"))
}

/// Where a head ends: behind its first empty line.
fn end_of(head: &[u8]) -> Option<usize> {
    let lines = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    lines.map(|at| (at, head.get(at..).unwrap_or_default())).find_map(|(at, rest)| {
        let end = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
        (end > 0).then_some(at + end)
    })
}

fn body_of(head: &[u8]) -> Body {
    if head.starts_with(b"CONNECT ") {
        return Body::Unclear;
    }
    let mut said = Body::Unsaid;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        if name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade") {
            return Body::Unclear;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.unwrap_or_default().trim_ascii();
            let length = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
            match (length.and_then(|digits| digits.parse().ok()), &said) {
                (Some(length), Body::Unsaid) => said = Body::Length(length),
                _ => return Body::Unclear,
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the parser sees of what a client sends in pieces of a size.
    fn seen(sent: &str, piece: usize) -> String {
        let (mut filter, mut out) = (Http10::new(), BytesMut::new());
        for piece in sent.as_bytes().chunks(piece) {
            filter.pass(piece, &mut out);
        }
        filter.finish(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_bodiless_post_of_http_1_0_gets_a_length_and_nothing_else_is_changed() {
        let added = "Content-Length: 0\r\n";
        for (sent, expected) in [
            ("POST /a HTTP/1.0\r\n\r\n", format!("POST /a HTTP/1.0\r\n{added}\r\n")),
            ("\r\nPOST /a HTTP/1.0\r\nA: b\r\n\r\n", format!("\r\nPOST /a HTTP/1.0\r\nA: b\r\n{added}\r\n")),
            ("POST /a HTTP/1.0\nA: b\n\n", format!("POST /a HTTP/1.0\nA: b\n{added}\n")),
            (
                "POST /a HTTP/1.0\r\n\r\nPOST /b HTTP/1.0\r\n\r\n",
                format!("POST /a HTTP/1.0\r\n{added}\r\nPOST /b HTTP/1.0\r\n{added}\r\n"),
            ),
            // Behind a body, too; and a body is no head, whatever it looks like.
            (
                "POST /a HTTP/1.0\r\ncontent-length: 20\r\n\r\nPOST /b HTTP/1.0\r\n\r\nPOST /c HTTP/1.0\r\n\r\n",
                format!(
                    "POST /a HTTP/1.0\r\ncontent-length: 20\r\n\r\nPOST /b HTTP/1.0\r\n\r\nPOST /c HTTP/1.0\r\n{added}\r\n"
                ),
            ),
            ("GET /a HTTP/1.0\r\n\r\nPOST /b HTTP/1.0\r\n\r\n", {
                format!("GET /a HTTP/1.0\r\n\r\nPOST /b HTTP/1.0\r\n{added}\r\n")
            }),
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(seen(sent, piece), expected, "in pieces of {piece}");
            }
        }
        for same in [
            "",
            "POST /a HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
            "POST /a HTTP/1.0\r\nCONTENT-LENGTH: 2\r\n\r\n{}",
            "POST /a HTTP/1.0\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}POST /b HTTP/1.0\r\n\r\n",
            "POST /a HTTP/1.0\r\nContent-Length: +2\r\n\r\n{}POST /b HTTP/1.0\r\n\r\n",
            "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /b HTTP/1.0\r\n\r\n",
            "PATCH /a HTTP/1.0\r\n\r\n",
            "CONNECT a:1 HTTP/1.0\r\n\r\nPOST /b HTTP/1.0\r\n\r\n",
            "GET /a HTTP/1.0\r\nUpgrade: websocket\r\n\r\nPOST /b HTTP/1.0\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.0\r\n\r\n",
            "POST /a HTTP/1.0\r\nA: b\r\n",
            "POST /a HTTP/1.0",
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n13\r\nPOST /b HTTP/1.0\r\n\r\n",
            "\u{16}\u{3}\u{1}POST /a HTTP/1.0\r\n\r\n",
            "post /a HTTP/1.0\r\n\r\n",
        ] {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(seen(same, piece), same, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn between_two_requests_nothing_is_held_and_its_room_is_given_back() {
        let (mut filter, mut out) = (Http10::new(), BytesMut::new());
        let field = format!("A: {}\r\n", "a".repeat(30_000));
        let bodiless = format!("POST /a HTTP/1.0\r\n{field}\r\n");
        let with_body = format!("POST /a HTTP/1.0\r\n{field}Content-Length: 20000\r\n\r\n{}", "b".repeat(20_000));
        for request in [bodiless.clone(), with_body.clone(), format!("{bodiless}{with_body}{bodiless}")] {
            for piece in request.as_bytes().chunks(1000) {
                filter.pass(piece, &mut out);
            }
            assert_eq!(filter.held.capacity(), 0, "{} bytes", request.len());
        }
    }

    #[test]
    fn no_more_is_held_back_than_a_head_may_have() {
        let (mut filter, mut out) = (Http10::new(), BytesMut::new());
        filter.pass(b"POST /a HTTP/1.0\r\nA: ", &mut out);
        for _ in 1..MAX_HEAD / 1024 {
            filter.pass(&[b'a'; 1024], &mut out);
            assert!(!filter.is_over() && out.is_empty());
        }
        filter.pass(&[b'a'; 1024], &mut out);
        assert!(filter.is_over() && out.len() > MAX_HEAD);
    }
}
