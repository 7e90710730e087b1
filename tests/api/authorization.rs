//! Every route against every kind of credential, and what paths answer to methods they do not have.

use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, Pair, TestApp, clock, with_mail};

const ADA: &str = "ada@example.com";

/// What a credential is worth on a guarded route: the status and code, or `None` for entry.
type Verdict = Option<(u16, &'static str)>;
const MISSING: Verdict = Some((401, "missing_token"));
const INVALID: Verdict = Some((401, "invalid_token"));
const TWO: Verdict = Some((400, "invalid_request"));

struct Cast {
    live: Pair,
    expired: Pair,
    revoked: Pair,
}

/// A user with a token of every kind, each a session of its own.
fn cast(app: &TestApp) -> Cast {
    let expired = app.sign_up(ADA);
    app.pass(Duration::from_secs(900));
    let revoked = app.log_in(ADA);
    app.post("/v1/auth/logout", &json!({ "refresh_token": revoked.refresh })).expect(204);
    Cast { live: app.log_in(ADA), expired, revoked }
}

type Credential = fn(RequestBuilder, &Cast) -> RequestBuilder;

fn bearer(request: RequestBuilder, value: &str) -> RequestBuilder {
    request.header("Authorization", value)
}

fn cookie(request: RequestBuilder, token: &str) -> RequestBuilder {
    request.header("Cookie", format!("accessToken={token}"))
}

fn query(request: RequestBuilder, token: &str) -> RequestBuilder {
    let (client, request) = request.build_split();
    let mut request = request.unwrap();
    request.url_mut().query_pairs_mut().append_pair("access_token", token);
    RequestBuilder::from_parts(client, request)
}

/// Name, how it is presented, its worth to a safe method, and to an unsafe one.
fn credentials() -> Vec<(&'static str, Credential, Verdict, Verdict)> {
    let cross_site = Some((403, "cross_site"));
    vec![
        ("nothing", |r, _| r, MISSING, MISSING),
        ("junk", |r, _| bearer(r, "Bearer junk"), INVALID, INVALID),
        ("an empty token", |r, _| bearer(r, "Bearer "), MISSING, MISSING),
        ("the scheme alone", |r, _| bearer(r, "Bearer"), MISSING, MISSING),
        ("an empty header", |r, _| bearer(r, ""), MISSING, MISSING),
        ("another scheme", |r, c| bearer(r, &format!("Basic {}", c.live.access)), MISSING, MISSING),
        ("no scheme", |r, c| bearer(r, &c.live.access), MISSING, MISSING),
        ("a scheme run on", |r, c| bearer(r, &format!("Bearer{}", c.live.access)), MISSING, MISSING),
        ("expired", |r, c| r.bearer_auth(&c.expired.access), INVALID, INVALID),
        ("revoked", |r, c| r.bearer_auth(&c.revoked.access), INVALID, INVALID),
        ("a refresh token", |r, c| r.bearer_auth(&c.live.refresh), INVALID, INVALID),
        ("in the query string", |r, c| query(r, &c.live.access), MISSING, MISSING),
        ("in the header", |r, c| bearer(r, &format!("Bearer {}", c.live.access)), None, None),
        ("lower case", |r, c| bearer(r, &format!("bearer {}", c.live.access)), None, None),
        ("upper case", |r, c| bearer(r, &format!("BEARER {}", c.live.access)), None, None),
        ("in the cookie", |r, c| cookie(r, &c.live.access), None, None),
        ("an expired cookie", |r, c| cookie(r, &c.expired.access), INVALID, INVALID),
        ("a revoked cookie", |r, c| cookie(r, &c.revoked.access), INVALID, INVALID),
        ("the refresh token in the cookie", |r, c| cookie(r, &c.live.refresh), INVALID, INVALID),
        (
            "in the cookie, from another site",
            |r, c| cookie(r, &c.live.access).header("Sec-Fetch-Site", "cross-site"),
            None,
            cross_site,
        ),
        (
            "in the header, from another site",
            |r, c| r.bearer_auth(&c.live.access).header("Sec-Fetch-Site", "cross-site"),
            None,
            None,
        ),
        ("header and cookie alike", |r, c| cookie(r.bearer_auth(&c.live.access), &c.live.access), None, None),
        ("a good header, a bad cookie", |r, c| cookie(r.bearer_auth(&c.live.access), &c.revoked.access), None, None),
        (
            "a good header, a cookie from another site",
            |r, c| cookie(r.bearer_auth(&c.live.access), &c.live.access).header("Sec-Fetch-Site", "cross-site"),
            None,
            None,
        ),
        ("a good cookie, a bad header", |r, c| cookie(r.bearer_auth("junk"), &c.live.access), INVALID, INVALID),
        ("a good cookie, undefined", |r, c| cookie(r.bearer_auth("undefined"), &c.live.access), INVALID, INVALID),
        (
            "a good cookie, an expired header",
            |r, c| cookie(r.bearer_auth(&c.expired.access), &c.live.access),
            INVALID,
            INVALID,
        ),
        ("a good cookie, the scheme alone", |r, c| cookie(bearer(r, "Bearer"), &c.live.access), None, None),
        ("a good cookie, an empty token", |r, c| cookie(bearer(r, "bearer "), &c.live.access), None, None),
        ("a good cookie, an empty header", |r, c| cookie(bearer(r, ""), &c.live.access), None, None),
        ("as DPoP, bound to no key", |r, c| bearer(r, &format!("DPoP {}", c.live.access)), INVALID, INVALID),
        ("a good cookie, DPoP", |r, c| cookie(bearer(r, "dpop x"), &c.live.access), INVALID, INVALID),
        ("a good cookie, DPoP alone", |r, c| cookie(bearer(r, "DPoP"), &c.live.access), None, None),
        ("two headers", |r, c| bearer(r.bearer_auth(&c.live.access), "Basic YTpi"), TWO, TWO),
        ("two headers alike", |r, c| r.bearer_auth(&c.live.access).bearer_auth(&c.live.access), TWO, TWO),
        ("an expired cookie, a good one", |r, c| cookie(cookie(r, &c.expired.access), &c.live.access), None, None),
        ("a good cookie, a revoked one", |r, c| cookie(cookie(r, &c.live.access), &c.revoked.access), None, None),
        (
            "junk, a revoked cookie, a good one",
            |r, c| cookie(r, &format!("x; accessToken={}; accessToken={}", c.revoked.access, c.live.access)),
            None,
            None,
        ),
        (
            "several cookies, none good",
            |r, c| cookie(r, &format!("x; accessToken={}; accessToken={}", c.revoked.access, c.expired.access)),
            INVALID,
            INVALID,
        ),
        (
            "a good cookie among others, from another site",
            |r, c| cookie(r, &format!("x; accessToken={}", c.live.access)).header("Sec-Fetch-Site", "cross-site"),
            None,
            cross_site,
        ),
        ("another scheme and a cookie", |r, c| cookie(bearer(r, "Basic YTpi"), &c.live.access), None, None),
    ]
}

/// Guarded routes, each with a body that changes nothing, and what a client that gets in is answered.
fn guarded() -> Vec<(Method, &'static str, Value, u16)> {
    let wrong = json!({ "current_password": "wrong", "new_password": "another good one", "password": "wrong", "code": "000000" });
    let other = json!({ "email": "other@example.com", "password": "wrong" });
    let nobodys = "/v1/sessions/01890a5d-ac96-774b-bcce-b302099a8057";
    vec![
        (Method::GET, "/v1/users/me", Value::Null, 200),
        (Method::HEAD, "/v1/users/me", Value::Null, 200),
        (Method::PATCH, "/v1/users/me", json!({}), 200),
        (Method::DELETE, "/v1/users/me", wrong.clone(), 403),
        (Method::POST, "/v1/users/me/password", wrong.clone(), 403),
        (Method::POST, "/v1/users/me/totp", wrong.clone(), 403),
        (Method::POST, "/v1/users/me/totp/confirm", wrong.clone(), 404),
        (Method::DELETE, "/v1/users/me/totp", wrong, 403),
        (Method::POST, "/v1/users/me/email", other, 403),
        (Method::POST, "/v1/users/me/email/verification", json!({}), 202),
        (Method::GET, "/v1/sessions", Value::Null, 200),
        (Method::HEAD, "/v1/sessions", Value::Null, 200),
        (Method::DELETE, "/v1/sessions", Value::Null, 400),
        (Method::DELETE, nobodys, Value::Null, 404),
        (Method::GET, "/v1/users/me/events", Value::Null, 200),
        (Method::HEAD, "/v1/users/me/events", Value::Null, 200),
        (Method::POST, "/v1/auth/refresh/confirm", Value::Null, 204),
    ]
}

#[test]
fn every_guarded_route_judges_every_credential_alike() {
    let home = Home::new();
    let app = TestApp::start_with(with_mail(&home), clock());
    let cast = cast(&app);
    for (method, path, body, entry) in guarded() {
        let safe = method == Method::GET || method == Method::HEAD;
        for (name, present, when_safe, when_unsafe) in credentials() {
            let request = present(app.request(method.clone(), path), &cast);
            let answer = Answer::to(if body.is_null() { request } else { request.json(&body) });
            let case = format!("{method} {path}, {name}: {} {}", answer.status, answer.text);
            let challenge = answer.header("www-authenticate");
            match if safe { when_safe } else { when_unsafe } {
                None => {
                    assert_eq!(answer.status, entry, "{case}");
                    assert_eq!(challenge, None, "{case}");
                }
                Some((status, code)) => {
                    assert_eq!(answer.status, status, "{case}");
                    if method != Method::HEAD {
                        assert_eq!(answer.code(), code, "{case}");
                    }
                    match code {
                        "missing_token" => assert_eq!(challenge, Some("Bearer realm=\"countersign\""), "{case}"),
                        "invalid_token" => assert!(challenge.unwrap().contains("error=\"invalid_token\""), "{case}"),
                        _ => assert_eq!(challenge, None, "{case}"),
                    }
                }
            }
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
        }
    }
}

/// Who may not enter learns nothing about whether the body would have been right.
#[test]
fn the_credential_is_judged_before_the_body() {
    let app = TestApp::start(&Home::new());
    for (method, path, _, _) in guarded() {
        if method == Method::GET || method == Method::HEAD {
            continue;
        }
        for body in ["{", "[]", "{\"name\":1}"] {
            let request = app.request(method.clone(), path).header("Content-Type", "application/json").body(body);
            Answer::to(request).expect_error(401, "missing_token");
        }
        let request = app.request(method.clone(), path).header("Content-Type", "text/plain").body("x");
        Answer::to(request).expect_error(401, "missing_token");
    }
}

#[test]
fn open_routes_mind_no_credential() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let cast = cast(&app);
    let wrong = json!({ "email": ADA, "password": "wrong" });
    let open = [
        (Method::POST, "/v1/auth/register", json!({ "email": ADA, "password": PASSWORD }), 409, "email_taken"),
        (Method::POST, "/v1/auth/login", wrong, 401, "invalid_credentials"),
        (Method::POST, "/v1/auth/refresh", json!({ "refresh_token": "junk" }), 400, "invalid_grant"),
        (Method::GET, "/.well-known/jwks.json", Value::Null, 200, ""),
        (Method::GET, "/health/live", Value::Null, 200, ""),
        (Method::GET, "/health/ready", Value::Null, 200, ""),
    ];
    for (method, path, body, status, code) in open {
        for (name, present, _, _) in credentials() {
            let request = present(app.request(method.clone(), path), &cast);
            let answer = Answer::to(if body.is_null() { request } else { request.json(&body) });
            assert_eq!((answer.status, answer.code()), (status, code), "{method} {path}, {name}");
        }
    }
}

