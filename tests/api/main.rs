//! The contract, over HTTP: one file a concept.

mod harness;

mod jwt_attacks;
mod tokens;
