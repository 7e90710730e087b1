//! From text to [`Config`]: section by section, and the rules about more than one value.

use std::path::Path;
use std::time::Duration;

use super::keys::KEYS;
use super::layer::Value;
use super::mistake::{Mistakes, Source};
use super::parse::{duration, lifetime, number, switch};
use super::raw::RawConfig;
use super::reader::Reader;
use super::secrets::{Pair, Secrets, secrets};
use super::{
    Config, Cors, Database, Docs, Limits, Log, LogFormat, Metrics, Passwords, Postgres, Registration, Rotation, Server,
    Sessions, address, cookies, log, tokens, warnings,
};

const METRICS: &str = "metrics.bind";

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
        match config(&mut reader, &self) {
            Some(config) if reader.mistakes.is_empty() => Ok(config),
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
        let defaults = Self::default();
        for key in KEYS.iter().filter(|key| !key.name.starts_with("database.")) {
            if let Some(entry) = defaults.entry(key.name) {
                self.set(key.name, entry.value.clone(), Source::Default);
            }
        }
        // Never used, and demanded with PostgreSQL.
        self.set("tokens.issuer", Value::text("http://localhost"), Source::Default);
        self.resolve()
    }

    /// A default gives way where it contradicts a key that somebody set: they set one thing, and
    /// would be refused for another that they never wrote.
    pub(super) fn fit_defaults(&mut self) {
        let (access, overlap) = ("tokens.access_ttl", "rotation.overlap");
        if let Some(limit) = self.pressed(overlap, access, |overlap, access| overlap >= access) {
            let half = Value::text(format!("{}s", limit.as_secs() / 2));
            self.set(overlap, half, Source::Follows(access));
        }
        let (idle, absolute) = ("tokens.refresh_idle_ttl", "tokens.refresh_absolute_ttl");
        let short = "tokens.refresh_short_ttl";
        for limit in [idle, absolute] {
            let pressed = self.pressed(short, limit, |short, limit| short > limit);
            self.follow(pressed, short, limit);
        }
        let pressed = self.pressed(absolute, idle, |absolute, idle| absolute < idle);
        self.follow(pressed, absolute, idle);
        let pressed = self.pressed(idle, absolute, |idle, absolute| idle > absolute);
        self.follow(pressed, idle, absolute);
    }

    /// The duration of `master`, if it was set, `key` was not, and the two contradict each other.
    fn pressed(&self, key: &str, master: &str, contradict: impl Fn(Duration, Duration) -> bool) -> Option<Duration> {
        let read = |key: &str, default: bool| {
            let entry = self.entry(key)?;
            match &entry.value {
                Value::Text(text) if (entry.source == Source::Default) == default => duration(text.trim()).ok(),
                _ => None,
            }
        };
        let limit = read(master, false)?;
        contradict(read(key, true)?, limit).then_some(limit)
    }

    fn follow(&mut self, limit: Option<Duration>, key: &'static str, master: &'static str) {
        if let Some(limit) = limit {
            let same = Value::text(format!("{}s", limit.as_secs()));
            let text = self.entry(master).map_or(same, |entry| entry.value.clone());
            self.set(key, text, Source::Follows(master));
        }
    }
}

fn config(reader: &mut Reader, raw: &RawConfig) -> Option<Config> {
    let server = server(reader);
    let database = database(reader);
    let secrets = secrets(reader);
    let (access, refresh, pepper) = match secrets {
        Some(Secrets { access, refresh, pepper }) => (Some(access), Some(refresh), Some(pepper)),
        None => (None, None, None),
    };
    let tokens = tokens::tokens(reader, access, refresh, database.as_ref());
    let rotation = rotation(reader);
    let passwords = passwords(reader, pepper);
    let cookies = cookies::cookies(reader);
    let cors = reader.list("cors.allowed_origins", address::origin);
    let limits = limits(reader);
    let registration = registration(reader);
    let sessions = reader.read("sessions.max_per_user", number(0..=u32::MAX));
    let docs = reader.read("docs.enabled", switch);
    let metrics = reader.optional(METRICS, address::socket);
    let log = log_section(reader);
    let database = database?;
    let data_dir = database.data_dir(raw.state_directory.as_deref());
    let mut config = Config {
        server: server?,
        makes_data_dir: data_dir == Path::new("data") || raw.state_directory.as_deref() == Some(data_dir.as_path()),
        data_dir,
        database,
        tokens: tokens?,
        rotation: rotation?,
        passwords: passwords?,
        cookies: cookies?,
        cors: Cors { allowed_origins: without_repeats(cors?) },
        limits: limits?,
        registration: registration?,
        sessions: Sessions { max_per_user: sessions? },
        docs: Docs { enabled: docs? },
        metrics: Metrics { bind: metrics? },
        log: log?,
        warnings: std::mem::take(&mut reader.warnings),
        notes: Vec::new(),
    };
    let more = warnings::about(&config);
    config.warnings.extend(more);
    if config.metrics.bind.is_some() {
        let (source, told) = (reader.source(METRICS), warnings::without_effect(METRICS).unwrap_or_default());
        let list = if source == Source::Default { &mut config.notes } else { &mut config.warnings };
        list.push(format!("{METRICS} ({source}) {told}"));
    }
    Some(config)
}

