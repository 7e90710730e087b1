//! One client: a connection, and the sessions it uses in turn.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use uuid::Uuid;

use crate::Outcome;
use crate::http::{Connection, member, write_request};
use crate::load::What;

const PASSWORD: &str = "an inimitable turnip";
/// As long as a refresh token of ours.
const TOKEN_LENGTH: usize = 560;

/// The tokens of a session.
struct Pair {
    access: String,
    refresh: String,
}

/// A client that asks, and waits for the answer.
pub struct Client {
    address: SocketAddr,
    /// Which of this machine's addresses it has.
    from: Ipv4Addr,
    connection: Connection,
    email: String,
    sessions: VecDeque<Pair>,
    request: Vec<u8>,
    turns: u32,
    /// The body of a POST that no token is read from.
    stand_in: String,
}

impl Client {
    /// A client without sessions.
    pub async fn connect_from(from: Ipv4Addr, address: SocketAddr) -> Outcome<Self> {
        Ok(Self {
            address,
            from,
            connection: Connection::open_from(from, address).await?,
            email: format!("{}@bench.example", Uuid::new_v4()),
            sessions: VecDeque::new(),
            request: Vec::with_capacity(2048),
            turns: 0,
            stand_in: "t".repeat(TOKEN_LENGTH),
        })
    }

    /// Connects anew, for a connection on which something failed may be out of step.
    pub async fn reconnect(&mut self) -> Outcome<()> {
        self.connection = Connection::open_from(self.from, self.address).await?;
        Ok(())
    }

    /// The server is another one from now on.
    pub fn move_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// The account it logs in to.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// Logs in to another account from now on.
    pub fn log_in_as(&mut self, email: &str) {
        email.clone_into(&mut self.email);
    }

    /// Registers, and logs in for each further session.
    pub async fn sign_in(&mut self, sessions: usize) -> Outcome<()> {
        self.credentials("/v1/auth/register").await?;
        for _ in 1..sessions {
            self.credentials("/v1/auth/login").await?;
        }
        Ok(())
    }

    /// Sends one request and takes its answer, which must be a success.
    pub async fn act(&mut self, what: What, path: &str) -> Outcome<()> {
        self.turns = self.turns.wrapping_add(1);
        match what {
            What::Refresh => self.refresh().await,
            What::Guarded => self.guarded(path).await,
            What::Me => self.guarded("/v1/users/me").await,
            What::Login => {
                self.credentials("/v1/auth/login").await?;
                self.sessions.truncate(1);
                Ok(())
            }
            What::Mix => match self.turns % 100 {
                0 => Box::pin(self.act(What::Login, path)).await,
                turn if turn.is_multiple_of(10) => self.refresh().await,
                _ => self.guarded("/v1/users/me").await,
            },
            What::Get => {
                write_request(&mut self.request, "GET", path, None, &[]);
                self.send().await.map(drop)
            }
            What::Post => {
                let body = [r#"{"refresh_token":""#, self.stand_in.as_str(), r#""}"#];
                write_request(&mut self.request, "POST", path, None, &body);
                self.send().await.map(drop)
            }
        }
    }

    async fn refresh(&mut self) -> Outcome<()> {
        let pair = self.sessions.pop_front().ok_or("this client has no session left")?;
        let body = [r#"{"refresh_token":""#, pair.refresh.as_str(), r#""}"#];
        write_request(&mut self.request, "POST", "/v1/auth/refresh", None, &body);
        let next = match self.send().await.and_then(pair_of) {
            Ok(next) => next,
            Err(fault) => {
                self.sessions.push_back(pair);
                return Err(fault);
            }
        };
        self.sessions.push_back(next);
        Ok(())
    }

    async fn guarded(&mut self, path: &str) -> Outcome<()> {
        let pair = self.sessions.front().ok_or("this client has no session")?;
        write_request(&mut self.request, "GET", path, Some(&pair.access), &[]);
        self.send().await.map(drop)
    }

    async fn credentials(&mut self, path: &str) -> Outcome<()> {
        let body = [r#"{"email":""#, self.email.as_str(), r#"","password":""#, PASSWORD, r#""}"#];
        write_request(&mut self.request, "POST", path, None, &body);
        let pair = self.send().await.and_then(pair_of)?;
        self.sessions.push_front(pair);
        Ok(())
    }

    async fn send(&mut self) -> Outcome<&str> {
        let answer = self.connection.exchange(&self.request).await?;
        if (200..300).contains(&answer.status) {
            Ok(answer.body)
        } else {
            let start: String = answer.body.chars().take(200).collect();
            Err(format!("status {}: {start}", answer.status).into())
        }
    }
}

fn pair_of(body: &str) -> Outcome<Pair> {
    let token = |name| member(body, name).map(str::to_owned).ok_or("an answer without tokens");
    Ok(Pair { access: token("access_token")?, refresh: token("refresh_token")? })
}
