//! The log as JSON, a line an entry: what happened, then its target, then the span it happened in.
//!
//! The formatter of `tracing-subscriber` writes the same lines for our entries, but reads the fields of the span back from
//! their text for each, and there is one for each request.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Timestamp;

/// The form of an entry. Spans must keep their fields as JSON objects.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Vec::with_capacity(512);
        line.extend_from_slice(b"{\"timestamp\":\"");
        line.extend_from_slice(Timestamp::of_the_machine().to_rfc3339_micros().as_bytes());
        line.extend_from_slice(b"\",\"level\":");
        string(&mut line, metadata.level().as_str());
        event.record(&mut Fields { line: &mut line, scratch: String::new() });
        line.extend_from_slice(b",\"target\":");
        string(&mut line, metadata.target());
        if let Some(span) = context.lookup_current() {
            line.extend_from_slice(b",\"span\":{");
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
            let members = fields.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
            line.extend_from_slice(members.as_bytes());
            line.extend_from_slice(if members.is_empty() { b"\"name\":" } else { b",\"name\":" });
            string(&mut line, span.name());
            line.push(b'}');
        }
        line.extend_from_slice(b"}\n");
        writer.write_str(std::str::from_utf8(&line).map_err(|_not_text| fmt::Error)?)
    }
}

/// Each field becomes a member.
struct Fields<'a> {
    line: &'a mut Vec<u8>,
    scratch: String,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.line.push(b',');
        string(self.line, field.name());
        self.line.push(b':');
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        self.name(field);
        self.scratch.clear();
        // What fails halfway is shown that far.
        let _whole = write!(self.scratch, "{value:?}");
        string(self.line, &self.scratch);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        string(self.line, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        self.line.extend_from_slice(value.to_string().as_bytes());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field);
        self.line.extend_from_slice(value.to_string().as_bytes());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field);
        // Not every number is one in JSON.
        let text = if value.is_finite() { value.to_string() } else { "null".to_owned() };
        self.line.extend_from_slice(text.as_bytes());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.extend_from_slice(if value { b"true" } else { b"false" });
    }
}

/// `text` as a JSON string (RFC 8259 section 7).
fn string(line: &mut Vec<u8>, text: &str) {
    let before = line.len();
    if serde_json::to_writer(&mut *line, text).is_err() {
        line.truncate(before);
        line.extend_from_slice(b"null");
    }
}
