//! Queries on mails that wait to be sent.

use diesel::prelude::*;

use super::schema::mails;
use crate::clock::Timestamp;
use crate::ids::{MailId, UserId};
use crate::store::AnyConnection;

/// A mail to be sent.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = mails)]
pub struct NewMail {
    /// Its id.
    pub id: MailId,
    /// Whose account it is about.
    pub user_id: Option<UserId>,
    /// Which text it is.
    pub kind: &'static str,
    /// Where it goes.
    pub recipient: String,
    /// The message, sealed.
    pub sealed: Vec<u8>,
    /// The name of the refresh key whose secret opens it.
    pub sealed_under: String,
    /// Now.
    pub created_at: Timestamp,
    /// Now.
    pub due_at: Timestamp,
    /// None yet.
    pub attempts: i64,
}

/// A mail that this process is to send.
#[derive(Clone, Debug, Queryable)]
pub struct ClaimedMail {
    /// Its id.
    pub id: MailId,
    /// Whose account it is about.
    pub user_id: Option<UserId>,
    /// Which text it is.
    pub kind: String,
    /// The message, sealed.
    pub sealed: Vec<u8>,
    /// The name of the refresh key whose secret opens it.
    pub sealed_under: String,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// How often it was tried, this time among them.
    pub attempts: i64,
}

/// A mail that waits, as an operator sees it: nothing of its text.
#[derive(Clone, Debug, Queryable)]
pub struct WaitingMail {
    /// Its id.
    pub id: MailId,
    /// Which text it is.
    pub kind: String,
    /// Where it goes.
    pub recipient: String,
    /// Since when it waits.
    pub created_at: Timestamp,
    /// When it is tried next.
    pub due_at: Timestamp,
    /// How often it was tried.
    pub attempts: i64,
    /// Why it was not sent.
    pub last_error: Option<String>,
}

/// What a process that sends a mail is told apart by.
pub type Claim = [u8; 16];

/// Adds a mail.
pub fn insert(conn: &mut AnyConnection, new: &NewMail) -> QueryResult<()> {
    diesel::insert_into(mails::table).values(new).execute(conn)?;
    Ok(())
}

/// Removes what waits to be sent about an account.
pub fn forget(conn: &mut AnyConnection, user: UserId) -> QueryResult<()> {
    diesel::delete(mails::table.filter(mails::user_id.eq(user))).execute(conn)?;
    Ok(())
}

/// At most `limit` mails that are due, the longest first.
pub fn due(conn: &mut AnyConnection, now: Timestamp, limit: i64) -> QueryResult<Vec<MailId>> {
    let due = mails::table.filter(mails::due_at.le(now)).order((mails::due_at, mails::id));
    due.select(mails::id).limit(limit).load(conn)
}

/// Takes a mail that is due: no other process does before `until`. None: another one has been faster.
pub fn claim(
    conn: &mut AnyConnection,
    id: MailId,
    claim: &Claim,
    now: Timestamp,
    until: Timestamp,
) -> QueryResult<Option<ClaimedMail>> {
    diesel::update(mails::table.find(id).filter(mails::due_at.le(now)))
        .set((mails::due_at.eq(until), mails::claim.eq(claim.as_slice()), mails::attempts.eq(mails::attempts + 1)))
        .returning((
            mails::id,
            mails::user_id,
            mails::kind,
            mails::sealed,
            mails::sealed_under,
            mails::created_at,
            mails::attempts,
        ))
        .get_result(conn)
        .optional()
}

/// Removes a mail that this process has taken. `false`: it is another's now.
pub fn finish(conn: &mut AnyConnection, id: MailId, claim: &Claim) -> QueryResult<bool> {
    let ours = mails::table.find(id).filter(mails::claim.eq(claim.as_slice()));
    Ok(diesel::delete(ours).execute(conn)? == 1)
}

/// Leaves a mail that this process has taken for later.
pub fn postpone(
    conn: &mut AnyConnection,
    id: MailId,
    claim: &Claim,
    due_at: Timestamp,
    error: &str,
) -> QueryResult<()> {
    let ours = mails::table.find(id).filter(mails::claim.eq(claim.as_slice()));
    let later = (mails::due_at.eq(due_at), mails::claim.eq(None::<Vec<u8>>), mails::last_error.eq(error));
    diesel::update(ours).set(later).execute(conn)?;
    Ok(())
}

/// At most `limit` mails that wait, in the order in which they were made, from the one after `after` on; without those of kind
/// `but`.
pub fn page(conn: &mut AnyConnection, but: &str, after: Option<MailId>, limit: i64) -> QueryResult<Vec<WaitingMail>> {
    let ordered = mails::table.filter(mails::kind.ne(but)).order(mails::id).limit(limit).select((
        mails::id,
        mails::kind,
        mails::recipient,
        mails::created_at,
        mails::due_at,
        mails::attempts,
        mails::last_error,
    ));
    match after {
        Some(after) => ordered.filter(mails::id.gt(after)).load(conn),
        None => ordered.load(conn),
    }
}

/// Whether mails wait that only this refresh key opens.
pub fn are_sealed_under(conn: &mut AnyConnection, kid: &str) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(mails::table.filter(mails::sealed_under.eq(kid)))).get_result(conn)
}

/// Removes at most `limit` mails that were written before. Returns how many.
pub fn purge(conn: &mut AnyConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let old = mails::table.filter(mails::created_at.lt(before)).order(mails::id).select(mails::id).limit(limit);
    let old: Vec<MailId> = old.load(conn)?;
    diesel::delete(mails::table.filter(mails::id.eq_any(old))).execute(conn)
}

/// Whether there are so many mails that wait.
pub fn are_at_least(conn: &mut AnyConnection, count: i64) -> QueryResult<bool> {
    let one: Option<MailId> =
        mails::table.order(mails::id).offset(count - 1).select(mails::id).first(conn).optional()?;
    Ok(one.is_some())
}
