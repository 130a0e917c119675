//! The log of own requests: the part of the budget that needs no proof of anything.
//!
//! Flameup counts a request at some moment between its start and its answer. So a request counts
//! here from its start until one window after its answer, and one under way always counts. One is
//! given up only when it cannot be under way any more, whatever the upstream's timeout.
//!
//! # Units
//! What a request costs, its price, is in units; one whose price is two is still one request. Prices
//! are what is spent, requests are what Flameup counts.
//!
//! # Invariants
//! If a request starts only while fewer than `limit` count, no interval as long as the window holds
//! more than `limit` moments of counting. Take any such interval and, of the requests counted in
//! it, the one that started last. It started before the interval ended, so when it started each of
//! the others was either under way or answered less than a window ago: all of them counted here.
//!
//! That is what a sliding limiter asks, and more than what a fixed one asks, whose windows are some
//! of those intervals. A bucket of size `limit` that refills over the window is never empty either:
//! an interval of `k` windows and a part holds at most `(k + 1) * limit`, and the bucket gives its
//! size and `k * limit` more.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Most moments that what was spent in a window is told by, however long it is: the purse's own number.
const MOST_AGES: u64 = 120;

/// Own requests of the last window and those under way.
#[derive(Debug)]
pub(super) struct Log {
    window: Duration,
    /// When a request of which nothing is heard is taken for lost.
    give_up_after: Duration,
    next_id: u64,
    /// What was started up to a moment, and all before it; one entry a request, in order of their ids.
    started: VecDeque<(Instant, Sum)>,
    /// What was answered (or given up) up to a moment, and all before it.
    settled: VecDeque<(Instant, Sum)>,
    started_total: Sum,
    settled_total: Sum,
    /// What left `settled` because it counts no longer.
    gone: Sum,
    under_way: BTreeMap<u64, (Instant, u32)>,
    units_under_way: u32,
}

/// So much since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    units: u64,
    requests: u64,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    pub(super) cost: u32,
    pub(super) at: Instant,
    /// Requests settled when it started.
    pub(super) settled_before: u64,
}

