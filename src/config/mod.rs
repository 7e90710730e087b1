//! Configuration: [`RawConfig`] is what was written down and where, [`Config`] is what it means.
//!
//! Every key is in [`KEYS`]; whatever is not in there is refused. Later wins: built-in defaults,
//! `config/countersign.toml` (or the file named on the command line), `.env` in the working
//! directory, environment variables, systemd credentials. [`RawConfig::resolve`] gives either a
//! [`Config`] without contradictions or every [`Mistake`] at once, none of which shows a secret.
//!
//! | file | holds |
//! |---|---|
//! | `keys.rs`, `lookup.rs`, `names.rs` | the table of keys; from a name to a key; names that nearly are one |
//! | `layer.rs` | what one place says; then one file for each kind of place: `file.rs` (TOML), |
//! | | `variables.rs` (`.env` and environment), `credentials.rs` (systemd); `substitution.rs`: `$` in `.env` |
//! | `raw.rs` | the layers put together, and shown by `check-config` |
//! | `resolve.rs`, `reader.rs` | from text to `Config`, section by section |
//! | `tokens.rs`, `secrets.rs`, `cookies.rs`, `warnings.rs` | rules about more than one value |
//! | `parse.rs`, `address.rs`, `database.rs`, `parameters.rs`, `log.rs` | rules about one value |
//! | `mistake.rs` | where a value came from, what is wrong with it |

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

mod address;
mod cookies;
mod credentials;
mod database;
mod file;
mod keys;
mod layer;
mod log;
mod lookup;
mod mistake;
mod names;
mod parameters;
mod parse;
mod raw;
mod reader;
mod resolve;
mod secrets;
mod substitution;
mod tokens;
mod variables;
mod warnings;

#[cfg(feature = "postgres")]
pub(crate) use database::Parts;
pub use database::{Database, Postgres};
pub use keys::{KEYS, Key};
pub use mistake::{Mistake, Mistakes, Source};
pub(crate) use parse::duration;
pub use raw::{RawConfig, Shown};

pub use crate::secret::Secret;

/// The whole configuration, checked. Made by [`Config::load`] or [`RawConfig::resolve`]; `Debug` shows no
/// secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen, and whom to believe about clients.
    pub server: Server,
    /// Which database: `database.url`, `COUNTERSIGN_DATABASE_URL`, else `DATABASE_URL`. Default: `sqlite:data/countersign.db`, under
    /// systemd `$STATE_DIRECTORY/countersign.db`. PostgreSQL is for more than one node.
    pub database: Database,
    /// Where generated keys live, so that they are backed up with what they sign: the folder of the
    /// SQLite file; with PostgreSQL `$STATE_DIRECTORY`, else `data`. Not a key of its own.
    pub data_dir: PathBuf,
    /// Whether that folder may be made: it is the default one, or the one systemd gives.
    pub(crate) makes_data_dir: bool,
    /// What tokens say, how long they live and what signs them.
    pub tokens: Tokens,
    /// How forgiving the exchange of refresh tokens is.
    pub rotation: Rotation,
    /// How passwords are hashed and what they must be.
    pub passwords: Passwords,
    /// What the two cookies are called and who gets them.
    pub cookies: Cookies,
    /// Which web pages of other origins may call.
    pub cors: Cors,
    /// What slows password guessing down.
    pub limits: Limits,
    /// Whether people can sign up by themselves.
    pub registration: Registration,
    /// How many sessions an account may have.
    pub sessions: Sessions,
    /// Whether the page that describes the API is there.
    pub docs: Docs,
    /// Where metrics can be read.
    pub metrics: Metrics,
    /// What the log looks like.
    pub log: Log,
    /// What does not stop the start but should be read: one sentence each, for the log.
    pub warnings: Vec<String>,
    /// What is good to know, and no reason to change anything: one sentence each, for the log.
    pub notes: Vec<String>,
}

impl Config {
    /// Reads the configuration as the server does: built-in defaults, `config/countersign.toml`, `.env`,
    /// the environment, systemd credentials. [`RawConfig`] leaves more to you.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it at once, each with its key and where it came from.
    pub fn load() -> Result<Self, Mistakes> {
        RawConfig::load(None).resolve()
    }
}

