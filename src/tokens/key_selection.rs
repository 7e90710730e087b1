//! Which keys sign and verify: the configured ones, else those that were generated. Decided from what is there and the time.

use std::path::PathBuf;
use std::slice;

use super::Kind;
use super::access::AccessTokens;
use super::generated::{Held, KeySource};
use super::key_files::{KeyFileError, KeyFiles};
use super::key_reading::KeyReading;
use super::keys::{Asymmetric, Key, KeyError, KeyRing};
use super::refresh::RefreshTokens;
use crate::clock::Timestamp;
use crate::config::{Algorithm, Config, Database};
use crate::secret::Secret;

/// What the secrets are called in the environment.
pub const ACCESS: &str = "ACCESS_TOKEN_SECRET";
/// The same of refresh tokens.
pub const REFRESH: &str = "REFRESH_TOKEN_SECRET";

/// The keys of one kind of token. All of them verify.
pub struct Chosen<K> {
    /// What signs. None: it is still to be made, or to be read.
    pub active: Option<Held<K>>,
    /// What will sign, in that order.
    pub next: Vec<Held<K>>,
    /// What does not sign any more, the newest first.
    pub retired: Vec<Held<K>>,
}

impl<K> Chosen<K> {
    fn configured(active: K, retired: Vec<K>) -> Self {
        let retired = retired.into_iter().map(Held::configured).collect();
        Self { active: Some(Held::configured(active)), next: Vec::new(), retired }
    }

    /// The latest that has begun to sign does; until one that is wanted has begun, one that is not. If none at all has, the
    /// first that will: there must be one. Where none is wanted, none signs.
    fn generated(mut keys: Vec<Held<K>>, is_wanted: impl Fn(&K) -> bool, now: Timestamp) -> Self {
        let wanted = keys.iter().position(|held| is_wanted(&held.key));
        let begun = keys.iter().rposition(|held| is_wanted(&held.key) && held.has_begun(now));
        let begun = begun.or_else(|| keys.iter().rposition(|held| wanted.is_some() && held.has_begun(now)));
        let Some(place) = begun.or(wanted) else {
            keys.reverse();
            return Self { active: None, next: Vec::new(), retired: keys };
        };
        let active = keys.remove(place);
        let (mut next, mut retired) = (Vec::new(), Vec::new());
        for (number, held) in keys.into_iter().enumerate() {
            // One that was made before the active one has been overtaken.
            let is_ahead = number >= place || !is_wanted(&active.key);
            let list = if is_ahead && is_wanted(&held.key) && !held.has_begun(now) { &mut next } else { &mut retired };
            list.push(held);
        }
        next.sort_by_key(|held| held.signs_from);
        retired.reverse();
        Self { active: Some(active), next, retired }
    }

    /// All of them, with what each is.
    fn each(&self) -> impl Iterator<Item = (KeyState, &Held<K>)> {
        let active = self.active.iter().map(|held| (KeyState::Active, held));
        let next = self.next.iter().map(|held| (KeyState::Next, held));
        active.chain(next).chain(self.retired.iter().map(|held| (KeyState::VerifyOnly, held)))
    }

    /// The key that signs, and all others.
    fn into_parts(self) -> (Option<K>, Vec<K>) {
        let others = self.next.into_iter().chain(self.retired).map(|held| held.key).collect();
        (self.active.map(|held| held.key), others)
    }
}

impl Chosen<Secret> {
    /// Every secret, the one that signs first.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.each().map(|(_, held)| &held.key)
    }
}

/// The secrets of refresh tokens.
pub fn refresh_secrets(config: &Config, generated: Vec<Held<Secret>>, now: Timestamp) -> Chosen<Secret> {
    let tokens = &config.tokens;
    match &tokens.refresh_secret {
        Some(secret) => Chosen::configured(secret.clone(), tokens.refresh_secret_previous.clone()),
        None => Chosen::generated(generated, |_| true, now),
    }
}

