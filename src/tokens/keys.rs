//! Keys: one ring for each kind of token. The active key signs; every key of the ring verifies.
//!
//! A key has one algorithm for life, and a token is only ever checked with the algorithm of the key
//! its `kid` names, so no header can choose (RFC 8725 section 3.1).

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{digest, hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::{Map, Value, json};

use super::{Kind, SignError};
use crate::secret::Secret;

/// A key that cannot be used. Says what is wrong with it, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a private key of the algorithm, or one too weak for it.
    #[error("not a usable {0} private key in PKCS#8 PEM form")]
    Unusable(&'static str),
    /// Fewer than 32 bytes.
    #[error("a secret must have at least 32 bytes")]
    TooShort,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// An asymmetric signing algorithm for access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asymmetric {
    /// ECDSA on P-256 with SHA-256, RFC 7518 section 3.4.
    Es256,
    /// Ed25519, RFC 8037.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, RFC 7518 section 3.3.
    Rs256,
}

impl Asymmetric {
    /// The name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }
}

/// A key that signs and verifies.
pub struct Key {
    kid: String,
    algorithm: Algorithm,
    algorithm_name: &'static str,
    signing: Signing,
    verifying: DecodingKey,
    access_header: String,
    refresh_header: String,
    public: Option<Value>,
}

/// What signs. jsonwebtoken would prepare a key anew for each signature, which takes longer than signing, so keys are kept
/// as its backend has prepared them. What is checked is checked by jsonwebtoken.
enum Signing {
    Hs256(Box<hmac::Key>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Key {
    /// An HS256 key from a shared secret. Its `kid` is derived from the secret, so that every node agrees on it.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub fn from_secret(secret: &Secret) -> Result<Self, KeyError> {
        let mut kid = [0; 16];
        derive(secret, b"countersign key id v1", &mut kid)?;
        let signing = Signing::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.expose())));
        let verifying = DecodingKey::from_secret(secret.expose());
        Ok(Self::new(URL_SAFE_NO_PAD.encode(kid), (Algorithm::HS256, "HS256"), signing, verifying, None))
    }

    /// A private key in PKCS#8 PEM. Its `kid` is the public key's thumbprint (RFC 7638).
    ///
    /// # Errors
    ///
    /// If the text is not a key of that algorithm, or an RSA key shorter than 2048 bits.
    pub fn from_pem(algorithm: Asymmetric, text: &Secret) -> Result<Self, KeyError> {
        let unusable = KeyError::Unusable(algorithm.name());
        let parts = match algorithm {
            Asymmetric::Es256 => es256(text.expose()).map(|parts| (Algorithm::ES256, parts)),
            Asymmetric::EdDsa => eddsa(text.expose()).map(|parts| (Algorithm::EdDSA, parts)),
            Asymmetric::Rs256 => rs256(text.expose()).map(|parts| (Algorithm::RS256, parts)),
        };
        let (jwt_algorithm, (signing, verifying, members)) = parts.ok_or(unusable)?;
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.to_string().as_bytes()));
        let mut public = members;
        if let Some(object) = public.as_object_mut() {
            object.extend(identity(&kid, algorithm.name()));
        }
        Ok(Self::new(kid, (jwt_algorithm, algorithm.name()), signing, verifying, Some(public)))
    }

    fn new(
        kid: String,
        (algorithm, algorithm_name): (Algorithm, &'static str),
        signing: Signing,
        verifying: DecodingKey,
        public: Option<Value>,
    ) -> Self {
        let header = |kind: Kind| {
            // Written out, because a repeated refresh token must be the same bytes for ever.
            URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"{}","alg":"{algorithm_name}","kid":"{kid}"}}"#, kind.typ()))
        };
        Self {
            access_header: header(Kind::Access),
            refresh_header: header(Kind::Refresh),
            kid,
            algorithm,
            algorithm_name,
            signing,
            verifying,
            public,
        }
    }

    /// The key's name in token headers.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The value of `alg` in the headers of its tokens.
    pub fn algorithm_name(&self) -> &'static str {
        self.algorithm_name
    }

    pub(super) fn encoded_header(&self, kind: Kind) -> &str {
        match kind {
            Kind::Access => &self.access_header,
            Kind::Refresh => &self.refresh_header,
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<String, SignError> {
        let failed = |_| SignError("the cryptographic library failed".into());
        let random = SystemRandom::new();
        Ok(match &self.signing {
            Signing::Hs256(key) => URL_SAFE_NO_PAD.encode(hmac::sign(key, message)),
            Signing::Es256(pair) => URL_SAFE_NO_PAD.encode(pair.sign(&random, message).map_err(failed)?),
            Signing::EdDsa(pair) => URL_SAFE_NO_PAD.encode(pair.sign(message)),
            Signing::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                URL_SAFE_NO_PAD.encode(signature)
            }
        })
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        crypto::verify(signature, message, &self.verifying, self.algorithm).unwrap_or(false)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {})", self.algorithm_name, self.kid)
    }
}

