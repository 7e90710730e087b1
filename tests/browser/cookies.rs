//! Cookies, as a browser keeps and sends them: several of one name, for a host and for its domain.

use std::time::Duration;

use countersign::config::RawConfig;
use reqwest::Method;
use serde_json::{Value, json};

use super::ADA;
use super::webdriver::{Browser, View};
use support::harness::{Answer, Home, PASSWORD, TestApp, clock, config};

const HOST: &str = "auth.example.test";
const DOMAIN: &str = "example.test";
const JSON: &str = "application/json";

/// Plain HTTP, so that a name other than localhost can be used.
fn settings(home: &Home, domain: &str) -> RawConfig {
    config(home).with("cookies.secure", "false").with("cookies.domain", domain)
}

/// A browser for which every host below the domain is this machine.
fn browser() -> Browser {
    let view = View { width: 800, height: 600, dark: false };
    Browser::open_with(view, &["--host-resolver-rules=MAP *.example.test 127.0.0.1"])
}

/// A person at a server that the browser knows by name.
struct Person<'a> {
    app: &'a TestApp,
    browser: &'a Browser,
}

impl<'a> Person<'a> {
    fn visit(app: &'a TestApp, browser: &'a Browser) -> Self {
        browser.go(&format!("http://{HOST}:{}/docs", app.address.port()));
        Self { app, browser }
    }

    /// Sends a request from the page: its status and what is answered.
    #[track_caller]
    fn send(&self, method: &str, path: &str, headers: &Value, body: Option<&Value>) -> (u64, Value) {
        let mut options = json!({ "method": method, "headers": headers });
        if let Some(body) = body {
            options["body"] = body.to_string().into();
            options["headers"]["Content-Type"] = JSON.into();
        }
        let script = format!("return fetch('{path}', {options}).then(async (a) => [a.status, await a.text()])");
        let answer = self.browser.run(&script);
        let text = answer[1].as_str().unwrap();
        (answer[0].as_u64().unwrap(), serde_json::from_str(text).unwrap_or(Value::Null))
    }

    #[track_caller]
    fn log_in(&self, more: &Value) -> Value {
        let mut body = json!({ "email": ADA, "password": PASSWORD });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) = self.send("POST", "/v1/auth/login", &json!({}), Some(&body));
        assert_eq!(status, 200, "{answer}");
        answer
    }

    #[track_caller]
    fn post(&self, path: &str) -> u64 {
        self.send("POST", path, &json!({}), Some(&json!({}))).0
    }

    /// Whether the cookies open a guarded route.
    #[track_caller]
    fn is_signed_in(&self) -> bool {
        match self.send("GET", "/v1/users/me", &json!({}), None) {
            (200, user) => {
                assert_eq!(user["email"], ADA);
                true
            }
            (status, _) => {
                assert_eq!(status, 401);
                false
            }
        }
    }

    /// The sessions that live, as the database has them.
    fn sessions(&self) -> Vec<Value> {
        let observer = self.app.log_in(ADA);
        let sessions = self.app.get_as("/v1/sessions", &observer.access).expect(200).json();
        Answer::to(self.app.request(Method::POST, "/v1/auth/logout").bearer_auth(&observer.access)).expect(204);
        let others = sessions["sessions"].as_array().unwrap().iter().filter(|session| session["current"] == false);
        others.map(|session| session["id"].clone()).collect()
    }

    /// Name, domain and path of every cookie, in order.
    fn jar(&self) -> Vec<String> {
        let cookies = self.browser.cookies();
        let text = |cookie: &Value, member: &str| cookie[member].as_str().unwrap().to_owned();
        let mut jar: Vec<_> = cookies
            .iter()
            .map(|cookie| format!("{} {}{}", text(cookie, "name"), text(cookie, "domain"), text(cookie, "path")))
            .collect();
        jar.sort();
        jar
    }
}

fn ours(domain: &str) -> [String; 2] {
    [format!("accessToken {domain}/"), format!("refreshToken {domain}/v1/auth")]
}

/// Signed in under one setting of `cookies.domain`, and then with another, and back: the cookies of the first are older,
/// so that the browser sends them first.
pub fn a_changed_cookie_domain_signs_nobody_out() {
    let (of_the_domain, of_the_host) = (ours(&format!(".{DOMAIN}")), ours(HOST));
    for (before, after) in [(DOMAIN, ""), ("", DOMAIN)] {
        let (home, clock, browser) = (Home::new(), clock(), browser());
        let app = TestApp::start_with(settings(&home, before), clock.clone());
        app.sign_up(ADA);
        Person::visit(&app, &browser).log_in(&json!({ "transport": "cookie" }));
        drop(app);
        let app = TestApp::start_with(settings(&home, after), clock.clone());
        let person = Person::visit(&app, &browser);
        assert!(person.is_signed_in());
        for _ in 0..3 {
            app.pass(Duration::from_secs(600));
            assert_eq!(person.post("/v1/auth/refresh"), 200);
            assert!(person.is_signed_in());
        }
        // What is left over is gone.
        assert_eq!(person.jar(), if after.is_empty() { of_the_host.clone() } else { of_the_domain.clone() });
        assert_eq!(person.post("/v1/auth/logout"), 204);
        assert!(!person.is_signed_in());
        assert_eq!(person.jar(), [""; 0]);

        // The same with a log-in where the refresh was, and a log-out right behind it.
        drop(app);
        let app = TestApp::start_with(settings(&home, before), clock.clone());
        Person::visit(&app, &browser).log_in(&json!({ "transport": "cookie" }));
        drop(app);
        let app = TestApp::start_with(settings(&home, after), clock);
        let person = Person::visit(&app, &browser);
        person.log_in(&json!({ "transport": "cookie" }));
        assert!(person.is_signed_in());
        assert_eq!(person.post("/v1/auth/logout"), 204);
        assert!(!person.is_signed_in());
        assert_eq!(person.jar(), [""; 0]);
        assert_eq!(person.sessions().len(), 1, "that of the registration");
    }
}

