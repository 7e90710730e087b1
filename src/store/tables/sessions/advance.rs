//! Rotations as text: the statements that everything else waits for. Built by diesel, an UPDATE is put together and parsed
//! anew each time, which takes SQLite longer than carrying it out; written out, it is prepared once.
//!
//! One rotation is one statement on either database. Many are one statement on PostgreSQL; on SQLite, where nothing
//! is sent anywhere, they are one each, in one transaction.

use diesel::backend::Backend;
#[cfg(feature = "postgres")]
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
#[cfg(feature = "postgres")]
use diesel::sql_types::Array;
use diesel::sql_types::{BigInt, Binary, Bool, HasSqlType, Nullable, Text};

use super::not_ended::NOT_ENDED;
use super::rows::{RotatedRow, Rotation};
use crate::ids::SessionId;
use crate::store::AnyConnection;
use crate::tokens::refresh::TokenDigest;

/// Rotates. `None`: what was presented is not the current token of a live session.
pub fn advance(conn: &mut AnyConnection, rotation: &Rotation) -> QueryResult<Option<RotatedRow>> {
    match conn {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(sqlite) => Advance::of(rotation).get_result(sqlite).optional(),
        #[cfg(feature = "postgres")]
        AnyConnection::Postgresql(postgresql) => Advance::of(rotation).get_result(postgresql).optional(),
    }
}

/// One rotation.
struct Advance<'a> {
    id: SessionId,
    generation: i64,
    branch: i64,
    at: i64,
    access_end: i64,
    idle_end: i64,
    user_agent: Option<&'a str>,
    rotation: &'a Rotation,
}

impl<'a> Advance<'a> {
    fn of(rotation: &'a Rotation) -> Self {
        let next = &rotation.next;
        Self {
            id: rotation.id,
            generation: rotation.from.generation.into(),
            branch: rotation.from.branch.into(),
            at: next.now.as_micros(),
            access_end: next.access_expires_at.as_micros(),
            idle_end: next.idle_expires_at.as_micros(),
            user_agent: next.device.stored_user_agent(),
            rotation,
        }
    }
}

impl<'a, DB> QueryFragment<DB> for Advance<'a>
where
    DB: Backend + HasSqlType<Bool>,
    i64: ToSql<BigInt, DB>,
    SessionId: ToSql<Binary, DB>,
    TokenDigest: ToSql<Binary, DB>,
    [u8]: ToSql<Binary, DB>,
    str: ToSql<Text, DB>,
    bool: ToSql<Bool, DB>,
    Option<&'a str>: ToSql<Nullable<Text>, DB>,
    Option<String>: ToSql<Nullable<Text>, DB>,
    String: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let Rotation { presented, next, .. } = self.rotation;
        out.push_sql(
            "UPDATE sessions SET generation = generation + 1, branch = 0, previous_hash = token_hash, \
             previous_key_id = key_id, token_hash = ",
        );
        out.push_bind_param::<Binary, _>(&next.token_hash)?;
        out.push_sql(", salt = ");
        out.push_bind_param::<Binary, [u8]>(next.salt.as_slice())?;
        out.push_sql(", key_id = ");
        out.push_bind_param::<Text, _>(&next.key_id)?;
        out.push_sql(", rotated_at = ");
        out.push_bind_param::<BigInt, _>(&self.at)?;
        out.push_sql(", branched_at = ");
        out.push_bind_param::<BigInt, _>(&self.at)?;
        out.push_sql(", confirmed_at = NULL, access_expires_at = ");
        out.push_bind_param::<BigInt, _>(&self.access_end)?;
        out.push_sql(", idle_expires_at = ");
        out.push_bind_param::<BigInt, _>(&self.idle_end)?;
        out.push_sql(", last_used_at = ");
        out.push_bind_param::<BigInt, _>(&self.at)?;
        out.push_sql(", user_agent = ");
        out.push_bind_param::<Nullable<Text>, _>(&self.user_agent)?;
        out.push_sql(", ip_address = ");
        out.push_bind_param::<Nullable<Text>, _>(&next.device.ip_address)?;
        out.push_sql(" WHERE id = ");
        out.push_bind_param::<Binary, _>(&self.id)?;
        out.push_sql(" AND generation = ");
        out.push_bind_param::<BigInt, _>(&self.generation)?;
        out.push_sql(" AND branch = ");
        out.push_bind_param::<BigInt, _>(&self.branch)?;
        out.push_sql(" AND token_hash = ");
        out.push_bind_param::<Binary, _>(presented)?;
        out.push_sql(" AND remember = ");
        out.push_bind_param::<Bool, _>(&self.rotation.remember)?;
        out.push_sql(" AND revoked_at IS NULL AND idle_expires_at > ");
        out.push_bind_param::<BigInt, _>(&self.at)?;
        out.push_sql(" AND expires_at > ");
        out.push_bind_param::<BigInt, _>(&self.at)?;
        out.push_sql(" AND ");
        out.push_sql(NOT_ENDED);
        out.push_sql(" RETURNING roles, transport, remember, mfa, created_at, claims");
        Ok(())
    }
}

impl QueryId for Advance<'_> {
    type QueryId = Advance<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Advance<'_> {
    type SqlType = (Text, Text, Bool, (Bool, BigInt, Nullable<Text>));
}

