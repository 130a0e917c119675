//! The rate limiter of the stand-in: pure, driven by the `now` values it is given.
//!
//! The Flameup docs (rate-limits) give a limit per minute and three headers but do not say how the
//! window moves, so all three usual kinds exist. Callers bring the time, hence a bench or a test can
//! run hours of traffic in virtual time.
//!
//! # Invariants
//! - Fixed: at most `limit` requests are allowed in each window counted from the anchor.
//! - Sliding: at most `limit` requests are allowed in any half-open interval as long as the window.
//! - Bucket: at most `limit` plus what flowed back are allowed in any interval.
//! - Refused requests spend nothing.
//!
//! # Units
//! The bucket counts in parts of a request: one request is as many parts as the window has
//! nanoseconds, and `limit` parts flow back each nanosecond, so nothing is ever rounded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the window of a [`Limiter`] moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Windows follow each other without overlap; the whole limit returns at each boundary.
    #[default]
    Fixed,
    /// A log of moments; each request returns one window after it was made.
    Sliding,
    /// A token bucket as large as the limit, refilled evenly over the window.
    Bucket,
}

/// Counts requests against a limit; see the module for what each kind promises.
#[derive(Clone, Debug)]
pub struct Limiter {
    limit: u32,
    window: Duration,
    ledger: Ledger,
    latest: Option<Instant>,
}

#[derive(Clone, Debug)]
enum Ledger {
    Fixed {
        anchor: Option<Instant>,
        index: u128,
        used: u32,
    },
    Sliding(VecDeque<Instant>),
    Bucket {
        parts: u128,
    },
}

/// What became of one request, and what the response headers should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request is within the limit.
    pub allowed: bool,
    /// The limit itself.
    pub limit: u32,
    /// Whole requests left after this one.
    pub remaining: u32,
    /// Until the window ends (fixed), until the oldest counted request leaves it (sliding), or until
    /// the bucket is full again (bucket).
    pub reset_after: Duration,
    /// Until the next request would be allowed; zero while some remain.
    pub retry_after: Duration,
}

impl Limiter {
    /// Makes a limiter that has counted nothing; fixed windows are counted from the first request.
    ///
    /// A window of zero is taken as one nanosecond; a limit of zero refuses everything.
    pub fn new(kind: Kind, limit: u32, window: Duration) -> Self {
        let window = window.max(Duration::from_nanos(1));
        let ledger = match kind {
            Kind::Fixed => Ledger::Fixed {
                anchor: None,
                index: 0,
                used: 0,
            },
            Kind::Sliding => Ledger::Sliding(VecDeque::new()),
            Kind::Bucket => Ledger::Bucket {
                parts: u128::from(limit) * window.as_nanos(),
            },
        };
        Self {
            limit,
            window,
            ledger,
            latest: None,
        }
    }

    /// Counts fixed windows from `moment` instead of from the first request.
    #[must_use]
    pub fn anchored_at(mut self, moment: Instant) -> Self {
        if let Ledger::Fixed { anchor, .. } = &mut self.ledger {
            *anchor = Some(moment);
        }
        self
    }

    /// Counts one request made at `now`, if the limit allows it.
    ///
    /// A `now` before an earlier one is taken as that earlier one.
    pub fn take(&mut self, now: Instant) -> Verdict {
        let earlier = self.latest.unwrap_or(now);
        let now = now.max(earlier);
        self.latest = Some(now);
        self.settle(earlier, now);
        let allowed = self.spend(now);
        self.verdict(allowed, now)
    }

    /// Gives back what the time from `earlier` to `now` returned.
    fn settle(&mut self, earlier: Instant, now: Instant) {
        let window = self.window;
        match &mut self.ledger {
            Ledger::Fixed {
                anchor,
                index,
                used,
            } => {
                let since = now.saturating_duration_since(*anchor.get_or_insert(now));
                let current = since.as_nanos() / window.as_nanos();
                if current != *index {
                    (*index, *used) = (current, 0);
                }
            }
            Ledger::Sliding(log) => {
                while log.front().is_some_and(|&at| now - at >= window) {
                    log.pop_front();
                }
            }
            Ledger::Bucket { parts } => {
                let full = u128::from(self.limit) * window.as_nanos();
                let back = (now - earlier)
                    .as_nanos()
                    .saturating_mul(u128::from(self.limit));
                *parts = parts.saturating_add(back).min(full);
            }
        }
    }

