//! The three classes of callers, and which of them starts next.
//!
//! Strictly by class while more than half of the window is used, by arrival below that. In either
//! case batch gets every twentieth start if it waits, so that it can never be shut out.

use super::fair::{Entry, Lane};

/// Index of batch in a [`Tier`].
pub(super) const BATCH: usize = 2;

/// Starts of other classes after which a waiting batch request is next: 5 % are batch's.
const OTHERS_PER_BATCH: u32 = 19;

/// Interactive, service and batch.
#[derive(Debug, Default)]
pub(super) struct Tier {
    lanes: [Lane; 3],
    /// Starts of other classes since batch's last one, up to its turn. They count while batch does
    /// not wait too, or a request that comes would be foretold nineteen others before it and be
    /// refused, and batch would never get its part; it is owed one start at most.
    since_batch: u32,
}

impl Tier {
    pub(super) fn lane(&self, class: usize) -> &Lane {
        &self.lanes[class]
    }

    pub(super) fn lane_mut(&mut self, class: usize) -> &mut Lane {
        &mut self.lanes[class]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_empty)
    }

    pub(super) fn units(&self) -> u32 {
        self.lanes.iter().map(Lane::units).sum()
    }

    /// Takes out the request that starts next.
    pub(super) fn pop(&mut self, strict: bool) -> Option<(Entry, u64)> {
        let class = self.choose(strict)?;
        let popped = self.lanes[class].pop()?;
        self.since_batch = match class {
            BATCH => 0,
            _ => OTHERS_PER_BATCH.min(self.since_batch + 1),
        };
        Some(popped)
    }

    /// Starts of other classes since batch's last one.
    pub(super) fn since_batch(&self) -> u32 {
        self.since_batch
    }

    /// Takes back a turn of `class` that was not used; `since_batch` is what stood before it.
    pub(super) fn give_back(&mut self, class: usize, since_batch: u32) {
        self.since_batch = match class {
            BATCH => OTHERS_PER_BATCH.min(self.since_batch + since_batch),
            _ => self.since_batch.saturating_sub(1),
        };
    }

    /// Units that start before a request of `class` which has `own` units before it in its class.
    pub(super) fn units_before(&self, class: usize, own: u32, strict: bool) -> u32 {
        let others = |&(other, _): &(usize, &Lane)| other < class || (!strict && other != class);
        let lanes = self.lanes.iter().enumerate().filter(others);
        let before = own + lanes.map(|(_, lane)| lane.units()).sum::<u32>();
        let batch = &self.lanes[BATCH];
        if class == BATCH {
            before.min(self.units_before_batch(own))
        } else if strict && !batch.is_empty() {
            let turns = (self.since_batch + before) / OTHERS_PER_BATCH;
            before + turns.min(batch.units())
        } else {
            before
        }
    }

    /// Units that start before a batch request at most, however much the other classes ask.
    pub(super) fn units_before_batch(&self, own: u32) -> u32 {
        let all = (OTHERS_PER_BATCH + 1).saturating_mul(own.saturating_add(1)) - 1;
        all.saturating_sub(self.since_batch)
    }

    fn choose(&self, strict: bool) -> Option<usize> {
        if self.since_batch >= OTHERS_PER_BATCH && !self.lanes[BATCH].is_empty() {
            return Some(BATCH);
        }
        let waiting = |&class: &usize| !self.lanes[class].is_empty();
        let mut classes = (0..self.lanes.len()).filter(waiting);
        if strict {
            classes.next()
        } else {
            classes.min_by_key(|&class| self.lanes[class].first())
        }
    }
}
