//! `keys rotate` beside running servers: none is started again, and no client notices.

/// The keys are files beside an embedded database. Those in a database that nodes share are in `tests/postgres/keys.rs`.
mod embedded {
    use std::collections::BTreeSet;

    use support::clients::{Clients, kid};

    use super::super::*;

    /// Runs the command, which must succeed: what it printed.
    #[track_caller]
    fn keys(home: &Home, arguments: &[&str]) -> String {
        let output = home.command(arguments.iter().copied(), []).output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}{errors}");
        said.into_owned()
    }

    /// The keys of the published set.
    fn published(server: &Server) -> BTreeSet<String> {
        let answer = Connection::open(server.address).unwrap().send("GET", "/.well-known/jwks.json", &[], "").unwrap();
        let keys = answer.body["keys"].as_array().unwrap();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }

    fn states(home: &Home) -> Vec<(String, String)> {
        let listed: Vec<Value> = serde_json::from_str(&keys(home, &["keys", "list", "--json"])).unwrap();
        listed.iter().map(|key| (member(key, "use"), member(key, "state"))).collect()
    }

    #[test]
    fn the_next_key_is_published_in_every_server_and_does_not_sign_yet() {
        let home = Home::new();
        let (one, other) = (home.serve(&[]), home.serve(&[]));
        let pair = one.register("ada@example.com");
        let told = keys(&home, &["keys", "rotate"]);
        assert_eq!(told.matches("published, and verifies from now on; signs from 2").count(), 2, "{told}");
        for server in [&one, &other] {
            let began = Instant::now();
            while published(server).len() < 2 {
                assert!(began.elapsed() < PATIENCE, "{:?}", published(server));
                thread::sleep(Duration::from_millis(20));
            }
        }
        let next = Connection::open(other.address).unwrap().refresh(&member(&pair, "refresh_token")).unwrap().body;
        for token in ["access_token", "refresh_token"] {
            assert_eq!(kid(&member(&next, token)), kid(&member(&pair, token)));
        }
        let expected = [("access", "active"), ("access", "next"), ("refresh", "active"), ("refresh", "next")];
        let expected = expected.map(|(purpose, state)| (purpose.to_owned(), state.to_owned()));
        assert_eq!(states(&home), expected);
        // Told again, and not made again.
        assert_eq!(keys(&home, &["keys", "rotate"]), told);
        assert!(keys(&home, &["keys", "prune"]).contains("no key can be removed"));
        assert_eq!(states(&home), expected);
        one.stop();
        other.stop();
    }

    /// Two servers on one database file. Each client goes from one to the other with every request.
    #[test]
    fn a_rotation_at_once_refuses_no_request_of_any_client() {
        let home = Home::new();
        let (one, other) = (home.serve(&[]), home.serve(&[]));
        let before = one.register("ada@example.com");
        let clients = Clients::start(&[&one, &other], 4);
        clients.go_on();
        for _ in 0..2 {
            let told = keys(&home, &["keys", "rotate", "--now"]);
            assert_eq!(told.matches(": signs from now on").count(), 2, "{told}");
            clients.go_on();
        }
        let answered = clients.stop();
        assert!(answered > 100, "{answered}");
        // What was signed before both still counts, and what comes after is signed with the last.
        let after = Connection::open(other.address).unwrap().refresh(&member(&before, "refresh_token")).unwrap();
        assert_eq!(after.status, 200, "{}", after.body);
        assert_eq!(status_of_me(&one, &before), 200);
        for token in ["access_token", "refresh_token"] {
            assert_ne!(kid(&member(&after.body, token)), kid(&member(&before, token)));
        }
        assert_eq!(published(&one).len(), 3);
        // A server that starts now knows all of them.
        let third = home.serve(&[]);
        assert_eq!(published(&third), published(&one));
        assert_eq!(status_of_me(&third, &before), 200);
        let log = one.stop();
        assert!(log.contains("a key signs from now on"), "{log}");
        for file in ["access-0002-es256.pem", "refresh-0003.key"] {
            let path = home.path("data/keys").join(file);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
    }

    /// Stops a server that is not in the middle of a write: the lock that it holds then would keep every other from writing.
    fn stop_between_writes(server: &Server, witness: &Server) {
        let (began, mut tries) = (Instant::now(), 0);
        loop {
            server.signal(Signal::STOP);
            let body = json!({ "email": format!("witness{tries}@example.com"), "password": PASSWORD });
            match witness.post("/v1/auth/register", &body).status {
                201 => return,
                503 if began.elapsed() < PATIENCE => server.signal(Signal::CONT),
                status => panic!("{status}"),
            }
            tries += 1;
        }
    }

    /// It stood still while a key was made and began to sign, as in a snapshot of its machine: then it cannot tell, and says so.
    #[test]
    fn a_server_that_slept_through_a_rotation_cannot_tell_and_says_so() {
        let home = Home::new();
        let (one, other) = (home.serve(&[]), home.serve(&[]));
        let pair = one.register("ada@example.com");
        assert_eq!(status_of_me(&other, &pair), 200);
        stop_between_writes(&other, &one);
        keys(&home, &["keys", "rotate", "--now"]);
        let next = Connection::open(one.address).unwrap().refresh(&member(&pair, "refresh_token")).unwrap().body;
        assert_ne!(kid(&member(&next, "access_token")), kid(&member(&pair, "access_token")));
        let another = one.register("bob@example.com");
        other.signal(Signal::CONT);
        let began = Instant::now();
        // Who is told to be signed out is.
        let body = json!({ "refresh_token": another["refresh_token"] });
        loop {
            match other.post("/v1/auth/logout", &body).status {
                204 => break,
                503 if began.elapsed() < PATIENCE => {}
                status => panic!("{status}"),
            }
        }
        assert_eq!(
            Connection::open(one.address).unwrap().refresh(&member(&another, "refresh_token")).unwrap().status,
            400
        );
        loop {
            match status_of_me(&other, &next) {
                200 => break,
                503 if began.elapsed() < PATIENCE => {}
                status => panic!("{status}"),
            }
        }
        let after = Connection::open(other.address).unwrap().refresh(&member(&next, "refresh_token")).unwrap();
        assert_eq!(after.status, 200, "{}", after.body);
    }

    /// After a leak: what the key signed counts no more, in a server that goes on.
    #[test]
    fn a_generated_key_that_has_leaked_is_replaced_and_given_up() {
        let home = Home::new();
        let server = home.serve(&[]);
        let pair = server.register("ada@example.com");
        let [access, refresh] = ["access_token", "refresh_token"].map(|token| kid(&member(&pair, token)));
        let refused = home.command(["keys", "forget", &access], []).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && told.contains("keys rotate --now"), "{told}");
        assert_eq!(status_of_me(&server, &pair), 200);

        keys(&home, &["keys", "rotate", "--now"]);
        let told = keys(&home, &["keys", "forget", &access]);
        assert!(
            told.contains("access-0001-es256.pem.forgotten") && told.contains("clients refresh, and go on"),
            "{told}"
        );
        let began = Instant::now();
        while status_of_me(&server, &pair) != 401 {
            assert!(began.elapsed() < PATIENCE, "it is still taken");
            thread::sleep(Duration::from_millis(20));
        }
        let next = Connection::open(server.address).unwrap().refresh(&member(&pair, "refresh_token")).unwrap().body;
        assert_eq!(status_of_me(&server, &next), 200, "the session goes on");
        // With the refresh key, tokens of every session that it signed could have been made.
        let untouched = server.register("bob@example.com");
        let stale = keys(&home, &["keys", "forget", &refresh]);
        assert!(stale.contains("refresh-0001.key.forgotten") && stale.contains("sessions ended: 0"), "{stale}");
        assert_eq!(status_of_me(&server, &untouched), 200);
        server.stop();
        home.serve(&[]).stop();
    }
}
