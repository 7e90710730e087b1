//! The load generator: one thread, any number of clients, each of which waits for an answer before it asks again.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::clients::Client;
use crate::stats::{Latencies, float, grouped, millis};
use crate::{Fault, Outcome};

/// How long before its time a paced client stops sleeping: timers have a millisecond's grain.
const AWAKE: Duration = Duration::from_millis(2);
/// Failures that are kept word for word.
const EXAMPLES: usize = 3;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Exchange the refresh token that the exchange before gave.
    Refresh,
    /// A GET of some path with the access token.
    Guarded,
    /// `GET /v1/users/me`.
    Me,
    /// Log in, which opens a session every time.
    Login,
    /// Nine of ten: `GET /v1/users/me`; else a refresh; once in a hundred a log-in.
    Mix,
    /// A GET of some path without any token.
    Get,
    /// A POST of some path, shaped like a refresh.
    Post,
}

impl FromStr for What {
    type Err = Fault;

    fn from_str(text: &str) -> Outcome<Self> {
        Ok(match text {
            "refresh" => Self::Refresh,
            "guarded" => Self::Guarded,
            "me" => Self::Me,
            "login" => Self::Login,
            "mix" => Self::Mix,
            "get" => Self::Get,
            "post" => Self::Post,
            other => return Err(format!("{other}: one of refresh, guarded, me, login, mix, get, post").into()),
        })
    }
}

impl What {
    /// Whether it takes a session.
    fn needs_session(self) -> bool {
        !matches!(self, Self::Get | Self::Post)
    }
}

/// A whole run against one server.
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What clients do.
    pub what: What,
    /// The path of [`What::Guarded`], [`What::Get`] and [`What::Post`].
    pub path: String,
    /// How many there are, each with a connection of its own.
    pub clients: usize,
    /// How many sessions each uses in turn.
    pub sessions: usize,
    /// For how long.
    pub span: Duration,
    /// Requests a second, all together, whatever the answers take. `None`: as fast as answers come.
    pub rate: Option<f64>,
}

/// What came of it.
#[derive(Default)]
pub struct Report {
    /// How long it took.
    pub elapsed: Duration,
    /// How long each answer took; of the good ones only.
    pub latencies: Latencies,
    /// How many were no answer, or not a good one.
    pub failures: usize,
    /// What the first of these were.
    pub examples: Vec<String>,
}

impl Report {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        float(self.latencies.count()) / self.elapsed.as_secs_f64()
    }

    /// Nothing that failed counts as fast.
    pub fn sound(self) -> Outcome<Self> {
        match self.examples.first() {
            None => Ok(self),
            Some(example) => Err(format!("{} failures, such as {example}", self.failures).into()),
        }
    }

    fn fail(&mut self, fault: &Fault) {
        self.failures += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(fault.to_string());
        }
    }

    fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.failures += other.failures;
        self.examples.extend(other.examples);
    }
}

/// The thread's runtime.
///
/// # Errors
///
/// If the system refuses.
pub fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Clients with their connections and sessions, which outlive a run.
pub struct Crowd {
    clients: Vec<Client>,
}

impl Crowd {
    /// Connects, and opens sessions where `what` takes them.
    ///
    /// # Errors
    ///
    /// If a client does not get in.
    pub async fn open(address: SocketAddr, what: What, clients: usize, sessions: usize) -> Outcome<Self> {
        Self::open_from(std::iter::repeat_n(Ipv4Addr::LOCALHOST, clients), address, what, sessions).await
    }

    /// A client at each of these addresses of this machine.
    ///
    /// # Errors
    ///
    /// If a client does not get in.
    pub async fn open_from(
        from: impl IntoIterator<Item = Ipv4Addr>,
        address: SocketAddr,
        what: What,
        sessions: usize,
    ) -> Outcome<Self> {
        let mut crowd = Vec::new();
        let mut arriving = JoinSet::new();
        for from in from {
            arriving.spawn(async move {
                let mut client = Client::connect_from(from, address).await?;
                if what.needs_session() {
                    client.sign_in(sessions).await?;
                }
                Ok::<_, Fault>(client)
            });
        }
        while let Some(client) = arriving.join_next().await {
            crowd.push(client??);
        }
        Ok(Self { clients: crowd })
    }

