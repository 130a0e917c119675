//! Which of the routes a request takes: step 3 of the request path.
//!
//! Only exact paths are known. Nothing is normalised on the way: a duplicate slash, a dot segment
//! or an encoded prefix is simply no route, so it can never reach another path of the upstream.

use http::{Method, Uri};

use crate::config::Scope;
use crate::person::{self, PersonRef, is_reserved_word};

/// Longest request target, in bytes. Two identifiers of the longest kind, every byte of them
/// percent-encoded, come to 3 KiB; what is left is for a query.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// What metrics and logs call the routes.
pub const NAMES: [&str; 2] = ["person", "person_by_uuid"];

/// Methods of the cached read, as `Allow` lists them.
const READ_METHODS: &str = "GET, HEAD";

const API_PREFIX: &str = "/api/v1/";

/// What a request wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The cached read of one person.
    ReadPerson {
        /// Who is meant.
        person: PersonRef<'a>,
        /// A query that is not empty; it makes the read one that no cache may answer.
        query: Option<&'a str>,
    },
}

/// Why there is no route for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such path.
    #[error("no such route")]
    Unknown,
    /// The path is known, the method is not.
    #[error("method not allowed")]
    Method {
        /// The methods that are, as `Allow` lists them.
        allow: &'static str,
    },
    /// Longer than [`MAX_TARGET_BYTES`].
    #[error("the request target is longer than 8 KiB")]
    TargetTooLong,
    /// The path is that of a person, but names nobody.
    #[error(transparent)]
    Person(#[from] person::Error),
}

impl<'a> Route<'a> {
    /// Finds the route of `method` and `target`.
    ///
    /// # Errors
    /// When there is none; see [`Error`].
    pub fn classify(method: &Method, target: &'a Uri) -> Result<Self, Error> {
        let query = target.query().filter(|query| !query.is_empty());
        if target.path().len() + query.map_or(0, str::len) > MAX_TARGET_BYTES {
            return Err(Error::TargetTooLong);
        }
        let path = target
            .path()
            .strip_prefix(API_PREFIX)
            .ok_or(Error::Unknown)?;
        let person = match Segments::of(path).ok_or(Error::Unknown)? {
            Segments::Short { id } => {
                only_reads(method)?;
                PersonRef::from_id(id)?
            }
            Segments::Long { workspace_id, uuid } => {
                only_reads(method)?;
                PersonRef::from_uuid(workspace_id, uuid)?
            }
        };
        Ok(Self::ReadPerson { person, query })
    }

    /// What the caller must be allowed to do.
    pub fn scope(&self) -> Scope {
        match self {
            Self::ReadPerson { .. } => Scope::PeopleRead,
        }
    }

    /// The word for this route in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ReadPerson {
                person: PersonRef::Id(_),
                ..
            } => NAMES[0],
            Self::ReadPerson {
                person: PersonRef::Uuid { .. },
                ..
            } => NAMES[1],
        }
    }
}

/// The raw segments of a path that stands for one person, in either generation of the API.
enum Segments<'a> {
    Short {
        id: &'a str,
    },
    Long {
        workspace_id: &'a str,
        uuid: &'a str,
    },
}

impl<'a> Segments<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let mut segments = path.split('/');
        let found = match (
            segments.next()?,
            segments.next(),
            segments.next(),
            segments.next(),
        ) {
            ("people", Some(id), None, None) if !is_reserved_word(id) => Self::Short { id },
            ("workspaces", Some(workspace_id), Some("people"), Some(uuid))
                if !is_reserved_word(uuid) =>
            {
                Self::Long { workspace_id, uuid }
            }
            _ => return None,
        };
        segments.next().is_none().then_some(found)
    }
}

fn only_reads(method: &Method) -> Result<(), Error> {
    if matches!(*method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(Error::Method {
            allow: READ_METHODS,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

    fn name(method: &Method, target: &str) -> Result<&'static str, Error> {
        let target: Uri = target.parse().expect("a target that http can read");
        Route::classify(method, &target).map(|route| route.name())
    }

    #[test]
    fn both_generations_of_the_person_path_are_reads() {
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(name(&method, "/api/v1/people/u1"), Ok("person"));
            let long = format!("/api/v1/workspaces/ws_1/people/{UUID}");
            assert_eq!(name(&method, &long), Ok("person_by_uuid"));
        }
    }

    #[test]
    fn other_methods_on_a_person_are_told_which_are_allowed() {
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::TRACE,
        ] {
            let refused = Err(Error::Method { allow: "GET, HEAD" });
            assert_eq!(name(&method, "/api/v1/people/u1"), refused);
        }
    }

    #[test]
    fn whatever_is_not_exactly_a_person_path_is_no_route() {
        for target in [
            "/",
            "/api/v1",
            "/api/v1/people",
            "/api/v1/people/u1/",
            "/api/v1/people/u1/devices",
            "/api/v1/people/search",
            "/api/v1/people/%73earch",
            "/api/v1/people/batch",
            "/api/v1/workspaces/ws_1/people/upsert",
            "/api/v1/workspaces/ws_1/people",
            "/api/v1/workspaces/ws_1/devices/u1",
            "/api/v1//people/u1",
            "//api/v1/people/u1",
            "/api/./v1/people/u1",
            "/api/v1/../v1/people/u1",
            "/api/v1/people/a/../u1",
            "/api/v1%2fpeople/u1",
            "/API/v1/people/u1",
            "/gateway/v1/people/lookup",
        ] {
            assert_eq!(name(&Method::GET, target), Err(Error::Unknown), "{target}");
        }
    }

    #[test]
    fn an_empty_id_is_an_unusable_id_and_an_empty_query_is_none() {
        let empty = Err(Error::Person(person::Error::Empty));
        assert_eq!(name(&Method::GET, "/api/v1/people/"), empty);
        let target = Uri::from_static("/api/v1/people/u1?");
        let route = Route::classify(&Method::GET, &target);
        assert!(matches!(route, Ok(Route::ReadPerson { query: None, .. })));
        let target = Uri::from_static("/api/v1/people/u1?a=b");
        let route = Route::classify(&Method::GET, &target);
        assert!(matches!(
            route,
            Ok(Route::ReadPerson {
                query: Some("a=b"),
                ..
            })
        ));
    }

    #[test]
    fn a_target_beyond_the_bound_is_too_long_even_when_it_names_nobody() {
        let long = format!("/api/v1/people/u1?{}", "x".repeat(MAX_TARGET_BYTES));
        assert_eq!(name(&Method::GET, &long), Err(Error::TargetTooLong));
    }

    proptest! {
        #[test]
        fn no_target_makes_routing_panic(target in "/api/v1/(people|workspaces)/[ -~]{0,80}") {
            if let Ok(target) = target.parse::<Uri>() {
                let _ = Route::classify(&Method::GET, &target);
            }
        }
    }
}