/// A page, or a site beside ours, sets cookies of our names, and one that is not ASCII.
pub fn cookies_of_other_scopes_are_in_nobodys_way() {
    let (home, browser) = (Home::new(), browser());
    let app = TestApp::start_with(settings(&home, ""), clock());
    app.sign_up(ADA);
    let person = Person::visit(&app, &browser);
    for cookie in [
        "n=Zo\u{eb}; path=/".to_owned(),
        "accessToken=undefined; path=/v1".into(),
        format!("accessToken=theirs; path=/; domain={DOMAIN}"),
        "refreshToken=undefined; path=/v1/auth/refresh".into(),
        format!("refreshToken=theirs; path=/v1/auth; domain={DOMAIN}"),
    ] {
        browser.run(&format!("document.cookie = '{cookie}'"));
    }
    assert_eq!(person.jar().len(), 5);
    for _ in 0..2 {
        person.log_in(&json!({ "transport": "cookie" }));
        for _ in 0..3 {
            assert!(person.is_signed_in());
            app.pass(Duration::from_secs(600));
            assert_eq!(person.post("/v1/auth/refresh"), 200);
        }
        assert_eq!(person.jar().len(), 7, "theirs are theirs");
        assert_eq!(person.sessions().len(), 2);
        assert_eq!(person.post("/v1/auth/logout"), 204);
        assert!(!person.is_signed_in());
        assert_eq!(person.sessions().len(), 1, "that of the registration");
    }
}

/// By cookie, and then by body in the same browser: nothing is in the way of the tokens of the page.
pub fn a_log_in_by_body_takes_the_cookies_back() {
    let (home, browser) = (Home::new(), browser());
    let app = TestApp::start_with(settings(&home, DOMAIN), clock());
    app.sign_up(ADA);
    let person = Person::visit(&app, &browser);
    let by_cookie = person.log_in(&json!({ "transport": "cookie" }));
    assert_eq!(person.jar(), ours(&format!(".{DOMAIN}")));
    let pair = person.log_in(&json!({}));
    assert_eq!(person.jar(), [""; 0]);
    assert!(!person.sessions().contains(&by_cookie["session_id"]));
    let bearer = |token: &Value| json!({ "Authorization": format!("Bearer {}", token.as_str().unwrap()) });
    let authorization = bearer(&pair["access_token"]);
    assert_eq!(person.send("GET", "/v1/users/me", &authorization, None).0, 200);
    let body = json!({ "refresh_token": pair["refresh_token"] });
    let (status, next) = person.send("POST", "/v1/auth/refresh", &authorization, Some(&body));
    assert_eq!(status, 200);
    let authorization = bearer(&next["access_token"]);
    assert_eq!(person.send("POST", "/v1/auth/refresh/confirm", &authorization, None).0, 204);
    assert_eq!(person.send("POST", "/v1/auth/logout", &authorization, None).0, 204);
    assert!(!person.sessions().contains(&pair["session_id"]));
}

pub fn a_log_in_by_cookie_ends_the_session_before_it() {
    let (home, browser) = (Home::new(), browser());
    let app = TestApp::start_with(settings(&home, ""), clock());
    app.sign_up(ADA);
    let person = Person::visit(&app, &browser);
    let first = person.log_in(&json!({ "transport": "cookie" }));
    let second = person.log_in(&json!({ "transport": "cookie" }));
    assert!(person.is_signed_in());
    let sessions = person.sessions();
    assert!(sessions.contains(&second["session_id"]) && !sessions.contains(&first["session_id"]), "{sessions:?}");
    app.pass(Duration::from_secs(600));
    assert_eq!(person.post("/v1/auth/refresh"), 200);
    assert!(person.is_signed_in());
}

pub fn cookies_not_remembered_end_with_the_browser() {
    let (home, browser) = (Home::new(), browser());
    let app = TestApp::start_with(settings(&home, ""), clock());
    app.sign_up(ADA);
    let person = Person::visit(&app, &browser);
    for (remember, ends) in [(true, false), (false, true)] {
        person.log_in(&json!({ "transport": "cookie", "remember": remember }));
        assert!(person.is_signed_in());
        assert_eq!(person.jar(), ours(HOST));
        for cookie in browser.cookies() {
            assert_eq!(cookie["session"], ends, "{cookie}");
            assert_eq!(cookie["httpOnly"], true, "{cookie}");
        }
    }
}
