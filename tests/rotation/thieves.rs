//! A thief has a token that is not theirs. How many refreshes of the honest client it takes until the
//! session is dead, or the thief holds nothing that works.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::world::*;

/// T1: a thief uses the current token first and the honest client's next refresh displaces them.
#[test]
fn t1_a_thief_who_uses_the_current_token_first_is_displaced() {
    let world = World::new();
    let stolen = world.somebody();
    let thief = world.rotate(&stolen.refresh);
    world.pass(mins(5));
    let honest = world.rotate(&stolen.refresh);
    assert_ne!(honest.refresh, thief.refresh);
    world.refresh(&thief.refresh).expect_refused("reused");
    assert!(log::has(&stolen.session_id, "reused", "displaced"));
    world.is_dead(&[&thief, &honest]);
}

/// T1: a thief who uses the current token and goes on is cut off by the honest client's first refresh.
#[test]
fn t1_a_thief_who_goes_on_is_cut_off_by_the_first_honest_refresh() {
    let world = World::new();
    let stolen = world.somebody();
    let thief = world.rotate(&stolen.refresh);
    world.pass(mins(2));
    let thief = world.rotate(&thief.refresh);
    world.pass(mins(5));
    world.refresh(&stolen.refresh).expect_refused("reused");
    assert!(log::has(&stolen.session_id, "reused", "older"));
    world.is_dead(&[&thief, &stolen]);
}

/// T1: a thief displaced once who never comes back leaves the honest client its session.
#[test]
fn t1_a_thief_who_never_comes_back_leaves_the_session_alone() {
    let world = World::new();
    let stolen = world.somebody();
    let _thief = world.rotate(&stolen.refresh);
    world.pass(mins(5));
    let honest = world.rotate(&stolen.refresh);
    world.goes_on(&honest);
}

/// T2: a thief uses the previous token five minutes late and the honest client's next refresh ends the session.
#[test]
fn t2_a_thief_with_the_previous_token_five_minutes_late() {
    let world = World::new();
    let stolen = world.somebody();
    let honest = world.rotate(&stolen.refresh);
    world.pass(mins(5));
    let thief = world.rotate(&stolen.refresh);
    world.pass(mins(5));
    world.refresh(&honest.refresh).expect_refused("reused");
    assert!(log::has(&stolen.session_id, "reused", "displaced"));
    world.is_dead(&[&honest, &thief]);
}

/// T3: a thief within the overlap who then refreshes first is displaced by the honest client's next refresh.
#[test]
fn t3_a_thief_within_the_overlap_who_then_refreshes_first() {
    let world = World::new();
    let stolen = world.somebody();
    let honest = world.rotate(&stolen.refresh);
    world.pass(secs(3));
    let thief = world.rotate(&stolen.refresh);
    assert_eq!(thief.refresh, honest.refresh);
    world.pass(mins(5));
    let thief = world.rotate(&thief.refresh);
    world.pass(mins(1));
    let honest = world.rotate(&honest.refresh);
    world.refresh(&thief.refresh).expect_refused("reused");
    world.is_dead(&[&thief, &honest]);
}

/// T3: a thief within the overlap who then refreshes second ends the session at the second honest refresh.
#[test]
fn t3_a_thief_within_the_overlap_who_then_refreshes_second() {
    let world = World::new();
    let stolen = world.somebody();
    let honest = world.rotate(&stolen.refresh);
    world.pass(secs(3));
    let thief = world.rotate(&stolen.refresh);
    world.pass(mins(5));
    let honest = world.rotate(&honest.refresh);
    world.pass(mins(1));
    let thief = world.rotate(&thief.refresh);
    world.pass(mins(5));
    world.refresh(&honest.refresh).expect_refused("reused");
    world.is_dead(&[&thief, &honest]);
}

/// A token that many generations old is presented, so long after the last rotation.
#[track_caller]
fn an_old_token_ends_the_session_at_once(generations: usize, since: std::time::Duration) {
    let world = World::new();
    let stolen = world.somebody();
    let mut honest = stolen.clone();
    for _ in 0..generations {
        world.pass(mins(1));
        honest = world.rotate(&honest.refresh);
    }
    world.pass(since);
    world.refresh(&stolen.refresh).expect_refused("reused");
    assert!(log::has(&stolen.session_id, "reused", "older"));
    world.is_dead(&[&honest, &stolen]);
}

