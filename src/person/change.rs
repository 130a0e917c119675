//! Whom a change touches, read from what was sent and what came back.
//!
//! Pure: bodies in, names out. Where a body cannot be read to its end there is no telling whom it
//! names, so it touches everyone; guessing too few would leave somebody's old data in memory.
//!
//! # Specification
//! The Flameup docs name a person in a body by `userId` (requests), `external_id` (responses), `id`
//! and `email` (people, post-people, post-people-batch); the same words are looked for inside
//! `traits`, since it is not said that they mean nothing there. `anonymousId` names nobody whom a
//! lookup could find. Events name theirs by `external_id` or `userId` (post-track), other endpoints
//! by `person_id` (devices). Whether short paths take a UUID is unsaid, so a UUID counts as both.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::body::Identity;
use super::{PersonRef, is_email};

/// Most people in one body whose names are collected. A batch has 100 at most (post-people-batch);
/// dropping everyone is cheaper than dropping thousands one by one.
const MOST_PEOPLE: usize = 1000;
/// Most names in one body: as many as so many people have. A field can be repeated at will.
const MOST_NAMES: usize = 4 * MOST_PEOPLE;

/// Something a person can be looked up by.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Name {
    /// An external id or an e-mail, as it was spelled.
    Id(String),
    /// Flameup's own id.
    Uuid(Uuid),
}

/// Whom a change touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touched {
    /// Whoever has one of these names.
    People(Vec<Name>),
    /// Everyone of the workspace, for all that is known.
    Everyone,
}

/// What kind of body names are looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Person, or `people`: a list of them.
    People,
    /// An event.
    Event,
}

impl Name {
    /// The names that `text` may be.
    fn all_of(text: &str) -> impl Iterator<Item = Self> {
        let uuid = text.parse::<Hyphenated>().ok();
        let uuid = uuid.map(|uuid| Self::Uuid(uuid.into_uuid()));
        uuid.into_iter().chain([Self::Id(text.to_owned())])
    }

    /// The word for its kind in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Id(id) if is_email(id.trim_matches(' ')) => "email",
            Self::Id(_) => "external_id",
            Self::Uuid(_) => "uuid",
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Which kind, not whom: the rest is personal data.
        write!(f, "Name({})", self.kind())
    }
}

impl Touched {
    /// Nobody.
    pub const NOBODY: Self = Self::People(Vec::new());

    /// The person whom a path names.
    pub fn of_path(person: &PersonRef<'_>) -> Self {
        Self::People(match person {
            PersonRef::Id(id) => Name::all_of(id.as_str()).collect(),
            PersonRef::Uuid { uuid, .. } => vec![Name::Uuid(*uuid)],
        })
    }

    /// Whoever a body names. One that cannot be read names everyone; an empty one nobody.
    pub fn of_body(kind: Kind, body: &[u8]) -> Self {
        if body.is_empty() {
            return Self::NOBODY;
        }
        let mut found = Found::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        let top = Object {
            words: kind.words(),
            lists: kind == Kind::People,
            found: &mut found,
        };
        let whole = top.deserialize(&mut json).and_then(|()| json.end());
        match whole {
            Ok(()) if found.names.len() <= MOST_NAMES => {
                Self::People(found.names.into_iter().collect())
            }
            Ok(()) | Err(_) => Self::Everyone,
        }
    }

    /// Whether it is nobody.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::People(names) if names.is_empty())
    }

    /// Those touched by either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::People(names), Self::People(others)) => {
                let mut seen = HashSet::new();
                let all = names.into_iter().chain(others);
                Self::People(all.filter(|name| seen.insert(name.clone())).collect())
            }
            _ => Self::Everyone,
        }
    }
}

/// The whole Persons in an answer, each exactly as Flameup sent it: the answer itself, or those of
/// its `people`. Each keeps the whole answer in memory.
pub fn whole_people(body: &Bytes) -> Vec<Bytes> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        people: Vec<&'a RawValue>,
    }
    if Identity::read(body).is_ok() {
        return vec![body.clone()];
    }
    let Ok(page) = serde_json::from_slice::<Page<'_>>(body) else {
        return Vec::new();
    };
    let items = page.people.into_iter().take(MOST_PEOPLE);
    let items = items.map(|item| item.get().as_bytes());
    items
        .filter(|item| Identity::read(item).is_ok())
        .map(|item| body.slice_ref(item))
        .collect()
}

impl Kind {
    /// The fields that hold names.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::People => &["userId", "external_id", "id", "email"],
            Self::Event => &["external_id", "userId", "user_id", "person_id"],
        }
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Found {
    names: HashSet<Name>,
    people: usize,
}

