//! A network that misbehaves: between one client and the server it loses, cuts, delays and repeats what it
//! carries, turns requests away, and ends the client's process at the worst moments.
//!
//! It stays within what is promised: a copy of a refresh reaches the server well within the overlap after the
//! first one did, and a token that has been tried for longer than [`CALM_AFTER`] is carried faithfully, so that no
//! generation needs more than three recoveries.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The oldest that a copy of a request may be when the server gets it; a third of the overlap.
const LATEST: Duration = Duration::from_secs(1);
/// After this long nothing goes wrong any more with one refresh token.
const CALM_AFTER: Duration = Duration::from_secs(4);
/// Longer than an access token lives: a client that did not wait for this answer has gone on by then.
const HELD_FOR: Duration = Duration::from_millis(4_500);

/// What may go wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    RequestLost,
    AnswerLost,
    AnswerCut,
    TwiceFirstAnswer,
    TwiceSecondAnswer,
    /// Answered, and some time later there once more.
    LateCopy,
    /// The client has given it up when it arrives.
    Straggler,
    RequestDelayed,
    AnswerDelayed,
    AnswerHeld,
    /// Answered on the way, without the server: 503, 502, 429, 409, or a page in place of an answer.
    TurnedAway,
    /// The client is killed before the server has got the request.
    KilledAsking,
    /// The server has committed; the client is killed without the answer.
    KilledUnanswered,
    /// The client is killed with the answer in its hands, before or after it has stored it.
    KilledAnswered,
}

impl Fault {
    /// Every fault that there is.
    pub fn all() -> impl Iterator<Item = Self> {
        REFRESH.into_iter().map(|(fault, _)| fault)
    }
}

/// How often each happens in a hundred refreshes.
const REFRESH: [(Fault, usize); 14] = [
    (Fault::RequestLost, 5),
    (Fault::AnswerLost, 8),
    (Fault::AnswerCut, 5),
    (Fault::TwiceFirstAnswer, 7),
    (Fault::TwiceSecondAnswer, 7),
    (Fault::LateCopy, 7),
    (Fault::Straggler, 7),
    (Fault::RequestDelayed, 3),
    (Fault::AnswerDelayed, 4),
    (Fault::AnswerHeld, 3),
    (Fault::TurnedAway, 8),
    (Fault::KilledAsking, 3),
    (Fault::KilledUnanswered, 3),
    (Fault::KilledAnswered, 6),
];

/// In a hundred confirmations.
const CONFIRM: [(Fault, usize); 7] = [
    (Fault::RequestLost, 5),
    (Fault::AnswerLost, 5),
    (Fault::TwiceSecondAnswer, 5),
    (Fault::LateCopy, 5),
    (Fault::RequestDelayed, 10),
    (Fault::KilledAsking, 2),
    (Fault::KilledUnanswered, 5),
];

/// And in a hundred other requests.
const OTHERS: [(Fault, usize); 4] =
    [(Fault::RequestLost, 2), (Fault::AnswerLost, 2), (Fault::AnswerCut, 2), (Fault::RequestDelayed, 2)];

/// Numbers that a seed decides (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub fn millis(&mut self, from: u64, below: u64) -> Duration {
        Duration::from_millis(from + self.below(below - from))
    }
}

/// A deck of a hundred fates, dealt to the end before it is shuffled again: so each fault does happen.
struct Deck {
    fates: Vec<Option<Fault>>,
    dealt: usize,
}

impl Deck {
    fn of(faults: &[(Fault, usize)]) -> Self {
        let mut fates: Vec<_> = faults.iter().flat_map(|(fault, times)| vec![Some(*fault); *times]).collect();
        fates.resize(100, None);
        Self { dealt: fates.len(), fates }
    }

    fn deal(&mut self, dice: &mut Dice) -> Option<Fault> {
        if self.dealt == self.fates.len() {
            for last in (1..self.fates.len()).rev() {
                self.fates.swap(last, usize::try_from(dice.below(last as u64 + 1)).unwrap());
            }
            self.dealt = 0;
        }
        self.dealt += 1;
        self.fates[self.dealt - 1]
    }
}

