//! Which requests a fault or a hold is meant for.

use http::Method;
use serde::{Deserialize, Deserializer};

use super::route::Located;

/// A predicate over requests; every condition that is set must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Matcher {
    #[serde(deserialize_with = "method")]
    method: Option<Method>,
    id: Option<String>,
    path_prefix: Option<String>,
}

impl Matcher {
    /// Matches every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Matches reads, changes and device registrations whose path names this person, as decoded.
    pub fn id(id: impl Into<String>) -> Self {
        Self::any().with_id(id)
    }

    /// Matches paths as received that start like this.
    pub fn path_prefix(prefix: impl Into<String>) -> Self {
        Self::any().with_path_prefix(prefix)
    }

    /// Matches requests with this method.
    pub fn method(method: Method) -> Self {
        Self::any().with_method(method)
    }

    /// Demands this method as well.
    #[must_use]
    pub fn with_method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Demands this decoded id in the path as well.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Demands this beginning of the raw path as well.
    #[must_use]
    pub fn with_path_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.path_prefix = Some(prefix.into());
        self
    }

    pub(super) fn matches(&self, method: &Method, path: &str, located: Option<&Located>) -> bool {
        let person = located.and_then(|located| located.route.person());
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.id.as_deref().is_none_or(|id| person == Some(id))
            && self
                .path_prefix
                .as_deref()
                .is_none_or(|prefix| path.starts_with(prefix))
    }
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Method>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    let method = name.map(|name| name.parse()).transpose();
    method.map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold_and_ids_are_compared_decoded() {
        let path = "/api/v1/people/a%2Fb";
        let located = Located::of(&Method::GET, path).ok();
        let matches = |matcher: Matcher| matcher.matches(&Method::GET, path, located.as_ref());
        assert!(matches(Matcher::any()));
        assert!(matches(Matcher::id("a/b").with_method(Method::GET)));
        assert!(!matches(Matcher::id("a%2Fb")));
        assert!(!matches(Matcher::id("a/b").with_method(Method::PUT)));
        assert!(!matches(Matcher::path_prefix("/api/v1/workspaces")));
    }
}
