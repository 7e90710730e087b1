//! Every route: what it takes, what it answers, what it can fail with.

use serde_json::{Map, Value, json};

use super::answers::{body, empty, errors, page, public, with_header};
use super::examples;
use super::schemas::reference;
use crate::problem::Code;

/// What any route may fail with that asks the database.
const STORE: &[Code] = &[Code::Internal, Code::Unavailable];
/// What a request with a body may fail with.
const BODY: &[Code] = &[Code::InvalidRequest, Code::PayloadTooLarge, Code::UnsupportedMediaType];
/// What a guard may refuse a reading request with.
const READ: &[Code] =
    &[Code::InvalidRequest, Code::MissingToken, Code::InvalidToken, Code::Internal, Code::Unavailable];
/// What a guard may refuse any other request with.
const CHANGE: &[Code] =
    &[Code::InvalidRequest, Code::MissingToken, Code::InvalidToken, Code::CrossSite, Code::Internal, Code::Unavailable];

/// One operation under construction.
struct Operation {
    members: Map<String, Value>,
    answers: Map<String, Value>,
    codes: Vec<Code>,
}

impl Operation {
    /// `id` is what generated clients call it.
    fn new(tag: &str, id: &str, summary: &str) -> Self {
        let mut members = Map::new();
        members.insert("tags".into(), json!([tag]));
        members.insert("operationId".into(), id.into());
        members.insert("summary".into(), summary.into());
        members.insert("security".into(), json!([]));
        Self { members, answers: Map::new(), codes: Vec::new() }
    }

    fn about(self, description: &str) -> Self {
        self.member("description", description.into())
    }

    /// Needs an access token.
    fn guarded(self) -> Self {
        self.member("security", json!([{ "bearer": [] }, { "accessCookie": [] }]))
    }

    fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.into(), value);
        self
    }

    fn takes(self, schema: &str, required: bool, example: Value) -> Self {
        let content = json!({ "schema": reference("schemas", schema), "example": example });
        self.member("requestBody", json!({ "required": required, "content": { "application/json": content } }))
    }

    fn answers(mut self, status: &str, answer: Value) -> Self {
        self.answers.insert(status.into(), answer);
        self
    }

    fn fails(mut self, codes: &[Code]) -> Self {
        self.codes.extend_from_slice(codes);
        self
    }

    fn build(mut self) -> Value {
        // A 400 of a refresh takes cookies back, and so may be described already.
        let mut answers = errors(self.codes);
        answers.append(&mut self.answers);
        self.members.insert("responses".into(), answers.into());
        self.members.into()
    }
}

/// Every path.
pub(super) fn paths() -> Value {
    let mut paths = Map::new();
    let mut path = |path: &str, operations: Vec<(&str, Operation)>| {
        let mut item: Map<_, _> =
            operations.into_iter().map(|(method, operation)| (method.to_owned(), operation.build())).collect();
        item.insert("parameters".into(), json!([reference("parameters", "RequestId")]));
        paths.insert(path.to_owned(), item.into());
    };
    path("/v1/auth/register", vec![("post", register())]);
    path("/v1/auth/login", vec![("post", login())]);
    path("/v1/auth/refresh", vec![("post", refresh())]);
    path("/v1/auth/refresh/confirm", vec![("post", confirm())]);
    path("/v1/auth/logout", vec![("post", logout())]);
    path("/v1/sessions", vec![("get", list_sessions()), ("delete", end_sessions())]);
    path("/v1/sessions/{id}", vec![("delete", end_session())]);
    path("/v1/users/me", vec![("get", show_user()), ("patch", change_user()), ("delete", delete_user())]);
    path("/v1/users/me/password", vec![("post", change_password())]);
    path("/v1/users/me/events", vec![("get", list_events())]);
    path("/.well-known/jwks.json", vec![("get", jwks())]);
    path("/health/live", vec![("get", live())]);
    path("/health/ready", vec![("get", ready())]);
    path("/openapi.json", vec![("get", document())]);
    path("/docs", vec![("get", docs())]);
    path("/", vec![("get", first_page())]);
    paths.into()
}

