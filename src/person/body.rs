//! Reads the few fields of a Person that say whose body it is.
//!
//! Flameup documents two shapes of a Person: the reference pages have `external_id`, the guide has
//! `userId`. Both are read; everything else in the body passes through untouched and unread.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::{Identifier, PersonRef};

/// The identifying fields of a Person body.
#[derive(Debug)]
pub struct Identity<'a> {
    id: Cow<'a, str>,
    workspace_id: Option<Cow<'a, str>>,
    external_id: Option<Cow<'a, str>>,
    email: Option<Cow<'a, str>>,
    updated_at: Option<Timestamp>,
}

/// The body is not one whole Person.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, cut short, followed by something else, or a field of another type. The parser's
    /// own words are left out: they may quote the body.
    #[error("the body is no person at line {line}, column {column}")]
    Json {
        /// Line of the body, from 1.
        line: usize,
        /// Column of the line, from 1.
        column: usize,
    },
    /// The `id` is there and empty.
    #[error("the person has an empty id")]
    EmptyId,
    /// `external_id` and `userId` contradict each other.
    #[error("the person has two different external ids")]
    TwoExternalIds,
}

impl<'a> Identity<'a> {
    /// Reads `body`, which must be exactly one JSON object with at least a string `id`.
    ///
    /// # Errors
    /// When it is anything else. A repeated field is an error too: two readers might pick
    /// different ones.
    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let raw: Raw<'a> = serde_json::from_slice(body).map_err(|error| Error::Json {
            line: error.line(),
            column: error.column(),
        })?;
        if raw.id.is_empty() {
            return Err(Error::EmptyId);
        }
        if let (Some(one), Some(other)) = (&raw.external_id, &raw.user_id)
            && one != other
        {
            return Err(Error::TwoExternalIds);
        }
        Ok(Self {
            id: raw.id,
            workspace_id: raw.workspace_id,
            external_id: raw.external_id.or(raw.user_id),
            email: raw.email,
            updated_at: raw
                .updated_at
                .and_then(|date| date.get().trim_matches('"').parse().ok()),
        })
    }

    /// Whether this body answers the lookup of `person`.
    ///
    /// An e-mail matches whatever its ASCII case, since Flameup does not say whether it folds it.
    /// An external id matches only exactly.
    pub fn answers(&self, person: &PersonRef<'_>) -> bool {
        match person {
            PersonRef::Uuid { uuid, .. } => self.uuid() == Some(*uuid),
            PersonRef::Id(asked) => {
                self.external_id.as_deref() == Some(asked.as_str())
                    || self.has_email(asked)
                    // Whether the short form also takes a UUID is unsaid; if it does, this is it.
                    || self.id == asked.as_str()
            }
        }
    }

    /// Whether `asked` is this person's e-mail, whatever its ASCII case.
    pub fn has_email(&self, asked: &Identifier<'_>) -> bool {
        asked.is_email()
            && self
                .email()
                .is_some_and(|email| email.eq_ignore_ascii_case(asked.as_str()))
    }

    /// Flameup's `id`, whatever its form.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The person's UUID, if the `id` is one.
    pub fn uuid(&self) -> Option<Uuid> {
        let id: Hyphenated = self.id.parse().ok()?;
        Some(id.into_uuid())
    }

    /// The workspace this person belongs to, if the body says so.
    pub fn workspace_id(&self) -> Option<&str> {
        self.workspace_id.as_deref().filter(|id| !id.is_empty())
    }

    /// When the person changed last, if the body says so in a form that can be read.
    pub fn updated_at(&self) -> Option<Timestamp> {
        self.updated_at
    }

    /// The person's external id, if there is one.
    pub fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    /// The person's e-mail, if there is one, without blanks around it.
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref().map(|email| email.trim_matches(' '))
    }
}

/// The names of all fields of a body, in order of the alphabet: what tells two shapes apart.
pub fn fields(body: &[u8]) -> Vec<Cow<'_, str>> {
    let fields: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_slice(body);
    fields.unwrap_or_default().into_keys().collect()
}

/// A Person as it comes over the wire; `null` counts as absent.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    workspace_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    external_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "userId")]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    email: Option<Cow<'a, str>>,
    /// Whatever it is: only what can be read as a date counts.
    #[serde(borrow, default)]
    updated_at: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

    fn answers(body: &str, person: &PersonRef<'_>) -> bool {
        Identity::read(body.as_bytes()).is_ok_and(|identity| identity.answers(person))
    }

    fn by_id(segment: &str) -> PersonRef<'_> {
        PersonRef::from_id(segment).expect("a usable id")
    }

    #[test]
    fn both_documented_shapes_answer_their_external_id() {
        let reference = format!(r#"{{"id":"{UUID}","external_id":"u1","status":"active"}}"#);
        let guide = format!(r#"{{"id":"{UUID}","userId":"u1","traits":{{}}}}"#);
        for body in [reference, guide] {
            assert!(answers(&body, &by_id("u1")));
            assert!(!answers(&body, &by_id("U1")));
            assert!(!answers(&body, &by_id("u2")));
        }
    }

    #[test]
    fn an_email_answers_whatever_its_ascii_case() {
        let body = format!(r#"{{"id":"{UUID}","external_id":null,"email":"Ada@Example.com"}}"#);
        assert!(answers(&body, &by_id("ada@example.COM")));
        assert!(!answers(&body, &by_id("ada@example.org")));
        // The Kelvin sign lower-cases to k in Unicode; it is another letter all the same.
        let kelvin = format!(r#"{{"id":"{UUID}","email":"\u212Aim@x.org"}}"#);
        assert!(!answers(&kelvin, &by_id("kim@x.org")));
    }

    #[test]
    fn a_uuid_is_answered_by_that_uuid_alone() {
        let body = format!(r#"{{"id":"{}","external_id":"u1"}}"#, UUID.to_uppercase());
        let asked = PersonRef::from_uuid("ws", UUID).expect("a usable uuid");
        assert!(answers(&body, &asked));
        let other = format!(r#"{{"id":"other","external_id":"{UUID}"}}"#);
        assert!(!answers(&other, &asked));
    }

    #[test]
    fn anything_but_one_whole_person_is_an_error() {
        for body in [
            "",
            "[]",
            "{}",
            "null",
            "<html></html>",
            r#"{"id":""}"#,
            r#"{"id":7}"#,
            r#"{"id":"a""#,
            r#"{"id":"a"} trailing"#,
            r#"{"id":"a","id":"b"}"#,
            r#"{"id":"a","external_id":"x","userId":"y"}"#,
        ] {
            assert!(Identity::read(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let deep = format!(r#"{{"id":"a","attributes":{}"#, "[".repeat(100_000));
        assert!(Identity::read(deep.as_bytes()).is_err());
    }
}
