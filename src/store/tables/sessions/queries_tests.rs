//! Every condition of every statement that changes a session's place or ends it. One statement at a time
//! never needs most of them; they are what decides between two.

use std::time::Duration;

use super::*;
use crate::store::testing::TestDatabase;
use crate::tokens::refresh::TokenDigest;

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_000_000);
pub(super) const HERE: ChainPosition = ChainPosition { generation: 5, branch: 1 };
pub(super) const CURRENT: TokenDigest = TokenDigest([1; 32]);
const NEXT: TokenDigest = TokenDigest([2; 32]);

fn position(generation: u32, branch: u32) -> ChainPosition {
    ChainPosition { generation, branch }
}

fn next() -> NextToken {
    NextToken {
        position: position(6, 0),
        salt: [9; 16],
        key_id: "next".into(),
        token_hash: NEXT,
        now: NOW,
        access_expires_at: NOW.plus(Duration::from_secs(900)),
        idle_expires_at: NOW.plus(Duration::from_secs(9_000)),
        device: Device::default(),
    }
}

pub(super) fn new_session(id: SessionId, user_id: UserId) -> NewSession {
    NewSession {
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
        remember: true,
        mfa: false,
    }
}

/// A database with one session at [`HERE`], and beside it one of another user's, which nothing may touch.
pub(super) struct Table {
    pub(super) connection: AnyConnection,
    pub(super) id: SessionId,
    pub(super) user: UserId,
    pub(super) bystander: SessionId,
    _database: TestDatabase,
}

impl Table {
    pub(super) fn new() -> Self {
        let database = TestDatabase::new();
        let connection = database.connect();
        let (id, user, bystander) = (SessionId::generate(), UserId::generate(), SessionId::generate());
        let mut table = Self { connection, id, user, bystander, _database: database };
        for (id, user_id) in [(id, user), (bystander, UserId::generate())] {
            insert(&mut table.connection, &new_session(id, user_id), &Bestowed::default()).unwrap();
        }
        table.edit("generation = 5, branch = 1");
        table
    }

    /// Sets columns of both rows.
    pub(super) fn edit(&mut self, columns: &str) {
        diesel::sql_query(format!("UPDATE sessions SET {columns}")).execute(&mut self.connection).unwrap();
    }

