//! The pages that links in mails lead to: for people without an app that takes the link. What a mail scanner does, asking for
//! a page, changes nothing; a person presses its button.

mod layout;

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

pub(crate) use self::layout::POLICY;
use self::layout::Page;
use super::recovery::asker;
use crate::http::State;
use crate::http::openapi::{Operation, account_page};
use crate::http::outcomes::count_throttled;
use crate::http::route::Route;
use crate::metrics::Throttle;
use crate::passwords::Password;
use crate::problem::{Code, Problem};
use crate::store::mail_tokens::Purpose;
use crate::users::{Mailed, Proof, UserError};

/// Where they are.
pub(crate) const PATHS: [&str; 3] = [RESET, VERIFY, UNDO];
const RESET: &str = "/account/reset";
const VERIFY: &str = "/account/verify";
const UNDO: &str = "/account/undo";

pub(super) const ROUTES: &[Route] = &[
    Route::new(Method::GET, RESET, || web::to(show_reset), || describe_show("showReset", "a forgotten password")),
    Route::new(Method::POST, RESET, || web::to(reset), || describe_send("sendReset", "resetPassword")),
    Route::new(Method::GET, VERIFY, || web::to(show_verify), || describe_show("showVerify", "the proof of an address")),
    Route::new(Method::POST, VERIFY, || web::to(verify), || describe_send("sendVerify", "verifyEmail")),
    Route::new(Method::GET, UNDO, || web::to(show_undo), || describe_show("showUndo", "a change of address")),
    Route::new(Method::POST, UNDO, || web::to(undo), || describe_send("sendUndo", "undoEmailChange")),
];

/// What the link carries.
#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    token: String,
}

/// What the form of a page sends.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    token: String,
    new_password: Option<Password>,
}

type Query = Result<web::Query<Link>, actix_web::Error>;
type Body = Result<web::Form<Form>, actix_web::Error>;

async fn show_reset(state: State, link: Query) -> HttpResponse {
    show(&state, link, Purpose::RESETS, reset_page).await
}

async fn reset(state: State, req: HttpRequest, body: Body) -> HttpResponse {
    let (token, new) = sent(body);
    let proof = Proof::Token(token.clone());
    let (new, asker) = (new.unwrap_or_else(|| Password::new(String::new())), asker(&state, &req, None));
    match state.users.reset_password(&proof, new, &asker).await {
        Ok(()) => {
            finished("Password changed", "You can now sign in with your new password. Other devices were signed out.")
        }
        Err(error) => failed(&state, &token, Purpose::RESETS, error, reset_page).await,
    }
}

fn reset_page(token: &str, mailed: &Mailed) -> Page {
    Page::new("Set a new password")
        .text("Choose the password that you will sign in with. Every device that is signed in now will be signed out.")
        .form(token, Some(&mailed.account), "Set password")
        .footnote("If you did not ask for this, close this page: nothing has changed.")
}

async fn show_verify(state: State, link: Query) -> HttpResponse {
    show(&state, link, &[Purpose::Verify, Purpose::Change], verify_page).await
}

async fn verify(state: State, req: HttpRequest, body: Body) -> HttpResponse {
    let (token, new) = sent(body);
    let proof = Proof::Token(token.clone());
    match state.users.prove_email(&proof, new, &asker(&state, &req, None)).await {
        Ok(()) => finished("Address confirmed", "Your e-mail address is confirmed. You can close this page."),
        Err(error) => failed(&state, &token, &[Purpose::Verify, Purpose::Change], error, verify_page).await,
    }
}

fn verify_page(token: &str, mailed: &Mailed) -> Page {
    let page = Page::new("Confirm your e-mail address");
    let page = match (mailed.moves, mailed.needs_password) {
        (true, _) => page.text(&format!(
            "{} will be the address of the account that now has {}.",
            mailed.email, mailed.account
        )),
        (false, true) => page.text(
            "This address was registered more than once. Choose the password of the account; any that was chosen before \
             becomes void.",
        ),
        (false, false) => page.text(&format!("{} is yours, and belongs to your account.", mailed.email)),
    };
    page.form(token, mailed.needs_password.then_some(mailed.account.as_str()), "Confirm")
        .footnote("If you did not ask for this, close this page: nothing has changed.")
}

async fn show_undo(state: State, link: Query) -> HttpResponse {
    show(&state, link, &[Purpose::Undo], undo_page).await
}

