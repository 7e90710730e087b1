//! Queries on what was mailed to prove something.

use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::schema::mail_tokens;
use crate::clock::Timestamp;
use crate::email::EmailKey;
use crate::ids::{MailTokenId, UserId};
use crate::store::engine::connection::in_savepoint;
use crate::store::{AnyConnection, too_many_conflicts};
use crate::tokens::mailed::MailTokenDigest;

/// How often a code may be tried.
const MAX_TRIES: i64 = 5;
/// How often one that lost a race against another is added again.
const MAX_CAS_RETRIES: usize = 8;

/// What a token or a code is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new password.
    Reset,
    /// The same, for the owner of an address that was registered again: it leaves the one that the owner asked for.
    Known,
    /// The account's present address is its user's.
    Verify,
    /// The account gets this address.
    Change,
    /// The account gets its address back.
    Undo,
}

impl Purpose {
    /// Those of which each sets a new password.
    pub const RESETS: &'static [Self] = &[Self::Reset, Self::Known];
    /// Those that end with the address or the password that they are about.
    pub const ALL_BUT_UNDO: &'static [Self] = &[Self::Reset, Self::Known, Self::Verify, Self::Change];

    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Known => "known",
            Self::Verify => "verify",
            Self::Change => "change",
            Self::Undo => "undo",
        }
    }

    /// How long the token is good.
    pub fn lifetime(self) -> Duration {
        const HOUR: u64 = 60 * 60;
        Duration::from_secs(match self {
            Self::Reset | Self::Known => HOUR,
            Self::Verify | Self::Change => 24 * HOUR,
            Self::Undo => 7 * 24 * HOUR,
        })
    }
}

