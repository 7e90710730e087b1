//! What the pages that links in mails lead to look like: one column, no script, light or dark, nothing from elsewhere.

use std::fmt::Write as _;
use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::{HttpResponse, HttpResponseBuilder};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http::middleware::problem_body::HTML;
use crate::problem::Problem;

const STYLE: &str = include_str!("../../../../assets/account/page.css");

/// The page has this style and no other, loads nothing, and sends its form to where it came from.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
});

/// The content of a page.
#[derive(Default)]
pub(super) struct Page {
    title: &'static str,
    body: String,
}

impl Page {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, body: String::new() }
    }

    /// A paragraph.
    #[must_use]
    pub(super) fn text(self, text: &str) -> Self {
        self.paragraph("", text)
    }

    /// A paragraph above everything else that says what is wrong.
    #[must_use]
    pub(super) fn mistake(mut self, text: &str) -> Self {
        let below = std::mem::take(&mut self.body);
        let mut page = self.paragraph(r#" class="bad" role="alert""#, text);
        page.body.push_str(&below);
        page
    }

    /// A form that carries `token`: one button and, where there is to be a new password of the account with this address, a
    /// field for it.
    #[must_use]
    pub(super) fn form(mut self, token: &str, password_of: Option<&str>, button: &str) -> Self {
        // A `String` takes whatever is written to it.
        let _ =
            write!(self.body, r#"<form method="post"><input type="hidden" name="token" value="{}">"#, escape(token));
        if let Some(email) = password_of {
            let _ = write!(
                self.body,
                r#"<label for="email">Account</label><input id="email" type="email" autocomplete="username" readonly value="{}"><label for="password">New password</label><input id="password" name="new_password" type="password" autocomplete="new-password" required autofocus>"#,
                escape(email)
            );
        }
        let _ = write!(self.body, "<button>{}</button></form>", escape(button));
        self
    }

    /// A paragraph below everything else.
    #[must_use]
    pub(super) fn footnote(self, text: &str) -> Self {
        self.paragraph(r#" class="soft""#, text)
    }

    fn paragraph(mut self, attributes: &str, text: &str) -> Self {
        let _ = write!(self.body, "<p{attributes}>{}</p>", escape(text));
        self
    }

    /// As an answer.
    pub(super) fn respond(&self, status: StatusCode) -> HttpResponse {
        HttpResponseBuilder::new(status)
            .insert_header((CONTENT_TYPE, HTML))
            .insert_header((CONTENT_SECURITY_POLICY, POLICY.as_str()))
            .body(self.html())
    }

    /// As the answer to what has failed with `problem`, with its status and `Retry-After`.
    pub(super) fn respond_to(&self, problem: &Problem) -> HttpResponse {
        problem.report();
        let mut response = problem.respond(None).set_body(actix_web::body::BoxBody::new(self.html()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, actix_web::http::header::HeaderValue::from_static(HTML));
        if let Ok(policy) = POLICY.parse() {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }

    fn html(&self) -> String {
        let Self { title, body } = self;
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width,initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
        )
    }
}

/// A text as HTML, in an element or an attribute in quotes.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_typed_becomes_markup() {
        let hostile = "\"><script>alert('x')</script>&";
        let html = Page::new("Title").text(hostile).mistake(hostile).form(hostile, Some(hostile), hostile).html();
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;").count(), 5);
    }

    #[test]
    fn the_policy_allows_the_style_that_is_in_the_page() {
        let html = Page::new("Title").html();
        let style = html.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let digest = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
        assert!(POLICY.contains(&format!("style-src 'sha256-{digest}'")));
    }
}