/// The keys of one kind of token.
#[derive(Debug)]
pub struct KeyRing {
    active: Option<String>,
    keys: HashMap<String, Key>,
}

impl KeyRing {
    /// A ring in which `active` signs, and `active` and `others` verify.
    pub fn new(active: Key, others: Vec<Key>) -> Self {
        Self { active: Some(active.kid.clone()), ..Self::verifying(others.into_iter().chain([active])) }
    }

    /// A ring of which no key signs.
    pub fn verifying(keys: impl IntoIterator<Item = Key>) -> Self {
        Self { active: None, keys: keys.into_iter().map(|key| (key.kid.clone(), key)).collect() }
    }

    /// The key that signs. None: it has not been read yet.
    pub fn active(&self) -> Option<&Key> {
        self.keys.get(self.active.as_deref()?)
    }

    /// The key of that name, compared byte by byte, in memory.
    pub fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.get(kid)
    }

    /// The public keys (RFC 7517 section 5), in a stable order. Shared secrets are never among them.
    pub fn public_set(&self) -> Value {
        let mut keys: Vec<&Key> = self.keys.values().filter(|key| key.public.is_some()).collect();
        keys.sort_by_key(|key| (self.active.as_ref() != Some(&key.kid), key.kid.clone()));
        json!({ "keys": keys.iter().filter_map(|key| key.public.as_ref()).collect::<Vec<_>>() })
    }
}

/// HKDF-SHA-256 (RFC 5869) of a secret for one purpose.
///
/// # Errors
///
/// If the cryptographic library fails.
pub fn derive(secret: &Secret, purpose: &[u8], out: &mut [u8]) -> Result<(), KeyError> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"countersign").extract(secret.expose());
    match extracted.expand(&[purpose], Length(out.len())).and_then(|material| material.fill(out)) {
        Ok(()) => Ok(()),
        Err(_) => Err(KeyError::Library),
    }
}

/// What signs, what verifies, and the public members that the thumbprint covers.
type Parts = (Signing, DecodingKey, Value);

fn es256(text: &[u8]) -> Option<Parts> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pem::parse(text).ok()?.contents()).ok()?;
    let point = pair.public_key().as_ref();
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
    let members =
        json!({ "crv": "P-256", "kty": "EC", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
    let verifying = DecodingKey::from_ec_der(point);
    Some((Signing::Es256(pair), verifying, members))
}

fn eddsa(text: &[u8]) -> Option<Parts> {
    let pair = Ed25519KeyPair::from_pkcs8(pem::parse(text).ok()?.contents()).ok()?;
    let point = pair.public_key().as_ref();
    let members = json!({ "crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(point) });
    let verifying = DecodingKey::from_ed_der(point);
    Some((Signing::EdDsa(pair), verifying, members))
}

fn rs256(text: &[u8]) -> Option<Parts> {
    let pair = RsaKeyPair::from_pkcs8(pem::parse(text).ok()?.contents()).ok()?;
    if pair.public_modulus_len() < 256 {
        return None;
    }
    let public = pair.public_key();
    let (n, e) =
        (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
    let members = json!({ "e": URL_SAFE_NO_PAD.encode(e), "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n) });
    let verifying = DecodingKey::from_rsa_raw_components(n, e);
    Some((Signing::Rs256(pair), verifying, members))
}

fn identity(kid: &str, algorithm: &str) -> Map<String, Value> {
    [("kid", kid), ("alg", algorithm), ("use", "sig")]
        .map(|(member, value)| (member.to_owned(), Value::from(value)))
        .into_iter()
        .collect()
}
