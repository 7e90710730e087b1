//! Every query there is, a file for each table. They take a connection, decide in their `WHERE` clause and return the
//! narrowest result.

pub mod access_keys;
pub mod addresses;
pub mod attempts;
pub mod columns;
pub mod events;
pub mod mail_tokens;
pub mod mails;
pub mod schema;
pub mod second_factors;
pub mod sessions;
pub mod signing_keys;
pub mod users;
