//! The pages that links in mails lead to, on a narrow telephone.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::ADA;
use super::webdriver::{Browser, View};
use support::harness::{Answer, Home, PASSWORD, TestApp, clock, with_mail};
use support::mailbox::Mailbox;

const NEW: &str = "ada@example.org";
const NEW_PASSWORD: &str = "staple after staple";

/// Every element with text of its own whose contrast with what is behind it is below 4.5 (WCAG 2.2, 1.4.3).
const FAINT: &str = "
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => {
        const [r, g, b] = channels(color).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return channels(color)[3] === 0 ? behind(element.parentElement) : color;
    };
    return [...document.querySelectorAll('h1, p, label, input:not([type=hidden]), button')].flatMap((element) => {
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        return contrast < 4.5 ? [[element.outerHTML, contrast]] : [];
    });";

pub fn they_work_without_script_in_the_light() {
    Person::new(false, false).goes_through_all();
}

pub fn they_work_with_script_in_the_dark() {
    Person::new(true, true).goes_through_all();
}

/// A person with a telephone and a mailbox.
struct Person {
    app: TestApp,
    mailbox: Mailbox,
    browser: Browser,
    scripts: bool,
    dark: bool,
    _home: Home,
}

impl Person {
    fn new(scripts: bool, dark: bool) -> Self {
        let home = Home::new();
        let config = with_mail(&home).with("registration.verify_email", "required");
        let mailbox = Mailbox::new(&home.path().join("mail"));
        let browser = Browser::open(View { width: 320, height: 640, dark });
        Self { app: TestApp::start_with(config, clock()), mailbox, browser, scripts, dark, _home: home }
    }

    fn goes_through_all(mut self) {
        // Registered twice before the proof: the page asks for the password.
        for password in ["password of the thief", PASSWORD] {
            self.app.post("/v1/auth/register", &json!({ "email": ADA, "password": password })).expect(202);
        }
        let token = self.mailbox.wait_for(2).into_iter().map(|mail| mail.token()).find(|token| {
            self.app.get(&format!("/account/verify?token={token}")).send().unwrap().status().is_success()
        });
        self.open("verify", &token.unwrap(), "Confirm your e-mail address", "contested");
        assert_eq!(self.browser.find("//input[@id='email']").value(), ADA);
        self.types(PASSWORD);
        self.presses("Address confirmed", "confirmed");
        let notice = self.mailbox.receive();
        assert!(notice.text.contains("password was changed"), "{}", notice.text);

        // An address that is registered once.
        let bob = json!({ "email": "bob@example.com", "password": PASSWORD });
        self.app.post("/v1/auth/register", &bob).expect(202);
        let token = self.mailbox.receive().token();
        self.open("verify", &token, "Confirm your e-mail address", "verify");
        self.presses("Address confirmed", "confirmed");

        self.app.post("/v1/auth/password/forgot", &json!({ "email": ADA })).expect(202);
        let token = self.mailbox.receive().token();
        self.open("reset", &token, "Set a new password", "reset");
        assert_eq!(self.browser.find("//input[@id='email']").value(), ADA);
        self.types("short");
        self.browser.find("//button").click();
        let alert = self.browser.find("//*[@role='alert']").text();
        assert!(alert.starts_with("The password must"), "{alert}");
        self.looks("reset-short");
        self.types(NEW_PASSWORD);
        self.presses("Password changed", "reset-done");
        let notice = self.mailbox.receive();
        assert!(notice.text.contains("password was changed"), "{}", notice.text);
        self.open("reset", &token, "This link is not valid", "reset-used");
        let me = json!({ "email": ADA, "password": NEW_PASSWORD });
        let pair = self.app.post("/v1/auth/login", &me).expect(200).pair();

        let body = json!({ "email": NEW, "password": NEW_PASSWORD });
        let request = self.app.request(Method::POST, "/v1/users/me/email").bearer_auth(&pair.access);
        Answer::to(request.json(&body)).expect(202);
        let token = self.mailbox.receive().token();
        self.open("verify", &token, "Confirm your e-mail address", "change");
        self.presses("Address confirmed", "confirmed");
        let token = self.mailbox.receive().token();
        self.open("undo", &token, "Undo the change of address", "undo");
        self.presses("Change undone", "undone");
        self.open("undo", &token, "This link is not valid", "undo-used");

        let mut complaints = self.browser.complaints();
        complaints.retain(|text| !["a status of 400", "a status of 422"].iter().any(|status| text.contains(status)));
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    #[track_caller]
    fn open(&self, page: &str, token: &str, title: &str, name: &str) {
        self.browser.allow_scripts(self.scripts);
        self.browser.go(&self.app.url(&format!("/account/{page}?token={token}")));
        self.browser.find(&format!("//h1[.='{title}']"));
        self.looks(name);
    }

    fn types(&self, password: &str) {
        self.browser.find("//input[@id='password']").write(password);
    }

    #[track_caller]
    fn presses(&self, title: &str, name: &str) {
        self.browser.find("//button").click();
        self.browser.find(&format!("//h1[.='{title}']"));
        self.looks(name);
    }

    /// It fits the window and can be read. A picture is in `target/screenshots`, for people.
    #[track_caller]
    fn looks(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let shade = if self.dark { "dark" } else { "light" };
        std::fs::write(folder.join(format!("account-{name}-{shade}.png")), self.browser.screenshot()).unwrap();
        // The test's own scripts measure the page, which was loaded without.
        self.browser.allow_scripts(true);
        let wide = self.browser.run("return document.documentElement.scrollWidth");
        let faint = self.browser.run(FAINT);
        self.browser.allow_scripts(self.scripts);
        assert!(wide.as_u64().unwrap() <= 320, "{name} is {wide} pixels wide");
        assert_eq!(faint, Value::Array(Vec::new()), "{name}");
    }
}
