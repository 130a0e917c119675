//! The pace: lets a few requests run ahead of an even schedule and no more (GCRA).
//!
//! Without it a flood of batch work eats the window in its first second, and whoever is waiting at
//! a screen finds nothing for the rest of it.
//!
//! What runs ahead is counted in units, not in time, for the interval may change from call to call:
//! a shorter one then lets the next request go sooner, never later.

use std::time::{Duration, Instant};

/// Requests that may go at once after a pause: an everyday handful, a twelfth of the documented
/// limit, and as large a part of a larger one.
pub(super) const BURST: u32 = 10;
const BURSTS_A_WINDOW: u32 = 12;

/// Guards against rounding, in units.
const ROUNDING: f64 = 1e-6;

/// How far ahead of the schedule we are.
#[derive(Debug)]
pub(super) struct Pace {
    ahead: f64,
    at: Instant,
    burst: u32,
}

impl Pace {
    pub(super) fn new(limit: u32, now: Instant) -> Self {
        let mut pace = Self {
            ahead: 0.0,
            at: now,
            burst: BURST,
        };
        pace.fit(limit);
        pace
    }

    /// Takes in what the limit is.
    pub(super) fn fit(&mut self, limit: u32) {
        self.burst = BURST.max(limit / BURSTS_A_WINDOW);
    }

    /// When a request may start with `before` units before it.
    pub(super) fn opening(&self, before: u32, interval: Duration, now: Instant) -> Instant {
        let ahead = self.ahead(interval, now) + f64::from(before) + 1.0;
        let over = ahead - f64::from(self.burst);
        if over <= ROUNDING {
            return now;
        }
        let wait = interval.mul_f64(over);
        now.checked_add(wait).unwrap_or(now)
    }

    /// Returns how far ahead of the schedule we are with it.
    pub(super) fn spend(&mut self, cost: u32, interval: Duration, now: Instant) -> f64 {
        self.ahead = self.ahead(interval, now) + f64::from(cost);
        self.at = self.at.max(now);
        self.ahead
    }

    /// Gives back what was spent `since`, which brought us `ahead`, as far as the schedule has not
    /// caught up with it: nothing is saved up by spending and giving back.
    pub(super) fn give_back(
        &mut self,
        cost: u32,
        ahead: f64,
        since: Instant,
        now: Instant,
        interval: Duration,
    ) {
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let caught_up = passed / interval.as_secs_f64().max(1e-9);
        let rest = (ahead - caught_up).clamp(0.0, f64::from(cost));
        self.ahead = (self.ahead(interval, now) - rest).max(0.0);
        self.at = self.at.max(now);
    }

    fn ahead(&self, interval: Duration, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.ahead - since / interval.as_secs_f64().max(1e-9)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_goes_at_once_and_the_rest_one_by_one() {
        let now = Instant::now();
        let mut pace = Pace::new(120, now);
        for _ in 0..BURST {
            assert_eq!(pace.opening(0, SECOND, now), now);
            pace.spend(1, SECOND, now);
        }
        assert_eq!(pace.opening(0, SECOND, now), now + SECOND);
        assert_eq!(pace.opening(3, SECOND, now), now + SECOND * 4);
    }

    #[test]
    fn what_is_given_back_may_go_again_and_saves_nothing_up() {
        let now = Instant::now();
        let mut pace = Pace::new(120, now);
        let ahead = (0..BURST).map(|_| pace.spend(1, SECOND, now)).last();
        pace.give_back(1, ahead.expect("ten"), now, now, SECOND);
        assert_eq!(pace.opening(0, SECOND, now), now);
        pace.spend(1, SECOND, now);
        // By then the schedule has caught up with the first one, though not with the last.
        let later = now + SECOND * 3;
        assert_eq!(pace.opening(2, SECOND, later), later);
        pace.give_back(1, 1.0, now, later, SECOND);
        assert_eq!(pace.opening(3, SECOND, later), later + SECOND);
    }

    #[test]
    fn a_shorter_interval_lets_the_next_one_go_sooner() {
        let now = Instant::now();
        let mut pace = Pace::new(120, now);
        pace.spend(BURST, SECOND * 60, now);
        assert_eq!(pace.opening(0, SECOND, now), now + SECOND);
    }
}
