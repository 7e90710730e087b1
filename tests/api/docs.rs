//! The page at `/docs` and its files, as any client sees them; `tests/browser/main.rs` looks at it.

use reqwest::Method;
use reqwest::header::ACCEPT_ENCODING;

use crate::framing::{exchange, statuses};
use support::harness::{Answer, Home, TestApp, clock, config};

/// What the page loads, below `/docs/`.
fn files(page: &str) -> Vec<&str> {
    page.split(['"', '\'']).filter_map(|text| text.strip_prefix("docs/")).collect()
}

#[test]
fn the_page_and_all_it_loads_are_served() {
    let app = TestApp::start(&Home::new());
    let page = Answer::to(app.get("/docs")).expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let files = files(&page.text);
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let kind = match file.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "txt" => "text/plain; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other}"),
        };
        let path = format!("/docs/{file}");
        let got = Answer::to(app.get(&path)).expect(200);
        assert_eq!(got.header("content-type"), Some(kind), "{file}");
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{file}");
        assert!(got.text.len() > 200, "{file}");
        let head = Answer::to(app.request(Method::HEAD, &path)).expect(200);
        assert_eq!((head.text.as_str(), head.header("content-length")), ("", got.header("content-length")), "{file}");
        // What may be kept for good has its version in its name, and the page that names it is always asked for anew.
        let kept = got.header("cache-control") == Some("public, max-age=31536000, immutable");
        assert_eq!(kept, file.contains("5.35.0"), "{file}");
        assert!(kept || got.header("cache-control") == Some("no-cache"), "{file}");
    }
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let licences = Answer::to(app.get("/docs/licences.txt")).text;
    for words in ["SmartBear Software", "Apache License", "Licensed under the MIT License"] {
        assert!(licences.contains(words), "{words}");
    }
}

#[test]
fn the_page_may_run_and_load_files_of_this_server_only() {
    let app = TestApp::start(&Home::new());
    let page = Answer::to(app.get("/docs")).expect(200);
    let policy = page.header("content-security-policy").unwrap();
    let rules: Vec<_> = policy.split("; ").collect();
    for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'"]
    {
        assert!(rules.contains(&rule), "{rule}: {policy}");
    }
    for word in ["unsafe", "http", "*", "blob:"] {
        assert!(!policy.contains(word), "{word}: {policy}");
    }
    assert_eq!(policy.matches("data:").count(), 1, "pictures only: {policy}");
    assert!(!page.text.contains("//"), "an address elsewhere: {}", page.text);
    assert!(
        !page.text.contains("<style")
            && page.text.matches("<script").count() == page.text.matches("<script src").count()
    );
    // The rest of the server stays no page at all.
    let file = Answer::to(app.get("/docs/page.js")).expect(200);
    assert_eq!(file.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
}

/// They are served as they are stored, which every browser takes.
#[test]
fn large_files_come_compressed() {
    let app = TestApp::start(&Home::new());
    let stored: [(&str, &[u8]); 2] = [
        ("swagger-ui-5.35.0.js", include_bytes!("../../assets/swagger-ui/swagger-ui-bundle.js.gz")),
        ("swagger-ui-5.35.0.css", include_bytes!("../../assets/swagger-ui/swagger-ui.css.gz")),
    ];
    for (file, stored) in stored {
        for accepted in ["gzip, deflate, br, zstd", "identity"] {
            let packed = app.get(&format!("/docs/{file}")).header(ACCEPT_ENCODING, accepted).send().unwrap();
            assert_eq!(packed.headers()["content-encoding"], "gzip", "{accepted}");
            assert!(packed.bytes().unwrap() == stored, "{file}");
        }
    }
}

#[test]
fn below_the_page_errors_are_as_everywhere() {
    let app = TestApp::start(&Home::new());
    for path in ["/docs/", "/docs/nothing", "/docs/../page.js", "/docs/page.js/", "/docs/%2e%2e/Cargo.toml", "/docsx"] {
        Answer::to(app.get(path)).expect_error(404, "not_found");
    }
    for path in ["/docs", "/docs/page.js", "/docs/swagger-ui-5.35.0.js"] {
        let refused = Answer::to(app.request(Method::POST, path)).expect_error(405, "method_not_allowed");
        assert_eq!(refused.header("allow"), Some("GET, HEAD"), "{path}");
    }
}

/// The server's address alone leads to where everything is explained, unless its operator does not want that.
#[test]
fn the_first_page_leads_to_the_docs_where_they_are_enabled() {
    for (enabled, first, docs) in [(None, "303", "200"), (Some("true"), "303", "200"), (Some("false"), "404", "404")] {
        let home = Home::new();
        let settings = config(&home);
        let app = TestApp::start_with(
            match enabled {
                Some(enabled) => settings.with("docs.enabled", enabled),
                None => settings,
            },
            clock(),
        );
        for method in ["GET", "HEAD"] {
            let ask = |path: &str| {
                exchange(&app, format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            };
            let answer = ask("/");
            assert_eq!(statuses(&answer), [first], "{method} {enabled:?}: {answer}");
            assert_eq!(answer.contains("\r\nlocation: /docs\r\n"), first == "303", "{method} {enabled:?}: {answer}");
            for path in ["/docs", "/docs/page.js", "/docs/licences.txt"] {
                assert_eq!(statuses(&ask(path)), [docs], "{method} {path} {enabled:?}");
            }
            // What machines read is there in any case.
            for path in ["/openapi.json", "/health/live"] {
                assert_eq!(statuses(&ask(path)), ["200"], "{method} {path} {enabled:?}");
            }
        }
        if first == "404" {
            for path in ["/", "/docs", "/docs/page.js"] {
                Answer::to(app.get(path)).expect_error(404, "not_found");
                Answer::to(app.request(Method::POST, path)).expect_error(404, "not_found");
            }
        }
    }
}
