//! Every line of the verdict table, at its edges.

use super::*;
use crate::ids::UserId;
use crate::store::columns::Roles;
use crate::store::sessions::Transport;
use crate::store::sessions::rows::{Expiry, Origin, SessionClient, TokenChain};

const OVERLAP: Duration = Duration::from_secs(30);
const RECOVERY: Duration = Duration::from_secs(7 * 24 * 3600);
const POLICY: Policy =
    Policy { overlap: OVERLAP, recovery: RECOVERY, max_recoveries: 16, adopt_ahead: true, max_repeat_streak: 0 };
const START: Timestamp = Timestamp::from_seconds(1_000_000);

const CURRENT: TokenDigest = TokenDigest([1; 32]);
const PREVIOUS: TokenDigest = TokenDigest([2; 32]);
const OTHER: TokenDigest = TokenDigest([3; 32]);

fn at(generation: u32, branch: u32) -> ChainPosition {
    ChainPosition { generation, branch }
}

/// A session in its fifth generation, which began at `START`.
fn row() -> SessionRow {
    SessionRow {
        user_id: UserId::generate(),
        roles: Roles::default(),
        chain: TokenChain {
            position: at(5, 0),
            token_hash: CURRENT,
            previous_hash: Some(PREVIOUS),
            salt: [0; 16],
            key_id: "row".into(),
            rotated_at: START,
            branched_at: START,
            confirmed_at: None,
        },
        expiry: Expiry {
            access_expires_at: START.plus(Duration::from_secs(900)),
            idle_expires_at: START.plus(Duration::from_secs(30 * 24 * 3600)),
            expires_at: START.plus(Duration::from_secs(90 * 24 * 3600)),
            revoked_at: None,
            remember: true,
        },
        client: SessionClient {
            transport: Transport::Body,
            ip_address: Some("192.0.2.1".into()),
            repeat_streak: 0,
            streak_generation: 0,
        },
        origin: Origin { mfa: false, created_at: START, claims: None },
    }
}

/// The same, but for something.
fn row_with(change: impl FnOnce(&mut SessionRow)) -> SessionRow {
    let mut row = row();
    change(&mut row);
    row
}

fn claim(position: ChainPosition, digest: TokenDigest) -> Claim<'static> {
    Claim {
        position,
        digest,
        expired: false,
        active_key: true,
        kid: "active",
        // Long ago.
        issued_at: START.minus(Duration::from_secs(3600)),
        ip_address: Some("192.0.2.1"),
    }
}

fn previous() -> Claim<'static> {
    claim(at(4, 0), PREVIOUS)
}

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

const MICROSECOND: Duration = Duration::from_micros(1);

#[test]
fn no_row_an_ended_row_and_an_expired_row_refuse_whatever_is_presented() {
    let ended = row_with(|row| row.expiry.revoked_at = Some(START));
    let idle = row_with(|row| row.expiry.idle_expires_at = after(10));
    let over = row_with(|row| row.expiry.expires_at = after(10));
    for claim in [previous(), claim(at(5, 0), CURRENT), claim(at(2, 0), OTHER), claim(at(9, 0), OTHER)] {
        assert_eq!(judge(None, &claim, START, &POLICY), Verdict::Refuse(Refusal::Revoked));
        assert_eq!(judge(Some(&ended), &claim, after(10), &POLICY), Verdict::Refuse(Refusal::Revoked));
        assert_eq!(judge(Some(&idle), &claim, after(10), &POLICY), Verdict::Refuse(Refusal::Expired));
        assert_eq!(judge(Some(&over), &claim, after(10), &POLICY), Verdict::Refuse(Refusal::Expired));
    }
}

/// The previous token repeats until the overlap ends and recovers from then on.
#[test]
fn the_previous_token_repeats_then_recovers_after_the_overlap() {
    let repeat = Verdict::Repeat { streak: None };
    assert_eq!(judge(Some(&row()), &previous(), after(0), &POLICY), repeat);
    assert_eq!(judge(Some(&row()), &previous(), after(30).minus(MICROSECOND), &POLICY), repeat);
    assert_eq!(judge(Some(&row()), &previous(), after(30), &POLICY), Verdict::Recover);
    assert_eq!(judge(Some(&row()), &previous(), START.plus(RECOVERY), &POLICY), Verdict::Recover);
    let too_late = START.plus(RECOVERY).plus(MICROSECOND);
    assert_eq!(judge(Some(&row()), &previous(), too_late, &POLICY), Verdict::Reused(Reuse::Previous));
}

