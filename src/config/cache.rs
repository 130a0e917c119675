//! `[cache]`: how much is kept, and for how long it is served.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};

use super::units::{self, DAY, GIB, MIB, MILLISECOND};

/// Bounds on memory and on age.
///
/// No answer is older than `ttl + max(stale_while_revalidate, stale_if_error)`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Cache {
    /// Memory for everything stored: bodies, keys, overhead. 1 MiB to 1024 GiB. Default `"256MiB"`.
    #[serde(deserialize_with = "units::size::<MIB, { 1024 * GIB }, _>")]
    pub max_bytes: ByteSize,
    /// How long a stored person is fresh; never zero, at most a day. Default `"60s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub ttl: Duration,
    /// Share of `ttl` by which a lifetime is shortened at random, 0 to 0.5. Default 0.1; 0: none.
    #[serde(deserialize_with = "units::share::<50, _>")]
    pub ttl_jitter: f64,
    /// Past `ttl`: served at once while one refresh runs. Up to 7 days. Default `"4m"`; `"0s"`: never.
    #[serde(deserialize_with = "units::duration::<0, { 7 * DAY }, _>")]
    pub stale_while_revalidate: Duration,
    /// Past `ttl`: served when Flameup fails or the budget is spent. Up to 7 days. Default `"14m"`;
    /// `"0s"`: never.
    #[serde(deserialize_with = "units::duration::<0, { 7 * DAY }, _>")]
    pub stale_if_error: Duration,
    /// How long a 404 is kept, up to a day. Default `"10s"`; `"0s"`: not at all.
    #[serde(deserialize_with = "units::duration::<0, DAY, _>")]
    pub negative_ttl: Duration,
    /// Whether spellings of an email that differ in case are one person. Default insensitive.
    pub email_case: EmailCase,
    /// Whether a person is found under all the names that their body tells, whichever they were
    /// asked for by. Default `true`; `false`: each name is a person of its own.
    #[serde(deserialize_with = "units::flag")]
    pub aliases: bool,
    /// Whether people that pass by in lists, searches and writes bring up to date whoever of them
    /// is stored already. Default `true`.
    #[serde(deserialize_with = "units::flag")]
    pub harvest: bool,
    /// Whether a tracked event or a registered device makes its person be asked for again. Default
    /// false.
    #[serde(deserialize_with = "units::flag")]
    pub events_invalidate: bool,
}

/// How the case of an email counts when people are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailCase {
    /// `A@x.io` and `a@x.io` are one person.
    Insensitive,
    /// They are two.
    Exact,
}

impl<'de> Deserialize<'de> for EmailCase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [("insensitive", Self::Insensitive), ("exact", Self::Exact)];
        units::word(deserializer, &words)
    }
}
