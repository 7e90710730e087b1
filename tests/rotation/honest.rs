//! There is no thief; answers get lost, requests arrive twice, servers and clocks misbehave. At the
//! end the client holds a working pair and the session lives.

use std::sync::Barrier;
use std::time::Duration;

use crate::world::*;
use support::harness::{Pair, TestApp};

/// Two identical refreshes a fifth of a second apart, and both answers.
fn twice(world: &World) -> (Pair, Pair) {
    let first = world.somebody();
    let one = world.rotate(&first.refresh);
    world.pass(Duration::from_millis(200));
    let other = world.rotate(&first.refresh);
    assert_eq!(one.refresh, other.refresh, "the same bytes");
    assert!(world.works(&one.access) && world.works(&other.access));
    (one, other)
}

#[test]
fn h1_of_two_identical_refreshes_the_client_keeps_the_first_answer() {
    let world = World::new();
    let (first_answer, _) = twice(&world);
    world.goes_on(&first_answer);
}

#[test]
fn h1_of_two_identical_refreshes_the_client_keeps_the_second_answer() {
    let world = World::new();
    let (_, second_answer) = twice(&world);
    world.goes_on(&second_answer);
}

#[test]
fn h2_the_answer_is_lost_and_the_client_retries_after_two_seconds() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.pass(secs(2));
    let again = world.rotate(&first.refresh);
    assert_eq!(again.refresh, lost.refresh);
    world.goes_on(&again);
}

#[track_caller]
fn survives_a_loss_for(delay: Duration) {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.pass(delay);
    let recovered = world.rotate(&first.refresh);
    assert_ne!(recovered.refresh, lost.refresh, "a different successor");
    assert_eq!((generation(&recovered.refresh), branch(&recovered.refresh)), (1, 1));
    let newest = world.goes_on(&recovered);
    assert_eq!(log::count(&newest.session_id, "recovered"), 1);
}

#[test]
fn h3_the_answer_is_lost_and_the_client_retries_after_90_seconds() {
    survives_a_loss_for(secs(90));
}

#[test]
fn h3_the_answer_is_lost_and_the_client_retries_after_92_minutes() {
    survives_a_loss_for(mins(92));
}

#[test]
fn h3_the_answer_is_lost_and_the_client_retries_after_20_hours() {
    survives_a_loss_for(hours(20));
}

#[test]
fn h3_the_answer_is_lost_and_the_client_retries_after_6_days() {
    survives_a_loss_for(days(6));
}

#[test]
fn h3_sixteen_answers_of_one_generation_are_lost() {
    let world = World::new();
    let first = world.somebody();
    for delay in [secs(90), mins(92), hours(20), secs(31)].into_iter().cycle().take(16) {
        let _lost = world.rotate(&first.refresh);
        world.pass(delay);
    }
    let kept = world.rotate(&first.refresh);
    assert_eq!((generation(&kept.refresh), branch(&kept.refresh)), (1, 16));
    world.goes_on(&kept);
}

/// H15: five answers are lost in a row and each retry comes a minute after the last.
#[test]
fn h15_five_answers_are_lost_in_a_row_with_retries_a_minute_apart() {
    let world = World::new();
    let first = world.somebody();
    for _ in 0..5 {
        let _lost = world.rotate(&first.refresh);
        world.pass(mins(1));
    }
    let kept = world.rotate(&first.refresh);
    assert_eq!((generation(&kept.refresh), branch(&kept.refresh)), (1, 5));
    world.goes_on(&kept);
}

#[test]
fn h3_a_seventeenth_loss_in_one_generation_is_refused() {
    let world = World::new();
    let first = world.somebody();
    let mut lost = first.clone();
    for _ in 0..17 {
        lost = world.rotate(&first.refresh);
        world.pass(secs(90));
    }
    world.refresh(&first.refresh).expect_refused("reused");
    assert!(log::has(&first.session_id, "reused", "previous"));
    world.is_dead(&[&lost]);
}

