//! What `session_ends` says of a session, as part of a query on the table `sessions`. Almost always that table is empty,
//! and asking it costs a look at one page.

use diesel::backend::Backend;
use diesel::expression::{AppearsOnTable, Expression, SelectableExpression, ValidGrouping, is_aggregate};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Nullable};

/// When the session has ended with many others. A sub-select that stays one: as a join, it might change the order in which
/// PostgreSQL takes the rows of a batch.
macro_rules! ended_at {
    () => {
        "(SELECT max(many.ended_at) FROM session_ends AS many WHERE many.user_id = sessions.user_id \
         AND sessions.id <= many.last_session AND (many.kept_session IS NULL OR many.kept_session <> sessions.id))"
    };
}

/// The same, where there is no such end.
pub(super) const NOT_ENDED: &str = concat!(ended_at!(), " IS NULL");

/// [`NOT_ENDED`], as a condition.
#[derive(Clone, Copy, Debug, QueryId)]
pub struct NotEnded;

/// When the session has ended with many others, as a column.
#[derive(Clone, Copy, Debug, QueryId)]
pub(super) struct EndedAt;

macro_rules! expression {
    ($name:ident, $type:ty, $text:expr) => {
        impl Expression for $name {
            type SqlType = $type;
        }

        impl<DB: Backend> QueryFragment<DB> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
                out.push_sql($text);
                Ok(())
            }
        }

        impl<T> AppearsOnTable<T> for $name {}
        impl<T> SelectableExpression<T> for $name {}

        impl<G> ValidGrouping<G> for $name {
            type IsAggregate = is_aggregate::Never;
        }
    };
}

expression!(NotEnded, Bool, NOT_ENDED);
expression!(EndedAt, Nullable<BigInt>, ended_at!());