#[test]
fn log_out_lets_out_whoever_presents_anything() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let mut cast = cast(&app);
    for (name, present, _, when_unsafe) in credentials() {
        let request = present(app.request(Method::POST, "/v1/auth/logout"), &cast);
        let sent = request.try_clone().unwrap().build().unwrap();
        let answer = Answer::to(request);
        let expected = match when_unsafe {
            None | INVALID | TWO => (204, ""),
            Some(refusal) => refusal,
        };
        assert_eq!((answer.status, answer.code()), expected, "{name}");
        // Every genuine token ends its session: of either kind, wherever it is, whatever else is there.
        let carries =
            |token: &str| sent.headers().values().any(|value| value.to_str().is_ok_and(|value| value.contains(token)));
        let ended = answer.status == 204 && (carries(&cast.live.access) || carries(&cast.live.refresh));
        assert_eq!(!app.works(&cast.live.access), ended, "{name}");
        if ended {
            cast.live = app.log_in(ADA);
        }
    }
}

/// The route table, as the OpenAPI document tells it, which is made from it.
fn table() -> Vec<(String, Vec<(Method, bool)>)> {
    let document: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let guard = json!([{ "bearer": [] }, { "accessCookie": [] }]);
    let mut table = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut methods = Vec::new();
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let guarded = operation["security"] == guard;
            if method == Method::GET {
                methods.push((Method::HEAD, guarded));
            }
            methods.push((method, guarded));
        }
        methods.sort_unstable_by_key(|(method, _)| method.to_string());
        table.push((path.replace("{id}", "01890a5d-ac96-774b-bcce-b302099a8057"), methods));
    }
    table
}

