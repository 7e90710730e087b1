//! From text to [`Config`]: every section, and the rules about more than one key.

use std::path::Path;
use std::time::Duration;

use super::key::{Key, KeyInfo};
use super::layer::Value;
use super::mistake::{Mistakes, Source};
use super::parse::duration;
use super::raw::RawConfig;
use super::reader::Reader;
use super::sections::{All, DatabaseKeys, Mail, Metrics, Registration, Rotation, Tokens, VerifyEmail};
use super::{Config, secrets, sections, warnings};

impl RawConfig {
    /// Checks everything and gives what it means.
    ///
    /// # Errors
    ///
    /// Every mistake at once: in files that could not be read, in names that are no keys, in values,
    /// and between values that do not go together.
    pub fn resolve(mut self) -> Result<Config, Mistakes> {
        self.fit_defaults();
        let mut reader = Reader::new(&self);
        let all = All::read(&mut reader);
        secrets::check(&mut reader);
        sections::check(&mut reader);
        match all {
            Some(all) if reader.mistakes.is_empty() => Ok(config(all, reader, self.state_directory.as_deref())),
            _ => Err(Mistakes(reader.mistakes)),
        }
    }

    /// Checks which database is meant, and where its keys are: all that is needed to bring it up to date. Everything else
    /// is as by default, whatever is configured.
    ///
    /// # Errors
    ///
    /// Every mistake in that, in names that are no keys, and in files that could not be read.
    pub(crate) fn resolve_database(mut self) -> Result<Config, Mistakes> {
        self.keep(DatabaseKeys::SECTION.keys);
        // Never used, and demanded with PostgreSQL.
        self.set(&Tokens::issuer, Value::text("http://localhost"), Source::Default);
        self.resolve()
    }

    /// A default gives way where it contradicts a key that was set: only one of the two was written, and it would be refused
    /// for the other.
    pub(super) fn fit_defaults(&mut self) {
        let (access, overlap) = (&Tokens::access_ttl, &Rotation::overlap);
        if let Some(limit) = self.pressed(overlap, access, |overlap, access| overlap >= access) {
            let half = Value::text(format!("{}s", limit.as_secs() / 2));
            self.set(overlap, half, Source::Follows(access.name));
        }
        let (idle, absolute) = (&Tokens::refresh_idle_ttl, &Tokens::refresh_absolute_ttl);
        let short = &Tokens::refresh_short_ttl;
        for limit in [idle, absolute] {
            self.follow(short, limit, |short, limit| short > limit);
        }
        self.follow(absolute, idle, |absolute, idle| absolute < idle);
        self.follow(idle, absolute, |idle, absolute| idle > absolute);
        let (verify, transport) = (&Registration::verify_email, &Mail::transport);
        let has_mail = self.entry(transport).value.parts().iter().any(|part| !part.is_empty());
        if has_mail && self.entry(verify).source == Source::Default {
            self.set(verify, Value::text(VerifyEmail::Optional.name()), Source::Follows(transport.name));
        }
    }

    /// The duration of `master`, if it was set, `key` was not, and the two contradict each other.
    fn pressed(
        &self,
        key: &Key<Duration>,
        master: &Key<Duration>,
        contradict: impl Fn(Duration, Duration) -> bool,
    ) -> Option<Duration> {
        let read = |key: &KeyInfo, default: bool| {
            let entry = self.entry(key);
            match &entry.value {
                Value::Text(text) if (entry.source == Source::Default) == default => duration(text.trim()).ok(),
                _ => None,
            }
        };
        let limit = read(master, false)?;
        contradict(read(key, true)?, limit).then_some(limit)
    }

    /// Gives `key` the value of `master` where the default of `key` contradicts it.
    fn follow(&mut self, key: &Key<Duration>, master: &Key<Duration>, contradict: impl Fn(Duration, Duration) -> bool) {
        if self.pressed(key, master, contradict).is_some() {
            self.set(key, self.entry(master).value, Source::Follows(master.name));
        }
    }
}