/// How many own requests Flameup may count when it counts a given request, that one among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Log {
    pub(super) fn new(window: Duration, give_up_after: Duration) -> Self {
        Self {
            window,
            give_up_after,
            next_id: 0,
            started: VecDeque::new(),
            settled: VecDeque::new(),
            started_total: Sum::default(),
            settled_total: Sum::default(),
            gone: Sum::default(),
            under_way: BTreeMap::new(),
            units_under_way: 0,
        }
    }

    pub(super) fn start(&mut self, cost: u32, now: Instant) -> Entry {
        self.tidy(now);
        let id = self.next_id;
        self.next_id += 1;
        self.started_total.add(cost);
        self.started.push_back((now, self.started_total));
        self.under_way.insert(id, (now, cost));
        self.units_under_way = self.units_under_way.saturating_add(cost);
        Entry {
            id,
            cost,
            at: now,
            settled_before: self.settled_total.requests,
        }
    }

    /// Closes a request; false if it had been given up before.
    pub(super) fn settle(&mut self, entry: &Entry, now: Instant) -> bool {
        let open = self.under_way.remove(&entry.id).is_some();
        if open {
            self.close(entry.cost, now);
        }
        self.tidy(now);
        open
    }

    /// Takes out a request that was never sent, as if it had not started; false if it had been given
    /// up before, and so closed.
    ///
    /// The invariant holds without it: it was none of the moments of counting.
    pub(super) fn withdraw(&mut self, entry: &Entry, now: Instant) -> bool {
        let open = self.under_way.remove(&entry.id).is_some();
        if open {
            self.units_under_way = self.units_under_way.saturating_sub(entry.cost);
            self.started_total.remove(entry.cost);
            let oldest = self.next_id - self.started.len() as u64;
            let index = usize::try_from(entry.id.saturating_sub(oldest)).unwrap_or(usize::MAX);
            for (_, total) in self.started.iter_mut().skip(index) {
                total.remove(entry.cost);
            }
        }
        self.tidy(now);
        open
    }

    fn close(&mut self, cost: u32, at: Instant) {
        let at = self.settled.back().map_or(at, |&(last, _)| last.max(at));
        self.units_under_way = self.units_under_way.saturating_sub(cost);
        self.settled_total.add(cost);
        self.settled.push_back((at, self.settled_total));
    }

    /// Units that count at `now`.
    pub(super) fn counting(&self, now: Instant) -> u32 {
        let gone = now
            .checked_sub(self.window)
            .map_or(Sum::default(), |since| {
                up_to(&self.settled, since, self.gone)
            });
        units(self.started_total.units.saturating_sub(gone.units))
    }

    /// Units under way, without those given up.
    pub(super) fn under_way(&self, now: Instant) -> u32 {
        let entries = self.under_way.values();
        let given_up: u32 = entries
            .take_while(|&&(at, _)| now.saturating_duration_since(at) >= self.give_up_after)
            .map(|&(_, cost)| cost)
            .sum();
        self.units_under_way.saturating_sub(given_up)
    }

    /// Units ever answered, those given up among them.
    pub(super) fn settled_total(&self) -> u64 {
        self.settled_total.units
    }

    /// Units answered after the first `told` of them that count at `now`: by how many whole seconds
    /// ago that was, the longest ago first.
    pub(super) fn settled_since(&self, told: u64, now: Instant) -> Vec<(u32, u32)> {
        let grain_s = self.window.as_secs().div_ceil(MOST_AGES).max(1);
        let mut by_age: Vec<(u32, u32)> = Vec::new();
        let mut before = self.gone.units.max(told);
        for &(at, total) in &self.settled {
            let age = now.saturating_duration_since(at);
            let cost = units(total.units.saturating_sub(before));
            before = before.max(total.units);
            if cost == 0 || age >= self.window {
                continue;
            }
            // Younger than it is at most: then it counts for longer, not for less long.
            let age_s = age.as_secs() - age.as_secs() % grain_s;
            let age_s = u32::try_from(age_s).unwrap_or(u32::MAX);
            match by_age.last_mut() {
                Some((last, units)) if *last == age_s => *units += cost,
                _ => by_age.push((age_s, cost)),
            }
        }
        by_age
    }

    /// Requests ever started.
    pub(super) fn started_total(&self) -> u64 {
        self.started_total.requests
    }

    /// What Flameup may have counted of us when it counted `entry`, answered at `now`.
    ///
    /// To be asked after [`Log::settle`].
    pub(super) fn own(&self, entry: &Entry, now: Instant) -> Own {
        let before = |moment: Instant| moment.checked_sub(self.window);
        let surely_gone =
            before(entry.at).map_or(0, |since| up_to(&self.settled, since, self.gone).requests);
        let maybe_gone = before(now).map_or(0, |since| {
            up_to(&self.started, since, Sum::default()).requests
        });
        let surely_there = entry.settled_before.saturating_add(1);
        Own {
            least: units(surely_there.saturating_sub(maybe_gone)),
            most: units(self.started_total.requests.saturating_sub(surely_gone)),
        }
    }

    /// When, by and by, a request may start with `ahead` units before it and `limit` allowed.
    ///
    /// An answer is taken to come `delay` after the start.
    pub(super) fn opening(&self, ahead: u32, limit: u32, delay: Duration, now: Instant) -> Instant {
        let limit = u64::from(limit.max(1));
        let started = self.started_total.units;
        let rank = started + u64::from(ahead) + 1;
        let Some(mut must_go) = rank.checked_sub(limit).filter(|&rank| rank > 0) else {
            return now;
        };
        // Requests not started yet leave as many cycles later as the limit fits between.
        let cycle = self.window.saturating_add(delay);
        let mut later = Duration::ZERO;
        if must_go > started {
            let cycles = (must_go - started).div_ceil(limit);
            must_go = must_go.saturating_sub(cycles * limit);
            later = cycle.saturating_mul(u32::try_from(cycles).unwrap_or(u32::MAX));
        }
        let leaves = if must_go <= self.gone.units {
            now
        } else if must_go <= self.settled_total.units {
            let at = reached(&self.settled, must_go).unwrap_or(now);
            at + self.window
        } else {
            let at = reached(&self.started, must_go).unwrap_or(now);
            (at + delay).max(now).min(at + self.give_up_after) + self.window
        };
        let leaves = leaves.max(now);
        leaves.checked_add(later).unwrap_or(leaves)
    }

    /// Forgets what counts no longer, and gives up requests of which nothing is heard for too long:
    /// they count for a last window, as if answered.
    fn tidy(&mut self, now: Instant) {
        while let Some((&id, &(at, cost))) = self.under_way.first_key_value() {
            if now.saturating_duration_since(at) < self.give_up_after {
                break;
            }
            self.under_way.remove(&id);
            self.close(cost, at + self.give_up_after);
        }
        while let Some(&(at, total)) = self.settled.front() {
            // Longer than it counts: requests under way are held against it.
            if now.saturating_duration_since(at) < self.give_up_after + self.window {
                break;
            }
            self.gone = total;
            self.settled.pop_front();
        }
        while self.started.len() > 1
            && self
                .started
                .get(1)
                .is_some_and(|&(_, total)| total.units <= self.gone.units)
        {
            self.started.pop_front();
        }
    }
}

impl Sum {
    fn add(&mut self, cost: u32) {
        self.units += u64::from(cost);
        self.requests += 1;
    }

    fn remove(&mut self, cost: u32) {
        self.units -= u64::from(cost);
        self.requests -= 1;
    }
}

/// What is in `entries` up to and including `moment`; `before` if nothing.
fn up_to(entries: &VecDeque<(Instant, Sum)>, moment: Instant, before: Sum) -> Sum {
    let index = entries.partition_point(|&(at, _)| at <= moment);
    index
        .checked_sub(1)
        .and_then(|index| entries.get(index))
        .map_or(before, |&(_, total)| total)
}

/// The moment at which the running total reached so many units.
fn reached(entries: &VecDeque<(Instant, Sum)>, units: u64) -> Option<Instant> {
    let index = entries.partition_point(|&(_, sum)| sum.units < units);
    entries.get(index).map(|&(at, _)| at)
}

