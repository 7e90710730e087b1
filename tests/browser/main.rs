//! In a real Chromium: the page at `/docs`, to read, sign in and try a guarded call; and cookies, as a browser keeps and
//! sends them. Where there is no Chromium these tests are reported as ignored; with `CI` in the environment they fail
//! instead.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail anywhere")]

mod cookies;
mod pages;
mod picture;
mod webdriver;

use std::process::ExitCode;

use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::{Value, json};

use self::picture::assert_looks_as_before;
use self::webdriver::{Browser, Element, View, installed};
use support::authenticator::Authenticator;
use support::harness::{Answer, Home, PASSWORD, TestApp};

/// Whom the examples on the page are about.
const ADA: &str = "ada@example.com";

/// What is no request over the network: pictures within style sheets, and the browser's own first page.
const KNOWN: [&str; 3] = ["data:", "chrome:", "chrome-untrusted:"];

type Test = (&'static str, fn());

const TESTS: [Test; 15] = [
    ("every_call_is_on_the_page", every_call_is_on_the_page),
    ("signing_in_on_the_page_opens_a_guarded_call", signing_in_on_the_page_opens_a_guarded_call),
    ("the_page_asks_for_the_code_of_a_second_factor", the_page_asks_for_the_code_of_a_second_factor),
    ("registering_and_signing_out_on_the_page", registering_and_signing_out_on_the_page),
    ("a_token_typed_into_the_authorize_dialog_is_used", a_token_typed_into_the_authorize_dialog_is_used),
    ("signing_in_by_cookie_on_the_page", signing_in_by_cookie_on_the_page),
    ("tokens_are_forgotten_with_the_page", tokens_are_forgotten_with_the_page),
    ("the_page_fits_a_telephone_in_the_dark", the_page_fits_a_telephone_in_the_dark),
    ("a_changed_cookie_domain_signs_nobody_out", cookies::a_changed_cookie_domain_signs_nobody_out),
    ("cookies_of_other_scopes_are_in_nobodys_way", cookies::cookies_of_other_scopes_are_in_nobodys_way),
    ("a_log_in_by_body_takes_the_cookies_back", cookies::a_log_in_by_body_takes_the_cookies_back),
    ("a_log_in_by_cookie_ends_the_session_before_it", cookies::a_log_in_by_cookie_ends_the_session_before_it),
    ("cookies_that_are_not_remembered_end_with_the_browser", cookies::cookies_not_remembered_end_with_the_browser),
    ("the_pages_of_mails_work_without_script_in_the_light", pages::they_work_without_script_in_the_light),
    ("the_pages_of_mails_work_with_script_in_the_dark", pages::they_work_with_script_in_the_dark),
];

fn main() -> ExitCode {
    let missing = installed().err();
    if let Some(missing) = &missing {
        eprintln!("browser: {missing} (Debian: chromium, chromium-driver, fonts-liberation)");
        if std::env::var_os("CI").is_some() {
            return ExitCode::FAILURE;
        }
    }
    let trial = |(name, test): Test| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(missing.is_some())
    };
    support::run(TESTS.map(trial).into())
}

/// The page of a server of its own.
struct Page {
    app: TestApp,
    browser: Browser,
    _home: Home,
}

impl Page {
    fn open() -> Self {
        Self::open_in(View { width: 1280, height: 1600, dark: false })
    }

    fn open_in(view: View) -> Self {
        let home = Home::new();
        let app = TestApp::start(&home);
        let page = Self { browser: Browser::open(view), app, _home: home };
        page.load();
        page
    }

    fn load(&self) {
        self.browser.go(&self.app.url("/docs"));
        self.find("//*[@id='operations-Machines-document']");
    }

