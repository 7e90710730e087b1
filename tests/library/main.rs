//! The library, as an application uses it: accounts and sessions from Rust, and guards.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::{App, test, web};
use countersign::admin::{Error, NewUser};
use countersign::clock::Timestamp;
use countersign::config::RawConfig;
use countersign::guard::{Caller, Principal};
use countersign::{Clock, Countersign, SessionId, UserId};
use serde_json::{Value, json};
use support::database::TestDatabase;
use tempfile::TempDir;

const ADA: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";

/// A Countersign in this process, with a database of its own and a clock that stands still.
struct Home {
    countersign: Countersign,
    clock: Clock,
    _database: TestDatabase,
    _folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = TestDatabase::new(folder.path().join("countersign.db"));
        database.migrate();
        let raw = RawConfig::default().with("database.url", database.url()).with("passwords.bcrypt_cost", "4");
        let raw = database.settings().iter().fold(raw, |raw, (key, _, value)| raw.with(key, *value));
        let clock = Clock::manual(Timestamp::from_seconds(1_800_000_000));
        let countersign = Countersign::open_with_clock(&raw.resolve().unwrap(), clock.clone()).unwrap();
        Self { countersign, clock, _database: database, _folder: folder }
    }

    /// An application with our routes and two of its own.
    async fn app(
        &self,
    ) -> impl Service<actix_http::Request, Response = ServiceResponse<impl MessageBody>, Error = actix_web::Error> {
        let countersign = self.countersign.clone();
        test::init_service(
            App::new()
                .configure(|config| countersign.configure(config))
                .route("/orders", web::get().to(async |caller: Principal| caller.user_id().to_string()))
                .service(web::resource("/welcome").to(async |caller: Caller| match caller {
                    Caller::Anonymous => "nobody".to_owned(),
                    Caller::Principal(principal) => principal.user_id().to_string(),
                })),
        )
        .await
    }
}

/// What a log-in is answered.
async fn log_in(home: &Home, email: &str, password: &str) -> (StatusCode, Value) {
    let app = home.app().await;
    let body = json!({ "email": email, "password": password });
    let request = test::TestRequest::post().uri("/v1/auth/login").set_json(&body).to_request();
    let response = test::call_service(&app, request).await;
    let status = response.status();
    (status, serde_json::from_slice(&test::read_body(response).await).unwrap_or_default())
}

/// The access token of a new session, and its id.
async fn signed_in(home: &Home, email: &str) -> (String, SessionId) {
    let (status, body) = log_in(home, email, PASSWORD).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let member = |name: &str| body.get(name).and_then(Value::as_str).unwrap().to_owned();
    (member("access_token"), member("session_id").parse().unwrap())
}

/// What a guarded route of the application answers.
async fn orders(home: &Home, token: &str) -> StatusCode {
    let app = home.app().await;
    let header = ("authorization", format!("Bearer {token}"));
    let request = test::TestRequest::get().uri("/orders").insert_header(header).to_request();
    test::call_service(&app, request).await.status()
}

#[actix_web::test]
async fn accounts_are_made_found_changed_and_deleted() {
    let home = Home::new();
    let users = home.countersign.users();
    assert!(users.find(ADA).await.unwrap().is_none());
    let new = || NewUser::new(ADA, PASSWORD).name("Ada").role("admin");
    assert!(!format!("{:?}", new()).contains(PASSWORD));
    let ada = users.create(new()).await.unwrap();
    assert_eq!(
        (ada.email.as_str(), ada.name.as_deref(), ada.roles.as_slice()),
        (ADA, Some("Ada"), &["admin".to_owned()][..])
    );

    let found = users.find("Ada@Example.com").await.unwrap().unwrap();
    assert_eq!((found.id, found.disabled_at, found.last_login_at), (ada.id, None, None));
    assert_eq!(users.get(ada.id).await.unwrap().unwrap().email, ADA);
    let bob = users.create(NewUser::new("bob@example.com", PASSWORD)).await.unwrap();
    let all: Vec<UserId> = users.page(None).await.unwrap().iter().map(|user| user.id).collect();
    assert_eq!(all, [ada.id, bob.id]);
    assert_eq!(users.page(Some(ada.id)).await.unwrap().len(), 1);

    assert!(users.grant(ada.id, "auditor").await.unwrap());
    assert!(!users.grant(ada.id, "auditor").await.unwrap(), "it has it");
    assert!(users.revoke_role(ada.id, "admin").await.unwrap());
    assert_eq!(users.get(ada.id).await.unwrap().unwrap().roles, ["auditor"]);

    users.delete(ada.id).await.unwrap();
    assert!(users.find(ADA).await.unwrap().is_none() && users.get(ada.id).await.unwrap().is_none());
}

