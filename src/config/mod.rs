//! Configuration: [`RawConfig`] is what was written down and where, [`Config`] is what it means.
//!
//! Every key is declared once, in `sections/`; a name that is no key is refused. Later wins: built-in defaults,
//! `config/countersign.toml` (or the file named on the command line, or systemd's), `.env` in the working
//! directory, environment variables, systemd credentials. [`RawConfig::resolve`] gives either a
//! [`Config`] without contradictions or every [`Mistake`] at once, none of which shows a secret.
//!
//! | file | holds |
//! |---|---|
//! | `sections/` | every key: its name, default, bounds and meaning, and the rules about more than one |
//! | `section.rs`, `key.rs` | how a section is declared; what a key is |
//! | `lookup.rs`, `names.rs` | from a name to a key; names that nearly are one |
//! | `layer.rs` | what one place says; then one file for each kind of place: `file.rs` (TOML), |
//! | | `variables.rs` (`.env` and environment), `credentials.rs` (systemd); `substitution.rs`: `$` in `.env` |
//! | `raw.rs` | the layers put together, and shown by `check-config` |
//! | `reload.rs` | what a running server makes of a change |
//! | `resolve.rs`, `reader.rs` | from text to `Config` |
//! | `secrets.rs`, `warnings.rs` | rules about all secrets; what is allowed and unwise |
//! | `parse.rs`, `address.rs`, `database_url.rs`, `parameters.rs`, `mail_server.rs`, `log_level.rs` | rules about one value |
//! | `mistake.rs` | where a value came from, what is wrong with it |

use std::path::PathBuf;

mod address;
mod credentials;
mod database_url;
mod file;
mod key;
mod layer;
mod log_level;
mod lookup;
mod mail_server;
mod mistake;
mod names;
mod parameters;
mod parse;
mod raw;
mod reader;
mod reload;
mod resolve;
mod secrets;
mod section;
mod sections;
mod substitution;
mod variables;
mod warnings;

#[cfg(test)]
#[cfg(feature = "sqlite")] // of which the default is
#[path = "reference_tests.rs"]
mod reference;

#[cfg(feature = "postgres")]
pub(crate) use database_url::Parts;
pub use database_url::{Database, Postgres};
pub use mail_server::MailServer;
pub use mistake::{Mistake, Mistakes, Source};
pub(crate) use parse::duration;
pub use raw::{RawConfig, Shown};
pub(crate) use reload::Reloaded;
pub use sections::{
    Algorithm, Cookies, Cors, Docs, Limits, Log, LogFormat, Mail, MailTransport, Mailbox, Metrics, Passwords,
    Registration, Rotation, SameSite, Server, Sessions, Tokens, VerifyEmail,
};
pub(crate) use sections::{DatabaseKeys, MAIL_TOKEN, keys, variables};

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
    /// How mail goes out.
    pub mail: Mail,
    /// How many sessions an account may have.
    pub sessions: Sessions,
    /// Whether the page that describes the API is there.
    pub docs: Docs,
    /// Where metrics can be read.
    pub metrics: Metrics,
    /// Whether that is the default address. If it is taken, the server starts without metrics.
    pub(crate) metrics_by_default: bool,
    /// What the log looks like.
    pub log: Log,
    /// What does not stop the start but should be read: one sentence each, for the log.
    pub warnings: Vec<String>,
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
