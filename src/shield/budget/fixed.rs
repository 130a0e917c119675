//! The count per window, which replaces the log where the window is proven to be fixed.
//!
//! # Why it is safe
//! An answer says in which window its request was counted (by `Reset`) and what remained. Whatever
//! was answered in that window is reflected in the smallest `Remaining` seen of it, so all that can
//! have been counted besides is under way, or was lost without an answer. Hence at least
//! `smallest remaining - under way - lost` is left. Requests near a boundary, of which nobody can
//! say where they will be counted, are under way and so weigh on both windows until their answer
//! tells.
//!
//! The next window counts as open only when the end of this one has passed for certain, or when an
//! answer comes from the next one. Then the whole limit less what is under way or lost is left.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::skew::Ending;
use super::window::Sample;

/// The newest window of which an answer told.
#[derive(Debug)]
pub(super) struct FixedWindow {
    length: Duration,
    current: Option<Current>,
    /// Oldest first; each weighs for a window.
    lost: VecDeque<(Instant, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    ending: Ending,
    remaining: u32,
    /// Own requests answered in this window.
    own: u32,
}

impl FixedWindow {
    pub(super) fn new(length: Duration) -> Self {
        Self {
            length,
            current: None,
            lost: VecDeque::new(),
        }
    }

    /// Takes in an answer; true if it is the first of its window.
    pub(super) fn observe(&mut self, sample: &Sample) -> bool {
        let fresh = Current {
            ending: sample.ending,
            remaining: sample.remaining,
            own: sample.requests,
        };
        let Some(current) = &mut self.current else {
            self.current = Some(fresh);
            return true;
        };
        let opened = sample.ending.succeeds(&current.ending, sample.received);
        if opened {
            *current = fresh;
        } else if sample.ending.after(&current.ending) == 0 {
            current.ending = current.ending.narrowed(sample.ending);
            current.remaining = current.remaining.min(sample.remaining);
            current.own = current.own.saturating_add(sample.requests);
        }
        opened
    }

    /// Takes in a request of which no answer told where it was counted.
    pub(super) fn lose(&mut self, cost: u32, now: Instant) {
        self.lost.push_back((now, cost));
        while let Some(&(at, _)) = self.lost.front()
            && at + self.length <= now
        {
            self.lost.pop_front();
        }
    }

    /// Units left for certain, with so many under way.
    pub(super) fn left(&self, limit: u32, under_way: u32, now: Instant) -> u32 {
        let remaining = match self.current {
            Some(current) if now < current.ending.latest => current.remaining,
            _ => limit,
        };
        let lost = self.lost_at(now);
        remaining
            .min(limit)
            .saturating_sub(under_way)
            .saturating_sub(lost)
    }

    /// The range in which the window ends that is open at `now`; `None` if no answer tells.
    pub(super) fn ending(&self, now: Instant) -> Option<(Instant, Instant)> {
        let ending = self.current?.ending;
        (now < ending.latest).then_some((ending.earliest, ending.latest))
    }

    /// Units someone else surely spent, scaled to a whole window; `None` while it is too young to say.
    pub(super) fn foreign(&self, limit: u32, under_way: u32, now: Instant) -> Option<f64> {
        let current = self.current.filter(|current| now < current.ending.latest)?;
        let left = current.ending.earliest.saturating_duration_since(now);
        let elapsed = self.length.saturating_sub(left);
        if elapsed < self.length / 4 {
            return None;
        }
        let ours = current
            .own
            .saturating_add(under_way)
            .saturating_add(self.lost_at(now));
        let theirs = limit.saturating_sub(current.remaining).saturating_sub(ours);
        Some(f64::from(theirs) * self.length.as_secs_f64() / elapsed.as_secs_f64())
    }

    /// The earliest moment from `from` on at which no more than `units` that were lost still weigh.
    pub(super) fn recovers(&self, units: u32, from: Instant) -> Instant {
        let mut weighing = self.lost_at(from);
        let weigh_then = self
            .lost
            .iter()
            .skip_while(|&&(at, _)| at + self.length <= from);
        for &(at, cost) in weigh_then {
            if weighing <= units {
                break;
            }
            weighing = weighing.saturating_sub(cost);
            if weighing <= units {
                return at + self.length;
            }
        }
        from
    }

