//! What standards ask for and no other file is about. Which row is held by which test: `docs/standards.md`.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::Countersign;
use countersign::config::RawConfig;
use reqwest::Method;
use serde_json::{Value, json};

use support::harness::{
    Answer, Home, PASSWORD, TestApp, clock, config, in_database, number_in_database, text_in_database,
};

const ADA: &str = "ada@example.com";

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// TOK-03. One body for each reason, to the byte, whatever was wrong in particular.
#[test]
fn an_unusable_refresh_token_is_an_invalid_grant_with_its_reason() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let refuse = |token: &str, reason: &str| {
        let request = app.request(Method::POST, "/v1/auth/refresh").header("X-Request-Id", "same");
        let answer = Answer::to(request.json(&json!({ "refresh_token": token })));
        let answer = answer.expect_error(400, "invalid_grant");
        assert_eq!(answer.json()["reason"], reason);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        answer.text
    };
    let all_same = |answers: Vec<String>| {
        assert!(answers.len() > 1 && answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    };
    let first = app.sign_up(ADA);
    let (message, signature) = first.refresh.rsplit_once('.').unwrap();
    let elsewhere = Home::new();
    let other_secret = "a-secret-that-no-other-server-has-0123456789";
    let other_server = TestApp::start_with(config(&elsewhere).with("tokens.refresh_secret", other_secret), clock());
    let foreign = other_server.sign_up(ADA);
    let worthless = [
        "x",
        "a.b.c",
        message,
        &format!("{message}."),
        &format!("{signature}.{message}"),
        &first.access,
        &foreign.refresh,
    ];
    all_same(worthless.iter().map(|token| refuse(token, "malformed")).collect());

    let ended = app.log_in(ADA);
    app.post("/v1/auth/logout", &json!({ "refresh_token": ended.refresh })).expect(204);
    let forgotten = app.log_in(ADA);
    in_database(&home, "DELETE FROM sessions WHERE revoked_at IS NOT NULL");
    let revoked = app.log_in(ADA);
    app.post("/v1/auth/logout", &json!({ "refresh_token": revoked.refresh })).expect(204);
    all_same([&ended, &revoked].map(|pair| refuse(&pair.refresh, "revoked")).to_vec());

    let second = app.refresh(&forgotten.refresh).expect(200).pair();
    let third = app.refresh(&second.refresh).expect(200).pair();
    app.pass(Duration::from_secs(3600));
    refuse(&forgotten.refresh, "reused");
    all_same([&second, &third].map(|pair| refuse(&pair.refresh, "revoked")).to_vec());

    app.pass(Duration::from_secs(30 * 24 * 3600));
    all_same(vec![refuse(&first.refresh, "expired"), refuse(&first.refresh, "expired")]);
}

