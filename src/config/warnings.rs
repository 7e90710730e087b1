//! What does not stop the start but should be read.

use std::time::Duration;

use super::sections::{Cookies, DatabaseKeys, Log, Passwords, Server, Tokens};
use super::{Config, Database, address, database_url, log_level};
use crate::network::Proxy;

/// Below this, bcrypt is faster than it should be for what is at stake.
const LOWEST_COST: u32 = 10;

/// Above this, one log-in takes longer than people wait.
const HIGHEST_COST: u32 = 16;

/// Above this, an access token lives longer than RFC 6750 section 5.3 advises.
const LONG_ACCESS: Duration = Duration::from_secs(3_600);

/// Every warning about `config`, a sentence each.
pub(super) fn about(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let cost = config.passwords.bcrypt_cost;
    if cost < LOWEST_COST {
        warnings.push(format!(
            "{} is {cost}: below {LOWEST_COST}, a stolen database is searched for passwords quickly",
            Passwords::bcrypt_cost
        ));
    }
    if cost > HIGHEST_COST {
        warnings.push(format!(
            "{} is {cost}: above {HIGHEST_COST}, a log-in takes many seconds of processor time",
            Passwords::bcrypt_cost
        ));
    }
    if config.tokens.access_ttl > LONG_ACCESS {
        warnings.push(format!(
            "{} is {} seconds: above an hour, a stolen access token is worth a long time to services that \
             verify tokens by themselves (RFC 6750 section 5.3); clients refresh by themselves, so 15m is enough",
            Tokens::access_ttl,
            config.tokens.access_ttl.as_secs()
        ));
    }
    if log_level::is_silent(&config.log.level) {
        warnings.push(format!(
            "{} is {level}, which lets nothing of this server's through: add a level, as in info,{level}",
            Log::level,
            level = config.log.level
        ));
    }
    let host = &config.server.host;
    if !address::is_loopback(host) {
        if !config.cookies.secure {
            warnings.push(format!(
                "{} is false while {} is {host}: the cookies can be read on the network",
                Cookies::secure,
                Server::host
            ));
        }
        let issuer = config.tokens.issuer.as_deref().unwrap_or_default();
        if !issuer.starts_with("https://") {
            let earlier = match config.database {
                Database::Sqlite(_) => "tokens that were issued before go on working".to_owned(),
                Database::Postgres(_) => {
                    format!("and name the old one in {}, for one refresh_absolute_ttl", Tokens::previous_issuers)
                }
            };
            warnings.push(format!(
                "{} is {host}, but {key} is not an https URL: put TLS before this server and set {key} to the public URL \
                 ({earlier})",
                Server::host,
                key = Tokens::issuer
            ));
        }
    }
    if let Database::Postgres(postgres) = &config.database
        && let Some(host) = str::from_utf8(postgres.url.expose()).ok().and_then(database_url::unverified_host)
    {
        warnings.push(format!(
            "{} names {host} without sslmode=verify-full: a machine on the way there can answer for it, and read the \
             password",
            DatabaseKeys::url
        ));
    }
    for proxy in &config.server.trusted_proxies {
        if let Proxy::Network(network) = proxy
            && network.prefix_len() == 0
        {
            warnings.push(format!(
                "{} holds {network}: any client can choose the address it is counted under",
                Server::trusted_proxies
            ));
        }
    }
    warnings
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use super::super::resolved;

    fn warnings(keys: &[(&str, &str)]) -> Vec<String> {
        resolved(keys).unwrap().warnings
    }

    #[test]
    fn the_defaults_bring_no_warning() {
        assert!(warnings(&[]).is_empty());
    }

    #[test]
    fn a_filter_that_keeps_the_log_empty_brings_a_warning() {
        assert!(warnings(&[("log.level", "info,actix_server=debug")]).is_empty());
        assert_eq!(warnings(&[("log.level", "actix_server=debug")]).len(), 1);
    }

    #[test]
    fn a_cheap_hash_brings_a_warning_below_cost_10() {
        assert!(warnings(&[("passwords.bcrypt_cost", "10")]).is_empty());
        assert_eq!(warnings(&[("passwords.bcrypt_cost", "9")]).len(), 1);
    }

    #[test]
    fn a_hash_nobody_waits_for_brings_a_warning() {
        assert!(warnings(&[("passwords.bcrypt_cost", "16")]).is_empty());
        assert_eq!(warnings(&[("passwords.bcrypt_cost", "17")]).len(), 1);
    }

    #[test]
    fn open_cookies_bring_a_warning_only_where_others_can_listen() {
        let open = ("cookies.secure", "false");
        assert!(warnings(&[open]).is_empty(), "development on this machine");
        let issuer = ("tokens.issuer", "https://auth.example.com");
        let warned = warnings(&[open, issuer, ("server.host", "0.0.0.0")]);
        assert_eq!(warned.len(), 1);
        assert!(warned[0].contains("cookies.secure"));
    }

    #[test]
    fn listening_for_others_without_an_https_issuer_brings_a_warning() {
        for issuer in ["", "http://auth.example.com"] {
            let warned = warnings(&[("server.host", "::"), ("tokens.issuer", issuer)]);
            assert_eq!(warned.len(), 1);
            assert!(warned[0].contains("tokens.issuer"));
        }
        let secure = ("tokens.issuer", "https://auth.example.com");
        assert!(warnings(&[("server.host", "::"), secure]).is_empty());
        assert!(warnings(&[("server.host", "::1")]).is_empty());
    }

    #[test]
    fn a_database_elsewhere_whose_certificate_is_not_checked_brings_a_warning() {
        let with = |url: &str| {
            let issuer = ("tokens.issuer", "https://auth.example.com");
            warnings(&[("database.url", url), issuer]).into_iter().filter(|text| text.contains("database.url")).count()
        };
        for fine in [
            "postgres://u:p@127.0.0.1/db",
            "postgres://u:p@[::1]:5433/db",
            "postgres://localhost/db?sslmode=disable",
            "postgres:///db?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/db",
            "postgres://u:p@db.example.com/db?sslmode=verify-full&sslrootcert=/a.pem",
            "postgres://u:p@db.example.com/db?sslrootcert=system",
        ] {
            assert_eq!(with(fine), 0, "{fine}");
        }
        for open in [
            "postgres://u:p@db.example.com/db",
            "postgres://u:p@db.example.com:5432/db?sslmode=require",
            "postgres://127.0.0.1,db.example.com/db",
            "postgres:///db?host=db.example.com",
            "postgres://u:p@[2001:db8::1]/db",
        ] {
            assert_eq!(with(open), 1, "{open}");
        }
    }

    #[test]
    fn believing_everybody_brings_a_warning() {
        assert_eq!(warnings(&[("server.trusted_proxies", "10.0.0.0/8,::/0")]).len(), 1);
    }
}
