//! How the fields of a JSON object become a struct, so that what is wrong is said in our own words, of the field it is
//! wrong with.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::{Map, Value};

use crate::problem::{Code, FieldError, Problem};

/// As many unknown fields are named in an answer, each cut to this many characters.
const MAX_NAMED: usize = 100;
const MAX_NAME_LENGTH: usize = 100;

/// Reads a struct. Fields that it does not have are ignored, unless it says `deny_unknown_fields`: for requests to change
/// something, where one that is ignored would look like one that is carried out.
///
/// # Errors
///
/// 400 `invalid_request` that names a field that is missing or of another type, 422 `validation_failed` for a choice that
/// does not exist and for unknown fields, naming each.
pub(super) fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    let mut unknown = Vec::new();
    T::deserialize(Fields { fields, unknown: &mut unknown }).map_err(|error| match error {
        FieldProblem::Unknown => {
            let cut = |name: &String| name.chars().take(MAX_NAME_LENGTH).collect();
            Problem::new(Code::ValidationFailed).unchangeable(unknown.iter().take(MAX_NAMED).map(cut).collect())
        }
        FieldProblem::NoChoice { field, message } => {
            Problem::new(Code::ValidationFailed).errors(vec![FieldError { field, message }])
        }
        FieldProblem::Malformed { field, message } => Problem::new(Code::InvalidRequest)
            .detail(format!("The field {field} {message}."))
            .errors(vec![FieldError { field, message }]),
    })
}

/// What is wrong with a field.
#[derive(Debug)]
enum FieldProblem {
    /// There are fields that the struct does not have.
    Unknown,
    /// It is missing, or of another type.
    Malformed { field: &'static str, message: String },
    /// It is none of the texts that there are.
    NoChoice { field: &'static str, message: String },
}

impl FieldProblem {
    fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed { field: "", message: message.into() }
    }

    /// Of a value, which does not know its field.
    fn of(self, name: &'static str) -> Self {
        match self {
            Self::Malformed { message, .. } => Self::Malformed { field: name, message },
            Self::NoChoice { message, .. } => Self::NoChoice { field: name, message },
            Self::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("an unknown field"),
            Self::Malformed { field, message } | Self::NoChoice { field, message } => write!(f, "{field} {message}"),
        }
    }
}

impl std::error::Error for FieldProblem {}

impl de::Error for FieldProblem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::malformed(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::malformed("is required").of(field)
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }

    fn unknown_variant(_: &str, choices: &'static [&'static str]) -> Self {
        Self::NoChoice { field: "", message: format!("must be {}", choices.join(" or ")) }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Unit => Self::malformed("is required"),
            _ if expected.to_string() == "a boolean" => Self::malformed("must be true or false"),
            // Structs and choices say what they are for, and not what they look like.
            _ => Self::malformed("must be a string"),
        }
    }
}

/// The fields of an object: the unknown ones first, then those of the struct in its order.
struct Fields<'u> {
    fields: Map<String, Value>,
    unknown: &'u mut Vec<String>,
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = FieldProblem;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldProblem> {
        Err(FieldProblem::malformed("is no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldProblem> {
        let known: Vec<_> =
            names.iter().filter_map(|name| self.fields.remove(*name).map(|value| (*name, value))).collect();
        self.unknown.extend(self.fields.into_iter().map(|(name, _)| name));
        let unknown = self.unknown.first().map(String::as_str);
        visitor.visit_map(Known { unknown, known: known.into_iter(), next: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Known<'u> {
    unknown: Option<&'u str>,
    known: std::vec::IntoIter<(&'static str, Value)>,
    next: Option<(&'static str, Value)>,
}

impl<'de> MapAccess<'de> for Known<'_> {
    type Error = FieldProblem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, FieldProblem> {
        if let Some(unknown) = self.unknown.take() {
            let name: StrDeserializer<'_, FieldProblem> = unknown.into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        self.next = self.known.next();
        let Some((name, _)) = &self.next else { return Ok(None) };
        let name: StrDeserializer<'_, FieldProblem> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, FieldProblem> {
        match self.next.take() {
            Some((name, value)) => seed.deserialize(FieldValue(value)).map_err(|problem| problem.of(name)),
            // The one that is unknown, which is ignored where it is not refused.
            None => seed.deserialize(FieldValue(Value::Null)),
        }
    }
}

/// One value. No request has objects or arrays in it.
struct FieldValue(Value);

impl<'de> Deserializer<'de> for FieldValue {
    type Error = FieldProblem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(text) => visitor.visit_string(text),
            Value::Number(_) => Err(de::Error::invalid_type(Unexpected::Other("a number"), &visitor)),
            Value::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Object(_) => Err(de::Error::invalid_type(Unexpected::Map, &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldProblem> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.into_deserializer()),
            _ => Err(FieldProblem::malformed("must be a string")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldProblem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldProblem> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody as _;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        This,
        That,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Open {
        name: String,
        nick: Option<String>,
        flag: Option<bool>,
        choice: Option<Choice>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Closed {
        name: Option<String>,
    }

    fn fields(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_struct_is_read_and_what_it_does_not_have_is_ignored() {
        let full =
            json!({ "name": "a", "nick": "b", "flag": false, "choice": "that", "more": [1], "even": { "x": 1 } });
        let open: Open = read(fields(full)).unwrap();
        let expected = Open { name: "a".into(), nick: Some("b".into()), flag: Some(false), choice: Some(Choice::That) };
        assert_eq!(open, expected);
        for bare in [json!({ "name": "" }), json!({ "name": "", "nick": null, "flag": null, "choice": null })] {
            let expected = Open { name: String::new(), nick: None, flag: None, choice: None };
            assert_eq!(read::<Open>(fields(bare)).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_the_field_it_is_wrong_with() {
        for (body, code, field, message) in [
            (json!({}), Code::InvalidRequest, "name", "is required"),
            (json!({ "name": null }), Code::InvalidRequest, "name", "is required"),
            (json!({ "name": 1 }), Code::InvalidRequest, "name", "must be a string"),
            (json!({ "name": ["a"] }), Code::InvalidRequest, "name", "must be a string"),
            (json!({ "name": { "a": 1 } }), Code::InvalidRequest, "name", "must be a string"),
            (json!({ "name": true }), Code::InvalidRequest, "name", "must be a string"),
            (json!({ "name": "", "nick": 1.5 }), Code::InvalidRequest, "nick", "must be a string"),
            (json!({ "name": "", "flag": "true" }), Code::InvalidRequest, "flag", "must be true or false"),
            (json!({ "name": "", "flag": 1 }), Code::InvalidRequest, "flag", "must be true or false"),
            (json!({ "name": "", "choice": 1 }), Code::InvalidRequest, "choice", "must be a string"),
            (json!({ "name": "", "choice": "other" }), Code::ValidationFailed, "choice", "must be this or that"),
        ] {
            let problem = read::<Open>(fields(body.clone())).unwrap_err();
            let told = problem.respond(None).into_body().try_into_bytes().unwrap();
            let told: Value = serde_json::from_slice(&told).unwrap();
            let expected = json!([{ "field": field, "message": message }]);
            assert_eq!((problem.code(), &told["errors"]), (code, &expected), "{body}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_where_they_are_denied() {
        let refused = read::<Closed>(fields(json!({ "name": 1, "a": 1, "b": null }))).unwrap_err();
        assert_eq!(refused.code(), Code::ValidationFailed);
        assert_eq!(read::<Closed>(fields(json!({ "name": "x" }))).unwrap(), Closed { name: Some("x".into()) });
    }
}
