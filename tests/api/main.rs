//! The contract, over HTTP: one file a concept.

mod harness;

mod accounts;
mod cookies;
mod jwt_attacks;
mod tokens;
