//! Which database: said, never guessed. The syntax of `database.url`, and what of it may be shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parameters;
use crate::secret::Secret;

/// The database to use.
#[derive(Clone, Debug)]
pub enum Database {
    /// A SQLite file of this server's own, created if it is not there.
    Sqlite(PathBuf),
    /// PostgreSQL.
    Postgres(Postgres),
}

/// How to reach PostgreSQL, and how long to wait for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Postgres {
    /// The whole connection URL, since it can hold a password. libpq reads it: several hosts, `sslmode` and all else that
    /// it knows.
    pub url: Secret,
    /// Connections of this node, 5 to 1000. Default 10; all nodes together must stay below `max_connections` of the
    /// server. `database.pool_size`.
    pub pool_size: u32,
    /// How long a request waits for a connection before it is answered 503. Default 2 seconds. `database.pool_wait`.
    pub pool_wait: Duration,
    /// How long connecting to one host may take. Default 3 seconds. `database.connect_timeout`.
    pub connect_timeout: Duration,
    /// How long one statement may take, waiting for locks included. Default 2 seconds. `database.statement_timeout`.
    pub statement_timeout: Duration,
}

impl Database {
    /// Reads `sqlite:PATH` (`sqlite://PATH` is the same), `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    ///
    /// For anything else: what is wrong, without the text itself, which could hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if is_postgres(text) {
            return if cfg!(feature = "postgres") { postgres(text) } else { Err(not_built("PostgreSQL", "postgres")) };
        }
        let Some(rest) = text.strip_prefix("sqlite:") else {
            return Err("begins with none of sqlite:, postgres:// and postgresql:// (the value is not \
                 shown, it could hold a password): write sqlite:data/countersign.db or \
                 postgres://user:password@host/database"
                .to_owned());
        };
        let path = rest.strip_prefix("//").unwrap_or(rest);
        if cfg!(feature = "sqlite") { sqlite(path) } else { Err(not_built("SQLite", "sqlite")) }
    }

    /// The folder that also holds what belongs to the database: its own for SQLite.
    pub(super) fn data_dir(&self, state_directory: Option<&Path>) -> PathBuf {
        match self {
            Self::Sqlite(path) => match path.parent() {
                Some(folder) if folder != Path::new("") => folder.to_owned(),
                _ => PathBuf::from("."),
            },
            Self::Postgres(_) => state_directory.unwrap_or(Path::new("data")).to_owned(),
        }
    }
}

/// Of a URL for a database that is not compiled in.
fn not_built(name: &str, feature: &str) -> String {
    format!(
        "is for {name}, and this program was built without it: build it with the feature {feature} (`cargo build --features \
         {feature}`), or name a database of the other kind"
    )
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn postgres(text: &str) -> Result<Database, String> {
    if text.ends_with("://") {
        return Err("names no host and no database".to_owned());
    }
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err("holds a space or a control character: write it as %20 and the like".to_owned());
    }
    // What libpq reads differently from what was meant, it quotes in its errors.
    if is_ambiguous(text) {
        return Err(
            "cannot be told apart with certainty: in a user name or password write @ as %40, : as %3A, / as %2F, \
                    ? as %3F and % as %25, and & as %26 behind the ?"
                .to_owned(),
        );
    }
    parameters::check(Parts::of(text).parameters)?;
    Ok(Database::Postgres(Postgres {
        url: Secret::new(text),
        pool_size: 10,
        pool_wait: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(3),
        statement_timeout: Duration::from_secs(2),
    }))
}

/// A PostgreSQL URL, taken apart as libpq does it: what stands before the first @, if that comes before any slash, is the
/// user's, whatever it holds.
pub(crate) struct Parts<'a> {
    /// Everything up to the hosts.
    pub(crate) user: &'a str,
    /// Hosts, ports and database.
    pub(crate) place: &'a str,
    /// What stands behind the question mark.
    pub(crate) parameters: &'a str,
}

impl<'a> Parts<'a> {
    /// Of a URL with a scheme.
    pub(crate) fn of(url: &'a str) -> Self {
        let start = url.find("://").map_or(0, |at| at + 3);
        let head = url.get(start..).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let hosts_at = start + head.find('@').map_or(0, |at| at + 1);
        let (user, rest) = url.split_at_checked(hosts_at).unwrap_or(("", url));
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        Self { user, place, parameters }
    }

