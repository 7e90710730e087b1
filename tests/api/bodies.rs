//! What is a body and what is none, whatever the head says of it.

use serde_json::{Value, json};

use crate::framing::{exchange, statuses};
use support::harness::{Answer, Home, PASSWORD, Pair, TestApp};

const ADA: &str = "ada@example.com";
const FORM: &str = "application/x-www-form-urlencoded";

/// Bodies that are none.
const BLANK: [&[u8]; 12] = [
    b"",
    b" ",
    b"\r\n",
    b"\n",
    b" \t\r\n ",
    b"\xef\xbb\xbf",
    b"\xef\xbb\xbf\r\n",
    b"\r\n\xef\xbb\xbf ",
    b"null",
    b" null",
    b"\r\nnull\r\n",
    b"\xef\xbb\xbfnull",
];

/// What clients say the type of a body is that they do not have.
const KINDS: [&[u8]; 9] = [
    b"application/json",
    b"application/json; charset=utf-8",
    b"text/plain;charset=UTF-8",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=x",
    b"application/octet-stream",
    b"text/plain; name=Zo\xc3\xab",
    b"\xff",
    b"",
];

/// One request with a body in one piece, or in chunks.
fn request(line: &str, fields: &[(&str, &[u8])], body: &[u8], chunked: bool) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n").into_bytes();
    for (name, value) in fields {
        request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    if !chunked {
        request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        request.extend(body);
        return request;
    }
    request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    // Each byte in a chunk of its own: what it is must not be decided by the first.
    for byte in body {
        request.extend([b"1\r\n", &[*byte][..], b"\r\n"].concat());
    }
    request.extend(b"0\r\n\r\n");
    request
}

/// Status and body of the answer.
fn send(app: &TestApp, line: &str, fields: &[(&str, &[u8])], body: &[u8], chunked: bool) -> (u16, Value) {
    let answer = exchange(app, &request(line, fields, body, chunked));
    let status = statuses(&answer)[0].parse().unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Every `axios.post(url)`, `fetch` with `body: ''`, `sendBeacon` and form button.
#[test]
fn no_body_means_no_members_whatever_its_type_is_said_to_be() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let bearer = format!("Bearer {}", pair.access);
    let kinds = KINDS.iter().map(|kind| Some(*kind)).chain([None]);
    for kind in kinds {
        for body in BLANK {
            for (encoding, chunked) in [(None, false), (None, true), (Some(&b"gzip"[..]), false), (Some(b"br"), true)] {
                let mut fields = vec![("Authorization", bearer.as_bytes())];
                fields.extend(kind.map(|kind| ("Content-Type", kind)));
                fields.extend(encoding.map(|encoding| ("Content-Encoding", encoding)));
                let (status, answer) = send(&app, "PATCH /v1/users/me", &fields, body, chunked);
                let case = format!("{kind:?} {body:?} {encoding:?} chunked: {chunked}");
                assert_eq!((status, &answer["email"]), (200, &json!(ADA)), "{case}: {answer}");
            }
        }
    }
}

#[test]
fn every_route_takes_no_body_for_no_members() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let live = |pair: &Pair| app.works(&pair.access);
    let cases: [(Option<&str>, &[u8]); 8] = [
        (None, b""),
        (Some("application/json"), b""),
        (Some(FORM), b""),
        (Some("text/plain"), b""),
        (Some("multipart/form-data; boundary=x"), b"\r\n"),
        (Some("application/json"), b"null"),
        (Some("application/json"), b"\xef\xbb\xbf\r\n"),
        (Some("text/plain"), b" null "),
    ];
    for (kind, body) in cases {
        for chunked in [false, true] {
            let case = format!("{kind:?} {body:?} chunked: {chunked}");
            let other = app.log_in(ADA);
            let ask = |line: &str, field: (&str, &str)| {
                let mut fields = vec![(field.0, field.1.as_bytes())];
                fields.extend(kind.map(|kind| ("Content-Type", kind.as_bytes())));
                send(&app, line, &fields, body, chunked)
            };
            let bearer = |pair: &Pair| format!("Bearer {}", pair.access);
            let (own, others) = (bearer(&pair), bearer(&other));

            let (status, answer) = ask("POST /v1/auth/refresh", ("Cookie", &format!("refreshToken={}", other.refresh)));
            assert_eq!((status, answer["token_type"].as_str()), (200, Some("Bearer")), "{case}: {answer}");
            assert_eq!(ask("POST /v1/auth/refresh/confirm", ("Authorization", &own)).0, 204, "{case}");
            let (status, answer) = ask("DELETE /v1/sessions?scope=others", ("Authorization", &own));
            assert_eq!((status, &answer), (200, &json!({ "revoked": 1 })), "{case}");
            assert!(!live(&other), "{case}");

            let other = app.log_in(ADA);
            let path = format!("DELETE /v1/sessions/{}", other.session_id);
            assert_eq!(ask(&path, ("Authorization", &own)).0, 204, "{case}");
            let other = app.log_in(ADA);
            assert_eq!(ask("POST /v1/auth/logout", ("Authorization", &bearer(&other))).0, 204, "{case}");
            assert!(!live(&other), "{case}");
            let other = app.log_in(ADA);
            let cookie = format!("refreshToken={}", other.refresh);
            assert_eq!(ask("POST /v1/auth/logout", ("Cookie", &cookie)).0, 204, "{case}");
            assert!(!live(&other), "{case}");

            // Where a member is needed, it is named.
            for (line, member) in [
                ("POST /v1/auth/register", "email"),
                ("POST /v1/auth/login", "email"),
                ("POST /v1/auth/refresh", "refresh_token"),
                ("POST /v1/users/me/password", "current_password"),
                ("DELETE /v1/users/me", "password"),
            ] {
                let (status, answer) = ask(line, ("Authorization", &own));
                assert_eq!((status, &answer["code"]), (400, &json!("invalid_request")), "{line} {case}: {answer}");
                assert_eq!(answer["errors"][0]["field"], member, "{line} {case}: {answer}");
            }
            assert!(live(&pair) && !live(&Pair { access: others.replace("Bearer ", ""), ..other }), "{case}");
        }
    }
}

