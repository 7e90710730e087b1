//! Looks again and again for keys that other processes have made or taken away, and has them take effect without a restart.

use std::sync::Weak;
use std::time::Duration;

use super::live::Live;
use crate::background::Task;

/// Several looks fall into the time for which a key is published before it signs.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks, where a key is about to sign.
const AT_LEAST: Duration = Duration::from_millis(10);
/// How many looks lie between two at the age of keys.
const LOOKS_AT_AGE: u32 = 60;

/// The task.
pub struct KeyWatch {
    live: Weak<Live>,
    looks: u32,
    /// What was wrong at the last look, and whether that is in the log. A file may be looked at while it is being written.
    problem: Option<(String, bool)>,
}

impl KeyWatch {
    /// For as long as `live` is there.
    pub fn new(live: Weak<Live>) -> Self {
        Self { live, looks: 0, problem: None }
    }

    fn tell(&mut self, problem: String) {
        self.problem = match self.problem.take() {
            Some((before, told)) if before == problem => {
                if !told {
                    tracing::error!(
                        "the keys cannot be read anew, and those that were read before stay in use: {problem}"
                    );
                }
                Some((problem, true))
            }
            _ => Some((problem, false)),
        };
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
            && let Err(error) = live.rotate_by_age()
        {
            tracing::warn!("keys could not be rotated by age, which is tried again in a minute: {error}");
        }
        self.looks = (self.looks + 1) % LOOKS_AT_AGE;
        match live.look_for_keys() {
            Ok(()) => {
                if let Some((_, true)) = self.problem.take() {
                    tracing::info!("the keys can be read again");
                }
            }
            Err(error) => self.tell(error.to_string()),
        }
        live.next_change().map_or(PERIOD, |rest| rest.clamp(AT_LEAST, PERIOD))
    }
}
