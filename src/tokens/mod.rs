//! Tokens: what is signed, and what a signature proves. Nothing here knows the database.
//!
//! | file | what |
//! |---|---|
//! | [`access`] | access tokens (RFC 9068): issue, verify |
//! | [`refresh`] | refresh tokens: mint, derive, verify, digest |
//! | [`jws`] | the one strict reading of a compact JWS (RFC 7515, RFC 8725) that both go through |
//! | [`keys`] | the key ring: which key signs, which keys still verify, the public set |
//! | [`key_files`] | keys that the first start makes and later starts read |

pub mod access;
pub mod jws;
pub mod key_files;
pub mod keys;
pub mod refresh;

use std::fmt;

/// Where in a session's history a token stands. Both numbers are signed, and compare in the order in
/// which tokens come to be: a later generation, or a later branch of the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// How many rotations came before; claim `gen`.
    pub generation: u32,
    /// How many recoveries this generation has seen; claim `br`.
    pub branch: u32,
}

impl Place {
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.branch)
    }
}

/// Signing failed, which only a broken key or a broken random source can cause.
#[derive(Debug, thiserror::Error)]
#[error("a token could not be signed")]
pub struct SignError(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);
