//! Sessions whose tokens travel in cookies, and requests that another site may have sent.

use std::time::Duration;

use countersign::config::RawConfig;
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde_json::{Value, json};

use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config};

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
    let set: Vec<_> = cookies.iter().filter(|cookie| !cookie.1.is_empty()).collect();
    assert_eq!(set[0].2, "HttpOnly; SameSite=Lax; Path=/; Domain=example.com; Max-Age=900");
    assert_eq!(set[1].2, "HttpOnly; SameSite=Strict; Path=/v1/auth; Domain=example.com; Max-Age=2592000");
}

/// `SameSite` of the refresh cookie is configured, that of the access cookie is not.
#[test]
fn same_site_of_the_refresh_cookie_is_as_configured() {
    for (configured, attribute) in [("strict", "Strict"), ("lax", "Lax"), ("none", "None")] {
        let home = Home::new();
        let settings = config(&home).with("cors.allowed_origins", FRIEND).with("cookies.same_site", configured);
        let app = TestApp::start_with(settings, clock());
        let signed_in = sign_up(&app);
        let jar = Jar::of(&signed_in);
        let cleared = Answer::to(with_cookie(&app, Method::POST, "/v1/auth/logout", &jar.header())).expect(204);
        for (answer, age) in [(signed_in, ["900", "2592000"]), (cleared, ["0", "0"])] {
            let cookies = set_cookies(&answer);
            assert_eq!(cookies[0].2, format!("HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age={}", age[0]));
            assert_eq!(
                cookies[1].2,
                format!("HttpOnly; SameSite={attribute}; Secure; Path=/v1/auth; Max-Age={}", age[1])
            );
        }
    }
}

/// Without `Max-Age` a browser forgets its cookies when it is closed.
#[test]
fn cookies_of_a_log_in_that_is_not_remembered_have_no_max_age() {
    let app = TestApp::start(&Home::new());
    sign_up(&app);
    let mut registered = 0;
    for path in ["/v1/auth/login", "/v1/auth/register"] {
        for (remember, kept) in
            [(json!(true), true), (Value::Null, true), (json!("absent"), true), (json!(false), false)]
        {
            registered += 1;
            let new = format!("user{registered}@example.com");
            let email = if path.ends_with("register") { &new } else { ADA };
            let mut body = json!({ "email": email, "password": PASSWORD, "transport": "cookie", "remember": remember });
            if remember == "absent" {
                body.as_object_mut().unwrap().remove("remember");
            }
            let signed_in = set_cookies(&app.post(path, &body));
            let refresh = signed_in.iter().find(|(name, ..)| name == "refreshToken").unwrap();
            let refresh = format!("refreshToken={}", refresh.1);
            let refreshed = app.http.post(app.url("/v1/auth/refresh")).header("Cookie", refresh);
            let refreshed = set_cookies(&Answer::to(refreshed).expect(200));
            for (what, cookies) in [("signed in", signed_in), ("refreshed", refreshed)] {
                assert_eq!(cookies.len(), 2, "{path} {remember}, {what}");
                for (_, value, attributes) in cookies {
                    assert!(!value.is_empty());
                    assert_eq!(attributes.contains("Max-Age="), kept, "{path} {remember}, {what}: {attributes}");
                    assert!(!attributes.contains("Expires="), "{path} {remember}, {what}: {attributes}");
                }
            }
        }
        for remember in [json!("false"), json!(0), json!(1), json!([]), json!({}), json!("")] {
            let body = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie", "remember": remember });
            let refused = app.post(path, &body).expect_error(400, "invalid_request");
            assert_eq!(refused.json()["errors"][0]["field"], "remember", "{path} {remember}");
        }
    }
}

/// A cookie as it is set: name, and domain or path where they are another than ours; `…` where it has a token.
fn scopes(answer: &Answer) -> Vec<String> {
    let scope = |(name, value, attributes): (String, String, String)| {
        let attribute = |key: &str| {
            let found = attributes.split("; ").find_map(|attribute| attribute.strip_prefix(key));
            found.map(|value| format!(" {value}")).unwrap_or_default()
        };
        assert_eq!(value.is_empty(), attributes.contains("Max-Age=0"), "{name} {attributes}");
        let token = if value.is_empty() { "" } else { "…" };
        format!("{name}={token}{}{}", attribute("Path="), attribute("Domain="))
    };
    set_cookies(answer).into_iter().map(scope).collect()
}