/// Section `server`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Server {
    /// IP address or host name to listen on. Default `127.0.0.1`, since TLS ends in a proxy before
    /// it; change it in a container. `server.host`, `HOST`.
    pub host: String,
    /// TCP port; 0 takes any free one, for tests. Default 8080. `server.port`, `PORT`.
    pub port: u16,
    /// Peers whose `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` are believed; a plain address is a network of
    /// one. Default none, since whoever is believed chooses the address that failed log-ins are counted under.
    /// `server.trusted_proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// Further http(s) URLs that clients know this server by, without a slash at the end: their origins count as this
    /// host in the cross-site check. Default none. `server.public_urls`.
    pub public_urls: Vec<String>,
    /// How long an idle connection stays open, 1 s to 1 h. Default 75 s; above the idle time of the proxy before it.
    /// `server.keep_alive`.
    pub keep_alive: Duration,
}

impl Server {
    /// Host and port as they stand in a URL, an IPv6 address in brackets (RFC 3986 section 3.2.2).
    pub(crate) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Section `tokens`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tokens {
    /// `iss` of every token: an http(s) URL without a slash at the end. Default: `http://HOST:PORT`
    /// of the first start; always set with PostgreSQL, where all nodes must agree. `tokens.issuer`.
    pub issuer: Option<String>,
    /// Issuers that still verify, for a move to another URL. Default none.
    /// `tokens.previous_issuers`.
    pub previous_issuers: Vec<String>,
    /// `aud` of access tokens: a string if there is one, an array if there are several. Default (empty): the issuer.
    /// `tokens.audience`.
    pub audience: Vec<String>,
    /// `client_id` of access tokens, which RFC 9068 demands. Default `countersign`.
    /// `tokens.client_id`.
    pub client_id: String,
    /// Life of an access token, 1 s to 24 h, above 1 h with a warning. Default 15 min: what a stolen one is worth.
    /// `tokens.access_ttl`, `ACCESS_TOKEN_EXPIRY`.
    pub access_ttl: Duration,
    /// A session ends when it was not refreshed for this long, at least 1 s. Default 30 days.
    /// `tokens.refresh_idle_ttl`, `REFRESH_TOKEN_EXPIRY`.
    pub refresh_idle_ttl: Duration,
    /// A session ends this long after log-in, however busy; never below `refresh_idle_ttl`. Default
    /// 90 days. `tokens.refresh_absolute_ttl`.
    pub refresh_absolute_ttl: Duration,
    /// The idle life of a session whose log-in said `"remember":false`, at least 1 s. Default 12 h.
    /// `tokens.refresh_short_ttl`.
    pub refresh_short_ttl: Duration,
    /// What signs access tokens. Default: HS256 with `access_secret`, else ES256.
    /// `tokens.algorithm`.
    pub algorithm: Option<Algorithm>,
    /// HS256 key of access tokens, at least 32 bytes, for services that share it. Default none.
    /// `tokens.access_secret`, `ACCESS_TOKEN_SECRET`.
    pub access_secret: Option<Secret>,
    /// Access token keys that still verify and no longer sign, so that a change of key logs nobody
    /// out. Default none. `tokens.access_secret_previous`, `ACCESS_TOKEN_SECRET_PREVIOUS`.
    pub access_secrets_previous: Vec<Secret>,
    /// Key of refresh tokens, at least 32 bytes. Default: made at the first start.
    /// `tokens.refresh_secret`, `REFRESH_TOKEN_SECRET`.
    pub refresh_secret: Option<Secret>,
    /// Refresh token keys that still verify and no longer sign. Default none.
    /// `tokens.refresh_secret_previous`, `REFRESH_TOKEN_SECRET_PREVIOUS`.
    pub refresh_secrets_previous: Vec<Secret>,
}

/// What signs access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: one secret signs and verifies.
    Hs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Es256, Self::EdDsa, Self::Rs256];

    /// The name in configuration and in a token's `alg` (RFC 7518 section 3.1, RFC 8037).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

/// Section `rotation`: what happens when a refresh token comes a second time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rotation {
    /// Within this time a repeated refresh gets the same answer; 0 is off, else shorter than the
    /// access token's life. Default 30 s, for duplicates and lost answers. `rotation.overlap`.
    pub overlap: Duration,
    /// Within this time a client that lost an answer may come back with the old token; 0 is off.
    /// Default 7 days, for phones that were switched off. `rotation.recovery`.
    pub recovery: Duration,
    /// How many such returns one rotation allows. Default 16: a phone that can send but not receive retries for hours. `rotation.max_recoveries`.
    pub max_recoveries: u32,
    /// Whether tokens newer than a database restored from a copy are accepted. Default true; false if
    /// the keys may have leaked with the copy. `rotation.adopt_ahead`.
    pub adopt_ahead: bool,
    /// After this many repeats to another address in a row, a repeat is refused; 0 is off. Default 0,
    /// since phones change address. `rotation.max_repeat_streak`.
    pub max_repeat_streak: u32,
}