    /// With their ports, separated by commas; they may also be among the parameters.
    pub(crate) fn hosts(&self) -> &'a str {
        self.place.split('/').next().unwrap_or_default()
    }

    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.parameters.split('&').filter_map(|one| one.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

fn is_ambiguous(text: &str) -> bool {
    let encoded = |rest: &str| {
        let code = rest.get(..2).filter(|code| code.chars().all(|c| c.is_ascii_hexdigit()));
        code.is_some_and(|code| code != "00")
    };
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let head = rest.split('/').next().unwrap_or_default();
    let parameters = Parts::of(text).parameters;
    let named = |parameter: &str| {
        parameter.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.contains('='))
    };
    masked(text).starts_with('(')
        || head.matches('@').count() > 1
        || text.split('%').skip(1).any(|rest| !encoded(rest))
        || !parameters.is_empty() && !parameters.split('&').all(named)
}

/// The first host of a PostgreSQL URL that others may answer for: it is not this machine, and its certificate is not
/// checked.
pub(super) fn unverified_host(text: &str) -> Option<&str> {
    let parts = Parts::of(text);
    let verified = parts.parameter("sslmode").is_some_and(|mode| mode == "verify-full" || mode == "verify-ca")
        || parts.parameter("sslrootcert") == Some("system");
    let hosts = parts.parameter("host").unwrap_or_else(|| parts.hosts()).split(',');
    let mut remote = hosts.map(without_port).filter(|host| {
        let socket = host.is_empty() || host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
        !socket && !super::address::is_loopback(host.trim_matches(['[', ']']))
    });
    remote.next().filter(|_| !verified)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn sqlite(path: &str) -> Result<Database, String> {
    // SQLite itself would read these as something other than the name of a file.
    if path.contains(":memory:") || path.starts_with("file:") {
        return Err("does not name a file: a database in memory would lose every session, and each \
                    connection would see one of its own"
            .to_owned());
    }
    if path.is_empty() || path.ends_with('/') {
        return Err("names no file: write sqlite:data/countersign.db".to_owned());
    }
    if path.contains('?') || path.chars().any(char::is_control) {
        return Err("holds a ? or a control character: sqlite:PATH takes a path and no parameters".to_owned());
    }
    Ok(Database::Sqlite(PathBuf::from(path)))
}

/// Whether `text`, a database URL or something meant as one, could hold a password.
pub(super) fn may_hold_password(text: &str) -> bool {
    !text.starts_with("sqlite:") && masked(text) != text
}

/// `text`, a database URL, without its password: in the user part and in parameters. What cannot be
/// taken apart with certainty is hidden as a whole.
pub(super) fn masked(text: &str) -> String {
    if text.is_empty() || text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let hidden = || format!("(hidden, {} bytes)", text.len());
    if !is_postgres(text) {
        return hidden();
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return hidden();
    };
    // As libpq reads it: a user part is what stands before an @ that comes before any slash.
    let head = rest.split('/').next().unwrap_or_default();
    let (user, rest) = match head.rfind('@') {
        Some(at) => match (rest.get(..at), rest.get(at + 1..)) {
            (Some(user), Some(rest)) => (Some(user), rest),
            _ => return hidden(),
        },
        None => (None, rest),
    };
    let (place, parameters) = match rest.split_once('?') {
        Some((place, parameters)) => (place, Some(parameters)),
        None => (rest, None),
    };
    let mut shown = format!("{scheme}://");
    if let Some(user) = user {
        let (name, password) = match user.split_once(':') {
            Some((name, _)) => (name, ":***"),
            None => (user, ""),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%".contains(c);
        if !name.chars().all(plain) {
            return hidden();
        }
        shown.push_str(&format!("{name}{password}@"));
    }
    // An @ further on, or a port that is no number, may be the middle of a password.
    if rest.contains('@') || !has_plain_ports(place) {
        return hidden();
    }
    shown.push_str(place);
    if let Some(parameters) = parameters {
        let parameters: Vec<String> = parameters.split('&').map(masked_parameter).collect();
        shown.push_str(&format!("?{}", parameters.join("&")));
    }
    shown
}

/// Whether whatever stands behind a colon in `host:port,host:port/database` is a number.
fn has_plain_ports(place: &str) -> bool {
    let hosts = place.split('/').next().unwrap_or_default();
    hosts.split(',').all(|host| {
        let after_brackets = host.rsplit(']').next().unwrap_or_default();
        after_brackets.split_once(':').is_none_or(|(_, port)| port.chars().all(|c| c.is_ascii_digit()))
    })
}

/// `name=value`, its value hidden unless the name says plainly that it is no secret.
fn masked_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) => {
            let lower = name.to_ascii_lowercase();
            let secret = |part: &str| lower.contains(part);
            if ["pass", "secret", "%"].into_iter().any(secret) {
                return format!("{name}=***");
            }
            format!("{name}={value}")
        }
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod built {
    use super::*;

    /// A url for a database that is not compiled in is refused and says how to have it.
    #[test]
    fn a_url_for_a_database_that_is_not_compiled_in_is_refused() {
        for (url, built, feature) in [
            ("sqlite:a.db", cfg!(feature = "sqlite"), "sqlite"),
            ("postgres://u:hunter2@h/d", cfg!(feature = "postgres"), "postgres"),
        ] {
            match Database::parse(url) {
                Ok(_) => assert!(built, "{url}"),
                Err(told) => assert!(!built && told.contains(&format!("--features {feature}")), "{url}: {told}"),
            }
        }
        assert!(not_built("SQLite", "sqlite").contains("feature sqlite "));
    }
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> Option<PathBuf> {
        match Database::parse(text) {
            Ok(Database::Sqlite(path)) => Some(path),
            _ => None,
        }
    }

    #[test]
    fn sqlite_is_a_prefix_and_a_path() {
        assert_eq!(file("sqlite:data/a.db"), Some("data/a.db".into()));
        assert_eq!(file("sqlite://data/a.db"), Some("data/a.db".into()));
        assert_eq!(file("sqlite:/var/lib/a.db"), Some("/var/lib/a.db".into()));
        assert_eq!(file("sqlite:///var/lib/a.db"), Some("/var/lib/a.db".into()));
    }

    #[test]
    fn sqlite_needs_a_real_file() {
        for text in [
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite:///:memory:",
            "sqlite:data/",
            "sqlite:file::memory:",
            "sqlite:file:a.db",
            "sqlite:a.db?mode=memory",
            "sqlite:a\0b",
        ] {
            assert!(Database::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn postgres_is_kept_whole_and_not_printed() {
        for text in [
            "postgres://app:hunter2@db/app",
            "postgresql://app:hunter2@a:5432,b:5432/app?target_session_attrs=read-write",
        ] {
            let database = Database::parse(text).unwrap();
            assert!(!format!("{database:?}").contains("hunter2"));
            let Database::Postgres(url) = database else {
                panic!("{text} is PostgreSQL");
            };
            assert_eq!(url.url.expose(), text.as_bytes());
        }
        assert!(Database::parse("postgres://").is_err());
        assert!(Database::parse("postgres://a b/c").is_err());
        assert!(Database::parse("postgres://a/c\n").is_err());
    }

    #[test]
    fn nothing_is_guessed_and_nothing_echoed() {
        for text in [
            "",
            "data/hunter2.db",
            ":memory:",
            "mysql://app:hunter2@db/app",
            "hunter2",
            "SQLITE:hunter2.db",
            "postgres:hunter2",
            "host=db password=hunter2",
            "file:hunter2.db",
        ] {
            let refusal = Database::parse(text).unwrap_err();
            assert!(!refusal.contains("hunter2"), "{refusal}");
            assert!(refusal.contains("sqlite:"), "{refusal}");
        }
    }

    #[test]
    fn the_data_folder_is_the_one_of_the_sqlite_file() {
        let folder = |text: &str| Database::parse(text).unwrap().data_dir(Some(Path::new("/state")));
        assert_eq!(folder("sqlite:a.db"), Path::new("."));
        assert_eq!(folder("sqlite:x/a.db"), Path::new("x"));
        assert_eq!(folder("sqlite:/a.db"), Path::new("/"));
        assert_eq!(folder("postgres://db/app"), Path::new("/state"));
        let postgres = Database::parse("postgres://db/app").unwrap();
        assert_eq!(postgres.data_dir(None), Path::new("data"));
    }

    #[test]
    fn a_shown_url_keeps_what_helps() {
        for (text, shown) in [
            ("sqlite:a.db", "sqlite:a.db"),
            ("postgres://db/app", "postgres://db/app"),
            ("postgres://app@db/app", "postgres://app@db/app"),
            ("postgres://app:hunter2@db:1,c:2/app", "postgres://app:***@db:1,c:2/app"),
            ("postgres://[::1]:5432/app", "postgres://[::1]:5432/app"),
            ("postgres:///app?host=/run/pg", "postgres:///app?host=/run/pg"),
            ("postgres://db/app?password=hunter2&sslmode=require", "postgres://db/app?password=***&sslmode=require"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(may_hold_password(text), text != shown, "{text}");
        }
    }

    #[test]
    fn a_shown_url_never_holds_a_password() {
        for text in [
            "postgres://app:hunter2@db/app",
            "postgres://:hunter2@db/app",
            "postgresql://app:a@hunter2@db/app",
            "postgres://app:a:hunter2@db/app",
            "postgres://app:a/hunter2@db/app",
            "postgres://app:hunter2/b@db/app",
            "postgres://app:a?hunter2@db/app",
            "postgres://app:hunter2/b?c@db/app",
            "postgres://app:hunter2/app",
            "postgres://app:hunter2",
            "postgres://app:a#hunter2@db/app",
            "postgres://app:hunter2@",
            "postgres://db?password=hunter2",
            "postgres://db?password=a@hunter2",
            "postgres://db/app?password=hunter2@b",
            "postgres://db/app?password=a@hunter2",
            "postgres://u@db/app?password=a:hunter2@c/d",
            "postgres://u@db?password=a/hunter2@c",
            "postgres://db/app?sslmode=require&PASSWORD=hunter2",
            "postgres://db/app?p%61ssword=hunter2",
            "postgres://db/app?sslpassword=hunter2",
            "postgres://db/app?oauth_client_secret=hunter2",
            "postgres://db/app?password=a&hunter2",
            "mysql://app:hunter2@db/app",
            "hunter2",
            "SQLITE:hunter2",
        ] {
            let shown = masked(text);
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
            assert!(may_hold_password(text), "{text}");
        }
    }

    /// What libpq would read otherwise than it was meant is refused and not shown.
    #[test]
    fn what_libpq_would_misread_is_refused_and_not_shown() {
        for meant in [
            "postgres://u:50%off@h/db",
            "postgres://u:50%2@h/db",
            "postgres://u:nul%00@h/db",
            "postgres://u:pa/ss@h/db",
            "postgres://u:a@b@h/db",
            "postgres://h/db?password=a&b",
            "postgres://h/db?password=a=b",
            "postgres://h:port/db",
        ] {
            let refusal = Database::parse(meant).unwrap_err();
            assert!(refusal.contains("%40") && !refusal.contains("50%") && !refusal.contains("pa/ss"), "{refusal}");
        }
        for fine in [
            "postgres://u:50%25off@h/db",
            "postgresql://u:a%40b%2F@one:5432,two/db?sslmode=require&options=-csearch_path%3Dx",
            "postgres:///db?host=%2Frun%2Fpostgresql",
            "postgres://u:a?b@h/db",
            "postgres://[::1]:5432/db?",
        ] {
            Database::parse(fine).unwrap_or_else(|refusal| panic!("{fine}: {refusal}"));
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it_a_password_is_not_shown(
            user in "[a:/?&=%,.]{0,3}", before in "[a:@/?#&=%,]{0,5}",
            after in "[a:@/?#&=%,]{0,5}", host in "[a:/?&=%,1]{0,5}",
        ) {
            let url = format!("postgres://{user}:{before}hunter2{after}@{host}");
            prop_assert!(!masked(&url).contains("hunter2"), "{}", masked(&url));
        }
    }
}