/// T4: a token two generations old ends the session as soon as the overlap is over.
#[test]
fn t4_a_token_two_generations_old_past_the_overlap() {
    an_old_token_ends_the_session_at_once(2, secs(30));
}

#[test]
fn t4_a_token_two_generations_old_ends_the_session_days_later() {
    an_old_token_ends_the_session_at_once(2, days(3));
}

/// T4: a token three generations old ends the session even within the overlap.
#[test]
fn t4_a_token_three_generations_old_within_the_overlap() {
    an_old_token_ends_the_session_at_once(3, secs(1));
}

#[test]
fn t4_a_token_ten_generations_old_ends_the_session() {
    an_old_token_ends_the_session_at_once(10, mins(10));
}

/// T5: the previous token after the recovery window ends the session at once.
#[test]
fn t5_the_previous_token_after_the_recovery_window() {
    let world = World::new();
    let stolen = world.somebody();
    let honest = world.rotate(&stolen.refresh);
    world.pass(days(7) + secs(1));
    world.refresh(&stolen.refresh).expect_refused("reused");
    assert!(log::has(&stolen.session_id, "reused", "previous"));
    world.is_dead(&[&honest]);
}

/// T5: the previous token after a confirmation and the overlap ends the session at once.
#[test]
fn t5_the_previous_token_after_a_confirmation_and_the_overlap() {
    let world = World::new();
    let stolen = world.somebody();
    let honest = world.rotate(&stolen.refresh);
    world.confirm(&honest.access).expect(204);
    world.pass(secs(30));
    world.refresh(&stolen.refresh).expect_refused("reused");
    assert!(log::has(&stolen.session_id, "reused", "previous"));
    world.is_dead(&[&honest]);
}

#[test]
fn t6_no_token_of_a_revoked_session_gets_anything() {
    let world = World::new();
    let older = world.somebody();
    let previous = world.rotate(&older.refresh);
    let current = world.rotate(&previous.refresh);
    world.post("/v1/auth/logout", &json!({ "refresh_token": current.refresh })).expect(204);
    for _ in 0..2 {
        world.is_dead(&[&older, &previous, &current]);
        world.pass(mins(1));
    }
    assert_eq!(log::count(&older.session_id, "reused"), 0, "it is over already");
}