    fn spend(&mut self, now: Instant) -> bool {
        match &mut self.ledger {
            Ledger::Fixed { used, .. } if *used < self.limit => *used += 1,
            Ledger::Sliding(log) if log.len() < self.limit as usize => log.push_back(now),
            Ledger::Bucket { parts } if *parts >= self.window.as_nanos() && self.limit > 0 => {
                *parts -= self.window.as_nanos();
            }
            _ => return false,
        }
        true
    }

    fn verdict(&self, allowed: bool, now: Instant) -> Verdict {
        let (remaining, reset_after, next) = match &self.ledger {
            Ledger::Fixed {
                anchor,
                index,
                used,
            } => {
                let since = now.saturating_duration_since(anchor.unwrap_or(now));
                let end = self.window.as_nanos() * (index + 1);
                let left = nanos(end.saturating_sub(since.as_nanos()));
                (self.limit - used, left, left)
            }
            Ledger::Sliding(log) => {
                let used = u32::try_from(log.len()).unwrap_or(u32::MAX);
                let left = log
                    .front()
                    .map_or(self.window, |&at| self.window.saturating_sub(now - at));
                (self.limit.saturating_sub(used), left, left)
            }
            Ledger::Bucket { parts } => self.bucket(*parts),
        };
        let retry_after = if remaining > 0 { Duration::ZERO } else { next };
        Verdict {
            allowed,
            limit: self.limit,
            remaining,
            reset_after,
            retry_after,
        }
    }

    fn bucket(&self, parts: u128) -> (u32, Duration, Duration) {
        if self.limit == 0 {
            return (0, self.window, self.window);
        }
        let (limit, one) = (u128::from(self.limit), self.window.as_nanos());
        let until = |goal: u128| nanos(goal.saturating_sub(parts).div_ceil(limit));
        let remaining = u32::try_from(parts / one).unwrap_or(self.limit);
        (remaining, until(limit * one), until(one))
    }
}

