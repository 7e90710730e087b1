use std::thread;

use diesel::Connection as _;
use diesel::result::Error as DieselError;

use super::*;
use crate::ids::{SessionId, UserId};
use crate::store::sessions::{self, Device, NewSession, NextToken, Rotation, Transport};
use crate::store::testing::TestDatabase;
use crate::store::users::Bestowed;
use crate::tokens::ChainPosition;
use crate::tokens::generated::KeySource;
use crate::tokens::refresh::TokenDigest;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn key(kid: &str, kind: Kind, active: bool) -> Entry {
    let state = if active { KeyState::Active } else { KeyState::VerifyOnly };
    let source = KeySource::Configured;
    Entry { kid: kid.to_owned(), kind, algorithm: "HS256", state, source, made_at: None, signs_from: None }
}

fn ours(keys: Vec<Entry>, issuer: &str) -> Ours {
    let issuers = Issuers { current: issuer.to_owned(), previous: vec!["https://earlier.example".to_owned()] };
    Ours {
        keys,
        issuers,
        lives: Lives { access: HOUR / 4, refresh: HOUR * 24, session: HOUR * 72, recovery: HOUR * 12 },
    }
}

#[test]
fn a_key_is_remembered_until_what_it_signed_has_run_out() {
    let (database, issuer) = (TestDatabase::new(), "https://id.example");
    let store = database.store();
    let listed = |now| {
        let found = store.read_blocking(|conn| remembered(conn, now)).unwrap();
        found.into_iter().map(|one| (one.key.kid, one.key.until)).collect::<Vec<_>>()
    };
    let both = vec![key("a", Kind::Access, true), key("r", Kind::Refresh, true), key("old", Kind::Refresh, false)];
    ours(both, issuer).record(&store, NOW).unwrap();
    let (access, refresh) = (NOW.plus(HOUR / 4).plus(MARGIN), NOW.plus(HOUR * 24).plus(MARGIN));
    assert_eq!(listed(NOW), [("a".to_owned(), access), ("r".to_owned(), refresh)], "what only verifies signs nothing");
    // Later, and never earlier.
    let signing = || vec![key("r", Kind::Refresh, true)];
    ours(signing(), issuer).record(&store, NOW.plus(HOUR)).unwrap();
    ours(signing(), issuer).record(&store, NOW.minus(HOUR)).unwrap();
    ours(signing(), "https://other.example").record(&store, NOW).unwrap();
    assert_eq!(listed(access), [("r".to_owned(), refresh.plus(HOUR))], "once, whatever the issuer");
    assert_eq!(listed(refresh.plus(HOUR)), []);

    store.write_blocking(|conn| signing_keys::forget(conn, "r")).unwrap();
    assert_eq!(listed(NOW), [("a".to_owned(), access)]);
    assert_eq!(store.read_blocking(signing_keys::all).unwrap().len(), 3, "that it was used is not forgotten");
    ours(Vec::new(), issuer).record(&store, NOW.plus(HOUR * 72).plus(REMEMBERED).plus(HOUR * 2)).unwrap();
    assert_eq!(store.read_blocking(signing_keys::all).unwrap(), [], "in the end it is");
}

#[test]
fn nodes_that_record_the_same_key_at_once_do_not_trip_over_each_other() {
    let database = TestDatabase::new();
    let stores: Vec<Store> = (0..4).map(|_| database.store()).collect();
    let record = |store: Store| {
        thread::spawn(move || {
            let ours = ours(vec![key("r", Kind::Refresh, true)], "https://id.example");
            (0..5).try_for_each(|_| ours.record(&store, NOW))
        })
    };
    let threads: Vec<_> = stores.into_iter().map(record).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    assert_eq!(database.store().read_blocking(signing_keys::all).unwrap().len(), 1);
}

/// A phone that never got the first answer under a new key comes back with the token that the old one signed.
#[test]
fn a_key_is_needed_by_a_client_that_may_have_lost_its_last_answer() {
    let (database, id, recovery) = (TestDatabase::new(), SessionId::generate(), HOUR * 12);
    let user = UserId::generate();
    let mut conn = database.connect();
    let new = NewSession {
        id,
        user_id: user,
        token_hash: TokenDigest([0; 32]),
        key_id: "old".into(),
        now: NOW,
        access_expires_at: NOW.plus(HOUR),
        idle_expires_at: NOW.plus(HOUR * 72),
        expires_at: NOW.plus(HOUR * 72),
        transport: Transport::Body,
        device_name: None,
        device: Device::default(),
        remember: true,
        mfa: false,
    };
    sessions::insert(&mut conn, &new, &Bestowed::default()).unwrap();
    let rotation = |generation: u32| Rotation {
        id,
        from: ChainPosition { generation, branch: 0 },
        presented: TokenDigest([u8::try_from(generation).unwrap(); 32]),
        next: NextToken {
            position: ChainPosition { generation: generation + 1, branch: 0 },
            token_hash: TokenDigest([u8::try_from(generation + 1).unwrap(); 32]),
            salt: [0; 16],
            key_id: "new".into(),
            now: NOW,
            access_expires_at: NOW.plus(HOUR),
            idle_expires_at: NOW.plus(HOUR * 72),
            device: Device::default(),
        },
        remember: true,
    };
    let signed = |conn: &mut AnyConnection, kid: &str, now| {
        signing_keys::sessions_signed_with(conn, kid, recovery, now).unwrap()
    };
    assert_eq!((signed(&mut conn, "old", NOW), signed(&mut conn, "new", NOW)), (1, 0));
    assert!(sessions::advance(&mut conn, &rotation(0)).unwrap().is_some());
    assert_eq!((signed(&mut conn, "old", NOW), signed(&mut conn, "new", NOW)), (1, 1));
    assert_eq!(signed(&mut conn, "old", NOW.plus(recovery)), 1);
    assert_eq!(signed(&mut conn, "old", NOW.plus(recovery + HOUR)), 0, "too long ago to be recovered");
    conn.test_transaction::<_, DieselError, _>(|conn| {
        assert!(sessions::confirm(conn, user, id, ChainPosition { generation: 1, branch: 0 }, NOW)?);
        assert_eq!(signed(conn, "old", NOW), 0, "the client has the next one");
        Ok(())
    });
    conn.test_transaction::<_, DieselError, _>(|conn| {
        assert!(sessions::advance(conn, &rotation(1))?.is_some());
        assert_eq!(signed(conn, "old", NOW), 0, "the one before was signed with the new key already");
        Ok(())
    });
    let (token, presented) = (ChainPosition { generation: 8, branch: 0 }, (TokenDigest([9; 32]), "older"));
    let next = NextToken { position: token, ..rotation(1).next };
    assert!(sessions::adopt(&mut conn, id, ChainPosition { generation: 1, branch: 0 }, presented, &next).unwrap());
    assert_eq!((signed(&mut conn, "old", NOW), signed(&mut conn, "older", NOW)), (0, 1));
}
