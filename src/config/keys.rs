//! The table of every key: the one place that knows their names and defaults.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Section and name, as in `tokens.access_ttl`.
    pub name: &'static str,
    /// The short names it also has in the environment, in `.env` and as a credential.
    pub short: &'static [&'static str],
    /// Whether its value must never be shown.
    pub secret: bool,
    /// Whether it holds any number of values: an array in TOML, separated by commas elsewhere.
    pub list: bool,
    /// The default as text; empty if there is none.
    pub default: &'static str,
    /// What it does, with its unit.
    pub meaning: &'static str,
}

impl Key {
    /// The name that works in the environment for every key: `COUNTERSIGN__TOKENS__ACCESS_TTL`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "__").to_uppercase())
    }

    /// Whether an empty value means "not set". A key with a default needs a value, and so does a
    /// secret: an empty one is a file or template that went wrong. An empty `metrics.bind` is "off".
    pub(super) fn may_be_empty(&self) -> bool {
        self.name == "metrics.bind" || (self.default.is_empty() && !self.secret)
    }

    const fn short(mut self, short: &'static [&'static str]) -> Self {
        self.short = short;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn list(mut self) -> Self {
        self.list = true;
        self
    }
}

/// What every long environment name begins with.
pub(super) const PREFIX: &str = "COUNTERSIGN__";

/// A name that other programs use too, for databases of theirs. It does not count where any other variable or credential sets
/// the same key, whichever of the two is in the later place.
pub(super) const SHARED_NAME: &str = "DATABASE_URL";

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, short: &[], secret: false, list: false, default, meaning }
}

