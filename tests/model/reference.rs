//! The rules of rotation once more, written from `docs/rotation.md` and not from the server: what each
//! presentation of a refresh token must come to. Tokens are numbered in the order in which they are granted.

/// A moment or a span, in microseconds.
pub type Micros = i64;

pub const SECOND: Micros = 1_000_000;
pub const MINUTE: Micros = 60 * SECOND;
pub const DAY: Micros = 24 * 3600 * SECOND;

pub const OVERLAP: Micros = 30 * SECOND;
pub const RECOVERY: Micros = 7 * DAY;
/// Fewer than by default, so that schedules come to the last one.
pub const MAX_RECOVERIES: u32 = 3;
pub const IDLE: Micros = 10 * DAY;
pub const ABSOLUTE: Micros = 25 * DAY;
pub const ACCESS: Micros = 900 * SECOND;

/// What a presented token comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Rotate,
    Repeat,
    Recover,
    Conflict,
    Reused,
    Revoked,
    Expired,
}

/// What a token says of itself; whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub generation: u32,
    pub branch: u32,
    pub issued_at: i64,
    pub expires_at: i64,
}

/// A pair: the number of its refresh token, and what its access token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub refresh: usize,
    pub access: Token,
}

/// A session, as far as the rules go.
#[derive(Debug)]
pub struct Session {
    pub tokens: Vec<Token>,
    current: usize,
    previous: Option<usize>,
    rotated_at: Micros,
    branched_at: Micros,
    confirmed: bool,
    access_expires_at: Micros,
    idle_expires_at: Micros,
    expires_at: Micros,
    revoked: bool,
}

fn floor(moment: Micros) -> Micros {
    moment - moment.rem_euclid(SECOND)
}

/// Negative differences count as zero.
fn since(now: Micros, then: Micros) -> Micros {
    (now - then).max(0)
}

impl Session {
    pub fn start(now: Micros) -> Self {
        let expires_at = floor(now) + ABSOLUTE;
        let idle_expires_at = (floor(now) + IDLE).min(expires_at);
        let first = Token { generation: 0, branch: 0, issued_at: now / SECOND, expires_at: idle_expires_at / SECOND };
        Self {
            tokens: vec![first],
            current: 0,
            previous: None,
            rotated_at: now,
            branched_at: now,
            confirmed: false,
            access_expires_at: (floor(now) + ACCESS).min(idle_expires_at),
            idle_expires_at,
            expires_at,
            revoked: false,
        }
    }

    fn place(&self, token: usize) -> (u32, u32) {
        (self.tokens[token].generation, self.tokens[token].branch)
    }

    fn judge(&self, token: usize, now: Micros) -> Verdict {
        let over = self.idle_expires_at <= now || self.expires_at <= now;
        if self.revoked {
            return Verdict::Revoked;
        }
        if over {
            return Verdict::Expired;
        }
        if token == self.current {
            return Verdict::Rotate;
        }
        // A clock that was more than a minute ahead says nothing of how long ago something was.
        let unknown = self.branched_at > now + MINUTE;
        let overlapping = since(now, self.branched_at) < OVERLAP;
        if Some(token) == self.previous {
            let recoverable = since(now, self.rotated_at) <= RECOVERY && self.place(self.current).1 < MAX_RECOVERIES;
            return match (unknown, overlapping, self.confirmed) {
                (true, _, false) if recoverable => Verdict::Recover,
                (true, _, _) | (false, true, true) => Verdict::Conflict,
                (false, true, false) => Verdict::Repeat,
                (false, false, false) if recoverable => Verdict::Recover,
                (false, false, _) => Verdict::Reused,
            };
        }
        let (presented, current) = (self.tokens[token], self.tokens[self.current]);
        if presented.generation == current.generation {
            return Verdict::Reused;
        }
        let two_back = presented.generation + 2 == current.generation;
        let issued_at = presented.issued_at * SECOND;
        let young = since(now, issued_at) < OVERLAP && issued_at <= now + MINUTE;
        if (two_back && since(now, self.rotated_at) < OVERLAP) || young { Verdict::Conflict } else { Verdict::Reused }
    }

    /// Presents a token: what is answered, and the pair if there is one.
    pub fn present(&mut self, token: usize, now: Micros) -> (Verdict, Option<Pair>) {
        // Past its own `exp` a token still gets its lost answer, for which the recovery window counts, and a
        // late duplicate is still one; but it proves nothing against any client.
        let past_its_time = self.tokens[token].expires_at <= now.div_euclid(SECOND);
        let verdict = match self.judge(token, now) {
            verdict @ (Verdict::Repeat | Verdict::Recover | Verdict::Conflict) => verdict,
            _ if past_its_time => Verdict::Expired,
            verdict => verdict,
        };
        let (generation, branch) = self.place(self.current);
        match verdict {
            Verdict::Rotate => {
                self.idle_expires_at = (floor(now) + IDLE).min(self.expires_at);
                self.previous = Some(self.current);
                self.rotated_at = now;
                self.confirmed = false;
                self.branch_off(generation + 1, 0, now);
            }
            Verdict::Recover => self.branch_off(generation, branch + 1, now),
            Verdict::Reused => self.revoked = true,
            Verdict::Repeat | Verdict::Conflict | Verdict::Revoked | Verdict::Expired => {}
        }
        let granted = matches!(verdict, Verdict::Rotate | Verdict::Recover | Verdict::Repeat);
        (verdict, granted.then(|| self.pair(now)))
    }

    fn branch_off(&mut self, generation: u32, branch: u32, now: Micros) {
        self.branched_at = now;
        self.access_expires_at = (floor(now) + ACCESS).min(self.idle_expires_at);
        self.current = self.tokens.len();
        let (issued_at, expires_at) = (now.div_euclid(SECOND), self.idle_expires_at / SECOND);
        self.tokens.push(Token { generation, branch, issued_at, expires_at });
    }

    fn pair(&self, now: Micros) -> Pair {
        let (generation, branch) = self.place(self.current);
        let issued_at = self.branched_at.min(now).div_euclid(SECOND);
        let expires_at = (self.access_expires_at / SECOND).min(issued_at + ACCESS / SECOND);
        Pair { refresh: self.current, access: Token { generation, branch, issued_at, expires_at } }
    }

    /// Confirms the pair that an access token belongs to; returns the status.
    pub fn confirm(&mut self, access: &Token, now: Micros) -> u16 {
        if self.revoked || !in_time(access, now) {
            return 401;
        }
        if (access.generation, access.branch) != self.place(self.current) {
            return 409;
        }
        self.confirmed = true;
        204
    }

    /// Logs out with any token of the session, however old.
    pub fn log_out(&mut self, now: Micros) {
        let live = self.idle_expires_at > now && self.expires_at > now;
        self.revoked |= live;
    }

    /// Whether an access token opens a route that looks at the account.
    pub fn works(&self, access: &Token, now: Micros) -> bool {
        !self.revoked && self.expires_at > now && in_time(access, now)
    }
}

/// `iat` may lie five seconds in the future.
fn in_time(access: &Token, now: Micros) -> bool {
    let now = now.div_euclid(SECOND);
    now < access.expires_at && access.issued_at <= now + 5
}
