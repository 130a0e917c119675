//! Which of the routes a request takes: step 3 of the request path.
//!
//! A path is taken apart into segments and each is percent-decoded once. What was decoded decides
//! over the route *and*, encoded again in one canonical way, is what is forwarded; the client's own
//! bytes go nowhere. So nothing that two readers could read in two ways, a dot segment, an empty one
//! or a backslash, can reach another path of the upstream than the one that was judged here.
//!
//! # Specification
//! The documented paths are those of the Flameup docs; the module `table` lists them. Where a page exists for
//! one generation of paths only, the other one counts as not documented.

use http::{Method, Uri};
use smallvec::SmallVec;

pub mod endpoint;
mod forward;
mod segment;
mod table;

use crate::config::Scope;
use crate::person::{self, PersonRef};
pub use endpoint::{Effect, Endpoint};
pub use forward::Forward;
use table::Resource;

/// Longest request target, in bytes. Two identifiers of the longest kind, every byte of them
/// percent-encoded, come to 3 KiB; what is left is for a query.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// What metrics and logs call the routes that may be answered from memory.
pub const CACHED_NAMES: [&str; 2] = ["person", "person_by_uuid"];

const API_PREFIX: &str = "/api/v1/";

/// The segments of a path, as they came.
type Segments<'a> = SmallVec<[&'a str; 6]>;

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
    /// Everything else: Flameup is asked, once, and nothing is answered from memory.
    Forward(Forward<'a>),
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
    /// Some segment is one that two readers could read in two ways.
    #[error("the path has an unusable segment")]
    Segment,
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
        let segments: Segments<'a> = path.split('/').collect();
        match table::find(&segments) {
            Some(Resource::Person(which)) if matches!(*method, Method::GET | Method::HEAD) => {
                let person = which.person(&segments)?;
                Ok(Self::ReadPerson { person, query })
            }
            Some(resource) => {
                Forward::documented(resource, method, &segments, query).map(Self::Forward)
            }
            None => Forward::undocumented(method, &segments, query).map(Self::Forward),
        }
    }

    /// What the caller must be allowed to do.
    pub fn scope(&self) -> Scope {
        match self {
            Self::ReadPerson { .. } => Scope::PeopleRead,
            Self::Forward(forward) => forward.endpoint().scope(),
        }
    }

    /// The word for this route in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ReadPerson {
                person: PersonRef::Id(_),
                ..
            } => CACHED_NAMES[0],
            Self::ReadPerson {
                person: PersonRef::Uuid { .. },
                ..
            } => CACHED_NAMES[1],
            Self::Forward(forward) => forward.endpoint().name(),
        }
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

    /// A method, the name of what it does, and the scope for it.
    type Operation = (&'static str, &'static str, &'static str);

    /// Every documented path with `Allow` and its operations.
    const DOCUMENTED: [(&str, &str, &[Operation]); 17] = [
        ("people", "GET, HEAD, POST", &[LIST, CREATE]),
        ("people/batch", "POST", &[BATCH]),
        ("people/u1", "GET, HEAD, PUT, PATCH, DELETE", &PERSON),
        (
            "people/u1/devices",
            "POST",
            &[("POST", "device_register", "devices:write")],
        ),
        ("track", "POST", &[TRACK]),
        ("push/send", "POST", &[("POST", "push_send", "*")]),
        ("workspaces/ws/people", "GET, HEAD, POST", &[LIST, CREATE]),
        (
            "workspaces/ws/people/search",
            "GET, HEAD",
            &[("GET", "people_search", "people:list")],
        ),
        (
            "workspaces/ws/people/upsert",
            "POST",
            &[("POST", "person_upsert", "people:write")],
        ),
        ("workspaces/ws/people/batch", "POST", &[BATCH]),
        (
            "workspaces/ws/people/123e4567-e89b-12d3-a456-426614174000",
            "GET, HEAD, PUT, PATCH, DELETE",
            &PERSON,
        ),
        (
            "workspaces/ws/events",
            "GET, HEAD, POST",
            &[TRACK, ("GET", "events_list", "events:list")],
        ),
        (
            "workspaces/ws/devices",
            "GET, HEAD",
            &[("GET", "devices_list", "devices:write")],
        ),
        (
            "workspaces/ws/campaigns",
            "POST",
            &[("POST", "campaign_create", "campaigns:write")],
        ),
        (
            "workspaces/ws/campaigns/c%2F1/trigger",
            "POST",
            &[("POST", "campaign_trigger", "campaigns:trigger")],
        ),
        (
            "workspaces/ws/transactional/send",
            "POST",
            &[("POST", "transactional_send", "*")],
        ),
        ("%70eople/%62atch", "POST", &[BATCH]),
    ];
    const LIST: Operation = ("GET", "people_list", "people:list");
    const CREATE: Operation = ("POST", "person_create", "people:write");
    const BATCH: Operation = ("POST", "people_batch", "people:write");
    const TRACK: Operation = ("POST", "event_track", "events:write");
    const PERSON: [Operation; 3] = [
        ("PUT", "person_update", "people:write"),
        ("PATCH", "person_update", "people:write"),
        ("DELETE", "person_delete", "people:delete"),
    ];

    #[test]
    fn every_documented_path_has_its_methods_names_and_scopes() {
        for (path, allow, operations) in DOCUMENTED {
            let target: Uri = format!("/api/v1/{path}").parse().expect("a target");
            for &(method, name, scope) in operations {
                let methods: &[&str] = if method == "GET" {
                    &["GET", "HEAD"]
                } else {
                    &[method]
                };
                for method in methods {
                    let method = method.parse().expect("a method");
                    let route = Route::classify(&method, &target).expect("a route");
                    assert_eq!(
                        (route.name(), route.scope().as_str()),
                        (name, scope),
                        "{path}"
                    );
                }
            }
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
                if allow.split(", ").all(|allowed| allowed != method) {
                    let method = method.parse().expect("a method");
                    let refused = Route::classify(&method, &target).map(|route| route.name());
                    assert_eq!(refused, Err(Error::Method { allow }), "{path}");
                }
            }
        }
    }

    #[test]
    fn what_is_below_the_api_and_not_documented_needs_the_scope_for_everything() {
        for path in [
            "people/search",
            "people/%75psert",
            "people/batch/devices",
            "people/u1/notes",
            "workspaces/ws",
            "workspaces/ws/track",
            "workspaces/ws/people/u1/devices",
            "events",
            "devices",
            "campaigns/c1",
            "segments",
            "People/u1",
        ] {
            let target: Uri = format!("/api/v1/{path}").parse().expect("a target");
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
                let method = method.parse().expect("a method");
                let route = Route::classify(&method, &target).expect("a route");
                assert_eq!(route.name(), "other", "{path}");
                assert_eq!(route.scope(), Scope::Everything);
            }
            let traced = Route::classify(&Method::TRACE, &target);
            assert!(matches!(traced, Err(Error::Method { .. })));
        }
    }

    #[test]
    fn what_is_forwarded_is_built_anew_from_decoded_segments() {
        for (path, expected) in [
            ("segments/%61%2fb+c", "segments/a%2Fb%2Bc"),
            ("jos\u{e9}/%20x%20", "jos%C3%A9/%20x%20"),
            ("%77orkspaces/w%5f1/people", "workspaces/w_1/people"),
            ("people/A%40x.org", "people/A@x.org"),
            ("people/%20a@x.org/devices", "people/a@x.org/devices"),
        ] {
            let target: Uri = format!("/api/v1/{path}?x=%zz").parse().expect("a target");
            match Route::classify(&Method::POST, &target) {
                Ok(Route::Forward(forward)) => {
                    assert_eq!(forward.path(), format!("/api/v1/{expected}"));
                    assert_eq!(forward.query(), Some("x=%zz"));
                }
                Err(Error::Method { .. }) => assert_eq!(path, "people/A%40x.org"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_segment_that_two_readers_may_read_in_two_ways_is_refused() {
        for path in [
            "",
            "people/u1/",
            "/people/u1",
            "people//u1",
            "./people/u1",
            "x/../people/u1",
            "x/%2e%2E/people",
            "x/%2e",
            "x/a%2f..%2fb",
            "x/a%5cb",
            "x/%5c",
            "x/%00",
            "x/%0d%0a",
            "x/%7f",
            "x/%zz",
            "x/%4",
            "x/%ff",
            "x/%20",
            "workspaces//people",
            "workspaces/../people",
            "workspaces/%2e%2e/people/search",
            "workspaces/a%5cb/campaigns/c1/trigger",
            "workspaces/a/campaigns/../trigger",
        ] {
            let target = format!("/api/v1/{path}");
            for method in [Method::GET, Method::POST] {
                let found = name(&method, &target);
                let refused = matches!(found, Err(Error::Segment | Error::Method { .. }));
                assert!(refused, "{path}: {found:?}");
            }
        }
    }

    #[test]
    fn whatever_is_not_below_the_api_is_no_route() {
        for target in [
            "/",
            "/api/v1",
            "//api/v1/people/u1",
            "/api/./v1/people/u1",
            "/api/v1%2fpeople/u1",
            "/API/v1/people/u1",
            "/api/v2/people/u1",
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
                let _ = Route::classify(&Method::PUT, &target);
            }
        }

        #[test]
        fn what_is_forwarded_is_its_own_canonical_form(path in "[a-c%2f5Ce./\\\\+@ ]{1,40}") {
            let classify = |target: &Uri| match Route::classify(&Method::POST, target) {
                Ok(Route::Forward(forward)) => Some(forward.path().to_owned()),
                _ => None,
            };
            if let Ok(target) = format!("/api/v1/{path}").parse::<Uri>()
                && let Some(first) = classify(&target)
            {
                prop_assert!(!first.contains("//") && !first.contains("/../") && !first.contains('\\'));
                let again: Uri = first.parse().expect("a canonical path");
                prop_assert_eq!(classify(&again), Some(first));
            }
        }
    }
}