/// The keys of access tokens. The latest of the algorithm signs; those of other algorithms still verify.
///
/// # Errors
///
/// If a configured secret cannot be used.
pub fn access_keys(config: &Config, generated: Vec<Held<Key>>, now: Timestamp) -> Result<Chosen<Key>, KeyError> {
    let tokens = &config.tokens;
    if let Some(secret) = &tokens.access_secret {
        let retired = tokens.access_secret_previous.iter().map(Key::from_secret).collect::<Result<_, _>>()?;
        return Ok(Chosen::configured(Key::from_secret(secret)?, retired));
    }
    let wanted = algorithm(config).name();
    Ok(Chosen::generated(generated, |key| key.algorithm_name() == wanted, now))
}

/// What access tokens are signed with where no secret is configured.
pub fn algorithm(config: &Config) -> Algorithm {
    config.tokens.algorithm.unwrap_or(Algorithm::Es256)
}

/// The same, if it has a public key. None: HS256.
pub fn asymmetric(algorithm: Algorithm) -> Option<Asymmetric> {
    match algorithm {
        Algorithm::Hs256 => None,
        Algorithm::Es256 => Some(Asymmetric::Es256),
        Algorithm::EdDsa => Some(Asymmetric::EdDsa),
        Algorithm::Rs256 => Some(Asymmetric::Rs256),
    }
}

/// Every key there is, by what it does.
pub struct Selection {
    /// Of access tokens.
    pub access: Chosen<Key>,
    /// Of refresh tokens.
    pub refresh: Chosen<Secret>,
}

impl Selection {
    /// The keys as they may be told of: of each kind the one that signs, then those that will, then the others.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn entries(&self) -> Result<Vec<Entry>, KeyError> {
        let access = self.access.each().map(|(state, held)| Ok(Entry::of(Kind::Access, state, held, &held.key)));
        let refresh = self.refresh.each().map(|(state, held)| {
            let key = Key::from_secret(&held.key)?;
            Ok(Entry::of(Kind::Refresh, state, held, &key))
        });
        access.chain(refresh).collect()
    }

    /// Whether any of them was generated, and may have a successor that another process makes.
    pub fn is_generated(&self) -> bool {
        let is_configured = |source: &KeySource| *source == KeySource::Configured;
        let access = self.access.active.as_ref().is_some_and(|held| is_configured(&held.source));
        let refresh = self.refresh.active.as_ref().is_some_and(|held| is_configured(&held.source));
        !(access && refresh)
    }

    /// What issues and verifies tokens. Without an active access key, nothing is issued.
    ///
    /// # Errors
    ///
    /// If a secret cannot be used, or none signs refresh tokens.
    pub fn into_tokens(
        self,
        config: &Config,
        issuers: &Issuers,
        reading: &KeyReading,
    ) -> Result<(AccessTokens, RefreshTokens), KeyError> {
        let (tokens, Issuers { current, previous }) = (&config.tokens, issuers);
        let ring = match self.access.into_parts() {
            (Some(active), others) => KeyRing::new(active, others),
            (None, others) => KeyRing::verifying(others),
        };
        let (audience, client_id) = (tokens.audience.clone(), tokens.client_id.clone());
        let access = AccessTokens::new(ring, current.clone(), previous, audience, client_id, tokens.access_ttl);
        let (active, others) = self.refresh.into_parts();
        let refresh =
            RefreshTokens::new(&active.ok_or(KeyError::Library)?, &others, current.clone(), previous.clone())?;
        Ok((access.reading(reading.clone()), refresh.reading(reading.clone())))
    }
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It signs and verifies.
    Active,
    /// It verifies, and will sign.
    Next,
    /// It verifies.
    VerifyOnly,
}

/// A key that there is, as it may be told of: never what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the headers of its tokens.
    pub kid: String,
    /// The kind of token it is for.
    pub kind: Kind,
    /// `alg` in the headers of its tokens.
    pub algorithm: &'static str,
    /// What it does.
    pub state: KeyState,
    /// Where it comes from.
    pub source: KeySource,
    /// When it was generated.
    pub made_at: Option<Timestamp>,
    /// It signs from then on. None: as soon as it is there.
    pub signs_from: Option<Timestamp>,
}

impl Entry {
    fn of<K>(kind: Kind, state: KeyState, held: &Held<K>, key: &Key) -> Self {
        let Held { source, made_at, signs_from, .. } = held;
        Self {
            kid: key.kid().to_owned(),
            kind,
            algorithm: key.algorithm_name(),
            state,
            source: source.clone(),
            made_at: *made_at,
            signs_from: *signs_from,
        }
    }

