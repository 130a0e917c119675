//! `[secrets]`: how long what was replaced still counts, and what may leave the process.

use std::time::Duration;

use serde::Deserialize;

use super::units::{self, DAY};

/// How keys and tokens are handled, wherever they are read from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Secrets {
    /// How long a replaced key or admin token is still of use beside its successor, up to a day.
    /// Default `"10m"`; `"0s"`: not at all.
    #[serde(deserialize_with = "units::duration::<0, DAY, _>")]
    pub overlap: Duration,
    /// Whether the system may write this process's memory to a file when it crashes. Default false.
    #[serde(deserialize_with = "units::flag")]
    pub core_dumps: bool,
}
