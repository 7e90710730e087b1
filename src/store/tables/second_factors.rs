//! Queries on second factors: each change names what it was decided on, so that of two that use one code one wins.

use diesel::prelude::*;

use super::schema::{recovery_codes, users};
use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::store::AnyConnection;
use crate::tokens::sealing::Sealed;

/// A recovery code, as it is stored: SHA-256.
pub type RecoveryHash = [u8; 32];

/// A second factor, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondFactor {
    /// The secret.
    pub sealed: Sealed,
    /// Whether it is in force, and does not wait to be confirmed.
    pub enabled: bool,
    /// The time step of the code that was accepted last.
    pub step: Option<i64>,
}

/// What has proven a second factor.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The code of a time step.
    Code {
        /// The step.
        step: i64,
        /// The secret that it was checked with.
        sealed: Sealed,
        /// The secret sealed under the present key, if that is another one.
        anew: Option<Sealed>,
    },
    /// A recovery code.
    Recovery(RecoveryHash),
}

/// An account's second factor, in force or waiting.
pub fn find(conn: &mut AnyConnection, user: UserId) -> QueryResult<Option<SecondFactor>> {
    type Row = (Option<Vec<u8>>, Option<String>, Option<Timestamp>, Option<i64>);
    let columns = (users::totp_secret, users::totp_sealed_under, users::totp_enabled_at, users::totp_step);
    let row: Option<Row> = users::table.filter(users::id.eq(user)).select(columns).first(conn).optional()?;
    let found = |(bytes, under, enabled_at, step): Row| {
        let sealed = Sealed { under: under?, bytes: bytes? };
        Some(SecondFactor { sealed, enabled: enabled_at.is_some(), step })
    };
    Ok(row.and_then(found))
}

/// Writes down one that waits to be confirmed, in the place of another that waits. `false`: one is in force, or the password
/// is not the one that was verified.
pub fn begin(conn: &mut AnyConnection, user: UserId, verified_hash: &str, sealed: &Sealed) -> QueryResult<bool> {
    let without = users::table
        .filter(users::id.eq(user))
        .filter(users::totp_enabled_at.is_null())
        .filter(users::password_hash.eq(verified_hash));
    let changed = diesel::update(without).set((
        users::totp_secret.eq(Some(&sealed.bytes)),
        users::totp_sealed_under.eq(Some(&sealed.under)),
        users::totp_step.eq(None::<i64>),
    ));
    Ok(changed.execute(conn)? == 1)
}

/// Puts the one that waits in force, confirmed by the code of `step`, with these recovery codes. `false`: it has changed since
/// it was read.
pub fn enable(
    conn: &mut AnyConnection,
    user: UserId,
    (sealed, step): (&Sealed, i64),
    codes: &[RecoveryHash],
    now: Timestamp,
) -> QueryResult<bool> {
    let waiting = users::table
        .filter(users::id.eq(user))
        .filter(users::totp_enabled_at.is_null())
        .filter(users::totp_secret.eq(Some(&sealed.bytes)));
    let changed = diesel::update(waiting).set((
        users::totp_enabled_at.eq(Some(now)),
        users::totp_step.eq(Some(step)),
        users::updated_at.eq(now),
    ));
    if changed.execute(conn)? != 1 {
        return Ok(false);
    }
    forget_codes(conn, user)?;
    for hash in codes {
        let new = (recovery_codes::user_id.eq(user), recovery_codes::hash.eq(hash.as_slice()));
        diesel::insert_into(recovery_codes::table).values(new).execute(conn)?;
    }
    Ok(true)
}

/// Whether a recovery code is one of an account's, and unused.
pub fn has_code(conn: &mut AnyConnection, user: UserId, hash: &RecoveryHash) -> QueryResult<bool> {
    let theirs =
        recovery_codes::table.filter(recovery_codes::user_id.eq(user)).filter(recovery_codes::hash.eq(hash.as_slice()));
    diesel::select(diesel::dsl::exists(theirs)).get_result(conn)
}

