//! The contract, over HTTP: one file a concept.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod accounts;
mod authorization;
mod bodies;
mod connections;
mod cookies;
mod credentials;
mod cross_origin;
mod docs;
mod events;
mod framing;
mod headers;
mod jwt_attacks;
mod limits;
mod mail;
mod outage;
mod patience;
mod second_factor;
mod sessions;
mod standards;
mod storms;
mod tokens;
