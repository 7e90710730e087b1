//! Keys that the first start makes, beside the database, where none is configured.
//!
//! `keys/access-0001-es256.pem` (PKCS#8) and `keys/refresh-0001.key` (43 characters of base64url); the
//! highest number is the active one as soon as its time has come, the others still verify. Files are 0600 in a folder of 0700, and a
//! key that others can read is refused rather than used. Beside them, a line each: `keys/issuer`, the issuer of the first
//! start; `keys/issuers`, every issuer whose tokens were signed here; `keys/databases`, the databases those belong to;
//! `keys/schedule`, from when on keys sign that were made beside others.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::generated::{Generated, Held, KeySource};
use super::key_making;
use super::keys::{Asymmetric, Key, KeyError};
use crate::clock::Timestamp;
use crate::files::{self, FileError, FolderLock, create_private_folder};
use crate::secret::Secret;

/// So many issuers are remembered, the latest.
const ISSUERS: usize = 32;
/// What the files of keys that were given up are called, behind their names.
const GIVEN_UP: &str = ".forgotten";

/// A key file that cannot be read, written or trusted. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system said no.
    #[error("{0}")]
    File(#[from] FileError),
    /// Readable by group or others.
    #[error("the key file {path} can be read by others; run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Not what it should hold.
    #[error("the key file {path} is damaged ({source}); restore it from a backup")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The schedule of keys cannot be read.
    #[error("the file {path} is damaged; restore it from a backup, or remove it: then the newest key signs at once")]
    Schedule {
        /// The file.
        path: PathBuf,
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

    /// Every key that was generated here, of each kind and algorithm the latest last. The algorithm of an access key is in
    /// the name of its file.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, others can read it, or it is not a key.
    pub fn generated(&self) -> Result<Generated, KeyFileError> {
        let mut access = Vec::new();
        for path in self.named("access-", ".pem")? {
            let Some(algorithm) = algorithm_of(&path) else { continue };
            let key = Key::from_pem(algorithm, &read_private(&path)?);
            access.push((key.map_err(|source| KeyFileError::Unusable { path: path.clone(), source })?, path));
        }
        for path in self.named("access-", "-hs256.key")? {
            let key = Key::from_secret(&read_private(&path)?);
            access.push((key.map_err(|source| KeyFileError::Unusable { path: path.clone(), source })?, path));
        }
        let refresh = self.named("refresh-", ".key")?;
        let refresh = refresh.into_iter().map(|path| Ok((read_private(&path)?, path)));
        let refresh = refresh.collect::<Result<Vec<_>, KeyFileError>>()?;
        // Read last: a key is scheduled before its file is there.
        let schedule = self.schedule()?;
        Ok(Generated { access: held(access, &schedule), refresh: held(refresh, &schedule) })
    }

    /// What is there, without what is in it: the same for as long as no key comes or goes.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn listing(&self) -> Result<(Vec<PathBuf>, Vec<String>), KeyFileError> {
        Ok((self.all()?, files::lines(&self.schedule_file())?))
    }

    /// Makes the next refresh secret, which signs from `signs_from` on, or at once.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn generate_refresh(&self, signs_from: Option<Timestamp>) -> Result<(), KeyFileError> {
        self.keep_new("refresh-", ".key", &key_making::secret().map_err(|source| self.unusable(source))?, signs_from)
    }

    /// Makes the next key for access tokens. No algorithm: an HS256 secret.
    ///
    /// # Errors
    ///
    /// If the key cannot be made or the file not written.
    pub fn generate_access(
        &self,
        algorithm: Option<Asymmetric>,
        signs_from: Option<Timestamp>,
    ) -> Result<(), KeyFileError> {
        let Some(algorithm) = algorithm else {
            return self.keep_new(
                "access-",
                "-hs256.key",
                &key_making::secret().map_err(|source| self.unusable(source))?,
                signs_from,
            );
        };
        let text = key_making::private_key(algorithm).map_err(|source| self.unusable(source))?;
        self.keep_new("access-", &format!("-{}.pem", algorithm.name().to_ascii_lowercase()), &text, signs_from)
    }

    fn unusable(&self, source: KeyError) -> KeyFileError {
        KeyFileError::Unusable { path: self.folder.clone(), source }
    }

    /// Removes a key for good.
    ///
    /// # Errors
    ///
    /// If the file cannot be removed.
    pub fn remove(&self, file: &Path) -> Result<(), KeyFileError> {
        let _lock = self.lock()?;
        fs::remove_file(file).map_err(|error| FileError::new(file, "removed", error))?;
        self.reschedule(file, None)
    }

    /// From when on keys sign, by the names of their files.
    fn schedule(&self) -> Result<HashMap<String, Timestamp>, KeyFileError> {
        let mut schedule = HashMap::new();
        for line in files::lines(&self.schedule_file())?.iter().filter(|line| !line.trim().is_empty()) {
            let entry =
                line.split_once(' ').and_then(|(name, time)| Some((name, Timestamp::from_rfc3339(time.trim())?)));
            let Some((name, time)) = entry else {
                return Err(KeyFileError::Schedule { path: files::absolute(&self.schedule_file()) });
            };
            schedule.insert(name.to_owned(), time);
        }
        Ok(schedule)
    }

    /// Puts a key on the schedule, or takes it off. The lock is held by the caller.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn reschedule(&self, file: &Path, signs_from: Option<Timestamp>) -> Result<(), KeyFileError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let before = files::lines(&self.schedule_file())?;
        let mut lines: Vec<String> = before.clone();
        lines.retain(|line| line.split_once(' ').is_some_and(|(other, _)| other != name));
        lines.extend(signs_from.map(|from| format!("{name} {}", from.to_rfc3339())));
        if lines == before {
            return Ok(());
        }
        Ok(files::replace(&self.schedule_file(), &lines.join("\n"))?)
    }

    fn schedule_file(&self) -> PathBuf {
        self.folder.join("schedule")
    }

    /// Held while keys are made.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or written.
    pub fn lock(&self) -> Result<FolderLock, KeyFileError> {
        create_private_folder(&self.folder)?;
        Ok(FolderLock::acquire(&self.folder)?)
    }

    /// Whether any key was generated here.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn has_keys(&self) -> Result<bool, KeyFileError> {
        Ok(!self.all()?.is_empty())
    }

    fn all(&self) -> Result<Vec<PathBuf>, KeyFileError> {
        let mut found = self.named("access-", ".pem")?;
        for prefix in ["access-", "refresh-"] {
            found.extend(self.named(prefix, ".key")?);
        }
        Ok(found)
    }

    /// Takes every generated key out of use, by another name, and forgets which databases they belong to. Returns what
    /// the files are called now.
    ///
    /// # Errors
    ///
    /// If a file cannot be renamed.
    pub fn give_up(&self) -> Result<Vec<PathBuf>, KeyFileError> {
        let _lock = self.lock()?;
        let mut renamed = Vec::new();
        for path in self.all()? {
            renamed.push(rename(&path)?);
        }
        match fs::remove_file(self.databases_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::new(&self.databases_file(), "removed", error).into())
            }
            _ => Ok(renamed),
        }
    }

    /// Takes one generated key out of use, by another name, which is returned.
    ///
    /// # Errors
    ///
    /// If the file cannot be renamed.
    pub fn give_up_one(&self, file: &Path) -> Result<PathBuf, KeyFileError> {
        let _lock = self.lock()?;
        rename(file)
    }

    /// The issuer kept from the first start. None: there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn issuer(&self) -> Result<Option<String>, KeyFileError> {
        let first = files::lines(&self.folder.join("issuer"))?.into_iter().next();
        Ok(first.map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()))
    }

    /// Keeps the issuer of the first start. If another process was faster, its issuer is kept.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn keep_issuer(&self, issuer: &str) -> Result<(), KeyFileError> {
        if self.issuer()?.is_some() {
            return Ok(());
        }
        create_private_folder(&self.folder)?;
        files::write_new(&self.folder.join("issuer"), issuer)?;
        Ok(())
    }

    /// The issuers whose tokens were signed here, that of the first start among them; the latest last.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn issuers_used(&self) -> Result<Vec<String>, KeyFileError> {
        let mut used: Vec<String> = self.issuer()?.into_iter().collect();
        for line in files::lines(&self.issuers_file())? {
            if !line.is_empty() && !used.contains(&line) {
                used.push(line);
            }
        }
        Ok(used)
    }

    /// Adds the issuer of this start to those.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn remember_issuer(&self, issuer: &str) -> Result<(), KeyFileError> {
        if files::lines(&self.issuers_file())?.last().is_some_and(|last| last == issuer) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut used = files::lines(&self.issuers_file())?;
        used.retain(|other| other != issuer);
        used.push(issuer.to_owned());
        used.drain(..used.len().saturating_sub(ISSUERS));
        Ok(files::replace(&self.issuers_file(), &used.join("\n"))?)
    }

    /// The names of the database files, in the folder above, for which tokens were signed here.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn databases(&self) -> Result<Vec<String>, KeyFileError> {
        let mut names = files::lines(&self.databases_file())?;
        names.retain(|name| !name.is_empty());
        Ok(names)
    }

    /// Replaces those names.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn keep_databases(&self, names: &[String]) -> Result<(), KeyFileError> {
        if self.databases()? == names {
            return Ok(());
        }
        let _lock = self.lock()?;
        Ok(files::replace(&self.databases_file(), &names.join("\n"))?)
    }

    fn issuers_file(&self) -> PathBuf {
        self.folder.join("issuers")
    }

    fn databases_file(&self) -> PathBuf {
        self.folder.join("databases")
    }

    /// Files `PREFIX` number `SUFFIX`, in the order of their numbers.
    fn named(&self, prefix: &str, suffix: &str) -> Result<Vec<PathBuf>, KeyFileError> {
        let failed = |error| FileError::new(&self.folder, "read", error);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error).into()),
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
    fn keep_new(
        &self,
        prefix: &str,
        suffix: &str,
        text: &str,
        signs_from: Option<Timestamp>,
    ) -> Result<(), KeyFileError> {
        let last = self.named(prefix, suffix)?.last().and_then(|path| path.file_name()?.to_str().map(number_of));
        let path = self.folder.join(format!("{prefix}{:04}{suffix}", last.unwrap_or(0).saturating_add(1)));
        create_private_folder(&self.folder)?;
        // First: without an entry it would sign as soon as it is there.
        self.reschedule(&path, signs_from)?;
        files::write_new(&path, text)?;
        Ok(())
    }
}

