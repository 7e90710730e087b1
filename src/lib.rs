//! x
pub mod clock;
pub mod config;
pub mod events;
pub mod ids;
pub mod passwords;
pub mod problem;
pub mod secret;
pub mod sessions;
pub mod store;
pub mod tokens;
pub mod users;