/// H5: the first answer is in use when a duplicate arrives three seconds later.
#[test]
fn h5_the_first_answer_is_in_use_when_a_duplicate_arrives() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    assert!(world.works(&second.access));
    world.pass(secs(3));
    let duplicate = world.rotate(&first.refresh);
    assert_eq!(duplicate.refresh, second.refresh);
    world.goes_on(&second);
}

/// Fifty identical refreshes at the same moment, on those nodes in turn.
fn fifty_at_once(nodes: &[&TestApp], refresh_token: &str) -> Vec<Pair> {
    let start = Barrier::new(50);
    std::thread::scope(|scope| {
        let refreshes: Vec<_> = (0..50)
            .map(|number| {
                let (start, node) = (&start, nodes[number % nodes.len()]);
                scope.spawn(move || {
                    start.wait();
                    node.refresh(refresh_token).expect(200).pair()
                })
            })
            .collect();
        refreshes.into_iter().map(|refresh| refresh.join().unwrap()).collect()
    })
}

#[track_caller]
fn one_rotation_one_successor(world: &World, nodes: &[&TestApp], answers: &[Pair]) {
    assert_eq!(answers.len(), 50);
    for answer in answers {
        assert_eq!(answer.refresh, answers[0].refresh);
        assert!(nodes.iter().all(|node| node.works(&answer.access)));
    }
    assert_eq!((generation(&answers[0].refresh), branch(&answers[0].refresh)), (1, 0));
    let session = &answers[0].session_id;
    assert_eq!((log::count(session, "rotated"), log::count(session, "repeated")), (1, 49));
    world.goes_on(&answers[49]);
}

#[test]
fn h6_fifty_identical_refreshes_at_once_on_one_node() {
    let world = World::new();
    let first = world.somebody();
    let answers = fifty_at_once(&[&world], &first.refresh);
    one_rotation_one_successor(&world, &[&world], &answers);
}

#[test]
fn h6_fifty_identical_refreshes_at_once_on_two_nodes() {
    let world = World::new();
    let other = world.second_node(&[]);
    let first = world.somebody();
    let answers = fifty_at_once(&[&world, &other], &first.refresh);
    one_rotation_one_successor(&world, &[&world, &other], &answers);
}

/// H7: the pair was used but never stored and the client is back with the old token after ten minutes.
#[test]
fn h7_the_pair_was_used_but_never_stored() {
    let world = World::new();
    let first = world.somebody();
    let unstored = world.rotate(&first.refresh);
    assert!(world.works(&unstored.access));
    world.pass(mins(10));
    let again = world.rotate(&first.refresh);
    world.goes_on(&again);
}

/// H8: a very late duplicate from two generations back within the overlap conflicts and ends nothing.
#[test]
fn h8_a_late_duplicate_from_two_generations_back_conflicts() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.pass(secs(5));
    let third = world.rotate(&second.refresh);
    world.pass(secs(3));
    let duplicate = world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    assert_eq!(duplicate.header("Retry-After"), Some("1"));
    assert!(duplicate.json().get("refresh_token").is_none() && duplicate.json().get("access_token").is_none());
    world.goes_on(&third);
}

/// So many rotations a second apart, and then a duplicate of the first request of all.
fn rotations_and_a_duplicate(rotations: usize, late: Duration) -> (World, Pair, Pair) {
    let world = World::new();
    let first = world.sign_up("ada@example.com");
    let mut newest = first.clone();
    for _ in 0..rotations {
        world.pass(secs(1));
        newest = world.rotate(&newest.refresh);
    }
    world.pass(late);
    (world, first, newest)
}

/// H8: a late duplicate from any generation back conflicts within the overlap of its own issue.
#[test]
fn h8_a_duplicate_from_any_generation_conflicts_in_its_overlap() {
    for rotations in [2, 3, 4, 10] {
        let (world, first, newest) = rotations_and_a_duplicate(rotations, secs(1));
        let late = world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
        assert_eq!(late.header("Retry-After"), Some("1"));
        assert!(late.json().get("refresh_token").is_none() && late.json().get("access_token").is_none());
        assert_eq!(log::count(&first.session_id, "reused"), 0);
        world.goes_on(&newest);
    }
}

