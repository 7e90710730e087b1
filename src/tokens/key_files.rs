//! Keys that the first start makes, beside the database, for whoever configured none.
//!
//! `keys/access-0001-es256.pem` (PKCS#8) and `keys/refresh-0001.key` (43 characters of base64url); the
//! highest number is the active one, the others still verify. Files are 0600 in a folder of 0700, and a
//! key that others can read is refused rather than used. `keys/issuer` keeps the issuer of the first start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::keys::{Asymmetric, Key, KeyError};
use crate::secret::Secret;

/// A key file that cannot be read, written or trusted. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Readable by group or others.
    #[error("{path} can be read by others; run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Not what it should hold.
    #[error("{path}: {source}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
}

/// The folder of generated keys.
#[derive(Debug)]
pub struct KeyFiles {
    folder: PathBuf,
}

impl KeyFiles {
    /// The key folder below `data`; nothing is touched yet.
    pub fn below(data: &Path) -> Self {
        Self { folder: data.join("keys") }
    }

    /// Where the keys are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The refresh secrets and their files, the active one last. None: nothing was generated here.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or others can read it.
    pub fn refresh_secrets(&self) -> Result<Vec<(PathBuf, Secret)>, KeyFileError> {
        self.secrets("refresh-", ".key")
    }

    /// The access keys and their files, the active one last. The algorithm is in the file's name.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, others can read it, or it is not a key.
    pub fn access_keys(&self) -> Result<Vec<(PathBuf, Asymmetric, Key)>, KeyFileError> {
        let mut keys = Vec::new();
        for path in self.named("access-", ".pem")? {
            let Some(algorithm) = algorithm_of(&path) else { continue };
            match Key::from_pem(algorithm, &read_private(&path)?) {
                Ok(key) => keys.push((path, algorithm, key)),
                Err(source) => return Err(KeyFileError::Unusable { path, source }),
            }
        }
        Ok(keys)
    }

    /// The access secrets for HS256 and their files, the active one last.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or others can read it.
    pub fn access_secrets(&self) -> Result<Vec<(PathBuf, Secret)>, KeyFileError> {
        self.secrets("access-", "-hs256.key")
    }

    fn secrets(&self, prefix: &str, suffix: &str) -> Result<Vec<(PathBuf, Secret)>, KeyFileError> {
        let read = |path: PathBuf| read_private(&path).map(|secret| (path, secret));
        self.named(prefix, suffix)?.into_iter().map(read).collect()
    }

    /// Makes the next refresh secret.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn generate_refresh(&self) -> Result<(), KeyFileError> {
        self.keep_new("refresh-", ".key", &random_text()?)
    }

    /// Makes the next HS256 secret for access tokens.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn generate_access_secret(&self) -> Result<(), KeyFileError> {
        self.keep_new("access-", "-hs256.key", &random_text()?)
    }

    /// Makes the next private key for access tokens.
    ///
    /// # Errors
    ///
    /// If the key cannot be made or the file not written.
    pub fn generate_access(&self, algorithm: Asymmetric) -> Result<(), KeyFileError> {
        let Some(der) = private_key(algorithm) else {
            return Err(KeyFileError::Unusable { path: self.folder.clone(), source: KeyError::Library });
        };
        let text = Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", der.to_vec())));
        self.keep_new("access-", &format!("-{}.pem", algorithm.name().to_ascii_lowercase()), &text)
    }

    /// The issuer kept from the first start, or `proposed`, which is kept from now on.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn issuer(&self, proposed: &str) -> Result<String, KeyFileError> {
        let path = self.folder.join("issuer");
        write_private(&path, proposed).or_else(|error| match error {
            KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => Err(other),
        })?;
        let text = fs::read_to_string(&path).map_err(|source| KeyFileError::Io { path, source })?;
        Ok(text.trim_end().to_owned())
    }

    /// Files `PREFIX` number `SUFFIX`, in the order of their numbers.
    fn named(&self, prefix: &str, suffix: &str) -> Result<Vec<PathBuf>, KeyFileError> {
        let failed = |source| KeyFileError::Io { path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(prefix) && name.ends_with(suffix) {
                found.push((number_of(name), path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Writes under the next free number. A process that starts at the same moment may have made one: then that one stays.
    fn keep_new(&self, prefix: &str, suffix: &str, text: &str) -> Result<(), KeyFileError> {
        let last = self.named(prefix, suffix)?.last().and_then(|path| path.file_name()?.to_str().map(number_of));
        let path = self.folder.join(format!("{prefix}{:04}{suffix}", last.unwrap_or(0).saturating_add(1)));
        match write_private(&path, text) {
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }
}

/// Creates `folder` and what is missing above it, 0700.
///
/// # Errors
///
/// If the system refuses.
pub fn create_private_folder(folder: &Path) -> Result<(), KeyFileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| KeyFileError::Io { path: folder.to_owned(), source })
}

/// Whole or not at all, and never over another file: written beside, synced, then linked into place.
fn write_private(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    create_private_folder(folder)?;
    let draft = folder.join(format!(".draft-{}", uuid::Uuid::new_v4()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(text.trim_end().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    });
    let removed = fs::remove_file(&draft);
    written.map_err(failed)?;
    removed.map_err(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn read_private(path: &Path) -> Result<Secret, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned() });
    }
    let text = Zeroizing::new(fs::read(path).map_err(failed)?);
    let secret = Secret::new(text.trim_ascii_end());
    if secret.len() < 32 {
        return Err(KeyFileError::Unusable { path: path.to_owned(), source: KeyError::TooShort });
    }
    Ok(secret)
}

fn number_of(name: &str) -> u32 {
    name.split(['-', '.']).nth(1).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn algorithm_of(path: &Path) -> Option<Asymmetric> {
    let name = path.file_stem()?.to_str()?;
    [Asymmetric::Es256, Asymmetric::EdDsa, Asymmetric::Rs256]
        .into_iter()
        .find(|algorithm| name.ends_with(&algorithm.name().to_ascii_lowercase()))
}

fn random_text() -> Result<Zeroizing<String>, KeyFileError> {
    let mut bytes = Zeroizing::new([0; 32]);
    match aws_lc_rs::rand::fill(bytes.as_mut()) {
        Ok(()) => Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))),
        Err(_) => Err(KeyFileError::Unusable { path: PathBuf::from("keys"), source: KeyError::Library }),
    }
}

fn private_key(algorithm: Asymmetric) -> Option<Zeroizing<Vec<u8>>> {
    let random = SystemRandom::new();
    let der = match algorithm {
        Asymmetric::Es256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).ok()?.as_ref().to_vec()
        }
        Asymmetric::EdDsa => Ed25519KeyPair::generate_pkcs8v1(&random).ok()?.as_ref().to_vec(),
        Asymmetric::Rs256 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
            let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
            der.as_ref().to_vec()
        }
    };
    Some(Zeroizing::new(der))
}