/// What the values mean together.
fn config(all: All, reader: Reader<'_>, state_directory: Option<&Path>) -> Config {
    let All { server, database, mut tokens, rotation, mut passwords, cookies, cors, limits, registration, .. } = all;
    let All { mut mail, .. } = all;
    let All { sessions, docs, metrics, log, .. } = all;
    secrets::drop_current(tokens.access_secret.as_ref(), &mut tokens.access_secret_previous);
    secrets::drop_current(tokens.refresh_secret.as_ref(), &mut tokens.refresh_secret_previous);
    secrets::drop_current(passwords.pepper.as_ref(), &mut passwords.pepper_previous);
    let database = database.database();
    let data_dir = database.data_dir(state_directory);
    mail.fill_in(&data_dir);
    let mut config = Config {
        makes_data_dir: data_dir == Path::new("data") || state_directory == Some(data_dir.as_path()),
        data_dir,
        server,
        database,
        tokens,
        rotation,
        passwords,
        cookies,
        cors,
        limits,
        registration,
        mail,
        sessions,
        docs,
        metrics,
        metrics_by_default: reader.source(&Metrics::bind) == Source::Default,
        log,
        warnings: Vec::new(),
    };
    let about = warnings::about(&config);
    config.warnings.splice(0..0, reader.warnings.into_iter().chain(about));
    config
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use super::super::key::{Kind, Shape};
    use super::super::{Database, LogFormat, SameSite, resolved as resolve};
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
    const POSTGRES: (&str, &str) = ("database.url", "postgres://app:hunter2@db/app");
    const ISSUER: (&str, &str) = ("tokens.issuer", "https://auth.example.com");

    fn refusal(keys: &[(&str, &str)]) -> String {
        resolve(keys).unwrap_err()
    }

    fn seconds(duration: Duration) -> u64 {
        duration.as_secs()
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = resolve(&[]).unwrap();
        assert_eq!(config.server.host, "127.0.0.1");
        assert_eq!(config.server.port, 8080);
        assert!(config.server.trusted_proxies.is_empty() && config.server.public_urls.is_empty());
        assert_eq!(seconds(config.server.keep_alive), 75);
        assert!(matches!(&config.database, Database::Sqlite(path)
            if path.as_os_str() == "data/countersign.db"));
        assert_eq!(config.data_dir.as_os_str(), "data");
        let tokens = &config.tokens;
        assert_eq!((&tokens.issuer, &tokens.audience), (&None, &Vec::new()));
        assert_eq!(tokens.client_id, "countersign");
        assert_eq!(seconds(tokens.access_ttl), 900);
        assert_eq!(seconds(tokens.refresh_idle_ttl), 30 * 86_400);
        assert_eq!(seconds(tokens.refresh_absolute_ttl), 90 * 86_400);
        assert_eq!(seconds(tokens.refresh_short_ttl), 12 * 3_600);
        assert_eq!(tokens.algorithm, None);
        assert!(tokens.access_secret.is_none() && tokens.refresh_secret.is_none());
        assert_eq!(seconds(config.rotation.overlap), 30);
        assert_eq!(seconds(config.rotation.recovery), 7 * 86_400);
        assert_eq!(config.rotation.max_recoveries, 16);
        assert!(config.rotation.adopt_ahead);
        assert_eq!(config.rotation.max_repeat_streak, 0);
        assert_eq!(config.passwords.bcrypt_cost, 12);
        assert_eq!(config.passwords.min_length, 8);
        assert_eq!(config.cookies.access_name, "accessToken");
        assert_eq!(config.cookies.refresh_name, "refreshToken");
        assert!(config.cookies.secure && config.cookies.domain.is_none());
        assert!(config.cors.allowed_origins.is_empty());
        assert_eq!(config.cookies.same_site, SameSite::Strict);
        assert!(config.limits.enabled && config.registration.enabled && config.docs.enabled);
        assert!(config.registration.allowed_domains.is_empty());
        assert_eq!(config.sessions.max_per_user, 100);
        assert_eq!(config.limits.login_failures, 10);
        assert_eq!(seconds(config.limits.login_window), 900);
        assert_eq!(config.metrics.bind, "127.0.0.1:9464".parse().ok());
        assert_eq!(config.log.format, LogFormat::Auto);
        assert_eq!(config.log.level, "info");
    }

    #[test]
    fn for_the_database_alone_nothing_else_must_be_right() {
        let set =
            |keys: &[(&str, &str)]| keys.iter().fold(RawConfig::default(), |raw, (key, value)| raw.with(key, *value));
        let wrong = [POSTGRES, ("tokens.access_secret", "short"), ("server.port", "many")];
        let config = set(&wrong).resolve_database().unwrap();
        assert!(matches!(config.database, Database::Postgres(_)));
        assert_eq!(config.data_dir.as_os_str(), "data");
        for (wrong, named) in [
            (vec![("database.url", "mysql://db")], "database.url"),
            (vec![POSTGRES, ("database.pool_size", "1")], "database.pool_size"),
            (vec![("tokens.isuer", "https://auth.example.com")], "tokens.isuer"),
        ] {
            let told = set(&wrong).resolve_database().unwrap_err().to_string();
            assert!(told.contains(named), "{told}");
        }
    }

    #[test]
    fn a_longer_idle_life_raises_the_absolute_one_unless_both_were_set() {
        let idle = ("tokens.refresh_idle_ttl", "120d");
        let config = resolve(&[idle]).unwrap();
        assert_eq!(seconds(config.tokens.refresh_absolute_ttl), 120 * 86_400);
        let refusal = refusal(&[idle, ("tokens.refresh_absolute_ttl", "90d")]);
        assert!(refusal.contains("tokens.refresh_absolute_ttl"), "{refusal}");
        let within = resolve(&[("tokens.refresh_idle_ttl", "60d")]).unwrap();
        assert_eq!(seconds(within.tokens.refresh_absolute_ttl), 90 * 86_400);
    }

    #[test]
    fn a_shorter_absolute_life_lowers_the_idle_one() {
        let config = resolve(&[("tokens.refresh_absolute_ttl", "12h")]).unwrap();
        assert_eq!(seconds(config.tokens.refresh_idle_ttl), 12 * 3_600);
        assert_eq!(seconds(config.tokens.refresh_absolute_ttl), 12 * 3_600);
    }

    #[test]
    fn a_short_access_life_lowers_the_overlap_unless_both_were_set() {
        for (life, overlap) in [("10s", 5), ("30s", 15), ("1s", 0), ("3s", 1), ("31s", 30)] {
            let config = resolve(&[("tokens.access_ttl", life)]).unwrap();
            assert_eq!(seconds(config.rotation.overlap), overlap, "{life}");
        }
        let both = [("tokens.access_ttl", "10s"), ("rotation.overlap", "10s")];
        assert!(refusal(&both).starts_with("rotation.overlap"));
        assert!(resolve(&[("rotation.overlap", "15m")]).is_err());
    }

    #[test]
    fn overlap_and_recovery_may_be_off() {
        let config = resolve(&[("rotation.overlap", "0"), ("rotation.recovery", "0s")]).unwrap();
        assert_eq!(seconds(config.rotation.overlap), 0);
        assert_eq!(seconds(config.rotation.recovery), 0);
    }

    #[test]
    fn a_database_url_is_not_echoed() {
        let refusal = refusal(&[("database.url", "mysql://app:hunter2@db/app")]);
        assert!(refusal.starts_with("database.url"), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = [("tokens.refresh_secret", SECRET), POSTGRES, ISSUER];
        let shown = format!("{:?}", resolve(&keys).unwrap());
        assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let refusal = refusal(&[
            ("server.port", "65536"),
            ("tokens.issuer", "https://example.com/"),
            ("tokens.access_secret", "short"),
            ("passwords.min_length", "7"),
            ("rotation.adopt_ahead", "yes"),
            ("limits.login_failures", "0"),
            ("limits.login_window", "0"),
            ("log.format", "xml"),
            ("log.level", ""),
            ("cors.allowed_origins", "*,https://ok.example,null"),
            ("no.such_key", "1"),
        ]);
        assert_eq!(refusal.lines().count(), 12, "{refusal}");
        for line in refusal.lines() {
            assert!(line.contains(" (set by the program): "), "{line}");
        }
    }

    #[test]
    fn what_is_empty_is_either_none_or_refused() {
        for key in sections::keys().filter(|key| key.shape != Shape::List) {
            let may_be_empty = key.shape == Shape::Optional && key.kind != Kind::Secret;
            assert_eq!(resolve(&[(key.name, "")]).is_ok(), may_be_empty, "{key}");
        }
        assert_eq!(resolve(&[("metrics.bind", "")]).unwrap().metrics.bind, None);
        assert_eq!(resolve(&[("tokens.issuer", "")]).unwrap().tokens.issuer, None);
    }

    #[test]
    fn ranges_end_where_the_contract_says() {
        for (key, good, bad) in [
            ("passwords.bcrypt_cost", ["4", "31"], ["3", "32"]),
            ("passwords.min_length", ["8", "64"], ["7", "65"]),
            ("server.port", ["0", "65535"], ["-1", "65536"]),
            ("limits.login_failures", ["1", "1000000"], ["0", "1000001"]),
        ] {
            assert!(good.iter().all(|value| resolve(&[(key, value)]).is_ok()), "{key}");
            assert!(bad.iter().all(|value| resolve(&[(key, value)]).is_err()), "{key}");
        }
    }

    #[test]
    fn lists_come_apart_at_commas_and_repeat_nothing() {
        let origins = "https://a.example, HTTPS://A.example:443,http://b.example:8080,";
        let config =
            resolve(&[("cors.allowed_origins", origins), ("server.trusted_proxies", "10.0.0.1,fd00::/8")]).unwrap();
        assert_eq!(config.cors.allowed_origins, ["https://a.example", "http://b.example:8080"]);
        assert_eq!(config.server.trusted_proxies.len(), 2);
        assert!(refusal(&[("server.trusted_proxies", "10.0.0.1,x")]).contains("\"x\""));
    }
}
