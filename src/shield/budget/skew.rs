//! How Flameup's clock relates to ours.
//!
//! Two views are kept. The skew in whole seconds, against our wall clock, is for people and for
//! dates that come without a `Date`. The offset is for deciding: the range in which the difference
//! between Flameup's clock and our monotonic one lies. Each answer narrows it, since `Date`, cut to
//! its second, was the time at some moment between the start of the request and its answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::shield::signals::{Moment, Signals};

/// Samples of which the skew is the median: enough to outvote a few slow answers.
const SAMPLES: usize = 16;

/// `Date` and `X-RateLimit-Reset` come in whole seconds.
const QUANTUM: i128 = 1_000_000_000;

/// Clocks of machines drift apart by less than one part in this many.
const DRIFT: i128 = 10_000;

/// What is known of Flameup's clock.
#[derive(Debug)]
pub(super) struct Clocks {
    origin: Instant,
    skews: VecDeque<i64>,
    offset: Option<Offset>,
}

/// Range of Flameup's nanoseconds since the epoch, less ours since the origin.
#[derive(Clone, Copy, Debug)]
struct Offset {
    least: i128,
    most: i128,
    seen: Instant,
}

/// The end of a window as one answer tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Tells windows from each other: nanoseconds on a clock of Flameup's.
    mark: i128,
    /// Marks closer than this may be the same.
    tolerance: i128,
    pub(super) earliest: Instant,
    pub(super) latest: Instant,
}

impl Clocks {
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            skews: VecDeque::with_capacity(SAMPLES),
            offset: None,
        }
    }

    /// Takes in the `Date` of an answer to a request sent at `sent`.
    pub(super) fn observe(
        &mut self,
        date: SystemTime,
        sent: Instant,
        now: Instant,
        wall: SystemTime,
    ) {
        if self.skews.len() == SAMPLES {
            self.skews.pop_front();
        }
        self.skews.push_back(seconds_between(date, wall));
        let date = since_epoch(date);
        let fresh = Offset {
            least: date - self.local(now),
            most: date + QUANTUM - self.local(sent),
            seen: now,
        };
        self.offset = Some(self.offset.map_or(fresh, |offset| offset.narrowed(fresh)));
    }

    /// Flameup's clock less our wall clock, in whole seconds.
    pub(super) fn skew_s(&self) -> i64 {
        let mut sorted: Vec<i64> = self.skews.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    }

    /// The time by Flameup's clock, as well as we can tell without a `Date`.
    pub(super) fn server_now(&self, wall: SystemTime) -> SystemTime {
        let skew = self.skew_s();
        let apart = Duration::from_secs(skew.unsigned_abs());
        let moved = if skew < 0 {
            wall.checked_sub(apart)
        } else {
            wall.checked_add(apart)
        };
        moved.unwrap_or(wall)
    }

    /// When the window ends by our clock; `None` if that is not told or not to be believed.
    pub(super) fn ending(
        &self,
        signals: &Signals,
        sent: Instant,
        now: Instant,
        wall: SystemTime,
        window: Duration,
    ) -> Option<Ending> {
        let server_now = signals.date.unwrap_or_else(|| self.server_now(wall));
        match signals.reset?.read(server_now, window)? {
            Moment::Epoch(moment) => {
                let offset = self.offset?;
                let mark = nanos(moment);
                Some(Ending {
                    mark,
                    tolerance: QUANTUM,
                    earliest: self.moment(mark - QUANTUM - offset.most)?,
                    latest: self.moment(mark + QUANTUM - offset.least)?,
                })
            }
            Moment::Delta(delta) => {
                let (sent, now) = (self.local(sent), self.local(now));
                let delta = nanos(delta);
                Some(Ending {
                    mark: i128::midpoint(sent, now) + delta,
                    tolerance: QUANTUM + (now - sent),
                    earliest: self.moment(sent + delta - QUANTUM)?,
                    latest: self.moment(now + delta + QUANTUM)?,
                })
            }
        }
    }

    fn local(&self, moment: Instant) -> i128 {
        nanos(moment.saturating_duration_since(self.origin))
    }

    fn moment(&self, local: i128) -> Option<Instant> {
        let since = u64::try_from(local.max(0)).ok()?;
        self.origin.checked_add(Duration::from_nanos(since))
    }
}

impl Offset {
    /// Both ranges hold; if they exclude each other, a clock was set and only `fresh` does.
    fn narrowed(self, fresh: Self) -> Self {
        let drift = nanos(fresh.seen.saturating_duration_since(self.seen)) / DRIFT;
        let least = (self.least - drift).max(fresh.least);
        let most = (self.most + drift).min(fresh.most);
        if least > most {
            return fresh;
        }
        Self {
            least,
            most,
            seen: fresh.seen,
        }
    }
}

