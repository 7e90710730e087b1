//! Queries on attempts: counted before they are made, so that none slips through beside another.
//!
//! A guess counts for one account from one address (the *pair*), and for two totals: of the account and of the address.
//! The pair's row knows how much of the totals comes from it, in which windows, so that a success gives back exactly that.

use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use super::schema::attempts;
use crate::clock::Timestamp;
use crate::ids::UserId;
use crate::store::AnyConnection;
use crate::store::engine::connection::in_savepoint;
use crate::store::too_many_conflicts;

/// How often a count that lost a race looks again.
const MAX_CAS_RETRIES: usize = 8;

/// How much later than now a window may have begun, for nodes whose clocks differ.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// What is counted, as a digest.
pub type AttemptKey = [u8; 16];

/// What is counted, and up to what.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Under which key.
    pub key: AttemptKey,
    /// So often in a window.
    pub limit: i64,
    /// At which account, if there is one.
    pub user_id: Option<UserId>,
    /// From where, at an account that exists.
    pub ip_address: Option<String>,
}

/// One attempt, counted under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Under which.
    pub key: AttemptKey,
    /// The window it was counted in.
    window_ends_at: Timestamp,
    /// The attempts in that window, this one among them.
    pub count: i64,
}

/// A guess, as it was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuessCounts {
    /// For one account from one address.
    pub pair: Option<Counted>,
    /// For the account.
    pub account: Option<Counted>,
    /// For the address.
    pub address: Option<Counted>,
}

/// Where the totals of a guess are, whether it was counted there or not.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// Of the account.
    pub account: AttemptKey,
    /// Of the address, where it is known.
    pub address: Option<AttemptKey>,
}

/// Counts of an account that hold at present.
#[derive(Clone, Debug, Queryable)]
pub struct AccountCount {
    /// From where. None: from everywhere.
    pub ip_address: Option<String>,
    /// So often.
    pub count: i64,
    /// Until then.
    pub until: Timestamp,
}

/// Counts an attempt under every key, in the order given, or, if any has reached its limit, under none. A window begins with its first
/// attempt and lasts `window`. Callers name keys in one order everywhere, so that two never wait for each other.
pub fn count(
    conn: &mut AnyConnection,
    limits: &[Limit],
    now: Timestamp,
    window: Duration,
) -> QueryResult<Option<Vec<Counted>>> {
    let mut counted: Vec<Counted> = Vec::with_capacity(limits.len());
    for limit in limits {
        let Some(one) = count_one(conn, limit, now, window)? else {
            for one in &counted {
                subtract(conn, &one.key, one.window_ends_at, 1)?;
            }
            return Ok(None);
        };
        counted.push(one);
    }
    Ok(Some(counted))
}

/// Those keys that have reached their limits, with their counts and when their windows end. Counts nothing.
pub fn full(
    conn: &mut AnyConnection,
    limits: &[Limit],
    now: Timestamp,
    window: Duration,
) -> QueryResult<Vec<(AttemptKey, i64, Timestamp)>> {
    let mut all = Vec::new();
    for Limit { key, limit, .. } in limits {
        let full = attempts::table
            .filter(attempts::key.eq(key.as_slice()))
            .filter(attempts::window_ends_at.gt(now))
            .filter(attempts::window_ends_at.le(latest_end(now, window)))
            .filter(attempts::count.ge(limit))
            .select((attempts::count, attempts::window_ends_at));
        let row: Option<(i64, Timestamp)> = full.first(conn).optional()?;
        all.extend(row.map(|(count, window_ends_at)| (*key, count, window_ends_at)));
    }
    Ok(all)
}

/// When a window that goes on ends at the latest. One that ends later began while a clock was ahead, and is over: else it
/// would hold until then.
fn latest_end(now: Timestamp, window: Duration) -> Timestamp {
    now.plus(window).plus(CLOCK_SLACK)
}

