//! Requests that take a moment, and that work which takes long gives way to while they are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Urgent(Arc<AtomicUsize>);

/// One of them, for as long as it lives.
#[must_use = "it ends where this is dropped"]
pub struct UnderWay(Urgent);

impl Urgent {
    /// One begins.
    pub fn begin(&self) -> UnderWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Whether any is under way.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_under_way_until_all_that_began_have_ended() {
        let urgent = Urgent::default();
        assert!(!urgent.is_any());
        let (first, second) = (urgent.begin(), urgent.clone().begin());
        drop(first);
        assert!(urgent.is_any());
        drop(second);
        assert!(!urgent.is_any());
    }
}
