//! The layers put together: for every key the value that won, and where it came from.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::key::{KeyInfo, Kind, Shape, may_hold_login};
use super::layer::{Entry, Layer, Value};
use super::mistake::{Mistake, Source};
use super::sections::{DatabaseKeys, keys};
use super::{credentials, database_url, file, lookup, mail_server, variables};

/// Where the configuration file is looked for, seen from the working directory.
const FILE: &str = "config/countersign.toml";

/// What was configured, as text, before it is checked.
///
/// `RawConfig::default()` holds nothing but the built-in defaults: for tests, and for a program that
/// uses this library and sets keys [`with`](Self::with) its own hands. `Debug` shows no secret.
///
/// ```
/// use countersign::config::RawConfig;
///
/// let config = RawConfig::default()
///     .with("database.url", "sqlite:/srv/shop/sessions.db")
///     .with("tokens.issuer", "https://shop.example.com")
///     .with("registration.enabled", "false")
///     .resolve()?;
/// assert_eq!(config.tokens.access_ttl.as_secs(), 15 * 60);
///
/// let mistakes = RawConfig::default().with("tokens.access_tll", "5m").resolve().unwrap_err();
/// assert_eq!(
///     mistakes.to_string(),
///     "tokens.access_tll (set by the program): is not a key; did you mean tokens.access_ttl?"
/// );
/// # Ok::<(), countersign::config::Mistakes>(())
/// ```
#[derive(Clone, Default)]
pub struct RawConfig {
    /// What was set, by the name of the key; of all others the default counts.
    entries: BTreeMap<&'static str, Entry>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
    pub(super) state_directory: Option<PathBuf>,
    /// Whether a variable or credential that no other program reads names the database. `DATABASE_URL` counts nowhere then.
    names_database: bool,
}

/// One line of what `check-config` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The key, as in `tokens.access_ttl`.
    pub key: &'static str,
    /// Its value, of a secret only the length, without the password of a database URL; none if it is
    /// not set.
    pub value: Option<String>,
    /// Where the value came from.
    pub source: Source,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().unwrap_or("(not set)");
        write!(f, "{} = {value} ({})", self.key, self.source)
    }
}

impl fmt::Debug for RawConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawConfig")
            .field("entries", &self.describe())
            .field("mistakes", &self.mistakes)
            .finish_non_exhaustive()
    }
}

impl RawConfig {
    /// Reads every layer: the defaults, `config_file` (which must exist) or else
    /// `config/countersign.toml`, under systemd `$CONFIGURATION_DIRECTORY/countersign.toml` (which need not), `.env`, the
    /// environment, systemd credentials.
    ///
    /// What cannot be read or is not a key is kept as a mistake, which [`resolve`](Self::resolve)
    /// reports together with all others.
    pub fn load(config_file: Option<&Path>) -> Self {
        Self::load_from(Path::new(""), config_file, std::env::vars_os())
    }

    /// Like [`load`](Self::load), with `folder` in place of the working directory and `environment`
    /// in place of the process's own. The environment also says where systemd put things:
    /// `STATE_DIRECTORY`, `CONFIGURATION_DIRECTORY` and `CREDENTIALS_DIRECTORY`.
    pub fn load_from(
        folder: &Path,
        config_file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut environment: Vec<_> = environment.into_iter().collect();
        environment.sort();
        let variable = |wanted: &str| {
            let pair = environment.iter().find(|(name, _)| name == wanted);
            pair.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let mut raw = Self::default();
        if let Some(state) = variable("STATE_DIRECTORY") {
            raw.keep_data_in(&state);
        }
        let usual = variable("CONFIGURATION_DIRECTORY").map_or(FILE.into(), |folders| file_of_the_system(&folders));
        let file = config_file.unwrap_or(&usual);
        raw.apply(file::toml_file(&folder.join(file), file, config_file.is_some()));
        raw.apply(variables::dotenv(&folder.join(".env")));
        let credentials = variable("CREDENTIALS_DIRECTORY");
        raw.apply(variables::environment(environment));
        if let Some(folder) = credentials {
            raw.apply(credentials::credentials(Path::new(&folder)));
        }
        raw
    }

    /// Sets one key, above all layers: `.with("rotation.overlap", "5s")`. A list is separated by
    /// commas. An unknown key becomes a mistake when the configuration is resolved.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        let mut layer = Layer::default();
        match lookup::by_name(key) {
            Some(key) => layer.found.push((key, Value::text(value), Source::Code)),
            None => {
                let meant = lookup::nearest(key).map(|key| key.name.to_owned());
                layer.unknown(key, Source::Code, meant);
            }
        }
        self.apply(layer);
        self
    }

