//! The pools requests are counted in: one per API key, one for callers without a key.
//!
//! The Flameup docs (rate-limits) give each key one pool for all endpoints, and callers without a
//! key 75 requests a minute per address. Another consumer of the same key can be simulated: it
//! spends at even intervals, so that a run is the same each time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::limiter::{Kind, Limiter, Verdict};

/// What callers without an accepted key share, from the docs (rate-limits).
const ANONYMOUS_LIMIT: u32 = 75;

/// Most the foreign consumer spends a minute: catching up with more would take noticeable time.
const MOST_FOREIGN: u32 = 100_000;

/// How requests are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterOptions {
    /// How the window moves; fixed by default.
    pub kind: Kind,
    /// Requests per window and key; 120 by default. Zero refuses everything.
    pub limit: u32,
    /// Length of the window; 60 seconds by default.
    pub window: Duration,
    /// Seconds added to `Date` and `X-RateLimit-Reset`: how wrong the clock of the stand-in is.
    pub skew_s: i64,
    /// Requests a minute that someone else spends from each key's pool; none by default, 100,000 at most.
    pub foreign_per_minute: u32,
    /// Whether a 429 carries `Retry-After`; off by default, as the docs do not name it.
    pub retry_after: bool,
}

impl Default for LimiterOptions {
    fn default() -> Self {
        Self {
            kind: Kind::Fixed,
            limit: 120,
            window: Duration::from_mins(1),
            skew_s: 0,
            foreign_per_minute: 0,
            retry_after: false,
        }
    }
}

/// What the pools have counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimiterState {
    /// Requests that were within the limit.
    pub counted: u64,
    /// Requests that drew a 429.
    pub refused: u64,
    /// Requests the simulated foreign consumer got through.
    pub foreign: u64,
}

/// All pools of one stand-in.
#[derive(Debug)]
pub(super) struct Pools {
    options: LimiterOptions,
    start: Instant,
    /// `None` is everybody without an accepted key.
    by_key: HashMap<Option<String>, Pool>,
}

impl Pools {
    pub(super) fn new(options: LimiterOptions, start: Instant) -> Self {
        Self {
            options,
            start,
            by_key: HashMap::new(),
        }
    }

    pub(super) fn options(&self) -> LimiterOptions {
        self.options
    }

    /// Counts a request of `key`, `None` for a caller without an accepted one.
    pub(super) fn take(&mut self, key: Option<&str>, now: Instant) -> Verdict {
        let (options, start) = (self.options, self.start);
        let pool = self
            .by_key
            .entry(key.map(str::to_owned))
            .or_insert_with_key(|key| Pool::new(options, key.is_some(), start));
        pool.take(now)
    }

    /// Starts over under new options, with every pool full; what was counted is kept.
    pub(super) fn change(&mut self, options: LimiterOptions, now: Instant) {
        (self.options, self.start) = (options, now);
        for (key, pool) in &mut self.by_key {
            let state = pool.state;
            *pool = Pool::new(options, key.is_some(), now);
            pool.state = state;
        }
    }

    /// The sum over all pools.
    pub(super) fn state(&self) -> LimiterState {
        let mut sum = LimiterState::default();
        for pool in self.by_key.values() {
            sum.counted += pool.state.counted;
            sum.refused += pool.state.refused;
            sum.foreign += pool.state.foreign;
        }
        sum
    }

    /// What one key's pool has counted.
    pub(super) fn state_of(&self, key: &str) -> LimiterState {
        let pool = self.by_key.get(&Some(key.to_owned()));
        pool.map(|pool| pool.state).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Pool {
    limiter: Limiter,
    window: Duration,
    foreign: Option<Foreign>,
    state: LimiterState,
}

#[derive(Debug)]
struct Foreign {
    every: Duration,
    next: Instant,
}

impl Pool {
    fn new(options: LimiterOptions, keyed: bool, start: Instant) -> Self {
        let (limit, window) = if keyed {
            (options.limit, options.window)
        } else {
            (ANONYMOUS_LIMIT, Duration::from_mins(1))
        };
        let foreign = (keyed && options.foreign_per_minute > 0).then(|| {
            let every = Duration::from_mins(1) / options.foreign_per_minute.min(MOST_FOREIGN);
            Foreign {
                every,
                next: start + every,
            }
        });
        Self {
            limiter: Limiter::new(options.kind, limit, window).anchored_at(start),
            window,
            foreign,
            state: LimiterState::default(),
        }
    }

    fn take(&mut self, now: Instant) -> Verdict {
        self.spend_foreign(now);
        let verdict = self.limiter.take(now);
        if verdict.allowed {
            self.state.counted += 1;
        } else {
            self.state.refused += 1;
        }
        verdict
    }

    /// Spends what the foreign consumer asked for up to `now`.
    fn spend_foreign(&mut self, now: Instant) {
        let Some(foreign) = &mut self.foreign else {
            return;
        };
        // After a long silence only the last two windows can still matter; the grid is kept.
        let behind = now.saturating_duration_since(foreign.next);
        let late = behind.saturating_sub(self.window.saturating_mul(2));
        let skipped = late.as_nanos() / foreign.every.as_nanos().max(1);
        foreign.next += foreign.every * u32::try_from(skipped).unwrap_or(u32::MAX);
        while foreign.next <= now {
            if self.limiter.take(foreign.next).allowed {
                self.state.foreign += 1;
            }
            foreign.next += foreign.every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_pools_of_their_own_and_callers_without_one_share_75() {
        let now = Instant::now();
        let mut pools = Pools::new(LimiterOptions::default(), now);
        for _ in 0..120 {
            assert!(pools.take(Some("a"), now).allowed);
        }
        assert!(!pools.take(Some("a"), now).allowed);
        assert!(pools.take(Some("b"), now).allowed);
        assert_eq!(pools.take(None, now).limit, 75);
        assert_eq!(pools.state_of("a").refused, 1);
        assert_eq!(pools.state().counted, 122);
    }

    #[test]
    fn a_foreign_consumer_spends_evenly_from_the_same_pool() {
        let now = Instant::now();
        let options = LimiterOptions {
            foreign_per_minute: 60,
            ..LimiterOptions::default()
        };
        let mut pools = Pools::new(options, now);
        let verdict = pools.take(Some("a"), now + Duration::from_secs(30));
        assert_eq!(verdict.remaining, 120 - 30 - 1);
        assert_eq!(pools.state().foreign, 30);
        let verdict = pools.take(Some("a"), now + Duration::from_secs(3600 * 24 + 1));
        assert_eq!(verdict.remaining, 120 - 2 - 1); // at the full minute and a second later
    }

    #[test]
    fn a_change_of_the_limit_takes_effect_at_once_and_keeps_the_counts() {
        let now = Instant::now();
        let mut pools = Pools::new(LimiterOptions::default(), now);
        pools.take(Some("a"), now);
        let options = LimiterOptions {
            limit: 1,
            ..LimiterOptions::default()
        };
        pools.change(options, now);
        assert!(pools.take(Some("a"), now).allowed);
        assert!(!pools.take(Some("a"), now).allowed);
        assert_eq!(pools.state().counted, 2);
    }
}
