//! What the document says of one route: what it takes, what it answers, what it can fail with.

use serde_json::{Map, Value, json};

use super::answers::errors;
use super::schemas::reference;
use crate::problem::Code;

/// What any route may fail with that asks the database.
pub(crate) const STORE: &[Code] = &[Code::Internal, Code::Unavailable];
/// What a request with a body may fail with.
pub(crate) const BODY: &[Code] = &[Code::InvalidRequest, Code::PayloadTooLarge, Code::UnsupportedMediaType];
/// What a guard may refuse a reading request with.
pub(crate) const READ: &[Code] =
    &[Code::InvalidRequest, Code::MissingToken, Code::InvalidToken, Code::Internal, Code::Unavailable];
/// What a guard may refuse any other request with.
pub(crate) const CHANGE: &[Code] =
    &[Code::InvalidRequest, Code::MissingToken, Code::InvalidToken, Code::CrossSite, Code::Internal, Code::Unavailable];

/// One operation under construction.
pub(crate) struct Operation {
    members: Map<String, Value>,
    answers: Map<String, Value>,
    codes: Vec<Code>,
}

impl Operation {
    /// `id` is what generated clients call it.
    pub(crate) fn new(tag: &str, id: &str, summary: &str) -> Self {
        let mut members = Map::new();
        members.insert("tags".into(), json!([tag]));
        members.insert("operationId".into(), id.into());
        members.insert("summary".into(), summary.into());
        members.insert("security".into(), json!([]));
        Self { members, answers: Map::new(), codes: Vec::new() }
    }

    pub(crate) fn about(self, description: &str) -> Self {
        self.member("description", description.into())
    }

    /// Needs an access token.
    pub(crate) fn guarded(self) -> Self {
        self.member("security", json!([{ "bearer": [] }, { "accessCookie": [] }]))
    }

    pub(crate) fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.into(), value);
        self
    }

    pub(crate) fn takes(self, schema: &str, required: bool, example: Value) -> Self {
        let content = json!({ "schema": reference("schemas", schema), "example": example });
        self.member("requestBody", json!({ "required": required, "content": { "application/json": content } }))
    }

    pub(crate) fn answers(mut self, status: &str, answer: Value) -> Self {
        self.answers.insert(status.into(), answer);
        self
    }

    pub(crate) fn fails(mut self, codes: &[Code]) -> Self {
        self.codes.extend_from_slice(codes);
        self
    }

    pub(super) fn build(mut self) -> Value {
        // A 400 of a refresh takes cookies back, and so may be described already.
        let mut answers = errors(self.codes);
        answers.append(&mut self.answers);
        self.members.insert("responses".into(), answers.into());
        self.members.into()
    }
}