/// What all networks of one test share.
pub struct Weather {
    /// Where the server is at present.
    server: Mutex<SocketAddr>,
    stormy_until: Mutex<Instant>,
    dice: Mutex<Dice>,
    refresh: Mutex<Deck>,
    confirm: Mutex<Deck>,
    others: Mutex<Deck>,
    /// When each refresh token was first carried to the server.
    tried: Mutex<HashMap<String, Instant>>,
    happened: Mutex<BTreeMap<Fault, u32>>,
}

impl Weather {
    pub fn calm(server: SocketAddr, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            server: Mutex::new(server),
            stormy_until: Mutex::new(Instant::now()),
            dice: Mutex::new(Dice(seed)),
            refresh: Mutex::new(Deck::of(&REFRESH)),
            confirm: Mutex::new(Deck::of(&CONFIRM)),
            others: Mutex::new(Deck::of(&OTHERS)),
            tried: Mutex::default(),
            happened: Mutex::default(),
        })
    }

    pub fn storm_until(&self, end: Instant) {
        *self.stormy_until.lock().unwrap() = end;
    }

    pub fn is_stormy(&self) -> bool {
        Instant::now() < *self.stormy_until.lock().unwrap()
    }

    /// The server has moved.
    pub fn move_server(&self, to: SocketAddr) {
        *self.server.lock().unwrap() = to;
    }

    /// How often each fault has happened.
    pub fn happened(&self) -> BTreeMap<Fault, u32> {
        self.happened.lock().unwrap().clone()
    }

    pub fn millis(&self, from: u64, below: u64) -> Duration {
        self.dice.lock().unwrap().millis(from, below)
    }

    /// How many refresh tokens have been carried to the server.
    pub fn refreshes(&self) -> u32 {
        u32::try_from(self.tried.lock().unwrap().len()).unwrap()
    }

    fn age(&self, token: &str) -> Duration {
        self.tried.lock().unwrap().get(token).map_or(Duration::ZERO, Instant::elapsed)
    }

    /// What becomes of a request, if it is not carried faithfully.
    fn fate(&self, request: &Message) -> Option<Fault> {
        if !self.is_stormy() {
            return None;
        }
        let token = request.refresh_token();
        let age = token.as_deref().map_or(Duration::ZERO, |token| self.age(token));
        let deck = match request.start() {
            "POST /v1/auth/refresh HTTP/1.1" => &self.refresh,
            "POST /v1/auth/refresh/confirm HTTP/1.1" => &self.confirm,
            _ => &self.others,
        };
        let fate = deck.lock().unwrap().deal(&mut self.dice.lock().unwrap())?;
        let makes_copies = matches!(
            fate,
            Fault::TwiceFirstAnswer
                | Fault::TwiceSecondAnswer
                | Fault::LateCopy
                | Fault::Straggler
                | Fault::RequestDelayed
        );
        let allowed = age < CALM_AFTER && (!makes_copies || age < LATEST / 2);
        allowed.then_some(fate)
    }

    /// How often this has happened so far.
    fn times(&self, fault: Fault) -> u32 {
        self.happened.lock().unwrap().get(&fault).copied().unwrap_or(0)
    }

    fn note(&self, fault: Fault) {
        *self.happened.lock().unwrap().entry(fault).or_default() += 1;
    }

    /// Carries a request to the server, and its answer back.
    fn carry(&self, request: &Message) -> io::Result<Message> {
        if let Some(token) = request.refresh_token() {
            self.tried.lock().unwrap().entry(token).or_insert_with(Instant::now);
        }
        let mut stream = TcpStream::connect(*self.server.lock().unwrap())?;
        stream.write_all(&request.bytes())?;
        Message::read(&mut BufReader::new(stream))?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Carries a request whose client does not wait any more, if it is not too late for that.
    fn carry_late(self: &Arc<Self>, request: Message, fault: Fault) {
        let (weather, delay) = (Arc::clone(self), self.millis(50, 450));
        thread::spawn(move || {
            thread::sleep(delay);
            let in_time = request.refresh_token().is_none_or(|token| weather.age(&token) < LATEST);
            if in_time && weather.carry(&request).is_ok() {
                weather.note(fault);
            }
        });
    }
}