    /// Every key, section by section, with the value that counts and where it came from. Secrets are masked. A default that
    /// gives way to another key is shown as what it becomes.
    pub fn describe(&self) -> Vec<Shown> {
        let mut fitted = self.clone();
        fitted.fit_defaults();
        let shown = |key: &'static KeyInfo| {
            let Entry { value, source } = fitted.entry(key);
            Shown { key: key.name, value: shown(key, &value), source }
        };
        keys().map(shown).collect()
    }

    /// The value that counts for `key`.
    pub(super) fn entry(&self, key: &KeyInfo) -> Entry {
        let default = || Entry { value: Value::text(key.default), source: Source::Default };
        self.entries.get(key.name).cloned().unwrap_or_else(default)
    }

    pub(super) fn set(&mut self, key: &KeyInfo, value: Value, source: Source) {
        self.entries.insert(key.name, Entry { value, source });
    }

    /// Gives `key` the value that it has in `other`.
    pub(super) fn take_from(&mut self, other: &Self, key: &KeyInfo) {
        match other.entries.get_key_value(key.name) {
            Some((name, entry)) => self.entries.insert(name, entry.clone()),
            None => self.entries.remove(key.name),
        };
    }

    /// Leaves of everything that was set only what is about `keys`; of all others the default counts.
    pub(super) fn keep(&mut self, keys: &[&KeyInfo]) {
        self.entries.retain(|name, _| keys.iter().any(|key| key.name == *name));
    }

    /// systemd's folder for the service's data moves the default database. It may name several.
    fn keep_data_in(&mut self, state: &OsString) {
        let source = Source::Environment("STATE_DIRECTORY".to_owned());
        match state.to_str().map(|paths| paths.split(':').next().unwrap_or_default()) {
            Some("") => {}
            Some(path) => {
                let url = format!("sqlite:{}/countersign.db", path.trim_end_matches('/'));
                self.set(&DatabaseKeys::url, Value::text(url), source);
                self.state_directory = Some(PathBuf::from(path));
            }
            None => self.mistakes.push(Mistake::whole(source, "is not UTF-8")),
        }
    }

    /// Puts `layer` above what is there. Within one layer a key may be set twice (by its short and
    /// its long name) only if both say the same: which one was meant cannot be known. A name that other programs use too
    /// counts only where no variable of ours sets its key, in whatever layer.
    fn apply(&mut self, mut layer: Layer) {
        if self.names_database {
            layer.pass_over_shared();
        }
        self.names_database |= layer.names_database;
        let mut placed: BTreeMap<&str, (Value, Source)> = BTreeMap::new();
        for (key, value, source) in layer.found {
            if let Some((other, first)) = placed.get(key.name)
                && *other != value
            {
                let problem = if *first == source {
                    "is set twice there, to different values: keep one".to_owned()
                } else {
                    format!("is also set by {first}, to another value: keep one of the two")
                };
                self.mistakes.push(Mistake::new(key.name, source.clone(), problem));
            }
            placed.insert(key.name, (value.clone(), source.clone()));
            self.set(key, value, source);
        }
        self.mistakes.extend(layer.mistakes);
        self.warnings.extend(layer.warnings);
    }
}

/// A value as it may be shown; none if it is empty.
fn shown(key: &KeyInfo, value: &Value) -> Option<String> {
    let parts = if key.shape == Shape::List {
        value.parts()
    } else {
        match value {
            Value::Text(text) if text.is_empty() => Vec::new(),
            Value::Text(text) => vec![text.as_str()],
            Value::List(parts) => parts.iter().map(|part| part.as_str()).collect(),
        }
    };
    if parts.is_empty() {
        return None;
    }
    let part = |part: &str| match key.kind {
        Kind::Secret => format!("(secret, {} bytes)", part.len()),
        Kind::DatabaseUrl => database_url::masked(part),
        Kind::MailUrl => mail_server::masked(part),
        _ if may_hold_login(part) => format!("(hidden, {} bytes)", part.len()),
        _ => part.to_owned(),
    };
    Some(parts.into_iter().map(part).collect::<Vec<_>>().join(", "))
}