    pub(super) fn row(&mut self) -> String {
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

/// Runs a statement on a session that looks over. It must mark it, in case a clock was ahead, and not count it.
#[track_caller]
fn marked_uncounted(edit: &str, statement: impl FnOnce(&mut Table) -> bool) {
    let mut table = Table::new();
    table.edit(edit);
    assert!(!statement(&mut table), "counts it");
    let [ended, other] = [table.id, table.bystander].map(|id| find(&mut table.connection, id).unwrap().unwrap());
    assert_eq!((ended.expiry.revoked_at, other.expiry.revoked_at), (Some(NOW), None));
}

const REVOKED: &str = "revoked_at = 1, revoked_reason = 'test'";
const CONFIRMED: &str = "confirmed_at = 1";

/// By itself or, where the database has that, in a statement that carries another rotation, of a session that is not
/// there.
pub(super) fn advance_from(
    together: bool,
    from: ChainPosition,
    presented: TokenDigest,
) -> impl FnOnce(&mut Table) -> bool {
    move |table| {
        let rotation = Rotation { id: table.id, from, presented, next: next(), remember: true };
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
        unchanged("", advance_from(position(4, 1), CURRENT));
        unchanged("", advance_from(position(6, 1), CURRENT));
        unchanged("", advance_from(position(5, 0), CURRENT));
        unchanged("", advance_from(position(5, 2), CURRENT));
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
    // On SQLite there are no row locks.
    if matches!(holder, AnyConnection::Sqlite(_)) {
        return;
    }
    let mut ids = [table.id, table.bystander];
    ids.sort_by_key(|id| *id.as_bytes());
    let hold = |holder: &mut AnyConnection, id: SessionId, how: &str| {
        let row = diesel::sql_query(format!("SELECT 1 FROM sessions WHERE id = $1 FOR UPDATE {how}"));
        row.bind::<diesel::sql_types::Binary, _>(id).execute(holder).unwrap();
    };
    let [low, high] = ids.map(|id| Rotation { id, from: HERE, presented: CURRENT, next: next(), remember: true });
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
        assert_eq!(
            (row.chain.position, row.chain.token_hash, row.chain.previous_hash),
            (position(6, 0), NEXT, Some(CURRENT))
        );
        assert_eq!((row.chain.salt, row.chain.key_id.as_str(), row.chain.confirmed_at), ([9; 16], "next", None));
        assert_eq!((row.chain.rotated_at, row.chain.branched_at), (NOW, NOW));
        assert_eq!(
            (row.expiry.access_expires_at, row.expiry.idle_expires_at),
            (next().access_expires_at, next().idle_expires_at)
        );
    }
}

pub(super) fn recover_from(from: ChainPosition) -> impl FnOnce(&mut Table) -> bool {
    move |table| {
        let next = NextToken { position: position(5, 2), ..next() };
        recover(&mut table.connection, table.id, from, &next).unwrap()
    }
}

/// A recovery needs the place and a session that neither was confirmed nor has ended.
#[test]
fn a_recovery_needs_the_place_and_an_unconfirmed_live_session() {
    changed(recover_from(HERE));
    for elsewhere in [position(4, 1), position(6, 1), position(5, 0), position(5, 2)] {
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
    assert_eq!(
        (row.chain.position, row.chain.token_hash, row.chain.previous_hash),
        (position(5, 2), NEXT, Some(TokenDigest([0; 32])))
    );
    assert_eq!((row.chain.salt, row.chain.key_id.as_str()), ([9; 16], "next"));
    assert_eq!((row.chain.rotated_at, row.chain.branched_at), (Timestamp::from_micros(7), NOW));
    assert_eq!(row.expiry.idle_expires_at, Timestamp::from_micros(5_000_000_000_000));
}

pub(super) fn adopt_from(from: ChainPosition) -> impl FnOnce(&mut Table) -> bool {
    move |table| adopt(&mut table.connection, table.id, from, (CURRENT, "first"), &next()).unwrap()
}

#[test]
fn an_adoption_needs_the_place_and_a_session_that_has_not_ended() {
    changed(adopt_from(HERE));
    for elsewhere in [position(4, 1), position(6, 1), position(5, 0), position(5, 2)] {
        unchanged("", adopt_from(elsewhere));
    }
    unchanged(REVOKED, adopt_from(HERE));
}

#[test]
fn an_adoption_is_a_rotation_from_what_was_presented() {
    let mut table = Table::new();
    table.edit("confirmed_at = 1, rotated_at = 7, branched_at = 7, idle_expires_at = 5000000000000");
    assert!(adopt(&mut table.connection, table.id, HERE, (TokenDigest([8; 32]), "first"), &next()).unwrap());
    let row = find(&mut table.connection, table.id).unwrap().unwrap();
    assert_eq!(
        (row.chain.position, row.chain.token_hash, row.chain.previous_hash),
        (position(6, 0), NEXT, Some(TokenDigest([8; 32])))
    );
    assert_eq!((row.chain.salt, row.chain.key_id.as_str(), row.chain.confirmed_at), ([9; 16], "next", None));
    assert_eq!((row.chain.rotated_at, row.chain.branched_at), (NOW, NOW));
    assert_eq!(
        (row.expiry.access_expires_at, row.expiry.idle_expires_at),
        (next().access_expires_at, next().idle_expires_at)
    );
}

pub(super) fn revoke_from(from: ChainPosition) -> impl FnOnce(&mut Table) -> bool {
    move |table| revoke_at(&mut table.connection, table.id, from, NOW, "reused").unwrap()
}

#[test]
fn reuse_ends_only_the_session_that_was_judged_and_only_once() {
    changed(revoke_from(HERE));
    for elsewhere in [position(4, 1), position(6, 1), position(5, 0), position(5, 2)] {
        unchanged("", revoke_from(elsewhere));
    }
    unchanged(REVOKED, revoke_from(HERE));
}

pub(super) fn confirm_at(at: ChainPosition) -> impl FnOnce(&mut Table) -> bool {
    move |table| confirm(&mut table.connection, table.user, table.id, at, NOW).unwrap()
}

/// A confirmation is of the owner's current pair in a session that has not ended.
#[test]
fn a_confirmation_is_of_the_current_pair_in_a_live_session() {
    changed(confirm_at(HERE));
    for elsewhere in [position(4, 1), position(6, 1), position(5, 0), position(5, 2)] {
        unchanged("", confirm_at(elsewhere));
    }
    unchanged(REVOKED, confirm_at(HERE));
    unchanged("", |table| confirm(&mut table.connection, UserId::generate(), table.id, HERE, NOW).unwrap());
}

pub(super) fn count_at(generation: u32) -> impl FnOnce(&mut Table) -> bool {
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

/// An operator ends what a refresh that is on its way may carry on and what only looks over.
#[test]
fn an_operator_ends_what_a_refresh_on_its_way_may_carry_on() {
    let everybody = |table: &mut Table| {
        let all = opened_since(&mut table.connection, Timestamp::from_micros(0), None, 100).unwrap();
        let these: Vec<_> = all.into_iter().filter(|id| *id == table.id).collect();
        !end(&mut table.connection, &these, NOW, "all").unwrap().is_empty()
    };
    let one = |table: &mut Table| !end(&mut table.connection, &[table.id], NOW, "one").unwrap().is_empty();
    let (now, over) = (NOW.as_micros(), NOW.minus(LATE).as_micros());
    for end in [everybody, one] {
        changed(end);
        changed_from(&format!("idle_expires_at = {now}, expires_at = {now}"), end);
        marked_uncounted(&format!("idle_expires_at = {over}"), end);
        marked_uncounted(&format!("expires_at = {over}"), end);
        unchanged(REVOKED, end);
    }
}

#[test]
fn ending_a_users_sessions_ends_each_once_and_leaves_those_of_others() {
    let all = |table: &mut Table| {
        let order = EndOrder::all(table.user, "all");
        !begin_end(&mut table.connection, &order, NOW).unwrap().ended.is_empty()
    };
    let one = |table: &mut Table| end_one(&mut table.connection, table.user, table.id, NOW, "one").unwrap().is_some();
    // A refresh that came a little earlier may be on its way still.
    let (now, over) = (NOW.as_micros(), NOW.minus(LATE).as_micros());
    let ends: [&dyn Fn(&mut Table) -> bool; 2] = [&all, &one];
    for end in ends {
        changed(end);
        unchanged(REVOKED, end);
        changed_from(&format!("idle_expires_at = {now}, expires_at = {now}"), end);
        marked_uncounted(&format!("idle_expires_at = {over}"), end);
        marked_uncounted(&format!("expires_at = {over}"), end);
    }
    unchanged("", |table| {
        end_one(&mut table.connection, table.user, SessionId::generate(), NOW, "one").unwrap().is_some()
    });
    unchanged("", |table| end_one(&mut table.connection, UserId::generate(), table.id, NOW, "one").unwrap().is_some());
    unchanged("", |table| {
        let others = EndOrder { kept: Some(table.id), ..EndOrder::all(table.user, "others") };
        !begin_end(&mut table.connection, &others, NOW).unwrap().ended.is_empty()
    });
}

#[test]
fn a_rotation_is_of_a_session_that_is_to_be_remembered_or_not_as_it_says() {
    for (row, says, rotates) in [(true, true, true), (false, false, true), (true, false, false), (false, true, false)] {
        for together in [false, true] {
            let mut table = Table::new();
            table.edit(&format!("remember = {row}"));
            let rotation = Rotation { id: table.id, from: HERE, presented: CURRENT, next: next(), remember: says };
            let handed = if together && !matches!(table.connection, AnyConnection::Sqlite(_)) {
                let elsewhere = Rotation { id: SessionId::generate(), ..rotation.clone() };
                let mut all = advance_all(&mut table.connection, &[&rotation, &elsewhere]).unwrap();
                all.pop().map(|(_, rotated_row)| rotated_row)
            } else {
                advance(&mut table.connection, &rotation).unwrap()
            };
            assert_eq!(handed.map(|rotated_row| rotated_row.remember), rotates.then_some(row), "{row} {says}");
        }
    }
}

/// They are chosen by clients, and there is a row of them for each session.
#[test]
fn names_and_user_agents_are_cut_at_the_end_of_a_character() {
    let mut table = Table::new();
    let long = "\u{1f600}".repeat(1_000);
    let device = Device { user_agent: Some(format!("x{long}")), ip_address: None };
    let new = NewSession {
        device_name: Some(format!("x{long}")),
        device: device.clone(),
        ..new_session(SessionId::generate(), table.user)
    };
    insert(&mut table.connection, &new, &Bestowed::default()).unwrap();
    let stored = |table: &mut Table, id| -> (String, String) {
        let columns = (sessions::device_name.assume_not_null(), sessions::user_agent.assume_not_null());
        sessions::table.filter(sessions::id.eq(id)).select(columns).get_result(&mut table.connection).unwrap()
    };
    let (name, agent) = stored(&mut table, new.id);
    assert_eq!((name.len(), agent.len()), (397, 509), "a whole character less");
    let moved = |next: NextToken| NextToken { device: device.clone(), ..next };
    for together in [false, true] {
        let mut table = Table::new();
        table.edit("device_name = ''");
        let rotation = Rotation { id: table.id, from: HERE, presented: CURRENT, next: moved(next()), remember: true };
        if together && !matches!(table.connection, AnyConnection::Sqlite(_)) {
            let elsewhere = Rotation { id: SessionId::generate(), ..rotation.clone() };
            advance_all(&mut table.connection, &[&rotation, &elsewhere]).unwrap();
        } else {
            advance(&mut table.connection, &rotation).unwrap();
        }
        let id = table.id;
        assert_eq!(stored(&mut table, id).1.len(), 509);
    }
    let mut table = Table::new();
    table.edit("device_name = ''");
    let id = table.id;
    assert!(
        recover(&mut table.connection, id, HERE, &moved(NextToken { position: position(5, 2), ..next() })).unwrap()
    );
    assert_eq!(stored(&mut table, id).1.len(), 509);
}