fn units(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_request_counts_from_its_start_until_a_window_after_its_answer() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        let entry = log.start(2, start);
        assert_eq!(log.counting(start + SECOND * 100), 2);
        assert!(log.settle(&entry, start + SECOND * 5));
        assert_eq!(log.counting(start + SECOND * 64), 2);
        assert_eq!(log.counting(start + SECOND * 65), 0);
    }

    #[test]
    fn what_was_spent_in_a_long_window_is_told_by_few_ages_none_too_great() {
        let (start, window) = (Instant::now(), WINDOW * 60);
        let mut log = Log::new(window, window * 2);
        for second in 0..3600 {
            let entry = log.start(1, start + SECOND * second);
            log.settle(&entry, start + SECOND * second);
        }
        let told = log.settled_since(0, start + SECOND * 3599);
        assert_eq!(told.len(), 120);
        let whole: Vec<_> = (0..120).rev().map(|nth| (nth * 30, 30)).collect();
        assert_eq!(told, whole);
    }

    #[test]
    fn a_request_of_which_nothing_is_heard_is_given_up() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        let lost = log.start(1, start);
        let later = log.start(1, start + WINDOW * 2);
        assert_eq!(log.under_way(start + WINDOW * 2), 1);
        assert!(!log.settle(&lost, start + WINDOW * 2 + SECOND));
        log.settle(&later, start + WINDOW * 2 + SECOND);
        assert_eq!(log.counting(start + WINDOW * 3), 1);
        assert_eq!(log.counting(start + WINDOW * 4), 0);
    }

    #[test]
    fn a_request_that_was_never_sent_leaves_no_trace() {
        let start = Instant::now();
        let at = |second| start + SECOND * second;
        let (mut log, mut without) = (Log::new(WINDOW, WINDOW * 2), Log::new(WINDOW, WINDOW * 2));
        let mut unsent = Vec::new();
        for second in 0..300 {
            let (entry, same) = (log.start(1, at(second)), without.start(1, at(second)));
            unsent.push(log.start(2, at(second)));
            if second % 3 == 0 {
                log.settle(&entry, at(second));
                without.settle(&same, at(second));
            }
            // One of them out of order, and the latest only at the end.
            if second % 5 == 4 {
                for entry in unsent.drain(..).rev() {
                    assert!(log.withdraw(&entry, at(second)));
                    assert!(!log.withdraw(&entry, at(second)));
                }
                assert_eq!(log.counting(at(second)), without.counting(at(second)));
                assert_eq!(log.under_way(at(second)), without.under_way(at(second)));
                for ahead in 0..9 {
                    let opening = |log: &Log| log.opening(ahead, 20, SECOND, at(second));
                    assert_eq!(opening(&log), opening(&without), "{second} {ahead}");
                }
            }
        }
    }

    #[test]
    fn room_opens_though_nobody_closes_what_is_given_up() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        let _lost = log.start(1, start);
        let opens = start + WINDOW * 3;
        assert_eq!(log.opening(0, 1, SECOND, start + SECOND * 179), opens);
        assert_eq!(log.opening(0, 1, SECOND, opens), opens);
        assert_eq!(log.under_way(opens), 0);
    }

    #[test]
    fn what_is_there_is_told_within_the_delay_of_the_answer() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        let first = log.start(1, start);
        log.settle(&first, start + SECOND);
        let second = log.start(1, start + SECOND * 59);
        log.settle(&second, start + SECOND * 61);
        let own = log.own(&second, start + SECOND * 61);
        assert_eq!(own, Own { least: 1, most: 2 });
    }

    #[test]
    fn what_costs_two_is_told_as_one_request() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        let retry = log.start(2, start);
        log.settle(&retry, start + SECOND);
        let entry = log.start(2, start + SECOND * 2);
        log.settle(&entry, start + SECOND * 3);
        let own = log.own(&entry, start + SECOND * 3);
        assert_eq!(own, Own { least: 2, most: 2 });
        assert_eq!(log.counting(start + SECOND * 3), 4);
    }

    #[test]
    fn the_opening_follows_what_leaves() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        let delay = SECOND;
        assert_eq!(log.opening(0, 2, delay, start), start);
        let first = log.start(1, start);
        log.settle(&first, start + SECOND * 2);
        let now = start + SECOND * 3;
        let _under_way = log.start(1, now);
        assert_eq!(log.opening(0, 2, delay, now), start + SECOND * 62);
        assert_eq!(log.opening(1, 2, delay, now), start + SECOND * 64);
        assert_eq!(log.opening(2, 2, delay, now), start + SECOND * (62 + 61));
    }

    #[test]
    fn the_log_forgets() {
        let start = Instant::now();
        let mut log = Log::new(WINDOW, WINDOW * 2);
        for second in 0..10_000 {
            let entry = log.start(1, start + SECOND * second);
            log.settle(&entry, start + SECOND * second);
        }
        assert!(log.started.len() < 200 && log.settled.len() < 200);
        assert!(log.under_way.is_empty());
    }
}
