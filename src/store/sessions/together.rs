//! Many rotations in one statement, which only PostgreSQL has. Its counterpart on SQLite is
//! [`advance`](super::advance), once for each, in one transaction.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Nullable, Text};

use super::advance;
use super::rows::{Handover, Rotation};
use crate::ids::SessionId;
use crate::store::AnyConnection;

/// Does for each of `rotations`, of as many sessions, what [`advance`] does for one. Those that it rotated are returned, in
/// no order.
pub fn advance_all(conn: &mut AnyConnection, rotations: &[&Rotation]) -> QueryResult<Vec<(SessionId, Handover)>> {
    match (conn, rotations) {
        (_, []) => Ok(Vec::new()),
        (conn, [one]) => Ok(advance(conn, one)?.map(|handover| (one.id, handover)).into_iter().collect()),
        (AnyConnection::Postgresql(postgresql), many) => AdvanceAll::of(many).load(postgresql),
        (AnyConnection::Sqlite(_), many) => {
            Err(diesel::result::Error::QueryBuilderError(format!("{} rotations in one statement", many.len()).into()))
        }
    }
}

/// One array a column, of equal length.
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
}

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
            all.user_agents.push(next.device.user_agent.as_deref());
            all.ip_addresses.push(next.device.ip_address.as_deref());
        }
        all
    }
}

impl QueryFragment<Pg> for AdvanceAll<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "UPDATE sessions SET generation = sessions.generation + 1, branch = 0, previous_hash = sessions.token_hash, \
             token_hash = new.token_hash, salt = new.salt, key_id = new.key_id, rotated_at = new.at, \
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
        out.push_sql(
            ") AS new (id, generation, branch, presented, token_hash, salt, key_id, at, access_expires_at, \
             idle_expires_at, user_agent, ip_address) WHERE sessions.id = new.id \
             AND sessions.generation = new.generation AND sessions.branch = new.branch \
             AND sessions.token_hash = new.presented AND sessions.revoked_at IS NULL \
             AND sessions.idle_expires_at > new.at AND sessions.expires_at > new.at \
             RETURNING sessions.id, sessions.roles, sessions.transport",
        );
        Ok(())
    }
}

impl QueryId for AdvanceAll<'_> {
    type QueryId = AdvanceAll<'static>;
    // The text is the same for any number of them, so it is prepared once.
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for AdvanceAll<'_> {
    type SqlType = (Binary, (Text, Text));
}

impl RunQueryDsl<diesel::PgConnection> for AdvanceAll<'_> {}
