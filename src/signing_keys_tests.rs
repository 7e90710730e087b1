use super::*;
use crate::store::testing::TestDatabase;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn key(kid: &str, kind: Kind, active: bool) -> Entry {
    Entry { kid: kid.to_owned(), kind, algorithm: "HS256", active, file: None, made_at: None }
}

fn ours(keys: Vec<Entry>, issuer: &str) -> Ours {
    let issuers = Issuers { current: issuer.to_owned(), previous: vec!["https://earlier.example".to_owned()] };
    Ours { keys, issuers, lives: Lives { access: HOUR / 4, refresh: HOUR * 24, session: HOUR * 72 } }
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
