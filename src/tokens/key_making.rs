//! New keys, as text.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::keys::{Asymmetric, KeyError};

/// The text of a new secret: 43 characters of base64url.
///
/// # Errors
///
/// If the cryptographic library fails.
pub fn secret() -> Result<Zeroizing<String>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    match aws_lc_rs::rand::fill(bytes.as_mut()) {
        Ok(()) => Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))),
        Err(_) => Err(KeyError::Library),
    }
}

/// A new private key in PKCS#8 PEM.
///
/// # Errors
///
/// If the cryptographic library fails.
pub fn private_key(algorithm: Asymmetric) -> Result<Zeroizing<String>, KeyError> {
    let der = Zeroizing::new(pkcs8(algorithm).ok_or(KeyError::Library)?);
    Ok(Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", der.to_vec()))))
}

fn pkcs8(algorithm: Asymmetric) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    Some(match algorithm {
        Asymmetric::Es256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).ok()?.as_ref().to_vec()
        }
        Asymmetric::EdDsa => Ed25519KeyPair::generate_pkcs8v1(&random).ok()?.as_ref().to_vec(),
        Asymmetric::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
            let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
            der.as_ref().to_vec()
        }
    })
}
