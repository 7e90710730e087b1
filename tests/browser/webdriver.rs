//! A real Chromium, driven over the WebDriver protocol (W3C), which chromedriver speaks.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the browser waits for an element to appear, in milliseconds.
const PATIENCE: u64 = 60_000;
/// How an element is called in answers (W3C WebDriver section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What pages are written in here: pictures are compared.
const FONT: &str = "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf";

/// The programs a browser test needs, or what of that is not there.
pub fn installed() -> Result<[PathBuf; 2], String> {
    if !Path::new(FONT).is_file() {
        return Err(format!("{FONT} is not installed"));
    }
    let find = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
        found.ok_or_else(|| format!("{name} is not installed"))
    };
    Ok([find("chromedriver")?, find("chromium")?])
}

/// How a page is looked at: size in pixels, and whether in the dark.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

/// A browser that has never been used. Dropping it closes everything.
pub struct Browser {
    driver: Child,
    http: Client,
    /// Empty before there is one.
    session: String,
    _profile: TempDir,
}

impl Browser {
    pub fn open(view: View) -> Self {
        Self::open_with(view, &[])
    }

    /// With more arguments for Chromium.
    pub fn open_with(view: View, more: &[&str]) -> Self {
        let [driver, chromium] = installed().unwrap();
        let profile = tempfile::tempdir().unwrap();
        let fonts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/fonts.conf");
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .env("FONTCONFIG_FILE", fonts)
            .env("XDG_CACHE_HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                line.ok()?.split_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("chromedriver says where it listens");
        // Whatever it says later goes nowhere, but is read, so that it can go on.
        std::thread::spawn(move || lines.for_each(drop));
        let http = Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        let mut browser = Self { driver, http, session: String::new(), _profile: profile };
        let mut arguments = vec![
            "--headless".to_owned(),
            "--disable-gpu".into(),
            "--disable-quic".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            // The same picture everywhere.
            "--hide-scrollbars".into(),
            "--force-color-profile=srgb".into(),
            format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox".into());
        }
        let options = json!({
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": chromium, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "implicit": PATIENCE, "pageLoad": 2 * PATIENCE, "script": PATIENCE },
        });
        let created = browser.send_to(
            &format!("http://127.0.0.1:{port}/session"),
            Method::POST,
            json!({ "capabilities": { "alwaysMatch": options } }),
        );
        let id = created["sessionId"].as_str().expect("a session");
        browser.session = format!("http://127.0.0.1:{port}/session/{id}");
        let View { width, height, dark } = view;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        browser.devtools("Emulation.setEmulatedMedia", json!({ "features": [scheme] }));
        browser
    }

    /// Loads a page.
    #[track_caller]
    pub fn go(&self, url: &str) {
        self.post("url", json!({ "url": url }));
    }

    /// The first element that an XPath finds, once there is one.
    #[track_caller]
    pub fn find(&self, xpath: &str) -> Element<'_> {
        let found = self.post("element", json!({ "using": "xpath", "value": xpath }));
        Element { browser: self, path: format!("element/{}", found[ELEMENT].as_str().unwrap()) }
    }

    /// Every cookie of the browser, wherever it would be sent.
    #[track_caller]
    pub fn cookies(&self) -> Vec<Value> {
        let all = self.post("goog/cdp/execute", json!({ "cmd": "Network.getAllCookies", "params": {} }));
        all["cookies"].as_array().unwrap().clone()
    }

    /// Runs a function's body in the page; where it returns a promise, what that comes to.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] }))
    }

    /// What the window shows, as PNG.
    #[track_caller]
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.send(Method::GET, "screenshot", Value::Null);
        STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    /// What the console says at level `SEVERE`: errors of scripts, refused requests, breaches of the policy.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("se/log", json!({ "type": "browser" }));
        let severe = entries.as_array().unwrap().iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Every address that was asked for since the browser was opened.
    #[track_caller]
    pub fn requested(&self) -> Vec<String> {
        let entries = self.post("se/log", json!({ "type": "performance" }));
        let messages = entries.as_array().unwrap().iter().map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            message["message"].clone()
        });
        let sent = messages.filter(|message| message["method"] == "Network.requestWillBeSent");
        sent.map(|message| message["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether pages that are loaded from now on may run scripts.
    #[track_caller]
    pub fn allow_scripts(&self, allowed: bool) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed }));
    }

    /// What WebDriver cannot say, in Chromium's own protocol.
    #[track_caller]
    fn devtools(&self, command: &str, parameters: Value) {
        self.post("goog/cdp/execute", json!({ "cmd": command, "params": parameters }));
    }

    #[track_caller]
    fn post(&self, command: &str, body: Value) -> Value {
        self.send(Method::POST, command, body)
    }

    #[track_caller]
    fn send(&self, method: Method, command: &str, body: Value) -> Value {
        self.send_to(&format!("{}/{command}", self.session), method, body)
    }

    #[track_caller]
    fn send_to(&self, url: &str, method: Method, body: Value) -> Value {
        let mut request = self.http.request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().unwrap();
        let fine = response.status().is_success();
        let mut answer: Value = response.json().unwrap();
        assert!(fine, "{}: {body}", answer["value"]["message"]);
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.http.delete(&self.session).send();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Something on the page.
pub struct Element<'b> {
    browser: &'b Browser,
    path: String,
}

impl Element<'_> {
    /// A click in the middle of it, with it in the middle of the window: not under what stays at the top.
    #[track_caller]
    pub fn click(&self) {
        self.run("arguments[0].scrollIntoView({ block: 'center' })", Value::Null);
        self.browser.post(&format!("{}/click", self.path), json!({}));
    }

    /// Puts a text into a field, as pasting it would: tokens are long, and typed keys slow.
    #[track_caller]
    pub fn paste(&self, text: &str) {
        let script = "const [field, text] = arguments;
            Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, text);
            field.dispatchEvent(new Event('input', { bubbles: true }))";
        self.run(script, text.into());
    }

    /// Types a text, key by key.
    #[track_caller]
    pub fn write(&self, text: &str) {
        self.browser.post(&format!("{}/value", self.path), json!({ "text": text }));
    }

    /// Runs a function's body with this element and something else.
    #[track_caller]
    fn run(&self, script: &str, more: Value) {
        let (_, id) = self.path.split_once('/').unwrap();
        self.browser.post("execute/sync", json!({ "script": script, "args": [{ ELEMENT: id }, more] }));
    }

    /// What a field holds.
    #[track_caller]
    pub fn value(&self) -> String {
        let value = self.browser.send(Method::GET, &format!("{}/property/value", self.path), Value::Null);
        value.as_str().unwrap().to_owned()
    }

    /// What of its text is visible.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = self.browser.send(Method::GET, &format!("{}/text", self.path), Value::Null);
        text.as_str().unwrap().to_owned()
    }
}
