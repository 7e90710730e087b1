//! What the rules say beside the scenarios: confirmations, ends, edges, and what never matters.

use serde_json::json;

use crate::world::*;
use support::harness::PASSWORD;

#[test]
fn a_repeated_answer_ends_when_the_first_one_ends() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.pass(secs(20));
    let again = world.refresh(&first.refresh).expect(200);
    assert_eq!(again.json()["expires_in"], 15 * 60 - 20);
    assert_eq!(again.json()["refresh_expires_in"], 30 * 24 * 3600 - 20, "a repeat does not put the end off");
    let (one, other) = (claims(&lost.access), claims(&again.pair().access));
    assert_eq!((&one["iat"], &one["exp"]), (&other["iat"], &other["exp"]));
    assert_ne!(one["jti"], other["jti"]);
}

/// A repeated access token ends with the first one although new ones live longer by now.
#[test]
fn a_repeated_access_token_ends_with_the_first_one() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    let world = world.restart(&[("tokens.access_ttl", "1h")]);
    world.pass(secs(2));
    let again = world.refresh(&first.refresh).expect(200);
    assert_eq!(again.json()["expires_in"], 15 * 60 - 2);
    assert_eq!(claims(&again.pair().access)["exp"], claims(&lost.access)["exp"]);
}

/// A repeat that would give a token the row does not know gives another successor instead.
#[test]
fn a_repeat_gives_only_successors_that_the_row_knows() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.database().execute("UPDATE sessions SET salt = zeroblob(16)");
    let again = world.rotate(&first.refresh);
    assert_ne!(again.refresh, lost.refresh);
    assert_eq!((generation(&again.refresh), branch(&again.refresh)), (1, 1));
    world.goes_on(&again);
}

#[test]
fn the_overlap_is_over_at_its_very_end() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.pass(secs(30) - std::time::Duration::from_micros(1));
    assert_eq!(world.rotate(&first.refresh).refresh, second.refresh);
    world.pass(std::time::Duration::from_micros(1));
    assert_ne!(world.rotate(&first.refresh).refresh, second.refresh);
}

#[test]
fn a_recovery_is_repeated_like_a_rotation_and_does_not_put_the_end_off() {
    let world = World::new();
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.pass(hours(20));
    let recovered = world.refresh(&first.refresh).expect(200);
    assert_eq!(recovered.json()["expires_in"], 15 * 60);
    assert_eq!(recovered.json()["refresh_expires_in"], (30 * 24 - 20) * 3600);
    let recovered = recovered.pair();
    assert_eq!(claims(&recovered.refresh)["exp"], claims(&lost.refresh)["exp"]);
    world.pass(secs(2));
    let again = world.refresh(&first.refresh).expect(200);
    assert_eq!(again.json()["expires_in"], 15 * 60 - 2);
    assert_eq!(again.pair().refresh, recovered.refresh);
    world.goes_on(&again.pair());
}

/// The recovery window is counted from the rotation and holds until its very end.
#[test]
fn the_recovery_window_is_counted_from_the_rotation() {
    let world = World::new();
    let first = world.somebody();
    let _lost = world.rotate(&first.refresh);
    world.pass(days(4));
    let _lost = world.rotate(&first.refresh);
    world.pass(days(3));
    let _lost = world.rotate(&first.refresh);
    world.pass(secs(31));
    world.refresh(&first.refresh).expect_refused("reused");
}

#[test]
fn a_displaced_successor_is_evidence_even_within_the_overlap() {
    let world = World::new();
    let first = world.somebody();
    let displaced = world.rotate(&first.refresh);
    world.pass(mins(1));
    let recovered = world.rotate(&first.refresh);
    world.pass(secs(1));
    world.refresh(&displaced.refresh).expect_refused("reused");
    assert!(log::has(&first.session_id, "reused", "displaced"));
    world.is_dead(&[&recovered, &displaced]);
}

/// After a confirmation the previous token conflicts within the overlap and ends the session after it.
#[test]
fn after_a_confirmation_the_previous_token_conflicts_then_is_reuse() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    let confirmation = world.confirm(&second.access).expect(204);
    assert_eq!(confirmation.text, "");
    world.confirm(&second.access).expect(204);
    world.pass(secs(29));
    let late = world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    assert_eq!(late.header("Retry-After"), Some("1"));
    assert!(world.works(&second.access), "nothing was revoked");
    world.pass(secs(1));
    world.refresh(&first.refresh).expect_refused("reused");
    world.is_dead(&[&second]);
}

#[test]
fn a_confirmed_pair_goes_on_like_any_other() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.confirm(&second.access).expect(204);
    world.goes_on(&second);
}

