//! Keys that come, sign and go while a server runs, at times of the tests' choosing.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::app::Countersign;
use crate::clock::Clock;
use crate::config::RawConfig;
use crate::ids::{SessionId, UserId};
use crate::key_rotation::{Begin, NOTICE};
use crate::secret::Secret;
use crate::store::columns::Roles;
use crate::store::users::NewUser;
use crate::store::{AnyConnection, second_factors, users};
use crate::tokens::access::{Authentication, Bearer};
use crate::tokens::claims::ExtraClaims;
use crate::tokens::key_selection::Entry;
use crate::tokens::sealing::SECOND_FACTORS;
use crate::tokens::{ChainPosition, Kind};

const BEGINNING: Timestamp = Timestamp::from_seconds(1_900_000_000);
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A server without a socket, whose watch looks when it is told to.
struct Server {
    folder: TempDir,
    config: Config,
    clock: Clock,
    countersign: Countersign,
}

impl Server {
    fn new(keys: &[(&str, &str)]) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual(BEGINNING));
        let url = format!("sqlite:{}", folder.path().join("countersign.db").display());
        let set = |raw: RawConfig, (key, value): &(&str, &str)| raw.with(key, *value);
        let raw = RawConfig::default().with("database.url", url).with("passwords.bcrypt_cost", "4");
        let config = keys.iter().fold(raw, set).resolve().unwrap();
        let countersign = Countersign::open_with_clock(&config, clock.clone()).unwrap();
        let server = Self { folder, config, clock, countersign };
        // The age of a key counts from the time of its file, which is that of this machine.
        for file in server.files() {
            let time = std::time::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
            fs::File::options().append(true).open(file).unwrap().set_modified(time).unwrap();
        }
        server
    }

    /// Another process on the same database and folder.
    fn beside(&self) -> Countersign {
        Countersign::open_with_clock(&self.config, self.clock.clone()).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("keys")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|ending| ending == "pem" || ending == "key")).collect();
        files.sort();
        files
    }

    fn live(&self) -> &Live {
        &self.countersign.live
    }

    fn rotate(&self, begin: Begin) -> Vec<Entry> {
        let store = self.live().services.get().accounts.store.clone();
        Rotation::new(&self.config, &store, &self.clock).rotate(begin).unwrap()
    }

    fn prune(&self) -> usize {
        let store = self.live().services.get().accounts.store.clone();
        Rotation::new(&self.config, &store, &self.clock).prune().unwrap().len()
    }

    fn bearer(&self) -> Bearer {
        Bearer {
            user_id: UserId::generate(),
            session_id: SessionId::generate(),
            position: ChainPosition::FIRST,
            roles: Vec::new(),
            expires_at: self.clock.now().plus(Duration::from_secs(900)),
            authentication: Authentication { at: Some(self.clock.now()), mfa: false },
            claims: ExtraClaims::default(),
        }
    }
}

