//! Rotation as a property: generated schedules of an honest client, a thief, lost answers, duplicates,
//! crashes and time, run over HTTP against the real server, and beside them a small reference model that
//! says what each answer must be.
//!
//! The schedules are the same in every run. `MODEL_SEED` (a number) gives others, `MODEL_CASES` more of
//! them; a failure prints both the seed and the shortest schedule that fails.

#![cfg(feature = "sqlite")] // its servers have the embedded database
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

mod reference;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::time::Duration;

use countersign::Clock;
use countersign::clock::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use self::reference::{ABSOLUTE, ACCESS, IDLE, MAX_RECOVERIES, MINUTE, Micros, OVERLAP, RECOVERY, SECOND, Verdict};
use support::harness::{Home, TestApp};

const EMAIL: &str = "ada@example.com";

/// What becomes of an answer to the honest client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    UsedButNotStored,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    HonestRefresh(Fate),
    /// Once more, if the last answer was lost.
    HonestRetry,
    /// An earlier request, so many requests back, arrives once more.
    Duplicate {
        back: usize,
        kept: bool,
    },
    Confirm,
    ThiefCopies,
    /// With one of the tokens the thief holds, counted from the newest.
    ThiefRefresh(usize),
    Logout,
    Wait(Pause),
    /// By a minute.
    ClockBack,
    /// By two hours: it was ahead until now.
    ClockWasAhead,
    /// The server is stopped, and started on the same database.
    Crash,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Pause(Micros);

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / SECOND {
            seconds if seconds >= 24 * 3600 => write!(f, "{} d", seconds / 24 / 3600),
            seconds if seconds >= 3600 * 20 => write!(f, "{} h", seconds / 3600),
            seconds if seconds >= 600 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

/// Around every edge: the overlap's (30 s), the recovery window's (7 d), idle expiry's (10 d).
const PAUSES: [i64; 11] = [0, 3, 29, 30, 31, 600, 92 * 60, 20 * 3600, 6 * 24 * 3600, 7 * 24 * 3600, 8 * 24 * 3600];

fn wait(seconds: i64) -> Step {
    Step::Wait(Pause(seconds * SECOND))
}

fn waits() -> impl Strategy<Value = Step> {
    // Short ones oftener: a week in every other step would leave nothing but expired sessions.
    prop_oneof![
        6 => prop::sample::select(&PAUSES[..5]),
        3 => prop::sample::select(&PAUSES[5..8]),
        1 => prop::sample::select(&PAUSES[8..]),
    ]
    .prop_map(wait)
}

fn honest_steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => Just(Step::HonestRefresh(Fate::Kept)),
        7 => Just(Step::HonestRefresh(Fate::Lost)),
        2 => Just(Step::HonestRefresh(Fate::UsedButNotStored)),
        5 => Just(Step::HonestRetry),
        5 => (0..4_usize, any::<bool>()).prop_map(|(back, kept)| Step::Duplicate { back, kept }),
        2 => Just(Step::Confirm),
        14 => waits(),
        1 => Just(Step::ClockBack),
        1 => Just(Step::ClockWasAhead),
    ]
}

