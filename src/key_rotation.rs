//! The next key of each generated kind is made beside the one that signs, published, and signs when every process knows it;
//! those that no token can name any more are taken away.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Database};
use crate::files::FolderLock;
use crate::sealed_keys::{self, Unless};
use crate::startup::{self, Found, StartError};
use crate::store::{self, OpenError, Store};
use crate::tokens::Kind;
use crate::tokens::generated::KeySource;
use crate::tokens::key_files::KeyFiles;
use crate::tokens::key_reading::LEAST_NOTICE;
use crate::tokens::key_selection::{Entry, KeyState, algorithm, asymmetric};

/// How long a key is published before it signs: twice the time for which the set of public keys may be kept (`max-age`).
pub const NOTICE: Duration = Duration::from_secs(10 * 60);
/// The same where it cannot be waited for: as long as processes take to read it, and a moment for clocks that differ.
const SHORT_NOTICE: Duration = LEAST_NOTICE.saturating_add(Duration::from_secs(1));
/// How long processes may go on with a key after the next one has begun, and how far their clocks may differ: generously.
const CHANGE: Duration = Duration::from_secs(15 * 60);
/// The longest life that access tokens can be given.
const LONGEST_ACCESS: Duration = Duration::from_secs(24 * 60 * 60);

/// When a new key begins to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// When those who keep the set of public keys have read it anew.
    AfterNotice,
    /// As soon as every process that signs or verifies knows it.
    AtOnce,
}

impl Begin {
    /// In whole seconds, as it is written down.
    fn time(self, now: Timestamp) -> Timestamp {
        let notice = if self == Self::AtOnce { SHORT_NOTICE } else { NOTICE };
        now.plus(notice).floor_second().plus(Duration::from_secs(1))
    }
}

/// Why no key was made or taken away.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The keys cannot be read or written.
    #[error(transparent)]
    Keys(#[from] StartError),
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// There is none beside which another could be made.
    #[error("there are no keys yet: the first `countersign serve` makes them")]
    NoneYet,
    /// None was generated.
    #[error(
        "no key was generated here: the secrets are configured, and are rotated by putting the old one into \
         ACCESS_TOKEN_SECRET_PREVIOUS or REFRESH_TOKEN_SECRET_PREVIOUS (docs/operations.md)"
    )]
    Configured,
}

/// The keys of a configuration, and what there is to change them with.
pub struct Rotation<'a> {
    config: &'a Config,
    store: &'a Store,
    clock: &'a Clock,
    files: KeyFiles,
}

impl<'a> Rotation<'a> {
    /// Of this configuration, whose database is open.
    pub fn new(config: &'a Config, store: &'a Store, clock: &'a Clock) -> Self {
        Self { config, store, clock, files: KeyFiles::below(&config.data_dir) }
    }

    /// Makes the next key of each generated kind, unless there is one that is to sign after its notice anyway. Returns the next
    /// ones.
    ///
    /// # Errors
    ///
    /// [`RotationError`].
    pub fn rotate(&self, begin: Begin) -> Result<Vec<Entry>, RotationError> {
        self.generated(&self.entries()?)?;
        // Another process may be making one.
        let _lock = self.lock()?;
        let before = self.entries()?;
        let generated = self.generated(&before)?;
        let is_next = |entry: &Entry| entry.state == KeyState::Next;
        let has_next = |kind| before.iter().any(|entry| entry.kind == kind && is_next(entry));
        let wanted: Vec<&Entry> = match begin {
            Begin::AtOnce => generated,
            Begin::AfterNotice => generated.into_iter().filter(|entry| !has_next(entry.kind)).collect(),
        };
        self.make(&wanted, begin)?;
        let is_new = |entry: &Entry| !before.iter().any(|old| (&old.kid, old.kind) == (&entry.kid, entry.kind));
        let mut next = self.entries()?;
        if begin == Begin::AtOnce {
            // Only now that all of them can be read: however long that took, every process that looks in time knows them.
            let from = Begin::AtOnce.time(self.clock.now());
            for entry in next.iter().filter(|entry| is_new(entry)) {
                self.begin_at(entry, from)?;
            }
            next = self.entries()?;
        }
        next.retain(|entry| is_next(entry) && (begin == Begin::AfterNotice || is_new(entry)));
        Ok(next)
    }

