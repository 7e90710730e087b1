//! The flow of a log-in: the password, then the second factor where there is one, then the session.

mod mfa_token;

use std::net::IpAddr;

use self::mfa_token::HalfWay;
use crate::clock::Clock;
use crate::current::Current;
use crate::ids::{SessionId, UserId};
use crate::passwords::Password;
use crate::secret::Secret;
use crate::sessions::{Admission, Sessions, SignIn, StartError, TokenPair};
use crate::store::StoreError;
use crate::store::sessions::Device;
use crate::store::users::UserRow;
use crate::tokens::keys::KeyError;
use crate::tokens::sealing::SealingKeys;
use crate::users::second_factor::{SecondFactorError, Shown, digest_of};
use crate::users::{UserError, Users};

/// How often a log-in whose account changes under it starts over.
const MAX_RETRIES: usize = 3;

/// What a log-in goes through. Clones share it.
#[derive(Clone)]
pub struct LogIn {
    users: Users,
    sessions: Sessions,
    sealing: Current<SealingKeys>,
    clock: Clock,
}

/// An e-mail address and a password, and where they come from.
pub struct Credentials {
    /// The address, however it is spelt.
    pub email: String,
    /// The password.
    pub password: Password,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Whose valid access token came with them.
    pub signed_in: Option<UserId>,
}

/// What the client shows for the second step of a log-in.
pub struct SecondStep {
    /// What the first step gave it.
    pub mfa_token: Secret,
    /// The code.
    pub shown: Shown,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// What can be seen of the client.
    pub device: Device,
    /// Sessions that end as soon as the new one has begun.
    pub replaces: Vec<SessionId>,
}

/// What a password leads to.
pub enum Entered {
    /// A session.
    Session(Box<(TokenPair, UserRow)>),
    /// The second factor is asked for.
    SecondFactor {
        /// To be shown with the code.
        mfa_token: Secret,
        /// Whether there are recovery codes that are unused.
        has_recovery_codes: bool,
    },
}

/// Why a log-in led to neither.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// The account, its password, the limits.
    #[error(transparent)]
    User(#[from] UserError),
    /// The session.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The second factor.
    #[error(transparent)]
    SecondFactor(SecondFactorError),
    /// What carries a log-in to the second factor is none of ours, or can no longer be used.
    #[error("the log-in is to begin anew")]
    Over,
    /// It could not be made.
    #[error("what carries a log-in to the second factor could not be made")]
    Sealing(#[source] KeyError),
}

impl From<StoreError> for LogInError {
    fn from(error: StoreError) -> Self {
        Self::User(error.into())
    }
}

impl From<SecondFactorError> for LogInError {
    fn from(error: SecondFactorError) -> Self {
        match error {
            SecondFactorError::User(error) => Self::User(error),
            // It was removed meanwhile: the password alone is enough, and is to be shown again.
            SecondFactorError::NoneThere => Self::Over,
            other => Self::SecondFactor(other),
        }
    }
}

impl LogIn {
    /// Puts the parts together.
    pub fn new(users: Users, sessions: Sessions, sealing: Current<SealingKeys>, clock: Clock) -> Self {
        Self { users, sessions, sealing, clock }
    }

    /// The first step.
    ///
    /// # Errors
    ///
    /// [`LogInError`].
    pub async fn with_password(&self, credentials: Credentials, sign_in: SignIn) -> Result<Entered, LogInError> {
        let Credentials { email, password, address, signed_in } = credentials;
        for _ in 0..MAX_RETRIES {
            let who = self.users.authenticate(&email, password.clone(), address, signed_in).await?;
            if who.user.mfa_since.is_some() {
                let half_way = HalfWay {
                    user: who.user.id,
                    password: digest_of(&who.password_hash),
                    device_name: sign_in.device_name,
                    transport: sign_in.transport,
                    remember: sign_in.remember,
                };
                let sealed = half_way.seal(&self.sealing.get(), self.clock.now());
                let has_recovery_codes = self.users.recovery_codes_left(who.user.id).await? > 0;
                let mfa_token = sealed.map_err(LogInError::Sealing)?;
                return Ok(Entered::SecondFactor { mfa_token, has_recovery_codes });
            }
            let (user_id, password_hash) = (who.user.id, who.password_hash);
            let admission = Admission::Verified { user_id, password_hash, proof: None };
            match self.sessions.start(admission, sign_in.clone()).await {
                Err(StartError::Changed) => {}
                started => return Ok(Entered::Session(Box::new((started?, who.user)))),
            }
        }
        Err(StartError::Changed.into())
    }

    /// The second step.
    ///
    /// # Errors
    ///
    /// [`LogInError`].
    pub async fn with_code(&self, step: SecondStep) -> Result<(TokenPair, UserRow), LogInError> {
        let SecondStep { mfa_token, shown, address, device, replaces } = step;
        let sealing = self.sealing.get();
        let token = std::str::from_utf8(mfa_token.expose()).unwrap_or_default();
        let half_way = HalfWay::open(token, &sealing, self.clock.now()).ok_or(LogInError::Over)?;
        let HalfWay { user: user_id, password, device_name, transport, remember } = half_way;
        let sign_in = SignIn { device_name, transport, remember, replaces, device };
        for _ in 0..MAX_RETRIES {
            let who = match self.users.still_verified(user_id, &password).await {
                // Another password by now, or no account: as if the log-in began with that.
                Err(UserError::Wrong(_)) => return Err(LogInError::Over),
                who => who?,
            };
            let proven = self.users.prove(user_id, &shown, address, &sealing).await?;
            let (password_hash, proof) = (who.password_hash, Some(proven.proof.clone()));
            let admission = Admission::Verified { user_id, password_hash, proof };
            match self.sessions.start(admission, sign_in.clone()).await {
                // Or the code has been used by another: it is refused when it is looked at again.
                Err(StartError::Changed) => {}
                started => {
                    let pair = started?;
                    proven.was_accepted().await;
                    return Ok((pair, who.user));
                }
            }
        }
        Err(StartError::Changed.into())
    }
}
