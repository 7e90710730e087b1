//! Looks again and again for keys that other processes have made or taken away, and has them take effect without a restart.

use std::sync::Weak;
use std::time::Duration;

use super::live::{KeysError, Live};
use crate::background::Task;

/// Several looks fall into the time for which a key is published before it signs.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks, where a key is about to sign.
const AT_LEAST: Duration = Duration::from_millis(10);
/// Consecutive failures after which the log says so.
const TOLD: u32 = 2;
/// How many looks lie between two at the age of keys.
const LOOKS_AT_AGE: u32 = 60;

/// The task.
pub struct KeyWatch {
    live: Weak<Live>,
    looks: u32,
    /// How many looks in a row have failed.
    failures: u32,
}

impl KeyWatch {
    /// For as long as `live` is there.
    pub fn new(live: Weak<Live>) -> Self {
        Self { live, looks: 0, failures: 0 }
    }

    fn tell(&mut self, outcome: Result<(), KeysError>) -> Duration {
        match outcome {
            Ok(()) => {
                if self.failures >= TOLD {
                    tracing::info!("the keys can be read again");
                }
                self.failures = 0;
                PERIOD
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                // A file may be looked at while it is being written.
                if self.failures == TOLD {
                    tracing::error!(
                        "the keys cannot be read anew, and those that were read before stay in use: {error}"
                    );
                }
                match error {
                    // The end of an outage is to be noticed soon.
                    KeysError::Database(_) => PERIOD,
                    // Backs off: finding out which keys are missing may read a whole table.
                    KeysError::Keys(_) | KeysError::Mail(_) => PERIOD.saturating_mul(1 << self.failures.min(4)),
                }
            }
        }
    }
}

impl Task for KeyWatch {
    const NAME: &'static str = "key watch";

    fn first_rest(&self) -> Duration {
        PERIOD
    }

    fn round(&mut self) -> Duration {
        let Some(live) = self.live.upgrade() else { return PERIOD };
        if self.looks == 0
            && let Err(error) = live.tend_keys()
        {
            tracing::warn!("keys could not be rotated by age or sealed, which is tried again in a minute: {error}");
        }
        self.looks = (self.looks + 1) % LOOKS_AT_AGE;
        let rest = self.tell(live.look_for_keys());
        match live.next_change() {
            Some(change) if self.failures == 0 => change.clamp(AT_LEAST, PERIOD),
            _ => rest,
        }
    }
}
