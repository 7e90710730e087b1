//! `user`: accounts, in the hands of an operator.

use clap::Subcommand;

use super::listing::{Listing, json, or_dash, visible};
use super::services::{self, account, no_account, refused, unanswered, wait_for};
use super::views::PortraitView;
use super::{Failure, password, say};
use crate::config::Config;
use crate::services::Accounts;
use crate::store::users::AccountRow;
use crate::users::administration::Portrait;
use crate::users::login_limiter::Lock;
use crate::users::search::Search;
use crate::users::{Registration, UserError};

/// Events that `show` shows.
const RECENT: i64 = 10;

/// What can be done with accounts.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// Make an account; the password is asked for, or read from standard input
    ///
    /// It is checked like a registration.
    Create {
        /// The address to log in with
        email: String,
        /// What the user is called
        #[arg(long)]
        name: Option<String>,
        /// A role to begin with; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
    },
    /// List all accounts, the oldest first
    List {
        /// Only those whose address, name or id contains this, in capitals or not
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show an account: its live sessions counted, whether wrong passwords lock it, and what has happened to it lately
    Show {
        /// Its address or id
        email: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Close an account: logging in to it is refused, and its sessions end at once
    Disable {
        /// Its address or id
        email: String,
    },
    /// Open a disabled account again
    Enable {
        /// Its address or id
        email: String,
    },
    /// Replace a password, asked for or read from standard input, and end all sessions of the account
    ///
    /// The wrong passwords that are counted at the account are forgotten.
    SetPassword {
        /// Its address or id
        email: String,
    },
    /// Give an account another address, which counts as not proven; its sessions stay
    SetEmail {
        /// The address it has, or its id
        email: String,
        /// The address to log in with from now on
        new: String,
    },
    /// Forget the wrong passwords that are counted at an account, so that it can be logged in to again
    Unlock {
        /// Its address or id
        email: String,
    },
    /// Grant a role; access tokens carry it from the next refresh on
    Grant {
        /// The account's address or id
        email: String,
        /// 1 to 64 letters, digits and any of _ - . : / as in `admin` or `orders:read`
        role: String,
    },
    /// Take a role away; access tokens lose it at the next refresh
    RevokeRole {
        /// The account's address or id
        email: String,
        /// As it was granted
        role: String,
    },
    /// Remove the second factor of an account whose owner has lost it; the password alone is asked for then
    DisableMfa {
        /// Its address or id
        email: String,
    },
    /// Set claims that access tokens of an account have besides, from the next refresh on
    ///
    /// They take the place of those that were set before. {} takes them away.
    SetClaims {
        /// The account's address or id
        email: String,
        /// A JSON object of at most 1 KiB, as in '{"plan":"gold"}'; not the names that access tokens have already, nor nbf, acr,
        /// azp, scope, email, email_verified, name
        claims: String,
    },
    /// Delete an account for good: its sessions end, and what is known of its past goes
    Delete {
        /// Its address or id
        email: String,
        /// Yes, this cannot be undone
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command.
pub fn run(config: &Config, command: Command) -> Result<(), Failure> {
    let accounts = services::open(config)?;
    wait_for(async {
        match command {
            Command::Create { email, name, roles } => create(&accounts, email, name, roles).await,
            Command::List { search, json } => list(&accounts, search.as_deref(), json).await,
            Command::Show { email, json } => show(&accounts, &email, json).await,
            Command::Disable { email } => disable(&accounts, &email).await,
            Command::Enable { email } => enable(&accounts, &email).await,
            Command::SetPassword { email } => set_password(&accounts, &email).await,
            Command::SetEmail { email, new } => set_email(&accounts, &email, &new).await,
            Command::Unlock { email } => unlock(&accounts, &email).await,
            Command::Grant { email, role } => grant(&accounts, &email, role).await,
            Command::RevokeRole { email, role } => revoke_role(&accounts, &email, role).await,
            Command::DisableMfa { email } => disable_mfa(&accounts, &email).await,
            Command::SetClaims { email, claims } => set_claims(&accounts, &email, &claims).await,
            Command::Delete { email, yes } => delete(&accounts, &email, yes).await,
        }
    })
}

async fn create(accounts: &Accounts, email: String, name: Option<String>, roles: Vec<String>) -> Result<(), Failure> {
    let taken = || Failure(format!("{} has an account already", visible(&email)));
    // Told before a password has been typed twice.
    if accounts.users.find(&email).await.map_err(unanswered)?.is_some() {
        return Err(taken());
    }
    let registration = Registration { email: email.clone(), password: password::read()?, name };
    let made = accounts.users.create(registration, roles).await.map_err(|error| match error {
        UserError::EmailTaken => taken(),
        other => refused(other),
    })?;
    say(format_args!("{} has an account now ({})", visible(&made.email), made.id))
}

async fn list(accounts: &Accounts, search: Option<&str>, json: bool) -> Result<(), Failure> {
    let (mut listing, mut after) = (Listing::new(json), None);
    let search = search.map(Search::of);
    let nothing = if search.is_some() { "no account is like that" } else { "there are no accounts" };
    loop {
        let mut page = accounts.users.page(after).await.map_err(unanswered)?;
        let Some(last) = page.last() else { return listing.end(nothing) };
        after = Some(last.user.id);
        if let Some(search) = &search {
            page.retain(|account| search.finds(account));
        }
        if !listing.page(&page)? {
            return Ok(());
        }
    }
}

async fn show(accounts: &Accounts, email: &str, as_json: bool) -> Result<(), Failure> {
    let portrait = accounts.users.portray(email, RECENT).await.map_err(unanswered)?.ok_or_else(|| no_account(email))?;
    if as_json {
        return say(format_args!("{}", json(&PortraitView::from(&portrait))?));
    }
    let Portrait { account, live_sessions, locks, events } = portrait;
    let user = &account.user;
    let lines = [
        ("e-mail", user.email.clone()),
        ("id", user.id.to_string()),
        ("name", or_dash(user.name.as_deref())),
        ("roles", or_dash(Some(&user.roles.clone().into_names().join(", ")))),
        ("state", state(&account)),
        ("mfa", user.mfa_since.map_or("no".to_owned(), |at| format!("since {}", at.to_rfc3339()))),
        ("claims", or_dash(account.claims.as_deref())),
        ("created", user.created_at.to_rfc3339()),
        ("last log-in", or_dash(account.last_login_at.map(|at| at.to_rfc3339()).as_deref())),
        ("sessions", format!("{live_sessions} live")),
    ];
    let locked = if locks.is_empty() { vec!["no".to_owned()] } else { locks.iter().map(locked).collect() };
    for (what, value) in lines.into_iter().chain(locked.into_iter().map(|lock| ("locked", lock))) {
        say(format_args!("{what:<13}{}", visible(&value)))?;
    }
    say(format_args!(""))?;
    let mut listing = Listing::new(false);
    listing.page(&events)?;
    listing.end("nothing has happened lately")
}

async fn disable(accounts: &Accounts, email: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let (changed, ended) = accounts.users.disable(user.id).await.map_err(refused)?;
    let already = if changed { "" } else { " already" };
    say(format_args!("{} is disabled{already}; {}", visible(&user.email), have_ended(ended, None)))
}

async fn enable(accounts: &Accounts, email: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let changed = accounts.users.enable(user.id).await.map_err(refused)?;
    let already = if changed { "" } else { " already" };
    say(format_args!("{} is enabled{already}", visible(&user.email)))
}

async fn set_password(accounts: &Accounts, email: &str) -> Result<(), Failure> {
    let account = account(accounts, email).await?;
    let ended = accounts.users.set_password(&account, password::read()?).await.map_err(refused)?;
    say(format_args!("{} has a new password; {}", visible(&account.user.email), have_ended(ended, None)))
}

async fn set_email(accounts: &Accounts, email: &str, new: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    accounts.users.set_email(&user, new).await.map_err(|error| match error {
        UserError::EmailTaken => {
            Failure(format!("{} has an account already; nothing was changed", visible(new.trim())))
        }
        other => refused(other),
    })?;
    let (old, new) = (visible(&user.email), visible(crate::email::trim(new)));
    say(format_args!("{old} is {new} from now on; its sessions stay"))
}

async fn unlock(accounts: &Accounts, email: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let counted = accounts.users.unlock(user.id).await.map_err(refused)?;
    let what = if counted { "the wrong passwords counted at it are forgotten" } else { "nothing was counted at it" };
    say(format_args!("{} is not locked: {what}", visible(&user.email)))
}

async fn grant(accounts: &Accounts, email: &str, role: String) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let changed = accounts.users.grant(user.id, role.clone()).await.map_err(refused)?;
    let when = if changed { "; access tokens carry it from the next refresh on" } else { " already" };
    say(format_args!("{} has the role {role}{when}", visible(&user.email)))
}

async fn revoke_role(accounts: &Accounts, email: &str, role: String) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let (email, shown) = (visible(&user.email), visible(&role));
    if accounts.users.revoke_role(user.id, role).await.map_err(refused)? {
        return say(format_args!("{email} no longer has the role {shown}; access tokens lose it at the next refresh"));
    }
    let roles = or_dash(Some(&user.roles.into_names().join(", ")));
    Err(Failure(format!("{email} does not have the role {shown}; nothing was changed (roles: {roles})")))
}

async fn disable_mfa(accounts: &Accounts, email: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let changed = accounts.users.disable_second_factor(user.id).await.map_err(refused)?;
    let already = if changed { "" } else { " already" };
    say(format_args!("{} has no second factor{already}; log-ins take the password alone", visible(&user.email)))
}

async fn set_claims(accounts: &Accounts, email: &str, claims: &str) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let any = accounts.users.set_claims(user.id, claims).await.map_err(refused)?;
    let has = if any { "these claims" } else { "no claims of its own" };
    say(format_args!("{} has {has}; access tokens say so from the next refresh on", visible(&user.email)))
}

async fn delete(accounts: &Accounts, email: &str, yes: bool) -> Result<(), Failure> {
    let user = account(accounts, email).await?.user;
    let email = visible(&user.email);
    if !yes {
        return Err(Failure(format!("deleting {email} cannot be undone: add --yes to do it")));
    }
    let ended = accounts.users.remove(user.id).await.map_err(refused)?;
    say(format_args!("{email} is deleted; {}", have_ended(ended, None)))
}

/// So many sessions, of one user if one is named, have ended.
pub fn have_ended(sessions: usize, user: Option<&str>) -> String {
    let of = user.map(|email| format!(" of {}", visible(email))).unwrap_or_default();
    match sessions {
        1 => format!("1 session{of} has ended"),
        many => format!("{many} sessions{of} have ended"),
    }
}

fn locked(lock: &Lock) -> String {
    let until = lock.until.to_rfc3339();
    match &lock.ip_address {
        Some(address) => format!("from {address}, until {until}"),
        None => format!("from everywhere but where it is signed in, until {until}"),
    }
}

fn state(account: &AccountRow) -> String {
    match account.user.disabled_at {
        Some(at) => format!("disabled since {}", at.to_rfc3339()),
        None => "enabled".to_owned(),
    }
}