    /// When it began to sign, as far as that is known.
    pub fn began(&self) -> Option<Timestamp> {
        self.signs_from.max(self.made_at)
    }

    /// The file that it was generated into.
    pub fn file(&self) -> Option<&PathBuf> {
        match &self.source {
            KeySource::File(file) => Some(file),
            KeySource::Configured | KeySource::Database => None,
        }
    }
}

/// The issuer that signs, and those whose tokens still verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuers {
    /// `iss` of new tokens.
    pub current: String,
    /// Configured, or used before with the same data folder.
    pub previous: Vec<String>,
}

impl Issuers {
    /// Whether tokens of `issuer` verify.
    pub fn accept(&self, issuer: &str) -> bool {
        slice::from_ref(&self.current).iter().chain(&self.previous).any(|accepted| accepted == issuer)
    }
}

/// The configured issuer, else that of the first start, else the address that is listened on; and the earlier ones. Several
/// nodes have no folder in common that could remember them. Nothing is made by asking.
///
/// # Errors
///
/// If a file cannot be read.
pub fn issuers(config: &Config, files: &KeyFiles) -> Result<Issuers, KeyFileError> {
    let tokens = &config.tokens;
    let current = match &tokens.issuer {
        Some(issuer) => issuer.clone(),
        None => files.issuer()?.unwrap_or_else(|| format!("http://{}", config.server.authority())),
    };
    let mut previous = tokens.previous_issuers.clone();
    if let Database::Sqlite(_) = config.database {
        let used = files.issuers_used()?;
        previous.extend(used.into_iter().filter(|issuer| !tokens.previous_issuers.contains(issuer)));
    }
    previous.retain(|issuer| *issuer != current);
    Ok(Issuers { current, previous })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    /// A key that signs so many seconds from now on.
    fn held(name: &'static str, signs_in: Option<i64>) -> Held<&'static str> {
        let from = signs_in.map(|seconds| Timestamp::from_seconds(NOW.as_seconds() + seconds));
        Held { key: name, source: KeySource::Database, made_at: None, signs_from: from }
    }

    fn chosen(keys: Vec<Held<&'static str>>, now: Timestamp) -> Vec<(KeyState, &'static str)> {
        let chosen = Chosen::generated(keys, |key| !key.starts_with("other"), now);
        chosen.each().map(|(state, held)| (state, held.key)).collect()
    }

    #[test]
    fn the_latest_key_that_has_begun_signs_and_those_to_come_verify() {
        use KeyState::{Active, Next, VerifyOnly};
        let keys = || {
            vec![held("a", None), held("b", Some(-5)), held("other", None), held("c", Some(60)), held("d", Some(30))]
        };
        let expected = [(Active, "b"), (Next, "d"), (Next, "c"), (VerifyOnly, "other"), (VerifyOnly, "a")];
        assert_eq!(chosen(keys(), NOW), expected);
        // The later one signs from its time on, and the one that was made before it never does.
        let later = NOW.plus(Duration::from_secs(30));
        let expected = [(Active, "d"), (VerifyOnly, "c"), (VerifyOnly, "other"), (VerifyOnly, "b"), (VerifyOnly, "a")];
        assert_eq!(chosen(keys(), later), expected);
    }

    #[test]
    fn where_none_has_begun_the_first_signs_and_where_there_is_none_none_does() {
        use KeyState::{Active, Next, VerifyOnly};
        let pending = || vec![held("a", Some(5)), held("b", Some(9))];
        assert_eq!(chosen(pending(), NOW), [(Active, "a"), (Next, "b")]);
        // Until one that is wanted has begun, one that is not.
        for place in 0..3 {
            let mut keys = pending();
            keys.insert(place, held("other", None));
            assert_eq!(chosen(keys, NOW), [(Active, "other"), (Next, "a"), (Next, "b")], "{place}");
        }
        assert_eq!(chosen(vec![held("other", None)], NOW), [(VerifyOnly, "other")]);
        assert_eq!(chosen(Vec::new(), NOW), []);
    }
}
