//! Every condition of every statement that changes a session's place or ends it. One statement at a time
//! never needs most of them; they are what decides between two.

use std::time::Duration;

use super::*;
use crate::store::testing::TestDatabase;
use crate::tokens::refresh::TokenDigest;

const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
const HERE: Place = Place { generation: 5, branch: 1 };
const CURRENT: TokenDigest = TokenDigest([1; 32]);
const NEXT: TokenDigest = TokenDigest([2; 32]);

fn place(generation: u32, branch: u32) -> Place {
    Place { generation, branch }
}

fn next() -> Successor {
    Successor {
        place: place(6, 0),
        salt: [9; 16],
        key_id: "next".into(),
        token_hash: NEXT,
        now: NOW,
        access_expires_at: NOW.plus(Duration::from_secs(900)),
        idle_expires_at: NOW.plus(Duration::from_secs(9_000)),
        device: Device::default(),
    }
}

/// A database with one session at [`HERE`], and beside it one of somebody else's, which nothing may touch.
struct Table {
    connection: AnyConnection,
    id: SessionId,
    user: UserId,
    bystander: SessionId,
    _database: TestDatabase,
}

impl Table {
    fn new() -> Self {
        let database = TestDatabase::new();
        let connection = database.connect();
        let (id, user, bystander) = (SessionId::generate(), UserId::generate(), SessionId::generate());
        let mut table = Self { connection, id, user, bystander, _database: database };
        for (id, user_id) in [(id, user), (bystander, UserId::generate())] {
            let new = NewSession {
                id,
                user_id,
                token_hash: CURRENT,
                key_id: "first".into(),
                now: NOW,
                access_expires_at: NOW.plus(Duration::from_secs(900)),
                idle_expires_at: NOW.plus(Duration::from_secs(9_000)),
                expires_at: NOW.plus(Duration::from_secs(90_000)),
                transport: Transport::Body,
                device_name: None,
                device: Device::default(),
            };
            insert(&mut table.connection, &new, &Roles::default()).unwrap();
        }
        table.edit("generation = 5, branch = 1");
        table
    }

    /// Sets columns of both rows.
    fn edit(&mut self, columns: &str) {
        diesel::sql_query(format!("UPDATE sessions SET {columns}")).execute(&mut self.connection).unwrap();
    }

    fn row(&mut self) -> String {
        format!("{:?}", find(&mut self.connection, self.id).unwrap())
    }
}

/// Runs a statement on a session as it is after the edit. It must not change it.
#[track_caller]
fn unchanged(edit: &str, statement: impl FnOnce(&mut Table) -> bool) {
    let mut table = Table::new();
    if !edit.is_empty() {
        table.edit(edit);
    }
    let before = table.row();
    assert!(!statement(&mut table), "says that it did something");
    assert_eq!(table.row(), before);
}

/// Runs a statement on a session as it is. It must change it, and no other.
#[track_caller]
fn changed(statement: impl FnOnce(&mut Table) -> bool) {
    changed_from("", statement);
}

/// The same on a session as it is after the edit.
#[track_caller]
fn changed_from(edit: &str, statement: impl FnOnce(&mut Table) -> bool) {
    let mut table = Table::new();
    if !edit.is_empty() {
        table.edit(edit);
    }
    let before = table.row();
    let other = format!("{:?}", find(&mut table.connection, table.bystander).unwrap());
    assert!(statement(&mut table));
    assert_ne!(table.row(), before);
    assert_eq!(format!("{:?}", find(&mut table.connection, table.bystander).unwrap()), other);
}

const REVOKED: &str = "revoked_at = 1, revoked_reason = 'test'";
const CONFIRMED: &str = "confirmed_at = 1";

/// By itself or, where the database has that, in a statement that carries another rotation, of a session that is not
/// there.
fn advance_from(together: bool, from: Place, presented: TokenDigest) -> impl FnOnce(&mut Table) -> bool {
    move |table| {
        let rotation = Rotation { id: table.id, from, presented, next: next() };
        if !together || matches!(table.connection, AnyConnection::Sqlite(_)) {
            return advance(&mut table.connection, &rotation).unwrap().is_some();
        }
        let elsewhere = Rotation { id: SessionId::generate(), ..rotation.clone() };
        let rotated = advance_all(&mut table.connection, &[&elsewhere, &rotation]).unwrap();
        assert!(rotated.iter().all(|(id, _)| *id == table.id));
        !rotated.is_empty()
    }
}