#[test]
fn a_body_that_is_there_must_be_json_without_a_coding() {
    let app = TestApp::start(&Home::new());
    app.sign_up(ADA);
    let credentials = json!({ "email": ADA, "password": PASSWORD }).to_string();
    let marked = format!("\u{feff}{credentials}");
    let json = Some("application/json");
    for (kind, encoding, body, status) in [
        (json, None, credentials.as_str(), 200),
        (json, None, &marked, 200),
        (json, None, &format!("\r\n{marked}\r\n"), 200),
        (Some("application/json; name=Zo\u{eb}"), None, &credentials, 200),
        (json, Some("identity"), &credentials, 200),
        (json, Some("gzip"), &credentials, 415),
        (json, Some("identity, gzip"), &credentials, 415),
        (json, Some("\u{eb}"), &credentials, 415),
        (Some("text/plain"), None, &credentials, 415),
        (Some("text/plain"), None, "nul", 415),
        (Some("text/plain"), None, "nullx", 415),
        (Some("text/plain"), None, "null null", 415),
        (Some(FORM), None, "a=b", 415),
        (None, None, "{}", 415),
        (json, None, "{}", 400),
        (json, None, "nul", 400),
        (json, None, "NULL", 400),
        (json, None, "[]", 400),
        (json, None, "\u{feff}\u{feff}{}", 400),
    ] {
        for chunked in [false, true] {
            let mut fields: Vec<(&str, &[u8])> = Vec::new();
            fields.extend(kind.map(|kind| ("Content-Type", kind.as_bytes())));
            fields.extend(encoding.map(|encoding| ("Content-Encoding", encoding.as_bytes())));
            let (answered, answer) = send(&app, "POST /v1/auth/login", &fields, body.as_bytes(), chunked);
            assert_eq!(answered, status, "{kind:?} {encoding:?} {body:?} chunked: {chunked}: {answer}");
        }
    }
}

/// A `PATCH` that ignored what it cannot do would look like one that has done it. Elsewhere what is unknown is ignored.
#[test]
fn a_member_that_a_patch_cannot_change_is_named() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let patch = |body: &Value| {
        Answer::to(app.request(reqwest::Method::PATCH, "/v1/users/me").bearer_auth(&pair.access).json(body))
    };
    for (body, named) in [
        (json!({ "email": "eve@example.com" }), vec!["email"]),
        (json!({ "email": null }), vec!["email"]),
        (json!({ "name": "Eve", "roles": ["admin"] }), vec!["roles"]),
        (json!({ "name": "Eve", "nmae": "Eve", "id": "x", "password": "y" }), vec!["id", "nmae", "password"]),
        (json!({ "email_verified": true, "created_at": 0, "mfa": false }), vec!["created_at", "email_verified", "mfa"]),
        (json!({ "Name": "Eve" }), vec!["Name"]),
        (json!({ "": 1 }), vec![""]),
        (json!({ "\u{202e}<script>": 1 }), vec!["\u{202e}<script>"]),
    ] {
        let answer = patch(&body).expect_error(422, "validation_failed").json();
        let errors = answer["errors"].as_array().unwrap();
        let fields: Vec<&str> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!(fields, named, "{body}");
        assert!(errors.iter().all(|error| !error["message"].as_str().unwrap().is_empty()), "{body}");
    }
    let me = app.get_as("/v1/users/me", &pair.access).expect(200).json();
    assert_eq!((&me["name"], &me["email"], &me["roles"]), (&Value::Null, &json!(ADA), &json!([])));
    // However many there are and however long they are, the answer stays short.
    let many: serde_json::Map<_, _> = (0..1_500).map(|n| (format!("member{n:020}"), Value::Null)).collect();
    let long = json!({ ("x".repeat(60_000)): 1 });
    for body in [Value::Object(many), long] {
        assert!(patch(&body).expect_error(422, "validation_failed").text.len() < 16_000);
    }
    let login = json!({ "email": ADA, "password": PASSWORD, "nmae": "Eve", "roles": [] });
    app.post("/v1/auth/login", &login).expect(200);
}
