//! `WWW-Authenticate`: what a server asks a client for (RFC 9110 section 11.6.1).

use std::fmt;

use actix_web::http::header::{HeaderValue, InvalidHeaderValue, TryIntoHeaderValue};
use actix_web::web::Bytes;
use actix_web_httpauth::headers::www_authenticate;

/// A scheme and its parameters, separated by commas, each value quoted. The challenges of actix-web-httpauth leave the
/// commas out, and then the parsers of other languages see the first parameter only.
#[derive(Clone, Debug)]
pub(crate) struct Challenge {
    scheme: &'static str,
    parameters: Vec<(&'static str, String)>,
}

impl Challenge {
    /// A challenge without parameters.
    pub(crate) fn new(scheme: &'static str) -> Self {
        Self { scheme, parameters: Vec::new() }
    }

    /// Adds a parameter.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme)?;
        for (at, (name, value)) in self.parameters.iter().enumerate() {
            write!(f, "{} {name}=\"", if at == 0 { "" } else { "," })?;
            // RFC 9110 section 5.6.4; what no header may hold is left out.
            for c in value.chars().filter(|c| matches!(c, ' '..='~')) {
                let escape = if matches!(c, '"' | '\\') { "\\" } else { "" };
                write!(f, "{escape}{c}")?;
            }
            f.write_str("\"")?;
        }
        Ok(())
    }
}

impl TryIntoHeaderValue for Challenge {
    type Error = InvalidHeaderValue;

    fn try_into_value(self) -> Result<HeaderValue, InvalidHeaderValue> {
        HeaderValue::from_str(&self.to_string())
    }
}

impl www_authenticate::Challenge for Challenge {
    fn to_bytes(&self) -> Bytes {
        self.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_separated_by_commas_and_quoted() {
        let bearer = Challenge::new("Bearer");
        for (challenge, expected) in [
            (bearer.clone(), "Bearer"),
            (bearer.clone().with("realm", "countersign"), r#"Bearer realm="countersign""#),
            (
                bearer.clone().with("realm", "countersign").with("error", "invalid_token"),
                r#"Bearer realm="countersign", error="invalid_token""#,
            ),
            (bearer.with("realm", "a \"b\" \\ c,\r\nX: d\u{e9}"), r#"Bearer realm="a \"b\" \\ c,X: d""#),
        ] {
            assert_eq!(challenge.clone().try_into_value().unwrap(), expected);
            assert_eq!(www_authenticate::Challenge::to_bytes(&challenge), expected);
        }
    }
}
