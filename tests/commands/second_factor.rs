//! Second factors and claims in the hands of an operator, and the keys that second factors depend on.

use serde_json::json;
use support::authenticator::Authenticator;
use support::process::PASSWORD;

use super::*;

const FIRST: &str = "the-first-refresh-secret-of-this-server-0123";
const SECOND: &str = "the-second-refresh-secret-of-this-server-4567";

fn ask(server: &Server, method: &str, path: &str, pair: &Value, body: &Value) -> (u16, Value) {
    let bearer = format!("Bearer {}", pair["access_token"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let answer = Connection::open(server.address).unwrap().send(method, path, &headers, &body.to_string()).unwrap();
    (answer.status, answer.body)
}

/// Puts a second factor in force, with the code of the step before this one.
fn enable(server: &Server, pair: &Value) -> Authenticator {
    let (status, begun) = ask(server, "POST", "/v1/users/me/totp", pair, &json!({ "password": PASSWORD }));
    assert_eq!(status, 200, "{begun}");
    let authenticator = Authenticator::of(begun["secret"].as_str().unwrap());
    let code = json!({ "code": authenticator.code_now(-1) });
    let (status, confirmed) = ask(server, "POST", "/v1/users/me/totp/confirm", pair, &code);
    assert_eq!(status, 200, "{confirmed}");
    authenticator
}

fn log_in(server: &Server) -> (u16, Value) {
    let answer = server.post("/v1/auth/login", &json!({ "email": ADA, "password": PASSWORD }));
    (answer.status, answer.body)
}

#[test]
fn an_operator_removes_a_second_factor() {
    let home = Home::new();
    let server = home.serve(&[]);
    let pair = server.register(ADA);
    assert!(run(&home, &["user", "disable-mfa", ADA]).done().contains("has no second factor already"));
    enable(&server, &pair);
    assert_eq!(log_in(&server).1["code"], "mfa_required");
    assert!(run(&home, &["user", "show", ADA]).done().contains("mfa          since 2"));
    assert_eq!(json(&home, &["user", "show", ADA])["mfa"], json!(true));
    assert!(run(&home, &["user", "disable-mfa", ADA]).done().contains("has no second factor;"));
    assert_eq!(log_in(&server).0, 200);
    let shown = json(&home, &["user", "show", ADA]);
    assert_eq!(shown["mfa"], json!(false));
    let events = shown["recent_events"].as_array().unwrap();
    let removed = events.iter().find(|event| event["kind"] == "mfa_disabled").unwrap();
    assert_eq!(removed["detail"], "by_operator");
    run(&home, &["user", "disable-mfa", BOB]).refused();
    server.stop();
}

#[test]
fn an_operator_sets_claims_and_no_reserved_ones() {
    let home = empty();
    create(&home, ADA);
    let set = |claims: &str| run(&home, &["user", "set-claims", ADA, claims]);
    let has = || json(&home, &["user", "show", ADA])["claims"].clone();
    assert_eq!(has(), Value::Null);
    assert!(set(r#"{"plan": "gold", "seats": 3}"#).done().contains("from the next refresh on"));
    assert_eq!(has(), json!({ "plan": "gold", "seats": 3 }));
    assert!(run(&home, &["user", "show", ADA]).done().contains(r#"claims       {"plan":"gold","seats":3}"#));
    for wrong in ["", "[]", "gold", "{", r#"{"plan":1"#, &format!("{{\"a\":\"{}\"}}", "x".repeat(1024))] {
        set(wrong).refused();
    }
    for name in [
        "iss",
        "aud",
        "sub",
        "sid",
        "jti",
        "iat",
        "exp",
        "roles",
        "gen",
        "br",
        "client_id",
        "auth_time",
        "amr",
        "cnf",
        "nbf",
        "acr",
        "azp",
        "scope",
        "email",
        "email_verified",
        "name",
    ] {
        let told = set(&json!({ "plan": "free", name: 1 }).to_string()).refused();
        assert!(told.contains(name), "{told}");
    }
    assert_eq!(has(), json!({ "plan": "gold", "seats": 3 }), "nothing was changed");
    let server = home.serve(&[]);
    let part = |token: &Value| -> Value {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    };
    let pair = log_in(&server).1;
    assert_eq!(part(&pair["access_token"])["plan"], "gold");
    set("{}").done();
    assert_eq!(has(), Value::Null);
    let next = server.post("/v1/auth/refresh", &json!({ "refresh_token": pair["refresh_token"] })).body;
    assert!(part(&next["access_token"]).get("plan").is_none());
    server.stop();
}

/// A start without the key that opens a second factor is refused, however long ago it signed; given up, it is not.
#[test]
fn a_key_that_opens_second_factors_is_needed_until_they_are_given_up() {
    let home = Home::new();
    let (first, second) = ([("REFRESH_TOKEN_SECRET", FIRST)], [("REFRESH_TOKEN_SECRET", SECOND)]);
    let server = home.serve(&first);
    let pair = server.register(ADA);
    enable(&server, &pair);
    let out = server.post("/v1/auth/logout", &json!({ "refresh_token": pair["refresh_token"] }));
    assert_eq!(out.status, 204);
    server.stop();
    in_database(&home, "UPDATE signing_keys SET needed_until = 0");
    let with = |arguments: &[&str]| finish(home.command(arguments.iter().copied(), second), b"");
    let told = with(&["check-config"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(told.err.contains("second factors are sealed under it: 1"), "{}", told.err);
    let kid = told.err.split("the key ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for arguments in [&["keys", "forget", &kid][..], &["keys", "forget", "--all"]] {
        let told = with(arguments).refused();
        assert!(told.contains(": 1;") && told.contains("--yes"), "{told}");
    }
    assert_eq!(number_in_database(&home, "SELECT count(*) AS number FROM users WHERE totp_enabled_at IS NOT NULL"), 1);
    // With both it starts, and the first use seals it anew.
    let both = [("REFRESH_TOKEN_SECRET", SECOND), ("REFRESH_TOKEN_SECRET_PREVIOUS", FIRST)];
    home.serve(&both).stop();
    assert!(with(&["keys", "forget", &kid, "--yes"]).done().contains("second factors given up: 1"));
    let server = home.serve(&second);
    assert_eq!(log_in(&server).0, 200, "the password alone is asked for");
    server.stop();
}