/// Where the file is that systemd's folder for the service's configuration is for. It may name several.
fn file_of_the_system(folders: &OsString) -> PathBuf {
    let first = folders.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    Path::new(OsStr::from_bytes(first)).join("countersign.toml")
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use std::fs;

    use super::super::{Config, Database, Mistakes};
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

    /// A working directory and an environment.
    struct Place {
        folder: tempfile::TempDir,
        environment: Vec<(OsString, OsString)>,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder, environment: Vec::new() }
        }

        fn file(self, name: &str, text: &str) -> Self {
            let path = self.folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
            self.environment.push((name.into(), value.into()));
            self
        }

        fn credential(self, name: &str, text: &str) -> Self {
            let folder = self.folder.path().join("credentials");
            self.file(&format!("credentials/{name}"), text).variable("CREDENTIALS_DIRECTORY", folder)
        }

        fn load(&self, file: Option<&str>) -> RawConfig {
            let file = file.map(Path::new);
            RawConfig::load_from(self.folder.path(), file, self.environment.clone())
        }

        fn resolve(&self) -> Result<Config, Mistakes> {
            self.load(None).resolve()
        }
    }

    fn line(raw: &RawConfig, key: &str) -> String {
        let shown = raw.describe();
        shown.iter().find(|shown| shown.key == key).unwrap().to_string()
    }

    #[test]
    fn each_layer_wins_over_the_ones_before_it() {
        let key = "server.port";
        let place = Place::new();
        assert_eq!(line(&place.load(None), key), "server.port = 8080 (built-in default)");
        let place = place.file("config/countersign.toml", "[server]\nport = 1\n");
        assert_eq!(line(&place.load(None), key), "server.port = 1 (config/countersign.toml)");
        let place = place.file(".env", "PORT=2\n");
        assert_eq!(line(&place.load(None), key), "server.port = 2 (.env)");
        let place = place.variable("PORT", "3");
        assert_eq!(line(&place.load(None), key), "server.port = 3 (environment variable PORT)");
        let place = place.credential("PORT", "4\n");
        assert_eq!(line(&place.load(None), key), "server.port = 4 (credential PORT)");
        let raw = place.load(None).with(key, "5");
        assert_eq!(line(&raw, key), "server.port = 5 (set by the program)");
        assert_eq!(raw.resolve().unwrap().server.port, 5);
    }

    #[test]
    fn a_named_file_takes_the_place_of_the_usual_one_and_must_exist() {
        let place = Place::new()
            .file("config/countersign.toml", "[server]\nport = 1\nhost = '::1'\n")
            .file("other.toml", "[server]\nport = 2\n");
        let config = place.load(Some("other.toml")).resolve().unwrap();
        assert_eq!((config.server.port, config.server.host.as_str()), (2, "127.0.0.1"));
        let refusal = place.load(Some("none.toml")).resolve().unwrap_err();
        assert_eq!(refusal.to_string(), "none.toml: does not exist: name another with --config");
    }

    #[test]
    fn an_empty_variable_leaves_what_the_layer_before_said() {
        let place = Place::new().file(".env", "PORT=2\n").variable("PORT", "");
        assert_eq!(place.resolve().unwrap().server.port, 2);
    }

    #[test]
    fn mistakes_of_all_layers_come_together_with_where_they_are() {
        let place = Place::new()
            .file("config/countersign.toml", "[servers]\nport = 1\n")
            .file(".env", "COUNTERSIGN__SERVER__PROT=1\nnonsense\n")
            .variable("HOST", "a b")
            .credential("REFRESH_TOKEN_SECRET", "short\n");
        let refusal = place.resolve().unwrap_err();
        let told: Vec<String> = refusal.0.iter().map(Mistake::to_string).collect();
        assert_eq!(told.len(), 5, "{told:#?}");
        for start in [
            "servers.port (config/countersign.toml): is not a key; did you mean server.port?",
            "COUNTERSIGN__SERVER__PROT (.env): is not a key",
            ".env: line 2: ",
            "server.host (environment variable HOST): \"a b\" is neither",
            "tokens.refresh_secret (credential REFRESH_TOKEN_SECRET): has 5 bytes",
        ] {
            assert!(told.iter().any(|told| told.starts_with(start)), "{start}: {told:#?}");
        }
    }

    #[test]
    fn two_names_for_one_key_in_one_layer_must_agree() {
        let long = "COUNTERSIGN__SERVER__PORT";
        let agree = Place::new().variable("PORT", "1").variable(long, "1");
        assert_eq!(agree.resolve().unwrap().server.port, 1);
        let differ = Place::new().variable("PORT", "1").variable(long, "2");
        let refusal = differ.resolve().unwrap_err().to_string();
        assert!(refusal.starts_with("server.port (environment variable"), "{refusal}");
        assert!(refusal.contains("PORT") && refusal.contains(long), "{refusal}");
        let twice = Place::new().file(".env", "PORT=1\nPORT=2\n");
        let refusal = twice.resolve().unwrap_err().to_string();
        assert!(refusal.contains("is set twice there"), "{refusal}");
        let both = Place::new()
            .credential("ACCESS_TOKEN_SECRET", SECRET)
            .credential("tokens.access_secret", "another one, long enough to be taken");
        let refusal = both.resolve().unwrap_err().to_string();
        assert!(refusal.contains("ACCESS_TOKEN_SECRET") && !refusal.contains(SECRET), "{refusal}");
    }

    /// As `ConfigurationDirectory=` says where it is; it need not be there.
    #[test]
    fn under_systemd_the_file_is_in_the_configuration_directory() {
        let line = |folders: &str| {
            let place = Place::new().file("config/countersign.toml", "server.port = 1");
            let place = place.file("etc/countersign.toml", "server.port = 2");
            line(&place.variable("CONFIGURATION_DIRECTORY", folders).load(None), "server.port")
        };
        assert_eq!(line("etc"), "server.port = 2 (etc/countersign.toml)");
        assert_eq!(line("etc:/elsewhere"), line("etc"));
        assert_eq!(line("/nonexistent"), "server.port = 8080 (built-in default)");
        assert_eq!(line(""), "server.port = 1 (config/countersign.toml)");
    }

    #[test]
    fn under_systemd_data_is_in_the_state_directory() {
        let place = Place::new().variable("STATE_DIRECTORY", "/var/lib/countersign:/var/lib/b");
        let raw = place.load(None);
        assert_eq!(
            line(&raw, "database.url"),
            "database.url = sqlite:/var/lib/countersign/countersign.db \
             (environment variable STATE_DIRECTORY)"
        );
        let config = raw.resolve().unwrap();
        assert_eq!(config.data_dir, Path::new("/var/lib/countersign"));
        assert!(matches!(config.database, Database::Sqlite(path)
            if path == Path::new("/var/lib/countersign/countersign.db")));
        let place = place.variable("DATABASE_URL", "postgres://db/app");
        let place = place.variable("COUNTERSIGN__TOKENS__ISSUER", "https://auth.example.com");
        let config = place.resolve().unwrap();
        assert!(matches!(config.database, Database::Postgres(_)));
        assert_eq!(config.data_dir, Path::new("/var/lib/countersign"));
        let empty = Place::new().variable("STATE_DIRECTORY", "").resolve().unwrap();
        assert_eq!(empty.data_dir, Path::new("data"));
        assert!(Place::new().variable("CREDENTIALS_DIRECTORY", "").resolve().is_ok());
    }

    /// Whichever place they are in: the name of ours counts, and of one name the later place. The file is no such place: a
    /// variable wins over it, whatever it is called.
    #[test]
    fn our_own_name_for_the_database_counts_before_the_shared_one() {
        const OURS: &str = "COUNTERSIGN_DATABASE_URL";
        const LONG: &str = "COUNTERSIGN__DATABASE__URL";
        const SHARED: &str = "DATABASE_URL";
        /// What `.env`, the environment and the credentials say; the URL that counts, and from where.
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            (&[], &[(SHARED, "sqlite:a")], &[], "sqlite:a (environment variable DATABASE_URL)"),
            (&[(OURS, "sqlite:a")], &[(SHARED, "sqlite:b")], &[], "sqlite:a (.env)"),
            (&[(LONG, "sqlite:a")], &[(SHARED, "sqlite:b")], &[], "sqlite:a (.env)"),
            (
                &[(SHARED, "sqlite:a")],
                &[(OURS, "sqlite:b")],
                &[],
                "sqlite:b (environment variable COUNTERSIGN_DATABASE_URL)",
            ),
            (
                &[(OURS, "sqlite:a")],
                &[(OURS, "sqlite:b"), (SHARED, "sqlite:c")],
                &[],
                "sqlite:b (environment variable COUNTERSIGN_DATABASE_URL)",
            ),
            (
                &[(OURS, "sqlite:a"), (SHARED, "sqlite:b")],
                &[(LONG, "sqlite:c")],
                &[],
                "sqlite:c (environment variable COUNTERSIGN__DATABASE__URL)",
            ),
            (&[(SHARED, "sqlite:a")], &[(SHARED, "sqlite:b")], &[], "sqlite:b (environment variable DATABASE_URL)"),
            (&[(OURS, "")], &[(SHARED, "sqlite:b")], &[], "sqlite:b (environment variable DATABASE_URL)"),
            (&[(OURS, "sqlite:a")], &[], &[("database_url", "sqlite:b")], "sqlite:a (.env)"),
            (
                &[],
                &[(OURS, "sqlite:a")],
                &[("DATABASE_URL", "sqlite:b")],
                "sqlite:a (environment variable COUNTERSIGN_DATABASE_URL)",
            ),
            (&[(OURS, "sqlite:a")], &[], &[("database.url", "sqlite:b")], "sqlite:b (credential database.url)"),
            (&[], &[(SHARED, "sqlite:a")], &[("DATABASE_URL", "sqlite:b")], "sqlite:b (credential DATABASE_URL)"),
        ];
        for (dotenv, environment, credentials, counts) in cases {
            let text: String = dotenv.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            let place = Place::new().file(".env", &text);
            let place = place.file("config/countersign.toml", "[database]\nurl = 'sqlite:file'\n");
            let place = environment.iter().fold(place, |place, (name, value)| place.variable(name, *value));
            let place = credentials.iter().fold(place, |place, (name, value)| place.credential(name, value));
            let raw = place.load(None);
            let case = (dotenv, environment, credentials);
            assert_eq!(line(&raw, "database.url"), format!("database.url = {counts}"), "{case:?}");
            assert!(raw.warnings.is_empty(), "{case:?}: {:?}", raw.warnings);
        }
    }

    /// No other pair of names has an order: places have one, and in one place two names must agree.
    #[test]
    fn of_other_short_and_long_names_the_later_place_wins() {
        for (short, key) in [("PORT", "server.port"), ("REFRESH_TOKEN_EXPIRY", "tokens.refresh_idle_ttl")] {
            let long = keys().find(|entry| entry.name == key).unwrap().variable();
            for (earlier, later) in [(short, long.as_str()), (long.as_str(), short)] {
                let raw = Place::new().file(".env", &format!("{earlier}=1000\n")).variable(later, "2000").load(None);
                assert_eq!(line(&raw, key), format!("{key} = 2000 (environment variable {later})"));
            }
        }
    }

    #[test]
    fn an_unknown_key_set_by_the_program_is_a_mistake() {
        let refusal = RawConfig::default().with("rotation.overlaps", "5s").resolve().unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "rotation.overlaps (set by the program): is not a key; did you mean rotation.overlap?"
        );
    }

    #[test]
    fn secrets_are_masked_wherever_the_raw_configuration_is_shown() {
        let raw = RawConfig::default()
            .with("tokens.access_secret", SECRET)
            .with("tokens.access_secret_previous", format!("{SECRET}1,{SECRET}22"))
            .with("tokens.issuer", "https://app:hunter2@example.com")
            .with("database.url", "postgres://app:hunter2@db/app");
        let of = |key| line(&raw, key);
        assert!(of("tokens.access_secret").contains("= (secret, 32 bytes) ("));
        assert!(of("tokens.access_secret_previous").contains("(secret, 33 bytes), (secret, 34 bytes)"));
        assert!(of("database.url").contains("= postgres://app:***@db/app ("));
        assert!(of("passwords.pepper").contains("= (not set) (built-in default)"));
        let json = serde_json::to_string(&raw.describe()).unwrap();
        assert!(
            json.contains(
                r#"{"key":"tokens.access_secret","value":"(secret, 32 bytes)","source":"set by the program"}"#
            )
        );
        assert!(json.contains(r#"{"key":"passwords.pepper","value":null,"#));
        for shown in [json, format!("{raw:?}")] {
            assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn what_is_shown_is_what_counts_after_defaults_gave_way() {
        let raw = RawConfig::default().with("tokens.access_ttl", "10s");
        assert_eq!(
            line(&raw, "rotation.overlap"),
            "rotation.overlap = 5s (built-in default, fitted to tokens.access_ttl)"
        );
        let names: Vec<&str> = raw.describe().iter().map(|shown| shown.key).collect();
        assert_eq!(names, keys().map(|key| key.name).collect::<Vec<_>>());
    }

    #[test]
    fn warnings_of_the_layers_reach_the_configuration() {
        let secret = format!("REFRESH_TOKEN_SECRET={SECRET}$x\n");
        let config = Place::new().file(".env", &secret).resolve().unwrap();
        assert!(config.warnings.iter().any(|text| text.contains('$')), "{:?}", config.warnings);
    }
}