    /// The keys that sign, and beside which others can be made.
    fn generated<'e>(&self, entries: &'e [Entry]) -> Result<Vec<&'e Entry>, RotationError> {
        let active = entries.iter().filter(|entry| entry.state == KeyState::Active);
        let generated: Vec<&Entry> = active.filter(|entry| self.can_make(entry)).collect();
        match entries.is_empty() {
            true => Err(RotationError::NoneYet),
            false if generated.is_empty() => Err(RotationError::Configured),
            false => Ok(generated),
        }
    }

    /// The same for those kinds whose key has signed for `age`, and has no successor yet.
    ///
    /// # Errors
    ///
    /// [`RotationError`].
    pub fn rotate_older_than(&self, age: Duration) -> Result<(), RotationError> {
        let now = self.clock.now();
        let is_due = |entries: &[Entry]| {
            let has_next = |kind| entries.iter().any(|entry| entry.kind == kind && entry.state == KeyState::Next);
            let is_old = |entry: &&Entry| {
                entry.state == KeyState::Active && entry.began().is_some_and(|began| now.since(began) >= age)
            };
            let due = entries.iter().filter(is_old).filter(|entry| self.can_make(entry) && !has_next(entry.kind));
            due.cloned().collect::<Vec<_>>()
        };
        if is_due(&self.entries()?).is_empty() {
            return Ok(());
        }
        // Another process may have made one before the lock was ours.
        let _lock = self.lock()?;
        let due = is_due(&self.entries()?);
        self.make(&due.iter().collect::<Vec<_>>(), Begin::AfterNotice)
    }

    /// Removes the generated keys that do not sign any more, and that no token which is still alive can name. Returns them.
    ///
    /// # Errors
    ///
    /// [`RotationError`]: also if the database cannot tell.
    pub fn prune(&self) -> Result<Vec<Entry>, RotationError> {
        let (now, entries, mut removed) = (self.clock.now(), self.entries()?, Vec::new());
        for entry in entries.iter().filter(|entry| entry.state == KeyState::VerifyOnly) {
            // It may have signed until the one in its place began to.
            let mut active = entries.iter().filter(|other| other.kind == entry.kind && other.state == KeyState::Active);
            let signed_lately =
                active.any(|active| active.signs_from.is_some_and(|from| now.since(from) <= self.life(entry.kind)));
            if entry.source == KeySource::Configured || signed_lately || self.is_needed(entry, now)? {
                continue;
            }
            self.remove(entry)?;
            removed.push(entry.clone());
        }
        Ok(removed)
    }

    /// Takes a generated key away, whatever it has signed.
    ///
    /// # Errors
    ///
    /// [`RotationError`].
    fn remove(&self, entry: &Entry) -> Result<(), RotationError> {
        match &entry.source {
            KeySource::File(file) => Ok(self.files.remove(file).map_err(StartError::from)?),
            KeySource::Database => {
                let kid = entry.kid.clone();
                self.told(self.store.write_blocking(move |conn| store::access_keys::remove(conn, &kid)))?;
                Ok(())
            }
            KeySource::Configured => Ok(()),
        }
    }

    fn is_needed(&self, entry: &Entry, now: Timestamp) -> Result<bool, RotationError> {
        let recovery = self.config.rotation.recovery.saturating_add(self.config.rotation.overlap);
        let (kid, kind) = (entry.kid.clone(), entry.kind);
        let asked = self.store.read_blocking(|conn| {
            let listed = store::signing_keys::all(conn)?;
            let mut of_key = listed.iter().filter(|row| row.kid == kid).map(|row| row.needed_until).peekable();
            let is_listed = of_key.peek().is_some();
            let is_alive = of_key.any(|until| until > now);
            let is_refresh = kind == Kind::Refresh;
            let is_needed = is_refresh
                && (store::signing_keys::sessions_signed_with(conn, &kid, recovery, now)? > 0
                    || store::second_factors::count_sealed_under(conn, &kid)? > 0
                    || store::mails::are_sealed_under(conn, &kid)?);
            Ok((is_listed, is_alive || is_needed))
        });
        let (is_listed, is_alive) = self.told(asked)?;
        if is_listed || is_alive {
            return Ok(is_alive);
        }
        // One that was never written down may have been put there by hand, with tokens from elsewhere.
        let life = self.life(kind).max(LONGEST_ACCESS);
        Ok(entry.made_at.is_none_or(|made_at| now.since(made_at) <= life))
    }

    /// How long a token may still be presented after the next key has begun to sign.
    fn life(&self, kind: Kind) -> Duration {
        let (tokens, rotation) = (&self.config.tokens, &self.config.rotation);
        let life = match kind {
            Kind::Access => tokens.access_ttl,
            Kind::Refresh => tokens.refresh_idle_ttl.saturating_add(rotation.recovery).saturating_add(rotation.overlap),
        };
        life.saturating_add(CHANGE)
    }

    fn entries(&self) -> Result<Vec<Entry>, RotationError> {
        let now = self.clock.now();
        let Found { selection, away } = startup::find(self.config, &self.files, Some(self.store), now)?;
        match away {
            None => Ok(selection.entries().map_err(StartError::from)?),
            Some(error) => self.told(Err(error)),
        }
    }

    /// Whether another key of its kind would be known to every process. A refresh key in a folder is not known to the other
    /// nodes of a database that they share.
    fn can_make(&self, entry: &Entry) -> bool {
        match (&entry.source, &self.config.database) {
            (KeySource::Configured, _) => false,
            (_, Database::Sqlite(_)) => true,
            (_, Database::Postgres(_)) => entry.kind == Kind::Access,
        }
    }

    /// Held while files are made. Keys in a database are made by one node at a time anyway.
    fn lock(&self) -> Result<Option<FolderLock>, RotationError> {
        match self.config.database {
            Database::Sqlite(_) => Ok(Some(self.files.lock().map_err(StartError::from)?)),
            Database::Postgres(_) => Ok(None),
        }
    }

    /// Changes the time from which a key signs.
    fn begin_at(&self, entry: &Entry, from: Timestamp) -> Result<(), RotationError> {
        match &entry.source {
            KeySource::File(file) => Ok(self.files.reschedule(file, Some(from)).map_err(StartError::from)?),
            KeySource::Database => {
                let kid = entry.kid.clone();
                self.told(self.store.write_blocking(move |conn| store::access_keys::begin_at(conn, &kid, from)))
            }
            KeySource::Configured => Ok(()),
        }
    }

    /// Makes a key beside each of these, to sign when everyone has had notice of it. `begin`: whether it is to be another one
    /// in any case.
    fn make(&self, beside: &[&Entry], begin: Begin) -> Result<(), RotationError> {
        let (now, algorithm) = (self.clock.now(), algorithm(self.config));
        let from = Begin::AfterNotice.time(now);
        for entry in beside {
            match entry.kind {
                Kind::Refresh => self.files.generate_refresh(Some(from)).map_err(StartError::from)?,
                Kind::Access if startup::are_shared(self.config) => {
                    let selection = startup::find(self.config, &self.files, Some(self.store), now)?.selection;
                    // By age, one node makes it; an operator's command always does.
                    let since = if begin == Begin::AtOnce { now } else { entry.made_at.unwrap_or(now) };
                    let unless = Unless::MadeSince(since);
                    sealed_keys::make(self.store, &selection.refresh, algorithm, (now, from), unless)
                        .map_err(StartError::from)?;
                }
                Kind::Access => {
                    self.files.generate_access(asymmetric(algorithm), Some(from)).map_err(StartError::from)?;
                }
            }
        }
        Ok(())
    }

    /// Seals the keys in the database under the secret that signs now.
    ///
    /// # Errors
    ///
    /// [`RotationError`].
    pub fn seal_anew(&self) -> Result<(), RotationError> {
        if startup::are_shared(self.config) {
            let selection = startup::find(self.config, &self.files, None, self.clock.now())?.selection;
            sealed_keys::seal_anew(self.store, &selection.refresh).map_err(StartError::from)?;
        }
        Ok(())
    }

    fn told<T>(&self, asked: Result<T, store::StoreError>) -> Result<T, RotationError> {
        Ok(asked.map_err(|error| OpenError::new(&self.config.database, error))?)
    }
}
