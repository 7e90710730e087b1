//! Section `tokens`.

use std::time::Duration;

use super::DatabaseKeys;
use crate::config::key::Key;
use crate::config::mistake::Source;
use crate::config::reader::Reader;
use crate::config::section::section;
use crate::config::{Database, address, parse};
use crate::secret::Secret;

/// The longest life of an access token that is allowed, in seconds. A service that verifies tokens by itself takes one
/// until it expires, whatever has become of its session.
const LONGEST_ACCESS: u64 = 24 * 3_600;

section! {
    /// Section `tokens`: what they say, how long they live and what signs them.
    pub struct Tokens in "tokens" {
        /// iss of every token: the public URL of this server, http or https, without a slash at the end.
        ///
        /// By default http://HOST:PORT of the first start, kept beside the generated keys. Set it as soon as clients reach the
        /// server under another name: with the embedded database, issuers that were used before keep verifying. With
        /// PostgreSQL it must be set, since all nodes must agree.
        issuer: Option<String> = "", Key::text(address::issuer).at_restart();

        /// Issuers whose tokens still verify, beside those that the data folder has used.
        ///
        /// Name the old URL here when the server moves to another folder or uses PostgreSQL, for one refresh_absolute_ttl: a
        /// session keeps the issuer it began with.
        previous_issuers: Vec<String> = "", Key::text(address::issuer);

        /// aud of access tokens, one or several; by default the issuer.
        ///
        /// Set it if the services that check tokens expect names of their own. A token verifies here if it names nothing but
        /// these.
        audience: Vec<String> = "", Key::text(parse::words);

        /// client_id of access tokens, which RFC 9068 demands.
        ///
        /// Change it if services tell applications apart by it.
        client_id: String = "countersign", Key::text(parse::words);

        /// Life of an access token; above 1h with a warning.
        ///
        /// Shorter makes a stolen one worth less, longer means fewer refreshes.
        access_ttl: Duration = "15m",
            Key::duration_by(1..=LONGEST_ACCESS, access_life).short(&["ACCESS_TOKEN_EXPIRY"]);

        /// A session ends when it was not refreshed for this long.
        ///
        /// Shorten it for applications used daily. Raised above refresh_absolute_ttl it takes that along, unless that is set
        /// too.
        refresh_idle_ttl: Duration = "30d", Key::duration(1..=u64::MAX).short(&["REFRESH_TOKEN_EXPIRY"]);

        /// A session ends this long after log-in, however busy it is; at least refresh_idle_ttl.
        ///
        /// Shorten it where people must prove who they are more often: NIST SP 800-63B suggests 30d at most, or 24h with a
        /// second factor.
        refresh_absolute_ttl: Duration = "90d", Key::duration(1..=u64::MAX);

        /// The same as refresh_idle_ttl for a log-in with "remember":false: a computer that several people use.
        ///
        /// Its cookies end with the browser besides.
        refresh_short_ttl: Duration = "12h", Key::duration(1..=u64::MAX);

        /// What signs access tokens; by default HS256 with access_secret, else ES256.
        ///
        /// Change it if the services that check tokens know only one of the others. Not to be mixed: a secret goes with HS256
        /// only.
        algorithm: Option<Algorithm> = "", Key::one_of(&["HS256", "ES256", "EdDSA", "RS256"], algorithm).at_restart();

        /// How old a generated key gets: then the next one is made, and signs ten minutes later. Empty is off.
        ///
        /// Set it to have keys rotated, and those that no token can name any more removed, without a command; 90d is usual.
        /// `countersign keys rotate` does the same at any time. Secrets that are set here are not touched.
        key_rotation: Option<Duration> = "", Key::duration(60..=u64::MAX);

        /// HS256 key of access tokens, as `openssl rand -base64 48` makes it.
        ///
        /// Set it only if the services that check tokens share a secret; without it they use the public keys at
        /// /.well-known/jwks.json.
        access_secret: Option<Secret> = "", Key::secret().short(&["ACCESS_TOKEN_SECRET"]).at_restart();

        /// Access token keys that still verify and no longer sign.
        ///
        /// When access_secret changes, the old one goes here for one access_ttl, and no client is refused. Left out while its
        /// tokens are in use, the start is refused (`countersign keys forget`).
        access_secret_previous: Vec<Secret> = "", Key::secret().short(&["ACCESS_TOKEN_SECRET_PREVIOUS"]).at_restart();

        /// Key of refresh tokens, another one than access_secret; by default made at the first start.
        ///
        /// Set it to give several nodes the same one.
        refresh_secret: Option<Secret> = "", Key::secret().short(&["REFRESH_TOKEN_SECRET"]).at_restart();

        /// Refresh token keys that still verify and no longer sign.
        ///
        /// When refresh_secret changes, the old one goes here for one refresh_idle_ttl, and no session ends. Left out while
        /// sessions or second factors depend on it, the start is refused (`countersign keys forget`). With several nodes, name the new one here
        /// first, everywhere.
        refresh_secret_previous: Vec<Secret> = "", Key::secret().short(&["REFRESH_TOKEN_SECRET_PREVIOUS"]).at_restart();
    }
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

fn access_life(text: &str) -> Result<Duration, String> {
    let life = parse::duration_within(text, &(1..=u64::MAX))?;
    if life.as_secs() > LONGEST_ACCESS {
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

/// The rules about more than one key.
pub(super) fn check(reader: &mut Reader<'_>) {
    let (idle, absolute) = (reader.get(&Tokens::refresh_idle_ttl), reader.get(&Tokens::refresh_absolute_ttl));
    if let (Some(short), Some(idle)) = (reader.get(&Tokens::refresh_short_ttl), idle)
        && short > idle
    {
        let (key, place) = (Tokens::refresh_idle_ttl, reader.source(&Tokens::refresh_idle_ttl));
        let problem = format!("is longer than {key} ({place}), the life of a session to be remembered");
        reader.refuse(&Tokens::refresh_short_ttl, problem);
    }
    if let (Some(idle), Some(absolute)) = (idle, absolute)
        && idle > absolute
    {
        let (key, place) = (Tokens::refresh_absolute_ttl, reader.source(&Tokens::refresh_absolute_ttl));
        let seconds = absolute.as_secs();
        let problem = format!("is longer than {key} ({place}): a session ends after {seconds} seconds, however busy");
        reader.refuse(&Tokens::refresh_idle_ttl, problem);
    }
    let on_postgres = matches!(reader.get(&DatabaseKeys::url), Some(Database::Postgres(_)));
    if let Some(Some(algorithm)) = reader.get(&Tokens::algorithm) {
        check_algorithm(reader, algorithm, on_postgres);
    }
    if on_postgres && reader.get(&Tokens::issuer) == Some(None) {
        let problem = "must be set with PostgreSQL: every node has to write and expect the same URL";
        reader.refuse(&Tokens::issuer, problem);
    }
}

/// One algorithm at a time: a verifier that takes a secret and public keys side by side can be made
/// to use one as the other (RFC 8725 section 3.1).
fn check_algorithm(reader: &mut Reader<'_>, algorithm: Algorithm, on_postgres: bool) {
    let (secret, place) = (Tokens::access_secret, reader.source(&Tokens::access_secret));
    let problem = match (algorithm, place != Source::Default) {
        (Algorithm::Hs256, false) if on_postgres => {
            format!("is HS256 without {secret}: with PostgreSQL every node needs the same one")
        }
        (Algorithm::Hs256, _) | (_, false) => return,
        (other, true) => {
            format!("is {}, but {secret} ({place}) is for HS256: remove one of the two", other.name())
        }
    };
    reader.refuse(&Tokens::algorithm, problem);
}

#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres"))] // it speaks of both
mod tests {
    use super::*;
    use crate::config::resolved as resolve;

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