    async fn reconnect(&mut self) -> Outcome<()> {
        for client in &mut self.clients {
            client.reconnect().await?;
        }
        Ok(())
    }

    /// The account of the first client.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn email(&self) -> Outcome<String> {
        Ok(self.clients.first().ok_or("no client")?.email().to_owned())
    }

    /// All of them log in to this account from now on.
    pub fn log_in_as(&mut self, email: &str) {
        self.clients.iter_mut().for_each(|client| client.log_in_as(email));
    }

    /// Every client goes to another server from now on, which must know the same sessions.
    pub fn move_to(&mut self, address: SocketAddr) {
        self.clients.iter_mut().for_each(|client| client.move_to(address));
    }

    /// Both together.
    pub fn and(mut self, other: Self) -> Self {
        self.clients.extend(other.clients);
        self
    }

    /// Lets all of them work for `span`.
    ///
    /// # Errors
    ///
    /// If a client is lost in a panic.
    pub async fn run(&mut self, what: What, path: &str, span: Duration, rate: Option<f64>) -> Outcome<Report> {
        // Rounds take turns, and a server may have closed what was silent meanwhile.
        self.reconnect().await?;
        let began = Instant::now();
        let count = self.clients.len();
        let mut working = JoinSet::new();
        for (number, client) in self.clients.drain(..).enumerate() {
            let pace = rate.map(|rate| Pace {
                next: began + Duration::from_secs_f64(float(number) / rate),
                step: Duration::from_secs_f64(float(count) / rate),
            });
            working.spawn(work(client, what, path.to_owned(), began + span, pace));
        }
        let mut report = Report::default();
        while let Some(done) = working.join_next().await {
            let (client, part) = done?;
            report.merge(part);
            self.clients.push(client);
        }
        report.elapsed = began.elapsed();
        report.latencies.sort();
        Ok(report)
    }
}

/// When a client of an open loop sends.
struct Pace {
    next: Instant,
    step: Duration,
}

impl Pace {
    /// Waits for the next time, which is long past where answers were slow; latency counts from it all the same.
    async fn turn(&mut self) -> Instant {
        let at = self.next;
        self.next += self.step;
        if let Some(early) = at.checked_sub(AWAKE) {
            tokio::time::sleep_until(early.into()).await;
        }
        while Instant::now() < at {
            tokio::task::yield_now().await;
        }
        at
    }
}

async fn work(
    mut client: Client,
    what: What,
    path: String,
    until: Instant,
    mut pace: Option<Pace>,
) -> (Client, Report) {
    let mut report = Report::default();
    loop {
        let began = match &mut pace {
            Some(pace) if pace.next >= until => break,
            Some(pace) => pace.turn().await,
            None => Instant::now(),
        };
        if began >= until {
            break;
        }
        match client.act(what, &path).await {
            Ok(()) => report.latencies.add(began.elapsed()),
            Err(fault) => {
                report.fail(&fault);
                // A server that refuses does so quickly, and need not be asked a million times.
                tokio::time::sleep(Duration::from_millis(10)).await;
                if client.reconnect().await.is_err() {
                    break;
                }
            }
        }
    }
    (client, report)
}

/// `load`: one run, told on standard output.
///
/// # Errors
///
/// If clients do not get in.
pub fn alone(target: &Target) -> Outcome<()> {
    let report = runtime()?.block_on(async {
        let mut crowd = Crowd::open(target.address, target.what, target.clients, target.sessions).await?;
        crowd.run(target.what, &target.path, target.span, target.rate).await
    })?;
    let at = |permille| grouped(millis(report.latencies.permille(permille)));
    println!(
        "{}/s · p50 {} ms · p90 {} ms · p99 {} ms · max {} ms · {} failures",
        grouped(report.rate()),
        at(500),
        at(900),
        at(990),
        at(1000),
        report.failures
    );
    report.examples.iter().for_each(|example| println!("  {example}"));
    Ok(())
}
