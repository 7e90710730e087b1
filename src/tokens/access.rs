//! Access tokens: short-lived, signed, verified without a query (RFC 9068).

use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::claims::ExtraClaims;
use super::jws::{self, Rejected};
use super::key_reading::KeyReading;
use super::keys::KeyRing;
use super::{ChainPosition, Kind, SignError};
use crate::clock::Timestamp;
use crate::ids::{SessionId, UserId};

/// How far in the future `iat` and `nbf` may lie, for nodes whose clocks differ. `exp` gets none.
const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// `aud`: a string where there is one, an array where there are several (RFC 7519 section 4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

impl<'a> Audience<'a> {
    fn of(names: &'a [String]) -> Self {
        match names {
            [one] => Self::One(one),
            several => Self::Several(several),
        }
    }
}

/// `aud` as read.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReadAudience {
    One(String),
    Several(Vec<String>),
}

impl ReadAudience {
    /// Whether it names an audience, and none but `ours`: a token that is for others too could come from them.
    fn is_only(&self, ours: &[String]) -> bool {
        match self {
            Self::One(name) => ours.contains(name),
            Self::Several(names) => !names.is_empty() && names.iter().all(|name| ours.contains(name)),
        }
    }
}

/// The claims, in the order in which they are written.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: Audience<'a>,
    sub: UserId,
    client_id: &'a str,
    sid: SessionId,
    jti: Uuid,
    iat: i64,
    exp: i64,
    /// Left out if there are none: validators by RFC 9068 refuse an empty array.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    roles: &'a [String],
    r#gen: u32,
    br: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    amr: &'static [&'static str],
    /// None of them has a name from above.
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// The claims as read: every one typed, and required (RFC 9068 section 2.2) unless it has a default or is optional.
#[derive(Deserialize)]
struct ReadClaims {
    iss: String,
    aud: ReadAudience,
    sub: UserId,
    #[serde(rename = "client_id")]
    _client_id: String,
    sid: SessionId,
    #[serde(rename = "jti")]
    _jti: Uuid,
    iat: i64,
    exp: i64,
    #[serde(default)]
    roles: Vec<String>,
    r#gen: u32,
    br: u32,
    nbf: Option<i64>,
    /// A token bound to a key (RFC 7800) is not ours to take as a bearer token.
    cnf: Option<IgnoredAny>,
    /// Of tokens from before there was such a claim, this and the next are not known.
    auth_time: Option<i64>,
    #[serde(default)]
    amr: Vec<String>,
}

/// How a user signed in, by a password alone or with a second factor besides: claim `amr` (RFC 8176).
const BY_PASSWORD: &[&str] = &["pwd"];
const BY_TWO_FACTORS: &[&str] = &["pwd", "otp", MFA];
const MFA: &str = "mfa";

/// When and how the user of a session has signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// Claim `auth_time`. None: the token is from before there was such a claim.
    pub at: Option<Timestamp>,
    /// Whether with a second factor.
    pub mfa: bool,
}

impl Authentication {
    /// Claim `amr`.
    pub fn methods(self) -> &'static [&'static str] {
        if self.mfa { BY_TWO_FACTORS } else { BY_PASSWORD }
    }
}

/// What an access token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Claim `sub`.
    pub user_id: UserId,
    /// Claim `sid`.
    pub session_id: SessionId,
    /// The rotation it came from; claims `gen` and `br`.
    pub position: ChainPosition,
    /// Claim `roles`.
    pub roles: Vec<String>,
    /// Claim `exp`.
    pub expires_at: Timestamp,
    /// Claims `auth_time` and `amr`.
    pub authentication: Authentication,
    /// The others.
    pub claims: ExtraClaims,
}

/// Who signs access tokens, for whom, and for how long.
#[derive(Debug)]
pub struct AccessTokens {
    ring: KeyRing,
    issuer: String,
    audience: Vec<String>,
    /// The issuers that verify, ours and earlier ones, each with what its tokens may be for.
    accepted: Vec<(String, Vec<String>)>,
    client_id: String,
    lifetime: Duration,
    /// The longest life of a token that may have been issued.
    longest: Duration,
    reading: KeyReading,
}

impl AccessTokens {
    /// `audience` is the issuer if it is empty. A token of a previous issuer may have had that issuer as its audience.
    pub fn new(
        ring: KeyRing,
        issuer: String,
        previous_issuers: &[String],
        audience: Vec<String>,
        client_id: String,
        lifetime: Duration,
    ) -> Self {
        let audience_of = |issuer: &String| if audience.is_empty() { vec![issuer.clone()] } else { audience.clone() };
        let with_itself = |iss: &String| audience.iter().chain([iss]).cloned().collect();
        let previous = previous_issuers.iter().map(|iss| (iss.clone(), with_itself(iss)));
        let accepted = std::iter::once((issuer.clone(), audience_of(&issuer))).chain(previous).collect();
        let audience = audience_of(&issuer);
        Self {
            ring,
            issuer,
            audience,
            accepted,
            client_id,
            lifetime,
            longest: lifetime,
            reading: KeyReading::default(),
        }
    }

