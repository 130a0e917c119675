//! Which operation a method and a path ask for, in both generations of paths.
//!
//! # Specification
//! The operations are those of the Flameup docs; where a page exists for one generation only, the
//! other is answered alike. `{id}` is percent-decoded exactly once. `search` is a word in the place
//! of an id for GET, `batch` and `upsert` are for POST; elsewhere they are ids.

use http::Method;
use percent_encoding::percent_decode_str;

/// A documented operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    List,
    Search,
    Read(Who),
    Create,
    Upsert,
    Batch,
    Update(Who),
    Delete(Who),
    Track,
    Events,
    RegisterDevice(Who),
    Devices,
    CreateCampaign,
    TriggerCampaign(String),
    Push,
    Transactional,
}

/// A person as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// External id or email: the form without a workspace.
    Name(String),
    /// UUID: the form with a workspace.
    Uuid(String),
}

/// A route and the workspace its path names, if it names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) workspace: Option<String>,
    pub(super) route: Route,
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("no such route")]
    NoRoute,
    #[error("the path is not percent-encoded UTF-8")]
    BadEscape,
}

impl Located {
    /// Reads a raw path, without its query.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Error> {
        let rest = path.strip_prefix("/api/v1/").ok_or(Error::NoRoute)?;
        let segments: Vec<&str> = rest.split('/').collect();
        match segments.as_slice() {
            ["workspaces", workspace, rest @ ..] => Ok(Self {
                route: Route::of(method, rest, Who::Uuid)?,
                workspace: Some(decode(workspace)?),
            }),
            rest => Ok(Self {
                route: Route::of(method, rest, Who::Name)?,
                workspace: None,
            }),
        }
    }
}

impl Route {
    fn of(method: &Method, segments: &[&str], who: fn(String) -> Who) -> Result<Self, Error> {
        let method = if method == Method::HEAD {
            "GET"
        } else {
            method.as_str()
        };
        let found = match (method, segments) {
            ("GET", ["people"]) => Self::List,
            ("POST", ["people"]) => Self::Create,
            ("GET", ["people", "search"]) => Self::Search,
            ("POST", ["people", "upsert"]) => Self::Upsert,
            ("POST", ["people", "batch"]) => Self::Batch,
            ("GET", ["people", id]) => Self::Read(who(decode(id)?)),
            ("PUT", ["people", id]) => Self::Update(who(decode(id)?)),
            ("DELETE", ["people", id]) => Self::Delete(who(decode(id)?)),
            ("POST", ["people", id, "devices"]) => Self::RegisterDevice(who(decode(id)?)),
            ("POST", ["track" | "events"]) => Self::Track,
            ("GET", ["events"]) => Self::Events,
            ("GET", ["devices"]) => Self::Devices,
            ("POST", ["campaigns"]) => Self::CreateCampaign,
            ("POST", ["campaigns", id, "trigger"]) => Self::TriggerCampaign(decode(id)?),
            ("POST", ["push", "send"]) => Self::Push,
            ("POST", ["transactional", "send"]) => Self::Transactional,
            _ => return Err(Error::NoRoute),
        };
        Ok(found)
    }

    /// The person the path names, decoded.
    pub(super) fn person(&self) -> Option<&str> {
        match self {
            Self::Read(who) | Self::Update(who) | Self::Delete(who) | Self::RegisterDevice(who) => {
                let (Who::Name(id) | Who::Uuid(id)) = who;
                Some(id)
            }
            _ => None,
        }
    }

    /// The permission a key needs, in Flameup's words (authentication, people).
    pub(super) fn permission(&self) -> &'static str {
        match self {
            Self::List | Self::Search => "people:list",
            Self::Read(_) => "people:read",
            Self::Create | Self::Upsert | Self::Batch | Self::Update(_) => "people:write",
            Self::Delete(_) => "people:delete",
            Self::Track => "events:write",
            Self::Events => "events:list",
            Self::RegisterDevice(_) | Self::Devices => "devices:write",
            Self::CreateCampaign => "campaigns:write",
            Self::TriggerCampaign(_) | Self::Push | Self::Transactional => "campaigns:trigger",
        }
    }
}

/// Decodes one path segment once; an empty one is no id.
pub(super) fn decode(segment: &str) -> Result<String, Error> {
    if segment.is_empty() {
        return Err(Error::NoRoute);
    }
    let mut escapes = segment.split('%').skip(1);
    let whole = escapes.all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded = percent_decode_str(segment).decode_utf8();
    match decoded {
        Ok(text) if whole => Ok(text.into_owned()),
        _ => Err(Error::BadEscape),
    }
}

/// The last value of a query parameter, decoded; `+` is a space.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.rfind(|(key, _)| *key == name)?;
    let spaced = value.replace('+', " ");
    Some(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(method: &Method, path: &str) -> Result<Route, Error> {
        Located::of(method, path).map(|located| located.route)
    }

    #[test]
    fn both_generations_lead_to_the_same_operations() {
        let located = Located::of(&Method::GET, "/api/v1/workspaces/ws_1/people").expect("a route");
        assert_eq!(located.workspace.as_deref(), Some("ws_1"));
        assert_eq!(located.route, Route::List);
        assert_eq!(route(&Method::GET, "/api/v1/people"), Ok(Route::List));
        assert_eq!(route(&Method::POST, "/api/v1/track"), Ok(Route::Track));
    }

    #[test]
    fn ids_are_decoded_exactly_once() {
        let read = |id: &str| Ok(Route::Read(Who::Name(id.to_owned())));
        assert_eq!(route(&Method::GET, "/api/v1/people/a%2Fb"), read("a/b"));
        assert_eq!(route(&Method::GET, "/api/v1/people/a%252Fb"), read("a%2Fb"));
        assert_eq!(route(&Method::GET, "/api/v1/people/a+b@c"), read("a+b@c"));
        assert_eq!(route(&Method::GET, "/api/v1/people/batch"), read("batch"));
        assert_eq!(
            route(&Method::GET, "/api/v1/people/%zz"),
            Err(Error::BadEscape)
        );
        assert_eq!(
            route(&Method::GET, "/api/v1/people/%ff"),
            Err(Error::BadEscape)
        );
    }

    #[test]
    fn nothing_else_is_a_route() {
        for path in [
            "/",
            "/api/v1/people/",
            "/api/v2/people/a",
            "/api/v1//people",
            "/api/v1/people/a/b",
        ] {
            assert_eq!(route(&Method::GET, path), Err(Error::NoRoute), "{path}");
        }
        assert_eq!(
            route(&Method::PATCH, "/api/v1/people/a"),
            Err(Error::NoRoute)
        );
    }

    #[test]
    fn parameters_are_decoded_as_forms_are() {
        let query = Some("q=a+b&email=a%2Bb%40c&limit");
        assert_eq!(parameter(query, "q").as_deref(), Some("a b"));
        assert_eq!(parameter(query, "email").as_deref(), Some("a+b@c"));
        assert_eq!(parameter(query, "limit").as_deref(), Some(""));
        assert_eq!(parameter(None, "q"), None);
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "\\PC*") {
            let _ = Located::of(&Method::GET, &path);
            let _ = Located::of(&Method::GET, &format!("/api/v1/people/{path}"));
            let _ = parameter(Some(&path), "q");
        }
    }
}
