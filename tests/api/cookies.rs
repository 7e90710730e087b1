//! Sessions whose tokens travel in cookies, and requests that another site may have sent.

use std::time::Duration;

use countersign::config::RawConfig;
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};

use crate::harness::{Answer, Home, PASSWORD, TestApp, clock, config};

const ADA: &str = "ada@example.com";
const FRIEND: &str = "https://app.example.org";

/// The cookies that an answer sets: name, value, and all the rest to the letter.
fn set_cookies(answer: &Answer) -> Vec<(String, String, String)> {
    let headers = answer.headers.get_all("set-cookie").iter();
    headers
        .map(|header| {
            let header = header.to_str().unwrap();
            let (pair, attributes) = header.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned(), attributes.to_owned())
        })
        .collect()
}

/// A browser's half of a session.
struct Jar {
    access: String,
    refresh: String,
    session_id: String,
}

impl Jar {
    fn of(answer: &Answer) -> Self {
        let cookies = set_cookies(answer);
        assert_eq!(cookies.len(), 2, "{cookies:?}");
        let session_id = answer.json()["session_id"].as_str().unwrap().to_owned();
        Self { access: cookies[0].1.clone(), refresh: cookies[1].1.clone(), session_id }
    }

    fn header(&self) -> String {
        format!("accessToken={}; refreshToken={}", self.access, self.refresh)
    }

    fn access_only(&self) -> String {
        format!("accessToken={}", self.access)
    }
}