#[test]
fn a_confirmation_is_of_one_rotation_and_the_next_may_be_lost_again() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.confirm(&second.access).expect(204);
    world.pass(mins(10));
    let lost = world.rotate(&second.refresh);
    world.pass(secs(2));
    assert_eq!(world.rotate(&second.refresh).refresh, lost.refresh);
    world.pass(mins(2));
    let recovered = world.rotate(&second.refresh);
    world.goes_on(&recovered);
}

#[test]
fn confirming_an_older_pair_conflicts_and_changes_nothing() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.confirm(&first.access).expect_error(409, "refresh_conflict");
    assert_eq!(world.rotate(&first.refresh).refresh, second.refresh, "the pair is not confirmed");
    world.pass(mins(1));
    let recovered = world.rotate(&first.refresh);
    world.confirm(&second.access).expect_error(409, "refresh_conflict");
    world.pass(mins(1));
    let again = world.rotate(&first.refresh);
    assert_ne!(again.refresh, recovered.refresh, "a displaced pair confirms nothing");
    world.goes_on(&again);
}

#[test]
fn a_pair_of_a_session_that_is_over_cannot_be_confirmed() {
    let world = World::new();
    let first = world.somebody();
    world.post("/v1/auth/logout", &json!({ "refresh_token": first.refresh })).expect(204);
    world.confirm(&first.access).expect_error(401, "invalid_token");
}

/// Of two tokens for one place the unknown one conflicts and later ends the session as forked.
#[test]
fn of_two_tokens_for_one_place_the_unknown_one_is_a_fork() {
    let world = World::new();
    let first = world.somebody();
    let copy = world.back_up();
    let before = world.rotate(&first.refresh);
    let world = world.restore(&copy, &[]);
    let after = world.rotate(&first.refresh);
    assert_eq!(generation(&before.refresh), generation(&after.refresh));
    assert_ne!(before.refresh, after.refresh);
    world.refresh(&before.refresh).expect_error(409, "refresh_conflict");
    assert!(world.works(&after.access));
    world.pass(secs(30));
    world.refresh(&before.refresh).expect_refused("reused");
    assert!(log::has(&first.session_id, "reused", "forked"));
    world.is_dead(&[&after, &before]);
}

const ONLY_A: &[(&str, &str)] = &[("tokens.refresh_secret", SECRET_A)];
const C_AFTER_A: &[(&str, &str)] = &[("tokens.refresh_secret", SECRET_C), ("tokens.refresh_secret_previous", SECRET_A)];

/// A token ahead of a restored database is adopted with the row's key although another is active.
#[test]
fn a_token_ahead_is_adopted_with_the_key_of_the_row() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let copy = world.back_up();
    let second = world.rotate(&first.refresh);
    let world = world.restore(&copy, C_AFTER_A);
    world.goes_on(&second);
}

/// A token ahead of a restored database is adopted with the active key although the row has another.
#[test]
fn a_token_ahead_is_adopted_with_the_active_key() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let copy = world.back_up();
    let world = world.restart(C_AFTER_A);
    let second = world.rotate(&first.refresh);
    let world = world.restore(&copy, C_AFTER_A);
    world.goes_on(&second);
}

/// A token that names another user than its session does is refused and nothing is revoked.
#[test]
fn a_token_that_names_another_user_than_its_session_is_refused() {
    let world = World::with(ONLY_A);
    let bob = world.visitor("bob@example.com");
    let first = world.somebody();
    let honest = world.rotate(&first.refresh);
    for generation in [0, 1, 5] {
        let of_bob = forged(&honest.refresh, SECRET_A, |token| {
            token["sub"] = claims(&bob.refresh)["sub"].clone();
            token["gen"] = json!(generation);
        });
        world.refresh(&of_bob).expect_refused("revoked");
    }
    world.goes_on(&honest);
}

/// Two generations back is counted from the rotation and not from a recovery after it.
#[test]
fn two_generations_back_is_counted_from_the_rotation() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    let _lost = world.rotate(&second.refresh);
    world.pass(mins(1));
    let recovered = world.rotate(&second.refresh);
    world.pass(secs(1));
    world.refresh(&first.refresh).expect_refused("reused");
    world.is_dead(&[&recovered]);
}

/// A token ahead of a restored database is refused with a retired key and nothing is revoked.
#[test]
fn a_token_ahead_is_refused_with_a_retired_key() {
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let copy = world.back_up();
    let world = world.restart(&[("tokens.refresh_secret", SECRET_B), ("tokens.refresh_secret_previous", SECRET_A)]);
    let second = world.rotate(&first.refresh);
    let all = format!("{SECRET_A},{SECRET_B}");
    let keys = [("tokens.refresh_secret", SECRET_C), ("tokens.refresh_secret_previous", all.as_str())];
    let world = world.restore(&copy, &keys);
    world.refresh(&second.refresh).expect_refused("revoked");
    assert!(log::has(&first.session_id, "behind", "refused"));
    let second = world.rotate(&first.refresh);
    world.goes_on(&second);
}

