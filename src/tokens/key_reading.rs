//! When generated keys were last read. Another process may have made one since: what names a key that is not known is refused
//! only by a process that would know it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A key is published for so long at least before it signs, so that a process which reads them more often than that knows
/// every key that signs.
pub const LEAST_NOTICE: Duration = Duration::from_secs(3);

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KeyReading(Option<Arc<Mutex<Instant>>>);

impl KeyReading {
    /// Of keys that are read again and again, and were read just now.
    pub fn begin() -> Self {
        Self(Some(Arc::new(Mutex::new(Instant::now()))))
    }

    /// Whether keys are read again and again.
    pub fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    /// Looks for keys, from now on.
    pub fn look(&self) -> Look<'_> {
        Look { reading: self, began: Instant::now() }
    }

    /// Whether every key that signs is known. Of keys that are configured, always.
    pub fn is_complete(&self) -> bool {
        let last = self.0.as_ref().map(|last| *last.lock().unwrap_or_else(PoisonError::into_inner));
        last.is_none_or(|last| last.elapsed() < LEAST_NOTICE)
    }
}

/// A look for keys.
pub struct Look<'a> {
    reading: &'a KeyReading,
    began: Instant,
}

impl Look<'_> {
    /// All keys that were there when it began are known.
    pub fn found_all(self) {
        if let Some(last) = &self.reading.0 {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = self.began;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_read_long_ago_may_not_be_all_there_are() {
        assert!(KeyReading::default().is_complete(), "those that are configured are");
        let reading = KeyReading::begin();
        assert!(reading.is_complete());
        let long_ago = Instant::now().checked_sub(LEAST_NOTICE).unwrap();
        Look { reading: &reading, began: long_ago }.found_all();
        assert!(!reading.is_complete());
        reading.look().found_all();
        assert!(reading.is_complete());
    }
}
