//! The `Origin` of a request whose head cannot be read.
//!
//! The HTTP parser refuses a head that is malformed, has too many fields or is too long, and its fields are lost with
//! it. A page of an allowed origin may read that refusal, too, so [`OriginLine`] looks for this one field in the bytes
//! as they arrive. It keeps a line at most.

use actix_web::http::header::HeaderValue;

const NAME: &[u8] = b"origin:";
/// A longer line names no origin that can be configured: a host has at most 253 characters.
const MAX_LINE: usize = 512;

/// Looks for the `Origin` field of one head at a time.
#[derive(Default)]
pub(super) struct OriginLine {
    line: Vec<u8>,
    progress: Progress,
    found: Found,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    /// Empty lines in front of a request mean nothing (RFC 9112 section 2.2).
    #[default]
    Before,
    Inside,
    /// What follows is a body, or another request.
    Behind,
}

#[derive(Default)]
enum Found {
    #[default]
    Nothing,
    One(HeaderValue),
    /// Two, or one that no header may have.
    Unclear,
}

impl OriginLine {
    /// What arrives next is the beginning of another head.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// The next bytes of the connection.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.progress == Progress::Behind {
                return;
            }
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(part.get(..room).unwrap_or(part));
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// The only `Origin` of the head, as far as it has arrived.
    pub(super) fn found(&self) -> Option<&HeaderValue> {
        match &self.found {
            Found::One(origin) => Some(origin),
            Found::Nothing | Found::Unclear => None,
        }
    }

    fn end_line(&mut self) {
        let line = self.line.trim_ascii_end();
        if line.is_empty() {
            if self.progress == Progress::Inside {
                self.progress = Progress::Behind;
                // A kept connection holds nothing.
                self.line = Vec::new();
            }
        } else {
            self.progress = Progress::Inside;
            if let Some((name, value)) = line.split_at_checked(NAME.len())
                && name.eq_ignore_ascii_case(NAME)
            {
                self.found = match (&self.found, HeaderValue::from_bytes(value.trim_ascii())) {
                    (Found::Nothing, Ok(origin)) if line.len() < MAX_LINE => Found::One(origin),
                    _ => Found::Unclear,
                };
            }
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a head that arrives in pieces of a size.
    fn found(head: &str, piece: usize) -> Option<String> {
        let mut origin = OriginLine::default();
        for piece in head.as_bytes().chunks(piece) {
            origin.pass(piece);
        }
        origin.found().map(|origin| origin.to_str().unwrap().to_owned())
    }

    /// The origin of a head is found wherever it stands and however it arrives.
    #[test]
    fn the_origin_of_a_head_is_found_however_it_arrives() {
        let long = format!("X: {}\r\n", "x".repeat(3_000));
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nOrigin: https://a\r\n\r\n".to_owned(), Some("https://a")),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\norigin:https://a \r\n".to_owned(), Some("https://a")),
            ("GET / HTTP/1.1\nORIGIN:\thttps://a\n".to_owned(), Some("https://a")),
            (format!("GET / HTTP/1.1\r\n{long}Origin: https://a\r\n{long}"), Some("https://a")),
            // Not all of it has come.
            ("GET / HTTP/1.1\r\nOrigin: https://a".to_owned(), None),
            ("GET / HTTP/1.1\r\nX-Origin: https://a\r\nOrigins: https://b\r\n".to_owned(), None),
            ("GET / HTTP/1.1\r\nX: y, Origin: https://a\r\n".to_owned(), None),
            (format!("GET / HTTP/1.1\r\nOrigin: https://{}\r\n", "a".repeat(600)), None),
            // Whose it would be is unclear.
            ("GET / HTTP/1.1\r\nOrigin: https://a\r\nOrigin: https://a\r\n".to_owned(), None),
            ("GET / HTTP/1.1\r\nOrigin: \u{1}\r\nOrigin: https://a\r\n".to_owned(), None),
            // In a body.
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\nOrigin: https://a\r\n".to_owned(), None),
        ] {
            for piece in [1, 2, 7, 100, 10_000] {
                assert_eq!(found(&head, piece).as_deref(), expected, "in pieces of {piece}: {head:?}");
            }
        }
    }

    #[test]
    fn another_head_begins_without_the_origin_of_the_last() {
        let mut origin = OriginLine::default();
        origin.pass(b"GET / HTTP/1.1\r\nOrigin: https://a\r\nX: ");
        assert_eq!(origin.found().unwrap(), "https://a");
        origin.begin();
        assert!(origin.found().is_none());
        origin.pass(b"GET / HTTP/1.1\r\nOrigin: https://b\r\n");
        assert_eq!(origin.found().unwrap(), "https://b");
    }
}
