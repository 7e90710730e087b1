//! What a refresh leaves behind in the table: nothing.

use std::thread;

use serde_json::{Value, json};

use super::nodes::text;
use support::cluster::Cluster;
use support::process::{Connection, Home, PASSWORD, Server};

const ADA: &str = "ada@example.com";

const CLIENTS: usize = 8;
const SESSIONS_EACH: usize = 25;
const ROUNDS: usize = 15;

/// One page of the table.
const PAGE: i64 = 8_192;

/// Opens a client's sessions: their refresh tokens.
fn log_in(node: &Server) -> Vec<String> {
    let mut connection = Connection::open(node.address).unwrap();
    let body = json!({ "email": ADA, "password": PASSWORD });
    (0..SESSIONS_EACH).map(|_| text(&connection.post("/v1/auth/login", &body).unwrap().body, "refresh_token")).collect()
}

/// Refreshes each of a client's sessions in turn, again and again.
fn refresh(node: &Server, held: &mut [String]) {
    let mut connection = Connection::open(node.address).unwrap();
    for _ in 0..ROUNDS {
        for token in held.iter_mut() {
            let answer = connection.refresh(token).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            *token = text(&answer.body, "refresh_token");
        }
    }
}

pub fn a_refresh_updates_its_row_in_place_and_the_table_does_not_grow() {
    // Of its own: another test's long transaction would keep every old row where it is.
    let cluster = Cluster::start().unwrap();
    let home = Home::on_postgres(&cluster.url());
    let unbounded = [("COUNTERSIGN__SESSIONS__MAX_PER_USER", "0")];
    let mut node = home.serve(&unbounded);
    let _: Value = node.register(ADA);
    let mut clients: Vec<Vec<String>> = (0..CLIENTS).map(|_| log_in(&node)).collect();
    let mut database = home.database().connect();
    let mut sizes = Vec::new();
    for _ in 0..2 {
        thread::scope(|scope| {
            for held in &mut clients {
                scope.spawn(|| refresh(&node, held));
            }
        });
        // What has been counted is told when its connection ends.
        node.stop();
        sizes.push(database.number("SELECT pg_relation_size('sessions')"));
        node = home.serve(&unbounded);
    }
    node.stop();
    let mut counted = |column: &str| {
        database.number(&format!("SELECT {column} FROM pg_stat_user_tables WHERE relid = 'sessions'::regclass"))
    };
    let (updates, hot) = (counted("n_tup_upd"), counted("n_tup_hot_upd"));
    assert!(updates >= i64::try_from(2 * CLIENTS * SESSIONS_EACH * ROUNDS).unwrap(), "{updates}");
    assert!(hot * 100 >= updates * 99, "{hot} of {updates} were in place");
    assert!(sizes[1] <= sizes[0] + 2 * PAGE, "it grows: {sizes:?}");
}