/// How many recovery codes of an account are unused.
pub fn codes_left(conn: &mut AnyConnection, user: UserId) -> QueryResult<i64> {
    recovery_codes::table.filter(recovery_codes::user_id.eq(user)).count().get_result(conn)
}

/// Uses up what has proven an account's second factor, which is in force. `false`: it has been used, or the factor has changed.
pub fn accept(conn: &mut AnyConnection, user: UserId, proof: &Proof) -> QueryResult<bool> {
    match proof {
        Proof::Code { step, sealed, anew } => {
            let unused = users::table
                .filter(users::id.eq(user))
                .filter(users::totp_enabled_at.is_not_null())
                .filter(users::totp_secret.eq(Some(&sealed.bytes)))
                .filter(users::totp_step.is_null().or(users::totp_step.lt(*step)));
            let kept = anew.as_ref().unwrap_or(sealed);
            let changed = diesel::update(unused).set((
                users::totp_step.eq(Some(*step)),
                users::totp_secret.eq(Some(&kept.bytes)),
                users::totp_sealed_under.eq(Some(&kept.under)),
            ));
            Ok(changed.execute(conn)? == 1)
        }
        Proof::Recovery(hash) => {
            let theirs = recovery_codes::table
                .filter(recovery_codes::user_id.eq(user))
                .filter(recovery_codes::hash.eq(hash.as_slice()));
            Ok(diesel::delete(theirs).execute(conn)? == 1)
        }
    }
}

/// Removes an account's second factor, in force or waiting, and its recovery codes. Returns whether one was in force.
pub fn disable(conn: &mut AnyConnection, user: UserId, now: Timestamp) -> QueryResult<bool> {
    let theirs = users::table.filter(users::id.eq(user));
    let changed = diesel::update(theirs.filter(users::totp_enabled_at.is_not_null())).set(users::updated_at.eq(now));
    let was_enabled = changed.execute(conn)? == 1;
    diesel::update(theirs.filter(users::totp_secret.is_not_null()))
        .set((
            users::totp_secret.eq(None::<Vec<u8>>),
            users::totp_sealed_under.eq(None::<String>),
            users::totp_enabled_at.eq(None::<Timestamp>),
            users::totp_step.eq(None::<i64>),
        ))
        .execute(conn)?;
    forget_codes(conn, user)?;
    Ok(was_enabled)
}

/// Removes the recovery codes of an account.
pub fn forget_codes(conn: &mut AnyConnection, user: UserId) -> QueryResult<()> {
    diesel::delete(recovery_codes::table.filter(recovery_codes::user_id.eq(user))).execute(conn)?;
    Ok(())
}

/// The refresh keys that open second factors in force, with how many each opens.
pub fn sealed_under(conn: &mut AnyConnection) -> QueryResult<Vec<(String, i64)>> {
    let rows: Vec<(Option<String>, i64)> = users::table
        .filter(users::totp_enabled_at.is_not_null())
        .group_by(users::totp_sealed_under)
        .select((users::totp_sealed_under, diesel::dsl::count_star()))
        .order(users::totp_sealed_under)
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(kid, number)| Some((kid?, number))).collect())
}

/// How many second factors in force a refresh key opens.
pub fn count_sealed_under(conn: &mut AnyConnection, kid: &str) -> QueryResult<i64> {
    let sealed = users::table.filter(users::totp_enabled_at.is_not_null()).filter(users::totp_sealed_under.eq(kid));
    sealed.count().get_result(conn)
}

/// At most `limit` accounts whose second factor, in force or waiting, a refresh key opens.
pub fn page_sealed_under(conn: &mut AnyConnection, kid: &str, limit: i64) -> QueryResult<Vec<UserId>> {
    let sealed = users::table.filter(users::totp_secret.is_not_null()).filter(users::totp_sealed_under.eq(kid));
    sealed.select(users::id).limit(limit).load(conn)
}