/// T4: a duplicate from three generations back is theft once its own issue is past the overlap.
#[test]
fn t4_a_duplicate_from_three_generations_back_past_its_overlap() {
    let (world, first, newest) = rotations_and_a_duplicate(3, secs(27));
    world.refresh(&first.refresh).expect_refused("reused");
    assert!(log::has(&first.session_id, "reused", "older"));
    world.is_dead(&[&newest]);
}

const ONLY_A: &[(&str, &str)] = &[("tokens.refresh_secret", SECRET_A)];
const ONLY_B: &[(&str, &str)] = &[("tokens.refresh_secret", SECRET_B)];
const B_AFTER_A: &[(&str, &str)] = &[("tokens.refresh_secret", SECRET_B), ("tokens.refresh_secret_previous", SECRET_A)];

#[test]
fn h9_the_refresh_key_is_replaced_between_the_rotation_and_the_retry() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    let world = world.restart(B_AFTER_A);
    world.pass(secs(2));
    let again = world.rotate(&first.refresh);
    assert_eq!(again.refresh, lost.refresh, "the same bytes, from the key of then");
    let newest = world.goes_on(&again);
    assert_ne!(header(&newest.refresh)["kid"], header(&lost.refresh)["kid"], "and the next from the key of now");
}

#[test]
fn h9_the_refresh_key_is_replaced_and_the_retry_comes_much_later() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    let world = world.restart(B_AFTER_A);
    world.pass(hours(1));
    let again = world.rotate(&first.refresh);
    assert_ne!(header(&again.refresh)["kid"], header(&lost.refresh)["kid"]);
    world.pass(secs(2));
    assert_eq!(world.rotate(&first.refresh).refresh, again.refresh, "the row names the key of the recovery");
    world.goes_on(&again);
}

/// H9: a token whose key was pruned altogether is malformed and ends nothing.
#[test]
fn h9_a_token_whose_key_was_pruned_is_malformed_and_ends_nothing() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let world = world.restart_without_keys(ONLY_B);
    world.refresh(&first.refresh).expect_refused("malformed");
    let world = world.restart(B_AFTER_A);
    let second = world.rotate(&first.refresh);
    world.goes_on(&second);
}

/// H9: where only the successor's key was pruned another successor takes its place.
#[test]
fn h9_a_successor_whose_key_was_pruned_is_replaced() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let world = world.restart(B_AFTER_A);
    let lost = world.rotate(&first.refresh);
    let world = world.restart_without_keys(ONLY_A);
    world.pass(secs(2));
    let again = world.rotate(&first.refresh);
    assert_ne!(again.refresh, lost.refresh);
    assert_eq!((generation(&again.refresh), branch(&again.refresh)), (1, 1));
    world.goes_on(&again);
}

/// H10: the database is restored from a copy taken before the last rotation.
#[test]
fn h10_the_database_is_restored_from_a_copy_before_the_rotation() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    let copy = world.back_up();
    world.pass(mins(5));
    let third = world.rotate(&second.refresh);
    let world = world.restore(&copy, &[]);
    world.pass(mins(5));
    let fourth = world.rotate(&third.refresh);
    assert_eq!(generation(&fourth.refresh), generation(&third.refresh) + 1);
    assert_eq!(log::count(&first.session_id, "behind"), 1);
    assert_eq!(world.rotate(&third.refresh).refresh, fourth.refresh, "repeated like any other rotation");
    world.goes_on(&fourth);
}

#[test]
fn h10_the_restored_copy_is_three_rotations_and_a_recovery_old() {
    let world = World::new();
    let first = world.somebody();
    let copy = world.back_up();
    let second = world.rotate(&first.refresh);
    world.pass(mins(5));
    let third = world.rotate(&second.refresh);
    world.pass(mins(5));
    let _lost = world.rotate(&third.refresh);
    world.pass(mins(5));
    let recovered = world.rotate(&third.refresh);
    assert_eq!((generation(&recovered.refresh), branch(&recovered.refresh)), (3, 1));
    let world = world.restore(&copy, &[]);
    world.goes_on(&recovered);
}