#[test]
fn a_rotation_needs_the_place_the_token_and_a_session_that_has_not_ended() {
    for together in [false, true] {
        let advance_from = |from, presented| advance_from(together, from, presented);
        changed(advance_from(HERE, CURRENT));
        unchanged("", advance_from(place(4, 1), CURRENT));
        unchanged("", advance_from(place(6, 1), CURRENT));
        unchanged("", advance_from(place(5, 0), CURRENT));
        unchanged("", advance_from(place(5, 2), CURRENT));
        unchanged("", advance_from(HERE, NEXT));
        unchanged(REVOKED, advance_from(HERE, CURRENT));
        unchanged(&format!("idle_expires_at = {}", NOW.as_micros()), advance_from(HERE, CURRENT));
        unchanged(&format!("expires_at = {}", NOW.as_micros()), advance_from(HERE, CURRENT));
    }
}

/// Otherwise two nodes, each with the same sessions in another order, would wait for each other.
#[test]
fn of_many_rotations_rows_are_taken_in_the_order_of_their_ids() {
    let table = Table::new();
    let mut holder = table._database.connect();
    // On SQLite nobody holds a row.
    if matches!(holder, AnyConnection::Sqlite(_)) {
        return;
    }
    let mut ids = [table.id, table.bystander];
    ids.sort_by_key(|id| *id.as_bytes());
    let hold = |holder: &mut AnyConnection, id: SessionId, how: &str| {
        let row = diesel::sql_query(format!("SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE {how}"));
        row.bind::<diesel::sql_types::Binary, _>(id).execute(holder).unwrap();
    };
    let [low, high] = ids.map(|id| Rotation { id, from: HERE, presented: CURRENT, next: next() });
    // As the store's connections are set up, since the order is that of the plan.
    let store = table._database.store();
    std::thread::scope(|scope| {
        diesel::sql_query("BEGIN").execute(&mut holder).unwrap();
        hold(&mut holder, low.id, "");
        let rotated = scope.spawn(|| store.read_blocking(|conn| advance_all(conn, &[&high, &low])).unwrap().len());
        std::thread::sleep(Duration::from_millis(300));
        hold(&mut holder, high.id, "NOWAIT");
        diesel::sql_query("COMMIT").execute(&mut holder).unwrap();
        assert_eq!(rotated.join().unwrap(), 2);
    });
}

#[test]
fn a_rotation_keeps_what_it_replaces_and_forgets_the_confirmation() {
    for together in [false, true] {
        let mut table = Table::new();
        table.edit(CONFIRMED);
        assert!(advance_from(together, HERE, CURRENT)(&mut table));
        let row = find(&mut table.connection, table.id).unwrap().unwrap();
        assert_eq!((row.place, row.token_hash, row.previous_hash), (place(6, 0), NEXT, Some(CURRENT)));
        assert_eq!((row.salt, row.key_id.as_str(), row.confirmed_at), ([9; 16], "next", None));
        assert_eq!((row.rotated_at, row.branched_at), (NOW, NOW));
        assert_eq!((row.access_expires_at, row.idle_expires_at), (next().access_expires_at, next().idle_expires_at));
    }
}

fn recover_from(from: Place) -> impl FnOnce(&mut Table) -> bool {
    move |table| {
        let next = Successor { place: place(5, 2), ..next() };
        recover(&mut table.connection, table.id, from, &next).unwrap()
    }
}

#[test]
fn a_recovery_needs_the_place_and_a_session_that_neither_was_confirmed_nor_has_ended() {
    changed(recover_from(HERE));
    for elsewhere in [place(4, 1), place(6, 1), place(5, 0), place(5, 2)] {
        unchanged("", recover_from(elsewhere));
    }
    unchanged(CONFIRMED, recover_from(HERE));
    unchanged(REVOKED, recover_from(HERE));
}

#[test]
fn a_recovery_leaves_the_rotation_and_the_end_as_they_were() {
    let mut table = Table::new();
    table.edit("rotated_at = 7, previous_hash = zeroblob(32), idle_expires_at = 5000000000000");
    assert!(recover_from(HERE)(&mut table));
    let row = find(&mut table.connection, table.id).unwrap().unwrap();
    assert_eq!((row.place, row.token_hash, row.previous_hash), (place(5, 2), NEXT, Some(TokenDigest([0; 32]))));
    assert_eq!((row.salt, row.key_id.as_str()), ([9; 16], "next"));
    assert_eq!((row.rotated_at, row.branched_at), (Timestamp::from_micros(7), NOW));
    assert_eq!(row.idle_expires_at, Timestamp::from_micros(5_000_000_000_000));
}

fn adopt_from(from: Place) -> impl FnOnce(&mut Table) -> bool {
    move |table| adopt(&mut table.connection, table.id, from, CURRENT, &next()).unwrap()
}

#[test]
fn an_adoption_needs_the_place_and_a_session_that_has_not_ended() {
    changed(adopt_from(HERE));
    for elsewhere in [place(4, 1), place(6, 1), place(5, 0), place(5, 2)] {
        unchanged("", adopt_from(elsewhere));
    }
    unchanged(REVOKED, adopt_from(HERE));
}