#[test]
fn after_a_log_out_the_newest_token_is_refused_as_revoked() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    world.post("/v1/auth/logout", &json!({ "refresh_token": second.refresh })).expect(204);
    world.is_dead(&[&first, &second]);
}

#[test]
fn a_session_unused_for_its_idle_time_has_expired() {
    let world = World::with(&[("tokens.refresh_idle_ttl", "3d")]);
    let first = world.somebody();
    world.pass(days(3) - mins(1) - secs(1));
    let second = world.rotate(&first.refresh);
    world.pass(days(3) - secs(1));
    let third = world.rotate(&second.refresh);
    world.pass(days(3));
    world.refresh(&third.refresh).expect_refused("expired");
    assert_eq!(log::count(&third.session_id, "reused"), 0);
}

#[test]
fn refreshing_every_day_does_not_put_the_end_of_a_session_off() {
    let world = World::with(&[("tokens.refresh_idle_ttl", "3d"), ("tokens.refresh_absolute_ttl", "5d")]);
    let mut pair = world.sign_up("ada@example.com");
    for (day, left) in [(1, 3), (2, 3), (3, 2), (4, 1)] {
        world.pass(days(1));
        let answer = world.refresh(&pair.refresh).expect(200);
        assert_eq!(answer.json()["refresh_expires_in"], left * 24 * 3600, "day {day}");
        assert_eq!(claims(&answer.pair().refresh)["sxp"], claims(&pair.refresh)["sxp"]);
        pair = answer.pair();
    }
    world.pass(days(1) - secs(1));
    let last = world.refresh(&pair.refresh).expect(200);
    assert_eq!(last.json()["refresh_expires_in"], 1);
    world.pass(secs(1));
    world.refresh(&last.pair().refresh).expect_refused("expired");
}

#[test]
fn every_character_of_a_token_counts() {
    let world = World::new();
    let first = world.somebody();
    let honest = world.rotate(&first.refresh);
    let token = honest.refresh.as_str();
    let replaced = |position: usize, with: char| {
        let mut edited: Vec<char> = token.chars().collect();
        edited[position] = with;
        edited.into_iter().collect::<String>()
    };
    let alphabet = || ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']);
    let (last, middle) = (token.len() - 1, token.len() / 2);
    let mut edited: Vec<String> = alphabet().map(|character| replaced(last, character)).collect();
    edited.extend(["A", "B"].iter().flat_map(|with| {
        let with = with.chars().next().unwrap();
        [replaced(0, with), replaced(middle, with), replaced(token.find('.').unwrap() + 1, with)]
    }));
    edited.extend([" ", "=", "A", ".", "\n", ".A"].map(|more| format!("{token}{more}")));
    edited.extend([format!(" {token}"), token[1..].to_owned(), token[..last].to_owned(), token.to_uppercase()]);
    let edited: Vec<String> = edited.into_iter().filter(|edited| edited != token).collect();
    assert!(edited.len() > 70);
    for token in edited {
        world.refresh(&token).expect_refused("malformed");
    }
    world.goes_on(&honest);
}

/// An access token is no refresh token and a refresh token is no access token.
#[test]
fn access_tokens_and_refresh_tokens_do_not_stand_for_each_other() {
    let world = World::new();
    let pair = world.somebody();
    world.refresh(&pair.access).expect_refused("malformed");
    world.get_as("/v1/users/me", &pair.refresh).expect_error(401, "invalid_token");
    world.confirm(&pair.refresh).expect_error(401, "invalid_token");
    world.goes_on(&pair);
}

/// Reuse ends the one session and leaves the user's others and other users alone.
#[test]
fn reuse_ends_the_one_session_and_no_other() {
    let world = World::new();
    let first = world.somebody();
    let laptop = world.log_in("ada@example.com");
    let bob = world.sign_up("bob@example.com");
    let second = world.rotate(&first.refresh);
    let third = world.rotate(&second.refresh);
    world.pass(mins(1));
    world.refresh(&first.refresh).expect_refused("reused");
    world.is_dead(&[&first, &second, &third]);
    world.goes_on(&laptop);
    world.rotate(&bob.refresh);
}

#[test]
fn access_tokens_of_a_session_that_reuse_has_ended_stop_at_once() {
    let world = World::new();
    for number in 0..10 {
        let first = world.visitor(&format!("user{number}@example.com"));
        let second = world.rotate(&first.refresh);
        let third = world.rotate(&second.refresh);
        world.pass(mins(1));
        assert!(world.works(&second.access) && world.works(&third.access));
        world.refresh(&first.refresh).expect_refused("reused");
        // While nothing can be written, a confirmation that got past the guard would be a 503.
        let mut other = world.database();
        other.hold_writers_up();
        world.confirm(&third.access).expect_error(401, "invalid_token");
        world.confirm(&second.access).expect_error(401, "invalid_token");
        other.let_writers_go();
        assert!(!world.works(&third.access) && !world.works(&second.access));
    }
}