#[test]
fn h10_the_restored_copy_misses_only_a_recovery() {
    let world = World::new();
    let first = world.somebody();
    let _lost = world.rotate(&first.refresh);
    let copy = world.back_up();
    world.pass(mins(5));
    let recovered = world.rotate(&first.refresh);
    let world = world.restore(&copy, &[]);
    world.goes_on(&recovered);
}

#[test]
fn h11_the_database_is_away_during_the_refresh_and_back_later() {
    let world = World::new();
    let first = world.somebody();
    let mut other = world.database();
    other.hold_writers_up();
    let away = world.refresh(&first.refresh).expect_error(503, "unavailable");
    assert_eq!(away.header("Retry-After"), Some("1"));
    other.let_writers_go();
    let second = world.rotate(&first.refresh);
    assert_eq!((generation(&second.refresh), branch(&second.refresh)), (1, 0), "nothing was written before");
    world.goes_on(&second);
}

/// H11: many refreshes while the database is away are all told to come back.
#[test]
fn h11_refreshes_while_the_database_is_away_are_told_to_come_back() {
    let world = World::new();
    let first = world.somebody();
    let mut other = world.database();
    other.hold_writers_up();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| world.refresh(&first.refresh).expect_error(503, "unavailable"));
        }
    });
    other.let_writers_go();
    let second = world.rotate(&first.refresh);
    world.goes_on(&second);
}

#[test]
fn h12_the_servers_clock_steps_back_a_minute_between_two_refreshes() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.step_back(mins(1));
    let third = world.rotate(&second.refresh);
    world.goes_on(&third);
}

/// H12: the server's clock steps back a minute between a lost answer and the retry.
#[test]
fn h12_the_clock_steps_back_a_minute_before_the_retry() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.step_back(mins(1));
    let again = world.rotate(&first.refresh);
    assert_eq!(again.refresh, lost.refresh);
    let (access, now) = (claims(&again.access), world.clock.now().as_seconds());
    let (issued, expires) = (access["iat"].as_i64().unwrap(), access["exp"].as_i64().unwrap());
    assert!(issued <= now, "issued {} s from now", issued - now);
    assert!(expires - issued <= 15 * 60, "lives for {} s", expires - issued);
    world.goes_on(&again);
}

/// H12: the server's clock steps back between a rotation and a duplicate from two generations back.
#[test]
fn h12_the_clock_steps_back_before_a_duplicate_from_two_back() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    let third = world.rotate(&second.refresh);
    world.step_back(mins(1));
    world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    world.pass(mins(1));
    world.goes_on(&third);
}

/// H12: an app whose clock is an hour off is told durations and needs no clock.
#[test]
fn h12_an_app_whose_clock_is_an_hour_off_needs_no_clock() {
    let world = World::new();
    let first = world.somebody();
    let answer = world.refresh(&first.refresh).expect(200);
    assert_eq!(answer.json()["expires_in"], 15 * 60);
    assert_eq!(answer.json()["refresh_expires_in"], 30 * 24 * 3600);
    world.goes_on(&answer.pair());
}

/// The clock was hours ahead when the answer was given that was lost; now it is right again.
#[test]
fn h12_the_clock_was_ahead_during_a_rotation_with_a_lost_answer() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.step_back(hours(2));
    let again = world.rotate(&first.refresh);
    assert_ne!(again.refresh, lost.refresh, "the overlap does not stay open until the clock is there again");
    assert_eq!((generation(&again.refresh), branch(&again.refresh)), (1, 1));
    let newest = world.goes_on(&again);
    assert_eq!(log::count(&newest.session_id, "recovered"), 1);
}

/// It cannot be told that a duplicate is late, so nothing is revoked for it.
#[test]
fn h12_the_clock_was_ahead_during_a_rotation_then_a_duplicate() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.step_back(hours(2));
    let third = world.rotate(&second.refresh);
    world.pass(secs(1));
    world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    world.goes_on(&third);
}

/// H12: the server's clock was ahead during a rotation that was confirmed and a duplicate arrives.
#[test]
fn h12_the_clock_was_ahead_during_a_confirmed_rotation() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.confirm(&second.access).expect(204);
    world.step_back(hours(2));
    world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    let third = world.rotate(&second.refresh);
    world.goes_on(&third);
}
