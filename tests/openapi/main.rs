//! The OpenAPI document: it is what the server answers, route by route and answer by answer.

#![cfg(feature = "sqlite")] // its server has the embedded database
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail anywhere")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use jsonschema::{Draft, Validator};
use reqwest::Method;
use serde_json::{Map, Value, json};

use support::harness::{Answer, Home, PASSWORD, TestApp, clock, with_mail};
use support::mailbox::Mailbox;

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "head", "trace"];
/// Headers of every HTTP answer, which no document describes. Any other is there only if the document says so.
const FRAMING: [&str; 4] = ["content-type", "content-length", "date", "connection"];

/// The document of a running server.
struct Document(Value);

impl Document {
    fn of(app: &TestApp) -> Self {
        Self(Answer::to(app.get("/openapi.json")).expect(200).json())
    }

    /// Every path with its operations.
    fn paths(&self) -> impl Iterator<Item = (&str, Vec<(Method, &Value)>)> {
        self.0["paths"].as_object().unwrap().iter().map(|(path, item)| {
            let operations = item.as_object().unwrap().iter().filter(|(name, _)| METHODS.contains(&name.as_str()));
            let operations = operations.map(|(name, operation)| (name.to_uppercase().parse().unwrap(), operation));
            (path.as_str(), operations.collect())
        })
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        operation
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).expect("what is referred to exists"),
            None => value,
        }
    }

    /// A validator that allows no member which the schema does not name.
    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        close(&mut schema);
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{error} in {schema}"))
    }

    #[track_caller]
    fn assert_valid(&self, schema: &Value, value: &Value) {
        let errors: Vec<_> = self.validator(schema).iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}\n{value}\n{schema}");
    }

    /// Fails unless the answer is one that the document describes for this status itself.
    #[track_caller]
    fn describes(&self, method: &str, path: &str, answer: Answer) -> Answer {
        let responses = &self.operation(method, path)["responses"];
        let described = &responses[answer.status.to_string()];
        assert!(described.is_object(), "{method} {path} answers {}, which is not described", answer.status);
        self.matches(described, &answer);
        answer
    }

    #[track_caller]
    fn matches(&self, described: &Value, answer: &Answer) {
        let described = self.resolve(described);
        let nothing = Map::new();
        let headers = described["headers"].as_object().unwrap_or(&nothing);
        for (name, header) in headers {
            let header = self.resolve(header);
            match answer.header(name) {
                None => assert_ne!(header["required"], true, "{name} is missing"),
                Some(text) if header["schema"]["type"] == "integer" => {
                    self.assert_valid(&header["schema"], &text.parse::<u64>().unwrap().into());
                }
                Some(text) => self.assert_valid(&header["schema"], &text.into()),
            }
        }
        let names: Vec<_> = headers.keys().map(|name| name.to_lowercase()).collect();
        for name in answer.headers.keys().map(|name| name.as_str()).filter(|name| !FRAMING.contains(name)) {
            assert!(names.iter().any(|known| known == name), "{name} is not described for {}", answer.text);
        }
        match described["content"].as_object() {
            None => assert_eq!(answer.text, ""),
            Some(content) => {
                let kind = answer.header("Content-Type").unwrap();
                let media = content.get(kind).unwrap_or_else(|| panic!("{kind} is not described"));
                let json = kind.contains("json");
                self.assert_valid(&media["schema"], &if json { answer.json() } else { answer.text.clone().into() });
            }
        }
    }
}

