//! What a running server makes of a configuration that was changed.

use super::Config;
use super::mistake::Mistakes;
use super::raw::RawConfig;
use super::sections::keys;

/// A changed configuration, as far as a running server can follow it.
pub(crate) struct Reloaded {
    /// What is in force from now on.
    pub(crate) raw: RawConfig,
    /// What that means.
    pub(crate) config: Config,
    /// The keys that have changed and take effect at a restart.
    pub(crate) at_restart: Vec<&'static str>,
}

impl RawConfig {
    /// `self` is in force, and `found` is what is written down now.
    ///
    /// # Errors
    ///
    /// Every mistake in what is written down, also where it would not take effect yet.
    pub(crate) fn reloaded(&self, found: Self) -> Result<Reloaded, Mistakes> {
        found.clone().resolve()?;
        let (mut raw, mut at_restart) = (found, Vec::new());
        for key in keys().filter(|key| key.at_restart) {
            if raw.entry(key).value != self.entry(key).value {
                at_restart.push(key.name);
            }
            raw.take_from(self, key);
        }
        let config = raw.clone().resolve()?;
        Ok(Reloaded { raw, config, at_restart })
    }
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use super::*;
    use crate::config::Database;

    fn raw(keys: &[(&str, &str)]) -> RawConfig {
        keys.iter().fold(RawConfig::default(), |raw, (key, value)| raw.with(key, *value))
    }

    #[test]
    fn what_can_change_takes_effect_and_what_cannot_is_named() {
        let before =
            raw(&[("server.port", "9000"), ("tokens.access_ttl", "5m"), ("tokens.issuer", "https://a.example")]);
        let after = raw(&[("server.port", "9001"), ("tokens.access_ttl", "6m"), ("limits.login_failures", "3")]);
        let reloaded = before.reloaded(after.clone()).unwrap();
        assert_eq!(reloaded.config.tokens.access_ttl.as_secs(), 360);
        assert_eq!(reloaded.config.limits.login_failures, 3);
        assert_eq!(reloaded.config.server.port, 9000);
        assert_eq!(reloaded.config.tokens.issuer.as_deref(), Some("https://a.example"));
        assert_eq!(reloaded.at_restart, ["server.port", "tokens.issuer"]);
        // They stay named for as long as what is written differs from what is in force.
        assert_eq!(reloaded.raw.reloaded(after).unwrap().at_restart, ["server.port", "tokens.issuer"]);
        assert!(reloaded.raw.reloaded(before).unwrap().at_restart.is_empty());
    }

    /// Values that are only valid together with a key that waits for the restart wait with it.
    #[test]
    fn another_database_and_its_issuer_wait_for_the_restart_together() {
        let before = raw(&[]);
        let after = raw(&[
            ("database.url", "postgres://app:hunter2@db/app"),
            ("tokens.issuer", "https://auth.example.com"),
            ("tokens.refresh_secret", "0123456789abcdefghijklmnopqrstuv"),
            ("log.level", "debug"),
        ]);
        let reloaded = before.reloaded(after).unwrap();
        assert!(matches!(reloaded.config.database, Database::Sqlite(_)));
        assert_eq!(reloaded.at_restart, ["database.url", "tokens.issuer", "tokens.refresh_secret"]);
        assert_eq!(reloaded.config.log.level, "debug");
    }

    #[test]
    fn a_mistake_is_found_wherever_it_is() {
        let before = raw(&[]);
        for wrong in [("server.port", "many"), ("tokens.access_ttl", "soon"), ("no.such_key", "1"), ("log.level", "")] {
            let Err(mistakes) = before.reloaded(raw(&[wrong])) else { panic!("{wrong:?} is refused") };
            assert!(mistakes.to_string().contains(wrong.0), "{mistakes}");
        }
    }

    #[test]
    fn a_key_that_is_written_as_before_in_another_place_has_not_changed() {
        let before = raw(&[]);
        assert!(before.reloaded(raw(&[("server.port", "8080")])).unwrap().at_restart.is_empty());
    }
}
