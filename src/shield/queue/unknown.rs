//! How much of its share each caller may spend on people nobody has asked for before.
//!
//! A caller's share is the limit times its weight, over the weights of all callers that asked for
//! anything in the last window. A quarter of it, and at least one unit, may go to unknown ids
//! with the standing of known ones; any interval as long as the window is held to that. What goes
//! beyond stands behind everybody known and takes only budget that would lie idle: somebody who
//! sweeps over invented ids starves nobody, and a gateway that has just started, to which everybody
//! is unknown, still spends all it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::CallerId;

/// Part of its share that a caller may spend on unknown ids.
const PART: f64 = 0.25;

/// What the callers of the last window asked and spent.
#[derive(Debug)]
pub(super) struct Quotas {
    window: Duration,
    callers: BTreeMap<CallerId, Caller>,
    by_age: BTreeSet<(Instant, CallerId)>,
    weights: u64,
    /// How many callers have each weight.
    by_weight: BTreeMap<u32, usize>,
}

#[derive(Debug)]
struct Caller {
    weight: u32,
    last: Instant,
    /// Units of unknown requests that wait with the standing of known ones.
    waiting: u32,
    /// Those that started, oldest first.
    started: VecDeque<(Instant, u32)>,
    /// Their units.
    spent: u32,
}

impl Quotas {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            callers: BTreeMap::new(),
            by_age: BTreeSet::new(),
            weights: 0,
            by_weight: BTreeMap::new(),
        }
    }

    /// Notes that `caller` asks for something.
    pub(super) fn asked(&mut self, caller: CallerId, weight: u32, now: Instant) {
        self.forget(now);
        let entry = self.callers.entry(caller).or_insert(Caller {
            weight: 0,
            last: now,
            waiting: 0,
            started: VecDeque::new(),
            spent: 0,
        });
        let before = std::mem::replace(&mut entry.weight, weight);
        self.by_age.remove(&(entry.last, caller));
        entry.last = entry.last.max(now);
        self.by_age.insert((entry.last, caller));
        self.weigh(before, weight);
    }

    /// Whether `caller` may spend `cost` on an unknown id with the standing of a known one.
    pub(super) fn allows(&mut self, caller: CallerId, cost: u32, limit: u32, now: Instant) -> bool {
        let all = self.weights.max(1);
        let Some(entry) = self.callers.get_mut(&caller) else {
            return false;
        };
        while let Some(&(start, cost)) = entry.started.front()
            && start + self.window <= now
        {
            entry.started.pop_front();
            entry.spent -= cost;
        }
        let taken = entry.spent + entry.waiting;
        #[expect(
            clippy::cast_precision_loss,
            reason = "sums of weights stay far below 2^52"
        )]
        let share = f64::from(limit) * f64::from(entry.weight) / all as f64;
        // The first is always allowed, a retry too, or it could never be made by a small caller.
        taken == 0 || f64::from(taken + cost) <= share * PART
    }

    /// Notes that an allowed request waits.
    pub(super) fn reserve(&mut self, caller: CallerId, cost: u32) {
        if let Some(entry) = self.callers.get_mut(&caller) {
            entry.waiting += cost;
        }
    }

    /// Notes that an allowed request no longer waits.
    pub(super) fn release(&mut self, caller: CallerId, cost: u32) {
        if let Some(entry) = self.callers.get_mut(&caller) {
            entry.waiting = entry.waiting.saturating_sub(cost);
        }
    }

    /// Notes that an allowed request starts.
    pub(super) fn start(&mut self, caller: CallerId, cost: u32, now: Instant) {
        self.release(caller, cost);
        if let Some(entry) = self.callers.get_mut(&caller) {
            entry.started.push_back((now, cost));
            entry.spent += cost;
            self.by_age.remove(&(entry.last, caller));
            entry.last = entry.last.max(now);
            self.by_age.insert((entry.last, caller));
        }
    }

    /// Notes that a request which was to start at `at` did not.
    pub(super) fn give_back(&mut self, caller: CallerId, cost: u32, at: Instant) {
        if let Some(entry) = self.callers.get_mut(&caller)
            && let Some(index) = entry.started.iter().rposition(|&start| start == (at, cost))
        {
            entry.started.remove(index);
            entry.spent -= cost;
        }
    }

    /// The greatest weight among those that asked in the last window.
    pub(super) fn heaviest(&self) -> u32 {
        self.by_weight
            .last_key_value()
            .map_or(1, |(&weight, _)| weight)
    }

    /// The weights of all that asked in the last window.
    pub(super) fn weights(&self) -> u64 {
        self.weights
    }

    /// Counts a caller of another weight than before; without any, it is not there.
    fn weigh(&mut self, before: u32, after: u32) {
        self.weights = self.weights - u64::from(before) + u64::from(after);
        if let Some(alike) = self.by_weight.get_mut(&before) {
            *alike -= 1;
            if *alike == 0 {
                self.by_weight.remove(&before);
            }
        }
        if after > 0 {
            *self.by_weight.entry(after).or_default() += 1;
        }
    }

    /// Forgets callers that asked for nothing for a window; those that wait stay.
    fn forget(&mut self, now: Instant) {
        while let Some(&(last, caller)) = self.by_age.first()
            && last + self.window < now
        {
            self.by_age.pop_first();
            let Some(entry) = self.callers.get(&caller) else {
                continue;
            };
            if entry.waiting > 0 {
                // It still wants something: looked at again a window from now.
                self.by_age.insert((now, caller));
                if let Some(entry) = self.callers.get_mut(&caller) {
                    entry.last = now;
                }
            } else {
                let before = entry.weight;
                self.callers.remove(&caller);
                self.weigh(before, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_callers_that_asked_in_the_last_window() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut quotas = Quotas::new(second * 60);
        assert_eq!((quotas.heaviest(), quotas.weights()), (1, 0));
        for (at, caller, weight) in [(0, 1, 7), (1, 2, 7), (2, 3, 2), (30, 2, 5)] {
            quotas.asked(CallerId(caller), weight, start + second * at);
        }
        assert_eq!((quotas.heaviest(), quotas.weights()), (7, 14));
        quotas.asked(CallerId(3), 2, start + second * 61);
        assert_eq!((quotas.heaviest(), quotas.weights()), (5, 7));
        quotas.asked(CallerId(4), 1, start + second * 200);
        assert_eq!((quotas.heaviest(), quotas.weights()), (1, 1));
    }
}