/// Reads one object. A field that occurs twice names both: nobody knows which one Flameup reads.
struct Object<'f> {
    words: &'static [&'static str],
    /// `people` in it is a list of people.
    lists: bool,
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self {
            words,
            lists,
            found,
        } = self;
        while let Some(field) = fields.next_key::<Cow<'_, str>>()? {
            match &*field {
                field if words.contains(&field) => fields.next_value_seed(OneName(found))?,
                "traits" => fields.next_value_seed(Optional(Object {
                    words,
                    lists: false,
                    found,
                }))?,
                "people" if lists => fields.next_value_seed(List { words, found })?,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// An object, or `null` for none.
struct Optional<'f>(Object<'f>);

impl<'de> DeserializeSeed<'de> for Optional<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Optional<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.deserialize(deserializer)
    }
}

/// A list of people.
struct List<'f> {
    words: &'static [&'static str],
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        loop {
            let item = Object {
                words: self.words,
                lists: false,
                found: &mut *self.found,
            };
            if items.next_element_seed(item)?.is_none() {
                return Ok(());
            }
            self.found.people += 1;
            if self.found.people > MOST_PEOPLE {
                return Err(A::Error::custom("too many people"));
            }
        }
    }
}

/// One name. A number is taken for its digits; `null` names nobody. Anything else is unreadable.
struct OneName<'f>(&'f mut Found);

