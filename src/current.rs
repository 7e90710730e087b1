//! What is in force, and can be replaced while requests are answered.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// A value that can be replaced atomically. Clones share it.
#[derive(Debug)]
pub struct Current<T>(Arc<ArcSwap<T>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Current<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(value)))
    }

    /// The value, to be kept for as long as it is needed.
    pub fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// The value, for a moment: cheaper, and not to be held while waiting.
    pub fn peek(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// Puts `value` in its place. Those who have the former one keep it.
    pub fn replace(&self, value: T) {
        self.0.store(Arc::new(value));
    }
}
