//! The model of a bucket, which replaces the log where the limiter is proven to be one.
//!
//! # Why it is safe
//! A bucket of size `limit` overflows only if some interval of length `t` holds more than
//! `limit + rate * t` moments of counting. Requests under way are owed in full; each starts to be
//! paid back, at the bucket's rate, when its answer arrives, which is after Flameup counted it. The
//! last started among those counted in an interval found all others owed, less what had been paid
//! back since the interval began at the earliest: so `owed < limit` at its start keeps the promise.

use std::time::{Duration, Instant};

/// Guards against rounding in what is owed; in units.
const ROUNDING: f64 = 0.01;

/// What we owe the bucket for answered requests.
#[derive(Debug)]
pub(super) struct Debt {
    window: Duration,
    owed: f64,
    at: Instant,
}

impl Debt {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self {
            window,
            owed: 0.0,
            at: now,
        }
    }

    pub(super) fn settle(&mut self, cost: u32, limit: u32, now: Instant) {
        self.owed = self.owed(limit, now) + f64::from(cost);
        self.at = self.at.max(now);
    }

    /// When a request may start with `ahead` units before it.
    pub(super) fn opening(&self, ahead: u32, under_way: u32, limit: u32, now: Instant) -> Instant {
        let owed = self.owed(limit, now) + f64::from(under_way) + f64::from(ahead) + 1.0;
        let over = owed + ROUNDING - f64::from(limit);
        if over <= ROUNDING * 2.0 {
            return now;
        }
        let wait = self.window.mul_f64((over / f64::from(limit)).min(1e3));
        now.checked_add(wait).unwrap_or(now)
    }

    /// Units owed at `now`.
    pub(super) fn owed(&self, limit: u32, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at);
        let paid = f64::from(limit) * since.as_secs_f64() / self.window.as_secs_f64();
        (self.owed - paid).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_paid_back_from_the_answer_on() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut debt = Debt::new(second * 60, now);
        debt.settle(60, 60, now);
        let opening = |under_way, now| debt.opening(0, under_way, 60, now);
        let opens = opening(0, now);
        assert!(opens >= now + second && opens < now + second * 2);
        assert_eq!(opening(0, opens), opens);
        assert_eq!(opening(9, now + second * 10), now + second * 10);
        assert!(opening(10, now + second * 10) > now + second * 10);
    }
}
