//! The statements about many sessions of one user: ending and displacing them.

use std::time::Duration;

use super::tests::{
    CURRENT, HERE, NOW, Table, adopt_from, advance_from, confirm_at, count_at, new_session, recover_from, revoke_from,
};
use super::*;
use crate::audit::{Event, Kind};
use crate::store::columns::Roles;

/// The session's user has more sessions than one transaction ends, of which this one is to be marked last.
fn ended_with_many(table: &mut Table, kept: Option<SessionId>) -> EndRest {
    let (user, ids) = (hex(table.user.as_bytes()), 2 * AT_ONCE);
    let many = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ids})
         INSERT INTO sessions SELECT unhex(printf('%032x', i)), unhex('{user}'), 0, 0, randomblob(32), NULL, zeroblob(16), 'k',
           0, 0, NULL, 0, {end}, {end}, NULL, NULL, '[]', 'body', 0, 0, 'device', 'agent', 'address', 0, 0, true, NULL, false, NULL FROM n",
        end = NOW.plus(Duration::from_secs(90_000)).as_micros()
    );
    diesel::sql_query(many).execute(&mut table.connection).unwrap();
    let order = EndOrder { kept, ip_address: Some("192.0.2.1".into()), ..EndOrder::all(table.user, "many") };
    begin_end(&mut table.connection, &order, NOW).unwrap().rest.expect("there are more")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing that takes a session for live takes one that has ended with many others and is not marked yet.
#[test]
fn a_session_ended_with_many_is_over_before_it_is_marked() {
    fn over(statement: impl FnOnce(&mut Table) -> bool) {
        let mut table = Table::new();
        ended_with_many(&mut table, None);
        let marked = |table: &mut Table| {
            let unmarked = sessions::table.filter(sessions::id.eq(table.id)).filter(sessions::revoked_at.is_null());
            unmarked.count().get_result::<i64>(&mut table.connection).unwrap() == 0
        };
        assert!(!marked(&mut table), "it would prove nothing");
        let before = table.row();
        assert!(!statement(&mut table), "says that it did something");
        assert_eq!(table.row(), before);
    }
    for together in [false, true] {
        over(advance_from(together, HERE, CURRENT));
    }
    over(recover_from(HERE));
    over(adopt_from(HERE));
    over(confirm_at(HERE));
    over(count_at(5));
    over(revoke_from(HERE));
    over(|table| is_live(&mut table.connection, table.id).unwrap());
    over(|table| !live_of_user(&mut table.connection, table.user, NOW).unwrap().is_empty());
    over(|table| count_live(&mut table.connection, table.user, NOW).unwrap() > 0);
    over(|table| !live_page(&mut table.connection, Some(table.user), None, NOW, 10).unwrap().is_empty());
    over(|table| {
        let row = find(&mut table.connection, table.id).unwrap().unwrap();
        row.expiry.revoked_at.is_none()
    });
}

