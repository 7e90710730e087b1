//! The rules about tokens: who issues them, how long they live, what signs them.

use std::time::Duration;

use super::parse::{lifetime, words};
use super::reader::Reader;
use super::resolve::without_repeats;
use super::secrets::{Pair, is_set};
use super::{Algorithm, Database, Tokens, address};

/// The longest life of an access token that is allowed. A service that verifies tokens by itself takes one until it
/// expires, whatever has become of its session.
const LONGEST_ACCESS: Duration = Duration::from_secs(24 * 3_600);

/// Reads the section `tokens`; its secrets were read before.
pub(super) fn tokens(
    reader: &mut Reader,
    access: Option<Pair>,
    refresh: Option<Pair>,
    database: Option<&Database>,
) -> Option<Tokens> {
    let issuer = reader.optional("tokens.issuer", address::issuer);
    let previous_issuers = reader.list("tokens.previous_issuers", address::issuer);
    let audience = reader.list("tokens.audience", words);
    let client_id = reader.read("tokens.client_id", words);
    let access_ttl = reader.read("tokens.access_ttl", access_life);
    let idle = reader.read("tokens.refresh_idle_ttl", lifetime);
    let absolute = reader.read("tokens.refresh_absolute_ttl", lifetime);
    let short = reader.read("tokens.refresh_short_ttl", lifetime);
    let algorithm = reader.optional("tokens.algorithm", algorithm);
    if let (Some(short), Some(idle)) = (short, idle)
        && short > idle
    {
        let place = reader.source("tokens.refresh_idle_ttl");
        let problem =
            format!("is longer than tokens.refresh_idle_ttl ({place}), the life of a session to be remembered");
        reader.refuse("tokens.refresh_short_ttl", problem);
    }
    if let (Some(idle), Some(absolute)) = (idle, absolute)
        && idle > absolute
    {
        let place = reader.source("tokens.refresh_absolute_ttl");
        reader.refuse(
            "tokens.refresh_idle_ttl",
            format!(
                "is longer than tokens.refresh_absolute_ttl ({place}): a session ends after {} \
                 seconds, however busy",
                absolute.as_secs()
            ),
        );
    }
    if let Some(algorithm) = algorithm {
        check_algorithm(reader, algorithm, database);
    }
    if let (Some(None), Some(Database::Postgres(_))) = (&issuer, database) {
        reader.refuse("tokens.issuer", "must be set with PostgreSQL: every node has to write and expect the same URL");
    }
    let (access, refresh) = (access?, refresh?);
    Some(Tokens {
        issuer: issuer?,
        previous_issuers: previous_issuers?,
        audience: without_repeats(audience?),
        client_id: client_id?,
        access_ttl: access_ttl?,
        refresh_idle_ttl: idle?,
        refresh_absolute_ttl: absolute?,
        refresh_short_ttl: short?,
        algorithm: algorithm?,
        access_secret: access.current,
        access_secrets_previous: access.previous,
        refresh_secret: refresh.current,
        refresh_secrets_previous: refresh.previous,
    })
}

fn access_life(text: &str) -> Result<Duration, String> {
    let life = lifetime(text)?;
    if life > LONGEST_ACCESS {
        return Err("is longer than 24 hours: a stolen access token works until it expires wherever sessions are not \
             looked up, so a day is the most; 5m to 15m is usual"
            .to_owned());
    }
    Ok(life)
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == text);
    known.ok_or_else(|| "is none of HS256, ES256, EdDSA and RS256".to_owned())
}

/// One algorithm at a time: a verifier that takes a secret and public keys side by side can be made
/// to use one as the other (RFC 8725 section 3.1).
fn check_algorithm(reader: &mut Reader, algorithm: Option<Algorithm>, database: Option<&Database>) {
    let secret = "tokens.access_secret";
    let (key, has_secret) = ("tokens.algorithm", is_set(reader, secret));
    match algorithm {
        Some(Algorithm::Hs256) => {
            if let (false, Some(Database::Postgres(_))) = (has_secret, database) {
                reader.refuse(key, format!("is HS256 without {secret}: with PostgreSQL every node needs the same one"));
            }
        }
        Some(other) if has_secret => {
            let (name, place) = (other.name(), reader.source(secret));
            reader.refuse(key, format!("is {name}, but {secret} ({place}) is for HS256: remove one of the two"));
        }
        _ => {}
    }
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use super::super::resolved as resolve;
    use super::*;

    const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
    const POSTGRES: (&str, &str) = ("database.url", "postgres://app:hunter2@db/app");
    const ISSUER: (&str, &str) = ("tokens.issuer", "https://auth.example.com");

    fn refusal(keys: &[(&str, &str)]) -> String {
        resolve(keys).unwrap_err()
    }

    #[test]
    fn an_access_token_lives_a_day_at_most() {
        for (life, warnings) in [("1h", 0), ("3601", 1), ("1d", 1)] {
            assert_eq!(resolve(&[("tokens.access_ttl", life)]).unwrap().warnings.len(), warnings, "{life}");
        }
        let refusal = refusal(&[("tokens.access_ttl", "86401")]);
        assert!(refusal.contains("24 hours") && refusal.contains("stolen"), "{refusal}");
        assert!(resolve(&[("tokens.access_ttl", "0")]).is_err());
    }

    #[test]
    fn algorithms_are_called_as_in_a_token() {
        for algorithm in Algorithm::ALL {
            let config = resolve(&[("tokens.algorithm", algorithm.name())]).unwrap();
            assert_eq!(config.tokens.algorithm, Some(algorithm));
        }
        for name in ["none", "HS512", "es256", "RS"] {
            assert!(resolve(&[("tokens.algorithm", name)]).is_err(), "{name}");
        }
    }

    #[test]
    fn a_shared_secret_and_a_public_key_algorithm_are_never_mixed() {
        let secret = ("tokens.access_secret", SECRET);
        for name in ["ES256", "EdDSA", "RS256"] {
            let refusal = refusal(&[secret, ("tokens.algorithm", name)]);
            assert!(refusal.starts_with("tokens.algorithm"), "{refusal}");
            assert!(refusal.contains("tokens.access_secret"), "{refusal}");
            assert!(!refusal.contains(SECRET), "{refusal}");
        }
        assert!(resolve(&[secret, ("tokens.algorithm", "HS256")]).is_ok());
    }

    #[test]
    fn hs256_without_a_secret_is_for_one_node_only() {
        let algorithm = ("tokens.algorithm", "HS256");
        assert!(resolve(&[algorithm]).is_ok());
        let refusal = refusal(&[algorithm, POSTGRES, ISSUER]);
        assert!(refusal.starts_with("tokens.algorithm"), "{refusal}");
        assert!(resolve(&[algorithm, POSTGRES, ISSUER, ("tokens.access_secret", SECRET)]).is_ok());
    }

    #[test]
    fn with_postgres_the_issuer_must_be_set() {
        assert!(refusal(&[POSTGRES]).starts_with("tokens.issuer"));
        assert!(resolve(&[POSTGRES, ISSUER]).is_ok());
    }
}