fn count_one(
    conn: &mut AnyConnection,
    Limit { key, limit, user_id, ip_address }: &Limit,
    now: Timestamp,
    window: Duration,
) -> QueryResult<Option<Counted>> {
    let (ends_at, latest) = (now.plus(window), latest_end(now, window));
    for _ in 0..MAX_CAS_RETRIES {
        let here = attempts::table.filter(attempts::key.eq(key.as_slice()));
        let open = here.filter(attempts::window_ends_at.gt(now)).filter(attempts::window_ends_at.le(latest));
        let more = diesel::update(open.filter(attempts::count.lt(limit)))
            .set(attempts::count.eq(attempts::count + 1))
            .returning((attempts::count, attempts::window_ends_at));
        if let Some((count, window_ends_at)) = more.get_result(conn).optional()? {
            return Ok(Some(Counted { key: *key, window_ends_at, count }));
        }
        let first = Some(Counted { key: *key, window_ends_at: ends_at, count: 1 });
        let over = attempts::window_ends_at.le(now).or(attempts::window_ends_at.gt(latest));
        let anew = diesel::update(here.filter(over)).set((attempts::count.eq(1), attempts::window_ends_at.eq(ends_at)));
        if anew.execute(conn)? == 1 {
            return Ok(first);
        }
        // Another transaction may have begun a window meanwhile: only one that is full is a refusal.
        let full = open.filter(attempts::count.ge(limit));
        if diesel::select(diesel::dsl::exists(full)).get_result(conn)? {
            return Ok(None);
        }
        let new = (
            attempts::key.eq(key.as_slice()),
            attempts::count.eq(1),
            attempts::window_ends_at.eq(ends_at),
            attempts::user_id.eq(user_id),
            attempts::ip_address.eq(ip_address),
        );
        match in_savepoint(conn, |conn| diesel::insert_into(attempts::table).values(new).execute(conn)) {
            Ok(_) => return Ok(first),
            Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_many_conflicts())
}

/// Notes in the pair's row what a guess has just added to the totals. In the transaction that counted it.
pub fn add_shares(conn: &mut AnyConnection, guess: &GuessCounts) -> QueryResult<()> {
    let Some(pair) = guess.pair.filter(|_| guess.account.is_some() || guess.address.is_some()) else { return Ok(()) };
    let here = attempts::table.filter(attempts::key.eq(pair.key.as_slice()));
    // The row is held since it was counted in, so nothing changes between the two statements.
    let (in_account, account_ends_at, in_address, address_ends_at) = here
        .select((attempts::in_account, attempts::account_ends_at, attempts::in_address, attempts::address_ends_at))
        .first(conn)?;
    let (in_account, account_ends_at) = one_more(in_account, account_ends_at, guess.account);
    let (in_address, address_ends_at) = one_more(in_address, address_ends_at, guess.address);
    let shares = (
        attempts::in_account.eq(in_account),
        attempts::account_ends_at.eq(account_ends_at),
        attempts::in_address.eq(in_address),
        attempts::address_ends_at.eq(address_ends_at),
    );
    diesel::update(here).set(shares).execute(conn)?;
    Ok(())
}

fn one_more(share: i64, ends_at: Timestamp, counted: Option<Counted>) -> (i64, Timestamp) {
    match counted {
        None => (share, ends_at),
        Some(counted) if counted.window_ends_at == ends_at => (share.saturating_add(1), ends_at),
        Some(counted) => (1, counted.window_ends_at),
    }
}

/// Takes a guess back, as far as its windows have not ended and nothing has cleared it.
pub fn take_back(conn: &mut AnyConnection, guess: &GuessCounts) -> QueryResult<()> {
    let Some(pair) = &guess.pair else {
        for total in [&guess.account, &guess.address].into_iter().flatten() {
            subtract(conn, &total.key, total.window_ends_at, 1)?;
        }
        return Ok(());
    };
    subtract(conn, &pair.key, pair.window_ends_at, 1)?;
    // A total shrinks only by what the pair still has in it: what a success has given back is not given back twice.
    let here = attempts::table.filter(attempts::key.eq(pair.key.as_slice()));
    if let Some(total) = &guess.account {
        let in_it = here.filter(attempts::account_ends_at.eq(total.window_ends_at)).filter(attempts::in_account.gt(0));
        let less = diesel::update(in_it).set(attempts::in_account.eq(attempts::in_account - 1));
        if less.execute(conn)? == 1 {
            subtract(conn, &total.key, total.window_ends_at, 1)?;
        }
    }
    if let Some(total) = &guess.address {
        let in_it = here.filter(attempts::address_ends_at.eq(total.window_ends_at)).filter(attempts::in_address.gt(0));
        let less = diesel::update(in_it).set(attempts::in_address.eq(attempts::in_address - 1));
        if less.execute(conn)? == 1 {
            subtract(conn, &total.key, total.window_ends_at, 1)?;
        }
    }
    Ok(())
}

/// Forgets what a pair has got wrong, there and in the totals, since a guess of it was right. The guess counts nowhere.
pub fn forgive(conn: &mut AnyConnection, guess: &GuessCounts, totals: &Totals) -> QueryResult<()> {
    let Some(pair) = &guess.pair else { return take_back(conn, guess) };
    let shares: Option<(i64, Timestamp, i64, Timestamp)> =
        diesel::delete(attempts::table.filter(attempts::key.eq(pair.key.as_slice())))
            .returning((
                attempts::in_account,
                attempts::account_ends_at,
                attempts::in_address,
                attempts::address_ends_at,
            ))
            .get_result(conn)
            .optional()?;
    let Some((in_account, account_ends_at, in_address, address_ends_at)) = shares else { return Ok(()) };
    subtract(conn, &totals.account, account_ends_at, in_account)?;
    match &totals.address {
        Some(address) => subtract(conn, address, address_ends_at, in_address),
        None => Ok(()),
    }
}

/// Takes some off a count, if its window is still that.
fn subtract(conn: &mut AnyConnection, key: &AttemptKey, window_ends_at: Timestamp, less: i64) -> QueryResult<()> {
    if less > 0 {
        let same_window = attempts::table
            .filter(attempts::key.eq(key.as_slice()))
            .filter(attempts::window_ends_at.eq(window_ends_at))
            .filter(attempts::count.ge(less));
        diesel::update(same_window).set(attempts::count.eq(attempts::count - less)).execute(conn)?;
    }
    Ok(())
}

/// What is counted at an account at present: from everywhere, and from each address.
pub fn of_user(
    conn: &mut AnyConnection,
    user: UserId,
    now: Timestamp,
    window: Duration,
) -> QueryResult<Vec<AccountCount>> {
    attempts::table
        .filter(attempts::user_id.eq(user))
        .filter(attempts::window_ends_at.gt(now))
        .filter(attempts::window_ends_at.le(latest_end(now, window)))
        .order((attempts::count.desc(), attempts::key))
        .select((attempts::ip_address, attempts::count, attempts::window_ends_at))
        .load(conn)
}

/// Forgets everything that is counted at an account. Returns whether that was anything that still counts.
pub fn forget(conn: &mut AnyConnection, user: UserId, now: Timestamp) -> QueryResult<bool> {
    let theirs = attempts::table.filter(attempts::user_id.eq(user));
    let counting = theirs.filter(attempts::window_ends_at.gt(now)).filter(attempts::count.gt(0));
    let counts = diesel::select(diesel::dsl::exists(counting)).get_result(conn)?;
    // In the order in which guesses count: neither waits for the other for ever.
    diesel::delete(theirs.filter(attempts::ip_address.is_not_null())).execute(conn)?;
    diesel::delete(theirs).execute(conn)?;
    Ok(counts)
}

/// Forgets everything that is counted at an account but under this key.
pub fn forget_but(conn: &mut AnyConnection, user: UserId, key: &AttemptKey) -> QueryResult<()> {
    let theirs = attempts::table.filter(attempts::user_id.eq(user)).filter(attempts::key.ne(key.as_slice()));
    // In the order in which guesses count: neither waits for the other for ever.
    diesel::delete(theirs.filter(attempts::ip_address.is_not_null())).execute(conn)?;
    diesel::delete(theirs).execute(conn)?;
    Ok(())
}

/// Removes at most `limit` keys whose windows ended before `before`, and of which no window that goes on has anything.
/// Returns how many.
pub fn purge(conn: &mut AnyConnection, before: Timestamp, limit: i64) -> QueryResult<usize> {
    let over = attempts::table
        .filter(attempts::window_ends_at.lt(before))
        .filter(attempts::account_ends_at.lt(before))
        .filter(attempts::address_ends_at.lt(before));
    let keys: Vec<Vec<u8>> = over.select(attempts::key).limit(limit).load(conn)?;
    diesel::delete(over.filter(attempts::key.eq_any(keys))).execute(conn)
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::testing::TestDatabase;

    const WINDOW: Duration = Duration::from_secs(900);
    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn limit(key: u8, limit: i64) -> Limit {
        Limit { key: [key; 16], limit, user_id: None, ip_address: None }
    }

    fn totals(account: u8, address: u8) -> Totals {
        Totals { account: [100 + account; 16], address: Some([200 + address; 16]) }
    }

    /// A guess at an account from an address, counted for the totals or, by who is signed in, for the pair alone.
    fn guess(conn: &mut AnyConnection, account: u8, address: u8, wide: bool, now: Timestamp) -> Option<GuessCounts> {
        let mut limits = vec![limit(10 * account + address, 10), limit(100 + account, 100), limit(200 + address, 100)];
        limits.truncate(if wide { 3 } else { 1 });
        let attempt = |conn: &mut AnyConnection| {
            let Some(counted) = count(conn, &limits, now, WINDOW)? else { return Ok(None) };
            let mut counted = counted.into_iter();
            let guess = GuessCounts { pair: counted.next(), account: counted.next(), address: counted.next() };
            add_shares(conn, &guess)?;
            Ok::<_, DieselError>(Some(guess))
        };
        conn.transaction(attempt).unwrap()
    }

    fn counts(conn: &mut AnyConnection) -> BTreeMap<u8, (i64, Timestamp)> {
        let rows: Vec<(Vec<u8>, i64, Timestamp)> =
            attempts::table.select((attempts::key, attempts::count, attempts::window_ends_at)).load(conn).unwrap();
        rows.into_iter().map(|(key, count, until)| (key[0], (count, until))).collect()
    }

    fn count_of(conn: &mut AnyConnection, key: u8) -> i64 {
        counts(conn).get(&key).map_or(0, |(count, _)| *count)
    }

    /// The windows of the pair and of the totals begin at different times.
    #[test]
    fn a_success_gives_back_what_is_still_counted_and_no_more() {
        let database = TestDatabase::new();
        let conn = &mut database.connect();
        let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
        // The account's window, by another client.
        guess(conn, 1, 2, true, at(0)).unwrap();
        for _ in 0..3 {
            guess(conn, 1, 1, true, at(600)).unwrap();
        }
        assert_eq!(count_of(conn, 101), 4);
        // The account's window has ended, the pair's and the address's have not.
        guess(conn, 1, 2, true, at(901)).unwrap();
        let right = guess(conn, 1, 1, true, at(902)).unwrap();
        assert_eq!((count_of(conn, 101), count_of(conn, 201)), (2, 4));
        forgive(conn, &right, &totals(1, 1)).unwrap();
        assert_eq!((count_of(conn, 101), count_of(conn, 201), count_of(conn, 11)), (1, 0, 0));
        // The pair's window has ended, and those of the totals have not.
        guess(conn, 2, 3, true, at(1_000)).unwrap();
        for _ in 0..2 {
            guess(conn, 2, 4, true, at(1_001)).unwrap();
        }
        diesel::update(attempts::table.filter(attempts::key.eq([24_u8; 16].as_slice())))
            .set(attempts::window_ends_at.eq(at(1_002)))
            .execute(conn)
            .unwrap();
        assert_eq!(purge(conn, at(1_010), 100).unwrap(), 0, "what the totals have of it is still counted");
        let right = guess(conn, 2, 4, true, at(1_010)).unwrap();
        assert_eq!((count_of(conn, 24), count_of(conn, 102), count_of(conn, 204)), (1, 4, 3));
        forgive(conn, &right, &totals(2, 4)).unwrap();
        assert_eq!((count_of(conn, 24), count_of(conn, 102), count_of(conn, 204)), (0, 1, 0));
        let rows = counts(conn).len();
        assert_eq!((purge(conn, at(5_000), 2).unwrap(), purge(conn, at(5_000), 100).unwrap()), (2, rows - 2));
    }

    /// Who owns one account at an address must not wipe out what was got wrong at others.
    /// A window that began while the clock was a hundred days ahead would hold as long.
    #[test]
    fn a_window_that_began_in_the_future_is_over() {
        let database = TestDatabase::new();
        let conn = &mut database.connect();
        let ahead = NOW.plus(Duration::from_secs(100 * 86_400));
        let limits = [limit(1, 2)];
        let is_counted = |conn: &mut AnyConnection, now| {
            conn.transaction(|conn| count(conn, &limits, now, WINDOW)).unwrap().is_some()
        };
        assert_eq!([ahead; 3].map(|now| is_counted(conn, now)), [true, true, false]);
        assert_eq!(full(conn, &limits, ahead, WINDOW).unwrap().len(), 1);
        assert_eq!(full(conn, &limits, NOW, WINDOW).unwrap(), []);
        assert_eq!([NOW; 3].map(|now| is_counted(conn, now)), [true, true, false], "counted anew");
        // Nodes whose clocks differ a little share one window.
        assert!(!is_counted(conn, NOW.minus(CLOCK_SLACK)));
    }

    #[test]
    fn nothing_is_given_back_twice() {
        let database = TestDatabase::new();
        let conn = &mut database.connect();
        for victim in 2..8 {
            guess(conn, victim, 1, true, NOW).unwrap();
        }
        let in_flight: Vec<_> = (0..5).map(|_| guess(conn, 1, 1, true, NOW).unwrap()).collect();
        assert_eq!(count_of(conn, 201), 11);
        forgive(conn, &in_flight[0], &totals(1, 1)).unwrap();
        for late in &in_flight[1..] {
            take_back(conn, late).unwrap();
            forgive(conn, late, &totals(1, 1)).unwrap();
        }
        assert_eq!((count_of(conn, 201), count_of(conn, 101)), (6, 0));
        for victim in 2..8 {
            assert_eq!(count_of(conn, 100 + victim), 1);
        }
    }

    /// Whatever happens in whatever order: a total is the sum of what the pairs have in it.
    #[test]
    fn totals_are_the_sums_of_their_shares() {
        let database = TestDatabase::new();
        let conn = &mut database.connect();
        let (mut seed, mut now, mut in_flight) = (7_u64, NOW, Vec::new());
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..1_500 {
            let (account, address) = (1 + random(3), 1 + random(3));
            let (account, address) = (u8::try_from(account).unwrap(), u8::try_from(address).unwrap());
            match random(10) {
                0..=5 => in_flight.extend(
                    guess(conn, account, address, random(8) > 0, now).map(|guess| (guess, totals(account, address))),
                ),
                6 => now = now.plus(Duration::from_secs(random(400))),
                7 => drop(purge(conn, now, 5).unwrap()),
                _ if in_flight.is_empty() => {}
                what => {
                    let at = usize::try_from(random(u64::try_from(in_flight.len()).unwrap())).unwrap();
                    let (guess, totals) = in_flight.swap_remove(at);
                    match what {
                        8 => take_back(conn, &guess).unwrap(),
                        _ if random(3) == 0 => forgive(conn, &guess, &totals).unwrap(),
                        _ => {}
                    }
                }
            }
            let shares: Vec<(Vec<u8>, i64, Timestamp, i64, Timestamp)> = attempts::table
                .select((
                    attempts::key,
                    attempts::in_account,
                    attempts::account_ends_at,
                    attempts::in_address,
                    attempts::address_ends_at,
                ))
                .filter(attempts::key.lt([100_u8; 16].as_slice()))
                .load(conn)
                .unwrap();
            for (key, (count, until)) in counts(conn).into_iter().filter(|(key, (_, until))| *key > 100 && *until > now)
            {
                let of = |(pair, in_account, account_until, in_address, address_until): &(Vec<u8>, i64, _, i64, _)| {
                    let (share, at, until_then) = match key {
                        200.. => (*in_address, 200 + pair[0] % 10, *address_until),
                        _ => (*in_account, 100 + pair[0] / 10, *account_until),
                    };
                    if at == key && until_then == until { share } else { 0 }
                };
                assert_eq!(shares.iter().map(of).sum::<i64>(), count, "{key}");
            }
        }
    }
}