#[test]
fn a_clock_that_stepped_back_repeats() {
    assert_eq!(
        judge(Some(&row()), &previous(), START.minus(Duration::from_secs(60)), &POLICY),
        Verdict::Repeat { streak: None }
    );
}

/// A recovered branch repeats from its own start and counts recovery from the rotation.
#[test]
fn a_recovered_branch_counts_recovery_from_the_rotation() {
    let branched = row_with(|row| {
        row.chain.position = at(5, 1);
        row.chain.branched_at = after(600);
    });
    assert_eq!(judge(Some(&branched), &previous(), after(629), &POLICY), Verdict::Repeat { streak: None });
    assert_eq!(judge(Some(&branched), &previous(), after(630), &POLICY), Verdict::Recover);
    let too_late = START.plus(RECOVERY).plus(MICROSECOND);
    assert_eq!(judge(Some(&branched), &previous(), too_late, &POLICY), Verdict::Reused(Reuse::Previous));
}

#[test]
fn one_generation_recovers_sixteen_times() {
    for (branch, verdict) in [(15, Verdict::Recover), (16, Verdict::Reused(Reuse::Previous))] {
        let branched = row_with(|row| row.chain.position = at(5, branch));
        assert_eq!(judge(Some(&branched), &previous(), after(60), &POLICY), verdict);
    }
}

/// After a confirmation the previous token conflicts and then gives a thief away.
#[test]
fn after_a_confirmation_the_previous_token_gives_a_thief_away() {
    let confirmed = row_with(|row| row.chain.confirmed_at = Some(after(1)));
    assert_eq!(judge(Some(&confirmed), &previous(), after(29), &POLICY), Verdict::Conflict);
    assert_eq!(judge(Some(&confirmed), &previous(), after(30), &POLICY), Verdict::Reused(Reuse::Previous));
}

#[test]
fn a_displaced_branch_is_reuse_at_any_time() {
    let branched = row_with(|row| {
        row.chain.position = at(5, 2);
        row.chain.branched_at = after(60);
    });
    for branch in [0, 1] {
        let displaced = claim(at(5, branch), OTHER);
        assert_eq!(judge(Some(&branched), &displaced, after(61), &POLICY), Verdict::Reused(Reuse::Displaced));
    }
}

/// Two generations back conflicts within the overlap and anything older is reuse.
#[test]
fn two_generations_back_conflicts_within_the_overlap() {
    assert_eq!(judge(Some(&row()), &claim(at(3, 0), OTHER), after(29), &POLICY), Verdict::Conflict);
    assert_eq!(judge(Some(&row()), &claim(at(3, 0), OTHER), after(30), &POLICY), Verdict::Reused(Reuse::Older));
    assert_eq!(judge(Some(&row()), &claim(at(2, 0), OTHER), after(1), &POLICY), Verdict::Reused(Reuse::Older));
    // A branch of the last generation that a recovery displaced before the rotation.
    assert_eq!(judge(Some(&row()), &claim(at(4, 0), OTHER), after(1), &POLICY), Verdict::Reused(Reuse::Older));
}

/// Three rotations in a few seconds, and a duplicate of the first request at the end.
#[test]
fn an_older_token_issued_within_the_overlap_conflicts() {
    let older = [at(3, 0), at(2, 0), at(0, 0), at(4, 0), at(4, 1), at(2, 7)];
    // Seconds from the token's issue to its presentation, at a moment long after the last rotation, and the verdict.
    let (conflict, reused) = (Verdict::Conflict, Verdict::Reused(Reuse::Older));
    let cases = [(0, conflict), (1, conflict), (29, conflict), (30, reused), (31, reused), (3600, reused)];
    let ahead = [(1, conflict), (60, conflict), (61, reused), (3600, reused)];
    let now = after(600);
    for position in older {
        let judged = |issued_at| judge(Some(&row()), &Claim { issued_at, ..claim(position, OTHER) }, now, &POLICY);
        for (age, verdict) in cases {
            assert_eq!(judged(now.minus(Duration::from_secs(age))), verdict, "{position} of {age} s ago");
        }
        for (age, verdict) in ahead {
            assert_eq!(judged(now.plus(Duration::from_secs(age))), verdict, "{position} of {age} s to come");
        }
        let off = Policy { overlap: Duration::ZERO, ..POLICY };
        assert_eq!(judge(Some(&row()), &Claim { issued_at: now, ..claim(position, OTHER) }, now, &off), reused);
    }
    // What a recovery has displaced is evidence at any time, and so is a second token for a place.
    let branched = row_with(|row| row.chain.position = at(5, 2));
    for (position, reuse) in [(at(5, 0), Reuse::Displaced), (at(5, 1), Reuse::Displaced), (at(5, 2), Reuse::Forked)] {
        let young = Claim { issued_at: now, ..claim(position, OTHER) };
        assert_eq!(judge(Some(&branched), &young, now, &POLICY), Verdict::Reused(reuse), "{position}");
    }
    let young = Claim { issued_at: now, ..previous() };
    let confirmed = row_with(|row| row.chain.confirmed_at = Some(START));
    assert_eq!(judge(Some(&confirmed), &young, now, &POLICY), Verdict::Reused(Reuse::Previous));
}

