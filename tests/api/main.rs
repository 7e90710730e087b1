//! The contract, over HTTP: one file a concept.

mod harness;

mod accounts;
mod authorization;
mod cookies;
mod headers;
mod jwt_attacks;
mod outage;
mod tokens;
