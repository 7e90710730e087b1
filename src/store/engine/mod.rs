//! The way to either database: connections, transactions, the queue of writes. It knows no table of ours.

pub mod commit;
pub mod condition;
pub mod connection;
pub mod database_file;
pub mod error;
pub mod lease;
pub mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "sqlite")]
pub mod watch;
pub mod write;
pub mod write_queue;
