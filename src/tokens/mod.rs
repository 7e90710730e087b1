//! Tokens: what is signed, and what a signature proves. Nothing here knows the database.
//!
//! | file | what |
//! |---|---|
//! | [`access`] | access tokens (RFC 9068): issue, verify |
//! | [`claims`] | what access tokens say besides |
//! | [`refresh`] | refresh tokens: mint, derive, verify, digest |
//! | [`jws`] | the one strict reading of a compact JWS (RFC 7515, RFC 8725) that both go through |
//! | [`keys`] | the key ring: which key signs, which keys still verify, the public set |
//! | [`generated`] | a key with what is known of it |
//! | [`key_making`] | new keys |
//! | [`key_files`] | generated keys in the data folder |
//! | [`sealing`] | generated keys as they are kept in a database that nodes share |
//! | [`key_selection`] | which keys are used: the configured ones, else those; and what may be told of them |
//! | [`key_reading`] | when generated keys were last read |

pub mod access;
pub mod claims;
pub mod generated;
pub mod jws;
pub mod key_files;
pub mod key_making;
pub mod key_reading;
pub mod key_selection;
pub mod keys;
pub mod mailed;
pub mod refresh;
pub mod sealing;

use std::fmt;

/// Which of the two kinds a token is; the kinds never stand in for each other (RFC 8725 section 3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `at+jwt`, RFC 9068 section 2.1.
    Access,
    /// `rt+jwt`.
    Refresh,
}

impl Kind {
    /// The `typ` that this kind is issued with.
    pub fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "rt+jwt",
        }
    }

    /// Media types compare without case, and may carry `application/` (RFC 7515 section 4.1.9).
    fn matches(self, typ: &str) -> bool {
        let short = match typ.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => typ,
        };
        short.eq_ignore_ascii_case(self.typ())
    }
}

/// Where in a session's history a token stands. Both numbers are signed, and compare in the order in
/// which tokens come to be: a later generation, or a later branch of the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainPosition {
    /// How many rotations came before; claim `gen`.
    pub generation: u32,
    /// How many recoveries this generation has seen; claim `br`.
    pub branch: u32,
}

impl ChainPosition {
    /// Where a session starts.
    pub const FIRST: Self = Self { generation: 0, branch: 0 };

    /// The place a rotation leads to.
    #[must_use]
    pub fn next_generation(self) -> Self {
        Self { generation: self.generation.saturating_add(1), branch: 0 }
    }

    /// The place a recovery leads to.
    #[must_use]
    pub fn next_branch(self) -> Self {
        Self { generation: self.generation, branch: self.branch.saturating_add(1) }
    }
}

impl fmt::Display for ChainPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.branch)
    }
}

/// Signing failed, which only a broken key or a broken random source can cause.
#[derive(Debug, thiserror::Error)]
#[error("a token could not be signed")]
pub struct SignError(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);