/// Section `passwords`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Passwords {
    /// bcrypt cost, 4 to 31; each step doubles the time. Default 12. `passwords.bcrypt_cost`.
    pub bcrypt_cost: u32,
    /// Shortest password allowed, 8 to 64 characters. Default 8; 15 where passwords are the only
    /// factor (NIST SP 800-63B-4). `passwords.min_length`.
    pub min_length: usize,
    /// Key of the password pre-hash, at least 32 bytes, so that a copy of the database alone cannot
    /// be searched for passwords. Default none. `passwords.pepper`, `PASSWORD_PEPPER`.
    pub pepper: Option<Secret>,
    /// Peppers that still verify. Default none. `passwords.pepper_previous`,
    /// `PASSWORD_PEPPER_PREVIOUS`.
    pub peppers_previous: Vec<Secret>,
}

/// Section `cookies`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cookies {
    /// Name of the access token cookie. Default `accessToken`. `cookies.access_name`.
    pub access_name: String,
    /// Name of the refresh token cookie, another one. Default `refreshToken`.
    /// `cookies.refresh_name`.
    pub refresh_name: String,
    /// Whether cookies travel over TLS only. Default true; false for development over plain http.
    /// `cookies.secure`.
    pub secure: bool,
    /// `Domain` of both cookies, to share them with sub-domains. Default none: this host only.
    /// `cookies.domain`.
    pub domain: Option<String>,
    /// `SameSite` of the refresh token cookie. Default strict; none demands `secure` and allowed origins.
    /// `cookies.same_site`.
    pub same_site: SameSite,
}

/// Which requests from other sites carry the refresh token cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Following a link.
    Lax,
    /// All.
    None,
}

/// Section `cors`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cors {
    /// Web origins that may call with credentials, lower-case and without default ports. Default
    /// none. `cors.allowed_origins`.
    pub allowed_origins: Vec<String>,
}

/// Section `limits`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Whether failed log-ins, registrations and refreshes are limited. Default true; false where a proxy does. `limits.enabled`.
    pub enabled: bool,
    /// Failed log-ins for one account from one address before 429; the wider limits are ten times
    /// this. Default 10. `limits.login_failures`.
    pub login_failures: u32,
    /// How long a failed log-in counts, at least 1 s. Default 15 min. `limits.login_window`.
    pub login_window: Duration,
}

/// Section `registration`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// Whether `POST /v1/auth/register` exists. Default true; false where users come from the
    /// command line. `registration.enabled`.
    pub enabled: bool,
    /// Domains whose addresses may register, as IDNA A-labels in lower case. Default (empty): any.
    /// `registration.allowed_domains`.
    pub allowed_domains: Vec<String>,
}

/// Section `sessions`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sessions {
    /// Live sessions that one account may have; a log-in beyond that ends the one used least recently. 0 is no bound.
    /// Default 100. `sessions.max_per_user`.
    pub max_per_user: u32,
}

/// Section `docs`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Docs {
    /// Whether `GET /docs` and `GET /` exist. Default true. `docs.enabled`.
    pub enabled: bool,
}

/// Section `metrics`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Address and port of `GET /metrics`, a listener of its own; none is off (an empty value). This version has no
    /// metrics, so it has no effect yet. Default `127.0.0.1:9464`. `metrics.bind`.
    pub bind: Option<SocketAddr>,
}

/// Section `log`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Log {
    /// What lines look like. Default `auto`. `log.format`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or a tracing filter; another single word is refused. Default `info`.
    /// `log.level`.
    pub level: String,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// For tests: the defaults with `keys` set above them, and mistakes as text.
#[cfg(test)]
#[cfg(feature = "sqlite")]
fn resolved(keys: &[(&str, &str)]) -> Result<Config, String> {
    let set = |raw: RawConfig, (key, value): &(&str, &str)| raw.with(key, *value);
    let raw = keys.iter().fold(RawConfig::default(), set);
    raw.resolve().map_err(|mistakes| mistakes.to_string())
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use super::resolved;

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_its_port() {
        for (host, authority) in [
            ("::1", "[::1]:8080"),
            ("[::]", "[::]:8080"),
            ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:8080"),
            ("127.0.0.1", "127.0.0.1:8080"),
            ("localhost", "localhost:8080"),
        ] {
            assert_eq!(resolved(&[("server.host", host)]).unwrap().server.authority(), authority);
        }
    }
}