/// TOK-04, LOG-13. A reader of the first of two fields and a reader of the last see different requests.
#[test]
fn a_body_that_names_a_member_twice_is_a_400_and_uses_nothing() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    let other = app.log_in(ADA);
    let post = |path: &str, body: String| {
        Answer::to(app.request(Method::POST, path).header("Content-Type", "application/json").body(body))
    };
    let (one, two) = (&pair.refresh, &other.refresh);
    for (path, body) in [
        ("/v1/auth/refresh", format!(r#"{{"refresh_token":"{one}","refresh_token":"{two}"}}"#)),
        ("/v1/auth/refresh", format!(r#"{{"refresh_token":"{one}","refresh_token":"{one}"}}"#)),
        ("/v1/auth/refresh", format!(r#"{{"refresh_token":"{one}","refr\u0065sh_token":"{two}"}}"#)),
        ("/v1/auth/refresh", format!(r#"{{"refresh_token":"{one}","x":1,"x":2}}"#)),
        ("/v1/auth/login", format!(r#"{{"email":"eve@example.com","password":"{PASSWORD}","email":"{ADA}"}}"#)),
        ("/v1/auth/logout", format!(r#"{{"refresh_token":"{one}","refresh_token":null}}"#)),
    ] {
        let answer = post(path, body).expect_error(400, "invalid_request");
        assert_eq!(answer.json()["detail"], "The body names a field twice.");
    }
    // Only the members of the body itself are looked at, and both spellings are two members.
    post("/v1/auth/refresh", format!(r#"{{"refresh_token":"{one}","x":{{"y":1,"y":2}}}}"#)).expect(200);
    post("/v1/auth/refresh", format!(r#"{{"refresh_token":"{two}","refreshToken":"{two}"}}"#)).expect(200);
}

/// BRR-04. RFC 6750 section 2.2 and 2.3 are not supported.
#[test]
fn an_access_token_in_a_body_is_no_credential() {
    let app = TestApp::start(&Home::new());
    let pair = app.sign_up(ADA);
    for (method, path) in [(Method::POST, "/v1/auth/refresh/confirm"), (Method::DELETE, "/v1/users/me")] {
        let form = app.request(method.clone(), path).header("Content-Type", "application/x-www-form-urlencoded");
        Answer::to(form.body(format!("access_token={}", pair.access))).expect_error(401, "missing_token");
        let body = json!({ "access_token": pair.access, "password": PASSWORD });
        Answer::to(app.request(method, path).json(&body)).expect_error(401, "missing_token");
    }
}

/// RFT-01, as ROTATION.md has it: the token is signed, and 256 bits of it are secret.
#[test]
fn a_refresh_token_has_256_random_bits() {
    let home = Home::new();
    let app = TestApp::start(&home);
    app.sign_up(ADA);
    let (mut seen, mut ones) = (HashSet::new(), 0);
    for _ in 0..150 {
        let pair = app.log_in(ADA);
        for token in [pair.refresh.clone(), app.refresh(&pair.refresh).expect(200).pair().refresh] {
            let secret = URL_SAFE_NO_PAD.decode(claims(&token)["jti"].as_str().unwrap()).unwrap();
            assert_eq!(secret.len(), 32);
            ones += secret.iter().map(|byte| byte.count_ones()).sum::<u32>();
            assert!(seen.insert(secret), "two tokens share their secret");
        }
    }
    // Of 76,800 fair bits, all but one sample in ten billion are within 900 of the half.
    assert!((38_400 - 900..38_400 + 900).contains(&ones), "{ones} of 76,800 bits are ones");
}

/// PWD-04. NIST SP 800-63B section 3.1.1.2: no rules on composition, all of Unicode.
#[test]
fn a_password_may_be_made_of_anything() {
    let app = TestApp::start(&Home::new());
    for (number, password) in [
        "onlylowercaseletters",
        "ONLYUPPERCASELETTERS",
        "8402719365",
        "          \u{a0}",
        "!?!?!?!?",
        "\u{645}\u{631}\u{62d}\u{628}\u{627} \u{628}\u{643}",
        "\u{5bc6}\u{7801}\u{5bc6}\u{7801}\u{4e00}\u{4e8c}\u{4e09}\u{56db}",
        "e\u{301}e\u{301}e\u{301}e\u{301}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{1f468}\u{200d}\u{1f469}",
        "tab\there\n",
    ]
    .iter()
    .enumerate()
    {
        let user = json!({ "email": format!("user{number}@example.com"), "password": password });
        app.post("/v1/auth/register", &user).expect(201);
        app.post("/v1/auth/login", &user).expect(200);
    }
}

/// PWD-06. What a default installation writes, and that it takes a salt of its own.
#[test]
fn a_stored_password_is_bcrypt_at_cost_12_over_the_hashed_password() {
    let home = Home::new();
    let app = TestApp::start_with(config(&home).with("passwords.bcrypt_cost", "12"), clock());
    app.sign_up(ADA);
    app.sign_up("eve@example.com");
    let stored =
        |email: &str| text_in_database(&home, &format!("SELECT password_hash FROM users WHERE email_key = '{email}'"));
    let (one, two) = (stored(ADA), stored("eve@example.com"));
    assert!(one.starts_with("cs1:-:$2b$12$") && two.starts_with("cs1:-:$2b$12$"), "{one} {two}");
    assert_ne!(one, two);
    let by_default = RawConfig::default().resolve().unwrap();
    assert_eq!(by_default.passwords.bcrypt_cost, 12);
    // The plain password under the same salt hashes to something else.
    assert!(!bcrypt::verify(PASSWORD, one.trim_start_matches("cs1:-:")).unwrap());
}

/// LOG-09.
#[test]
fn a_new_installation_has_no_users_and_no_way_in() {
    let home = Home::new();
    let app = TestApp::start(&home);
    assert_eq!(number_in_database(&home, "SELECT COUNT(*) FROM users"), 0);
    assert_eq!(number_in_database(&home, "SELECT COUNT(*) FROM sessions"), 0);
    for email in ["admin", "admin@example.com", "root", "countersign", "admin@localhost", ""] {
        for password in ["", "admin", "password", "countersign", "changeme", "root"] {
            let answer = app.post("/v1/auth/login", &json!({ "email": email, "password": password }));
            answer.expect_error(401, "invalid_credentials");
        }
    }
}

/// WEB-04. What a form of another site can send never reaches what the cookies could do.
#[test]
fn a_simple_content_type_is_refused_where_cookies_count() {
    let app = TestApp::start(&Home::new());
    let user = json!({ "email": ADA, "password": PASSWORD, "transport": "cookie" });
    let answer = app.post("/v1/auth/register", &user).expect(201);
    let cookies: Vec<String> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
        .collect();
    let cookies = cookies.join("; ");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
        for path in ["/v1/auth/refresh", "/v1/auth/logout", "/v1/users/me/password"] {
            // A log-out does not depend on its body, and is carried out if it comes from this site.
            if path != "/v1/auth/logout" {
                let request = app.request(Method::POST, path).header("Cookie", &cookies).header("Content-Type", kind);
                Answer::to(request.body("{}")).expect_error(415, "unsupported_media_type");
            }
            // The same from a page of another site is refused before that.
            let request = app.request(Method::POST, path).header("Cookie", &cookies).header("Content-Type", kind);
            let request = request.header("Sec-Fetch-Site", "cross-site").body("{}");
            let answer = Answer::to(request);
            assert!([403, 415].contains(&answer.status), "{kind} {path}: {}", answer.text);
        }
    }
    // Nothing of all that has used the refresh token or ended the session.
    Answer::to(app.get("/v1/users/me").header("Cookie", &cookies)).expect(200);
    Answer::to(app.request(Method::POST, "/v1/auth/refresh").header("Cookie", &cookies)).expect(200);
}

/// Keys are made beside an embedded database only.
mod embedded {
    use super::*;

    /// JWT-21. RFC 7518 section 3.3: at least 2048 bits.
    #[test]
    fn a_short_rsa_key_is_refused_at_the_start() {
        let home = Home::new();
        let settings = || config(&home).with("tokens.algorithm", "RS256").resolve().unwrap();
        drop(Countersign::open(&settings()).unwrap());
        let key = home.path().join("data/keys/access-0001-rs256.pem");
        assert!(key.exists());
        std::fs::write(&key, include_str!("weak-rsa.pem")).unwrap();
        let refused = Countersign::open(&settings()).err().unwrap().to_string();
        assert!(refused.contains("access-0001-rs256.pem"), "{refused}");
        assert!(!refused.contains("MIIC"), "{refused}");
    }
}