/// The network of one client: a port that leads to the server.
pub struct Network {
    pub address: SocketAddr,
    line: Arc<Line>,
}

struct Line {
    weather: Arc<Weather>,
    /// The process to be killed.
    client: Mutex<Option<Pid>>,
    /// The refresh token that the client was last answered with.
    granted: Mutex<String>,
    closed: AtomicBool,
}

impl Network {
    pub fn new(weather: &Arc<Weather>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line {
            weather: Arc::clone(weather),
            client: Mutex::default(),
            granted: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&line);
        thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !accepting.closed.load(Ordering::SeqCst)) {
                let line = Arc::clone(&accepting);
                // What goes wrong on a connection ends that connection.
                thread::spawn(move || stream.and_then(|stream| line.serve(&stream)));
            }
        });
        Self { address, line }
    }

    /// The process whose network it is; none while the process is being started or buried.
    pub fn belongs_to(&self, client: Option<Pid>) {
        *self.line.client.lock().unwrap() = client;
    }

    /// The refresh token that the client was last answered with.
    pub fn granted(&self) -> String {
        self.line.granted.lock().unwrap().clone()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.line.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Line {
    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut requests = BufReader::new(client);
        while let Some(request) = Message::read(&mut requests)? {
            match self.weather.fate(&request) {
                Some(fault) => self.carry_badly(request, fault, client)?,
                None => self.answer(client, &self.weather.carry(&request)?)?,
            }
        }
        Ok(())
    }

    /// An error closes the connection, as far as the client can see.
    fn carry_badly(&self, request: Message, fault: Fault, client: &TcpStream) -> io::Result<()> {
        let weather = &self.weather;
        let lost = || io::Error::from(io::ErrorKind::ConnectionAborted);
        match fault {
            Fault::RequestLost => {
                weather.note(fault);
                return Err(lost());
            }
            Fault::KilledAsking => {
                self.kill(fault);
                return Err(lost());
            }
            Fault::TurnedAway => {
                weather.note(fault);
                let answers = [UNAVAILABLE, BAD_GATEWAY, TOO_MANY, CONFLICT, HOTEL];
                let which = usize::try_from(weather.dice.lock().unwrap().below(5)).unwrap();
                return (&*client).write_all(answers[which].replace('\n', "\r\n").as_bytes());
            }
            Fault::Straggler => {
                weather.carry_late(request, fault);
                return Err(lost());
            }
            Fault::RequestDelayed => {
                thread::sleep(weather.millis(50, 400));
                // As good as a copy by now, if the client has died and another asks in its place.
                if request.refresh_token().is_some_and(|token| weather.age(&token) > LATEST) {
                    return Err(lost());
                }
            }
            _ => {}
        }
        let answer = match fault {
            Fault::TwiceFirstAnswer | Fault::TwiceSecondAnswer => self.carry_twice(&request, fault)?,
            _ => weather.carry(&request)?,
        };
        match fault {
            Fault::AnswerLost => {
                weather.note(fault);
                return Err(lost());
            }
            Fault::AnswerCut => {
                weather.note(fault);
                let whole = answer.bytes().len() as u64;
                let cut = usize::try_from(weather.dice.lock().unwrap().below(whole)).unwrap();
                (&*client).write_all(&answer.bytes()[..cut])?;
                return Err(lost());
            }
            Fault::KilledUnanswered => {
                self.kill(fault);
                return Err(lost());
            }
            Fault::AnswerDelayed => thread::sleep(weather.millis(50, 400)),
            Fault::AnswerHeld => thread::sleep(HELD_FOR),
            Fault::LateCopy => weather.carry_late(request, fault),
            _ => {}
        }
        if fault == Fault::KilledAnswered && weather.times(fault).is_multiple_of(2) {
            return self.kill_answered(client, &answer);
        }
        self.answer(client, &answer)?;
        match fault {
            Fault::KilledAnswered => {
                let micros = weather.dice.lock().unwrap().below(6_000);
                thread::sleep(Duration::from_micros(micros));
                self.kill(fault);
                Err(lost())
            }
            Fault::RequestDelayed | Fault::AnswerDelayed | Fault::AnswerHeld => {
                weather.note(fault);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Both at once; neither is answered before the server has done with both.
    fn carry_twice(&self, request: &Message, fault: Fault) -> io::Result<Message> {
        let answers: Mutex<Vec<Message>> = Mutex::default();
        let carry = || {
            if let Ok(answer) = self.weather.carry(request) {
                answers.lock().unwrap().push(answer);
            }
        };
        thread::scope(|scope| [scope.spawn(carry), scope.spawn(carry)].map(|one| one.join().unwrap()));
        let mut answers = answers.into_inner().unwrap();
        if answers.len() == 2 {
            self.weather.note(fault);
        }
        let answer = if fault == Fault::TwiceSecondAnswer { answers.pop() } else { answers.drain(..).next() };
        answer.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    fn answer(&self, mut client: &TcpStream, answer: &Message) -> io::Result<()> {
        if let Some(token) = answer.refresh_token() {
            *self.granted.lock().unwrap() = token;
        }
        client.write_all(&answer.bytes())
    }

    /// The answer reaches a process that was stopped before, so that it cannot have stored it when it is killed.
    fn kill_answered(&self, stream: &TcpStream, answer: &Message) -> io::Result<()> {
        let client = self.client.lock().unwrap();
        if let Some(client) = *client {
            kill_process(client, Signal::STOP).unwrap();
        }
        let answered = self.answer(stream, answer);
        if let Some(client) = *client {
            kill_process(client, Signal::KILL).unwrap();
            self.weather.note(Fault::KilledAnswered);
        }
        answered.and(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn kill(&self, fault: Fault) {
        // Under the lock, so that it is not buried meanwhile and its number given to another process.
        if let Some(client) = *self.client.lock().unwrap() {
            kill_process(client, Signal::KILL).unwrap();
            self.weather.note(fault);
        }
    }
}

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\nRetry-After: 1\nContent-Type: application/problem+json\nContent-Length: 22\n\n{\"code\":\"unavailable\"}";
const BAD_GATEWAY: &str =
    "HTTP/1.1 502 Bad Gateway\nContent-Type: text/html\nContent-Length: 24\n\n<h1>502 Bad Gateway</h1>";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests\nRetry-After: 1\nContent-Type: application/problem+json\nContent-Length: 23\n\n{\"code\":\"rate_limited\"}";
const CONFLICT: &str = "HTTP/1.1 409 Conflict\nRetry-After: 1\nContent-Type: application/problem+json\nContent-Length: 27\n\n{\"code\":\"refresh_conflict\"}";
const HOTEL: &str = "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 30\n\n<h1>Welcome to our hotel!</h1>";

/// A request or an answer, whole.
#[derive(Clone)]
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Message {
    /// The next one; none if the connection ends first.
    fn read(from: &mut BufReader<impl io::Read>) -> io::Result<Option<Self>> {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            if from.read_line(&mut head)? == 0 {
                return if head.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let line = head[start..].trim_end().to_ascii_lowercase();
            assert!(!line.starts_with("transfer-encoding"), "{head}");
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(Some(Self { head, body }))
    }

    fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }

    /// The first line.
    fn start(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The refresh token that a refresh asks with, or is answered with.
    fn refresh_token(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        Some(body["refresh_token"].as_str()?.to_owned())
    }
}
