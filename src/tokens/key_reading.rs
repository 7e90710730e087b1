//! When generated keys were last read. Another process may have made one since: what names a key that is not known is refused
//! only by a process that would know it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A key is published for so long at least before it signs, so that a process which reads them more often than that knows
/// every key that signs.
pub const LEAST_NOTICE: Duration = Duration::from_secs(3);

/// Of one set of keys. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KeyReading(Option<Arc<Mutex<Option<Instant>>>>);

/// A look for keys that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Look(Instant);

impl Look {
    /// It begins.
    pub fn begin() -> Self {
        Self(Instant::now())
    }
}

impl KeyReading {
    /// Of keys that are read again and again. `found_all`: the look that found all there were. None: some could not be read.
    pub fn watched(found_all: Option<Look>) -> Self {
        Self(Some(Arc::new(Mutex::new(found_all.map(|look| look.0)))))
    }

    /// Whether keys are read again and again.
    pub fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// A later look has found the same keys, and no others.
    pub fn found_all(&self, look: Look) {
        if let Some(last) = &self.0 {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look.0);
        }
    }

    /// Whether every key that signs is known. Of keys that are configured, always.
    pub fn is_complete(&self) -> bool {
        let Some(last) = &self.0 else { return true };
        let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < LEAST_NOTICE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_read_long_ago_may_not_be_all_there_are() {
        assert!(KeyReading::default().is_complete(), "those that are configured are");
        assert!(!KeyReading::watched(None).is_complete());
        let reading = KeyReading::watched(Some(Look::begin()));
        assert!(reading.is_complete());
        reading.found_all(Look(Instant::now().checked_sub(LEAST_NOTICE).unwrap()));
        assert!(!reading.is_complete());
        reading.found_all(Look::begin());
        assert!(reading.is_complete());
    }
}
