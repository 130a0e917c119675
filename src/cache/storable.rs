//! May an answer of Flameup's be stored, and if not, why not (RFC 9111 §3).
//!
//! This is also where a 200 must prove whose it is: an answer that is not one whole Person, or not
//! the Person that was asked for, is unusable, reaches nobody and is not stored.

use http::StatusCode;

use super::Storing;
use super::entry::forbids_storing;
use super::key::{CacheKey, Keys};
use crate::person::PersonRef;
use crate::person::body::{self, Identity};
use crate::upstream::Response;
use crate::workspace::{Place, Workspace};

/// A 200 that cannot be given to anybody.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not one whole Person.
    #[error("the answer is no person")]
    NotAPerson(#[source] body::Error),
    /// A Person, and not the one that was asked for.
    #[error("the answer is another person")]
    AnotherPerson,
}

/// A verified 200, and where it may be stored.
#[derive(Debug)]
pub struct Verified {
    /// Where.
    pub storing: Storing,
    /// It answers the spelling that was asked for and no other.
    pub exact: bool,
    /// The body names another workspace than this key has shown before: an alarm.
    pub foreign_workspace: bool,
}

/// Verifies a 200 against the lookup of `person` at `place`.
///
/// # Errors
/// When the body is not the whole Person that was asked for; see [`Error`].
pub fn verify(
    response: &Response,
    person: &PersonRef<'_>,
    place: &Place,
    workspace: &Workspace,
) -> Result<Verified, Error> {
    let identity = Identity::read(&response.body).map_err(Error::NotAPerson)?;
    if !identity.answers(person) {
        return Err(Error::AnotherPerson);
    }
    let elsewhere = matches!(place, Place::Foreign(_));
    let recognised = elsewhere
        || identity
            .workspace_id()
            .is_none_or(|id| workspace.recognises(id));
    let keys = keys_if_own(place, person, &identity).filter(|_| recognised);
    let storing = match keys {
        Some(keys) if !forbids_storing(&response.headers) => Storing::Person {
            keys,
            proven: proven(&identity, workspace),
        },
        _ => Storing::Nowhere,
    };
    // Found by an external id that looks like an e-mail: its case is the customer's own.
    let exact = matches!(person, PersonRef::Id(asked) if !identity.has_email(asked));
    Ok(Verified {
        storing,
        exact,
        foreign_workspace: !recognised,
    })
}

/// What a 404 says: that nobody is there, only for a lookup that is this workspace's beyond doubt,
/// and only if it is an envelope. A page of some machine in between says nothing about the person.
/// It is kept only if the cache `keeps` absences.
pub fn absence(response: &Response, place: &Place, keeps: bool) -> Storing {
    let is_envelope = || {
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&response.body).is_ok()
    };
    match place {
        Place::Own(keys) if response.status == StatusCode::NOT_FOUND && is_envelope() => {
            Storing::Absence {
                keys: keys.clone(),
                kept: keeps && !forbids_storing(&response.headers),
            }
        }
        _ => Storing::Nowhere,
    }
}

/// Where what a 304 has confirmed may be stored again: its headers replace those of the stored
/// response (RFC 9111 §3.2), so they may rule it out.
pub fn confirmation(response: &Response, keys: &Keys) -> Storing {
    if forbids_storing(&response.headers) {
        return Storing::Nowhere;
    }
    Storing::Person {
        keys: keys.clone(),
        proven: Vec::new(),
    }
}

/// The keys of a person that belongs to this workspace, proven by the path or by the body.
fn keys_if_own(place: &Place, person: &PersonRef<'_>, identity: &Identity<'_>) -> Option<Keys> {
    match (place, person) {
        (Place::Own(keys), _) => Some(keys.clone()),
        (Place::Unproven { keys, .. }, PersonRef::Uuid { workspace_id, .. }) => {
            (identity.workspace_id() == Some(workspace_id.as_ref())).then(|| keys.clone())
        }
        (Place::Unproven { .. } | Place::Foreign(_), _) => None,
    }
}

/// Everything that this body proves to name somebody, exactly as it spells it.
fn proven(identity: &Identity<'_>, workspace: &Workspace) -> Vec<CacheKey> {
    let uuid = identity.uuid().map(|uuid| workspace.key_of_uuid(&uuid));
    [identity.external_id(), identity.email()]
        .into_iter()
        .flatten()
        .map(|id| workspace.key_of(id))
        .chain(uuid)
        .collect()
}
