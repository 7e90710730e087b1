//! Which of the tokens in a request count, where the header, the body and several cookies have some.

use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, Pair, TestApp, clock, config, text_in_database};

const ADA: &str = "ada@example.com";

/// A header whose value is bytes.
fn header(request: RequestBuilder, name: &str, value: impl AsRef<[u8]>) -> RequestBuilder {
    request.header(name, HeaderValue::from_bytes(value.as_ref()).unwrap())
}

fn cookie(request: RequestBuilder, value: impl AsRef<[u8]>) -> RequestBuilder {
    header(request, "Cookie", value)
}

fn post(app: &TestApp, path: &str) -> RequestBuilder {
    app.request(Method::POST, path)
}

/// The tokens of one session, oldest first.
struct Chain(Vec<Pair>);

impl Chain {
    /// A session whose first access token has expired, and whose first refresh token would end it.
    fn start(app: &TestApp) -> Self {
        let first = app.log_in(ADA);
        app.pass(Duration::from_secs(1_000));
        let mut chain = Self(vec![first]);
        for _ in 0..2 {
            chain.go_on(app);
        }
        chain
    }

    fn go_on(&mut self, app: &TestApp) {
        let next = app.refresh(&self.newest().refresh).expect(200).pair();
        app.pass(Duration::from_secs(60));
        self.0.push(next);
    }

    fn oldest(&self) -> &Pair {
        &self.0[0]
    }

    fn newest(&self) -> &Pair {
        self.0.last().unwrap()
    }

    fn id(&self) -> &str {
        &self.oldest().session_id
    }
}

/// Which of `sessions` live, as another one sees them.
fn living<const N: usize>(app: &TestApp, sessions: [&str; N]) -> [bool; N] {
    let observer = app.log_in(ADA);
    let listed = app.get_as("/v1/sessions", &observer.access).expect(200).json();
    app.post("/v1/auth/logout", &json!({ "refresh_token": observer.refresh })).expect(204);
    sessions.map(|id| listed["sessions"].as_array().unwrap().iter().any(|session| session["id"] == id))
}

fn both(pair: &Pair) -> String {
    format!("accessToken={}; refreshToken={}", pair.access, pair.refresh)
}

/// `Set-Cookie`, to the letter but for the tokens.
fn set_cookies(answer: &Answer) -> Vec<String> {
    let lines = answer.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
    lines
        .map(|line| {
            let (name, rest) = line.split_once('=').unwrap();
            let (value, attributes) = rest.split_once("; ").unwrap();
            format!("{name}={}; {attributes}", if value.is_empty() { "" } else { "…" })
        })
        .collect()
}

