//! The examples, each run as a process.
//!
//! The clients keep what `docs/clients.md` promises: whatever becomes of requests and answers, of the server and of the
//! clients themselves, nobody is ever logged out. Between them and the real server is a network that misbehaves at
//! random.
//! `CLIENTS_SEED` (a number) decides what goes wrong; each run prints its own. Time is real here, so access
//! tokens live for four seconds, and the overlap is three. The TypeScript client needs Node and its compiler; without
//! them its test is reported as ignored, and with `CI` in the environment it fails, unless `REGISTRY_AWAY` says why.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test may fail anywhere"
)]

mod network;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::process::Signal;
use serde_json::{Value, json};

use self::network::{Fault, Network, Weather};
use self::program::Program;
use support::process::{Connection, Home, PASSWORD, lacks_packages};

/// A forgotten commit would be hidden by adopting tokens from after it.
const SERVER: [(&str, &str); 3] = [
    ("ACCESS_TOKEN_EXPIRY", "4s"),
    ("COUNTERSIGN__ROTATION__OVERLAP", "3s"),
    ("COUNTERSIGN__ROTATION__ADOPT_AHEAD", "false"),
];
/// How long the storm lasts at least, and at most, on a machine too busy for as many refreshes as there should be.
const STORM: (Duration, Duration) = (Duration::from_secs(16), Duration::from_secs(90));
/// How long it may take until everybody is answered again.
const CALM: Duration = Duration::from_secs(30);
fn main() -> ExitCode {
    let rust = || never_logged_out(&Crowd { alone: 36, sharing: 5, refreshes: 200, client: rust_client_command });
    let typescript =
        || never_logged_out(&Crowd { alone: 20, sharing: 0, refreshes: 100, client: typescript_client_command });
    let trials = vec![
        Trial::test("an_application_of_ones_own_has_our_routes_and_its_own_are_guarded", own_app_is_guarded),
        Trial::test("the_page_on_embedding_shows_the_application_as_it_is", the_page_shows_it),
        Trial::test("the_table_in_docs_clients_md_has_every_error_that_a_client_may_get", the_table_is_whole),
        Trial::test("the_rust_client_is_never_logged_out", rust),
        Trial::ignorable_test("the_typescript_client_is_never_logged_out", move || match build_typescript() {
            Ok(()) => typescript().map(|()| Completion::Completed),
            Err(missing) => lacks_packages(missing),
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn own_app_is_guarded() -> Result<(), Failed> {
    let home = Home::new();
    let (_app, address) = own_app(&home);
    let http = reqwest::blocking::Client::new();
    let url = |path: &str| format!("http://{address}{path}");

    let ada = json!({ "email": "ada@example.com", "password": PASSWORD });
    let sign_in = |path: &str| http.post(url(path)).json(&ada).send().and_then(|answer| answer.json::<Value>());
    let get = |path: &str, pair: &Value| {
        let answer = http.get(url(path)).bearer_auth(pair["access_token"].as_str().unwrap()).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    let pair = sign_in("/v1/auth/register")?;
    let id = pair["user"]["id"].as_str().unwrap();
    let nobody = http.get(url("/orders")).send()?;
    assert_eq!(nobody.status(), 401);
    assert_eq!(nobody.headers()["www-authenticate"], "Bearer realm=\"countersign\"");
    assert_eq!(get("/orders", &pair), (200, format!("the orders of {id}")));
    let (status, told) = get("/sales", &pair);
    assert_eq!(status, 403);
    assert!(told.contains("insufficient_role"), "{told}");

    home.database().connect().execute("UPDATE users SET roles = '[\"admin\"]'");
    let pair = sign_in("/v1/auth/login")?;
    assert_eq!(get("/sales", &pair), (200, format!("all sales, for {id}")));
    assert_eq!(get("/elsewhere", &pair).0, 404);
    Ok(())
}

/// The application, and where it listens.
fn own_app(home: &Home) -> (Killed, SocketAddr) {
    let (program, http) = (example("own_app"), reqwest::blocking::Client::new());
    // Between the look for a free port and its use, somebody else may be given it; then the application ends.
    for _ in 0..10 {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(&program);
        command.current_dir(home.path(".")).env_clear().env("PORT", address.port().to_string());
        let mut app = Killed(command.env("COUNTERSIGN__PASSWORDS__BCRYPT_COST", "4").spawn().unwrap());
        let began = Instant::now();
        while app.0.try_wait().unwrap().is_none() {
            // It may be somebody else who answers, but nobody else has orders.
            if http.get(format!("http://{address}/orders")).send().is_ok_and(|answer| answer.status() != 404) {
                return (app, address);
            }
            assert!(began.elapsed() < CALM, "it listens");
            thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("it ends, whatever port it is given");
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn the_page_shows_it() -> Result<(), Failed> {
    let (page, example) = (include_str!("../../docs/embedding.md"), include_str!("../../examples/own_app.rs"));
    assert!(page.contains(example), "the example in docs/embedding.md is not examples/own_app.rs");
    assert!(example.lines().count() < 40, "it is short");
    Ok(())
}

/// Every error of a refresh, its confirmation, and routes that an access token opens has a row.
fn the_table_is_whole() -> Result<(), Failed> {
    let page = include_str!("../../docs/clients.md");
    let document: Value = serde_json::from_str(include_str!("../openapi.json"))?;
    let mut errors = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let guarded = operation["security"].as_array().is_some_and(|ways| !ways.is_empty());
            let Some(answers) = operation["responses"].as_object() else { continue };
            if guarded || path.starts_with("/v1/auth/refresh") {
                let errors_of =
                    |answer: &Value| answer["content"]["application/problem+json"]["examples"].as_object().cloned();
                errors.extend(answers.values().filter_map(errors_of).flatten().map(|(name, _)| name));
            }
        }
    }
    assert!(errors.len() >= 12, "the document was read: {errors:?}");
    for error in errors {
        let (code, status) = error.split_once('.').unwrap();
        let has_row = page
            .lines()
            .any(|line| line.starts_with('|') && line.contains(status) && line.contains(&format!("`{code}`")));
        assert!(has_row, "docs/clients.md has no row for {status} {code}");
    }
    Ok(())
}

/// Who is out in the storm.
struct Crowd {
    /// People with one device, on which one process runs.
    alone: usize,
    /// People on whose device three processes share a store.
    sharing: usize,
    /// How many refreshes there must be.
    refreshes: u32,
    /// Starts a client of this server, with this store.
    client: fn(SocketAddr, &Path) -> Command,
}

fn rust_client_command(server: SocketAddr, store: &Path) -> Command {
    let mut command = Command::new(example("client"));
    command.env_clear();
    command.arg(format!("http://{server}")).arg(store);
    command
}

/// An example as cargo builds it, which it has done before all tests are run.
fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples");
    BUILT.call_once(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--quiet", "--examples"]);
        cargo.args((!cfg!(debug_assertions)).then_some("--release"));
        assert!(cargo.status().unwrap().success(), "the examples are built");
    });
    folder.join(name)
}

fn typescript_client_command(server: SocketAddr, store: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(typescript().join("built/main.js")).arg(format!("http://{server}")).arg(store);
    command
}

fn typescript() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/typescript")
}

/// Compiles the TypeScript client; an error says what is missing for that.
fn build_typescript() -> Result<(), String> {
    let node = Command::new("node").arg("--version").output();
    node.map_err(|error| format!("node cannot be run ({error}): install Node 18 or later"))?;
    let compiler = typescript().join("node_modules/.bin/tsc");
    if !compiler.exists() {
        return Err("no TypeScript compiler: run `npm ci --prefix examples/clients/typescript`".to_owned());
    }
    let compiled = Command::new(compiler).current_dir(typescript()).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
    Ok(())
}

/// How it went for everybody together.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU32,
    /// Answered with an error that is no verdict on the tokens, or not at all.
    put_off: AtomicU32,
    died_before_storing: AtomicU32,
    died_after_storing: AtomicU32,
    deaths: AtomicU32,
}

/// One process of one person.
struct Client<'a> {
    start: fn(SocketAddr, &Path) -> Command,
    network: Network,
    store: PathBuf,
    shares: bool,
    weather: &'a Arc<Weather>,
    tally: &'a Tally,
}

impl Client<'_> {
    /// Whose client it is.
    fn email(&self) -> String {
        format!("{}@example.com", self.store.file_stem().unwrap().display())
    }

    fn start(&self) -> Program {
        let program = Program::start((self.start)(self.network.address, &self.store));
        self.network.belongs_to(Some(program.id()));
        program
    }

    /// Works until the storm is over. An answer that an honest client must never get is an error.
    fn live_through(&self, mut program: Program) -> Result<(), String> {
        while self.weather.is_stormy() {
            let times = usize::from(self.weather.millis(1, 4) > Duration::from_millis(2)) * 2 + 1;
            for answer in self.ask(&mut program, "get /v1/users/me", times) {
                let counter = match answer.split([' ', ':']).next().unwrap() {
                    "200" if answer.contains(&format!("\"{}\"", self.email())) => &self.tally.answered,
                    "401" | "unavailable" | "TypeError" => &self.tally.put_off,
                    _ => return Err(format!("{}: {answer}", self.email())),
                };
                counter.fetch_add(1, Ordering::SeqCst);
            }
            thread::sleep(self.weather.millis(50, 250));
        }
        // What went wrong before may still be at work.
        let (calm, mut last) = (Instant::now(), Vec::new());
        while calm.elapsed() < CALM {
            last = self.ask(&mut program, "get /v1/sessions", 1);
            let body = last.first().and_then(|answer| answer.strip_prefix("200 "));
            if let Some(Ok(body)) = body.map(serde_json::from_str::<Value>) {
                return match body["sessions"].as_array().map(Vec::len) {
                    // One has begun with registering, and this one with signing in.
                    Some(2) => Ok(()),
                    _ => Err(format!("{}: sessions have come or gone: {body}", self.email())),
                };
            }
        }
        Err(format!("{}: no answer though all is calm again: {last:?}", self.email()))
    }

    /// The answers; none if the process was killed, and has been started again.
    fn ask(&self, program: &mut Program, command: &str, times: usize) -> Vec<String> {
        if let Some(answers) = program.ask(command, times) {
            return answers;
        }
        self.network.belongs_to(None);
        if !self.shares && !self.network.granted().is_empty() {
            let stored = fs::read(&self.store).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let stored = stored.expect("a whole pair, whenever the client died");
            let stored = stored["refresh_token"].as_str().or(stored["refreshToken"].as_str());
            let tally = self.tally;
            let when = if stored == Some(self.network.granted().as_str()) {
                &tally.died_after_storing
            } else {
                &tally.died_before_storing
            };
            when.fetch_add(1, Ordering::SeqCst);
        }
        // Every other time it is away for longer than the overlap.
        let away = if self.tally.deaths.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { 3_200 } else { 0 };
        thread::sleep(self.weather.millis(away, away + 200));
        *program = self.start();
        Vec::new()
    }
}