#[actix_web::test]
async fn what_cannot_be_done_is_an_error_that_says_why() {
    let home = Home::new();
    let users = home.countersign.users();
    let ada = users.create(NewUser::new(ADA, PASSWORD)).await.unwrap();
    let taken = users.create(NewUser::new("ADA@example.com", PASSWORD)).await;
    assert!(matches!(taken, Err(Error::EmailTaken)), "{taken:?}");
    let invalid = users.create(NewUser::new("nonsense", "short").role("two words")).await.unwrap_err();
    let Error::Invalid(errors) = &invalid else { panic!("{invalid:?}") };
    let fields: Vec<&str> = errors.iter().map(|error| error.field).collect();
    assert_eq!(fields, ["email", "password", "role"]);
    assert!(!invalid.to_string().contains("short "), "{invalid}");
    assert!(matches!(users.set_password(ada.id, "short").await, Err(Error::Invalid(_))));
    assert!(matches!(users.grant(ada.id, "two words").await, Err(Error::Invalid(_))));

    users.delete(ada.id).await.unwrap();
    for gone in [
        users.disable(ada.id).await.err(),
        users.enable(ada.id).await.err(),
        users.set_password(ada.id, "another good password").await.err(),
        users.grant(ada.id, "admin").await.err(),
        users.revoke_role(ada.id, "admin").await.err(),
        users.delete(ada.id).await.err(),
    ] {
        assert!(matches!(gone, Some(Error::NoSuchUser)), "{gone:?}");
    }
}