impl<C: diesel::Connection> RunQueryDsl<C> for Advance<'_> {}

/// Does for each of `rotations`, of as many sessions, what [`advance`] does for one. Those that it rotated are returned, in
/// no order.
pub fn advance_all(conn: &mut AnyConnection, rotations: &[&Rotation]) -> QueryResult<Vec<(SessionId, RotatedRow)>> {
    match (conn, rotations) {
        (_, []) => Ok(Vec::new()),
        (conn, [one]) => Ok(advance(conn, one)?.map(|rotated_row| (one.id, rotated_row)).into_iter().collect()),
        #[cfg(feature = "postgres")]
        (AnyConnection::Postgresql(postgresql), many) => AdvanceAll::of(many).load(postgresql),
        #[cfg(feature = "sqlite")]
        (AnyConnection::Sqlite(_), many) => {
            Err(diesel::result::Error::QueryBuilderError(format!("{} rotations in one statement", many.len()).into()))
        }
    }
}

/// One array a column, of equal length.
#[cfg(feature = "postgres")]
#[derive(Default)]
struct AdvanceAll<'a> {
    ids: Vec<SessionId>,
    generations: Vec<i64>,
    branches: Vec<i64>,
    presented: Vec<&'a [u8]>,
    token_hashes: Vec<&'a [u8]>,
    salts: Vec<&'a [u8]>,
    key_ids: Vec<&'a str>,
    times: Vec<i64>,
    access_ends: Vec<i64>,
    idle_ends: Vec<i64>,
    user_agents: Vec<Option<&'a str>>,
    ip_addresses: Vec<Option<&'a str>>,
    remembered: Vec<bool>,
}

#[cfg(feature = "postgres")]
impl<'a> AdvanceAll<'a> {
    fn of(rotations: &[&'a Rotation]) -> Self {
        // In one order everywhere, so that statements of several nodes seldom wait for each other.
        let mut rotations = rotations.to_vec();
        rotations.sort_unstable_by_key(|rotation| *rotation.id.as_bytes());
        let mut all = Self::default();
        for rotation in rotations {
            let next = &rotation.next;
            all.ids.push(rotation.id);
            all.generations.push(rotation.from.generation.into());
            all.branches.push(rotation.from.branch.into());
            all.presented.push(&rotation.presented.0);
            all.token_hashes.push(&next.token_hash.0);
            all.salts.push(&next.salt);
            all.key_ids.push(&next.key_id);
            all.times.push(next.now.as_micros());
            all.access_ends.push(next.access_expires_at.as_micros());
            all.idle_ends.push(next.idle_expires_at.as_micros());
            all.user_agents.push(next.device.stored_user_agent());
            all.ip_addresses.push(next.device.ip_address.as_deref());
            all.remembered.push(rotation.remember);
        }
        all
    }
}

#[cfg(feature = "postgres")]
impl QueryFragment<Pg> for AdvanceAll<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "UPDATE sessions SET generation = sessions.generation + 1, branch = 0, previous_hash = sessions.token_hash, \
             previous_key_id = sessions.key_id, token_hash = new.token_hash, salt = new.salt, key_id = new.key_id, rotated_at = new.at, \
             branched_at = new.at, confirmed_at = NULL, access_expires_at = new.access_expires_at, \
             idle_expires_at = new.idle_expires_at, last_used_at = new.at, user_agent = new.user_agent, \
             ip_address = new.ip_address FROM unnest(",
        );
        out.push_bind_param::<Array<Binary>, _>(&self.ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.generations)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.branches)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Binary>, _>(&self.presented)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Binary>, _>(&self.token_hashes)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Binary>, _>(&self.salts)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.key_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.times)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.access_ends)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.idle_ends)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.user_agents)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.ip_addresses)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Bool>, _>(&self.remembered)?;
        out.push_sql(
            ") AS new (id, generation, branch, presented, token_hash, salt, key_id, at, access_expires_at, \
             idle_expires_at, user_agent, ip_address, remember) WHERE sessions.id = new.id \
             AND sessions.generation = new.generation AND sessions.branch = new.branch \
             AND sessions.token_hash = new.presented AND sessions.remember = new.remember \
             AND sessions.revoked_at IS NULL AND sessions.idle_expires_at > new.at AND sessions.expires_at > new.at AND ",
        );
        out.push_sql(NOT_ENDED);
        out.push_sql(
            " RETURNING sessions.id, sessions.roles, sessions.transport, sessions.remember, sessions.mfa, \
             sessions.created_at, sessions.claims",
        );
        Ok(())
    }
}

#[cfg(feature = "postgres")]
impl QueryId for AdvanceAll<'_> {
    type QueryId = AdvanceAll<'static>;
    // The text is the same for any number of them, so it is prepared once.
    const HAS_STATIC_QUERY_ID: bool = true;
}

#[cfg(feature = "postgres")]
impl Query for AdvanceAll<'_> {
    type SqlType = (Binary, (Text, Text, Bool, (Bool, BigInt, Nullable<Text>)));
}

#[cfg(feature = "postgres")]
impl RunQueryDsl<diesel::PgConnection> for AdvanceAll<'_> {}
