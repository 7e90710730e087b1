//! Values of labels: closed sets.

/// Values of a label: a closed set.
pub trait Label: Copy + 'static {
    /// The name of the label.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];

    /// The value as text.
    fn as_str(self) -> &'static str;
}

/// Declares the values of a label.
macro_rules! label {
    ($(#[doc = $about:literal])+ $Name:ident $name:literal { $($Value:ident $text:literal),+ $(,)? }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name {
            $(
                #[doc = concat!("`", $text, "`.")]
                $Value,
            )+
        }

        impl Label for $Name {
            const NAME: &'static str = $name;
            const ALL: &'static [Self] = &[$(Self::$Value),+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Value => $text,)+
                }
            }
        }
    };
}

label! {
    /// What became of a refresh.
    RefreshVerdict "verdict" {
        Rotated "rotated",
        Repeated "repeated",
        Recovered "recovered",
        Behind "behind",
        Conflict "conflict",
        Reused "reused",
        Malformed "malformed",
        Expired "expired",
        Revoked "revoked",
        RateLimited "rate_limited",
        Failed "failed",
    }
}

label! {
    /// What became of a log-in.
    LoginOutcome "outcome" {
        Ok "ok",
        WrongPassword "wrong_password",
        MfaRequired "mfa_required",
        WrongCode "wrong_code",
        Disabled "disabled",
        EmailNotVerified "email_not_verified",
        RateLimited "rate_limited",
        Failed "failed",
    }
}

label! {
    /// What became of an attempt to send a mail.
    MailOutcome "outcome" {
        Sent "sent",
        Postponed "postponed",
        Refused "refused",
        GivenUp "given_up",
    }
}

label! {
    /// Which limit has refused a request.
    Throttle "limit" {
        Login "login",
        Registration "registration",
        Password "password",
        Mail "mail",
        MailCode "mail_code",
        SecondFactor "second_factor",
        Refresh "refresh",
        HashQueue "hash_queue",
    }
}

label! {
    /// Why the database gave no answer.
    DatabaseError "kind" {
        Unavailable "unavailable",
        Busy "busy",
        Broken "broken",
    }
}

label! {
    /// What the janitor removes.
    Removed "kind" {
        ExpiredSessions "expired_sessions",
        IdleSessions "idle_sessions",
        Attempts "attempts",
        Events "events",
        MailTokens "mail_tokens",
        Mails "mails",
    }
}

label! {
    /// What a key signs.
    Purpose "purpose" {
        Access "access",
        Refresh "refresh",
    }
}