#[actix_web::test]
async fn who_is_signed_out_is_refused_when_the_call_returns() {
    let home = Home::new();
    let (users, sessions) = (home.countersign.users(), home.countersign.sessions());
    let ada = users.create(NewUser::new(ADA, PASSWORD)).await.unwrap().id;
    let bob = users.create(NewUser::new("bob@example.com", PASSWORD)).await.unwrap().id;
    let (of_bob, session_of_bob) = signed_in(&home, "bob@example.com").await;

    let (token, session) = signed_in(&home, ADA).await;
    let listed = sessions.page(Some(ada), None).await.unwrap();
    assert_eq!(listed.iter().map(|session| (session.id, session.user_id)).collect::<Vec<_>>(), [(session, ada)]);
    assert_eq!(sessions.page(None, None).await.unwrap().len(), 2);
    assert_eq!(orders(&home, &token).await, StatusCode::OK);
    assert!(sessions.end(session).await.unwrap());
    assert_eq!(orders(&home, &token).await, StatusCode::UNAUTHORIZED);
    assert!(!sessions.end(session).await.unwrap(), "it is over");

    let (first, _) = signed_in(&home, ADA).await;
    let (second, _) = signed_in(&home, ADA).await;
    assert_eq!(sessions.end_all_of(ada).await.unwrap(), 2);
    assert_eq!(
        (orders(&home, &first).await, orders(&home, &second).await),
        (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED)
    );

    let (token, _) = signed_in(&home, ADA).await;
    users.set_password(ada, "another good password").await.unwrap();
    assert_eq!(orders(&home, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(log_in(&home, ADA, "another good password").await.0, StatusCode::OK);
    users.set_password(ada, PASSWORD).await.unwrap();

    let (token, _) = signed_in(&home, ADA).await;
    assert!(users.disable(ada).await.unwrap());
    assert!(!users.disable(ada).await.unwrap(), "it is disabled");
    assert_eq!(orders(&home, &token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(log_in(&home, ADA, PASSWORD).await.0, StatusCode::FORBIDDEN);
    assert!(users.get(ada).await.unwrap().unwrap().disabled_at.is_some());
    assert!(users.enable(ada).await.unwrap());

    let (token, _) = signed_in(&home, ADA).await;
    users.delete(ada).await.unwrap();
    assert_eq!(orders(&home, &token).await, StatusCode::UNAUTHORIZED);

    assert_eq!(orders(&home, &of_bob).await, StatusCode::OK, "nobody else was meant");
    home.clock.advance(Duration::from_secs(5));
    let (late, _) = signed_in(&home, "bob@example.com").await;
    assert_eq!(sessions.end_opened_since(home.clock.now()).await.unwrap(), 1);
    assert_eq!((orders(&home, &late).await, orders(&home, &of_bob).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    assert_eq!(sessions.page(Some(bob), None).await.unwrap().first().map(|session| session.id), Some(session_of_bob));
}

/// The three outcomes, and what is neither: a table.
#[actix_web::test]
async fn a_caller_is_anonymous_or_signed_in_and_bad_credentials_are_refused() {
    let home = Home::new();
    let ada = home.countersign.users().create(NewUser::new(ADA, PASSWORD)).await.unwrap().id.to_string();
    let (good, _) = signed_in(&home, ADA).await;
    let (ended, session) = signed_in(&home, ADA).await;
    home.countersign.sessions().end(session).await.unwrap();
    let (nobody, ada) = (Ok("nobody"), Ok(ada.as_str()));
    let (bearer, cookie) = (|token: &str| format!("Bearer {token}"), |token: &str| format!("accessToken={token}"));
    let same_site = ("sec-fetch-site", "same-origin".to_owned());
    let cross_site = ("sec-fetch-site", "cross-site".to_owned());
    let get = test::TestRequest::get;
    let post = test::TestRequest::post;
    let app = home.app().await;
    for (what, request, headers, expected) in [
        ("nothing", get(), vec![], nobody),
        ("another scheme", get(), vec![("authorization", "Basic YTpi".to_owned())], nobody),
        ("another cookie", get(), vec![("cookie", "theme=dark".to_owned())], nobody),
        ("nothing, from another site", post(), vec![cross_site.clone()], nobody),
        ("a good token", get(), vec![("authorization", bearer(&good))], ada),
        ("a good cookie", post(), vec![("cookie", cookie(&good)), same_site], ada),
        (
            "a good cookie, from another site",
            post(),
            vec![("cookie", cookie(&good)), cross_site],
            Err(StatusCode::FORBIDDEN),
        ),
        ("no token at all", get(), vec![("authorization", bearer("nonsense"))], Err(StatusCode::UNAUTHORIZED)),
        (
            "a token of a session that is over",
            get(),
            vec![("authorization", bearer(&ended))],
            Err(StatusCode::UNAUTHORIZED),
        ),
        ("a cookie of a session that is over", get(), vec![("cookie", cookie(&ended))], Err(StatusCode::UNAUTHORIZED)),
    ] {
        let request =
            headers.into_iter().fold(request.uri("/welcome"), |request, header| request.insert_header(header));
        let response = test::call_service(&app, request.to_request()).await;
        let status = response.status();
        let body = String::from_utf8(test::read_body(response).await.to_vec()).unwrap();
        assert_eq!(if status == StatusCode::OK { Ok(body.as_str()) } else { Err(status) }, expected, "{what}: {body}");
    }
    home.clock.advance(Duration::from_secs(16 * 60));
    let request = get().uri("/welcome").insert_header(("authorization", bearer(&good))).to_request();
    assert_eq!(test::call_service(&app, request).await.status(), StatusCode::UNAUTHORIZED, "it has expired");
}

/// A database that has not been heard of yet: whether a session has ended cannot be known, which is not "not signed in".
#[cfg(feature = "postgres")]
#[actix_web::test]
async fn a_caller_who_cannot_be_judged_is_a_503_and_not_anonymous() {
    let raw =
        RawConfig::default().with("database.url", "postgres://127.0.0.1:9/none").with("passwords.bcrypt_cost", "4");
    let raw = support::database::SHARED.iter().fold(raw, |raw, (key, _, value)| raw.with(key, *value));
    let countersign = Countersign::open(&raw.resolve().unwrap()).unwrap();
    let routes = App::new()
        .configure(|config| countersign.configure(config))
        .route("/welcome", web::get().to(async |_: Caller| "let in"));
    let app = test::init_service(routes).await;
    let request = test::TestRequest::get().uri("/welcome").insert_header(("authorization", "Bearer x"));
    let response = test::call_service(&app, request.to_request()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    let error = countersign.users().find(ADA).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_) | Error::Busy), "{error:?}");
}

mod embedded {
    use super::*;

    #[::core::prelude::v1::test]
    fn migrate_brings_the_database_up_to_date_and_says_what_was_missing() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("countersign.db").display());
        let config = RawConfig::default().with("database.url", url).resolve().unwrap();
        assert!(!Countersign::migrate(&config).unwrap().is_empty());
        assert!(Countersign::migrate(&config).unwrap().is_empty());
    }
}

/// What the application adds never takes the place of anything, and where it cannot tell no token is issued.
#[actix_web::test]
async fn an_application_adds_claims_of_its_own_and_only_those() {
    async fn refresh(home: &Home, token: &str) -> (StatusCode, Value) {
        let app = home.app().await;
        let body = json!({ "refresh_token": token });
        let request = test::TestRequest::post().uri("/v1/auth/refresh").set_json(&body).to_request();
        let response = test::call_service(&app, request).await;
        let status = response.status();
        (status, serde_json::from_slice(&test::read_body(response).await).unwrap_or_default())
    }
    fn claims(answer: &Value) -> Value {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let token = answer.get("access_token").and_then(Value::as_str).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    }
    let home = Home::new();
    let ada = home.countersign.users().create(NewUser::new(ADA, PASSWORD)).await.unwrap();
    let member = |answer: &Value, name: &str| answer.get(name).and_then(Value::as_str).unwrap().to_owned();
    let add = |added: Result<Value, &'static str>| {
        home.countersign.add_claims(move |user| {
            let added = added.clone();
            async move {
                let Value::Object(mut claims) = added? else { return Err("no object") };
                claims.insert("known_as".into(), user.to_string().into());
                Ok::<_, &'static str>(claims)
            }
        });
    };
    add(Ok(json!({ "tenant": 7, "sub": "someone-else", "roles": ["admin"], "amr": ["mfa"] })));
    let (status, pair) = log_in(&home, ADA, PASSWORD).await;
    assert_eq!(status, StatusCode::OK, "{pair}");
    let said = claims(&pair);
    assert_eq!(said.get("tenant"), Some(&json!(7)));
    assert_eq!(said.get("known_as"), Some(&json!(ada.id.to_string())));
    assert_eq!(said.get("sub"), Some(&json!(ada.id.to_string())));
    assert_eq!((said.get("roles"), said.get("amr")), (None, Some(&json!(["pwd"]))));
    assert_eq!(orders(&home, &member(&pair, "access_token")).await, StatusCode::OK);

    // Where it cannot tell, or tells too much, nothing has changed, and the token is good.
    let token = member(&pair, "refresh_token");
    add(Err("the application's database is away"));
    assert_eq!(refresh(&home, &token).await.0, StatusCode::SERVICE_UNAVAILABLE);
    add(Ok(json!({ "long": "x".repeat(1_024) })));
    let (status, body) = refresh(&home, &token).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!body.to_string().contains("claims"), "{body}");
    add(Ok(json!({})));
    let (status, next) = refresh(&home, &token).await;
    assert_eq!(status, StatusCode::OK, "{next}");
    assert_eq!(claims(&next).get("tenant"), None);
}