async fn undo(state: State, req: HttpRequest, body: Body) -> HttpResponse {
    let (token, _) = sent(body);
    match state.users.undo_change(&token, &asker(&state, &req, None)).await {
        Ok(()) => finished(
            "Change undone",
            "Your account has its address back, and every device was signed out. A mail with a link to set a new password is \
             on its way.",
        ),
        Err(error) => failed(&state, &token, &[Purpose::Undo], error, undo_page).await,
    }
}

fn undo_page(token: &str, mailed: &Mailed) -> Page {
    Page::new("Undo the change of address")
        .text(&format!(
            "The account that now has {} gets {} back. Every device will be signed out, and its password becomes void: you \
             get a mail to set a new one.",
            mailed.account, mailed.email
        ))
        .form(token, None, "Undo the change")
        .footnote("If you changed the address yourself, close this page.")
}

/// Shows what a link will do. Nothing is used up.
async fn show(
    state: &State,
    link: Query,
    purposes: &'static [Purpose],
    page: impl Fn(&str, &Mailed) -> Page,
) -> HttpResponse {
    let token = link.map(|link| link.into_inner().token).unwrap_or_default();
    match state.users.look_at_mailed(&token, purposes).await {
        Ok(mailed) => page(&token, &mailed).respond(StatusCode::OK),
        Err(error) => useless(&error.into()),
    }
}

/// What has been sent, as far as it can be read.
fn sent(body: Body) -> (String, Option<Password>) {
    body.map(|form| form.into_inner()).map_or_else(|_| (String::new(), None), |form| (form.token, form.new_password))
}

fn finished(title: &'static str, text: &str) -> HttpResponse {
    Page::new(title).text(text).respond(StatusCode::OK)
}

/// The form once more, if what was typed is the matter; else what has happened.
async fn failed(
    state: &State,
    token: &str,
    purposes: &'static [Purpose],
    error: UserError,
    page: impl Fn(&str, &Mailed) -> Page,
) -> HttpResponse {
    count_throttled(&state.metrics, Throttle::MailCode, &error);
    let mistake = match &error {
        UserError::Invalid(errors) => errors.first().map(|error| format!("The password {}.", error.message)),
        _ => None,
    };
    let problem = Problem::from(error);
    let Some(mistake) = mistake else { return useless(&problem) };
    match state.users.look_at_mailed(token, purposes).await {
        Ok(mailed) => page(token, &mailed).mistake(&mistake).respond_to(&problem),
        Err(error) => useless(&error.into()),
    }
}

fn useless(problem: &Problem) -> HttpResponse {
    let page = match problem.code() {
        Code::WrongMailCode => Page::new("This link is not valid")
            .text("It has been used already, a newer one was sent, or it is too old. Ask for another one in your app."),
        Code::NotFound => Page::new("There is nothing here").text("This server sends no mail."),
        Code::EmailTaken => Page::new("This address is taken").text("Another account has this e-mail address by now."),
        Code::RateLimited => Page::new("Too many attempts").text("Wait a while, and try the link again."),
        _ => Page::new("Try again later")
            .text("The server cannot answer just now. The link stays good: try it again soon."),
    };
    page.respond_to(problem)
}

fn describe_show(id: &str, about: &str) -> Operation {
    let operation = Operation::new("Mail", id, &format!("A page about {about}"))
        .about("Where the link in a mail leads. Asking for it changes nothing. Not found without `mail.transport`.")
        .member("parameters", json!([{ "name": "token", "in": "query", "description": "What the link carries.", "schema": { "type": "string" } }]))
        .answers("200", account_page("What will happen, and one button."));
    refused(operation)
}

fn describe_send(id: &str, does: &str) -> Operation {
    let field = json!({ "type": "string" });
    let schema = json!({ "type": "object", "properties": { "token": field, "new_password": field } });
    let content = json!({ "application/x-www-form-urlencoded": { "schema": schema, "example": { "token": "…" } } });
    let operation = Operation::new("Mail", id, &format!("What the button of a page does: {does}"))
        .about("For the form of the page. Programs have a route of their own, which does the same.")
        .member("requestBody", json!({ "required": true, "content": content }))
        .answers("200", account_page("What has happened."))
        .answers("422", account_page("The password is not acceptable: the form once more."));
    refused(operation)
}

fn refused(operation: Operation) -> Operation {
    let pages = [
        ("400", "The link is wrong, or has been used, or is too old."),
        ("404", "This server sends no mail."),
        ("409", "Another account has the address."),
        ("429", "There were too many attempts."),
        ("503", "The server cannot answer just now."),
    ];
    pages.into_iter().fold(operation, |operation, (status, about)| operation.answers(status, account_page(about)))
}