fn never_logged_out(crowd: &Crowd) -> Result<(), Failed> {
    let seed = match std::env::var("CLIENTS_SEED") {
        Ok(seed) => seed.parse().map_err(|_not_a_number| "CLIENTS_SEED is a number")?,
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into(),
    };
    println!("CLIENTS_SEED={seed}");
    let home = Home::new();
    let server = home.serve(&SERVER);
    let weather = Weather::calm(server.address, seed);
    let tally = Tally::default();
    let client = |store: usize, shares| Client {
        start: crowd.client,
        network: Network::new(&weather),
        store: home.path(format!("{store}.json")),
        shares,
        weather: &weather,
        tally: &tally,
    };
    let mut clients: Vec<Client> = (0..crowd.alone).map(|person| client(person, false)).collect();
    clients.extend((0..crowd.sharing * 3).map(|one| client(crowd.alone + one / 3, true)));
    let mut programs: Vec<Program> = clients.iter().map(Client::start).collect();
    for (client, program) in clients.iter().zip(&mut programs).filter(|(client, _)| !client.store.exists()) {
        server.register(&client.email());
        let answer = program.ask(&format!("sign-in {} {PASSWORD}", client.email()), 1);
        assert_eq!(answer, Some(vec!["signed in".to_owned()]));
    }
    let naive: Vec<String> = (0..3)
        .map(|one| server.register(&format!("naive{one}@example.com"))["refresh_token"].as_str().unwrap().to_owned())
        .collect();

    let (began, mut server, mut logs) = (Instant::now(), Some(server), Vec::new());
    weather.storm_until(began + STORM.1);
    let (wrong, still_in) = thread::scope(|scope| {
        let naive: Vec<_> = naive.iter().map(|token| scope.spawn(|| naive_client(&weather, token))).collect();
        let living = clients.iter().zip(programs);
        let living: Vec<_> = living.map(|(client, program)| scope.spawn(|| client.live_through(program))).collect();
        while began.elapsed() < STORM.0 || weather.refreshes() < crowd.refreshes && weather.is_stormy() {
            thread::sleep(weather.millis(2_000, 4_000));
            let killed = server.take().unwrap();
            killed.signal(Signal::KILL);
            logs.push(killed.wait().1);
            weather.move_server(server.insert(home.serve(&SERVER)).address);
        }
        weather.storm_until(Instant::now());
        let wrong: Vec<String> = living.into_iter().filter_map(|client| client.join().unwrap().err()).collect();
        (wrong, naive.into_iter().map(|client| client.join().unwrap()).filter(|still_in| *still_in).count())
    });
    let happened = weather.happened();
    logs.push(server.unwrap().stop());
    let events = events(&logs);
    let (kills, took) = (logs.len() - 1, began.elapsed());
    println!("{events:?}, {happened:?}, {tally:?}, server killed {kills} times, {took:?}");

    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(events.get("reused"), None, "nothing that an honest client does looks like theft");
    let count = |event: &str| events.get(event).copied().unwrap_or(0);
    assert!(count("rotated") >= crowd.refreshes, "there were many refreshes: {}", count("rotated"));
    for event in ["repeated", "recovered", "conflict"] {
        assert!(count(event) > 0, "no refresh came to this: {event}");
    }
    for fault in Fault::all() {
        assert!(happened.contains_key(&fault), "nobody suffered this: {fault:?}");
    }
    for (what, counter) in [("with", &tally.died_after_storing), ("without", &tally.died_before_storing)] {
        assert!(counter.load(Ordering::SeqCst) > 0, "no client died {what} the new pair in its store");
    }
    assert!(still_in < naive.len(), "who takes a lost answer for the end is logged out here");
    Ok(())
}

/// What a client that knows nothing of lost answers does: whatever is not a pair is the end. Whether it still has a
/// session when the storm is over.
fn naive_client(weather: &Arc<Weather>, token: &str) -> bool {
    let network = Network::new(weather);
    let mut token = token.to_owned();
    while weather.is_stormy() {
        let answer = Connection::open(network.address).map(|mut connection| connection.refresh(&token));
        match answer {
            Ok(Ok(answer)) if answer.body["refresh_token"].is_string() => {
                token = answer.body["refresh_token"].as_str().unwrap().to_owned();
            }
            _ => return false,
        }
        thread::sleep(weather.millis(1_500, 1_600));
    }
    true
}

/// How often the server told of each security event.
fn events(logs: &[String]) -> BTreeMap<String, u32> {
    let mut events = BTreeMap::new();
    for line in logs.iter().flat_map(|log| log.lines()) {
        // A killed server's last line may be half a line.
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        if let Some(event) = entry["event"].as_str() {
            *events.entry(event.to_owned()).or_default() += 1;
        }
    }
    events
}
