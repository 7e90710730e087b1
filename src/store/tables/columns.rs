//! How our types become columns: the only place with `ToSql` and `FromSql`.
//!
//! Ids and digests are bytes, times are whole microseconds, lists are JSON text: forms that both
//! databases keep exactly. A stored value that is none of them is an error, never a guess.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::{BigInt, Binary, Text};

use crate::clock::Timestamp;
use crate::ids::{EventId, MailId, MailTokenId, SessionEndId, SessionId, UserId};
use crate::tokens::mailed::MailTokenDigest;
use crate::tokens::refresh::TokenDigest;

macro_rules! binary_column {
    ($type:ty, $proxy:ident, $bytes:expr, $parse:expr) => {
        #[derive(AsExpression, FromSqlRow)]
        #[diesel(foreign_derive)]
        #[diesel(sql_type = Binary)]
        #[expect(dead_code, reason = "names the type for the derive")]
        struct $proxy($type);

        impl<DB> ToSql<Binary, DB> for $type
        where
            DB: Backend,
            [u8]: ToSql<Binary, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                bytes(self).to_sql(out)
            }
        }

        impl<DB> FromSql<Binary, DB> for $type
        where
            DB: Backend,
            Vec<u8>: FromSql<Binary, DB>,
        {
            fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
                let bytes = Vec::<u8>::from_sql(value)?;
                let parse: fn(&[u8]) -> deserialize::Result<$type> = $parse;
                parse(&bytes)
            }
        }
    };
}

binary_column!(UserId, UserIdColumn, |id| id.as_bytes(), |bytes| Ok(UserId::try_from(bytes)?));
binary_column!(SessionId, SessionIdColumn, |id| id.as_bytes(), |bytes| Ok(SessionId::try_from(bytes)?));
binary_column!(SessionEndId, SessionEndIdColumn, |id| id.as_bytes(), |bytes| Ok(SessionEndId::try_from(bytes)?));
binary_column!(EventId, EventIdColumn, |id| id.as_bytes(), |bytes| Ok(EventId::try_from(bytes)?));
binary_column!(MailTokenId, MailTokenIdColumn, |id| id.as_bytes(), |bytes| Ok(MailTokenId::try_from(bytes)?));
binary_column!(MailId, MailIdColumn, |id| id.as_bytes(), |bytes| Ok(MailId::try_from(bytes)?));
binary_column!(MailTokenDigest, MailTokenDigestColumn, |digest| &digest.0, |bytes| Ok(MailTokenDigest(
    bytes.try_into()?
)));
binary_column!(TokenDigest, TokenDigestColumn, |digest| &digest.0, |bytes| Ok(TokenDigest(bytes.try_into()?)));

#[derive(AsExpression, FromSqlRow)]
#[diesel(foreign_derive)]
#[diesel(sql_type = BigInt)]
#[expect(dead_code, reason = "names the type for the derive")]
struct TimestampColumn(Timestamp);

impl<DB> ToSql<BigInt, DB> for Timestamp
where
    DB: Backend,
    i64: ToSql<BigInt, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.as_micros_ref().to_sql(out)
    }
}

impl<DB> FromSql<BigInt, DB> for Timestamp
where
    DB: Backend,
    i64: FromSql<BigInt, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::from_micros(i64::from_sql(value)?))
    }
}

/// Names of roles, kept as a JSON array.
#[derive(Clone, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct Roles {
    names: Vec<String>,
    json: String,
}

impl Roles {
    /// From a list of names.
    pub fn new(names: Vec<String>) -> Self {
        let json = serde_json::Value::from(names.clone()).to_string();
        Self { names, json }
    }

    /// The names.
    pub fn into_names(self) -> Vec<String> {
        self.names
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<DB> ToSql<Text, DB> for Roles
where
    DB: Backend,
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.json.as_str().to_sql(out)
    }
}

impl<DB> FromSql<Text, DB> for Roles
where
    DB: Backend,
    String: FromSql<Text, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::new(serde_json::from_str(&String::from_sql(value)?)?))
    }
}
