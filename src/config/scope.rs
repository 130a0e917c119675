//! Scopes: what a caller may do, in Flameup's own permission words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use super::units;

/// One permission, as the Flameup docs (authentication) name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// `people:read`: look up one person.
    PeopleRead,
    /// `people:write`: create and change people.
    PeopleWrite,
    /// `people:delete`: delete a person.
    PeopleDelete,
    /// `people:list`: list and search people.
    PeopleList,
    /// `events:read`.
    EventsRead,
    /// `events:write`: track events.
    EventsWrite,
    /// `events:list`.
    EventsList,
    /// `campaigns:read`.
    CampaignsRead,
    /// `campaigns:write`.
    CampaignsWrite,
    /// `campaigns:trigger`.
    CampaignsTrigger,
    /// `devices:write`: register devices.
    DevicesWrite,
    /// `analytics:read`.
    AnalyticsRead,
    /// `workspace:read`.
    WorkspaceRead,
    /// `workspace:write`.
    WorkspaceWrite,
    /// `*`, also written `admin`: everything, including calls no other scope covers.
    Everything,
}

const WORDS: [(&str, Scope); 16] = [
    ("people:read", Scope::PeopleRead),
    ("people:write", Scope::PeopleWrite),
    ("people:delete", Scope::PeopleDelete),
    ("people:list", Scope::PeopleList),
    ("events:read", Scope::EventsRead),
    ("events:write", Scope::EventsWrite),
    ("events:list", Scope::EventsList),
    ("campaigns:read", Scope::CampaignsRead),
    ("campaigns:write", Scope::CampaignsWrite),
    ("campaigns:trigger", Scope::CampaignsTrigger),
    ("devices:write", Scope::DevicesWrite),
    ("analytics:read", Scope::AnalyticsRead),
    ("workspace:read", Scope::WorkspaceRead),
    ("workspace:write", Scope::WorkspaceWrite),
    ("*", Scope::Everything),
    ("admin", Scope::Everything),
];

impl Scope {
    /// Flameup's word for it.
    pub fn as_str(self) -> &'static str {
        WORDS[self as usize].0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = || WORDS.iter().map(|(word, _)| *word);
        WORDS
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, scope)| *scope)
            .ok_or_else(|| match units::nearest(text, words()) {
                Some(near) => format!("{text:?} is not a scope, did you mean {near:?}?"),
                None => format!(
                    "{text:?} is not a scope; known are {}",
                    words().collect::<Vec<_>>().join(", ")
                ),
            })
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scopes(u16);

impl Scopes {
    /// No scope at all: everything is refused.
    pub const NONE: Self = Self(0);

    /// Says whether a caller with this set may do what needs `scope`.
    pub fn allows(self, scope: Scope) -> bool {
        self.0 & (bit(scope) | bit(Scope::Everything)) != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let distinct = &WORDS[..=Scope::Everything as usize];
        let held = distinct.iter().filter(|(_, s)| self.0 & bit(*s) != 0);
        f.debug_set().entries(held.map(|(word, _)| word)).finish()
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let scopes: Vec<Scope> = units::list(deserializer)?;
        if scopes.is_empty() {
            return Err(de::Error::custom("the list is empty; name at least one"));
        }
        Ok(scopes.into_iter().collect())
    }
}

fn bit(scope: Scope) -> u16 {
    1 << (scope as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_is_found_under_its_own_word() {
        for (word, scope) in WORDS {
            assert_eq!(word.parse(), Ok(scope));
            if word != "admin" {
                assert_eq!(scope.as_str(), word);
            }
        }
    }

    #[test]
    fn a_set_allows_what_it_holds_and_everything_allows_all() {
        let readers = Scopes::from_iter([Scope::PeopleRead]);
        assert!(readers.allows(Scope::PeopleRead));
        assert!(!readers.allows(Scope::PeopleWrite));
        assert!(!readers.allows(Scope::Everything));
        let all = Scopes::from_iter([Scope::Everything]);
        for (_, scope) in WORDS {
            assert!(all.allows(scope));
            assert!(!Scopes::NONE.allows(scope));
        }
    }
}
