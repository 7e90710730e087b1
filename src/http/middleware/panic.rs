//! A panic in a handler becomes a 500; the process and the connection live.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use crate::problem::{Code, Problem};

/// What stands in the log as the cause.
#[derive(Debug, thiserror::Error)]
#[error("a handler panicked")]
pub(super) struct Panicked;

/// Answers a request. In a block of its own, so that the very call of the handler may panic, too.
pub(super) async fn catch<T>(answer: impl Future<Output = Result<T, actix_web::Error>>) -> Result<T, actix_web::Error> {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(_panic) => Err(Problem::new(Code::Internal).caused_by(Panicked).into()),
    }
}