/// Forbids members that are not named. The schemas themselves do not: more may be answered one day.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.get("type") == Some(&"object".into()) && members.contains_key("properties") {
                // The document is only sketched.
                let sketched = members["properties"].get("openapi").is_some();
                members.insert("additionalProperties".into(), sketched.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn concrete(path: &str) -> String {
    path.replace("{id}", "0198e4a0-11f3-7a42-8b5c-3f9e7d2a6c14")
}

fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_described_method_is_answered_and_no_other() {
    let home = Home::new();
    let app = TestApp::start_with(with_mail(&home), clock());
    let document = Document::of(&app);
    for (path, operations) in document.paths() {
        let mut methods = BTreeSet::new();
        for (method, _) in operations {
            let answer = Answer::to(app.request(method.clone(), &concrete(path)));
            assert!(![404, 405].contains(&answer.status), "{method} {path}: {}", answer.status);
            if method == Method::GET {
                let head = Answer::to(app.request(Method::HEAD, &concrete(path)));
                assert_eq!((head.status, head.text.as_str()), (answer.status, ""), "HEAD {path}");
                methods.insert("HEAD".to_owned());
            }
            methods.insert(method.to_string());
        }
        let refused = Answer::to(app.request(Method::PUT, &concrete(path))).expect_error(405, "method_not_allowed");
        assert_eq!(set(refused.header("Allow").unwrap().split(", ")), methods, "{path}");
        document.matches(&json!({ "$ref": "#/components/responses/Problem" }), &refused);
    }
}

#[test]
fn every_example_is_valid() {
    let home = Home::new();
    let document = Document::of(&TestApp::start(&home));
    let mut checked = 0;
    let mut media = Vec::new();
    for (_, operations) in document.paths() {
        for (_, operation) in operations {
            media.extend(operation["requestBody"]["content"].as_object().into_iter().flat_map(Map::values));
            for response in operation["responses"].as_object().unwrap().values() {
                let response = document.resolve(response);
                media.extend(response["content"].as_object().into_iter().flat_map(Map::values));
            }
        }
    }
    for media in media {
        let several = media["examples"].as_object().into_iter().flat_map(Map::values);
        let examples = several.map(|example| &document.resolve(example)["value"]).chain(media.get("example"));
        for example in examples {
            document.assert_valid(&media["schema"], example);
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn real_answers_are_as_described() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let document = Document::of(&app);
    let send = |method: &str, path: &str, query: &str, token: Option<&str>, body: Option<&Value>| {
        let url = format!("{}{query}", concrete(path));
        let mut request = app.request(method.parse().unwrap(), &url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        document.describes(method, path, Answer::to(request))
    };
    let post = |path: &str, body: &Value| send("POST", path, "", None, Some(body));

    let register = "/v1/auth/register";
    let example = &document.operation("POST", register)["requestBody"]["content"]["application/json"]["example"];
    let first = post(register, example).expect(201).pair();
    post(register, example).expect_error(409, "email_taken");
    post(register, &json!({ "email": "jürgen@example.com", "password": PASSWORD })).expect(201);
    post(register, &json!({ "email": "ada" })).expect_error(400, "invalid_request");
    post(register, &json!({ "email": "ada", "password": "short" })).expect_error(422, "validation_failed");

    let login = "/v1/auth/login";
    let credentials = json!({ "email": "ada@example.com", "password": PASSWORD });
    let other = post(login, &credentials).expect(200).pair();
    post(login, &json!({ "email": "ada@example.com", "password": "another" })).expect_error(401, "invalid_credentials");
    let mut by_cookie = credentials.clone();
    by_cookie["transport"] = "cookie".into();
    let by_cookie = post(login, &by_cookie).expect(200);
    assert!(by_cookie.json().get("access_token").is_none());
    assert!(by_cookie.header("Set-Cookie").is_some());

    let refresh = "/v1/auth/refresh";
    let second = post(refresh, &json!({ "refresh_token": first.refresh })).expect(200).pair();
    post(refresh, &json!({ "refresh_token": "nonsense" })).expect_refused("malformed");
    post(refresh, &json!({})).expect_error(400, "invalid_request");
    let plain = app.request(Method::POST, refresh).header("Content-Type", "text/plain").body("token");
    document.describes("POST", refresh, Answer::to(plain)).expect_error(415, "unsupported_media_type");
    let huge = app.request(Method::POST, refresh).json(&json!({ "refresh_token": "x".repeat(70_000) }));
    document.describes("POST", refresh, Answer::to(huge)).expect_error(413, "payload_too_large");
    // By cookie: a browser cannot throw its tokens away by itself, and another site's page must not act.
    let cookies = app.request(Method::POST, refresh).header("Cookie", "refreshToken=nonsense");
    let cleared = document.describes("POST", refresh, Answer::to(cookies)).expect_error(400, "invalid_grant");
    assert!(cleared.header("Set-Cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")));
    let foreign = app.request(Method::POST, refresh).header("Cookie", "refreshToken=nonsense");
    let foreign = foreign.header("Sec-Fetch-Site", "cross-site");
    document.describes("POST", refresh, Answer::to(foreign)).expect_error(403, "cross_site");

    let confirm = "/v1/auth/refresh/confirm";
    send("POST", confirm, "", Some(&second.access), None).expect(204);
    let third = post(refresh, &json!({ "refresh_token": second.refresh })).expect(200).pair();
    send("POST", confirm, "", Some(&third.access), None).expect(204);
    send("POST", confirm, "", Some(&second.access), None).expect_error(409, "refresh_conflict");

    let me = "/v1/users/me";
    let access = Some(third.access.as_str());
    send("GET", me, "", access, None).expect(200);
    send("GET", me, "", None, None).expect_error(401, "missing_token");
    send("GET", me, "", Some("nonsense"), None).expect_error(401, "invalid_token");
    send("PATCH", me, "", access, Some(&json!({ "name": null }))).expect(200);
    send("PATCH", me, "", access, Some(&json!({ "name": "" }))).expect_error(422, "validation_failed");
    let passwords = json!({ "current_password": "another", "new_password": "staple after staple" });
    send("POST", "/v1/users/me/password", "", access, Some(&passwords)).expect_error(403, "invalid_credentials");
    let passwords = json!({ "current_password": PASSWORD, "new_password": PASSWORD });

    let sessions = "/v1/sessions";
    let listed = send("GET", sessions, "", access, None).expect(200);
    assert_eq!(listed.json()["sessions"].as_array().unwrap().len(), 3);
    send("DELETE", sessions, "", access, None).expect_error(400, "invalid_request");
    send("DELETE", "/v1/sessions/{id}", "", access, None).expect_error(404, "not_found");
    let one = app.request(Method::DELETE, &format!("{sessions}/{}", other.session_id)).bearer_auth(&third.access);
    document.describes("DELETE", "/v1/sessions/{id}", Answer::to(one)).expect(204);
    let ended = send("DELETE", sessions, "?scope=others", access, None).expect(200);
    assert_eq!(ended.json()["revoked"], 1);
    send("POST", "/v1/users/me/password", "", access, Some(&passwords)).expect(204);

    post("/v1/auth/logout", &json!({ "refresh_token": third.refresh })).expect(204);
    post("/v1/auth/logout", &json!({})).expect_error(401, "missing_token");
    post(refresh, &json!({ "refresh_token": third.refresh })).expect_refused("revoked");
    let last = post(login, &credentials).expect(200).pair();
    send("DELETE", me, "", Some(&last.access), Some(&json!({ "password": "x" })))
        .expect_error(403, "invalid_credentials");
    send("DELETE", me, "", Some(&last.access), Some(&json!({ "password": PASSWORD }))).expect(204);

    for path in ["/.well-known/jwks.json", "/health/live", "/health/ready", "/openapi.json", "/docs"] {
        send("GET", path, "", None, None).expect(200);
    }
    let client = reqwest::blocking::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    document.describes("GET", "/", Answer::to(client.get(app.url("/")))).expect(303);
    let unknown = Answer::to(app.get("/v1/nowhere")).expect_error(404, "not_found");
    document.matches(&json!({ "$ref": "#/components/responses/Problem" }), &unknown);
}

/// The routes and pages that a mail leads to.
#[test]
fn answers_about_mails_are_as_described() {
    let home = Home::new();
    let app = TestApp::start_with(with_mail(&home), clock());
    let (document, mut mailbox) = (Document::of(&app), Mailbox::new(&home.path().join("mail")));
    let post = |path: &str, access: Option<&str>, body: &Value| {
        let request = app.request(Method::POST, path).json(body);
        let request = if let Some(access) = access { request.bearer_auth(access) } else { request };
        document.describes("POST", path, Answer::to(request))
    };
    let page = |path: &str, token: &str| {
        document.describes("GET", path, Answer::to(app.get(&format!("{path}?token={token}"))))
    };
    let press = |path: &str, token: &str, password: &str| {
        let form = [("token", token), ("new_password", password)];
        document.describes("POST", path, Answer::to(app.request(Method::POST, path).form(&form)))
    };
    let pair = app.sign_up("ada@example.com");
    let access = Some(pair.access.as_str());
    mailbox.receive();
    post("/v1/users/me/email/verification", access, &json!({})).expect(202);
    post("/v1/users/me/email/verification", None, &json!({})).expect_error(401, "missing_token");
    let token = mailbox.receive().token();
    post("/v1/auth/email/verify", None, &json!({ "token": "wrong" })).expect_error(400, "invalid_code");
    post("/v1/auth/email/verify", None, &json!({ "token": token })).expect(204);
    post("/v1/auth/email/verify", None, &json!({})).expect_error(400, "invalid_request");

    post("/v1/auth/password/forgot", None, &json!({ "email": "ada@example.com" })).expect(202);
    let token = mailbox.receive().token();
    page("/account/reset", &token).expect(200);
    page("/account/reset", "wrong").expect(400);
    press("/account/reset", &token, "short").expect(422);
    let body = json!({ "token": token, "new_password": "short" });
    post("/v1/auth/password/reset", None, &body).expect_error(422, "validation_failed");

    let change = |email: &str, password: &str| {
        post("/v1/users/me/email", access, &json!({ "email": email, "password": password }))
    };
    change("ada@example.org", "another").expect_error(403, "invalid_credentials");
    change("no address", PASSWORD).expect_error(422, "validation_failed");
    app.sign_up("bob@example.com");
    mailbox.receive();
    change("bob@example.com", PASSWORD).expect(202);
    let token = mailbox.receive().token();
    page("/account/verify", &token).expect(200);
    press("/account/verify", &token, "").expect(409);
    change("ada@example.org", PASSWORD).expect(202);
    press("/account/verify", &mailbox.receive().token(), "").expect(200);
    let token = mailbox.receive().token();
    page("/account/undo", &token).expect(200);
    post("/v1/auth/email/undo", None, &json!({ "token": "wrong" })).expect_error(400, "invalid_code");
    post("/v1/auth/email/undo", None, &json!({ "token": token })).expect(204);
    page("/account/undo", &token).expect(400);
    press("/account/undo", &token, "").expect(400);
    let token = mailbox.receive().token();
    post("/v1/auth/password/reset", None, &json!({ "token": token, "new_password": PASSWORD })).expect(204);
}

#[test]
fn it_is_served_like_every_other_answer() {
    let home = Home::new();
    let answer = Answer::to(TestApp::start(&home).get("/openapi.json").header("X-Request-Id", "abc")).expect(200);
    for (name, value) in [
        ("Content-Type", "application/json"),
        ("Cache-Control", "public, max-age=300"),
        ("X-Request-Id", "abc"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
}

/// `UPDATE_SNAPSHOT=1 cargo test --test openapi` accepts a change.
#[test]
fn it_is_the_committed_document() {
    let printed = Command::new(env!("CARGO_BIN_EXE_countersign")).arg("openapi").output().unwrap();
    assert!(printed.status.success());
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let home = Home::new();
    assert_eq!(printed, Document::of(&TestApp::start(&home)).0, "the command and the server differ");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&printed).unwrap() + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(printed, committed, "accept the change with UPDATE_SNAPSHOT=1");
}