/// What single steps seldom add up to: answers lost over and over, a confirmed pair's duplicate, and an
/// answer lost near its token's own end.
fn honest_stretches() -> impl Strategy<Value = Vec<Step>> {
    let (lost, kept) = (Step::HonestRefresh(Fate::Lost), Step::HonestRefresh(Fate::Kept));
    let late = prop::sample::select(&PAUSES[3..8]).prop_map(wait);
    let any_time = prop::sample::select(&PAUSES[..6]).prop_map(wait);
    let days = || prop::sample::select(&PAUSES[7..]).prop_map(wait);
    prop_oneof![
        (days(), days()).prop_map(move |(before, after)| vec![kept, before, lost, after, Step::HonestRetry]),
        prop::collection::vec(late, 1..6).prop_map(move |pauses| pauses
            .into_iter()
            .flat_map(|pause| [lost, pause])
            .chain([lost])
            .collect()),
        (any_time.clone(), any::<bool>()).prop_map(move |(pause, confirmed)| {
            let duplicate = Step::Duplicate { back: 0, kept: false };
            if confirmed { vec![kept, Step::Confirm, pause, duplicate] } else { vec![kept, pause, duplicate] }
        }),
        any_time.prop_map(move |pause| vec![kept, kept, pause, Step::Duplicate { back: 1, kept: false }]),
        (prop::sample::select(&PAUSES[..4]).prop_map(wait), 2..4_usize).prop_map(move |(pause, back)| vec![
            kept,
            kept,
            kept,
            kept,
            pause,
            Step::Duplicate { back, kept: false }
        ]),
        (prop::sample::select(&PAUSES[..5]).prop_map(wait), any::<bool>()).prop_map(move |(pause, confirmed)| {
            let duplicate = Step::Duplicate { back: 0, kept: false };
            if confirmed {
                vec![kept, Step::Confirm, Step::ClockWasAhead, pause, duplicate]
            } else {
                vec![lost, Step::ClockWasAhead, pause, Step::HonestRetry]
            }
        }),
    ]
}

/// What happens without a thief.
fn honest_schedule() -> impl Strategy<Value = Vec<Step>> {
    let stretch = prop_oneof![
        60 => honest_steps().prop_map(|step| vec![step]),
        15 => honest_stretches(),
        1 => Just(vec![Step::Crash]),
    ];
    prop::collection::vec(stretch, 1..16).prop_map(|stretches| stretches.concat())
}

/// A theft, and both going their own ways for a while.
fn theft() -> impl Strategy<Value = Vec<Step>> {
    let turn = prop_oneof![
        Just(Step::HonestRefresh(Fate::Kept)),
        Just(Step::HonestRefresh(Fate::Lost)),
        (0..2_usize).prop_map(Step::ThiefRefresh),
    ];
    let pause = prop::sample::select(&PAUSES[2..6]).prop_map(wait);
    prop::collection::vec((turn, pause), 2..6).prop_map(|turns| {
        let turns = turns.into_iter().flat_map(|(turn, pause)| [turn, pause]);
        std::iter::once(Step::ThiefCopies).chain(turns).collect()
    })
}

/// Anything.
fn schedule() -> impl Strategy<Value = Vec<Step>> {
    let stretch = prop_oneof![
        60 => honest_steps().prop_map(|step| vec![step]),
        8 => Just(vec![Step::ThiefCopies]),
        18 => (0..5_usize).prop_map(|which| vec![Step::ThiefRefresh(which)]),
        10 => honest_stretches(),
        10 => theft(),
        1 => Just(vec![Step::Logout]),
        1 => Just(vec![Step::Crash]),
    ];
    prop::collection::vec(stretch, 1..12).prop_map(|stretches| stretches.concat())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Every answer is what the reference model says.
    Reference,
    /// (1) Without a thief the session lives.
    Lives,
    /// (2) A thief and an honest client who part are noticed.
    Noticed,
    /// (3) One line of succession.
    OneLine,
    /// (4) Over is over.
    Over,
}

/// One server for all cases, at a time that only the cases move.
struct World {
    home: Home,
    clock: Clock,
    app: Option<TestApp>,
}

impl World {
    fn new() -> Self {
        let (home, clock) = (Home::new(), support::harness::clock());
        let mut world = Self { home, clock, app: None };
        world.crash();
        world.app().sign_up(EMAIL);
        world
    }

    fn app(&self) -> &TestApp {
        self.app.as_ref().expect("a server")
    }

    fn crash(&mut self) {
        drop(self.app.take());
        let config = support::harness::config(&self.home)
            .with("tokens.refresh_idle_ttl", (IDLE / SECOND).to_string())
            .with("tokens.refresh_absolute_ttl", (ABSOLUTE / SECOND).to_string())
            .with("tokens.access_ttl", (ACCESS / SECOND).to_string())
            .with("rotation.max_recoveries", MAX_RECOVERIES.to_string());
        self.app = Some(TestApp::start_with(config, self.clock.clone()));
    }

