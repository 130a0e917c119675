//! One person: fields in a fixed order, rendered in either documented shape.

use bytes::Bytes;
use clap::ValueEnum;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// Which of the two documented person bodies is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// The flat one of the reference pages (get-people-id).
    #[default]
    Reference,
    /// The one of the guide page (people): `userId`, and most fields inside `traits`.
    Guide,
}

/// Fields the docs (post-people) list as traits but answer at the top level.
const FLAT_TRAITS: [&str; 6] = [
    "first_name",
    "last_name",
    "phone",
    "avatar_url",
    "timezone",
    "locale",
];

/// A person as its fields, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::sandbox) struct Person {
    fields: Vec<(String, Value)>,
}

impl Person {
    pub(in crate::sandbox) fn get(&self, name: &str) -> Option<&Value> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value)
    }

    /// The field as text; `None` where it is absent, null or something else.
    pub(in crate::sandbox) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Sets a field in its place, or appends it.
    pub(in crate::sandbox) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.fields.iter_mut().find(|(field, _)| field == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    /// Merges traits: documented ones into their field, all others into `attributes`.
    pub(in crate::sandbox) fn merge_traits(&mut self, traits: &Map<String, Value>) {
        let mut attributes = match self.get("attributes") {
            Some(Value::Object(attributes)) => attributes.clone(),
            _ => Map::new(),
        };
        for (name, value) in traits {
            if FLAT_TRAITS.contains(&name.as_str()) {
                self.set(name, value.clone());
            } else {
                attributes.insert(name.clone(), value.clone());
            }
        }
        self.set("attributes", attributes);
    }

    /// The body answered for this person: compact JSON, the same bytes each time.
    pub(in crate::sandbox) fn body(&self, shape: Shape) -> Bytes {
        let text = match shape {
            Shape::Reference => serde_json::to_vec(self),
            Shape::Guide => serde_json::to_vec(&self.guide()),
        };
        Bytes::from(text.expect("a person has text keys and plain values"))
    }

    fn guide(&self) -> Self {
        let mut traits = match self.get("attributes") {
            Some(Value::Object(attributes)) => attributes.clone(),
            _ => Map::new(),
        };
        let mut guide = Self::default();
        for (name, value) in &self.fields {
            match name.as_str() {
                "external_id" => guide.set("userId", value.clone()),
                "email" => {
                    guide.set("email", value.clone());
                    guide.set("traits", Value::Null); // keeps its place; filled below
                }
                "status" | "attributes" | "first_seen_at" | "last_seen_at" => {}
                flat if FLAT_TRAITS.contains(&flat) => {
                    traits.insert(name.clone(), value.clone());
                }
                _ => guide.set(name, value.clone()),
            }
        }
        guide.set("traits", traits);
        guide
    }
}

impl Serialize for Person {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_keep_their_order_through_changes() {
        let mut person = Person::default();
        person.set("id", "1");
        person.set("external_id", "a");
        person.set("id", "2");
        assert_eq!(
            person.body(Shape::Reference),
            r#"{"id":"2","external_id":"a"}"#
        );
    }

    #[test]
    fn traits_merge_into_fields_and_attributes() {
        let mut person = Person::default();
        person.set("attributes", json!({"plan": "free", "age": 3}));
        let traits = json!({"first_name": "Ada", "plan": "pro"});
        person.merge_traits(traits.as_object().expect("an object"));
        assert_eq!(person.text("first_name"), Some("Ada"));
        assert_eq!(
            person.get("attributes"),
            Some(&json!({"plan": "pro", "age": 3}))
        );
    }

    #[test]
    fn the_guide_shape_has_user_id_and_traits_and_no_status() {
        let mut person = Person::default();
        for (name, value) in [
            ("id", "1"),
            ("external_id", "a"),
            ("email", "a@b"),
            ("status", "active"),
        ] {
            person.set(name, value);
        }
        person.set("first_name", "Ada");
        let expected = r#"{"id":"1","userId":"a","email":"a@b","traits":{"first_name":"Ada"}}"#;
        assert_eq!(person.body(Shape::Guide), expected);
    }
}
