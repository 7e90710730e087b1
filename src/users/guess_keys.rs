//! What guesses are counted under. Keys are digests: of an account that exists, of an address where there is none.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};

use crate::ids::UserId;
use crate::network::{rate_limit_key, shown};
use crate::store::attempts::{AttemptKey, Limit, Totals};

/// One account, and one address, have this many times the guesses that one account has from one address.
pub const WIDER: i64 = 10;
/// What is counted.
pub const PAIR: &str = "account_and_address";
pub const ACCOUNT: &str = "account";
pub const ADDRESS: &str = "address";
/// What stands for the address of a client that has none, as on a Unix socket.
const NO_ADDRESS: &str = "-";

/// What is counted of codes of second factors, and how many may be wrong within [`CODE_WINDOW`]: there are a million of them,
/// of which three are right at any time.
const CODE: &str = "code";
const CODES: i64 = 5;
/// How long a wrong one counts.
pub const CODE_WINDOW: Duration = Duration::from_secs(15 * 60);

/// How many; `limits.*`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Failures at one account from one address.
    pub failures: u32,
    /// How long a failure counts.
    pub window: Duration,
}

/// Whose password is guessed at.
#[derive(Clone, Debug)]
pub enum Target {
    /// An account's.
    Account(UserId),
    /// Of no account: the address, as it is compared.
    Unknown(String),
}

/// What is counted, under which key, and up to what.
#[derive(Clone)]
pub struct Limited {
    /// What it is called.
    pub name: &'static str,
    /// The rest.
    pub limit: Limit,
}

/// Without their names.
pub fn limits_of(keys: &[Limited]) -> Vec<Limit> {
    keys.iter().map(|key| key.limit.clone()).collect()
}

/// The narrowest first: in one order everywhere, so that two guesses never wait for each other.
pub fn keys_of(target: &Target, address: Option<IpAddr>, limits: Limits) -> Vec<Limited> {
    let (narrow, network) = (i64::from(limits.failures), address.map(rate_limit_key));
    let from = network.map_or(NO_ADDRESS.to_owned(), |network| network.to_string());
    let wide = narrow.saturating_mul(WIDER);
    let totals = totals_of(target, address);
    let (kind, name) = named(target);
    let user_id = if let Target::Account(id) = target { Some(*id) } else { None };
    // Addresses are kept at accounts that exist only, whose events have them as well.
    let ip_address = user_id.map(|_| address.map_or(NO_ADDRESS.to_owned(), shown));
    let pair = Limit { key: key(&[PAIR, kind, &name, &from]), limit: narrow, user_id, ip_address };
    let account = Limit { key: totals.account, limit: wide, user_id, ip_address: None };
    let address = totals.address.map(|key| Limit { key, limit: wide, user_id: None, ip_address: None });
    let keys = [(PAIR, Some(pair)), (ACCOUNT, Some(account)), (ADDRESS, address)];
    keys.into_iter().filter_map(|(name, limit)| Some(Limited { name, limit: limit? })).collect()
}

/// Under what guesses at the codes of a second factor are counted: at the account from one address, and from everywhere.
pub fn code_keys_of(user: UserId, address: Option<IpAddr>) -> (Vec<Limited>, Totals) {
    let from = address.map_or(NO_ADDRESS.to_owned(), |address| rate_limit_key(address).to_string());
    let (id, ip_address) = (user.to_string(), Some(address.map_or(NO_ADDRESS.to_owned(), shown)));
    let totals = Totals { account: key(&[CODE, ACCOUNT, &id]), address: None };
    let pair = Limit { key: key(&[CODE, PAIR, &id, &from]), limit: CODES, user_id: Some(user), ip_address };
    let account = Limit { key: totals.account, limit: CODES, user_id: Some(user), ip_address: None };
    let mut keys = vec![Limited { name: PAIR, limit: pair }, Limited { name: ACCOUNT, limit: account }];
    if address.is_none() {
        keys.retain(|key| key.name == ACCOUNT);
    }
    (keys, totals)
}

/// Where the totals of a guess are.
pub fn totals_of(target: &Target, address: Option<IpAddr>) -> Totals {
    let (kind, name) = named(target);
    let address = address.map(|address| key(&[ADDRESS, &rate_limit_key(address).to_string()]));
    Totals { account: key(&[ACCOUNT, kind, &name]), address }
}

/// What an account is counted under: itself, whatever its address is by now.
fn named(target: &Target) -> (&'static str, String) {
    match target {
        Target::Account(id) => ("id", id.to_string()),
        Target::Unknown(email_key) => ("address", email_key.clone()),
    }
}

/// A digest of what is counted. The parts cannot run into each other: each is preceded by its length.
pub fn key(parts: &[&str]) -> AttemptKey {
    let mut key = AttemptKey::default();
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    key.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    key
}

/// Under what all guesses at the codes of an account's second factor are counted together.
pub fn total_of_codes(user: UserId) -> AttemptKey {
    code_keys_of(user, None).1.account
}
