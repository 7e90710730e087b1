//! Identifiers. Each kind is a type of its own, so that a user's id cannot stand where a session's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// A text that is not an id: 36 characters, hexadecimal digits of either case in groups with hyphens.
#[derive(Debug, thiserror::Error)]
#[error("not an id")]
pub struct InvalidId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id: a version 7 UUID (RFC 9562), so that new rows sort behind old ones.
            pub(crate) fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The sixteen bytes, as the database keeps them.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Accepts the form that ids are shown in, in either case (RFC 9562 section 4), and none of the others that
            /// UUIDs are written in.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match Uuid::try_parse(text) {
                    Ok(uuid) if text.len() == Hyphenated::LENGTH => Ok(Self(uuid)),
                    _ => Err(InvalidId),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                match Uuid::from_slice(bytes) {
                    Ok(uuid) => Ok(Self(uuid)),
                    Err(_) => Err(InvalidId),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// What was mailed to prove something.
    MailTokenId
}
id! {
    /// A mail that waits to be sent.
    MailId
}
id! {
    /// A user.
    UserId
}
id! {
    /// A session: one signed-in device.
    SessionId
}
id! {
    /// Something that has happened.
    EventId
}
id! {
    /// The end of many sessions, which takes several transactions.
    SessionEndId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_in_either_case_and_in_one_form() {
        let id = SessionId::generate();
        let text = id.to_string();
        let (group, rest) = text.split_at(8);
        for same in [text.clone(), text.to_uppercase(), format!("{}{rest}", group.to_uppercase())] {
            assert_eq!(same.parse::<SessionId>().unwrap(), id, "{same}");
        }
        for other in [
            id.to_string().replace('-', ""),
            format!("{{{id}}}"),
            format!("urn:uuid:{id}"),
            format!("{id} "),
            String::new(),
        ] {
            assert!(other.parse::<SessionId>().is_err(), "{other:?}");
        }
    }
}