impl<'de> DeserializeSeed<'de> for OneName<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for OneName<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        // Of an e-mail the blanks around it fall away, as they do in a lookup; an external id keeps
        // them. Which it is cannot be told from outside, so both spellings are touched.
        for spelling in [text, text.trim_matches(' ')] {
            if !spelling.is_empty() {
                self.0.names.extend(Name::all_of(spelling));
            }
        }
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.0.names.insert(Name::Id(number.to_string()));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.0.names.insert(Name::Id(number.to_string()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

    fn id(text: &str) -> Name {
        Name::Id(text.to_owned())
    }

    fn uuid() -> Name {
        Name::Uuid(UUID.parse().expect("a UUID"))
    }

    /// The names in order, between strokes.
    fn names(kind: Kind, body: &str) -> String {
        match Touched::of_body(kind, body.as_bytes()) {
            Touched::Everyone => "everyone".to_owned(),
            Touched::People(names) => {
                let text = |name| match name {
                    Name::Id(id) => id,
                    Name::Uuid(uuid) => format!("uuid {uuid}"),
                };
                let mut names: Vec<_> = names.into_iter().map(text).collect();
                names.sort_unstable();
                names.join("|")
            }
        }
    }

    fn people(body: &str) -> String {
        names(Kind::People, body)
    }

    #[test]
    fn a_path_names_its_person_and_a_uuid_in_the_short_form_counts_as_both() {
        let of = |segment| Touched::of_path(&PersonRef::from_id(segment).expect("an id"));
        assert_eq!(of("a%2Fb"), Touched::People(vec![id("a/b")]));
        assert_eq!(of(UUID), Touched::People(vec![uuid(), id(UUID)]));
        let long = PersonRef::from_uuid("ws", UUID).expect("a UUID");
        assert_eq!(Touched::of_path(&long), Touched::People(vec![uuid()]));
    }

    #[test]
    fn a_person_is_named_by_every_documented_field_at_the_top_and_in_traits() {
        let create = r#"{"userId":"u1","email":"a@x.org","anonymousId":"anon","phone":"1",
            "traits":{"email":"b@x.org","external_id":"u2","deeper":{"email":"c@x.org"}}}"#;
        assert_eq!(people(create), "a@x.org|b@x.org|u1|u2");
        let person = format!(r#"{{"id":"{UUID}","external_id":"u1","email":null,"traits":null}}"#);
        assert_eq!(people(&person), format!("{UUID}|u1|uuid {UUID}"));
        assert_eq!(people("{}"), "");
        assert_eq!(people(""), "");
    }

    #[test]
    fn everyone_of_a_batch_is_named_and_so_is_the_answer() {
        let batch = r#"{"people":[{"userId":"u1"},{"userId":"u2","email":"b@x.org"},{}],"created_count":2}"#;
        assert_eq!(people(batch), "b@x.org|u1|u2");
        let nested = r#"{"people":[{"people":[{"userId":"u3"}]}]}"#;
        assert_eq!(people(nested), "", "an unknown field of a person");
    }

    #[test]
    fn a_name_that_occurs_twice_is_two_and_odd_spellings_are_taken_as_they_are() {
        assert_eq!(people(r#"{"userId":"u1","userId":"u2"}"#), "u1|u2");
        assert_eq!(people(r#"{"userId":7,"external_id":-7}"#), "-7|7");
        assert_eq!(people(r#"{"email":" a@x.org "}"#), " a@x.org |a@x.org");
        assert_eq!(people(r#"{"user\u0049d":"\u0075"}"#), "u");
        assert_eq!(people(r#"{"userId":""}"#), "");
    }

    #[test]
    fn a_body_that_cannot_be_read_to_its_end_names_everyone() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        for body in [
            "null",
            "[]",
            "\"u1\"",
            "<html>",
            r#"{"userId":"u1""#,
            r#"{"userId":"u1"} {}"#,
            r#"{"userId":["u1"]}"#,
            r#"{"userId":true}"#,
            r#"{"userId":1.5}"#,
            r#"{"traits":"x"}"#,
            r#"{"people":{"userId":"u1"}}"#,
            r#"{"people":["u1"]}"#,
            deep.as_str(),
        ] {
            assert_eq!(people(body), "everyone", "{body:.40}");
        }
        let many = |count| format!(r#"{{"people":[{}]}}"#, vec!["{}"; count].join(","));
        assert_eq!(people(&many(MOST_PEOPLE)), "");
        assert_eq!(people(&many(MOST_PEOPLE + 1)), "everyone");
        let repeated: Vec<String> = (0..=MOST_NAMES)
            .map(|id| format!("\"id\":\"{id}\""))
            .collect();
        assert_eq!(people(&format!("{{{}}}", repeated.join(","))), "everyone");
    }

    #[test]
    fn an_event_names_whom_it_is_about() {
        let event = r#"{"external_id":"u1","userId":"u2","person_id":"p","email":"a@x.org",
            "event":"seen","parameters":{"external_id":"other"}}"#;
        assert_eq!(names(Kind::Event, event), "p|u1|u2");
    }

    #[test]
    fn touching_everyone_swallows_all_and_names_are_kept_once() {
        let one = Touched::People(vec![id("a"), uuid()]);
        let both = one.clone().and(Touched::People(vec![uuid(), id("b")]));
        assert_eq!(both, Touched::People(vec![id("a"), uuid(), id("b")]));
        assert_eq!(one.and(Touched::Everyone), Touched::Everyone);
        assert!(Touched::NOBODY.and(Touched::NOBODY).is_nobody());
    }

    #[test]
    fn whole_people_are_the_very_bytes_of_the_answer() {
        let person = format!(r#"{{ "id" : "{UUID}", "external_id":"u1", "x":{{"y":[1, 2]}} }}"#);
        let alone = Bytes::from(person.clone());
        assert_eq!(whole_people(&alone), std::slice::from_ref(&alone));
        let page = Bytes::from(format!(
            r#"{{"people" : [ {person} , {{}}, {{"id":""}}, 7, {person}],"total":5}}"#
        ));
        let found = whole_people(&page);
        assert_eq!(found, vec![Bytes::from(person.clone()); 2]);
        assert_eq!(
            found[0].as_ptr(),
            page[14..].as_ptr(),
            "a slice, not a copy"
        );
        for body in ["{}", "", "[]", "<html>", r#"{"people":7}"#] {
            assert!(whole_people(&Bytes::from(body)).is_empty(), "{body}");
        }
    }

    #[test]
    fn debug_shows_no_personal_data() {
        let touched = Touched::People(vec![id("ada@example.com"), uuid()]);
        assert_eq!(format!("{touched:?}"), "People([Name(email), Name(uuid)])");
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Touched::of_body(Kind::People, &body);
            let _ = whole_people(&Bytes::from(body));
        }

        #[test]
        fn whatever_else_stands_in_a_body_its_person_is_named(
            name in "\\PC{1,30}",
            other in "[a-z]{1,8}",
            value in "\\PC{0,30}",
        ) {
            prop_assume!(!["id", "email", "traits", "people"].contains(&other.as_str()));
            let mut body = serde_json::Map::new();
            body.insert(other, value.into());
            body.insert("userId".to_owned(), name.clone().into());
            let body = serde_json::to_vec(&body).expect("JSON");
            let Touched::People(names) = Touched::of_body(Kind::People, &body) else {
                return Err(TestCaseError::fail("readable"));
            };
            prop_assert!(names.contains(&Name::Id(name)));
        }
    }
}