/// Name, `cookies.domain`, `Host`, the cookies, how often each is of another scope, and what is cleared before the two
/// that are set.
type Scopes = (&'static str, &'static str, &'static str, fn(&Jar, &Jar) -> String, &'static [&'static str]);

fn other_scopes() -> Vec<Scopes> {
    const ALL: &[&str] = &[
        "accessToken= / example.com",
        "accessToken= / auth.example.com",
        "refreshToken= /v1/auth example.com",
        "refreshToken= /v1/auth auth.example.com",
    ];
    const OF_THE_HOST: &[&str] = &["accessToken= /", "refreshToken= /v1/auth"];
    const WITH_A_DOMAIN: &[&str] = &[
        "accessToken= /",
        "accessToken= / auth.example.com",
        "refreshToken= /v1/auth",
        "refreshToken= /v1/auth auth.example.com",
    ];
    vec![
        ("one of each", "", "auth.example.com", |jar, _| jar.header(), &[]),
        ("two of each", "", "auth.example.com", |jar, old| format!("{}; {}", old.header(), jar.header()), ALL),
        ("with a port", "", "auth.example.com:8443", |jar, old| format!("{}; {}", old.header(), jar.header()), ALL),
        ("an address", "", "127.0.0.1", |jar, old| format!("{}; {}", old.header(), jar.header()), &[]),
        (
            "one that is another site's",
            "",
            "auth.example.com",
            |jar, _| format!("accessToken=x; refreshToken=x; {}", jar.header()),
            &[],
        ),
        (
            "two refresh cookies",
            "",
            "example.com",
            |jar, old| format!("{}; refreshToken={}", jar.header(), old.refresh),
            &["refreshToken= /v1/auth example.com"],
        ),
        ("a domain, one of each", "example.com", "auth.example.com", |jar, _| jar.header(), OF_THE_HOST),
        (
            "a domain, two of each",
            "example.com",
            "auth.example.com",
            |jar, old| format!("{}; {}", old.header(), jar.header()),
            WITH_A_DOMAIN,
        ),
        (
            "a domain, and another site's",
            "example.com",
            "auth.example.com",
            |jar, _| format!("accessToken=x; refreshToken=x; {}", jar.header()),
            OF_THE_HOST,
        ),
    ]
}

/// Setting ours clears what is left over in other scopes, first: some clients take the two for one cookie.
#[test]
fn what_is_set_and_cleared_clears_the_other_scope_too() {
    for (name, domain, host, cookies, cleared) in other_scopes() {
        let home = Home::new();
        let app = TestApp::start_with(config(&home).with("cookies.domain", domain), clock());
        sign_up(&app);
        let log_in = || {
            let body = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" });
            let answer = app.post("/v1/auth/login", &body).expect(200);
            let cookies = set_cookies(&answer);
            let set: Vec<_> = cookies.iter().filter(|cookie| !cookie.1.is_empty()).map(|cookie| &cookie.1).collect();
            let session_id = answer.json()["session_id"].as_str().unwrap().to_owned();
            Jar { access: set[0].clone(), refresh: set[1].clone(), session_id }
        };
        let send = |path: &str, cookies: &str, body: &Value| {
            Answer::to(with_cookie(&app, Method::POST, path, cookies).header("Host", host).json(body))
        };
        let own = if domain.is_empty() { String::new() } else { format!(" {domain}") };
        let ours = |token: &str| [format!("accessToken={token} /{own}"), format!("refreshToken={token} /v1/auth{own}")];
        let due =
            |token: &str| -> Vec<String> { cleared.iter().map(|line| (*line).to_owned()).chain(ours(token)).collect() };
        let (old, jar) = (log_in(), log_in());
        let refreshed = send("/v1/auth/refresh", &cookies(&jar, &old), &json!({})).expect(200);
        assert_eq!(scopes(&refreshed), due("…"), "{name}, refresh");
        let (old, jar) = (log_in(), log_in());
        let body = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" });
        let signed_in = send("/v1/auth/login", &cookies(&jar, &old), &body).expect(200);
        assert_eq!(scopes(&signed_in), due("…"), "{name}, log-in");
        // Clearing leaves nothing: one cookie that came may have been for another scope, too.
        let (old, jar) = (log_in(), log_in());
        let signed_out = send("/v1/auth/logout", &cookies(&jar, &old), &json!({})).expect(204);
        let found = scopes(&signed_out);
        assert!(due("").iter().all(|line| found.contains(line)), "{name}, log-out: {found:?}");
        assert_eq!(found[found.len() - 2..], ours(""), "{name}, log-out");
    }
}

#[test]
fn clearing_one_cookie_of_ours_clears_every_scope_it_may_have() {
    let app = TestApp::start(&Home::new());
    let jar = Jar::of(&sign_up(&app));
    let due = [
        "accessToken= / example.com",
        "accessToken= / auth.example.com",
        "refreshToken= /v1/auth example.com",
        "refreshToken= /v1/auth auth.example.com",
        "accessToken= /",
        "refreshToken= /v1/auth",
    ];
    let send = |path: &str, body: &Value| {
        let request = with_cookie(&app, Method::POST, path, &jar.header()).header("Host", "auth.example.com");
        scopes(&Answer::to(request.json(body)))
    };
    assert_eq!(send("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })), due, "by body");
    assert_eq!(send("/v1/auth/refresh", &json!({})), due, "invalid_grant");
    assert_eq!(send("/v1/auth/logout", &json!({})), due);
}

/// A proxy asks by another name than the browser did.
#[test]
fn the_scopes_that_are_cleared_are_those_of_every_name_that_browsers_know() {
    const SCOPES: [&str; 2] = ["accessToken= / example.com", "refreshToken= /v1/auth auth.example.com"];
    for (proxy, key, value, forwarded, clears) in [
        ("127.0.0.1", "log.level", "info", "auth.example.com", true),
        ("127.0.0.1", "log.level", "info", "other.internal, auth.example.com:443", true),
        ("192.0.2.1", "log.level", "info", "auth.example.com", false),
        ("127.0.0.1", "server.public_urls", "https://auth.example.com", "", true),
        ("127.0.0.1", "tokens.issuer", "https://auth.example.com", "", true),
        ("192.0.2.1", "tokens.issuer", "https://auth.example.com", "", false),
    ] {
        let home = Home::new();
        let app = TestApp::start_with(config(&home).with("server.trusted_proxies", proxy).with(key, value), clock());
        let jar = Jar::of(&sign_up(&app));
        let request = with_cookie(&app, Method::POST, "/v1/auth/logout", &jar.header()).header("Host", "backend:8080");
        let request = if forwarded.is_empty() { request } else { request.header("X-Forwarded-Host", forwarded) };
        let found = scopes(&Answer::to(request).expect(204));
        assert_eq!(
            SCOPES.map(|scope| found.iter().any(|line| line == scope)),
            [clears; 2],
            "{proxy} {key} {value}: {found:?}"
        );
    }
}

/// Each costs the check of a signature.
#[test]
fn sixteen_cookies_of_one_name_are_looked_at_and_no_more() {
    let app = TestApp::start(&Home::new());
    let good = Jar::of(&sign_up(&app));
    let log_in = || app.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD })).expect(200).pair();
    let stale: Vec<_> = (0..16).map(|_| log_in()).collect();
    for pair in &stale {
        app.post("/v1/auth/logout", &json!({ "refresh_token": pair.refresh })).expect(204);
    }
    let jar = |most: usize, name: &str, token: &str| {
        let stale =
            stale.iter().take(most).map(|pair| if name == "accessToken" { &pair.access } else { &pair.refresh });
        let all = stale.map(|stale| format!("{name}={stale}")).chain([format!("{name}={token}")]);
        all.collect::<Vec<_>>().join("; ")
    };
    for (most, status) in [(15, 200), (16, 401)] {
        Answer::to(with_cookie(&app, Method::GET, "/v1/users/me", &jar(most, "accessToken", &good.access)))
            .expect(status);
    }
    for (most, status) in [(16, 400), (15, 200)] {
        let cookies = jar(most, "refreshToken", &good.refresh);
        Answer::to(with_cookie(&app, Method::POST, "/v1/auth/refresh", &cookies).json(&json!({}))).expect(status);
    }
}

/// A `__Host-` name has one scope: a browser takes it with no domain and no other path.
#[test]
fn a_host_name_has_no_other_scope() {
    let home = Home::new();
    let settings =
        config(&home).with("cookies.access_name", "__Host-access").with("cookies.refresh_name", "__Host-refresh");
    let app = TestApp::start_with(settings, clock());
    let jar = Jar::of(&sign_up(&app));
    let twice = format!(
        "__Host-access={0}; __Host-refresh={1}; __Host-access={0}; __Host-refresh={1}",
        jar.access, jar.refresh
    );
    for (path, token) in [("/v1/auth/refresh", "…"), ("/v1/auth/logout", "")] {
        let request = with_cookie(&app, Method::POST, path, &twice).header("Host", "auth.example.com");
        let found = scopes(&Answer::to(request.json(&json!({}))));
        assert_eq!(found, [format!("__Host-access={token} /"), format!("__Host-refresh={token} /")], "{path}");
    }
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
    // From another site a browser sends no cookie, though it has one.
    assert_cleared(&app.post("/v1/auth/logout", &json!({ "refresh_token": "junk" })).expect(204));
    app.post("/v1/auth/logout", &json!({})).expect_error(401, "missing_token");
}

#[test]
fn two_different_refresh_tokens_in_one_body_are_a_400_and_use_none() {
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
    let both = json!({ "refresh_token": cookie, "refreshToken": body });
    send(None, &both).expect_error(400, "invalid_request");
    send(Some(cookie), &both).expect_error(400, "invalid_request");
    // Nothing is trimmed: with a space it is another token.
    let spaced = json!({ "refresh_token": body, "refreshToken": format!("{body} ") });
    send(None, &spaced).expect_error(400, "invalid_request");
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
        format!("accessToken=junk; {}", jar.header()),
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
            // Safe methods may come from anywhere: which page reads the answer is the browser's business.
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
