//! How much someone else spends of the same key.
//!
//! What Flameup says is used, less all that we can have spent, was spent by somebody else. The
//! estimate is the largest seen in this window or the one before, so that it rises at once and is
//! gone two windows after the last sign. As we are alone, it is zero: our own share is counted at
//! its most.

use std::time::{Duration, Instant};

/// Kept free beyond the estimate, as a share of it and in units: it is counted in whole requests, and
/// those still under way hide a few.
const MARGIN_SHARE: f64 = 0.1;
const MARGIN_UNITS: f64 = 1.0;

/// The estimate.
#[derive(Debug)]
pub(super) struct Foreign {
    window: Duration,
    since: Instant,
    now: f64,
    before: f64,
    anchor: Option<Level>,
    previous: Option<Level>,
}

/// The level of a bucket as one answer tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) sent: Instant,
    pub(super) received: Instant,
    pub(super) remaining: u32,
    /// Own requests answered before it was sent: surely counted before.
    pub(super) settled_before: u64,
    /// Own requests started until it was received: what is counted is among them.
    pub(super) started: u64,
}

impl Foreign {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self {
            window,
            since: now,
            now: 0.0,
            before: 0.0,
            anchor: None,
            previous: None,
        }
    }

    /// Takes in units a window that somebody else spends.
    pub(super) fn observe(&mut self, units: f64, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age >= self.window {
            self.before = if age < self.window * 2 { self.now } else { 0.0 };
            (self.now, self.since) = (0.0, now);
        }
        self.now = self.now.max(units);
    }

    /// Takes in the level of a bucket, which tells only by how it changed against what flows back.
    pub(super) fn observe_level(&mut self, level: Level, limit: u32) {
        let rate = f64::from(limit) / self.window.as_secs_f64();
        let since = |earlier: Instant, later: Instant| {
            rate * later.saturating_duration_since(earlier).as_secs_f64()
        };
        let previous = self.previous.replace(level);
        let may_have_been_full = previous.is_none_or(|previous| {
            let back = since(previous.sent, level.received) + 2.0;
            f64::from(previous.remaining) + back >= f64::from(limit)
        });
        if may_have_been_full {
            // How much flowed over is unknown, and nothing is short.
            self.anchor = Some(level);
            return;
        }
        let anchor = *self.anchor.get_or_insert(level);
        let between = level.sent.saturating_duration_since(anchor.received);
        if between < self.window {
            return;
        }
        self.anchor = Some(level);
        let fell = f64::from(anchor.remaining) - f64::from(level.remaining) - 1.0;
        let ours = level.started.saturating_sub(anchor.settled_before);
        let ours = f64::from(u32::try_from(ours).unwrap_or(u32::MAX));
        let theirs = fell + since(anchor.received, level.sent) - ours;
        let windows = between.as_secs_f64() / self.window.as_secs_f64();
        self.observe(theirs.max(0.0) / windows, level.received);
    }

    /// Units a window that somebody else spends.
    pub(super) fn per_window(&self, now: Instant) -> f64 {
        match now.saturating_duration_since(self.since) {
            age if age < self.window => self.now.max(self.before),
            age if age < self.window * 2 => self.now,
            _ => 0.0,
        }
    }

    /// Units to keep free for a stretch of time; zero if we are alone.
    pub(super) fn reserve(&self, stretch: Duration, now: Instant) -> u32 {
        let per_window = self.per_window(now);
        if per_window <= 0.0 {
            return 0;
        }
        let part = stretch.as_secs_f64() / self.window.as_secs_f64();
        let units = per_window * (1.0 + MARGIN_SHARE) * part + MARGIN_UNITS;
        whole(units)
    }
}

/// Rounds up; nothing here is negative or large.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before"
)]
pub(super) fn whole(units: f64) -> u32 {
    units.ceil().clamp(0.0, 1e9) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    #[test]
    fn the_estimate_rises_at_once_and_is_gone_after_two_windows() {
        let start = Instant::now();
        let mut foreign = Foreign::new(WINDOW, start);
        assert_eq!(foreign.reserve(WINDOW, start), 0);
        foreign.observe(20.0, start);
        assert_eq!(foreign.reserve(WINDOW, start), 23);
        assert_eq!(foreign.reserve(WINDOW / 4, start), 7);
        foreign.observe(0.0, start + WINDOW);
        assert_eq!(foreign.reserve(WINDOW, start + WINDOW), 23);
        foreign.observe(0.0, start + WINDOW * 2);
        assert_eq!(foreign.reserve(WINDOW, start + WINDOW * 2), 0);
    }

    #[test]
    fn a_bucket_that_empties_faster_than_we_spend_is_shared() {
        let start = Instant::now();
        let mut foreign = Foreign::new(WINDOW, start);
        for (minute, remaining) in [(0, 80), (1, 60)] {
            for part in 0..60 {
                let at = start + WINDOW * minute + WINDOW / 60 * part;
                let spent = 120 * u64::from(minute) + 2 * u64::from(part);
                let level = Level {
                    sent: at,
                    received: at,
                    remaining: remaining - part / 3,
                    settled_before: spent,
                    started: spent,
                };
                foreign.observe_level(level, 120);
            }
        }
        let estimate = foreign.per_window(start + WINDOW * 2);
        assert!((18.0..=20.0).contains(&estimate), "{estimate}");
    }
}
