//! x
pub mod clock;
pub mod ids;
pub mod problem;
pub mod secret;
pub mod tokens;