#[test]
fn an_adoption_is_a_rotation_from_what_was_presented() {
    let mut table = Table::new();
    table.edit("confirmed_at = 1, rotated_at = 7, branched_at = 7, idle_expires_at = 5000000000000");
    assert!(adopt(&mut table.connection, table.id, HERE, TokenDigest([8; 32]), &next()).unwrap());
    let row = find(&mut table.connection, table.id).unwrap().unwrap();
    assert_eq!((row.place, row.token_hash, row.previous_hash), (place(6, 0), NEXT, Some(TokenDigest([8; 32]))));
    assert_eq!((row.salt, row.key_id.as_str(), row.confirmed_at), ([9; 16], "next", None));
    assert_eq!((row.rotated_at, row.branched_at), (NOW, NOW));
    assert_eq!((row.access_expires_at, row.idle_expires_at), (next().access_expires_at, next().idle_expires_at));
}

fn revoke_from(from: Place) -> impl FnOnce(&mut Table) -> bool {
    move |table| revoke_at(&mut table.connection, table.id, from, NOW, "reused").unwrap()
}

#[test]
fn reuse_ends_only_the_session_that_was_judged_and_only_once() {
    changed(revoke_from(HERE));
    for elsewhere in [place(4, 1), place(6, 1), place(5, 0), place(5, 2)] {
        unchanged("", revoke_from(elsewhere));
    }
    unchanged(REVOKED, revoke_from(HERE));
}

fn confirm_at(at: Place) -> impl FnOnce(&mut Table) -> bool {
    move |table| confirm(&mut table.connection, table.user, table.id, at, NOW).unwrap()
}

#[test]
fn a_confirmation_is_of_the_owners_current_pair_in_a_session_that_has_not_ended() {
    changed(confirm_at(HERE));
    for elsewhere in [place(4, 1), place(6, 1), place(5, 0), place(5, 2)] {
        unchanged("", confirm_at(elsewhere));
    }
    unchanged(REVOKED, confirm_at(HERE));
    unchanged("", |table| confirm(&mut table.connection, UserId::generate(), table.id, HERE, NOW).unwrap());
}

fn count_at(generation: u32) -> impl FnOnce(&mut Table) -> bool {
    move |table| count_streak(&mut table.connection, table.id, generation, 2).unwrap()
}

#[test]
fn a_streak_counts_the_current_generation_once_while_the_session_lives() {
    changed(count_at(5));
    unchanged("", count_at(4));
    unchanged("", count_at(6));
    unchanged("streak_generation = 5, repeat_streak = 1", count_at(5));
    unchanged(REVOKED, count_at(5));
}

#[test]
fn an_operator_ends_what_a_refresh_that_is_on_its_way_may_carry_on_and_nothing_that_is_over() {
    let everybody = |table: &mut Table| {
        let all = opened_since(&mut table.connection, Timestamp::from_micros(0), None, NOW, 100).unwrap();
        let these: Vec<_> = all.into_iter().filter(|id| *id == table.id).collect();
        !end(&mut table.connection, &these, NOW, "all").unwrap().is_empty()
    };
    let one = |table: &mut Table| !end(&mut table.connection, &[table.id], NOW, "one").unwrap().is_empty();
    let (now, over) = (NOW.as_micros(), NOW.minus(LATE).as_micros());
    for end in [everybody, one] {
        changed(end);
        changed_from(&format!("idle_expires_at = {now}, expires_at = {now}"), end);
        unchanged(&format!("idle_expires_at = {over}"), end);
        unchanged(&format!("expires_at = {over}"), end);
        unchanged(REVOKED, end);
    }
}

#[test]
fn ending_a_users_sessions_ends_each_once_and_leaves_those_that_are_over_and_those_of_others() {
    let end =
        |table: &mut Table| !revoke(&mut table.connection, table.user, Scope::All, NOW, "all").unwrap().is_empty();
    changed(end);
    unchanged(REVOKED, end);
    // A refresh that came a little earlier may be on its way still.
    let (now, over) = (NOW.as_micros(), NOW.minus(LATE).as_micros());
    changed_from(&format!("idle_expires_at = {now}, expires_at = {now}"), end);
    unchanged(&format!("idle_expires_at = {over}"), end);
    unchanged(&format!("expires_at = {over}"), end);
    let only = |id| {
        move |table: &mut Table| {
            !revoke(&mut table.connection, table.user, Scope::Only(id), NOW, "one").unwrap().is_empty()
        }
    };
    unchanged("", only(SessionId::generate()));
    unchanged("", |table| {
        let own = Scope::Except(table.id);
        !revoke(&mut table.connection, table.user, own, NOW, "others").unwrap().is_empty()
    });
}