impl Ending {
    /// Nanoseconds by which this window ends later than `other`; zero if they may be the same.
    pub(super) fn after(&self, other: &Self) -> i128 {
        let apart = self.mark - other.mark;
        if apart.abs() <= self.tolerance.max(other.tolerance) {
            0
        } else {
            apart
        }
    }

    /// Whether this is a later window, told at `received`, than `other`, which must have had its time:
    /// clocks that jump open no window.
    pub(super) fn succeeds(&self, other: &Self, received: Instant) -> bool {
        self.after(other) > 0 && received >= other.earliest
    }

    /// Whether it surely is no whole number of windows away from `other`.
    pub(super) fn off_grid(&self, other: &Self, window: Duration) -> bool {
        let window = nanos(window).max(1);
        let phase = (self.mark - other.mark).rem_euclid(window);
        phase.min(window - phase) > 2 * self.tolerance.max(other.tolerance)
    }

    /// How much is unknown of the moment.
    pub(super) fn width(&self) -> Duration {
        self.latest.saturating_duration_since(self.earliest)
    }

    /// What both tell of the same window.
    pub(super) fn narrowed(self, other: Self) -> Self {
        let earliest = self.earliest.max(other.earliest);
        let latest = self.latest.min(other.latest);
        if earliest > latest {
            return other;
        }
        Self {
            earliest,
            latest,
            ..other
        }
    }
}

pub(super) fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / 4)
}

fn since_epoch(moment: SystemTime) -> i128 {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    }
}

fn seconds_between(later: SystemTime, earlier: SystemTime) -> i64 {
    let apart = since_epoch(later) - since_epoch(earlier);
    // `Date` is cut to its second, so it is behind: round up.
    i64::try_from(-(-apart).div_euclid(QUANTUM)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shield::signals::Reset;

    const SECOND: Duration = Duration::from_secs(1);

    fn epoch(seconds: u64) -> SystemTime {
        UNIX_EPOCH + SECOND * u32::try_from(seconds).expect("a small number")
    }

    #[test]
    fn the_skew_is_the_median_of_the_last_samples() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        for _ in 0..SAMPLES {
            clocks.observe(epoch(1_300), start, start, epoch(1_000));
        }
        for _ in 0..7 {
            clocks.observe(epoch(5_000), start, start, epoch(1_000));
        }
        assert_eq!(clocks.skew_s(), 300);
        assert_eq!(clocks.server_now(epoch(1_010)), epoch(1_310));
    }

    #[test]
    fn many_dates_narrow_the_end_of_a_window() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        let signals = Signals {
            reset: Some(Reset(1_060)),
            ..Signals::default()
        };
        let ending =
            |clocks: &Clocks, now| clocks.ending(&signals, now, now, epoch(1_000), SECOND * 60);
        assert!(ending(&clocks, start).is_none()); // no `Date`, no offset
        for tenth in 0..20_u32 {
            let now = start + SECOND / 10 * tenth;
            let date = epoch(1_000 + u64::from(tenth) / 10);
            clocks.observe(date, now, now + SECOND / 100, epoch(1_000));
        }
        let ending = ending(&clocks, start + SECOND * 2).expect("an end");
        assert!(ending.earliest <= start + SECOND * 60 && ending.latest >= start + SECOND * 60);
        assert!(ending.width() < SECOND * 2 + SECOND / 4);
    }

    #[test]
    fn a_clock_that_was_set_is_learned_anew() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        clocks.observe(epoch(1_000), start, start, epoch(1_000));
        clocks.observe(epoch(2_000), start + SECOND, start + SECOND, epoch(1_001));
        let signals = Signals {
            reset: Some(Reset(2_059)),
            ..Signals::default()
        };
        let now = start + SECOND;
        let signals = Signals {
            date: Some(epoch(2_000)),
            ..signals
        };
        let ending = clocks.ending(&signals, now, now, epoch(1_001), SECOND * 60);
        let ending = ending.expect("an end");
        assert!(ending.earliest <= start + SECOND * 60 && ending.latest >= start + SECOND * 60);
    }

    #[test]
    fn absurd_dates_are_survived() {
        let start = Instant::now();
        let mut clocks = Clocks::new(start);
        let far = UNIX_EPOCH + Duration::from_secs(253_402_300_799); // the end of the year 9999
        clocks.observe(far, start, start, UNIX_EPOCH);
        clocks.observe(UNIX_EPOCH, start, start, far);
        clocks.server_now(UNIX_EPOCH);
    }
}
