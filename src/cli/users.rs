//! `user`: accounts, in the hands of an operator.

use clap::Subcommand;

use super::listing::{Listing, json, or_dash, visible};
use super::portraits::PortraitView;
use super::services::{Services, nobody, refused, unanswered, wait_for};
use super::{Failure, password, say};
use crate::config::Config;
use crate::store::users::AccountRow;
use crate::users::administration::Portrait;
use crate::users::{Registration, UserError};

/// Events that `show` shows.
const RECENT: i64 = 10;

/// What can be done with accounts.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// Make an account; the password is asked for, or read from standard input
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
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show an account, how many live sessions it has, and what has happened to it lately
    Show {
        /// Whose
        email: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Close an account: nobody can log in to it, and its sessions end at once
    Disable {
        /// Whose
        email: String,
    },
    /// Open a disabled account again
    Enable {
        /// Whose
        email: String,
    },
    /// Replace a password, asked for or read from standard input, and end all sessions of the account
    SetPassword {
        /// Whose
        email: String,
    },
    /// Grant a role; access tokens carry it from the next refresh on
    Grant {
        /// To whom
        email: String,
        /// 1 to 64 letters, digits and any of _ - . : / as in `admin` or `orders:read`
        role: String,
    },
    /// Take a role away; access tokens lose it at the next refresh
    RevokeRole {
        /// From whom
        email: String,
        /// As it was granted
        role: String,
    },
    /// Delete an account for good: its sessions end, and what is known of its past goes
    Delete {
        /// Whose
        email: String,
        /// Yes, this cannot be undone
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command.
pub fn run(config: &Config, command: Command) -> Result<(), Failure> {
    let services = Services::open(config)?;
    wait_for(async {
        match command {
            Command::Create { email, name, roles } => create(&services, email, name, roles).await,
            Command::List { json } => list(&services, json).await,
            Command::Show { email, json } => show(&services, &email, json).await,
            Command::Disable { email } => disable(&services, &email).await,
            Command::Enable { email } => enable(&services, &email).await,
            Command::SetPassword { email } => set_password(&services, &email).await,
            Command::Grant { email, role } => grant(&services, &email, role).await,
            Command::RevokeRole { email, role } => revoke_role(&services, &email, role).await,
            Command::Delete { email, yes } => delete(&services, &email, yes).await,
        }
    })
}

async fn create(services: &Services, email: String, name: Option<String>, roles: Vec<String>) -> Result<(), Failure> {
    let taken = || Failure(format!("{} has an account already", visible(&email)));
    // Told before somebody has typed a password twice.
    if services.users.find(&email).await.map_err(unanswered)?.is_some() {
        return Err(taken());
    }
    let registration = Registration { email: email.clone(), password: password::read()?, name };
    let made = services.users.create(registration, roles).await.map_err(|error| match error {
        UserError::EmailTaken => taken(),
        other => refused(other),
    })?;
    say(format_args!("{} has an account now ({})", visible(&made.email), made.id))
}

async fn list(services: &Services, json: bool) -> Result<(), Failure> {
    let (mut listing, mut after) = (Listing::new(json), None);
    loop {
        let page = services.users.page(after).await.map_err(unanswered)?;
        let Some(last) = page.last() else { return listing.end("there are no accounts") };
        after = Some(last.user.id);
        if !listing.page(&page)? {
            return Ok(());
        }
    }
}

async fn show(services: &Services, email: &str, as_json: bool) -> Result<(), Failure> {
    let portrait = services.users.portray(email, RECENT).await.map_err(unanswered)?.ok_or_else(|| nobody(email))?;
    if as_json {
        return say(format_args!("{}", json(&PortraitView::from(&portrait))?));
    }
    let Portrait { account, live_sessions, events } = portrait;
    let user = &account.user;
    let lines = [
        ("e-mail", user.email.clone()),
        ("id", user.id.to_string()),
        ("name", or_dash(user.name.as_deref())),
        ("roles", or_dash(Some(&user.roles.clone().into_names().join(", ")))),
        ("state", state(&account)),
        ("created", user.created_at.to_rfc3339()),
        ("last log-in", or_dash(account.last_login_at.map(|at| at.to_rfc3339()).as_deref())),
        ("sessions", format!("{live_sessions} live")),
    ];
    for (what, value) in lines {
        say(format_args!("{what:<13}{}", visible(&value)))?;
    }
    say(format_args!(""))?;
    let mut listing = Listing::new(false);
    listing.page(&events)?;
    listing.end("nothing has happened lately")
}

async fn disable(services: &Services, email: &str) -> Result<(), Failure> {
    let user = services.account(email).await?.user;
    let (changed, ended) = services.users.disable(user.id).await.map_err(refused)?;
    let already = if changed { "" } else { " already" };
    say(format_args!("{} is disabled{already}; {}", visible(&user.email), have_ended(ended, None)))
}

async fn enable(services: &Services, email: &str) -> Result<(), Failure> {
    let user = services.account(email).await?.user;
    let changed = services.users.enable(user.id).await.map_err(refused)?;
    let already = if changed { "" } else { " already" };
    say(format_args!("{} is enabled{already}", visible(&user.email)))
}

async fn set_password(services: &Services, email: &str) -> Result<(), Failure> {
    let account = services.account(email).await?;
    let ended = services.users.set_password(&account, password::read()?).await.map_err(refused)?;
    say(format_args!("{} has a new password; {}", visible(&account.user.email), have_ended(ended, None)))
}

async fn grant(services: &Services, email: &str, role: String) -> Result<(), Failure> {
    let user = services.account(email).await?.user;
    let changed = services.users.grant(user.id, role.clone()).await.map_err(refused)?;
    let when = if changed { "; access tokens carry it from the next refresh on" } else { " already" };
    say(format_args!("{} has the role {role}{when}", visible(&user.email)))
}

async fn revoke_role(services: &Services, email: &str, role: String) -> Result<(), Failure> {
    let user = services.account(email).await?.user;
    let (email, shown) = (visible(&user.email), visible(&role));
    if services.users.revoke_role(user.id, role).await.map_err(refused)? {
        return say(format_args!("{email} no longer has the role {shown}; access tokens lose it at the next refresh"));
    }
    let roles = or_dash(Some(&user.roles.into_names().join(", ")));
    Err(Failure(format!("{email} does not have the role {shown}; nothing was changed (roles: {roles})")))
}

async fn delete(services: &Services, email: &str, yes: bool) -> Result<(), Failure> {
    let user = services.account(email).await?.user;
    let email = visible(&user.email);
    if !yes {
        return Err(Failure(format!("deleting {email} cannot be undone: add --yes to do it")));
    }
    let ended = services.users.remove(user.id).await.map_err(refused)?;
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

fn state(account: &AccountRow) -> String {
    match account.user.disabled_at {
        Some(at) => format!("disabled since {}", at.to_rfc3339()),
        None => "enabled".to_owned(),
    }
}