    #[track_caller]
    fn find(&self, xpath: &str) -> Element<'_> {
        self.browser.find(xpath)
    }

    /// Waits until the page says that about who is signed in.
    #[track_caller]
    fn says(&self, what: &str) {
        self.find(&format!("//*[@id='caller'][contains(., '{what}')]"));
    }

    fn block(operation: &str) -> String {
        format!("//*[@id='operations-{operation}']")
    }

    /// Opens a call, named by tag and operation.
    #[track_caller]
    fn unfold(&self, operation: &str) {
        self.find(&format!("{}//*[@class='opblock-summary-control']", Self::block(operation))).click();
    }

    /// Sends the call that is open, with whatever it has as body: what the page shows as the answer.
    #[track_caller]
    fn execute(&self, operation: &str, status: u16) -> String {
        let block = Self::block(operation);
        self.find(&format!("{block}//button[contains(@class, 'execute')]")).click();
        let answer =
            format!("{block}//*[contains(@class, 'live-responses-table')]//tr[@class='response'][td='{status}']");
        self.find(&answer).text()
    }

    /// Replaces the body of the call that is open.
    #[track_caller]
    fn write(&self, operation: &str, body: &Value) {
        let area = self.find(&format!("{}//textarea[contains(@class, 'body-param__text')]", Self::block(operation)));
        area.paste(&body.to_string());
    }

    /// What is to be seen with this operation at the top.
    fn showing(&self, operation: &str) -> Vec<u8> {
        self.browser.run(&format!("document.getElementById('operations-{operation}').scrollIntoView()"));
        self.browser.screenshot()
    }

    /// No token outlives the page.
    #[track_caller]
    fn assert_nothing_is_kept(&self) {
        let kept = "return [localStorage.length, sessionStorage.length, document.cookie]";
        assert_eq!(self.browser.run(kept), json!([0, 0, ""]));
    }

    /// Nothing was loaded from elsewhere, and nothing went wrong but what the test made go wrong.
    #[track_caller]
    fn assert_clean(&self, refused: &[u16]) {
        let ours = self.app.url("/");
        let requested = self.browser.requested();
        let foreign: Vec<_> = requested
            .iter()
            .filter(|url| !KNOWN.iter().any(|scheme| url.starts_with(scheme)) && !url.starts_with(&ours))
            .collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(requested.iter().any(|url| url.ends_with("/openapi.json")), "requests were recorded: {requested:?}");
        let mut complaints = self.browser.complaints();
        complaints.retain(|text| !refused.iter().any(|status| text.contains(&format!("a status of {status}"))));
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

fn every_call_is_on_the_page() {
    let page = Page::open();
    let document = Answer::to(page.app.get("/openapi.json")).expect(200).json();
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(_, value)| value.is_object()) {
            let name =
                format!("{}-{}", operation["tags"][0].as_str().unwrap(), operation["operationId"].as_str().unwrap());
            let text = page.find(&Page::block(&name)).text();
            assert!(text.starts_with(&method.to_uppercase()) && text.contains(path.as_str()), "{text}");
            calls += 1;
        }
    }
    assert!(calls > 15, "{calls}");
    let tokens =
        "return [...document.querySelectorAll('[id^=operations-Tokens-]')].map((call) => call.id.split('-')[2])";
    let in_order_of_use = json!(["register", "login", "loginMfa", "refresh", "confirm", "logout"]);
    assert_eq!(page.browser.run(tokens), in_order_of_use);
    page.says("Not signed in");
    assert_looks_as_before("read", || page.browser.screenshot());
    // What is folded away at first.
    page.find("//*[@class='models-control']").click();
    page.find("//*[contains(@class, 'models is-open')]//*[contains(., 'RegisterRequest')]");
    page.assert_clean(&[]);
}

fn signing_in_on_the_page_opens_a_guarded_call() {
    let page = Page::open();
    page.app.sign_up(ADA);
    page.unfold("Tokens-login");
    let answer = page.execute("Tokens-login", 200);
    assert!(answer.contains("\"access_token\""), "{answer}");
    page.says(&format!("Signed in as {ADA}"));
    assert_looks_as_before("sign-in", || page.showing("Tokens-login"));
    page.unfold("Tokens-login");

    page.unfold("Account-showUser");
    let answer = page.execute("Account-showUser", 200);
    assert!(answer.contains(&format!("\"email\": \"{ADA}\"")), "{answer}");
    assert_looks_as_before("guarded-call", || page.showing("Account-showUser"));
    page.assert_clean(&[]);
}

fn the_page_asks_for_the_code_of_a_second_factor() {
    let page = Page::open();
    let pair = page.app.sign_up(ADA);
    let send = |path: &str, body: &Value| {
        Answer::to(page.app.request(Method::POST, path).bearer_auth(&pair.access).json(body)).expect(200).json()
    };
    let begun = send("/v1/users/me/totp", &json!({ "password": PASSWORD }));
    let authenticator = Authenticator::of(begun["secret"].as_str().unwrap());
    let now = page.app.clock.now().as_seconds();
    send("/v1/users/me/totp/confirm", &json!({ "code": authenticator.code(now, -1) }));
    page.unfold("Tokens-login");
    page.execute("Tokens-login", 401);
    page.says("Type a code of the second factor");
    let enter = |code: &str| {
        page.find("//form[@id='second']//input").paste(code);
        page.find("//form[@id='second']//button").click();
    };
    enter(&authenticator.wrong(now));
    page.says("The code is wrong");
    enter(&authenticator.code(now, 0));
    page.says(&format!("Signed in as {ADA}"));
    page.find("//form[@id='second'][@hidden]");
    page.unfold("Account-showUser");
    let answer = page.execute("Account-showUser", 200);
    assert!(answer.contains("\"mfa\": true"), "{answer}");
    page.assert_clean(&[401]);
}