/// The one that is kept those of others and those opened later go on when many end.
#[test]
fn when_many_end_the_kept_later_and_foreign_ones_go_on() {
    let mut table = Table::new();
    let id = table.id;
    let mut rest = Some(ended_with_many(&mut table, Some(id)));
    let later = new_session(SessionId::generate(), table.user);
    assert!(!would_have_ended(&mut table.connection, table.user, later.id).unwrap());
    assert!(would_have_ended(&mut table.connection, table.user, id).unwrap());
    insert(&mut table.connection, &later, &Bestowed::default()).unwrap();
    let live = |table: &mut Table| {
        let mut live = live_of_user(&mut table.connection, table.user, NOW).unwrap();
        live.sort_by_key(|session| *session.id.as_bytes());
        live.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(live(&mut table), [id, later.id]);
    let mut marked = usize::try_from(AT_ONCE).unwrap();
    while let Some(some) = rest.take() {
        assert_eq!(unfinished_ends(&mut table.connection, NOW, Duration::ZERO).unwrap().len(), 1);
        let progress = go_on_ending(&mut table.connection, &some, NOW).unwrap();
        assert!(i64::try_from(progress.ended.len()).unwrap() <= AT_ONCE);
        marked += progress.ended.len();
        rest = progress.rest;
    }
    assert_eq!(i64::try_from(marked).unwrap(), 2 * AT_ONCE, "each once");
    assert_eq!(unfinished_ends(&mut table.connection, NOW, Duration::ZERO).unwrap().len(), 0);
    assert_eq!(live(&mut table), [id, later.id]);
    assert!(is_live(&mut table.connection, table.bystander).unwrap());
}

/// The process that works through them may die; the next begins from the start.
#[test]
fn what_is_left_of_an_end_is_found_and_finished() {
    let mut table = Table::new();
    table.edit(
        "device_name = 'device', user_agent = 'agent', ip_address = 'address', roles = '[\"admin\"]', claims = '{}'",
    );
    ended_with_many(&mut table, None);
    // The user is deleted meanwhile.
    let order = EndOrder { erase: true, ip_address: Some("192.0.2.1".into()), ..EndOrder::all(table.user, "deleted") };
    begin_end(&mut table.connection, &order, NOW).unwrap().rest.expect("there are more");
    let unfinished = unfinished_ends(&mut table.connection, NOW, Duration::ZERO).unwrap();
    assert_eq!(unfinished.len(), 2);
    assert_eq!(unfinished_ends(&mut table.connection, NOW, Duration::from_secs(60)).unwrap().len(), 0, "too young");
    let later = NOW.minus(Duration::from_secs(3_600));
    assert_eq!(
        unfinished_ends(&mut table.connection, later, Duration::from_secs(60)).unwrap().len(),
        2,
        "a clock was ahead"
    );
    for some in unfinished {
        let mut rest = Some(some);
        while let Some(some) = rest.take() {
            rest = go_on_ending(&mut table.connection, &some, NOW).unwrap().rest;
        }
    }
    let theirs = sessions::table.filter(sessions::user_id.eq(table.user));
    let marked = theirs.filter(sessions::revoked_at.is_not_null());
    let all: i64 = theirs.count().get_result(&mut table.connection).unwrap();
    assert_eq!(all, 2 * AT_ONCE + 1);
    assert_eq!(marked.count().get_result::<i64>(&mut table.connection).unwrap(), all);
    let says_something = sessions::device_name
        .is_not_null()
        .or(sessions::user_agent.is_not_null())
        .or(sessions::ip_address.is_not_null())
        .or(sessions::claims.is_not_null())
        .or(sessions::roles.ne(Roles::default()));
    assert_eq!(theirs.filter(says_something).count().get_result::<i64>(&mut table.connection).unwrap(), 0);
    let spoken = sessions::table.filter(sessions::id.eq(table.bystander)).filter(sessions::device_name.is_not_null());
    assert_eq!(spoken.count().get_result::<i64>(&mut table.connection).unwrap(), 1, "of others all stays");
}

/// Those used least recently go, however many there are, and never the new one.
#[test]
fn sessions_beyond_the_bound_are_displaced_the_least_recently_used_first() {
    let mut table = Table::new();
    let new = table.id;
    let event = Event::new(Kind::Displaced).user(table.user);
    ended_with_many(&mut table, None);
    // As if they had been opened one after the other, and used in the other direction.
    diesel::sql_query("DELETE FROM session_ends").execute(&mut table.connection).unwrap();
    table.edit("revoked_at = NULL, revoked_reason = NULL, last_used_at = 0");
    for i in 1..=2 * AT_ONCE {
        let id = format!("{i:032x}");
        let used = format!("UPDATE sessions SET last_used_at = {} WHERE id = unhex('{id}')", 10_000 - i);
        diesel::sql_query(used).execute(&mut table.connection).unwrap();
    }
    let (user, left_out) = (table.user, [new]);
    let displaced = |table: &mut Table, most| {
        let ended = displace(&mut table.connection, &event, (user, &left_out), most, NOW).unwrap();
        let mut numbers: Vec<i64> =
            ended.iter().map(|session| i64::from_be_bytes(session.id.as_bytes()[8..].try_into().unwrap())).collect();
        numbers.sort_unstable();
        numbers
    };
    assert!(displaced(&mut table, 0).is_empty(), "no bound");
    let all = u32::try_from(2 * AT_ONCE + 1).unwrap();
    assert!(displaced(&mut table, all).is_empty());
    // Numbers grow from the most recently used on.
    assert_eq!(displaced(&mut table, all - 1), [2 * AT_ONCE]);
    assert_eq!(displaced(&mut table, all - 3), [2 * AT_ONCE - 2, 2 * AT_ONCE - 1]);
    // No more than so many at once, and each of them beyond the bound.
    let first = displaced(&mut table, 11);
    assert_eq!(i64::try_from(first.len()).unwrap(), AT_ONCE);
    assert!(first.iter().all(|number| *number > 10));
    while !displaced(&mut table, 11).is_empty() {}
    let live = live_of_user(&mut table.connection, table.user, NOW).unwrap();
    assert_eq!(live.len(), 11);
    assert!(live.iter().any(|session| session.id == new));
    let left: i64 =
        live.iter().filter(|session| session.id != new).map(|session| session.last_used_at.as_micros()).min().unwrap();
    assert_eq!(left, 10_000 - 10, "the ten used last");
    assert_eq!(displaced(&mut table, 1).len(), 10, "all but the new one");
    assert!(is_live(&mut table.connection, new).unwrap() && is_live(&mut table.connection, table.bystander).unwrap());
}