/// Every path and the methods it has.
pub fn paths() -> Vec<(String, Vec<String>)> {
    let names = |methods: Vec<(Method, bool)>| methods.iter().map(|(method, _)| method.to_string()).collect();
    table().into_iter().map(|(path, methods)| (path, names(methods))).collect()
}

/// A route that is added stands in one of the two tables above.
#[test]
fn every_guarded_route_is_tried_and_no_open_one_is_thought_guarded() {
    let guarded_by_table = table().into_iter().flat_map(|(path, methods)| {
        let guarded = methods.into_iter().filter(|(_, guarded)| *guarded);
        guarded.map(move |(method, _)| format!("{method} {path}")).collect::<Vec<_>>()
    });
    let mut by_table: Vec<String> = guarded_by_table.collect();
    let mut tried: Vec<String> = guarded().iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    by_table.sort_unstable();
    tried.sort_unstable();
    assert_eq!(by_table, tried);
}

fn allowed(answer: &Answer) -> Vec<String> {
    let mut methods: Vec<String> =
        answer.header("allow").unwrap().split(',').map(|method| method.trim().to_owned()).collect();
    methods.sort_unstable();
    methods
}

#[test]
fn another_method_is_a_405_that_says_which_there_are() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    for (path, methods) in paths() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACE"] {
            if methods.iter().any(|has| has == method) {
                continue;
            }
            let request = app.request(Method::from_bytes(method.as_bytes()).unwrap(), &path).bearer_auth(&pair.access);
            let answer = Answer::to(request).expect(405);
            assert_eq!(allowed(&answer), methods, "{method} {path}");
            if method != "HEAD" {
                assert_eq!(answer.code(), "method_not_allowed", "{method} {path}");
            }
        }
        let answer = Answer::to(app.request(Method::OPTIONS, &path)).expect(204);
        assert_eq!(allowed(&answer), methods, "OPTIONS {path}");
        assert_eq!(answer.text, "");
    }
    assert!(app.works(&pair.access));
}