fn sign_up(app: &TestApp) -> Answer {
    app.post("/v1/auth/register", &json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" })).expect(201)
}

fn with_cookie(app: &TestApp, method: Method, path: &str, cookie: &str) -> RequestBuilder {
    app.request(method, path).header("Cookie", cookie)
}

fn refresh(app: &TestApp, cookie: &str) -> Answer {
    Answer::to(with_cookie(app, Method::POST, "/v1/auth/refresh", cookie))
}

fn with(key: &str, value: &str) -> (Home, impl Fn(&Home) -> RawConfig) {
    let (key, value) = (key.to_owned(), value.to_owned());
    (Home::new(), move |home: &Home| config(home).with(&key, value.clone()))
}

#[test]
fn tokens_are_in_cookies_and_nowhere_else() {
    let app = TestApp::start(&Home::new());
    let answer = sign_up(&app);
    let cookies = set_cookies(&answer);
    let found: Vec<(&str, &str)> = cookies.iter().map(|cookie| (cookie.0.as_str(), cookie.2.as_str())).collect();
    assert_eq!(
        found,
        [
            ("accessToken", "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900"),
            ("refreshToken", "HttpOnly; SameSite=Strict; Secure; Path=/v1/auth; Max-Age=2592000"),
        ]
    );
    let body = answer.json();
    assert!(body.get("access_token").is_none() && body.get("refresh_token").is_none(), "{body}");
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(body["refresh_expires_in"], json!(2_592_000));
    assert_eq!(body["user"]["email"], ADA);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for (name, value, _) in &cookies {
        assert!(!answer.text.contains(value), "{name}");
        assert!(name.len() + value.len() < 4000);
    }
}

#[test]
fn a_session_keeps_the_transport_it_was_opened_with() {
    let app = TestApp::start(&Home::new());
    let jar = Jar::of(&sign_up(&app));
    app.pass(Duration::from_secs(60));
    let answer = refresh(&app, &jar.header()).expect(200);
    let next = Jar::of(&answer);
    assert_ne!(next.refresh, jar.refresh);
    assert_eq!(next.session_id, jar.session_id);
    assert!(answer.json().get("refresh_token").is_none() && answer.json().get("access_token").is_none());
    assert!(app.works(&next.access));
    Answer::to(with_cookie(&app, Method::GET, "/v1/users/me", &next.access_only())).expect(200);
    // Opened by cookie, refreshed by body: it is still a cookie's.
    app.pass(Duration::from_secs(60));
    let by_body = app.refresh(&next.refresh).expect(200);
    assert!(by_body.json().get("refresh_token").is_none());
    Jar::of(&by_body);
    // Opened by body, refreshed by cookie: it is still a body's.
    let pair = app.log_in(ADA);
    let by_cookie = refresh(&app, &format!("refreshToken={}", pair.refresh)).expect(200);
    assert!(set_cookies(&by_cookie).is_empty());
    assert!(app.works(&by_cookie.pair().access));
}

#[test]
fn a_host_name_gets_what_it_demands() {
    let home = Home::new();
    let settings =
        config(&home).with("cookies.access_name", "__Host-access").with("cookies.refresh_name", "__Host-refresh");
    let app = TestApp::start_with(settings, clock());
    let cookies = set_cookies(&sign_up(&app));
    assert_eq!(cookies[0].0, "__Host-access");
    assert_eq!(cookies[0].2, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900");
    assert_eq!(cookies[1].0, "__Host-refresh");
    assert_eq!(cookies[1].2, "HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=2592000");
    Answer::to(with_cookie(&app, Method::GET, "/v1/users/me", &format!("__Host-access={}", cookies[0].1))).expect(200);
    let other = format!("accessToken={}", cookies[0].1);
    Answer::to(with_cookie(&app, Method::GET, "/v1/users/me", &other)).expect_error(401, "missing_token");
    refresh(&app, &format!("__Host-refresh={}", cookies[1].1)).expect(200);
}

/// Browsers read the prefix in any case, and throw the cookie away where its path is not the root.
#[test]
fn a_host_name_in_another_case_gets_it_too() {
    let (home, settings) = with("cookies.refresh_name", "__host-refresh");
    let app = TestApp::start_with(settings(&home), clock());
    assert_eq!(set_cookies(&sign_up(&app))[1].2, "HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=2592000");
}

#[test]
fn a_domain_and_plain_http_are_as_configured() {
    let home = Home::new();
    let settings = config(&home).with("cookies.secure", "false").with("cookies.domain", "example.com");
    let app = TestApp::start_with(settings, clock());
    let cookies = set_cookies(&sign_up(&app));
    assert_eq!(cookies[0].2, "HttpOnly; SameSite=Lax; Path=/; Domain=example.com; Max-Age=900");
    assert_eq!(cookies[1].2, "HttpOnly; SameSite=Strict; Path=/v1/auth; Domain=example.com; Max-Age=2592000");
}

fn assert_cleared(answer: &Answer) {
    let cookies = set_cookies(answer);
    let found: Vec<(&str, &str, &str)> =
        cookies.iter().map(|(name, value, rest)| (name.as_str(), value.as_str(), rest.as_str())).collect();
    assert_eq!(
        found,
        [
            ("accessToken", "", "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"),
            ("refreshToken", "", "HttpOnly; SameSite=Strict; Secure; Path=/v1/auth; Max-Age=0"),
        ]
    );
}

#[test]
fn cookies_are_cleared_when_their_session_is_over() {
    let app = TestApp::start(&Home::new());
    let jar = Jar::of(&sign_up(&app));
    let log_in = || {
        let request = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" });
        Jar::of(&app.post("/v1/auth/login", &request).expect(200))
    };
    assert_cleared(&Answer::to(with_cookie(&app, Method::POST, "/v1/auth/logout", &jar.header())).expect(204));
    assert!(!app.works(&jar.access));
    // Again, with a session that is over, and with junk.
    assert_cleared(&Answer::to(with_cookie(&app, Method::POST, "/v1/auth/logout", &jar.header())).expect(204));
    let junk = "accessToken=junk; refreshToken=junk";
    assert_cleared(&Answer::to(with_cookie(&app, Method::POST, "/v1/auth/logout", junk)).expect(204));
    // A refresh that cannot succeed any more.
    let refused = refresh(&app, &jar.header());
    assert_cleared(&refused);
    refused.expect_refused("revoked");
    let refused = refresh(&app, "refreshToken=junk");
    assert_cleared(&refused);
    refused.expect_refused("malformed");
    // The session is ended by another route.
    let jar = log_in();
    let path = format!("/v1/sessions/{}", jar.session_id);
    assert_cleared(&Answer::to(with_cookie(&app, Method::DELETE, &path, &jar.access_only())).expect(204));
    let jar = log_in();
    let all = with_cookie(&app, Method::DELETE, "/v1/sessions?scope=all", &jar.access_only());
    assert_cleared(&Answer::to(all).expect(200));
    let jar = log_in();
    let deletion = with_cookie(&app, Method::DELETE, "/v1/users/me", &jar.access_only());
    assert_cleared(&Answer::to(deletion.json(&json!({ "password": PASSWORD }))).expect(204));
    // Who has no cookies is told of none.
    let nothing = app.post("/v1/auth/logout", &json!({ "refresh_token": "junk" })).expect(204);
    assert!(set_cookies(&nothing).is_empty());
    app.post("/v1/auth/logout", &json!({})).expect_error(401, "missing_token");
}

#[test]
fn two_different_refresh_tokens_are_a_400_and_use_none() {
    let app = TestApp::start(&Home::new());
    let first = Jar::of(&sign_up(&app));
    let second = app.log_in(ADA);
    let send = |cookie: Option<&str>, body: &Value| {
        let request = app.request(Method::POST, "/v1/auth/refresh").json(body);
        Answer::to(match cookie {
            Some(token) => request.header("Cookie", format!("refreshToken={token}")),
            None => request,
        })
    };
    let (cookie, body) = (first.refresh.as_str(), second.refresh.as_str());
    for spelling in ["refresh_token", "refreshToken"] {
        send(Some(cookie), &json!({ spelling: body })).expect_error(400, "invalid_request");
        // Nothing is trimmed: with a space it is another token.
        send(Some(cookie), &json!({ spelling: format!("{cookie} ") })).expect_error(400, "invalid_request");
    }
    let both = json!({ "refresh_token": cookie, "refreshToken": body });
    send(None, &both).expect_error(400, "invalid_request");
    send(Some(cookie), &both).expect_error(400, "invalid_request");
    send(None, &json!({})).expect_error(400, "invalid_request");
    send(None, &json!({ "refresh_token": format!(" {body}") })).expect_refused("malformed");
    // Neither was used. Spelt twice alike it is one.
    let next = send(None, &json!({ "refresh_token": body, "refreshToken": body })).expect(200).pair();
    send(None, &json!({ "refreshToken": next.refresh })).expect(200);
    send(Some(cookie), &json!({ "refreshToken": cookie })).expect(200);
}

#[test]
fn other_cookies_hide_nothing() {
    let app = TestApp::start(&Home::new());
    let jar = Jar::of(&sign_up(&app));
    for cookie in [
        format!("a=b; {}", jar.header()),
        format!("broken; =; a=\"; {}; c=d", jar.header()),
        format!("xaccessToken=junk; {}; accessTokenx=junk", jar.header()),
        format!("accesstoken=junk; {}", jar.header()),
        format!("{}; accessToken=junk", jar.header()),
    ] {
        let answer = Answer::to(with_cookie(&app, Method::GET, "/v1/users/me", &cookie));
        assert_eq!(answer.status, 200, "{cookie}");
    }
}

type Headers = Vec<(&'static str, String)>;

/// Headers, and whether an unsafe request by cookie is let through: to a server that
/// allows no origin, and to one that allows [`FRIEND`].
fn sites(host: &str) -> Vec<(Headers, bool, bool)> {
    let site = |value: &str| ("Sec-Fetch-Site", value.to_owned());
    let origin = |value: &str| ("Origin", value.to_owned());
    let own = format!("http://{host}");
    vec![
        (vec![], true, true),
        (vec![site("same-origin")], true, true),
        (vec![site("none")], true, true),
        (vec![site("same-site")], false, false),
        (vec![site("cross-site")], false, false),
        (vec![site("")], false, false),
        (vec![site("unheard-of")], false, false),
        (vec![site("cross-site"), origin("https://evil.example")], false, false),
        (vec![site("cross-site"), origin("null")], false, false),
        (vec![site("cross-site"), origin(FRIEND)], false, true),
        (vec![site("same-site"), origin(FRIEND)], false, true),
        (vec![site("same-origin"), origin(&own)], true, true),
        (vec![site("cross-site"), origin(&own)], false, false),
        (vec![origin(&own)], true, true),
        (vec![origin(&format!("https://{host}"))], true, true),
        (vec![origin(FRIEND)], false, true),
        (vec![origin("https://evil.example")], false, false),
        (vec![origin("null")], false, false),
        (vec![origin("")], false, false),
        (vec![origin("http://127.0.0.1")], false, false),
        (vec![origin("http://127.0.0.1:1")], false, false),
        (vec![origin(&format!("http://{host}.evil.example"))], false, false),
        (vec![origin(&format!("http://evil.example#{host}"))], false, false),
        (vec![origin(&format!("{FRIEND}.evil.example"))], false, false),
        (vec![origin("http://app.example.org")], false, false),
        (vec![origin(&format!("{FRIEND}:8443"))], false, false),
        (vec![origin("https://example.org")], false, false),
    ]
}

#[test]
fn an_unsafe_request_by_cookie_is_refused_from_another_site() {
    for friendly in [false, true] {
        let home = Home::new();
        let settings = config(&home);
        let settings = if friendly { settings.with("cors.allowed_origins", FRIEND) } else { settings };
        let app = TestApp::start_with(settings, clock());
        let jar = Jar::of(&sign_up(&app));
        let targets = [
            (Method::PATCH, "/v1/users/me".to_owned(), json!({ "name": "Mallory" })),
            (
                Method::POST,
                "/v1/users/me/password".into(),
                json!({ "current_password": PASSWORD, "new_password": "mine now" }),
            ),
            (Method::DELETE, "/v1/users/me".into(), json!({ "password": PASSWORD })),
            (Method::DELETE, format!("/v1/sessions/{}", jar.session_id), json!({})),
            (Method::DELETE, "/v1/sessions?scope=all".into(), json!({})),
            (Method::POST, "/v1/auth/refresh".into(), json!({})),
            (Method::POST, "/v1/auth/refresh/confirm".into(), json!({})),
            (Method::POST, "/v1/auth/logout".into(), json!({})),
        ];
        let sites = sites(&app.address.to_string());
        for (headers, alone, befriended) in &sites {
            if *if friendly { befriended } else { alone } {
                continue;
            }
            for (method, path, body) in &targets {
                let mut request = with_cookie(&app, method.clone(), path, &jar.header()).json(body);
                for (name, value) in headers {
                    request = request.header(*name, value);
                }
                let answer = Answer::to(request);
                // An origin that CORS does not know may be refused by it already.
                assert_eq!((answer.status, answer.code()), (403, "cross_site"), "{method} {path} {headers:?}");
                assert!(set_cookies(&answer).is_empty(), "{method} {path} {headers:?}");
            }
            // Safe methods may come from anywhere: whoever reads the answer is the browser's business.
            let mut request = with_cookie(&app, Method::GET, "/v1/users/me", &jar.access_only());
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            Answer::to(request).expect(200);
        }
        // Nothing has changed, and the refresh token is as good as new.
        let me = app.get_as("/v1/users/me", &jar.access).expect(200).json();
        assert_eq!(me["name"], Value::Null);
        let mut jar = Jar::of(&refresh(&app, &jar.header()).expect(200));
        for (headers, alone, befriended) in &sites {
            if !*if friendly { befriended } else { alone } {
                continue;
            }
            for (method, path) in [(Method::PATCH, "/v1/users/me"), (Method::POST, "/v1/auth/refresh")] {
                let mut request = with_cookie(&app, method.clone(), path, &jar.header()).json(&json!({}));
                for (name, value) in headers {
                    request = request.header(*name, value);
                }
                let answer = Answer::to(request);
                assert_eq!(answer.status, 200, "{method} {path} {headers:?} {}", answer.text);
                if path == "/v1/auth/refresh" {
                    jar = Jar::of(&answer);
                }
            }
        }
    }
}

#[test]
fn a_request_by_header_or_body_is_no_browsers_and_may_come_from_anywhere() {
    let app = TestApp::start(&Home::new());
    let pair = {
        sign_up(&app);
        app.log_in(ADA)
    };
    let foreign = |request: RequestBuilder| {
        Answer::to(request.header("Sec-Fetch-Site", "cross-site").header("Origin", "https://evil.example"))
    };
    foreign(app.request(Method::PATCH, "/v1/users/me").bearer_auth(&pair.access).json(&json!({}))).expect(200);
    let body = json!({ "refresh_token": pair.refresh });
    foreign(app.request(Method::POST, "/v1/auth/refresh").json(&body)).expect(200);
}

#[test]
fn cross_origin_reading_is_off_until_origins_are_configured() {
    let app = TestApp::start(&Home::new());
    for origin in [FRIEND, "null", "https://evil.example", &format!("http://{}", app.address)] {
        let answer = Answer::to(app.get("/.well-known/jwks.json").header("Origin", origin)).expect(200);
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{origin}");
        let preflight = app
            .request(Method::OPTIONS, "/v1/auth/login")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST");
        let answer = Answer::to(preflight).expect(204);
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{origin}");
    }
}

#[test]
fn exactly_the_configured_origins_may_read_answers() {
    let (home, settings) = with("cors.allowed_origins", FRIEND);
    let app = TestApp::start_with(settings(&home), clock());
    let pair = {
        sign_up(&app);
        app.log_in(ADA)
    };
    for path in ["/.well-known/jwks.json", "/v1/users/me", "/v1/nothing"] {
        let answer = Answer::to(app.get(path).bearer_auth(&pair.access).header("Origin", FRIEND));
        assert_eq!(answer.header("access-control-allow-origin"), Some(FRIEND), "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{path}");
        let vary = answer.header("vary").unwrap_or_default().to_ascii_lowercase();
        assert!(vary.contains("origin"), "{path} {vary}");
        let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
        for name in ["x-request-id", "retry-after", "www-authenticate"] {
            assert!(exposed.contains(name), "{path} {exposed}");
        }
    }
    let refused = app.get("/v1/users/me").bearer_auth("junk").header("Origin", FRIEND);
    let refused = Answer::to(refused).expect_error(401, "invalid_token");
    assert_eq!(refused.header("access-control-allow-origin"), Some(FRIEND), "errors are read by pages too");
    let preflight = |origin: &str| {
        let request = app.request(Method::OPTIONS, "/v1/auth/refresh").header("Origin", origin);
        let request = request.header("Access-Control-Request-Method", "POST");
        Answer::to(request.header("Access-Control-Request-Headers", "authorization, content-type"))
    };
    let answer = preflight(FRIEND);
    assert!(matches!(answer.status, 200 | 204), "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin"), Some(FRIEND));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
    let headers = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
    for origin in [
        "null",
        "*",
        "https://evil.example",
        "http://app.example.org",
        "https://app.example.org.evil.example",
        "https://evilapp.example.org",
        "https://app.example.org:8443",
        "https://app.example.org@evil.example",
    ] {
        let request = app.get("/v1/users/me").bearer_auth(&pair.access).header("Origin", origin);
        for answer in [Answer::to(request), preflight(origin)] {
            assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        }
    }
    // Without an origin there is nothing to say, except to caches.
    let answer = app.get_as("/v1/users/me", &pair.access).expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