#[test]
fn t6_no_token_of_an_expired_session_gets_anything() {
    let world = World::new();
    let older = world.somebody();
    let previous = world.rotate(&older.refresh);
    world.pass(hours(1));
    let current = world.rotate(&previous.refresh);
    world.pass(days(30));
    for pair in [&older, &previous, &current] {
        world.refresh(&pair.refresh).expect_refused("expired");
        assert!(!world.works(&pair.access));
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// T7: a dump of the database holds no token and nothing that one could be made of.
#[test]
fn t7_a_dump_of_the_database_is_no_use_to_a_thief() {
    let world = World::new();
    let first = world.somebody();
    let second = world.rotate(&first.refresh);
    let dump = world.dump();
    let sha256 = |token: &str| digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec();
    assert!(contains(&dump, &sha256(&second.refresh)), "the dump is of this session");
    for pair in [&first, &second] {
        let jti = claims(&pair.refresh)["jti"].as_str().unwrap().to_owned();
        let signature = pair.refresh.rsplit('.').next().unwrap();
        let secrets = [pair.refresh.as_str(), pair.access.as_str(), jti.as_str(), signature];
        for secret in secrets {
            assert!(!contains(&dump, secret.as_bytes()));
        }
        for secret in [&jti, signature] {
            assert!(!contains(&dump, &URL_SAFE_NO_PAD.decode(secret).unwrap()));
        }
    }
    let hash = URL_SAFE_NO_PAD.encode(sha256(&second.refresh));
    world.refresh(&hash).expect_refused("malformed");
    world.goes_on(&second);
}

/// T7: with the refresh key a token forged ahead is refused and ends nothing where none is to be adopted.
#[test]
fn t7_a_token_forged_ahead_is_refused_where_none_is_adopted() {
    let world = World::with(&[("tokens.refresh_secret", SECRET_A), ("rotation.adopt_ahead", "false")]);
    let first = world.somebody();
    let honest = world.rotate(&first.refresh);
    for (generation, branch) in [(2, 0), (1, 1), (9, 0)] {
        let ahead = forged(&honest.refresh, SECRET_A, |claims| {
            claims["gen"] = json!(generation);
            claims["br"] = json!(branch);
            claims["jti"] = json!(URL_SAFE_NO_PAD.encode([7; 32]));
        });
        world.refresh(&ahead).expect_refused("revoked");
    }
    assert_eq!(log::count(&honest.session_id, "behind"), 3);
    assert!(log::has(&honest.session_id, "behind", "refused"));
    world.goes_on(&honest);
}

/// T7: with the refresh key a token forged ahead raises the alarm where such are adopted.
#[test]
fn t7_a_token_forged_ahead_raises_the_alarm_where_such_are_adopted() {
    let world = World::with(&[("tokens.refresh_secret", SECRET_A)]);
    let first = world.somebody();
    let honest = world.rotate(&first.refresh);
    let ahead = forged(&honest.refresh, SECRET_A, |claims| {
        claims["gen"] = json!(2);
        claims["jti"] = json!(URL_SAFE_NO_PAD.encode([7; 32]));
    });
    let thief = world.rotate(&ahead);
    assert_eq!(log::count(&honest.session_id, "behind"), 1);
    world.refresh(&honest.refresh).expect_error(409, "refresh_conflict");
    world.pass(secs(30));
    world.refresh(&honest.refresh).expect_refused("reused");
    world.is_dead(&[&thief, &honest]);
}

/// T7: with the refresh key a token forged for a place the session has reached is granted nothing.
#[test]
fn t7_a_token_forged_for_a_place_already_reached_gets_nothing() {
    for (generation, after) in [(0, secs(1)), (1, secs(1)), (0, mins(1)), (1, mins(1))] {
        let world = World::with(&[("tokens.refresh_secret", SECRET_A)]);
        let first = world.somebody();
        let honest = world.rotate(&first.refresh);
        world.pass(after);
        let beside = forged(&honest.refresh, SECRET_A, |claims| {
            claims["gen"] = json!(generation);
            claims["jti"] = json!(URL_SAFE_NO_PAD.encode([7; 32]));
        });
        let answer = world.refresh(&beside);
        // With the key, a token can be made to say anything, also that it is young.
        if after == secs(1) {
            answer.expect_error(409, "refresh_conflict");
            world.goes_on(&honest);
        } else {
            answer.expect_refused("reused");
            world.is_dead(&[&honest]);
        }
    }
}

/// T8: forged edited and foreign signed tokens naming a real session are malformed and end nothing.
#[test]
fn t8_forged_tokens_that_name_a_real_session_end_nothing() {
    let world = World::with(&[("tokens.refresh_secret", SECRET_A)]);
    let other_server = World::with(&[("tokens.refresh_secret", SECRET_B)]);
    let first = world.somebody();
    let honest = world.rotate(&first.refresh);
    let untouched = forged(&honest.refresh, SECRET_A, |_| {});
    // Signed with the right key it is one of ours, only not the one that was handed out.
    world.refresh(&untouched).expect_error(409, "refresh_conflict");
    let (message, signature) = honest.refresh.rsplit_once('.').unwrap();
    let parts: Vec<_> = honest.refresh.split('.').collect();
    let edited = |edit: fn(&mut serde_json::Value)| {
        let mut claims = claims(&honest.refresh);
        edit(&mut claims);
        format!("{}.{}.{signature}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    let with_header = |header: serde_json::Value, signature: &str| {
        format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()), parts[1])
    };
    let kid = &header(&honest.refresh)["kid"];
    let worthless = [
        forged(&honest.refresh, SECRET_B, |_| {}),
        forged(&honest.refresh, SECRET_B, |claims| claims["gen"] = json!(0)),
        forged(&honest.refresh, SECRET_B, |claims| claims["gen"] = json!(99)),
        edited(|claims| claims["gen"] = json!(0)),
        edited(|claims| claims["exp"] = json!(9_999_999_999_u64)),
        edited(|claims| claims["sxp"] = json!(9_999_999_999_u64)),
        with_header(json!({ "typ": "rt+jwt", "alg": "none", "kid": kid }), ""),
        with_header(json!({ "typ": "rt+jwt", "alg": "HS256", "kid": "another" }), signature),
        format!("{message}."),
        message.to_owned(),
        String::from("not a token"),
        other_server.somebody().refresh,
    ];
    for token in &worthless {
        world.refresh(token).expect_refused("malformed");
    }
    let foreign = forged(&honest.refresh, SECRET_A, |claims| {
        claims["iss"] = json!("http://elsewhere.test");
        claims["aud"] = json!("http://elsewhere.test/v1/auth/refresh");
    });
    world.refresh(&foreign).expect_refused("malformed");
    world.goes_on(&honest);
}

const BEHIND_A_PROXY: (&str, &str) = ("server.trusted_proxies", "127.0.0.1");
const HOME: &str = "192.0.2.1";
const THIEF: &str = "198.51.100.7";

#[test]
fn t9_a_thief_who_shadows_every_refresh_raises_an_event_by_the_third() {
    let world = World::with(&[BEHIND_A_PROXY]);
    let mut pair = world.somebody();
    for round in 1..=5 {
        let honest = world.refresh_from(HOME, &pair.refresh).expect(200).pair();
        world.pass(secs(3));
        let thief = world.refresh_from(THIEF, &pair.refresh).expect(200).pair();
        assert_eq!(thief.refresh, honest.refresh);
        assert_eq!(log::count(&pair.session_id, "repeat_streak"), usize::max(round, 2) - 2, "round {round}");
        world.pass(mins(10));
        pair = honest;
    }
}

/// T9: with a bound of three a shadowing thief is displaced at the fourth refresh.
#[test]
fn t9_a_shadowing_thief_is_displaced_at_the_fourth_refresh() {
    let world = World::with(&[BEHIND_A_PROXY, ("rotation.max_repeat_streak", "3")]);
    let mut pair = world.somebody();
    for _ in 0..3 {
        let honest = world.refresh_from(HOME, &pair.refresh).expect(200).pair();
        world.pass(secs(3));
        world.refresh_from(THIEF, &pair.refresh).expect(200);
        world.pass(mins(10));
        pair = honest;
    }
    let stolen = pair.clone();
    let honest = world.refresh_from(HOME, &pair.refresh).expect(200).pair();
    world.pass(secs(3));
    world.refresh_from(THIEF, &stolen.refresh).expect_error(409, "refresh_conflict");
    assert!(world.works(&honest.access));
    world.pass(mins(10));
    let honest = world.refresh_from(HOME, &honest.refresh).expect(200).pair();
    world.pass(mins(1));
    world.refresh_from(THIEF, &stolen.refresh).expect_refused("reused");
    world.is_dead(&[&honest]);
}

/// T9: a phone that changes networks in two generations running raises nothing and loses nothing.
#[test]
fn t9_a_phone_that_changes_networks_twice_loses_nothing() {
    let world = World::with(&[BEHIND_A_PROXY, ("rotation.max_repeat_streak", "2")]);
    let mut pair = world.somebody();
    for round in 0..6 {
        let lost = world.refresh_from(HOME, &pair.refresh).expect(200).pair();
        world.pass(secs(3));
        let elsewhere = if round % 3 == 2 { HOME } else { THIEF };
        let duplicate = || world.refresh_from(elsewhere, &pair.refresh).expect(200).pair();
        assert_eq!(duplicate().refresh, lost.refresh);
        assert_eq!(duplicate().refresh, lost.refresh, "one generation counts once");
        world.pass(mins(10));
        pair = lost;
    }
    assert_eq!(log::count(&pair.session_id, "repeat_streak"), 0);
}
