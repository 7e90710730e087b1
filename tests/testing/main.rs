//! What the feature `testing` gives to the tests of other applications.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, test, web};
use countersign::guard::{Role, RoleName};
use countersign::testing::{SignedIn, TestServer};

struct Admin;

impl RoleName for Admin {
    const NAME: &str = "admin";
}

fn start() -> TestServer {
    TestServer::start().unwrap()
}

async fn sales(server: &TestServer, who: &SignedIn) -> StatusCode {
    let routes = App::new()
        .configure(|config| server.countersign().configure(config))
        .route("/sales", web::get().to(async |admin: Role<Admin>| admin.principal().user_id().to_string()));
    let app = test::init_service(routes).await;
    let request = test::TestRequest::get().uri("/sales").insert_header(who.authorization()).to_request();
    test::call_service(&app, request).await.status()
}

#[actix_web::test]
async fn a_token_is_minted_with_the_roles_that_the_test_asks_for() {
    let server = start();
    let admin = server.sign_in("ada@example.com", &["admin"]).await.unwrap();
    assert_eq!(sales(&server, &admin).await, StatusCode::OK);
    let customer = server.sign_in("bob@example.com", &[]).await.unwrap();
    assert_eq!(sales(&server, &customer).await, StatusCode::FORBIDDEN);
    let no_longer = server.sign_in("ada@example.com", &["customer"]).await.unwrap();
    assert_eq!(no_longer.user_id, admin.user_id);
    assert_eq!(sales(&server, &no_longer).await, StatusCode::FORBIDDEN);
}

#[actix_web::test]
async fn the_test_decides_what_time_it_is_and_when_sessions_end() {
    let server = TestServer::start_with(|config| config.with("tokens.access_ttl", "1m")).unwrap();
    let ada = server.sign_in("ada@example.com", &["admin"]).await.unwrap();
    server.countersign().sessions().end(ada.session_id).await.unwrap();
    assert_eq!(sales(&server, &ada).await, StatusCode::UNAUTHORIZED);
    let again = server.sign_in("ada@example.com", &["admin"]).await.unwrap();
    assert_eq!(sales(&server, &again).await, StatusCode::OK);
    server.clock().advance(Duration::from_secs(61));
    assert_eq!(sales(&server, &again).await, StatusCode::UNAUTHORIZED);
}

#[actix_web::test]
async fn its_tokens_are_good_for_no_other_server() {
    let (one, other) = (start(), start());
    let ada = one.sign_in("ada@example.com", &["admin"]).await.unwrap();
    assert_eq!(sales(&other, &ada).await, StatusCode::UNAUTHORIZED);
}

#[actix_web::test]
async fn nothing_is_left_behind_and_the_database_is_always_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("of-another.db").display());
    let server = TestServer::start_with(|config| config.with("database.url", url)).unwrap();
    server.sign_in("ada@example.com", &[]).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(TestServer::start_with(|config| config.with("tokens.access_tll", "1m")).is_err());
}