#[test]
fn head_is_get_without_the_body() {
    let home = Home::new();
    let app = TestApp::start_with(with_mail(&home), clock());
    let pair = app.sign_up(ADA);
    for (path, methods) in paths() {
        if !methods.iter().any(|has| has == "HEAD") {
            continue;
        }
        let ask = |method: Method| {
            let request = app.request(method, &path).bearer_auth(&pair.access).header("X-Request-Id", "same");
            // A page that a link in a mail leads to says that there is no such link.
            Answer::to(request).expect(if path.starts_with("/account/") { 400 } else { 200 })
        };
        let (mut get, mut head) = (ask(Method::GET), ask(Method::HEAD));
        assert_eq!(head.text, "");
        assert!(!get.text.is_empty());
        assert_eq!(get.headers.remove("content-length"), head.headers.remove("content-length"), "{path}");
        get.headers.remove("date");
        head.headers.remove("date");
        assert_eq!(get.headers, head.headers, "{path}");
    }
}

#[test]
fn a_path_that_nobody_has_is_a_404() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    for path in [
        "/v1",
        "/v1/",
        "/v2/users/me",
        "/v1/users",
        "/v1/users/me/",
        "//v1/users/me",
        "/V1/users/me",
        "/v1/users/ME",
        "/v1/users/me;x=1",
        "/v1/auth",
        "/v1/auth/login/",
        "/health",
        "/.well-known",
        "/.well-known/jwks",
        "/metrics",
        "/v1/users/01890a5d-ac96-774b-bcce-b302099a8057",
        "/v1/sessions/a/b",
        "/favicon.ico",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = Answer::to(app.request(method.clone(), path).bearer_auth(&pair.access));
            assert_eq!((answer.status, answer.code()), (404, "not_found"), "{method} {path}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        }
    }
}