/// A moment that is still to come does not tell how long ago something was.
#[test]
fn after_a_clock_that_was_ahead_there_is_no_overlap_and_no_theft() {
    let confirmed = || row_with(|row| row.chain.confirmed_at = Some(START));
    let branch = |branch| row_with(|row| row.chain.position = at(5, branch));
    let no_recovery = Policy { recovery: Duration::ZERO, ..POLICY };
    let (repeat, reused) = (Verdict::Repeat { streak: None }, |reuse| Verdict::Reused(reuse));
    // The row, the token, the policy; and the verdict while the clock of then was at most a minute ahead, while it was
    // further ahead, and when the overlap is over by its own measure.
    let cases = [
        (row(), previous(), POLICY, [repeat, Verdict::Recover, Verdict::Recover]),
        (branch(15), previous(), POLICY, [repeat, Verdict::Recover, Verdict::Recover]),
        (branch(16), previous(), POLICY, [repeat, Verdict::Conflict, reused(Reuse::Previous)]),
        (row(), previous(), no_recovery, [repeat, Verdict::Conflict, reused(Reuse::Previous)]),
        (confirmed(), previous(), POLICY, [Verdict::Conflict, Verdict::Conflict, reused(Reuse::Previous)]),
        (row(), claim(at(3, 0), OTHER), POLICY, [Verdict::Conflict, Verdict::Conflict, reused(Reuse::Older)]),
        (row(), claim(at(5, 0), OTHER), POLICY, [Verdict::Conflict, Verdict::Conflict, reused(Reuse::Forked)]),
        (row(), claim(at(5, 0), CURRENT), POLICY, [Verdict::Current; 3]),
        (branch(1), claim(at(5, 0), OTHER), POLICY, [reused(Reuse::Displaced); 3]),
        (row(), claim(at(2, 0), OTHER), POLICY, [reused(Reuse::Older); 3]),
    ];
    let before = |time| START.minus(time);
    let minute = Duration::from_secs(60);
    for (number, (row, claim, policy, [near, far, past])) in cases.into_iter().enumerate() {
        let claim = Claim { issued_at: before(2 * 24 * 3600 * Duration::from_secs(1)), ..claim };
        for (now, verdict) in [
            (before(minute), near),
            (before(minute).minus(MICROSECOND), far),
            (before(3600 * Duration::from_secs(1)), far),
            (START, near),
            (after(30), past),
        ] {
            assert_eq!(judge(Some(&row), &claim, now, &policy), verdict, "case {number} at {now:?}");
        }
    }
}

#[test]
fn a_second_token_for_the_current_place_conflicts_and_later_is_a_fork() {
    assert_eq!(judge(Some(&row()), &claim(at(5, 0), OTHER), after(29), &POLICY), Verdict::Conflict);
    assert_eq!(judge(Some(&row()), &claim(at(5, 0), OTHER), after(30), &POLICY), Verdict::Reused(Reuse::Forked));
    assert_eq!(judge(Some(&row()), &claim(at(5, 0), CURRENT), after(30), &POLICY), Verdict::Current);
}