/// Every key there is, in the order in which they are shown.
#[rustfmt::skip] // a table: one entry is one line and its meaning
pub static KEYS: &[Key] = &[
    key("server.host", "127.0.0.1",
        "IP address or host name to listen on").short(&["HOST"]),
    key("server.port", "8080",
        "TCP port to listen on; 0 takes any free one").short(&["PORT"]),
    key("server.trusted_proxies", "",
        "addresses or networks whose X-Forwarded-For, -Proto and -Host are believed").list(),
    key("server.public_urls", "",
        "further http(s) URLs that clients know this server by, beside tokens.issuer").list(),
    key("server.keep_alive", "75s",
        "how long an idle connection stays open: a duration from 1s to 1h"),
    key("database.url", "sqlite:data/countersign.db",
        "sqlite:PATH, or postgres://… for several nodes; under systemd the default is in $STATE_DIRECTORY").short(&["COUNTERSIGN_DATABASE_URL", SHARED_NAME]),
    key("database.pool_size", "10",
        "connections of this node to PostgreSQL: a number from 5 to 1000"),
    key("database.pool_wait", "2s",
        "how long a request waits for a connection to PostgreSQL: a duration from 1s to 10s"),
    key("database.connect_timeout", "3s",
        "how long connecting to one host of PostgreSQL may take: a duration from 2s to 30s"),
    key("database.statement_timeout", "2s",
        "how long one statement may take on PostgreSQL: a duration from 1s to 10s"),
    key("tokens.issuer", "",
        "iss of every token: the public http(s) URL of this server; default: http://HOST:PORT of the first start"),
    key("tokens.previous_issuers", "",
        "issuers whose tokens still verify").list(),
    key("tokens.audience", "",
        "aud of access tokens, one or several; default: the issuer").list(),
    key("tokens.client_id", "countersign",
        "client_id of access tokens"),
    key("tokens.access_ttl", "15m",
        "life of an access token: a duration from 1s to 24h").short(&["ACCESS_TOKEN_EXPIRY"]),
    key("tokens.refresh_idle_ttl", "30d",
        "a session ends when it was not refreshed for this long: a duration of 1s or more").short(&["REFRESH_TOKEN_EXPIRY"]),
    key("tokens.refresh_absolute_ttl", "90d",
        "a session ends this long after log-in, however busy: a duration not below tokens.refresh_idle_ttl"),
    key("tokens.refresh_short_ttl", "12h",
        "the same for a log-in with remember = false: a duration of 1s or more"),
    key("tokens.algorithm", "",
        "HS256, ES256, EdDSA or RS256 for access tokens; default: HS256 with tokens.access_secret, else ES256"),
    key("tokens.access_secret", "",
        "HS256 key of access tokens, at least 32 bytes").short(&["ACCESS_TOKEN_SECRET"]).secret(),
    key("tokens.access_secret_previous", "",
        "access token keys that still verify and no longer sign").short(&["ACCESS_TOKEN_SECRET_PREVIOUS"]).secret().list(),
    key("tokens.refresh_secret", "",
        "key of refresh tokens, at least 32 bytes").short(&["REFRESH_TOKEN_SECRET"]).secret(),
    key("tokens.refresh_secret_previous", "",
        "refresh token keys that still verify and no longer sign").short(&["REFRESH_TOKEN_SECRET_PREVIOUS"]).secret().list(),
    key("rotation.overlap", "30s",
        "a repeated refresh within this time gets the same answer: a duration shorter than tokens.access_ttl, 0 is off"),
    key("rotation.recovery", "7d",
        "a client that lost an answer may still come back with the old token: a duration, 0 is off"),
    key("rotation.max_recoveries", "16",
        "how many such returns one rotation allows: a number"),
    key("rotation.adopt_ahead", "true",
        "whether tokens newer than a restored database are accepted: true or false"),
    key("rotation.max_repeat_streak", "0",
        "repeats to another address in a row before a repeat is refused: a number, 0 is off"),
    key("passwords.bcrypt_cost", "12",
        "bcrypt cost, 4 to 31: each step doubles the time"),
    key("passwords.min_length", "8",
        "shortest password allowed, 8 to 64 characters"),
    key("passwords.pepper", "",
        "key of the password pre-hash, at least 32 bytes").short(&["PASSWORD_PEPPER"]).secret(),
    key("passwords.pepper_previous", "",
        "peppers that still verify").short(&["PASSWORD_PEPPER_PREVIOUS"]).secret().list(),
    key("cookies.access_name", "accessToken",
        "name of the access token cookie"),
    key("cookies.refresh_name", "refreshToken",
        "name of the refresh token cookie"),
    key("cookies.secure", "true",
        "whether cookies travel over TLS only: true or false"),
    key("cookies.domain", "",
        "Domain of both cookies; default: this host only"),
    key("cookies.same_site", "strict",
        "SameSite of the refresh token cookie: strict, lax or none"),
    key("cors.allowed_origins", "",
        "web origins that may call with credentials: scheme://host[:port]").list(),
    key("limits.enabled", "true",
        "whether failed log-ins, registrations and refreshes are limited: true or false"),
    key("limits.login_failures", "10",
        "failed log-ins for one account from one address before 429, 1 to 1000000"),
    key("limits.login_window", "15m",
        "how long a failed log-in counts: a duration of 1s or more"),
    key("registration.enabled", "true",
        "whether POST /v1/auth/register exists: true or false"),
    key("registration.allowed_domains", "",
        "domains whose e-mail addresses may register; default: any").list(),
    key("sessions.max_per_user", "100",
        "live sessions that one account may have: a number, 0 is no bound"),
    key("docs.enabled", "true",
        "whether GET /docs and GET / exist: true or false"),
    key("metrics.bind", "127.0.0.1:9464",
        "IP address and port of GET /metrics; empty is off"),
    key("log.format", "auto",
        "text, json, or auto: text on a terminal, else json"),
    key("log.level", "info",
        "error, warn, info, debug, trace, or a tracing filter"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const FILE: &str = include_str!("../../config/countersign.toml");

    /// The lines of the file about one key: from after the line before it to its own.
    fn lines_about(key: &Key) -> (String, String) {
        let (section, name) = key.name.split_once('.').unwrap();
        let body = FILE
            .split(&format!("\n[{section}]\n"))
            .nth(1)
            .unwrap_or_else(|| panic!("config/countersign.toml has no section [{section}]"));
        let body = body.split("\n[").next().unwrap();
        let start = format!("#{name} = ");
        let block = body
            .split("\n\n")
            .find(|block| block.lines().any(|line| line.starts_with(&start)))
            .unwrap_or_else(|| panic!("config/countersign.toml does not have {}", key.name));
        let setting = block.lines().last().unwrap().to_owned();
        assert!(setting.starts_with(&start), "{}: its line is the last one", key.name);
        (block.to_owned(), setting)
    }

    #[test]
    fn names_are_unique_and_have_a_section() {
        let mut seen = HashSet::new();
        for key in KEYS {
            assert!(seen.insert(key.variable()), "{} is there twice", key.name);
            assert!(key.short.iter().all(|short| seen.insert((*short).to_owned())));
            assert_eq!(key.name.matches('.').count(), 1);
            assert!(!key.meaning.is_empty());
            assert!(!key.secret || key.default.is_empty());
        }
    }

    #[test]
    fn the_environment_name_has_two_underscores_between_section_and_key() {
        let key = KEYS.iter().find(|key| key.name == "tokens.access_ttl").unwrap();
        assert_eq!(key.variable(), "COUNTERSIGN__TOKENS__ACCESS_TTL");
    }

    #[test]
    fn the_example_file_has_every_key_with_its_default() {
        for key in KEYS {
            let (_, setting) = lines_about(key);
            let value = setting.split_once(" = ").unwrap().1;
            let text = match (key.list, key.default) {
                (true, "") => "[]".to_owned(),
                (_, "true" | "false") => key.default.to_owned(),
                (_, number) if !number.is_empty() && number.parse::<u64>().is_ok() => key.default.to_owned(),
                (_, text) => format!("\"{text}\""),
            };
            assert_eq!(value, text, "the default of {}", key.name);
            // A duration says its unit.
            assert!(!key.meaning.contains("duration") || key.default.ends_with(['s', 'm', 'h', 'd']), "{}", key.name);
        }
    }

    #[test]
    fn the_example_file_names_for_every_key_what_it_is_called_in_the_environment() {
        for key in KEYS {
            let (block, _) = lines_about(key);
            let short: String = key.short.iter().map(|short| format!("{short} or ")).collect();
            let expected = format!("# Environment: {short}{}", key.variable());
            let named: Vec<&str> = block.lines().filter(|line| line.contains("Environment")).collect();
            assert_eq!(named, [expected], "{}", key.name);
        }
    }

    #[test]
    fn the_example_file_says_of_every_key_what_it_means_and_why_with_unit_and_bounds() {
        for key in KEYS {
            let (block, _) = lines_about(key);
            let about: Vec<&str> = block.lines().take_while(|line| !line.starts_with("# Environment")).collect();
            let about = about.join(" ").replace("# ", "");
            // What it is in one sentence, and in another when to change it.
            let sentences = about.matches(". ").count() + usize::from(about.ends_with('.'));
            assert!(sentences >= 2 && about.len() > 60, "{}: {about}", key.name);
            let words =
                |text: &str| text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<HashSet<_>>();
            let said = words(&about);
            for word in words(key.meaning) {
                let is_bound = word.starts_with(|c: char| c.is_ascii_digit());
                let is_unit = ["bytes", "characters"].contains(&word.as_str());
                assert!(!(is_bound || is_unit) || said.contains(&word), "{}: {word} is not in: {about}", key.name);
            }
        }
    }

    #[test]
    fn the_example_file_sets_nothing_and_has_no_key_that_does_not_exist() {
        assert!(
            FILE.parse::<toml::Table>().unwrap().values().all(|section| { section.as_table().unwrap().is_empty() })
        );
        let settings = FILE.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ") && *line != "#");
        assert_eq!(settings.count(), KEYS.len());
    }
}