    fn lost_at(&self, now: Instant) -> u32 {
        let newest_first = self.lost.iter().rev();
        let weigh = newest_first.take_while(|&&(at, _)| at + self.length > now);
        weigh.fold(0, |sum, &(_, cost)| sum.saturating_add(cost))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::super::log::Own;
    use super::super::skew::Clocks;
    use super::*;
    use crate::shield::signals::{Reset, Signals};

    const SECOND: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_mins(1);

    fn wall() -> SystemTime {
        UNIX_EPOCH + SECOND * 10_000
    }

    /// An answer `at` so many seconds after the start that leaves `remaining` until `end`.
    fn sample(start: Instant, at: u32, remaining: u32, end: u32) -> Sample {
        let now = start + SECOND * at;
        let mut clocks = Clocks::new(start);
        let date = wall() + SECOND * at;
        clocks.observe(date, now, now, date);
        let signals = Signals {
            reset: Some(Reset(10_000 + u64::from(end))),
            date: Some(date),
            ..Signals::default()
        };
        let ending = clocks.ending(&signals, now, now, date, WINDOW);
        Sample {
            sent: now,
            received: now,
            limit: 120,
            remaining,
            requests: 1,
            own: Own { least: 1, most: 1 },
            settled_before: 0,
            ending: ending.expect("an end"),
        }
    }

    #[test]
    fn the_smallest_remaining_counts_whatever_the_order_of_the_answers() {
        let start = Instant::now();
        let mut fixed = FixedWindow::new(WINDOW);
        assert!(fixed.observe(&sample(start, 10, 50, 40)));
        assert!(!fixed.observe(&sample(start, 11, 52, 40)));
        assert_eq!(fixed.left(120, 3, start + SECOND * 11), 47);
    }

    #[test]
    fn the_next_window_opens_when_this_one_is_over_for_certain() {
        let start = Instant::now();
        let mut fixed = FixedWindow::new(WINDOW);
        fixed.observe(&sample(start, 10, 0, 40));
        assert_eq!(fixed.left(120, 2, start + SECOND * 40), 0);
        assert_eq!(fixed.left(120, 2, start + SECOND * 42), 118);
        fixed.observe(&sample(start, 41, 119, 100));
        assert_eq!(fixed.left(120, 2, start + SECOND * 42), 117);
    }

    #[test]
    fn a_clock_that_jumps_opens_no_window() {
        let start = Instant::now();
        let mut fixed = FixedWindow::new(WINDOW);
        fixed.observe(&sample(start, 10, 0, 40));
        assert!(!fixed.observe(&sample(start, 12, 119, 100)));
        assert_eq!(fixed.left(120, 0, start + SECOND * 12), 0);
    }

    #[test]
    fn what_is_lost_weighs_for_a_window() {
        let start = Instant::now();
        let mut fixed = FixedWindow::new(WINDOW);
        fixed.lose(4, start);
        assert_eq!(fixed.left(120, 0, start + SECOND * 59), 116);
        assert_eq!(fixed.left(120, 0, start + SECOND * 60), 120);
    }

    #[test]
    fn what_is_lost_is_recovered_one_by_one() {
        let start = Instant::now();
        let mut fixed = FixedWindow::new(WINDOW);
        for second in 0..4 {
            fixed.lose(1, start + SECOND * second);
        }
        let now = start + SECOND * 5;
        assert_eq!(fixed.recovers(4, now), now);
        assert_eq!(fixed.recovers(3, now), start + SECOND * 60);
        assert_eq!(fixed.recovers(0, now), start + SECOND * 63);
        assert_eq!(fixed.left(4, 0, start + SECOND * 62), 3);
        assert_eq!(fixed.recovers(0, start + SECOND * 70), start + SECOND * 70);
    }

    #[test]
    fn what_others_spent_is_what_we_cannot_have_spent() {
        let start = Instant::now();
        let mut fixed = FixedWindow::new(WINDOW);
        fixed.observe(&sample(start, 29, 100, 60));
        let found = fixed
            .foreign(120, 4, start + SECOND * 31)
            .expect("old enough");
        assert!((25.0..=30.0).contains(&found), "{found}");
    }
}
