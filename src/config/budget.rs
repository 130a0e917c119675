//! `[workspaces.NAME.budget]`: what a workspace's key may spend at Flameup.

use std::time::Duration;

use figment::value::{Dict, Value};
use serde::Deserialize;

use super::units::{self, HOUR, MINUTE, SECOND};

/// The budget of one workspace, whichever of its keys is in use.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Budget {
    /// Requests a window, 1 to 1000000; believed until Flameup's answers say otherwise. Default 120.
    #[serde(deserialize_with = "units::count::<1, 1_000_000, _, _>")]
    pub requests: u32,
    /// Length of the window, 1 second to 1 hour. Default `"60s"`.
    #[serde(deserialize_with = "units::duration::<SECOND, HOUR, _>")]
    pub window: Duration,
    /// Share that background work leaves to callers, 0 to 0.9. Default 0.1; 0: none.
    #[serde(deserialize_with = "units::share::<90, _>")]
    pub reserve: f64,
    /// Longest that a lookup waits for its turn, up to a minute. Default `"2s"`; `"0s"`: not at all.
    #[serde(deserialize_with = "units::duration::<0, MINUTE, _>")]
    pub max_wait: Duration,
}

impl Budget {
    /// What a workspace has that says nothing else: Flameup's documented limit (rate-limits).
    pub(super) fn defaults() -> Dict {
        let settings: [(&str, Value); 4] = [
            ("requests", 120.into()),
            ("window", "60s".into()),
            ("reserve", 0.1.into()),
            ("max_wait", "2s".into()),
        ];
        settings.map(|(key, value)| (key.to_owned(), value)).into()
    }
}
