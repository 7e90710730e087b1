//! Accounts that contain a text in their address, name or id.

use crate::email::{self, EmailKey};
use crate::store::users::AccountRow;

/// What accounts are searched for.
pub struct Search {
    text: String,
    domain: Option<String>,
}

impl Search {
    /// Anything that contains this text, without case.
    pub fn of(text: &str) -> Self {
        let text = email::trim(text);
        // An address may be kept in another spelling than it is searched for in.
        let domain = text.rsplit_once('@').map_or(text, |(_, domain)| domain);
        Self { text: email::fold(text), domain: email::domain(domain).filter(|_| !domain.is_ascii()) }
    }

    /// Whether the account's address, name or id contains it.
    pub fn finds(&self, account: &AccountRow) -> bool {
        let user = &account.user;
        let name = user.name.as_deref().unwrap_or_default();
        let (email, key, id) = (email::fold(&user.email), EmailKey::of(&user.email), user.id.to_string());
        let contains = |text: &str| text.contains(&self.text);
        let of_domain = self.domain.as_ref().is_some_and(|domain| match self.text.rsplit_once('@') {
            Some((local, _)) => key.current().contains(&format!("{local}@{domain}")),
            None => key.current().contains(domain.as_str()),
        });
        contains(&email) || contains(key.current()) || contains(&email::fold(name)) || contains(&id) || of_domain
    }
}
