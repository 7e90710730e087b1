//! The contract, over HTTP: one file a concept.

mod harness;

mod accounts;
mod jwt_attacks;
mod tokens;