pub(super) fn without_repeats(mut values: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    values.retain(|value| seen.insert(value.clone()));
    values
}

fn database(reader: &mut Reader) -> Option<Database> {
    let database = reader.read("database.url", Database::parse);
    let pool_size = reader.read("database.pool_size", number(5..=1_000));
    let pool_wait = reader.read("database.pool_wait", within(1, 10));
    // libpq takes anything below two seconds for two.
    let connect_timeout = reader.read("database.connect_timeout", within(2, 30));
    let statement_timeout = reader.read("database.statement_timeout", within(1, 10));
    Some(match database? {
        Database::Postgres(postgres) => Database::Postgres(Postgres {
            pool_size: pool_size?,
            pool_wait: pool_wait?,
            connect_timeout: connect_timeout?,
            statement_timeout: statement_timeout?,
            ..postgres
        }),
        sqlite => sqlite,
    })
}

/// A duration of so many seconds at least and at most.
fn within(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match duration(text)? {
        time if (least..=most).contains(&time.as_secs()) => Ok(time),
        _ => Err(format!("is not between {least} and {most} seconds")),
    }
}

fn server(reader: &mut Reader) -> Option<Server> {
    let host = reader.read("server.host", address::host);
    let port = reader.read("server.port", number(0..=u16::MAX));
    let trusted_proxies = reader.list("server.trusted_proxies", address::network);
    let public_urls = reader.list("server.public_urls", address::issuer);
    let keep_alive = reader.read("server.keep_alive", within(1, 3_600));
    Some(Server {
        host: host?,
        port: port?,
        trusted_proxies: trusted_proxies?,
        public_urls: without_repeats(public_urls?),
        keep_alive: keep_alive?,
    })
}

fn registration(reader: &mut Reader) -> Option<Registration> {
    let enabled = reader.read("registration.enabled", switch);
    let allowed_domains = reader.list("registration.allowed_domains", address::mail_domain);
    Some(Registration { enabled: enabled?, allowed_domains: without_repeats(allowed_domains?) })
}

fn rotation(reader: &mut Reader) -> Option<Rotation> {
    let overlap = reader.read("rotation.overlap", duration);
    let recovery = reader.read("rotation.recovery", duration);
    let max_recoveries = reader.read("rotation.max_recoveries", number(0..=u32::MAX));
    let adopt_ahead = reader.read("rotation.adopt_ahead", switch);
    let max_repeat_streak = reader.read("rotation.max_repeat_streak", number(0..=u32::MAX));
    let access = reader.text("tokens.access_ttl").map(str::trim);
    if let (Some(overlap), Some(Ok(access))) = (overlap, access.map(lifetime))
        && overlap >= access
    {
        let seconds = access.as_secs();
        reader.refuse("rotation.overlap", format!("is not shorter than tokens.access_ttl, which is {seconds} seconds"));
    }
    Some(Rotation {
        overlap: overlap?,
        recovery: recovery?,
        max_recoveries: max_recoveries?,
        adopt_ahead: adopt_ahead?,
        max_repeat_streak: max_repeat_streak?,
    })
}

fn passwords(reader: &mut Reader, pepper: Option<Pair>) -> Option<Passwords> {
    let bcrypt_cost = reader.read("passwords.bcrypt_cost", number(4..=31));
    let min_length = reader.read("passwords.min_length", number(8..=64));
    let pepper = pepper?;
    Some(Passwords {
        bcrypt_cost: bcrypt_cost?,
        min_length: min_length?,
        pepper: pepper.current,
        peppers_previous: pepper.previous,
    })
}

fn limits(reader: &mut Reader) -> Option<Limits> {
    let enabled = reader.read("limits.enabled", switch);
    // Ten times this must still be a number, and nobody means more.
    let login_failures = reader.read("limits.login_failures", number(1..=1_000_000));
    let login_window = reader.read("limits.login_window", lifetime);
    Some(Limits { enabled: enabled?, login_failures: login_failures?, login_window: login_window? })
}

fn log_section(reader: &mut Reader) -> Option<Log> {
    let format = reader.read("log.format", |text| match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is none of auto, text and json".to_owned()),
    });
    let level = reader.read("log.level", log::level);
    Some(Log { format: format?, level: level? })
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use super::super::{SameSite, resolved as resolve};
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
    fn that_metrics_have_no_effect_yet_is_a_warning_where_they_were_asked_for_and_else_a_note() {
        let told = |keys: &[(&str, &str)]| {
            let config = resolve(keys).unwrap();
            let count = |list: &[String]| list.iter().filter(|text| text.contains("metrics.bind")).count();
            (count(&config.warnings), count(&config.notes))
        };
        assert_eq!(told(&[]), (0, 1));
        assert_eq!(told(&[(METRICS, "127.0.0.1:9464")]), (1, 0));
        assert_eq!(told(&[(METRICS, "")]), (0, 0));
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
        for key in super::super::KEYS.iter().filter(|key| !key.list) {
            assert_eq!(resolve(&[(key.name, "")]).is_ok(), key.may_be_empty(), "{}", key.name);
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
