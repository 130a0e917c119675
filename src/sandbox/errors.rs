//! The five shapes in which Flameup is documented to say that something is wrong.
//!
//! # Specification
//! Shapes A, B and C are from the docs page errors, D from rate-limits, E from get-people-id. The
//! same 404 of a person is documented as B and as E, so which one is answered can be chosen.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;

/// One of the five documented error bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ErrorShape {
    /// `{"success":false,"error":{"type","message"},"request_id"}`, the general one.
    A,
    /// `{"error":{"code","message"}}`.
    B,
    /// `{"error":{"code","message","details":{"fields":{}}}}`.
    C,
    /// `{"error":"...","message":"..."}`.
    D,
    /// `{"error":"...","message":"...","code":404}`, with a number.
    #[default]
    E,
}

impl ErrorShape {
    /// An error in this shape; `arrival` makes the request id of shape A.
    pub(super) fn answer(self, status: StatusCode, message: &str, arrival: u64) -> Answer {
        Answer::value(status, &self.body(status, message, arrival))
    }

    fn body(self, status: StatusCode, message: &str, arrival: u64) -> Value {
        let reason = status.canonical_reason().unwrap_or("Error");
        let code = code(status);
        match self {
            Self::A => json!({
                "success": false,
                "error": {"type": code.to_uppercase(), "message": message},
                "request_id": format!("req_{arrival:08x}"),
            }),
            Self::B => json!({"error": {"code": code, "message": message}}),
            Self::C => json!({
                "error": {"code": code, "message": message, "details": {"fields": {}}},
            }),
            Self::D => json!({"error": reason, "message": message}),
            Self::E => json!({"error": reason, "message": message, "code": status.as_u16()}),
        }
    }
}

/// 404 of a route or, by default, of a person.
pub(super) fn not_found(shape: ErrorShape, arrival: u64) -> Answer {
    let message = "The requested resource was not found";
    shape.answer(StatusCode::NOT_FOUND, message, arrival)
}

/// 401 in shape B.
pub(super) fn unauthorized() -> Answer {
    let message = "Invalid or missing API key";
    ErrorShape::B.answer(StatusCode::UNAUTHORIZED, message, 0)
}

/// 403 in shape B.
pub(super) fn forbidden(message: &str) -> Answer {
    ErrorShape::B.answer(StatusCode::FORBIDDEN, message, 0)
}

/// 422 in shape C, naming each field that is wrong.
pub(super) fn invalid(fields: &[(String, String)]) -> Answer {
    let fields: Value = fields
        .iter()
        .map(|(name, fault)| (name.clone(), json!(fault)))
        .collect();
    let error = json!({
        "code": "validation_error",
        "message": "The request body is invalid",
        "details": {"fields": fields},
    });
    Answer::value(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": error}))
}

/// 429 in shape D, word for word.
pub(super) fn rate_limited() -> Answer {
    let body = json!({
        "error": "Rate limit exceeded",
        "message": "Too many requests. Please try again later.",
    });
    Answer::value(StatusCode::TOO_MANY_REQUESTS, &body)
}

fn code(status: StatusCode) -> String {
    match status {
        StatusCode::UNPROCESSABLE_ENTITY => "validation_error".to_owned(),
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded".to_owned(),
        other => {
            let reason = other.canonical_reason().unwrap_or("error");
            reason.to_lowercase().replace([' ', '-'], "_")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_read_as_documented() {
        let not_found =
            |shape: ErrorShape| shape.body(StatusCode::NOT_FOUND, "gone", 10).to_string();
        let a = r#"{"success":false,"error":{"type":"NOT_FOUND","message":"gone"},"request_id":"req_0000000a"}"#;
        assert_eq!(not_found(ErrorShape::A), a);
        assert_eq!(
            not_found(ErrorShape::B),
            r#"{"error":{"code":"not_found","message":"gone"}}"#
        );
        assert_eq!(
            not_found(ErrorShape::D),
            r#"{"error":"Not Found","message":"gone"}"#
        );
        assert_eq!(
            not_found(ErrorShape::E),
            r#"{"error":"Not Found","message":"gone","code":404}"#
        );
    }

    #[test]
    fn validation_names_the_fields() {
        let answer = invalid(&[("userId".to_owned(), "is required".to_owned())]);
        let body: Value = serde_json::from_slice(&answer.body).expect("is JSON");
        assert_eq!(body["error"]["details"]["fields"]["userId"], "is required");
    }
}
