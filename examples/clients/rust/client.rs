//! A client to copy: it keeps one person signed in, whatever becomes of requests and answers. The rules it
//! follows, and why each is there, are in `docs/clients.md`; `../typescript/client.ts` is the same in TypeScript.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::thread;
use std::time::{Duration, SystemTime};

use reqwest::blocking::{RequestBuilder, Response};
use reqwest::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::file_store::FileStore;

/// How often a refresh that the caller waits for is tried.
const ATTEMPTS: u32 = 6;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that the server may ask to wait between two attempts, in seconds; beyond that it is the caller's wait.
const LONGEST_WAIT: u64 = 30;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are no tokens (any more): ask for the password.
    #[error("signed out")]
    SignedOut,
    /// The password is right, and a code is asked for: [`Client::enter_code`] takes it, with this, within five minutes.
    #[error("a code of the second factor is asked for")]
    CodeRequired(String),
    /// No answer, or none yet. Nothing is lost: call again later.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// What went wrong.
        reason: String,
        /// How many seconds the server asked to be left alone.
        retry_after: Option<u64>,
    },
    /// An answer that will be the same next time. Nothing is lost.
    #[error("refused: {0}")]
    Refused(String),
    /// The store cannot be read or written. That is not the same as an empty one.
    #[error("the token store: {0}")]
    Store(#[from] io::Error),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Unavailable { reason: error.to_string(), retry_after: None }
    }
}

/// What is kept between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    access_token: String,
    refresh_token: String,
    /// When to refresh, in milliseconds since 1970 by our own clock: a tenth before the access token ends.
    refresh_at: u64,
}

/// What is read of an answer: nothing where it is not ours but, say, the log-in page of a hotel.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    code: Option<String>,
    mfa_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

/// One signed-in person. Share it among threads; other processes may use the same store.
pub struct Client {
    server: String,
    store: FileStore,
    http: reqwest::blocking::Client,
}

impl Client {
    /// A client of the server at this address, with no slash at its end.
    pub fn new(server: impl Into<String>, store: FileStore) -> Result<Self, Error> {
        let http = reqwest::blocking::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build()?;
        Ok(Self { server: server.into(), store, http })
    }

    /// Signs in, in the place of the user who was signed in.
    pub fn sign_in(&self, email: &str, password: &str) -> Result<(), Error> {
        self.enter("/v1/auth/login", &json!({ "email": email, "password": password }))
    }

    /// Signs in with a code, after [`Error::CodeRequired`]. A code that is [`Error::Refused`] can be followed by another.
    pub fn enter_code(&self, mfa_token: &str, code: &str) -> Result<(), Error> {
        self.enter("/v1/auth/mfa", &json!({ "mfa_token": mfa_token, "code": code }))
    }

    fn enter(&self, path: &str, body: &Value) -> Result<(), Error> {
        let pair = self.ask(path, body)?;
        let _turn = self.store.lock()?;
        Ok(self.store.write(&pair)?)
    }

    /// Ends the session, then forgets the tokens.
    pub fn sign_out(&self) -> Result<(), Error> {
        let _turn = self.store.lock()?;
        if let Some(stored) = self.store.read()? {
            let body = json!({ "refresh_token": stored.refresh_token });
            self.http.post(self.url("/v1/auth/logout")).json(&body).send()?.error_for_status()?;
            self.store.clear()?;
        }
        Ok(())
    }

    /// Sends a request with the access token, and once more with a new one if the server does not take it.
    pub fn send(&self, build: impl Fn(&reqwest::blocking::Client) -> RequestBuilder) -> Result<Response, Error> {
        let pair = self.pair()?;
        let answer = build(&self.http).bearer_auth(&pair.access_token).send()?;
        let challenge = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        if !challenge.is_some_and(|text| text.contains("error=\"invalid_token\"")) {
            return Ok(answer);
        }
        let pair = self.refresh(&pair)?;
        Ok(build(&self.http).bearer_auth(&pair.access_token).send()?)
    }

    /// The whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    /// The stored pair, or the next one if it is about time.
    fn pair(&self) -> Result<Pair, Error> {
        let stored = self.store.read()?.ok_or(Error::SignedOut)?;
        if now() < stored.refresh_at {
            return Ok(stored);
        }
        // It is early: while another client is asking, or without an answer, the access token still serves.
        let Some(turn) = self.store.try_lock()? else { return Ok(stored) };
        match self.exchange(turn, &stored) {
            Err(Error::Unavailable { .. }) => Ok(stored),
            decided => decided,
        }
    }

    /// The next pair, however long it takes.
    fn refresh(&self, old: &Pair) -> Result<Pair, Error> {
        for attempt in 1..ATTEMPTS {
            match self.exchange(self.store.lock()?, old) {
                Err(Error::Unavailable { retry_after, .. }) if retry_after <= Some(LONGEST_WAIT) => {
                    thread::sleep(pause(attempt, retry_after));
                }
                decided => return decided,
            }
        }
        self.exchange(self.store.lock()?, old)
    }

    /// Tries once to exchange a pair for the next, unless another has done so while this one waited for its turn.
    fn exchange(&self, turn: File, old: &Pair) -> Result<Pair, Error> {
        let stored = self.store.read()?.ok_or(Error::SignedOut)?;
        if stored.refresh_token != old.refresh_token {
            return Ok(stored);
        }
        match self.ask("/v1/auth/refresh", &json!({ "refresh_token": stored.refresh_token })) {
            Ok(pair) => {
                self.store.write(&pair)?;
                drop(turn);
                self.confirm(&pair);
                Ok(pair)
            }
            // Nothing but `invalid_grant` throws tokens away, and only those that it was said of.
            Err(Error::SignedOut) => match self.store.read()? {
                Some(newer) if newer != stored => Ok(newer),
                _ => self.store.clear().map_err(Error::from).and(Err(Error::SignedOut)),
            },
            undecided => undecided,
        }
    }

    /// Tells the server that the pair is safe, so that the token before it is worth nothing to a thief. Nothing waits
    /// for it: if it does not arrive, nothing is wrong.
    fn confirm(&self, pair: &Pair) {
        let request = self.http.post(self.url("/v1/auth/refresh/confirm")).bearer_auth(&pair.access_token);
        thread::spawn(move || request.send());
    }

    /// Asks for a pair, and sorts what is answered instead.
    fn ask(&self, path: &str, body: &Value) -> Result<Pair, Error> {
        let answer = self.http.post(self.url(path)).json(body).send()?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let members: Members = serde_json::from_str(&answer.text()?).unwrap_or_default();
        let code = members.code.unwrap_or_default();
        let reason = format!("{status} {code}");
        if let (401, "mfa_required", Some(mfa_token)) = (status, code.as_str(), members.mfa_token) {
            return Err(Error::CodeRequired(mfa_token));
        }
        match (status, members.access_token, members.refresh_token, members.expires_in) {
            (200, Some(access_token), Some(refresh_token), Some(life)) => {
                Ok(Pair { access_token, refresh_token, refresh_at: now() + life * 900 })
            }
            (400, ..) if code == "invalid_grant" => Err(Error::SignedOut),
            (400..=407 | 410..=428 | 430..=499, ..) => Err(Error::Refused(reason)),
            _ => Err(Error::Unavailable { reason, retry_after }),
        }
    }
}

/// At least what the server asks for, else longer each time; and a random part, so that clients do not come in step.
fn pause(attempt: u32, retry_after: Option<u64>) -> Duration {
    let step = 100 << attempt.min(6);
    let least = retry_after.map_or(step, |seconds| seconds * 1000);
    Duration::from_millis(least + RandomState::new().hash_one(attempt) % step)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
