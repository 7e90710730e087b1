//! SIGHUP: the configuration is read anew while requests are answered.

use std::os::unix::net::UnixDatagram;

use support::manager::Manager;

use super::*;

const FRIEND: &str = "https://app.example.org";

/// A server whose manager is told when a reload is done.
struct Managed {
    server: Server,
    manager: Manager,
}

impl Managed {
    fn start(home: &Home) -> Self {
        let path = home.path("notify");
        let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
        let server = home.serve(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        manager.hears_until("READY=1");
        Self { server, manager }
    }

    /// Reloads. Returns what the manager is told at the beginning and at the end.
    fn reload(&self) -> [Vec<String>; 2] {
        self.server.signal(Signal::HUP);
        [self.manager.hears(), self.manager.hears()]
    }
}

fn write(home: &Home, text: &str) {
    home.write("config/countersign.toml", text);
}

/// A log-in with that password: the status, and the life of the access token.
fn log_in(server: &Server, email: &str, password: &str) -> (u16, u64) {
    let answer = server.post("/v1/auth/login", &json!({ "email": email, "password": password }));
    (answer.status, answer.body["expires_in"].as_u64().unwrap_or(0))
}

/// The life of the access token of a log-in.
fn access_life(server: &Server) -> u64 {
    log_in(server, "ada@example.com", PASSWORD).1
}

/// The head of the answer to a request with an `Origin`.
fn head_of_answer(server: &Server, method: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let request = format!("{method} /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split("\r\n\r\n").next().unwrap().to_lowercase()
}

#[test]
fn what_can_change_takes_effect() {
    let home = Home::new();
    write(&home, "[tokens]\naccess_ttl = \"5m\"\n");
    let managed = Managed::start(&home);
    let server = &managed.server;
    let origin = format!("Origin: {FRIEND}\r\n");
    let preflight = format!("{origin}Access-Control-Request-Method: POST\r\n");
    let allows = |head: &str| head.contains(&format!("access-control-allow-origin: {FRIEND}"));
    server.register("ada@example.com");
    assert_eq!(access_life(server), 300);
    assert!(!allows(&head_of_answer(server, "GET", &origin)));

    write(
        &home,
        &format!(
            "[tokens]\naccess_ttl = \"6m\"\nrefresh_idle_ttl = \"2d\"\n[limits]\nlogin_failures = 3\n\
             [cors]\nallowed_origins = [\"{FRIEND}\"]\n[registration]\nallowed_domains = [\"example.com\"]\n\
             [passwords]\nmin_length = 12\n[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[log]\nlevel = \"warn\"\n"
        ),
    );
    managed.reload();
    assert_eq!(access_life(server), 360);
    let session = server.post("/v1/auth/login", &json!({ "email": "ada@example.com", "password": PASSWORD })).body;
    assert_eq!(session["refresh_expires_in"], 2 * 86_400);
    assert!(allows(&head_of_answer(server, "GET", &origin)), "an allowed origin");
    assert!(allows(&head_of_answer(server, "OPTIONS", &preflight)), "a preflight");
    let register = |email: &str, password: &str| {
        server.post("/v1/auth/register", &json!({ "email": email, "password": password })).status
    };
    assert_eq!(register("bob@other.example", PASSWORD), 422, "a domain that may not register");
    assert_eq!(register("bob@example.com", "eleven char"), 422, "a password that is too short");
    // Guesses are counted under the address that the proxy names.
    let guess = |address: &str| {
        let mut connection = Connection::open(server.address).unwrap();
        let body = json!({ "email": "ada@example.com", "password": "a wrong guess" }).to_string();
        let headers = [("Content-Type", "application/json"), ("X-Forwarded-For", address)];
        connection.send("POST", "/v1/auth/login", &headers, &body).unwrap().status
    };
    for expected in [401, 401, 401, 429] {
        assert_eq!(guess("192.0.2.1"), expected);
    }
    assert_eq!(guess("192.0.2.2"), 401, "of another client");

    // And back to the defaults.
    write(&home, "");
    managed.reload();
    assert_eq!(access_life(server), 900);
    assert!(!head_of_answer(server, "OPTIONS", &preflight).contains("access-control-"), "no preflight is answered");
    let log = managed.server.stop();
    assert!(!log.contains("\"status\":422"), "requests have no line at that level: {log}");
    assert!(log.contains("\"method\":\"OPTIONS\""), "they have one again: {log}");
}

/// What has been counted goes on: a reload gives no one new guesses.
#[test]
fn guesses_count_on_over_a_reload() {
    let home = Home::new();
    write(&home, "[limits]\nlogin_failures = 3\n");
    let managed = Managed::start(&home);
    let server = &managed.server;
    server.register("ada@example.com");
    for _ in 0..3 {
        assert_eq!(log_in(server, "bob@example.com", "a wrong guess").0, 401);
    }
    assert_eq!(log_in(server, "bob@example.com", "a wrong guess").0, 429);
    write(&home, "[limits]\nlogin_failures = 3\n[tokens]\naccess_ttl = \"6m\"\n");
    managed.reload();
    assert_eq!(access_life(server), 360);
    assert_eq!(log_in(server, "bob@example.com", "a wrong guess").0, 429);
}

#[test]
fn a_mistake_keeps_what_was_in_force_and_is_told() {
    let home = Home::new();
    write(&home, "[tokens]\naccess_ttl = \"5m\"\n");
    let managed = Managed::start(&home);
    managed.server.register("ada@example.com");
    let wrong = [
        (
            "[tokens]\naccess_ttl = \"6m\"\nrefresh_idle_ttl = \"soon\"\n",
            "tokens.refresh_idle_ttl (config/countersign.toml)",
        ),
        // Also where it takes effect at a restart.
        ("[tokens]\naccess_ttl = \"6m\"\n[docs]\nenabled = \"x\"\n", "docs.enabled (config/countersign.toml)"),
        ("[tokens]\naccess_ttl = \"6m\"\nacess_ttl = \"6m\"\n", "tokens.acess_ttl (config/countersign.toml)"),
        ("[tokens\n", "config/countersign.toml:"),
    ];
    for (file, _) in wrong {
        write(&home, file);
        let [_, ended] = managed.reload();
        assert_eq!(ended[0], "READY=1", "it still does its work");
        assert!(ended[1].ends_with("could not be reloaded, see the log"), "{ended:?}");
        assert_eq!(access_life(&managed.server), 300, "{file}");
    }
    write(&home, "[tokens]\naccess_ttl = \"7m\"\n");
    assert!(!managed.reload()[1][1].contains("could not be reloaded"));
    assert_eq!(access_life(&managed.server), 420);
    let log = managed.server.stop();
    for (_, told) in wrong {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert_eq!(log.matches("the one before it stays in force").count(), wrong.len(), "{log}");
}

/// sd_notify(3): between the two, systemd takes the service for one that reloads.
#[test]
fn the_manager_is_told_of_a_reload() {
    let home = Home::new();
    let managed = Managed::start(&home);
    let mut before = 0;
    for _ in 0..3 {
        let [begun, ended] = managed.reload();
        assert_eq!(begun[0], "RELOADING=1", "{begun:?}");
        let time: i64 = begun[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(time > before, "{begun:?}");
        before = time;
        assert_eq!(ended, ["READY=1".to_owned(), format!("STATUS=answers on http://{}", managed.server.address)]);
    }
    managed.server.stop();
    assert!(!managed.manager.hears_until("STOPPING=1").contains(&"RELOADING=1".to_owned()));
}

/// None is refused, none is dropped, and none sees half of each.
#[test]
fn reloads_under_load_refuse_nothing() {
    let home = Home::new();
    let managed = Managed::start(&home);
    let server = &managed.server;
    let address = server.address;
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let mut token = member(&server.register(&format!("client{number}@example.com")), "refresh_token");
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            thread::spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                while !over.load(Ordering::SeqCst) {
                    let answer = connection.refresh(&token).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    token = member(&answer.body, "refresh_token");
                    let life = answer.body["expires_in"].as_u64().unwrap();
                    assert!([900, 300, 360].contains(&life), "{life}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let (mut rounds, mut life) = (0, 5);
    // So many, and until each client has been answered.
    while rounds < 20 || answered.load(Ordering::SeqCst) < 200 {
        life = 11 - life;
        write(&home, &format!("[tokens]\naccess_ttl = \"{life}m\"\n"));
        managed.reload();
        rounds += 1;
    }
    over.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    managed.server.stop();
}

/// With files beside an embedded database, and nothing configured that nodes must share.
mod embedded {
    use super::*;

    #[test]
    fn what_takes_effect_at_a_restart_is_named_and_never_shown() {
        let home = Home::new();
        write(&home, "[tokens]\naccess_ttl = \"5m\"\n");
        let managed = Managed::start(&home);
        let server = &managed.server;
        server.register("ada@example.com");
        write(
            &home,
            &format!(
                "[tokens]\naccess_ttl = \"6m\"\nissuer = \"https://a.example\"\nrefresh_secret = \"{SECRET}\"\n\
             [database]\nurl = \"sqlite:other.db\"\n[passwords]\npepper = \"{OTHER_SECRET}\"\n\
             [server]\nhost = \"0.0.0.0\"\n[log]\nformat = \"text\"\n"
            ),
        );
        managed.reload();
        assert_eq!(access_life(server), 360);
        let log = managed.server.stop();
        for key in
            ["tokens.issuer", "tokens.refresh_secret", "database.url", "passwords.pepper", "server.host", "log.format"]
        {
            assert!(log.contains(&format!("{key} has changed, and takes effect at a restart")), "{key}: {log}");
        }
        assert!(!log.contains(SECRET) && !log.contains(OTHER_SECRET), "{log}");
        assert!(!home.path("other.db").exists());
        assert!(log.lines().all(|line| line.starts_with('{')), "the form of the log stays: {log}");
    }

    /// Keys that are put into the folder, and keys that are taken away although they are needed.
    #[test]
    fn keys_in_the_data_folder_are_read_anew() {
        let home = Home::new();
        write(&home, "[tokens]\naccess_ttl = \"5m\"\n");
        let managed = Managed::start(&home);
        let server = &managed.server;
        let pair = server.register("ada@example.com");
        let other = Home::new();
        other.serve(&[]).stop();
        let new = "data/keys/refresh-0002.key";
        home.write(new, &fs::read_to_string(other.path("data/keys/refresh-0001.key")).unwrap());
        write(&home, "[tokens]\naccess_ttl = \"6m\"\n");
        managed.reload();
        assert_eq!(access_life(server), 360);
        let refreshed = Connection::open(server.address).unwrap().refresh(&member(&pair, "refresh_token")).unwrap();
        assert_eq!(refreshed.status, 200, "the key before still verifies");
        let kid = |token: &str| token.split('.').next().unwrap().to_owned();
        assert_ne!(kid(&member(&refreshed.body, "refresh_token")), kid(&member(&pair, "refresh_token")));

        // A key that sessions depend on is gone: what was in force stays.
        fs::rename(home.path(new), home.path("data/keys/elsewhere")).unwrap();
        write(&home, "[tokens]\naccess_ttl = \"7m\"\n");
        let [_, ended] = managed.reload();
        assert!(ended[1].contains("could not be reloaded"), "{ended:?}");
        assert_eq!(access_life(server), 360);
        let again =
            Connection::open(server.address).unwrap().refresh(&member(&refreshed.body, "refresh_token")).unwrap();
        assert_eq!(again.status, 200);
        fs::rename(home.path("data/keys/elsewhere"), home.path(new)).unwrap();
        managed.reload();
        assert_eq!(access_life(server), 420);
        managed.server.stop();
    }
}
