//! The scenarios of `docs/rotation.md`, over HTTP, with the clock under the tests' control: H1 to H15 are
//! honest clients in bad luck, T1 to T9 are thieves. H4, a server killed between commit and answer, is in
//! `tests/soak/kills.rs`. What each rule says beside the scenarios is in `rules`.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy's leave for tests does not reach the functions beside them"
)]

mod honest;
mod races;
mod rules;
mod thieves;
mod world;