fn register() -> Operation {
    let example = json!({
        "email": "ada@example.com", "password": "correct horse battery", "name": "Ada", "device_name": "Ada's telephone",
    });
    let answer = body("Registered and signed in.", "SignedIn", examples::signed_in());
    Operation::new("Tokens", "register", "Register and sign in")
        .about("Not found where registration is switched off. Signs in as `login` does.")
        .takes("RegisterRequest", true, example)
        .answers("201", with_header(answer, "Set-Cookie", "SetCookie"))
        .fails(BODY)
        .fails(&[Code::NotFound, Code::EmailTaken, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

fn login() -> Operation {
    let example = json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let answer = body("Signed in.", "SignedIn", examples::signed_in());
    Operation::new("Tokens", "login", "Sign in")
        .about(
            "A wrong password and an unknown address are answered alike, and as fast. The session of a refresh cookie \
             that came with the request ends: the browser is about to lose it.",
        )
        .takes("LoginRequest", true, example)
        .answers("200", with_header(answer, "Set-Cookie", "SetCookie"))
        .fails(BODY)
        .fails(&[Code::InvalidCredentials, Code::AccountDisabled, Code::ValidationFailed, Code::RateLimited])
        .fails(STORE)
}

fn refresh() -> Operation {
    let answer = body("The next pair of tokens.", "Refreshed", examples::refreshed());
    let mut failures = errors([Code::InvalidRequest, Code::InvalidGrant]);
    let refused = failures.remove("400").unwrap_or_default();
    Operation::new("Tokens", "refresh", "Exchange a refresh token for the next pair")
        .about(
            "The refresh token comes in the body or, where the body has none, as a cookie; of several cookies the first \
             that can be used counts. On `invalid_grant` the session cannot be continued: \
             sign in again. On `refresh_conflict` another request has used the token: read your token store again \
             and retry. On anything else the token is as good as before.",
        )
        .member("security", json!([{}, { "refreshCookie": [] }]))
        .takes("RefreshTokenRequest", false, json!({ "refresh_token": "eyJ…" }))
        .answers("200", with_header(answer, "Set-Cookie", "SetCookie"))
        .answers("400", with_header(refused, "Set-Cookie", "ClearCookie"))
        .fails(BODY)
        .fails(&[Code::CrossSite, Code::RefreshConflict, Code::RateLimited])
        .fails(STORE)
}

fn confirm() -> Operation {
    Operation::new("Tokens", "confirm", "Confirm that a pair has been stored")
        .about(
            "Send the access token of the new pair once it is stored: the previous refresh token is dead from then \
             on. With the access token of an older pair nothing changes.",
        )
        .guarded()
        .answers("204", empty("Confirmed."))
        .fails(CHANGE)
        .fails(&[Code::RefreshConflict])
}

fn logout() -> Operation {
    Operation::new("Tokens", "logout", "Sign out")
        .about(
            "Ends the session of every genuine token in the request: in the `Authorization` header (of either kind), in \
             the body (both spellings), in every cookie of either name; an expired one too. One that is foreign or of a \
             session already over is answered alike, and changes nothing. Both cookies are cleared.",
        )
        .member("security", json!([{ "bearer": [] }, { "accessCookie": [] }, { "refreshCookie": [] }, {}]))
        .takes("RefreshTokenRequest", false, json!({ "refresh_token": "eyJ…" }))
        .answers("204", with_header(empty("Signed out."), "Set-Cookie", "ClearCookie"))
        .fails(BODY)
        .fails(&[Code::MissingToken, Code::CrossSite])
        .fails(STORE)
}

fn list_sessions() -> Operation {
    Operation::new("Sessions", "listSessions", "List the caller's live sessions")
        .about("One for each signed-in device; `current` marks the one that asks.")
        .guarded()
        .answers("200", body("Most recently used first.", "Sessions", examples::sessions()))
        .fails(READ)
}

fn end_sessions() -> Operation {
    let scope = json!([{
        "name": "scope",
        "in": "query",
        "required": true,
        "description": "Every session but the caller's, or every session.",
        "schema": { "enum": ["others", "all"] },
        "example": "others",
    }]);
    let answer = body("Ended.", "Revoked", json!({ "revoked": 2 }));
    Operation::new("Sessions", "endSessions", "End many sessions")
        .about("`others` leaves the session that asks, `all` ends it too.")
        .guarded()
        .member("parameters", scope)
        .answers("200", with_header(answer, "Set-Cookie", "ClearCookie"))
        .fails(CHANGE)
}

fn end_session() -> Operation {
    let id = json!([{
        "name": "id",
        "in": "path",
        "required": true,
        "schema": { "type": "string", "format": "uuid" },
        "example": examples::SESSION_ID,
    }]);
    Operation::new("Sessions", "endSession", "End one session")
        .about("Not found unless it is a live session of the caller's.")
        .guarded()
        .member("parameters", id)
        .answers("204", with_header(empty("Ended."), "Set-Cookie", "ClearCookie"))
        .fails(CHANGE)
        .fails(&[Code::NotFound])
}

fn show_user() -> Operation {
    Operation::new("Account", "showUser", "Show the caller's account")
        .about("As it is now, not as it was when the access token was issued.")
        .guarded()
        .answers("200", body("The account.", "User", examples::user()))
        .fails(READ)
}

fn change_user() -> Operation {
    Operation::new("Account", "changeUser", "Change the caller's account")
        .about("A member that is absent stays as it is; null takes the name away. Any other is refused, and named.")
        .guarded()
        .takes("ChangeUserRequest", false, json!({ "name": "Ada" }))
        .answers("200", body("The account as it is now.", "User", examples::user()))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::ValidationFailed])
}

fn delete_user() -> Operation {
    Operation::new("Account", "deleteUser", "Delete the caller's account")
        .about("Every session of the account ends with it.")
        .guarded()
        .takes("DeleteUserRequest", true, json!({ "password": "correct horse battery" }))
        .answers("204", with_header(empty("Deleted."), "Set-Cookie", "ClearCookie"))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::RateLimited])
}