    /// The same with keys that are read again and again.
    #[must_use]
    pub fn reading(self, reading: KeyReading) -> Self {
        Self { reading, ..self }
    }

    /// The same, which takes tokens that were given as long a life as `before` gave them.
    #[must_use]
    pub fn following(self, before: &Self) -> Self {
        Self { longest: self.longest.max(before.longest), ..self }
    }

    /// Whether there is a key to sign with.
    pub fn can_sign(&self) -> bool {
        self.ring.active().is_some()
    }

    /// Whether it cannot be told if a token that was refused is one of ours: it names a key that may be a new one.
    pub fn cannot_tell(&self, token: &str) -> bool {
        !self.reading.is_complete() && jws::names_unknown_key(Kind::Access, &self.ring, token)
    }

    /// How long a token lives.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The JWK Set that verifies these tokens (RFC 7517); empty under HS256.
    pub fn public_set(&self) -> Value {
        self.ring.public_set()
    }

    /// Signs a token for `bearer`, valid from `issued_at` until `bearer.expires_at`, but never for longer
    /// than a lifetime (a clock that stepped back would otherwise stretch it). Also returns its `exp`.
    ///
    /// # Errors
    ///
    /// If the key cannot sign.
    pub fn issue(&self, bearer: &Bearer, issued_at: Timestamp) -> Result<(String, Timestamp), SignError> {
        let exp = bearer.expires_at.min(issued_at.plus(self.lifetime));
        let key = self.ring.active().ok_or_else(|| SignError("the keys have not been read yet".into()))?;
        let token = jws::sign(
            Kind::Access,
            key,
            &Claims {
                iss: &self.issuer,
                aud: Audience::of(&self.audience),
                sub: bearer.user_id,
                client_id: &self.client_id,
                sid: bearer.session_id,
                jti: Uuid::new_v4(),
                iat: issued_at.as_seconds(),
                exp: exp.as_seconds(),
                roles: &bearer.roles,
                r#gen: bearer.position.generation,
                br: bearer.position.branch,
                auth_time: bearer.authentication.at.map(Timestamp::as_seconds),
                amr: bearer.authentication.methods(),
                extra: bearer.claims.members(),
            },
        )?;
        Ok((token, exp))
    }

    /// Checks everything about a token that needs no query: RFC 9068 section 4, RFC 8725, and the attack table in
    /// `tests/api/jwt_attacks.rs`. Not its times, which are another question at each moment: [`Genuine::is_in_time`].
    ///
    /// # Errors
    ///
    /// [`Rejected`], whatever was wrong.
    pub fn read(&self, token: &str) -> Result<Genuine, Rejected> {
        let (claims, extra) = self.signed(token)?;
        let longest = i64::try_from(self.longest.as_secs()).unwrap_or(i64::MAX);
        if claims.exp.saturating_sub(claims.iat) > longest || claims.cnf.is_some() {
            return Err(Rejected);
        }
        let bearer = Bearer {
            user_id: claims.sub,
            session_id: claims.sid,
            position: ChainPosition { generation: claims.r#gen, branch: claims.br },
            roles: claims.roles,
            expires_at: Timestamp::from_seconds(claims.exp),
            authentication: Authentication {
                at: claims.auth_time.map(Timestamp::from_seconds),
                mfa: claims.amr.iter().any(|method| method == MFA),
            },
            claims: extra,
        };
        Ok(Genuine { bearer, starts_at: claims.nbf.map_or(claims.iat, |nbf| nbf.max(claims.iat)) })
    }

    /// The user and the session that a token of ours was issued for, however old it is, and whatever lifetime and
    /// audience it was given: enough to end that session, and for nothing else.
    ///
    /// # Errors
    ///
    /// [`Rejected`] if it is no token of ours.
    pub fn session_of(&self, token: &str) -> Result<(UserId, SessionId), Rejected> {
        let claims = jws::verify::<ReadClaims>(Kind::Access, &self.ring, token)?.claims;
        let ours = self.accepted.iter().any(|(iss, _)| *iss == claims.iss);
        if ours { Ok((claims.sub, claims.sid)) } else { Err(Rejected) }
    }

    /// The claims of a token that one of our keys signed, for one of our issuers and its audience; and the others.
    fn signed(&self, token: &str) -> Result<(ReadClaims, ExtraClaims), Rejected> {
        let verified = jws::verify::<ReadClaims>(Kind::Access, &self.ring, token)?;
        // What cannot be read of them, as too deep, is none of those that we have written.
        let extra = verified.read_as().unwrap_or_default();
        let claims = verified.claims;
        let ours = self.accepted.iter().any(|(iss, ours)| *iss == claims.iss && claims.aud.is_only(ours));
        if ours { Ok((claims, extra)) } else { Err(Rejected) }
    }
}

/// A token of ours, whatever the time.
#[derive(Clone, Debug)]
pub struct Genuine {
    /// What it says.
    pub bearer: Bearer,
    /// The later of `iat` and `nbf`.
    starts_at: i64,
}

impl Genuine {
    /// Whether it has begun, give or take a few seconds, and has not ended.
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        now < self.bearer.expires_at && self.starts_at <= now.plus(CLOCK_SKEW).as_seconds()
    }
}
