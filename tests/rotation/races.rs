//! What happens at the same instant.

use std::sync::Barrier;

use crate::world::*;
use support::harness::{Pair, TestApp};

#[test]
fn of_many_recoveries_at_the_same_instant_one_wins_and_all_get_its_answer() {
    let world = World::new();
    let other = world.second_node(&[]);
    let first = world.somebody();
    let _lost = world.rotate(&first.refresh);
    world.pass(mins(5));
    let start = Barrier::new(20);
    let answers: Vec<Pair> = std::thread::scope(|scope| {
        let nodes: [&TestApp; 2] = [&world, &other];
        let retries: Vec<_> = (0..20)
            .map(|number| {
                let (start, first, node) = (&start, &first, nodes[number % 2]);
                scope.spawn(move || {
                    start.wait();
                    node.refresh(&first.refresh).expect(200).pair()
                })
            })
            .collect();
        retries.into_iter().map(|retry| retry.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer.refresh == answers[0].refresh && world.works(&answer.access)));
    assert_eq!((generation(&answers[0].refresh), branch(&answers[0].refresh)), (1, 1));
    world.goes_on(&answers[0]);
}

/// Of a thief and an owner at the same instant both get one answer and part later.
#[test]
fn a_thief_and_an_owner_at_the_same_instant_get_one_answer() {
    let world = World::new();
    let first = world.somebody();
    let (owner, thief) = std::thread::scope(|scope| {
        let thief = scope.spawn(|| world.rotate(&first.refresh));
        (world.rotate(&first.refresh), thief.join().unwrap())
    });
    assert_eq!(owner.refresh, thief.refresh);
    world.pass(mins(5));
    let owner = world.rotate(&owner.refresh);
    world.pass(mins(1));
    let thief = world.rotate(&thief.refresh);
    world.refresh(&owner.refresh).expect_refused("reused");
    world.is_dead(&[&owner, &thief]);
}