    fn now(&self) -> Micros {
        self.clock.now().as_micros()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Honest,
    Thief,
}

/// A refresh token that the server has granted.
#[derive(Debug)]
struct Known {
    text: String,
    says: reference::Token,
    /// By whose refresh it ceased to be the current one.
    displaced_by: Option<Actor>,
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// A token never seen before.
    New(usize),
    /// One granted before.
    Again(usize),
    Conflict,
    Refused(String),
    Other(u16, String),
}

/// One session and all that has happened to it.
struct Case<'a> {
    world: &'a mut World,
    checks: &'a [Check],
    model: reference::Session,
    session_id: String,
    tokens: Vec<Known>,
    /// Access tokens, and what they say.
    accesses: Vec<(String, reference::Token)>,
    /// The refresh token and the access token that the honest client has stored.
    held: usize,
    access: usize,
    lost: bool,
    /// What the honest client has sent.
    requests: Vec<usize>,
    thief: Vec<usize>,
    /// The newest token granted, and when it was, by the server's clock and by the time that has passed.
    current: usize,
    granted_at: Micros,
    granted_after: Micros,
    rotated_after: Micros,
    /// The token that each generation's successor was first given for.
    parents: Vec<usize>,
    /// Time passed, whatever the clock says.
    passed: Micros,
    revoked: bool,
    /// Who has presented, apart from the other, what the other had displaced; and how many tokens there were.
    parted: Vec<(Actor, usize)>,
    story: String,
}

/// What a token says, signature aside.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a payload");
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}

fn says(token: &str) -> reference::Token {
    let claims = claims(token);
    let number = |name: &str| claims[name].as_i64().expect("a number");
    reference::Token {
        generation: u32::try_from(number("gen")).expect("a generation"),
        branch: u32::try_from(number("br")).expect("a branch"),
        issued_at: number("iat"),
        expires_at: number("exp"),
    }
}

impl<'a> Case<'a> {
    fn start(world: &'a mut World, checks: &'a [Check]) -> Self {
        // So that cases do not all begin on a whole second.
        world.clock.advance(Duration::from_micros(3_600_370_000));
        let pair = world.app().log_in(EMAIL);
        let now = world.now();
        Self {
            model: reference::Session::start(now),
            session_id: pair.session_id.clone(),
            tokens: vec![Known { says: says(&pair.refresh), text: pair.refresh, displaced_by: None }],
            accesses: vec![(pair.access.clone(), says(&pair.access))],
            held: 0,
            access: 0,
            lost: false,
            requests: Vec::new(),
            thief: Vec::new(),
            current: 0,
            granted_at: now,
            granted_after: 0,
            rotated_after: 0,
            parents: Vec::new(),
            passed: 0,
            revoked: false,
            parted: Vec::new(),
            story: String::new(),
            world,
            checks,
        }
    }

    fn checks(&self, check: Check) -> bool {
        self.checks.contains(&check)
    }

