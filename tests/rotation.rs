//! The scenarios of `docs/rotation.md`, over HTTP, with the clock under the tests' control: H1 to H15 are
//! honest clients in bad luck, T1 to T9 are thieves. H4, a server killed between commit and answer, is in
//! `tests/crash.rs`. What each rule says beside the scenarios is in `rules`.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "clippy's leave for tests does not reach the functions beside them"
)]

#[path = "api/harness/mod.rs"]
#[expect(dead_code, reason = "other tests use other parts of it")]
mod harness;

#[path = "rotation/honest.rs"]
mod honest;
#[path = "rotation/races.rs"]
mod races;
#[path = "rotation/rules.rs"]
mod rules;
#[path = "rotation/thieves.rs"]
mod thieves;
#[path = "rotation/world.rs"]
mod world;
