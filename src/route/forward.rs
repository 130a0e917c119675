//! A request that goes on to Flameup: which operation it is, and its target, built anew.

use http::Method;

use super::table::{Generation, Resource};
use super::{Endpoint, Error, Segments, segment};
use crate::person::PersonRef;

/// The methods that a path takes which is not documented, as `Allow` lists them.
const ANY_METHOD: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// A request that is forwarded.
#[derive(PartialEq, Eq)]
pub struct Forward<'a> {
    endpoint: Endpoint,
    /// Made of decoded segments.
    path: String,
    query: Option<&'a str>,
    person: Option<PersonRef<'a>>,
    /// The `{ws}` of a long path, decoded.
    workspace_id: Option<String>,
}

impl<'a> Forward<'a> {
    /// The operation that `method` is on a documented resource.
    pub(super) fn documented(
        resource: Resource,
        method: &Method,
        segments: &Segments<'a>,
        query: Option<&'a str>,
    ) -> Result<Self, Error> {
        let allow = resource.allow();
        let endpoint = resource.endpoint(method).ok_or(Error::Method { allow })?;
        let (person, path) = match resource {
            Resource::Person(which) => {
                let person = which.person(segments)?;
                let path = person.path();
                (Some(person), path)
            }
            Resource::PersonDevices => {
                let person = Generation::Short.person(segments)?;
                let path = person.path() + "/devices";
                (Some(person), path)
            }
            _ => (None, rebuilt(segments)?),
        };
        Ok(Self {
            endpoint,
            path,
            query,
            person,
            workspace_id: workspace_id(segments)?,
        })
    }

    /// What is below `/api/v1` and not documented.
    pub(super) fn undocumented(
        method: &Method,
        segments: &Segments<'a>,
        query: Option<&'a str>,
    ) -> Result<Self, Error> {
        let path = rebuilt(segments)?;
        let endpoint = match *method {
            Method::GET | Method::HEAD => Endpoint::OtherRead,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Endpoint::OtherWrite,
            _ => return Err(Error::Method { allow: ANY_METHOD }),
        };
        Ok(Self {
            endpoint,
            path,
            query,
            person: None,
            workspace_id: workspace_id(segments)?,
        })
    }

    /// The operation.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The canonical path to ask Flameup for.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query as it came, if it is not empty.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The workspace that the path names, decoded.
    pub fn workspace_id(&self) -> Option<&str> {
        self.workspace_id.as_deref()
    }

    /// The person whom the path names.
    pub fn person(&self) -> Option<&PersonRef<'a>> {
        self.person.as_ref()
    }
}

impl std::fmt::Debug for Forward<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Path and query may name people.
        write!(f, "Forward({})", self.endpoint.name())
    }
}

/// The path that the segments make, each decoded and encoded again.
fn rebuilt(segments: &Segments<'_>) -> Result<String, Error> {
    let mut path = String::from("/api/v1");
    for raw in segments {
        segment::push(&mut path, &segment::decode(raw)?);
    }
    Ok(path)
}

/// The `{ws}` of a long path.
fn workspace_id(segments: &Segments<'_>) -> Result<Option<String>, Error> {
    if let [first, named, ..] = segments.as_slice()
        && segment::decode(first)? == "workspaces"
    {
        return Ok(Some(segment::decode(named)?.into_owned()));
    }
    Ok(None)
}