/// A token ahead of the row is adopted only with a trusted key and leave to do so.
#[test]
fn a_token_ahead_of_the_row_is_adopted_only_with_key_and_leave() {
    for position in [at(6, 0), at(5, 1)] {
        let ahead = claim(position, OTHER);
        assert_eq!(judge(Some(&row()), &ahead, after(1), &POLICY), Verdict::Adopt);
        let by_row_key = Claim { active_key: false, kid: "row", ..ahead };
        assert_eq!(judge(Some(&row()), &by_row_key, after(1), &POLICY), Verdict::Adopt);
        let by_old_key = Claim { active_key: false, kid: "old", ..ahead };
        assert_eq!(judge(Some(&row()), &by_old_key, after(1), &POLICY), Verdict::Refuse(Refusal::Ahead));
        let wary = Policy { adopt_ahead: false, ..POLICY };
        assert_eq!(judge(Some(&row()), &ahead, after(1), &wary), Verdict::Refuse(Refusal::Ahead));
    }
}

#[test]
fn overlap_and_recovery_can_be_switched_off() {
    let strict = Policy { overlap: Duration::ZERO, recovery: Duration::ZERO, ..POLICY };
    assert_eq!(judge(Some(&row()), &previous(), START, &strict), Verdict::Reused(Reuse::Previous));
    let no_overlap = Policy { overlap: Duration::ZERO, ..POLICY };
    assert_eq!(judge(Some(&row()), &previous(), START, &no_overlap), Verdict::Recover);
}

/// A streak counts generations running that were answered to a second address.
#[test]
fn a_streak_counts_generations_answered_to_a_second_address() {
    let elsewhere = Claim { ip_address: Some("198.51.100.7"), ..previous() };
    let streak = |repeat_streak, streak_generation| {
        row_with(|row| {
            row.client.repeat_streak = repeat_streak;
            row.client.streak_generation = streak_generation;
        })
    };
    let judged = |row: SessionRow| judge(Some(&row), &elsewhere, after(1), &POLICY);
    assert_eq!(judged(streak(2, 4)), Verdict::Repeat { streak: Some(3) });
    assert_eq!(judged(streak(2, 3)), Verdict::Repeat { streak: Some(1) }, "a generation without one ends the streak");
    assert_eq!(judged(streak(2, 5)), Verdict::Repeat { streak: None }, "a generation counts once");
    assert_eq!(judge(Some(&streak(2, 4)), &previous(), after(1), &POLICY), Verdict::Repeat { streak: None });
}

#[test]
fn a_bounded_streak_ends_in_a_conflict() {
    let bounded = Policy { max_repeat_streak: 3, ..POLICY };
    let elsewhere = Claim { ip_address: Some("198.51.100.7"), ..previous() };
    let streak = |repeat_streak| {
        row_with(|row| {
            row.client.repeat_streak = repeat_streak;
            row.client.streak_generation = 4;
        })
    };
    assert_eq!(judge(Some(&streak(2)), &elsewhere, after(1), &bounded), Verdict::Repeat { streak: Some(3) });
    assert_eq!(judge(Some(&streak(3)), &elsewhere, after(1), &bounded), Verdict::Conflict);
    assert_eq!(judge(Some(&streak(3)), &previous(), after(1), &bounded), Verdict::Repeat { streak: None });
}

/// An answer that cannot be derived any more recovers or conflicts but never revokes.
#[test]
fn an_answer_that_cannot_be_derived_any_more_never_revokes() {
    assert_eq!(unrepeatable(&row(), after(1), &POLICY), Verdict::Recover);
    let spent = row_with(|row| row.chain.position = at(5, 16));
    assert_eq!(unrepeatable(&spent, after(1), &POLICY), Verdict::Conflict);
    let off = Policy { recovery: Duration::ZERO, ..POLICY };
    assert_eq!(unrepeatable(&row(), after(1), &off), Verdict::Conflict);
}

/// Past its own end a token fetches a lost answer and is evidence of nothing.
#[test]
fn past_its_own_end_a_token_fetches_a_lost_answer_only() {
    let judged = |claim: Claim<'static>, now| judge(Some(&row()), &Claim { expired: true, ..claim }, now, &POLICY);
    assert_eq!(judged(previous(), after(1)), Verdict::Repeat { streak: None });
    assert_eq!(judged(previous(), after(60)), Verdict::Recover);
    assert_eq!(judged(claim(at(3, 0), OTHER), after(1)), Verdict::Conflict);
    let expired = Verdict::Refuse(Refusal::Expired);
    assert_eq!(judged(previous(), START.plus(RECOVERY).plus(MICROSECOND)), expired);
    for (position, digest) in [(at(2, 0), OTHER), (at(5, 0), CURRENT), (at(6, 0), OTHER)] {
        assert_eq!(judged(claim(position, digest), after(60)), expired);
    }
}