/// What comes by cookie, in one header or several, and whether the session of `good` can be found in it.
type Jar = (&'static str, fn(&Chain, &Pair) -> Vec<Vec<u8>>, bool);

fn jars() -> Vec<Jar> {
    fn one(text: String) -> Vec<Vec<u8>> {
        vec![text.into_bytes()]
    }
    vec![
        ("no cookie", |_, _| vec![], false),
        ("empty ones", |_, _| one("accessToken=; refreshToken=".into()), false),
        ("a good one", |good, _| one(both(good.newest())), true),
        ("a stale one first", |good, _| one(format!("{}; {}", both(good.oldest()), both(good.newest()))), true),
        ("a stale one last", |good, _| one(format!("{}; {}", both(good.newest()), both(good.oldest()))), true),
        ("one of an ended session first", |good, ended| one(format!("{}; {}", both(ended), both(good.newest()))), true),
        ("junk first", |good, _| one(format!("accessToken=x; refreshToken=x; {}", both(good.newest()))), true),
        ("in two headers", |good, _| vec![both(good.oldest()).into_bytes(), both(good.newest()).into_bytes()], true),
        ("beside UTF-8", |good, _| one(format!("n=Zoë; {}; m=Zoë", both(good.newest()))), true),
        ("beside Latin-1", |good, _| vec![[both(good.newest()).as_bytes(), b"; n=Zo\xeb"].concat()], true),
        (
            "behind one of the name that is not ASCII",
            |good, _| one(format!("accessToken=é; refreshToken=é; {}", both(good.newest()))),
            true,
        ),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Route {
    Guarded,
    Refresh,
    Confirm,
    Logout,
}

/// The property: whatever header and whatever cookies come together, on whichever route.
#[test]
fn header_and_cookies_together_on_every_route() {
    let home = Home::new();
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    let ended = app.log_in(ADA);
    app.post("/v1/auth/logout", &json!({ "refresh_token": ended.refresh })).expect(204);
    for (jar, cookies, has_good) in jars() {
        for route in [Route::Guarded, Route::Refresh, Route::Confirm, Route::Logout] {
            for (name, header_token) in
                [("none", None), ("empty", Some("")), ("bad", Some("undefined")), ("good", Some("good"))]
            {
                let by_cookie = Chain::start(&app);
                let by_header = app.log_in(ADA);
                let (method, path) = match route {
                    Route::Guarded => (Method::GET, "/v1/sessions"),
                    Route::Refresh => (Method::POST, "/v1/auth/refresh"),
                    Route::Confirm => (Method::POST, "/v1/auth/refresh/confirm"),
                    Route::Logout => (Method::POST, "/v1/auth/logout"),
                };
                let request = cookies(&by_cookie, &ended).iter().fold(app.request(method, path), cookie);
                let request = match header_token {
                    None => request,
                    Some("good") => request.bearer_auth(&by_header.access),
                    Some("") => header(request, "Authorization", "Bearer"),
                    Some(token) => request.bearer_auth(token),
                };
                let answer = Answer::to(request);
                let case = format!("{jar}, header {name}, {path}: {} {}", answer.status, answer.text);
                let found = (answer.status, answer.code());
                let has_cookie = !matches!(jar, "no cookie" | "empty ones");
                let authenticated = match (header_token, has_good) {
                    (Some("good"), _) => Some(&by_header.session_id),
                    (None | Some(""), true) => Some(&by_cookie.newest().session_id),
                    _ => None,
                };
                match route {
                    Route::Guarded | Route::Confirm => {
                        let due = match (authenticated, header_token) {
                            (Some(_), _) if route == Route::Guarded => (200, ""),
                            (Some(_), _) => (204, ""),
                            (None, Some("undefined")) => (401, "invalid_token"),
                            (None, _) => (401, "missing_token"),
                        };
                        assert_eq!(found, due, "{case}");
                        if let (Route::Guarded, Some(session_id)) = (route, authenticated) {
                            let body = answer.json();
                            let mut sessions = body["sessions"].as_array().unwrap().iter();
                            let current = sessions.find(|session| session["current"] == true).unwrap();
                            assert_eq!(current["id"], **session_id, "{case}");
                        }
                    }
                    Route::Refresh if has_good => {
                        assert_eq!(found, (200, ""), "{case}");
                        assert_eq!(answer.pair().session_id, by_cookie.id(), "{case}");
                    }
                    Route::Refresh => assert_eq!(found, (400, "invalid_request"), "{case}"),
                    Route::Logout if has_cookie || matches!(header_token, Some("good" | "undefined")) => {
                        assert_eq!(found, (204, ""), "{case}");
                    }
                    Route::Logout => assert_eq!(found, (401, "missing_token"), "{case}"),
                }
                let ends = |presented: bool| route == Route::Logout && presented;
                let due = [ends(has_cookie), ends(header_token == Some("good"))].map(|ends| !ends);
                assert_eq!(living(&app, [by_cookie.id(), &by_header.session_id]), due, "{case}");
            }
        }
    }
}

/// A header is bytes: one of them above 0x7F, wherever it is, is no reason to refuse a request or to lose a credential.
#[test]
fn no_header_is_a_reason_to_refuse_for_a_byte_that_is_not_ascii() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let credentials = json!({ "email": ADA, "password": PASSWORD });
    for name in [
        "User-Agent",
        "X-Request-Id",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "Accept",
        "Accept-Language",
        "Accept-Encoding",
        "Referer",
        "If-None-Match",
        "If-Modified-Since",
        "Origin",
        "Sec-Fetch-Site",
        "Sec-Fetch-Mode",
        "X-Requested-With",
        "Expect-CT",
        "Cookie",
    ] {
        for value in [&b"Zo\xc3\xab"[..], b"Zo\xeb", b"\xff", b"n=Zo\xeb; accessToken=; m=\xff"] {
            let odd = |request: RequestBuilder| header(request, name, value);
            let case = format!("{name}: {}", value.escape_ascii());
            let by_header = Answer::to(odd(app.get("/v1/users/me").bearer_auth(&pair.access)));
            assert_eq!(by_header.status, 200, "{case}: {}", by_header.text);
            let by_cookie = Answer::to(odd(cookie(app.get("/v1/users/me"), both(&pair))));
            assert_eq!(by_cookie.status, 200, "{case}: {}", by_cookie.text);
            assert_eq!(Answer::to(odd(app.get("/docs"))).status, 200, "{case}");
            assert_eq!(Answer::to(odd(app.get("/docs/page.js"))).status, 200, "{case}");
            let signed_in = Answer::to(odd(post(&app, "/v1/auth/login").json(&credentials)));
            assert_eq!(signed_in.status, 200, "{case}: {}", signed_in.text);
        }
    }
}

/// Two sessions, one that is over and one that was never ours.
struct Cast {
    one: Chain,
    two: Chain,
    ended: Pair,
    foreign: Pair,
}

impl Cast {
    /// Which of the two live.
    fn living(&self, app: &TestApp) -> [bool; 2] {
        living(app, [self.one.id(), self.two.id()])
    }
}

fn cast(app: &TestApp, foreign: &Pair) -> Cast {
    let ended = app.log_in(ADA);
    app.post("/v1/auth/logout", &json!({ "refresh_token": ended.refresh })).expect(204);
    Cast { one: Chain::start(app), two: Chain::start(app), ended, foreign: foreign.clone() }
}

/// A session of another installation: the same names, other keys.
fn foreign() -> Pair {
    let home = Home::new();
    let mut config = config(&home);
    // Nodes on PostgreSQL are configured with the same secrets.
    if !home.database().is_embedded() {
        config = config
            .with("tokens.access_secret", "the access token secret of another installation")
            .with("tokens.refresh_secret", "the refresh token secret of another installation");
    }
    TestApp::start_with(config, clock()).sign_up(ADA)
}

/// What a refresh by several cookies comes to.
enum Due {
    /// The next pair of this session.
    One,
    Two,
    /// `invalid_grant` for this reason; whether the first session lives after it.
    Refused(&'static str, bool),
}

/// Name, the refresh tokens in the order in which they come, and what is due.
type Choice = (&'static str, fn(&Cast) -> Vec<&Pair>, Due);

fn choices() -> Vec<Choice> {
    vec![
        ("stale, current", |c| vec![c.one.oldest(), c.one.newest()], Due::One),
        ("current, stale", |c| vec![c.one.newest(), c.one.oldest()], Due::One),
        ("previous, current", |c| vec![&c.one.0[1], c.one.newest()], Due::One),
        ("stale, previous: the current one was lost", |c| vec![c.one.oldest(), &c.one.0[1]], Due::One),
        ("every generation", |c| c.one.0.iter().collect(), Due::One),
        ("the same twice", |c| vec![c.one.newest(), c.one.newest()], Due::One),
        ("ended, current", |c| vec![&c.ended, c.one.newest()], Due::One),
        ("current, ended", |c| vec![c.one.newest(), &c.ended], Due::One),
        ("foreign, current", |c| vec![&c.foreign, c.one.newest()], Due::One),
        ("current, foreign", |c| vec![c.one.newest(), &c.foreign], Due::One),
        ("two that live", |c| vec![c.one.newest(), c.two.newest()], Due::One),
        ("two that live, the other way round", |c| vec![c.two.newest(), c.one.newest()], Due::Two),
        ("stale, one of another session", |c| vec![c.one.oldest(), c.two.newest()], Due::Two),
        (
            "ended, foreign, stale, stale, current",
            |c| vec![&c.ended, &c.foreign, c.one.oldest(), c.two.oldest(), c.two.newest()],
            Due::Two,
        ),
        ("stale, foreign", |c| vec![c.one.oldest(), &c.foreign], Due::Refused("reused", false)),
        ("stale, ended", |c| vec![c.one.oldest(), &c.ended], Due::Refused("reused", false)),
        ("foreign, stale", |c| vec![&c.foreign, c.one.oldest()], Due::Refused("malformed", true)),
        ("ended, stale", |c| vec![&c.ended, c.one.oldest()], Due::Refused("revoked", true)),
        ("ended, foreign", |c| vec![&c.ended, &c.foreign], Due::Refused("revoked", true)),
    ]
}

#[test]
fn of_several_refresh_cookies_the_one_that_can_be_used_counts() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let foreign = foreign();
    for separate in [false, true] {
        for (name, tokens, due) in choices() {
            let cast = cast(&app, &foreign);
            let cookies: Vec<_> = tokens(&cast).iter().map(|pair| format!("refreshToken={}", pair.refresh)).collect();
            let request = post(&app, "/v1/auth/refresh");
            let answer = Answer::to(if separate {
                cookies.iter().fold(request, cookie)
            } else {
                cookie(request, cookies.join("; "))
            });
            let case = format!("{name}: {} {}", answer.status, answer.text);
            let rotated = match due {
                Due::One => Some(&cast.one),
                Due::Two => Some(&cast.two),
                Due::Refused(reason, one_lives) => {
                    assert_eq!((answer.status, answer.code()), (400, "invalid_grant"), "{case}");
                    assert_eq!(answer.json()["reason"], reason, "{case}");
                    let cleared = set_cookies(&answer);
                    assert!(cleared.len() >= 2 && cleared.iter().all(|line| line.contains("Max-Age=0")), "{case}");
                    assert_eq!(living(&app, [cast.one.id()]), [one_lives], "{case}");
                    None
                }
            };
            let next = rotated.map(|chain| {
                assert_eq!(answer.status, 200, "{case}");
                let next = answer.pair();
                assert_eq!(next.session_id, chain.id(), "{case}");
                next
            });
            // Trying has changed nothing: what was not exchanged is still the current token of its session.
            app.pass(Duration::from_secs(60));
            for chain in [&cast.one, &cast.two] {
                if matches!(due, Due::Refused(_, false)) && chain.id() == cast.one.id() {
                    continue;
                }
                let current = next.as_ref().filter(|next| next.session_id == chain.id()).unwrap_or(chain.newest());
                let answer = app.refresh(&current.refresh);
                assert_eq!(answer.status, 200, "{case}: {}", answer.text);
            }
        }
    }
}

/// A late duplicate is no reason to look further: its session lives, and the newer pair is on its way.
#[test]
fn a_refresh_cookie_in_conflict_counts_before_another_session() {
    let app = TestApp::start(&Home::new());
    let first = app.sign_up(ADA);
    let second = app.refresh(&first.refresh).expect(200).pair();
    app.confirm(&second.access).expect(204);
    let other = app.log_in(ADA);
    let cookies = format!("refreshToken={}; refreshToken={}", first.refresh, other.refresh);
    Answer::to(cookie(post(&app, "/v1/auth/refresh"), cookies)).expect_error(409, "refresh_conflict");
    app.refresh(&second.refresh).expect(200);
    app.refresh(&other.refresh).expect(200);
}

/// The body wins, and only where it has no token cookies are looked at.
#[test]
fn a_refresh_token_in_the_body_wins_over_cookies() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let (good, bad) = (Some(200), None);
    for (name, body, by_body) in [
        ("one", json!({ "refresh_token": "BODY" }), good),
        ("the other spelling", json!({ "refreshToken": "BODY" }), good),
        ("both alike", json!({ "refresh_token": "BODY", "refreshToken": "BODY" }), good),
        ("one and an empty one", json!({ "refresh_token": "BODY", "refreshToken": "" }), good),
        ("one and null", json!({ "refresh_token": null, "refreshToken": "BODY" }), good),
        ("with a space", json!({ "refresh_token": "BODY " }), bad),
        ("junk", json!({ "refresh_token": "undefined" }), bad),
    ] {
        let (by_cookie, in_body) = (app.log_in(ADA), app.log_in(ADA));
        let body: Value = serde_json::from_str(&body.to_string().replace("BODY", &in_body.refresh)).unwrap();
        let request = cookie(post(&app, "/v1/auth/refresh"), both(&by_cookie)).json(&body);
        // What is in the body no page of another site can have put there.
        let answer = Answer::to(request.header("Sec-Fetch-Site", "cross-site"));
        assert!(set_cookies(&answer).is_empty(), "{name}");
        match by_body {
            Some(status) => assert_eq!(answer.expect(status).pair().session_id, in_body.session_id, "{name}"),
            None => answer.expect_refused("malformed"),
        }
        assert_eq!(app.refresh(&by_cookie.refresh).expect(200).pair().session_id, by_cookie.session_id, "{name}");
    }
    for (name, body) in [
        ("none", json!({})),
        ("an empty one", json!({ "refresh_token": "" })),
        ("two empty ones", json!({ "refresh_token": "", "refreshToken": "" })),
        ("null", json!({ "refresh_token": null })),
    ] {
        let by_cookie = app.log_in(ADA);
        let request = || post(&app, "/v1/auth/refresh").json(&body);
        let answer = Answer::to(cookie(request(), both(&by_cookie))).expect(200);
        assert_eq!(answer.pair().session_id, by_cookie.session_id, "{name}");
        let nothing = Answer::to(request()).expect_error(400, "invalid_request");
        assert_eq!(nothing.json()["errors"][0]["field"], "refresh_token", "{name}");
    }
}

/// Name, how the tokens are presented, and which of the two sessions end.
type LogOut = (&'static str, fn(RequestBuilder, &Cast) -> RequestBuilder, bool, bool);

fn log_outs() -> Vec<LogOut> {
    fn body(request: RequestBuilder, text: impl Into<String>) -> RequestBuilder {
        request.header("Content-Type", "application/json").body(text.into())
    }
    fn one(c: &Cast) -> &Pair {
        c.one.newest()
    }
    fn two(c: &Cast) -> &Pair {
        c.two.newest()
    }
    vec![
        ("an access token", |r, c| r.bearer_auth(&one(c).access), true, false),
        ("one that has expired", |r, c| r.bearer_auth(&c.one.oldest().access), true, false),
        ("a refresh token in the header", |r, c| r.bearer_auth(&one(c).refresh), true, false),
        ("one that was exchanged", |r, c| r.bearer_auth(&c.one.oldest().refresh), true, false),
        ("DPoP", |r, c| header(r, "Authorization", format!("dpop {}", one(c).access)), true, false),
        ("two headers", |r, c| r.bearer_auth(&one(c).access).bearer_auth(&two(c).access), true, true),
        (
            "two headers, one empty",
            |r, c| header(r, "Authorization", "Bearer").bearer_auth(&two(c).access),
            false,
            true,
        ),
        ("the body", |r, c| r.json(&json!({ "refresh_token": one(c).refresh })), true, false),
        (
            "two in the body",
            |r, c| r.json(&json!({ "refresh_token": one(c).refresh, "refreshToken": two(c).refresh })),
            true,
            true,
        ),
        (
            "one in the body beside what is no text",
            |r, c| r.json(&json!({ "refresh_token": [1], "refreshToken": two(c).refresh })),
            false,
            true,
        ),
        (
            "header and body",
            |r, c| r.bearer_auth(&one(c).access).json(&json!({ "refresh_token": two(c).refresh })),
            true,
            true,
        ),
        ("both cookies", |r, c| cookie(r, both(one(c))), true, false),
        ("the refresh cookie", |r, c| cookie(r, format!("refreshToken={}", one(c).refresh)), true, false),
        ("the access cookie", |r, c| cookie(r, format!("accessToken={}", one(c).access)), true, false),
        ("an expired access cookie", |r, c| cookie(r, format!("accessToken={}", c.one.oldest().access)), true, false),
        ("a refresh token by the other name", |r, c| cookie(r, format!("accessToken={}", one(c).refresh)), true, false),
        ("several cookies", |r, c| cookie(r, format!("{}; {}", both(c.one.oldest()), both(two(c)))), true, true),
        ("two cookie headers", |r, c| cookie(cookie(r, both(one(c))), both(two(c))), true, true),
        ("beside what is not ASCII", |r, c| cookie(r, format!("n=Zoë; {}", both(one(c)))), true, false),
        ("a header and cookies", |r, c| cookie(r.bearer_auth(&one(c).access), both(two(c))), true, true),
        ("a bad header and cookies", |r, c| cookie(r.bearer_auth("undefined"), both(two(c))), false, true),
        ("an empty header and cookies", |r, c| cookie(header(r, "Authorization", "Bearer"), both(two(c))), false, true),
        (
            "another scheme and cookies",
            |r, c| cookie(header(r, "Authorization", "Basic YTpi"), both(two(c))),
            false,
            true,
        ),
        ("cookies and a body that is not JSON", |r, c| body(cookie(r, both(one(c))), "{"), true, false),
        ("cookies and an array", |r, c| body(cookie(r, both(one(c))), "[1]"), true, false),
        (
            "cookies and a form",
            |r, c| cookie(r, both(one(c))).header("Content-Type", "text/plain").body("x"),
            true,
            false,
        ),
        ("a header and a body that is not JSON", |r, c| body(r.bearer_auth(&one(c).access), "\u{0}"), true, false),
        (
            "cookies and a number",
            |r, c| cookie(r, both(one(c))).json(&json!({ "refresh_token": 1, "refreshToken": {} })),
            true,
            false,
        ),
        (
            "a token of ours beside junk and a foreign one",
            |r, c| cookie(r, format!("{}; {}; refreshToken=x", both(&c.foreign), both(one(c)))).bearer_auth("x"),
            true,
            false,
        ),
        ("a foreign one", |r, c| cookie(r.bearer_auth(&c.foreign.access), both(&c.foreign)), false, false),
        ("one that is over", |r, c| cookie(r.bearer_auth(&c.ended.access), both(&c.ended)), false, false),
        (
            "a forged one",
            |r, c| {
                r.bearer_auth(format!("{}A", one(c).access))
                    .json(&json!({ "refresh_token": format!("{}A", one(c).refresh) }))
            },
            false,
            false,
        ),
    ]
}

/// A log out ends the session of every genuine token whatever else is there.
#[test]
fn a_log_out_ends_the_session_of_every_genuine_token() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let foreign = foreign();
    for (name, present, ends_one, ends_two) in log_outs() {
        let cast = cast(&app, &foreign);
        let answer = Answer::to(present(post(&app, "/v1/auth/logout"), &cast));
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{name}");
        assert_eq!(
            set_cookies(&answer)[set_cookies(&answer).len() - 2..],
            [
                "accessToken=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0",
                "refreshToken=; HttpOnly; SameSite=Strict; Secure; Path=/v1/auth; Max-Age=0",
            ],
            "{name}"
        );
        assert_eq!(cast.living(&app), [!ends_one, !ends_two], "{name}");
    }
}

#[test]
fn a_log_out_without_any_token_is_a_401_and_clears_nothing() {
    let app = TestApp::start(&Home::new());
    for (name, request) in [
        ("nothing", post(&app, "/v1/auth/logout")),
        ("an empty object", post(&app, "/v1/auth/logout").json(&json!({}))),
        ("empty tokens", post(&app, "/v1/auth/logout").json(&json!({ "refresh_token": "", "refreshToken": null }))),
        ("a scheme alone", header(post(&app, "/v1/auth/logout"), "Authorization", "Bearer ")),
        ("another scheme", header(post(&app, "/v1/auth/logout"), "Authorization", "Basic YTpi")),
        ("empty cookies", cookie(post(&app, "/v1/auth/logout"), "accessToken=; refreshToken=; n=Zoë")),
        // A form of another site, from which a browser sends no cookie: it must not end a session.
        ("another site", post(&app, "/v1/auth/logout").header("Sec-Fetch-Site", "cross-site")),
    ] {
        let answer = Answer::to(request).expect_error(401, "missing_token");
        assert!(set_cookies(&answer).is_empty(), "{name}");
    }
    let unreadable = post(&app, "/v1/auth/logout").header("Content-Type", "application/json").body("{");
    Answer::to(unreadable).expect_error(400, "invalid_request");
}

/// What the browser adds by itself counts only where another site cannot have made it do so.
#[test]
fn a_log_out_from_another_site_ends_no_session_of_the_cookies() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let foreign = foreign();
    type Present = fn(RequestBuilder, &Cast) -> RequestBuilder;
    type Expected = (u16, &'static str);
    let cases: [(&str, Present, Expected, bool, bool); 3] = [
        ("cookies", |r, c| cookie(r, both(c.two.newest())), (403, "cross_site"), false, false),
        (
            "header and cookies",
            |r, c| cookie(r.bearer_auth(&c.one.newest().access), both(c.two.newest())),
            (204, ""),
            true,
            false,
        ),
        (
            "body and cookies",
            |r, c| cookie(r, both(c.two.newest())).json(&json!({ "refresh_token": c.one.newest().refresh })),
            (204, ""),
            true,
            false,
        ),
    ];
    for (name, present, due, ends_one, ends_two) in cases {
        let cast = cast(&app, &foreign);
        let request = present(post(&app, "/v1/auth/logout"), &cast).header("Sec-Fetch-Site", "cross-site");
        let answer = Answer::to(request);
        assert_eq!((answer.status, answer.code()), due, "{name}");
        assert_eq!(cast.living(&app), [!ends_one, !ends_two], "{name}");
    }
}

/// What was signed under another configuration is still one of ours.
#[test]
fn a_log_out_ends_the_session_of_a_token_from_before_a_change() {
    for (key, before, after) in
        [("tokens.access_ttl", "1h", "5m"), ("tokens.audience", "https://api.example", "https://other.example")]
    {
        let home = Home::new();
        let earlier = TestApp::start_with(config(&home).with(key, before), clock());
        let pair = earlier.sign_up(ADA);
        drop(earlier);
        let app = TestApp::start_with(config(&home).with(key, after), clock());
        app.get_as("/v1/users/me", &pair.access).expect_error(401, "invalid_token");
        Answer::to(post(&app, "/v1/auth/logout").bearer_auth(&pair.access)).expect(204);
        app.refresh(&pair.refresh).expect_refused("revoked");
    }
}

/// Both of a session's own tokens have expired, but it was refreshed since, and the answer got lost.
#[test]
fn a_log_out_with_a_refresh_token_that_has_expired_ends_the_session() {
    let app = TestApp::start(&Home::new());
    let first = app.sign_up(ADA);
    app.pass(Duration::from_secs(29 * 24 * 3600));
    app.refresh(&first.refresh).expect(200);
    app.pass(Duration::from_secs(2 * 24 * 3600));
    assert_eq!(living(&app, [&first.session_id]), [true]);
    app.post("/v1/auth/logout", &json!({ "refresh_token": first.refresh })).expect(204);
    assert_eq!(living(&app, [&first.session_id]), [false]);
}

/// Name, the cookies that come with the log-in, whether the first and the second session end, and whether cookies came.
type Replacement = (&'static str, fn(RequestBuilder, &Cast) -> RequestBuilder, bool, bool, bool);

fn replacements() -> Vec<Replacement> {
    vec![
        ("no cookie", |r, _| r, false, false, false),
        ("another's cookie", |r, _| cookie(r, "theme=dark"), false, false, false),
        ("both cookies", |r, c| cookie(r, both(c.one.newest())), true, false, true),
        ("the refresh cookie", |r, c| cookie(r, format!("refreshToken={}", c.one.newest().refresh)), true, false, true),
        ("a stale one", |r, c| cookie(r, format!("refreshToken={}", c.one.oldest().refresh)), true, false, true),
        ("two", |r, c| cookie(r, format!("{}; {}", both(c.one.newest()), both(c.two.newest()))), true, true, true),
        ("beside UTF-8", |r, c| cookie(r, format!("n=Zoë; {}", both(c.one.newest()))), true, false, true),
        ("a foreign one", |r, c| cookie(r, both(&c.foreign)), false, false, true),
        ("junk", |r, _| cookie(r, "refreshToken=x"), false, false, true),
        (
            "the access cookie alone",
            |r, c| cookie(r, format!("accessToken={}", c.one.newest().access)),
            false,
            false,
            true,
        ),
        (
            "from another site",
            |r, c| cookie(r, both(c.one.newest())).header("Sec-Fetch-Site", "cross-site"),
            false,
            false,
            false,
        ),
        (
            "from this site",
            |r, c| cookie(r, both(c.one.newest())).header("Sec-Fetch-Site", "same-origin"),
            true,
            false,
            true,
        ),
    ]
}

#[test]
fn a_log_in_ends_the_session_whose_refresh_cookie_it_replaces() {
    let home = Home::new();
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    let foreign = foreign();
    let mut registered = 0;
    for transport in ["body", "cookie"] {
        for path in ["/v1/auth/login", "/v1/auth/register"] {
            for (name, present, ends_one, ends_two, came) in replacements() {
                let cast = cast(&app, &foreign);
                // One that fails ends nothing.
                let wrong = json!({ "email": ADA, "password": "wrong", "transport": transport });
                let failed = Answer::to(present(post(&app, path), &cast).json(&wrong));
                assert!(matches!(failed.status, 401 | 409 | 422), "{name}: {}", failed.text);
                assert!(set_cookies(&failed).is_empty(), "{name}");
                assert_eq!(cast.living(&app), [true, true], "{name}");

                registered += 1;
                let new = format!("user{registered}@example.com");
                let email = if path.ends_with("register") { new.as_str() } else { ADA };
                let right = json!({ "email": email, "password": PASSWORD, "transport": transport });
                let answer = Answer::to(present(post(&app, path), &cast).json(&right));
                let case = format!("{path} by {transport}, {name}: {} {:?}", answer.text, set_cookies(&answer));
                assert!(matches!(answer.status, 200 | 201), "{case}");
                assert_eq!(cast.living(&app), [!ends_one, !ends_two], "{case}");
                let cleared =
                    set_cookies(&answer).iter().filter(|line| line.ends_with("Path=/v1/auth; Max-Age=0")).count();
                match transport {
                    "cookie" => assert!(set_cookies(&answer).last().unwrap().starts_with("refreshToken=…"), "{case}"),
                    _ => assert_eq!(cleared, usize::from(came), "{case}"),
                }
                if transport == "body" {
                    assert!(app.works(&answer.pair().access), "{case}");
                }
            }
        }
    }
    let reason = "SELECT revoked_reason FROM sessions WHERE revoked_reason = 'replaced' LIMIT 1";
    assert_eq!(text_in_database(&home, reason), "replaced");
}

/// A session whose cookie came with the log-in ends at once for access tokens, too.
#[test]
fn the_access_token_of_a_replaced_session_is_dead_at_once() {
    let app = TestApp::start(&Home::new());
    let old = app.sign_up(ADA);
    let request = post(&app, "/v1/auth/login").json(&json!({ "email": ADA, "password": PASSWORD }));
    Answer::to(cookie(request, both(&old))).expect(200);
    assert!(!app.works(&old.access));
    app.refresh(&old.refresh).expect_refused("revoked");
}
