//! Whether a comparison has begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a comparison has begun: before that, the password has not been looked at. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Begun(Arc<AtomicBool>);

impl Begun {
    /// It has.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// From here on it is being looked at.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