/// Keys with all that is known of them.
fn held<K>(keys: Vec<(K, PathBuf)>, schedule: &HashMap<String, Timestamp>) -> Vec<Held<K>> {
    let held = |(key, path): (K, PathBuf)| {
        let made_at = fs::metadata(&path).and_then(|file| file.modified()).ok().map(Timestamp::from);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let signs_from = schedule.get(&*name).copied();
        Held { key, made_at, signs_from, source: KeySource::File(path) }
    };
    keys.into_iter().map(held).collect()
}

/// Gives a key file a name under which it is no key.
fn rename(path: &Path) -> Result<PathBuf, KeyFileError> {
    let mut target = with_ending(path, GIVEN_UP);
    for number in 2.. {
        if !target.exists() {
            break;
        }
        target = with_ending(path, &format!("{GIVEN_UP}-{number}"));
    }
    fs::rename(path, &target).map_err(|error| FileError::new(path, "renamed", error))?;
    Ok(target)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn read_private(path: &Path) -> Result<Secret, KeyFileError> {
    let text = files::read(path)?;
    let mode = fs::metadata(path).map_err(|error| FileError::new(path, "read", error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: files::absolute(path) });
    }
    let secret = Secret::new(text.trim_ascii_end());
    if secret.len() < 32 {
        return Err(KeyFileError::Unusable { path: files::absolute(path), source: KeyError::TooShort });
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