fn nanos(count: u128) -> Duration {
    u64::try_from(count).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fixed_window_returns_the_whole_limit_at_its_boundary() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Kind::Fixed, 2, SECOND * 60).anchored_at(start);
        let late = start + SECOND * 59;
        assert_eq!(limiter.take(late).remaining, 1);
        assert!(limiter.take(late).allowed);
        let refused = limiter.take(late);
        assert!(!refused.allowed);
        assert_eq!(refused.reset_after, SECOND);
        assert_eq!(refused.retry_after, SECOND);
        assert!(limiter.take(start + SECOND * 60).allowed);
    }

    #[test]
    fn a_sliding_window_returns_each_request_one_window_later() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Kind::Sliding, 2, SECOND * 60);
        assert!(limiter.take(start).allowed);
        assert!(limiter.take(start + SECOND * 30).allowed);
        let refused = limiter.take(start + SECOND * 59);
        assert!(!refused.allowed);
        assert_eq!(refused.reset_after, SECOND);
        assert!(limiter.take(start + SECOND * 60).allowed);
        assert!(!limiter.take(start + SECOND * 61).allowed);
    }

    #[test]
    fn a_bucket_flows_back_evenly() {
        let start = Instant::now();
        let mut limiter = Limiter::new(Kind::Bucket, 2, SECOND * 60);
        assert!(limiter.take(start).allowed);
        assert_eq!(limiter.take(start).reset_after, SECOND * 60);
        let refused = limiter.take(start + SECOND * 29);
        assert!(!refused.allowed);
        assert_eq!(refused.retry_after, SECOND);
        assert!(limiter.take(start + SECOND * 30).allowed);
        assert!(!limiter.take(start + SECOND * 59).allowed);
    }

    #[test]
    fn a_limit_of_zero_refuses_everything_and_time_may_stand_still() {
        for kind in [Kind::Fixed, Kind::Sliding, Kind::Bucket] {
            let now = Instant::now();
            let mut limiter = Limiter::new(kind, 0, SECOND);
            assert!(!limiter.take(now + SECOND).allowed);
            assert!(!limiter.take(now).allowed);
        }
    }

    #[test]
    fn the_longest_window_and_the_largest_limit_overflow_nothing() {
        for kind in [Kind::Fixed, Kind::Sliding, Kind::Bucket] {
            let now = Instant::now();
            let mut limiter = Limiter::new(kind, u32::MAX, Duration::MAX);
            assert!(limiter.take(now).allowed);
            assert!(limiter.take(now + SECOND).allowed);
            let mut limiter = Limiter::new(kind, 0, Duration::ZERO);
            assert!(!limiter.take(now).allowed);
        }
    }

    /// Runs a limiter at the given gaps and returns when (ms after the start) it allowed a request.
    fn allowed(kind: Kind, limit: u32, window_ms: u64, gaps: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut limiter =
            Limiter::new(kind, limit, Duration::from_millis(window_ms)).anchored_at(start);
        let mut at = 0;
        let mut moments = Vec::new();
        for gap in gaps {
            at += gap;
            let verdict = limiter.take(start + Duration::from_millis(at));
            assert!(verdict.remaining <= limit);
            if verdict.allowed {
                moments.push(at);
            }
        }
        moments
    }

    /// The most moments inside any half-open interval of `window_ms`.
    fn densest(moments: &[u64], window_ms: u64) -> usize {
        let inside = |from: u64| {
            moments
                .iter()
                .filter(move |&&at| at >= from && at < from + window_ms)
        };
        moments
            .iter()
            .map(|&from| inside(from).count())
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_aligned_window_ever_exceeds_a_fixed_limit(
            limit in 1_u32..8, window in 1_u64..50, gaps in prop::collection::vec(0_u64..20, 0..200)
        ) {
            let moments = allowed(Kind::Fixed, limit, window, &gaps);
            for index in moments.iter().map(|at| at / window) {
                let used = moments.iter().filter(|&&at| at / window == index).count();
                prop_assert!(used <= limit as usize);
            }
        }

        #[test]
        fn no_window_at_all_ever_exceeds_a_sliding_limit(
            limit in 1_u32..8, window in 1_u64..50, gaps in prop::collection::vec(0_u64..20, 0..200)
        ) {
            let moments = allowed(Kind::Sliding, limit, window, &gaps);
            prop_assert!(densest(&moments, window) <= limit as usize);
        }

        #[test]
        fn a_bucket_allows_its_size_and_what_flowed_back(
            limit in 1_u32..8, window in 1_u64..50, gaps in prop::collection::vec(0_u64..20, 0..200)
        ) {
            let moments = allowed(Kind::Bucket, limit, window, &gaps);
            for (first, &from) in moments.iter().enumerate() {
                for (last, &to) in moments.iter().enumerate().skip(first) {
                    let refill = u64::from(limit) * (to - from) / window;
                    let more = (last - first) as u64; // than the first
                    prop_assert!(more < u64::from(limit) + refill);
                }
            }
        }

        #[test]
        fn waiting_as_told_is_always_enough(
            limit in 1_u32..8, window in 1_u64..50, gaps in prop::collection::vec(0_u64..9, 0..60)
        ) {
            for kind in [Kind::Fixed, Kind::Sliding, Kind::Bucket] {
                let mut now = Instant::now();
                let mut limiter = Limiter::new(kind, limit, Duration::from_millis(window));
                for gap in &gaps {
                    now += Duration::from_millis(*gap);
                    let verdict = limiter.take(now);
                    if !verdict.allowed {
                        now += verdict.retry_after;
                        prop_assert!(limiter.take(now).allowed);
                    }
                }
            }
        }
    }
}