fn kid(token: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<serde_json::Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// An access token that is issued now.
fn issue(server: &Server, live: &Live) -> String {
    live.state.peek().access.issue(&server.bearer(), server.clock.now()).unwrap().0
}

fn published(live: &Live) -> usize {
    live.state.peek().access.public_set()["keys"].as_array().unwrap().len()
}

fn state_of(live: &Live, kid: &str) -> Option<KeyState> {
    live.services.peek().ours().keys.iter().find(|key| key.kid == kid).map(|key| key.state)
}

#[test]
fn the_next_key_is_published_for_ten_minutes_and_then_signs_everywhere() {
    let server = Server::new(&[]);
    let other = server.beside();
    let before = issue(&server, server.live());
    let next = server.rotate(Begin::AfterNotice);
    assert_eq!(next.iter().map(|key| key.kind).collect::<Vec<_>>(), [Kind::Access, Kind::Refresh]);
    assert!(next.iter().all(|key| key.signs_from.unwrap() >= BEGINNING.plus(NOTICE)));
    for live in [server.live(), &other.live] {
        live.look_for_keys().unwrap();
        assert_eq!(published(live), 2);
        assert_eq!(kid(&issue(&server, live)), kid(&before), "the first one signs on");
        assert_eq!(state_of(live, &next[1].kid), Some(KeyState::Next));
    }
    // Doing it again makes no more of them.
    assert_eq!(server.rotate(Begin::AfterNotice), next);

    server.clock.advance(NOTICE + Duration::from_secs(1));
    server.live().look_for_keys().unwrap();
    let after = issue(&server, server.live());
    assert_eq!(kid(&after), next[0].kid);
    assert_eq!(state_of(server.live(), &next[1].kid), Some(KeyState::Active));
    // The other process has not looked yet: it signs with the first, and takes both.
    assert_eq!(kid(&issue(&server, &other.live)), kid(&before));
    for live in [server.live(), &other.live] {
        for token in [&before, &after] {
            live.guard_state.peek().access.read(token).unwrap();
        }
    }
    // One that starts now, or asked for its list of keys that must be there, knows the same.
    other.live.look_for_keys().unwrap();
    assert_eq!(kid(&issue(&server, &server.beside().live)), next[0].kid);
}

#[test]
fn at_once_is_after_the_seconds_in_which_every_process_looks() {
    let server = Server::new(&[]);
    let later = server.rotate(Begin::AfterNotice);
    let next = server.rotate(Begin::AtOnce);
    assert!(next.iter().all(|key| !later.contains(key)), "another one, ahead of the one that waits");
    let wait = next[0].signs_from.unwrap().since(BEGINNING);
    assert!(wait > crate::tokens::key_reading::LEAST_NOTICE && wait < Duration::from_secs(10), "{wait:?}");
    server.live().look_for_keys().unwrap();
    server.clock.advance(wait);
    server.live().look_for_keys().unwrap();
    assert_eq!(kid(&issue(&server, server.live())), next[0].kid);
    // The one that was made before it never signs.
    server.clock.advance(NOTICE * 2);
    server.live().look_for_keys().unwrap();
    assert_eq!(kid(&issue(&server, server.live())), next[0].kid);
}

/// The list in the database is written before the first token is: a start without the key is refused from then on.
#[test]
fn a_key_is_on_the_list_before_it_signs() {
    let server = Server::new(&[]);
    let next = server.rotate(Begin::AtOnce);
    server.clock.advance(A_DAY);
    server.live().look_for_keys().unwrap();
    let store = server.live().services.get().accounts.store.clone();
    let listed = store.read_blocking(crate::store::signing_keys::all).unwrap();
    assert!(next.iter().all(|key| listed.iter().any(|row| row.kid == key.kid)), "{listed:?}");
}

#[test]
fn only_keys_that_no_token_can_name_are_removed() {
    let server = Server::new(&[]);
    server.rotate(Begin::AtOnce);
    assert_eq!(server.prune(), 0, "those to come stay");
    server.clock.advance(Duration::from_secs(60));
    server.live().look_for_keys().unwrap();
    let before = server.files();
    assert_eq!((before.len(), server.prune()), (4, 0), "tokens of the first ones are alive");
    // Access tokens live for minutes, refresh tokens for a month.
    server.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(server.prune(), 0, "a process may have changed a little late");
    server.clock.advance(Duration::from_secs(20 * 60));
    assert_eq!(server.prune(), 1);
    server.clock.advance(server.config.tokens.refresh_idle_ttl);
    assert_eq!(server.prune(), 0, "a lost answer can be fetched for a while after that");
    server.clock.advance(server.config.rotation.recovery);
    assert_eq!(server.prune(), 1);
    assert_eq!(server.prune(), 0, "what signs stays");
    let after: Vec<String> =
        server.files().iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(after, ["access-0002-es256.pem", "refresh-0002.key"]);
    server.live().look_for_keys().unwrap();
    assert_eq!(published(server.live()), 1);
    // The next ones get numbers of their own.
    server.rotate(Begin::AtOnce);
    assert!(server.files().iter().any(|file| file.ends_with("access-0003-es256.pem")));
}

/// However long ago it signed: a second factor has no end.
#[test]
fn a_key_that_opens_a_second_factor_is_not_removed() {
    let server = Server::new(&[]);
    let services = server.live().services.get();
    let (store, sealing, now) = (&services.accounts.store, services.sealing.get(), server.clock.now());
    let user = NewUser {
        id: UserId::generate(),
        email: "ada@example.com".into(),
        email_key: "ada@example.com".into(),
        name: None,
        password_hash: "hash".into(),
        roles: Roles::default(),
        email_verified: false,
        created_at: now,
        updated_at: now,
    };
    let (id, sealed) = (user.id, sealing.seal(SECOND_FACTORS, b"", &Secret::new("secret")).unwrap());
    let enable = move |conn: &mut AnyConnection| {
        assert!(users::insert(conn, &user)? && second_factors::begin(conn, id, "hash", &sealed)?);
        second_factors::enable(conn, id, (&sealed, 1), &[], now)
    };
    assert!(store.write_blocking(enable).unwrap());
    server.rotate(Begin::AtOnce);
    server.clock.advance(Duration::from_secs(60));
    server.live().look_for_keys().unwrap();
    server.clock.advance(server.config.tokens.refresh_absolute_ttl * 2);
    assert_eq!((server.prune(), server.files().len()), (1, 3), "the access key is");
    assert!(store.write_blocking(move |conn| second_factors::disable(conn, id, now)).unwrap());
    assert_eq!(server.prune(), 1);
}

#[test]
fn keys_are_rotated_by_age_once_whoever_looks_first() {
    let server = Server::new(&[("tokens.key_rotation", "10d")]);
    let other = server.beside();
    let believe_the_clock = || {
        let (store, now) = (server.live().services.get().accounts.store.clone(), server.clock.now());
        store.write_blocking(move |conn| crate::store::health::trust(conn, now)).unwrap();
    };
    let look = || {
        for live in [server.live(), &other.live] {
            live.tend_keys().unwrap();
            live.look_for_keys().unwrap();
        }
    };
    server.clock.advance(A_DAY * 9);
    look();
    assert_eq!(server.files().len(), 2);
    server.clock.advance(A_DAY);
    look();
    look();
    assert_eq!(server.files().len(), 4, "one of each kind");
    server.clock.advance(NOTICE * 2);
    look();
    assert!(kid(&issue(&server, server.live())) == kid(&issue(&server, &other.live)));
    assert_eq!(server.files().len(), 4);
    // The access key goes as soon as its tokens have, by a clock that is believed. The next rotation comes in ten days.
    server.clock.advance(A_DAY);
    look();
    assert_eq!(server.files().len(), 4);
    believe_the_clock();
    look();
    assert_eq!(server.files().len(), 3);
    server.clock.advance(A_DAY * 9);
    look();
    assert_eq!(server.files().len(), 5);
}

/// A file that is being written, or a folder that is gone for a moment, changes nothing.
#[test]
fn keys_that_cannot_be_read_leave_those_before_them_in_use() {
    let server = Server::new(&[]);
    let live = server.live();
    live.look_for_keys().unwrap();
    let token = issue(&server, live);
    let half = server.folder.path().join("keys/refresh-0002.key");
    crate::files::write_new(&half, "half").unwrap();
    let told = live.look_for_keys().unwrap_err().to_string();
    assert!(told.contains("refresh-0002.key"), "{told}");
    fs::remove_file(&half).unwrap();
    live.look_for_keys().unwrap();

    let (keys, away) = (server.folder.path().join("keys"), server.folder.path().join("away"));
    fs::rename(&keys, &away).unwrap();
    assert!(live.look_for_keys().is_err());
    assert!(!keys.exists(), "no keys are made in their place");
    live.guard_state.peek().access.read(&token).unwrap();
    fs::rename(&away, &keys).unwrap();
    live.look_for_keys().unwrap();
    assert_eq!(kid(&issue(&server, live)), kid(&token));
}

/// Where everything is configured there is nothing to rotate here.
#[test]
fn configured_secrets_are_left_alone() {
    let configured = [
        ("tokens.refresh_secret", "0123456789abcdefghijklmnopqrstuv"),
        ("tokens.access_secret", "ZYXWVUTSRQPONMLKJIHGFEDCBA987654"),
        ("tokens.key_rotation", "1h"),
    ];
    let server = Server::new(&configured);
    assert!(!server.live().has_generated_keys);
    let store = server.live().services.get().accounts.store.clone();
    let refused = Rotation::new(&server.config, &store, &server.clock).rotate(Begin::AtOnce).unwrap_err().to_string();
    assert!(refused.contains("ACCESS_TOKEN_SECRET_PREVIOUS"), "{refused}");
    let mixed = Server::new(&configured[..1]);
    assert_eq!(mixed.rotate(Begin::AtOnce).iter().map(|key| key.kind).collect::<Vec<_>>(), [Kind::Access]);
}