/// A token to be kept.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = mail_tokens)]
pub struct NewMailToken {
    /// Its id.
    pub id: MailTokenId,
    /// Whose.
    pub user_id: UserId,
    /// The name of a [`Purpose`].
    pub purpose: &'static str,
    /// What it is known by.
    pub token_hash: MailTokenDigest,
    /// Where it goes; of [`Purpose::Undo`] what the account gets back.
    pub email: String,
    /// The same as it is compared.
    pub email_key: String,
    /// What its code is known by, if it has one.
    pub code_tag: Option<Vec<u8>>,
    /// When that ends.
    pub code_expires_at: Timestamp,
    /// None yet.
    pub code_tries: i64,
    /// Now.
    pub created_at: Timestamp,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// A token that is good.
#[derive(Clone, Debug, Queryable)]
pub struct MailTokenRow {
    /// Its id.
    pub id: MailTokenId,
    /// Whose.
    pub user_id: UserId,
    purpose: String,
    /// Where it went; of [`Purpose::Undo`] what the account gets back.
    pub email: String,
    /// The same as it is compared.
    pub email_key: String,
    /// What its code is known by.
    pub code_tag: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl MailTokenRow {
    /// Whether it is good for this.
    pub fn is_for(&self, purpose: Purpose) -> bool {
        self.purpose == purpose.as_str()
    }
}

type Columns = (
    mail_tokens::id,
    mail_tokens::user_id,
    mail_tokens::purpose,
    mail_tokens::email,
    mail_tokens::email_key,
    mail_tokens::code_tag,
    mail_tokens::created_at,
);
const COLUMNS: Columns = (
    mail_tokens::id,
    mail_tokens::user_id,
    mail_tokens::purpose,
    mail_tokens::email,
    mail_tokens::email_key,
    mail_tokens::code_tag,
    mail_tokens::created_at,
);

fn names(purposes: &[Purpose]) -> Vec<&'static str> {
    purposes.iter().map(|purpose| purpose.as_str()).collect()
}

/// Keeps a token. One for the same before it is good no more; those that undo a change each undo their own.
pub fn replace(conn: &mut AnyConnection, new: &NewMailToken) -> QueryResult<()> {
    let before = mail_tokens::table
        .filter(mail_tokens::user_id.eq(new.user_id))
        .filter(mail_tokens::purpose.eq(new.purpose))
        .filter(mail_tokens::purpose.ne(Purpose::Undo.as_str()));
    for _ in 0..MAX_CAS_RETRIES {
        diesel::delete(before).execute(conn)?;
        match in_savepoint(conn, |conn| diesel::insert_into(mail_tokens::table).values(new).execute(conn)) {
            Ok(_) => return Ok(()),
            // Another transaction has added one meanwhile.
            Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_many_conflicts())
}

/// The token that is known by this, if it is good for one of these.
pub fn find(
    conn: &mut AnyConnection,
    token: MailTokenDigest,
    purposes: &[Purpose],
    now: Timestamp,
) -> QueryResult<Option<MailTokenRow>> {
    mail_tokens::table
        .filter(mail_tokens::token_hash.eq(token))
        .filter(mail_tokens::purpose.eq_any(names(purposes)))
        .filter(mail_tokens::expires_at.gt(now))
        .select(COLUMNS)
        .first(conn)
        .optional()
}

/// The tokens whose codes were sent to this address and may still be tried, each with one try less.
pub fn try_codes(
    conn: &mut AnyConnection,
    email: &EmailKey,
    purposes: &[Purpose],
    now: Timestamp,
) -> QueryResult<Vec<MailTokenRow>> {
    // PostgreSQL takes it for a mistake to ask for one like that.
    if email.current().contains('\0') {
        return Ok(Vec::new());
    }
    let open = mail_tokens::table
        .filter(mail_tokens::email_key.eq(email.current()))
        .filter(mail_tokens::purpose.eq_any(names(purposes)))
        .filter(mail_tokens::code_expires_at.gt(now))
        .filter(mail_tokens::code_tries.lt(MAX_TRIES));
    let counted = diesel::update(open).set(mail_tokens::code_tries.eq(mail_tokens::code_tries + 1));
    counted.returning(COLUMNS).get_results(conn)
}

/// Does as much work as a try of a code, and leaves nothing.
pub fn pretend_to_try(conn: &mut AnyConnection, decoy: &NewMailToken) -> QueryResult<()> {
    diesel::insert_into(mail_tokens::table).values(decoy).execute(conn)?;
    diesel::delete(mail_tokens::table.find(decoy.id)).execute(conn)?;
    Ok(())
}

/// Takes a try back: it was right, and what it was for has failed for another reason.
pub fn take_try_back(conn: &mut AnyConnection, id: MailTokenId) -> QueryResult<()> {
    let tried = mail_tokens::table.find(id).filter(mail_tokens::code_tries.gt(0));
    diesel::update(tried).set(mail_tokens::code_tries.eq(mail_tokens::code_tries - 1)).execute(conn)?;
    Ok(())
}

/// Uses a token up. `false`: it is not good any more.
pub fn consume(conn: &mut AnyConnection, id: MailTokenId, now: Timestamp) -> QueryResult<bool> {
    let good = mail_tokens::table.find(id).filter(mail_tokens::expires_at.gt(now));
    Ok(diesel::delete(good).execute(conn)? == 1)
}

/// Makes every token of an account useless that is for one of these.
pub fn kill(conn: &mut AnyConnection, user: UserId, purposes: &[Purpose]) -> QueryResult<()> {
    let theirs = mail_tokens::table.filter(mail_tokens::user_id.eq(user));
    diesel::delete(theirs.filter(mail_tokens::purpose.eq_any(names(purposes)))).execute(conn)?;
    Ok(())
}

/// Makes those useless that undo a change of address of this time or later.
pub fn kill_undo_since(conn: &mut AnyConnection, user: UserId, since: Timestamp) -> QueryResult<()> {
    let theirs = mail_tokens::table.filter(mail_tokens::user_id.eq(user));
    let later =
        theirs.filter(mail_tokens::purpose.eq(Purpose::Undo.as_str())).filter(mail_tokens::created_at.ge(since));
    diesel::delete(later).execute(conn)?;
    Ok(())
}

/// Makes those useless that undo changes since the account had this address last: it has it again.
pub fn kill_undo_from(conn: &mut AnyConnection, user: UserId, email: &EmailKey) -> QueryResult<()> {
    let restores = mail_tokens::table
        .filter(mail_tokens::user_id.eq(user))
        .filter(mail_tokens::purpose.eq(Purpose::Undo.as_str()))
        .filter(mail_tokens::email_key.eq(email.current()))
        .order(mail_tokens::created_at)
        .select(mail_tokens::created_at);
    let since: Option<Timestamp> = restores.first(conn).optional()?;
    since.map_or(Ok(()), |since| kill_undo_since(conn, user, since))
}

/// Whether an address may still go back to an account, another than `to`.
pub fn is_reserved(
    conn: &mut AnyConnection,
    email: &EmailKey,
    to: Option<UserId>,
    now: Timestamp,
) -> QueryResult<bool> {
    let holders = mail_tokens::table
        .filter(mail_tokens::email_key.eq(email.current()))
        .filter(mail_tokens::purpose.eq(Purpose::Undo.as_str()))
        .filter(mail_tokens::expires_at.gt(now))
        .select(mail_tokens::user_id);
    let holders: Vec<UserId> = holders.load(conn)?;
    Ok(holders.into_iter().any(|holder| Some(holder) != to))
}

/// Removes what is kept of an account that has been deleted.
pub fn forget(conn: &mut AnyConnection, user: UserId) -> QueryResult<()> {
    diesel::delete(mail_tokens::table.filter(mail_tokens::user_id.eq(user))).execute(conn)?;
    Ok(())
}

/// Removes at most `limit` tokens that are good no more. Returns how many.
pub fn purge(conn: &mut AnyConnection, now: Timestamp, limit: i64) -> QueryResult<usize> {
    let expired = mail_tokens::table.filter(mail_tokens::expires_at.le(now)).select(mail_tokens::id).limit(limit);
    let expired: Vec<MailTokenId> = expired.load(conn)?;
    diesel::delete(mail_tokens::table.filter(mail_tokens::id.eq_any(expired))).execute(conn)
}