fn registering_and_signing_out_on_the_page() {
    let page = Page::open();
    page.unfold("Tokens-register");
    page.execute("Tokens-register", 201);
    page.says(&format!("Signed in as {ADA}"));
    page.unfold("Account-showUser");
    assert!(page.execute("Account-showUser", 200).contains(ADA));
    // The refresh token is there already, and the next one after it. The next pair of the same session is still Ada's; the
    // access token it replaces is not sent any more.
    page.unfold("Tokens-refresh");
    let first = page.execute("Tokens-refresh", 200);
    let token =
        |answer: &str| answer.split("\"refresh_token\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let written = |operation: &str| page.find(&format!("{}//textarea", Page::block(operation))).value();
    assert!(written("Tokens-refresh").contains(&token(&first)));
    page.unfold("Tokens-confirm");
    page.execute("Tokens-confirm", 204);
    page.says(&format!("Signed in as {ADA}"));
    page.unfold("Tokens-logout");
    assert!(written("Tokens-logout").contains(&token(&first)));
    page.execute("Tokens-logout", 204);
    page.says("Not signed in");
    assert!(page.execute("Account-showUser", 401).contains("missing_token"));
    page.assert_clean(&[401]);
}

fn a_token_typed_into_the_authorize_dialog_is_used() {
    let page = Page::open();
    let pair = page.app.sign_up(ADA);
    page.find("//button[contains(@class, 'authorize') and contains(., 'Authorize')]").click();
    let dialog = "//*[contains(@class, 'dialog-ux')]";
    let offered = page.find(dialog).text();
    assert!(offered.contains("bearer") && !offered.contains("Cookie (apiKey)"), "{offered}");
    page.find(&format!("{dialog}//input")).paste(&pair.access);
    page.find(&format!("{dialog}//button[contains(@class, 'authorize')]")).click();
    page.says("Signed in: the token goes with every call");
    page.assert_nothing_is_kept();
    assert_looks_as_before("authorize", || page.browser.screenshot());
    page.find(&format!("{dialog}//button[contains(., 'Close')]")).click();
    page.unfold("Account-showUser");
    assert!(page.execute("Account-showUser", 200).contains(ADA));
    page.find("//button[contains(@class, 'authorize') and contains(., 'Authorize')]").click();
    page.find(&format!("{dialog}//button[contains(., 'Logout')]")).click();
    page.says("Not signed in");
    page.assert_clean(&[]);
}

fn signing_in_by_cookie_on_the_page() {
    let page = Page::open();
    page.app.sign_up(ADA);
    let me = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" });
    page.unfold("Tokens-login");
    page.write("Tokens-login", &me);
    let answer = page.execute("Tokens-login", 200);
    assert!(!answer.contains("\"access_token\""), "{answer}");
    page.says(&format!("Signed in as {ADA} by cookie"));
    page.unfold("Account-showUser");
    assert!(page.execute("Account-showUser", 200).contains(ADA));
    // An unsafe method by cookie, from our own page.
    page.unfold("Tokens-logout");
    page.write("Tokens-logout", &json!({}));
    page.execute("Tokens-logout", 204);
    page.says("Not signed in");
    assert!(page.execute("Account-showUser", 401).contains("missing_token"));
    page.assert_clean(&[401]);
}

fn tokens_are_forgotten_with_the_page() {
    let page = Page::open();
    page.app.sign_up(ADA);
    page.unfold("Tokens-login");
    page.execute("Tokens-login", 200);
    page.says("Signed in");
    page.assert_nothing_is_kept();
    page.load();
    page.says("Not signed in");
    page.unfold("Account-showUser");
    assert!(page.execute("Account-showUser", 401).contains("missing_token"));
    page.assert_clean(&[401]);
}

fn the_page_fits_a_telephone_in_the_dark() {
    let page = Page::open_in(View { width: 390, height: 1600, dark: true });
    let (inner, wide) = ("return innerWidth", "return document.documentElement.scrollWidth");
    assert_eq!(page.browser.run(inner), page.browser.run(wide), "it scrolls sideways");
    assert_looks_as_before("telephone", || page.browser.screenshot());
    page.assert_clean(&[]);
}