#[test]
fn the_end_of_a_session_by_reuse_outlives_a_restart() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    let third = world.rotate(&second.refresh);
    world.pass(mins(1));
    world.refresh(&first.refresh).expect_refused("reused");
    let world = world.restart(&[]);
    world.is_dead(&[&first, &second, &third]);
}

/// A token of a session that the database does not know is refused as revoked.
#[test]
fn a_token_of_an_unknown_session_is_refused_as_revoked() {
    let world = World::new();
    let copy = world.back_up();
    let first = world.somebody();
    let world = world.restore(&copy, &[]);
    world.refresh(&first.refresh).expect_refused("revoked");
}

#[test]
fn without_overlap_and_recovery_every_token_is_good_for_one_use() {
    let world = World::with(&[("rotation.overlap", "0"), ("rotation.recovery", "0")]);
    let first = world.somebody();
    let second = world.goes_on(&first);
    let third = world.rotate(&second.refresh);
    world.refresh(&second.refresh).expect_refused("reused");
    world.is_dead(&[&second, &third]);
}

#[test]
fn without_overlap_a_retry_recovers_at_once() {
    let world = World::with(&[("rotation.overlap", "0")]);
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    let recovered = world.rotate(&first.refresh);
    assert_ne!(recovered.refresh, lost.refresh);
    world.goes_on(&recovered);
}

/// Without recovery a retry is repeated within the overlap and ends the session after it.
#[test]
fn without_recovery_a_retry_ends_the_session_after_the_overlap() {
    let world = World::with(&[("rotation.recovery", "0")]);
    let first = world.somebody();
    let lost = world.rotate(&first.refresh);
    world.pass(secs(29));
    assert_eq!(world.rotate(&first.refresh).refresh, lost.refresh);
    world.pass(secs(1));
    world.refresh(&first.refresh).expect_refused("reused");
    world.is_dead(&[&lost]);
}

/// Without recovery an answer that cannot be repeated conflicts and ends nothing.
#[test]
fn without_recovery_an_unrepeatable_answer_conflicts() {
    let keys = |active, previous| {
        [("tokens.refresh_secret", active), ("tokens.refresh_secret_previous", previous), ("rotation.recovery", "0")]
    };
    let world = World::with(ONLY_A);
    let first = world.somebody();
    let world = world.restart(&keys(SECRET_B, SECRET_A));
    let second = world.rotate(&first.refresh);
    let world = world.restart_without_keys(&keys(SECRET_A, SECRET_C));
    world.refresh(&first.refresh).expect_error(409, "refresh_conflict");
    let world = world.restart(&keys(SECRET_B, SECRET_A));
    world.goes_on(&second);
}

/// At the start, at a rotation, its repeat and a recovery.
#[test]
fn no_access_token_outlives_its_session() {
    let world = World::with(&[
        ("tokens.refresh_short_ttl", "25m"),
        ("tokens.refresh_idle_ttl", "25m"),
        ("tokens.refresh_absolute_ttl", "25m"),
    ]);
    let lives = |answer: &support::harness::Answer| {
        let said = answer.json();
        let token = claims(&answer.pair().access);
        let life = token["exp"].as_i64().unwrap() - world.clock.now().as_seconds();
        assert_eq!(said["expires_in"], life);
        assert!(said["refresh_expires_in"].as_i64().unwrap() >= life, "{said}");
        life
    };
    let first = world.sign_up("ada@example.com");
    world.pass(mins(5));
    let second = world.refresh(&first.refresh).expect(200);
    assert_eq!(lives(&second), 15 * 60);
    world.pass(mins(10));
    let recovered = world.refresh(&first.refresh).expect(200);
    assert_eq!(lives(&recovered), 10 * 60);
    world.pass(mins(5));
    let third = world.refresh(&recovered.pair().refresh).expect(200);
    assert_eq!(lives(&third), 5 * 60);
    world.pass(secs(10));
    let repeated = world.refresh(&recovered.pair().refresh).expect(200);
    assert_eq!((lives(&repeated), repeated.pair().refresh), (5 * 60 - 10, third.pair().refresh));
    world.pass(mins(5) - secs(10));
    assert!(!world.works(&third.pair().access));

    let world = World::with(&[("tokens.refresh_short_ttl", "5m"), ("tokens.refresh_idle_ttl", "5m")]);
    let answer =
        world.post("/v1/auth/register", &json!({ "email": "bob@example.com", "password": PASSWORD })).expect(201);
    assert_eq!((&answer.json()["expires_in"], &answer.json()["refresh_expires_in"]), (&json!(300), &json!(300)));
}
