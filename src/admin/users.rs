//! Accounts.

use super::Error;
use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::passwords::Password;
use crate::store::users::{AccountRow, NewUser as NewRow, UserRow};
use crate::users::Registration;

/// Accounts: found, made, changed and deleted. Clones share what is behind them.
#[derive(Clone)]
pub struct Users {
    pub(crate) users: crate::users::Users,
}

/// An account.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct User {
    /// Its id: `sub` of its tokens.
    pub id: UserId,
    /// The e-mail address, as it was given.
    pub email: String,
    /// What the user is called.
    pub name: Option<String>,
    /// The roles that it has now; access tokens carry them from the next refresh on.
    pub roles: Vec<String>,
    /// Whether the address was proven.
    pub email_verified: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was disabled, if it is.
    pub disabled_at: Option<Timestamp>,
    /// When its owner last logged in.
    pub last_login_at: Option<Timestamp>,
    /// Whether a second factor is asked for at log-in.
    pub mfa: bool,
}

/// An account to be made. `Debug` does not show the password.
#[derive(Debug)]
pub struct NewUser {
    email: String,
    password: Password,
    name: Option<String>,
    roles: Vec<String>,
}

impl NewUser {
    /// With these, without a name and without roles.
    pub fn new(email: impl Into<String>, password: impl Into<String>) -> Self {
        Self { email: email.into(), password: Password::new(password.into()), name: None, roles: Vec::new() }
    }

    /// What the user is called.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A role; several calls give several.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }
}

impl Users {
    /// The account with this e-mail address, compared as a log-in compares it, or with this id, as on the command line.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn find(&self, email: &str) -> Result<Option<User>, Error> {
        Ok(self.users.find(email).await?.map(User::from))
    }

    /// The account with this id.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn get(&self, id: UserId) -> Result<Option<User>, Error> {
        Ok(self.users.find_by_id(id).await?.map(User::from))
    }

    /// Some accounts in the order in which they were made, from the one after `after` on. None: there are no more.
    ///
    /// # Errors
    ///
    /// If the database gave no answer.
    pub async fn page(&self, after: Option<UserId>) -> Result<Vec<User>, Error> {
        Ok(self.users.page(after).await?.into_iter().map(User::from).collect())
    }

    /// Makes an account, checked like a registration, and no session.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] naming every bad member, [`Error::EmailTaken`], or no answer.
    pub async fn create(&self, new: NewUser) -> Result<User, Error> {
        let NewUser { email, password, name, roles } = new;
        Ok(self.users.create(Registration { email, password, name }, roles).await?.into())
    }

    /// Disables an account and ends its sessions, in one transaction. Returns whether it was enabled.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchUser`], or no answer.
    pub async fn disable(&self, id: UserId) -> Result<bool, Error> {
        let (changed, _) = self.users.disable(id).await?;
        Ok(changed)
    }

    /// Enables a disabled account. Returns whether it was disabled.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchUser`], or no answer.
    pub async fn enable(&self, id: UserId) -> Result<bool, Error> {
        Ok(self.users.enable(id).await?)
    }

    /// Replaces the password, and ends every session of the account.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::NoSuchUser`], or no answer.
    pub async fn set_password(&self, id: UserId, password: impl Into<String>) -> Result<(), Error> {
        let password = Password::new(password.into());
        let account = self.users.find_by_id(id).await?.ok_or(Error::NoSuchUser)?;
        self.users.set_password(&account, password).await?;
        Ok(())
    }

    /// Grants a role, which access tokens carry from the next refresh on. Returns whether it was missing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::NoSuchUser`], or no answer.
    pub async fn grant(&self, id: UserId, role: impl Into<String>) -> Result<bool, Error> {
        Ok(self.users.grant(id, role.into()).await?)
    }

    /// Takes a role away, which access tokens carry until the next refresh. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchUser`], or no answer.
    pub async fn revoke_role(&self, id: UserId, role: impl Into<String>) -> Result<bool, Error> {
        Ok(self.users.revoke_role(id, role.into()).await?)
    }

    /// Deletes an account for good: its sessions end, its events go.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchUser`], or no answer.
    pub async fn delete(&self, id: UserId) -> Result<(), Error> {
        self.users.remove(id).await?;
        Ok(())
    }
}

impl From<AccountRow> for User {
    fn from(account: AccountRow) -> Self {
        let AccountRow { user, last_login_at, .. } = account;
        let UserRow { id, email, name, roles, email_verified, created_at, disabled_at, mfa_since } = user;
        Self {
            id,
            email,
            name,
            roles: roles.into_names(),
            email_verified,
            created_at,
            disabled_at,
            last_login_at,
            mfa: mfa_since.is_some(),
        }
    }
}

impl From<NewRow> for User {
    fn from(new: NewRow) -> Self {
        Self {
            id: new.id,
            email: new.email,
            name: new.name,
            roles: new.roles.into_names(),
            email_verified: new.email_verified,
            created_at: new.created_at,
            disabled_at: None,
            last_login_at: None,
            mfa: false,
        }
    }
}