fn change_password() -> Operation {
    let example = json!({ "current_password": "correct horse battery", "new_password": "staple after staple" });
    Operation::new("Account", "changePassword", "Change the caller's password")
        .about("Every other session of the account ends.")
        .guarded()
        .takes("ChangePasswordRequest", true, example)
        .answers("204", empty("Changed."))
        .fails(CHANGE)
        .fails(BODY)
        .fails(&[Code::PasswordMismatch, Code::ValidationFailed, Code::RateLimited])
}

fn list_events() -> Operation {
    let cursor = json!([{
        "name": "cursor",
        "in": "query",
        "required": false,
        "description": "`next_cursor` of the page before; without it, the newest events.",
        "schema": { "type": "string" },
    }]);
    Operation::new("Account", "listEvents", "List what has happened to the caller's account")
        .about("Fifty events a page. They are kept for 90 days.")
        .guarded()
        .member("parameters", cursor)
        .answers("200", body("Newest first.", "Events", examples::events()))
        .fails(READ)
}

fn jwks() -> Operation {
    Operation::new("Machines", "jwks", "The public keys that verify access tokens")
        .about("None while access tokens are signed with HS256.")
        .answers("200", public("The keys.", "PublicKeys", examples::public_keys()))
}

fn live() -> Operation {
    Operation::new("Machines", "live", "Whether the process answers")
        .about("Nothing else is asked: the database may be away.")
        .answers("200", body("It does.", "Live", json!({ "status": "live" })))
}

fn ready() -> Operation {
    Operation::new("Machines", "ready", "Whether the process can do its work")
        .about(
            "Not while the database does not answer, takes no writes, is damaged or was replaced, needs a migration or belongs \
             to a newer version, nor while a shutdown is under way. `detail` says which.",
        )
        .answers("200", body("It can.", "Ready", json!({ "status": "ready" })))
        .fails(STORE)
}

fn document() -> Operation {
    let example = json!({ "openapi": "3.1.0", "info": { "title": "Countersign", "version": "…" }, "paths": {} });
    Operation::new("Machines", "document", "This document")
        .about("Made from the code that answers; `countersign openapi` prints it too.")
        .answers("200", public("The document.", "Document", example))
}

fn docs() -> Operation {
    Operation::new("Machines", "docs", "A page to read this document, sign in and try calls")
        .about("Nothing of it comes from anywhere else. Not found where `docs.enabled` is false.")
        .answers("200", page("The page."))
        .fails(&[Code::NotFound])
}

fn first_page() -> Operation {
    Operation::new("Machines", "firstPage", "Leads to the page that describes all this")
        .about("Not found where `docs.enabled` is false.")
        .answers("303", with_header(empty("To `/docs`."), "Location", "Location"))
        .fails(&[Code::NotFound])
}
