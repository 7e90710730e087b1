//! What access tokens say besides what Countersign itself has them say: the claims that an operator sets for an account, and
//! those that the application adds.

use std::fmt;
use std::sync::{Arc, LazyLock};

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The most that one source of claims may take up, in bytes of compact JSON: the token must fit into a cookie.
pub const MAX_CLAIMS: usize = 1024;

/// The names of what access tokens say already, or what has a meaning of its own to those who read them (RFC 7519 section 4.1,
/// RFC 9068 section 2.2, OpenID Connect Core section 5.1). No other claim can have them.
pub const RESERVED: [&str; 21] = [
    "acr",
    "amr",
    "aud",
    "auth_time",
    "azp",
    "br",
    "client_id",
    "cnf",
    "email",
    "email_verified",
    "exp",
    "gen",
    "iat",
    "iss",
    "jti",
    "name",
    "nbf",
    "roles",
    "scope",
    "sid",
    "sub",
];

static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// Claims beside those of Countersign itself. Cheap to clone; most tokens have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraClaims(Option<Arc<Map<String, Value>>>);

impl ExtraClaims {
    /// Of what a token or a source says, without what has a reserved name.
    pub fn new(mut members: Map<String, Value>) -> Self {
        members.retain(|name, _| !is_reserved(name));
        Self((!members.is_empty()).then(|| Arc::new(members)))
    }

    /// As they are stored. What cannot be read, which only a hand in the database brings about, counts as none.
    pub fn stored(text: Option<&str>) -> Self {
        let members = text.and_then(|text| serde_json::from_str(text).ok());
        members.map_or_else(Self::default, Self::new)
    }

    /// These, and of `others` what has another name.
    #[must_use]
    pub fn and(self, others: Map<String, Value>) -> Self {
        let own = self.0.map_or_else(Map::new, Arc::unwrap_or_clone);
        let mut all = others;
        all.extend(own);
        Self::new(all)
    }

    /// The claims.
    pub fn members(&self) -> &Map<String, Value> {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

/// Of all claims of a token those that have no reserved name. The values of the others are passed over.
impl<'de> Deserialize<'de> for ExtraClaims {
    fn deserialize<D: Deserializer<'de>>(claims: D) -> Result<Self, D::Error> {
        struct Others;
        impl<'de> Visitor<'de> for Others {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut claims: A) -> Result<Self::Value, A::Error> {
                let mut others = Map::new();
                while let Some(name) = claims.next_key::<String>()? {
                    if is_reserved(&name) {
                        claims.next_value::<IgnoredAny>()?;
                    } else {
                        others.insert(name, claims.next_value()?);
                    }
                }
                Ok(others)
            }
        }
        claims.deserialize_map(Others).map(Self::new)
    }
}

/// Whether no other claim can have the name.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Whether claims are no more than one source may add.
pub fn fit(members: &Map<String, Value>) -> bool {
    let text = serde_json::to_string(members).unwrap_or_default();
    // What is nested too deeply could not be read again.
    text.len() <= MAX_CLAIMS && serde_json::from_str::<Map<String, Value>>(&text).is_ok()
}

/// Reads the claims that an operator sets: as they are stored, or `None` if there are none.
///
/// # Errors
///
/// What is wrong with them, in a sentence.
pub fn parse(text: &str) -> Result<Option<String>, String> {
    let members = match serde_json::from_str(text) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err("must be a JSON object, as in {\"plan\":\"gold\"}".into()),
        Err(error) => return Err(format!("must be a JSON object: {error}")),
    };
    let reserved: Vec<&str> = members.keys().map(String::as_str).filter(|name| is_reserved(name)).collect();
    if !reserved.is_empty() {
        return Err(format!("may not have members that mean something else in access tokens: {}", reserved.join(", ")));
    }
    let stored = Value::Object(members).to_string();
    match stored.len() {
        2 => Ok(None),
        3..=MAX_CLAIMS => Ok(Some(stored)),
        length => Err(format!("must have at most {MAX_CLAIMS} bytes, and has {length}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("no object") };
        members
    }

    #[test]
    fn an_operator_sets_an_object_of_at_most_a_kilobyte() {
        assert_eq!(
            parse(r#" {"plan": "gold", "seats": [1, 2]} "#).unwrap().unwrap(),
            r#"{"plan":"gold","seats":[1,2]}"#
        );
        assert_eq!(parse("{}").unwrap(), None);
        let of_length = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert_eq!(parse(&of_length(MAX_CLAIMS)).unwrap().unwrap().len(), MAX_CLAIMS);
        parse(&of_length(MAX_CLAIMS + 1)).unwrap_err();
        for text in ["", "null", "[]", "1", "\"plan\"", "{", "{\"plan\":}"] {
            parse(text).unwrap_err();
        }
    }

    #[test]
    fn no_reserved_name_is_taken() {
        for name in RESERVED {
            let error = parse(&json!({ "plan": "gold", name: 1 }).to_string()).unwrap_err();
            assert!(error.contains(name), "{error}");
            assert_eq!(ExtraClaims::new(map(json!({ name: 1 }))), ExtraClaims::default());
            assert_eq!(ExtraClaims::stored(Some(&json!({ name: 1 }).to_string())), ExtraClaims::default());
        }
    }

    #[test]
    fn what_an_operator_sets_comes_before_what_others_add() {
        let own = ExtraClaims::stored(Some(r#"{"plan":"gold"}"#));
        let both = own.and(map(json!({ "plan": "free", "team": 7, "sub": "someone-else" })));
        assert_eq!(both.members(), &map(json!({ "plan": "gold", "team": 7 })));
        assert_eq!(ExtraClaims::default().and(Map::new()), ExtraClaims::default());
    }
}
