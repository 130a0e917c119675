//! May an answer of Flameup's be stored, and if not, why not (RFC 9111 §3).
//!
//! This is also where a 200 must prove whose it is: an answer that is not one whole Person, or not
//! the Person that was asked for, is unusable, reaches nobody and is not stored.

use http::StatusCode;

use super::Storing;
use super::claims::ClaimsBuf;
use super::entry::forbids_storing;
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

/// A verified 200, and whether it may be stored.
#[derive(Debug)]
pub struct Verified {
    /// Whether.
    pub storing: Storing,
    /// What it says its person is called.
    pub claims: ClaimsBuf,
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
    let storable =
        recognised && is_own(place, person, &identity) && !forbids_storing(&response.headers);
    Ok(Verified {
        storing: if storable {
            Storing::Person
        } else {
            Storing::Nowhere
        },
        claims: workspace.claims(&identity),
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
        Place::Own(_) if response.status == StatusCode::NOT_FOUND && is_envelope() => {
            Storing::Absence {
                kept: keeps && !forbids_storing(&response.headers),
            }
        }
        _ => Storing::Nowhere,
    }
}

/// Whether what a 304 has confirmed may be stored again: its headers replace those of the stored
/// response (RFC 9111 §3.2), so they may rule it out.
pub fn confirmation(response: &Response) -> Storing {
    if forbids_storing(&response.headers) {
        Storing::Nowhere
    } else {
        Storing::Person
    }
}

/// Whether a person belongs to this workspace, proven by the path or by the body.
fn is_own(place: &Place, person: &PersonRef<'_>, identity: &Identity<'_>) -> bool {
    match (place, person) {
        (Place::Own(_), _) => true,
        (Place::Unproven { .. }, PersonRef::Uuid { workspace_id, .. }) => {
            identity.workspace_id() == Some(workspace_id.as_ref())
        }
        (Place::Unproven { .. } | Place::Foreign(_), _) => false,
    }
}
