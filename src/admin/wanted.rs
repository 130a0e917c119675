//! What operators ask for: bodies and queries, read into what they mean.
//!
//! Ids stand in a body as they are, and in a query percent-encoded, `+` standing for itself. No
//! error here holds an id.

use std::str::FromStr;
use std::time::Duration;

use jiff::fmt::friendly::SpanParser;
use serde::{Deserialize, Deserializer, de};
use uuid::fmt::Hyphenated;

use crate::gateway::operate::{MAX_HOLD, MIN_HOLD};
use crate::person::change::Name;
use crate::person::{self, PersonRef};

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two names, which may be of two people.
    #[error("give either id or uuid, not both")]
    Both,
    /// No name.
    #[error("give id (an external id or an e-mail) or uuid")]
    Nobody,
    /// A purge of nobody would be one of everybody.
    #[error("give id or uuid, or \"everyone\": true for the whole workspace")]
    NobodyToPurge,
    /// Somebody and everybody.
    #[error("give id or uuid or everyone, one of them")]
    SomebodyAndEveryone,
    /// Nobody can be called so.
    #[error("{field}: {cause}")]
    Name {
        /// Where it stands.
        field: &'static str,
        /// What is wrong with it.
        cause: person::Error,
    },
    /// Not a parameter of this route.
    #[error("the query takes workspace, id and uuid, each once")]
    Parameter,
    /// It does not decode.
    #[error("workspace: not percent-encoded UTF-8")]
    Workspace,
}

/// Whom an operator means, and in which workspace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Someone {
    #[serde(default)]
    pub(super) workspace: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    uuid: Option<String>,
}

/// A purge.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Purge {
    #[serde(default)]
    pub(super) workspace: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default)]
    everyone: bool,
    #[serde(default)]
    pub(super) soft: bool,
}

/// An erasure.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct Erase {
    #[serde(default)]
    pub(super) workspace: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default, deserialize_with = "hold")]
    pub(super) hold: Option<Duration>,
}

impl Someone {
    /// Reads a query.
    pub(super) fn of_query(query: &str) -> Result<(Option<String>, Name), Error> {
        let (mut workspace, mut id, mut uuid) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(Error::Parameter)?;
            let place = match name {
                "workspace" => &mut workspace,
                "id" => &mut id,
                "uuid" => &mut uuid,
                _ => return Err(Error::Parameter),
            };
            if place.replace(value).is_some() {
                return Err(Error::Parameter);
            }
        }
        let decoded = |text: &str| {
            let text = percent_encoding::percent_decode_str(text).decode_utf8();
            text.map(String::from).map_err(|_| Error::Workspace)
        };
        let workspace = workspace.map(decoded).transpose()?;
        let name = match (id, uuid) {
            (Some(id), None) => of_person("id", PersonRef::from_id(id))?,
            (None, Some(text)) => of_uuid(&decoded(text).unwrap_or_default())?,
            (Some(_), Some(_)) => return Err(Error::Both),
            (None, None) => return Err(Error::Nobody),
        };
        Ok((workspace, name))
    }

    /// Who is meant.
    pub(super) fn name(&self) -> Result<Name, Error> {
        one(self.id.as_deref(), self.uuid.as_deref())?.ok_or(Error::Nobody)
    }

    /// The name as it was given.
    pub(super) fn given(&self) -> &str {
        self.id.as_deref().or(self.uuid.as_deref()).unwrap_or("")
    }
}

impl Purge {
    /// Who is meant; `None` for everybody.
    pub(super) fn whom(&self) -> Result<Option<Name>, Error> {
        match one(self.id.as_deref(), self.uuid.as_deref())? {
            Some(_) if self.everyone => Err(Error::SomebodyAndEveryone),
            None if !self.everyone => Err(Error::NobodyToPurge),
            name => Ok(name),
        }
    }
}

impl Erase {
    /// Who is meant.
    pub(super) fn name(&self) -> Result<Name, Error> {
        one(self.id.as_deref(), self.uuid.as_deref())?.ok_or(Error::Nobody)
    }
}

fn one(id: Option<&str>, uuid: Option<&str>) -> Result<Option<Name>, Error> {
    match (id, uuid) {
        (None, None) => Ok(None),
        (Some(id), None) => of_person("id", PersonRef::from_text(id)).map(Some),
        (None, Some(uuid)) => of_uuid(uuid).map(Some),
        (Some(_), Some(_)) => Err(Error::Both),
    }
}

fn of_uuid(text: &str) -> Result<Name, Error> {
    let uuid = Hyphenated::from_str(text).map_err(|_| Error::Name {
        field: "uuid",
        cause: person::Error::NotUuid,
    })?;
    Ok(Name::Uuid(uuid.into_uuid()))
}

fn of_person(
    field: &'static str,
    person: Result<PersonRef<'_>, person::Error>,
) -> Result<Name, Error> {
    match person.map_err(|cause| Error::Name { field, cause })? {
        PersonRef::Id(id) => Ok(Name::Id(id.as_str().to_owned())),
        PersonRef::Uuid { uuid, .. } => Ok(Name::Uuid(uuid)),
    }
}

/// A hold such as `"10m"`, within its bounds.
fn hold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let hold = SpanParser::new().parse_unsigned_duration(&text);
    let hold = hold.map_err(|_| de::Error::custom("hold: expected a duration such as \"10m\""))?;
    if (MIN_HOLD..=MAX_HOLD).contains(&hold) {
        return Ok(Some(hold));
    }
    Err(de::Error::custom("hold: expected from \"1s\" to \"24h\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_once_and_a_plus_is_a_plus() {
        let (workspace, name) =
            Someone::of_query("workspace=acme&id=a%2Bb+c%40x.org").expect("a query");
        assert_eq!(workspace.as_deref(), Some("acme"));
        assert!(name == Name::Id("a+b+c@x.org".to_owned()));
    }

    #[test]
    fn what_is_not_one_person_is_refused() {
        for (query, error) in [
            ("", Error::Nobody),
            ("id=a&uuid=b", Error::Both),
            ("id=a&id=b", Error::Parameter),
            ("id", Error::Parameter),
            ("name=a", Error::Parameter),
            ("workspace=%ff&id=a", Error::Workspace),
        ] {
            assert_eq!(Someone::of_query(query).err(), Some(error), "{query}");
        }
        let wrong = |query| matches!(Someone::of_query(query), Err(Error::Name { .. }));
        assert!(wrong("id=%00") && wrong("id=") && wrong("uuid=abc") && wrong("id=.."));
    }

    #[test]
    fn purging_everybody_takes_saying_so() {
        let whom = |text| serde_json::from_str::<Purge>(text).expect("JSON").whom();
        assert!(whom("{}") == Err(Error::NobodyToPurge));
        assert!(whom("{\"everyone\":true}") == Ok(None));
        assert!(whom("{\"everyone\":true,\"id\":\"a\"}") == Err(Error::SomebodyAndEveryone));
        assert!(whom("{\"id\":\"a\"}").is_ok_and(|name| name.is_some()));
    }

    #[test]
    fn a_hold_has_bounds() {
        let read = |hold: &str| serde_json::from_str::<Erase>(&format!("{{\"hold\":\"{hold}\"}}"));
        assert!(read("1s").is_ok() && read("10m").is_ok() && read("24h").is_ok());
        for hold in ["0s", "999ms", "25h", "10", "soon"] {
            assert!(read(hold).is_err(), "{hold}");
        }
    }
}
