//! The example clients keep what `docs/clients.md` promises: whatever becomes of requests and answers, of the server and of
//! the clients themselves, no client is ever logged out. Between them and the real server is a network that misbehaves at
//! random. Time is real here, so access tokens live for four seconds, and the overlap is three.

mod network;
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::example;
use support::process::{Connection, Home, PASSWORD};

pub use self::network::Dice;
use self::network::{Fault, Network, Weather};
use self::program::Program;
use super::{Outcome, Run};

/// A forgotten commit would be hidden by adopting tokens from after it.
const SERVER: [(&str, &str); 3] = [
    ("ACCESS_TOKEN_EXPIRY", "4s"),
    ("COUNTERSIGN__ROTATION__OVERLAP", "3s"),
    ("COUNTERSIGN__ROTATION__ADOPT_AHEAD", "false"),
];
/// How long a storm lasts at least.
const LEAST: Duration = Duration::from_secs(16);
/// How long it may take until every client is answered again.
const CALM: Duration = Duration::from_secs(120);

pub fn rust(run: &Run) -> Outcome {
    never_logged_out(run, &Crowd { alone: 36, sharing: 5, refreshes: 200, client: rust_client_command })
}

/// Needs Node and the compiler.
pub fn typescript(run: &Run) -> Outcome {
    match build_typescript() {
        Ok(()) => {
            never_logged_out(run, &Crowd { alone: 20, sharing: 0, refreshes: 100, client: typescript_client_command })
        }
        Err(missing) => Outcome::Skipped(missing),
    }
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

fn typescript_client_command(server: SocketAddr, store: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(folder().join("built/main.js")).arg(format!("http://{server}")).arg(store);
    command
}

fn folder() -> PathBuf {
    support::root().join("examples/clients/typescript")
}

/// Compiles the TypeScript client; an error says what is missing for that.
fn build_typescript() -> Result<(), String> {
    let node = Command::new("node").arg("--version").output();
    node.map_err(|error| format!("node cannot be run ({error}): install Node 18 or later"))?;
    let compiler = folder().join("node_modules/.bin/tsc");
    if !compiler.exists() {
        return Err("no TypeScript compiler: run `npm ci --prefix examples/clients/typescript`".to_owned());
    }
    let compiled = Command::new(compiler).current_dir(folder()).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
    Ok(())
}

/// How it went for all clients together.
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

fn never_logged_out(run: &Run, crowd: &Crowd) -> Outcome {
    let home = Home::new();
    let server = home.serve(&SERVER);
    let weather = Weather::calm(server.address, run.seed);
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
    weather.storm_until(began + 4 * run.time.max(LEAST));
    let (wrong, still_in) = thread::scope(|scope| {
        let naive: Vec<_> = naive.iter().map(|token| scope.spawn(|| naive_client(&weather, token))).collect();
        let living = clients.iter().zip(programs);
        let living: Vec<_> = living.map(|(client, program)| scope.spawn(|| client.live_through(program))).collect();
        while began.elapsed() < run.time.max(LEAST) || weather.refreshes() < crowd.refreshes && weather.is_stormy() {
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
    let mut missing = Vec::new();
    let count = |event: &str| events.get(event).copied().unwrap_or(0);
    if count("rotated") < crowd.refreshes {
        missing.push(format!("only {} refreshes", count("rotated")));
    }
    let unseen = ["repeated", "recovered", "conflict"].into_iter().filter(|event| count(event) == 0);
    missing.extend(unseen.map(|event| format!("no refresh came to this: {event}")));
    let spared = Fault::all().filter(|fault| !happened.contains_key(fault));
    missing.extend(spared.map(|fault| format!("no client met this: {fault:?}")));
    for (what, counter) in [("with", &tally.died_after_storing), ("without", &tally.died_before_storing)] {
        if counter.load(Ordering::SeqCst) == 0 {
            missing.push(format!("no client died {what} the new pair in its store"));
        }
    }
    if still_in == naive.len() {
        missing.push("the storm logged out no client that takes a lost answer for the end".to_owned());
    }
    if missing.is_empty() { Outcome::Passed } else { Outcome::Inconclusive(missing.join("; ")) }
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
