//! Register, log in, refresh, confirm, log out, with tokens in bodies.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Home, TestApp};

#[test]
fn a_registered_user_is_signed_in_refreshed_and_signed_out() {
    let home = Home::new();
    let app = TestApp::start(&home);
    let first = app.sign_up("ada@example.com");
    assert!(app.works(&first.access));
    app.pass(Duration::from_secs(60));
    let second = app.refresh(&first.refresh).expect(200).pair();
    assert_ne!(first.refresh, second.refresh);
    assert!(app.works(&second.access));
    app.post("/v1/auth/logout", &json!({ "refresh_token": second.refresh })).expect(204);
    assert!(!app.works(&second.access));
    app.refresh(&second.refresh).expect_refused("revoked");
}