    fn place(&self, token: usize) -> String {
        let says = &self.tokens[token].says;
        format!("#{token} (gen {} br {})", says.generation, says.branch)
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        if self.checks(Check::Reference) && self.tokens[0].says != self.model.tokens[0] {
            return Err(format!("the first token says {:?}, not {:?}", self.tokens[0].says, self.model.tokens[0]));
        }
        for step in steps {
            let _ = write!(self.story, "\n  {step:?}");
            self.step(*step)?;
            if self.checks(Check::Lives) && self.ended() {
                return Ok(());
            }
        }
        self.finish()
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::HonestRefresh(fate) => self.honest_refresh(self.held, fate, false),
            Step::HonestRetry if self.lost => self.honest_refresh(self.held, Fate::Kept, false),
            Step::HonestRetry => Ok(()),
            Step::Duplicate { back, kept } => match self.requests.iter().rev().nth(back) {
                None => Ok(()),
                Some(&token) => self.honest_refresh(token, if kept { Fate::Kept } else { Fate::Lost }, true),
            },
            Step::Confirm => self.confirm(),
            Step::ThiefCopies => {
                self.thief.retain(|token| *token != self.held);
                self.thief.push(self.held);
                Ok(())
            }
            Step::ThiefRefresh(which) => {
                if self.thief.is_empty() {
                    return Ok(());
                }
                let token = self.thief[self.thief.len() - 1 - which % self.thief.len()];
                if let Seen::New(granted) | Seen::Again(granted) = self.present(Actor::Thief, token)? {
                    self.thief.retain(|token| *token != granted);
                    self.thief.push(granted);
                }
                Ok(())
            }
            Step::Logout => self.log_out(),
            Step::Wait(Pause(pause)) => {
                self.world.clock.advance(Duration::from_micros(pause.unsigned_abs()));
                self.passed += pause;
                Ok(())
            }
            Step::ClockBack | Step::ClockWasAhead => {
                let back = if step == Step::ClockBack { MINUTE } else { 120 * MINUTE };
                let earlier = self.world.now() - back;
                self.world.clock.set(Timestamp::from_micros(earlier));
                Ok(())
            }
            Step::Crash => {
                self.world.crash();
                Ok(())
            }
        }
    }

    /// Whether the session has reached its expiry.
    fn ended(&self) -> bool {
        self.tokens[self.current].says.expires_at <= self.world.now().div_euclid(SECOND)
    }

    /// Whether the provisos of property 1 let the honest client's request come now.
    fn allowed(&self, token: usize) -> bool {
        if token == self.current {
            return true;
        }
        let (current, presented) = (&self.tokens[self.current].says, &self.tokens[token].says);
        let overlapping = self.passed - self.granted_after < OVERLAP;
        let since_rotation = self.passed - self.rotated_after;
        let generations = current.generation - presented.generation;
        let lost = token == self.held;
        let (now, issued_at) = (self.world.now(), presented.issued_at * SECOND);
        // A clock that was ahead does not tell how long ago that was: an answer may be fetched, like a lost one.
        let dated = self.granted_at <= now + MINUTE;
        match generations {
            1 if overlapping => dated || (lost && current.branch < MAX_RECOVERIES),
            1 => lost && since_rotation <= RECOVERY && current.branch < MAX_RECOVERIES,
            2 if since_rotation < OVERLAP => true,
            0 => false,
            _ => now - issued_at < OVERLAP && issued_at <= now + MINUTE,
        }
    }

    fn honest_refresh(&mut self, token: usize, fate: Fate, duplicate: bool) -> Result<(), String> {
        let lives = self.checks(Check::Lives);
        if lives && !self.allowed(token) {
            self.story += "   (outside the provisos: not sent)";
            return Ok(());
        }
        self.requests.push(token);
        let seen = self.present(Actor::Honest, token)?;
        if lives {
            let fine = match seen {
                Seen::New(_) | Seen::Again(_) => true,
                Seen::Conflict => duplicate && token != self.held,
                _ => false,
            };
            if !fine {
                return Err("property 1: an honest client is turned away".into());
            }
        }
        let (Seen::New(granted) | Seen::Again(granted)) = seen else { return Ok(()) };
        match fate {
            // A client that has moved on has no use for the answer to an old request.
            Fate::Kept if duplicate && token != self.held && lives && granted != self.held => {}
            Fate::Kept => {
                (self.held, self.access) = (granted, self.accesses.len() - 1);
                self.lost = false;
            }
            Fate::UsedButNotStored => {
                self.lost = true;
                let (access, says) = &self.accesses[self.accesses.len() - 1];
                let (works, now) = (self.world.app().works(access), self.world.now());
                if self.checks(Check::Reference) && works != self.model.works(says, now) {
                    return Err(format!("reference: the access token works: {works}"));
                }
            }
            Fate::Lost => self.lost |= token == self.held,
        }
        Ok(())
    }

    fn present(&mut self, by: Actor, token: usize) -> Result<Seen, String> {
        let now = self.world.now();
        let answer = self.world.app().refresh(&self.tokens[token].text);
        let seen = match answer.status {
            200 => {
                let pair = answer.pair();
                if pair.session_id != self.session_id {
                    return Err("a pair of another session".into());
                }
                self.accesses.push((pair.access.clone(), says(&pair.access)));
                match self.tokens.iter().position(|known| known.text == pair.refresh) {
                    Some(known) => Seen::Again(known),
                    None => {
                        self.tokens.push(Known { says: says(&pair.refresh), text: pair.refresh, displaced_by: None });
                        Seen::New(self.tokens.len() - 1)
                    }
                }
            }
            409 if answer.code() == "refresh_conflict" => Seen::Conflict,
            400 if answer.code() == "invalid_grant" => {
                Seen::Refused(answer.json()["reason"].as_str().unwrap_or_default().to_owned())
            }
            status => Seen::Other(status, answer.text),
        };
        let _ = write!(self.story, "   {by:?} presents {} at {}: {seen:?}", self.place(token), now);
        if let Seen::New(granted) = seen {
            let _ = write!(self.story, " = {}", self.place(granted));
        }
        if self.checks(Check::Reference) {
            self.compare(token, now, &seen)?;
        }
        if self.checks(Check::Over) && self.revoked && !matches!(seen, Seen::Refused(_)) {
            return Err("property 4: a token of a revoked session is answered".into());
        }
        if self.checks(Check::Noticed) {
            self.notice(by, token, now, &seen)?;
        }
        self.note(by, token, now, &seen)?;
        Ok(seen)
    }

    /// The server against the reference model.
    fn compare(&mut self, token: usize, now: Micros, seen: &Seen) -> Result<(), String> {
        let (verdict, pair) = self.model.present(token, now);
        let as_expected = match (verdict, seen) {
            (Verdict::Rotate | Verdict::Recover, Seen::New(granted)) | (Verdict::Repeat, Seen::Again(granted)) => {
                pair.is_some_and(|pair| pair.refresh == *granted)
            }
            (Verdict::Conflict, Seen::Conflict) => true,
            (Verdict::Reused, Seen::Refused(reason)) => reason == "reused",
            (Verdict::Revoked, Seen::Refused(reason)) => reason == "revoked",
            (Verdict::Expired, Seen::Refused(reason)) => reason == "expired",
            _ => false,
        };
        if !as_expected {
            return Err(format!("reference: {verdict:?} was due"));
        }
        if let Some(pair) = pair {
            let (refresh, due) = (self.tokens[pair.refresh].says, self.model.tokens[pair.refresh]);
            let access = self.accesses[self.accesses.len() - 1].1;
            if (refresh, access) != (due, pair.access) {
                return Err(format!(
                    "reference: {due:?} and {:?} were due, not {refresh:?} and {access:?}",
                    pair.access
                ));
            }
        }
        Ok(())
    }

    /// Property 2. Apart: later than the overlap after the newest token was granted. What a client learns
    /// after the other has parted (a second theft) begins a new story.
    fn notice(&mut self, by: Actor, token: usize, now: Micros, seen: &Seen) -> Result<(), String> {
        let displaced_by_other = self.tokens[token].displaced_by.is_some_and(|actor| actor != by);
        let apart = now - self.granted_at >= OVERLAP;
        let expired = matches!(seen, Seen::Refused(reason) if reason == "expired");
        if !displaced_by_other || !apart || expired {
            return Ok(());
        }
        let both = self.parted.iter().any(|(other, known)| *other != by && token < *known);
        if both && !matches!(seen, Seen::Refused(_)) {
            return Err("property 2: both have shown tokens that the other displaced, and the session lives".into());
        }
        let known = self.tokens.len() - usize::from(matches!(seen, Seen::New(_)));
        self.parted.push((by, known));
        Ok(())
    }

    /// Property 3, and what there is to remember.
    fn note(&mut self, by: Actor, token: usize, now: Micros, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::New(granted) => {
                let (old, new) = (self.tokens[token].says, self.tokens[*granted].says);
                if self.checks(Check::OneLine) {
                    let same =
                        |known: &&Known| (known.says.generation, known.says.branch) == (new.generation, new.branch);
                    if self.tokens.iter().filter(same).count() != 1 {
                        return Err("property 3: two successors in one place".into());
                    }
                    let parent = usize::try_from(old.generation).ok().and_then(|at| self.parents.get(at));
                    if new.generation != old.generation + 1 || parent.is_some_and(|parent| *parent != token) {
                        return Err("property 3: two successors of a generation have rotated".into());
                    }
                }
                self.tokens[self.current].displaced_by = Some(by);
                if new.generation > self.tokens[self.current].says.generation {
                    self.rotated_after = self.passed;
                    self.parents.push(token);
                }
                (self.current, self.granted_at, self.granted_after) = (*granted, now, self.passed);
            }
            Seen::Again(granted) if self.checks(Check::OneLine) => {
                let (old, new) = (self.tokens[token].says, self.tokens[*granted].says);
                let parent = usize::try_from(old.generation).ok().and_then(|at| self.parents.get(at));
                if new.generation != old.generation + 1 || parent != Some(&token) || *granted != self.current {
                    return Err("property 3: an answer is repeated to a token it was not given for".into());
                }
            }
            Seen::Refused(reason) if reason == "reused" => {
                self.revoked = true;
                self.nothing_works()?;
            }
            Seen::Other(status, text) => return Err(format!("{status}: {text}")),
            _ => {}
        }
        Ok(())
    }

    fn confirm(&mut self) -> Result<(), String> {
        let (text, says) = &self.accesses[self.access];
        let answer = self.world.app().confirm(text);
        let _ = write!(self.story, "   gen {} br {}: {}", says.generation, says.branch, answer.status);
        if self.checks(Check::Reference) {
            let due = self.model.confirm(says, self.world.now());
            if due != answer.status {
                return Err(format!("reference: {due} was due"));
            }
        }
        if self.checks(Check::Over) && self.revoked && answer.status != 401 {
            return Err("property 4: a pair of a revoked session is confirmed".into());
        }
        Ok(())
    }

    fn log_out(&mut self) -> Result<(), String> {
        // Any genuine token ends its session, as long as that lives: as long as the newest token does.
        let live = self.tokens.iter().any(|token| token.says.expires_at > self.world.now().div_euclid(SECOND));
        let body = json!({ "refresh_token": self.tokens[self.held].text });
        let answer = self.world.app().post("/v1/auth/logout", &body);
        if self.checks(Check::Reference) {
            self.model.log_out(self.world.now());
        }
        if answer.status != 204 {
            return Err(format!("{}: {}", answer.status, answer.text));
        }
        self.revoked |= live;
        if self.revoked { self.nothing_works() } else { Ok(()) }
    }

    /// Property 4, tried with everything there is.
    fn nothing_works(&self) -> Result<(), String> {
        if !self.checks(Check::Over) {
            return Ok(());
        }
        let app = self.world.app();
        for (token, known) in self.tokens.iter().enumerate() {
            if app.refresh(&known.text).status != 400 {
                return Err(format!("property 4: {} is answered after the session was revoked", self.place(token)));
            }
        }
        for (access, says) in &self.accesses {
            if app.works(access) || app.confirm(access).status != 401 {
                return Err(format!("property 4: an access token works after the session was revoked: {says:?}"));
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.story += "\n  at the end";
        if self.checks(Check::Lives) {
            self.honest_refresh(self.held, Fate::Kept, false)?;
        }
        if self.revoked {
            self.nothing_works()?;
        }
        if self.checks(Check::Reference) {
            let now = self.world.now();
            for (access, says) in self.accesses.iter().rev().take(2) {
                let works = self.world.app().works(access);
                if works != self.model.works(says, now) {
                    return Err(format!("reference: an access token works: {works}; {says:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Runs one schedule on a session of its own.
fn try_schedule(world: &mut World, checks: &[Check], steps: &[Step]) -> Result<(), String> {
    let mut case = Case::start(world, checks);
    case.run(steps).map_err(|wrong| format!("{wrong}, after{}", case.story))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn check(checks: &[Check], cases: u32, schedules: impl Strategy<Value = Vec<Step>>) {
    let seed = number("MODEL_SEED").unwrap_or(1);
    let cases = number("MODEL_CASES").map_or(cases, |cases| u32::try_from(cases).expect("not too many"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 600, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let world = RefCell::new(World::new());
    let result = runner
        .run(&schedules, |steps| try_schedule(&mut world.borrow_mut(), checks, &steps).map_err(TestCaseError::fail));
    if let Err(wrong) = result {
        panic!("MODEL_SEED={seed}: {wrong}");
    }
}

#[test]
fn every_answer_is_what_the_rules_say() {
    check(&[Check::Reference], 250, schedule());
}

#[test]
fn without_a_thief_the_session_lives_until_its_expiry() {
    check(&[Check::Lives], 250, honest_schedule());
}

#[test]
fn a_thief_and_an_honest_client_who_part_end_the_session() {
    check(&[Check::Noticed], 250, schedule());
}

#[test]
fn there_is_one_line_of_succession() {
    check(&[Check::OneLine], 250, schedule());
}

#[test]
fn after_a_revocation_nothing_works() {
    check(&[Check::Over], 150, schedule());
}

/// The steps of the exhaustive search.
const ALPHABET: [Step; 6] = [
    Step::HonestRefresh(Fate::Kept),
    Step::HonestRefresh(Fate::Lost),
    Step::Duplicate { back: 0, kept: false },
    Step::ThiefCopies,
    Step::ThiefRefresh(0),
    Step::Wait(Pause(31 * SECOND)),
];

const DEPTH: usize = 5;

/// Whether a sequence is another one with a step that changes nothing.
fn redundant(steps: &[Step]) -> bool {
    let before = |at: usize, wanted: fn(&Step) -> bool| steps[..at].iter().any(wanted);
    let sent: fn(&Step) -> bool = |step| matches!(step, Step::HonestRefresh(_));
    let copied: fn(&Step) -> bool = |step| matches!(step, Step::ThiefCopies);
    let silent = |step: &Step| matches!(step, Step::Wait(_) | Step::ThiefCopies);
    let last_is_silent = steps.last().is_some_and(silent);
    let idle = steps.iter().enumerate().any(|(at, step)| match step {
        Step::Duplicate { .. } => !before(at, sent),
        Step::ThiefRefresh(_) => !before(at, copied),
        Step::Wait(_) => at == 0,
        _ => false,
    });
    // Copying and waiting commute.
    let repeated =
        steps.windows(2).any(|pair| silent(&pair[0]) && (pair[0] == pair[1] || pair[1] == Step::ThiefCopies));
    last_is_silent || idle || repeated
}

#[test]
fn every_short_schedule_keeps_every_rule() {
    let mut world = World::new();
    let checks = [Check::Reference, Check::Noticed, Check::OneLine, Check::Over];
    let (mut layer, mut tried) = (vec![Vec::new()], 0);
    for _ in 0..DEPTH {
        let longer = layer.iter().flat_map(|steps: &Vec<Step>| {
            ALPHABET.iter().map(|step| steps.iter().copied().chain([*step]).collect::<Vec<_>>())
        });
        layer = longer.collect();
        // A shorter schedule is the beginning of a longer one: only the longest need be run.
    }
    for steps in layer.iter().filter(|steps| !redundant(steps)) {
        if let Err(wrong) = try_schedule(&mut world, &checks, steps) {
            panic!("{wrong}");
        }
        tried += 1;
    }
    println!("{tried} schedules of {DEPTH} steps");
}
